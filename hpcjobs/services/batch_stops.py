"""Asks AWS Batch that jobs stop: many at once where the endpoint can do that, and says what was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcjobs.errors import InvalidRequest, NotFound, RateLimited, ServiceError, ServiceUnavailable
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, CancelResult, JobInfo
from hpcjobs.protocol import Op, sleep
from hpcjobs.services.batch_errors import NO_SUCH_OPERATION, error_with
from hpcjobs.services.batch_records import own_reason

STOP = 50
"""Most jobs that are cancelled in one request."""

STOP_PAUSES = (1.0, 2.0, 4.0)
"""Seconds before those of many jobs are asked to stop again for which AWS was too busy."""


class Stopping:
    """Sends the requests.

    Args:
        ask: Asks AWS Batch: an operation and its body.
        spelled: An id as it is in answers.
    """

    def __init__(
        self, ask: Callable[[str, Mapping[str, Any]], Op[dict[str, Any]]], spelled: Callable[[str], str]
    ) -> None:
        self._ask, self._spelled = ask, spelled
        self._bulk = True

    def stop(self, ids: Sequence[str], reason: str, *, abort: bool) -> Op[dict[str, ServiceError]]:
        """Send the requests: for many at once where the endpoint can do that. Returns what was refused, and why."""
        operation = "terminatejob" if abort else "canceljob"
        refused: dict[str, ServiceError] = {}
        left = list(ids)
        if self._bulk and len(ids) > 1:
            try:
                for some in chunks(ids, STOP):
                    refused |= yield from self._many(operation + "s", some, reason)
                    left = left[len(some) :]
            except ServiceError as error:
                if error.status != 404 and error.code not in NO_SUCH_OPERATION:
                    raise
                self._bulk = False  # it is from before September 2026
        for job_id in left:
            try:
                yield from self._ask(operation, {"jobId": job_id, "reason": reason})
            except (InvalidRequest, NotFound) as error:
                refused[job_id] = error
        return refused

    def _many(self, operation: str, ids: Sequence[str], reason: str) -> Op[dict[str, ServiceError]]:
        """One request for many jobs, and once more for those for which AWS was too busy."""
        refused: dict[str, ServiceError] = {}
        some = list(ids)
        for pause in (*STOP_PAUSES, None):
            answer = yield from self._ask(operation, {"jobs": some, "reason": reason})
            errors = {
                str(item["job"]): error_with(str(item.get("code") or ""), str(item.get("message") or "was refused"))
                for item in answer.get("errors") or []
            }
            again = [one for one, error in errors.items() if isinstance(error, (RateLimited, ServiceUnavailable))]
            refused |= {self._spelled(one): error for one, error in errors.items() if pause is None or one not in again}
            some = again
            if not again or pause is None:
                break
            yield from sleep(pause)
        return refused


def outcome(job_id: str, info: JobInfo | None, reason: str | None, sent: str, *, abort: bool) -> CancelResult:
    """What a request has come to, by the look after it."""
    told: dict[str, Any] = {"job_id": job_id, "reason": reason}
    if info is None:
        return CancelResult(outcome=CancelOutcome.NOT_FOUND, **told)
    told["after"] = info.state
    if info.terminal:
        ours = info.state is JobState.CANCELLED and info.cancel_reason == own_reason(sent)
        return CancelResult(outcome=CancelOutcome.CANCELLED if ours else CancelOutcome.ALREADY_TERMINAL, **told)
    if not abort and info.native_state in {"STARTING", "RUNNING"}:
        return CancelResult(outcome=CancelOutcome.LEFT_RUNNING, **told)
    return CancelResult(outcome=CancelOutcome.CANCEL_REQUESTED, **told)


def chunks(ids: Sequence[str], size: int) -> list[list[str]]:
    """Ids in pieces of so many."""
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]
