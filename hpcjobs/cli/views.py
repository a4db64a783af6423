"""What jobs that are waited for look like: a table on a terminal, lines in a pipe, JSON for programs."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from hpcjobs import lines, live
from hpcjobs.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from hpcjobs.live import Display
    from hpcjobs.models import JobInfo

REDRAW = 0.5
"""Seconds between two drawings of the table, so that its times go on."""

WHOLE = 100
"""A table of up to so many jobs is left standing as a whole in the end."""


class Quiet(live.Silent):
    """Shows nothing but trouble with the connection."""

    def notice(self, text: str) -> None:
        """Say it on stderr."""
        output.error_line(text)


class JsonLines(Quiet):
    """A line of JSON for each change of anything."""

    def __init__(self) -> None:
        self._shown: dict[str, JobInfo] = {}

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Print the jobs that have changed."""
        for job in jobs:
            if self._shown.get(job.id) != job:
                self._shown[job.id] = job
                output.json_line(job)

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Print what changed last."""
        self.show(jobs)


class Lines(Quiet):
    """A plain line on stdout for each change of a job's state."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, int]] = {}

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Print the jobs whose states have changed."""
        for job in jobs:
            if self._shown.get(job.id) == (job.label, job.attempt):
                continue
            self._shown[job.id] = (job.label, job.attempt)
            now = dt.datetime.now(dt.timezone.utc)
            words = [output.iso(now), job.id, job.label.ljust(10), job.name or output.EMPTY]
            if job.terminal and job.reason:
                words.append(f"({job.reason})")
            print(output.clean("  ".join(words)), flush=True)

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Print what changed last."""
        self.show(jobs)


class Table:
    """A table on a terminal that is kept up to date.

    Args:
        stderr: Whether it is drawn on stderr, because stdout is for something else.
    """

    tick = REDRAW

    def __init__(self, *, stderr: bool = False) -> None:
        from rich.live import Live

        self._console = output.console(stderr=stderr)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def notice(self, text: str) -> None:
        """Say something above the table."""
        self._console.print(f"hpcjobs: {output.clean(text)}", soft_wrap=True)

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Draw the table anew."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(self._picture(jobs, room=max(1, self._console.height - 4)), refresh=True)

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Leave the last table standing, whole where that is not too long to read."""
        self.show(jobs)
        if len(jobs) <= WHOLE:
            self._live.vertical_overflow = "visible"
            self._live.update(self._picture(jobs, room=None), refresh=True)
        self._live.stop()

    def _picture(self, jobs: Sequence[JobInfo], room: int | None) -> RenderableType:
        """The table and a line below it that counts; with no more rows than there is room for."""
        from rich.console import Group
        from rich.text import Text

        now = dt.datetime.now(dt.timezone.utc)
        shown = list(jobs)
        if room is not None and len(shown) > room:
            # What moves is worth the room.
            shown = sorted(shown, key=lambda job: (job.terminal, job.state.not_started))[:room]
        headers = ["ID", "STATE", "TIME", "NAME"]
        rows: list[list[output.Cell | str]] = [
            [job.id, output.state_cell(job), _time(job, now), _name(job)] for job in shown
        ]
        rows_shown = output.table(headers, rows, width=self._console.width)
        if len(jobs) > 1:
            more = f" · {len(jobs) - len(shown)} not shown" if len(jobs) > len(shown) else ""
            told = output.clean(lines.counts(jobs)) + more
            rows_shown.append(Text(told, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*rows_shown)


def display(*, as_json: bool) -> Display:
    """What suits the place that the output goes to."""
    if as_json:
        return JsonLines()
    console = output.console()
    return Table() if console.is_terminal and not console.is_dumb_terminal else Lines()


def _time(job: JobInfo, now: dt.datetime) -> str:
    """How long a job has run, or has waited so far."""
    ran = job.run_time(now)
    return output.duration(ran if ran is not None else job.queue_time(now))


def _name(job: JobInfo) -> str:
    """A job's name and what it says of itself."""
    said = (job.reason if job.terminal else job.progress.message if job.progress else None) or ""
    return ": ".join(part for part in (job.name, said) if part) or output.EMPTY
