"""What a service has written down about a job, and how its queues are set."""

from __future__ import annotations

import datetime as dt
import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Duration, Reason, _Asked, _Told
from hpcjobs.wording import clean, duration, size


class Change(_Told):
    """One change of a job's state."""

    state: JobState
    at: dt.datetime
    attempt: int = 0
    actor: str | None = None
    """Who made it: an owner, or a part of the service."""
    reason: str | None = None
    cancel_requested: bool = False
    """The job had been asked to stop."""

    @property
    def word(self) -> str:
        """The state as it is shown: "cancelling" once the job was asked to stop."""
        return "cancelling" if self.cancel_requested and not self.state.terminal else str(self.state)

    def __str__(self) -> str:
        because = f": {self.reason}" if self.reason else ""
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.word} by {self.actor or 'the service'}{because}"

    def __repr__(self) -> str:
        return f"<Change {self}>"


class AttemptInfo(_Told):
    """One execution of a job that has ended."""

    attempt: int
    state: JobState
    """How this attempt ended: FINISHED, FAILED or CANCELLED, whatever became of the job."""
    reason: str | None = None
    exit_code: int | None = None
    host: str | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    cpu_seconds: float | None = None
    """Processor time of all its processes, user and system, in seconds."""
    peak_memory: int | None = None
    """The largest resident memory of any of its processes, in bytes."""

    @property
    def run_time(self) -> dt.timedelta | None:
        """How long it ran."""
        return self.finished_at - self.started_at if self.finished_at and self.started_at else None

    def __str__(self) -> str:
        told = [
            f"ran {duration(self.run_time)}" if self.run_time is not None else "",
            f"{self.cpu_seconds:.2f} s of processor time" if self.cpu_seconds is not None else "",
            f"{size(self.peak_memory)} of memory" if self.peak_memory is not None else "",
            f"on {self.host}" if self.host else "",
        ]
        because = f": {self.reason}" if self.reason else ""
        return f"attempt {self.attempt} {', '.join([str(self.state), *filter(None, told)])}{because}"

    def __repr__(self) -> str:
        return f"<AttemptInfo {self}>"


class History(_Told):
    """Everything that was written down about a job."""

    changes: list[Change]
    """The changes of its state, oldest first."""
    attempts: list[AttemptInfo] = Field(default_factory=list)
    """Its attempts that have ended, oldest first."""
    queue_time: Duration | None = None
    """How long it was ready, or waiting to be, in all its attempts."""
    run_time: Duration | None = None
    """How long it ran, in all its attempts."""
    truncated: bool = False
    """There was more than is told: the oldest changes or attempts are left out."""

    def __str__(self) -> str:
        return "\n".join(
            clean(line) for line in [*map(str, self.changes), *map(str, self.attempts), self._times()] if line
        )

    def __repr__(self) -> str:
        return f"<History in UTC:\n{textwrap.indent(str(self), '  ')}>"

    def _repr_html_(self) -> str:
        """What a notebook shows for a history that is the last line of a cell."""
        changes = [
            (
                f"{change.at:%Y-%m-%d %H:%M:%S}",
                change.word,
                str(change.attempt or ""),
                change.actor or "",
                change.reason or "",
            )
            for change in self.changes
        ]
        attempts = [
            (
                str(attempt.attempt),
                str(attempt.state),
                "" if attempt.run_time is None else duration(attempt.run_time),
                "" if attempt.cpu_seconds is None else f"{attempt.cpu_seconds:.2f} s",
                "" if attempt.peak_memory is None else size(attempt.peak_memory),
                attempt.host or "",
            )
            for attempt in self.attempts
        ]
        tables = _table(("When (UTC)", "State", "Attempt", "By", "Reason"), changes)
        if attempts:
            heads = ("Attempt", "Ended", "Ran", "Processor time", "Peak memory", "Host")
            tables += _table(heads, attempts)
        return f"<div>{tables}<div>{html.escape(self._times())}</div></div>"

    def _times(self) -> str:
        waited = "" if self.queue_time is None else f"waited {duration(self.queue_time)}"
        ran = "" if self.run_time is None else f"ran {duration(self.run_time)}"
        cut = "the oldest entries are left out" if self.truncated else ""
        return ", ".join(filter(None, [waited, ran, cut]))


class QueueInfo(_Told):
    """A queue of the reference server, and how it is set."""

    name: str
    paused: bool = False
    """Whether its jobs are held back; those that run go on."""
    reason: str | None = None
    """Why it is paused."""
    max_running: int | None = None
    """The most of its jobs that run at once; None for no limit."""
    max_walltime: Duration | None = None
    """The longest that its jobs may run; None for no limit."""
    counts: dict[JobState, int] = Field(default_factory=dict)
    """How many jobs that have not ended are in which state; of everybody."""

    def __str__(self) -> str:
        because = f": {self.reason}" if self.reason else ""
        told = [
            *([f"paused{because}"] if self.paused else []),
            *(f"{count} {state}" for state, count in sorted(self.counts.items())),
            *([] if self.max_running is None else [f"at most {self.max_running} running"]),
            *([] if self.max_walltime is None else [f"walltime {duration(self.max_walltime)} at most"]),
        ]
        return clean(f"{self.name}: {', '.join(told) or 'no jobs'}")

    def __repr__(self) -> str:
        return f"<QueueInfo {self}>"


class QueueList(_Told):
    """All queues that are set, or have jobs."""

    items: list[QueueInfo]


class QueueOrder(_Asked):
    """How a queue is to be set; what is not given stays as it is."""

    paused: bool | None = None
    reason: Reason | None = None
    max_running: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """None, given: no limit."""
    max_walltime: Annotated[Duration, Field(gt=dt.timedelta(0))] | None = None
    """None, given: no limit."""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in HTML without a style sheet, because a saved notebook is shown without one."""

    def line(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(f'<{tag} style="text-align:left">{html.escape(clean(cell))}</{tag}>' for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<table style="margin:4px 0"><thead>{line("th", heads)}</thead><tbody>{body}</tbody></table>'
