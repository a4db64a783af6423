"""What can be asked of a job that exists: to stop, to be hidden, to bear other tags and notes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.actions import CancelOrder, JobChanges, JobUpdate, UpdateOrder, UpdateOutcome
from hpcjobs.models import CancelOutcome, Scope, problems_of
from hpcjobs_server.api.bodies import read_json
from hpcjobs_server.api.tapis.callers import authorise
from hpcjobs_server.api.tapis.envelope import TapisProblem, bad_request, envelope
from hpcjobs_server.api.tapis.finding import find, no_such_job
from hpcjobs_server.context import context_of
from hpcjobs_server.faults import FaultKind

router = APIRouter(prefix="/v3/jobs", include_in_schema=False)

LARGEST_NOTES = 128 * 1024
"""Bytes of tags and notes that a change may have."""


@router.post("/{uuid}/cancel")
async def cancel(request: Request, uuid: str) -> Response:
    """Ask that a job stop: that this is taken says nothing of the job."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    seen = await find(context, caller, uuid)
    order = CancelOrder(ids=[seen.info.id])
    send = partial(context.store.cancel, caller.sees, order, actor=caller.owner)
    if not seen.info.terminal:
        if context.faults.take(FaultKind.CANCEL_LOST, request.url.path):
            return accepted(uuid)
        if late := context.faults.take(FaultKind.CANCEL_LATE, request.url.path):
            await context.faults.late(late.seconds, send)
            return accepted(uuid)
    result = (await send()).results[0]
    if result.outcome is CancelOutcome.NOT_FOUND:
        raise no_such_job(uuid)
    if result.outcome is CancelOutcome.ALREADY_TERMINAL:
        detail = f"Job {uuid} is in a Terminal state (CANCELLED, FINISHED or FAILED) and can't be canceled."
        raise TapisProblem(409, "JOBS_JOB_IN_TERMINAL_STATE", detail, result={"name": uuid})
    return accepted(uuid)


def accepted(uuid: str) -> Response:
    """That a request to stop is taken."""
    taken = f"Request to cancel job {uuid} has been accepted."
    return envelope(
        {"message": f"JOBS_JOB_CANCEL_ACCEPTED {taken} "},
        f"JOBS_JOB_CANCEL_ACCEPTED_DETAILS {taken} It is carried out later, and not at all where the job ends before. "
        "Look at its status; where that does not change, ask again.",
    )


@router.post("/{uuid}/hide")
async def hide(request: Request, uuid: str) -> Response:
    """Have lists leave a job out that has ended."""
    return await _hide(request, uuid, hidden=True)


@router.post("/{uuid}/unhide")
async def unhide(request: Request, uuid: str) -> Response:
    """Show it again."""
    return await _hide(request, uuid, hidden=False)


async def _hide(request: Request, uuid: str, *, hidden: bool) -> Response:
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    seen = await find(context, caller, uuid)
    if not seen.info.terminal:
        detail = f"Job {uuid} is {seen.status}; only a job that has ended can be hidden or shown again."
        raise TapisProblem(409, "JOBS_JOB_NOT_IN_TERMINAL_STATE", detail, result={"name": uuid})
    await context.store.hide(seen.info.id, hidden=hidden)
    code, word = ("JOBS_JOB_HIDDEN", "hidden") if hidden else ("JOBS_JOB_UNHIDDEN", "shown")
    said = f"{code} Job {uuid} is {word}."
    return envelope({"message": said}, said)


@router.patch("/{uuid}/annotations")
async def add_annotations(request: Request, uuid: str) -> Response:
    """Add tags to those that a job has, and notes to its notes; one of the same name is written over."""
    return await _annotate(request, uuid, add=True)


@router.put("/{uuid}/annotations")
async def put_annotations(request: Request, uuid: str) -> Response:
    """Put tags in the place of those that a job has, or notes in the place of its notes."""
    return await _annotate(request, uuid, add=False)


async def _annotate(request: Request, uuid: str, *, add: bool) -> Response:
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    given = _annotations(await read_json(request))
    for _ in range(_TRIES):
        seen = await find(context, caller, uuid)
        changes: dict[str, Any] = {}
        if given.get("tags") is not None:
            changes["tags"] = list(dict.fromkeys([*(seen.info.tags if add else []), *given["tags"]]))
        if given.get("notes") is not None:
            changes["meta"] = {**(seen.info.meta if add else {}), **given["notes"]}
        try:
            made = JobChanges.model_validate(changes)
        except ValidationError as error:
            told = "; ".join(f"{field}: {why}" for field, why in problems_of(error, JobChanges.model_fields)[:3])
            raise bad_request("NET_REQUEST_PAYLOAD_ERROR", told) from None
        # what others change meanwhile is not written over
        item = JobUpdate(id=seen.info.id, changes=made, version=seen.info.version)
        result = (await context.store.update(caller.sees, UpdateOrder(items=[item]), actor=caller.owner)).results[0]
        if result.outcome is UpdateOutcome.NOT_FOUND:
            raise no_such_job(uuid)
        if result.outcome is UpdateOutcome.STALE:
            continue
        if result.outcome in {UpdateOutcome.REFUSED, UpdateOutcome.INVALID}:
            raise TapisProblem(409, "JOBS_JOB_ANNOTATION_ERROR", result.detail or str(result), result={"name": uuid})
        told_of = {
            "uuid": uuid,
            "tags": changes.get("tags", list(seen.info.tags)),
            "notes": changes.get("meta", seen.info.meta),
        }
        return envelope(told_of, f"JOBS_JOB_ANNOTATIONS_UPDATED Annotations of job {uuid} updated.")
    raise TapisProblem(409, "JOBS_JOB_ANNOTATION_ERROR", f"job {uuid} changes all the time; try again")


_TRIES = 20


def _annotations(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not given or set(given) - {"tags", "notes"}:
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", 'the body is {"tags": [...], "notes": {...}}, or one of the two')
    if not isinstance(given.get("tags") or [], list) or not isinstance(given.get("notes") or {}, dict):
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", "tags is a list of texts, notes an object")
    if len(body) > LARGEST_NOTES:
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", f"tags and notes have {LARGEST_NOTES} bytes at most")
    return given
