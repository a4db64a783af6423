"""Carries out an order, in batches where all that meet conditions are meant."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from hpcjobs.actions import CancelOrder, DeleteOrder, RetryOrder
from hpcjobs.lifecycle import MEANT, Action, JobState
from hpcjobs.models import MAX_BULK, problems_of
from hpcjobs_server.api.pages.orders import Order
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import Context
from hpcjobs_server.outcomes import MOST_RESULTS, Outcome, Result
from hpcjobs_server.problems import DATABASE_AWAY, invalid, problem_of

MOST_ALL = 20 * MAX_BULK
"""Most jobs that one order is carried out for."""


async def carry_out(context: Context, caller: Caller, order: Order) -> Outcome:
    """Do what was ordered; what came of it.

    Raises:
        Problem: 422: the reason is too long.
    """
    if order.asked is None:
        names = {info.id: info.name for info in await context.store.get_many(caller.sees, order.ids) if info.name}
        results = list(await _send(context, caller.sees, order, list(order.ids), actor=caller.owner))
        return Outcome.of(order.action, caller.owner, results, reason=order.reason, names=names)
    return await _all(context, caller, order)


async def _all(context: Context, caller: Caller, order: Order) -> Outcome:
    assert order.asked is not None
    results: list[Result] = []
    names: dict[str, str] = {}
    owner, cursor, stopped = order.asked.whose(caller), None, ""
    # Those that the page has said, whatever there is by now: nothing else was agreed to.
    states = order.states or MEANT[order.action].intersection(order.asked.wanted.state or JobState)
    wanted = order.wanted.model_copy(update={"state": sorted(states)})
    # The jobs are looked up before they are acted on: an action changes which of them meet the conditions.
    while states:
        try:
            page = await context.store.list(owner, wanted, limit=MAX_BULK, cursor=cursor)
            ids = [info.id for info in page.items if not order.unseen(info)]
            if ids:
                results += await _send(context, owner, order, ids, actor=caller.owner)
        except DATABASE_AWAY as error:
            if not results:
                raise
            stopped = f"{problem_of(error).detail}"
            break
        if len(names) < MOST_RESULTS:
            names.update((info.id, info.name) for info in page.items[:MOST_RESULTS] if info.name)
        cursor = page.next
        if cursor is None:
            break
        if len(results) >= MOST_ALL:
            stopped = f"one order is for {MOST_ALL:,} jobs at most"
            break
    return Outcome.of(order.action, caller.owner, results, reason=order.reason, names=names, stopped=stopped)


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
