"""Arrays of Slurm: one number, many tasks, of which those that wait share one record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.arrays import ArrayInfo
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs.services import slurm_comment
from hpcjobs.services.slurm_records import array_of, cleaned, info_of, task_of, waiting_tasks

FORGOTTEN = "tasks forgotten"
"""Slurm has no word for an array of which some tasks ended before anyone looked."""


def size_of(records: Sequence[Mapping[str, Any]], known: int) -> int:
    """How many tasks an array has: as it was told at its submission, else as many as are known."""
    told = [slurm_comment.read(record.get("comment")).size for record in records]
    return max([known, *told])


def not_split_off(records: Sequence[Mapping[str, Any]], index: int) -> JobInfo | None:
    """A task that waits and is in a list that Slurm has cut off; None where it cannot be."""
    for record in records:
        told, whole = waiting_tasks(record)
        if array_of(record)[1] is None and not whole and index > max(told, default=-1):
            return task_of(info_of(record), index)
    return None


def together(number: str, tasks: Mapping[str, JobInfo], records: Sequence[Mapping[str, Any]]) -> JobInfo:
    """An array as one job: it has ended when all of its tasks have, and well if all of them ended well.

    Args:
        number: The array's id.
        tasks: What is known of its tasks, also of those that Slurm has forgotten.
        records: What Slurm tells.
    """
    infos = list(tasks.values())
    size = size_of(records, len(infos))
    states = Counter(info.state for info in infos)
    counted = ", ".join(f"{count} {word}" for word, count in sorted(Counter(one.native_state for one in infos).items()))
    state = _state_of(states)
    failed = next((info for info in infos if info.state is JobState.FAILED), None)
    cut = any(not waiting_tasks(record)[1] for record in records)
    if state.terminal and len(infos) < size and not cut:
        if state is JobState.FINISHED:
            # how those ended that nobody saw is not guessed
            state, counted = JobState.UNKNOWN, f"{counted}, {size - len(infos)} {FORGOTTEN}"
        else:
            counted = f"{counted}, {size - len(infos)} {FORGOTTEN}"
    starts = [info.started_at for info in infos if info.started_at]
    ends = [info.finished_at for info in infos if info.finished_at]
    first = info_of(records[0])
    bare = first.name.removesuffix(f"[{first.array_index}]") if first.name else None
    return first.model_copy(
        update={
            "id": number,
            "name": bare,
            "array_index": None,
            "array_id": None,
            "state": state,
            "native_state": counted,
            "cancel_requested": not state.terminal and any(info.cancel_requested for info in infos),
            "reason": f"task {failed.array_index}: {failed.reason}"
            if failed and state is JobState.FAILED
            else None
            if state.terminal
            else _waiting_reason(infos, state),
            "exit_code": max((info.exit_code or 0 for info in infos), default=0) if state.terminal else None,
            "attempt": max((info.attempt for info in infos), default=0),
            "started_at": min(starts, default=None),
            "finished_at": max(ends, default=None) if state.terminal else None,
            "spec": cleaned(records[0]),
        }
    )


def _waiting_reason(infos: Sequence[JobInfo], state: JobState) -> str | None:
    return next((info.reason for info in infos if info.state is state and state.not_started), None)


def _state_of(states: Mapping[JobState, int]) -> JobState:
    """The state of all tasks together: where some run it runs; where all have ended, the worst that came of them."""
    if all(state.terminal for state in states):
        for state in (JobState.FAILED, JobState.CANCELLED, JobState.FINISHED):
            if states.get(state):
                return state
    for state in (JobState.RUNNING, JobState.UNKNOWN, JobState.STAGING, JobState.ARCHIVING, JobState.PAUSED):
        if states.get(state):
            return state
    if any(state.terminal for state in states):  # some have ended, and the others wait for their turn
        return JobState.RUNNING
    return JobState.QUEUED if states.get(JobState.QUEUED) else JobState.PENDING


def array_of_jobs(number: str, tasks: Sequence[JobInfo], records: Sequence[Mapping[str, Any]]) -> ArrayInfo:
    """What is known of an array."""
    first = info_of(records[0])
    name = first.name.removesuffix(f"[{first.array_index}]") if first.name else None
    return ArrayInfo(
        id=number,
        size=size_of(records, len(tasks)),
        name=name,
        owner=first.owner,
        counts=dict(Counter(task.state for task in tasks)),
        created_at=first.created_at,
        spec=cleaned(records[0]),
    )
