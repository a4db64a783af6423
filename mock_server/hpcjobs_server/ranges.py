"""Byte ranges of RFC 9110: one range per request."""

from __future__ import annotations

import dataclasses
import re

_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,19})-(\d{1,19})?|-(\d{1,19}))[ \t]*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ByteRange:
    """A range as it was asked for: from ``first`` to ``last`` inclusive, or the ``suffix`` last bytes."""

    first: int = 0
    last: int | None = None
    suffix: int | None = None

    @classmethod
    def parse(cls, header: str | None) -> ByteRange | None:
        """Read a ``Range`` header; None where there is none, or one that is to be ignored (as RFC 9110 has it).

        Example:
            >>> ByteRange.parse("bytes=5-"), ByteRange.parse("bytes=0-1,4-5")
            (ByteRange(first=5, last=None, suffix=None), None)
        """
        match = _RANGE.fullmatch(header) if header else None
        if match is None:
            return None
        if match[3] is not None:
            return cls(suffix=int(match[3]))
        first, last = int(match[1]), int(match[2]) if match[2] is not None else None
        return None if last is not None and last < first else cls(first, last)

    def within(self, total: int) -> tuple[int, int] | None:
        """The start, and the end exclusive, of what there is of it in ``total`` bytes; None for nothing.

        Example:
            >>> ByteRange(2, 100).within(10), ByteRange(suffix=3).within(10), ByteRange(10).within(10)
            ((2, 10), (7, 10), None)
        """
        if self.suffix is not None:
            return (max(0, total - self.suffix), total) if self.suffix and total else None
        if self.first >= total:
            return None
        return self.first, total if self.last is None else min(self.last + 1, total)
