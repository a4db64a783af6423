"""Jobs that a cluster runs, and the workers that hand them over."""

from __future__ import annotations

from hpcjobs_server.migrate import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add everything."""
    run_sql("0004_clusters.sql")


def downgrade() -> None:
    """What was recorded since would be lost."""
    raise RuntimeError("a downgrade would forget which jobs a cluster runs; restore a backup instead")
