"""The stream of changes: one reader of the database per process, many listeners.

The reader is woken by the database's notifications, reads what changed once, and offers it to every connection and to
every follower of a log. While nobody listens it reads nothing. What a connection has not taken yet is kept as the
newest info per job, up to a bound; a connection beyond it is ended, and its client resumes by the last id it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import anyio

from hpcjobs.models import JobInfo
from hpcjobs_server.ending import ended
from hpcjobs_server.problems import Problem, database_away, problem_of

if TYPE_CHECKING:
    from hpcjobs_server.auth import Caller
    from hpcjobs_server.store import Store

MOST_CONNECTIONS = 1000
MOST_PENDING = 10_000
"""Jobs that may wait for one connection; also the most that a resumed stream repeats before it says ``reset``."""

_GAP = 0.02
"""Seconds between two reads, so that a burst of changes is read together."""
_PATIENCE = 5.0
"""Seconds to wait for the database before a new connection is told that it is away."""
_LONGEST_PAUSE = 2.0

logger = logging.getLogger(__name__)


class Change:
    """The present info of a job that changed."""

    def __init__(self, owner: str, info: JobInfo) -> None:
        self.owner, self.info = owner, info

    @functools.cached_property
    def data(self) -> bytes:
        """The info as JSON, made once for all connections."""
        return self.info.model_dump_json(exclude={"spec"}).encode()

    @property
    def mark(self) -> tuple[object, ...]:
        """Tells two infos of the same job apart."""
        return self.info.version, self.info.attempt, self.info.progress


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a connection takes at once.

    Attributes:
        cursor: Where the stream stands after it.
        changes: What changed, the newest info of each job.
        reset: Whether something may be missing, so that the client should look at its jobs anew.
    """

    cursor: int
    changes: Sequence[Change] = ()
    reset: bool = False


class Connection:
    """One listener's share of the stream.

    Args:
        sees: Whose jobs; None for everybody's.
        ids: Which jobs; None for all.
    """

    def __init__(self, sees: str | None, ids: frozenset[str] | None) -> None:
        self._sees, self._ids = sees, ids
        self._pending: dict[str, Change] = {}
        self._reset = False
        self._wake = asyncio.Event()
        self.cursor = 0
        self.ended = False

    def wants(self, change: Change) -> bool:
        """Whether a change is for this connection."""
        return self._sees in {None, change.owner} and (self._ids is None or change.info.id in self._ids)

    def offer(self, batch: Batch) -> None:
        """Add what changed; a connection that has left too much untaken ends."""
        self.cursor = batch.cursor if batch.reset else max(self.cursor, batch.cursor)
        self._reset |= batch.reset
        wanted = [change for change in batch.changes if self.wants(change)]
        self._pending.update((change.info.id, change) for change in wanted)
        if len(self._pending) > MOST_PENDING:
            self._pending.clear()
            self.end()
        elif wanted or self._reset:
            self._wake.set()

    def end(self) -> None:
        """End the stream; its client may resume it."""
        self.ended = True
        self._wake.set()

    async def take(self, patience: float) -> Batch | None:
        """What changed since the last time, as soon as there is something; nothing after ``patience`` seconds.

        Returns:
            The batch; None where the connection has ended.
        """
        with anyio.move_on_after(patience):
            await self._wake.wait()
        if self.ended:
            return None
        self._wake.clear()
        batch = Batch(self.cursor, list(self._pending.values()), self._reset)
        self._pending, self._reset = {}, False
        return batch


class Watch:
    """One job that a follower of its log wants to know about.

    Attributes:
        info: Its info when it last changed; None while it has not.
        stale: Whether changes may have been missed; who looks clears it.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.info: JobInfo | None = None
        self.stale = False
        self.changed = changed


class Feed:
    """Reads the changes for everybody in this process.

    Args:
        store: Where they are.
        channel: The channel on which the database tells of them.
    """

    def __init__(self, store: Store, channel: str) -> None:
        self._store, self._channel = store, channel
        self._cursor: int | None = None
        self._positioned = asyncio.Event()
        self._wake = asyncio.Event()
        self._connections: set[Connection] = set()
        self._watches: dict[str, set[Watch]] = {}
        self._marks: dict[str, tuple[object, ...]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.closing = False

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return len(self._connections)

    @property
    def watches(self) -> int:
        """How many followers wait for a change of a job."""
        return sum(map(len, self._watches.values()))

    def start(self) -> None:
        """Begin to read."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="events: listen"),
            asyncio.create_task(self._read(), name="events: read"),
        ]

    def close(self) -> None:
        """End all streams, and whoever waits for a change, now; the reader itself ends with :meth:`stop`."""
        self.closing = True
        for connection in list(self._connections):
            connection.end()
        self._tell_all_watches()

    async def stop(self) -> None:
        """End everything."""
        self.close()
        await ended(*self._tasks)

    @contextlib.asynccontextmanager
    async def connect(
        self, caller: Caller, *, ids: frozenset[str] | None, after: int | None
    ) -> AsyncIterator[tuple[Connection, Batch]]:
        """Open one stream.

        Args:
            caller: Who listens.
            ids: Which jobs; None for all.
            after: The cursor up to which the caller has seen everything; None for from now on.

        Returns:
            The connection, and what the caller has missed since ``after``.

        Raises:
            Problem: Too many streams are open, or the database is away.
        """
        if len(self._connections) >= MOST_CONNECTIONS:
            detail = f"{MOST_CONNECTIONS} streams are open, which is the limit; close some, or ask for the jobs instead"
            raise Problem(503, "too_many_streams", detail, headers={"Retry-After": "10"})
        connection = Connection(caller.sees, ids)
        # Joined before the missed changes are read, so that none falls between the two.
        self._connections.add(connection)
        try:
            if self.closing:
                connection.end()
            cursor = await self.position()
            first = Batch(cursor)
            if after is not None:
                cursor, rows = await self._store.changes(after)
                missed = [change for change in _changes(rows) if connection.wants(change)]
                reset = cursor < after or len(rows) > MOST_PENDING
                first = Batch(cursor, () if reset else missed, reset)
            connection.cursor = max(connection.cursor, cursor)
            yield connection, first
        finally:
            self._connections.discard(connection)

    @contextlib.contextmanager
    def watching(self, job_id: str, changed: Callable[[], None]) -> Iterator[Watch]:
        """Call ``changed`` when a job changes or the service stops, until the block ends."""
        watch = Watch(changed)
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    async def position(self) -> int:
        """The cursor from which changes reach those who listen now.

        Raises:
            Problem: The database is away.
        """
        if self._cursor is None:
            self._wake.set()
            with anyio.move_on_after(_PATIENCE):
                await self._positioned.wait()
        if self._cursor is None:
            raise database_away()
        return self._cursor

    # The reader

    async def _listen(self) -> None:
        while True:
            try:
                async for _ in self._store.listen(self._channel):
                    self._wake.set()
                    await asyncio.sleep(_GAP)  # what is told meanwhile comes as one
            except Exception as error:  # noqa: BLE001 - whatever it is, the streams go on
                problem_of(error)  # which logs it
            await asyncio.sleep(_LONGEST_PAUSE)

    async def _read(self) -> None:
        pause = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._connections or self._watches:
                    await self._catch_up()
                else:
                    # Nobody listens: those who come next start from then.
                    self._cursor = None
                    self._positioned.clear()
                    self._marks.clear()
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - whatever it is, the streams go on
                if not pause:
                    problem_of(error)  # which logs it, once an outage
                pause = min(_LONGEST_PAUSE, max(0.1, 2 * pause))
                self._wake.set()
            await asyncio.sleep(max(pause, _GAP))

    async def _catch_up(self) -> None:
        if self._cursor is None:
            self._cursor, _ = await self._store.changes(None)
            self._positioned.set()
            return
        since = self._cursor
        cursor, rows = await self._store.changes(since)
        changes = _changes(rows)
        # The same change comes again while an older transaction is open.
        fresh = [change for change in changes if self._marks.get(change.info.id) != change.mark]
        self._marks = {change.info.id: change.mark for change in changes}
        self._cursor = cursor
        # The database went back (it was restored), or more changed than one read tells.
        reset = cursor < since or len(rows) > MOST_PENDING
        if fresh or reset or cursor != since:
            batch = Batch(cursor, fresh, reset)
            for connection in list(self._connections):
                connection.offer(batch)
        for change in fresh:
            for watch in list(self._watches.get(change.info.id, ())):
                watch.info = change.info
                watch.changed()
        if reset:
            self._tell_all_watches()

    def _tell_all_watches(self) -> None:
        for watches in list(self._watches.values()):
            for watch in list(watches):
                watch.info, watch.stale = None, not self.closing
                watch.changed()


def _changes(rows: Iterable[tuple[str, JobInfo]]) -> list[Change]:
    return [Change(owner, info) for owner, info in rows]
