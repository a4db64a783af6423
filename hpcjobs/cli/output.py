"""How the command shows things: tables, JSON, times, and text that cannot play tricks on a terminal."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs.wording import clean as clean  # noqa: PLC0414 - a part of how things are shown
from hpcjobs.wording import size as size  # noqa: PLC0414 - a part of how things are shown

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.text import Text

    from hpcjobs.models import JobInfo

EMPTY = "-"
"""What stands in a cell that has nothing to say, so that every row has the same number of words."""


def error_line(text: str) -> None:
    """Say ``text`` on stderr, as one line of this program."""
    print(f"hpcjobs: {clean('; '.join(line.strip() for line in text.splitlines() if line.strip()))}", file=sys.stderr)


def note(text: str) -> None:
    """Say ``text`` on stderr where a person reads it; scripts are not told."""
    if sys.stderr.isatty():
        error_line(text)


def console(*, stderr: bool = False) -> Console:
    """A rich console that interprets nothing in what it prints; colours only on a terminal, and not with NO_COLOR."""
    from rich.console import Console

    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False)


def raw(data: bytes) -> None:
    """Write bytes on stdout as they are, at once."""
    sys.stdout.flush()
    out = sys.stdout.buffer
    left = memoryview(data)
    while left:
        # With PYTHONUNBUFFERED a write may be a part of it.
        left = left[out.write(left) :]
    out.flush()


def plain(value: Any) -> Any:
    """``value`` as JSON has it: models become objects."""
    if hasattr(value, "model_dump"):
        model: BaseModel = value
        return model.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def json_document(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(plain(value), indent=2))


def json_line(value: Any) -> None:
    """Print one line of JSON, at once."""
    print(json.dumps(plain(value), separators=(",", ":")), flush=True)


def json_array(items: Iterable[Any]) -> None:
    """Print one JSON array item by item: a long list is never in memory as a whole."""
    count = 0
    for item in items:
        print("[" if count == 0 else ",")
        print(json.dumps(plain(item), separators=(",", ":")), end="")
        count += 1
    print("\n]" if count else "[]")


def duration(value: dt.timedelta | None) -> str:
    """A length of time, as everywhere in hpcjobs; "-" where there is none.

    Example:
        >>> duration(dt.timedelta(seconds=200)), duration(None)
        ('3:20', '-')
    """
    from hpcjobs import wording

    return EMPTY if value is None else wording.duration(value)


def age(when: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """How long ago ``when`` was, in one unit.

    Example:
        >>> now = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)
        >>> age(dt.datetime(2026, 5, 1, 9, 30, tzinfo=dt.timezone.utc), now)
        '2h'
    """
    if when is None:
        return EMPTY
    seconds = max(0, int(((now or dt.datetime.now(dt.timezone.utc)) - when).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def until(when: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """How long it is until ``when``, in one unit; "never" where there is no such moment."""
    if when is None:
        return "never"
    now = now or dt.datetime.now(dt.timezone.utc)
    return f"in {age(now, when)}" if when > now else "expired"


def iso(when: dt.datetime | None) -> str:
    """``when`` in UTC to the second, as ISO 8601 has it.

    Example:
        >>> iso(dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc))
        '2026-05-01T12:00:00Z'
    """
    return when.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if when else EMPTY


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says; cleaned when it is shown.
        style: A style of rich, for terminals.
    """

    text: str
    style: str = ""


def state_cell(info: JobInfo) -> Cell:
    """The state of a job, with its progress while it runs."""
    from hpcjobs.lines import COLOURS

    style = "yellow" if info.label == "cancelling" else COLOURS[info.state]
    fraction = info.progress.fraction if info.progress and not info.terminal else None
    return Cell(info.label if fraction is None else f"{info.label} {fraction:.0%}", style)


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, width: int | None = None) -> list[Text]:
    """Lay ``rows`` out in columns.

    Args:
        headers: The names of the columns; the last column takes what room is left.
        rows: The cells.
        width: Columns of the terminal: the last column is cut to fit. None: nothing is cut.

    Returns:
        The lines, header first. Only the last column is ever cut, so that an id can always be copied.
    """
    from rich.cells import cell_len
    from rich.text import Text

    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    cells = [[Cell(clean(cell.text) or EMPTY, cell.style) for cell in row] for row in cells]
    widths = [
        max(cell_len(title), max((cell_len(row[i].text) for row in cells), default=0))
        for i, title in enumerate(headers)
    ]
    lines = []
    for row in [[Cell(title, "bold") for title in headers], *cells]:
        line = Text(no_wrap=True, overflow="ignore")
        for i, cell in enumerate(row):
            text = Text(cell.text, style=cell.style)
            if i < len(row) - 1:
                text.pad_right(widths[i] - cell_len(cell.text) + 2)
            elif width is not None:
                text.truncate(max(width - line.cell_len, len(EMPTY)), overflow="ellipsis")
            line.append_text(text)
        lines.append(line)
    return lines


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> None:
    """Print a table on stdout: coloured and cut to the terminal, or plain and whole where it is piped."""
    out = console()
    for line in table(headers, rows, width=out.width if out.is_terminal else None):
        if out.is_terminal:
            out.print(line, crop=False, overflow="ignore", no_wrap=True, soft_wrap=True)
        else:
            print(line.plain)


def print_fields(fields: Sequence[tuple[str, Cell | str]]) -> None:
    """Print ``name  value`` lines on stdout; long values are wrapped by the terminal, never cut."""
    from rich.text import Text

    out = console()
    wide = max((len(name) for name, _ in fields), default=0) + 2
    for name, value in fields:
        cell = value if isinstance(value, Cell) else Cell(value)
        if out.is_terminal:
            out.print(Text.assemble((name.ljust(wide), "dim"), (clean(cell.text), cell.style)), soft_wrap=True)
        else:
            print(f"{name.ljust(wide)}{clean(cell.text)}")
