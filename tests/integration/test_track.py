"""``track``: what is handed out, what is shown meanwhile, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from hpcjobs import AsyncClient, Client, InvalidSpec, JobState, WaitTimeout, live, track
from tests.running import Service


def held(folder: Path) -> str:
    """A command that ends when a file appears."""
    return f"until [ -e {folder}/go ]; do sleep 0.02; done"


def release(folder: Path) -> None:
    (folder / "go").touch()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the displays of this test were told: every state that was shown, and each close."""
    told: list[Any] = []

    class Told:
        tick = 60.0

        def show(self, jobs: Any) -> None:
            told.append([info.state for info in jobs])

        def notice(self, text: str) -> None:
            told.append(text)

        def close(self, jobs: Any) -> None:
            told.append("closed")

    monkeypatch.setattr(live, "displays", [lambda jobs, session: Told()])
    return told


def test_every_change_of_a_job_is_handed_out_and_shown(shared_client: Client, shown: list[Any], tmp_path: Path) -> None:
    """Up to its end; what is handed out is shown by then, and the handle knows it."""
    job = shared_client.submit(held(tmp_path))
    states = []
    for info in track(job):
        states.append(info.state)
        assert job.info == info
        assert shown[-1] == [info.state]
        if info.state is JobState.RUNNING:
            release(tmp_path)
    assert states[-1] is JobState.FINISHED
    assert JobState.RUNNING in states
    assert shown.count("closed") == 1
    assert shown[-1] == "closed"


def test_jobs_are_handed_out_as_they_end_below_one_display(
    shared_client: Client, shown: list[Any], tmp_path: Path
) -> None:
    """Those that have ended come first; each is the caller's own handle."""
    quick = shared_client.submit("true")
    quick.wait()
    slow, late = shared_client.submit(held(tmp_path)), shared_client.submit("sleep 0.2")
    seen = []
    for job in track([slow, quick, late], 60):
        seen.append(job)
        assert job.done
        if job is late:
            release(tmp_path)
    assert [id(job) for job in seen] == [id(job) for job in (quick, late, slow)]
    assert all(len(one) == 3 for one in shown if one != "closed")
    assert shown.count("closed") == 1


def test_an_array_is_tracked_like_its_jobs(shared_client: Client, shown: list[Any]) -> None:
    array = shared_client.submit_array("exit {index}", array=3)
    ended = list(track(array))
    assert set(ended) == set(array)
    assert len(array.failed) == 2
    assert shown[-1] == "closed"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("leave", ["break", "error"])
def test_a_loop_that_is_left_early_closes_the_display_and_leaves_the_jobs(
    shared_client: Client, shown: list[Any], tmp_path: Path, leave: str, many: bool
) -> None:
    """At once: the display is not left as it was while the traceback is kept."""
    quick, job = shared_client.submit("true"), shared_client.submit(held(tmp_path))
    kept = None
    try:
        for _ in track([quick, job] if many else job):
            if leave == "error":
                _ = 1 // 0
            break
    except ZeroDivisionError as error:
        kept = error
    assert shown[-1] == "closed", kept
    assert not job.refresh().done
    release(tmp_path)
    assert job.wait(60).state is JobState.FINISHED


@pytest.mark.parametrize("many", [False, True])
async def test_async_handles_are_for_async_for(
    shared_service: Service, shown: list[Any], tmp_path: Path, many: bool
) -> None:
    """With the same display; who leaves early closes it with the iterator."""
    async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
        job = await client.submit(held(tmp_path), tags=["async"])
        quick = await client.submit("true")
        async for item in track([quick, job] if many else quick):
            last = item
            if many:
                release(tmp_path)
        assert last == job if many else last.state is JobState.FINISHED
        assert shown[-1] == "closed"
        shown.clear()
        iterator = track(quick)
        async for _ in iterator:
            break
        await iterator.aclose()  # type: ignore[attr-defined]
        assert shown[-1] == "closed"
        release(tmp_path)
        await job


async def test_no_jobs_are_no_steps() -> None:
    """For both kinds of loop, because nobody can tell which is meant."""
    assert list(track([])) == []
    assert [job async for job in track([])] == []  # type: ignore[var-annotated]


@pytest.mark.parametrize("wrong", [7, "abc", None, [1], ["abc"]])
def test_what_is_no_handle_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidSpec, match="give"):
        track(wrong)


@pytest.mark.parametrize("many", [False, True])
def test_a_timeout_ends_the_loop_and_not_the_job(
    shared_client: Client, shown: list[Any], tmp_path: Path, many: bool
) -> None:
    job = shared_client.submit(held(tmp_path))
    with pytest.raises(WaitTimeout):
        list(track([job] if many else job, 0.3))
    assert shown[-1] == "closed"
    release(tmp_path)
    assert job.wait(60).state is JobState.FINISHED


SCRIPT = """
import signal
import traceback
from hpcjobs import Client, track

def interrupt(number, frame):
    if any(each.filename.endswith("watching.py") for each in traceback.extract_stack(frame)):
        raise KeyboardInterrupt
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # it does not wait just now

signal.signal(signal.SIGINT, interrupt)
signal.signal(signal.SIGALRM, interrupt)
client = Client()
jobs = [client.submit("true", name=f"fit-{n}") for n in range(2)]
for job in track(jobs):
    print("ended", job.name)
for info in track(client.submit("echo 1", name="single")):
    pass
for info in track(client.submit("echo 1", name="quiet"), progress=False):
    pass
held = client.submit("sleep 600", name="held")
try:
    for info in track(held):
        print(info.state, flush=True)
except KeyboardInterrupt:
    print("interrupted")
held.cancel(confirm=30)
"""


def test_in_a_file_there_are_plain_lines_and_an_interrupt_says_how_to_come_back(service: Service) -> None:
    """A line per change, on stderr, without escape sequences; none with ``progress=False``."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**service.environ(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line == "RUNNING\n":
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        timer.cancel()
        process.kill()
    assert out == "interrupted\n"
    assert "\x1b" not in err
    for name in ("fit-0", "fit-1", "single"):
        assert re.search(rf"^✔ FINISHED  {name} ", err, re.MULTILINE), err
    assert "quiet" not in err
    assert re.search(r"^● RUNNING  held ", err, re.MULTILINE), err
    assert "hpcjobs: no longer waiting; job " in err
    assert process.returncode == 0


CELLS = (
    "from hpcjobs import AsyncClient, Client, track\nclient = Client()\njobs = [client.submit('true') for _ in range(3)]",
    "for job in track(jobs):\n    assert job.done",
    "for info in track(client.submit('sleep 600', name='long')):\n    break\ncancelled = client.cancel_many(name='long', confirm=30)",
    """aclient = AsyncClient()
job = await aclient.submit('sleep 600', name='later')
async for info in track(job):
    if info.state == "RUNNING":
        break
import asyncio
await asyncio.sleep(0.1)
done = await job.cancel(confirm=30)""",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_a_notebook_each_loop_has_one_view_that_stays_with_the_last_state(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of one job and of many, also where the loop was left."""
    monkeypatch.setenv("HPCJOBS_URL", service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", service.token)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    view = "application/vnd.jupyter.widget-view+json"
    views = [[output.data for output in cell.outputs if view in output.get("data", {})] for cell in notebook.cells]
    assert [len(found) for found in views] == [0, 1, 1, 1]
    assert views[1][0]["text/plain"].startswith("3 of 3 ended · 3 FINISHED")
    for found, name in ((views[2], "long"), (views[3], "later")):
        assert re.match(rf"⊘ CANCELLED  {name} ", found[0]["text/plain"])
