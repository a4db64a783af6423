"""What a search of the Tapis API means in SQL.

Nothing that a user writes becomes SQL: fields and operators are looked up in tables of ours, values are parameters.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Union
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from hpcjobs.lifecycle import JobState
from hpcjobs.tapis_data import ENDED_BEFORE, ENDED_OTHERWISE, SUFFIX, WORDS
from hpcjobs_server.store.base import to_uuid
from hpcjobs_server.store.rows import SPEC

Kind = Literal["text", "integer", "boolean", "time", "texts", "uuid"]


class BadSearch(Exception):
    """A search that cannot be made; says what is wrong and what is allowed."""


@dataclasses.dataclass(frozen=True)
class Field:
    """Something that can be searched by."""

    sql: str
    kind: Kind


_OPTIONS = "x.spec -> 'options'"
_WORDS = " ".join(f"WHEN '{state.value}' THEN '{word}'" for state, word in WORDS.items() if state.value != word)

STATUS = f"(CASE j.state {_WORDS} ELSE j.state END)"


def _reasons(table: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"WHEN j.reason LIKE '{pattern.replace('*', '%%')}' THEN '{word}'" for pattern, word in table)


CONDITION = f"""(CASE
    WHEN j.state = 'FINISHED' THEN 'NORMAL_COMPLETION'
    WHEN j.state = 'CANCELLED' THEN 'CANCELLED_BY_USER'
    WHEN j.state <> '{JobState.FAILED.value}' THEN NULL
    {_reasons(ENDED_BEFORE)}
    WHEN j.exit_code IS NOT NULL THEN 'JOB_REMOTE_OUTCOME_ERROR'
    {_reasons(ENDED_OTHERWISE)}
    WHEN j.attempt = 0 THEN 'JOB_LAUNCH_FAILURE'
    ELSE 'JOB_INTERNAL_ERROR' END)"""

APP = """(CASE WHEN x.spec ->> 'app' IS NOT NULL THEN x.spec ->> 'app' WHEN x.spec ->> 'task' IS NOT NULL THEN 'task'
    WHEN x.spec ->> 'function' IS NOT NULL THEN 'function' ELSE 'command' END)"""

VERSION = "coalesce(x.spec ->> 'app_version', '0')"

NAME = f"coalesce(j.name, {APP})"

FROM = f"""jobs j LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt
    CROSS JOIN LATERAL (SELECT {SPEC} AS spec OFFSET 0) x"""
"""``x.spec`` is what was asked."""


def _option(name: str, default: str) -> str:
    return f"coalesce({_OPTIONS} ->> '{name}', {default})"


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "uuid": Field("j.id", "uuid"),
        "id": Field("j.seq", "integer"),
        "name": Field(NAME, "text"),
        "owner": Field("j.owner", "text"),
        "createdby": Field("j.owner", "text"),
        "description": Field(_option("description", "NULL"), "text"),
        "status": Field(STATUS, "text"),
        "condition": Field(CONDITION, "text"),
        "created": Field("j.created_at", "time"),
        "ended": Field("j.finished_at", "time"),
        "lastUpdated": Field("greatest(j.changed_at, j.created_at)", "time"),
        "remoteSubmitted": Field("j.created_at", "time"),
        "remoteStarted": Field("j.started_at", "time"),
        "remoteEnded": Field("CASE WHEN j.attempt > 0 THEN j.finished_at END", "time"),
        "appId": Field(APP, "text"),
        "appVersion": Field(VERSION, "text"),
        "execSystemId": Field(_option("execSystemId", "'local'"), "text"),
        "archiveSystemId": Field(_option("archiveSystemId", "'local'"), "text"),
        "execSystemLogicalQueue": Field("j.queue", "text"),
        "remoteQueue": Field("j.queue", "text"),
        "remoteResultInfo": Field("j.exit_code::text", "text"),
        "nodeCount": Field(f"({_option('nodeCount', chr(39) + '1' + chr(39))})::integer", "integer"),
        "coresPerNode": Field(f"({_option('coresPerNode', 'j.cores::text')})::integer", "integer"),
        "memoryMB": Field(
            f"(coalesce({_OPTIONS} ->> 'memoryMB',"
            " (ceil((x.spec #>> '{resources,memory}')::numeric / 1000000))::text, '100'))::bigint",
            "integer",
        ),
        "maxMinutes": Field(
            f"(coalesce({_OPTIONS} ->> 'maxMinutes',"
            " (ceil((x.spec #>> '{resources,walltime}')::numeric / 60))::text, '0'))::bigint",
            "integer",
        ),
        "trackingId": Field(_option("trackingId", "NULL"), "text"),
        "visible": Field("(NOT j.hidden)", "boolean"),
        "tags": Field("j.tags", "texts"),
    }
)
"""What can be searched and ordered by, in the words of Tapis."""

_COMPARISONS = {"EQ": "=", "NEQ": "IS DISTINCT FROM", "GT": ">", "GTE": ">=", "LT": "<", "LTE": "<="}
OPERATORS = (*_COMPARISONS, "IN", "NIN", "LIKE", "NLIKE", "BETWEEN", "NBETWEEN", "CONTAINS", "NCONTAINS")

_TYPES: Mapping[Kind, str] = {
    "text": "text", "integer": "bigint", "boolean": "boolean", "time": "timestamptz", "texts": "text[]", "uuid": "uuid"
}  # fmt: skip
_TIME: TypeAdapter[dt.datetime] = TypeAdapter(dt.datetime)


@dataclasses.dataclass(frozen=True)
class Test:
    """One condition; ``LIKE`` takes ``%`` and ``_``, as SQL has them, with a backslash before those that are meant."""

    field: str
    operator: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Every:
    """All of the conditions hold."""

    parts: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True)
class Some:
    """One of the conditions holds."""

    parts: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True)
class Not:
    """The condition does not hold."""

    part: Condition


Condition = Union[Test, Every, Some, Not]


@dataclasses.dataclass(frozen=True)
class Order:
    """Which jobs come first, and where to go on."""

    fields: tuple[tuple[str, bool], ...] = ()
    """Names, and whether they fall."""
    after: str | None = None
    """Only what comes after this value of the first field."""


class Search:
    """The SQL of one search.

    Args:
        condition: Which jobs; None for all.
        order: In which order.

    Raises:
        BadSearch: A field or an operator is not known, or a value does not fit its field.

    Attributes:
        where: The conditions.
        order: What stands after ``ORDER BY``.
        parameters: The values.
    """

    def __init__(self, condition: Condition | None, order: Order) -> None:
        self.parameters: dict[str, Any] = {}
        parts = [] if condition is None else [self._sql(condition)]
        terms = []
        for name, falls in order.fields:
            field = _field(name)
            if field.kind == "texts":
                raise BadSearch(f"the list {name} has no order; order by another field")
            terms.append(f"{field.sql} {'DESC' if falls else 'ASC'} NULLS LAST")
        if order.after is not None:
            if not order.fields:
                raise BadSearch("startAfter needs orderBy")
            name, falls = order.fields[0]
            field = _field(name)
            parts.append(f"{field.sql} {'<' if falls else '>'} {self._value(name, field.kind, order.after)}")
        self.where = " AND ".join(f"({part})" for part in parts) or "true"
        self.order = ", ".join([*terms, "j.seq DESC"])

    def _sql(self, condition: Condition) -> str:
        if isinstance(condition, Test):
            return self._test(condition)
        if isinstance(condition, Not):
            return f"NOT coalesce({self._sql(condition.part)}, false)"
        word = " AND " if isinstance(condition, Every) else " OR "
        return word.join(f"({self._sql(part)})" for part in condition.parts)

    def _test(self, test: Test) -> str:
        field, operator = _field(test.field), test.operator.upper()
        if operator not in OPERATORS:
            raise BadSearch(f"there is no operator {test.operator!r}; there is {', '.join(OPERATORS)}")
        least, most = {"BETWEEN": (2, 2), "NBETWEEN": (2, 2), "IN": (1, 1000), "NIN": (1, 1000)}.get(operator, (1, 1))
        if field.kind == "texts":
            least, most = 1, 1000
        if not least <= len(test.values) <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise BadSearch(f"{test.field}.{operator} takes {count} value{'' if count == '1' else 's'}")
        if field.kind == "texts":
            return self._list_test(test.field, field, operator, test.values)
        if operator in {"CONTAINS", "NCONTAINS"} or (operator in {"LIKE", "NLIKE"} and field.kind != "text"):
            raise BadSearch(f"{test.field} cannot be searched by {operator}: it is no {_OTHER[operator]}")
        if field.kind == "boolean" and operator not in {"EQ", "NEQ"}:
            raise BadSearch(f"{test.field} is true or false: EQ and NEQ can be asked of it")
        values = [self._value(test.field, field.kind, value) for value in test.values]
        if operator in _COMPARISONS:
            return f"{field.sql} {_COMPARISONS[operator]} {values[0]}"
        if operator.endswith("LIKE"):
            inside = f"{field.sql} LIKE {values[0]}"
        elif operator.endswith("BETWEEN"):
            inside = f"{field.sql} BETWEEN {values[0]} AND {values[1]}"
        else:
            inside = f"{field.sql} IN ({', '.join(values)})"
        # what is not known is not so; without a negation an index must stay of use
        return f"NOT coalesce({inside}, false)" if operator.startswith("N") else inside

    def _list_test(self, name: str, field: Field, operator: str, values: Sequence[str]) -> str:
        value = self._add(list(values))
        comparisons = {"CONTAINS": "@>", "NCONTAINS": "@>", "IN": "&&", "NIN": "&&"}
        if operator not in comparisons:
            raise BadSearch(f"the list {name} can be searched by {', '.join(comparisons)}")
        no = "NOT " if operator.startswith("N") else ""
        return f"{no}({field.sql} {comparisons[operator]} {value}::text[])"

    def _value(self, name: str, kind: Kind, text: str) -> str:
        return f"{self._add(_READ[kind](name, text))}::{_TYPES[kind]}"

    def _add(self, value: Any) -> str:
        name = f"v{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"


_OTHER = {"CONTAINS": "list", "NCONTAINS": "list", "LIKE": "text", "NLIKE": "text"}


def _field(name: str) -> Field:
    field = FIELDS.get(name)
    if field is None:
        raise BadSearch(f"there is no field {name!r} to search by; there is {', '.join(sorted(FIELDS))}")
    return field


def _text(name: str, text: str) -> str:
    if "\x00" in text:
        raise BadSearch(f"{name} has a NUL in it")
    return text


def _integer(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise BadSearch(f"{name} is a whole number, not {text!r}") from None
    if not -(2**63) <= number < 2**63:
        raise BadSearch(f"{name} is out of range: {text}")
    return number


def truth(name: str, text: str) -> bool:
    """Read ``true`` or ``false``, in any case. Raises ``BadSearch``."""
    if text.lower() not in {"true", "false"}:
        raise BadSearch(f"{name} is true or false, not {text!r}")
    return text.lower() == "true"


def _time(name: str, text: str) -> dt.datetime:
    try:
        moment = _TIME.validate_strings(text)
    except ValidationError:
        raise BadSearch(f"{name} is a time such as 2026-05-01T12:00:00Z, not {text!r}") from None
    return moment.replace(tzinfo=dt.timezone.utc) if moment.tzinfo is None else moment


def _uuid(name: str, text: str) -> UUID:
    found = to_uuid(text.removesuffix(SUFFIX)) if text.endswith(SUFFIX) else None
    if found is None:
        raise BadSearch(f"{name} is the id of a job, a UUID with {SUFFIX} behind it, not {text!r}")
    return found


_READ: Mapping[Kind, Callable[[str, str], Any]] = {
    "text": _text, "integer": _integer, "boolean": truth, "time": _time, "texts": _text, "uuid": _uuid
}  # fmt: skip
