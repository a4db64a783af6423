"""The data that travels: what is asked of a service and what it answers.

``JobSpec`` forbids unknown fields, so that a typing error is found before anything is sent. ``JobInfo`` ignores
them, so that a newer server does not break an older client. The reference server validates with the same classes.

Example:
    >>> from hpcjobs.models import JobSpec
    >>> spec = JobSpec(command="python fit.py", resources={"cores": 2, "walltime": "1h30m", "memory": "4GiB"})
    >>> spec.resources.walltime
    datetime.timedelta(seconds=5400)
"""

from __future__ import annotations

import datetime as dt
import difflib
import enum
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import GROUPS, JobState, to_state
from hpcjobs.wording import size

MAX_REASON = 1024
"""The longest reason for a cancel, in characters."""

MAX_BULK = 10_000
"""Most jobs in one request."""

MAX_TAGS = 64
MAX_NAME = 200
MAX_INPUTS = 10_000
"""Most input files of one job."""

_LONGEST = dt.timedelta(days=3650)

_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86400, "day": 86400, "days": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d)$")
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b?)\s*$", re.IGNORECASE)


def parse_duration(value: object) -> dt.timedelta:
    """Read a length of time.

    Args:
        value: ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"``, Slurm's ``"[D-]HH:MM:SS"``, a number of
            seconds, or a timedelta.

    Raises:
        ValueError: For anything else, saying what is allowed.

    Example:
        >>> parse_duration("1-00:30:00").total_seconds()
        88200.0
    """
    allowed = 'write "90s", "10m", "1h30m", "2d", "HH:MM:SS", "D-HH:MM:SS" or a number of seconds'
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a length of time; {allowed}")
    if isinstance(value, (int, float)):
        return _seconds(float(value), value, allowed)
    if isinstance(value, str):
        text = value.strip()
        if clock := _CLOCK.match(text):
            part = {name: float(number or 0) for name, number in clock.groupdict().items()}
            return _seconds(part["d"] * 86400 + part["h"] * 3600 + part["m"] * 60 + part["s"], value, allowed)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return _seconds(float(text), value, allowed)
        seconds, end = 0.0, 0
        for match in _DURATION.finditer(text):
            if match.start() != end:
                break
            unit = _UNITS.get(match[2].lower())
            if unit is None:
                raise ValueError(f"{value!r} has the unknown unit {match[2]!r}; {allowed}")
            seconds, end = seconds + float(match[1]) * unit, match.end()
        if end and end == len(text):
            return _seconds(seconds, value, allowed)
    raise ValueError(f"{value!r} is not a length of time; {allowed}")


def _seconds(seconds: float, value: object, allowed: str) -> dt.timedelta:
    try:
        return dt.timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValueError(f"{value!r} is not a length of time that can be kept; {allowed}") from None


def parse_memory(value: object) -> int:
    """Read an amount of memory in bytes.

    Args:
        value: A number of bytes, or a number with a unit: ``"500MB"`` (powers of 1,000), ``"4GiB"`` (powers of 1,024);
            a lone letter, ``"4G"``, is a power of 1,024, as Slurm has it.

    Raises:
        ValueError: For anything else, saying what is allowed.

    Example:
        >>> parse_memory("1.5KiB"), parse_memory("2MB"), parse_memory("1G")
        (1536, 2000000, 1073741824)
    """
    allowed = 'write "500MB", "4GiB", "4G" or a number of bytes'
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not an amount of memory; {allowed}")
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (match := _MEMORY.match(value)):
        power = "kmgtp".find(match[2].lower()) + 1 if match[2] else 0
        base = 1000 if match[3].lower() == "b" else 1024
        amount = float(match[1]) * base**power
        if amount < 2**63:
            return int(amount)
    raise ValueError(f"{value!r} is not an amount of memory; {allowed}")


Duration = Annotated[
    dt.timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(lambda value: value.total_seconds(), when_used="json"),
]
"""A length of time: see :func:`parse_duration`. Travels as seconds."""

Memory = Annotated[int, BeforeValidator(parse_memory)]
"""An amount of memory: see :func:`parse_memory`. Travels as bytes."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")]
QueueName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Reason = Annotated[str, StringConstraints(max_length=MAX_REASON)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def check_file_name(name: str) -> str:
    """Check that a relative file name stays inside a folder, and return it.

    Raises:
        ValueError: If the name is empty, absolute, has a NUL, a backslash or a part ``..``, or is too long.

    Example:
        >>> check_file_name("data/record.csv")
        'data/record.csv'
    """
    if not name or name in {".", "/"}:
        raise ValueError("a file needs a name")
    if "\x00" in name:
        raise ValueError(f"the file name {name!r} has a NUL in it")
    if "\\" in name:
        raise ValueError(f"the file name {name!r} has a backslash in it; write folders with /")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the file name {name!r} leaves the job's folder; use a relative name without '..'")
    if len(name.encode("utf-8", "surrogatepass")) > 1000 or any(
        len(part.encode("utf-8", "surrogatepass")) > 255 for part in path.parts
    ):
        raise ValueError(f"the file name {name[:60]!r}... is too long (a part has at most 255 bytes, the whole 1,000)")
    return str(path)


FileName = Annotated[str, BeforeValidator(lambda value: check_file_name(value) if isinstance(value, str) else value)]


class _Asked(BaseModel):
    """What is sent: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Told(BaseModel):
    """What is received: a field that is not known is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Resources(_Asked):
    """What a job needs to run."""

    cores: int = Field(default=1, ge=1, le=1_000_000)
    """Processor cores."""
    memory: Memory | None = Field(default=None, ge=1)
    """Bytes of memory, or ``"4GiB"``. The reference server's local executor takes note of it and enforces nothing."""
    walltime: Duration | None = None
    """The longest time that the job may run, then it is stopped and FAILED; None for the queue's own limit."""

    @field_validator("walltime")
    @classmethod
    def _walltime_is_positive(cls, value: dt.timedelta | None) -> dt.timedelta | None:
        if value is not None and value <= dt.timedelta(0):
            raise ValueError("walltime must be longer than zero; leave it out for no limit of the job's own")
        return value


class InputFile(_Asked):
    """One input file of a job, by content: its bytes were sent before.

    Attributes are what the service needs to put the file into the job's folder.
    """

    name: FileName
    """Where it goes, relative to the job's folder."""
    sha256: Sha256
    size: int = Field(ge=0)
    """Bytes."""
    executable: bool = False


def _finite(value: Any) -> Any:
    """Refuse numbers that JSON does not have, which would otherwise become ``null`` on the way."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"has the number {one}, which JSON does not have; use None or a string")
        if isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
    return value


Json = Annotated[Any, AfterValidator(_finite)]
"""Anything that JSON can say."""


class When(str, enum.Enum):
    """How a job that is waited for must have ended."""

    OK = "ok"
    """It is FINISHED; if it ends in another way, the job that waits is FAILED."""
    ANY = "any"
    """It has ended, however."""
    FAILED = "failed"
    """It is FAILED or CANCELLED; if it is FINISHED, the job that waits is FAILED."""

    def __str__(self) -> str:
        return self.value


class Dependency(_Asked):
    """A job that another one waits for.

    Example:
        >>> JobSpec(command="true", after=["0b7f", ("1c8a", "any")]).after[1].when
        <When.ANY: 'any'>
    """

    job: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """Its id, or that of an array, for all of its jobs; ``"#2"`` for the third job of the same call."""
    when: When = When.OK

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Read an id, a handle, the number of a job of the same call, or one of these with ``when``."""
        when: Any = None
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError('a dependency is a job, or a pair like (job, "any")')
            value, when = value
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"#{value}"
        handle_id = getattr(value, "id", None)
        if isinstance(handle_id, str) and not isinstance(value, Mapping):
            value = handle_id
        if isinstance(value, str):
            return {"job": value, **({} if when is None else {"when": when})}
        return value


class StderrMode(str, enum.Enum):
    """Where a job's stderr goes."""

    MERGED = "merged"
    """Into the log, in order with stdout, as in a terminal."""
    SEPARATE = "separate"
    """Into a log of its own: ``job.logs("stderr")``."""


class FunctionMark(_Asked):
    """Says that a job's command runs a packed Python function: see :mod:`hpcjobs.functions`."""

    name: Name
    """The function's name, for people."""
    result: FileName
    """The file in the job's folder that has the result."""


def _zoned(value: dt.datetime | None) -> dt.datetime | None:
    """A time without a zone is local time, as it is to whoever typed it."""
    return value.astimezone() if value is not None and value.tzinfo is None else value


class JobSpec(_Asked):
    """What is asked of a service: one piece of work, which is either a command or a named task.

    ``command`` is a shell command where it is a string, and a program with its arguments where it is a list.
    """

    command: Annotated[str, StringConstraints(min_length=1, max_length=100_000)] | list[str] | None = None
    task: Name | None = None
    """One of the functions that the service offers by name: ``client.tasks()`` lists them."""
    app: Name | None = None
    """An application that the service's operators have set up: Tapis's ``appId``."""
    app_version: Name | None = None
    """Its version, where the service has several."""
    args: dict[str, Any] | None = None
    """The arguments of the task or the app, by name; anything JSON."""
    options: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(default_factory=dict)
    """What only this kind of service understands, in its own words."""
    function: FunctionMark | None = None
    """Set where the command runs a Python function that was sent along."""
    name: Name | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    meta: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(default_factory=dict)
    """Anything JSON that travels with the job."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables for the job, beside those that the service sets."""
    inputs: list[InputFile] = Field(default_factory=list, max_length=MAX_INPUTS)
    resources: Resources = Field(default_factory=Resources)
    queue: QueueName = "default"
    priority: int = Field(default=0, ge=-32768, le=32767)
    """Higher goes first."""
    grace: Duration = dt.timedelta(seconds=30)
    """How long a job that is asked to stop may take before it is killed; at most an hour."""
    max_attempts: int = Field(default=1, ge=1, le=100)
    """How often the job may run in all, if it fails by itself."""
    backoff: Duration = dt.timedelta(0)
    """The pause before the second attempt, doubled before each further one, an hour at most."""
    retry_on: list[Annotated[int, Field(ge=1, le=255)]] | None = Field(default=None, min_length=1, max_length=255)
    """The exit codes that are worth another attempt; None for any failure."""
    after: list[Dependency] = Field(default_factory=list, max_length=1000)
    """The jobs that must have ended before this one is ready."""
    start_at: dt.datetime | None = None
    """Not before; a time without a zone is local time."""
    start_in: Duration | None = None
    """Not before so much time has gone by, by the service's clock; in place of ``start_at``."""
    expires_in: Duration | None = None
    """A job that has not started after so much time is FAILED."""
    requeue: bool = True
    """Whether a job whose worker was lost runs again, once."""
    stderr: StderrMode = StderrMode.MERGED

    @field_validator("command")
    @classmethod
    def _command_says_something(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value is None:
            return None
        if not value or (isinstance(value, list) and not value[0]):
            raise ValueError("the command is empty")
        if any("\x00" in part for part in ([value] if isinstance(value, str) else value)):
            raise ValueError("the command has a NUL in it")
        if isinstance(value, str) and not value.strip():
            raise ValueError("the command is blank")
        return value

    @field_validator("env")
    @classmethod
    def _env_can_be_set(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\x00" in name or "\x00" in text:
                raise ValueError(f"{name!r} cannot be an environment variable: no empty name, no '=' in a name, no NUL")
            if name.startswith("HPCJOBS_"):
                raise ValueError(f"{name!r}: names that start with HPCJOBS_ are set by the service")
        return value

    @field_validator("grace")
    @classmethod
    def _grace_is_bounded(cls, value: dt.timedelta) -> dt.timedelta:
        if not dt.timedelta(0) <= value <= dt.timedelta(hours=1):
            raise ValueError("grace must be between 0 and one hour")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_piece_of_work(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            given = [name for name in ("command", "task", "app") if value.get(name) is not None]
            if not given:
                raise ValueError("says nothing to run: give a command, a task or an app")
            if len(given) > 1:
                raise ValueError(f"has both {given[0]} and {given[1]}: give one of them")
            for name, needed in (("args", ("task", "app")), ("function", ("command",)), ("app_version", ("app",))):
                if value.get(name) is not None and given[0] not in needed:
                    raise ValueError(f"has {name} without {needed[0]}: {name} goes with {'= or '.join(needed)}=")
        return value

    @field_validator("backoff", "start_in")
    @classmethod
    def _no_time_backwards(cls, value: dt.timedelta | None) -> dt.timedelta | None:
        if value is not None and not dt.timedelta(0) <= value <= _LONGEST:
            raise ValueError("must be between zero and ten years")
        return value

    @field_validator("expires_in")
    @classmethod
    def _some_time_to_start(cls, value: dt.timedelta | None) -> dt.timedelta | None:
        if value is not None and not dt.timedelta(0) < value <= _LONGEST:
            raise ValueError("must be longer than zero, and ten years at most")
        return value

    @field_validator("start_at")
    @classmethod
    def _with_a_zone(cls, value: dt.datetime | None) -> dt.datetime | None:
        return _zoned(value)

    @model_validator(mode="after")
    def _one_start(self) -> JobSpec:
        if self.start_at is not None and self.start_in is not None:
            raise ValueError("give start_at or start_in, not both")
        return self

    @model_validator(mode="after")
    def _input_names_are_unique(self) -> JobSpec:
        seen: set[str] = set()
        for item in self.inputs:
            if item.name in seen:
                raise ValueError(f"two inputs are named {item.name!r}")
            seen.add(item.name)
        return self

    @property
    def explicit(self) -> dict[str, Any]:
        """What was asked, by name, also where that is the default; the rest is left to the service."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def asks_for(self, field: str) -> bool:
        """Whether a field was given, and as something else than what holds where it is not.

        Example:
            >>> spec = JobSpec(command="true", priority=0, tags=["a"])
            >>> spec.asks_for("priority"), spec.asks_for("tags"), spec.asks_for("env")
            (False, True, False)
        """
        default = type(self).model_fields[field].get_default(call_default_factory=True)
        return field in self.model_fields_set and bool(getattr(self, field) != default)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> JobSpec:
        """Validate ``fields``, flat or nested, and say plainly what is wrong.

        The fields of :class:`Resources` may stand beside the others, as in ``client.submit(..., cores=2)``.

        Raises:
            InvalidSpec: With every problem, what is allowed, and the allowed names for an unknown one.

        Example:
            >>> JobSpec.parse({"command": "true", "cores": 2}).resources.cores
            2
        """
        flat = dict(fields)
        nested = flat.get("resources")
        beside = {name: flat.pop(name) for name in Resources.model_fields if name in flat}
        if nested is None or isinstance(nested, (Mapping, Resources)):
            given = nested.model_dump(exclude_unset=True) if isinstance(nested, Resources) else nested or {}
            flat["resources"] = {**given, **beside}
        try:
            return cls.model_validate(flat)
        except ValidationError as error:
            raise InvalidSpec(problems_of(error, {**cls.model_fields, **Resources.model_fields})) from None


def problems_of(error: ValidationError, allowed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What pydantic found wrong, as ``(field, sentence)``; for an unknown field the ``allowed`` ones are named."""
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        parts = [
            str(part)
            for part in item["loc"]
            if part not in {"str", "constrained-str", "list[str]", "resources", "function-before[parse_memory(), int]"}
        ]
        field = ".".join(parts) or ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            names = sorted(name for name in allowed if name != "resources")
            [meant] = difflib.get_close_matches(str(item["loc"][-1]), names, n=1) or [""]
            hint = f"did you mean {meant}? The" if meant else "the"
            message = f"there is no such field; {hint} fields are {', '.join(names)}"
        problems.setdefault(field, message)
    return list(problems.items())


class Progress(_Told):
    """How far a job is, as it said itself."""

    done: float
    total: float | None = None
    message: str | None = None
    at: dt.datetime | None = None
    """When it was said."""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, or None where there is no total."""
        if not self.total or self.total <= 0:
            return None
        return min(1.0, max(0.0, self.done / self.total))

    def __str__(self) -> str:
        percent = f"{self.fraction:.0%}" if self.fraction is not None else f"{self.done:g}"
        return f"{percent} {self.message}" if self.message else percent


class JobInfo(_Told):
    """What is known of a job at one moment. Times are in UTC."""

    id: str
    state: JobState
    native_state: str = ""
    """The service's own word, verbatim."""
    name: str | None = None
    owner: str | None = None
    queue: str | None = None
    priority: int | None = None
    tags: list[str] = Field(default_factory=list)
    meta: dict[str, Any] = Field(default_factory=dict)
    cancel_requested: bool = False
    """The job was asked to stop and has not ended; it may still finish."""
    cancel_reason: str | None = None
    reason: str | None = None
    """Why the job is where it is, in words."""
    exit_code: int | None = None
    progress: Progress | None = None
    attempt: int = 0
    """How often the job has been started."""
    max_attempts: int = 1
    array_id: str | None = None
    """The array that the job belongs to."""
    array_index: int | None = None
    """Its place there, from 0."""
    item: Any = None
    """What ``over`` had for it."""
    start_at: dt.datetime | None = None
    """Not before."""
    expires_at: dt.datetime | None = None
    """A job that has not started by then is FAILED."""
    created_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    """When the current or last attempt started."""
    finished_at: dt.datetime | None = None
    version: int | None = None
    """Grows with every change of the record but progress; the ETag where the service has one."""
    spec: dict[str, Any] | None = None
    """What was asked, where the service tells."""

    @model_validator(mode="before")
    @classmethod
    def _keep_the_native_word(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not isinstance(value.get("state", JobState.UNKNOWN), JobState):
            word = str(value["state"])
            return {**value, "state": to_state(word), "native_state": value.get("native_state") or word}
        return value

    def __repr__(self) -> str:
        told = {"name": self.name, "reason": self.reason, "progress": self.progress and str(self.progress)}
        more = "".join(f" {name}={value!r}" for name, value in told.items() if value)
        return f"<JobInfo {self.id} {self.label}{more}>"

    @property
    def terminal(self) -> bool:
        """True where the job has ended."""
        return self.state.terminal

    @property
    def label(self) -> str:
        """The state as it is shown: "cancelling" once it was asked to stop, a word that is not known verbatim."""
        if self.cancel_requested and not self.terminal:
            return "cancelling"
        return self.native_state if self.state is JobState.UNKNOWN else self.state.value

    @property
    def _runs_again(self) -> bool:
        return self.state.not_started and self.attempt > 0 and self.started_at is not None

    def queue_time(self, now: dt.datetime | None = None) -> dt.timedelta | None:
        """How long the job waited to run for the first time, or has waited until ``now``; None where it is not known.

        Once it runs again, or waits for that, :meth:`~hpcjobs.handles.Job.history` has how long it has waited in all,
        where the service keeps one.
        """
        if self.attempt > 1 or self._runs_again:
            return None
        end = self.started_at or self.finished_at or now or dt.datetime.now(dt.timezone.utc)
        return max(end - self.created_at, dt.timedelta(0)) if self.created_at else None

    def run_time(self, now: dt.datetime | None = None) -> dt.timedelta | None:
        """How long the last attempt ran, or has run until ``now``; None where none did, or the next one waits.

        Of a job that ended while it waited to run again, the wait is not known apart and counts, too;
        :meth:`~hpcjobs.handles.Job.history` has each attempt, where the service keeps one.
        """
        if self._runs_again:
            return None
        end = self.finished_at or now or dt.datetime.now(dt.timezone.utc)
        return max(end - self.started_at, dt.timedelta(0)) if self.started_at else None


class OutputFile(_Told):
    """One file of a job."""

    path: str
    """Relative to the job's folder, with ``/``."""
    size: int
    """Bytes."""
    modified_at: dt.datetime | None = None
    unchanged_input: bool = False
    """It was sent with the job, and the job has not changed it."""

    def __repr__(self) -> str:
        same = ", unchanged input" if self.unchanged_input else ""
        return f"<OutputFile {self.path!r}, {size(self.size)}{same}>"


class CancelOutcome(str, enum.Enum):
    """What a request to cancel came to."""

    CANCELLED = "CANCELLED"
    """The job is cancelled: the service says so."""
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    """The service has taken the request; the job runs until its state says otherwise."""
    ALREADY_TERMINAL = "ALREADY_TERMINAL"
    """The job had ended before; nothing was sent, or nothing was changed."""
    LEFT_RUNNING = "LEFT_RUNNING"
    """The job had started and ``abort=False`` left it alone."""
    FINISHED_FIRST = "FINISHED_FIRST"
    """The request was taken, but the job ended by itself before it."""
    NOT_FOUND = "NOT_FOUND"
    """There is no such job (in a bulk request; a single one raises ``JobNotFound``)."""

    def __str__(self) -> str:
        return self.value


_OUTCOME_WORDS = {
    CancelOutcome.CANCELLED: "is cancelled",
    CancelOutcome.CANCEL_REQUESTED: "was asked to stop",
    CancelOutcome.ALREADY_TERMINAL: "had already ended",
    CancelOutcome.LEFT_RUNNING: "has started and was left alone",
    CancelOutcome.FINISHED_FIRST: "ended by itself before it could be stopped",
    CancelOutcome.NOT_FOUND: "is not known",
}


class CancelResult(_Told):
    """What a request to cancel a job came to. It has no truth value: ask ``accepted`` or ``confirmed``."""

    job_id: str
    outcome: CancelOutcome
    before: JobState | None = None
    """The state before the request."""
    after: JobState | None = None
    """The state after it, as far as it is known."""
    reason: str | None = None
    reason_kept: bool = True
    """False where the service has no place for the reason."""
    jobs: dict[str, int] | None = None
    """Of an array: how many of its jobs came to which outcome."""

    @property
    def accepted(self) -> bool:
        """True where the service has cancelled the job or has taken the request."""
        return self.outcome in {CancelOutcome.CANCELLED, CancelOutcome.CANCEL_REQUESTED}

    @property
    def confirmed(self) -> bool:
        """True where the job is known to be cancelled."""
        return self.outcome is CancelOutcome.CANCELLED

    def __bool__(self) -> bool:
        raise TypeError("a CancelResult has no truth value; ask .accepted, .confirmed or .outcome")

    def __repr__(self) -> str:
        return f"<CancelResult {self}>"

    def __str__(self) -> str:
        shown = f" ({self.after or self.before})" if self.after or self.before else ""
        because = f": {self.reason}" if self.reason and self.accepted else ""
        return f"job {self.job_id} {_OUTCOME_WORDS[self.outcome]}{shown}{because}"


class JobPage(_Told):
    """One page of a list of jobs."""

    items: list[JobInfo]
    next: str | None = None
    """What to ask for the next page; None at the end."""
    previous: str | None = None
    """What to ask for the page before; None at the begin, or where the service does not tell."""


def _name_pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", ".*"), re.DOTALL)


class JobFilter(_Asked):
    """Which jobs are meant; every condition that is given must hold."""

    state: list[JobState] = Field(default_factory=list)
    """One of them; ``"active"`` and ``"ended"`` stand for all of which that is so."""
    tag: list[str] = Field(default_factory=list)
    """The job has all of them."""
    name: str | None = None
    """The whole name; ``*`` stands for anything."""
    queue: str | None = None
    array: str | None = None
    """The id of an array: its jobs."""
    created_after: dt.datetime | None = None
    """From then on; a time without a zone is local time. Windows that meet have every job once."""
    created_before: dt.datetime | None = None
    """Before then."""

    @property
    def empty(self) -> bool:
        """Whether it has no condition, so that all jobs are meant."""
        return not self.model_dump(exclude_defaults=True)

    def matches(self, info: JobInfo) -> bool:
        """Whether a job is meant: for services that cannot look for jobs by all of these.

        Example:
            >>> job = JobInfo(id="1", state="FAILED", name="fit-3", tags=["sweep"])
            >>> JobFilter(name="fit-*", state="ended").matches(job), JobFilter(tag="other").matches(job)
            (True, False)
        """
        created = info.created_at
        return (
            (not self.state or info.state in self.state)
            and set(self.tag) <= set(info.tags)
            and (self.name is None or _name_pattern(self.name).fullmatch(info.name or "") is not None)
            and (self.queue is None or self.queue == info.queue)
            and (self.array is None or self.array == info.array_id)
            and (self.created_after is None or (created is not None and created >= self.created_after))
            and (self.created_before is None or (created is not None and created < self.created_before))
        )

    # of two validators that come before, the one that is written last comes first
    @field_validator("state", mode="before")
    @classmethod
    def _groups(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        found = [sorted(GROUPS[word]) if isinstance(word, str) and word in GROUPS else [word] for word in value]
        return [state for group in found for state in group]

    @field_validator("state", "tag", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        return list(value) if isinstance(value, Iterable) else value

    @field_validator("created_after", "created_before")
    @classmethod
    def _with_a_zone(cls, value: dt.datetime | None) -> dt.datetime | None:
        return _zoned(value)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> JobFilter:
        """Validate ``fields`` and say plainly what is wrong.

        Raises:
            InvalidSpec: With every problem and what is allowed.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise InvalidSpec(problems_of(error, cls.model_fields)) from None


class Capabilities(_Told):
    """What a service can do, as data."""

    idempotent_submit: bool = False
    """The same submission key never makes a second job, however often it is sent."""
    abort_false: bool = False
    """Can decide atomically to leave a started job alone."""
    cancel_reason: bool = False
    """Keeps the reason for a cancel."""
    bulk_cancel: int = 0
    """Most jobs in one cancel request; 0 for one by one."""
    bulk_get: int = 0
    """Most jobs in one look; 0 for one by one."""
    bulk_submit: int = 0
    """Most jobs in one submit request; 0 for one by one."""
    bulk_change: int = 0
    """Most jobs in one request to retry, update or delete; 0 for one by one."""
    atomic: bool = False
    """Decides each action by the state that the job has at that very moment: a look before it tells nothing more."""
    arrays: bool = False
    dependencies: bool = False
    history: bool = False
    queues: bool = False
    retry: bool = False
    update: bool = False
    delete: bool = False
    events: bool = False
    """Streams changes."""
    logs: bool = False
    files: bool = False
    """Hands out a job's files."""
    inputs: bool = False
    """Takes input files."""
    resumable_inputs: bool = False
    """An upload that broke off can be continued."""
    cancel_can_be_lost: bool = False
    """A cancel that was accepted may have to be sent again."""
    find_within: float = 0.0
    """Seconds within which a job that was accepted is found by its submission key."""
    min_poll: float = 1.0
    """Seconds: asking more often tells nothing new."""
    vanish_grace: float = 0.0
    """Seconds for which a job may be unknown before it counts as gone."""


class JobQuery(_Asked):
    """A look at many jobs by id."""

    ids: list[str] = Field(min_length=1, max_length=10_000)


class JobQueryAnswer(_Told):
    """The jobs that were found, and the ids that were not."""

    items: list[JobInfo]
    missing: list[str] = Field(default_factory=list)
    arrays: list[str] = Field(default_factory=list)
    """Those of the ids that are arrays."""


class InputQuery(_Asked):
    """A look for many inputs by their content."""

    sha256: list[Sha256] = Field(min_length=1, max_length=10_000)


class InputQueryAnswer(_Told):
    """The inputs that were not sent yet, in the order of the question."""

    missing: list[str]


class OutputList(_Told):
    """The files of a job."""

    items: list[OutputFile]


class TaskInfo(_Told):
    """A function that the service offers by name."""

    name: str
    doc: str = ""
    """What it does, as its docstring says."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The JSON schema of its arguments."""

    def __str__(self) -> str:
        needed = self.parameters.get("required", ())
        names = [name if name in needed else f"{name}=..." for name in self.parameters.get("properties", ())]
        return f"{self.name}({', '.join(names)})"


class TaskList(_Told):
    """The tasks of a service."""

    items: list[TaskInfo]


class Scope(str, enum.Enum):
    """What a token may do; each includes the one before it."""

    READ = "read"
    """See the owner's jobs, logs and files."""
    WRITE = "write"
    """Submit, cancel and change the owner's jobs."""
    ADMIN = "admin"
    """All of it for everybody's jobs, and create tokens for others."""


class TokenOrder(_Asked):
    """A request for a new token."""

    name: Name = "token"
    owner: (
        Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")] | None
    ) = None
    """None: the owner who asks. Another one needs the scope admin."""
    scope: Scope = Scope.WRITE
    expires_in: Duration | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> TokenOrder:
        """Validate ``fields`` and say plainly what is wrong.

        Raises:
            InvalidSpec: With every problem and what is allowed.
        """
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise InvalidSpec(problems_of(error, cls.model_fields)) from None


class TokenInfo(_Told):
    """A token of the reference server; ``token`` itself is told once, when it is made."""

    id: str
    name: str
    owner: str
    scope: Scope
    created_at: dt.datetime
    expires_at: dt.datetime | None = None
    token: str | None = None


class TokenList(_Told):
    """The tokens of an owner."""

    items: list[TokenInfo]


class LoginOrder(_Asked):
    """A request for an address that lets a browser in once."""

    expires_in: Duration = dt.timedelta(minutes=10)
    """For how long it does; at most a day."""


class LoginInfo(_Told):
    """An address of the job page that lets a browser in once."""

    path: str
    """What comes after the service's address."""
    expires_at: dt.datetime


class ServiceInfo(_Told):
    """What the reference server says of itself and of who asks."""

    version: str
    owner: str
    scope: Scope
    max_input_bytes: int
    """The largest input file."""
    max_cores: int | None = None
    """The cores of the largest worker that is alive; None where none is."""
    workers: int = 0
    """Workers that are alive."""
    tasks_only: bool = False
    """Whether it runs named tasks and nothing else."""
