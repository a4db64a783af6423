"""What is asked of jobs that exist, and what came of it.

Example:
    >>> from hpcjobs.actions import JobChanges
    >>> JobChanges(priority=5).given
    {'priority': 5}
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import JobState
from hpcjobs.models import (
    MAX_BULK,
    MAX_TAGS,
    CancelResult,
    Duration,
    JobFilter,
    JobInfo,
    JobSpec,
    Name,
    QueueName,
    Reason,
    Tag,
    _Asked,
    _finite,
    _Told,
    problems_of,
)

ALWAYS_CHANGEABLE = frozenset({"name", "tags", "meta", "max_attempts"})
"""What can be changed in every state; everything else would mislead once the job has started."""


class Selection(_Asked):
    """The jobs that an action is for: by id, or by a filter."""

    ids: list[str] = Field(default_factory=list, max_length=MAX_BULK)
    """Ids of jobs, or of arrays, for all of their jobs; a request for one job names it in its address."""
    filter: JobFilter | None = None
    """In place of ids: every condition that is given must hold; one at least."""
    cursor: str | None = Field(default=None, max_length=200)
    """With a filter: ``next`` of the answer before."""

    @model_validator(mode="after")
    def _one_way(self) -> Selection:
        if self.filter is not None and self.ids:
            raise ValueError("give ids or a filter, not both")
        if self.filter is not None and self.filter.empty:
            raise ValueError("the filter has no condition; to mean all jobs, list all states")
        return self


class CancelOrder(Selection):
    """A request to cancel jobs, as the reference server takes it."""

    reason: Reason | None = None
    abort: bool = True
    """Whether a job that has started is asked to stop."""
    delete: bool = False
    """Remove the record of a job that never started."""


class RetryOrder(Selection):
    """A request to run jobs again."""


class DeleteOrder(Selection):
    """A request to remove the records and files of jobs."""


class JobChanges(_Asked):
    """What is to be different about a job; what is not given stays as it is.

    Example:
        >>> JobChanges.parse({"start_in": "1h", "tags": ["night"]}).given["tags"]
        ['night']
    """

    name: Name | None = None
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] | None = None
    meta: Annotated[dict[str, Any], AfterValidator(_finite)] | None = None
    priority: Annotated[int, Field(ge=-32768, le=32767)] | None = None
    queue: QueueName | None = None
    start_at: dt.datetime | None = None
    """Not before; None for as soon as possible."""
    start_in: Duration | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    command: Annotated[str, StringConstraints(min_length=1, max_length=100_000)] | list[str] | None = None
    task: str | None = None
    args: Annotated[dict[str, Any], AfterValidator(_finite)] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is to be changed, by name."""
        return {name: getattr(self, name) for name in JobSpec.model_fields if name in self.model_fields_set}

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> JobChanges:
        """Validate ``fields`` and say plainly what is wrong.

        Raises:
            InvalidSpec: With every problem and what is allowed.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise InvalidSpec(problems_of(error, cls.model_fields)) from None

    def refused(self, state: JobState) -> list[str]:
        """The names of the changes that a job in this state refuses.

        Example:
            >>> JobChanges(tags=["night"], priority=3).refused(JobState.RUNNING)
            ['priority']
        """
        return [] if state.not_started else [name for name in self.given if name not in ALWAYS_CHANGEABLE]

    def apply(self, spec: Mapping[str, Any]) -> JobSpec:
        """What is asked, with the changes.

        Args:
            spec: What was asked, as JSON has it.

        Raises:
            InvalidSpec: That makes no job.
        """
        changed = {name: value for name, value in spec.items() if value is not None} | self.given
        if {"start_at", "start_in"} & self.model_fields_set:  # one takes the place of the other
            changed.update(start_at=self.start_at, start_in=self.start_in)
        for name in ("tags", "meta"):
            if changed.get(name, ()) is None:
                changed.pop(name)
        if "command" in self.model_fields_set:
            for name in ("task", "args", "function"):
                changed.pop(name, None)
        elif self.task is not None:
            for name in ("command", "function"):
                changed.pop(name, None)
        return JobSpec.parse(changed)


class JobUpdate(_Asked):
    """The changes to one job."""

    id: str
    changes: JobChanges
    version: int | None = None
    """Only if the record is still at this version."""


class UpdateOrder(Selection):
    """A request to change jobs: the same changes to all that are selected, or to each its own."""

    changes: JobChanges | None = None
    items: list[JobUpdate] = Field(default_factory=list, max_length=MAX_BULK)

    @model_validator(mode="after")
    def _one_kind(self) -> UpdateOrder:
        if bool(self.items) == (self.changes is not None):
            raise ValueError("give changes with ids or a filter, or items with an id and changes each")
        if self.items and (self.ids or self.filter is not None):
            raise ValueError("items name their jobs; leave out ids and filter")
        return self


class _Result(_Told):
    """What came of an action. It has no truth value: ask ``outcome`` or ``done``."""

    job_id: str
    before: JobState | None = None
    """The state before the request."""
    after: JobState | None = None
    """The state after it."""
    detail: str | None = None
    """Why nothing was done, in words."""
    jobs: dict[str, int] | None = None
    """Of an array: how many of its jobs came to which outcome."""

    def __bool__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} has no truth value; ask .done or .outcome")


class RetryOutcome(str, enum.Enum):
    """What a request to run a job again came to."""

    RETRIED = "RETRIED"
    """The job is ready, or waits only for the jobs that it depends on."""
    STILL_RUNNING = "STILL_RUNNING"
    """The job runs; nothing was changed."""
    NOT_FOUND = "NOT_FOUND"
    """There is no such job (in a bulk request; a single one raises ``JobNotFound``)."""

    def __str__(self) -> str:
        return self.value


class RetryResult(_Result):
    """What a request to run a job again came to."""

    outcome: RetryOutcome
    new_id: str | None = None
    """The job that runs in its place, where the service submits it anew; None where it is the same job."""

    @property
    def done(self) -> bool:
        """Whether the job runs again."""
        return self.outcome is RetryOutcome.RETRIED

    def __str__(self) -> str:
        words = {
            RetryOutcome.RETRIED: f"runs again as {self.new_id}" if self.new_id else f"is {self.after} again",
            RetryOutcome.STILL_RUNNING: f"is {self.before} and was left alone",
            RetryOutcome.NOT_FOUND: "is not known",
        }
        return f"job {self.job_id} {words[self.outcome]}"


class DeleteOutcome(str, enum.Enum):
    """What a request to delete a job came to."""

    DELETED = "DELETED"
    """The record is gone, and the files go."""
    STILL_RUNNING = "STILL_RUNNING"
    """The job runs; nothing was changed."""
    NOT_FOUND = "NOT_FOUND"
    """There is no such job (in a bulk request; a single one raises ``JobNotFound``)."""

    def __str__(self) -> str:
        return self.value


class DeleteResult(_Result):
    """What a request to delete a job came to."""

    outcome: DeleteOutcome

    @property
    def done(self) -> bool:
        """Whether the job was deleted."""
        return self.outcome is DeleteOutcome.DELETED

    def __str__(self) -> str:
        words = {
            DeleteOutcome.DELETED: "is deleted",
            DeleteOutcome.STILL_RUNNING: f"is {self.before} and was left alone; cancel it first",
            DeleteOutcome.NOT_FOUND: "is not known",
        }
        return f"job {self.job_id} {words[self.outcome]}"


class UpdateOutcome(str, enum.Enum):
    """What a request to change a job came to."""

    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    """It was like that already."""
    REFUSED = "REFUSED"
    """The job has started, and the changes would mislead; ``detail`` names them."""
    INVALID = "INVALID"
    """The changes make no job; ``detail`` says why."""
    STALE = "STALE"
    """Someone else changed the job first."""
    NOT_FOUND = "NOT_FOUND"
    """There is no such job (in a bulk request; a single one raises ``JobNotFound``)."""

    def __str__(self) -> str:
        return self.value


class UpdateResult(_Result):
    """What a request to change a job came to."""

    outcome: UpdateOutcome
    version: int | None = None
    """The version of the record now."""
    info: JobInfo | None = None
    """The job as it is now, where the service tells."""

    @property
    def done(self) -> bool:
        """Whether the job is now as it was asked for."""
        return self.outcome in {UpdateOutcome.UPDATED, UpdateOutcome.UNCHANGED}

    def __str__(self) -> str:
        words = {
            UpdateOutcome.UPDATED: "is changed",
            UpdateOutcome.UNCHANGED: "was like that already",
            UpdateOutcome.REFUSED: "was left as it is",
            UpdateOutcome.INVALID: "was left as it is",
            UpdateOutcome.STALE: "was changed by someone else first",
            UpdateOutcome.NOT_FOUND: "is not known",
        }
        return f"job {self.job_id} {words[self.outcome]}" + (f": {self.detail}" if self.detail else "")


class _Answer(_Told):
    next: str | None = None
    """With a filter: what to ask for the jobs that did not fit; None at the end."""


class CancelAnswer(_Answer):
    """What a bulk request to cancel came to: one result per id, in the order of the ids."""

    results: list[CancelResult]


class RetryAnswer(_Answer):
    """What a bulk request to retry came to: one result per id, in the order of the ids."""

    results: list[RetryResult]


class DeleteAnswer(_Answer):
    """What a bulk request to delete came to: one result per id, in the order of the ids."""

    results: list[DeleteResult]


class UpdateAnswer(_Answer):
    """What a bulk request to update came to: one result per id, in the order of the ids."""

    results: list[UpdateResult]


def outcomes(results: Iterable[CancelResult | RetryResult | DeleteResult | UpdateResult]) -> dict[str, int]:
    """How many results have which outcome; those of an array count as its jobs.

    Example:
        >>> outcomes([RetryResult(job_id="a", outcome="RETRIED"), RetryResult(job_id="b", outcome="NOT_FOUND")])
        {'RETRIED': 1, 'NOT_FOUND': 1}
    """
    counts: dict[str, int] = {}
    for result in results:
        for outcome, count in (result.jobs or {str(result.outcome): 1}).items():
            counts[outcome] = counts.get(outcome, 0) + count
    return counts
