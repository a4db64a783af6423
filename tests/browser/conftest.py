"""Fixtures: one Jupyter server, a browser, and notebooks whose kernels find the service of the test.

    def test_something(open_notebook: OpenNotebook, shared_client: Client) -> None:
        notebook = open_notebook(["from hpcjobs import Client", "job = Client().submit('sleep 600'); job.wait()"])
        notebook.run_all()
        notebook.click("Cancel")

Tests are sync: Playwright's sync API holds the thread's event loop for as long as a browser is open, which is why the
browser is of a module and not of the session.
"""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.job_page import OpenPage, pages
from tests.browser.jupyter import PATIENCE, FrontEnd, Jupyter, Notebook, running_jupyter
from tests.running import Service

expect.set_options(timeout=PATIENCE * 1000)  # not five seconds

ELSEWHERE = "hpc.example"
"""A name that the browser takes for this machine, but not, as it does ``localhost``, for a place as safe as HTTPS."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
)

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


class OpenNotebook(Protocol):
    """Writes a notebook and opens it; see the fixture."""

    def __call__(
        self,
        cells: Sequence[str],
        *,
        front_end: FrontEnd = "lab",
        service: Service | None = None,
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> Notebook: ...


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory, long_lived: set[str]) -> Iterator[Jupyter]:
    """A running Jupyter server that serves JupyterLab and Notebook 7."""
    root = tmp_path_factory.mktemp("jupyter")
    long_lived.add(str(root))
    with running_jupyter(root) as jupyter:
        yield jupyter


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(jupyter: Jupyter, browser: Browser, shared_service: Service, token: str) -> Iterator[OpenNotebook]:
    """Opens notebooks, which are closed and whose kernels are ended after the test.

    ``open_notebook(cells, front_end="lab", service=None, environ=None, **options)``: the kernel's ``HPCJOBS_URL`` and
    ``HPCJOBS_TOKEN`` name ``service``, or else ``shared_service`` with the owner of this test; ``environ`` adds to its
    environment. The options are those of a browser context (``viewport``, ``color_scheme``, ``reduced_motion``).
    """
    opened: list[Notebook] = []
    numbers = itertools.count(1)

    def open_one(
        cells: Sequence[str],
        *,
        front_end: FrontEnd = "lab",
        service: Service | None = None,
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> Notebook:
        found = shared_service.environ(token) if service is None else service.environ()
        mine = {name: text for name, text in found.items() if name.startswith("HPCJOBS_")}
        name = f"test-{uuid.uuid4().hex[:8]}-{next(numbers)}"
        kernel = jupyter.kernel(name, {**mine, **(environ or {})})
        jupyter.write(f"{name}.ipynb", cells, kernel=kernel)
        notebook = Notebook(jupyter, browser, f"{name}.ipynb", front_end, **options)
        opened.append(notebook)
        return notebook

    yield open_one
    for notebook in opened:
        notebook.close()
    jupyter.end_kernels()


@pytest.fixture
def open_page(browser: Browser, shared_service: Service, token: str) -> Iterator[OpenPage]:
    """Opens the job page: see :mod:`tests.browser.job_page`."""
    with pages(browser, shared_service, token) as opens:
        yield opens
