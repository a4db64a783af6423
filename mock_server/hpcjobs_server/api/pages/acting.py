"""Cancel, retry and delete from the page: of one job, of those that were selected, or of all that meet conditions.

Nothing is done before the page has said to how many and which jobs, and was told to go on. What came of it is shown at
an address of its own, so that loading that page again does nothing again.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs.lifecycle import Action, JobState
from hpcjobs.models import JobInfo, Scope
from hpcjobs_server.api.pages.fulfilment import carry_out
from hpcjobs_server.api.pages.joblist import rows_of
from hpcjobs_server.api.pages.orders import Order
from hpcjobs_server.api.pages.rendering import relative, render
from hpcjobs_server.api.pages.session import Viewer, read_form, viewer_of
from hpcjobs_server.context import context_of
from hpcjobs_server.outcomes import WORDS
from hpcjobs_server.problems import Problem, invalid, job_not_found
from hpcjobs_server.store import Counted, Store

NAMED = 50
"""Jobs that are named before it is asked whether to go on; the others are counted."""

router = APIRouter(include_in_schema=False)


@router.post("/act")
async def act(request: Request) -> Response:
    """Say what would be done; or do it, where that was said before."""
    viewer = await viewer_of(request)
    form = await read_form(request, viewer)
    if not viewer.may_act:
        detail = f"the token has the scope {viewer.caller.scope.value}; this needs {Scope.WRITE.value}"
        raise Problem(403, "scope", detail)
    context = context_of(request)
    order = Order.of(form, now=await context.store.now())
    if order.asked is not None and not order.asked.may_be_seen(viewer.caller):
        raise invalid([("owner", "you may change your own jobs only")])
    if not order.confirmed:
        return await _confirm(request, context.store, viewer, order)
    outcome = await carry_out(context, viewer.caller, order)
    if outcome is None:
        again = dataclasses.replace(order, until=await context.store.now())
        return await _confirm(request, context.store, viewer, again, again=True)
    name = context.outcomes.keep(outcome)
    gone = order.action is Action.DELETE and "DELETED" in outcome.counts
    where = f"jobs/{order.home}?outcome={name}" if order.home in order.ids and not gone else f"outcomes/{name}"
    return RedirectResponse(relative(request, where), status_code=303)


@router.get("/outcomes/{name}")
async def show_outcome(request: Request, name: str) -> Response:
    """What came of an action, and how its jobs are now."""
    viewer = await viewer_of(request)
    context = context_of(request)
    outcome = context.outcomes.find(name, viewer.caller.owner)
    if outcome is None:
        detail = "what came of that action is not kept any more; the jobs themselves say how they are"
        raise Problem(404, "outcome_not_found", detail)
    infos = await context.store.get_many(viewer.caller.sees, [result.job_id for result in outcome.results])
    now = {info.id: info for info in infos}
    return render(request, "outcome.html", viewer=viewer, outcome=outcome, words=WORDS, jobs=now)


@dataclasses.dataclass(frozen=True)
class _Meant:
    """The jobs that an order means, and those that it does not.

    Attributes:
        states: The states that are meant.
        counted: How many jobs are in which state, whether it is meant or not.
        first: The first of those that are meant.
        ids: All of those that are meant, where they were selected.
    """

    states: frozenset[JobState]
    counted: Counted
    first: list[JobInfo]
    ids: list[str]

    @property
    def count(self) -> int:
        """How many are meant; as many at least, where that was not counted to the end."""
        return sum(self.counted.states.get(state, 0) for state in self.states)

    @property
    def exact(self) -> bool:
        """Whether no more are meant."""
        return not self.states & self.counted.at_least

    @property
    def spared(self) -> list[tuple[JobState, int]]:
        """The states that are not meant, and how many jobs are in them."""
        return [(state, count) for state, count in sorted(self.counted.states.items()) if state not in self.states]


async def _selected(store: Store, viewer: Viewer, order: Order) -> _Meant:
    found = await store.get_many(viewer.caller.sees, order.ids)
    if not found:
        raise job_not_found()
    counts = Counter(info.state for info in found)
    states = order.meant(counts)
    meant = [info for info in found if info.state in states]
    return _Meant(states, Counted(dict(counts)), meant[:NAMED], [info.id for info in meant])


async def _all(store: Store, viewer: Viewer, order: Order) -> _Meant:
    assert order.asked is not None
    owner, wanted = order.asked.whose(viewer.caller), order.wanted
    counted = (await store.count(owner, wanted)).among(wanted.state)
    # what was not counted to the end may be there though none was counted
    states = order.meant({*counted.states, *counted.at_least})
    if not states:
        return _Meant(states, counted, [], [])
    page = await store.list(owner, wanted.model_copy(update={"state": sorted(states)}), limit=NAMED)
    return _Meant(states, counted, page.items, [])


async def _confirm(request: Request, store: Store, viewer: Viewer, order: Order, *, again: bool = False) -> Response:
    """Ask whether to go on, and say with what; ``again`` where something has changed since that was asked."""
    meant = await (_selected if order.asked is None else _all)(store, viewer, order)
    return render(
        request,
        "confirm.html",
        viewer=viewer,
        order=order,
        meant=meant,
        rows=rows_of(meant.first),
        again=again,
    )
