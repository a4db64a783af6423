"""Jobs in words: a line about one, counts about many. The same in a terminal, in a log and in a notebook."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs.wording import clean, duration

SYMBOLS = {
    JobState.UNKNOWN: "?",
    JobState.PENDING: "○",
    JobState.QUEUED: "○",
    JobState.STAGING: "◔",
    JobState.RUNNING: "●",
    JobState.PAUSED: "◍",
    JobState.ARCHIVING: "◕",
    JobState.FINISHED: "✔",
    JobState.FAILED: "✘",
    JobState.CANCELLED: "⊘",
}
"""A mark for each state; never shown without its word."""

COLOURS = {
    JobState.UNKNOWN: "magenta",
    JobState.PENDING: "yellow",
    JobState.QUEUED: "yellow",
    JobState.STAGING: "cyan",
    JobState.RUNNING: "blue",
    JobState.PAUSED: "magenta",
    JobState.ARCHIVING: "cyan",
    JobState.FINISHED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "bright_black",
}
"""A terminal colour for each state."""

FEW = 20
"""Up to so many jobs have lines of their own."""


def title(info: JobInfo) -> str:
    """What a job is called: its name and id, or its id."""
    return clean(f"{info.name} {info.id}" if info.name else info.id)


def why(info: JobInfo) -> str:
    """Why a job that has ended did not end well, as far as it is known."""
    asked = info.cancel_reason if info.state is JobState.CANCELLED else None
    return info.reason or asked or (f"exit code {info.exit_code}" if info.exit_code is not None else "")


def details(info: JobInfo, now: dt.datetime | None = None) -> str:
    """What else is worth saying of a job in a line: progress, why, for how long."""
    parts: list[str] = []
    if info.terminal:
        if info.state is not JobState.FINISHED:
            parts.append(why(info))
        if info.finished_at is not None:  # or else how it ended is not known whole yet
            ran = info.run_time(now)
            parts.append(f"ran {duration(ran)}" if ran is not None else "never ran")
    else:
        if info.progress is not None:
            parts.append(str(info.progress))
        elif info.reason:
            parts.append(info.reason)
        begun = info.run_time(now) if info.state > JobState.QUEUED else None
        waited = info.queue_time(now)
        if begun is not None:
            parts.append(duration(begun))
        elif waited is not None:
            parts.append(f"waiting {duration(waited)}")
    return clean(" · ".join(part for part in parts if part))


def counts(jobs: Sequence[JobInfo]) -> str:
    """How many jobs are in which state, ended ones first: ``3 of 5 ended · 2 FINISHED · 1 FAILED · 2 RUNNING``."""
    if not jobs:
        return "no jobs"
    labels = Counter((not info.terminal, info.label) for info in jobs)
    ended = sum(number for (going, _), number in labels.items() if not going)
    parts = [f"{number} {label}" for (_, label), number in sorted(labels.items())]
    return " · ".join([f"{ended} of {len(jobs)} ended", *parts])


def line(jobs: Sequence[JobInfo]) -> str:
    """One line about one job, or about many."""
    if len(jobs) != 1:
        return counts(jobs)
    (info,) = jobs
    rest = details(info)
    return f"{SYMBOLS[info.state]} {clean(info.label)}  {title(info)}" + (f"  {rest}" if rest else "")


def worth_a_line(jobs: Sequence[JobInfo]) -> list[JobInfo]:
    """Which of several jobs are shown one by one: all of a few; of many those that failed, run or were cancelled."""
    if len(jobs) <= FEW:
        return list(jobs)
    failed = [info for info in jobs if info.state is JobState.FAILED]
    going = [info for info in jobs if info.state > JobState.QUEUED and not info.terminal]
    return [*failed, *going, *(info for info in jobs if info.state is JobState.CANCELLED)]


def as_text(jobs: Sequence[JobInfo]) -> str:
    """Jobs as text: a line about one; about several the counts, and a line for each that is worth one."""
    if len(jobs) == 1:
        return line(jobs)
    rows = worth_a_line(jobs)
    more = [f"  and {len(rows) - FEW} more"] if len(rows) > FEW else []
    return "\n".join([counts(jobs), *(f"  {line([info])}" for info in rows[:FEW]), *more])
