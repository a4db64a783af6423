"""What one client remembers of jobs: Slurm forgets them minutes after their end, and uses numbers again.

Everything here has a bound. Nothing here sends or waits; many threads may use it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs.services import slurm_comment
from hpcjobs.services.remembering import REMEMBERED, Remembered
from hpcjobs.services.slurm_records import num, words_of


@dataclasses.dataclass
class Known:
    """What is remembered of a job.

    Attributes:
        info: What was last known of it, without its record.
        comment: Its comment.
        submitted: When it was submitted, by Slurm's clock.
        restarts: How often it was started again.
        looked: When it was looked at, by a clock that only grows.
        asked: Why it was asked to stop by us; None where it was not.
    """

    info: JobInfo
    comment: str = ""
    submitted: int = 0
    restarts: int = 0
    looked: float = 0.0
    asked: str | None = None


class Memory:
    """Remembers the last look at each job.

    Args:
        clock: Seconds that only grow.
        most: Of how many jobs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = REMEMBERED) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: Remembered[Known] = Remembered(most)
        self._keys: Remembered[str] = Remembered(most)

    def known(self, job_id: str) -> Known | None:
        """What is remembered of a job."""
        return self._jobs.get(job_id)

    def age(self, known: Known) -> float:
        """Seconds since a job was looked at."""
        return self._clock() - known.looked

    def final(self, job_id: str) -> JobInfo | None:
        """How a job ended, where this client saw it; None where it did not."""
        known = self._jobs.get(job_id)
        return known.info if known is not None and known.info.terminal else None

    def of_array(self, array_id: str) -> list[JobInfo]:
        """What is remembered of the tasks of an array."""
        return [known.info for known in self._jobs.values() if known.info.array_id == array_id]

    def learn(self, info: JobInfo, record: Mapping[str, Any]) -> JobInfo | None:
        """Take note of a look at a job.

        Returns:
            The info, with what only we know of it; None where its number has become another job's.
        """
        submitted, restarts = num(record.get("submit_time")) or 0, num(record.get("restart_cnt")) or 0
        comment = str(record.get("comment") or "")
        with self._lock:
            before = self._jobs.get(info.id)
            if before is not None and _another(before, comment, submitted, restarts):
                return None
            # who asked one that was started again since meant the run before
            asked = before.asked if before is not None and restarts <= before.restarts else None
            if asked is not None:
                info = _asked(info, asked)
            bare = info.model_copy(update={"spec": None})
            known = Known(bare, comment, submitted, restarts, self._clock(), asked)
            self._jobs.put(info.id, known)
        return info

    def ended(self, info: JobInfo) -> None:
        """Take note of how a job ended that left no record."""
        with self._lock:
            before = self._jobs.get(info.id)
            known = dataclasses.replace(before, info=info) if before is not None else Known(info)
            self._jobs.put(info.id, known)

    def ask(self, job_id: str, reason: str | None) -> None:
        """Take note that a job was asked to stop by us."""
        with self._lock:
            if (known := self._jobs.get(job_id)) is not None:
                known.asked = reason or ""

    def bind(self, key: str, job_id: str) -> None:
        """Take note of the job that a submission key made."""
        self._keys.put(key, job_id)

    def by_key(self, key: str) -> str | None:
        """The job that a submission key made, where this client submitted it."""
        return self._keys.get(key)


def _asked(info: JobInfo, reason: str) -> JobInfo:
    """The info of a job that was asked to stop by us: an old version does not tell."""
    if not info.terminal:
        return info.model_copy(update={"cancel_requested": True, "cancel_reason": reason or info.cancel_reason})
    if info.state is JobState.CANCELLED and reason:
        return info.model_copy(update={"cancel_reason": reason, "reason": info.reason or reason})
    return info


def _another(before: Known, comment: str, submitted: int, restarts: int) -> bool:
    """Whether a number has become another job's: the controller's memory was lost, and it counts from 1 again."""
    old, new = slurm_comment.read(before.comment).key, slurm_comment.read(comment).key
    if old and new:
        return old != new
    return bool(before.submitted and submitted and before.submitted != submitted and restarts <= before.restarts)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The user's jobs at one moment, and what to ask for only if anything changed since.

    Attributes:
        jobs: The jobs, newest first.
        asked: When it was asked for, by a clock that only grows.
        taken: When it came, by that clock.
        cursor: What to ask with; None where the whole is needed again.
        latest: The latest moment in it, by Slurm's clock.
        since: When a list first had that moment, by a clock that only grows.
        keys: The submission keys in it, each with its job.
    """

    jobs: Sequence[JobInfo]
    asked: float
    taken: float
    cursor: int | None = None
    latest: int = 0
    since: float = 0.0
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)


_TIMES = ("submit_time", "start_time", "end_time", "last_sched_evaluation")
"""The moments of a job that has ended; others, as when it was to become ready, may lie in the future."""


def cursor_of(
    body: Mapping[str, Any], before: Listing | None, sent: float, now: float
) -> tuple[int | None, int, float]:
    """What to ask the next list with, and the latest moment in this one.

    Newer versions say what time it was when they answered. For an older one it is told by the jobs: where the latest
    moment that they name is the same in two answers a second apart, that second was over when the second answer was
    made, and whatever comes after it is later.

    Args:
        body: The answer.
        before: The list before.
        sent: When it was asked for, by a clock that only grows.
        now: When it came, by that clock.
    """
    if (told := num(body.get("last_update"))) is not None:
        return told, told, now
    # a start or an end in the future is only expected
    moments = [num(job.get(name)) or 0 for job in body.get("jobs") or () for name in _past(job)]
    latest = max(moments, default=0)
    if before is None or before.latest != latest:
        return None, latest, now
    return (latest + 1 if sent - before.since > 1.0 else None), latest, before.since


def _past(record: Mapping[str, Any]) -> Sequence[str]:
    words = words_of(record)
    if "RUNNING" in words or "SUSPENDED" in words:
        return ("submit_time", "start_time", "last_sched_evaluation")
    return ("submit_time", "last_sched_evaluation") if "PENDING" in words else _TIMES
