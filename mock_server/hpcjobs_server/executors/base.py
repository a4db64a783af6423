"""What a worker expects of an executor."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Protocol

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Progress
from hpcjobs_server.store import Claim


class Cause(str, enum.Enum):
    """Why an attempt was ended from outside."""

    CANCEL = "cancel"
    """Its owner asked."""
    STOP = "stop"
    """The service is being stopped, and does not wait."""
    SUPERSEDED = "superseded"
    """The attempt is no longer this worker's: nobody wants its result."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How an attempt's processes ended.

    Attributes:
        exit_code: The exit status, or None where a signal ended it or it never ran.
        signal: The signal that ended it.
        aborted: SIGTERM was sent because of an abort.
        timed_out: It was stopped at its walltime.
        lost: It was stopped because the worker was silent for too long.
        problem: Why it could not be started or watched, in words.
        said: The message of a ``JobAborted`` that ended it from inside.
        error: The error that ended its work, where the job said so.
        note: What a user should know if the job failed by itself.
        cpu_seconds: Processor time of all its processes.
        peak_memory: The largest resident memory of any of its processes, in bytes.
        host: Where it ran, if that was not this host.
        left: It goes on without this worker, and another one watches it.
    """

    exit_code: int | None = None
    signal: int | None = None
    aborted: bool = False
    timed_out: bool = False
    lost: bool = False
    problem: str | None = None
    said: str | None = None
    error: str | None = None
    note: str | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    host: str | None = None
    left: bool = False


@dataclasses.dataclass(frozen=True)
class Move:
    """Where an attempt is that a cluster has.

    Attributes:
        state: The state.
        reason: Why it is there, in words.
        cluster_job: The cluster's own id of it.
        started_at: When the cluster started it.
        spared: It was to stop only if it had not started, and has: nobody stops it.
    """

    state: JobState
    reason: str | None = None
    cluster_job: str | None = None
    started_at: dt.datetime | None = None
    spared: bool = False


class CannotRun(Exception):
    """What is asked cannot be run here; says why."""


class Execution(Protocol):
    """One attempt that an executor runs."""

    async def prepare(self) -> None:
        """Put the inputs in place.

        Raises:
            OSError: That is impossible.
            CannotRun: There is nothing that could be run.
        """

    async def start(self) -> None:
        """Start the program; how it went is told by :meth:`wait`."""

    async def wait(self) -> Ended:
        """Wait until nothing of the attempt is left."""
        ...

    def abort(self, *, gently: bool = False) -> None:
        """Ask the attempt to stop; the executor sees to it that it does.

        Args:
            gently: Whether it is left alone if it has started.
        """

    def kill(self) -> None:
        """End the attempt at once, without its grace time."""

    def leave(self) -> None:
        """Let go of it. What runs on this host ends; what a cluster has goes on without this worker."""

    def ping(self) -> None:
        """Say that the worker is alive and the attempt is still its own."""

    def progress(self) -> Progress | None:
        """How far it is, if that is news since the last call. May read files."""

    def moved(self) -> Move | None:
        """Where it is, if that is news since the last call."""


class Executor(Protocol):
    """A way to run jobs.

    Attributes:
        cluster: The kind of cluster that jobs are handed to, which then outlive a worker; None where it runs them.
        slots: What a worker can give to jobs at once.
    """

    cluster: str | None
    slots: int

    def weight(self, cores: int) -> int:
        """How many of its slots a job with so many cores takes."""
        ...

    def execution(self, claim: Claim) -> Execution:
        """The execution of one attempt; nothing is started yet."""
        ...

    async def close(self) -> None:
        """Give everything back; no execution is under way."""
