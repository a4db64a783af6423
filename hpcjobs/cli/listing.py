"""``hpcjobs list``."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from hpcjobs.cli import selecting
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpcjobs.cli.output import Cell
    from hpcjobs.models import JobInfo

EXAMPLES = """\
Examples:
  hpcjobs list --state active
  hpcjobs list --state FAILED --since 2h --tag sweep
  hpcjobs list --array "$array" --limit 0
  hpcjobs list --ids-only --state QUEUED --limit 3 | hpcjobs cancel -
"""

TABLE_LIMIT = 50
"""How many jobs the table shows where nothing else is said."""

app = typer.Typer(**PLAIN)


@app.command("list", cls=Command, epilog=EXAMPLES)
def list_jobs(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    states: selecting.State = None,
    tags: selecting.Tag = None,
    name: selecting.Name = None,
    queue: selecting.Queue = None,
    array: selecting.Array = None,
    after: selecting.After = None,
    before: selecting.Before = None,
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
    chosen = selecting.conditions(
        state=states, tag=tags, name=name, queue=queue, array=array, after=after, before=before
    )
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
