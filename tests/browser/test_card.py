"""A job's card in JupyterLab and Notebook 7: what a person sees and clicks, with a real service and real jobs.

The service has two cores. Every test's jobs are its owner's, and are ended after it, so that none waits for another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.sync_api import Locator, expect

from hpcjobs import JobState
from tests.browser.conftest import OpenNotebook
from tests.browser.jupyter import FRONT_ENDS, FrontEnd, Jupyter, Notebook
from tests.running import until

if TYPE_CHECKING:
    from hpcjobs import Client, Job

WIDGET = "application/vnd.jupyter.widget-view+json"

BEGIN = """from hpcjobs import AsyncClient, Client
client = Client()
LONG = "echo $$; exec sleep 600"
def submit(name, command=LONG, **options):
    return client.submit(command, name=name, **options)
"""


@pytest.fixture(autouse=True)
def _jobs_are_ended(shared_client: Client) -> Iterator[None]:
    yield
    if left := [job for job in shared_client.jobs() if not job.info.terminal]:
        shared_client.cancel_many(left, reason="the test is over", confirm=60)


def job_called(client: Client, name: str) -> Job:
    """The newest job with this name, once there is one."""
    return until(lambda: next((job for job in client.jobs() if job.name == name), None), what=f"a job called {name}")


def process_of(client: Client, name: str) -> psutil.Process:
    """The process of the job with this name that runs, once it has told its number."""

    def look() -> psutil.Process | None:
        for job in client.jobs(state=JobState.RUNNING, name=name):
            if text := job.logs().strip():
                return psutil.Process(int(text.split()[0]))
        return None

    return until(look, what=f"the process of {name}")


def cancel(notebook: Notebook, name: str, reason: str, *, index: int | None = None) -> None:
    """Cancel a job as a person does: click, say why, confirm."""
    notebook.click(f"Cancel {name}", index=index)
    place = notebook.page.locator(".jp-Notebook") if index is None else notebook.output(index)
    place.get_by_label("Reason").and_(notebook.page.locator(":visible")).first.fill(reason)
    notebook.click(f"Yes, cancel {name}", index=index)


def see_cancelled(notebook: Notebook, client: Client, name: str, process: psutil.Process, *, index: int) -> None:
    """The process is gone, the service knows why, and the card says both."""
    until(lambda: not process.is_running(), what=f"the end of the process of {name}")
    job = job_called(client, name)
    until(lambda: job.refresh().state.terminal, what=f"the end of {name}")
    assert (job.state, job.info.cancel_reason) == (JobState.CANCELLED, f"no more {name}")
    expect(status(notebook, index)).to_contain_text("CANCELLED")
    notebook.wait_text(f"no more {name}", index=index)


def status(notebook: Notebook, index: int) -> Locator:
    """What a screen reader says of the state of a card's job."""
    return notebook.output(index).get_by_role("group").get_by_role("status").first


def test_cancel_ends_the_job_whatever_the_kernel_does(open_notebook: OpenNotebook, shared_client: Client) -> None:
    """While cells wait, blocking or with ``await``, while more of them are queued, idle, and once more after a restart.

    What is clicked may be the card of the cell that waits or of another one. The cells keep their order.
    """
    notebook = open_notebook(
        [
            BEGIN,
            "submit('beside')",
            "blocked = submit('blocked'); print('blocked:', blocked.wait().state)",
            "mine = AsyncClient(); awaited = await mine.submit(LONG, name='awaited')",
            "print('awaited:', (await awaited.wait()).state)",
            "last = await mine.submit('exit 0', name='last'); print('last:', (await last).state)",
            "submit('idle')",
        ]
    )
    for start in (notebook.run_all, notebook.restart_and_run_all):
        start()
        beside = process_of(shared_client, "beside")
        blocked = process_of(shared_client, "blocked")
        cancel(notebook, "beside", "no more beside", index=1)
        see_cancelled(notebook, shared_client, "beside", beside, index=1)
        assert notebook.count(2) is None, "the cell went on although its job runs"
        cancel(notebook, "blocked", "no more blocked", index=2)
        see_cancelled(notebook, shared_client, "blocked", blocked, index=2)
        notebook.wait_text("blocked: CANCELLED", index=2)
        awaited = process_of(shared_client, "awaited")
        assert notebook.count(4) is None
        cancel(notebook, "awaited", "no more awaited", index=4)
        see_cancelled(notebook, shared_client, "awaited", awaited, index=4)
        notebook.wait_text("awaited: CANCELLED", index=4)
        notebook.wait_text("last: FINISHED", index=5)
        idle = process_of(shared_client, "idle")
        notebook.wait_idle()
        cancel(notebook, "idle", "no more idle", index=6)
        see_cancelled(notebook, shared_client, "idle", idle, index=6)
        assert [notebook.count(index) for index in range(7)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_card_is_back_after_a_reload_and_an_interrupt_leaves_the_job(
    open_notebook: OpenNotebook, shared_client: Client, front_end: FrontEnd
) -> None:
    """A page that is loaded anew during a blocking wait has its cards, and their buttons work; the same after a stop."""
    notebook = open_notebook(
        [BEGIN, "first = submit('first'); first.wait()", "second = submit('second'); second.wait()"],
        front_end=front_end,
    )
    notebook.run(0)
    notebook.run(1)
    first = process_of(shared_client, "first")
    notebook.button("Cancel first", index=1).wait_for()
    notebook.reload()
    cancel(notebook, "first", "no more first", index=1)
    see_cancelled(notebook, shared_client, "first", first, index=1)
    notebook.wait_idle()

    notebook.run(2)
    second = process_of(shared_client, "second")
    notebook.button("Cancel second", index=2).wait_for()
    notebook.interrupt()
    notebook.wait_text("KeyboardInterrupt", index=2)
    notebook.wait_idle()
    assert second.is_running()
    assert not job_called(shared_client, "second").info.cancel_requested
    cancel(notebook, "second", "no more second", index=2)
    see_cancelled(notebook, shared_client, "second", second, index=2)


def test_a_card_says_cancelling_until_the_job_has_ended_and_two_cards_agree(
    open_notebook: OpenNotebook, shared_client: Client, tmp_path: Path
) -> None:
    """A job that is asked to stop may take its time, and may end well: what is shown is what the service says."""
    for name in ("obeys", "insists"):
        (tmp_path / name).mkdir()
    trap = "trap 'until [ -e {folder}/go ]; do sleep 0.05; done; exit {code}' TERM; echo up; sleep 600 & wait"
    obeys = trap.format(folder=tmp_path / "obeys", code=1)
    insists = trap.format(folder=tmp_path / "insists", code=0)
    notebook = open_notebook(
        [
            BEGIN,
            f"obeys = submit('obeys', {obeys!r}); obeys",
            f"insists = submit('insists', {insists!r}); insists",
            "obeys",
            "insists",
        ]
    )
    notebook.run_all()
    for index in (1, 2, 3, 4):
        notebook.wait_text("up", index=index)
    cancel(notebook, "obeys", "one", index=1)
    cancel(notebook, "insists", "two", index=2)
    for index in (1, 2, 3, 4):
        expect(status(notebook, index)).to_contain_text("cancelling")
        notebook.wait_text(f"it was asked to stop: {'one' if index % 2 else 'two'}", index=index)
        expect(status(notebook, index)).not_to_contain_text("CANCELLED")
    for name in ("obeys", "insists"):
        (tmp_path / name / "go").touch()
    for index, word in ((1, "CANCELLED"), (2, "FINISHED"), (3, "CANCELLED"), (4, "FINISHED")):
        expect(status(notebook, index)).to_contain_text(word)
        expect(notebook.button(f"{word}: nothing to cancel", index=index)).to_be_disabled()
        expect(notebook.output(index)).not_to_contain_text("cancelling")
    notebook.wait_text("it ended by itself before it could be stopped", index=2)


def test_a_saved_notebook_tells_of_its_jobs_without_a_kernel(
    open_notebook: OpenNotebook, jupyter: Jupyter, shared_client: Client
) -> None:
    """The card of a job that has ended becomes HTML; below one of a running job stands what was last seen, and when."""
    notebook = open_notebook(
        [
            "import hpcjobs.notebook.boards as b; b.KEEP = 1\n" + BEGIN,
            "submit('well', 'echo fine')",
            "badly = submit('badly', 'echo no such damping; exit 3'); badly.wait()",
            "submit('long')",
        ]
    )
    notebook.run_all()
    process_of(shared_client, "long")
    expect(status(notebook, 3)).to_contain_text("RUNNING")
    notebook.wait_text(re.compile(r"^seen .*: RUNNING"), index=3)
    for index in (1, 2):
        expect(notebook.output(index).get_by_role("button")).to_have_count(0)
    saved = notebook.save()
    assert [WIDGET in json.dumps(saved.cells[index].outputs) for index in (1, 2, 3)] == [False, False, True]
    jupyter.end_kernels()
    notebook.reopen()
    expect(status(notebook, 1)).to_contain_text("FINISHED")
    expect(status(notebook, 2)).to_contain_text("FAILED")
    notebook.wait_text("no such damping", index=2)
    notebook.wait_text(re.compile(r"^seen .*: RUNNING"), index=3)
    assert process_of(shared_client, "long").is_running()


def test_retry_is_followed_and_files_come_down(
    open_notebook: OpenNotebook, jupyter: Jupyter, shared_client: Client, tmp_path: Path
) -> None:
    """The card of a failed job goes on with its next attempt; its files can be listed, fetched and saved."""
    command = (
        f"echo attempt; [ -e {tmp_path}/again ] || exit 3; mkdir deep; printf 'a,b\\n1,2\\n' > 'deep/result ü.csv'"
    )
    notebook = open_notebook([BEGIN, f"job = submit('fit', {command!r}); job", "print(job.refresh().attempt)"])
    notebook.run_all()
    expect(status(notebook, 1)).to_contain_text("FAILED")
    notebook.wait_text("exit code 3", index=1)
    (tmp_path / "again").touch()
    notebook.click("Run fit again", index=1)
    expect(status(notebook, 1)).to_contain_text("FINISHED")
    notebook.wait_text("attempt 2", index=1)
    notebook.click("Files of fit", index=1)
    with notebook.page.expect_download() as begun:
        notebook.output(1).get_by_role("link", name="deep/result ü.csv").click()
    assert begun.value.suggested_filename == "result ü.csv"
    begun.value.save_as(tmp_path / "down.csv")
    assert (tmp_path / "down.csv").read_text() == "a,b\n1,2\n"
    notebook.click("Save files here", index=1)
    told = notebook.wait_text(re.compile("saved in"), index=1).inner_text()
    folder = jupyter.folder / f"fit-{job_called(shared_client, 'fit').id[:8]}"
    assert folder.name in told
    assert (folder / "deep/result ü.csv").read_text() == "a,b\n1,2\n"


def test_a_card_is_worked_by_keyboard_and_read_by_a_screen_reader(
    open_notebook: OpenNotebook, shared_client: Client
) -> None:
    """Tab and Enter alone cancel a job; state, progress, log and buttons have roles, and names that say which job."""
    command = "echo $$; echo 30% >&2; exec sleep 600"
    notebook = open_notebook([BEGIN, f"submit('spectrum', {command!r})"])
    notebook.run_all()
    process = process_of(shared_client, "spectrum")
    output, keys = notebook.output(1), notebook.page.keyboard
    expect(output.get_by_role("progressbar", name="progress of job spectrum")).to_be_visible()
    job = job_called(shared_client, "spectrum")
    expect(output).to_match_aria_snapshot(f"""
      - group "job spectrum {job.id}":
        - status: /RUNNING/
      - progressbar "progress of job spectrum {job.id}"
      - button "Cancel spectrum"
      - button "Files of spectrum"
    """)
    output.get_by_label("end of the log of job spectrum").focus()
    keys.press("Tab")
    expect(notebook.button("Cancel spectrum", index=1)).to_be_focused()
    keys.press("Enter")
    expect(output.get_by_label("Reason")).to_be_focused()
    keys.type("no more spectrum", delay=20)
    keys.press("Tab")
    expect(notebook.button("Yes, cancel spectrum", index=1)).to_be_focused()
    keys.press("Enter")
    see_cancelled(notebook, shared_client, "spectrum", process, index=1)


def test_what_comes_from_elsewhere_is_text(open_notebook: OpenNotebook, shared_client: Client) -> None:
    """Names, tags, reasons, logs and files' names do nothing in the page, whatever they say: alive, still or in rows."""
    evil = "<img src=x onerror=window.harmed=1>"
    command = f"echo '</pre><script>window.harmed=1</script>{evil}'; touch '{evil}'; exit 3"
    notebook = open_notebook(
        [
            BEGIN,
            f"job = submit({evil!r}, {command!r}, tags=[{evil!r}]); job",
            f"client.submit_array('exit 0', array=2, name={evil!r})",
            f"late = submit({evil!r}, start_in='1h'); late.cancel(reason={evil!r}); late",
            "import hpcjobs.notebook.boards as b; b.KEEP = 0; job",
        ]
    )
    for index in range(4):
        notebook.run(index, wait=True)
    for index in (1, 3):
        expect(status(notebook, index)).to_contain_text(re.compile("FAILED|CANCELLED"))
        notebook.wait_text(evil, index=index)
    notebook.wait_text("</pre><script>", index=1)
    notebook.wait_text("2 of 2 ended", index=2)
    notebook.click("Files of", index=1)
    notebook.output(1).get_by_role("link", name=evil).wait_for()
    notebook.run(4)
    notebook.wait_text("</pre><script>", index=4)
    expect(notebook.output(4).get_by_role("button")).to_have_count(0)
    assert notebook.page.locator(".jp-OutputArea-output").locator("img, script").count() == 0
    assert notebook.page.evaluate("() => window.harmed") is None
