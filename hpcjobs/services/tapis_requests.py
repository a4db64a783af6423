"""Turns what is asked of us into what Tapis is asked: a job, and which jobs are meant."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import TAPIS_WORDS
from hpcjobs.models import JobFilter, JobSpec
from hpcjobs.services.sums import sum_of
from hpcjobs.services.tapis_records import KEY_TAG, SUM_TAG


def request_of(spec: JobSpec, key: str) -> dict[str, Any]:
    """What Tapis is asked for.

    The fields of ``options`` are Tapis's own and travel as they are; what the spec says beside them is put into Tapis's
    words, and added to the lists among them.

    Raises:
        InvalidSpec: What is asked for has no place in Tapis, or says the same twice.

    Example:
        >>> spec = JobSpec(app="opensees", app_version="3.6.0", resources={"cores": 4, "walltime": "2h"})
        >>> request_of(spec, "k")["maxMinutes"]
        120
    """
    given = dict(spec.options)
    system, allocation = given.pop("system", None), given.pop("allocation", None)
    problems = [
        (name, f"Tapis has no place for it; {instead}") for name, instead in _NO_PLACE.items() if spec.asks_for(name)
    ]
    if spec.app is None:
        problems.append(("app", "Tapis runs apps only; give app= and app_version="))
    elif spec.app_version is None:
        problems.append(("app_version", "Tapis runs no app without a version"))
    said: dict[str, Any] = {"name": spec.name or spec.app, "appId": spec.app, "appVersion": spec.app_version}
    said["tags"] = list(spec.tags)
    if system is not None:
        said["execSystemId"] = system
    if spec.queue != "default":
        said["execSystemLogicalQueue"] = spec.queue
    if "cores" in spec.resources.model_fields_set:
        said["coresPerNode"] = spec.resources.cores
    if spec.resources.memory is not None:
        said["memoryMB"] = max(1, -(-spec.resources.memory // 1_000_000))
    if spec.resources.walltime is not None:
        said["maxMinutes"] = max(1, math.ceil(spec.resources.walltime.total_seconds() / 60))
    if spec.meta:
        said["notes"] = spec.meta
    problems += [
        (name, "is given in Tapis's word and in ours; give one of them")
        for name in given.keys() & said.keys() - {"tags"}
    ]
    if problems:
        raise InvalidSpec(problems)
    parameters = dict(given.pop("parameterSet", None) or {})
    for field, more in (
        ("appArgs", [{"name": name, "arg": _text(value)} for name, value in (spec.args or {}).items()]),
        ("envVariables", [{"key": name, "value": value} for name, value in spec.env.items()]),
        ("schedulerOptions", [{"name": "allocation", "arg": f"-A {allocation}"}] if allocation else []),
    ):
        if more:
            parameters[field] = [*parameters.get(field, ()), *more]
    if parameters:
        said["parameterSet"] = parameters
    tags = [*given.pop("tags", ()), *said.pop("tags")]
    body = {**given, **said}
    return {**body, "tags": [*tags, key_tag(key), sum_tag({**body, "tags": tags})]}


def key_tag(key: str) -> str:
    """The tag of a submission key; a key that a search would take for something else travels as its sum.

    Example:
        >>> key_tag("sweep-3/1"), len(key_tag("a, b"))
        ('hpcjobs-key:sweep-3/1', 76)
    """
    plain = _PLAIN.fullmatch(key) is not None
    return KEY_TAG + (key if plain else hashlib.sha256(key.encode()).hexdigest())


def sum_tag(body: Mapping[str, Any]) -> str:
    """The tag that has the sum of what is asked, without the tags that are ours."""
    own = [tag for tag in body.get("tags") or [] if not tag.startswith((KEY_TAG, SUM_TAG))]
    return SUM_TAG + sum_of({**body, "tags": own})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,100}")

_NO_PLACE = {
    "command": "make an app of it, or use one that takes a script",
    "task": "give app=",
    "inputs": 'give options={"fileInputs": [{"sourceUrl": ..., "targetPath": ...}]}',
    "priority": "leave it out",
    "max_attempts": "leave it out and retry() it",
    "backoff": "leave it out",
    "retry_on": "leave it out",
    "after": "wait for the other job, then submit",
    "start_at": "leave it out",
    "start_in": "leave it out",
    "expires_in": "leave it out",
}
"""Fields of a spec that Tapis cannot do, and what to do instead."""


def conditions(wanted: JobFilter) -> list[tuple[str, str]]:
    """A filter in the words of Tapis's search."""
    told: list[tuple[str, str]] = []
    if wanted.state:
        words = [word for word, state in TAPIS_WORDS.items() if state in wanted.state]
        told.append(("status.in", ",".join(words)))
    if wanted.name is not None:
        told.append(("name.like", wanted.name) if "*" in wanted.name else ("name.eq", wanted.name))
    told += [("tags.contains", tag) for tag in wanted.tag]
    if wanted.queue is not None:
        told.append(("execSystemLogicalQueue.eq", wanted.queue))
    for operator, moment in (("gte", wanted.created_after), ("lt", wanted.created_before)):
        if moment is not None:
            told.append((f"created.{operator}", f"{moment.astimezone(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"))
    return told
