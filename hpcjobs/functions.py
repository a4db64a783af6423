"""Packs Python functions so that they can run as jobs, and unpacks their results.

A call travels as a pickle that :mod:`cloudpickle` makes: a function of a script, of a notebook cell, a lambda or a
closure travels whole, one of an importable module by its name. :mod:`hpcjobs.inside` runs it within the job, after it
has compared the versions that stand beside the pickle.

To unpickle is to run code: a result can do whatever the job that wrote it could have done here.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     packed = pack(Path(folder), round, (2.5,), {})
    >>> packed.name, sorted(packed.files)
    ('round', ['.hpcjobs/call', '.hpcjobs/run.py'])
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import functools
import inspect
import io
import linecache
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Union

from hpcjobs import inside
from hpcjobs.errors import EnvironmentMismatch, InvalidSpec, RemoteError, ResultError
from hpcjobs.models import MAX_NAME, FunctionMark

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo

Python = Union[str, "os.PathLike[str]", "Sequence[str | os.PathLike[str]]", None]
"""The Python for a job: a path or a program's name, or a program with arguments that starts one."""

_THIS_PYTHON_OR_ANY = 'python=$1; [ -x "$python" ] || python=python3; exec "$python" "$2"'
"""The Python that packed, where the job finds it at the same path; else the first one on the job's path."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """A call that is ready to be sent.

    Attributes:
        name: The function's name, for people.
        command: What runs it in the job.
        files: The files that it needs there: name in the job's folder, path here.
        count: How many jobs an array of it has; None for a single call.
    """

    name: str
    command: list[str]
    files: Mapping[str, Path]
    count: int | None = None

    @property
    def mark(self) -> FunctionMark:
        """What says in a job's spec that it is a function."""
        return FunctionMark(name=self.name, result=inside.RESULT)


def pack(
    folder: Path, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, python: Python = None
) -> Packed:
    """Pack a call.

    Args:
        folder: Where the files are written; it is the caller's to remove.
        function: What is called.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        python: The Python that runs the job.

    Raises:
        InvalidSpec: The function cannot be called with these arguments, or something cannot be pickled.
    """
    name = name_of(function)
    _check_arguments(name, function, args, kwargs)
    recorder = _Recorder()
    data = recorder.dumps(name, function, args, kwargs)
    return _packed(folder, name, recorder, data, python)


def pack_map(
    folder: Path, function: Callable[..., Any], items: Iterable[Sequence[Any]], *, python: Python = None
) -> Packed:
    """Pack a call for each item; the jobs of an array share the files, and each takes the item of its index.

    Args:
        folder: Where the files are written; it is the caller's to remove.
        function: What is called.
        items: For each job, the arguments by position.
        python: The Python that runs the jobs.

    Raises:
        InvalidSpec: There are no items, the function cannot be called with one, or something cannot be pickled.
    """
    name = name_of(function)
    recorder = _Recorder()
    data = recorder.dumps(name, function, (), {})
    starts: list[int] = []
    packed = io.BytesIO()
    for number, item in enumerate(items):
        _check_arguments(f"item {number}: {name}", function, item, {})
        starts.append(packed.tell())
        packed.write(recorder.dumps(f"item {number}: {name}", None, item, {}))
    if not starts:
        raise InvalidSpec([("items", "there are none; give at least one")])
    with (folder / "items").open("wb") as file:
        inside.write_header(file, {"starts": starts})
        file.write(packed.getbuffer())
    single = _packed(folder, name, recorder, data, python, items=True)
    return dataclasses.replace(single, files={**single.files, inside.ITEMS: folder / "items"}, count=len(starts))


def _packed(
    folder: Path, name: str, recorder: _Recorder, data: bytes, python: Python, *, items: bool = False
) -> Packed:
    with (folder / "call").open("wb") as file:
        inside.write_header(file, {**recorder.header(), "function": name, "items": items})
        file.write(data)
    files = {inside.RUNNER: Path(inside.__file__), inside.CALL: folder / "call"}
    return Packed(name, _command(python), files)


def _command(python: Python) -> list[str]:
    if python is None:
        return ["/bin/sh", "-c", _THIS_PYTHON_OR_ANY, "python", sys.executable or "python3", inside.RUNNER]
    try:
        parts = [os.fspath(part) for part in ([python] if isinstance(python, (str, os.PathLike)) else python)]
    except TypeError:
        parts = []
    if not parts or not all(parts):
        raise InvalidSpec([("python", f'is {python!r}; give a path, or a list such as ["srun", "python3"]')])
    return [*parts, inside.RUNNER]


def name_of(function: Callable[..., Any]) -> str:
    """A function's name, for people.

    Example:
        >>> name_of(functools.partial(sorted, reverse=True))
        'sorted'
    """
    while isinstance(function, functools.partial):
        function = function.func
    name: Any = getattr(function, "__name__", None)
    return name[:MAX_NAME] if isinstance(name, str) and name else type(function).__name__


def own_parameters(function: Callable[..., Any], args: Sequence[Any], names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a function has as parameters of its own, which are not bound yet.

    Args:
        function: The function.
        args: Its arguments by position.
        names: Names that mean something else to whoever asks.
    """
    signature = _signature(function)
    if signature is None:
        return []
    try:
        bound = set(signature.bind_partial(*args).arguments)
    except TypeError:  # told better when all of the arguments are checked
        bound = set()
    while isinstance(function, functools.partial):
        bound |= set(function.keywords)
        function = function.func
    kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    own = {name for name, parameter in signature.parameters.items() if parameter.kind in kinds}
    return [name for name in names if name in own - bound]


def strange_keywords(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a function does not take as keywords, where it tells."""
    signature = _signature(function)
    if signature is None or any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values()):
        return []
    return [name for name in names if name not in signature.parameters]


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # many that are written in C do not tell
        return None


def _check_arguments(name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    signature = _signature(function)
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidSpec(
                [(name, f"cannot be called with these arguments: {error}; it is {name}{signature}")]
            ) from None


class _Recorder:
    """Pickles, and takes note of the modules that the pickles name."""

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.imported: set[str] = set()
        """Modules that functions import in their bodies: whether they get there cannot be known."""
        self.sources: dict[str, dict[int, str]] = {}

    def dumps(
        self, name: str, function: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bytes:
        """Pickle a call, or without a function only its arguments by position.

        Raises:
            InvalidSpec: Something cannot be pickled; says what.
        """
        value = tuple(args) if function is None else (function, tuple(args), dict(kwargs))
        file = io.BytesIO()
        try:
            _pickler(file, self).dump(value)
        except Exception as error:  # pickling runs the objects' own code
            culprits = ", ".join(_culprits(function, args, kwargs)) or "something in it"
            text = f"cannot be packed: {type(error).__name__}: {error}. The trouble is {culprits}"
            advice = "pass what can be pickled, such as a file's name and not the open file"
            raise InvalidSpec([(name, f"{text}; {advice}")]) from error
        return file.getvalue()

    def header(self) -> dict[str, Any]:
        """What must be known of this Python before the pickles are loaded by another."""
        packages: dict[str, tuple[str, str]] = {}
        modules: dict[str, str] = {}
        for top in _tops(self.named):
            found = _package(top)
            if found is not None:
                packages[top] = found
            else:
                module = sys.modules.get(top)
                path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), top)
                modules[top] = str(Path(path).parent if Path(path).name == "__init__.py" else path)
        return {
            "python": list(sys.version_info[:3]),
            "implementation": sys.implementation.name,
            "executable": sys.executable,
            "packages": packages,
            "modules": modules,
            "imported": {
                top: found for top in _tops(self.imported) if top not in packages and (found := _package(top))
            },
            "sources": self.sources,
        }

    def note_source(self, code: CodeType) -> None:
        """Take note of the lines of a function, for tracebacks in the job, and of what it imports."""
        self.imported.update(step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
        lines = linecache.getlines(code.co_filename)
        numbers = {number for _, _, number in code.co_lines() if number} | {code.co_firstlineno}
        kept = self.sources.setdefault(code.co_filename, {})
        kept.update({number: lines[number - 1] for number in numbers if number <= len(lines)})


def _tops(modules: Iterable[str]) -> list[str]:
    """The top-level modules of these that do not come with Python or with the call."""
    tops = {module.partition(".")[0] for module in modules} - {"", "__main__", "hpcjobs"}
    return sorted(tops - sys.stdlib_module_names)


def _culprits(function: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What cannot be pickled: arguments, and variables that the function takes from around it."""
    parts = {f"argument {number}": value for number, value in enumerate(args, 1)}
    parts.update({f"argument {name!r}": value for name, value in kwargs.items()})
    while isinstance(function, functools.partial):
        bound = (*function.args, *function.keywords.values())
        parts.update({f"the {type(value).__name__} that is bound to it": value for value in bound})
        function = function.func
    if inspect.isfunction(function):
        with contextlib.suppress(TypeError, ValueError):  # a variable that has no value yet
            around = inspect.getclosurevars(function)
            variables = {**around.globals, **around.nonlocals}
            parts.update({f"the variable {name!r}": value for name, value in variables.items()})
    return [label for label, value in parts.items() if not _can_be_pickled(value)]


def _can_be_pickled(value: object) -> bool:
    try:
        _pickler(io.BytesIO(), _Recorder()).dump(value)
    except Exception:  # noqa: BLE001 - whatever it is
        return False
    return True


def _pickler(file: BinaryIO, recorder: _Recorder) -> pickle.Pickler:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, CodeType):
                recorder.note_source(obj)
                make, parts = self.dispatch_table[CodeType](obj)[:2]
                # cloudpickle takes the file's name away, and with it the use of a traceback
                return make, tuple(obj.co_filename if part == "<dynamic-code>" else part for part in parts)
            reduced = super().reducer_override(obj)
            if isinstance(obj, ModuleType):
                recorder.named.add(obj.__name__)
            elif reduced is NotImplemented and isinstance(obj, (type, FunctionType, BuiltinFunctionType)):
                recorder.named.add(obj.__module__ or "builtins")  # by its name
            return reduced

    made: pickle.Pickler = Pickler(file)
    return made


def _package(top: str) -> tuple[str, str] | None:
    """The installed package that a top-level module belongs to, and its version."""
    from importlib import metadata

    for name in _candidates(top):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _candidates(top: str) -> Iterator[str]:
    yield top  # most often the package has the module's name, and to look through all of them is slow
    yield from _packages().get(top, ())


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    from importlib import metadata

    return metadata.packages_distributions()


# ---------------------------------------------------------------------------------------------------- results


def load(path: str | os.PathLike[str]) -> Any:
    """Load the result of a function from its file, which was downloaded.

    Unpickling runs code: load only what a job of your own has written.

    Args:
        path: The file ``result``, from ``job.download("folder", ".hpcjobs/result")``.

    Raises:
        ValueError: It is no such file, or has no result in it.
    """
    with Path(path).open("rb") as file:
        header = inside.read_header(file)
        if header.get("ended") != "returned":
            raise ValueError(f"{path} has no result: {header.get('error') or header.get('ended')}")
        return _decode(file, header, trusted=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a function: its value, or its error.

    It is made within an operation, and opened where none runs: an error of the user's must not be taken for one of the
    connection's.

    Attributes:
        value: What it returned.
        error: What it raised.
        cause: Where that was.
    """

    value: Any = None
    error: BaseException | None = None
    cause: RemoteError | None = None

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error from self.cause
        return self.value


def outcome_of(info: JobInfo, data: BinaryIO, *, trusted: bool) -> Outcome:
    """What became of a function, from the bytes of its result's file.

    Args:
        info: The job.
        data: The file.
        trusted: Whether it may be unpickled.

    Raises:
        EnvironmentMismatch: The function could not be run there.
        RemoteError: It raised an error that cannot be had here.
        ResultError: It returned, and its result cannot be had here.
    """
    try:
        header = inside.read_header(data)
    except ValueError as error:
        raise ResultError(info, f"cannot be read: {error}") from None
    ended = header.get("ended")
    if ended == "unfit":
        raise EnvironmentMismatch(info, header.get("problems") or ())
    if ended == "raised":
        return _raised(info, header, data, trusted=trusted)
    try:
        return Outcome(_decode(data, header, trusted=trusted))
    except Exception as error:
        theirs = ".".join(map(str, header.get("python") or ()))
        here = ".".join(map(str, sys.version_info[:3]))
        raise ResultError(
            info,
            f"cannot be loaded here: {type(error).__name__}: {error}. Python {theirs} wrote it, and this is {here}; "
            f'job.download("folder", {inside.RESULT!r}) fetches the file',
        ) from error


def _raised(info: JobInfo, header: Mapping[str, Any], data: BinaryIO, *, trusted: bool) -> Outcome:
    said = str(header.get("error"))
    remote = RemoteError(info, said + str(header.get("hint") or ""), str(header.get("traceback") or ""))
    error: object = None
    if header.get("encoding"):
        try:
            error = _decode(data, header, trusted=trusted)
        except Exception as broken:  # it is the error's own code that runs
            raise remote from broken
    if not isinstance(error, BaseException):
        raise remote
    return Outcome(error=error, cause=remote)


def _decode(file: BinaryIO, header: Mapping[str, Any], *, trusted: bool) -> Any:
    encoding = header.get("encoding")
    if encoding == "json":
        import json

        return json.load(file)
    if encoding == "pickle" and trusted:
        return pickle.load(file)  # noqa: S301 - the module's docstring says what that means
    raise ValueError(f"it is written as {encoding!r}, which is not expected of this job")
