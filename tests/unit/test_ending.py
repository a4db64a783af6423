"""Tasks that are told to end do end."""

from __future__ import annotations

import asyncio

import pytest

from hpcjobs_server.ending import ended

pytestmark = pytest.mark.anyio


async def test_a_task_that_loses_a_cancellation_is_told_again() -> None:
    """As `asyncio.wait_for` of Python 3.11 loses one that comes together with the answer."""
    lost: list[bool] = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.wait_for(ended(task, again=0.01), 30)
    assert task.cancelled()
    assert len(lost) == 2


async def test_what_a_task_raised_or_gave_is_left_for_others() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def gives() -> int:
        return 3

    tasks = asyncio.create_task(fails()), asyncio.create_task(gives())
    await asyncio.wait(tasks)
    await ended(*tasks)
    await ended()
    assert str(tasks[0].exception()) == "no"
    assert tasks[1].result() == 3
