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
    from hpcjobs.cli.output import Cell
    from hpcjobs.models import JobInfo, OutputFile

EXAMPLES = """\
Examples:
  hpcjobs show "$id"
  hpcjobs show "$id" --json | jq .exit_code
  hpcjobs show "$id" --files
"""

app = typer.Typer(**PLAIN)


@app.command("show", cls=Command, epilog=EXAMPLES)
def show(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job.", autocompletion=complete_job)],
    files: Annotated[bool, typer.Option("--files", help="List its files instead.")] = False,
) -> None:
    """Show everything that is known of a job."""
    from hpcjobs.cli import output, waits

    settings = Settings.of(ctx)
    with settings.connect() as client:
        if files:
            session = waits.session_of(client)
            _print_files(session.run(session.service.files(job_id)), as_json=settings.json)
            return
        info = client.job(job_id).info
    if settings.json:
        output.json_document(info)
    else:
        output.print_fields(fields_of(info, relative=output.console().is_terminal))


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
    from hpcjobs.cli import output

    def moment(when: dt.datetime | None) -> str:
        if when is None:
            return ""
        return f"{output.iso(when)} ({output.age(when)} ago)" if relative else output.iso(when)

    spec = info.spec or {}
    resources: dict[str, Any] = spec.get("resources") or {}
    attempts = info.attempt > 1 or info.max_attempts > 1
    fields: list[tuple[str, Cell | str | None]] = [
        ("id", info.id),
        ("name", info.name),
        ("state", output.state_cell(info)),
        ("reason", info.reason),
        ("cancel reason", info.cancel_reason if info.cancel_reason != info.reason else None),
        ("exit code", None if info.exit_code is None else str(info.exit_code)),
        ("progress", str(info.progress) if info.progress else None),
        ("attempt", f"{info.attempt} of at most {max(info.attempt, info.max_attempts)}" if attempts else None),
        ("submitted", moment(info.created_at)),
        ("started", moment(info.started_at)),
        ("ended", moment(info.finished_at)),
        ("waited", output.duration(info.queue_time())),
        ("ran", output.duration(info.run_time()) if info.started_at else None),
        ("owner", info.owner),
        ("queue", info.queue),
        ("priority", str(info.priority) if info.priority else None),
        ("tags", ", ".join(info.tags)),
        ("meta", json.dumps(info.meta, ensure_ascii=False) if info.meta else None),
        ("function", (spec.get("function") or {}).get("name")),
        ("task", spec.get("task")),
        ("args", json.dumps(spec["args"], ensure_ascii=False) if spec.get("args") else None),
        ("command", None if spec.get("function") else _command(spec.get("command"))),
        ("cores", str(resources["cores"]) if resources.get("cores") else None),
        ("memory", output.size(resources["memory"]) if resources.get("memory") else None),
        ("walltime", _seconds(resources.get("walltime"))),
        ("grace", _seconds(spec.get("grace"))),
        ("env", ", ".join(f"{name}={value}" for name, value in (spec.get("env") or {}).items())),
        ("inputs", ", ".join(f"{item['name']} ({output.size(item['size'])})" for item in spec.get("inputs") or [])),
    ]
    return [(name, value) for name, value in fields if value]


def _command(command: str | list[str] | None) -> str | None:
    return shlex.join(command) if isinstance(command, list) else command


def _seconds(value: float | str | None) -> str | None:
    from hpcjobs.cli import output
    from hpcjobs.models import parse_duration

    return None if value is None else output.duration(parse_duration(value))
