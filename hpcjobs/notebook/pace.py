"""How fast a job goes, and how long it still takes, from what it says of its progress."""

from __future__ import annotations

import datetime as dt
from collections import deque

from hpcjobs.models import Progress
from hpcjobs.wording import duration

WINDOW = 60.0
"""Seconds of the past that count."""


class Pace:
    """What a job has said of its progress lately.

    Example:
        >>> pace = Pace()
        >>> start = dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc)
        >>> for second in range(3):
        ...     pace.add(Progress(done=10.0 * second, total=100, at=start + dt.timedelta(seconds=second)))
        >>> pace.rate, pace.remaining, str(pace)
        (10.0, 8.0, '10/s · 8.0 s left')
    """

    def __init__(self) -> None:
        self._said: deque[tuple[float, float]] = deque()
        self._last: Progress | None = None

    def add(self, progress: Progress | None) -> None:
        """Take note of what was said; one that goes back begins anew."""
        if progress is None:
            self._said.clear()
            self._last = None
            return
        if progress.at is None or (self._last is not None and progress == self._last):
            return
        when = progress.at.timestamp()
        if self._said and (progress.done < self._said[-1][1] or when < self._said[-1][0]):
            self._said.clear()
        self._last = progress
        self._said.append((when, progress.done))
        while len(self._said) > 2 and (self._said[1][0] < when - WINDOW or len(self._said) > 1000):
            self._said.popleft()

    @property
    def rate(self) -> float | None:
        """Units a second, where it is known."""
        if len(self._said) < 2:
            return None
        (first, start), (last, end) = self._said[0], self._said[-1]
        return (end - start) / (last - first) if last > first and end > start else None

    @property
    def remaining(self) -> float | None:
        """Seconds until it is done at this rate, counted from the last word; None where nobody knows."""
        rate, last = self.rate, self._last
        if rate is None or last is None or not last.total or last.done >= last.total:
            return None
        return (last.total - last.done) / rate

    def __str__(self) -> str:
        parts: list[str] = []
        if (rate := self.rate) is not None:
            parts.append(f"{rate:.3g}/s" if rate >= 0.1 else f"{60 * rate:.3g}/min")
        if (left := self.remaining) is not None:
            parts.append(f"{duration(dt.timedelta(seconds=left))} left")
        return " · ".join(parts)
