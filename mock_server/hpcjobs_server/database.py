"""How this server talks to its database: the schema's name, the connection's settings, the channels."""

from __future__ import annotations

from uuid import UUID

import psycopg.conninfo

SCHEMA = "hpcjobs"
"""Everything of this server, Procrastinate's tables included, lives in one schema of its own."""

EVENTS_CHANNEL = "hpcjobs_events"
"""Notified after every change of a job or of its progress."""

CONNECT_TIMEOUT = 5
"""Seconds; a database that does not answer by then is away."""


def worker_channel(worker_id: UUID) -> str:
    """The channel on which a worker is told that one of its jobs was asked to stop."""
    return f"hpcjobs_worker_{worker_id.hex}"


def connection_info(url: str) -> str:
    """Complete a Postgres URL with the settings that every connection of this server has."""
    options = psycopg.conninfo.conninfo_to_dict(url).get("options")
    return psycopg.conninfo.make_conninfo(
        url,
        options=f"{options or ''} -c search_path={SCHEMA} -c timezone=UTC".strip(),
        connect_timeout=CONNECT_TIMEOUT,
        # a connection whose other end went without a word is noticed in half a minute, not in hours
        tcp_user_timeout=30_000,
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
        application_name="hpcjobs",
    )
