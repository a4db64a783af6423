"""One job: submit it, look at it, its status and its history."""

from __future__ import annotations

import anyio
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import JobSpec, Scope
from hpcjobs_server.api.bodies import read_json
from hpcjobs_server.api.tapis.callers import authorise
from hpcjobs_server.api.tapis.envelope import TapisProblem, envelope
from hpcjobs_server.api.tapis.finding import find, no_such_job, page
from hpcjobs_server.api.tapis.records import history_of, record_of
from hpcjobs_server.api.tapis.submitting import again, check, check_tracking, read_request, request_of, spec_of
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.problems import database_away
from hpcjobs_server.store import Seen

_PATIENCE = 3.0
"""Seconds for which the database may take to answer before it counts as away."""
_READY = {"checkNum": 1, "databaseAccess": True, "tenantsAccess": True}

router = APIRouter(prefix="/v3/jobs", include_in_schema=False)


@router.get("/healthcheck")
async def healthcheck(request: Request) -> Response:
    """Say that the service lives."""
    del request
    return envelope({"checkNum": 1}, "TAPIS_HEALTHY Service healthy: Jobs")


@router.get("/readycheck")
async def readycheck(request: Request) -> Response:
    """Say that the service can be used: its database answers."""
    with anyio.move_on_after(_PATIENCE):
        if await context_of(request).store.ready():
            return envelope(_READY, "TAPIS_READY Service ready: Jobs")
    raise database_away()


# clients of older releases ask here
router.add_api_route("/ready", readycheck, methods=["GET"])


@router.get("/hello")
async def hello(request: Request) -> Response:
    """Greet."""
    del request
    return envelope("Hello from the Tapis Jobs service.", "TAPIS_FOUND hello found: 1 item")


@router.post("/submit")
async def submit(request: Request) -> Response:
    """Submit a job."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    tracking = check_tracking(request.headers.get("x-tapis-tracking-id"))
    asked = read_request(await read_json(request))
    return await _created(context, caller, await spec_of(context, caller, asked, tracking=tracking))


@router.post("/{uuid}/resubmit")
async def resubmit(request: Request, uuid: str) -> Response:
    """Submit the same once more, as a new job."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    seen = await find(context, caller, uuid)
    spec = again(seen.spec, name=seen.info.name, tags=list(seen.info.tags), meta=seen.info.meta)
    await check(context, caller, spec)
    return await _created(context, caller, spec)


@router.get("/{uuid}/resubmit_request")
async def resubmit_request(request: Request, uuid: str) -> Response:
    """Look at what would be asked for."""
    caller = await authorise(request, Scope.READ)
    seen = await find(context_of(request), caller, uuid)
    return envelope(request_of(seen), f"JOBS_RETRIEVED Resubmit request of job {uuid} retrieved.")


@router.get("/{uuid}")
async def get_job(request: Request, uuid: str) -> Response:
    """Look at a job; a hidden one, too."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    seen = await find(context, caller, uuid)
    return envelope(record_of(seen, context.settings.tapis_tenant), f"JOBS_RETRIEVED Job {uuid} retrieved.")


@router.get("/{uuid}/status")
async def get_status(request: Request, uuid: str) -> Response:
    """Look at its status alone."""
    caller = await authorise(request, Scope.READ)
    seen = await find(context_of(request), caller, uuid, hidden=False)
    result = {"status": seen.status, "condition": seen.condition}
    return envelope(result, f"JOBS_STATUS_RETRIEVED Status of job {uuid} retrieved.")


@router.get("/{uuid}/history")
async def get_history(request: Request, uuid: str) -> Response:
    """Look at the changes of its status, oldest first."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    limit, skip = page(request)
    seen = await find(context, caller, uuid, hidden=False)
    history = await context.store.history(caller.sees, seen.info.id)
    if history is None:
        raise no_such_job(uuid)
    items = history_of(seen, history.changes)[skip : skip + limit]
    return envelope(items, f"JOBS_HISTORY_RETRIEVED History of job {uuid} retrieved.")


async def _created(context: Context, caller: Caller, spec: JobSpec) -> Response:
    info, _ = await context.store.submit(caller.owner, spec, actor=caller.owner)
    seen = await _seen(context, caller, info.id)
    record = record_of(seen, context.settings.tapis_tenant)
    return envelope(record, f"JOBS_CREATED Job {record['uuid']} created.")


async def _seen(context: Context, caller: Caller, job_id: str) -> Seen:
    seen = await context.store.seen(caller.sees, job_id)
    if seen is None:  # deleted already
        raise no_such_job(job_id)
    return seen


async def not_here(request: Request) -> Response:
    """Say that this part of Tapis is not here.

    Raises:
        TapisProblem: 501.
    """
    await authorise(request, Scope.READ)
    detail = f"{request.method} {request.url.path}: there is no sharing here, and no subscription."
    raise TapisProblem(501, "JOBS_NOT_SUPPORTED", detail)


for _path, _methods in (
    ("/{uuid}/share", ["GET", "POST"]),
    ("/{uuid}/share/{user}", ["DELETE"]),
    ("/{uuid}/sendEvent", ["POST"]),
    ("/subscribe/{uuid}", ["GET", "POST", "DELETE"]),
):
    router.add_api_route(_path, not_here, methods=_methods)
