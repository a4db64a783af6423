"""What is asked, and what is said where it cannot be."""

from __future__ import annotations

import datetime as dt

import pytest

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import ACTIVE, JobState
from hpcjobs.models import JobFilter, JobInfo, JobSpec, Resources


@pytest.mark.parametrize("more", [{}, {"cores": 2}], ids=["alone", "beside flat ones"])
@pytest.mark.parametrize("resources", ["big", 5, ["cores"], True], ids=repr)
def test_resources_that_are_none_are_a_problem_of_that_field(resources, more):
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.parse({"command": "x", "resources": resources, **more})
    assert [field for field, _ in caught.value.problems] == ["resources"]


@pytest.mark.parametrize("resources", [None, {}, {"cores": 3}, Resources(cores=3)], ids=repr)
def test_resources_beside_the_other_fields_go_before_nested_ones(resources):
    assert JobSpec.parse({"command": "x", "resources": resources, "cores": 2}).resources.cores == 2


@pytest.mark.parametrize("value", [True, 5, 1.5], ids=repr)
@pytest.mark.parametrize("name", ["state", "tag"])
def test_a_condition_that_is_none_is_a_problem_of_that_field(name, value):
    with pytest.raises(InvalidSpec) as caught:
        JobFilter.parse({name: value})
    assert {field.partition(".")[0] for field, _ in caught.value.problems} == {name}


@pytest.mark.parametrize("asked", ["active", ["active"], ("active", "active")])
def test_a_group_of_states_may_be_asked_for_alone_or_in_a_list(asked: object) -> None:
    assert set(JobFilter(state=asked).state) == ACTIVE


def test_moments_without_a_zone_are_local_ones_wherever_jobs_are_looked_for() -> None:
    """A filter that is applied here means the same jobs as one that a service applies."""
    noon = dt.datetime(2026, 1, 2, 12)  # noqa: DTZ001 - that is the point
    job = JobInfo(id="1", state="FINISHED", created_at=noon.astimezone(dt.timezone.utc))
    minute = dt.timedelta(minutes=1)
    assert JobFilter(created_after=noon - minute, created_before=noon + minute).matches(job)
    assert JobFilter(created_after=noon).matches(job), "from then on"
    assert not JobFilter(created_before=noon).matches(job)
    assert not JobFilter(created_after=noon).matches(JobInfo(id="2", state="FINISHED"))


@pytest.mark.parametrize(
    ("name", "pattern", "meant"),
    [
        ("fit-3", "fit-*", True),
        ("fit-3", "fit", False),
        ("a.b", "a?b", False),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("two\nlines", "two*", True),
        (None, "*", True),
    ],
)
def test_only_a_star_stands_for_anything_in_a_name(name: str | None, pattern: str, meant: bool) -> None:
    assert JobFilter(name=pattern).matches(JobInfo(id="1", state="QUEUED", name=name)) is meant


@pytest.mark.parametrize(
    ("state", "attempt", "started", "waited", "ran"),
    [
        (JobState.QUEUED, 0, False, 9, None),
        (JobState.RUNNING, 1, True, 2, 7),
        (JobState.QUEUED, 1, True, None, None),  # it waits to run again: since when is not known here
        (JobState.RUNNING, 2, True, None, 7),
        (JobState.QUEUED, 1, False, 9, None),  # at a cluster, which has not started it yet
    ],
)
def test_times_are_of_the_first_wait_and_of_the_last_attempt(
    state: JobState, attempt: int, started: bool, waited: int | None, ran: int | None
) -> None:
    """What has run before has not waited all the time since it was submitted, nor does it run while it waits again."""
    begin = dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc)
    at = begin + dt.timedelta(hours=2) if started else None
    info = JobInfo.model_validate(
        {"id": "1", "state": state, "attempt": attempt, "created_at": begin, "started_at": at}
    )
    now = begin + dt.timedelta(hours=9)
    assert info.queue_time(now) == (None if waited is None else dt.timedelta(hours=waited))
    assert info.run_time(now) == (None if ran is None else dt.timedelta(hours=ran))
