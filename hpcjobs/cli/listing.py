"""``hpcjobs list``."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs.cli.completion import GROUPS, complete_state
from hpcjobs.cli.settings import PLAIN, Command, Settings
from hpcjobs.lifecycle import ACTIVE, TERMINAL, JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpcjobs.cli.output import Cell
    from hpcjobs.models import JobInfo

EXAMPLES = """\
Examples:
  hpcjobs list --state active
  hpcjobs list --state FAILED --since 2h --tag sweep
  hpcjobs list --ids-only --state QUEUED | hpcjobs cancel - --reason 'bad data'
"""

TABLE_LIMIT = 50
"""How many jobs the table shows where nothing else is said."""

app = typer.Typer(**PLAIN)


@app.command("list", cls=Command, epilog=EXAMPLES)
def list_jobs(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="Jobs in this state; 'active' and 'ended' stand for several. May be repeated.",
            autocompletion=complete_state,
        ),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Jobs with this tag. May be repeated: with all.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", metavar="NAME", help="Jobs of this name; * stands for anything.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", metavar="QUEUE", help="Jobs of this queue.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Jobs submitted after this: 2h, 3d (ago), 2026-05-01 or 2026-05-01T12:00."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-l",
            metavar="N",
            min=0,
            help=f"At most so many; 0 for all. The table shows {TABLE_LIMIT}; --ids-only and --json tell of all.",
            show_default=False,
        ),
    ] = None,
    ids_only: Annotated[bool, typer.Option("--ids-only", help="Print the ids, one a line, and nothing else.")] = False,
) -> None:
    """List jobs, newest first."""
    from hpcjobs.cli import output

    settings = Settings.of(ctx)
    fields: dict[str, Any] = {
        "state": to_states(states or []),
        "tag": tags,
        "name": name,
        "queue": queue,
        "created_after": to_moment(since) if since is not None else None,
    }
    chosen = {field: value for field, value in fields.items() if value not in (None, [])}
    as_table = not (ids_only or settings.json)
    if limit is None:
        limit = TABLE_LIMIT if as_table else 0
    with settings.connect() as client:
        # One more than is shown is asked for: then it is known whether there are more.
        jobs: Iterator[JobInfo] = (job.info for job in client.jobs(limit=limit + 1 if limit else None, **chosen))
        if ids_only or settings.json:
            wanted = islice(jobs, limit) if limit else jobs
            if settings.json:
                output.json_array(job.id for job in wanted) if ids_only else output.json_array(wanted)
            else:
                for job in wanted:
                    print(job.id)
            return
        found = list(jobs)
    shown = found[:limit] if limit else found
    if shown:
        print_jobs(shown)
    else:
        output.note("there is no such job" if chosen else "there are no jobs yet; submit one with: hpcjobs submit")
    if len(found) > len(shown):
        output.note(f"there are more than these {len(shown)}; --limit 0 shows all")


def print_jobs(jobs: Sequence[JobInfo]) -> None:
    """Print the table of ``jobs``: with lengths of time for people, with moments where it is piped."""
    from hpcjobs.cli import output

    if not output.console().is_terminal:
        rows: list[list[Cell | str]] = [
            [
                job.id,
                job.label,
                output.iso(job.created_at),
                str(round(run.total_seconds())) if (run := job.run_time()) is not None else output.EMPTY,
                job.name or output.EMPTY,
            ]
            for job in jobs
        ]
        output.print_table(["ID", "STATE", "CREATED", "SECONDS", "NAME"], rows)
        return
    now = dt.datetime.now(dt.timezone.utc)
    output.print_table(
        ["ID", "STATE", "AGE", "RUN", "NAME"],
        [
            [
                job.id,
                output.state_cell(job),
                output.age(job.created_at, now),
                output.duration(job.run_time(now)),
                job.name or output.EMPTY,
            ]
            for job in jobs
        ],
    )


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
    """The moment that ``--since`` means: so long ago, or a date with or without a time, which is local unless it says.

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
    try:
        # Python 3.10 does not read the "Z".
        moment = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in {"Z", "z"} else text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time; write how long ago (90s, 2h, 3d), or a date like 2026-05-01 or 2026-05-01T12:00"
        ) from None
    return moment.astimezone(dt.timezone.utc)
