"""Arrays: many jobs of one spec, submitted at once.

Each job of an array has an index, and an item where the array was made ``over`` something. In the command ``{name}``
stands for the value of ``name`` in an item that is an object, ``{item}`` for any other item, and ``{index}`` for the
index; nothing else in braces is touched. In a shell command the values are quoted. The fields of an item are arguments
of a named task.

Example:
    >>> fill("fit.py --damping {damping} > ${HOME}/{index}.txt", {"damping": 0.05}, 3)
    'fit.py --damping 0.05 > ${HOME}/3.txt'
"""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import JobState
from hpcjobs.models import MAX_BULK, JobInfo, JobSpec, Json, Progress, _Asked, _Told, problems_of

_PLACE = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


def fill(command: str | list[str], item: Any, index: int) -> str | list[str]:
    """The command of one job of an array.

    Args:
        command: The array's command.
        item: What the job stands for, as JSON has it.
        index: Its index.
    """
    values = dict(item) if isinstance(item, Mapping) else {}
    values = {"index": index, **({} if item is None else {"item": item}), **values}

    def text(match: re.Match[str], *, quoted: bool) -> str:
        if match[1] not in values:
            return match[0]
        value = values[match[1]]
        plain = value if isinstance(value, str) else json.dumps(value)
        return shlex.quote(plain) if quoted else plain

    if isinstance(command, str):
        return _PLACE.sub(lambda match: text(match, quoted=True), command)
    return [_PLACE.sub(lambda match: text(match, quoted=False), part) for part in command]


def own_spec(info: JobInfo) -> dict[str, Any]:
    """What one job was asked: of a job of an array, its own command or arguments, as :func:`one_of` has them.

    A service's own words for a job, which are no spec of ours, come back as they are.

    Example:
        >>> from hpcjobs.models import JobInfo
        >>> own_spec(JobInfo(id="1", state="QUEUED", array_index=2, spec={"command": "fit {index}"}))
        {'command': 'fit 2'}
    """
    spec = info.spec or {}
    if info.array_index is None:
        return spec
    if spec.get("command"):
        return {**spec, "command": fill(spec["command"], info.item, info.array_index)}
    if spec.get("task") and isinstance(info.item, Mapping):
        return {**spec, "args": {**(spec.get("args") or {}), **info.item}}
    return spec


def one_of(spec: JobSpec, item: Any, index: int) -> JobSpec:
    """The spec of one job of an array: its command filled, or the item's fields among its task's arguments.

    Args:
        spec: The array's spec.
        item: What the job stands for, as JSON has it.
        index: Its index.

    Example:
        >>> one_of(JobSpec(task="fit", args={"order": 2}), {"day": "2026-05-01"}, 0).args
        {'order': 2, 'day': '2026-05-01'}
    """
    if spec.command is not None:
        return spec.model_copy(update={"command": fill(spec.command, item, index)})
    if isinstance(item, Mapping):
        return spec.model_copy(update={"args": {**(spec.args or {}), **item}})
    return spec


class ArrayOrder(_Asked):
    """A request for an array."""

    spec: JobSpec
    size: Annotated[int, Field(ge=1, le=MAX_BULK)] | None = None
    """How many jobs; in place of ``over``."""
    over: Annotated[list[Json], Field(min_length=1, max_length=MAX_BULK)] | None = None
    """One job per item; anything JSON."""

    @model_validator(mode="after")
    def _one_size(self) -> ArrayOrder:
        if (self.size is None) == (self.over is None):
            raise ValueError("give over=[...] with an item per job, or the number of jobs")
        if self.spec.name is not None and len(self.spec.name) > 190:
            raise ValueError("the name of an array has 190 characters at most: its jobs add their index")
        return self

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> ArrayOrder:
        """Validate ``fields`` and say plainly what is wrong.

        Raises:
            InvalidSpec: With every problem and what is allowed.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise InvalidSpec(problems_of(error, cls.model_fields)) from None


class ArrayInfo(_Told):
    """What is known of an array at one moment."""

    id: str
    size: int
    """How many jobs were asked for."""
    name: str | None = None
    owner: str | None = None
    counts: dict[JobState, int] = Field(default_factory=dict)
    """How many of its jobs are in which state; those that were deleted count no longer."""
    progress: Progress | None = None
    """Of all its jobs together: a job that has ended counts as 1, one that runs as its own fraction."""
    created_at: dt.datetime | None = None
    spec: dict[str, Any] | None = None
    """What was asked, where the service tells."""

    @property
    def terminal(self) -> bool:
        """Whether all jobs have ended."""
        return all(state.terminal for state in self.counts)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        return f"{self.name or self.id}: {counted or 'no jobs'}"


class NewJobs(_Told):
    """The jobs that were made by one request, in its order."""

    ids: list[str]
    states: list[JobState]
    """The state of each."""
    created_at: dt.datetime
    array: ArrayInfo | None = None


class ManyOrder(_Asked):
    """A request for many jobs, each with a spec of its own."""

    specs: list[JobSpec] = Field(min_length=1, max_length=MAX_BULK)
