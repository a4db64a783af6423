"""The address of the list on the job page: what it means, and how links change it."""

from __future__ import annotations

import datetime as dt
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from hpcjobs.lifecycle import ACTIVE, JobState
from hpcjobs.models import Scope
from hpcjobs_server.api.pages.asking import LARGEST, PAGE, Asked, moment
from hpcjobs_server.auth import Caller

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: text.strip())


def asked(query: str = "") -> Asked:
    return Asked.of(QueryParams(query), now=NOW)


def caller(owner: str = "ada", scope: Scope = Scope.WRITE) -> Caller:
    return Caller(owner, scope, "1", None)


def test_nothing_asked_means_all_jobs_newest_first() -> None:
    found = asked()
    assert found.wanted.empty
    assert (found.sort, found.limit, found.problems) == ("-created", PAGE, ())
    assert not found.filtered


def test_what_a_form_leaves_empty_is_not_asked() -> None:
    """A form sends all its fields: empty ones are no condition and make no address longer."""
    found = asked("name=&tag=+&state=&queue=night&created_after=")
    assert found.wanted.model_dump(exclude_defaults=True) == {"queue": "night"}
    assert found.conditions == "queue=night"


def test_states_are_read_in_any_case_and_groups_stand_for_theirs() -> None:
    assert asked("state=failed&state=RUNNING").wanted.state == [JobState.FAILED, JobState.RUNNING]
    assert set(asked("state=active").wanted.state) == ACTIVE
    assert asked("state=failed&state=Active").texts("state") == ["FAILED", "active"], "as the links have them"


def test_one_state_takes_the_place_of_a_group_and_is_taken_away_again() -> None:
    """A list of all that are active, and of those that run, would be all that are active still."""
    found = asked("state=active&tag=x")
    assert found.toggled("state", "RUNNING") == "?tag=x&state=RUNNING"
    assert asked("state=running&tag=x").toggled("state", "RUNNING") == "?tag=x"


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("state=DONE", "state", "FINISHED"),
        ("created_after=soon", "created_after", "2h"),
        ("limit=0", "limit", "1"),
        (f"limit={LARGEST + 1}", "limit", str(LARGEST)),
        ("limit=x", "limit", "integer"),
        ("name=a&name=b", "name", "more than once"),
        ("cursor=" + "x" * 3000, "cursor", "2000"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_is_allowed(query: str, field: str, said: str) -> None:
    """And no condition is left out silently: with a problem nothing is meant."""
    found = asked(query)
    assert [name for name, _ in found.problems] == [field]
    assert said in found.problems[0][1]
    assert found.text(field)  # it is shown in its field, to be corrected


@given(st.lists(st.tuples(st.sampled_from(["name", "tag", "queue", "owner", "array", "other"]), words), max_size=6))
def test_a_link_says_what_was_asked(fields: list[tuple[str, str]]) -> None:
    """Whatever a job is called or tagged, an address made of it means the same again."""
    found = Asked.of(QueryParams(fields), now=NOW)
    again = Asked.of(QueryParams(found.at()[1:]), now=NOW)
    assert again.fields == found.fields
    assert again.wanted == found.wanted


def test_a_link_to_another_page_keeps_the_conditions_and_one_to_other_conditions_starts_anew() -> None:
    found = asked("state=FAILED&tag=a&sort=name&cursor=c1")
    assert parse_qsl(found.at(before="b")[1:]) == [
        ("state", "FAILED"), ("tag", "a"), ("sort", "name"), ("before", "b"),
    ]  # fmt: skip
    assert "cursor" not in found.query(sort="-name")
    assert parse_qsl(found.toggled("state", "RUNNING")[1:])[-2:] == [("state", "FAILED"), ("state", "RUNNING")]
    assert "state" not in found.toggled("state", "FAILED")
    assert parse_qsl(found.conditions) == [("state", "FAILED"), ("tag", "a")]


def test_an_owner_sees_their_own_jobs_and_an_operator_those_of_one_or_of_all() -> None:
    other = asked("owner=bob")
    assert not other.may_be_seen(caller())
    assert asked("owner=ada").may_be_seen(caller())
    assert asked().whose(caller()) == "ada"
    operator = caller("root", Scope.ADMIN)
    assert other.may_be_seen(operator)
    assert (other.whose(operator), asked().whose(operator)) == ("bob", None)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", NOW - dt.timedelta(hours=2)),
        ("2026-05-01", dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc)),
        ("2026-05-01T10:00", dt.datetime(2026, 5, 1, 10, tzinfo=dt.timezone.utc)),
        ("2026-05-01 10:00:00+02:00", dt.datetime(2026, 5, 1, 8, tzinfo=dt.timezone.utc)),
    ],
)
def test_a_time_is_so_long_ago_or_a_date_in_utc_unless_it_says(text: str, meant: dt.datetime) -> None:
    assert moment(text, NOW) == meant
