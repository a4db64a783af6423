"""What a person sees while a job is waited for: a live line in a terminal, plain lines, or text in a notebook.

A display is shown the jobs at the start, at every change and every so often in between, and closed at the end. Other
displays are hooked in by ``displays``: the first factory that gives one is taken.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import html
import importlib.util
import logging
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs.wording import clean, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger("hpcjobs")

SYMBOLS = {
    JobState.UNKNOWN: "?",
    JobState.PENDING: "○",
    JobState.QUEUED: "○",
    JobState.STAGING: "◔",
    JobState.RUNNING: "●",
    JobState.PAUSED: "◍",
    JobState.ARCHIVING: "◕",
    JobState.FINISHED: "✔",
    JobState.FAILED: "✘",
    JobState.CANCELLED: "⊘",
}
"""A mark for each state; never shown without its word."""

COLOURS = {
    JobState.UNKNOWN: "magenta",
    JobState.PENDING: "yellow",
    JobState.QUEUED: "yellow",
    JobState.STAGING: "cyan",
    JobState.RUNNING: "blue",
    JobState.PAUSED: "magenta",
    JobState.ARCHIVING: "cyan",
    JobState.FINISHED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "bright_black",
}
"""A terminal colour for each state."""

FEW = 20
"""Up to so many jobs have lines of their own."""


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


displays: list[Callable[[Sequence[JobInfo]], Display | None]] = []
"""Factories that are asked for a display, before the ones of this module, where something is to be shown."""


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


def choose(progress: bool | None, jobs: Sequence[JobInfo]) -> Display:
    """The display for a wait.

    Args:
        progress: False shows nothing. True shows something wherever it goes. None shows it to people only: in a
            notebook, and where stderr is a terminal, but not in tests.
        jobs: What will be waited for.
    """
    medium = medium_of(progress)
    if medium == "nothing":
        return Silent()
    for factory in displays:
        display = factory(jobs)
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


# ---------------------------------------------------------------------------------------------------------------------
# In words


def title(info: JobInfo) -> str:
    """What a job is called: its name and id, or its id."""
    return clean(f"{info.name} {info.id}" if info.name else info.id)


def why(info: JobInfo) -> str:
    """Why a job that has ended did not end well, as far as it is known."""
    asked = info.cancel_reason if info.state is JobState.CANCELLED else None
    return info.reason or asked or (f"exit code {info.exit_code}" if info.exit_code is not None else "")


def details(info: JobInfo, now: dt.datetime | None = None) -> str:
    """What else is worth saying of a job in a line: progress, why, for how long."""
    parts: list[str] = []
    if info.terminal:
        if info.state is not JobState.FINISHED:
            parts.append(why(info))
        if info.finished_at is not None:  # or else how it ended is not known whole yet
            ran = info.run_time(now)
            parts.append(f"ran {duration(ran)}" if ran is not None else "never ran")
    else:
        if info.progress is not None:
            parts.append(str(info.progress))
        elif info.reason:
            parts.append(info.reason)
        begun = info.run_time(now) if info.state > JobState.QUEUED else None
        waited = info.queue_time(now)
        if begun is not None:
            parts.append(duration(begun))
        elif waited is not None:
            parts.append(f"waiting {duration(waited)}")
    return clean(" · ".join(part for part in parts if part))


def counts(jobs: Sequence[JobInfo]) -> str:
    """How many jobs are in which state, ended ones first: ``3 of 5 ended · 2 FINISHED · 1 FAILED · 2 RUNNING``."""
    labels = Counter((not info.terminal, info.label) for info in jobs)
    ended = sum(number for (going, _), number in labels.items() if not going)
    parts = [f"{number} {label}" for (_, label), number in sorted(labels.items())]
    return " · ".join([f"{ended} of {len(jobs)} ended", *parts])


def line(jobs: Sequence[JobInfo]) -> str:
    """One line about one job, or about many."""
    if len(jobs) != 1:
        return counts(jobs)
    (info,) = jobs
    rest = details(info)
    return f"{SYMBOLS[info.state]} {clean(info.label)}  {title(info)}" + (f"  {rest}" if rest else "")


def worth_a_line(jobs: Sequence[JobInfo]) -> list[JobInfo]:
    """Which of several jobs are shown one by one: all of a few; of many those that failed, run or were cancelled."""
    if len(jobs) <= FEW:
        return list(jobs)
    failed = [info for info in jobs if info.state is JobState.FAILED]
    going = [info for info in jobs if info.state > JobState.QUEUED and not info.terminal]
    return [*failed, *going, *(info for info in jobs if info.state is JobState.CANCELLED)]


def as_text(jobs: Sequence[JobInfo]) -> str:
    """Jobs as text: a line about one; about several the counts, and a line for each that is worth one."""
    if len(jobs) == 1:
        return line(jobs)
    rows = worth_a_line(jobs)
    more = [f"  and {len(rows) - FEW} more"] if len(rows) > FEW else []
    return "\n".join([counts(jobs), *(f"  {line([info])}" for info in rows[:FEW]), *more])


# ---------------------------------------------------------------------------------------------------------------------
# Displays


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
        if len(jobs) > FEW:
            if time.monotonic() >= self._next:
                self._count(jobs)
            return
        for info in jobs:
            if self._labels.get(info.id) != info.label:
                self._labels[info.id] = info.label
                _write(line([info]) + "\n")

    def notice(self, text: str) -> None:
        """A line of its own."""
        _write(f"hpcjobs: {text}\n")

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Say what changed last."""
        if len(jobs) > FEW:
            self._count(jobs)
        else:
            self.show(jobs)

    def _count(self, jobs: Sequence[JobInfo]) -> None:
        text = counts(jobs)
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
        text = line(jobs)
        _write(self.CLEAR + (text if len(text) < width else text[: max(0, width - 2)] + "…"))

    def notice(self, text: str) -> None:
        """A line of its own, above."""
        _write(f"{self.CLEAR}hpcjobs: {text}\n")

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Leave the line, whole."""
        _write(f"{self.CLEAR}{line(jobs)}\n")


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
            colour = COLOURS[info.state]
            symbol = f"{SYMBOLS[info.state]} " if self._unicode else ""
            head = Text.assemble(
                (f"{symbol}{clean(info.label)}", f"bold {colour}"), "  ", clean(info.name or ""), no_wrap=True
            )
            head.append(f" {info.id}" if info.name else info.id, "dim")
            fraction = info.progress.fraction if info.progress is not None and not info.terminal else None
            rest = Text(details(info))
        else:
            ended = sum(info.terminal for info in jobs)
            head = Text(f"{len(jobs)} jobs", "bold")
            fraction = ended / len(jobs) if jobs else None
            rest = Text(counts(jobs))
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

        plain = as_text(jobs) + (f"\n{clean(self._remark)}" if self._remark else "")
        if plain == self._last:
            return
        self._last = plain
        self._next = time.monotonic() + self.PAUSE
        bundle = {"text/plain": plain, "text/html": as_html(jobs, self._remark)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


# ---------------------------------------------------------------------------------------------------------------------
# In HTML: without a style sheet and without a script, because a saved notebook is shown without them. Colours are those
# of JupyterLab or VS Code, light or dark, or else such as can be read on both.

_GREEN = "var(--jp-success-color0, var(--vscode-charts-green, #2e8b3a))"
_RED = "var(--jp-error-color1, var(--vscode-charts-red, #e03c3c))"
_BLUE = "var(--jp-brand-color1, var(--vscode-charts-blue, #2a7fd4))"
_ORANGE = "var(--jp-warn-color0, var(--vscode-charts-orange, #d9730d))"
_MUTED = "var(--jp-content-font-color2, var(--vscode-descriptionForeground, #808080))"
_SHADES = {JobState.FINISHED: _GREEN, JobState.FAILED: _RED, JobState.RUNNING: _BLUE, JobState.CANCELLED: _MUTED}


def as_html(jobs: Sequence[JobInfo], remark: str = "") -> str:
    """Jobs as HTML: a line about one; about several the counts, and a row for each that is worth one.

    Args:
        jobs: In the caller's order.
        remark: A sentence below.
    """
    below = f'<div style="color:{_MUTED}">{_escaped(remark)}</div>' if remark else ""
    if len(jobs) == 1:
        (info,) = jobs
        parts = [_state(info), _escaped(info.name or ""), _id(info), _bar_of(info), _escaped(details(info))]
        inner = f"<div>{' '.join(part for part in parts if part)}</div>"
    else:
        ended = sum(info.terminal for info in jobs)
        bar = _bar(ended / len(jobs), "jobs that have ended") + " " if ended < len(jobs) else ""
        head, dot, rest = _escaped(counts(jobs)).partition(" · ")
        inner = f"<div>{bar}<b>{head}</b>{dot}{rest}</div>{_table(worth_a_line(jobs))}"
    return f'<div style="padding:2px 5px;line-height:1.5">{inner}{below}</div>'


def line_as_html(text: str, fraction: float | None = None, name: str = "") -> str:
    """A line of text as HTML, behind a bar called ``name`` where there is a ``fraction``."""
    bar = f"{_bar(fraction, name)} " if fraction is not None else ""
    return f'<div style="padding:2px 5px;line-height:1.5">{bar}{_escaped(text)}</div>'


def _table(rows: Sequence[JobInfo]) -> str:
    if not rows:
        return ""
    more = f'<div style="color:{_MUTED}">and {len(rows) - FEW} more</div>' if len(rows) > FEW else ""
    named = any(info.name for info in rows)
    lines: list[str] = []
    for info in rows[:FEW]:
        cells = [_state(info), *([_escaped(info.name or "")] if named else []), _id(info)]
        *first, last = [*cells, f"{_bar_of(info)} {_escaped(details(info))}".strip()]
        kept = "".join(f'<td style="text-align:left;white-space:nowrap">{cell}</td>' for cell in first)
        lines.append(f'<tr>{kept}<td style="text-align:left">{last}</td></tr>')
    return f'<table style="margin:4px 0">{"".join(lines)}</table>{more}'


def _state(info: JobInfo) -> str:
    asked = info.cancel_requested and not info.terminal
    shade = _ORANGE if asked else _SHADES.get(info.state, "inherit")
    return f'<b style="color:{shade};margin-right:0.5em">{SYMBOLS[info.state]} {_escaped(info.label)}</b>'


def _id(info: JobInfo) -> str:
    return f'<code style="color:{_MUTED};background:none;font-size:85%">{_escaped(info.id)}</code>'


def _bar_of(info: JobInfo) -> str:
    fraction = info.progress.fraction if info.progress is not None and not info.terminal else None
    return _bar(fraction, f"progress of job {info.name or info.id}") if fraction is not None else ""


def _bar(fraction: float, name: str) -> str:
    style = f"width:10em;vertical-align:middle;accent-color:{_BLUE}"
    return f'<progress max="1" value="{fraction:.3f}" aria-label="{_escaped(name)}" style="{style}"></progress>'


def _escaped(text: str) -> str:
    return html.escape(clean(text))
