"""Removes what is no longer needed: the files of jobs that were deleted, and, where an operator says so, old jobs.

What is to be removed is written down first, in the transaction that deletes the record, so that an end of the process
in between leaves nothing behind for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from typing import TYPE_CHECKING

import psycopg

from hpcjobs_server.ending import ended

if TYPE_CHECKING:
    from hpcjobs_server.settings import Settings
    from hpcjobs_server.store import Store

_LOOK = 30.0
"""Seconds between two looks where nobody calls."""

_INPUTS = 3600.0
"""Seconds between two looks for inputs that no job has any more."""

logger = logging.getLogger(__name__)


class Janitor:
    """Cleans up in the background.

    Args:
        settings: Where the files are, and what is kept for how long.
        store: What is to be removed.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._inputs_at = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="janitor")

    async def stop(self) -> None:
        """End; what is left is removed another time."""
        if self._task is not None:
            await ended(self._task)

    def wake(self) -> None:
        """Something was deleted."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            try:
                await self.clean()
            except psycopg.Error:  # the database is away
                logger.debug("nothing can be cleaned up now", exc_info=True)
            except Exception:
                logger.exception("cleaning up failed")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK)
            self._woken.clear()

    async def clean(self) -> None:
        """Remove everything that is to be removed now."""
        keep = self._settings.keep
        if keep is not None:
            while await self._store.forget(keep=keep):
                pass
        while ids := await self._store.removals():
            await asyncio.to_thread(self._remove, [str(uid) for uid in ids])
            await self._store.removed(ids)
        if keep is not None and time.monotonic() - self._inputs_at > _INPUTS:
            self._inputs_at = time.monotonic()
            await self.clean_inputs(keep)

    async def clean_inputs(self, keep: float) -> int:
        """Remove the inputs that no job has and nobody has sent for ``keep`` seconds; how many."""
        in_use = await self._store.inputs_in_use()
        return await asyncio.to_thread(self._remove_inputs, in_use, keep)

    def _remove(self, ids: list[str]) -> None:
        for job_id in ids:
            shutil.rmtree(self._settings.data / "jobs" / job_id, ignore_errors=True)

    def _remove_inputs(self, in_use: set[tuple[str, str]], keep: float) -> int:
        removed = 0
        old = time.time() - keep
        for path in (self._settings.data / "blobs").glob("*/[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(OSError):
                if (path.parents[1].name, path.name) not in in_use and path.lstat().st_mtime < old:
                    path.unlink()
                    removed += 1
        return removed
