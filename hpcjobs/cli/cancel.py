"""``hpcjobs cancel``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hpcjobs.cli.completion import complete_job
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcjobs.client import Client
    from hpcjobs.models import CancelResult

EXAMPLES = """\
Examples:
  hpcjobs cancel "$id" --reason 'wrong damping'
  hpcjobs list --ids-only --state QUEUED | hpcjobs cancel - --reason 'new data'
  hpcjobs cancel "$id" --confirm 30s --strict && echo 'it is cancelled'
"""

app = typer.Typer(**PLAIN)


@app.command("cancel", cls=Command, epilog=EXAMPLES)
def cancel(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="The jobs; - reads their ids from stdin.", autocompletion=complete_job),
    ],
    reason: Annotated[
        str | None,
        typer.Option("--reason", "-r", metavar="TEXT", help="Why; everyone who sees the job sees it."),
    ] = None,
    no_abort: Annotated[bool, typer.Option("--no-abort", help="Leave jobs alone that have started.")] = False,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="SECONDS", help="Wait so long for the jobs to have ended; exit 124 if not."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a job was not cancelled.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the records of jobs that never started.")] = False,
) -> None:
    """Cancel jobs, and say of each what came of it.

    The state of each job is read first: for one that has ended, no request is sent. A job that runs is asked to stop
    and may still finish; --confirm waits to see. An id that is not known does not keep the others from being cancelled.
    """
    from hpcjobs.cli import output, waits
    from hpcjobs.cli.exits import ExitCode
    from hpcjobs.cli.ids import read_ids
    from hpcjobs.models import CancelOutcome

    settings = Settings.of(ctx)
    limit = waits.seconds(confirm)
    ids = read_ids(job_ids)
    results: list[CancelResult] = []
    late: set[str] = set()
    if ids:
        with settings.connect() as client:
            results = client.cancel_many(ids, reason=reason, abort=not no_abort, delete=delete)
            if limit is not None:
                results, late = _confirm(client, results, limit)
    if settings.json:
        output.json_document(results)
    for result in results if not settings.json else ():
        more = f"; it had not ended {limit:g} s later" if result.job_id in late else ""
        kept = "" if result.reason_kept or not reason else " (the service does not keep the reason)"
        print(output.clean(f"{result}{more}{kept}"))
    if not ids:
        output.note("no id was given, so nothing was cancelled")
    if any(result.outcome is CancelOutcome.NOT_FOUND for result in results):
        raise typer.Exit(ExitCode.NOT_FOUND)
    if late:
        raise typer.Exit(ExitCode.TIMED_OUT)
    if strict and not all(result.accepted for result in results):
        raise typer.Exit(ExitCode.UNSUCCESSFUL)


def _confirm(client: Client, results: Sequence[CancelResult], limit: float) -> tuple[list[CancelResult], set[str]]:
    """Wait until the jobs that were asked to stop have ended.

    Returns:
        The results, as they are after that, and the ids of the jobs that had not ended in time.
    """
    from hpcjobs.cli import views, waits
    from hpcjobs.errors import WaitTimeout
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import CancelOutcome

    asked = [result.job_id for result in results if result.outcome is CancelOutcome.CANCEL_REQUESTED]
    jobs, _ = waits.look(client, asked)
    shown = views.Table(stderr=True) if sys.stderr.isatty() else views.Quiet()
    with contextlib.suppress(WaitTimeout):
        waits.until_ended(client, jobs, shown, limit)
    jobs, _ = waits.look(client, asked)
    ended = {job.id: job.state for job in jobs if job.terminal}
    settled: list[CancelResult] = []
    for result in results:
        if (state := ended.get(result.job_id)) is not None:
            ours = state is JobState.CANCELLED
            outcome = CancelOutcome.CANCELLED if ours else CancelOutcome.FINISHED_FIRST
            result = result.model_copy(update={"outcome": outcome, "after": state})  # noqa: PLW2901 - what it came to
        settled.append(result)
    return settled, {job.id for job in jobs if not job.terminal}
