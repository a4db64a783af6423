"""Queues: how they are set, pause and resume."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs.records import QueueInfo, QueueList, QueueOrder
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_model
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

router = APIRouter(prefix="/v1", tags=["queues"])


@router.get(
    "/queues",
    responses={200: {"model": QueueList, "description": "Those that are set or have jobs"}, **documents.problems()},
)
async def list_queues(request: Request) -> Response:
    """List the queues, and how many jobs each has that have not ended."""
    await authorise(request, Scope.READ)
    return answer(QueueList(items=await context_of(request).store.queues()))


@router.patch(
    "/queues/{name}",
    responses={200: {"model": QueueInfo, "description": "The queue as it is now"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(QueueOrder),
)
async def set_queue(request: Request, name: str) -> Response:
    """Set a queue: pause or resume it, limit its jobs. Needs the scope admin."""
    caller = await authorise(request, Scope.ADMIN)
    check_name(name)
    order = await read_model(request, QueueOrder)
    return answer(await context_of(request).store.set_queue(name, order, actor=caller.owner))


def check_name(name: str) -> str:
    """The name, which a queue can have.

    Raises:
        Problem: 422: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise invalid([("name", f"{name!r} cannot be a queue: letters, digits, '.', '_' and '-', 100 at most")])
    return name
