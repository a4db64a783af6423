"""Reads what people write as text: the options of a command and of a magic, which mean the same in both places."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs.lifecycle import GROUPS, JobState

if TYPE_CHECKING:
    from hpcjobs.inputs import LocalFile

ENDINGS = {"ok": "it must end well", "any": "however it ends", "failed": "it must not end well"}
"""How a job that is waited for must have ended."""


class Unreadable(ValueError):
    """A text that means nothing; says what is allowed."""


def states(words: Sequence[str]) -> list[JobState]:
    """The states that ``words`` name, in any case.

    Raises:
        Unreadable: Another word, naming the allowed ones.

    Example:
        >>> states(["running", "FAILED"])
        [<JobState.RUNNING: 'RUNNING'>, <JobState.FAILED: 'FAILED'>]
    """
    found: list[JobState] = []
    for word in words:
        if word.lower() in GROUPS:
            found.extend(sorted(GROUPS[word.lower()]))
        elif word.upper() in JobState.__members__:
            found.append(JobState[word.upper()])
        else:
            allowed = ", ".join([*(state.value for state in JobState), *GROUPS])
            raise Unreadable(f"{word!r} is not a state; the states are {allowed}")
    return list(dict.fromkeys(found))


def moment(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """A moment that has been: so long ago, or a date with or without a time, which is local unless it says.

    Raises:
        Unreadable: Anything else, saying what is allowed.

    Example:
        >>> moment("2h", dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)).isoformat()
        '2026-05-01T10:00:00+00:00'
    """
    from hpcjobs.models import parse_duration

    try:
        return (now or dt.datetime.now(dt.timezone.utc)) - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    found = date(text)
    if found is None:
        raise Unreadable(
            f"{text!r} is not a time; write how long ago (90s, 2h, 3d), or a date like 2026-05-01 or 2026-05-01T12:00"
        )
    return found


def start(text: str) -> dt.datetime:
    """The moment that ``--start-at`` means: a date with or without a time, which is local unless it says.

    Raises:
        Unreadable: Anything else, saying what is allowed.

    Example:
        >>> start("2026-05-01T12:00Z").isoformat()
        '2026-05-01T12:00:00+00:00'
    """
    found = date(text)
    if found is None:
        raise Unreadable(f"--start-at {text!r} is not a date; write 2026-05-01 or 2026-05-01T12:00, or --start-in 2h")
    return found


def date(text: str) -> dt.datetime | None:
    """A date with or without a time, which is local unless it says; None where it is none.

    Example:
        >>> date("soon") is None
        True
    """
    try:
        # Python 3.10 does not read the "Z".
        found = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in {"Z", "z"} else text)
        return found.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        return None


def seconds(text: str | None) -> float | None:
    """A length of time in seconds; None stands for none.

    Raises:
        Unreadable: It is no length of time, saying what is allowed.

    Example:
        >>> seconds("1m30s")
        90.0
    """
    from hpcjobs.models import parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Unreadable(str(error)) from None


def inputs(given: Sequence[str]) -> dict[str, str]:
    """What ``--input`` says, as names in the job's folder and paths here.

    Raises:
        InputError: A file is missing, or its name cannot be used.
        Unreadable: One names no file, or two have one name.
    """
    from hpcjobs.inputs import find_inputs

    found: dict[str, LocalFile] = {}
    for text in given:
        name, equals, path = text.partition("=")
        # A file whose own name has "=" in it is meant as it stands.
        named = bool(equals) and not os.path.lexists(text)
        if not text or (named and not (name and path)):
            raise Unreadable(f"--input {text!r} names no file; write PATH or NAME=PATH")
        for file in find_inputs({name: path} if named else text):
            other = found.setdefault(file.name, file)
            if other.path.resolve() != file.path.resolve():
                raise Unreadable(
                    f"--input {text!r}: there is an input named {file.name!r} already; "
                    "write NAME=PATH to give it another name"
                )
    return {name: str(file.path) for name, file in found.items()}


def fields(given: Sequence[str], *, what: str = "--meta") -> dict[str, Any]:
    """What ``--meta`` says, or the arguments of a task.

    Raises:
        Unreadable: One has no name.

    Example:
        >>> fields(["run=7", "note=wrong damping"])
        {'run': 7, 'note': 'wrong damping'}
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Unreadable(f"{what} {text!r} says nothing; write KEY=JSON, or KEY=TEXT")
        try:
            found[name] = json.loads(value, parse_constant=_no_number)
        except ValueError:
            found[name] = value
    return found


def dependency(text: str) -> tuple[str, str]:
    """What ``--after`` says: a job, and how it must have ended.

    Raises:
        Unreadable: It says neither.

    Example:
        >>> dependency("0b7f"), dependency("0b7f:any")
        (('0b7f', 'ok'), ('0b7f', 'any'))
    """
    job, colon, when = text.rpartition(":")
    if not colon:
        job, when = text, "ok"
    if not job or when not in ENDINGS:
        raise Unreadable(f"--after {text!r} cannot be read; write ID, or ID: and one of {', '.join(ENDINGS)}")
    return job, when


def environment(given: Sequence[str]) -> dict[str, str]:
    """What ``--env`` says.

    Raises:
        Unreadable: One names no variable, or one that is not there to be passed on.

    Example:
        >>> environment(["OMP_NUM_THREADS=4", "EMPTY="])
        {'OMP_NUM_THREADS': '4', 'EMPTY': ''}
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise Unreadable(f"--env {text!r} names no variable; write NAME=VALUE, or NAME to pass yours on")
        if not equals:
            if name not in os.environ:
                raise Unreadable(f"--env {name}: there is no such variable here; write {name}=VALUE")
            value = os.environ[name]
        found[name] = value
    return found


def _no_number(word: str) -> None:
    """JSON has no NaN and no infinity."""
    raise ValueError(word)
