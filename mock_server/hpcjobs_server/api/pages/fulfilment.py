"""Carries out an order, in batches where all that meet conditions are meant."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from hpcjobs.actions import CancelOrder, DeleteOrder, RetryOrder
from hpcjobs.lifecycle import MEANT, Action
from hpcjobs.models import MAX_BULK, problems_of
from hpcjobs_server.api.pages.orders import Order
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import Context
from hpcjobs_server.outcomes import MOST_RESULTS, Outcome, Result
from hpcjobs_server.problems import DATABASE_AWAY, invalid, problem_of

MOST_ALL = 20 * MAX_BULK
"""Most jobs that one order is carried out for."""


async def carry_out(context: Context, caller: Caller, order: Order) -> Outcome | None:
    """Do what was ordered.

    Returns:
        What came of it; None where none of the jobs that were selected is as it was when the page asked, so that
        nothing was done.

    Raises:
        Problem: 422: the reason is too long.
    """
    return await (_selected if order.asked is None else _all)(context, caller, order)


async def _selected(context: Context, caller: Caller, order: Order) -> Outcome | None:
    infos = await context.store.get_many(caller.sees, order.ids)
    ids = await _as_they_were(context, caller.sees, order, list(order.ids))
    if not ids:
        return None
    results = list(await _send(context, caller.sees, order, ids, actor=caller.owner))
    names = {info.id: info.name for info in infos if info.name}
    left = _left(len(order.ids) - len(ids))
    return Outcome.of(order.action, caller.owner, results, reason=order.reason, names=names, stopped=left)


async def _all(context: Context, caller: Caller, order: Order) -> Outcome:
    assert order.asked is not None
    results: list[Result] = []
    names: dict[str, str] = {}
    owner, cursor, stopped, changed = order.asked.whose(caller), None, "", 0
    states = order.sought
    looked = states
    if order.action is Action.CANCEL and any(state.not_started for state in states):
        looked |= MEANT[Action.CANCEL]  # what waited when the page asked may run now
    wanted = order.wanted.model_copy(update={"state": sorted(looked)})
    # The jobs are looked up before they are acted on: an action changes which of them meet the conditions.
    while looked:
        try:
            page = await context.store.list(owner, wanted, limit=MAX_BULK, cursor=cursor)
            meant = [info.id for info in page.items if info.state in states or order.waited(info)]
            ids = await _as_they_were(context, owner, order, meant)
            if ids:
                results += await _send(context, owner, order, ids, actor=caller.owner)
        except DATABASE_AWAY as error:
            if not results:
                raise
            stopped = problem_of(error).detail
            break
        changed += len(meant) - len(ids)
        if len(names) < MOST_RESULTS:
            names.update((info.id, info.name) for info in page.items[:MOST_RESULTS] if info.name)
        cursor = page.next
        if cursor is None:
            break
        if len(results) >= MOST_ALL:
            stopped = f"one order is for {MOST_ALL:,} jobs at most"
            break
    stopped = stopped or _left(changed)
    return Outcome.of(order.action, caller.owner, results, reason=order.reason, names=names, stopped=stopped)


async def _as_they_were(context: Context, owner: str | None, order: Order, ids: list[str]) -> list[str]:
    """Those of the jobs that are meant though the page has shown them a while ago.

    A cancel means a job however far it is by now. But nobody deletes, or runs once more, what has started or ended, or
    waits to run again, since the page said how it was: not having seen that.
    """
    if order.action is Action.CANCEL:
        return ids
    changed = await context.store.changed_since(owner, ids, order.until)
    return [job_id for job_id in ids if job_id not in changed]


def _left(changed: int) -> str:
    """Why these jobs were left as they are."""
    if not changed:
        return ""
    return f"{changed:,} of them {'has' if changed == 1 else 'have'} changed since the page asked"


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
