"""``hpcjobs queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs.cli.completion import complete_queue
from hpcjobs.cli.settings import PLAIN, Command, Group, Json, Profile, Settings, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcjobs.records import QueueInfo

EXAMPLES = """\
Examples:
  hpcjobs queues
  hpcjobs queues pause night --reason 'maintenance until noon'
  hpcjobs queues set gpu --max-running 4 --max-walltime 12h
"""

PAUSE_EXAMPLES = """\
Examples:
  hpcjobs queues pause night --reason 'maintenance until noon'
"""

RESUME_EXAMPLES = """\
Examples:
  hpcjobs queues resume night
"""

SET_EXAMPLES = """\
Examples:
  hpcjobs queues set gpu --max-running 4 --max-walltime 12h
  hpcjobs queues set gpu --max-walltime none
"""

NONE = "none"
"""The word for no limit."""

app = typer.Typer(**PLAIN, cls=Group, epilog=EXAMPLES, invoke_without_command=True)

Queue = Annotated[str, typer.Argument(metavar="NAME", help="The queue.", autocompletion=complete_queue)]


@app.callback()
def queues(ctx: typer.Context, profile: Profile = None, url: Url = None, json: Json = False) -> None:
    """List the queues, pause and resume them, set their limits."""
    settings = Settings.of(ctx)
    settings.merge(profile, url, json)
    if ctx.invoked_subcommand is None:
        with settings.connect() as client:
            _tell(client.queues(), settings)


@app.command("pause", cls=Command, epilog=PAUSE_EXAMPLES)
def pause(
    ctx: typer.Context,
    name: Queue,
    reason: Annotated[
        str | None,
        typer.Option("--reason", "-r", metavar="TEXT", help="Why; everyone who sees the queue sees it."),
    ] = None,
) -> None:
    """Hold back the jobs of a queue; those that run go on. Needs the scope admin."""
    settings = Settings.of(ctx)
    with settings.connect() as client:
        _changed(client.pause_queue(name, reason=reason), settings)


@app.command("resume", cls=Command, epilog=RESUME_EXAMPLES)
def resume(ctx: typer.Context, name: Queue) -> None:
    """Let the jobs of a queue run again. Needs the scope admin."""
    settings = Settings.of(ctx)
    with settings.connect() as client:
        _changed(client.resume_queue(name), settings)


@app.command("set", cls=Command, epilog=SET_EXAMPLES)
def set_limits(
    ctx: typer.Context,
    name: Queue,
    max_running: Annotated[
        str | None,
        typer.Option("--max-running", metavar="N|none", help="The most of its jobs that run at once."),
    ] = None,
    max_walltime: Annotated[
        str | None,
        typer.Option("--max-walltime", metavar="TIME|none", help="The longest that its jobs may run: 30m, 12h."),
    ] = None,
) -> None:
    """Set the limits of a queue; what is not given stays as it is. Needs the scope admin."""
    settings = Settings.of(ctx)
    limits: dict[str, Any] = {}
    if max_running is not None:
        limits["max_running"] = None if max_running == NONE else _number(max_running)
    if max_walltime is not None:
        limits["max_walltime"] = None if max_walltime == NONE else max_walltime
    if not limits:
        raise typer.BadParameter("say what to set: --max-running or --max-walltime")
    with settings.connect() as client:
        _changed(client.set_queue(name, **limits), settings)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"--max-running {text!r} is not a number of jobs; write one, or none") from None


def _tell(found: Sequence[QueueInfo], settings: Settings) -> None:
    from hpcjobs.cli import output

    if settings.json:
        output.json_document(found)
        return
    if not found:
        output.note("no queue is set or has jobs; a job makes its queue")
        return
    states = sorted({state for queue in found for state in queue.counts})
    output.print_table(
        ["QUEUE", "STATUS", *states, "AT ONCE", "WALLTIME", "REASON"],
        [
            [
                queue.name,
                output.Cell("paused", "yellow") if queue.paused else "open",
                *(str(queue.counts.get(state, 0)) for state in states),
                output.EMPTY if queue.max_running is None else str(queue.max_running),
                output.duration(queue.max_walltime),
                queue.reason or output.EMPTY,
            ]
            for queue in found
        ],
    )


def _changed(queue: QueueInfo, settings: Settings) -> None:
    from hpcjobs.cli import output

    if settings.json:
        output.json_document(queue)
        return
    because = f": {queue.reason}" if queue.paused and queue.reason else ""
    running = "any number of jobs" if queue.max_running is None else f"at most {queue.max_running} jobs"
    long = "any time" if queue.max_walltime is None else f"at most {output.duration(queue.max_walltime)}"
    paused = "paused" if queue.paused else "open"
    print(output.clean(f"queue {queue.name} is {paused}{because} (runs {running} at once, each for {long})"))
