"""What the service says of itself."""

from __future__ import annotations

import ipaddress

import anyio
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hpcjobs._version import __version__
from hpcjobs.models import Scope, ServiceInfo
from hpcjobs_server import metrics
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import database_away

_PATIENCE = 3.0
"""Seconds for which the database may take to answer before it counts as away."""

router = APIRouter(prefix="/v1", tags=["service"])
outside = APIRouter(tags=["service"])
"""What has no version."""


@router.get("/info", responses={200: {"model": ServiceInfo, "description": "The service"}, **documents.problems()})
async def info(request: Request) -> Response:
    """What the service offers, and who you are to it."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    workers = await context.workers()
    clusters = any(worker.cluster for worker in workers)  # how large that is, only it knows
    told = ServiceInfo(
        version=__version__,
        owner=caller.owner,
        scope=caller.scope,
        max_input_bytes=context.settings.max_input_bytes,
        max_cores=max((worker.cores for worker in workers), default=None) if not clusters else None,
        workers=len(workers),
        tasks_only=context.settings.tasks_only,
    )
    return answer(told)


@outside.get("/healthz", openapi_extra=documents.OPEN)
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@outside.get("/readyz", openapi_extra=documents.OPEN, responses={503: documents.problems()[503]})
async def readyz(request: Request) -> Response:
    """Whether the database answers and has the right schema."""
    with anyio.move_on_after(_PATIENCE):
        if await context_of(request).store.ready():
            return JSONResponse({"status": "ready"})
    raise database_away()


@outside.get(
    "/metrics",
    responses={200: documents.raw("Prometheus' text format", "text/plain"), **documents.problems()},
)
async def read_metrics(request: Request) -> Response:
    """What the service counts. From this host no token is needed."""
    if not _is_local(request):
        await authorise(request, Scope.READ)
    return Response(await context_of(request).metrics.text(), media_type=metrics.MEDIA_TYPE)


for _path, _endpoint in (("/healthz", healthz), ("/readyz", readyz)):
    outside.add_api_route(_path, _endpoint, methods=["HEAD"], include_in_schema=False)


def _is_local(request: Request) -> bool:
    if request.client is None:  # a Unix socket
        return True
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
