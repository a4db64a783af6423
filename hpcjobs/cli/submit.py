"""``hpcjobs submit``."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs import texts
from hpcjobs.cli.completion import complete_after, complete_input, complete_queue, complete_tag
from hpcjobs.cli.settings import PLAIN, Command, Settings
from hpcjobs.cli.usage import usage
from hpcjobs.lifecycle import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpcjobs.cli.exits import ExitCode
    from hpcjobs.client import Client
    from hpcjobs.models import JobInfo

EXAMPLES = """\
Examples:
  hpcjobs submit -i fit.py -i data.csv --cores 4 -- python fit.py data.csv
  hpcjobs submit -i src/ -i 'params/*.json' -i old=runs/7/ -- python src/fit.py
  hpcjobs submit --walltime 10m 'sort big.txt | uniq -c > counts.txt'
  hpcjobs submit --name fit --meta run=7 -- ./simulate --seed 7
  id=$(hpcjobs submit -- ./simulate) && hpcjobs watch "$id"
  hpcjobs submit --after "$id" --after "$other:any" -- ./collect
  hpcjobs submit --over dampings.csv -- python fit.py --damping '{damping}'
  hpcjobs submit --array 100 --name sweep 'fit.py --seed {index}'
  hpcjobs submit --task fit -- day=2026-05-01 order=3
  hpcjobs submit --app opensees --app-version 3.6.0 -- script=frame.tcl
"""

app = typer.Typer(**PLAIN)


@app.command(
    "submit",
    cls=Command,
    epilog=EXAMPLES,
    # What stands behind the command's first word belongs to the command, with and without "--".
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)
def submit(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND...",
            help="The program and its arguments. A single word with spaces in it is a shell command. "
            "With --task or --app its arguments: NAME=JSON; what is no JSON is text.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="NAME", help="Instead of a command, a function that the service offers."),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="NAME", help="Instead of a command, an application that is set up there."),
    ] = None,
    app_version: Annotated[
        str | None, typer.Option("--app-version", metavar="VERSION", help="Its version, where there are several.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="[NAME=]PATH",
            help="Send this file along, all files of this folder, or those that a quoted pattern means "
            "('params/*.json', '**/*.py'); in the job's folder they have their own names, or NAME. May be repeated.",
            autocompletion=complete_input,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", metavar="NAME", help="A name for people.")] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag", metavar="TAG", help="A word to find the job by. May be repeated.", autocompletion=complete_tag
        ),
    ] = None,
    cores: Annotated[int | None, typer.Option("--cores", "-c", metavar="N", help="Processor cores.")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory: 500MB, 4GiB, 4G or a number of bytes.")
    ] = None,
    walltime: Annotated[
        str | None,
        typer.Option(
            "--walltime", "-t", metavar="TIME", help="The longest time it may run: 90s, 10m, 1h30m, 2d or D-HH:MM:SS."
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", metavar="QUEUE", help="The queue.", autocompletion=complete_queue)
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", metavar="N", help="Higher goes first.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME[=VALUE]",
            help="Set a variable for the job; without a value, pass on the one of this shell. May be repeated.",
        ),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta",
            metavar="KEY=JSON",
            help="Something of your own to keep with the job; what is no JSON is text. May be repeated.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=JSON",
            help="What only this kind of service understands, in its own words; what is no JSON is text. "
            "May be repeated.",
        ),
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", help="How often it may run in all, if it fails.")
    ] = None,
    backoff: Annotated[
        str | None,
        typer.Option(
            "--backoff", metavar="TIME", help="The pause before its second attempt, doubled before each further one."
        ),
    ] = None,
    retry_on: Annotated[
        list[int] | None,
        typer.Option(
            "--retry-on",
            metavar="CODE",
            help="An exit code that is worth another attempt; without any: every failure. May be repeated.",
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="ID[:ok|any|failed]",
            help="A job or an array that must have ended before: well (ok), in any way, or not well. May be repeated.",
            autocompletion=complete_after,
        ),
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option("--start-at", metavar="DATE", help="Not before: 2026-05-01 or 2026-05-01T12:00, local time."),
    ] = None,
    start_in: Annotated[
        str | None, typer.Option("--start-in", metavar="TIME", help="Not before so much time has gone by: 90s, 2h.")
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option("--expires-in", metavar="TIME", help="It is FAILED if it has not started after so much time."),
    ] = None,
    array: Annotated[
        int | None,
        typer.Option("--array", metavar="N", help="Submit an array of N jobs; in the command {index} is from 0."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            "--over",
            metavar="FILE|-",
            help="Submit an array with a job for each item of a .json list, of .jsonl lines or of a .csv table, "
            "or of JSON on stdin; in the command {name} stands for what the item has by that name.",
            autocompletion=complete_input,
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="TIME", help="How long it may take to end when it is asked to stop."),
    ] = None,
    no_requeue: Annotated[
        bool, typer.Option("--no-requeue", help="Do not run it again if the machine that ran it was lost.")
    ] = False,
    stderr: Annotated[
        str | None,
        typer.Option(
            "--stderr",
            metavar="merged|separate",
            help="Whether stderr goes into the log, in order, or has a log of its own.",
            autocompletion=lambda incomplete: [word for word in ("merged", "separate") if word.startswith(incomplete)],
        ),
    ] = None,
    shell: Annotated[
        bool | None,
        typer.Option(
            "--shell/--no-shell",
            help="Say that the command is one for a shell, or that it is not.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="A submission key of your own: the same key never makes a second job."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit 1 unless it ended well.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print its log while it runs, and wait.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Wait no longer than this; exit 124 then.")
    ] = None,
) -> None:
    """Submit a job, or an array of many.

    Prints the id of the new job or array, and nothing else, on stdout. Options for hpcjobs stand before the command.
    """
    from hpcjobs.cli import output, waits
    from hpcjobs.cli.selecting import to_start
    from hpcjobs.operations import submit_once

    settings = Settings.of(ctx)
    limit = waits.seconds(timeout)
    if limit is not None and not (wait or follow):
        raise typer.BadParameter("--timeout needs --wait or --follow")
    many = array is not None or over is not None
    if many and follow:
        raise typer.BadParameter("--follow prints the log of one job; for an array give --wait, or see hpcjobs watch")
    if array is not None and over is not None:
        raise typer.BadParameter("give --array or --over, not both")
    fields: dict[str, Any] = {
        **_work(command or [], task=task, app=application, app_version=app_version, shell=shell),
        "name": name,
        "tags": tags,
        "cores": cores,
        "memory": memory,
        "walltime": walltime,
        "queue": queue,
        "priority": priority,
        "env": _environment(env or []),
        "meta": to_fields(meta or []),
        "options": to_fields(options or [], what="the option"),
        "max_attempts": max_attempts,
        "backoff": backoff,
        "retry_on": retry_on,
        "after": [_dependency(text) for text in after or []],
        "start_at": None if start_at is None else to_start(start_at),
        "start_in": start_in,
        "expires_in": expires_in,
        "grace": grace,
        "requeue": False if no_requeue else None,
        "stderr": stderr,
    }
    asked = {field: value for field, value in fields.items() if value not in (None, {}, [])}
    key = str(uuid.uuid4()) if key is None else key
    if many:
        code = _submit_array(
            asked, settings, inputs=inputs or [], key=key, size=array, over=over, wait=wait, limit=limit
        )
        raise typer.Exit(code)
    with settings.connect(start=True) as client:
        session = waits.session_of(client)
        send = functools.partial(submit_once, session.service, asked, inputs=_inputs(inputs or []), key=key)
        with _way_back(key):
            job = session.transfer(send, settings.progress)
        with waits.leaving_alone({job.id: job}):
            if settings.json and (follow or not wait):
                (output.json_line if follow else output.json_document)(job)
            elif not settings.json and not follow:
                print(job.id, flush=True)
            if not (wait or follow):
                output.note(f"watch it: hpcjobs watch {job.id}")
                return
            info = _followed(client, job, settings, limit) if follow else _waited(client, job, settings, limit)
    raise typer.Exit(waits.verdict([info]))


def _submit_array(
    asked: dict[str, Any],
    settings: Settings,
    *,
    inputs: Sequence[str],
    key: str,
    size: int | None,
    over: str | None,
    wait: bool,
    limit: float | None,
) -> ExitCode:
    """Submit an array, tell its id, and wait for all of its jobs where that is wanted."""
    from hpcjobs.arrays import ArrayOrder
    from hpcjobs.cli import output, views, waits
    from hpcjobs.cli.exits import ExitCode
    from hpcjobs.cli.items import read_items
    from hpcjobs.models import JobSpec
    from hpcjobs.operations import submit_array

    sizes = {"size": size} if over is None else {"over": read_items(over)}
    order = ArrayOrder.parse({"spec": JobSpec.parse(asked), **sizes})
    with settings.connect(start=True) as client:
        session = waits.session_of(client)
        send = functools.partial(submit_array, session.service, order, inputs=_inputs(inputs), key=key)
        with _way_back(key):
            info, jobs = session.transfer(send, settings.progress)
        told = {"jobs": [job.id for job in jobs]}
        with waits.leaving_alone({job.id: job for job in jobs}):
            if not settings.json:
                print(info.id, flush=True)
                output.note(f"an array of {len(jobs)} jobs")
            elif not wait:
                output.json_document({**output.plain(info), **told})
            if not wait:
                output.note(f"watch it: hpcjobs watch {info.id}")
                return ExitCode.DONE
            shown = views.Table(stderr=True) if sys.stderr.isatty() and not settings.json else views.Quiet()
            ended = waits.until_ended(client, jobs, shown, limit)
        if settings.json:
            output.json_document({**output.plain(session.run(session.service.array(info.id))), **told})
    bad = [job for job in ended if job.state is not JobState.FINISHED]
    if bad and not settings.json:
        for job in bad[: waits.NAMED]:
            output.error_line(waits.ending(job))
        output.error_line(f"{len(bad)} of {len(ended)} jobs did not end well; run them again: hpcjobs retry {info.id}")
    return waits.verdict(ended)


@contextlib.contextmanager
def _way_back(key: str) -> Iterator[None]:
    """Where Ctrl-C ends a submission, say how to get the job, which the service may have by then."""
    from hpcjobs.cli import output
    from hpcjobs.cli.exits import ExitCode

    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the terminal has just written ^C
        output.error_line("the job may have been accepted all the same")
        output.error_line(f"get it: hpcjobs submit --key {shlex.quote(key)} ..., and the rest as before")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _waited(client: Client, job: JobInfo, settings: Settings, limit: float | None) -> JobInfo:
    """Wait for the job; programs are told its end in one JSON document."""
    from hpcjobs.cli import output, views, waits

    shown = views.Table(stderr=True) if sys.stderr.isatty() and not settings.json else views.Quiet()
    [info] = waits.until_ended(client, [job], shown, limit)
    if settings.json:
        output.json_document(info)
    elif info.state is not JobState.FINISHED:
        output.error_line(waits.ending(info))
    return info


def _followed(client: Client, job: JobInfo, settings: Settings, limit: float | None) -> JobInfo:
    """Print the job's log as it grows; programs are told the job first and last, and its log in between."""
    from hpcjobs.cli import output, waits
    from hpcjobs.cli.logs import print_log
    from hpcjobs.errors import WaitTimeout

    if not settings.json:
        output.error_line(f"job {job.id}")
    with waits.leaving_alone({job.id: job}):
        try:
            with waits.limited_to(limit):
                print_log(client, job.id, stream="stdout", follow=True, tail=None, as_json=settings.json)
        except waits.OutOfTime:
            raise WaitTimeout(client.job(job.id).info, limit or 0.0) from None
        info = client.job(job.id).info
    if settings.json:
        output.json_line(info)
    elif info.state is not JobState.FINISHED:
        output.error_line(waits.ending(info))
    return info


def _work(
    words: Sequence[str], *, task: str | None, app: str | None, app_version: str | None, shell: bool | None
) -> dict[str, Any]:
    """What is to run: a command, or a task or an app with its arguments.

    Example:
        >>> _work(["n=3"], task=None, app="fit", app_version="1.0", shell=None)
        {'task': None, 'app': 'fit', 'app_version': '1.0', 'args': {'n': 3}}
    """
    if task is not None and app is not None:
        raise typer.BadParameter("give --task or --app, not both")
    if app_version is not None and app is None:
        raise typer.BadParameter("--app-version goes with --app")
    if task is None and app is None:
        if not words:
            raise typer.BadParameter("the command is missing; it stands last: hpcjobs submit -- python fit.py")
        return {"command": _command(words, shell=shell)}
    if shell is not None:
        raise typer.BadParameter("--shell and --no-shell go with a command, not with a task or an app")
    return {"task": task, "app": app, "app_version": app_version, "args": to_fields(words, what="the argument")}


def _command(words: Sequence[str], *, shell: bool | None) -> str | list[str]:
    """The command as it is asked for: a string for a shell, a list for a program with its arguments.

    Example:
        >>> _command(["sort big.txt | uniq"], shell=None), _command(["sort", "big file.txt"], shell=None)
        ('sort big.txt | uniq', ['sort', 'big file.txt'])
    """
    if shell is None:
        shell = len(words) == 1 and any(char.isspace() for char in words[0])
    return " ".join(words) if shell else list(words)


_inputs = usage(texts.inputs)
to_fields = usage(texts.fields)
_dependency = usage(texts.dependency)
_environment = usage(texts.environment)
