"""``hpcjobs logs``."""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from hpcjobs.cli.completion import complete_job, complete_stream
from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.client import Client

EXAMPLES = """\
Examples:
  hpcjobs logs "$id" --tail 20
  hpcjobs logs -f "$id" | grep --line-buffered residual
  hpcjobs logs "$array" --index 3
"""

app = typer.Typer(**PLAIN)


@app.command("logs", cls=Command, epilog=EXAMPLES)
def logs(  # noqa: PLR0917 - the options of the command
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job.", autocompletion=complete_job)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    stream: Annotated[
        str,
        typer.Option(
            "--stream",
            metavar="stdout|stderr",
            help="Which stream; stdout has both, in order, unless the job was submitted with --stderr separate.",
            autocompletion=complete_stream,
        ),
    ] = "stdout",
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines, and what follows.")
    ] = None,
    index: Annotated[
        int | None, typer.Option("--index", metavar="N", min=0, help="ID is an array: its job with this index.")
    ] = None,
) -> None:
    """Print what a job wrote.

    Byte by byte as it wrote it. With --json: lines of JSON, each with a piece of the log as text. Exits with 0
    however the job ended.
    """
    from hpcjobs.cli import waits
    from hpcjobs.logs import STREAMS

    settings = Settings.of(ctx)
    if stream not in STREAMS:
        raise typer.BadParameter(f"there is no stream {stream!r}; the streams are {' and '.join(STREAMS)}")
    with settings.connect() as client:
        job_id = waits.job_of(client, job_id, index)
        with waits.one_job(client, job_id):
            job = client.job(job_id)
        with waits.leaving_alone({job_id: job.info}) if follow else contextlib.nullcontext():
            print_log(client, job_id, stream=stream, follow=follow, tail=tail, as_json=settings.json)


def print_log(client: Client, job_id: str, *, stream: str, follow: bool, tail: int | None, as_json: bool) -> None:
    """Print a log on stdout.

    Args:
        client: Whose job it is.
        job_id: The job.
        stream: ``stdout`` or ``stderr``.
        follow: Whether to go on until the job has ended.
        tail: Only so many lines from the end, and what follows; None for all.
        as_json: Whether to print lines of JSON, with a piece of the log each.
    """
    from hpcjobs.cli.waits import session_of
    from hpcjobs.logs import follow_log, present_log, tail_log

    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def say(data: bytes, *, final: bool = False) -> None:
        from hpcjobs.cli import output

        if not as_json:
            output.raw(data)
        elif text := decoder.decode(data, final):
            output.json_line({"id": job_id, "stream": stream, "text": text})

    session = session_of(client)
    offset = 0
    if tail is not None:
        chunk = session.run(tail_log(session.service, job_id, stream=stream, lines=tail))
        say(chunk.data)
        offset = chunk.offset + len(chunk.data)
    if follow:
        for data in session.iterate(follow_log(session.service, job_id, stream=stream, offset=offset)):
            say(data)
    elif tail is None:
        session.run(present_log(session.service, job_id, stream=stream, take=say))
    if as_json:
        say(b"", final=True)
