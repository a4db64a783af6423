"""Tells those who follow a log when it has grown.

All followed files are looked at together, in one call to a thread every few milliseconds, so that a hundred idle
followers cost hardly more than one, and a disk that hangs hangs no one else. While nobody follows, nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.to_thread

from hpcjobs_server.ending import ended

PAUSE = 0.025
"""Seconds between two looks."""

logger = logging.getLogger(__name__)


class Growth:
    """Watches files for the followers of one process."""

    def __init__(self) -> None:
        self._followers: dict[object, tuple[Path, int, Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def following(self, path: Path, size: int, grown: Callable[[], None]) -> Iterator[None]:
        """Call ``grown`` once the file has another size, until the block ends.

        Args:
            path: The file; one that is not there has no bytes.
            size: The bytes that are known.
            grown: Called in the event loop, perhaps more than once.
        """
        key = object()
        self._followers[key] = path, size, grown
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="growth of logs")
        try:
            yield
        finally:
            del self._followers[key]

    async def stop(self) -> None:
        """End the looking."""
        if self._task is not None:
            await ended(self._task)

    async def _look(self) -> None:
        while self._followers:
            await asyncio.sleep(PAUSE)
            paths = {path for path, _, _ in self._followers.values()}
            try:
                sizes = await anyio.to_thread.run_sync(_sizes, paths)
            except OSError as error:
                logger.warning("logs cannot be looked at: %s", error)
                sizes = {}
            for path, size, grown in list(self._followers.values()):
                if sizes.get(path, size) != size:
                    grown()


def _sizes(paths: set[Path]) -> dict[Path, int]:
    sizes = {}
    for path in paths:
        try:
            sizes[path] = path.lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            sizes[path] = 0
    return sizes
