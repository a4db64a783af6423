"""A job page and a notebook's card of the same job say the same."""

from __future__ import annotations

import re

import psutil
from playwright.sync_api import expect

from hpcjobs import Client
from tests.browser.conftest import OpenNotebook
from tests.browser.job_page import OpenPage
from tests.running import until

CELLS = (
    """from hpcjobs import Client
client = Client()
job = client.submit("echo pid $$; exec sleep 600", name="shared")
job""",
)


def test_a_cancel_on_the_page_ends_the_process_and_the_card_says_so(
    open_notebook: OpenNotebook, open_page: OpenPage, shared_client: Client
) -> None:
    """Cancelled in the browser: the process is gone, the card agrees, and both show the reason."""
    notebook = open_notebook(CELLS)
    notebook.run(0, wait=True)
    notebook.wait_text("RUNNING", index=0)
    [job] = shared_client.jobs()
    process = psutil.Process(int(next(iter(job.logs(follow=True))).split()[1]))
    page = open_page().live()
    page.pick(job.id)
    page.press("Cancel…")
    page.page.get_by_label("Reason").fill("seen in the browser")
    page.press("Cancel 1 job")
    expect(page.state(job.id)).to_contain_text("CANCELLED")
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, what="the process's end")
    notebook.wait_text(re.compile("CANCELLED"), index=0)
    notebook.wait_text("seen in the browser", index=0)
