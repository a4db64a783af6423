"""``hpcjobs show``."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpcjobs.cli.completion import complete_job
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.arrays import ArrayInfo
    from hpcjobs.cli.output import Cell
    from hpcjobs.models import JobInfo, OutputFile

EXAMPLES = """\
Examples:
  hpcjobs show "$id"
  hpcjobs show "$id" --json | jq .exit_code
  hpcjobs show "$id" --files
  hpcjobs show "$id" --history
  hpcjobs show "$id" --again
  hpcjobs show "$array" --index 3
"""

app = typer.Typer(**PLAIN)


@app.command("show", cls=Command, epilog=EXAMPLES)
def show(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job, or the array.", autocompletion=complete_job)],
    files: Annotated[bool, typer.Option("--files", help="List its files instead.")] = False,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Show instead every change of its state, and what each attempt took: time, processor, memory.",
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Show instead the Python and the shell that submit it again.")
    ] = False,
    index: Annotated[
        int | None, typer.Option("--index", metavar="N", min=0, help="ID is an array: its job with this index.")
    ] = None,
) -> None:
    """Show everything that is known of a job or an array."""
    from hpcjobs.cancelling import IS_ARRAY
    from hpcjobs.cli import output, waits
    from hpcjobs.cli.histories import print_history
    from hpcjobs.errors import JobNotFound
    from hpcjobs.models import JobInfo

    settings = Settings.of(ctx)
    if files + history + again > 1:
        raise typer.BadParameter("give one of --files, --history and --again")
    with settings.connect() as client:
        session = waits.session_of(client)
        job_id = waits.job_of(client, job_id, index)
        if files or history:
            with waits.one_job(client, job_id):
                if files:
                    _print_files(session.run(session.service.files(job_id)), as_json=settings.json)
                else:
                    print_history(session.run(session.service.history(job_id)), as_json=settings.json)
            return
        found: JobInfo | ArrayInfo
        try:
            found = client.job(job_id).info
        except JobNotFound as error:
            if error.code != IS_ARRAY:
                raise
            found = session.run(session.service.array(job_id))
    if settings.json and not again:
        output.json_document(found)
        return
    if again:
        _print_again(found, session.service.name, as_json=settings.json)
        return
    tell = output.console().is_terminal
    output.print_fields(
        fields_of(found, relative=tell) if isinstance(found, JobInfo) else array_fields(found, relative=tell)
    )


def _print_again(found: JobInfo | ArrayInfo, service: str, *, as_json: bool) -> None:
    from hpcjobs.again import as_python, as_shell
    from hpcjobs.arrays import own_spec
    from hpcjobs.cli import output
    from hpcjobs.errors import InvalidSpec, Unsupported
    from hpcjobs.models import JobInfo

    if not isinstance(found, JobInfo):
        raise typer.BadParameter("an array is many jobs; add --index N for one of them")
    spec, index = own_spec(found), found.array_index
    try:
        python, shell = as_python(spec, array_index=index), as_shell(spec, array_index=index)
    except InvalidSpec:  # the service tells nothing, or its own words for it
        raise Unsupported(service, "tell what was asked of the job", "look where you submitted it") from None
    if as_json:
        output.json_document({"python": python, "shell": shell})
        return
    print(f"{python}\n\n{shell}")


def _print_files(files: list[OutputFile], *, as_json: bool) -> None:
    from hpcjobs.cli import output

    if as_json:
        output.json_document(files)
        return
    output.print_table(
        ["SIZE", "MODIFIED", "INPUT", "PATH"],
        [
            [
                output.size(file.size),
                output.iso(file.modified_at),
                "unchanged" if file.unchanged_input else output.EMPTY,
                file.path,
            ]
            for file in files
        ],
    )


def fields_of(info: JobInfo, *, relative: bool) -> list[tuple[str, Cell | str]]:
    """What is known of a job, name by name; what is not known, or says nothing, is left out.

    Args:
        info: The job.
        relative: Whether moments are told as how long ago they were, too.
    """
    from hpcjobs.arrays import own_spec
    from hpcjobs.cli import output

    spec = info.spec or {}
    attempts = info.attempt > 1 or info.max_attempts > 1
    fields: list[tuple[str, Cell | str | None]] = [
        ("id", info.id),
        ("name", info.name),
        ("state", output.state_cell(info)),
        ("array", None if info.array_id is None else f"{info.array_id}, index {info.array_index}"),
        ("item", None if info.item is None else json.dumps(info.item, ensure_ascii=False)),
        ("reason", info.reason),
        ("cancel reason", info.cancel_reason if info.cancel_reason != info.reason else None),
        ("exit code", None if info.exit_code is None else str(info.exit_code)),
        ("progress", str(info.progress) if info.progress else None),
        ("attempt", f"{info.attempt} of at most {max(info.attempt, info.max_attempts)}" if attempts else None),
        ("submitted", _moment(info.created_at, relative=relative)),
        ("started", _moment(info.started_at, relative=relative)),
        ("ended", _moment(info.finished_at, relative=relative)),
        ("waited", output.duration(info.queue_time())),
        ("ran", output.duration(info.run_time()) if info.started_at else None),
        ("start at", _moment(info.start_at, relative=relative)),
        ("expires at", _moment(info.expires_at, relative=relative) if info.state.not_started else None),
        ("after", _after(spec.get("after") or [])),
        ("owner", info.owner),
        ("queue", info.queue),
        ("priority", str(info.priority) if info.priority else None),
        ("tags", ", ".join(info.tags)),
        ("meta", json.dumps(info.meta, ensure_ascii=False) if info.meta else None),
        *_work(own_spec(info)),
    ]
    return [(name, value) for name, value in fields if value]


def array_fields(info: ArrayInfo, *, relative: bool) -> list[tuple[str, Cell | str]]:
    """What is known of an array, name by name; what is not known, or says nothing, is left out.

    Args:
        info: The array.
        relative: Whether moments are told as how long ago they were, too.
    """
    from hpcjobs.cli import output
    from hpcjobs.lines import COLOURS

    spec = info.spec or {}
    there = sum(info.counts.values())
    fields: list[tuple[str, Cell | str | None]] = [
        ("id", info.id),
        ("name", info.name),
        ("array of", f"{info.size} jobs" + (f", {info.size - there} of them deleted" if there < info.size else "")),
        *((state.value, output.Cell(str(info.counts[state]), COLOURS[state])) for state in sorted(info.counts)),
        ("progress", str(info.progress) if info.progress else None),
        ("submitted", _moment(info.created_at, relative=relative)),
        ("after", _after(spec.get("after") or [])),
        ("owner", info.owner),
        ("queue", spec.get("queue")),
        ("priority", str(spec["priority"]) if spec.get("priority") else None),
        ("tags", ", ".join(spec.get("tags") or [])),
        ("meta", json.dumps(spec["meta"], ensure_ascii=False) if spec.get("meta") else None),
        *_work(spec),
    ]
    return [(name, value) for name, value in fields if value]


def _work(spec: dict[str, Any]) -> list[tuple[str, Cell | str | None]]:
    """What is to run, and how."""
    from hpcjobs.cli import output

    resources: dict[str, Any] = spec.get("resources") or {}
    return [
        ("function", (spec.get("function") or {}).get("name")),
        ("task", spec.get("task")),
        ("app", " ".join(filter(None, [spec.get("app"), spec.get("app_version")]))),
        ("args", json.dumps(spec["args"], ensure_ascii=False) if spec.get("args") else None),
        ("command", None if spec.get("function") else _command(spec.get("command"))),
        ("cores", str(resources["cores"]) if resources.get("cores") else None),
        ("memory", output.size(resources["memory"]) if resources.get("memory") else None),
        ("walltime", _seconds(resources.get("walltime"))),
        ("grace", _seconds(spec.get("grace"))),
        ("backoff", _seconds(spec.get("backoff") or None)),
        ("retry on", ", ".join(f"exit code {code}" for code in spec.get("retry_on") or [])),
        ("options", json.dumps(spec["options"], ensure_ascii=False) if spec.get("options") else None),
        ("env", ", ".join(f"{name}={value}" for name, value in (spec.get("env") or {}).items())),
        ("inputs", ", ".join(f"{item['name']} ({output.size(item['size'])})" for item in spec.get("inputs") or [])),
    ]


def _moment(when: dt.datetime | None, *, relative: bool) -> str:
    """A moment, and how far away it is."""
    from hpcjobs.cli import output

    if when is None:
        return ""
    if not relative:
        return output.iso(when)
    now = dt.datetime.now(dt.timezone.utc)
    away = f"in {output.age(now, when)}" if when > now else f"{output.age(when, now)} ago"
    return f"{output.iso(when)} ({away})"


def _after(dependencies: list[Any]) -> str:
    """The jobs that are waited for, as ``--after`` takes them.

    Example:
        >>> _after([{"job": "0b7f", "when": "ok"}, {"job": "1c8a", "when": "any"}])
        '0b7f, 1c8a:any'
    """
    words = [one if isinstance(one, dict) else {"job": str(one)} for one in dependencies]
    return ", ".join(one["job"] + (f":{one['when']}" if one.get("when", "ok") != "ok" else "") for one in words)


def _command(command: str | list[str] | None) -> str | None:
    return shlex.join(command) if isinstance(command, list) else command


def _seconds(value: float | str | None) -> str | None:
    from hpcjobs.cli import output
    from hpcjobs.models import parse_duration

    return None if value is None else output.duration(parse_duration(value))
