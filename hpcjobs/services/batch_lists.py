"""Lists of the jobs of a queue: what AWS Batch tells only in parts, in the order and with the conditions of a list.

``ListJobs`` tells of one state at a time, and of running jobs where none is named; with a filter it tells of all
states, newest first, and knows one condition, and none that is ours. Tags and the states that AWS has no word for are
looked at here.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from hpcjobs.errors import InvalidSpec
from hpcjobs.models import JobFilter
from hpcjobs.protocol import Op
from hpcjobs.services.batch_records import last_part

Ask = Callable[[str, Mapping[str, Any]], Op[dict[str, Any]]]
"""Asks AWS Batch: an operation and its body."""

Some = tuple[list[dict[str, Any]], str | None]
"""Some jobs of a list as AWS tells of them, and the cursor for more; None at the end."""

MOST, MOST_FILTERED = 1000, 100
"""Most jobs in one answer of ``ListJobs``."""

_BEGINNING = "1451606400000"  # AWS Batch is from 2016: every job is younger
_ALIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


def alive(ask: Ask, queue: str, limit: int, cursor: str | None) -> Op[Some]:
    """Some of the jobs that have not ended: what has ended for a week is not gone through for that.

    Each state is a list of its own. They are read in the order of a job's life, so that one that goes on meanwhile
    is met twice, and not never.
    """
    jobs: dict[str, dict[str, Any]] = {}
    for word in _ALIVE:
        body = {"jobQueue": queue, "jobStatus": word, "maxResults": MOST}
        while True:
            answer = yield from ask("listjobs", body)
            jobs.update((job["jobId"], job) for job in answer.get("jobSummaryList") or [])
            if not (token := answer.get("nextToken")) or token == body.get("nextToken"):
                break
            body["nextToken"] = token
    ordered = sorted(jobs.values(), key=age)
    if cursor is not None:
        after = _alive_cursor(cursor)
        ordered = [job for job in ordered if age(job) > after]
    some = ordered[:limit]
    following = f"alive/{-age(some[-1])[0]}/{some[-1]['jobId']}" if len(ordered) > limit else None
    return some, following


def of_all(ask: Ask, queue: str, wanted: JobFilter, limit: int, cursor: str | None) -> Op[Some]:
    """Some of all jobs: with a filter AWS tells of every state at once, newest first."""
    if wanted.created_before is not None:  # the newest ones are left out by AWS, the oldest ones by us
        condition = ("BEFORE_CREATED_AT", _millis(wanted.created_before))
    else:
        condition = (
            "AFTER_CREATED_AT",
            _millis(wanted.created_after, -1) if wanted.created_after else _BEGINNING,
        )
    body: dict[str, Any] = {
        "jobQueue": queue,
        "filters": [{"name": condition[0], "values": [condition[1]]}],
        "maxResults": min(limit, MOST_FILTERED),
    }
    if cursor is not None:
        if not cursor.startswith("any/"):
            raise _no_cursor(cursor)
        body["nextToken"] = cursor.removeprefix("any/")
    answer = yield from ask("listjobs", body)
    jobs = answer.get("jobSummaryList") or []
    token = answer.get("nextToken")
    if jobs and wanted.created_after is not None and jobs[-1].get("createdAt", 0) < _stamp(wanted.created_after):
        token = None
    return jobs, f"any/{token}" if token else None


def meant(wanted: JobFilter) -> JobFilter:
    """The conditions as a job answers to them: a queue, and an array, may be named by their ARN.

    AWS looks at one condition, and at none that is ours.
    """
    names = {name: last_part(value) for name in ("queue", "array") if (value := getattr(wanted, name)) is not None}
    return wanted.model_copy(update=names)


def age(job: Mapping[str, Any]) -> tuple[int, str]:
    """Sorts jobs, the newest first."""
    return -int(job.get("createdAt") or 0), str(job["jobId"])


def _alive_cursor(cursor: str) -> tuple[int, str]:
    kind, _, rest = cursor.partition("/")
    created, _, job_id = rest.partition("/")
    if kind != "alive" or not created.isdecimal():
        raise _no_cursor(cursor)
    return -int(created), job_id


def array_cursor(cursor: str) -> int:
    """Where a page of an array's jobs begins."""
    kind, _, start = cursor.partition("/")
    if kind != "array" or not start.isdecimal():
        raise _no_cursor(cursor)
    return int(start)


def _no_cursor(cursor: str) -> InvalidSpec:
    return InvalidSpec([("cursor", f"{cursor[:80]!r} is none of this list; give what the page before says is next")])


def _stamp(moment: dt.datetime) -> float:
    """Milliseconds since 1970; a time without a zone is local time, as it is to whoever typed it."""
    return moment.astimezone(dt.timezone.utc).timestamp() * 1000


def _millis(moment: dt.datetime, more: int = 0) -> str:
    return str(max(0, math.floor(_stamp(moment)) + more))
