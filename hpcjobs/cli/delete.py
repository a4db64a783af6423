"""``hpcjobs delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hpcjobs.cli import selecting
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.actions import DeleteResult

EXAMPLES = """\
Examples:
  hpcjobs delete "$id"
  hpcjobs delete --state ended --created-before 90d
  hpcjobs delete --tag sweep-3 --yes
"""

GOOD = ("DELETED",)

app = typer.Typer(**PLAIN)


@app.command("delete", cls=Command, epilog=EXAMPLES)
def delete(  # noqa: PLR0917 - the options of the command
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
    """Delete jobs, with their files; never one that runs.

    What was deleted cannot be brought back. Conditions that name no state mean all jobs that do not run. More than
    five ids, and conditions, are asked about first. Exits with 1 if a job was left alone because it runs.
    """
    from hpcjobs.cli import acting
    from hpcjobs.lifecycle import MEANT, Action

    settings = Settings.of(ctx)
    where = selecting.conditions(
        state=states, tag=tags, name=name, queue=queue, array=array, after=after, before=before
    )
    verb = acting.Verb("delete", "deleted", MEANT[Action.DELETE])
    chosen = acting.choose(job_ids, where, verb, yes=yes)
    results: list[DeleteResult] = []
    if chosen.ids != []:
        with settings.connect() as client:
            chosen = acting.agreed(client, chosen, verb, yes=yes, what=" with all files")
            results = client.delete_many(chosen.ids, **chosen.where)
    acting.tell(results, verb, as_json=settings.json, bad=lambda result: acting.undone(result, GOOD))
    raise typer.Exit(acting.verdict(results, GOOD))
