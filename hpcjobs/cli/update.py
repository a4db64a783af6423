"""``hpcjobs update``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs.cli import selecting
from hpcjobs.cli.completion import complete_queue, complete_tag
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.acting import Changes
    from hpcjobs.actions import UpdateResult
    from hpcjobs.models import JobInfo

EXAMPLES = """\
Examples:
  hpcjobs update "$id" --priority 10 --queue night
  hpcjobs update "$id" "$other" --add-tag keep --meta note='for the paper'
  hpcjobs update --where-tag sweep-3 --state QUEUED --start-in 8h
"""

GOOD = ("UPDATED", "UNCHANGED")

CONDITIONS = "--state, --array, --created-after, --created-before, --where-tag, --where-name, --where-queue"

app = typer.Typer(**PLAIN)


@app.command("update", cls=Command, epilog=EXAMPLES)
def update(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_ids: selecting.Ids = None,
    priority: Annotated[int | None, typer.Option("--priority", metavar="N", help="Higher goes first.")] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", "-q", metavar="QUEUE", help="The queue.", autocompletion=complete_queue),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", metavar="NAME", help="A name for people.")] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            help="The tags, in place of those that it has. May be repeated.",
            autocompletion=complete_tag,
        ),
    ] = None,
    add_tags: Annotated[
        list[str] | None,
        typer.Option(
            "--add-tag",
            metavar="TAG",
            help="A tag beside those that it has. May be repeated.",
            autocompletion=complete_tag,
        ),
    ] = None,
    remove_tags: Annotated[
        list[str] | None,
        typer.Option(
            "--remove-tag",
            metavar="TAG",
            help="A tag that it is to lose. May be repeated.",
            autocompletion=complete_tag,
        ),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta",
            metavar="KEY=JSON",
            help="Something of your own, beside what it has; what is no JSON is text. May be repeated.",
        ),
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option("--start-at", metavar="DATE", help="Not before: 2026-05-01 or 2026-05-01T12:00, local time."),
    ] = None,
    start_in: Annotated[
        str | None, typer.Option("--start-in", metavar="TIME", help="Not before so much time has gone by: 90s, 2h.")
    ] = None,
    start_now: Annotated[bool, typer.Option("--start-now", help="As soon as possible.")] = False,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", help="How often it may run in all, if it fails.")
    ] = None,
    command: Annotated[
        str | None, typer.Option("--command", metavar="COMMAND", help="What it runs, as a shell command.")
    ] = None,
    states: selecting.State = None,
    where_tags: Annotated[
        list[str] | None,
        typer.Option(
            "--where-tag",
            metavar="TAG",
            help="Jobs with this tag. May be repeated: with all.",
            autocompletion=complete_tag,
        ),
    ] = None,
    where_name: Annotated[
        str | None, typer.Option("--where-name", metavar="NAME", help="Jobs of this name; * stands for anything.")
    ] = None,
    where_queue: Annotated[
        str | None,
        typer.Option("--where-queue", metavar="QUEUE", help="Jobs of this queue.", autocompletion=complete_queue),
    ] = None,
    array: selecting.Array = None,
    after: selecting.After = None,
    before: selecting.Before = None,
    yes: selecting.Yes = False,
) -> None:
    """Change jobs; of those that have started only their labels.

    Name, tags, meta and attempts can be changed at any time; a job that has started refuses everything else, and says
    so. Tags that are added and what --meta sets are never lost, whoever changes the job at the same time. Conditions
    that name no state mean jobs that have not started. More than five ids, and conditions, are asked about first.
    Exits with 1 if a job refused.
    """
    from hpcjobs.actions import JobChanges
    from hpcjobs.cli import acting
    from hpcjobs.cli.submit import to_fields
    from hpcjobs.lifecycle import MEANT, Action

    settings = Settings.of(ctx)
    if tags and (add_tags or remove_tags):
        raise typer.BadParameter("--tag takes the place of all tags; give it, or --add-tag and --remove-tag")
    if sum((start_at is not None, start_in is not None, start_now)) > 1:
        raise typer.BadParameter("give one of --start-at, --start-in and --start-now")
    fields: dict[str, Any] = {
        "priority": priority,
        "queue": queue,
        "name": name,
        "tags": tags or None,
        "start_at": None if start_at is None else selecting.to_start(start_at),
        "start_in": start_in,
        "max_attempts": max_attempts,
        "command": command,
    }
    same = {field: value for field, value in fields.items() if value is not None}
    if start_now:
        same["start_at"] = None
    more = to_fields(meta or [])
    changes = _changes(same, add=add_tags or (), remove=remove_tags or (), meta=more)
    if changes is None:
        raise typer.BadParameter("say what is to be different, such as --priority, --queue, --add-tag or --start-in")
    where = selecting.conditions(
        state=states, tag=where_tags, name=where_name, queue=where_queue, array=array, after=after, before=before
    )
    verb = acting.Verb("update", "changed", MEANT[Action.UPDATE])
    chosen = acting.choose(job_ids, where, verb, yes=yes, conditions=CONDITIONS)
    # What makes no sense is said before anyone is asked.
    JobChanges.parse({**same, **({"tags": [*add_tags]} if add_tags else {}), **({"meta": more} if more else {})})
    results: list[UpdateResult] = []
    if chosen.ids != []:
        with settings.connect() as client:
            said = _said(same, add=add_tags or (), remove=remove_tags or (), meta=more)
            chosen = acting.agreed(client, chosen, verb, yes=yes, what=f" ({said})")
            results = client.update_many(chosen.ids, changes, **chosen.where)
    acting.tell(results, verb, as_json=settings.json, bad=lambda result: acting.undone(result, GOOD))
    raise typer.Exit(acting.verdict(results, GOOD))


def _changes(
    same: dict[str, Any], *, add: Sequence[str], remove: Sequence[str], meta: dict[str, Any]
) -> Changes | None:
    """What is to be different: the same for all jobs, or by what each is like; None where nothing is.

    Example:
        >>> from hpcjobs.models import JobInfo, JobState
        >>> change = _changes({"priority": 5}, add=["a"], remove=["b"], meta={})
        >>> change(JobInfo(id="1", state=JobState.QUEUED, tags=["b", "c"]))
        {'priority': 5, 'tags': ['c', 'a']}
    """
    if not (add or remove or meta):
        return same or None

    def change(info: JobInfo) -> dict[str, Any]:
        changes = dict(same)
        if add or remove:
            changes["tags"] = list(dict.fromkeys([*(tag for tag in info.tags if tag not in remove), *add]))
        if meta:
            changes["meta"] = {**info.meta, **meta}
        return changes

    return change


def _said(same: dict[str, Any], *, add: Sequence[str], remove: Sequence[str], meta: dict[str, Any]) -> str:
    """The changes in words, for the question."""
    words = [f"{name.replace('_', ' ')}: {'now' if value is None else _text(value)}" for name, value in same.items()]
    words += [f"add tag {tag}" for tag in add] + [f"remove tag {tag}" for tag in remove]
    return ", ".join([*words, *(f"meta {name}: {value}" for name, value in meta.items())])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
