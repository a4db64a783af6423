"""Named tasks: what a module offers, and which arguments fit."""

from __future__ import annotations

import datetime as dt
import enum
import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from hpcjobs import inside
from hpcjobs.errors import RemoteError
from hpcjobs.functions import outcome_of
from hpcjobs.models import JobInfo, JobSpec
from hpcjobs_server import task_process
from hpcjobs_server.tasks import Task, TaskError, Tasks


class Grid(BaseModel):
    nx: int
    ny: int = 1


class Kind(str, enum.Enum):
    FAST = "fast"


def fit(
    day: dt.date, order: Annotated[int, Field(ge=1)] = 2, *, grid: Grid | None = None, how: Literal["ls", "ml"] = "ls"
) -> Any:
    """Fit a model.

    A second paragraph.
    """
    return [type(day).__name__, order, grid and grid.nx, how]


def loose(first, json=1, **more):  # type: ignore[no-untyped-def]
    return first, json, more


def test_arguments_come_as_what_the_annotations_say() -> None:
    """JSON has no dates and no models; what was not given has the function's own default."""
    task = Task("fit", fit)
    assert task.call({"day": "2026-05-01"}) == ["date", 2, None, "ls"]
    assert task.call({"day": "2026-05-01", "order": 3, "grid": {"nx": 4}, "how": "ml"}) == ["date", 3, 4, "ml"]


def test_arguments_without_annotations_are_taken_as_they_are() -> None:
    """Also those that are named like a method of a model."""
    task = Task("loose", loose)
    assert task.check({"first": [1, {"a": None}], "json": 2, "anything": 3}) == []
    assert task.call({"first": 1, "json": 2, "anything": 3}) == (1, 2, {"anything": 3})


@pytest.mark.parametrize(
    ("args", "field", "words"),
    [
        ({}, "args.day", "is missing; fit(day, order=..., grid=..., how=...) needs it"),
        ({"day": "2026-05-01", "degree": 3}, "args.degree", "fit has no such argument; it has day, order, grid, how"),
        ({"day": "2026-05-01", "order": 0}, "args.order", "greater than or equal to 1"),
        ({"day": "yesterday"}, "args.day", "valid date"),
        ({"day": "2026-05-01", "grid": {"nx": "wide"}}, "args.grid.nx", "valid integer"),
        ({"day": "2026-05-01", "how": "mcmc"}, "args.how", "'ls' or 'ml'"),
    ],
)
def test_each_wrong_argument_is_named_with_what_is_allowed(args: dict[str, Any], field: str, words: str) -> None:
    ((found, problem),) = Task("fit", fit).check(args)
    assert found == field
    assert words in problem


def test_all_wrong_arguments_are_told_at_once() -> None:
    problems = Task("fit", fit).check({"order": "x", "degree": 1})
    assert [field for field, _ in problems] == ["args.day", "args.order", "args.degree"]


def test_a_task_tells_of_itself() -> None:
    info = Task("fit", fit).info()
    assert info.doc.startswith("Fit a model.")
    assert str(info) == "fit(day, order=..., grid=..., how=...)"
    assert info.parameters["properties"]["order"] == {"default": 2, "minimum": 1, "title": "Order", "type": "integer"}


def _positional(one: int, /) -> None: ...


def _many(*numbers: int) -> None: ...


def _lock(lock: threading.Event) -> None: ...


def _unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize("function", [_positional, _many, _lock, _unknown])
def test_a_function_that_cannot_be_called_by_name_with_json_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TaskError):
        Task("f", function)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    monkeypatch.setattr(sys, "path", [*sys.path])

    def make(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return make


MODULE = """
from os.path import join
def fit(x: int) -> int: return x
def _helper(): pass
class Model: pass
number = 3
"""


def test_a_module_offers_the_public_functions_that_it_defines(
    module: Callable[[str, str], str], tmp_path: Path
) -> None:
    """Not what it has imported, no classes, nothing with an underscore."""
    tasks = Tasks.load([module("offers", MODULE)], [str(tmp_path)])
    assert [task.name for task in tasks] == ["fit"]


def test_a_module_offers_what_all_names(module: Callable[[str, str], str], tmp_path: Path) -> None:
    tasks = Tasks.load([module("offers_all", MODULE + "__all__ = ['fit', '_helper']")], [str(tmp_path)])
    assert [task.name for task in tasks] == ["_helper", "fit"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("number = 3", "offers nothing"),
        ("__all__ = ['number']\nnumber = 3", "is no function"),
        ("raise OSError('no licence')", "OSError: no licence"),
        ("def fit(*x): pass", "arguments come by name"),
    ],
)
def test_a_module_that_cannot_be_offered_says_why(
    module: Callable[[str, str], str], tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        Tasks.load([module("broken", text)], [str(tmp_path)])


def test_two_tasks_of_one_name_are_refused(module: Callable[[str, str], str], tmp_path: Path) -> None:
    names = [module("one_of_two", MODULE), module("two_of_two", MODULE)]
    with pytest.raises(TaskError, match="one_of_two and two_of_two both have a task 'fit'"):
        Tasks.load(names, [str(tmp_path)])
    with pytest.raises(TaskError, match="there_is_none"):
        Tasks.load(["there_is_none"])


def test_a_task_that_there_is_not_is_named_with_those_that_there_are() -> None:
    ((field, problem),) = Tasks([Task("fit", fit)]).check(JobSpec(task="fti"))
    assert (field, problem) == ("task", "there is no task 'fti'; there is fit")
    assert "--tasks MODULE" in Tasks().check(JobSpec(task="fit"))[0][1]


def test_the_result_is_json_and_an_error_is_told(
    module: Callable[[str, str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has no JSON is an error that says so; a worker without the module says what to do."""
    text = (
        "import datetime\n"
        "async def day(n: int): return {'day': datetime.date(2026, 5, n)}\n"
        "def lock(): return object()\n"
    )
    order: dict[str, Any] = {
        "modules": [module("processed", text)],
        "path": [str(tmp_path)],
        "result": str(tmp_path / "r"),
    }

    def run(task: str, **args: Any) -> Any:
        import json

        (tmp_path / "order").write_text(json.dumps({**order, "task": task, "args": args}))
        task_process.main(str(tmp_path / "order"))
        data = io.BytesIO((tmp_path / "r").read_bytes())
        return outcome_of(JobInfo(id="7", state="FINISHED"), data, trusted=False).get()

    assert run("day", n=2) == {"day": "2026-05-02"}
    with pytest.raises(RemoteError, match="day is out of range") as caught:
        run("day", n=77)
    assert caught.value.traceback.splitlines()[1].endswith("in day")  # nothing of ours stands before it
    with pytest.raises(RemoteError, match="the result, a object, cannot be sent"):
        run("lock")
    with pytest.raises(RemoteError, match="this worker has no task 'other'"):
        run("other")
    assert "day is out of range" in capsys.readouterr().err
    assert inside.STOPPED == 143


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give a command, a task or an app"),
        ({"command": "true", "task": "fit"}, "both"),
        ({"command": "true", "args": {}}, "args goes with task="),
        ({"task": "fit", "function": {"name": "f", "result": "r"}}, "function goes with command="),
    ],
)
def test_a_spec_is_a_command_or_a_task(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        JobSpec.parse(fields)
