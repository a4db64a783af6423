"""A table of many jobs in JupyterLab: what a person sees and clicks, with a real service and real jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from playwright.sync_api import Locator, expect

from hpcjobs import JobState
from hpcjobs.notebook.table import PAGE
from tests.browser.conftest import OpenNotebook
from tests.browser.jupyter import Notebook
from tests.running import Service, until

if TYPE_CHECKING:
    from hpcjobs import Client

JOBS = 60


def names(notebook: Notebook, index: int) -> Locator:
    """The names of the jobs on the page that is seen: those of the boxes that select them."""
    return notebook.output(index).locator(".widget-checkbox")


def where(notebook: Notebook, text: str, *, index: int) -> None:
    """Wait until the table says which of its rows are seen."""
    notebook.wait_text(re.compile(f"^{re.escape(text)}$"), index=index)


def test_rows_are_found_turned_sorted_selected_and_cancelled(
    open_notebook: OpenNotebook, shared_client: Client
) -> None:
    """Cancelling those that are selected asks once, tells each outcome in its row, and leaves the others alone.

    It works while a cell waits for all of them, and the wait ends when the last one has ended.
    """
    notebook = open_notebook(
        [
            "from hpcjobs import Client; client = Client()",
            f"sweep = client.submit_array('exec sleep 600', array={JOBS}, name='sweep'); sweep",
            "infos = sweep.wait(); print(len(infos), 'have ended')",
        ]
    )
    notebook.run(0)
    notebook.run(1)
    output = notebook.output(1)
    where(notebook, f"1 to {PAGE} of {JOBS}", index=1)
    expect(names(notebook, 1)).to_have_count(PAGE)
    expect(names(notebook, 1).first).to_have_text("sweep[0]")
    expect(output.get_by_role("status").first).to_contain_text("2 RUNNING")

    notebook.click("Next", index=1)
    where(notebook, f"{PAGE + 1} to {2 * PAGE} of {JOBS}", index=1)
    expect(names(notebook, 1).first).to_have_text(f"sweep[{PAGE}]")
    output.get_by_label("Show").select_option("RUNNING")
    where(notebook, "1 to 2 of 2", index=1)
    running = [text.strip("\u200b") for text in names(notebook, 1).all_inner_texts()]
    output.get_by_label("Show").select_option("all")
    output.get_by_label("Sort").select_option("longest")
    rest = [f"sweep[{n}]" for n in range(JOBS) if f"sweep[{n}]" not in running]
    expect(names(notebook, 1)).to_have_text([re.compile(re.escape(name)) for name in [*running, *rest][:PAGE]])
    output.get_by_label("Sort").select_option("name")
    expect(names(notebook, 1)).to_have_text([re.compile(rf"sweep\[{n}\]") for n in range(PAGE)])

    notebook.run(2)
    notebook.button("Select all", index=2).wait_for()
    assert notebook.count(2) is None
    output.get_by_label("Filter").fill("SWEEP[5")
    where(notebook, "1 to 11 of 11", index=1)
    notebook.click("Select all 11", index=1)
    names(notebook, 1).get_by_text("sweep[5]").click()
    notebook.click("Cancel selected (10)", index=1)
    output.get_by_label("Reason").fill("fifty are enough")
    notebook.click("Yes, cancel 10 jobs", index=1)
    notebook.wait_text("10 cancelled", index=1)
    expect(output.get_by_text("CANCELLED", exact=False).and_(output.locator("b"))).to_have_count(10)
    expect(output.get_by_text("fifty are enough")).to_have_count(10)
    ended = list(shared_client.jobs(state=JobState.CANCELLED))
    assert {job.name for job in ended} == {f"sweep[{n}]" for n in range(50, 60)}
    assert {job.info.cancel_reason for job in ended} == {"fifty are enough"}

    output.get_by_label("Filter").fill("")
    where(notebook, f"1 to {PAGE} of {JOBS}", index=1)
    notebook.click("Select all 60", index=1)
    notebook.click("Cancel selected (50)", index=1)
    notebook.click("Yes, cancel 50 jobs", index=1)
    notebook.wait_text("60 have ended", index=2)
    expect(output.get_by_role("status").first).to_contain_text("60 of 60 ended · 60 CANCELLED")
    expect(notebook.output(2).get_by_role("status").first).to_contain_text("60 CANCELLED")
    notebook.wait_text("2 cancel requested", index=1)
    output.get_by_label("Filter").fill(running[0])
    where(notebook, "1 to 1 of 1", index=1)
    expect(output.get_by_text("CANCELLED").and_(output.locator("b"))).to_have_count(1)


def test_thousands_of_jobs_are_shown_and_only_a_page_of_them_has_widgets(
    open_notebook: OpenNotebook, service_factory: Callable[..., Service]
) -> None:
    """The cell ends before the jobs are fetched; any of them is found, and all of them are cancelled at one word."""
    service = service_factory(workers=0)
    with service.client() as client:
        client.submit_array("exit 0", array=5000, name="many")
        notebook = open_notebook(
            ["from hpcjobs import Client; client = Client()", "client.jobs(name='many[*')", "print(1 + 1)"],
            service=service,
        )
        notebook.run_all()
        output = notebook.output(1)
        where(notebook, f"1 to {PAGE} of 5,000", index=1)
        expect(output.get_by_role("checkbox")).to_have_count(PAGE)
        expect(output.get_by_role("status").first).to_contain_text("5000 QUEUED")
        output.get_by_label("Filter").fill("many[4321]")
        where(notebook, "1 to 1 of 1", index=1)
        expect(names(notebook, 1)).to_have_text(["many[4321]"])
        output.get_by_label("Filter").fill("")
        notebook.click("Select all 5,000", index=1)
        notebook.click("Cancel selected (5,000)", index=1)
        notebook.click("Yes, cancel 5,000 jobs", index=1)
        notebook.wait_text("5000 of 5000 ended", index=1)
        until(lambda: not list(client.jobs(state=JobState.QUEUED, limit=1)), what="the end of all jobs")
