"""The place where measures run: one Postgres for all of them, and a fresh server for each."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.running import Service

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcjobs_server.embedded import EmbeddedPostgres


class Bench:
    """What a measure is given.

    Attributes:
        quick: Few rounds, to see that everything works; the figures mean little.
    """

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self._stack = contextlib.ExitStack()
        self._postgres: EmbeddedPostgres | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rounds(self, full: int, quick: int) -> int:
        """How many rounds to make."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Tell whoever watches what is going on."""
        sys.stderr.write(f"  {text}\n")

    @property
    def folder(self) -> Path:
        """A folder for this run, with a short name (a socket's path has at most 107 bytes)."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="hjb-"))
            self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a fresh, empty database on this run's Postgres."""
        if self._postgres is None:
            from hpcjobs_server.embedded import EmbeddedPostgres

            self._postgres = EmbeddedPostgres(self.folder / "p")
            self._stack.callback(self._postgres.stop)
        address = self._postgres.start()
        name = f"bench_{uuid.uuid4().hex[:12]}"
        quoted = sql.Identifier(name)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
        try:
            yield urlsplit(address)._replace(path=f"/{name}").geturl()
        finally:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))

    @contextlib.contextmanager
    def service(self, **changes: Any) -> Iterator[Service]:
        """A running server with the settings that operators get, but for ``changes``."""
        from hpcjobs_server.migrate import migrate
        from hpcjobs_server.settings import Settings

        with self.database() as address:
            migrate(address)
            data = self.folder / f"data-{uuid.uuid4().hex[:8]}"
            service = Service(Settings(**{"port": 0, "data": data, "database_url": address, **changes}))
            try:
                yield service.start()
            finally:
                service.end()
