"""Submits whatever can be asked for: a command, a spec, a Python function or a named task."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hpcjobs.errors import InvalidSpec, Unsupported
from hpcjobs.models import JobSpec, Resources
from hpcjobs.operations import submit_array, submit_once
from hpcjobs.protocol import Op, run

if TYPE_CHECKING:
    from hpcjobs.arrays import ArrayInfo
    from hpcjobs.bodies import OnBytes
    from hpcjobs.functions import Packed, Python
    from hpcjobs.inputs import Inputs
    from hpcjobs.models import JobInfo
    from hpcjobs.services.base import Service


T = TypeVar("T")

_NO_OPTIONS = {"command", "task", "app", "app_version", "args", "function", "resources"}
"""The fields of a spec that say what is run."""


def submit(
    service: Service,
    command: Any,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any],
    *,
    inputs: Inputs,
    key: str | None,
    python: Python,
    progress: bool | None = None,
    on_bytes: OnBytes | None = None,
    **options: Any,
) -> Op[JobInfo]:
    """Submit a job: exactly one, whatever the network does.

    Args:
        service: Where it goes.
        command: A command, a ``JobSpec``, or a function; None for a named task.
        arguments: The function's arguments by position.
        keywords: The function's arguments by name; for all else names that do not exist.
        inputs: Files for the job's folder.
        key: The submission key; None for a new one.
        python: The Python for a function.
        progress: What was said of how it is shown, which could be meant for the function.
        on_bytes: Told how far it is while files travel.
        **options: The fields of the spec; None stands for none.

    Raises:
        InvalidSpec: The job cannot be asked for.
    """
    if callable(command):
        return (
            yield from _submit_function(
                service,
                command,
                arguments,
                keywords,
                python=python,
                inputs=inputs,
                key=key,
                progress=progress,
                on_bytes=on_bytes,
                options=given(**options),
            )
        )
    if arguments:
        problem = f"{arguments[0]!r} cannot be passed to a command; write a list: [program, argument, ...]"
        raise InvalidSpec([("command", problem)])
    if python is not None:
        raise InvalidSpec([("python", "goes with a function; a command names its own program")])
    spec = asked(command, keywords, **options)
    return (yield from submit_once(service, spec, inputs=inputs, key=key, on_bytes=on_bytes))


def given(**fields: Any) -> dict[str, Any]:
    """The arguments that were given: None stands for none."""
    return {name: value for name, value in fields.items() if value is not None}


def asked(command: Any, unknown: Mapping[str, Any], **fields: Any) -> JobSpec:
    """What is asked, from a command or a spec and the arguments beside it."""
    fields = {**given(**fields), **unknown}
    if callable(command):
        raise InvalidSpec([("command", "is a function; those are submitted by submit(), or many at once by map()")])
    if isinstance(command, JobSpec):
        return JobSpec.parse({**command.explicit, **fields}) if fields else command
    if isinstance(command, Sequence) and not isinstance(command, str):
        command = [os.fspath(part) if isinstance(part, os.PathLike) else part for part in command]
    return JobSpec.parse({"command": command, **fields})


def _submit_function(
    service: Service,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    python: Python,
    inputs: Inputs,
    key: str | None,
    progress: bool | None,
    on_bytes: OnBytes | None,
    options: Mapping[str, Any],
) -> Op[JobInfo]:
    from hpcjobs import functions

    used = {**options, **given(python=python, inputs=inputs, key=key, progress=progress)}
    _refuse_doubt(function, args, kwargs, used)
    make = partial(functions.pack, function=function, args=args, kwargs=kwargs, python=python)

    def send(_: Packed, spec: JobSpec) -> Op[JobInfo]:
        return submit_once(service, spec, inputs=inputs, key=key, on_bytes=on_bytes)

    return (yield from _submit_packed(service, make, send, inputs=inputs, on_bytes=on_bytes, options=options))


def _submit_packed(
    service: Service,
    make: Callable[[Path], Packed],
    send: Callable[[Packed, JobSpec], Op[T]],
    *,
    inputs: Inputs,
    on_bytes: OnBytes | None,
    options: Mapping[str, Any],
) -> Op[T]:
    """Pack a call, send what it needs, and submit it."""
    from hpcjobs.inputs import find_inputs, send_inputs

    if not service.capabilities.inputs:
        raise Unsupported(service.name, "run Python functions", "submit a command that runs a script")
    folder = Path(tempfile.mkdtemp(prefix="hpcjobs-"))
    try:
        packed = yield from run(partial(make, folder))
        # all of it is checked before anything is sent
        spec = JobSpec.parse({"name": packed.name, **options, "command": packed.command, "function": packed.mark})
        yield from run(partial(find_inputs, inputs))
        files = yield from run(partial(find_inputs, packed.files))
        sent = yield from send_inputs(service, files, on_bytes)
        return (yield from send(packed, spec.model_copy(update={"inputs": sent})))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def submit_map(
    service: Service,
    function: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    *,
    python: Python,
    inputs: Inputs,
    key: str | None,
    options: Mapping[str, Any],
    on_bytes: OnBytes | None = None,
) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
    """Submit an array that calls a function with one item per job.

    Args:
        service: Where it goes.
        function: The function.
        iterables: One for each of its arguments by position.
        python: The Python that runs it.
        inputs: Further files for the folder of each job.
        key: The submission key; None for a new one.
        options: The fields of the spec.
        on_bytes: Told how far it is while files travel.

    Raises:
        InvalidSpec: The array cannot be asked for.
        Unsupported: The service has no arrays.
    """
    from hpcjobs import functions
    from hpcjobs.arrays import ArrayOrder

    def send(packed: Packed, spec: JobSpec) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
        order = ArrayOrder.parse({"spec": spec, "size": packed.count})
        info, jobs = yield from submit_array(service, order, inputs=inputs, key=key, on_bytes=on_bytes)
        shared = spec.model_dump(mode="json")  # so that nobody has to ask for it, job by job
        return info, [job.model_copy(update={"spec": job.spec or shared}) for job in jobs]

    if not iterables:
        raise InvalidSpec([("items", "give what the function is called with, one item per job")])
    given_options = given(**options)
    make = partial(functions.pack_map, function=function, items=zip(*iterables), python=python)  # noqa: B905 - as map()
    return (yield from _submit_packed(service, make, send, inputs=inputs, on_bytes=on_bytes, options=given_options))


def _refuse_doubt(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], used: Mapping[str, Any]
) -> None:
    """Refuse what could be meant for the job and for the function, and what neither of them knows."""
    from difflib import get_close_matches

    from hpcjobs.functions import name_of, own_parameters, strange_keywords

    name = name_of(function)
    advice = f"is an option of the job and a parameter of {name}; bind the function's with functools.partial"
    problems = [
        (option, f"{advice}({name}, {option}=...), then {option}= is the job's")
        for option in own_parameters(function, args, used)
    ]
    options = sorted({*JobSpec.model_fields, *Resources.model_fields, "key", "python", "progress"} - _NO_OPTIONS)
    for word in strange_keywords(function, kwargs):
        close = get_close_matches(word, options, 1)
        meant = f"; did you mean {close[0]}?" if close else f"; the options are {', '.join(options)}"
        problems.append((word, f"is neither a parameter of {name} nor an option of the job{meant}"))
    problems += [
        (option, f"goes with a task or an app; the arguments of {name} stand after it: submit({name}, 1, x=2)")
        for option in ("task", "app", "app_version", "args")
        if option in used and not problems
    ]
    if problems:
        raise InvalidSpec(problems)
