"""What is made of what AWS Batch says of a job."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hpcjobs.lifecycle import BATCH_WORDS, JobState
from hpcjobs.services.batch_records import array_of, info_of, log_of, sent_reason

ID = "5f0c1a52-0d4e-4a8e-9d3a-0b6f3f0d6a11"


def job(status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A job as AWS tells of it."""
    told: dict[str, Any] = {"jobId": ID, "jobName": "nightly", "status": status, "createdAt": 1_700_000_000_123}
    if status in {"RUNNING", "SUCCEEDED", "FAILED"}:
        told["startedAt"] = 1_700_000_001_000
    if status in {"SUCCEEDED", "FAILED"}:
        told["stoppedAt"] = 1_700_000_002_000
    return told | more


def ended(status: str = "FAILED", code: int | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    container = {name: value for name, value in (("exitCode", code), ("reason", reason)) if value is not None}
    attempt = {"startedAt": 1, "stoppedAt": 2, "container": container}
    return job(status, attempts=[attempt], container=container, **more)


@pytest.mark.parametrize("word", BATCH_WORDS)
def test_each_word_is_a_state_and_is_kept(word: str) -> None:
    info = info_of(job(word))
    assert (info.state, info.native_state) == (BATCH_WORDS[word], word)


def test_a_word_that_is_not_known_ends_nothing() -> None:
    with pytest.warns(UserWarning, match="'HIBERNATED'"):
        info = info_of(job("HIBERNATED"))
    assert (info.state, info.native_state, info.terminal) == (JobState.UNKNOWN, "HIBERNATED", False)


def test_a_job_without_anything_else_is_read() -> None:
    info = info_of({"jobId": "1", "jobName": "a", "status": "RUNNABLE"})
    assert (info.created_at, info.started_at, info.exit_code, info.attempt) == (None, None, None, 0)


def test_a_start_at_zero_is_none() -> None:
    assert info_of(job("RUNNABLE", startedAt=0)).started_at is None


FLAGS = [
    dict(zip(("isCancelled", "isTerminated"), flags, strict=True))
    for flags in itertools.product([True, False], repeat=2)
]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("reason", ["hpcjobs: why", "Essential container in task exited", None])
@pytest.mark.parametrize("code", [None, 0, 1, 137])
def test_cancelled_or_failed(flags: dict[str, bool], reason: str | None, code: int | None) -> None:
    """By the flags and the reason; one that was cancelled (not terminated) and has run has ended by itself."""
    told = ended("FAILED", code, statusReason=reason, **flags)
    ours = reason == "hpcjobs: why"
    cancelled = ours or flags["isTerminated"] or (flags["isCancelled"] and code is None)
    info = info_of(told)
    assert info.state is (JobState.CANCELLED if cancelled else JobState.FAILED)
    if ours:
        assert info.reason == info.cancel_reason == "why"
    assert not info.cancel_requested
    assert info_of(ended("SUCCEEDED", 0, statusReason=reason, **flags)).state is JobState.FINISHED


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("word", ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"])
def test_a_flag_is_a_request_and_no_end(word: str, flags: dict[str, bool]) -> None:
    info = info_of(job(word, **flags))
    assert info.state is BATCH_WORDS[word]
    starts = word in {"STARTING", "RUNNING"}
    assert info.cancel_requested == (flags["isTerminated"] or (flags["isCancelled"] and not starts))


def test_the_rule_of_a_queue_is_a_cancel() -> None:
    info = info_of(job("FAILED", statusReason="Canceled by JobStateTimeLimit action due to reason: CAPACITY"))
    assert (info.state, info.reason) == (
        JobState.CANCELLED, "Canceled by JobStateTimeLimit action due to reason: CAPACITY"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "reason", "code"),
    [
        (ended(code=3, statusReason="Essential container in task exited"), "exit code 3", 3),
        (
            ended(code=137, reason="OutOfMemoryError: Container killed due to memory usage", statusReason="Essential container in task exited"),
            "out of memory (OutOfMemoryError: Container killed due to memory usage)",
            137,
        ),
        (
            ended(statusReason="Job attempt duration exceeded timeout"),
            "its walltime was over (Job attempt duration exceeded timeout)",
            None,
        ),
        (
            ended(statusReason="Host EC2 (instance i-0ab) terminated."),
            "its computer was taken away, as AWS does with spot instances (Host EC2 (instance i-0ab) terminated.)",
            None,
        ),
        (job("FAILED", statusReason="Dependent Job failed"), "a job that it depends on did not end well (Dependent Job failed)", None),
        (
            ended(reason="CannotPullContainerError: no such image", statusReason="Task failed to start"),
            "the image of its container cannot be had (CannotPullContainerError: no such image)",
            None,
        ),
        (ended(code=1, reason="DNS is odd", statusReason="Essential container in task exited"), "exit code 1: DNS is odd", 1),
        (job("FAILED", statusReason="Something new"), "Something new", None),
        (job("FAILED"), None, None),
    ],
)  # fmt: skip
def test_why_a_job_failed_is_told_in_words(told: dict[str, Any], reason: str | None, code: int | None) -> None:
    info = info_of(told)
    assert (info.state, info.reason, info.exit_code) == (JobState.FAILED, reason, code)


def test_why_a_job_waits_is_shown_as_it_is() -> None:
    why = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - too large"
    info = info_of(job("RUNNABLE", statusReason=why))
    assert (info.state, info.reason, info.cancel_requested) == (JobState.QUEUED, why, False)


@pytest.mark.parametrize("reason", ["wrong damping", "cancelled by mistake", "ä" * 1015, "x" * 1024])
def test_a_reason_comes_back(reason: str) -> None:
    sent = sent_reason(reason)
    assert len(sent) <= 1024
    info = info_of(job("FAILED", statusReason=sent, isTerminated=True))
    assert info.reason == info.cancel_reason == reason


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_no_reason_is_none_and_says_who(reason: str | None) -> None:
    info = info_of(job("FAILED", statusReason=sent_reason(reason)))
    assert (info.state, info.cancel_reason) == (JobState.CANCELLED, None)
    assert info.reason is not None
    assert info.reason.startswith("cancelled")


def test_attempts_are_counted_also_while_one_runs() -> None:
    past = [{"startedAt": 1, "stoppedAt": 2, "container": {"exitCode": 75, "logStreamName": "a/1"}}]
    now = {"container": {"logStreamName": "a/2"}}
    told = [info_of(job(word, attempts=past, **now)) for word in ("RUNNABLE", "STARTING", "RUNNING")]
    assert [info.attempt for info in told] == [1, 1, 2]
    assert [info.exit_code for info in told] == [None] * 3
    assert info_of(job("FAILED", attempts=past * 2)).attempt == 2
    assert log_of(job("RUNNABLE", attempts=past, **now)) == (None, "a/1")
    assert log_of(job("RUNNING", attempts=past, **now)) == (None, "a/2")
    assert log_of(job("RUNNABLE")) == (None, None)
    several = {"taskProperties": [{"containers": [{}, {"logStreamName": "a/main"}]}]}
    assert log_of(job("RUNNING", ecsProperties=several)) == (None, "a/main")


def test_the_exit_code_is_found_in_every_kind_of_job() -> None:
    containers = [{"exitCode": 0}, {"exitCode": 4}]
    assert info_of(job("FAILED", ecsProperties={"taskProperties": [{"containers": containers}]})).exit_code == 4
    assert info_of(job("FAILED", eksAttempts=[{"containers": [{"exitCode": 5}]}])).exit_code == 5
    assert (
        info_of(job("SUCCEEDED", ecsProperties={"taskProperties": [{"containers": [{"exitCode": 0}]}]})).exit_code == 0
    )


# Arrays


def array(status: str = "PENDING", **counts: int) -> dict[str, Any]:
    return job(
        status, arrayProperties={"size": 4, "statusSummary": {word: counts.get(word, 0) for word in BATCH_WORDS}}
    )


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"PENDING": 4}, JobState.PENDING),
        ({"RUNNABLE": 3, "PENDING": 1}, JobState.QUEUED),
        ({"STARTING": 1, "RUNNABLE": 3}, JobState.STAGING),
        ({"RUNNING": 1, "RUNNABLE": 3}, JobState.RUNNING),
        ({"SUCCEEDED": 1, "RUNNABLE": 3}, JobState.RUNNING),
    ],
)
def test_an_array_is_where_its_jobs_are(counts: dict[str, int], state: JobState) -> None:
    """AWS says PENDING for as long as they run."""
    info = info_of(array(**counts))
    assert (info.state, info.native_state) == (state, "PENDING")


def test_an_array_tells_how_many_failed() -> None:
    told = array("FAILED", SUCCEEDED=3, FAILED=1) | {"statusReason": "Array Child Job failed"}
    assert info_of(told).reason == "1 of its 4 jobs did not end well"
    shown = array_of(told)
    assert shown.counts == {JobState.FINISHED: 3, JobState.FAILED: 1}
    assert shown.progress is not None
    assert shown.progress.fraction == 1.0


def test_a_job_of_an_array_knows_its_place() -> None:
    info = info_of(job(jobId=f"{ID}:3", arrayProperties={"index": 3, "statusSummary": {}}))
    assert (info.array_id, info.array_index, info.name) == (ID, 3, "nightly[3]")
