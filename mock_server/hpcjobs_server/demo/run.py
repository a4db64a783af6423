"""``hpcjobs demo``: a sweep of real jobs on a real service, from start to end, with every claim checked."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from hpcjobs.errors import HpcjobsError
from hpcjobs_server.demo.claims import DemoError
from hpcjobs_server.demo.hints import short
from hpcjobs_server.demo.place import default_place, own_place
from hpcjobs_server.demo.screen import Screen
from hpcjobs_server.demo.service import DemoService
from hpcjobs_server.demo.story import Story
from hpcjobs_server.settings import usable_cores

CORES = 2
"""Fewer than there are jobs, however many this machine has, so that some jobs surely wait."""


def main(
    *,
    data: Path | None = None,
    results: Path = Path("demo-results"),
    svg: Path | None = None,
    console: Console | None = None,
) -> int:
    """Run the demo and leave nothing behind but its results.

    Args:
        data: A data folder for the demo's service; None for one of its own, beside the one of the local service.
        results: Where the results go.
        svg: Where to draw a picture of the terminal, for the documentation.
        console: Where to tell the story; None for the standard output.

    Returns:
        The exit code: 0 if everything that was said is so, 1 if something is not, 130 after Ctrl-C.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    screen = Screen(console, picture=svg)
    folder = data or default_place()
    try:
        with _signals_as_interrupts(), own_place(folder) as folder:
            service = DemoService(folder, cores=min(CORES, usable_cores()))
            try:
                Story(screen, service, results).tell()
            except KeyboardInterrupt:
                with _undisturbed():
                    screen.put("\n[yellow]Interrupted: stopping the jobs and the service ...[/]")
                    service.abandon()
                    screen.put("[yellow]No process left.[/]")
                raise
            except BaseException:
                with _undisturbed():
                    service.abandon()
                raise
    except KeyboardInterrupt:
        return 130
    except (DemoError, HpcjobsError, OSError) as error:
        screen.put(f"\n[bold red]The demo failed:[/] {escape(str(error) or type(error).__name__)}")
        if (folder / "log").is_dir():
            screen.put(f"The service's logs are kept until the next run: {escape(short(folder / 'log'))}", whole=True)
        return 1
    screen.save()
    return 0


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    with _handled((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nothing but SIGKILL disturb the cleaning up; all of it ends in half a minute at most."""
    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handled(
    numbers: Sequence[signal.Signals], handler: Callable[[int, object], None] | signal.Handlers
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
