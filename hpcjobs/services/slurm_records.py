"""Reads what Slurm says of a job: its record from the controller, or from the accounting.

A record looks a little different in every version; each difference is met where the field is read.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcjobs.lifecycle import SLURM_NOT_READY, SLURM_WORDS, TERMINAL, JobState, to_state
from hpcjobs.models import JobInfo
from hpcjobs.services import slurm_comment, slurm_reasons

BASES = frozenset(
    {
        "PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
        "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
    }
)  # fmt: skip
"""The words of which a job has one; all others are flags beside it, which versions up to 38 show in its place."""

_FINISHING = ("COMPLETING", "STAGE_OUT")
_BEFORE_THE_BASE = ("STOPPED", "POWER_UP_NODE", "CONFIGURING", "REQUEUE_HOLD", "SPECIAL_EXIT")

JOB_ID = re.compile(r"(\d{1,10})(?:_(\d{1,9}))?")
"""An id: a number, and for a task of an array its index behind it."""


def info_of(record: Mapping[str, Any], *, job_id: str | None = None) -> JobInfo:
    """What is known of a job, from the controller's record of it.

    Args:
        record: One of the ``jobs`` of an answer.
        job_id: The id under which it was asked for, where that is another one than it would have.

    Example:
        >>> info = info_of({"job_id": 7, "job_state": ["FAILED"], "exit_code": 768, "start_time": 9})
        >>> info.state, info.reason
        (<JobState.FAILED: 'FAILED'>, 'the command ended with 3')
    """
    words, why = words_of(record), str(record.get("state_reason") or "")
    if why in {"JobHeldUser", "JobHeldAdmin"} and num(record.get("priority")):  # it was released a moment ago
        why = "None"
    word, state = state_of(words, why)
    note = slurm_comment.read(record.get("comment"))
    restarts = num(record.get("restart_cnt")) or 0
    start, end = moment(record.get("start_time")), moment(record.get("end_time"))
    ran = not state.not_started and start is not None and not _never_ran(record, state, start, end)
    code, number = exit_of(record.get("exit_code")) if state.terminal and ran else (None, None)
    submitted, eligible = moment(record.get("submit_time")), moment(record.get("eligible_time"))
    array, index = array_of(record)
    name, nice = record.get("name") or None, num(record.get("nice"))
    reason: str | None = None
    if state in {JobState.PENDING, JobState.QUEUED}:
        reason = slurm_reasons.waiting(why, restarts) if why else None
    elif state is JobState.FAILED:
        limit, cwd = num(record.get("time_limit")), str(record.get("current_working_directory") or "")
        reason = slurm_reasons.failed(word, why, code, number, limit=limit, cwd=cwd)
    elif state is JobState.CANCELLED:
        reason = note.reason or None
    return JobInfo(
        id=job_id or id_of(record),
        state=state,
        native_state="+".join(words),
        name=f"{name}[{index}]" if name and index is not None else name,
        owner=record.get("user_name") or None,
        queue=record.get("partition") or None,
        priority=-(nice or 0),
        tags=note.tags,
        meta=note.meta,
        # an old version hides that it was cancelled while it is being stopped; a job that runs again keeps its comment
        cancel_requested=state is JobState.ARCHIVING and ("CANCELLED" in words or bool(note.reason)),
        cancel_reason=note.reason or None,
        reason=reason,
        exit_code=code,
        attempt=restarts + (1 if ran else 0),
        array_id=array,
        array_index=index,
        start_at=eligible if state is JobState.PENDING and why == "BeginTime" and not restarts else None,
        created_at=submitted,
        started_at=start if ran else None,
        finished_at=end if state.terminal else None,
        spec=cleaned(record),
    )


def words_of(record: Mapping[str, Any]) -> list[str]:
    """A job's words: one of the base states, and flags. A string up to version 39, a list since."""
    told = record.get("job_state")
    return [told] if isinstance(told, str) else [str(word) for word in told or ()]


def state_of(words: Sequence[str], why: str) -> tuple[str, JobState]:
    """The word that counts, and the state that it stands for.

    Example:
        >>> state_of(["CANCELLED", "COMPLETING"], "None")
        ('COMPLETING', <JobState.ARCHIVING: 'ARCHIVING'>)
        >>> state_of(["PENDING"], "JobHeldUser")[1], state_of(["PENDING"], "Resources")[1]
        (<JobState.PENDING: 'PENDING'>, <JobState.QUEUED: 'QUEUED'>)
    """
    for word in _FINISHING:
        if word in words:
            return word, SLURM_WORDS[word]
    word = next((word for word in words if word in BASES), None) or (words[0] if words else "")
    state = to_state(word, SLURM_WORDS)
    if state in TERMINAL:
        if word == "CANCELLED" and why == "DependencyNeverSatisfied":  # nobody asked for it
            state = JobState.FAILED
        return word, state
    for flag in _BEFORE_THE_BASE:
        if flag in words:
            return flag, SLURM_WORDS[flag]
    if word == "PENDING" and why in SLURM_NOT_READY:
        state = JobState.PENDING
    return word, state


def exit_of(told: Any) -> tuple[int | None, int | None]:
    """An exit code and the signal in its place. What ``wait()`` gives up to version 39, an object since.

    Example:
        >>> exit_of(768), exit_of(139), exit_of({"return_code": {"set": True, "number": 3}, "signal": {"id": 0}})
        ((3, None), (None, 11), (3, None))
    """
    if isinstance(told, Mapping) and ("return_code" in told or "signal" in told):
        number = num((told.get("signal") or {}).get("id") or (told.get("signal") or {}).get("signal_id"))
        return (None, number) if number else (num(told.get("return_code")), None)
    raw = num(told)
    if raw is None:
        return None, None
    number = raw & 0x7F
    return (None, number) if number else ((raw >> 8) & 0xFF, None)


def array_of(record: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The array that a job belongs to, and its index there; the index is None for the tasks that were not split off."""
    array = num(record.get("array_job_id")) or None
    return (str(array), num(record.get("array_task_id"))) if array else (None, None)


def id_of(record: Mapping[str, Any]) -> str:
    """A job's id; of a task of an array the array's with the index, because its own number is told too late."""
    array, index = array_of(record)
    if array is None:
        return str(record["job_id"])
    return f"{array}_{index}" if index is not None else array


def num(value: Any) -> int | None:
    """A number, which may be plain, unset, or without limit."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set", True) and not value.get("infinite") else None
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def moment(value: Any) -> dt.datetime | None:
    """A moment; 0 stands for none."""
    seconds = num(value)
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc) if seconds else None


def cleaned(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what is empty, and without the cores of the nodes, which are most of it."""
    return {
        name: value
        for name, value in record.items()
        if name != "job_resources" and value not in (None, "", 0, [], {}) and not _unset(value)
    }


def _unset(value: Any) -> bool:
    return isinstance(value, Mapping) and "set" in value and not value["set"] and not value.get("infinite")


def _never_ran(record: Mapping[str, Any], state: JobState, start: dt.datetime | None, end: dt.datetime | None) -> bool:
    """Whether a job was cancelled before it started: it has times all the same."""
    return state.terminal and start == end and str(record.get("nodes") or "") in {"", "(null)", "None assigned"}


# Paths


def output_of(record: Mapping[str, Any], stream: str) -> str:
    """The file that a job writes a stream to, as far as it can be told; empty where the stream has none of its own."""
    name = f"standard_{'error' if stream == 'stderr' else 'output'}"
    expanded = record.get("stderr_expanded" if stream == "stderr" else "stdout_expanded")
    told = str(expanded or record.get(name) or "")
    array, index = array_of(record)
    if not told:
        if stream == "stderr":
            return ""
        told = "slurm-%A_%a.out" if array else "slurm-%j.out"
    places = {
        "j": record.get("job_id"),
        "A": array or record.get("job_id"),
        "a": index,
        "x": record.get("name"),
        "u": record.get("user_name"),
        "%": "%",
    }
    told = re.sub(
        r"%(\d*)([jAaxu%])",
        lambda match: str(places[match[2]] if places[match[2]] is not None else match[0]).rjust(
            int(match[1] or 0), "0"
        ),
        told,
    )
    folder = str(record.get("current_working_directory") or "").rstrip("/")
    return told if told.startswith("/") else f"{folder}/{told}"


# Arrays


def indexes(text: str) -> Iterator[int]:
    """The indexes that an expression for an array means.

    Example:
        >>> list(indexes("0-2,7,10-20:5%2"))
        [0, 1, 2, 7, 10, 15, 20]
    """
    for part in text.partition("%")[0].strip("[] ").split(","):
        if match := re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", part):
            first = int(match[1])
            last = int(match[2] or first)
            yield from range(first, min(last, first + 4_000_000) + 1, max(1, int(match[3] or 1)))


def waiting_tasks(record: Mapping[str, Any]) -> tuple[list[int], bool]:
    """The indexes of the tasks that one record stands for, and whether these are all (a long list is cut off)."""
    text = str(record.get("array_task_string") or "")
    whole = "..." not in text
    return list(indexes(text.replace("...", ""))), whole


def tasks_of(record: Mapping[str, Any]) -> list[JobInfo]:
    """The tasks that a record of an array stands for: one, or all that have not been split off yet."""
    info = info_of(record)
    if info.array_index is not None or info.array_id is None:
        return [info]
    return [task_of(info, index) for index in waiting_tasks(record)[0]]


def task_of(info: JobInfo, index: int) -> JobInfo:
    """One of the tasks that an array's record stands for."""
    name = f"{info.name}[{index}]" if info.name else None
    return info.model_copy(update={"id": f"{info.array_id}_{index}", "array_index": index, "name": name})


# Accounting


def info_of_accounting(job: Mapping[str, Any]) -> JobInfo:
    """What is known of a job, from slurmdbd's record of it."""
    state = job.get("state") or {}
    current = state.get("current")
    words = [current] if isinstance(current, str) else [str(word) for word in current or ()]
    times = job.get("time") or {}
    array = job.get("array") or {}
    signals = [exit_of(step.get("exit_code"))[1] for step in job.get("steps") or ()]
    exited = job.get("exit_code")
    code, number = exit_of(exited)
    if number is None and words == ["CANCELLED"] and (number := next(filter(None, signals), None)):
        exited = {"signal": {"id": number}}
    record = {
        "job_id": job.get("job_id"),
        "job_state": words,
        "state_reason": state.get("reason") or "None",
        "comment": _comment(job),
        "name": job.get("name"),
        "user_name": job.get("user"),
        "partition": job.get("partition"),
        "nodes": job.get("nodes"),
        "start_time": times.get("start"),
        "end_time": times.get("end"),
        "submit_time": times.get("submission"),
        "eligible_time": times.get("eligible"),
        "time_limit": times.get("limit"),
        "array_job_id": array.get("job_id"),
        "array_task_id": array.get("task_id"),
        "exit_code": exited,
        "current_working_directory": job.get("working_directory"),
    }
    info = info_of(record)
    # version 38 says success of every exit code there
    if info.state is JobState.FAILED and not info.exit_code and number is None and code == 0:
        return info.model_copy(update={"exit_code": None})
    return info


def _comment(job: Mapping[str, Any]) -> str:
    told = job.get("comment")
    return str((told.get("job") if isinstance(told, Mapping) else told) or "")
