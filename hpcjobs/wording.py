"""How things are put into words: text from elsewhere, lengths of time, lists."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


def clean(text: str) -> str:
    r"""``text`` on one line, with everything written out that a terminal would obey instead of show.

    Control characters, escape sequences, and characters that turn the direction of writing are shown as escapes.

    Example:
        >>> print(clean("fit\x1b[31m\n2"))
        fit\x1b[31m\n2
    """
    if text.isprintable():
        return text
    return "".join(char if _shows(char) else ascii(char)[1:-1] for char in text)


def _shows(char: str) -> bool:
    """Whether a character is seen as itself; one of the many spaces is, too."""
    return char.isprintable() or unicodedata.category(char) == "Zs"


def plain_log(text: str, *, widest: int = 300) -> str:
    r"""Log lines as a terminal shows them: without escape sequences, a line that was overwritten as it was last.

    Args:
        text: The lines.
        widest: The most characters of a line that are kept.

    Example:
        >>> plain_log("10%\r20%\n\x1b[31mfailed\x1b[0m")
        '20%\nfailed'
    """
    rows = []
    for row in text.rstrip("\n").split("\n"):
        last = _ESCAPES.sub("", row.rstrip("\r").rpartition("\r")[2])
        last = "".join(char if _shows(char) or char == "\t" else "\ufffd" for char in last)
        rows.append(last if len(last) <= widest else last[: widest - 1] + "…")
    return "\n".join(rows).strip("\n")


def size(count: int) -> str:
    """A number of bytes for people, in powers of 1,024.

    Example:
        >>> size(999), size(1536), size(4 * 1024**3)
        ('999 B', '1.5 KiB', '4 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.1f}".removesuffix(".0") + f" {unit}"
        value /= 1024
    raise AssertionError


def duration(length: dt.timedelta) -> str:
    """A length of time as it is read: ``0.4 s``, ``12 s``, ``3:20``, ``1:02:03``, ``2 d 1:02:03``.

    Example:
        >>> duration(dt.timedelta(seconds=200))
        '3:20'
    """
    seconds = length.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} d {clock}" if days else clock


def near(word: str, names: Iterable[str]) -> str:
    """A question that names what was probably meant, or all names where nothing is near.

    Example:
        >>> near("job_uuid", ["jobUuid", "limit"]), near("x", ["jobUuid", "limit"])
        ('did you mean jobUuid?', 'there is jobUuid, limit')
    """
    import difflib  # only where something is wrong

    known = {name.lower().replace("_", ""): name for name in sorted(names)}
    close = difflib.get_close_matches(word.lower().replace("_", ""), known, n=1)
    return f"did you mean {known[close[0]]}?" if close else f"there is {', '.join(known.values()) or 'none'}"


class Listed(list[T]):
    """A list that is shown as counts where it is long: nobody reads ten thousand lines.

    Example:
        >>> Listed(["a", "b"])
        ['a',
         'b']
        >>> Listed(["a"] * 10_000)
        <10,000 items>
    """

    FEW = 20

    def __repr__(self) -> str:
        if len(self) <= self.FEW:
            return "[" + ",\n ".join(map(repr, self)) + "]"
        words = Counter(str(getattr(item, "outcome", None) or getattr(item, "state", "")) for item in self)
        counted = ", ".join(f"{count:,} {word}" for word, count in words.items() if word)
        return f"<{len(self):,} items{': ' if counted else ''}{counted}>"
