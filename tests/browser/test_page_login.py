"""The way into the job page in a real browser: the address that lets in once, and links from elsewhere."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, expect

from hpcjobs import Client
from tests.browser.conftest import ELSEWHERE
from tests.browser.job_page import OpenPage
from tests.running import Service


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another site, whose page has one link: ``URL/QUOTED-ADDRESS``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<a href='{unquote(self.path[1:])}'>see</a>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_one_time_address_opens_the_page_at_once(
    browser: Browser, shared_client: Client, shared_service: Service
) -> None:
    """Nothing is to be pressed; the second browser is told that it has been used."""
    address = shared_client.run(shared_client.service.job_page())
    first, second = browser.new_context(), browser.new_context()
    page = first.new_page()
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_have_text("My jobs")
    assert "key=" not in page.url
    late = second.new_page()
    late.goto(address)
    expect(late.get_by_role("alert")).to_contain_text("let somebody in already")
    first.close()
    second.close()


def test_a_one_time_address_works_without_a_script(browser: Browser, shared_client: Client) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shared_client.run(shared_client.service.job_page()))
    page.get_by_role("button", name="Open the job page").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("My jobs")
    context.close()


def test_a_link_from_elsewhere_finds_who_is_logged_in(
    open_page: OpenPage, shared_client: Client, shared_service: Service, elsewhere: str
) -> None:
    """As from a mail or a chat, where the browser keeps the session back: the job is shown, and no login."""
    job = shared_client.submit("true", name="linked", start_in="1h")
    opened = open_page()
    opened.page.goto(f"{elsewhere}/{quote(f'{shared_service.url}/jobs/{job.id}', safe='')}")
    opened.page.get_by_role("link", name="see").click()
    expect(opened.page.get_by_role("heading", level=1)).to_have_text("linked")


def test_a_link_from_elsewhere_leads_who_is_not_logged_in_to_the_login_and_back(
    browser: Browser, shared_client: Client, shared_service: Service, token: str, elsewhere: str
) -> None:
    job = shared_client.submit("true", name="linked", start_in="1h")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{elsewhere}/{quote(f'{shared_service.url}/jobs/{job.id}', safe='')}")
    page.get_by_role("link", name="see").click()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("linked")
    context.close()


def test_also_a_host_without_tls_lets_in_and_is_acted_on(
    browser: Browser, shared_client: Client, shared_service: Service, token: str
) -> None:
    """There a browser says less of where a form comes from; and a list with filters is found again after the login."""
    job = shared_client.submit("true", name="far", start_in="1h")
    context = browser.new_context()
    page = context.new_page()
    page.goto(shared_service.url.replace("127.0.0.1", ELSEWHERE) + "/?name=far")
    assert not page.evaluate("isSecureContext")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="far").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("far")
    page.locator("#ask-cancel summary").click()
    page.locator("#ask-cancel button").click()
    expect(page).to_have_title("CANCELLED · far · hpcjobs")
    assert job.refresh().state == "CANCELLED"
    context.close()


def test_two_services_on_one_host_do_not_log_each_other_out(
    browser: Browser, shared_service: Service, service: Service, token: str
) -> None:
    """Cookies know no ports; the page's have the port in their name."""
    context = browser.new_context()
    page = context.new_page()
    for one, with_token in ((shared_service, token), (service, service.token)):
        page.goto(f"{one.url}/login")
        page.get_by_label("Token").fill(with_token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("jobs")
    page.goto(shared_service.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("My jobs")
    context.close()
