"""What a form of the job page asks to have done."""

from __future__ import annotations

import datetime as dt

import pytest
from starlette.datastructures import FormData

from hpcjobs.lifecycle import ACTIVE, JobState
from hpcjobs.models import JobInfo
from hpcjobs_server.api.pages.orders import Order
from hpcjobs_server.problems import Problem

ASKED = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)
HOUR = dt.timedelta(hours=1)


def order(**fields: str) -> Order:
    return Order.of(FormData([("until", ASKED.isoformat()), *fields.items()]), now=ASKED + HOUR)


def job(**moments: dt.datetime) -> JobInfo:
    return JobInfo.model_validate({"id": "1", "state": JobState.RUNNING, **moments})


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


def test_a_cancel_of_what_waits_means_also_what_has_started_since() -> None:
    """But nothing that ran already when the page asked about what waits."""
    asked = order(action="cancel", all="1", conditions="state=QUEUED")
    assert asked.sought == {JobState.QUEUED}
    assert asked.waited(job(started_at=ASKED + HOUR))
    assert not asked.waited(job(started_at=ASKED - HOUR))
    assert not asked.waited(job())
    assert order(action="cancel", all="1").sought == ACTIVE


def test_without_a_moment_it_is_this_one() -> None:
    assert Order.of(FormData([("action", "retry"), ("ids", "1")]), now=ASKED).until == ASKED


@pytest.mark.parametrize("text", ["soon", "2026-05-01T12:00", "", "9" * 50])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="is no moment"):
        Order.of(FormData([("action", "retry"), ("ids", "1"), ("until", text)]), now=ASKED)
