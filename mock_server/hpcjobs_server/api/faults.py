"""Faults that the Tapis API makes on purpose, for tests of clients."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_model
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.faults import FaultList, Faults
from hpcjobs_server.problems import Problem

router = APIRouter(prefix="/v1", tags=["faults"])

_LIST: dict[int | str, dict[str, Any]] = {200: {"model": FaultList, "description": "What is still to come"}}


@router.get("/faults", responses={**_LIST, **documents.problems(404)})
async def list_faults(request: Request) -> Response:
    """List the faults that are still to come; needs the scope admin."""
    return answer(FaultList(items=(await _faults(request)).items))


@router.put(
    "/faults",
    responses={**_LIST, **documents.problems(404, 413, 415)},
    openapi_extra=documents.body(FaultList),
)
async def put_faults(request: Request) -> Response:
    """Have the Tapis API fail, in the place of all faults before; needs the scope admin."""
    faults = await _faults(request)
    faults.put((await read_model(request, FaultList)).items)
    return answer(FaultList(items=faults.items))


@router.delete("/faults", status_code=204, responses={204: {"description": "None are left"}, **documents.problems(404)})
async def delete_faults(request: Request) -> Response:
    """Have nothing fail any more; needs the scope admin."""
    (await _faults(request)).put([])
    return Response(status_code=204)


async def _faults(request: Request) -> Faults:
    await authorise(request, Scope.ADMIN)
    context = context_of(request)
    if not context.settings.faults:
        raise Problem(404, "faults_off", "this service makes no faults; start it with --faults")
    return context.faults
