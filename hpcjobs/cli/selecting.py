"""Which jobs a command is for: ids, or conditions, which have the same names and meanings everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hpcjobs import texts
from hpcjobs.cli.completion import complete_job, complete_queue, complete_state, complete_tag
from hpcjobs.cli.usage import usage

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
        help="Jobs submitted from then on: 2h, 3d (ago), 2026-05-01 or 2026-05-01T12:00.",
    ),
]
Before = Annotated[
    str | None,
    typer.Option("--created-before", metavar="TIME", help="Jobs submitted before then; written likewise."),
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


to_states = usage(texts.states)
to_moment = usage(texts.moment)
to_start = usage(texts.start)
