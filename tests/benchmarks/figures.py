"""What a measure gives, and how two things are compared on a machine that is never quiet."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a figure is meant to reach."""

    limit: float
    side: Literal["at most", "at least"] = "at most"

    def met(self, value: float) -> bool:
        return value <= self.limit if self.side == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.side == 'at most' else '≥'} {self.limit:g}"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        measure: The measure that it belongs to.
        what: What was measured, in words.
        value: The figure.
        unit: ``"x"`` for a ratio, or a unit.
        goal: What it is meant to reach, or None.
        detail: What is behind it, in words.
    """

    measure: str
    what: str
    value: float
    unit: str
    goal: Goal | None
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.goal.met(self.value)


def interleaved(rounds: int, **ways: Callable[[], float]) -> dict[str, list[float]]:
    """Do each way once per round, in turning order, so that what disturbs the machine disturbs all of them alike.

    Returns:
        What each way returned, by round.
    """
    names = list(ways)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(ways[name]())
    return found


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(one / other for one, other in zip(ours, baseline, strict=True))


def timed(action: Callable[[], object], times: int = 1, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds for each of ``times`` calls, on average, with the garbage collector's pauses left out."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        for _ in range(times):
            action()
        return (clock() - start) / times
    finally:
        gc.enable()


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(seconds: Sequence[float]) -> str:
    """The percentiles that matter, in milliseconds."""
    told = ", ".join(f"p{percent} {percentile(seconds, percent) * 1e3:.1f}" for percent in (50, 90, 95, 99))
    return f"{told}, max {max(seconds) * 1e3:.1f} ms (n={len(seconds)})"
