"""Cancels jobs: looks first, says honestly what happened, and confirms it where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from hpcjobs.actions import summed
from hpcjobs.errors import (
    PASSING,
    CancelTimeout,
    Conflict,
    HpcjobsError,
    InvalidSpec,
    JobNotFound,
    JobVanished,
    NotCancelled,
    PermissionDenied,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.lifecycle import Action, JobState
from hpcjobs.models import MAX_REASON, CancelOutcome, CancelResult, JobFilter, JobInfo, JobQueryAnswer
from hpcjobs.protocol import Op, sleep
from hpcjobs.services.base import Service
from hpcjobs.wording import Listed

Learn = Callable[[JobInfo], object]
"""Told each info as it comes."""

IS_ARRAY = "is_array"
"""What a service says of an id that is no job's but an array's."""

LOOKED_AT = 100
"""Most jobs that are looked at before they are cancelled, where the service looks by itself."""

SEND_AGAIN = 60.0
"""Seconds after which a cancel is sent again, where the service can lose one."""

INSTANT = 1e-3
"""Seconds: what is left of a deadline by rounding is nothing."""

SLOWEST = 5.0
"""Seconds: the longest pause between two looks at a job that is to be confirmed as stopped."""


def cancel(
    service: Service,
    job_id: str,
    *,
    reason: str | None = None,
    abort: bool = True,
    delete: bool = False,
    confirm: float | None = None,
    strict: bool = False,
    learn: Learn | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Op[CancelResult]:
    """Ask that a job not run, or stop.

    The job's state is read first: for one that has ended, no request is sent.

    Args:
        service: Where the job is.
        job_id: Which job.
        reason: Why, at most 1,024 characters; everyone who sees the job sees it.
        abort: Whether a job that has started is asked to stop.
        delete: Remove the record of a job that never started.
        confirm: Seconds to wait until the job has ended; None to return as soon as the service has taken the request.
        strict: Raise where nothing was cancelled.
        learn: Told everything that is learnt of the job, also where an error is raised; it costs a look at a job that
            ended at once, because the answer to the request does not tell how.
        clock: Seconds that only grow.

    Returns:
        What happened.

    Raises:
        InvalidSpec: The reason is too long; nothing was sent.
        Unsupported: The service cannot leave a started job alone (``abort=False``); nothing was sent.
        JobNotFound: There is no such job.
        NotCancelled: ``strict=True`` and nothing was cancelled.
        CancelTimeout: ``confirm`` seconds have gone by; the request stands.
        JobVanished: The service forgot the job while it was being confirmed.
    """
    _check(service, reason, abort=abort, confirm=confirm)
    try:
        info = yield from service.get(job_id)
    except JobNotFound as error:
        if error.code != IS_ARRAY:
            raise
        [result] = yield from cancel_many(
            service, [job_id], reason=reason, abort=abort, delete=delete, confirm=confirm, strict=strict, clock=clock
        )
        return result
    if learn is not None:
        learn(info)
    if not info.state.allows(Action.CANCEL):
        result = _already(info, reason)
    else:
        result = yield from _send(service, info, reason, learn, abort=abort, delete=delete)
        if confirm is not None and result.outcome is CancelOutcome.CANCEL_REQUESTED:
            result = yield from _confirm(
                service, info, result, learn, seconds=confirm, clock=clock, abort=abort, delete=delete
            )
    if strict and not result.accepted:
        raise NotCancelled(result)
    return result


def cancel_many(
    service: Service,
    ids: Sequence[str] | JobFilter,
    *,
    reason: str | None = None,
    abort: bool = True,
    delete: bool = False,
    confirm: float | None = None,
    strict: bool = False,
    learn: Learn | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Op[list[CancelResult]]:
    """Cancel many jobs; one bad id spoils nothing.

    They are looked at first, and those that have ended are not asked for. Where the service decides each by the state
    that it has at that very moment, many are not looked at: that would tell nothing more, and cost more than the rest.

    Args:
        service: Where the jobs are.
        ids: Which jobs or arrays; or a filter, which means those that have not ended.
        reason: Why, at most 1,024 characters.
        abort: Whether jobs that have started are asked to stop.
        delete: Remove the records of jobs that never started.
        confirm: Seconds to wait until all have ended; None to return as soon as the service has taken the request.
        strict: Raise where one of them was not cancelled.
        learn: Told everything that is learnt of the jobs; it costs a look at those that ended at once.
        clock: Seconds that only grow.

    Returns:
        One result per id, in the order of the ids; an unknown id has the outcome NOT_FOUND. With a filter, one per job
        that it means.

    Raises:
        InvalidSpec: The reason is too long, or the filter has no condition; nothing was sent.
        Unsupported: The service cannot leave a started job alone (``abort=False``); nothing was sent.
        NotCancelled: ``strict=True`` and one was not cancelled.
        CancelTimeout: ``confirm`` seconds have gone by and one had not ended; the requests stand.
    """
    _check(service, reason, abort=abort, confirm=confirm)
    members: dict[str, list[str]] = {}
    asked: Sequence[str] = ()
    if confirm is not None and not isinstance(ids, JobFilter):
        # each of an array's jobs is asked for, so that what becomes of each is known
        members = yield from service.members_of(ids)
        asked, ids = ids, [job for job_id in ids for job in members.get(job_id, [job_id])]
    if isinstance(ids, JobFilter):
        if ids.empty:
            raise InvalidSpec([("", "name jobs, or at least one condition; to mean all jobs, list all states")])
        results = yield from service.cancel_where(ids, reason=reason, abort=abort, delete=delete)
        if learn is not None and results:
            for info in (yield from _look(service, [result.job_id for result in results])).items:
                learn(info)
    elif not ids:
        return []
    elif service.capabilities.atomic and len(ids) > LOOKED_AT:
        results = yield from service.cancel(ids, reason=reason, abort=abort, delete=delete)
        _check_count(service, len(ids), len(results))
        if learn is not None:
            for info in (yield from _look(service, ids)).items:
                learn(info)
    else:
        results = yield from _look_and_cancel(service, ids, reason, learn, abort=abort, delete=delete)
    if confirm is not None:
        results = yield from _confirm_many(service, results, learn, seconds=confirm, clock=clock)
    if members:
        told = iter(results)
        results = [
            summed(job_id, [next(told) for _ in members[job_id]]) if job_id in members else next(told)
            for job_id in asked
        ]
    if strict:
        for result in results:
            if not result.accepted:
                raise NotCancelled(result)
    return Listed(results)


def _look_and_cancel(
    service: Service, ids: Sequence[str], reason: str | None, learn: Learn | None, *, abort: bool, delete: bool
) -> Op[list[CancelResult]]:
    """Look at all of them, and ask only for those that have not ended."""
    wanted = list(dict.fromkeys(ids))
    answer = yield from service.get_many(wanted)
    known = {info.id: info for info in answer.items}
    if learn is not None:
        for info in answer.items:
            learn(info)
    results: dict[str, CancelResult] = {
        job_id: CancelResult(job_id=job_id, outcome=CancelOutcome.NOT_FOUND, reason=reason)
        for job_id in answer.missing
        if job_id not in answer.arrays
    }
    results.update({info.id: _already(info, reason) for info in answer.items if not info.state.allows(Action.CANCEL)})
    # An id that was neither found nor missed is one that the service spells in another way: it knows best.
    active = [job_id for job_id in wanted if job_id not in results]
    if active:
        try:
            sent = yield from service.cancel(active, reason=reason, abort=abort, delete=delete)
        except PermissionDenied:  # another's that can be seen; among several the service says so itself
            if len(active) > 1:
                raise
            sent = [CancelResult(job_id=active[0], outcome=CancelOutcome.NOT_FOUND, reason=reason)]
        _check_count(service, len(active), len(sent))
        told = dict(zip(active, sent, strict=True))
        results.update((job_id, result) for job_id, result in told.items() if result.jobs is not None)
        told = {job_id: result for job_id, result in told.items() if result.jobs is None}
        results.update((yield from _completed(service, known, told, reason, learn, delete=delete)))
    return [results[job_id] for job_id in ids]


def _check_count(service: Service, asked: int, told: int) -> None:
    if asked != told:
        raise UnexpectedAnswer(f"{service.name} was asked to cancel {asked} jobs and told of {told}")


def _confirm_many(
    service: Service,
    results: Sequence[CancelResult],
    learn: Learn | None,
    *,
    seconds: float,
    clock: Callable[[], float],
) -> Op[list[CancelResult]]:
    """Look until all that were asked to stop have ended, as few times and with as few requests as possible."""
    asked = {result.job_id for result in results if result.outcome is CancelOutcome.CANCEL_REQUESTED}
    going = dict.fromkeys(asked)
    last: dict[str, JobInfo] = {}
    start = clock()
    pause = max(service.capabilities.min_poll, 0.05)
    while True:
        if going:
            try:
                answer = yield from service.get_many(list(going))
            except PASSING:
                answer = JobQueryAnswer(items=[])
            for info in answer.items:
                last[info.id] = info
                if learn is not None:
                    learn(info)
                if info.terminal:
                    going.pop(info.id, None)
            for job_id in answer.missing:  # it was deleted meanwhile: nothing of it runs
                going.pop(job_id, None)
        if not going:
            break
        left = start + seconds - clock()
        if left < INSTANT:
            first = next(iter(going))
            result = next(result for result in results if result.job_id == first)
            info = last.get(first) or JobInfo(id=first, state=result.after or JobState.UNKNOWN)
            raise CancelTimeout(result, info, seconds, others=len(going) - 1)
        yield from sleep(min(pause, left))
        pause = min(pause * 1.5, SLOWEST)
    return [confirmed(result, [last[result.job_id]] if result.job_id in last else []) for result in results]


def confirmed(result: CancelResult, infos: Sequence[JobInfo]) -> CancelResult:
    """The result of a request whose jobs have ended: one job, or all jobs of an array that were asked to stop."""
    if not infos or not all(info.terminal for info in infos):  # deleted after the last look
        return result
    counts = dict(result.jobs or {})
    for info in infos:
        outcome = CancelOutcome.CANCELLED if info.state is JobState.CANCELLED else CancelOutcome.FINISHED_FIRST
        if counts.get(str(CancelOutcome.CANCEL_REQUESTED), 0) > 0:
            counts[str(CancelOutcome.CANCEL_REQUESTED)] -= 1
            counts[str(outcome)] = counts.get(str(outcome), 0) + 1
    good = any(info.state is JobState.CANCELLED for info in infos)
    changes: dict[str, object] = {
        "outcome": CancelOutcome.CANCELLED if good else CancelOutcome.FINISHED_FIRST,
        "after": max(info.state for info in infos),
    }
    if result.jobs is not None:
        changes["jobs"] = {name: count for name, count in counts.items() if count}
    return result.model_copy(update=changes)


def _check(service: Service, reason: str | None, *, abort: bool, confirm: float | None) -> None:
    if reason is not None and len(reason) > MAX_REASON:
        raise InvalidSpec([("reason", f"has {len(reason)} characters; at most {MAX_REASON} are kept")])
    if reason is not None and "\x00" in reason:
        raise InvalidSpec([("reason", "has a NUL in it; write text")])
    if confirm is not None and not confirm >= 0:
        raise InvalidSpec([("confirm", f"is {confirm}; give seconds, zero or more")])
    if not abort and not service.capabilities.abort_false:
        raise Unsupported(
            service.name,
            "cancel a job only if it has not started (abort=False)",
            "look at its state and cancel it with abort=True",
        )


def _already(info: JobInfo, reason: str | None) -> CancelResult:
    return CancelResult(
        job_id=info.id, outcome=CancelOutcome.ALREADY_TERMINAL, before=info.state, after=info.state, reason=reason
    )


def _send(
    service: Service, info: JobInfo, reason: str | None, learn: Learn | None, *, abort: bool, delete: bool
) -> Op[CancelResult]:
    """Send the request for a job that was seen active; a lost race is an outcome."""
    try:
        [result] = yield from service.cancel([info.id], reason=reason, abort=abort, delete=delete)
    except Conflict:
        now = yield from service.get(info.id)
        if learn is not None:
            learn(now)
        if now.terminal:
            return _already(now, reason).model_copy(update={"before": info.state})
        if not now.cancel_requested:
            raise
        return CancelResult(
            job_id=info.id, outcome=CancelOutcome.CANCEL_REQUESTED, before=info.state, after=now.state, reason=reason
        )
    results = yield from _completed(service, {info.id: info}, {info.id: result}, reason, learn, delete=delete)
    result = results[info.id]
    if result.outcome is CancelOutcome.NOT_FOUND:
        raise JobNotFound(f"there is no job {info.id}", status=404, code="job_not_found")
    return result


def _completed(
    service: Service,
    seen: Mapping[str, JobInfo],
    told: Mapping[str, CancelResult],
    reason: str | None,
    learn: Learn | None,
    *,
    delete: bool,
) -> Op[dict[str, CancelResult]]:
    """Complete the service's answers, by what was seen before and by one more look at the jobs that have ended."""
    results = {job_id: _settled(seen.get(job_id), result, delete=delete) for job_id, result in told.items()}
    ended: list[str] = []
    for job_id, result in results.items():
        if job_id not in seen:
            continue
        if _ended(result) and (learn is not None or _doubtful(result)):
            ended.append(job_id)
        if learn is not None:
            learn(_asked(seen[job_id], result))
    answer = yield from _look(service, ended)
    for now in answer.items:
        if now.id not in results:
            continue
        result = results[now.id]
        if learn is not None:
            learn(now)
        if _doubtful(result) and now.cancel_reason == reason:
            ours = {"outcome": CancelOutcome.CANCELLED, "before": seen[now.id].state}
            results[now.id] = result.model_copy(update=ours)
    for job_id in answer.missing:
        if learn is not None and delete and results[job_id].confirmed:
            learn(_removed(seen[job_id], reason))
    return results


def _ended(result: CancelResult) -> bool:
    """Whether the job has ended, by the service's answer to the request."""
    return result.confirmed if result.after is None else result.after.terminal


def _doubtful(result: CancelResult) -> bool:
    """Whether a job that was seen active was cancelled by someone faster, or by a try whose answer was lost."""
    return result.outcome is CancelOutcome.ALREADY_TERMINAL and result.after is JobState.CANCELLED


def _look(service: Service, ids: Sequence[str]) -> Op[JobQueryAnswer]:
    """Look at jobs that have ended; the request was heeded, so that a look that fails is no error."""
    try:
        if len(ids) > 1:
            return (yield from service.get_many(ids))
        return JobQueryAnswer(items=[(yield from service.get(ids[0]))] if ids else [])
    except JobNotFound:
        return JobQueryAnswer(items=[], missing=list(ids))
    except HpcjobsError:
        return JobQueryAnswer(items=[])


def _asked(info: JobInfo, result: CancelResult) -> JobInfo:
    """What is known of a job by the answer to the request; never that it has ended: only a look tells how."""
    changes: dict[str, object] = {}
    if result.after is not None and not result.after.terminal and result.after is not info.state:
        changes = {"state": result.after, "native_state": result.after.value}
    if result.accepted:
        changes |= {"cancel_requested": True, "cancel_reason": result.reason or info.cancel_reason}
    return info.model_copy(update=changes)


def _removed(info: JobInfo, reason: str | None) -> JobInfo:
    """All that can be known of a job whose record was removed because it was cancelled before it ran."""
    word = JobState.CANCELLED
    changes = {"state": word, "native_state": word.value, "reason": reason, "cancel_reason": reason}
    return info.model_copy(update={**changes, "cancel_requested": True})


def _settled(info: JobInfo | None, result: CancelResult, *, delete: bool) -> CancelResult:
    """Complete the service's answer by what was seen before."""
    if info is None:
        return result
    if result.outcome is CancelOutcome.NOT_FOUND and delete and info.state.not_started:
        # It was there a moment ago: the answer to the try that removed it was lost.
        return result.model_copy(
            update={"outcome": CancelOutcome.CANCELLED, "before": info.state, "after": JobState.CANCELLED}
        )
    return result if result.before is not None else result.model_copy(update={"before": info.state})


def _confirm(
    service: Service,
    info: JobInfo,
    result: CancelResult,
    learn: Learn | None,
    *,
    seconds: float,
    clock: Callable[[], float],
    abort: bool,
    delete: bool,
) -> Op[CancelResult]:
    """Look until the job has ended; the pauses grow, and a look that fails is only one look."""
    start = sent = clock()
    pause = shortest = max(service.capabilities.min_poll, 0.05)
    while True:
        left = start + seconds - clock()
        if left < INSTANT:
            raise CancelTimeout(result, info, seconds)
        yield from sleep(min(pause, left))
        pause = min(pause * 1.5, max(SLOWEST, shortest))
        try:
            info = yield from service.get(info.id)
            if learn is not None:
                learn(info)
            if info.terminal:
                ours = info.state is JobState.CANCELLED
                outcome = CancelOutcome.CANCELLED if ours else CancelOutcome.FINISHED_FIRST
                return result.model_copy(update={"outcome": outcome, "after": info.state})
            started = info.state is not JobState.UNKNOWN and not info.state.not_started
            if started and not abort and not info.cancel_requested:  # it was faster than the request
                return result.model_copy(update={"outcome": CancelOutcome.LEFT_RUNNING, "after": info.state})
            if service.capabilities.cancel_can_be_lost and clock() - sent >= SEND_AGAIN:
                sent = clock()
                yield from service.cancel([info.id], reason=result.reason, abort=abort, delete=delete)
        except (*PASSING, Conflict):
            continue
        except JobNotFound:
            raise JobVanished(info.id, info) from None
