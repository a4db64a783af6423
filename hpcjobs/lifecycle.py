"""The states of a job, their order, and which action each state allows.

Both ends use this module: the client to precheck an action, the reference server to guard it.
It imports nothing but the standard library.

Example:
    >>> from hpcjobs.lifecycle import Action, JobState
    >>> JobState.QUEUED < JobState.RUNNING
    True
    >>> JobState.FAILED.terminal
    True
    >>> JobState.RUNNING.allows(Action.DELETE)
    False
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Mapping
from types import MappingProxyType


class Action(str, enum.Enum):
    """What can be asked of a job that exists."""

    CANCEL = "cancel"
    """Ask that the job not run, or stop."""
    RETRY = "retry"
    """Make the job ready to run again."""
    UPDATE = "update"
    """Change what was asked, while it can still matter."""
    DELETE = "delete"
    """Remove the job's record and files."""


class JobState(str, enum.Enum):
    """Where a job is in its life.

    The order is the usual way through life, so that ``state >= JobState.RUNNING`` reads as it sounds. A job may go
    backwards all the same (a retry requeues it), so nothing may assume that a state only grows. ``UNKNOWN`` sorts
    first.
    """

    UNKNOWN = "UNKNOWN"
    """A word that this version does not know. Not terminal; ``JobInfo.native_state`` has the word itself."""
    PENDING = "PENDING"
    """Accepted, not ready: waits for other jobs, a start time, or a release from hold."""
    QUEUED = "QUEUED"
    """Ready, waits for resources."""
    STAGING = "STAGING"
    """Being prepared: inputs are being put in place."""
    RUNNING = "RUNNING"
    """Executing."""
    PAUSED = "PAUSED"
    """Stopped by the service; goes on by itself or by an operator. Not terminal."""
    ARCHIVING = "ARCHIVING"
    """The work has ended; outputs are being stored and the place is being cleaned."""
    FINISHED = "FINISHED"
    """Ended well."""
    FAILED = "FAILED"
    """Ended badly; the reason and the exit code say how."""
    CANCELLED = "CANCELLED"
    """Ended because someone asked."""

    @property
    def terminal(self) -> bool:
        """True where the job has ended and will not change by itself."""
        return self in TERMINAL

    @property
    def not_started(self) -> bool:
        """True where nothing of the job has been started: PENDING and QUEUED, nothing else."""
        return self in NOT_STARTED

    def allows(self, action: Action) -> bool:
        """Whether a job in this state can be asked for ``action``."""
        return self in ALLOWED[action]

    def __str__(self) -> str:
        return self.value

    def __lt__(self, other: object) -> bool:
        return _rank(self) < _rank(other) if isinstance(other, JobState) else NotImplemented

    def __le__(self, other: object) -> bool:
        return _rank(self) <= _rank(other) if isinstance(other, JobState) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return _rank(self) > _rank(other) if isinstance(other, JobState) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return _rank(self) >= _rank(other) if isinstance(other, JobState) else NotImplemented


_RANKS: dict[str, int] = {state.value: rank for rank, state in enumerate(JobState)}


def _rank(state: JobState) -> int:
    return _RANKS[state.value]


TERMINAL: frozenset[JobState] = frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED})
"""The states that end a job."""

NOT_STARTED: frozenset[JobState] = frozenset({JobState.PENDING, JobState.QUEUED})
"""The states in which nothing of a job has been started."""

ACTIVE: frozenset[JobState] = frozenset(JobState) - TERMINAL
"""The states from which a job can still change by itself."""

GROUPS: Mapping[str, frozenset[JobState]] = MappingProxyType({"active": ACTIVE, "ended": TERMINAL})
"""Words that stand for several states where one looks for jobs."""

ALLOWED: Mapping[Action, frozenset[JobState]] = MappingProxyType(
    {
        Action.CANCEL: ACTIVE,
        Action.RETRY: TERMINAL | NOT_STARTED,
        Action.UPDATE: NOT_STARTED,
        Action.DELETE: TERMINAL | NOT_STARTED,
    }
)
"""Which action is worth sending in which state: the table behind every precheck."""

MEANT: Mapping[Action, frozenset[JobState]] = MappingProxyType(
    {**ALLOWED, Action.RETRY: frozenset({JobState.FAILED, JobState.CANCELLED})}
)
"""The states that are meant where an action is asked of many jobs at once and no state is named: what ended well is not
run again."""

REFERENCE_WORDS: Mapping[str, JobState] = MappingProxyType({state.value: state for state in JobState})
"""The reference server speaks these words itself."""

TAPIS_WORDS: Mapping[str, JobState] = MappingProxyType(
    {
        "PENDING": JobState.PENDING,
        "PROCESSING_INPUTS": JobState.STAGING,
        "STAGING_INPUTS": JobState.STAGING,
        "STAGING_JOB": JobState.STAGING,
        "SUBMITTING_JOB": JobState.STAGING,
        "QUEUED": JobState.QUEUED,
        "RUNNING": JobState.RUNNING,
        "ARCHIVING": JobState.ARCHIVING,
        "BLOCKED": JobState.PAUSED,
        "PAUSED": JobState.PAUSED,
        "FINISHED": JobState.FINISHED,
        "FAILED": JobState.FAILED,
        "CANCELLED": JobState.CANCELLED,
    }
)
"""The thirteen words of Tapis v3."""

BATCH_WORDS: Mapping[str, JobState] = MappingProxyType(
    {
        "SUBMITTED": JobState.PENDING,
        "PENDING": JobState.PENDING,
        "RUNNABLE": JobState.QUEUED,
        "STARTING": JobState.STAGING,
        "RUNNING": JobState.RUNNING,
        "SUCCEEDED": JobState.FINISHED,
        "FAILED": JobState.FAILED,
    }
)
"""The seven words of AWS Batch. It has none for CANCELLED: such a job is FAILED, and flags beside it say why."""

SLURM_WORDS: Mapping[str, JobState] = MappingProxyType(
    {
        "PENDING": JobState.QUEUED,  # PENDING where its reason says that it is not ready: see SLURM_NOT_READY
        "CONFIGURING": JobState.STAGING,
        "POWER_UP_NODE": JobState.STAGING,
        "RUNNING": JobState.RUNNING,
        "RESIZING": JobState.RUNNING,
        "SIGNALING": JobState.RUNNING,
        "SUSPENDED": JobState.PAUSED,
        "STOPPED": JobState.PAUSED,
        "COMPLETING": JobState.ARCHIVING,
        "STAGE_OUT": JobState.ARCHIVING,
        "REQUEUED": JobState.QUEUED,
        "REQUEUE_FED": JobState.QUEUED,
        "REQUEUE_HOLD": JobState.PENDING,
        "RESV_DEL_HOLD": JobState.PENDING,
        "SPECIAL_EXIT": JobState.PENDING,
        "COMPLETED": JobState.FINISHED,
        "CANCELLED": JobState.CANCELLED,
        "REVOKED": JobState.CANCELLED,
        "FAILED": JobState.FAILED,
        "TIMEOUT": JobState.FAILED,
        "NODE_FAIL": JobState.FAILED,
        "PREEMPTED": JobState.FAILED,
        "BOOT_FAIL": JobState.FAILED,
        "DEADLINE": JobState.FAILED,
        "OUT_OF_MEMORY": JobState.FAILED,
        "LAUNCH_FAILED": JobState.FAILED,
        "RECONFIG_FAIL": JobState.FAILED,
    }
)
"""Slurm's words: the base states and the flags that older versions show in their place."""

SLURM_NOT_READY: frozenset[str] = frozenset(
    {"Dependency", "DependencyNeverSatisfied", "BeginTime", "JobHeldUser", "JobHeldAdmin", "JobHoldMaxRequeue"}
)
"""The reasons for which a job that Slurm calls PENDING is not ready, and does not wait for resources only."""

_warned: set[str] = set()


def to_state(word: str, words: Mapping[str, JobState] = REFERENCE_WORDS) -> JobState:
    """Translate a service's own word to a :class:`JobState`.

    Args:
        word: The service's word, verbatim.
        words: The service's table.

    Returns:
        The state; ``JobState.UNKNOWN`` for a word that is not in the table, with one warning per word and process.

    Example:
        >>> to_state("RUNNING")
        <JobState.RUNNING: 'RUNNING'>
    """
    state = words.get(word)
    if state is not None:
        return state
    if word not in _warned:
        _warned.add(word)
        warnings.warn(f"the service says {word!r}, a state that this version of hpcjobs does not know", stacklevel=2)
    return JobState.UNKNOWN
