"""Turns a job that is asked for in Tapis's words into a spec of this service, and back."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
from pydantic import ValidationError

from hpcjobs.errors import InvalidSpec
from hpcjobs.models import MAX_INPUTS, InputFile, JobSpec, StderrMode, check_file_name, problems_of
from hpcjobs.tapis_data import FileInput, ParameterSet, TapisRequest
from hpcjobs_server.api.jobs import check_place, check_work
from hpcjobs_server.api.tapis.envelope import bad_request
from hpcjobs_server.apps import App, AppError
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import Context
from hpcjobs_server.files import Blobs, TooManyFiles, list_below, open_below
from hpcjobs_server.problems import Problem
from hpcjobs_server.store import Seen

_TRACKING = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9-]+")
_SOURCE = re.compile(r"tapis://([A-Za-z0-9][A-Za-z0-9._~-]*)(?:/(.*))?", re.DOTALL)
_CHUNK = 1024 * 1024

_REQUEST = {field.alias or name for name, field in TapisRequest.model_fields.items()}


def read_request(body: bytes) -> TapisRequest:
    """The body of a submission.

    Raises:
        TapisProblem: 400: it is no JSON, or a field is missing, wrong or not known.
    """
    try:
        return TapisRequest.model_validate_json(body)
    except ValidationError as error:
        fields = {str(field.alias): field for field in TapisRequest.model_fields.values()}
        told = "; ".join(f"{field}: {why}" if field else why for field, why in problems_of(error, fields)[:5])
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", told) from None


def check_tracking(header: str | None) -> str | None:
    """The header ``X-Tapis-Tracking-ID``.

    Raises:
        TapisProblem: 400 for one that is not written as it must be.
    """
    if header is None:
        return None
    if len(header) > 126 or not _TRACKING.fullmatch(header):
        raise bad_request(
            "TAPIS_INVALID_TRACKING_ID", "X-Tapis-Tracking-ID is NAMESPACE.ID: letters, digits, _ or -; 126 in all"
        )
    return header


async def spec_of(context: Context, caller: Caller, asked: TapisRequest, *, tracking: str | None = None) -> JobSpec:
    """What is kept of a job that is asked for, once it is known that it could run.

    Raises:
        TapisProblem: 400 with what is wrong.
        Problem: 403, where the service does not run that.
    """
    if asked.owner not in {None, caller.owner}:
        raise bad_request("JOBS_MISMATCHED_OWNER", f"you are {caller.owner}; leave owner out")
    if asked.tenant not in {None, context.settings.tapis_tenant}:
        raise bad_request("JOBS_MISMATCHED_TENANT", f"the tenant is {context.settings.tapis_tenant}; leave tenant out")
    try:
        app = context.apps.get(asked.app_id, asked.app_version)
    except AppError as error:
        raise bad_request("JOBS_APP_NOT_FOUND", str(error)) from None
    fields = _fields(asked, app)
    if tracking is not None:
        fields["options"]["trackingId"] = tracking
    # all of it is checked before a file is copied
    await check(context, caller, _parsed(fields))
    inputs, env = await anyio.to_thread.run_sync(_put, context, caller.owner, asked)
    return context.apps.accepted(_parsed({**fields, "env": {**env, **fields["env"]}, "inputs": inputs}))


def _parsed(fields: Mapping[str, Any]) -> JobSpec:
    try:
        return JobSpec.parse(fields)
    except InvalidSpec as error:
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", str(error)) from None


async def check(context: Context, caller: Caller, spec: JobSpec) -> None:
    """Check that a job could run here.

    Raises:
        TapisProblem: 400 with what is wrong.
        Problem: 403, where the service does not run that.
    """
    try:
        check_work(context, spec)
        await check_place(context, caller, spec)
    except Problem as problem:
        if problem.status != 422:
            raise
        raise bad_request("JOBS_INVALID_REQUEST", problem.detail) from None


def request_of(seen: Seen) -> dict[str, Any]:
    """The request by which a job could be asked for again."""
    info, spec = seen.info, seen.spec
    told = {key: value for key, value in spec.options.items() if key in _REQUEST}
    parameters = dict(told.get("parameterSet") or {})
    if spec.env and not parameters.get("envVariables"):
        parameters["envVariables"] = [{"key": key, "value": value} for key, value in spec.env.items()]
    if parameters:
        told["parameterSet"] = parameters
    return {
        "name": info.name or seen.app,
        "appId": seen.app,
        "appVersion": seen.app_version,
        "tags": list(info.tags),
        "notes": info.meta or told.pop("notes", None) or {},
        **told,
    }


def _fields(asked: TapisRequest, app: App) -> dict[str, Any]:
    told = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
    given = asked.model_fields_set
    options = {key: value for key, value in told.items() if key not in {"name", "appId", "appVersion", "tags"}}
    for key in ("owner", "tenant"):
        options.pop(key, None)
    meta = _object(asked.notes)
    if meta is not None:
        options.pop("notes", None)
    cores = asked.node_count * asked.cores_per_node
    resources: dict[str, Any] = {}
    if given & {"node_count", "cores_per_node"} or app.cores is None:
        resources["cores"] = cores
    if "memory_mb" in given or app.memory is None:
        resources["memory"] = asked.memory_mb * 1_000_000
    if "max_minutes" in given or app.walltime is None:
        resources["walltime"] = asked.max_minutes * 60
    fields: dict[str, Any] = {
        "app": app.name,
        "app_version": app.version,
        "name": asked.name,
        "tags": list(dict.fromkeys(asked.tags)),
        "meta": meta or {},
        "env": _environment(asked.parameter_set),
        "resources": resources,
        "options": options,
    }
    logs = asked.parameter_set.log_config
    if logs is not None and logs.stdout_filename != logs.stderr_filename:
        fields["stderr"] = StderrMode.SEPARATE
    for name in (logs.stdout_filename, logs.stderr_filename) if logs is not None else ():
        try:
            check_file_name(name)
        except ValueError as error:
            raise bad_request("NET_REQUEST_PAYLOAD_ERROR", f"parameterSet.logConfig: {error}") from None
    if asked.exec_system_logical_queue is not None:
        fields["queue"] = asked.exec_system_logical_queue
    return fields


def _environment(parameters: ParameterSet) -> dict[str, str]:
    return {one.key: one.value or "" for one in parameters.env_variables if one.include is not False}


def _object(notes: Any) -> dict[str, Any] | None:
    """Notes as an object; they also travel as JSON in a string."""
    if isinstance(notes, str):
        try:
            notes = json.loads(notes)
        except (ValueError, RecursionError):
            return None
    return notes if isinstance(notes, dict) else None


# Inputs


def _put(context: Context, owner: str, asked: TapisRequest) -> tuple[list[InputFile], dict[str, str]]:
    """Store the inputs, and name those that have a variable; blocks, so it is for a thread."""
    wanted = list(asked.file_inputs)
    for array in asked.file_input_arrays:
        folder = (array.target_dir or "").strip("/")
        wanted += [
            FileInput(source_url=source, target_path=f"{folder}/{_last(source)}".lstrip("/"), env_key=array.env_key)
            for source in array.source_urls
        ]
    found: dict[str, InputFile] = {}
    env: dict[str, str] = {}
    for number, one in enumerate(wanted):
        try:
            target = _one(context, owner, one, found)
        except (ValueError, OSError, TooManyFiles) as error:
            why = "it cannot be read" if isinstance(error, OSError) else str(error) or "it has too many files"
            raise bad_request("JOBS_INVALID_INPUT", f"fileInputs[{number}] {one.source_url}: {why}") from None
        if one.env_key:
            env.setdefault(one.env_key, target)
    if len(found) > MAX_INPUTS:
        raise bad_request("JOBS_INVALID_INPUT", f"these are {len(found)} files; {MAX_INPUTS} at most, pack them")
    return list(found.values()), env


def _one(context: Context, owner: str, asked: FileInput, found: dict[str, InputFile]) -> str:
    """Store one input, which may be a folder, and return the name that it gets."""
    match = _SOURCE.fullmatch(asked.source_url or "")
    systems = context.apps.systems
    if match is None:
        raise ValueError("sourceUrl is written tapis://SYSTEM/PATH")
    if match[1] not in systems:
        raise ValueError(f"there is no system {match[1]!r}; there is {', '.join(systems) or 'none'}")
    root, path = systems[match[1]], unquote(match[2] or "").strip("/")
    parts = PurePosixPath(check_file_name(path)).parts if path else ()
    target = (asked.target_path or "").strip("/")
    if target in {"", "*"}:
        target = parts[-1] if parts else match[1]
    target = check_file_name(target)
    if parts:
        with contextlib.suppress(FileNotFoundError):  # a folder, perhaps
            _add(found, _store(context, owner, root, parts, target))
            return target
    files = list_below(root, parts)
    if not files:
        raise ValueError("there is no such file and no folder with files in it")
    for file in files:
        name = f"{target}/{file.path}"
        _add(found, _store(context, owner, root, (*parts, *PurePosixPath(file.path).parts), name))
        if len(found) > MAX_INPUTS:
            raise ValueError(f"these are more than {MAX_INPUTS} files; pack them")
    return target


def _add(found: dict[str, InputFile], item: InputFile) -> None:
    """Take an input among those that were found; two of one name would be one of them, whichever comes last."""
    if item.name in found:
        raise ValueError(f"two inputs go to {item.name!r}; give another targetPath")
    found[item.name] = item


def _store(context: Context, owner: str, root: Any, parts: tuple[str, ...], name: str) -> InputFile:
    blobs: Blobs = context.blobs
    most = context.settings.max_input_bytes
    source = open_below(root, parts)
    try:
        if source.size > most:
            raise ValueError(f"it has {source.size} bytes; {most} at most")
        upload = blobs.begin(owner)
        try:
            while upload.size <= most and (data := source.read(upload.size, _CHUNK)):
                upload.write(data)
            sha256, size = upload.sha256, upload.size
            upload.finish()
        finally:
            upload.abort()
    finally:
        source.close()
    return InputFile(name=name, sha256=sha256, size=size, executable=source.executable)


def _last(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]


def again(spec: JobSpec, *, name: str | None, tags: list[str], meta: Mapping[str, Any]) -> JobSpec:
    """What a job that is submitted once more asks for: the same, at once."""
    update = {"after": [], "start_at": None, "start_in": None, "name": name, "tags": tags, "meta": dict(meta)}
    options = {key: value for key, value in spec.options.items() if key != "trackingId"}
    return spec.model_copy(update={**update, "options": options})
