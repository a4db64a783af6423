"""The named tasks that the operator offers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope, TaskList
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of

router = APIRouter(prefix="/v1", tags=["tasks"])


@router.get(
    "/tasks",
    responses={200: {"model": TaskList, "description": "By name, with their arguments"}, **documents.problems()},
)
async def list_tasks(request: Request) -> Response:
    """List the tasks that can be submitted by name."""
    await authorise(request, Scope.READ)
    return answer(TaskList(items=[task.info() for task in context_of(request).tasks]))
