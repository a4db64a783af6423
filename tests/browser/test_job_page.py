"""The list of jobs in a real browser: it is live, jobs are selected and acted on, and it says only what is so."""

from __future__ import annotations

import re
from collections.abc import Callable

import psutil
from playwright.sync_api import expect

from hpcjobs import Client
from hpcjobs.actions import CancelOrder
from tests.browser.job_page import OpenPage
from tests.running import Service, until

MINUTES = "echo begun; sleep 600"


def test_the_list_is_live(open_page: OpenPage, shared_client: Client) -> None:
    """A job that is submitted appears, and its state and progress change, without anything being pressed."""
    page = open_page().live()
    expect(page.page.get_by_text("There are no jobs yet")).to_be_visible()
    job = shared_client.submit("for i in 1 2 3 4; do echo $((i * 25))%; sleep 0.3; done; read x < gate", name="fit")
    expect(page.state(job.id)).to_contain_text(re.compile("QUEUED|RUNNING|FAILED"))
    expect(page.state(job.id)).to_contain_text("FAILED")  # there is no gate
    expect(page.row(job.id)).to_contain_text("exit code")
    page.pick(job.id)
    page.press("Retry…")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("Retry 1 job?")


def test_cancel_many_with_one_reason_and_see_each_outcome(open_page: OpenPage, shared_client: Client) -> None:
    """Of those that were selected each says what came of it, and CANCELLED is said when it is so."""
    ended = shared_client.submit("true", name="ended")
    ended.wait(progress=False)
    running = shared_client.submit(MINUTES, name="runs")
    stubborn = shared_client.submit(
        "trap '' TERM; echo begun; sleep 600 & wait; sleep 600", name="stubborn", grace="3s"
    )
    later = shared_client.submit("true", name="later", start_in="1h")
    for job in (running, stubborn):
        next(iter(job.logs(follow=True)))
    page = open_page().live()
    page.pick(running.id, stubborn.id, later.id, ended.id)
    expect(page.page.get_by_text("4 selected")).to_be_visible()
    page.press("Cancel…")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("Cancel 3 jobs?")
    expect(page.page.get_by_role("main")).to_contain_text("Left alone, because they have ended: 1 ✔ FINISHED.")
    page.page.get_by_label("Reason").fill("wrong mesh")
    page.press("Cancel 3 jobs")
    expect(page.page.get_by_role("heading", level=1)).to_contain_text("what came of it")
    expect(page.row(later.id)).to_contain_text("cancelled")
    expect(page.row(running.id)).to_contain_text("asked to stop")
    expect(page.row(stubborn.id)).to_contain_text("cancelling")  # and is, for as long as it goes on
    assert shared_client.job(stubborn.id).state == "RUNNING"
    for job in (running, stubborn, later):
        expect(page.state(job.id)).to_contain_text("CANCELLED", timeout=30_000)
        assert shared_client.job(job.id).info.cancel_reason == "wrong mesh"
    assert shared_client.job(ended.id).state == "FINISHED"


def test_a_cancel_from_a_jobs_page_ends_the_process(open_page: OpenPage, shared_client: Client) -> None:
    """The page of one job: the log follows, the reason is asked for, and the process goes."""
    job = shared_client.submit("echo pid $$; exec sleep 600", name="one")
    first = next(iter(job.logs(follow=True)))
    process = psutil.Process(int(first.split()[1]))
    page = open_page(f"jobs/{job.id}").live()
    expect(page.page.locator(".log").first).to_contain_text("pid")
    page.page.locator("details.ask summary", has_text="Cancel").click()
    page.page.get_by_label("Reason").fill("enough")
    page.press(re.compile("^Cancel"))
    expect(page.page.locator(".head .state")).to_contain_text("CANCELLED")
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, what="the process's end")
    expect(page.page.get_by_role("main")).to_contain_text("enough")


def test_a_log_follows_without_a_lost_or_doubled_line(open_page: OpenPage, shared_client: Client) -> None:
    """What was there when the page was loaded, and what came after, is what the job has printed."""
    job = shared_client.submit("for i in $(seq 1 60); do echo line $i é; sleep 0.05; done", name="talks")
    next(iter(job.logs(follow=True)))
    page = open_page(f"jobs/{job.id}")
    log = page.page.locator(".log").first
    expect(log).to_contain_text("line 60 ")
    shown = (log.text_content() or "").split("\n")
    assert [line for line in shown if line] == [f"line {i} é" for i in range(1, 61)]


def test_a_selection_survives_what_changes(open_page: OpenPage, shared_client: Client) -> None:
    """A box that was ticked stays ticked while the list is drawn anew around it."""
    one = shared_client.submit("sleep 600", name="one", start_in="1h")
    page = open_page().live()
    page.pick(one.id)
    other = shared_client.submit("true", name="other")
    expect(page.state(other.id)).to_contain_text("FINISHED")
    expect(page.page.locator(f"#pick-{one.id}")).to_be_checked()
    expect(page.page.locator(f"#pick-{other.id}")).not_to_be_checked()
    expect(page.page.get_by_text("1 selected")).to_be_visible()
    expect(page.page.get_by_role("button", name="Cancel…")).to_be_enabled()
    expect(page.page.get_by_label(re.compile("all 2 jobs of this list"))).not_to_be_checked()
    page.page.get_by_label("Select all jobs of this page").check()
    expect(page.page.get_by_text("2 selected")).to_be_visible()


def test_a_lost_connection_is_said_and_what_was_missed_is_caught_up(
    open_page: OpenPage, service_factory: Callable[..., Service]
) -> None:
    """While the service is away the page says since when; then it shows what is so now."""
    service = service_factory(cores=2)
    with service.client() as client:
        job = client.submit("true", name="early", start_in="1h")
        page = open_page(service=service).live()
        expect(page.state(job.id)).to_contain_text("PENDING")
        service.kill_api()
        expect(page.page.locator("#connection")).to_contain_text("connection lost at")
        expect(page.page.locator("body")).to_have_class(re.compile("stale"))
        service.ask_store(lambda store: store.cancel(None, _order(job.id), actor="other"))
        expect(page.state(job.id)).to_contain_text("PENDING")
        service.start_api()
        expect(page.state(job.id)).to_contain_text("CANCELLED")
        page.live()


def test_everything_can_be_done_without_a_script(open_page: OpenPage, shared_client: Client) -> None:
    """Reading, filtering and acting are links and forms."""
    keep = shared_client.submit("true", name="keep", start_in="1h", tags=["a"])
    drop = shared_client.submit("true", name="drop", start_in="1h", tags=["b"])
    page = open_page(java_script_enabled=False)
    expect(page.row(keep.id)).to_be_visible()
    page.row(drop.id).get_by_role("link", name="b", exact=True).click()
    expect(page.row(keep.id)).to_have_count(0)
    page.pick(drop.id)
    page.press("Cancel…")
    page.page.get_by_label("Reason").fill("not this one")
    page.press("Cancel 1 job")
    expect(page.state(drop.id)).to_contain_text("CANCELLED")
    page.open(f"jobs/{keep.id}")
    page.page.locator("details.ask summary", has_text="Cancel").click()
    page.press(re.compile("^Cancel"))
    expect(page.page.locator(".head .state")).to_contain_text("CANCELLED")


def test_everything_can_be_done_with_the_keyboard(open_page: OpenPage, shared_client: Client) -> None:
    """From the top of the page to a job that is cancelled, with Tab, Space and Enter."""
    job = shared_client.submit("true", name="keys", start_in="1h")
    page = open_page().live()
    keys = page.page.keyboard

    def go_to(selector: str) -> None:
        for _ in range(80):
            keys.press("Tab")
            if page.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    go_to(f"#pick-{job.id}")
    keys.press("Space")
    go_to("button[value=cancel]")
    keys.press("Enter")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("Cancel 1 job?")
    expect(page.page.get_by_label("Reason")).to_be_focused()
    keys.type("by hand")
    keys.press("Enter")
    expect(page.state(job.id)).to_contain_text("CANCELLED")


def test_all_of_a_list_on_every_page_are_meant_by_one_box(open_page: OpenPage, shared_client: Client) -> None:
    """And none that does not meet the conditions."""
    shared_client.submit_array("true", array=70, name="many", start_in="1h", tags=["many"])
    other = shared_client.submit("true", name="other", start_in="1h")
    page = open_page("?tag=many").live()
    page.page.get_by_label(re.compile("all 70 jobs")).check()
    page.press("Cancel…")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("Cancel 70 jobs?")
    page.press("Cancel 70 jobs")
    expect(page.page.get_by_role("main")).to_contain_text("70 cancelled")
    assert other.refresh().state == "PENDING"


def _order(job_id: str) -> CancelOrder:
    return CancelOrder(ids=[job_id])
