"""``hpcjobs download``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from hpcjobs.cli.completion import complete_job
from hpcjobs.cli.settings import PLAIN, Command, Settings

EXAMPLES = """\
Examples:
  hpcjobs download "$id" results/
  hpcjobs download "$id" --pattern '*.csv' --pattern 'plots/*'
"""

app = typer.Typer(**PLAIN)


@app.command("download", cls=Command, epilog=EXAMPLES)
def download(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job.", autocompletion=complete_job)],
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the files go; it is made where it is missing.")
    ] = Path(),
    patterns: Annotated[
        list[str] | None,
        typer.Option("--pattern", "-p", metavar="GLOB", help="Only files whose names match. May be repeated."),
    ] = None,
) -> None:
    """Download the files of a job.

    Prints the path of each file. A file that was broken off goes on where it was.
    """
    from hpcjobs.cli import output, waits
    from hpcjobs.operations import download as fetch

    settings = Settings.of(ctx)
    with settings.connect() as client:
        session = waits.session_of(client)
        paths = session.transfer(
            functools.partial(fetch, session.service, job_id, folder, patterns=patterns or ()), settings.progress
        )
    if settings.json:
        output.json_document([str(path) for path in paths])
        return
    for path in paths:
        print(output.clean(str(path)))
    if not paths:
        output.note("the job has no files")
