"""What was asked, as both kinds of code say it."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hpcjobs.models import Dependency, InputFile, JobSpec, Resources
from hpcjobs.wording import clean, size

_NAMED = 20
"""Input files that are named in a comment; the others are counted."""

_LONGEST = 100
"""Characters of a word that are shown in a comment."""

_APART = ("command", "task", "app", "function", "inputs", "resources")
"""What is said in another place than the other fields."""

_PACKED = ".hpcjobs/"
"""Where the files lie that a packed function brings along."""


def read(spec: Mapping[str, Any] | JobSpec) -> JobSpec:
    """What was asked, as a spec.

    Args:
        spec: ``JobInfo.spec``, or a spec.

    Raises:
        InvalidSpec: It is none.
    """
    return spec if isinstance(spec, JobSpec) else JobSpec.parse({k: v for k, v in spec.items() if v is not None})


def fields(spec: JobSpec) -> dict[str, Any]:
    """What was asked beside the work itself, by the names that ``submit`` has for it, without what holds anyway."""
    found = {name: getattr(spec, name) for name in JobSpec.model_fields if name not in _APART and spec.asks_for(name)}
    if "after" in found:
        found["after"] = [one for one in spec.after if not _of_the_same_call(one)]
    defaults = Resources()
    for name in Resources.model_fields:
        value = getattr(spec.resources, name)
        if value != getattr(defaults, name):
            found[name] = value
    return {name: value for name, value in found.items() if name != "after" or value}


def files(spec: JobSpec) -> list[str]:
    """The names of the input files that can be sent again by their names."""
    return [file.name for file in _own_files(spec) if not _is_a_home(file)]


def length(value: dt.timedelta) -> str:
    """A length of time as ``submit`` reads it.

    Example:
        >>> length(dt.timedelta(hours=1, minutes=30)), length(dt.timedelta(seconds=0.5)), length(dt.timedelta(0))
        ('1h30m', '0.5s', '0s')
    """
    rest = value.total_seconds()
    parts = []
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        whole, rest = divmod(rest, seconds)
        if whole:
            parts.append(f"{whole:.0f}{unit}")
    if rest or not parts:
        parts.append(f"{round(rest, 6):.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


def memory(value: int) -> str | int:
    """An amount of memory as ``submit`` reads it; the number of bytes where no unit says it exactly.

    Example:
        >>> memory(4 * 1024**3), memory(1001)
        ('4GiB', 1001)
    """
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{unit}"
    return value


def named(word: str) -> str:
    r"""A word from elsewhere as it stands in a comment: on one line, not too long, and in quotes if it needs them.

    Shells that take no comments where one types do nothing with it either.

    Example:
        >>> print(named("a.txt"), named("$(touch x)\n"))
        a.txt '$(touch x)\n'
    """
    shown = clean(word)
    return shlex.quote(shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…")


def remarks(spec: JobSpec, array_index: int | None) -> list[str]:
    """What must be so for the code to ask for the same, and what it does not say, line by line."""
    return [*_of_an_array(array_index), *_of_files(spec), *_of_time(spec), *_of_others(spec)]


def of_a_function(spec: JobSpec, options: str, array_index: int | None) -> list[str] | None:
    """Why there is no code for the call of a function, and what to do; None where the job is none.

    Args:
        spec: What was asked.
        options: What was asked beside the call, as code.
        array_index: The job's index, where it is one of an array.
    """
    if spec.function is None:
        return None
    return [
        "It calls a Python function, whose code was sent along and is not shown here:",
        f"submit the function {named(spec.function.name)} again from your own code, or retry this very job.",
        *([f"It was asked with {options}"] if options else []),
        *remarks(spec, array_index),
    ]


def _of_an_array(array_index: int | None) -> Iterator[str]:
    if array_index is not None:
        yield f"It was the job with index {array_index} of an array, and has the values of that job in it."
        yield "By itself it finds no HPCJOBS_ARRAY_INDEX, no HPCJOBS_ITEM and the like."


def _of_files(spec: JobSpec) -> Iterator[str]:
    own = _own_files(spec)
    if own:
        yield "Its input files must be in the present folder, as they were:"
    for file in own[:_NAMED]:
        yield f"  {named(file.name)}, {size(file.size)}{', executable' if file.executable else ''}"
    if len(own) > _NAMED:
        yield f"  and {len(own) - _NAMED:,} more"
    for file in filter(_is_a_home, own):
        yield f"Left out, as a path with this begin means a home folder: {named(file.name)}"


def _of_time(spec: JobSpec) -> Iterator[str]:
    if spec.start_at is not None:
        yield "It was not to start before start_at. Leave that out to start it now."
    if spec.start_in is not None:
        yield "It was not to start before start_in had gone by, which counts anew. Leave that out to start it now."
    if spec.expires_in is not None:
        yield "The time of expires_in counts anew."


def _of_others(spec: JobSpec) -> Iterator[str]:
    if any(not _of_the_same_call(one) for one in spec.after):
        yield "The jobs that it was to wait for, named after it, must still be known."
    for one in filter(_of_the_same_call, spec.after):
        how = "" if one.when.value == "ok" else f", {one.when.value}"
        yield f"Left out, as its id is not known here: after job {named(one.job[1:])} of the same call{how}"


def _own_files(spec: JobSpec) -> list[InputFile]:
    """The input files without those that a packed function brings along."""
    return [file for file in spec.inputs if spec.function is None or not file.name.startswith(_PACKED)]


def _is_a_home(file: InputFile) -> bool:
    return file.name.startswith("~")


def _of_the_same_call(one: Dependency) -> bool:
    return one.job.startswith("#")
