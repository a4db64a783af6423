"""Packing functions, and running what was packed as a job would: in a folder and a process of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import io
import json
import linecache
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pydantic
import pytest

from hpcjobs import functions, inside
from hpcjobs.errors import EnvironmentMismatch, InvalidSpec, RemoteError, ResultError
from hpcjobs.functions import Packed, pack, pack_map
from hpcjobs.models import JobInfo
from tests.running import until

INFO = JobInfo(id="7", state="FINISHED")


@pytest.fixture(autouse=True, scope="module")
def by_value() -> Iterator[None]:
    """The functions of this module travel whole, as those of a script do."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Picky(Exception):
    """Can be pickled, and not be made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def add(x: float, y: float = 1) -> float:
    return x + y


def divide(x: float, y: float) -> float:
    return x / y


async def doubled(x: float) -> float:
    await asyncio.sleep(0)
    return 2 * x


async def for_ever(mark: str, *, shielded: bool) -> str:
    Path(mark).touch()  # noqa: ASYNC240 - it tells the test
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if not shielded:
            raise
        await asyncio.sleep(0.01)
    return "saved"


def put_in_place(packed: Packed, folder: Path) -> Path:
    """What a service does with the inputs of a job."""
    for name, path in packed.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def start(packed: Packed, folder: Path, **env: str) -> subprocess.Popen[str]:
    place = put_in_place(packed, folder)
    environ = {"PATH": os.environ["PATH"], **env}
    return subprocess.Popen(packed.command, cwd=place, env=environ, stderr=subprocess.PIPE, text=True)


@dataclasses.dataclass
class Ran:
    code: int
    log: str
    data: bytes | None

    def get(self) -> Any:
        assert self.data is not None, self.log
        return functions.outcome_of(INFO, io.BytesIO(self.data), trusted=True).get()


def ended(process: subprocess.Popen[str], folder: Path) -> Ran:
    log = process.communicate(timeout=60)[1]
    file = folder / inside.RESULT
    return Ran(process.returncode, log, file.read_bytes() if file.exists() else None)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Packs a call and runs it."""

    def make(function: Callable[..., Any], *args: Any, python: Any = None, **kwargs: Any) -> Ran:
        return run_packed(
            pack(fresh(tmp_path, "packed"), function, args, kwargs, python=python), fresh(tmp_path, "job")
        )

    return make


def run_packed(packed: Packed, folder: Path, **env: str) -> Ran:
    return ended(start(packed, folder, **env), folder)


def fresh(folder: Path, name: str) -> Path:
    made = folder / f"{name}-{len(list(folder.iterdir()))}"
    made.mkdir()
    return made


def edit_header(packed: Packed, **changes: Any) -> None:
    """Change what the call says that it was packed with, and make the pickle useless."""
    file = packed.files[inside.CALL]
    header = json.loads(file.read_bytes().split(b"\n", 1)[0])
    file.write_bytes(json.dumps({**header, **changes}).encode() + b"\nthis is no pickle")


def test_functions_of_every_kind_return_their_value(run: Callable[..., Ran]) -> None:
    """Of a script, a lambda, a closure, a partial, a class, a method, a coroutine function, one that is built in."""
    base = 10
    assert run(add, 1, y=2).get() == 3
    assert run(lambda x: x + base, 1).get() == 11
    assert run(functools.partial(add, 1), 2).get() == 3
    assert run(Point(1, 2).__eq__, Point(1, 2)).get() is True
    assert run(doubled, 2).get() == 4
    assert run(round, 2.25, 1).get() == 2.2
    assert run(print).get() is None


def test_a_class_of_the_script_comes_back_as_itself(run: Callable[..., Ran]) -> None:
    """The result is an instance of the very class that was sent."""
    assert run(Point, 1, 2).get() == Point(1, 2)


def test_an_error_is_raised_as_itself_with_the_traceback_of_the_job(run: Callable[..., Ran]) -> None:
    """The cause has the lines of the function, though the job did not have its file, and none of the runner's."""
    ran = run(divide, 1, 0)
    assert ran.code == 1
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        ran.get()
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteError)
    assert cause.info is INFO
    assert "return x / y" in cause.traceback
    assert "run.py" not in cause.traceback
    assert cause.traceback in ran.log
    assert "hpcjobs logs 7" in str(cause)


def test_a_traceback_shows_the_lines_of_a_cell_that_no_file_has(run: Callable[..., Ran]) -> None:
    name, text = "<cell 7>", "# a comment\ndef broken():\n    raise KeyError('in a cell')\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    with pytest.raises(KeyError) as caught:
        run(names["broken"]).get()
    assert 'File "<cell 7>", line 3, in broken\n    raise KeyError(' in caught.value.__cause__.traceback  # type: ignore[union-attr]


def test_an_error_that_cannot_be_made_again_is_told(run: Callable[..., Ran]) -> None:
    def fail() -> None:
        raise Picky(1, 2)

    with pytest.raises(RemoteError, match="Picky: 1 and 2") as caught:
        run(fail).get()
    assert "raise Picky(1, 2)" in caught.value.traceback


def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so(run: Callable[..., Ran]) -> None:
    ran = run(lambda: (number for number in range(3)))
    assert ran.code == 1
    with pytest.raises(TypeError, match="the result, a generator, cannot be sent"):
        ran.get()


def test_a_module_that_is_missing_in_the_function_says_what_to_do(run: Callable[..., Ran]) -> None:
    def look() -> None:
        import there_is_no_such_module  # type: ignore[import-not-found] # noqa: F401

    with pytest.raises(ModuleNotFoundError) as caught:
        run(look).get()
    assert "inputs=[...]" in str(caught.value.__cause__)


def test_a_job_that_exits_by_itself_has_no_result(run: Callable[..., Ran]) -> None:
    """As with a script, the exit code is the job's."""
    ran = run(sys.exit, 3)
    assert (ran.code, ran.data) == (3, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"python": [3, 7, 1]}, "3.7.1"),
        ({"implementation": "pypy"}, "pypy"),
        ({"packages": {"nosuchmodule": ["no-such-package", "1.2"]}}, "no-such-package==1.2"),
        ({"modules": {"nosuchmodule": "/home/me/nosuchmodule.py"}}, 'inputs=["nosuchmodule.py"]'),
        ({"format": 99}, "another version of hpcjobs"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """The pickle is never looked at: here it is none."""
    packed = pack(tmp_path, add, (1,), {})
    edit_header(packed, **changes)
    ran = run_packed(packed, fresh(tmp_path, "job"))
    assert ran.code == 1
    with pytest.raises(EnvironmentMismatch) as caught:
        ran.get()
    assert words in str(caught.value)
    assert words in ran.log


def test_a_package_of_another_version_is_remarked_in_the_log(tmp_path: Path) -> None:
    """It may work, so it is tried; here the pickle is none, which is said after it."""
    packed = pack(tmp_path, add, (1,), {})
    edit_header(packed, packages={"cloudpickle": ["cloudpickle", "0.1"]})
    ran = run_packed(packed, fresh(tmp_path, "job"))
    assert f"cloudpickle is {cloudpickle.__version__} here; the function was packed with 0.1" in ran.log
    with pytest.raises(EnvironmentMismatch, match="cannot be unpacked here"):
        ran.get()


def test_a_package_that_a_body_imports_is_looked_for_before_anything_runs(tmp_path: Path) -> None:
    """Also one within a function within it; it is only said, for nobody knows whether the function gets there."""

    def far_away() -> int:
        def inner() -> None:

            import pydantic.fields  # noqa: F401

        return 3 if inner else 4

    packed = pack(tmp_path, far_away, (), {})
    with packed.files[inside.CALL].open("rb") as file:
        imported = inside.read_header(file)["imported"]
    assert imported == {"pydantic": ["pydantic", pydantic.VERSION]}
    assert "hpcjobs:" not in run_packed(packed, fresh(tmp_path, "same")).log
    edit_header(packed, imported={"no_such": ["no-such", "2.0"], "pydantic": ["pydantic", "0.1"]})
    ran = run_packed(packed, fresh(tmp_path, "other"))
    with pytest.raises(EnvironmentMismatch, match="cannot be unpacked here"):  # it went on until the pickle
        ran.get()
    assert f"no-such is not installed for {sys.executable}, and the function has an import of no_such" in ran.log
    assert f"pydantic is {pydantic.VERSION} here, and 0.1 where the function was packed" in ran.log


def test_a_bare_python_runs_what_needs_no_package(run: Callable[..., Ran]) -> None:
    """The standard library is enough for a function that is there by its name; else cloudpickle is asked for."""
    bare = [sys.executable, "-S"]
    assert run(round, 2.5, python=bare).get() == 2
    with pytest.raises(EnvironmentMismatch, match="cloudpickle is not installed"):
        run(lambda: 1, python=bare).get()


def test_a_module_beside_the_script_is_asked_for_and_found_among_the_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "beside_the_script", raising=False)
    import beside_the_script  # type: ignore[import-not-found]

    packed = pack(tmp_path, beside_the_script.triple, (2,), {})
    with pytest.raises(EnvironmentMismatch, match=r'inputs=\["beside_the_script.py"\]'):
        run_packed(packed, fresh(tmp_path, "job")).get()
    folder = fresh(tmp_path, "job")
    shutil.copy(tmp_path / "beside_the_script.py", folder)
    assert run_packed(packed, folder).get() == 6
    monkeypatch.delitem(sys.modules, "beside_the_script")


def test_the_python_that_packed_is_used_where_it_is_found_else_the_one_on_the_path(tmp_path: Path) -> None:
    packed = pack(tmp_path, lambda: sys.executable, (), {})
    assert run_packed(packed, fresh(tmp_path, "job")).get() == sys.executable
    moved = [part if part != sys.executable else "/nowhere/bin/python" for part in packed.command]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    elsewhere = dataclasses.replace(packed, command=moved)
    ran = run_packed(elsewhere, fresh(tmp_path, "job"), PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert ran.data is not None, ran.log


def test_each_job_of_an_array_takes_its_item(tmp_path: Path) -> None:
    """All of them have the same files."""
    packed = pack_map(tmp_path, add, [(1,), (2, 3), (Point(0, 0).x, 9)])
    assert packed.count == 3
    results = [run_packed(packed, fresh(tmp_path, "job"), HPCJOBS_ARRAY_INDEX=str(index)).get() for index in range(3)]
    assert results == [2, 5, 9]


@pytest.mark.parametrize("env", [{}, {"HPCJOBS_ARRAY_INDEX": "2"}, {"HPCJOBS_ARRAY_INDEX": "x"}])
def test_a_job_without_an_item_says_so(tmp_path: Path, env: dict[str, str]) -> None:
    packed = pack_map(tmp_path, add, [(1,), (2,)])
    with pytest.raises(EnvironmentMismatch, match="there are the items 0 to 1"):
        run_packed(packed, fresh(tmp_path, "job"), **env).get()


@pytest.mark.parametrize("shielded", [True, False])
def test_a_coroutine_is_cancelled_by_sigterm_and_may_finish_its_work(tmp_path: Path, shielded: bool) -> None:
    """What swallows the cancel has ended well; what lets it pass ends as by a signal, without a result."""
    mark = tmp_path / "runs"
    folder = tmp_path / "job"
    process = start(pack(tmp_path, for_ever, (str(mark),), {"shielded": shielded}), folder)
    until(mark.exists, what="the start of the coroutine")
    process.send_signal(signal.SIGTERM)
    ran = ended(process, folder)
    if shielded:
        assert (ran.code, ran.get()) == (0, "saved")
    else:
        assert (ran.code, ran.data) == (inside.STOPPED, None)


def test_a_result_of_an_earlier_attempt_is_not_taken_for_this_one(tmp_path: Path) -> None:
    packed = pack(tmp_path, sys.exit, (3,), {})
    folder = put_in_place(packed, fresh(tmp_path, "job"))
    (folder / inside.RESULT).write_bytes(b"old")
    assert run_packed(packed, folder).data is None


def test_the_same_call_is_packed_into_the_same_bytes(tmp_path: Path) -> None:
    """So that it is sent once, and a submission key means the same job in the next run of a script."""
    first, second = (pack(fresh(tmp_path, "packed"), add, (1,), {"y": 2}) for _ in range(2))
    assert first.files[inside.CALL].read_bytes() == second.files[inside.CALL].read_bytes()


def test_what_cannot_be_called_so_is_said_before_it_is_sent(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"missing a required argument: 'y'; it is divide\(x: "):
        pack(tmp_path, divide, (1,), {})
    with pytest.raises(InvalidSpec, match="unexpected keyword argument 'z'"):
        pack(tmp_path, add, (1,), {"z": 2})
    with pytest.raises(InvalidSpec, match="item 1: add: cannot be called"):
        pack_map(tmp_path, add, [(1,), ()])
    with pytest.raises(InvalidSpec, match="items: there are none"):
        pack_map(tmp_path, add, [])


def test_what_cannot_be_pickled_is_said_before_it_is_sent(tmp_path: Path) -> None:
    """With the name of what is in the way: an argument, or a variable that the function uses."""
    lock = threading.Lock()
    with pytest.raises(InvalidSpec, match=r"add: cannot be packed: TypeError: cannot pickle '_thread.lock' object"):
        pack(tmp_path, add, (lock,), {})
    for call, culprit in (
        ((add, (1, lock), {}), "argument 2"),
        ((add, (1,), {"y": lock}), "argument 'y'"),
        ((lambda: bool(lock.locked()), (), {}), "the variable 'lock'"),
        ((functools.partial(add, lock), (), {}), "bound to it"),
    ):
        with pytest.raises(InvalidSpec, match=f"The trouble is .*{culprit}"):
            pack(tmp_path, *call)
    with pytest.raises(InvalidSpec, match=r"item 1: add: cannot be packed: .*argument 1"):
        pack_map(tmp_path, add, [(1,), (lock,)])


@pytest.mark.parametrize("python", ["", [], [""], 3, [3]])
def test_a_python_that_is_none_is_refused(tmp_path: Path, python: Any) -> None:
    with pytest.raises(InvalidSpec, match="python: is"):
        pack(tmp_path, add, (1,), {}, python=python)


def test_parameters_that_are_named_like_an_option_are_found_unless_they_are_bound() -> None:
    def named(first: int, name: str = "", *, key: str = "", **more: int) -> None: ...

    names = ["name", "key", "cores"]
    assert functions.own_parameters(named, (1,), names) == ["name", "key"]
    assert functions.own_parameters(named, (1, "n"), names) == ["key"]
    assert functions.own_parameters(functools.partial(named, key="k", name="n"), (1,), names) == []
    assert functions.own_parameters(dict, (), names) == []


def test_keywords_that_a_function_does_not_take_are_found_where_it_tells() -> None:
    assert functions.strange_keywords(add, ["x", "z"]) == ["z"]
    assert functions.strange_keywords(dict, ["z"]) == []
    assert functions.strange_keywords(lambda **more: more, ["z"]) == []


def test_a_task_is_never_unpickled(run: Callable[..., Ran]) -> None:
    """Whatever the service says of the encoding."""
    data = run(add, 1).data
    assert data is not None
    with pytest.raises(ResultError, match="not expected"):
        functions.outcome_of(INFO, io.BytesIO(data), trusted=False)


def test_a_result_that_was_downloaded_is_loaded_from_its_file(tmp_path: Path, run: Callable[..., Ran]) -> None:
    for function, good in ((add, True), (divide, False)):
        data = run(function, 1, 0).data
        assert data is not None
        (tmp_path / "result").write_bytes(data)
        if good:
            assert functions.load(tmp_path / "result") == 1
        else:
            with pytest.raises(ValueError, match="ZeroDivisionError"):
                functions.load(tmp_path / "result")


def test_the_runner_is_understood_by_old_pythons() -> None:
    """Whoever has an old one is told so by it, and not by a syntax error."""
    import ast

    ast.parse(Path(inside.__file__).read_text(), feature_version=(3, 8))
