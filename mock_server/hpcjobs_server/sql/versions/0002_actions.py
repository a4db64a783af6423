"""Retry, update, delete, arrays, dependencies, times, queues with limits, attempts."""

from __future__ import annotations

from hpcjobs_server.migrate import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add everything."""
    run_sql("0002_actions.sql")


def downgrade() -> None:
    """What was recorded since would be lost."""
    raise RuntimeError("a downgrade would lose arrays, dependencies and history; restore a backup instead")
