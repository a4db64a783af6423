"""Waiting as a generator: what it does with the news it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs.live import Silent
from hpcjobs.models import JobInfo
from hpcjobs.waiting import until_ended
from hpcjobs.watching import News


def info(job_id: str, state: JobState, version: int) -> JobInfo:
    return JobInfo(id=job_id, state=state, native_state=state.value, version=version)


def news(*infos: JobInfo) -> News:
    return News(changed={one.id: one for one in infos})


def test_a_job_that_runs_again_after_its_end_is_waited_for_again() -> None:
    """Every job that is returned has ended."""
    learnt: list[JobInfo] = []
    wait: Any = until_ended({"a": None, "b": None}, timeout=None, display=lambda _: Silent(), learn=learnt.append)
    next(wait)
    wait.send(news(info("a", JobState.FAILED, 1)))
    wait.send(news(info("a", JobState.QUEUED, 2)))
    wait.send(news(info("b", JobState.FINISHED, 1)))
    with pytest.raises(StopIteration) as end:
        wait.send(news(info("a", JobState.FINISHED, 3)))
    assert [one.state for one in end.value.value] == [JobState.FINISHED] * 2
    assert len(learnt) == 4


def test_each_job_is_handed_out_once_as_it_ends() -> None:
    """Those that had ended come first; one that runs again is not waited for a second time."""
    learnt: list[JobInfo] = []
    jobs = {"a": None, "b": info("b", JobState.FAILED, 1), "c": None}
    wait: Any = until_ended(jobs, timeout=None, display=lambda _: Silent(), learn=learnt.append, hand_out="ends")
    assert next(wait).item.id == "b"
    next(wait)
    assert wait.send(news(info("c", JobState.FINISHED, 1), info("a", JobState.RUNNING, 1))).item.id == "c"
    next(wait)
    wait.send(news(info("c", JobState.QUEUED, 2)))
    assert wait.send(news(info("a", JobState.CANCELLED, 2))).item.state is JobState.CANCELLED
    with pytest.raises(StopIteration):
        next(wait)
