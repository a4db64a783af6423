"""``hpcjobs submit``."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs.cli.completion import complete_input
from hpcjobs.cli.settings import PLAIN, Command, Settings
from hpcjobs.lifecycle import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpcjobs.client import Client
    from hpcjobs.inputs import LocalFile
    from hpcjobs.models import JobInfo

EXAMPLES = """\
Examples:
  hpcjobs submit -i fit.py -i data.csv --cores 4 -- python fit.py data.csv
  hpcjobs submit -i src/ -i 'params/*.json' -i old=runs/7/ -- python src/fit.py
  hpcjobs submit --walltime 10m 'sort big.txt | uniq -c > counts.txt'
  hpcjobs submit --name fit --meta run=7 -- ./simulate --seed 7
  id=$(hpcjobs submit -- ./simulate) && hpcjobs watch "$id"
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
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help="The program and its arguments. A single word with spaces in it is a shell command.",
            show_default=False,
        ),
    ],
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
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A word to find the job by. May be repeated.")
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
    queue: Annotated[str | None, typer.Option("--queue", "-q", metavar="QUEUE", help="The queue.")] = None,
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
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", help="How often it may run in all, if it fails.")
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
    """Submit a job.

    Prints the id of the new job, and nothing else, on stdout. Options for hpcjobs stand before the command.
    """
    from hpcjobs.cli import output, waits
    from hpcjobs.operations import submit_once

    settings = Settings.of(ctx)
    limit = waits.seconds(timeout)
    if limit is not None and not (wait or follow):
        raise typer.BadParameter("--timeout needs --wait or --follow")
    fields: dict[str, Any] = {
        "command": _command(command, shell=shell),
        "name": name,
        "tags": tags,
        "cores": cores,
        "memory": memory,
        "walltime": walltime,
        "queue": queue,
        "priority": priority,
        "env": _environment(env or []),
        "meta": _meta(meta or []),
        "max_attempts": max_attempts,
        "grace": grace,
        "requeue": False if no_requeue else None,
        "stderr": stderr,
    }
    asked = {field: value for field, value in fields.items() if value not in (None, {}, [])}
    key = str(uuid.uuid4()) if key is None else key
    with settings.connect(start=True) as client:
        session = waits.session_of(client)
        send = functools.partial(submit_once, session.service, asked, inputs=_inputs(inputs or []), key=key)
        with _way_back(key):
            job = session.transfer(send, settings.progress)
        if settings.json and (follow or not wait):
            (output.json_line if follow else output.json_document)(job)
        elif not settings.json and not follow:
            print(job.id, flush=True)
        if not (wait or follow):
            output.note(f"watch it: hpcjobs watch {job.id}")
            return
        info = _followed(client, job, settings, limit) if follow else _waited(client, job, settings, limit)
    raise typer.Exit(waits.verdict([info]))


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


def _command(words: Sequence[str], *, shell: bool | None) -> str | list[str]:
    """The command as it is asked for: a string for a shell, a list for a program with its arguments.

    Example:
        >>> _command(["sort big.txt | uniq"], shell=None), _command(["sort", "big file.txt"], shell=None)
        ('sort big.txt | uniq', ['sort', 'big file.txt'])
    """
    if shell is None:
        shell = len(words) == 1 and any(char.isspace() for char in words[0])
    return " ".join(words) if shell else list(words)


def _inputs(given: Sequence[str]) -> dict[str, str]:
    """What ``--input`` says, as names in the job's folder and paths here.

    Raises:
        InputError: A file is missing, or its name cannot be used.
    """
    from hpcjobs.inputs import find_inputs

    found: dict[str, LocalFile] = {}
    for text in given:
        name, equals, path = text.partition("=")
        # A file whose own name has "=" in it is meant as it stands.
        named = bool(equals) and not os.path.lexists(text)
        if not text or (named and not (name and path)):
            raise typer.BadParameter(f"--input {text!r} names no file; write PATH or NAME=PATH")
        for file in find_inputs({name: path} if named else text):
            other = found.setdefault(file.name, file)
            if other.path.resolve() != file.path.resolve():
                raise typer.BadParameter(
                    f"--input {text!r}: there is an input named {file.name!r} already; "
                    "write NAME=PATH to give it another name"
                )
    return {name: str(file.path) for name, file in found.items()}


def _meta(given: Sequence[str]) -> dict[str, Any]:
    """What ``--meta`` says.

    Example:
        >>> _meta(["run=7", "note=wrong damping"])
        {'run': 7, 'note': 'wrong damping'}
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--meta {text!r} says nothing; write KEY=JSON, or KEY=TEXT")
        try:
            found[name] = json.loads(value, parse_constant=_no_number)
        except ValueError:
            found[name] = value
    return found


def _no_number(word: str) -> None:
    """JSON has no NaN and no infinity."""
    raise ValueError(word)


def _environment(given: Sequence[str]) -> dict[str, str]:
    """What ``--env`` says.

    Example:
        >>> _environment(["OMP_NUM_THREADS=4", "EMPTY="])
        {'OMP_NUM_THREADS': '4', 'EMPTY': ''}
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise typer.BadParameter(f"--env {text!r} names no variable; write NAME=VALUE, or NAME to pass yours on")
        if not equals:
            if name not in os.environ:
                raise typer.BadParameter(f"--env {name}: this shell has no such variable; write {name}=VALUE")
            value = os.environ[name]
        found[name] = value
    return found
