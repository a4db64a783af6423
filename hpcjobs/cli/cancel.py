"""``hpcjobs cancel``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hpcjobs import telling
from hpcjobs.cli import selecting
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcjobs.client import Client
    from hpcjobs.models import CancelResult, JobInfo

EXAMPLES = """\
Examples:
  hpcjobs cancel "$id" --reason 'wrong damping'
  hpcjobs cancel --tag sweep-3 --reason 'new data'
  hpcjobs cancel --state QUEUED --queue gpu --yes
  hpcjobs cancel "$id" --confirm 30s --strict && echo 'it is cancelled'
"""

app = typer.Typer(**PLAIN)


@app.command("cancel", cls=Command, epilog=EXAMPLES)
def cancel(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_ids: selecting.Ids = None,
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
    states: selecting.State = None,
    tags: selecting.Tag = None,
    name: selecting.Name = None,
    queue: selecting.Queue = None,
    array: selecting.Array = None,
    after: selecting.After = None,
    before: selecting.Before = None,
    yes: selecting.Yes = False,
) -> None:
    """Cancel jobs, and say of each what came of it.

    For a job that has ended, nothing is done. A job that runs is asked to stop and may still finish; --confirm waits
    to see. An id that is not known does not keep the others from being cancelled. Conditions that name no state mean
    jobs that have not ended. More than five ids, and conditions, are asked about first.
    """
    from hpcjobs.cli import acting, waits
    from hpcjobs.cli.exits import ExitCode
    from hpcjobs.lifecycle import MEANT, Action
    from hpcjobs.models import CancelOutcome

    settings = Settings.of(ctx)
    limit = waits.seconds(confirm)
    where = selecting.conditions(
        state=states, tag=tags, name=name, queue=queue, array=array, after=after, before=before
    )
    verb = acting.Verb("cancel", "cancelled", MEANT[Action.CANCEL])
    chosen = acting.choose(job_ids, where, verb, yes=yes)
    results: list[CancelResult] = []
    late: set[str] = set()
    if chosen.ids != []:
        with settings.connect() as client:
            chosen = acting.agreed(client, chosen, verb, yes=yes)
            results = client.cancel_many(chosen.ids, reason=reason, abort=not no_abort, delete=delete, **chosen.where)
            if limit is not None:
                results, late = _confirm(client, results, limit)

    def line(result: CancelResult) -> str:
        more = f"; it had not ended {limit:g} s later" if result.job_id in late else ""
        return f"{telling.words(result)}{more}{telling.not_kept(result, reason)}"

    def bad(result: CancelResult) -> bool:
        unknown = result.outcome is CancelOutcome.NOT_FOUND
        return unknown or result.job_id in late or (strict and not result.accepted)

    acting.tell(results, verb, as_json=settings.json, bad=bad, line=line)
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
    from hpcjobs.cancelling import confirmed
    from hpcjobs.cli import views, waits
    from hpcjobs.errors import WaitTimeout
    from hpcjobs.models import CancelOutcome

    asked = [result.job_id for result in results if result.outcome is CancelOutcome.CANCEL_REQUESTED]
    jobs, _ = waits.look(client, asked)
    going = [job for job in jobs if not job.terminal]
    shown = views.Table(stderr=True) if sys.stderr.isatty() else views.Quiet()
    with contextlib.suppress(WaitTimeout):
        waits.until_ended(client, going, shown, limit)
    infos: dict[str, list[JobInfo]] = {}
    for job in waits.look(client, asked)[0]:
        for name in {job.id, job.array_id or job.id}.intersection(asked):
            infos.setdefault(name, []).append(job)
    late = {name for name, of in infos.items() if not all(job.terminal for job in of)}
    return [
        result if result.job_id in late else confirmed(result, infos.get(result.job_id, ())) for result in results
    ], late
