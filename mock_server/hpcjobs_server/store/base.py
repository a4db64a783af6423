"""One process's connections to the database."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
import psycopg_pool
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.rows import dict_row

from hpcjobs_server.database import connection_info
from hpcjobs_server.migrate import head

Row = dict[str, Any]
T = TypeVar("T")


_UNTANGLING = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds, at most, before each further try: on a machine that is busy those that collided must spread further."""


class Ids(list[UUID]):
    """Ids as one parameter of a statement.

    psycopg converts a list item by item, which for ten thousand ids takes longer than most statements with them.
    """


class _IdsDumper(Dumper):
    oid = psycopg.adapters.types["uuid"].array_oid

    def dump(self, obj: Ids) -> bytes:
        return f"{{{','.join([one.hex for one in obj])}}}".encode()


class Database:
    """A pool of connections, and the notifications.

    Args:
        url: The database's ``postgresql://`` URL.
        min_size: Connections that are kept.
        max_size: Connections at most.
        poll: Seconds after which :meth:`listen` looks even without a notification.
        use_listen: False where the database's pooler cannot LISTEN.
    """

    def __init__(
        self, url: str, *, min_size: int = 1, max_size: int = 8, poll: float = 1.0, use_listen: bool = True
    ) -> None:
        self.conninfo = connection_info(url)
        self._poll, self._use_listen = poll, use_listen
        self.pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Row]] = psycopg_pool.AsyncConnectionPool(
            self.conninfo,
            min_size=min_size,
            max_size=max_size,
            open=False,
            timeout=5.0,
            max_waiting=1000,
            reconnect_timeout=2.0,
            # not among kwargs: Procrastinate opens its listening connection with these and sets autocommit itself
            configure=_configure,
            kwargs={"row_factory": dict_row, "prepare_threshold": 3 if use_listen else None},
        )

    async def open(self) -> None:
        """Start the pool; does not wait for the database."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Give all connections back."""
        await self.pool.close(timeout=2.0)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        """A connection of the pool; raises ``psycopg.OperationalError`` where the database is away."""
        try:
            async with self.pool.connection() as connection:
                yield connection
        except psycopg.OperationalError:
            # the others are probably broken as well: find out now rather than one request at a time
            with contextlib.suppress(psycopg.Error):
                await self.pool.check()
            raise

    async def untangled(self, work: Callable[[psycopg.AsyncConnection[Row]], Awaitable[T]]) -> T:
        """Do ``work`` in a transaction; again, from its start, where it and another one stood in each other's way.

        Bulk statements lock jobs in the order of their ids, but what follows from them (a job that ends makes others
        ready) locks more, in no order that could be known before.
        """
        for pause in (*_UNTANGLING, None):
            try:
                async with self.connection() as connection, connection.transaction():
                    return await work(connection)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                if pause is None:
                    raise
                await asyncio.sleep(random.uniform(0.01, pause))  # noqa: S311 - only spreads the tries
        raise AssertionError

    async def all(self, query: str, parameters: Any = None) -> list[Row]:
        """Run one statement and return its rows."""
        async with self.connection() as connection:
            return await (await connection.execute(cast("Any", query), parameters)).fetchall()

    async def planned(self, query: str, parameters: Any = None) -> list[Row]:
        """Like :meth:`all`, with a plan for these very values, which a prepared statement need not have."""
        async with self.connection() as connection:
            return await (await connection.execute(cast("Any", query), parameters, prepare=False)).fetchall()

    async def now(self) -> dt.datetime:
        """This moment by the clock of the database, which is that of all moments in it."""
        [row] = await self.all("SELECT clock_timestamp() AS now")
        found: dt.datetime = row["now"]
        return found

    async def ready(self) -> bool:
        """Whether the database answers and has this version's schema."""
        try:
            rows = await self.all("SELECT version_num FROM schema_version")
        except psycopg.Error:
            return False
        return bool(rows) and rows[0]["version_num"] == head()

    async def listen(self, channel: str) -> AsyncIterator[None]:
        """Yield at each notification on ``channel``, and at least once per poll; reconnects by itself."""
        while True:
            if not self._use_listen:
                yield None
                await asyncio.sleep(self._poll)
                continue
            try:
                async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    yield None
                    while True:
                        async for _ in connection.notifies(timeout=self._poll, stop_after=1):
                            pass
                        yield None
            except psycopg.Error:  # also from a standby that cannot LISTEN, in the middle of a failover
                yield None
                await asyncio.sleep(min(self._poll, 1.0))


async def _configure(connection: psycopg.AsyncConnection[Row]) -> None:
    await connection.set_autocommit(True)
    connection.adapters.register_dumper(Ids, _IdsDumper)


def to_uuid(text: str) -> UUID | None:
    """Read an id; None for a text that is none."""
    try:
        return UUID(text)
    except ValueError:
        return None
