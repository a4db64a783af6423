"""The Python that submits a job again."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Mapping
from typing import Any

from hpcjobs.again import asked
from hpcjobs.models import Dependency, JobSpec, When

_WIDEST = 100
"""Characters of a call on one line."""

_DEEPEST = 50
"""Levels of lists and objects in each other that are written; Python's own bound is at 200."""


def as_python(spec: Mapping[str, Any] | JobSpec, *, url: str | None = None, array_index: int | None = None) -> str:
    """The Python that asks for the same job.

    Args:
        spec: What was asked: ``JobInfo.spec``; of a job of an array :func:`hpcjobs.arrays.own_spec`.
        url: The service's address; without it the code finds the service as ``Client()`` does.
        array_index: The job's index, where it is one of an array.

    Raises:
        InvalidSpec: ``spec`` is none.

    Example:
        >>> print(as_python({"command": "python fit.py", "resources": {"walltime": 600}, "tags": ["a"]}))
        from hpcjobs import Client
        <BLANKLINE>
        client = Client()
        job = client.submit("python fit.py", tags=["a"], walltime="10m")
    """
    found = asked.read(spec)
    head = f"from hpcjobs import Client\n\nclient = Client({'' if url is None else literal(url)})\n"
    options, left_out = _options(found)
    why = asked.of_a_function(found, ", ".join(options), array_index)
    if why is not None:
        return head + _comments([*why, *left_out]).rstrip("\n")
    arguments = [*_work(found), *options]
    call = f"job = client.submit({', '.join(arguments)})"
    if len(call) > _WIDEST:
        call = "job = client.submit(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"
    return head + _comments([*asked.remarks(found, array_index), *left_out]) + call


def literal(value: Any) -> str:
    r"""A value as Python writes it: with double quotes, on one line, and with what does not show written out.

    Example:
        >>> print(literal({"a": ['it"s', None, "\n"]}))
        {"a": ['it"s', None, "\n"]}
    """
    if isinstance(value, dt.timedelta):
        return literal(asked.length(value))
    if isinstance(value, dt.datetime):
        return literal(value.isoformat())
    if isinstance(value, Dependency):
        return literal(value.job if value.when is When.OK else (value.job, value.when.value))
    if isinstance(value, enum.Enum):
        return literal(value.value)
    if isinstance(value, str):
        text = repr(value)  # escapes what is not printable, and with it every end of a line
        plain = text.startswith("'") and '"' not in text and "\\'" not in text
        return f'"{text[1:-1]}"' if plain else text
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def _comments(lines: list[str]) -> str:
    return "".join(f"# {line}\n" for line in lines)


def _work(spec: JobSpec) -> list[str]:
    """What is to run, and its files."""
    if spec.command is not None:
        found = [literal(spec.command)]
    else:
        found = [f"{name}={literal(value)}" for name in ("task", "app") if (value := getattr(spec, name))]
    files = asked.files(spec)
    return [*found, f"inputs={literal(files)}"] if files else found


def _options(spec: JobSpec) -> tuple[list[str], list[str]]:
    """The other arguments, and what cannot be written."""
    found, left_out = [], []
    for name, value in asked.fields(spec).items():
        if _deeper(value, _DEEPEST):
            left_out.append(f"Left out, as it is too deep to be written: {name}")
        else:
            found.append(f"{name}={literal(asked.memory(value) if name == 'memory' else value)}")
    return found, left_out


def _deeper(value: Any, levels: int) -> bool:
    """Whether there are more lists and objects in each other than so many.

    Example:
        >>> _deeper({"a": [1]}, 2), _deeper({"a": [1]}, 1)
        (False, True)
    """
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            item
            for one in layer
            if isinstance(one, (Mapping, list, tuple))
            for item in (one.values() if isinstance(one, Mapping) else one)
        ]
        if not layer:
            return False
    return True
