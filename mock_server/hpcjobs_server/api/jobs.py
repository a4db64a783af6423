"""Jobs: submit, look, list, cancel."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid

import anyio.to_thread
from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.errors import InvalidSpec
from hpcjobs.models import (
    CancelAnswer,
    CancelOrder,
    CancelOutcome,
    CancelResult,
    InputFile,
    JobFilter,
    JobInfo,
    JobPage,
    JobQuery,
    JobQueryAnswer,
    JobSpec,
    Resources,
    Scope,
    problems_of,
)
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_json, read_model, read_query
from hpcjobs_server.auth import Caller, authorise
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.problems import Problem, invalid, job_not_found
from hpcjobs_server.store import BadCursor, KeyReused

LONGEST_KEY = 200

_KEY = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_KEY}}}")
_WITHOUT_SPEC = {"items": {"__all__": {"spec"}}}
_MANY = ("state", "tag")
_ETAG = {"ETag": {"description": "The version of the record, quoted", "schema": {"type": "string"}}}
_FOUND = {"model": JobInfo, "description": "The job", "headers": _ETAG}

router = APIRouter(prefix="/v1", tags=["jobs"])


class ListQuery(JobFilter):
    """What a list of jobs can be asked by."""

    limit: int = Field(default=100, ge=1, le=1000)
    """Most jobs in one page."""
    cursor: str | None = Field(default=None, max_length=200)
    """``next`` of the page before."""
    key: str | None = Field(default=None, max_length=LONGEST_KEY)
    """Only the job that was submitted with this key."""


@router.post(
    "/jobs",
    status_code=201,
    responses={
        201: {"model": JobInfo, "description": "The new job", "headers": _ETAG},
        200: {**_FOUND, "description": "The job that was submitted with this key before"},
        **documents.problems(409, 413, 415),
    },
    openapi_extra={
        **documents.body(JobSpec),
        "parameters": [
            documents.parameter(
                "Idempotency-Key", "header", "The same key never makes a second job (at most 200 characters)"
            )
        ],
    },
)
async def submit(request: Request) -> Response:
    """Submit a job."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    key = _key(request)
    spec = _spec(await read_json(request))
    try:
        await _check(context, caller, spec)
    except Problem:
        # What was accepted stays accepted, though an input or a worker may have gone since.
        if (
            key is None
            or not (await context.store.list(caller.owner, JobFilter(), limit=1, cursor=None, key=key)).items
        ):
            raise
    try:
        info, created = await context.store.submit(caller.owner, spec, key=key, actor=caller.owner)
    except KeyReused:
        detail = "this Idempotency-Key was used for another job; make a new key for each job"
        raise Problem(409, "key_reused", detail) from None
    headers = {"Location": f"/v1/jobs/{info.id}", "ETag": f'"{info.version}"'}
    return answer(info, 201 if created else 200, headers=headers)


@router.get(
    "/jobs",
    responses={200: {"model": JobPage, "description": "One page, newest first"}, **documents.problems()},
    openapi_extra={"parameters": documents.query(ListQuery, many=_MANY)},
)
async def list_jobs(request: Request) -> Response:
    """List jobs, newest first."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    asked = read_query(request, ListQuery, many=_MANY)
    chosen = asked.model_copy(
        update={"created_after": _utc(asked.created_after), "created_before": _utc(asked.created_before)}
    )
    # keys are each owner's own, so an administrator finds no other's job by one
    owner = caller.owner if asked.key is not None else caller.sees
    try:
        page = await context.store.list(owner, chosen, limit=asked.limit, cursor=asked.cursor, key=asked.key)
    except BadCursor:
        raise invalid([("cursor", "is not one that this service gave; start without it")]) from None
    return answer(page, exclude=_WITHOUT_SPEC)


@router.post(
    "/jobs/query",
    responses={200: {"model": JobQueryAnswer, "description": "What was found"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(JobQuery),
)
async def query_jobs(request: Request) -> Response:
    """Look at many jobs by id."""
    caller = await authorise(request, Scope.READ)
    ids = list(dict.fromkeys((await read_model(request, JobQuery)).ids))
    items = await context_of(request).store.get_many(caller.sees, ids)
    found = {info.id for info in items}
    missing = [text for text in ids if _canonical(text) not in found]
    return answer(JobQueryAnswer(items=items, missing=missing), exclude=_WITHOUT_SPEC)


@router.post(
    "/jobs/cancel",
    responses={200: {"model": CancelAnswer, "description": "One result per id"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(CancelOrder),
)
async def cancel_jobs(request: Request) -> Response:
    """Cancel many jobs; one that is not found spoils nothing."""
    caller = await authorise(request, Scope.WRITE)
    order = await read_model(request, CancelOrder)
    if not order.ids:
        raise invalid([("ids", "name at least one job")])
    return answer(CancelAnswer(results=await _cancel(context_of(request), caller, order, order.ids)))


@router.get(
    "/jobs/{job_id}",
    responses={
        200: _FOUND,
        304: {"description": "It is still the version of If-None-Match, and there is no progress to tell"},
        **documents.problems(404),
    },
)
async def get_job(request: Request, job_id: str) -> Response:
    """Look at a job."""
    caller = await authorise(request, Scope.READ)
    info = await context_of(request).store.get(caller.sees, job_id)
    if info is None:
        raise job_not_found()
    etag = f'"{info.version}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    # Progress is no part of the version, so while there can be news of it the version alone does not decide.
    if (info.progress is None or info.terminal) and _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return answer(info, headers=headers)


@router.post(
    "/jobs/{job_id}/cancel",
    responses={200: {"model": CancelResult, "description": "What it came to"}, **documents.problems(404, 413, 415)},
    openapi_extra=documents.body(CancelOrder, required=False),
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel a job."""
    caller = await authorise(request, Scope.WRITE)
    order = await read_model(request, CancelOrder, optional=True)
    if order.ids:
        raise invalid([("ids", "the address names the job; leave ids out, or use /v1/jobs/cancel")])
    result = (await _cancel(context_of(request), caller, order, [job_id]))[0]
    if result.outcome is CancelOutcome.NOT_FOUND:
        raise job_not_found()
    return answer(result)


async def _cancel(context: Context, caller: Caller, order: CancelOrder, ids: list[str]) -> list[CancelResult]:
    return await context.store.cancel(
        caller.sees, ids, reason=order.reason, abort=order.abort, delete=order.delete, actor=caller.owner
    )


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        problem = f"must have 1 to {LONGEST_KEY} visible ASCII characters"
        raise invalid([("Idempotency-Key", problem)])
    return key


def _spec(body: bytes) -> JobSpec:
    """Read a spec; resources may stand beside the other fields, as in the client.

    Raises:
        Problem: 422 with every problem and what is allowed.
    """
    try:
        return JobSpec.model_validate_json(body)
    except ValidationError as error:
        first = problems_of(error, JobSpec.model_fields | Resources.model_fields)
    except (ValueError, OverflowError):
        first = [("", "a value is out of range")]
    try:
        return JobSpec.parse(json.loads(body))
    except InvalidSpec as error:
        raise invalid(error.problems) from None
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise invalid(first) from None


async def _check(context: Context, caller: Caller, spec: JobSpec) -> None:
    """Check that the job could run here.

    Raises:
        Problem: 422: the task or its arguments are wrong, an input was not sent or is of another size, or no worker has
            so many cores. 403: the service runs tasks only.
    """
    check_work(context, spec)
    if spec.inputs:
        await anyio.to_thread.run_sync(_check_inputs, context, caller.owner, spec.inputs)
    cores = spec.resources.cores
    if cores > 1 and cores > max((worker.cores for worker in await context.workers()), default=cores):
        # a larger worker may have come this moment
        largest = max((worker.cores for worker in await context.workers(now=True)), default=cores)
        if cores > largest:
            detail = f"the job asks for {cores} cores; the largest worker has {largest}"
            raise Problem(
                422, "too_many_cores", detail, errors=[("resources.cores", f"at most {largest}, not {cores}")]
            )


def check_work(context: Context, spec: JobSpec) -> None:
    """Check what a job would run: a task that there is, with arguments that fit it, or a command where those may run.

    Raises:
        Problem: 422 with every wrong argument; 403 where the service runs tasks only.
    """
    if spec.task is None:
        if context.settings.tasks_only:
            kind = "command" if spec.function is None else "function"
            names = ", ".join(task.name for task in context.tasks)
            detail = f"this service runs named tasks only, and no {kind} of yours; name one of its tasks: {names}"
            raise Problem(403, "tasks_only", detail, errors=[("command", "is refused; give a task and its args")])
    elif problems := context.tasks.check(spec):
        raise invalid(problems)
    elif context.settings.tasks_only and spec.env:
        # variables such as LD_PRELOAD could make a task run other code
        raise invalid([("env", "cannot be set: this service runs named tasks only")])


def _check_inputs(context: Context, owner: str, inputs: list[InputFile]) -> None:
    missing: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for index, item in enumerate(inputs):
        size = context.blobs.size(owner, item.sha256)
        if size is None:
            missing.append((f"inputs.{index}", f"{item.name!r} was not sent: PUT /v1/blobs/{item.sha256}"))
        elif size != item.size:
            wrong.append((f"inputs.{index}.size", f"{item.name!r} has {size} bytes, not {item.size}"))
    if missing:
        named = ", ".join(repr(inputs[int(field.split(".")[1])].name) for field, _ in missing[:10])
        raise Problem(422, "input_missing", f"send these inputs first: {named}", errors=missing)
    if wrong:
        raise Problem(422, "input_size", f"an input has another size: {wrong[0][1]}", errors=wrong)


def _canonical(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    listed = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in listed or "*" in listed


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return moment.replace(tzinfo=dt.timezone.utc) if moment is not None and moment.tzinfo is None else moment
