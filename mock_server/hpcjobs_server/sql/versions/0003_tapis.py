"""Hidden jobs, and tokens that were got with another one."""

from __future__ import annotations

from hpcjobs_server.migrate import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add everything."""
    run_sql("0003_tapis.sql")


def downgrade() -> None:
    """What was recorded since would be lost."""
    raise RuntimeError("a downgrade would show what was hidden; restore a backup instead")
