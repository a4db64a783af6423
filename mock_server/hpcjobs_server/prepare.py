"""Prepare the database for a service: its schema, and the token of who starts it.

A process of its own (``python -m hpcjobs_server.prepare``), so that the supervisor, which lives as long as the
service, never loads what only this needs.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import pwd
import re
import sys
from pathlib import Path

import psycopg
import psycopg_pool

from hpcjobs.models import Scope
from hpcjobs_server import processes
from hpcjobs_server.migrate import NewerSchema, migrate
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Store

LASTING = dt.timedelta(days=1)
"""A token that ends sooner than this is replaced."""


def login_name() -> str:
    """The name of the user who runs this process; ``uid-N`` where the number N has no name."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = ""
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", name) else f"uid-{os.geteuid()}"


async def ensure_token(settings: Settings) -> str:
    """The token of this user, made if there is no good one yet.

    Args:
        settings: The service's settings.

    Returns:
        The token, which is in the data folder's file ``token`` now.

    Raises:
        psycopg.Error: The database cannot be asked.
    """
    file = settings.data / "token"
    owner = login_name()
    store = Store(settings.database_url, max_size=2, use_listen=settings.listen)
    await store.open()
    try:
        token = file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else ""
        known = await store.authenticate(token) if token else None
        soon = dt.datetime.now(dt.timezone.utc) + LASTING
        good = known is not None and known.owner == owner and (known.expires_at is None or known.expires_at > soon)
        if not good:
            made = await store.create_token(owner, name="local", scope=Scope.ADMIN)
            token = made.token or ""
            processes.write_text(file, f"{token}\n")
    finally:
        await store.close()
    return token


def main() -> None:
    """Prepare the database that the settings name; what is wrong is said in one line, with exit code 1."""
    settings = Settings()
    try:
        migrate(settings.database_url)
        token = asyncio.run(ensure_token(settings))
    except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
        text = " ".join(str(error).split())
        sys.exit(f"the database cannot be used: {text}. Is it running, and is --database-url right?")
    except NewerSchema as error:
        sys.exit(str(error))
    if settings.token_file is not None and settings.token_file != settings.data / "token":
        write_token(settings.token_file, token)


def write_token(path: Path, token: str) -> None:
    """Write the token to where the user wants it, readable by its owner only."""
    try:
        processes.write_text(path, f"{token}\n")
    except OSError as error:
        sys.exit(f"the token cannot be written to {path}: {error.strerror}. Choose another --token-file")


if __name__ == "__main__":
    main()
