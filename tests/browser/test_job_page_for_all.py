"""The job page for everybody: whatever they see by, whatever they may, and whatever a job calls itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from hpcjobs import Client
from tests.browser.job_page import OpenPage
from tests.running import Service

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PHONE = {"width": 390, "height": 844}
WAYS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": PHONE},
}


def complaints(page: Page) -> str:
    """What axe-core finds, in words; its rules are those of WCAG 2.2 A and AA, and its good practices."""
    found = Axe().run(page)
    return "\n".join(
        f"{item['id']}: {item['help']}: " + json.dumps([node["html"][:200] for node in item["nodes"]][:4])
        for item in found.response["violations"]
    )


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How the page is seen."""
    return WAYS[request.param]


@pytest.fixture
def jobs(shared_client: Client) -> dict[str, str]:
    """Jobs in several states, by what they are."""
    client = shared_client
    failed = client.submit("echo no mesh; exit 3", name="fit", tags=["sweep", "a b"])
    fine = client.submit("echo 50%; seq 9 > out.csv", name="records", max_attempts=2)
    runs = client.submit("for i in $(seq 10); do echo $((i * 10))%; done; sleep 600", name="model", meta={"a": [1]})
    waits = client.submit("true", after=[runs], name="report")
    hostile = client.submit("printf '%s\\n' \"$WORDS\"; exit 1", name=HOSTILE, tags=[HOSTILE], env={"WORDS": HOSTILE})
    for job in (failed, fine, hostile):
        job.wait(progress=False)
    next(iter(runs.logs(follow=True)))
    client.cancel(client.submit("true", start_in="1h").id, reason=HOSTILE)
    return {"failed": failed.id, "fine": fine.id, "runs": runs.id, "waits": waits.id, "hostile": hostile.id}


def test_axe_finds_nothing_on_any_page(open_page: OpenPage, jobs: dict[str, str], way: dict[str, Any]) -> None:
    """In light, in dark and on a phone: names, contrast, order, focus."""
    opened = open_page(**way)
    page, found = opened.page, dict[str, str]()

    def look(name: str) -> None:
        if said := complaints(page):
            found[name] = said
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 1:
            found[f"{name}: width"] = f"the page is {wide} px wider than the window"

    opened.live()
    look("list")
    opened.open("?state=DONE")
    look("an address that cannot be used")
    opened.open("?name=nothing-like-it")
    look("an empty list")
    opened.open("queues")
    look("queues")
    opened.open("nowhere")
    look("a page that is not there")
    for name, job_id in jobs.items():
        opened.open(f"jobs/{job_id}")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        look(f"job: {name}")
    opened.open().pick(jobs["runs"], jobs["waits"], jobs["failed"])
    opened.press("Cancel…")
    look("confirm")
    opened.press("Cancel 2 jobs")
    look("outcome")
    opened.press("Log out")
    look("login")
    assert not found, "\n".join(f"{name}\n{said}" for name, said in found.items())


def test_axe_finds_nothing_on_what_an_operator_sees(
    open_page: OpenPage, shared_service: Service, jobs: dict[str, str], way: dict[str, Any]
) -> None:
    opened = open_page(token=shared_service.token, **way)
    assert not complaints(opened.page)
    opened.open(f"jobs/{jobs['runs']}")
    assert not complaints(opened.page)
    opened.open("queues")
    assert not complaints(opened.page)


def test_what_a_job_calls_itself_and_prints_is_text(open_page: OpenPage, jobs: dict[str, str]) -> None:
    """Names, tags, reasons and logs that are scripts are read, not run; also where the page's script shows them."""
    opened = open_page().live()
    for path in ("", f"jobs/{jobs['hostile']}"):
        opened.open(path).live()
        expect(opened.page.get_by_role("main")).to_contain_text("onerror=")
        assert opened.page.locator("main img, main script").count() == 0
        assert "owned" not in opened.page.title() or "<script>" in opened.page.title()
    expect(opened.page.locator(".log").first).to_contain_text(HOSTILE)


def test_who_may_only_look_sees_no_buttons(open_page: OpenPage, shared_service: Service, jobs: dict[str, str]) -> None:
    """A token that reads shows the same jobs, and nothing to press but what leads out."""
    [owner] = {info.owner for info in shared_service.ask_store(lambda store: store.get_many(None, list(jobs.values())))}
    opened = open_page(token=shared_service.make_token(owner or "", scope="read").token)
    for path in ("", f"jobs/{jobs['runs']}", "queues"):
        opened.open(path)
        words = {button.inner_text() for button in opened.page.get_by_role("button").all() if button.is_visible()}
        assert words <= {"Log out", "Show", "Copy"}
        assert opened.page.locator("input[type=checkbox], details.ask").count() == 0


def test_a_narrow_window_and_forced_colours_leave_everything_there(open_page: OpenPage, jobs: dict[str, str]) -> None:
    """As with letters of twice the size, and with the colours that the reader has set: no state loses its word."""
    opened = open_page(forced_colors="active", viewport={"width": 500, "height": 400})
    expect(opened.state(jobs["failed"])).to_contain_text("FAILED")
    expect(opened.state(jobs["failed"])).to_be_visible()
    wide = opened.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1
