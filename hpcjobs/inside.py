"""Runs a packed function inside a job, and writes how it ended.

The client sends this very file along with the call and starts it there, so that both ends agree on what is in the files
whatever is installed with the job. It needs nothing but the standard library (Python 3.8 or newer), and says what is
wrong with the job's Python or packages before it loads anything of the user's.

Three files lie below ``.hpcjobs`` in the job's folder. Each begins with a line of JSON:

``call``
    what the function was packed with, to be compared with what is here; then the pickled function and its arguments.
``items``
    only for a map: where each item lies; then the items, each pickled by itself. The job takes the one that
    ``HPCJOBS_ARRAY_INDEX`` names.
``result``
    written at the end, whole or not at all: how the function ended; then its value, or its error, pickled.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # as in hpcjobs.runtime
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, BinaryIO

FORMAT = 1
"""Of the files; another one is refused by whoever reads them."""

FOLDER = ".hpcjobs"
RUNNER = FOLDER + "/run.py"
CALL = FOLDER + "/call"
ITEMS = FOLDER + "/items"
RESULT = FOLDER + "/result"

STOPPED = 143
"""The exit code of a function that was stopped by a signal, as a shell tells it."""

OWN_FILES = {__file__}
"""The files whose frames no traceback begins with: those that only lead to the function."""

_LONGEST = 64_000
"""Characters of a traceback that are kept."""


class Unfit(Exception):
    """The job cannot run the function.

    Attributes:
        problems: What is wrong and what to do, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Stopped(Exception):
    """A signal has stopped the function."""


def write_header(file: BinaryIO, fields: dict[str, Any]) -> None:
    """Write the line that a file begins with."""
    file.write(json.dumps({"format": FORMAT, **fields}).encode() + b"\n")


def read_header(file: BinaryIO) -> dict[str, Any]:
    """Read the line that a file begins with.

    Raises:
        ValueError: It is none, or of another format.
    """
    fields: Any = json.loads(file.readline())
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError("it was written by another version of hpcjobs")
    return fields


# ------------------------------------------------------------------------------------------ before the function


def compare(packed: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Compare what a call was packed with and what is here; imports nothing of the user's.

    Args:
        packed: The call's header.

    Returns:
        What makes it impossible to run the function, and what is only remarkable.
    """
    version = tuple(packed["python"])
    name = packed["implementation"]
    if version[:2] != tuple(sys.version_info[:2]) or name != sys.implementation.name:
        return [
            "the function was packed by {} {} ({}), and the job runs {} {} ({}); functions travel between equal minor "
            'versions only. Choose the Python of the job: submit(..., python="/path/to/python{}.{}")'.format(
                name,
                ".".join(map(str, version)),
                packed["executable"],
                sys.implementation.name,
                ".".join(map(str, sys.version_info[:3])),
                sys.executable,
                *version[:2],
            )
        ], []
    problems: list[str] = []
    remarks: list[str] = []
    for module, (package, wanted) in packed["packages"].items():
        found = _version(package)
        if found is None and not _importable(module):
            problems.append(
                f"{package} is not installed for {sys.executable}: install it there ({package}=={wanted} is what the "
                'function was packed with), or choose another Python: submit(..., python="/path/to/python")'
            )
        elif found is not None and found != wanted:
            remarks.append(f"{package} is {found} here; the function was packed with {wanted}")
    for module, (package, wanted) in packed["imported"].items():
        found = _version(package)
        if found is None and not _importable(module):
            remarks.append(
                f"{package} is not installed for {sys.executable}, and the function has an import of {module}: it "
                f"fails if it gets there ({package}=={wanted} is what there was where it was packed)"
            )
        elif found is not None and found != wanted:
            remarks.append(f"{package} is {found} here, and {wanted} where the function was packed")
    for module, file in packed["modules"].items():
        if not _importable(module):
            problems.append(_not_sent(module, file))
    return problems, remarks


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _not_sent(module: str, file: str) -> str:
    return (
        f"there is no module {module!r} here: it is {file}, which is no part of an installed package. Send it along: "
        f'submit(..., inputs=["{os.path.basename(file)}"]), for the job\'s folder is searched for modules; '
        f"or have it travel within the function: cloudpickle.register_pickle_by_value({module}) before the submit"
    )


def unpack(folder: str) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function and its arguments.

    Args:
        folder: The folder of the files.

    Raises:
        Unfit: They cannot be had, or not run, here.
    """
    import pickle

    with open(os.path.join(folder, "call"), "rb") as file:
        try:
            packed = read_header(file)
        except ValueError as error:
            raise Unfit([f"the call cannot be read: {error}"]) from None
        problems, remarks = compare(packed)
        for remark in remarks:
            sys.stderr.write(f"hpcjobs: {remark}\n")
        if problems:
            raise Unfit(problems)
        _show_sources(packed["sources"])
        try:
            function, args, kwargs = pickle.load(file)
            if packed.get("items"):
                args = (*args, *_item(os.path.join(folder, "items")))
        except Unfit:
            raise
        except Exception as error:
            raise Unfit([f"the call cannot be unpacked here: {_in_one_line(error)}{_hint(error)}"]) from error
    return function, args, kwargs


def _show_sources(sources: dict[str, dict[str, str]]) -> None:
    """Have tracebacks show lines of files that are not here."""
    import linecache

    for name, lines in sources.items():
        last = max(map(int, lines), default=0)
        text = [lines.get(str(number), "\n") for number in range(1, last + 1)]
        linecache.cache[name] = (sum(map(len, text)), None, text, name)


def _item(path: str) -> tuple[Any, ...]:
    """The arguments of the array's child that this job is."""
    import pickle

    word = os.environ.get("HPCJOBS_ARRAY_INDEX", "")
    with open(path, "rb") as file:
        starts = read_header(file)["starts"]
        if not word.isdigit() or int(word) >= len(starts):
            raise Unfit([f"HPCJOBS_ARRAY_INDEX is {word!r}, and there are the items 0 to {len(starts) - 1}"])
        file.seek(starts[int(word)], os.SEEK_CUR)
        item: tuple[Any, ...] = pickle.load(file)
        return item


# ------------------------------------------------------------------------------------------------- the function


def attend(work: Callable[[], Any]) -> Any:
    """Call ``work``; where it is a coroutine function, run it to its end, and cancel it on SIGTERM.

    Raises:
        Stopped: It was cancelled so, and let it happen.
    """
    value = work()
    from collections.abc import Coroutine

    if not isinstance(value, Coroutine):
        return value
    import asyncio

    asked: list[bool] = []
    try:
        return asyncio.run(_cancelled_on_sigterm(value, asked))
    except asyncio.CancelledError:
        if asked:
            raise Stopped from None
        raise


async def _cancelled_on_sigterm(coroutine: Coroutine[Any, Any, Any], asked: list[bool]) -> Any:
    import asyncio
    import signal

    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        asked.append(True)
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    return await coroutine


def finish(
    work: Callable[[], Any], path: str, dump: Callable[[Any, BinaryIO], None], *, encoding: str, errors: bool
) -> int:
    """Do the work and write how it ended.

    Args:
        work: What is to be done.
        path: The file for the result.
        dump: Writes a value.
        encoding: What it writes.
        errors: Whether it can write errors.

    Returns:
        The exit code for the process.
    """
    import asyncio

    fields = {"python": list(sys.version_info[:3]), "encoding": encoding}
    try:
        value = attend(work)
        try:
            _write(path, {**fields, "ended": "returned"}, value, dump)
        except Exception as error:
            kind = type(value).__name__
            raise TypeError(f"the result, a {kind}, cannot be sent: {_in_one_line(error)}") from error
    except Stopped:
        sys.stderr.write("CancelledError: the job was asked to stop\n")
        return STOPPED
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, getattr(sys.modules.get("hpcjobs.runtime"), "JobAborted", ())):
            raise  # its own hook tells the service
        said, trace = _in_one_line(error), _traceback(error)
        fields.update(ended="raised", error=said, traceback=trace[-_LONGEST:], hint=_hint(error))
        if not (errors and _written(path, fields, error, dump)):
            _write(path, {**fields, "encoding": None}, None, None)
        _flush(trace)
        announce(said)
        return 1
    return 0


def _written(path: str, fields: dict[str, Any], error: BaseException, dump: Callable[[Any, BinaryIO], None]) -> bool:
    """Write an error, if it can be read again: many can be pickled and not be made again."""
    import io
    import pickle

    try:
        copy = io.BytesIO()
        dump(error, copy)
        if type(pickle.loads(copy.getvalue())) is type(error):
            _write(path, fields, error, dump)
            return True
    except Exception:  # noqa: BLE001 - it is the error's own code that runs
        return False
    return False


def _write(path: str, fields: dict[str, Any], value: object, dump: Callable[[Any, BinaryIO], None] | None) -> None:
    """Write a file under another name and rename it: it is there as a whole, or not at all."""
    fresh = f"{path}.{os.getpid()}"
    try:
        with open(fresh, "wb") as file:
            write_header(file, fields)
            if dump is not None:
                dump(value, file)
        os.replace(fresh, path)
    except BaseException:
        if os.path.exists(fresh):
            os.remove(fresh)
        raise


def announce(error: str) -> None:
    """Tell the service the error that ends the job, where it can be told."""
    try:
        from hpcjobs import runtime
    except ImportError:
        return
    say = getattr(runtime, "_announce_error", None)
    if say is not None:
        say(error)


def _flush(text: str) -> None:
    sys.stdout.flush()  # so that the traceback stands at the end of the log
    sys.stderr.write(text)
    sys.stderr.flush()


def _in_one_line(error: BaseException) -> str:
    import traceback

    return " ".join("".join(traceback.format_exception_only(type(error), error)).split())


def _traceback(error: BaseException) -> str:
    """The traceback without the frames that only lead to the function."""
    import traceback

    trace = error.__traceback__
    between = os.sep + "asyncio" + os.sep
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in OWN_FILES or between in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _hint(error: BaseException) -> str:
    """What to do about an error that is most often one of the environment."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f". If {error.name} is a file of yours, send it along: submit(..., inputs=[...]); if it is a package, "
            f"install it for {sys.executable}, or choose another Python: submit(..., python=...)"
        )
    return ""


def _dump(value: object, file: BinaryIO) -> None:
    try:
        import cloudpickle as pickle
    except ImportError:  # then nothing came here that needs it
        import pickle
    pickle.dump(value, file)


def main(folder: str) -> int:
    """Run the call that lies in a folder; the exit code for the process."""
    sys.path[:0] = [os.path.dirname(folder)]
    result = os.path.join(folder, "result")
    if os.path.exists(result):  # of an earlier attempt in the same place
        os.remove(result)
    try:
        function, args, kwargs = unpack(folder)
    except Unfit as unfit:
        fields = {"ended": "unfit", "python": list(sys.version_info[:3]), "encoding": None, "problems": unfit.problems}
        _write(result, fields, None, None)
        _flush("".join(f"hpcjobs: {problem}\n" for problem in unfit.problems))
        announce(f"its environment cannot run the function: {unfit.problems[0]}")
        return 1
    return finish(lambda: function(*args, **kwargs), result, _dump, encoding="pickle", errors=True)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:  # a script's own folder
        del sys.path[0]
    sys.exit(main(here))
