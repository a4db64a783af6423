"""Which jobs a command is for: ids, or conditions, which have the same names and meanings everywhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hpcjobs.cli.completion import GROUPS, complete_job, complete_queue, complete_state, complete_tag
from hpcjobs.lifecycle import ACTIVE, TERMINAL, JobState

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID...]",
        help="Jobs, or arrays for all of their jobs; - reads ids from stdin.",
        autocompletion=complete_job,
        show_default=False,
    ),
]
State = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        "-s",
        metavar="STATE",
        help="Jobs in this state; 'active' and 'ended' stand for several. May be repeated.",
        autocompletion=complete_state,
    ),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Jobs with this tag. May be repeated: with all.",
        autocompletion=complete_tag,
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", "-n", metavar="NAME", help="Jobs of this name; * stands for anything.")
]
Queue = Annotated[
    str | None,
    typer.Option("--queue", "-q", metavar="QUEUE", help="Jobs of this queue.", autocompletion=complete_queue),
]
Array = Annotated[str | None, typer.Option("--array", metavar="ID", help="Jobs of this array.")]
After = Annotated[
    str | None,
    typer.Option(
        "--created-after",
        "--since",
        metavar="TIME",
        help="Jobs submitted after this: 2h, 3d (ago), 2026-05-01 or 2026-05-01T12:00.",
    ),
]
Before = Annotated[
    str | None,
    typer.Option("--created-before", metavar="TIME", help="Jobs submitted before this; written likewise."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also where many jobs or conditions are given.")]


def conditions(
    *,
    state: Sequence[str] | None,
    tag: Sequence[str] | None,
    name: str | None,
    queue: str | None,
    array: str | None,
    after: str | None,
    before: str | None,
) -> dict[str, Any]:
    """The conditions that were given, as the client has them.

    Raises:
        typer.BadParameter: One of them cannot be read.
    """
    fields: dict[str, Any] = {
        "state": to_states(state or []),
        "tag": list(tag or []),
        "name": name,
        "queue": queue,
        "array": array,
        "created_after": None if after is None else to_moment(after),
        "created_before": None if before is None else to_moment(before),
    }
    return {field: value for field, value in fields.items() if value not in (None, [])}


def to_states(words: Sequence[str]) -> list[JobState]:
    """The states that ``words`` name, in any case.

    Raises:
        typer.BadParameter: For another word, naming the allowed ones.

    Example:
        >>> to_states(["running", "FAILED"])
        [<JobState.RUNNING: 'RUNNING'>, <JobState.FAILED: 'FAILED'>]
    """
    found: list[JobState] = []
    for word in words:
        if word.lower() == "active":
            found.extend(sorted(ACTIVE))
        elif word.lower() == "ended":
            found.extend(sorted(TERMINAL))
        elif word.upper() in JobState.__members__:
            found.append(JobState[word.upper()])
        else:
            allowed = ", ".join([*(state.value for state in JobState), *GROUPS])
            raise typer.BadParameter(f"{word!r} is not a state; the states are {allowed}")
    return list(dict.fromkeys(found))


def to_moment(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """A moment that has been: so long ago, or a date with or without a time, which is local unless it says.

    Raises:
        typer.BadParameter: For anything else, saying what is allowed.

    Example:
        >>> to_moment("2h", dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)).isoformat()
        '2026-05-01T10:00:00+00:00'
    """
    from hpcjobs.models import parse_duration

    try:
        return (now or dt.datetime.now(dt.timezone.utc)) - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    moment = to_date(text)
    if moment is None:
        raise typer.BadParameter(
            f"{text!r} is not a time; write how long ago (90s, 2h, 3d), or a date like 2026-05-01 or 2026-05-01T12:00"
        )
    return moment


def to_start(text: str) -> dt.datetime:
    """The moment that ``--start-at`` means: a date with or without a time, which is local unless it says.

    Raises:
        typer.BadParameter: For anything else, saying what is allowed.

    Example:
        >>> to_start("2026-05-01T12:00Z").isoformat()
        '2026-05-01T12:00:00+00:00'
    """
    moment = to_date(text)
    if moment is None:
        raise typer.BadParameter(
            f"--start-at {text!r} is not a date; write 2026-05-01 or 2026-05-01T12:00, or --start-in 2h"
        )
    return moment


def to_date(text: str) -> dt.datetime | None:
    """A date with or without a time, which is local unless it says; None where it is none.

    Example:
        >>> to_date("soon") is None
        True
    """
    try:
        # Python 3.10 does not read the "Z".
        moment = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in {"Z", "z"} else text)
        return moment.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):
        return None
