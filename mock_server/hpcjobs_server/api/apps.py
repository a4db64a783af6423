"""The apps that the operator has registered."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer
from hpcjobs_server.apps import AppList
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of

router = APIRouter(prefix="/v1", tags=["apps"])


@router.get(
    "/apps",
    responses={200: {"model": AppList, "description": "By name, older versions first"}, **documents.problems()},
)
async def list_apps(request: Request) -> Response:
    """List the apps that can be submitted by name, with what they are called with."""
    await authorise(request, Scope.READ)
    # how they are run, and with which environment, is the operator's business
    hidden = {"items": {"__all__": {"command", "env"}}}
    return answer(AppList(items=list(context_of(request).apps)), exclude=hidden)
