"""Cancels jobs: looks first, says honestly what happened, and confirms it where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hpcjobs.errors import (
    CancelTimeout,
    Conflict,
    InvalidSpec,
    JobNotFound,
    JobVanished,
    NotCancelled,
    RateLimited,
    ServiceUnavailable,
    TransportError,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.lifecycle import Action, JobState
from hpcjobs.models import MAX_REASON, CancelOutcome, CancelResult, JobInfo
from hpcjobs.protocol import Op, sleep
from hpcjobs.services.base import Service

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
    info = yield from service.get(job_id)
    if not info.state.allows(Action.CANCEL):
        result = _already(info, reason)
    else:
        result = yield from _send(service, info, reason, abort=abort, delete=delete)
        if confirm is not None and result.outcome is CancelOutcome.CANCEL_REQUESTED:
            result = yield from _confirm(service, info, result, confirm, clock, abort=abort, delete=delete)
    if strict and not result.accepted:
        raise NotCancelled(result)
    return result


def cancel_many(
    service: Service, ids: Sequence[str], *, reason: str | None = None, abort: bool = True, delete: bool = False
) -> Op[list[CancelResult]]:
    """Cancel many jobs; one bad id spoils nothing.

    Args:
        service: Where the jobs are.
        ids: Which jobs.
        reason: Why, at most 1,024 characters.
        abort: Whether jobs that have started are asked to stop.
        delete: Remove the records of jobs that never started.

    Returns:
        One result per id, in the order of the ids; an unknown id has the outcome NOT_FOUND.

    Raises:
        InvalidSpec: The reason is too long; nothing was sent.
        Unsupported: The service cannot leave a started job alone (``abort=False``); nothing was sent.
    """
    _check(service, reason, abort=abort, confirm=None)
    if not ids:
        return []
    wanted = list(dict.fromkeys(ids))
    answer = yield from service.get_many(wanted)
    known = {info.id: info for info in answer.items}
    results: dict[str, CancelResult] = {
        job_id: CancelResult(job_id=job_id, outcome=CancelOutcome.NOT_FOUND, reason=reason) for job_id in answer.missing
    }
    results.update({info.id: _already(info, reason) for info in answer.items if not info.state.allows(Action.CANCEL)})
    # An id that was neither found nor missed is one that the service spells in another way: it knows best.
    active = [job_id for job_id in wanted if job_id not in results]
    if active:
        sent = yield from service.cancel(active, reason=reason, abort=abort, delete=delete)
        if len(sent) != len(active):
            raise UnexpectedAnswer(f"{service.name} was asked to cancel {len(active)} jobs and told of {len(sent)}")
        for job_id, result in zip(active, sent, strict=True):
            results[job_id] = _settled(known.get(job_id), result, delete=delete)
    return [results[job_id] for job_id in ids]


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


def _send(service: Service, info: JobInfo, reason: str | None, *, abort: bool, delete: bool) -> Op[CancelResult]:
    """Send the request for a job that was seen active; a lost race is an outcome."""
    try:
        [result] = yield from service.cancel([info.id], reason=reason, abort=abort, delete=delete)
    except Conflict:
        now = yield from service.get(info.id)
        if now.terminal:
            return _already(now, reason).model_copy(update={"before": info.state})
        if not now.cancel_requested:
            raise
        return CancelResult(
            job_id=info.id, outcome=CancelOutcome.CANCEL_REQUESTED, before=info.state, after=now.state, reason=reason
        )
    result = _settled(info, result, delete=delete)
    if result.outcome is CancelOutcome.NOT_FOUND:
        raise JobNotFound(f"there is no job {info.id}", status=404, code="job_not_found")
    if result.outcome is CancelOutcome.ALREADY_TERMINAL and result.after is JobState.CANCELLED:
        # Either someone else was faster, or the answer to our own first try was lost.
        now = yield from service.get(info.id)
        if now.cancel_reason == reason:
            return result.model_copy(update={"outcome": CancelOutcome.CANCELLED, "before": info.state})
    return result


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
    seconds: float,
    clock: Callable[[], float],
    *,
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
            if info.terminal:
                ours = info.state is JobState.CANCELLED
                outcome = CancelOutcome.CANCELLED if ours else CancelOutcome.FINISHED_FIRST
                return result.model_copy(update={"outcome": outcome, "after": info.state})
            if service.capabilities.cancel_can_be_lost and clock() - sent >= SEND_AGAIN:
                sent = clock()
                yield from service.cancel([info.id], reason=result.reason, abort=abort, delete=delete)
        except (TransportError, ServiceUnavailable, RateLimited, Conflict):
            continue
        except JobNotFound:
            raise JobVanished(info.id, info) from None
