"""The end of tasks that run until they are told."""

from __future__ import annotations

import asyncio
from typing import Any


async def ended(*tasks: asyncio.Task[Any], again: float = 0.5) -> None:
    """Cancel tasks until each of them has ended; what they raised or returned is for who asks them.

    To cancel once is not enough: what a task awaits may have its answer in the same moment and hand that out instead.
    `asyncio.wait_for` does so up to Python 3.11, and psycopg's pool where a connection has just become free.

    Args:
        tasks: Whatever runs in this loop; those that have ended already do no harm.
        again: Seconds after which a task that has not taken note is told again.

    Example:
        >>> async def main() -> bool:
        ...     task = asyncio.create_task(asyncio.sleep(600))
        ...     await ended(task)
        ...     return task.cancelled()
        >>> asyncio.run(main())
        True
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again)
