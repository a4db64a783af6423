"""``hpcjobs download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpcjobs.cli.completion import complete_job
from hpcjobs.cli.settings import PLAIN, Command, Settings

EXAMPLES = """\
Examples:
  hpcjobs download 0192f0c4-8c5e-7b60-9d1c-3f4a5b6c7d8e results/
  hpcjobs download 0192f0c4-8c5e-7b60-9d1c-3f4a5b6c7d8e --pattern '*.csv' --pattern 'plots/*'
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

    Prints the path of each file. A file that was begun before is continued; one that is here already and has not
    changed is not sent again.
    """
    from hpcjobs.cli import output

    settings = Settings.of(ctx)
    with settings.connect() as client:
        paths = client.job(job_id).download(folder, *(patterns or []))
    if settings.json:
        output.json_document([str(path) for path in paths])
        return
    for path in paths:
        print(output.clean(str(path)))
    if not paths:
        output.note("no file matches" if patterns else "the job has no files")
