"""What a person sees while a job is waited for: a live line in a terminal, plain lines, or text in a notebook.

A display is shown the jobs at the start, at every change and every so often in between, and closed at the end. Other
displays are hooked in by ``displays``: the first factory that gives one is taken.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpcjobs import lines, markup
from hpcjobs.models import JobInfo
from hpcjobs.wording import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger("hpcjobs")


class Display(Protocol):
    """Shows jobs that are waited for."""

    tick: float
    """Seconds after which it wants to be shown the jobs again although nothing has changed; infinity for never."""

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """The jobs as they are now, in the caller's order."""

    def notice(self, text: str) -> None:
        """A sentence about the connection."""

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """The jobs as they are at the end of the waiting; whatever is shown then stays."""


displays: list[Callable[[Sequence[JobInfo], object], Display | None]] = []
"""Factories that are asked for a display, before the ones of this module, where something is to be shown.

They are given the jobs and the session that waits for them."""


_loaded = False


def load_displays() -> None:
    """Hook in what shows jobs in this notebook, the entry points ``hpcjobs.displays``; anywhere else do nothing.

    A display that cannot be loaded is left out: jobs are shown as text then.
    """
    global _loaded  # noqa: PLW0603 - once in a process, as the kernel is there once
    if _loaded or not in_notebook():
        return
    _loaded = True
    from importlib.metadata import entry_points

    for entry in entry_points(group="hpcjobs.displays"):
        try:
            entry.load()()
        except Exception:  # whatever it is, it must not keep anybody from submitting jobs
            logger.warning("the display %s cannot be loaded", entry.name, exc_info=True)


def choose(progress: bool | None, jobs: Sequence[JobInfo], *, session: object = None) -> Display:
    """The display for a wait.

    Args:
        progress: False shows nothing. True shows something wherever it goes. None shows it to people only: in a
            notebook, and where stderr is a terminal, but not in tests.
        jobs: What will be waited for.
        session: What waits for them.
    """
    medium = medium_of(progress)
    if medium == "nothing":
        return Silent()
    for factory in displays:
        display = factory(jobs, session)
        if display is not None:
            return display
    kinds: dict[str, Callable[[], Display]]
    kinds = {"notebook": NotebookText, "lines": Lines, "rich": RichLine, "plain": PlainLine}
    return kinds[medium]()


def medium_of(progress: bool | None) -> Literal["nothing", "notebook", "lines", "plain", "rich"]:
    """Where something is shown, and with what: ``progress`` means what it means to :func:`choose`."""
    if progress is False or (progress is None and not seen_by_a_person()):
        return "nothing"
    if in_notebook():
        return "notebook"
    if not (_is_terminal() and os.environ.get("TERM") != "dumb"):
        return "lines"
    return "rich" if importlib.util.find_spec("rich") is not None else "plain"


def seen_by_a_person() -> bool:
    """Whether what is shown is seen as it comes: in a notebook, or on a terminal, but not in tests."""
    return "PYTEST_CURRENT_TEST" not in os.environ and (in_notebook() or _is_terminal())


def say(text: str) -> None:
    """Tell a person a sentence; nobody else."""
    if seen_by_a_person():
        _write(text + "\n")


def tell(text: str) -> None:
    """Write to stderr, whoever reads it; in a notebook to stdout, because there stderr looks like an error."""
    _write(text)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel; imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False


def _write(text: str) -> None:
    """Write; what the encoding lacks is replaced, and a stream that is gone is no reason to stop waiting."""
    stream = sys.stdout if in_notebook() else sys.stderr
    with contextlib.suppress(AttributeError, OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()


class Silent:
    """Shows nothing; a lost connection goes to the log, where nothing else would explain a wait without end."""

    tick = math.inf

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """A warning in the log ``hpcjobs``."""
        logger.warning(text)

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Nothing."""


class Lines:
    """A line on stderr when a job's state changes; for many jobs, counts every ten seconds."""

    tick = math.inf
    PAUSE = 10.0

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._counted = ""
        self._next = 0.0

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Say what changed."""
        if len(jobs) > lines.FEW:
            if time.monotonic() >= self._next:
                self._count(jobs)
            return
        for info in jobs:
            if self._labels.get(info.id) != info.label:
                self._labels[info.id] = info.label
                _write(lines.line([info]) + "\n")

    def notice(self, text: str) -> None:
        """A line of its own."""
        _write(f"hpcjobs: {text}\n")

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Say what changed last."""
        if len(jobs) > lines.FEW:
            self._count(jobs)
        else:
            self.show(jobs)

    def _count(self, jobs: Sequence[JobInfo]) -> None:
        text = lines.counts(jobs)
        if text != self._counted:
            self._counted = text
            self._next = time.monotonic() + self.PAUSE
            _write(text + "\n")


class PlainLine:
    """One line of a terminal, written over and over."""

    tick = 0.5
    CLEAR = "\r\x1b[2K"

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Write the line anew."""
        width = shutil.get_terminal_size().columns
        text = lines.line(jobs)
        _write(self.CLEAR + (text if len(text) < width else text[: max(0, width - 2)] + "…"))

    def notice(self, text: str) -> None:
        """A line of its own, above."""
        _write(f"{self.CLEAR}hpcjobs: {text}\n")

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Leave the line, whole."""
        _write(f"{self.CLEAR}{lines.line(jobs)}\n")


class RichLine:
    """One line of a terminal with colours and a bar, drawn by rich."""

    tick = 0.25
    BAR = 24

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # Drawn by the thread that waits: no thread of rich's own.
        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._unicode = console.encoding.lower().startswith("utf")

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Draw the line anew."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(self._draw(jobs, final=False), refresh=True)

    def notice(self, text: str) -> None:
        """A line of its own, above."""
        from rich.text import Text

        self._live.console.print(Text(f"hpcjobs: {text}", style="yellow"))

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Leave the line."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(self._draw(jobs, final=True), refresh=True)
        self._live.stop()

    def _draw(self, jobs: Sequence[JobInfo], *, final: bool) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if len(jobs) == 1:
            (info,) = jobs
            colour = lines.COLOURS[info.state]
            symbol = f"{lines.SYMBOLS[info.state]} " if self._unicode else ""
            head = Text.assemble(
                (f"{symbol}{clean(info.label)}", f"bold {colour}"), "  ", clean(info.name or ""), no_wrap=True
            )
            head.append(f" {info.id}" if info.name else info.id, "dim")
            fraction = info.progress.fraction if info.progress is not None and not info.terminal else None
            rest = Text(lines.details(info))
        else:
            ended = sum(info.terminal for info in jobs)
            head = Text(f"{len(jobs)} jobs", "bold")
            fraction = ended / len(jobs) if jobs else None
            rest = Text(lines.counts(jobs))
        if final:  # as long as it is: the reason and the id must be readable
            return Text.assemble(head, "  ", rest)
        grid = Table.grid(padding=(0, 2, 0, 0))
        cells: list[Any] = [head]
        grid.add_column(no_wrap=True)
        if fraction is not None and self._live.console.width >= 100:
            cells.append(ProgressBar(total=1.0, completed=fraction, width=self.BAR))
            grid.add_column(no_wrap=True)
        cells.append(rest)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(*cells)
        return grid


class NotebookText:
    """An output of a notebook cell, as HTML and as plain text, replaced at every change."""

    tick = 1.0
    PAUSE = 0.5

    def __init__(self) -> None:
        self._handle: Any = None
        self._remark = ""
        self._last = ""
        self._next = 0.0

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Replace the output, not more than twice a second."""
        if time.monotonic() >= self._next:
            self._replace(jobs)

    def notice(self, text: str) -> None:
        """A line below the others, with the next ones."""
        self._remark = f"hpcjobs: {text}"
        self._next = 0.0

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Leave the output; what was said about the connection goes.

        A notebook is read long after: where a job has not ended, the output says how old it is.
        """
        now = dt.datetime.now().astimezone()
        stale = not all(info.terminal for info in jobs)
        self._remark = f"as of {now:%Y-%m-%d %H:%M:%S}, when the waiting ended" if stale else ""
        self._replace(jobs)

    def _replace(self, jobs: Sequence[JobInfo]) -> None:
        from IPython.display import display as untyped

        display: Any = untyped

        plain = lines.as_text(jobs) + (f"\n{clean(self._remark)}" if self._remark else "")
        if plain == self._last:
            return
        self._last = plain
        self._next = time.monotonic() + self.PAUSE
        bundle = {"text/plain": plain, "text/html": markup.as_html(jobs, self._remark)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
