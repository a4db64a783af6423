"""Retry, update and delete, of one job and of many: operations that every service can answer in its own way.

Of one job: what cannot be done is an error. Of many: each job has an outcome, and one that cannot be done spoils
nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from hpcjobs.actions import (
    DeleteOutcome,
    DeleteResult,
    JobChanges,
    JobUpdate,
    RetryOutcome,
    RetryResult,
    UpdateOutcome,
    UpdateResult,
    summed,
)
from hpcjobs.cancelling import Learn
from hpcjobs.errors import Conflict, InvalidSpec, JobNotFound, StaleVersion, TransportError, Unsupported
from hpcjobs.lifecycle import NOT_STARTED, Action
from hpcjobs.models import JobFilter, JobInfo
from hpcjobs.protocol import Op, sleep
from hpcjobs.services.base import Service
from hpcjobs.wording import Listed

Changes = Union[Mapping[str, Any], Callable[[JobInfo], "Mapping[str, Any] | None"]]
"""What is to be different, by name; or a function that is given the job as it is and returns that, or None for nothing.

The function may be called several times, each time with a newer job: where someone else changes the job in between,
nothing is lost."""

PATIENCE = 60.0
"""Seconds for which changes are tried again while others change the same job."""


def retry(service: Service, job_id: str, *, learn: Learn | None = None) -> Op[RetryResult]:
    """Run a job again that does not run; one that is scheduled becomes ready now.

    Raises:
        Conflict: The job runs.
        JobNotFound: There is no such job.
        Unsupported: The service runs no job again.
    """
    _check(service, Action.RETRY)
    info = yield from service.get(job_id)
    _tell(learn, info)
    if not info.state.allows(Action.RETRY):
        raise _conflict(info, "it can run again when it has ended; cancel it first")
    try:
        [result] = yield from service.retry([info.id])
    except TransportError as error:
        # Whether it was heard shows in the job: a second request could run it twice.
        if not error.may_have_acted:
            raise
        now = yield from service.get(info.id)
        if not _runs_again(now, info):
            raise
        result = RetryResult(job_id=info.id, outcome=RetryOutcome.RETRIED, before=info.state, after=now.state)
    if result.outcome is RetryOutcome.NOT_FOUND:
        raise _not_found(job_id)
    if result.outcome is RetryOutcome.STILL_RUNNING:
        raise _conflict(info, "it started this moment")
    if learn is not None and result.new_id is None:
        _tell(learn, (yield from service.get(info.id)))
    return result


def retry_many(
    service: Service, ids: Sequence[str] | JobFilter, *, learn: Learn | None = None
) -> Op[list[RetryResult]]:
    """Run many jobs again.

    Args:
        service: Where the jobs are.
        ids: Which jobs or arrays; or a filter, which means those that did not end well unless it names states.
        learn: Told how the jobs are afterwards; it costs a look.

    Returns:
        One result per id or per job that the filter means.

    Raises:
        Unsupported: The service runs no job again.
    """
    _check(service, Action.RETRY)
    if isinstance(ids, JobFilter):
        results = yield from service.retry_where(_some(ids))
    else:
        results = (yield from service.retry(ids)) if ids else []
    yield from _look_again(service, [result.job_id for result in results if result.done], learn)
    return Listed(results)


def delete(service: Service, job_id: str) -> Op[DeleteResult]:
    """Delete a job that does not run, with its files.

    Raises:
        Conflict: The job runs.
        JobNotFound: There is no such job.
        Unsupported: The service deletes no jobs.
    """
    _check(service, Action.DELETE)
    info = yield from service.get(job_id)
    if not info.state.allows(Action.DELETE):
        raise _conflict(info, "cancel it first")
    [result] = yield from service.delete([info.id])
    if result.outcome is DeleteOutcome.STILL_RUNNING:
        raise _conflict(info, "it started this moment; cancel it first")
    # One that was there a moment ago and is not found was deleted, by this request or by another one.
    return result.model_copy(update={"outcome": DeleteOutcome.DELETED, "before": info.state})


def delete_many(service: Service, ids: Sequence[str] | JobFilter) -> Op[list[DeleteResult]]:
    """Delete many jobs, with their files; those that run are left alone.

    Args:
        service: Where the jobs are.
        ids: Which jobs or arrays; or a filter, which means those that do not run unless it names states.

    Returns:
        One result per id or per job that the filter means.

    Raises:
        Unsupported: The service deletes no jobs.
    """
    _check(service, Action.DELETE)
    if isinstance(ids, JobFilter):
        return Listed((yield from service.delete_where(_some(ids))))
    return Listed((yield from service.delete(ids)) if ids else [])


def update(
    service: Service,
    job_id: str,
    changes: Changes,
    *,
    learn: Learn | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Op[UpdateResult]:
    """Change a job: what it would do only while it has not started, its labels always.

    Args:
        service: Where the job is.
        job_id: Which job.
        changes: What is to be different.
        learn: Told each info as it comes.
        clock: Seconds that only grow.

    Raises:
        InvalidSpec: The changes make no job; nothing was changed.
        Conflict: The job has started, and the changes would mislead.
        StaleVersion: Others changed the job again and again for a minute.
        JobNotFound: There is no such job.
        Unsupported: The service changes no jobs.
    """
    _check(service, Action.UPDATE)
    end = clock() + PATIENCE
    sent: tuple[JobInfo, JobChanges] | None = None
    while True:
        info = yield from service.get(job_id)
        _tell(learn, info)
        if sent is not None and _is_so(info, sent[0], sent[1]):
            return UpdateResult(
                job_id=info.id, outcome=UpdateOutcome.UPDATED, before=info.state, after=info.state, info=info
            )
        wanted = _wanted(changes, info)
        if not wanted.model_fields_set:
            return UpdateResult(
                job_id=info.id, outcome=UpdateOutcome.UNCHANGED, before=info.state, after=info.state, info=info
            )
        if refused := wanted.refused(info.state):
            raise Conflict(f"job {info.id} is {info.label}: {', '.join(refused)} can no longer be changed", status=409)
        version = _version(service, info) if callable(changes) else None
        sent = None
        try:
            [result] = yield from service.update([JobUpdate(id=info.id, changes=wanted, version=version)])
        except TransportError as error:
            if version is None or not error.may_have_acted or clock() > end:
                raise
            sent = info, wanted  # it may have been heard: the next look tells
            continue
        if result.outcome is not UpdateOutcome.STALE:
            break
        if clock() > end:
            raise StaleVersion(f"job {info.id} was changed by others again and again; nothing was changed", status=412)
        yield from sleep(random.uniform(0.0, 0.1))  # noqa: S311 - only spreads the tries
    if result.outcome is UpdateOutcome.NOT_FOUND:
        raise _not_found(job_id)
    if result.outcome is UpdateOutcome.INVALID:
        raise InvalidSpec([("", result.detail or "these changes make no job")])
    if result.outcome is UpdateOutcome.REFUSED:
        raise Conflict(f"job {info.id}: {result.detail}", status=409)
    now = yield from service.get(info.id)
    _tell(learn, now)
    return result.model_copy(update={"info": now, "after": now.state, "version": now.version})


def update_many(
    service: Service,
    ids: Sequence[str] | JobFilter,
    changes: Changes | None,
    *,
    learn: Learn | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Op[list[UpdateResult]]:
    """Change many jobs.

    Args:
        service: Where the jobs are.
        ids: Which jobs or arrays; or a filter, which means those that have not started unless it names states.
        changes: What is to be different; a function is called for each job.
        learn: Told how the jobs are afterwards; it costs a look.
        clock: Seconds that only grow.

    Returns:
        One result per id or per job that the filter means.

    Raises:
        InvalidSpec: The changes can be made to no job.
        Unsupported: The service changes no jobs.
    """
    _check(service, Action.UPDATE)
    if callable(changes):
        results = yield from _update_each(service, ids, changes, clock)
    else:
        wanted = JobChanges.parse(changes or {})
        if not wanted.model_fields_set:
            raise InvalidSpec([("changes", f"say what is to be different: {', '.join(JobChanges.model_fields)}")])
        if isinstance(ids, JobFilter):
            results = yield from service.update_where(_some(ids), wanted)
        else:
            results = (yield from service.update_all(ids, wanted)) if ids else []
    yield from _look_again(service, [result.job_id for result in results if result.done], learn)
    return Listed(results)


def _update_each(
    service: Service,
    ids: Sequence[str] | JobFilter,
    changes: Callable[[JobInfo], Mapping[str, Any] | None],
    clock: Callable[[], float],
) -> Op[list[UpdateResult]]:
    """Change each job by what a function says of it, and again where someone else was faster."""
    if isinstance(ids, JobFilter):
        ids = yield from _matching(service, _some(ids))
    ids = [service.spelled(job_id) for job_id in ids]
    members: dict[str, list[str]] = {}
    results: dict[str, UpdateResult] = {}
    left = list(dict.fromkeys(ids))
    met = set(left)
    end = clock() + PATIENCE
    while left:
        answer = yield from service.get_many(left)
        more: list[str] = []
        for job_id in answer.missing:
            results[job_id] = UpdateResult(job_id=job_id, outcome=UpdateOutcome.NOT_FOUND)
            if job_id in answer.arrays and (jobs := (yield from service.jobs_of_array(job_id))):
                members[job_id] = jobs
                more += [job for job in jobs if job not in met]
                met.update(jobs)
        items: list[JobUpdate] = []
        for info in answer.items:
            wanted = _wanted(changes, info)
            if wanted.model_fields_set:
                items.append(JobUpdate(id=info.id, changes=wanted, version=_version(service, info)))
            else:
                results[info.id] = UpdateResult(
                    job_id=info.id, outcome=UpdateOutcome.UNCHANGED, before=info.state, after=info.state
                )
        told = (yield from service.update(items)) if items else []
        results.update((result.job_id, result) for result in told)
        stale = [result.job_id for result in told if result.outcome is UpdateOutcome.STALE]
        if stale and clock() > end:
            stale = []
        if stale:
            yield from sleep(random.uniform(0.0, 0.1))  # noqa: S311 - only spreads the tries
        left = more + stale
    return [
        summed(job_id, [results[job] for job in members[job_id]]) if job_id in members else results[job_id]
        for job_id in ids
    ]


def _look_again(service: Service, ids: Sequence[str], learn: Learn | None) -> Op[None]:
    if learn is not None and ids:
        for info in (yield from service.get_many(ids)).items:
            learn(info)


def _matching(service: Service, wanted: JobFilter) -> Op[list[str]]:
    if not wanted.state:
        wanted = wanted.model_copy(update={"state": sorted(NOT_STARTED)})
    return service.ids_of(wanted)


def _check(service: Service, action: Action) -> None:
    if not getattr(service.capabilities, action.value):
        instead = {
            Action.RETRY: "submit the job again",
            Action.DELETE: "leave it; the service removes old jobs by itself",
        }
        raise Unsupported(
            service.name, f"{action.value} a job", instead.get(action, "cancel the job and submit another one")
        )


def _some(wanted: JobFilter) -> JobFilter:
    if wanted.empty:
        raise InvalidSpec([("", "name jobs, or at least one condition; to mean all jobs, list all states")])
    return wanted


def _tell(learn: Learn | None, info: JobInfo) -> None:
    if learn is not None:
        learn(info)


def _wanted(changes: Changes, info: JobInfo) -> JobChanges:
    wanted = changes(info) if callable(changes) else changes
    return JobChanges.parse(wanted or {})


def _version(service: Service, info: JobInfo) -> int:
    if info.version is None:
        raise Unsupported(
            service.name, "change a job by a function (it has no versions)", "give the changes themselves, as a dict"
        )
    return info.version


def _runs_again(now: JobInfo, before: JobInfo) -> bool:
    """Whether a job is ready again, or has been since: that its record has changed may mean anything."""
    if before.terminal:
        return not now.terminal or now.attempt > before.attempt
    return (now.start_at is None and before.start_at is not None) or now.attempt > before.attempt


def _is_so(now: JobInfo, before: JobInfo, wanted: JobChanges) -> bool:
    """Whether changes whose answer was lost were made, and not by chance: the very next version has them."""
    if now.version is None or before.version is None or now.version != before.version + 1:
        return False
    told = {**(now.spec or {}), **now.model_dump(mode="json", exclude={"spec"})}
    asked = wanted.model_dump(mode="json", exclude_unset=True)
    return all(told.get(name) == value for name, value in asked.items() if name != "start_in")


def _conflict(info: JobInfo, what_to_do: str) -> Conflict:
    return Conflict(f"job {info.id} is {info.label}; {what_to_do}", status=409, code="still_running")


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}", status=404, code="job_not_found")
