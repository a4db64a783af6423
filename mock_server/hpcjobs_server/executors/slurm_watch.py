"""Watches all jobs of a worker with one call of squeue at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

from hpcjobs.slurm_data import MARK
from hpcjobs_server.ending import ended
from hpcjobs_server.executors.slurm_commands import SlurmAway
from hpcjobs_server.executors.slurm_records import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

_SLOWEST = 15.0
"""Seconds between two looks at most, where nothing happens."""
_SILENT = 10.0
"""Seconds without an answer before users are told."""


class Commands(Protocol):
    """What a watcher needs of Slurm."""

    async def list(self) -> list[Row]:
        """All jobs; raises ``SlurmAway``."""
        ...

    async def order(self, kind: str, jobs: Sequence[str]) -> None:
        """Tell Slurm something about jobs."""


class Watched(Protocol):
    """An attempt that is watched."""

    key: str
    job: str | None

    def choose(self, rows: Sequence[Row]) -> Row:
        """Which of several jobs with its key is the one that counts."""
        ...

    def see(self, row: Row | None) -> bool:
        """Take what a look has found; whether it is news."""
        ...

    def unseen(self, since: float) -> None:
        """Nothing could be found out for so many seconds."""

    def order(self) -> str | None:
        """What Slurm is to be told about it now."""
        ...


class Watcher:
    """Looks at Slurm for everyone who waits for something, and gives their orders, many at once.

    Args:
        commands: Slurm.
        floor: Seconds between two looks at least; the pause grows while nothing happens.
    """

    def __init__(self, commands: Commands, floor: float) -> None:
        self._commands, self._floor = commands, floor
        self._watched: set[Watched] = set()
        self._finders: list[tuple[str, asyncio.Future[Row | None]]] = []
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._answered = time.monotonic()
        self._away = False

    def add(self, watched: Watched) -> None:
        """Watch an attempt until it is removed."""
        self._watched.add(watched)
        self.nudge()

    def remove(self, watched: Watched) -> bool:
        """Watch it no more; whether it was watched."""
        found = watched in self._watched
        self._watched.discard(watched)
        return found

    async def find(self, key: str) -> Row | None:
        """The job with a key, as of a look that began after this call.

        Raises:
            SlurmAway: There is no telling.
        """
        future: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._finders.append((key, future))
        self.nudge()
        return await future

    def nudge(self) -> None:
        """Something may have happened: look as soon as the floor allows."""
        self._wanted.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="squeue")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            await ended(self._task)

    async def _run(self) -> None:
        pause, began = self._floor, float("-inf")
        while True:
            if not self._watched and not self._finders:
                await self._wanted.wait()
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), max(0.0, began + pause - time.monotonic()))
            await asyncio.sleep(max(0.0, began + self._floor - time.monotonic()))
            self._wanted.clear()
            if not self._watched and not self._finders:
                continue
            began = time.monotonic()
            busy = await self._look()
            pause = self._floor if busy else min(pause * 1.5, max(self._floor, _SLOWEST))

    async def _look(self) -> bool:
        """Look once; whether something has changed or was ordered."""
        finders, self._finders = self._finders, []
        watched = list(self._watched)  # what comes during the look is not in the answer, perhaps
        began = time.monotonic()
        try:
            rows = await self._commands.list()
        except SlurmAway as error:
            self._silence(error)
            for _, future in finders:
                if not future.done():
                    future.set_exception(SlurmAway(str(error)))
            return False
        except Exception as error:
            logger.exception("squeue could not be understood")
            for _, future in finders:
                if not future.done():
                    future.set_exception(SlurmAway(f"squeue could not be understood: {error}"))
            return False
        if self._away:
            logger.info("Slurm answers again")
        self._answered, self._away = began, False
        by_job = {row.job: row for row in rows}
        by_key: dict[str, list[Row]] = {}
        for row in rows:
            by_key.setdefault(row.key, []).append(row)
        for key, future in finders:
            if not future.done():
                future.set_result(_first(by_key.get(key, [])))
        busy = False
        orders: dict[str, list[str]] = {}
        for one in watched:
            if one not in self._watched:
                continue
            mine = by_key.get(one.key, [])
            found = one.choose(mine) if len(mine) > 1 else _first(mine) or _unmarked(by_job.get(one.job or ""))
            busy = one.see(found) or busy
            if (kind := one.order()) is not None and one.job is not None:
                orders.setdefault(kind, []).append(one.job)
            # submitted again while nobody could tell: the node would not run it anyway
            orders.setdefault("drop", []).extend(row.job for row in mine if row is not found and not row.ended)
        for kind, jobs in orders.items():
            if jobs:
                await self._commands.order(kind, jobs)
                busy = True
                self._wanted.set()
        return busy

    def _silence(self, error: SlurmAway) -> None:
        silent = time.monotonic() - self._answered
        if not self._away:
            logger.warning("Slurm does not answer: %s; what runs goes on, and is looked at again", error)
            self._away = True
        if silent > max(_SILENT, 2 * self._floor):
            for one in self._watched:
                one.unseen(silent)


def _unmarked(row: Row | None) -> Row | None:
    """A job whose comment a site has put another text into; one with another's key only has the same number.

    A controller that lost its notes gives numbers twice.
    """
    return None if row is None or row.key.startswith(MARK) else row


def _first(rows: Sequence[Row]) -> Row | None:
    """Of several jobs with one key the oldest; in Slurm ids only grow."""
    return min(rows, key=lambda row: int(row.job), default=None)
