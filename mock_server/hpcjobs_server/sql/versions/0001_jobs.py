"""The jobs, their history, the workers and the tokens."""

from __future__ import annotations

from hpcjobs_server.migrate import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    run_sql("0001_jobs.sql")


def downgrade() -> None:
    """There is nothing before the first revision."""
    raise RuntimeError("there is no schema before the first; drop the schema hpcjobs instead")
