"""The orders of a list, and places in them.

An order is by a value, rising or falling; of those with the same value the newest comes first, and those without one
come last, whichever way the values go. A place is told to others as a cursor, which holds the order, the value and the
number of a job, so that a list goes on from there though that job has changed or gone.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
from typing import Any, Literal, TypeAlias, get_args

from hpcjobs_server.store.base import Row
from hpcjobs_server.store.rows import BadCursor, decode_cursor, encode_cursor

Sort: TypeAlias = Literal[
    "created", "-created", "started", "-started", "ended", "-ended", "name", "-name", "priority", "-priority"
]  # fmt: skip
"""What a list can be sorted by; with ``-`` the values fall."""

SORTS: tuple[str, ...] = get_args(Sort)
DEFAULT_SORT: Sort = "-created"

LAST = 2**63 - 1
"""The largest number that a job can have."""


class BadSort(Exception):
    """An order that there is not; says which there are."""


@dataclasses.dataclass(frozen=True)
class _Value:
    """What jobs are sorted by.

    Attributes:
        column: Of the jobs table; None for the number alone, in which jobs were created.
        kind: What it holds.
        nullable: Whether a job may be without.
    """

    column: str | None
    kind: type[dt.datetime | str | int] = int
    nullable: bool = False


_VALUES = {
    "created": _Value(None),
    "started": _Value("started_at", dt.datetime, nullable=True),
    "ended": _Value("finished_at", dt.datetime, nullable=True),
    "name": _Value("name", str, nullable=True),
    "priority": _Value("priority"),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in an order, at a job that is or was there.

    Attributes:
        value: What the job is sorted by; None where it has none.
        seq: Its number.
    """

    value: Any
    seq: int


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a list that one index gives in order.

    Attributes:
        where: Which jobs.
        by: What stands after ``ORDER BY``.
    """

    where: str
    by: str


class Order:
    """An order of jobs.

    Args:
        sort: One of :data:`SORTS`; None for the newest first.

    Raises:
        BadSort: There is no such order.
    """

    def __init__(self, sort: str | None = None) -> None:
        self.sort = DEFAULT_SORT if sort is None else sort
        if self.sort not in SORTS:
            raise BadSort(f"there is no order {self.sort!r}; there is {', '.join(SORTS)}")
        self._falls = self.sort.startswith("-")
        self._value = _VALUES[self.sort.removeprefix("-")]

    def parts(self, place: Place | None, *, backwards: bool = False) -> tuple[list[Part], dict[str, Any]]:
        """What comes after a place, as parts that follow each other, and the parameters of their conditions.

        One condition for all of it, ``a < x OR (a = x AND ...)``, would have an index read from its begin; each of
        these parts is one stretch of an index.

        Args:
            place: Where to go on, without the job that is there; None for the begin.
            backwards: Go towards the begin, nearest first.
        """
        parameters = {} if place is None else {"at_value": place.value, "at_seq": place.seq}
        falls = self._falls is not backwards
        if self._value.column is None:
            where = "true" if place is None else f"j.seq {'<' if falls else '>'} %(at_seq)s"
            return [Part(where, f"j.seq {'DESC' if falls else 'ASC'}")], parameters
        column = f"j.{self._value.column}"
        beyond = f"j.seq {'>' if backwards else '<'} %(at_seq)s"
        by = self._by(column, falls=falls, backwards=backwards)
        all_valued = Part(f"{column} IS NOT NULL" if self._value.nullable else "true", by)
        # in the words of an index that has the numbers falling, read one way or the other
        by_number = self._by(column, falls=not backwards, backwards=backwards)
        without = [Part(f"{column} IS NULL", by_number)] if self._value.nullable else []
        if place is None:
            return [all_valued, *without], parameters
        if place.value is None:
            nearer = Part(f"{column} IS NULL AND {beyond}", by_number)
            return [nearer, *([all_valued] if backwards else [])], parameters
        alike = Part(f"{column} = %(at_value)s AND {beyond}", by)
        further = Part(f"{column} {self._less if falls else self._more} %(at_value)s", by)
        return [alike, further, *([] if backwards else without)], parameters

    @property
    def _less(self) -> str:
        return "~<~" if self._value.kind is str else "<"

    @property
    def _more(self) -> str:
        return "~>~" if self._value.kind is str else ">"

    def _by(self, column: str, *, falls: bool, backwards: bool) -> str:
        # No part has both jobs with a value and jobs without, so where these stand is said for the index's sake only.
        values = f"{column} USING {self._more} NULLS LAST" if falls else f"{column} USING {self._less} NULLS FIRST"
        return f"{values}, j.seq {'ASC' if backwards else 'DESC'}"

    def place_of(self, row: Row) -> Place:
        """Where a job is."""
        return Place(None if self._value.column is None else row[self._value.column], row["seq"])

    def beside(self, place: Place, *, behind: bool) -> Place:
        """The place next to one, so that what is between the two is the job there alone.

        Args:
            place: A place.
            behind: The one behind it; else the one before it.
        """
        rises = self._value.column is None and not self._falls
        step = 1 if behind is rises else -1
        return Place(place.value, min(max(place.seq + step, 0), LAST))

    def encode(self, place: Place) -> str:
        """The cursor of a place."""
        if self.sort == DEFAULT_SORT:
            return encode_cursor(place.seq)
        value = place.value.isoformat() if isinstance(place.value, dt.datetime) else place.value
        text = json.dumps([self.sort, value, place.seq], ensure_ascii=False, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def decode(self, cursor: str) -> Place:
        """The place of a cursor.

        Raises:
            BadCursor: It is of another order, or none of ours.
        """
        if self.sort == DEFAULT_SORT:
            return Place(None, decode_cursor(cursor))
        try:
            _, value, seq = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if value is not None and self._value.kind is dt.datetime:
                value = dt.datetime.fromisoformat(value)
            place = Place(value, seq)
            # what was written for this order is written again alike
            good = self._fits(place) and self.encode(place) == cursor
        except (ValueError, TypeError, RecursionError):
            raise BadCursor(cursor) from None
        if not good:
            raise BadCursor(cursor)
        return place

    def _fits(self, place: Place) -> bool:
        if type(place.seq) is not int or not 0 <= place.seq <= LAST:
            return False
        value = place.value
        if value is None:
            return self._value.nullable or self._value.column is None
        if self._value.column is None or type(value) is not self._value.kind:
            return False
        if isinstance(value, dt.datetime):
            return value.utcoffset() == dt.timedelta(0)
        return "\x00" not in value if isinstance(value, str) else abs(value) < 2**31
