"""Brings the database to this version's schema: Alembic for our own tables, Procrastinate's own files for its tables.

Safe when two servers start at once: a lock lets one work and the other find everything done.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import psycopg
from psycopg import sql

from hpcjobs_server.database import SCHEMA, connection_info

_TAKE_LOCK = "SELECT pg_advisory_xact_lock(114827379532403)"  # any number of our own
_SCRIPTS = Path(__file__).parent / "sql"


class NewerSchema(Exception):
    """The database was made by a newer version of this server."""


def head() -> str:
    """The newest revision that this version has."""
    return max(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))


def run_sql(name: str) -> None:
    """Run a file of statements inside the present Alembic revision."""
    from alembic import op

    # through the driver itself: its simple protocol takes many statements, and nothing in them is a parameter
    raw = op.get_bind().connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    raw.execute((_SCRIPTS / "versions" / name).read_bytes())


def migrate(url: str) -> None:
    """Bring the database at ``url`` to the newest schema.

    Args:
        url: A ``postgresql://`` URL; its role must be able to create a schema, or own the schema ``hpcjobs``.

    Raises:
        NewerSchema: The database is ahead of this version.
        psycopg.Error: The database cannot be reached or refuses.
    """
    # the locks go with their transactions: a session's lock would stay behind in a pooler
    with psycopg.connect(connection_info(url)) as connection:
        connection.execute(_TAKE_LOCK)
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [SCHEMA]).fetchone():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        _migrate_queue(connection)
        connection.commit()
        _migrate_jobs(connection)


def current(connection: psycopg.Connection[tuple[object, ...]]) -> str | None:
    """The revision that the database is at; None before the first."""
    row = connection.execute("SELECT to_regclass('schema_version')").fetchone()
    if row is None or row[0] is None:
        return None
    version = connection.execute("SELECT version_num FROM schema_version").fetchone()
    return str(version[0]) if version else None


def _migrate_jobs(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    present = current(connection)
    if present == head():
        return
    if present is not None and present > head():
        raise NewerSchema(
            f"the database is at schema {present}, this version of hpcjobs-server knows up to {head()}: upgrade it"
        )
    # imported here: a start that finds everything done pays nothing for it
    import alembic.command
    import alembic.config
    import sqlalchemy

    config = alembic.config.Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=sqlalchemy.pool.StaticPool
    )
    with engine.begin() as bind:
        bind.exec_driver_sql(_TAKE_LOCK)  # whoever was first has done it all, and nothing is left to do
        config.attributes["connection"] = bind
        alembic.command.upgrade(config, "head")


def _migrate_queue(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Install Procrastinate's schema, or bring it up to the installed version by Procrastinate's own migrations."""
    folder = resources.files("procrastinate").joinpath("sql")
    shipped = sorted(item.name for item in folder.joinpath("migrations").iterdir() if item.name.endswith(".sql"))
    with connection.transaction():
        fresh = connection.execute("SELECT to_regclass('queue_migrations')").fetchone() == (None,)
        if fresh:
            connection.execute("CREATE TABLE queue_migrations (name text PRIMARY KEY)")
            connection.execute(folder.joinpath("schema.sql").read_bytes())
        applied = {row[0] for row in connection.execute("SELECT name FROM queue_migrations")}
        for name in shipped:
            if name in applied:
                continue
            if not fresh:
                connection.execute(folder.joinpath("migrations").joinpath(name).read_bytes())
            connection.execute("INSERT INTO queue_migrations VALUES (%s)", [name])
