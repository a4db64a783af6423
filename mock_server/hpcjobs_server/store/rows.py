"""What the rows of the jobs table look like to others."""

from __future__ import annotations

import base64

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, Progress
from hpcjobs_server.store.base import Row

INFO = """
    j.id, j.state, j.name, j.owner, j.queue, j.priority, j.tags, j.meta,
    j.cancel_requested_at IS NOT NULL AS cancelling, j.cancel_reason, j.reason, j.exit_code, j.attempt, j.waiting_for,
    (SELECT coalesce(q.reason, '') FROM queues q WHERE q.name = j.queue AND q.paused AND j.state = 'QUEUED') AS paused,
    j.max_attempts, j.array_id, j.array_index, j.item, j.start_at, j.expires_at, j.created_at, j.started_at,
    j.finished_at, j.version, j.seq, p.done, p.total, p.message, p.at
"""
"""The columns that :func:`to_info` needs."""

SPEC = "coalesce((SELECT a.spec FROM arrays a WHERE a.id = j.array_id), '{}') || j.spec"
"""What was asked; a job of an array has only what is its own."""

FROM = "jobs j LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt"


class BadCursor(Exception):
    """A cursor that this server did not make."""


def to_info(row: Row) -> JobInfo:
    """The info of a job from a row with the columns of ``INFO``, and ``spec`` where it was asked for."""
    progress = None
    if row["done"] is not None:
        progress = Progress(done=row["done"], total=row["total"], message=row["message"], at=row["at"])
    state = JobState(row["state"])
    return JobInfo(
        id=str(row["id"]),
        state=state,
        native_state=state.value,
        name=row["name"],
        owner=row["owner"],
        queue=row["queue"],
        priority=row["priority"],
        tags=row["tags"],
        meta=row["meta"],
        cancel_requested=row["cancelling"],
        cancel_reason=row["cancel_reason"],
        reason=row["reason"] or _why_not_yet(row, state),
        exit_code=row["exit_code"],
        progress=progress,
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        array_id=None if row["array_id"] is None else str(row["array_id"]),
        array_index=row["array_index"],
        item=row["item"],
        start_at=row["start_at"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        version=row["version"],
        spec=row.get("spec"),
    )


def _why_not_yet(row: Row, state: JobState) -> str | None:
    """Why a job that has not started is where it is, in words."""
    if state is JobState.PENDING and row["waiting_for"]:
        return f"it waits for {row['waiting_for']} job{'s' if row['waiting_for'] > 1 else ''}"
    if state is JobState.PENDING and row["start_at"] is not None:
        return f"it is to start at {row['start_at']:%Y-%m-%d %H:%M:%S} UTC"
    if row["paused"] is not None:
        return f"the queue {row['queue']!r} is paused" + (f": {row['paused']}" if row["paused"] else "")
    return None


def encode_cursor(seq: int) -> str:
    """A cursor behind the job with this number."""
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """The number in a cursor. Raises ``BadCursor``."""
    try:
        seq = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().removeprefix("s"))
    except ValueError:
        raise BadCursor(cursor) from None
    if not 0 <= seq < 2**63 or encode_cursor(seq) != cursor:
        raise BadCursor(cursor)
    return seq
