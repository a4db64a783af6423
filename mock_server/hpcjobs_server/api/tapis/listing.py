"""Lists of jobs and searches among them."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS
from hpcjobs_server.api.bodies import read_json
from hpcjobs_server.api.tapis.callers import authorise
from hpcjobs_server.api.tapis.envelope import bad_request, envelope
from hpcjobs_server.api.tapis.finding import Window, conditions
from hpcjobs_server.api.tapis.records import entry_of, record_of
from hpcjobs_server.api.tapis.sentences import BadSentence, read_sentence
from hpcjobs_server.context import context_of
from hpcjobs_server.store import Condition

router = APIRouter(prefix="/v3/jobs", include_in_schema=False)


@router.get("/list")
async def list_jobs(request: Request) -> Response:
    """List jobs, newest first unless orderBy says otherwise."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    window = Window(request)
    found, total = await window.jobs(context, caller, None)
    tenant = context.settings.tapis_tenant
    return envelope(
        [entry_of(seen, tenant) for seen in found],
        f"JOBS_LIST_RETRIVED {len(found)} jobs retrieved.",
        metadata=window.metadata(len(found), total),
    )


@router.get("/search")
async def search_jobs(request: Request) -> Response:
    """Search jobs by ``FIELD.OPERATOR=VALUE``, all of which must hold."""
    return await _search(request, conditions(request.query_params.multi_items()))


@router.post("/search")
async def search_by_sentence(request: Request) -> Response:
    """Search jobs by a condition that is written as in SQL."""
    await authorise(request, Scope.READ)
    try:
        body = json.loads(await read_json(request))
        parts = body["search"]
        text = parts if isinstance(parts, str) else "".join(parts)
    except (ValueError, RecursionError, TypeError, KeyError):
        raise bad_request(
            "NET_REQUEST_PAYLOAD_ERROR", """the body is {"search": ["status = 'FINISHED'", " AND name LIKE 'a%'"]}"""
        ) from None
    try:
        condition = read_sentence(text)
    except BadSentence as error:
        raise bad_request("SEARCH_INVALID_PARAMETER", str(error)) from None
    return await _search(request, condition)


async def _search(request: Request, condition: Condition | None) -> Response:
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    window = Window(request)
    keys = _selected(window.select)
    found, total = await window.jobs(context, caller, condition)
    records = [record_of(seen, context.settings.tapis_tenant) for seen in found]
    items: list[dict[str, Any]] = [{key: record[key] for key in keys} for record in records]
    said = f"JOBS_SEARCH_RESULT_LIST_RETRIEVED {len(items)} jobs retrieved."
    if not items:
        said = "JOBS_SEARCH_NO_JOBS_FOUND no job fits the search."
    return envelope(items, said, metadata=window.metadata(len(items), total))


def _selected(select: str | None) -> tuple[str, ...]:
    """Which keys are told: those of a list, all, or those that are named."""
    names = [name.strip() for name in (select or "summaryAttributes").split(",") if name.strip()]
    keys: list[str] = []
    for name in names:
        if name.lower() == "allattributes":
            keys += JOB_KEYS
        elif name.lower() == "summaryattributes":
            keys += LIST_KEYS
        elif name in JOB_KEYS:
            keys.append(name)
        else:
            allowed = ", ".join(key for key in JOB_KEYS if not key.startswith("_"))
            raise bad_request("SEARCH_INVALID_PARAMETER", f"select names {name!r}; there is allAttributes, {allowed}")
    return tuple(dict.fromkeys(keys))
