"""A job of this service in Tapis's words: its record, its entry in a list, its history."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from typing import Any

from hpcjobs.lifecycle import JobState
from hpcjobs.records import Change
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS, SUFFIX, UUID, WORDS, time_text
from hpcjobs_server.apps import logs_of
from hpcjobs_server.store import Seen

SYSTEM = "local"
"""What the place is called where jobs run and keep their outputs, where they name no other."""

QUEUE = "tapis.jobq.submit.DefaultQueue"

_HEARD = "Job {uuid} received a JOB_CANCEL command from JobsImpl-cancelCmdStatus with correlation id {uuid}."


def native_id(uuid: str) -> str | None:
    """The id of a job in this service, by Tapis's; None for what is no such id.

    Example:
        >>> native_id("6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007")
        '6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a'
    """
    return uuid.removesuffix(SUFFIX) if UUID.fullmatch(uuid) else None


def record_of(seen: Seen, tenant: str) -> dict[str, Any]:
    """The whole record of a job, all of :data:`hpcjobs.tapis_data.JOB_KEYS`."""
    info, spec = seen.info, seen.spec
    uuid, options = info.id + SUFFIX, spec.options
    folder = f"/jobs/{uuid}"
    parameters = dict(options.get("parameterSet") or {})
    parameters["logConfig"] = logs_of(spec).model_dump(mode="json", by_alias=True)
    if spec.env and not parameters.get("envVariables"):
        parameters["envVariables"] = [{"key": key, "value": value} for key, value in spec.env.items()]
    begun = info.attempt > 0 and info.started_at is not None
    nodes = _whole(options.get("nodeCount"), 1)
    walltime, memory = spec.resources.walltime, spec.resources.memory
    told: dict[str, Any] = {
        "id": seen.number,
        "name": info.name or seen.app,
        "owner": info.owner,
        "tenant": tenant,
        "description": options.get("description"),
        "status": seen.status,
        "condition": seen.condition,
        "lastMessage": last_message(seen),
        "created": time_text(info.created_at),
        "ended": time_text(info.finished_at),
        "lastUpdated": time_text(_updated(seen)),
        "uuid": uuid,
        "appId": seen.app,
        "appVersion": seen.app_version,
        "archiveOnAppError": options.get("archiveOnAppError", True),
        "archiveMode": options.get("archiveMode") or "ALWAYS",
        "dynamicExecSystem": options.get("dynamicExecSystem", False),
        "execSystemId": options.get("execSystemId") or SYSTEM,
        "execSystemExecDir": options.get("execSystemExecDir") or folder,
        "execSystemInputDir": options.get("execSystemInputDir") or folder,
        "execSystemOutputDir": options.get("execSystemOutputDir") or folder,
        "execSystemLogicalQueue": info.queue,
        "archiveSystemId": options.get("archiveSystemId") or SYSTEM,
        "archiveSystemDir": options.get("archiveSystemDir") or folder,
        "dtnSystemInputDir": options.get("dtnSystemInputDir") or "!tapis_not_set",
        "dtnSystemOutputDir": options.get("dtnSystemOutputDir") or "!tapis_not_set",
        "nodeCount": nodes,
        "coresPerNode": _whole(options.get("coresPerNode"), max(1, spec.resources.cores // nodes)),
        "memoryMB": _whole(options.get("memoryMB"), 100 if memory is None else math.ceil(memory / 1_000_000)),
        "maxMinutes": _whole(
            options.get("maxMinutes"), 0 if walltime is None else math.ceil(walltime.total_seconds() / 60)
        ),
        "fileInputs": json.dumps(file_inputs(options)),
        "parameterSet": json.dumps(_full(parameters)),
        "execSystemConstraints": json.dumps(options.get("execSystemConstraints") or []),
        "subscriptions": json.dumps(options.get("subscriptions") or []),
        "blockedCount": 1 if seen.status == "BLOCKED" else 0,
        "remoteJobId": f"{info.id}.{info.attempt}" if info.attempt else None,
        "remoteOutcome": _outcome(info.state) if info.attempt else None,
        "remoteResultInfo": None if info.exit_code is None else str(info.exit_code),
        "remoteQueue": info.queue if info.attempt else None,
        "remoteSubmitted": time_text(info.created_at) if info.attempt else None,
        "remoteStarted": time_text(info.started_at) if begun else None,
        "remoteEnded": time_text(info.finished_at) if begun else None,
        "remoteSubmitRetries": 0,
        "remoteChecksSuccess": 0,
        "remoteChecksFailed": 0,
        "tapisQueue": QUEUE,
        "visible": not seen.hidden,
        "createdby": info.owner,
        "createdbyTenant": tenant,
        "tags": list(info.tags),
        "jobType": options.get("jobType") or "FORK",
        "isMpi": options.get("isMpi", False),
        "mpiCmd": options.get("mpiCmd"),
        "cmdPrefix": options.get("cmdPrefix"),
        "sharedAppCtx": "",
        "sharedAppCtxAttribs": [],
        "trackingId": options.get("trackingId"),
        "notes": json.dumps(info.meta or options.get("notes") or {}),
    }
    return {key: told.get(key) for key in JOB_KEYS}


def entry_of(seen: Seen, tenant: str) -> dict[str, Any]:
    """What a list says of a job."""
    record = record_of(seen, tenant)
    return {key: record[key] for key in LIST_KEYS}


def last_message(seen: Seen) -> str:
    """What was said last about a job."""
    info = seen.info
    heard = _HEARD.format(uuid=info.id + SUFFIX)
    if info.state is JobState.CANCELLED:
        why = info.cancel_reason or (None if info.cancel_requested else info.reason)
        return f"JOBS_CMD_MSG_RECEIVED {heard}" + (f" {why}" if why else "")
    if info.state is JobState.FAILED and info.reason:
        return info.reason
    if info.cancel_requested and not info.terminal:
        return f"JOBS_CMD_MSG_RECEIVED {heard}"
    if info.state.not_started:
        return info.reason or "Job created"
    return f"Setting job status to {seen.status}."


def history_of(seen: Seen, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Every change of a job's status, oldest first."""
    info = seen.info
    uuid, before = info.id + SUFFIX, None
    items = []
    for change in changes:
        word = WORDS.get(change.state, change.state.value)
        if word == before:  # a flag has changed, not the status
            continue
        description = {
            "newJobStatus": word,
            "oldJobStatus": before,
            "jobName": info.name or seen.app,
            "jobUuid": uuid,
            "jobOwner": info.owner,
            "message": change.reason or f"Setting job status to {word}.",
        }
        items.append(
            {
                "event": "JOB_NEW_STATUS",
                "created": time_text(change.at),
                "eventDetail": word,
                "description": json.dumps(description),
                "transferTaskUuid": None,
                "transferSummary": None,
            }
        )
        before = word
    return items


def file_inputs(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs that were asked for, those of arrays among them, one by one."""
    listed = list(options.get("fileInputs") or [])
    for array in options.get("fileInputArrays") or []:
        folder = str(array.get("targetDir") or "").rstrip("/")
        for source in array.get("sourceUrls") or []:
            name = str(source).rstrip("/").rpartition("/")[2]
            shared = {key: array[key] for key in ("name", "description", "envKey", "notes") if key in array}
            listed.append({**shared, "sourceUrl": source, "targetPath": f"{folder}/{name}".lstrip("/")})
    return listed


def _updated(seen: Seen) -> dt.datetime:
    created = seen.info.created_at
    return seen.changed_at if created is None else max(created, seen.changed_at)


def _outcome(state: JobState) -> str | None:
    return {JobState.FINISHED: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "FAILED"}.get(state)


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


def _full(parameters: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "appArgs": [],
        "containerArgs": [],
        "schedulerOptions": [],
        "envVariables": [],
        "archiveFilter": {"includes": [], "excludes": [], "includeLaunchFiles": True},
        "logConfig": {"stdoutFilename": "tapisjob.out", "stderrFilename": "tapisjob.out"},
    }
    return {**empty, **{key: value for key, value in parameters.items() if value is not None}}
