"""What a form of the job page asks to have done."""

from __future__ import annotations

import datetime as dt

import pytest
from starlette.datastructures import FormData

from hpcjobs.lifecycle import Action, JobState
from hpcjobs.models import JobInfo
from hpcjobs_server.api.pages.orders import Order
from hpcjobs_server.problems import Problem

ASKED = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)
HOUR = dt.timedelta(hours=1)


def order(**fields: str) -> Order:
    return Order.of(FormData([("until", ASKED.isoformat()), *fields.items()]))


def test_so_long_ago_means_the_same_moment_when_it_is_confirmed() -> None:
    """However long somebody has thought about it, no job slips in that was too young when the page asked."""
    found = order(action="delete", all="1", conditions="created_before=2h&created_after=1d")
    assert found.wanted.created_before == ASKED - 2 * HOUR
    assert found.wanted.created_after == ASKED - 24 * HOUR
    assert order(action="delete", all="1", conditions="created_before=2100-01-01").wanted.created_before == ASKED


def test_states_are_of_those_that_the_page_has_said_but_not_for_a_cancel() -> None:
    fields = {"all": "1", "states": "FAILED CANCELLED nonsense"}
    assert order(action="retry", **fields).states == {JobState.FAILED, JobState.CANCELLED}
    assert order(action="cancel", **fields).states == frozenset()


@pytest.mark.parametrize("action", [Action.RETRY, Action.DELETE])
@pytest.mark.parametrize("moment", ["started_at", "finished_at"])
def test_what_has_started_or_ended_since_is_not_seen(action: Action, moment: str) -> None:
    def unseen(at: dt.datetime, action: str = action.value) -> bool:
        info = JobInfo.model_validate({"id": "1", "state": JobState.FAILED, moment: at})
        return order(action=action, ids="1").unseen(info)

    assert unseen(ASKED + HOUR)
    assert not unseen(ASKED)
    assert not unseen(ASKED + HOUR, "cancel")


@pytest.mark.parametrize("text", ["soon", "2026-05-01T12:00", "", "9" * 50])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="is no moment"):
        Order.of(FormData([("action", "retry"), ("ids", "1"), ("until", text)]))
