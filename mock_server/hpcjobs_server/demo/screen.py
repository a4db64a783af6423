"""What the demo shows: a live table on a terminal, plain lines elsewhere, and the same story in both."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs_server.demo.sweep import label

PICTURE_WIDTH = 96
STYLES = {
    JobState.PENDING: "dim",
    JobState.QUEUED: "cyan",
    JobState.STAGING: "blue",
    JobState.RUNNING: "bold blue",
    JobState.FINISHED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "yellow",
}

Show = Callable[[Sequence[JobInfo]], None]


class Screen:
    """Where the story goes.

    Args:
        console: The terminal or the pipe.
        picture: Where to write the story as an SVG picture at the end, or None.
    """

    def __init__(self, console: Console, *, picture: Path | None = None) -> None:
        self.console, self.picture = console, picture
        # Only what stays is drawn there: the frames of a live table would all end up in the picture.
        self._copy = (
            Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, force_terminal=True, highlight=False)
            if picture is not None
            else None
        )
        self._steps = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def put(self, what: RenderableType = "", *, indent: int = 0, whole: bool = False) -> None:
        """Show something that stays.

        Args:
            what: A text, with rich's markup if it is a string, or a table.
            indent: Columns to the left of it.
            whole: A line stays a line, for the terminal to wrap, so that it can be copied; elsewhere it always does.
        """
        if isinstance(what, str):
            what = Text.from_markup(what)
        for console in filter(None, (self.console, self._copy)):
            if isinstance(what, Text) and (not what or not console.is_terminal or (whole and console is self.console)):
                console.print(Text.assemble(" " * indent, what), soft_wrap=True)
            else:
                console.print(Padding(what, (0, 0, 0, indent), expand=False))

    def step(self, title: str) -> None:
        """Begin a part of the story."""
        self._steps += 1
        self.put()
        self.put(Text.assemble((f"{self._steps} ", "bold cyan"), (title, "bold")))

    def say(self, text: str) -> None:
        """Say a sentence; rich's markup counts."""
        self.put(text, indent=2)

    def command(self, text: str) -> None:
        """Show what one would type."""
        self.put(Text.assemble(("$ ", "bright_black"), (text, "bold")), indent=2, whole=True)

    def code(self, text: str) -> None:
        """Show what one would write."""
        for line in text.splitlines():
            self.put(Text.assemble(("... " if line.startswith(" ") else ">>> ", "bright_black"), line), indent=2)

    def quote(self, line: str) -> None:
        """Show a line of a job's log."""
        self.put(Text.assemble(("| ", "bright_black"), line), indent=2)

    @contextlib.contextmanager
    def watching(self, *, keep: bool) -> Iterator[Show]:
        """Show jobs as they change; gives what to call with the newest infos.

        Args:
            keep: Whether the last table stays.
        """
        last: list[JobInfo] = []
        if self.console.is_terminal:
            with Live(console=self.console, auto_refresh=False, transient=True) as live:

                def draw(infos: Sequence[JobInfo]) -> None:
                    last[:] = infos
                    live.update(table(infos, self.console.width), refresh=True)

                yield draw
            if keep:
                self.put(table(last, self.console.width))
            return

        said: dict[str, str] = {}

        def tell(infos: Sequence[JobInfo]) -> None:
            for info in infos:
                line = f"{info.label:<12}{_quarter(info)}"
                if said.get(info.id) != line:
                    said[info.id] = line
                    self.put(f"{self.seconds:5.1f} s  damping {_damping(info):>5}  {line}".rstrip(), indent=2)

        yield tell

    def save(self) -> None:
        """Write the picture, where one is wanted."""
        if self._copy is not None and self.picture is not None:
            self.picture.parent.mkdir(parents=True, exist_ok=True)
            # Without rich's own fonts, which it would fetch from elsewhere whenever someone looks at the picture.
            svg = re.sub(r"@font-face {.*?}\s*", "", self._copy.export_svg(title="hpcjobs demo"), flags=re.DOTALL)
            self.picture.write_text(svg.replace("Fira Code", "ui-monospace"), encoding="utf-8")


def _damping(info: JobInfo) -> str:
    return label(float(info.meta.get("damping", 0.0)))


def _quarter(info: JobInfo) -> str:
    """Progress in steps of a quarter, so that a log has a few lines per job and not hundreds."""
    fraction = info.progress.fraction if info.progress else None
    quarters = min(3, int(4 * (fraction or 0.0)))
    return f"{25 * quarters} %" if quarters and info.state is JobState.RUNNING else ""


def state(info: JobInfo) -> Text:
    """A job's state in words and colour."""
    return Text(info.label, style="bold yellow" if info.label == "cancelling" else STYLES.get(info.state, ""))


def table(infos: Sequence[JobInfo], width: int) -> Table:
    """The jobs at one moment.

    Args:
        infos: The jobs.
        width: Of the terminal, in characters.
    """
    out = Table(box=None, padding=(0, 1), header_style="bright_black", pad_edge=False)
    out.add_column("  damping", justify="right")
    out.add_column("job")
    out.add_column("state", min_width=10)
    out.add_column("progress")
    out.add_column("")
    out.add_column("waited", justify="right")
    out.add_column("ran", justify="right")
    wide = max(10, min(40, width - 60))
    for info in infos:
        fraction = (info.progress.fraction if info.progress else None) or 0.0
        done = info.state is JobState.FINISHED
        style = "green" if done else "yellow" if info.state is JobState.CANCELLED or info.cancel_requested else "cyan"
        out.add_row(
            _damping(info),
            Text(info.id[:8], style="bright_black"),
            state(info),
            ProgressBar(1.0, 1.0 if done else fraction, width=wide, complete_style=style, finished_style=style),
            f"{1.0 if done else fraction:4.0%}",
            _seconds(info, "queue_time"),
            _seconds(info, "run_time"),
        )
    return out


def _seconds(info: JobInfo, which: str) -> str:
    length = info.queue_time() if which == "queue_time" else info.run_time()
    return f"{length.total_seconds():.1f} s" if length is not None else ""
