"""What jobs a request of the Tapis API means, and which one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from hpcjobs.tapis_data import SUFFIX
from hpcjobs_server.api.tapis.envelope import TapisProblem, bad_request
from hpcjobs_server.api.tapis.records import native_id
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import Context
from hpcjobs_server.faults import FaultKind
from hpcjobs_server.store import BadSearch, Condition, Every, Order, Search, Seen, Test, truth

LIMIT = 100
"""Entries of a list where nothing is asked."""
MOST = 1000
"""Entries of a list at most; the metadata says how many it could have had."""

SEARCH = frozenset({"limit", "skip", "startafter", "orderby", "computetotal", "listtype", "select", "pretty"})
"""Parameters that are no conditions, in lower case."""

_ORDER = re.compile(r"\s*([A-Za-z_]+)\s*(?:\(\s*(asc|desc)\s*\))?\s*", re.IGNORECASE)
_MANY = frozenset({"IN", "NIN", "BETWEEN", "NBETWEEN", "CONTAINS", "NCONTAINS"})
_LISTS = ("MY_JOBS", "SHARED_JOBS", "ALL_JOBS")


async def find(context: Context, caller: Caller, uuid: str, *, hidden: bool = True) -> Seen:
    """The job that is named.

    Args:
        context: The app's.
        caller: Who asks.
        uuid: Tapis's id.
        hidden: Whether one that is hidden may be looked at.

    Raises:
        TapisProblem: 404: there is none, it is another's, or it is hidden.
    """
    job_id = native_id(uuid)
    seen = None if job_id is None else await context.store.seen(caller.sees, job_id)
    if seen is None:
        if context.faults.take(FaultKind.UNKNOWN_500, f"/v3/jobs/{uuid}"):
            detail = f"Job {uuid} could not be read: JOBS_JOB_NOT_FOUND Job {uuid} was not found."
            raise TapisProblem(500, "JOBS_JOB_SELECT_UUID_ERROR", detail)
        raise no_such_job(uuid)
    if seen.hidden and not hidden:
        detail = f"Job {uuid} is hidden; POST /v3/jobs/{uuid}/unhide shows it again."
        raise TapisProblem(404, "JOBS_JOB_NOT_VISIBLE", detail, result={"name": uuid})
    return context.faults.shown(seen, f"/v3/jobs/{uuid}")


def no_such_job(uuid: str) -> TapisProblem:
    """404."""
    detail = f"Job {uuid} was not found: there is no such job, or it is not yours."
    return TapisProblem(404, "JOBS_JOB_NOT_FOUND", detail, result={"name": uuid})


class Window:
    """Which part of which list is asked for, and in which order.

    Args:
        request: The request, whose parameters are read.

    Raises:
        TapisProblem: 400 for a parameter that cannot be used.
    """

    def __init__(self, request: Request) -> None:
        given = {name.lower(): text for name, text in request.query_params.multi_items()}
        self.limit = _number(given, "limit", LIMIT, least=-1)
        if self.limit < 0 or self.limit > MOST:
            self.limit = MOST
        self.skip = _number(given, "skip", 0, least=0)
        self.order_by = given.get("orderby") or None
        self.after = given.get("startafter") or None
        self.total = flag(given, "computetotal")
        self.list_type = (given.get("listtype") or "MY_JOBS").upper()
        self.select = given.get("select") or None
        if self.list_type not in _LISTS:
            raise bad_request("JOBS_LIST_TYPE_INVALID", f"listType is one of {', '.join(_LISTS)}")
        if self.after is not None and self.order_by is None:
            raise bad_request("SEARCH_INVALID_PARAMETER", "startAfter needs orderBy")
        if self.after is not None and self.skip:
            raise bad_request("SEARCH_INVALID_PARAMETER", "skip and startAfter exclude each other; give one of them")
        self.order = Order(tuple(_order(self.order_by)), self.after)

    def owner(self, caller: Caller) -> str | None:
        """Whose jobs are listed; an administrator sees everybody's in ALL_JOBS."""
        return caller.sees if self.list_type == "ALL_JOBS" else caller.owner

    async def jobs(self, context: Context, caller: Caller, condition: Condition | None) -> tuple[list[Seen], int]:
        """The jobs, and how many there are in all: -1 where that was not asked."""
        try:
            search = Search(condition, self.order)
        except BadSearch as error:
            raise bad_request("SEARCH_INVALID_PARAMETER", str(error)) from None
        if self.list_type == "SHARED_JOBS":  # nothing is shared here
            return [], 0 if self.total else -1
        owner = self.owner(caller)
        found = await context.store.search(owner, search, limit=self.limit, skip=self.skip) if self.limit else []
        found = [context.faults.shown(seen, f"/v3/jobs/{seen.info.id}{SUFFIX}") for seen in found]
        return found, await context.store.total(owner, search) if self.total else -1

    def metadata(self, count: int, total: int) -> dict[str, Any]:
        """What is said about a list beside it."""
        return {
            "recordCount": count,
            "recordLimit": self.limit,
            "recordsSkipped": self.skip,
            "orderBy": self.order_by,
            "startAfter": self.after,
            "totalCount": total,
        }


def flag(given: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A parameter that is true or false, in any case of its letters and of its name's.

    Raises:
        TapisProblem: 400 for anything else.
    """
    lowered = {key.lower(): text for key, text in given.items()}
    text = lowered.get(name.lower())
    if text is None:
        return default
    try:
        return truth(name, text)
    except BadSearch as error:
        raise bad_request("NET_INVALID_PARAMETER", str(error)) from None


def page(request: Request) -> tuple[int, int]:
    """``limit`` and ``skip`` of a list that has no order to choose.

    Raises:
        TapisProblem: 400.
    """
    given = {name.lower(): text for name, text in request.query_params.multi_items()}
    limit = _number(given, "limit", LIMIT, least=-1)
    return (MOST if limit < 0 else min(limit, MOST)), _number(given, "skip", 0, least=0)


def conditions(parameters: Iterable[tuple[str, str]]) -> Condition | None:
    """The conditions of ``FIELD.OPERATOR=VALUE``, all of which must hold.

    Raises:
        TapisProblem: 400 for a parameter that is none.

    Example:
        >>> conditions([("name.like", "sweep*")])
        Every(parts=(Test(field='name', operator='LIKE', values=('sweep%',)),))
    """
    tests = []
    for name, text in parameters:
        if name.lower() in SEARCH:
            continue
        field, _, operator = name.partition(".")
        operator = operator.upper() or "EQ"
        values = _values(text) if operator in _MANY else [text]
        if operator in {"LIKE", "NLIKE"}:
            values = [_pattern(text)]
        tests.append(Test(field, operator, tuple(values)))
    return Every(tuple(tests)) if tests else None


def _values(text: str) -> list[str]:
    """A list with commas; a backslash before a comma makes it part of a value."""
    return [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:\\.|[^,\\])+", text)]


def _pattern(text: str) -> str:
    """``*`` stands for any text and ``!`` for any letter; a backslash before one of them means just that one."""
    out = []
    for match in re.finditer(r"\\(.)|(.)", text, re.DOTALL):
        meant, letter = match[1], match[2]
        if letter is None:
            out.append("\\" + meant if meant in "%_\\" else meant)
        else:
            out.append({"*": "%", "!": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"}.get(letter, letter))
    return "".join(out)


def _order(text: str | None) -> Iterable[tuple[str, bool]]:
    for part in text.split(",") if text else ():
        match = _ORDER.fullmatch(part)
        if match is None:
            raise bad_request("SEARCH_INVALID_PARAMETER", f"orderBy is written created(desc),name(asc), not {text!r}")
        yield match[1], (match[2] or "asc").lower() == "desc"


def _number(given: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?\d{1,9}", text) or int(text) < least:
        raise bad_request("NET_INVALID_PARAMETER", f"{name} is a whole number of at least {least}, not {text!r}")
    return int(text)
