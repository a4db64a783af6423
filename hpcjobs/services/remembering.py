"""What a client remembers of jobs, where their service does not tell: of the last ones only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 10_000
"""Most jobs of which something is remembered."""


class Remembered(Generic[T]):
    """Something of each job, by its id; many threads may use it.

    Args:
        most: Of how many; the oldest ones are forgotten.

    Example:
        >>> reasons = Remembered[str](2)
        >>> for job_id in ("1", "2", "3"):
        ...     reasons.put(job_id, f"why {job_id}")
        >>> reasons.get("1"), reasons.get("3"), len(reasons.values())
        (None, 'why 3', 2)
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str) -> T | None:
        """What is remembered of a job; None where nothing is."""
        return self._known.get(job_id)

    def put(self, job_id: str, what: T) -> None:
        """Remember something of a job."""
        with self._lock:
            self._known[job_id] = what
            self._known.move_to_end(job_id)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def forget(self, job_id: str) -> None:
        """Remember nothing of a job any more."""
        with self._lock:
            self._known.pop(job_id, None)

    def values(self) -> list[T]:
        """What is remembered of all of them, the oldest first."""
        with self._lock:
            return list(self._known.values())
