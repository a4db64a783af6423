"""A job of any service as Tapis tells of one: its status, its record with all of Tapis's keys, its history.

Example:
    >>> from hpcjobs.models import JobInfo
    >>> record = record_of(JobInfo(id="0b7f", state="FAILED", exit_code=3, reason="exit code 3"))
    >>> record["uuid"], record["status"], record["condition"], record["lastMessage"]
    ('0b7f', 'FAILED', 'JOB_REMOTE_OUTCOME_ERROR', 'exit code 3')
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from hpcjobs import lines
from hpcjobs.lifecycle import TAPIS_WORDS, JobState
from hpcjobs.models import JobInfo
from hpcjobs.records import Change
from hpcjobs.tapis_data import ENDED_BEFORE, ENDED_OTHERWISE, HIDDEN_TAG, JOB_KEYS, WORDS, time_text

IN_STRINGS = {"fileInputs": "[]", "parameterSet": "{}", "subscriptions": "[]", "execSystemConstraints": None}
"""The fields that are objects when a job is asked for, and JSON inside a string when Tapis tells of it."""


def status_of(info: JobInfo) -> str:
    """Tapis's word for where a job is; the service's own where it is one of the thirteen.

    Example:
        >>> status_of(JobInfo(id="1", state="STAGING")), status_of(JobInfo(id="1", state="PAUSED"))
        ('STAGING_JOB', 'PAUSED')
    """
    if info.native_state in TAPIS_WORDS:
        return info.native_state
    return WORDS.get(info.state, info.native_state or str(info.state))


def condition_of(info: JobInfo) -> str | None:
    """Tapis's word for why a job has ended; None where it has not, or where no word says it."""
    if info.state is JobState.FINISHED:
        return "NORMAL_COMPLETION"
    if info.state is JobState.CANCELLED:
        return "CANCELLED_BY_USER"
    if info.state is not JobState.FAILED:
        return None
    said = info.reason or ""
    for pattern, word in ENDED_BEFORE:
        if fnmatchcase(said, pattern):
            return word
    if info.exit_code is not None:
        return "JOB_REMOTE_OUTCOME_ERROR"
    return next((word for pattern, word in ENDED_OTHERWISE if fnmatchcase(said, pattern)), None)


def message_of(info: JobInfo) -> str:
    """What is last known of a job, in words: why it ended, that it was asked to stop, how far it is."""
    if info.state is JobState.FINISHED:
        return info.reason or "the job ended well"
    if info.terminal:
        return lines.why(info) or "the job has ended"
    if info.cancel_requested:
        return f"the job was asked to stop{f': {info.cancel_reason}' if info.cancel_reason else ''}"
    if info.progress is not None:
        return str(info.progress)
    return info.reason or f"the job is {status_of(info)}"


def record_of(info: JobInfo) -> dict[str, Any]:
    """The record of a job with all of Tapis's keys; null where a service does not tell.

    ``id`` is the job's id, as ``uuid`` is. In Tapis's own record it is the number of a row, which no method takes; but
    training pages write ``getJob(jobUuid=job.id)``, and that must mean the job.

    Args:
        info: What is known of the job; of one at Tapis, its own record is told as it is, without tags of ours.
    """
    spec: Mapping[str, Any] = info.spec or {}
    told = spec if "uuid" in spec else _told(info, spec)
    tags = [tag for tag in info.tags if tag != HIDDEN_TAG]
    return {**dict.fromkeys(JOB_KEYS), **told, "id": info.id, "tags": tags}


def _told(info: JobInfo, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a job at another service, under Tapis's keys."""
    options: Mapping[str, Any] = spec.get("options") or {}
    resources: Mapping[str, Any] = spec.get("resources") or {}
    started, memory, walltime = info.started_at is not None, resources.get("memory"), resources.get("walltime")
    asked = {key: value for key, value in options.items() if key in JOB_KEYS}
    for key, empty in IN_STRINGS.items():
        asked[key] = json.dumps(options[key]) if options.get(key) is not None else empty
    latest = [moment for moment in (info.created_at, info.started_at, info.finished_at) if moment is not None]
    return {
        "nodeCount": 1 if resources.get("cores") else None,
        "coresPerNode": resources.get("cores"),
        "execSystemLogicalQueue": info.queue,
        "maxMinutes": math.ceil(walltime / 60) if walltime else None,
        "memoryMB": math.ceil(memory / 1_000_000) if memory else None,
        "notes": json.dumps(info.meta),
        **asked,
        "uuid": info.id,
        "name": info.name,
        "owner": info.owner,
        "createdby": info.owner,
        "status": status_of(info),
        "condition": condition_of(info),
        "lastMessage": message_of(info),
        "created": time_text(info.created_at),
        "ended": time_text(info.finished_at) if info.terminal else None,
        "lastUpdated": time_text(max(latest, default=None)),
        "appId": spec.get("app"),
        "appVersion": spec.get("app_version"),
        "visible": HIDDEN_TAG not in info.tags,
        "remoteQueue": info.queue,
        "remoteStarted": time_text(info.started_at),
        "remoteEnded": time_text(info.finished_at) if started and info.terminal else None,
        "remoteOutcome": _OUTCOMES.get(info.state) if started else None,
        "remoteResultInfo": None if info.exit_code is None else str(info.exit_code),
    }


_OUTCOMES = {JobState.FINISHED: "FINISHED", JobState.FAILED: "FAILED"}


def change_record(change: Change, before: Change | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of the history as Tapis has it; ``description`` is JSON inside a string, as there.

    Args:
        change: The change of the state.
        before: The one before it.
        record: The job's.
    """
    word = WORDS.get(change.state, str(change.state))
    said = {
        "newJobStatus": word,
        "oldJobStatus": None if before is None else WORDS.get(before.state, str(before.state)),
        "jobName": record["name"],
        "jobUuid": record["uuid"],
        "jobOwner": record["owner"],
        "message": change.reason or f"Setting job status to {word}.",
    }
    return {
        "event": "JOB_NEW_STATUS",
        "created": time_text(change.at),
        "eventDetail": word,
        "description": json.dumps(said),
        "transferTaskUuid": None,
        "transferSummary": None,
    }
