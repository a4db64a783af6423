"""What came of actions on many jobs, kept for a while so that a page can show it after it was asked for.

In memory: an outcome is news, the jobs themselves are in the database. After a restart the page says that it is gone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hpcjobs.actions import DeleteResult, RetryResult, outcomes
from hpcjobs.lifecycle import Action
from hpcjobs.models import CancelResult

KEPT = 3600.0
"""Seconds."""
MOST = 200
"""Of all owners."""
MOST_RESULTS = 1000
"""Results of one action that are kept one by one; all are counted."""

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "CANCELLED": "cancelled",
        "CANCEL_REQUESTED": "asked to stop",
        "ALREADY_TERMINAL": "had already ended",
        "LEFT_RUNNING": "had started and left alone",
        "FINISHED_FIRST": "ended by itself first",
        "RETRIED": "to run again",
        "DELETED": "deleted",
        "STILL_RUNNING": "running, so left alone",
        "NOT_FOUND": "not there any more",
    }
)
"""How an outcome reads after the number of jobs that came to it."""

Result = CancelResult | RetryResult | DeleteResult


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one action.

    Attributes:
        action: What was asked.
        owner: Who asked.
        reason: Why, where they said it.
        at: When.
        counts: How many jobs came to what.
        results: The first of them one by one.
        names: What those jobs were called when it was asked, by id.
        stopped: Why it was not done to all of the jobs that it was asked for; empty where it was.
    """

    action: Action
    owner: str
    reason: str | None
    at: dt.datetime
    counts: dict[str, int]
    results: Sequence[Result]
    names: dict[str, str]
    stopped: str = ""

    @classmethod
    def of(
        cls,
        action: Action,
        owner: str,
        results: Sequence[Result],
        *,
        reason: str | None,
        names: dict[str, str],
        stopped: str = "",
    ) -> Outcome:
        """Sum up what came of it now."""
        kept = list(results[:MOST_RESULTS])
        ids = {result.job_id for result in kept}
        return cls(
            action,
            owner,
            reason,
            dt.datetime.now(dt.timezone.utc),
            outcomes(results),
            kept,
            {job_id: name for job_id, name in names.items() if job_id in ids},
            stopped,
        )

    @property
    def total(self) -> int:
        """How many jobs it was asked of."""
        return sum(self.counts.values())


class Outcomes:
    """Keeps them, each under a name that cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Outcome]] = OrderedDict()

    def keep(self, outcome: Outcome) -> str:
        """Keep one; its name."""
        now = time.monotonic()
        while self._kept and (len(self._kept) >= MOST or next(iter(self._kept.values()))[0] < now - KEPT):
            self._kept.popitem(last=False)
        name = secrets.token_urlsafe(12)
        self._kept[name] = (now, outcome)
        return name

    def find(self, name: str, owner: str) -> Outcome | None:
        """One that ``owner`` asked for; None where it is not kept any more."""
        at, found = self._kept.get(name, (0.0, None))
        if found is None or found.owner != owner or at < time.monotonic() - KEPT:
            return None
        return found
