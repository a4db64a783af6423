"""Reads what AWS Batch says of a job: its detail (``DescribeJobs``) or the line in a list (``ListJobs``).

Batch has no word for a cancelled job. What it has are two flags, which say that a request was accepted and not that it
was done, and the reason, which is kept word for word:

=========================================  ======================================
status, flags and reason                   is told as
=========================================  ======================================
SUCCEEDED, whatever the flags              FINISHED: it ended before the request
FAILED with our reason, or with a flag     CANCELLED
FAILED otherwise                           FAILED; the reason says how, in words
any other, with a flag that can still act  its state, and that it was asked to stop
=========================================  ======================================
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.arrays import ArrayInfo
from hpcjobs.hosts import local_user
from hpcjobs.lifecycle import BATCH_WORDS, JobState, to_state
from hpcjobs.models import MAX_REASON, JobInfo, Progress
from hpcjobs.services.batch_tags import OWNER_TAG, meta_of, name_of, tags_of

MARK = "hpcjobs: "
"""How a reason begins that was sent from here."""

NO_REASON = "hpcjobs, cancelled"
"""How a reason begins that was sent from here where none was given."""

BY_THE_QUEUE = "Canceled by JobStateTimeLimit action"
"""How the reason begins where a rule of the queue has ended a job that had not started."""

NORMAL_END = "Essential container in task exited"
"""What is said of a job whose command has ended, well or badly: it tells nothing."""

_IN_WORDS = (
    ("Job attempt duration exceeded timeout", "its walltime was over"),
    ("Host EC2", "its computer was taken away, as AWS does with spot instances"),
    ("Dependent Job failed", "a job that it depends on did not end well"),
)
_CONTAINER_WORDS = (
    ("OutOfMemoryError", "out of memory"),
    ("CannotPullContainerError", "the image of its container cannot be had"),
    ("CannotPullECRContainerError", "the image of its container cannot be had"),
    ("CannotStartContainerError", "its container could not be started"),
    ("CannotCreateContainerError", "its container could not be made"),
    ("ResourceInitializationError", "what its container needs could not be set up"),
    ("DockerTimeoutError", "its container could not be started in time"),
)
"""What reasons begin with, and what that means."""


def info_of(job: Mapping[str, Any]) -> JobInfo:
    """What is known of a job.

    Example:
        >>> job = {"jobId": "1", "jobName": "fit", "status": "FAILED", "isTerminated": True, "statusReason": "no need"}
        >>> info_of(job).state, info_of(job).reason
        (<JobState.CANCELLED: 'CANCELLED'>, 'no need')
    """
    word = str(job["status"])
    state = state_of(job)
    array_id, index = member_of(job["jobId"])
    name = name_of(job)
    attempts = job.get("attempts") or []
    told = job.get("statusReason") or None
    stopping = asked_to_stop(job) and not state.terminal
    return JobInfo(
        id=job["jobId"],
        state=state,
        native_state=word,
        name=(f"{name}[{index}]" if name and index is not None else name) or None,
        owner=(job.get("tags") or {}).get(OWNER_TAG),
        queue=last_part(job.get("jobQueue")),
        priority=job.get("schedulingPriority"),
        tags=tags_of(job),
        meta=meta_of(job),
        cancel_requested=stopping,
        cancel_reason=own_reason(told) if stopping or state is JobState.CANCELLED else None,
        reason=reason_of(job, state),
        exit_code=exit_code_of(job) if state.terminal else None,
        progress=_progress(job) if is_array(job) else None,
        attempt=attempt_of(job),
        max_attempts=max((job.get("retryStrategy") or {}).get("attempts") or 1, len(attempts), 1),
        array_id=array_id,
        array_index=index,
        created_at=time_of(job.get("createdAt")),
        started_at=time_of(job.get("startedAt")),
        finished_at=time_of(job.get("stoppedAt")),
        spec=dict(job),
    )


def state_of(job: Mapping[str, Any]) -> JobState:
    """A job's state: by its word, its flags and its reason; an array's also by the states of its jobs."""
    state = to_state(str(job["status"]), BATCH_WORDS)
    reason = job.get("statusReason") or ""
    if state is JobState.FAILED:
        # CancelJob leaves a job alone that has started: with an exit code of its own, it ended by itself
        cancelled = job.get("isTerminated") or (job.get("isCancelled") and exit_code_of(job) is None)
        ours = reason.startswith((MARK, NO_REASON, BY_THE_QUEUE))
        return JobState.CANCELLED if cancelled or ours else state
    if state is JobState.PENDING and is_array(job):  # an array is PENDING for as long as its jobs run
        counts = counts_of(job)
        if counts.get(JobState.RUNNING) or any(counts.get(end) for end in (JobState.FINISHED, JobState.FAILED)):
            return JobState.RUNNING
        return next((one for one in (JobState.STAGING, JobState.QUEUED) if counts.get(one)), state)
    return state


def asked_to_stop(job: Mapping[str, Any]) -> bool:
    """Whether a job was asked to stop: terminated, or cancelled before it has started."""
    started = job["status"] in {"STARTING", "RUNNING"}
    return bool(job.get("isTerminated") or (job.get("isCancelled") and not started))


def reason_of(job: Mapping[str, Any], state: JobState) -> str | None:
    """Why a job is where it is, in words."""
    told = job.get("statusReason") or None
    if state is JobState.CANCELLED:
        return own_reason(told) or (told or "").removeprefix("hpcjobs, ") or None
    if state is JobState.FINISHED:
        return None
    if not state.terminal:
        waits = ", ".join(item["jobId"] for item in job.get("dependsOn") or [] if item.get("jobId"))
        if asked_to_stop(job) and job["status"] == "PENDING" and waits:
            return f"it was asked to stop, which AWS Batch does once the jobs that it depends on have ended: {waits}"
        return own_reason(told) if asked_to_stop(job) else told
    if is_array(job):
        counts = (job.get("arrayProperties") or {}).get("statusSummary") or {}
        failed, size = counts.get("FAILED"), (job.get("arrayProperties") or {}).get("size")
        return f"{failed} of its {size} jobs did not end well" if failed and size else told
    container = last_container(job).get("reason") or ""
    words = _worded(container, _CONTAINER_WORDS) or _worded(told or "", _IN_WORDS)
    if words is None and told in {None, NORMAL_END}:
        code = exit_code_of(job)
        words = None if code is None else f"exit code {code}"
        return f"{words}: {container}" if words and container else words or container or told
    return words or told


def own_reason(told: str | None) -> str | None:
    """The reason for a cancel that a person gave: without our mark, and none where it is only our mark."""
    return None if told is None or told.startswith(NO_REASON) else told.removeprefix(MARK)


def sent_reason(reason: str | None) -> str:
    """The reason as it is sent: with our mark, by which it is known again, where that leaves room for all of it.

    Example:
        >>> sent_reason("wrong damping")
        'hpcjobs: wrong damping'
    """
    if reason is None or not reason.strip():
        user = local_user()
        return f"{NO_REASON} by {user}"[:MAX_REASON] if user else NO_REASON
    marked = MARK + reason
    return marked if len(marked) <= MAX_REASON else reason


def exit_code_of(job: Mapping[str, Any]) -> int | None:
    """The exit code, wherever this kind of job has it; None where there is none, as after a lost computer."""
    code = last_container(job).get("exitCode")
    if code is None:
        code = (job.get("container") or {}).get("exitCode")
    if code is None:
        several = [container.get("exitCode") for container in _containers(job)]
        several += [
            container.get("exitCode")
            for attempt in (job.get("eksAttempts") or [])[-1:]
            for container in attempt.get("containers") or []
        ]
        known = [one for one in several if one is not None]
        code = next((one for one in known if one), known[0] if known else None)
    return int(code) if code is not None else None


def last_container(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the container of the last attempt that has ended; empty before one has."""
    own = job.get("container") or {}
    ended = [attempt.get("container") or {} for attempt in job.get("attempts") or [] if attempt.get("stoppedAt")]
    last = ended[-1] if ended else {}
    return last if any(last.get(name) is not None for name in ("exitCode", "reason")) else own


def attempt_of(job: Mapping[str, Any]) -> int:
    """How often a job has been started: the attempts that have ended, and the one that runs."""
    attempts = job.get("attempts") or []
    ended = sum(1 for attempt in attempts if attempt.get("stoppedAt"))
    if job["status"] in {"SUCCEEDED", "FAILED"}:
        return max(len(attempts), 1 if job.get("startedAt") else 0)
    return ended + int(job["status"] == "RUNNING")


def log_of(job: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The log group, where it is not the usual one, and the log stream of the last attempt that was started."""
    container = job.get("container") or {}
    options = (container.get("logConfiguration") or {}).get("options") or {}
    stream = container.get("logStreamName")
    attempts: Sequence[Mapping[str, Any]] = job.get("attempts") or []
    if job["status"] not in {"STARTING", "RUNNING"} or not stream:
        streams = [(attempt.get("container") or {}).get("logStreamName") for attempt in attempts]
        stream = next((one for one in reversed(streams) if one), stream)
    if stream is None:  # of several containers, the first one that has a log
        stream = next((one["logStreamName"] for one in _containers(job) if one.get("logStreamName")), None)
    return options.get("awslogs-group"), stream


def is_array(job: Mapping[str, Any]) -> bool:
    """Whether it is an array, and not one of its jobs."""
    return bool((job.get("arrayProperties") or {}).get("size"))


def member_of(job_id: str) -> tuple[str | None, int | None]:
    """The array that a job belongs to, and its place there.

    Example:
        >>> member_of("a1:7"), member_of("a1")
        (('a1', 7), (None, None))
    """
    array, mark, index = job_id.partition(":")
    return (array, int(index)) if mark and index.isdecimal() else (None, None)


def array_of(job: Mapping[str, Any]) -> ArrayInfo:
    """What is known of an array, from the record of it."""
    info = info_of(job)
    return ArrayInfo(
        id=info.id,
        size=job["arrayProperties"]["size"],
        name=info.name,
        owner=info.owner,
        counts=counts_of(job),
        progress=info.progress,
        created_at=info.created_at,
        spec=info.spec,
    )


def counts_of(job: Mapping[str, Any]) -> dict[JobState, int]:
    """How many of an array's jobs are in which state; those that were cancelled are FAILED in this."""
    counts: dict[JobState, int] = {}
    for word, count in ((job.get("arrayProperties") or {}).get("statusSummary") or {}).items():
        if count:
            state = to_state(word, BATCH_WORDS)
            counts[state] = counts.get(state, 0) + count
    return dict(sorted(counts.items()))


def last_part(arn: str | None) -> str | None:
    """The name at the end of an ARN.

    Example:
        >>> last_part("arn:aws:batch:us-east-1:1:job-queue/fast"), last_part("fast")
        ('fast', 'fast')
    """
    return arn.rpartition("/")[2] or None if arn else None


def time_of(moment: float | None) -> dt.datetime | None:
    """A moment in milliseconds since 1970; 0 stands for none."""
    return dt.datetime.fromtimestamp(moment / 1000, dt.timezone.utc) if moment else None


def _containers(job: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers of a job that has several."""
    tasks = (job.get("ecsProperties") or {}).get("taskProperties") or []
    return [container for task in tasks for container in task.get("containers") or []]


def _progress(job: Mapping[str, Any]) -> Progress:
    counts = counts_of(job)
    done = counts.get(JobState.FINISHED, 0) + counts.get(JobState.FAILED, 0)
    return Progress(done=done, total=job["arrayProperties"]["size"])


def _worded(told: str, table: Sequence[tuple[str, str]]) -> str | None:
    """A reason with its meaning before it."""
    for beginning, words in table:
        if told.startswith(beginning):
            return f"{words} ({told})"
    return None
