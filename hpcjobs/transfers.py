"""What a person sees while files travel: in a terminal, as plain lines, or in a notebook, as a wait is shown.

Nothing is shown of what is over at once.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from hpcjobs import live, markup
from hpcjobs.bodies import OnBytes, Travel
from hpcjobs.wording import clean, size

PATIENCE = 0.5
"""Seconds that a transfer may take before anything is shown."""

_GOING = {"read": "reading", "send": "sending", "fetch": "fetching"}
_DONE = {"read": "read", "send": "sent", "fetch": "fetched"}


class _Display(Protocol):
    tick: float
    """Seconds between two looks."""

    def show(self, text: str, travel: Travel) -> None: ...

    def close(self, text: str) -> None: ...


@contextlib.contextmanager
def shown(progress: bool | None) -> Iterator[OnBytes | None]:
    """Show a transfer until the block ends.

    Args:
        progress: False shows nothing. True shows something wherever it goes. None shows it to people only: in a
            notebook, and where stderr is a terminal.

    Yields:
        What is to be told how far the transfer is; None where nobody would see it.
    """
    medium = live.medium_of(progress)
    if medium == "nothing":
        yield None
        return
    kinds: dict[str, Callable[[], _Display]]
    kinds = {"notebook": _Notebook, "lines": _Lines, "plain": _PlainLine, "rich": _RichBar}
    watch = _Watch(kinds[medium])
    try:
        yield watch
    finally:
        watch.close()


class _Watch:
    """Decides when something is shown, and puts it into words."""

    def __init__(self, display: Callable[[], _Display], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = display, clock
        self._display: _Display | None = None
        self._last: Travel | None = None
        self._begun = clock()
        self._from = (self._begun, 0)
        self._next = self._begun + PATIENCE

    def __call__(self, travel: Travel) -> None:
        now = self._clock()
        if self._last is None or self._last.action != travel.action:
            self._from = (now, travel.bytes_done)
        self._last = travel
        if now < self._next:
            return
        if self._display is None:
            self._display = self._make()
        self._display.show(going(travel, self._speed(now)), travel)
        self._next = now + self._display.tick

    def close(self) -> None:
        """Leave a line that says how it ended, where something was shown."""
        if self._display is not None and self._last is not None:
            now = self._clock()
            over = self._last.files_done == self._last.files
            self._display.close(done(self._last, now - self._begun) if over else going(self._last, self._speed(now)))

    def _speed(self, now: float) -> float | None:
        then, before = self._from
        assert self._last is not None
        return (self._last.bytes_done - before) / (now - then) if now > then else None


def going(travel: Travel, speed: float | None = None) -> str:
    """How far a transfer is, in a line.

    Example:
        >>> going(Travel("send", "big.csv", 512, 2048, 2, 7, 1536, 4096), 1024.0)
        'sending big.csv, 3 of 7 files · 1.5 KiB of 4 KiB · 1 KiB/s'
    """
    which = f", {min(travel.files_done + 1, travel.files)} of {travel.files} files" if travel.files > 1 else ""
    pace = f" · {size(int(speed))}/s" if speed is not None and speed > 0 else ""
    of = f"{size(travel.bytes_done)} of {size(travel.bytes)}"
    return f"{_GOING[travel.action]} {clean(travel.name)}{which} · {of}{pace}"


def done(travel: Travel, seconds: float) -> str:
    """What a transfer that is over has done, in a line.

    Example:
        >>> done(Travel("fetch", "b.csv", 4, 4, 2, 2, 4096, 4096), 3.2)
        'fetched 2 files · 4 KiB in 3.2 s'
    """
    which = f"{travel.files} files" if travel.files != 1 else clean(travel.name)
    return f"{_DONE[travel.action]} {which} · {size(travel.bytes_done)} in {seconds:.1f} s"


def fraction(travel: Travel) -> float:
    """How much of a transfer is done, from 0 to 1; by files where they are all empty."""
    if travel.bytes:
        return min(1.0, travel.bytes_done / travel.bytes)
    return travel.files_done / max(1, travel.files)


class _Lines:
    """A line on stderr now and then."""

    tick = 10.0

    def show(self, text: str, travel: Travel) -> None:
        del travel
        live.tell(f"{text}\n")

    def close(self, text: str) -> None:
        live.tell(f"{text}\n")


class _PlainLine:
    """One line of a terminal, written over and over."""

    tick = 0.25

    def show(self, text: str, travel: Travel) -> None:
        width = shutil.get_terminal_size().columns
        text = f"{fraction(travel):4.0%} {text}"
        live.tell(live.PlainLine.CLEAR + (text if len(text) < width else text[: max(0, width - 2)] + "…"))

    def close(self, text: str) -> None:
        live.tell(f"{live.PlainLine.CLEAR}{text}\n")


class _RichBar:
    """A bar in a terminal, drawn by rich."""

    tick = 0.1

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        # Drawn by the thread that sends: no thread of rich's own.
        console = Console(stderr=True, highlight=False)
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        self._progress = Progress(
            BarColumn(bar_width=24),
            text,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0)

    def show(self, text: str, travel: Travel) -> None:
        self._progress.update(self._task, description=text, completed=fraction(travel))
        if not self._progress.live.is_started:
            self._progress.start()
        self._progress.refresh()

    def close(self, text: str) -> None:
        self._progress.stop()
        live.tell(f"{text}\n")


class _Notebook:
    """An output of a notebook cell, as HTML and as plain text, replaced as the files travel."""

    tick = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str, travel: Travel) -> None:
        self._replace(text, markup.line_as_html(text, fraction(travel), "files that travel"))

    def close(self, text: str) -> None:
        self._replace(text, markup.line_as_html(text))

    def _replace(self, plain: str, html: str) -> None:
        from IPython.display import display as untyped

        display: Any = untyped
        bundle = {"text/plain": plain, "text/html": html}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
