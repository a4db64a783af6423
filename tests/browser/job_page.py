"""The job page in a real browser: log in, look, wait for what comes, and whatever the browser complains of."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, expect

from tests.running import Service


class JobPage:
    """A browser that has logged in to the job page of a service.

    Args:
        browser: The browser; the page has a context of its own in it.
        service: Whose page.
        token: With which it logs in.
        options: Those of a browser context (``viewport``, ``color_scheme``, ``java_script_enabled``).

    Attributes:
        complaints: What the browser has complained of: errors of scripts, and what the page's policy has refused.
    """

    def __init__(self, browser: Browser, service: Service, token: str, **options: Any) -> None:
        self.service, self.token = service, token
        self.complaints: list[str] = []
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)

    def log_in(self) -> JobPage:
        """Log in by the form, which needs no script."""
        self.page.goto(f"{self.service.url}/login")
        self.page.get_by_label("Token").fill(self.token)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", level=1)).to_contain_text("jobs", ignore_case=True)
        return self

    def open(self, path: str = "") -> JobPage:
        """Open an address within the page."""
        self.page.goto(f"{self.service.url}/{path}")
        return self

    def live(self) -> JobPage:
        """Wait until the page says that it is up to date."""
        expect(self.page.locator("#connection")).to_have_text("live")
        return self

    def row(self, job_id: str) -> Locator:
        """The line of a job in a list."""
        return self.page.locator(f"#job-{job_id}")

    def state(self, job_id: str) -> Locator:
        """The state of a job in a list."""
        return self.row(job_id).locator(".state")

    def pick(self, *job_ids: str) -> None:
        """Select jobs."""
        for job_id in job_ids:
            self.page.locator(f"#pick-{job_id}").check()

    def press(self, name: str | re.Pattern[str]) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name).click()

    def close(self) -> None:
        """Close it; a browser that complained of the page fails the test."""
        self.context.close()
        assert not self.complaints, self.complaints

    def _on_console(self, message: ConsoleMessage) -> None:
        # A connection that is lost, or an address that is refused, on purpose is told there, too.
        expected = ("ERR_", "status of 4", "htmx:sendError", "htmx:afterRequest")
        if message.type in {"error", "warning"} and not any(word in message.text for word in expected):
            self.complaints.append(message.text)

    def _on_error(self, error: Error) -> None:
        self.complaints.append(str(error))


OpenPage = Callable[..., JobPage]
"""``open_page(path="", token=..., service=..., **options)``: logs in and opens an address of the page."""


@contextlib.contextmanager
def pages(browser: Browser, service: Service, token: str) -> Iterator[OpenPage]:
    """Opens pages, and closes all of them at the end."""
    opened: list[JobPage] = []
    mine_service, mine_token = service, token

    def open_one(path: str = "", *, token: str = "", service: Service | None = None, **options: Any) -> JobPage:
        used = service or mine_service
        page = JobPage(browser, used, token or (mine_token if service is None else used.token), **options)
        opened.append(page)
        page.log_in()
        return page.open(path) if path else page

    yield open_one
    for page in opened:
        page.close()
