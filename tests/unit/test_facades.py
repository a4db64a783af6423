"""Each pair of facades has the same methods, parameters and docstrings, and both are seen by tools."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcjobs
from hpcjobs import AsyncClient, AsyncJob, AsyncJobArray, Client, Job, JobArray, client, handles, job_arrays

ROOT = Path(__file__).parents[2]

PAIRS = [(Client, AsyncClient), (Job, AsyncJob), (JobArray, AsyncJobArray)]

CLIENT_HAS_MORE = {
    # Said of the async client only.
    "Making one may take a moment where a local service has to be started; ``await connect_async()`` does it without",
    "blocking the event loop. It may be used from several event loops. Close it, or use it in an ``async with`` block.",
    "It may be used from several threads. Close it, or use it in a ``with`` block, where many clients come and go.",
}


def public(kind: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def sync_words(text: str | None) -> str:
    """The text with the async words taken out."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip() not in CLIENT_HAS_MORE]
    joined = "\n".join(line for line in lines if line)
    joined = joined.replace("await job\n", "await job.wait()\n")
    joined = re.sub(r"\b(await|async) ", "", joined)
    return re.sub(r"\bAsync(?=Client|Job\b|JobArray\b)", "", joined)


def annotations(function: Callable[..., Any]) -> dict[str, str]:
    return {
        name: re.sub(r"\bAsync(?=Job|Client)", "", str(parameter.annotation)) + f" = {parameter.default!r}"
        for name, parameter in inspect.signature(function).parameters.items()
    }


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_a_pair_has_the_same_methods(sync: type, twin: type) -> None:
    """What one has, the other has too; the same parameters in the same order, kinds, types and defaults."""
    assert public(sync).keys() == public(twin).keys()
    for name, function in public(sync).items():
        other = public(twin)[name]
        assert type(function) is type(other), name
        if inspect.isfunction(function):
            assert list(annotations(function).items()) == list(annotations(other).items()), name
            kinds = [
                [parameter.kind for parameter in inspect.signature(one).parameters.values()]
                for one in (function, other)
            ]
            assert kinds[0] == kinds[1], name
    assert annotations(sync.__init__) == annotations(twin.__init__)


@pytest.mark.parametrize(("sync", "twin"), [*PAIRS, (client.connect, client.connect_async)])
def test_a_pair_has_the_same_docstrings(sync: Any, twin: Any) -> None:
    """A sentence that was mended on one side is mended on the other."""
    assert sync.__doc__
    assert sync_words(sync.__doc__) == sync_words(twin.__doc__)
    if inspect.isclass(sync):
        for name, function in public(sync).items():
            assert inspect.getdoc(function), f"{name} has no docstring"
            assert sync_words(inspect.getdoc(function)) == sync_words(inspect.getdoc(public(twin)[name])), name
    else:
        assert annotations(sync) == annotations(twin)


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_a_pair_returns_the_same(sync: type, twin: type) -> None:
    """The async method returns what the sync one returns, once it is awaited or iterated over."""
    for name, function in public(sync).items():
        if not inspect.isfunction(function):
            continue
        mine, other = (str(inspect.signature(one).return_annotation) for one in (function, public(twin)[name]))
        other = re.sub(r"\bAsync(?=Job|Client|Iterator)", "", other).replace("Coroutine[Any, Any, str]", "str")
        other = other.replace("AsyncFile[", "IO[")
        assert mine == other, name


@pytest.mark.parametrize("module", [client, handles, job_arrays])
def test_facades_hold_no_logic(module: Any) -> None:
    """No method of a facade branches, loops or catches, but for the two forms of ``logs``."""
    tree = ast.parse(inspect.getsource(module))
    for cls in [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]:
        for method in [node for node in cls.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]:
            allowed = (ast.If,) if method.name == "logs" else ()
            logic = [
                node
                for node in ast.walk(method)
                if isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.BoolOp))
                and not isinstance(node, allowed)
            ]
            assert not logic, f"{cls.name}.{method.name}, line {logic[0].lineno}"
            assert len(method.body) <= 5, f"{cls.name}.{method.name} is long"


def test_every_parameter_and_error_is_described() -> None:
    """A docstring names each parameter."""
    for cls in (Client, Job):
        for name, function in public(cls).items():
            if not inspect.isfunction(function):
                continue
            text = inspect.getdoc(function) or ""
            for parameter in list(inspect.signature(function).parameters)[1:]:
                assert re.search(rf"^\s+\**{parameter}: ", text, re.MULTILINE), f"{cls.__name__}.{name}: {parameter}"


def test_the_public_names_are_sorted_and_can_be_had() -> None:
    """``__all__`` is the list of public names, each is there, and ``dir`` shows it."""
    assert hpcjobs.__all__ == sorted(hpcjobs.__all__, key=lambda name: (name.islower(), name))
    for name in hpcjobs.__all__:
        assert getattr(hpcjobs, name) is not None
        assert name in dir(hpcjobs)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = hpcjobs.nothing


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    """The names that are imported for type checkers are those that are found when they are used."""
    tree = ast.parse(Path(hpcjobs.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {*seen, "__version__"} == set(hpcjobs.__all__)
    for name, module in seen.items():
        assert getattr(hpcjobs, name) is getattr(sys.modules[str(module)], name)


def test_every_error_is_public() -> None:
    """Whatever can be raised can be caught by a name from the top."""
    from hpcjobs import errors

    kinds = {
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.HpcjobsError)
    }
    assert kinds <= set(hpcjobs.__all__)


def test_the_import_is_light() -> None:
    """``import hpcjobs`` and ``hpcjobs.runtime`` import nothing but the standard library, and little of that."""
    code = """
import sys
before = set(sys.modules)
import hpcjobs
assert len(set(sys.modules) - before) <= 4, set(sys.modules) - before
from hpcjobs import runtime
heavy = {"httpx", "pydantic", "tenacity", "typing_extensions", "asyncio", "rich", "hpcjobs.models"} & set(sys.modules)
assert not heavy, heavy
import hpcjobs.client
heavy = {"typer", "tomlkit", "IPython", "tenacity", "cloudpickle"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.parametrize("checker", [["mypy", "--strict"], ["pyright"]])
def test_type_checkers_know_every_result(checker: list[str]) -> None:
    """The types of the facades are exact: nothing is Any, wrong calls are rejected."""
    done = subprocess.run(
        [sys.executable, "-m", *checker, str(ROOT / "tests" / "typing" / "api.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_options_of_submit_are_those_that_type_checkers_know() -> None:
    """The overloads name the options once, beside the method that takes them."""
    taken = {
        name
        for name, parameter in inspect.signature(Client.submit).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert taken - {"task", "app", "app_version", "args", "python", "inputs", "key", "progress"} == set(
        client.JobOptions.__annotations__
    )
