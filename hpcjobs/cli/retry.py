"""``hpcjobs retry``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hpcjobs.cli import selecting
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.actions import RetryResult
    from hpcjobs.cli.acting import Chosen
    from hpcjobs.client import Client

EXAMPLES = """\
Examples:
  hpcjobs retry "$id"
  hpcjobs retry "$array"
  hpcjobs retry --state FAILED --tag sweep-3 --since 1d
"""

GOOD = ("RETRIED",)

app = typer.Typer(**PLAIN)


@app.command("retry", cls=Command, epilog=EXAMPLES)
def retry(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_ids: selecting.Ids = None,
    states: selecting.State = None,
    tags: selecting.Tag = None,
    name: selecting.Name = None,
    queue: selecting.Queue = None,
    array: selecting.Array = None,
    after: selecting.After = None,
    before: selecting.Before = None,
    yes: selecting.Yes = False,
) -> None:
    """Run jobs again, at once; also such as are scheduled.

    Any job that does not run can run again, and stays the same job. Of an array, and of conditions that name no
    state, those are meant that are FAILED or CANCELLED. More than five ids, and conditions, are asked about first.
    Exits with 1 if a job was left alone because it runs.
    """
    from hpcjobs.cli import acting
    from hpcjobs.lifecycle import MEANT, Action

    settings = Settings.of(ctx)
    where = selecting.conditions(
        state=states, tag=tags, name=name, queue=queue, array=array, after=after, before=before
    )
    verb = acting.Verb("retry", "retried", MEANT[Action.RETRY])
    chosen = acting.choose(job_ids, where, verb, yes=yes)
    results: list[RetryResult] = []
    if chosen.ids != []:
        with settings.connect() as client:
            results = _retry(client, acting.agreed(client, chosen, verb, yes=yes))
    acting.tell(results, verb, as_json=settings.json, bad=lambda result: acting.undone(result, GOOD))
    raise typer.Exit(acting.verdict(results, GOOD))


def _retry(client: Client, chosen: Chosen) -> list[RetryResult]:
    from hpcjobs.cli import output, waits

    if chosen.ids is None:
        return client.retry_many(**chosen.where)
    # By its id an array stands for all of its jobs, and those that ended well are not to run again.
    ids = [waits.session_of(client).service.spelled(job_id) for job_id in chosen.ids]
    arrays = waits.arrays_among(client, ids)
    ids = [job_id for job_id in ids if job_id not in arrays]
    results = client.retry_many(ids) if ids else []
    for array in arrays:
        again = client.retry_many(array=array)
        if not again:
            output.note(f"array {array} has no job that is FAILED or CANCELLED")
        results += again
    return results
