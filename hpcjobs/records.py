"""What a service has written down about a job, and how its queues are set."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Duration, Reason, _Asked, _Told


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

    def __str__(self) -> str:
        word = "cancelling" if self.cancel_requested and not self.state.terminal else str(self.state)
        because = f": {self.reason}" if self.reason else ""
        return f"{self.at:%Y-%m-%d %H:%M:%S} {word} by {self.actor or 'the service'}{because}"


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
