"""``hpcjobs watch``."""

from __future__ import annotations

from typing import Annotated

import typer

from hpcjobs.cli.completion import complete_job
from hpcjobs.cli.settings import PLAIN, Command, Settings

EXAMPLES = """\
Examples:
  hpcjobs watch
  hpcjobs watch "$array"
  hpcjobs list --ids-only --tag sweep | hpcjobs watch - --timeout 2h
  hpcjobs watch --json | jq -r 'select(.state == "FAILED") | .id'
"""

app = typer.Typer(**PLAIN)


@app.command("watch", cls=Command, epilog=EXAMPLES)
def watch(
    ctx: typer.Context,
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]",
            help="The jobs, or arrays for all of their jobs; - reads ids from stdin. "
            "Without any: all jobs that have not ended.",
            autocompletion=complete_job,
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Watch no longer than this; exit 124 then.")
    ] = None,
) -> None:
    """Watch jobs until they have ended.

    On a terminal: a table that is kept up to date. Else: a line for each change of a job's state; with --json, a line
    of JSON for each change of anything. Ctrl-C ends the watching, not the jobs. Exits with 1 unless all ended well.
    """
    from hpcjobs.cli import output, views, waits
    from hpcjobs.cli.exits import ExitCode
    from hpcjobs.cli.ids import read_ids
    from hpcjobs.lifecycle import ACTIVE

    settings = Settings.of(ctx)
    limit = waits.seconds(timeout)
    missing: list[str] = []
    with settings.connect() as client:
        if job_ids is None:
            jobs = [job.info for job in client.jobs(state=sorted(ACTIVE))]
        else:
            jobs, missing = waits.look(client, read_ids(job_ids))
        for job_id in missing:
            output.error_line(f"there is no job or array {job_id}")
        if jobs:
            jobs = waits.until_ended(client, jobs, views.display(as_json=settings.json), limit)
        elif not missing:
            output.note("there is no job to watch: all have ended")
    raise typer.Exit(ExitCode.NOT_FOUND if missing else waits.verdict(jobs))
