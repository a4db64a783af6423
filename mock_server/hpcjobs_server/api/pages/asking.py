"""What the address of the list asks for: filter, order, page.

All of it is in the query, so that the address can be shared and is the same list for whoever may see it. What a form
leaves empty counts as not asked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams

from hpcjobs.lifecycle import GROUPS, JobState
from hpcjobs.models import JobFilter, parse_duration, problems_of

if TYPE_CHECKING:
    from hpcjobs_server.auth import Caller

PAGE = 50
"""Jobs in a page, where the address does not say."""
LARGEST = 500

_MANY = ("state", "tag")
_MOMENTS = ("created_after", "created_before")
_PLACE = ("cursor", "before")
_MOMENT: TypeAdapter[dt.datetime] = TypeAdapter(dt.datetime)


class _Query(JobFilter):
    owner: str | None = Field(default=None, max_length=100)
    sort: str = "-created"
    cursor: str | None = Field(default=None, max_length=2000)
    before: str | None = Field(default=None, max_length=2000)
    limit: int = Field(default=PAGE, ge=1, le=LARGEST)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A list that was asked for.

    Attributes:
        fields: What was written, by name, without what was left empty.
        wanted: Which jobs.
        owner: Whose; None for all that the caller sees.
        sort: In which order.
        cursor: Only what comes after that job.
        before: Only what comes before that job.
        limit: Most jobs in the page.
        problems: What of it cannot be used, as ``(field, sentence)``; then the rest stands for nothing.
    """

    fields: tuple[tuple[str, str], ...]
    wanted: JobFilter = dataclasses.field(default_factory=JobFilter)
    owner: str | None = None
    sort: str = "-created"
    cursor: str | None = None
    before: str | None = None
    limit: int = PAGE
    problems: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, query: QueryParams, *, now: dt.datetime | None = None) -> Asked:
        """Read an address.

        Args:
            query: Its query.
            now: From when "2h" counts; None for this moment.
        """
        written = tuple((name, text.strip()) for name, text in query.multi_items() if text.strip())
        known = tuple((name, _word(name, text)) for name, text in written if name in _Query.model_fields)
        values, problems = _values(known, now or dt.datetime.now(dt.timezone.utc))
        if not problems:
            try:
                asked = _Query.model_validate(values)
            except ValidationError as error:
                problems = problems_of(error, _Query.model_fields)
            else:
                names = JobFilter.model_fields
                wanted = JobFilter.model_validate(asked.model_dump(include=set(names), exclude_unset=True))
                return cls(known, wanted, asked.owner, asked.sort, asked.cursor, asked.before, asked.limit)
        return cls(known, problems=tuple(problems))

    def text(self, name: str) -> str:
        """What was written for a field; empty where nothing was."""
        return next((text for field, text in self.fields if field == name), "")

    def texts(self, name: str) -> list[str]:
        """Everything that was written for a field."""
        return [text for field, text in self.fields if field == name]

    def may_be_seen(self, caller: Caller) -> bool:
        """Whether the caller may look at the jobs of the owner who was asked for."""
        return self.owner is None or caller.sees in {None, self.owner}

    def whose(self, caller: Caller) -> str | None:
        """Whose jobs the list has, where ``caller`` looks; None for everybody's."""
        return self.owner if caller.sees is None else caller.sees

    @functools.cached_property
    def filtered(self) -> bool:
        """Whether there is any condition."""
        return not self.wanted.empty or self.owner is not None

    @property
    def conditions(self) -> str:
        """The query of these conditions without an order and a place, for what is done to all of these jobs."""
        return _encoded(item for item in self.fields if item[0] not in {*_PLACE, "sort", "limit"})

    def query(self, *, without: Iterable[str] = (), **changed: str | Iterable[str] | None) -> str:
        """The address's query, changed: ``?...``, which starts at the first page unless it says where.

        Args:
            without: Fields to leave out.
            changed: Fields with their new values; None for none.
        """
        left_out = {*without, *changed, *_PLACE}
        kept = [item for item in self.fields if item[0] not in left_out]
        for name, value in changed.items():
            if value is not None:
                kept.extend((name, one) for one in ([value] if isinstance(value, str) else value))
        return "?" + _encoded(kept)

    def at(self, *, cursor: str | None = None, before: str | None = None) -> str:
        """The query of another page of this list: what comes after a job, or before it."""
        place = {"cursor": cursor, "before": before}
        return "?" + _encoded([*self.hidden(), *((name, text) for name, text in place.items() if text is not None)])

    def toggled(self, name: str, value: str) -> str:
        """The query with one of several values put in, or taken away where it is there.

        A state takes the place of a group of states: who has looked at all that are active wants these alone next.
        """
        there = [text for text in self.texts(name) if name != "state" or text not in GROUPS]
        return self.query(**{name: [one for one in there if one != value] if value in there else [*there, value]})

    def hidden(self, *names: str) -> list[tuple[str, str]]:
        """What a form must hand on: everything written but these fields, and but the place."""
        return [item for item in self.fields if item[0] not in {*names, *_PLACE}]


def _word(name: str, text: str) -> str:
    """What was written for a field; the word of a state as it is spelt."""
    if name != "state":
        return text
    return next((word for word in (*GROUPS, *JobState.__members__) if word.lower() == text.lower()), text)


def _values(written: Iterable[tuple[str, str]], now: dt.datetime) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, text in written:
        if name == "state" and text not in GROUPS and text not in JobState.__members__:
            problems.append((name, f"{text!r} is no state; there is {', '.join([*GROUPS, *JobState.__members__])}"))
        elif name in _MANY:
            values.setdefault(name, []).append(text)
        elif name in values:
            problems.append((name, "is given more than once"))
        elif name in _MOMENTS:
            try:
                values[name] = moment(text, now)
            except ValueError as error:
                problems.append((name, str(error)))
        else:
            values[name] = text
    return values, problems


def moment(text: str, now: dt.datetime) -> dt.datetime:
    """A moment that has been: so long ago, or a date with or without a time, in UTC unless it says.

    Raises:
        ValueError: It is neither; says what is allowed.

    Example:
        >>> moment("2h", dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)).isoformat()
        '2026-05-01T10:00:00+00:00'
    """
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        found = _MOMENT.validate_python(text)
    except ValidationError:
        allowed = "write 90s, 2h or 3d (ago), or a date like 2026-05-01 or 2026-05-01T12:00"
        raise ValueError(f"{text!r} is no time; {allowed}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.timezone.utc)


def _encoded(fields: Iterable[tuple[str, str]]) -> str:
    return urlencode(list(fields))
