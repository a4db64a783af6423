"""Waiting for jobs on the command line: how long, until when, and what is said when it ends before they do."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from hpcjobs import lines, texts, waiting
from hpcjobs.cli import output
from hpcjobs.cli.exits import ExitCode
from hpcjobs.cli.usage import usage
from hpcjobs.lifecycle import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hpcjobs.client import Client
    from hpcjobs.live import Display
    from hpcjobs.models import JobInfo
    from hpcjobs.sessions import Session

NAMED = 5
"""Up to so many jobs are named in a message."""


def session_of(client: Client) -> Session:
    """What stands behind a client; this package is a part of the same house."""
    return client._session  # noqa: SLF001


seconds = usage(texts.seconds)


def look(client: Client, ids: Sequence[str]) -> tuple[list[JobInfo], list[str]]:
    """Look at jobs by id; the id of an array stands for all of its jobs.

    Returns:
        What is known of those that there are, in the order of the ids, and the ids of those that there are not.
    """
    from hpcjobs.operations import look_at_array

    session = session_of(client)
    ids = [session.service.spelled(job_id) for job_id in ids]
    answer = session.run(session.service.get_many(ids)) if ids else None
    found = {job.id: [job] for job in answer.items} if answer else {}
    for array in answer.arrays if answer else ():
        _, found[array] = session.run(look_at_array(session.service, array))
    jobs = {job.id: job for job_id in ids for job in found.get(job_id, ())}
    return list(jobs.values()), [job_id for job_id in ids if job_id not in found]


def arrays_among(client: Client, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are arrays."""
    session = session_of(client)
    if not session.service.capabilities.arrays:
        return []
    return session.run(session.service.get_many([session.service.spelled(job_id) for job_id in ids])).arrays


@contextlib.contextmanager
def one_job(client: Client, job_id: str) -> Iterator[None]:
    """Where the id of an array stands in place of that of a job, say how one of its jobs is named.

    Raises:
        typer.BadParameter: The id is an array's.
    """
    from hpcjobs.errors import JobNotFound

    try:
        yield
    except JobNotFound:
        if not arrays_among(client, [job_id]):
            raise
        raise typer.BadParameter(
            f"{job_id} is an array of jobs; say which of them: --index N, or an id of hpcjobs list --array {job_id}"
        ) from None


def job_of(client: Client, job_id: str, index: int | None) -> str:
    """The id of a job; of an array: of its job with this index.

    Raises:
        typer.BadParameter: There is no such index, or the id is no array's.
    """
    from hpcjobs.errors import JobNotFound, NotFound

    if index is None:
        return job_id
    try:
        array = client.array(job_id)
    except JobNotFound:
        raise
    except NotFound:
        client.job(job_id)  # says so where there is no such job either
        raise typer.BadParameter(f"{job_id} is a job and no array: leave out --index") from None
    for job in array:
        if job.info.array_index == index:
            return job.id
    raise typer.BadParameter(f"array {job_id} has no job with the index {index}; it has {len(array)} jobs, from 0")


def until_ended(client: Client, jobs: Sequence[JobInfo], display: Display, timeout: float | None) -> list[JobInfo]:
    """Wait until all ``jobs`` have ended, and show it. Ctrl-C ends the waiting and leaves the jobs alone.

    Returns:
        The final infos.

    Raises:
        typer.Exit: Ctrl-C was pressed; it was said that the jobs go on.
        WaitTimeout: A job had not ended in time.
        JobVanished: The service no longer knows a job.
    """
    known: dict[str, JobInfo | None] = {job.id: job for job in jobs}
    last = {job.id: job for job in jobs}

    def learn(info: JobInfo) -> None:
        last[info.id] = info

    wait = waiting.until_ended(known, timeout=timeout, display=lambda _: display, learn=learn)
    with leaving_alone(last):
        return list(session_of(client).see_through(wait, known))


def verdict(jobs: Iterable[JobInfo]) -> ExitCode:
    """``DONE`` if every job has ended well."""
    return ExitCode.DONE if all(job.state is JobState.FINISHED for job in jobs) else ExitCode.UNSUCCESSFUL


def ending(job: JobInfo) -> str:
    """How a job ended, in a line."""
    return f"job {job.id} {job.label}: {lines.details(job)}"


@contextlib.contextmanager
def leaving_alone(jobs: dict[str, JobInfo]) -> Iterator[None]:
    """Where Ctrl-C ends what runs inside, say that it ended nothing else, and how to go on.

    Args:
        jobs: What was last known of the jobs, at the moment of Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the terminal has just written ^C
        going = [job for job in jobs.values() if not job.terminal]
        ids = " ".join(job.id for job in going[:NAMED])
        if len(going) == 1:
            output.error_line(f"job {ids} goes on")
            output.error_line(f"watch it: hpcjobs watch {ids}")
            output.error_line(f"stop it:  hpcjobs cancel {ids}")
        elif going:
            output.error_line(f"{len(going)} jobs go on")
            output.error_line(f"watch them: hpcjobs watch{f' {ids}' if len(going) <= NAMED else ''}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


class OutOfTime(BaseException):
    """The time is over. Not an ``Exception``, so that nobody on the way takes it for a connection that is slow."""


@contextlib.contextmanager
def limited_to(limit: float | None) -> Iterator[None]:
    """Raise ``OutOfTime`` in what runs inside, wherever it is, when ``limit`` seconds are over; None: never."""
    import signal

    if limit is None or not hasattr(signal, "setitimer"):
        yield
        return

    def over(_number: int, _frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(limit, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
