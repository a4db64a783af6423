"""The queues and the workers, ``/queues``."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs.again.asked import length
from hpcjobs.models import Scope, problems_of
from hpcjobs.records import QueueOrder
from hpcjobs_server.api.pages.rendering import relative, render
from hpcjobs_server.api.pages.session import Viewer, read_form, viewer_of
from hpcjobs_server.api.queues import check_name
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem, invalid

MOST = 200
"""Queues, and workers, that are listed; the others are counted."""

_LIMITS = ("max_running", "max_walltime")

router = APIRouter(include_in_schema=False)


@dataclasses.dataclass(frozen=True)
class Refused:
    """A form that set nothing.

    Attributes:
        name: The queue's name as it was typed.
        texts: What else was typed, by field.
        problems: What is wrong, each with the field.
        new: Whether it is the form for a queue that is not listed.
    """

    name: str
    texts: dict[str, str]
    problems: list[tuple[str, str]]
    new: bool


@router.get("/queues")
async def show_queues(request: Request) -> Response:
    """The queues, with how many jobs of everybody's each has; for an operator the workers, too."""
    return await _page(request, await viewer_of(request))


async def _page(request: Request, viewer: Viewer, refused: Refused | None = None) -> Response:
    store = context_of(request).store
    queues = await store.queues()
    workers = await store.workers() if viewer.operator else []
    return render(
        request,
        "queues.html",
        status=200 if refused is None else 422,
        viewer=viewer,
        refused=refused,
        length=length,
        queues=queues[:MOST],
        more_queues=max(len(queues) - MOST, 0),
        workers=workers[:MOST],
        more_workers=max(len(workers) - MOST, 0),
        states=sorted({state for queue in queues for state in queue.counts}),
    )


@router.post("/queues")
async def set_queue(request: Request) -> Response:
    """Pause or resume a queue, or set its limits."""
    viewer = await viewer_of(request)
    form = await read_form(request, viewer)
    if not viewer.operator:
        raise Problem(
            403, "scope", f"the token has the scope {viewer.caller.scope.value}; this needs {Scope.ADMIN.value}"
        )
    texts = {name: value.strip() for name, value in form.multi_items() if isinstance(value, str)}
    try:
        name, order = check_name(texts.get("name", "")), _order(texts)
    except Problem as problem:
        return await _page(request, viewer, Refused(texts.get("name", ""), texts, problem.errors, "new" in texts))
    await context_of(request).store.set_queue(name, order, actor=viewer.caller.owner)
    return RedirectResponse(relative(request, "queues"), status_code=303)


def _order(texts: dict[str, str]) -> QueueOrder:
    """What a form asks for.

    Raises:
        Problem: 422: it cannot be done.
    """
    fields: dict[str, Any] = {}
    if "paused" in texts:
        fields["paused"] = texts["paused"] == "yes"
        fields["reason"] = texts.get("reason") or None
    for limit in _LIMITS:
        # left empty, it means no limit where the limit was shown, and nothing where it was not
        if limit in texts and (texts[limit] or "new" not in texts):
            fields[limit] = texts[limit] or None
    try:
        return QueueOrder.model_validate(fields)
    except ValidationError as error:
        raise invalid(problems_of(error, QueueOrder.model_fields)) from None
