"""The end of a log, and from which byte on it is to be followed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpcjobs.wording import plain_log
from hpcjobs_server.files import open_below

MOST = 64 * 1024
"""Bytes."""


@dataclasses.dataclass(frozen=True)
class Tail:
    """The end of a log.

    Attributes:
        lines: Its whole lines, as a terminal shows them.
        rest: The line that was begun, likewise; it may still be overwritten.
        offset: The byte after the whole lines, from which whoever follows goes on.
        shown: Bytes that are shown.
        total: Bytes that there are.
    """

    lines: str = ""
    rest: str = ""
    offset: int = 0
    shown: int = 0
    total: int = 0

    @property
    def cut(self) -> bool:
        """Whether there is more before it."""
        return self.shown < self.total


def read_tail(root: Path, parts: tuple[str, ...], *, most: int = MOST) -> Tail:
    """Read the end of a log; blocks, so it is for a thread.

    Args:
        root: A folder that is trusted.
        parts: The names from there to the log; where there is none, it is empty.
        most: Most bytes.
    """
    try:
        file = open_below(root, parts)
    except FileNotFoundError:
        return Tail()
    try:
        # no further than it was when it was opened: the job writes on meanwhile
        start = max(file.size - most, 0)
        data = file.read(start, file.size - start)
    finally:
        file.close()
    return tail_of(data, start + len(data))


def tail_of(data: bytes, total: int) -> Tail:
    r"""The end of a log of ``total`` bytes, by its last bytes.

    Example:
        >>> tail_of(b"cut off\none\ntwo\n10%\r20%", 100)
        Tail(lines='one\ntwo\n', rest='20%', offset=93, shown=15, total=100)
    """
    if len(data) < total:  # the first line is not whole
        after = data.find(b"\n") + 1
        data = data[after:] if 0 < after < len(data) else _from_character(data)
    whole = data[: data.rfind(b"\n") + 1]
    rest = data[len(whole) :]
    return Tail(_plain(whole), _plain(rest), total - len(rest), len(data), total)


def _from_character(data: bytes) -> bytes:
    """Text without the end of a character whose beginning was cut off."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


def _plain(data: bytes) -> str:
    # line by line: the lines that are empty at the beginning and at the end are lines, too
    lines = data.decode("utf-8", "replace").split("\n")
    return "\n".join(plain_log(line, widest=len(line)) for line in lines)
