"""A button that is in a page stays alive while a cell waits for a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.browser.conftest import OpenNotebook
from tests.browser.jupyter import FRONT_ENDS, FrontEnd, Notebook
from tests.running import until

if TYPE_CHECKING:
    from hpcjobs import Client

CELLS = (
    """import os
import ipywidgets
from hpcjobs import Client
client = Client()
job = client.submit("echo $$; exec sleep 600", name="long")
button = ipywidgets.Button(description="Stop it")
@button.on_click
def stop(_):
    job.cancel(reason="clicked")
button""",
    "info = job.wait(progress=False)\nprint('ended', info.state, info.reason)",
    "print('after', info.terminal)",
)


def process_of(client: Client) -> psutil.Process:
    """The process of the only job, once it runs."""

    def look() -> psutil.Process | None:
        for info in client.jobs():
            text = client.job(info.id).logs()
            if text.strip():
                return psutil.Process(int(text))
        return None

    return until(look, what="the job's process")


def see_the_end(notebook: Notebook, process: psutil.Process) -> None:
    notebook.wait_text("ended CANCELLED", index=1)
    until(lambda: not process.is_running(), what="the end of the job's process")
    notebook.wait_text("after True", index=2)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_click_during_a_wait_ends_the_job(
    open_notebook: OpenNotebook, shared_client: Client, front_end: FrontEnd
) -> None:
    """The callback of a plain button runs while ``job.wait()`` blocks: the job's process goes, the cells go on."""
    notebook = open_notebook(CELLS, front_end=front_end)
    notebook.run_all()
    process = process_of(shared_client)
    assert notebook.count(1) is None
    notebook.click("Stop it")
    see_the_end(notebook, process)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_page_that_is_loaded_anew_during_a_wait_has_its_button_back(
    open_notebook: OpenNotebook, shared_client: Client, front_end: FrontEnd
) -> None:
    """The kernel answers a new page although a cell waits: the button is drawn, and a click ends the job."""
    notebook = open_notebook(CELLS, front_end=front_end)
    notebook.run_all()
    process = process_of(shared_client)
    notebook.button("Stop it").wait_for()
    notebook.reload()
    notebook.click("Stop it")
    until(lambda: not process.is_running(), what="the end of the job's process")
    notebook.wait_idle()
