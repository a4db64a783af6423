"""Cancel, retry and delete from the page: of one job, of those that were selected, or of all that meet conditions.

Nothing is done before the page has said to how many and which jobs, and was told to go on. What came of it is shown at
an address of its own, so that loading that page again does nothing again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs.actions import CancelOrder, DeleteOrder, RetryOrder
from hpcjobs.lifecycle import MEANT, Action, JobState
from hpcjobs.models import MAX_BULK, JobFilter, Scope, problems_of
from hpcjobs_server.api.pages.asking import Asked, moment
from hpcjobs_server.api.pages.joblist import rows_of
from hpcjobs_server.api.pages.rendering import relative, render
from hpcjobs_server.api.pages.session import Viewer, read_form, viewer_of
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.outcomes import WORDS, Outcome, Result
from hpcjobs_server.problems import Problem, invalid, job_not_found

if TYPE_CHECKING:
    from hpcjobs_server.store import Store

NAMED = 50
"""Jobs that are named before it is asked whether to go on; the others are counted."""
MOST_ALL = 20 * MAX_BULK
"""Most jobs that one order is carried out for."""

_ACTIONS = {action.value: action for action in (Action.CANCEL, Action.RETRY, Action.DELETE)}

router = APIRouter(include_in_schema=False)


@dataclasses.dataclass(frozen=True)
class Order:
    """What a form asks for.

    Attributes:
        action: What is to be done.
        ids: The jobs, where they were selected.
        asked: The conditions, where all that meet them are meant.
        reason: Why, for a cancel.
        abort: Whether jobs that have started are cancelled, too.
        until: When the page asked, which is until when a job must have been submitted to be among all.
        confirmed: Whether the page has asked already.
        home: The job whose page is to be shown next, where it came from there.
    """

    action: Action
    ids: tuple[str, ...]
    asked: Asked | None
    reason: str | None
    abort: bool
    until: dt.datetime | None
    confirmed: bool
    home: str | None

    @classmethod
    def of(cls, form: FormData) -> Order:
        """Read a form.

        Raises:
            Problem: 422: it asks for nothing that can be done.
        """
        texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        action = _ACTIONS.get(texts.get("action", ""))
        if action is None:
            raise invalid([("action", f"must be one of {', '.join(_ACTIONS)}")])
        ids = tuple(dict.fromkeys(str(one) for one in form.getlist("ids")))
        asked = None
        if "all" in texts:
            asked, ids = Asked.of(QueryParams(parse_qsl(texts.get("conditions", "")))), ()
            if asked.problems:
                raise invalid(asked.problems)
        elif not ids:
            raise invalid([("ids", "no job was selected; go back and select some")])
        elif len(ids) > MAX_BULK:
            raise invalid([("ids", f"more than {MAX_BULK} jobs were selected")])
        reason = texts.get("reason", "").strip() or None
        home = texts.get("home") or None
        until = _moment(texts["until"]) if "until" in texts else None
        return cls(action, ids, asked, reason, "spare" not in texts, until, "confirmed" in texts, home)


def _moment(text: str) -> dt.datetime:
    try:
        return moment(text, dt.datetime.now(dt.timezone.utc))
    except ValueError as error:
        raise invalid([("until", str(error))]) from None


@router.post("/act")
async def act(request: Request) -> Response:
    """Say what would be done; or do it, where that was said before."""
    viewer = await viewer_of(request)
    form = await read_form(request, viewer)
    if not viewer.may_act:
        detail = f"the token has the scope {viewer.caller.scope.value}; this needs {Scope.WRITE.value}"
        raise Problem(403, "scope", detail)
    order = Order.of(form)
    if order.asked is not None and not order.asked.may_be_seen(viewer.caller):
        raise invalid([("owner", "you may change your own jobs only")])
    context = context_of(request)
    if not order.confirmed:
        return await _confirm(request, context.store, viewer, order)
    outcome = await _carry_out(context, viewer, order)
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


async def _confirm(request: Request, store: Store, viewer: Viewer, order: Order) -> Response:
    """Ask whether to go on, and say with what."""
    caller, until = viewer.caller, dt.datetime.now(dt.timezone.utc)
    if order.asked is None:
        found = await store.get_many(caller.sees, order.ids)
        if not found:
            raise job_not_found()
        counts, complete = dict(Counter(info.state for info in found)), True
    else:
        owner, wanted = order.asked.whose(caller), _until(order.asked.wanted, until)
        found = (await store.list(owner, wanted, limit=NAMED, cursor=None)).items
        counted = await store.count(owner, wanted)
        chosen = wanted.state or list(JobState)
        counts = {state: count for state, count in counted.states.items() if state in chosen}
        complete = counted.complete
    meant = _meant(counts, order.action)
    return render(
        request,
        "confirm.html",
        viewer=viewer,
        order=order,
        ids=[info.id for info in found if info.state in meant],
        rows=rows_of([info for info in found if info.state in meant][:NAMED]),
        counts=sorted(counts.items()),
        meant=sum(count for state, count in counts.items() if state in meant),
        spared=[(state, count) for state, count in sorted(counts.items()) if state not in meant],
        complete=complete,
        until=until,
    )


async def _carry_out(context: Context, viewer: Viewer, order: Order) -> Outcome:
    """Do it; what came of it.

    Raises:
        Problem: 422: the reason is too long.
    """
    store, caller = context.store, viewer.caller
    if order.asked is None:
        names = {info.id: info.name for info in await store.get_many(caller.sees, order.ids) if info.name}
        sent = await _send(context, caller.sees, order, list(order.ids), actor=caller.owner)
        return Outcome.of(order.action, caller.owner, sent, reason=order.reason, names=names)
    results: list[Result] = []
    names = {}
    owner, cursor = order.asked.whose(caller), None
    wanted = _until(order.asked.wanted, order.until)
    there = (await store.count(owner, wanted)).states
    meant = _meant([state for state in (wanted.state or JobState) if there.get(state)], order.action)
    wanted = wanted.model_copy(update={"state": sorted(meant)})
    # The jobs are looked up before they are acted on: an action changes which of them meet the conditions.
    while meant and len(results) < MOST_ALL:
        page = await store.list(owner, wanted, limit=MAX_BULK, cursor=cursor)
        if page.items:
            names.update({info.id: info.name for info in page.items[:NAMED] if info.name})
            results += await _send(context, owner, order, [info.id for info in page.items], actor=caller.owner)
        cursor = page.next
        if cursor is None:
            break
    partly = cursor is not None
    return Outcome.of(order.action, caller.owner, results, reason=order.reason, names=names, partly=partly)


def _until(wanted: JobFilter, until: dt.datetime | None) -> JobFilter:
    """These conditions, but for jobs that came after the page had said how many there are: nobody has seen them."""
    if until is None or (wanted.created_before is not None and wanted.created_before <= until):
        return wanted
    return wanted.model_copy(update={"created_before": until})


def _meant(states: Iterable[JobState], action: Action) -> frozenset[JobState]:
    """Of jobs in these states, those whose state is meant by an action on many of them.

    Who runs many jobs again means those that did not end well, unless there is none of them.
    """
    able = frozenset(state for state in states if state.allows(action))
    return able & MEANT[action] or able


async def _send(context: Context, owner: str | None, order: Order, ids: list[str], *, actor: str) -> Sequence[Result]:
    store = context.store
    if order.action is Action.RETRY:
        return (await store.retry(owner, RetryOrder(ids=ids), actor=actor)).results
    if order.action is Action.DELETE:
        deleted = (await store.delete(owner, DeleteOrder(ids=ids), actor=actor)).results
        context.janitor.wake()
        return deleted
    try:
        cancel = CancelOrder(ids=ids, reason=order.reason, abort=order.abort)
    except ValidationError as error:
        raise invalid(problems_of(error, CancelOrder.model_fields)) from None
    return (await store.cancel(owner, cancel, actor=actor)).results
