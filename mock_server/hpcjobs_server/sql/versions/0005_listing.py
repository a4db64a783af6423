"""Lists in every order, and the jobs that waited for a job."""

from __future__ import annotations

from hpcjobs_server.migrate import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the indexes."""
    run_sql("0005_listing.sql")


def downgrade() -> None:
    """Nothing would be lost, but a version goes forward only."""
    raise RuntimeError("there is no way back to an earlier schema; restore a backup instead")
