"""Jobs: submit, look, list, and act on them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

import anyio.to_thread
from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.actions import (
    CancelAnswer,
    CancelOrder,
    DeleteAnswer,
    DeleteOrder,
    DeleteOutcome,
    JobChanges,
    JobUpdate,
    RetryAnswer,
    RetryOrder,
    RetryOutcome,
    RetryResult,
    Selection,
    UpdateAnswer,
    UpdateOrder,
    UpdateOutcome,
)
from hpcjobs.arrays import ArrayInfo, ArrayOrder, ManyOrder, NewJobs, one_of
from hpcjobs.errors import InvalidSpec
from hpcjobs.models import (
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
from hpcjobs.records import History
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_json, read_model, read_query
from hpcjobs_server.apps import check_options
from hpcjobs_server.auth import Caller, authorise
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.problems import Problem, invalid, job_not_found
from hpcjobs_server.store import DEFAULT_SORT, BadCursor, BadDependency, KeyReused, Repeated, Sort, TooMany

LONGEST_KEY = 200
LONGEST_CURSOR = 2000
"""Characters; it may have a job's name in it."""

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
    sort: Sort = DEFAULT_SORT
    """The order; with ``-`` it falls. Jobs without a value come last, those with the same one newest first."""
    cursor: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """``next`` of the page before, which had the same order."""
    before: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """``previous`` of the page behind, instead of ``cursor``."""
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
        "parameters": [documents.KEY],
    },
)
async def submit(request: Request) -> Response:
    """Submit a job."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    key = _key(request)
    spec = asked = _spec(await read_json(request))
    try:
        spec = accepted(context, asked)
        await check_place(context, caller, spec)
    except Problem:
        # What was accepted stays accepted, though an input or a worker may have gone since.
        if (
            key is None
            or not (await context.store.list(caller.owner, JobFilter(), limit=1, cursor=None, key=key)).items
        ):
            raise
    with _accepting():
        info, created = await context.store.submit(caller.owner, spec, key=key, actor=caller.owner, asked=asked)
    headers = {"Location": f"/v1/jobs/{info.id}", "ETag": f'"{info.version}"'}
    return answer(info, 201 if created else 200, headers=headers)


@router.get(
    "/jobs",
    responses={200: {"model": JobPage, "description": "One page"}, **documents.problems()},
    openapi_extra={"parameters": documents.query(ListQuery, many=_MANY)},
)
async def list_jobs(request: Request) -> Response:
    """List jobs, newest first or in another order."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    asked = read_query(request, ListQuery, many=_MANY)
    chosen = asked.model_copy(
        update={"created_after": _utc(asked.created_after), "created_before": _utc(asked.created_before)}
    )
    # keys are each owner's own, so an administrator finds no other's job by one
    owner = caller.owner if asked.key is not None else caller.sees
    try:
        page = await context.store.list(
            owner,
            chosen,
            limit=asked.limit,
            cursor=asked.cursor,
            key=asked.key,
            sort=asked.sort,
            before=asked.before,
        )
    except BadCursor:
        field = "cursor" if asked.before is None else "before"
        problem = "is not one that this service gave for this order; start without it"
        if asked.cursor is not None and asked.before is not None:
            problem = "cannot be given together with cursor"
        raise invalid([(field, problem)]) from None
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
    arrays = await context_of(request).store.arrays_among(caller.sees, missing)
    return answer(JobQueryAnswer(items=items, missing=missing, arrays=arrays), exclude=_WITHOUT_SPEC)


@router.post(
    "/jobs/many",
    status_code=201,
    responses={
        201: {"model": NewJobs, "description": "The new jobs, in the order of the specs"},
        200: {"model": NewJobs, "description": "The jobs that were submitted with this key before"},
        **documents.problems(409, 413, 415),
    },
    openapi_extra={**documents.body(ManyOrder), "parameters": [documents.KEY]},
)
async def submit_many(request: Request) -> Response:
    """Submit many jobs at once: all of them or none."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    key = _key(request)
    order = await read_model(request, ManyOrder)
    specs = await _accepted_all(context, caller, [(f"specs.{index}.", spec) for index, spec in enumerate(order.specs)])
    with _accepting(many=True):
        new, created = await context.store.submit_many(
            caller.owner, specs, key=key, actor=caller.owner, asked=order.specs
        )
    return answer(new, 201 if created else 200)


@router.post(
    "/arrays",
    status_code=201,
    responses={
        201: {"model": NewJobs, "description": "The new array and its jobs"},
        200: {"model": NewJobs, "description": "The array that was submitted with this key before"},
        **documents.problems(409, 413, 415),
    },
    openapi_extra={**documents.body(ArrayOrder), "parameters": [documents.KEY]},
)
async def submit_array(request: Request) -> Response:
    """Submit an array: many jobs of one spec."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    key = _key(request)
    order = await read_model(request, ArrayOrder)
    specs = [("spec.", order.spec)]
    if order.spec.command is None and order.over is not None:
        specs = [(f"over.{n}.", one_of(order.spec, item, n)) for n, item in enumerate(order.over)]
    await _accepted_all(context, caller, specs)
    spec = order.spec if order.spec.app is None else context.apps.accepted(order.spec)
    with _accepting():
        new, created = await context.store.submit_array(
            caller.owner, order.model_copy(update={"spec": spec}), key=key, actor=caller.owner, asked=order
        )
    return answer(new, 201 if created else 200)


@router.get(
    "/arrays/{array_id}",
    responses={200: {"model": ArrayInfo, "description": "The array"}, **documents.problems(404)},
)
async def get_array(request: Request, array_id: str) -> Response:
    """Look at an array: how many of its jobs are in which state, and how far they are."""
    caller = await authorise(request, Scope.READ)
    info = await context_of(request).store.array(caller.sees, array_id)
    if info is None:
        raise Problem(404, "array_not_found", "there is no such array, or it is another's")
    return answer(info)


@router.post(
    "/jobs/cancel",
    responses={200: {"model": CancelAnswer, "description": "One result per job"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(CancelOrder),
)
async def cancel_jobs(request: Request) -> Response:
    """Cancel many jobs; one that is not found spoils nothing."""
    caller = await authorise(request, Scope.WRITE)
    order = _many(await read_model(request, CancelOrder))
    with _selecting():
        return answer(await context_of(request).store.cancel(caller.sees, order, actor=caller.owner))


@router.post(
    "/jobs/retry",
    responses={200: {"model": RetryAnswer, "description": "One result per job"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(RetryOrder),
)
async def retry_jobs(request: Request) -> Response:
    """Run many jobs again; one that is not found or runs spoils nothing."""
    caller = await authorise(request, Scope.WRITE)
    order = _many(await read_model(request, RetryOrder))
    with _selecting():
        return answer(await context_of(request).store.retry(caller.sees, order, actor=caller.owner))


@router.post(
    "/jobs/delete",
    responses={200: {"model": DeleteAnswer, "description": "One result per job"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(DeleteOrder),
)
async def delete_jobs(request: Request) -> Response:
    """Delete many jobs, with their files; one that runs is left alone."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    order = _many(await read_model(request, DeleteOrder))
    with _selecting():
        deleted = await context.store.delete(caller.sees, order, actor=caller.owner)
    context.janitor.wake()
    return answer(deleted)


@router.post(
    "/jobs/update",
    responses={200: {"model": UpdateAnswer, "description": "One result per job"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(UpdateOrder),
)
async def update_jobs(request: Request) -> Response:
    """Change many jobs: all alike, or each in its own way; one that refuses spoils nothing."""
    caller = await authorise(request, Scope.WRITE)
    order = await read_model(request, UpdateOrder)
    if not order.items:
        order = _many(order)
    context = context_of(request)
    refuse = partial(_refusal, context)
    with _selecting():
        return answer(await context.store.update(caller.sees, order, actor=caller.owner, refuse=refuse))


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
    store = context_of(request).store
    info = await store.get(caller.sees, job_id)
    if info is None:
        if await store.arrays_among(caller.sees, [job_id]):
            raise Problem(404, "is_array", f"{job_id} is an array of jobs: see /v1/arrays/{job_id}")
        raise job_not_found()
    etag = f'"{info.version}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    # Progress is no part of the version, so while there can be news of it the version alone does not decide.
    if (info.progress is None or info.terminal) and _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return answer(info, headers=headers)


@router.patch(
    "/jobs/{job_id}",
    responses={
        200: {**_FOUND, "description": "The job as it is now"},
        **documents.problems(404, 409, 412, 413, 415),
    },
    openapi_extra={
        **documents.body(JobChanges),
        "parameters": [documents.parameter("If-Match", "header", "Change only this version of the record: its ETag")],
    },
)
async def update_job(request: Request, job_id: str) -> Response:
    """Change a job: what it would do only while it has not started, its labels always."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    changes = await read_model(request, JobChanges)
    version = _version(request.headers.get("if-match"))
    if await context.store.arrays_among(caller.sees, [job_id]):
        raise Problem(404, "is_array", f"{job_id} is an array of jobs: change them by /v1/jobs/update")
    order = UpdateOrder(items=[JobUpdate(id=job_id, changes=changes, version=version)])
    refuse = partial(_refusal, context)
    result = (await context.store.update(caller.sees, order, actor=caller.owner, refuse=refuse)).results[0]
    detail = result.detail or str(result)
    if result.outcome is UpdateOutcome.NOT_FOUND:
        raise job_not_found()
    if result.outcome is UpdateOutcome.STALE:
        raise Problem(412, "stale_version", f"someone else changed the job first: {detail}")
    if result.outcome is UpdateOutcome.REFUSED:
        raise Problem(409, "has_started", detail)
    if result.outcome is UpdateOutcome.INVALID:
        raise invalid([("", detail)])
    info = await context.store.get(caller.sees, job_id)
    if info is None:
        raise job_not_found()
    return answer(info, headers={"ETag": f'"{info.version}"'})


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    responses={204: {"description": "It is deleted; its files go"}, **documents.problems(404, 409)},
)
async def delete_job(request: Request, job_id: str) -> Response:
    """Delete a job that does not run, with its files."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    deleted = await context.store.delete(caller.sees, DeleteOrder(ids=[job_id]), actor=caller.owner)
    result = deleted.results[0]
    if result.outcome is DeleteOutcome.NOT_FOUND:
        raise job_not_found()
    context.janitor.wake()
    if result.outcome is DeleteOutcome.STILL_RUNNING:
        if result.jobs is not None:
            told = ", ".join(f"{count} {outcome}" for outcome, count in result.jobs.items())
            raise Problem(409, "still_running", f"of the jobs of the array are {told}; cancel those that run first")
        raise Problem(409, "still_running", f"the job is {result.before}; cancel it first")
    return Response(status_code=204)


@router.post(
    "/jobs/{job_id}/retry",
    responses={200: {"model": RetryResult, "description": "What it came to"}, **documents.problems(404, 409)},
)
async def retry_job(request: Request, job_id: str) -> Response:
    """Run a job again, or at once."""
    caller = await authorise(request, Scope.WRITE)
    answered = await context_of(request).store.retry(caller.sees, RetryOrder(ids=[job_id]), actor=caller.owner)
    result = answered.results[0]
    if result.outcome is RetryOutcome.NOT_FOUND:
        raise job_not_found()
    if result.outcome is RetryOutcome.STILL_RUNNING and result.jobs is None:  # of an array each has its outcome
        raise Problem(409, "still_running", f"the job is {result.before}; it can run again when it has ended")
    return answer(result)


@router.post(
    "/jobs/{job_id}/cancel",
    responses={200: {"model": CancelResult, "description": "What it came to"}, **documents.problems(404, 413, 415)},
    openapi_extra=documents.body(CancelOrder, required=False),
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel a job, or all jobs of an array."""
    caller = await authorise(request, Scope.WRITE)
    order = await read_model(request, CancelOrder, optional=True)
    if order.ids or order.filter is not None:
        raise invalid([("ids", "the address names the job; leave ids and filter out, or use /v1/jobs/cancel")])
    order = order.model_copy(update={"ids": [job_id]})
    result = (await context_of(request).store.cancel(caller.sees, order, actor=caller.owner)).results[0]
    if result.outcome is CancelOutcome.NOT_FOUND:
        raise job_not_found()
    return answer(result)


@router.get(
    "/jobs/{job_id}/history",
    responses={200: {"model": History, "description": "What was written down"}, **documents.problems(404)},
)
async def get_history(request: Request, job_id: str) -> Response:
    """Look at everything that was written down about a job: changes of its state, and its attempts."""
    caller = await authorise(request, Scope.READ)
    history = await context_of(request).store.history(caller.sees, job_id)
    if history is None:
        raise job_not_found()
    return answer(history)


S = TypeVar("S", bound=Selection)


def _many(order: S) -> S:
    """The order, which must select something.

    Raises:
        Problem: 422: it names no job and has no filter.
    """
    if not order.ids and order.filter is None:
        raise invalid([("ids", "name at least one job, or give a filter")])
    if order.filter is not None:
        utc = {name: _utc(getattr(order.filter, name)) for name in ("created_after", "created_before")}
        order = order.model_copy(update={"filter": order.filter.model_copy(update=utc)})
    return order


@contextlib.contextmanager
def _selecting() -> Iterator[None]:
    try:
        yield
    except BadCursor:
        raise invalid([("cursor", "is not one that this service gave; start without it")]) from None
    except Repeated as error:
        raise invalid([("items", error.why)]) from None
    except TooMany as error:
        raise invalid([("ids", error.why)]) from None


@contextlib.contextmanager
def _accepting(*, many: bool = False) -> Iterator[None]:
    """What the store refuses, as problems."""
    try:
        yield
    except KeyReused:
        again = ", or some of its jobs have been deleted since" if many else ""
        detail = f"this Idempotency-Key was used for another job{again}; make a new key for each job"
        raise Problem(409, "key_reused", detail) from None
    except BadDependency as error:
        field = f"specs.{error.index}.after.{error.place}" if many else f"after.{error.place}"
        raise Problem(422, "bad_dependency", error.why, errors=[(field, error.why)]) from None


def _version(header: str | None) -> int | None:
    """The version that an If-Match names; None for any.

    Raises:
        Problem: 412: it is none of ours, so no record has it.
    """
    if header is None or header.strip() == "*":
        return None
    match = re.fullmatch(r'\s*(?:W/)?"(\d{1,18})"\s*', header)
    if match is None:
        raise Problem(412, "stale_version", f"If-Match {header!r} is no ETag of a job; use the one that GET gives")
    return int(match[1])


async def _accepted_all(context: Context, caller: Caller, specs: Sequence[tuple[str, JobSpec]]) -> list[JobSpec]:
    """Check that jobs could run here, and return them as they are kept; those that ask for the same are looked at once.

    Raises:
        Problem: 422, as :func:`check_place` has it; the fields bear the place of the spec before their name.
    """
    kept: list[JobSpec] = []
    seen: set[tuple[int, float | None, str, tuple[InputFile, ...]]] = set()
    for place, one in specs:
        try:
            spec = accepted(context, one)
            kept.append(spec)
            walltime = spec.resources.walltime
            asked = (
                spec.resources.cores, walltime.total_seconds() if walltime else None, spec.queue, tuple(spec.inputs)
            )  # fmt: skip
            if asked not in seen:
                seen.add(asked)
                await check_place(context, caller, spec)
        except Problem as problem:
            problem.errors = [(place + field, why) for field, why in problem.errors]
            raise
    return kept


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


async def check_place(context: Context, caller: Caller, spec: JobSpec) -> None:
    """Check that there is a place for the job: its inputs, its cores, its walltime.

    Raises:
        Problem: 422: an input was not sent or is of another size, or no worker has so many cores.
    """
    if spec.inputs:
        await anyio.to_thread.run_sync(_check_inputs, context, caller.owner, spec.inputs)
    walltime, longest = spec.resources.walltime, await context.store.longest(spec.queue)
    if walltime is not None and longest is not None and walltime.total_seconds() > longest:
        detail = f"the queue {spec.queue!r} lets its jobs run for {longest:g} s; the job asks for more"
        raise Problem(422, "walltime_too_long", detail, errors=[("resources.walltime", f"at most {longest:g} s")])
    cores = spec.resources.cores
    if cores > 1 and cores > max((worker.room for worker in await context.workers()), default=cores):
        # a larger worker may have come this moment
        largest = max((worker.room for worker in await context.workers(now=True)), default=cores)
        if cores > largest:
            detail = f"the job asks for {cores} cores; the largest worker has {largest}"
            raise Problem(
                422, "too_many_cores", detail, errors=[("resources.cores", f"at most {largest}, not {cores}")]
            )


def accepted(context: Context, spec: JobSpec) -> JobSpec:
    """The spec as it is kept, once what it would run is known to be possible here.

    Raises:
        Problem: As :func:`check_work` has it; 422 too for options that nothing here understands.
    """
    if problems := check_options(spec, executor=context.settings.executor):
        raise invalid(problems)
    check_work(context, spec)
    return spec if spec.app is None else context.apps.accepted(spec)


def check_work(context: Context, spec: JobSpec) -> None:
    """Check what a job would run: a task or an app that there is, with arguments that fit, or a command where it may.

    Raises:
        Problem: 422 with every wrong argument; 403 where the service runs only what its operator offers.
    """
    only = context.settings.tasks_only
    if spec.task is not None:
        problems = context.tasks.check(spec)
    elif spec.app is not None:
        problems = context.apps.check(spec)
        problems += [
            (f"options.{name}", "cannot be set: this service runs named tasks and apps only")
            for name in ("mpiCmd", "cmdPrefix")
            if only and spec.options.get(name)
        ]
    elif only:
        kind = "command" if spec.function is None else "function"
        names = ", ".join(task.name for task in context.tasks)
        apps = ", ".join(dict.fromkeys(app.name for app in context.apps))
        detail = f"this service runs named tasks only, and no {kind} of yours; name one of its tasks: {names or 'none'}"
        detail += f"; or of its apps: {apps}"
        raise Problem(403, "tasks_only", detail, errors=[("command", "is refused; give a task or an app")])
    else:
        return
    if only and spec.env:
        # variables such as LD_PRELOAD could make a task run other code
        problems = [*problems, ("env", "cannot be set: this service runs named tasks only")]
    if problems:
        raise invalid(problems)


def _refusal(context: Context, spec: JobSpec) -> str | None:
    """Why what a job is to run now cannot be run here."""
    try:
        check_work(context, spec)
    except Problem as problem:
        return problem.detail
    return None


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
