"""The command of an array on AWS Batch: one for all of its jobs, which differ by their index only.

What each job has of its own travels as a table behind the command; a few lines of shell take the row that belongs to
the job's index, put the values where the command has places for them, and run it. ``/bin/sh`` in the image is all that
it needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hpcjobs.arrays import fill

INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"
"""The variable that tells a job of an array its index."""

_PLACE = re.compile(r"(?<!\$)(\{[A-Za-z_][A-Za-z0-9_]*\})")

_SET = f'i="${INDEX}"; export HPCJOBS_ARRAY_INDEX="$i" HPCJOBS_ARRAY_ID="${{AWS_BATCH_JOB_ID%%:*}}" HPCJOBS_ARRAY_SIZE='


def array_command(command: str | list[str], size: int, over: Sequence[Any] | None) -> list[str]:
    """The command of an array, so that each of its jobs runs what it is to run.

    Args:
        command: The command, with places like ``{name}`` and ``{index}``.
        size: How many jobs.
        over: The item of each; None where they have none.

    Example:
        >>> array_command("fit.py {d}", 2, [{"d": 1}, {"d": 2}])[-4:]
        ['1', '{"d": 1}', '2', '{"d": 2}']
    """
    parts = [command] if isinstance(command, str) else command
    table = _Table(size, over, quoted=isinstance(command, str))
    words = [table.word(part) for part in parts]
    item = ""
    if over is not None:
        item = f'export HPCJOBS_ITEM="{table.column([json.dumps(item) for item in over])}"; '
    pieces = "".join(f'p{number}="${{{number}}}"; ' for number in range(1, len(table.pieces) + 1))
    shift = f"shift {len(table.pieces)}; shift $(({len(table.columns)} * i)); "
    if isinstance(command, str):
        end = f'set -- "{words[0]}"; exec /bin/sh -c "$1"'
    else:
        end = "exec " + " ".join(f'"{word}"' for word in words)
    script = f"{_SET}{size}; {pieces}{shift}{item}{end}"
    rows = [value for row in zip(*table.columns, strict=True) for value in row]
    return ["/bin/sh", "-c", script, "sh", *table.pieces, *rows]


def command_of_one(command: Sequence[str], index: int) -> list[str]:
    """The command of an array for a single job that is to do what the one with this index does."""
    return ["/bin/sh", "-c", f'export {INDEX}={index}; exec "$@"', "sh", *command]


class _Table:
    """What stays the same of a command, piece by piece, and what differs from job to job, column by column."""

    def __init__(self, size: int, over: Sequence[Any] | None, *, quoted: bool) -> None:
        self.pieces: list[str] = []
        self.columns: list[list[str]] = []
        self._items = [None] * size if over is None else over
        self._quoted = quoted
        self._known: dict[str, str] = {}

    def word(self, text: str) -> str:
        """A part of the command in the words of the script."""
        return "".join(self._of_place(bit) if _PLACE.fullmatch(bit) else self._piece(bit) for bit in _PLACE.split(text))

    def column(self, values: list[str]) -> str:
        """A value that differs from job to job; one that does not is a piece."""
        if len(set(values)) == 1:
            return self._piece(values[0])
        self.columns.append(values)
        return f"${{{len(self.columns)}}}"

    def _piece(self, text: str) -> str:
        if not text:
            return ""
        if text not in self.pieces:
            self.pieces.append(text)
        return f"${{p{self.pieces.index(text) + 1}}}"

    def _of_place(self, place: str) -> str:
        if place not in self._known:
            self._known[place] = self._filled(place)
        return self._known[place]

    def _filled(self, place: str) -> str:
        if place == "{index}" and not any(isinstance(item, dict) and "index" in item for item in self._items):
            return "${i}"
        command = place if self._quoted else [place]
        values = ["".join(fill(command, item, index)) for index, item in enumerate(self._items)]
        if all(values):
            return self.column(values)
        # an argument on the wire must not be empty
        word = self.column([f"={value}" for value in values])
        return f"{word[:-1]}#=}}"
