"""Named tasks on a real service: listed, checked before they are accepted, run, and nothing else where that is set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcjobs import (
    AsyncClient,
    Client,
    InvalidRequest,
    InvalidSpec,
    JobCancelled,
    JobSpec,
    JobState,
    PermissionDenied,
    RemoteError,
)
from tests.running import Service, clean_environ

MODULE = '''
"""What the operator offers."""
import datetime, pathlib, time
from hpcjobs import runtime

def power(base: float, exponent: int = 2) -> float:
    """Raise a number to a power."""
    print("computing")
    runtime.progress(1, 1)
    return base**exponent

async def weekday(day: datetime.date) -> dict:
    return {"day": day, "weekday": day.strftime("%A")}

def fail(why: str):
    raise ValueError(why)

def wait():
    runtime.progress(1, 2, "ready")
    time.sleep(600)

def code():
    import operators_tasks
    return [operators_tasks.__file__, sorted(path.name for path in pathlib.Path().iterdir())]
'''


@pytest.fixture
def serve(tmp_path: Path, service_factory: Callable[..., Service]) -> Callable[..., Service]:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "operators_tasks.py").write_text(MODULE)

    def make(**settings: Any) -> Service:
        return service_factory(tasks=["operators_tasks"], tasks_path=[str(folder)], **settings)

    return make


def test_tasks_are_listed_called_by_name_and_give_json(serve: Callable[..., Service]) -> None:
    """They run as jobs: with a log, progress, a reason and a cancel."""
    with serve().client() as client:
        assert [task.name for task in client.tasks()] == ["code", "fail", "power", "wait", "weekday"]
        (power,) = [task for task in client.tasks() if task.name == "power"]
        assert power.doc == "Raise a number to a power."
        assert str(power) == "power(base, exponent=...)"
        job = client.submit(task="power", args={"base": 3}, name="nine", walltime="1m")
        assert job.result(60) == 9
        assert job.logs() == "computing\n"
        assert job.refresh().progress is not None
        assert client.submit(task="weekday", args={"day": "2026-05-01"}).result(60) == {
            "day": "2026-05-01",
            "weekday": "Friday",
        }
        failing = client.submit(task="fail", args={"why": "no data"})
        with pytest.raises(RemoteError, match="ValueError: no data"):
            failing.result(60)
        assert (failing.state, failing.reason) == (JobState.FAILED, "ValueError: no data")
        waiting = client.submit(task="wait")
        assert any(info.progress for info in waiting.watch())
        waiting.cancel(reason="enough", confirm=30)
        with pytest.raises(JobCancelled, match="enough"):
            waiting.result()
        assert client.submit("echo a command", name="n").result(60).state is JobState.FINISHED


def test_wrong_arguments_are_refused_before_the_job_is_accepted(serve: Callable[..., Service]) -> None:
    """Each is named with what is allowed, in one answer; so is a task that there is not."""
    with serve().client() as client:
        with pytest.raises(InvalidRequest) as caught:
            client.submit(task="power", args={"base": "many", "exp": 3})
        assert (caught.value.status, caught.value.code) == (422, "invalid")
        assert [error["field"] for error in caught.value.body["errors"]] == ["args.base", "args.exp"]
        assert "it has base, exponent" in str(caught.value)
        with pytest.raises(InvalidRequest, match="there is no task 'powr'; there is code, fail, power"):
            client.submit(task="powr")
        assert list(client.jobs()) == []


def test_a_service_without_tasks_says_so(shared_client: Client) -> None:
    assert shared_client.tasks() == []
    with pytest.raises(InvalidRequest, match="this service offers none"):
        shared_client.submit(task="power")


def test_a_service_for_tasks_only_runs_nobody_elses_code(serve: Callable[..., Service], tmp_path: Path) -> None:
    """Commands, functions and variables are refused; a file of the user's is not taken for the operator's module."""
    (tmp_path / "operators_tasks.py").write_text("def code(): return 'mine'")
    with serve(tasks_only=True).client() as client:
        assert client.info().tasks_only
        for work, word in (("true", "command"), (["true"], "command"), (lambda: 1, "function")):
            with pytest.raises(PermissionDenied, match=f"no {word} of yours; name one of its tasks: code, ") as caught:
                client.submit(work)
            assert caught.value.code == "tasks_only"
        with pytest.raises(InvalidRequest, match="env: cannot be set"):
            client.submit(task="code", env={"PYTHONPATH": "."})
        file, names = client.submit(task="code", inputs=[tmp_path / "operators_tasks.py"]).result(60)
        assert file == str(tmp_path / "operator" / "operators_tasks.py")
        assert "operators_tasks.py" in names


async def test_tasks_in_async_code(serve: Callable[..., Service]) -> None:
    service = serve()
    async with AsyncClient(url=service.url, token=service.token) as client:
        assert len(await client.tasks()) == 5
        job = await client.submit(task="power", args={"base": 2, "exponent": 3})
        assert await job.result(60) == 8


def test_the_command_finds_modules_where_it_is_started_and_refuses_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of the service is started, in one line."""
    (tmp_path / "good_tasks.py").write_text("def f(x: int): return x")
    (tmp_path / "bad_tasks.py").write_text("import there_is_no_such_module")

    def serve(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hpcjobs_server", "serve", "--data", str(tmp_path / "data"), *options],
            env={**clean_environ(), "PATH": os.environ["PATH"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    bad = serve("--tasks", "bad_tasks")
    assert bad.returncode == 2
    assert "the module bad_tasks cannot be imported: ModuleNotFoundError" in bad.stderr
    only = serve("--tasks-only")
    assert only.returncode == 2
    assert "--tasks-only needs --tasks" in only.stderr
    started = serve("--tasks", "good_tasks", "--port", "0", "--workers", "1", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("HPCJOBS_DATA", str(tmp_path / "data"))
        with Client(start=False) as client:
            assert client.submit(task="f", args={"x": 3}).result(60) == 3
    finally:
        assert serve("--stop", "--now").returncode == 0


def test_a_task_is_called_from_a_shell(serve: Callable[..., Service]) -> None:
    """Its arguments are words after the options; what is no JSON is text."""
    service = serve()

    def submit(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hpcjobs.cli", "submit", *words],
            env={**clean_environ(), "HPCJOBS_URL": service.url, "HPCJOBS_TOKEN": service.token},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = submit("--wait", "--task", "power", "base=3", "exponent=3")
    assert done.returncode == 0, done.stderr
    with service.client() as client:
        assert client.job(done.stdout.strip()).result() == 27
        other = submit("--task", "weekday", "--", "day=2026-05-01")
        assert client.job(other.stdout.strip()).result(60)["weekday"] == "Friday"
    wrong = submit("--task", "power", "base=many")
    assert wrong.returncode == 6
    assert "args.base" in wrong.stderr
    for words, why in (([], "the command is missing"), (["--task", "power", "--shell", "base=3"], "--shell")):
        done = submit(*words)
        assert (done.returncode, why in done.stderr) == (2, True), done.stderr


def test_no_other_way_leads_around_the_checks(serve: Callable[..., Service]) -> None:
    """Many at once, arrays and changes are checked as a single submit is."""
    with serve(tasks_only=True, workers=0).client() as client:
        for submit in (
            lambda: client.submit_many([{"task": "power", "args": {"base": 1}}, "true"]),
            lambda: client.submit_array("true", array=2),
            lambda: client.map(abs, [1]),
        ):
            with pytest.raises(PermissionDenied, match="named tasks only"):
                submit()
        with pytest.raises(InvalidRequest, match="there is no task"):
            client.submit_many([{"task": "power", "args": {"base": 1}}, {"task": "powr"}])
        assert list(client.jobs()) == []
        job = client.submit(task="power", args={"base": 1})
        for changes in ({"command": "true"}, {"task": "powr"}, {"args": {"base": "many"}}):
            with pytest.raises(InvalidSpec):
                job.update(changes)
            assert [str(result.outcome) for result in client.update_many([job], changes)] == ["INVALID"]
        assert str(job.update(task="fail", args={"why": "so"}).outcome) == "UPDATED"


def test_a_task_runs_in_an_array(serve: Callable[..., Service]) -> None:
    with serve().client() as client:
        array = client.submit_array(JobSpec(task="power", args={"base": 3}), array=2)
        assert list(array.results(60)) == [9, 9]
        sweep = client.submit_array(task="power", args={"exponent": 3}, over=[{"base": 2}, {"base": 3, "exponent": 1}])
        assert list(sweep.results(60)) == [8, 3]
        assert [job.info.item for job in sweep] == [{"base": 2}, {"base": 3, "exponent": 1}]


def test_the_items_of_an_array_are_checked_as_arguments_before_anything_is_accepted(
    serve: Callable[..., Service],
) -> None:
    """The item that is wrong is named, also by a change; nothing was submitted."""
    with serve().client() as client:
        with pytest.raises(InvalidRequest, match=r"over\.1\.args\.base"):
            client.submit_array(task="power", over=[{"base": 2}, {"base": "many"}, {}])
        with pytest.raises(InvalidRequest, match=r"over\.0\.args\.base"):
            client.submit_array(task="power", over=[1, 2])
        assert list(client.jobs()) == []
        (job,) = client.submit_array(task="power", over=[{"base": 2}], start_in="1h")
        with pytest.raises(InvalidSpec, match="exponent"):
            job.update(args={"exponent": "much"})
        assert str(job.update(args={"exponent": 5}).outcome) == "UPDATED"
        job.retry()
        assert job.result(60) == 32
