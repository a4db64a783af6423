"""What scripts in the style of tapipy ask, checked: argument names, ids, requests for jobs, conditions and orders.

tapipy drops a keyword that it does not know, and calls nothing where ``jobId=`` is written for ``jobUuid=``. Here a
word that is not known is an error that names the nearest one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from hpcjobs.errors import InvalidSpec, Unsupported
from hpcjobs.lifecycle import TAPIS_WORDS
from hpcjobs.models import problems_of
from hpcjobs.tapis_data import (
    JOB_KEYS,
    LIST_KEYS,
    ArchiveFilter,
    Argument,
    FileInput,
    FileInputArray,
    LogConfig,
    ParameterSet,
    TapisRequest,
    Variable,
)
from hpcjobs.tapis_style.results import plain
from hpcjobs.wording import near

QUERY = "_tapis_query_parameters"
"""tapipy's word for parameters that its methods have no names for."""

_HARMLESS = re.compile(r"_tapis_|_x_tapis_|headers$|pretty$")
"""tapipy's words for how a request is sent, which say nothing of the job."""

_PARTS: Mapping[str, type[BaseModel]] = {
    "parameterSet": ParameterSet,
    "appArgs": Argument,
    "containerArgs": Argument,
    "schedulerOptions": Argument,
    "envVariables": Variable,
    "archiveFilter": ArchiveFilter,
    "logConfig": LogConfig,
    "fileInputs": FileInput,
    "fileInputArrays": FileInputArray,
}
"""The parts of a request that have fields of their own."""

_ORDER = re.compile(r"\s*(?P<key>\w+)\s*(?:\(\s*(?P<way>asc|desc)\s*\))?\s*", re.IGNORECASE)


def check_words(method: str, extra: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keywords that a method does not know; those of tapipy that change nothing are let through.

    Raises:
        InvalidSpec: With the nearest name for each.
    """
    problems = []
    for word, value in extra.items():
        if word == "_tapis_debug" and value:
            problems.append((word, "makes tapipy return a pair; here it is not known: leave it out"))
        elif word == QUERY and value:
            problems.append((word, f"{method} takes none"))
        elif not _HARMLESS.match(word):
            problems.append((word, f"{method} has no such argument; {near(word, known)}"))
    if problems:
        raise InvalidSpec(problems)


def job_id_of(method: str, uuid: object, job_id: object) -> str:
    """The job that is meant: ``jobUuid=`` and ``jobId=`` are the same, and one of them is needed.

    Raises:
        InvalidSpec: None is given, or two that differ, or something that is no id.

    Example:
        >>> job_id_of("getJob", None, "0b7f")
        '0b7f'
    """
    given = [_id(value) for value in (uuid, job_id) if value is not None]
    if not given:
        raise InvalidSpec([("jobUuid", f"is missing: write {method}(jobUuid=...) with the job's uuid; jobId= will do")])
    if len(set(given)) > 1:
        raise InvalidSpec([("jobId", f"is {given[1]}, and jobUuid is {given[0]}: they mean the same; give one")])
    return given[0]


def _id(value: object) -> str:
    found = value if isinstance(value, str) else getattr(value, "uuid", None) or getattr(value, "id", None)
    if not isinstance(found, str) or not found.strip():
        raise InvalidSpec([("jobUuid", f"is {value!r}; give the job's uuid, which is text")])
    return found.strip()


def job_fields(fields: Mapping[str, Any], *, at_tapis: bool = True) -> dict[str, Any]:
    """A request for a job in Tapis's words, as the arguments of ``client.submit()``.

    Args:
        fields: What is asked.
        at_tapis: Whether Tapis is asked: then it stays as it is. Other services are asked in their own words for what
            they have words for; the rest are options of the app.

    Raises:
        InvalidSpec: With every field that is missing, not known or not right.

    Example:
        >>> job_fields({"name": "a", "appId": "hello", "appVersion": "1.0", "nodeCount": 2})
        {'app': 'hello', 'app_version': '1.0', 'name': 'a', 'options': {'nodeCount': 2}}
    """
    asked: dict[str, Any] = plain(fields)
    known = [field.alias or name for name, field in TapisRequest.model_fields.items()]
    problems = [(word, f"a job of Tapis has no such field; {near(word, known)}") for word in asked if word not in known]
    try:
        TapisRequest.model_validate({word: value for word, value in asked.items() if word in known})
    except ValidationError as error:
        near_names = {
            ".".join(map(str, item["loc"])): _nearest(item["loc"])
            for item in error.errors(include_url=False, include_context=False)
            if item["type"] == "extra_forbidden"
        }
        found = problems_of(error, {})
        problems += [(field, near_names.get(field) or why[:1].lower() + why[1:]) for field, why in found]
    if problems:
        raise InvalidSpec(problems)
    own = {"app": asked.pop("appId"), "app_version": asked.pop("appVersion"), "name": asked.pop("name")}
    if tags := asked.pop("tags", None):
        own["tags"] = tags
    if not at_tapis:
        own |= _native(asked)
    return {**own, "options": asked}


def _native(asked: dict[str, Any]) -> dict[str, Any]:
    """What other services have words for, taken out of ``asked``.

    Example:
        >>> asked = {"nodeCount": 2, "coresPerNode": 4, "maxMinutes": 5, "jobType": "FORK"}
        >>> _native(asked), asked
        ({'cores': 8, 'walltime': 300}, {'jobType': 'FORK'})
    """
    for word in ("fileInputs", "fileInputArrays"):
        if asked.pop(word, None):
            told = "is fetched by Tapis only; send files along with t.client.submit(app=..., inputs=[...])"
            raise InvalidSpec([(word, f"{told}, or name the service as a Tapis: connect(base_url=...)")])
    found: dict[str, Any] = {}
    if {"nodeCount", "coresPerNode"} & asked.keys():
        found["cores"] = (asked.pop("nodeCount", None) or 1) * (asked.pop("coresPerNode", None) or 1)
    if (megabytes := asked.pop("memoryMB", None)) is not None:
        found["memory"] = megabytes * 1_000_000
    if (minutes := asked.pop("maxMinutes", None)) is not None:
        found["walltime"] = minutes * 60
    if queue := asked.pop("execSystemLogicalQueue", None):
        found["queue"] = queue
    if (notes := asked.pop("notes", None)) is not None:
        found["meta"] = notes if isinstance(notes, Mapping) else {"notes": notes}
    parameters = dict(asked.get("parameterSet") or {})
    if variables := parameters.pop("envVariables", None):
        found["env"] = {one["key"]: one.get("value") or "" for one in variables if one.get("include") is not False}
        asked["parameterSet"] = parameters
    logs = parameters.get("logConfig") or {}
    if logs.get("stdoutFilename") != logs.get("stderrFilename"):
        found["stderr"] = "separate"
    return found


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job that have no place of their own in a spec: what the others say stands there already.

    Example:
        >>> own_options({"nodeCount": 2, "jobType": "FORK", "parameterSet": {"envVariables": []}})
        {'jobType': 'FORK'}
    """
    left = {word: value for word, value in options.items() if word not in _OURS}
    parameters = dict(left.pop("parameterSet", None) or {})
    parameters.pop("envVariables", None)
    return {**left, **({"parameterSet": parameters} if parameters else {})}


_OURS = frozenset(
    {
        "nodeCount", "coresPerNode", "memoryMB", "maxMinutes", "execSystemLogicalQueue", "notes", "fileInputs",
        "fileInputArrays", "trackingId",
    }
)  # fmt: skip


def _nearest(place: tuple[int | str, ...]) -> str:
    """What is said of a field that a part of the request does not have."""
    parent = next((part for part in reversed(place[:-1]) if part in _PARTS), None)
    names = [] if parent is None else [field.alias or name for name, field in _PARTS[str(parent)].model_fields.items()]
    return f"there is no such field; {near(str(place[-1]), names)}"


def count_of(word: str, value: object, *, least: int = 0) -> int:
    """A number of jobs or files.

    Raises:
        InvalidSpec: It is none.
    """
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise InvalidSpec([(word, f"is {value!r}; give a whole number, {least} or more")])
    return number


def order_of(text: str | None) -> list[tuple[str, bool]]:
    """By what a list is sorted, ``"created(desc),name(asc)"``: each field, and whether the largest comes first.

    Raises:
        InvalidSpec: It cannot be sorted so.

    Example:
        >>> order_of("status,created(desc)")
        [('status', False), ('created', True)]
    """
    found = []
    for part in (text or "").split(",") if text else ():
        match = _ORDER.fullmatch(part)
        if match is None:
            raise InvalidSpec([("orderBy", f"{part!r} is no order; write created(desc), or created(desc),name(asc)")])
        if match["key"] not in LIST_KEYS:
            raise InvalidSpec([("orderBy", f"jobs have no {match['key']!r} to be sorted by; {near(part, LIST_KEYS)}")])
        found.append((match["key"], (match["way"] or "asc").lower() == "desc"))
    return found


def select_of(text: str | None) -> tuple[str, ...]:
    """The fields that a search hands out.

    Raises:
        InvalidSpec: A job has no such field.
    """
    if text is None or text == "summaryAttributes":
        return LIST_KEYS
    if text == "allAttributes":
        return JOB_KEYS
    chosen = [part.strip() for part in text.split(",")]
    problems = [("select", f"a job has no {key!r}; {near(key, JOB_KEYS)}") for key in chosen if key not in JOB_KEYS]
    if problems:
        raise InvalidSpec(problems)
    return tuple(chosen)


def conditions_of(service: str, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions in Tapis's words, ``{"status.eq": "RUNNING"}``, as the arguments of ``client.jobs()``.

    Args:
        service: The service's name, for messages.
        conditions: What Tapis's search takes, by field and operator.

    Raises:
        InvalidSpec: It is no condition.
        Unsupported: Only Tapis itself can search so.

    Example:
        >>> conditions_of("reference server", {"name.like": "fit%", "tags.contains": "night"})
        {'name': 'fit*', 'tag': ['night']}
    """
    wanted: dict[str, Any] = {}
    for condition, value in conditions.items():
        field, _, operator = condition.partition(".")
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        if condition in {"status.eq", "status.in"}:
            words = [word.strip().upper() for word in text.split(",")]
            wrong = [("status", f"{word!r} is no status; {near(word, TAPIS_WORDS)}") for word in words]
            if wrong := [told for word, told in zip(words, wrong, strict=True) if word not in TAPIS_WORDS]:
                raise InvalidSpec(wrong)
            wanted["state"] = sorted({TAPIS_WORDS[word] for word in words})
        elif condition == "name.eq":
            wanted["name"] = text
        elif condition == "name.like":
            wanted["name"] = text.replace("%", "*")
        elif condition == "tags.contains":
            wanted["tag"] = text.split(",")
        elif condition == "execSystemLogicalQueue.eq":
            wanted["queue"] = text
        elif condition in {"created.gt", "created.gte"}:
            wanted["created_after"] = text
        elif condition in {"created.lt", "created.lte"}:
            wanted["created_before"] = text
        elif condition == "created.between":
            wanted["created_after"], _, wanted["created_before"] = text.partition(",")
        else:
            can = "status.eq, status.in, name.eq, name.like, tags.contains, execSystemLogicalQueue.eq, created.gt/lt"
            raise Unsupported(service, f"search by {field}.{operator or '?'}", f"it can by {can}")
    return wanted
