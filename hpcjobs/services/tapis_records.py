"""Reads what Tapis says of a job: its record, its history, its moments.

A record is what ``/v3/jobs/{uuid}`` answers; lists and searches have parts of it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.lifecycle import TAPIS_WORDS, JobState, to_state
from hpcjobs.models import JobInfo
from hpcjobs.records import Change, History
from hpcjobs.tapis_data import reason_of

KEY_TAG = "hpcjobs-key:"
"""How the tag begins that a submission key travels in: Tapis has no place of its own for one."""

SUM_TAG = "hpcjobs-sum:"
"""How the tag begins that has the sum of what was asked, by which the same key with another body is noticed."""

LOG = "tapisjob.out"
"""Where an application's output goes, stdout and stderr in order, unless the job says otherwise."""

_CANCEL_HEARD = "JOB_CANCEL"
"""What the last message of a job has in it once its worker has heard that it is to stop."""


def info_of(job: Mapping[str, Any]) -> JobInfo:
    """What is known of a job, from Tapis's record of it.

    Example:
        >>> info_of({"uuid": "1", "status": "BLOCKED", "name": "a", "lastMessage": "no quota"}).state
        <JobState.PAUSED: 'PAUSED'>
    """
    word = job["status"]
    state = to_state(word, TAPIS_WORDS)
    return JobInfo(
        id=job["uuid"],
        state=state,
        native_state=word,
        name=job.get("name"),
        owner=job.get("owner"),
        queue=job.get("execSystemLogicalQueue"),
        tags=own_tags(job),
        meta=_object(job.get("notes")),
        cancel_requested=not state.terminal and _CANCEL_HEARD in (job.get("lastMessage") or ""),
        reason=reason_of(job.get("condition"), job.get("lastMessage")) if state.terminal or word == "BLOCKED" else None,
        exit_code=_number(job.get("remoteResultInfo")),
        attempt=1 if job.get("remoteStarted") else 0,
        created_at=time_of(job.get("created")),
        started_at=time_of(job.get("remoteStarted")),
        finished_at=time_of(job.get("ended")),
        spec={key: value for key, value in job.items() if value is not None},
    )


def own_tags(job: Mapping[str, Any]) -> list[str]:
    """The tags that a person gave."""
    return [tag for tag in job.get("tags") or [] if not tag.startswith((KEY_TAG, SUM_TAG))]


def log_name(job: Mapping[str, Any], stream: str) -> str | None:
    """The file that a stream goes to; None where the job has no such stream of its own.

    Example:
        >>> log_name({"parameterSet": "{}"}, "stdout"), log_name({}, "stderr")
        ('tapisjob.out', None)
    """
    config = _object(_object(job.get("parameterSet")).get("logConfig"))
    out, err = config.get("stdoutFilename") or LOG, config.get("stderrFilename") or LOG
    if stream == "stdout":
        return str(out)
    return str(err) if err != out else None


def history_of(items: Sequence[Mapping[str, Any]]) -> History:
    """What was written down about a job, and how long it waited and ran by that."""
    changes = sorted(filter(None, map(change_of, items)), key=lambda change: change.at)
    waited = ran = dt.timedelta(0)
    for change, following in itertools.pairwise(changes):
        length = following.at - change.at
        if change.state is JobState.RUNNING:
            ran += length
        elif change.state not in {JobState.ARCHIVING, JobState.PAUSED}:
            waited += length
    return History(changes=changes, queue_time=waited if changes else None, run_time=ran if changes else None)


def change_of(item: Mapping[str, Any]) -> Change | None:
    """An entry of the history that is a change of the state; None for another one."""
    word = item.get("eventDetail") if item.get("event") == "JOB_NEW_STATUS" else item.get("jobStatus")
    at = time_of(item.get("created"))
    if not word or at is None:
        return None
    said = _object(item.get("description")).get("message")
    return Change(state=to_state(word, TAPIS_WORDS), at=at, reason=str(said) if said else None)


def time_of(text: str | None) -> dt.datetime | None:
    """A moment as Tapis writes it: with up to six digits of a second, or none."""
    if not text:
        return None
    seconds, _, fraction = text.rstrip("Z").partition(".")
    # Python 3.10 reads three digits of a second or six, nothing between
    return dt.datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")


def _object(value: Any) -> dict[str, Any]:
    """An object, which may travel as JSON inside a string; empty for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().lstrip("-").isdecimal() else None
