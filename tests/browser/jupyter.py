"""A real Jupyter server and a real browser: notebooks are opened, run, clicked at and looked at as a person does it.

JupyterLab and Notebook 7 are two front-ends of one server. Each notebook has a kernel whose environment is its own, so
that it finds the service of its test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import nbformat
from playwright.sync_api import Browser, BrowserContext, Locator, Page
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.running import clean_environ, until

FrontEnd = Literal["lab", "notebook"]

FRONT_ENDS: tuple[FrontEnd, ...] = ("lab", "notebook")
"""JupyterLab and Notebook 7, to parametrize over."""

PATIENCE = 30.0
"""Seconds for anything to appear in a page; generous, because a busy machine is not a broken program."""

PATHS: dict[FrontEnd, str] = {"lab": "/lab/tree/{name}", "notebook": "/notebooks/{name}"}

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

# What the page is asked; ``w`` is the open notebook.
WIDGET = "const w = window.jupyterapp && window.jupyterapp.shell.currentWidget;"
KERNEL = WIDGET + "const s = w && w.context && w.context.sessionContext; const k = s && s.session && s.session.kernel;"
OPEN = "() => {" + WIDGET + "return w && w.context && w.context.isReady && w.content.widgets.length > 0; }"
IDLE = "() => {" + KERNEL + "return k && k.connectionStatus === 'connected' && k.status === 'idle'; }"
SEEN = "() => {" + KERNEL + "return k && k.connectionStatus === 'connected' && ['idle', 'busy'].includes(k.status); }"
RUN = (
    "(i) => {" + WIDGET + "w.content.deselectAll(); w.content.activeCellIndex = i;"
    "window.jupyterapp.commands.execute('notebook:run-cell'); }"
)
ENDED = (
    "(i) => {" + WIDGET + "const c = w.content.widgets[i];"
    "return c.model.executionState ? c.model.executionState === 'idle' && c.model.executionCount !== null"
    " : c.model.executionCount !== null; }"
)
COUNT = "(i) => {" + WIDGET + "return w.content.widgets[i].model.executionCount; }"


class Jupyter:
    """A Jupyter server with a home of its own; see :func:`running_jupyter`.

    Attributes:
        url: Its address.
        token: What lets a browser in.
        folder: Where its notebooks are.
    """

    def __init__(self, root: Path, port: int, token: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.token = token
        self.folder = root / "notebooks"
        self._root = root

    def kernel(self, name: str, environ: Mapping[str, str], *, python: str = sys.executable) -> str:
        """Make a kind of kernel with variables of its own in its environment; its name."""
        folder = self._root / "data" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        argv = [python, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": name, "language": "python", "env": dict(environ)}
        (folder / "kernel.json").write_text(json.dumps(spec))
        return name

    def write(self, name: str, cells: Sequence[str], *, kernel: str = "python3") -> Path:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def read(self, name: str) -> Any:
        """The notebook as it was saved last."""
        return nbformat.read(self.folder / name, as_version=4)

    def end_kernels(self) -> None:
        """End every kernel and forget every session."""
        with self._http() as http:
            for session in http.get("/api/sessions").json():
                http.delete(f"/api/sessions/{session['id']}")
            for kernel in http.get("/api/kernels").json():
                http.delete(f"/api/kernels/{kernel['id']}")

    def up(self) -> bool:
        """Whether the server answers."""
        with contextlib.suppress(httpx.TransportError), self._http() as http:
            return http.get("/api/status").status_code == 200
        return False

    def log(self) -> str:
        """The end of the server's log; the kernels write into it as well."""
        return (self._root / "server.log").read_text(errors="replace")[-4000:]

    def _http(self) -> httpx.Client:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)


@contextlib.contextmanager
def running_jupyter(root: Path) -> Iterator[Jupyter]:
    """Start a Jupyter server in ``root``, and end it with its kernels; it uses no file of the developer's own."""
    jupyter = Jupyter(root, _free_port(), secrets.token_hex(16))
    jupyter.folder.mkdir(parents=True)
    news = root / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environ = clean_environ()
    environ.pop("PYTEST_CURRENT_TEST", None)  # a kernel must not take itself for a test
    environ.update(
        HOME=str(root),
        IPYTHONDIR=str(root / "ipython"),
        JUPYTER_CONFIG_DIR=str(root / "config"),
        JUPYTER_DATA_DIR=str(root / "data"),
        JUPYTER_RUNTIME_DIR=str(root / "runtime"),
        JUPYTERLAB_SETTINGS_DIR=str(root / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(root / "workspaces"),
        JUPYTER_PLATFORM_DIRS="1",
    )
    command = [
        sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ip=127.0.0.1",
        f"--port={jupyter.url.rpartition(':')[2]}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={jupyter.token}", f"--ServerApp.root_dir={jupyter.folder}",
        "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
        "--KernelManager.shutdown_wait_time=2",
    ]  # fmt: skip
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environ, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, f"Jupyter ended before it was ready\n{jupyter.log()}"
            return jupyter.up()

        until(ready, what="Jupyter's start")
        yield jupyter
        with contextlib.suppress(httpx.HTTPError):
            jupyter.end_kernels()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Notebook:
    """A notebook that is open in a page.

    Attributes:
        page: The page, for whatever is not here.
        name: The file's name.
    """

    def __init__(self, jupyter: Jupyter, browser: Browser, name: str, front_end: FrontEnd, **options: Any) -> None:
        self.name = name
        self._jupyter = jupyter
        self._path = PATHS[front_end].format(name=name)
        options.setdefault("viewport", {"width": 1200, "height": 900})
        self._context: BrowserContext = browser.new_context(**options)
        self._context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = self._context.new_page()
        self.page.on("dialog", lambda dialog: dialog.accept())
        self._start()

    def _start(self) -> None:
        """Open the page; once more where it has no idle kernel in time, which happens with pages, not with kernels."""
        for patience in (20, 60):
            self.page.goto(f"{self._jupyter.url}{self._path}?token={self._jupyter.token}&reset")
            with contextlib.suppress(PlaywrightTimeout):
                self.page.wait_for_function(OPEN, timeout=patience * 1000)
                self.page.wait_for_function(IDLE, timeout=patience * 1000)
                return
        raise AssertionError(f"the kernel of {self.name} did not become idle\n{self._jupyter.log()}")

    # Running

    def command(self, name: str, **args: Any) -> None:
        """Give a command of the front-end, as its menu would, and do not wait for its end."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, args])

    def run_all(self) -> None:
        """Begin to run all cells."""
        self.command("notebook:run-all-cells")

    def run(self, index: int, *, wait: bool = False) -> None:
        """Begin to run one cell; with ``wait``, return when it has ended."""
        self.page.evaluate(RUN, index)
        if wait:
            self.wait_ended(index)

    def restart_and_run_all(self) -> None:
        """Restart the kernel and begin to run all cells, from the menu, and say yes to what it asks."""
        self.command("notebook:restart-run-all")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    def interrupt(self) -> None:
        """Press the stop button."""
        self.command("notebook:interrupt-kernel")

    def wait_ended(self, index: int, *, timeout: float = PATIENCE) -> None:
        """Wait until a cell has been run to its end."""
        self._wait(ENDED, index, timeout=timeout, what=f"the end of cell {index}")

    def wait_idle(self, *, timeout: float = PATIENCE) -> None:
        """Wait until the kernel does nothing."""
        self._wait(IDLE, None, timeout=timeout, what="an idle kernel")

    def count(self, index: int) -> int | None:
        """The number in brackets beside a cell: None while it runs or has not run."""
        return self.page.evaluate(COUNT, index)  # type: ignore[no-any-return]

    # Looking and clicking

    def output(self, index: int) -> Locator:
        """The output area of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputArea")

    def text(self) -> str:
        """All that can be read in the notebook."""
        return self.page.locator(".jp-Notebook").first.inner_text()

    def wait_text(self, text: str | re.Pattern[str], *, index: int | None = None, timeout: float = PATIENCE) -> Locator:
        """Wait until a text, or what matches a pattern, can be seen in the notebook or in the output of one cell."""
        place = self.page.locator(".jp-Notebook .jp-OutputArea-output") if index is None else self.output(index)
        found = place.get_by_text(text).first
        try:
            found.wait_for(timeout=timeout * 1000)
        except PlaywrightTimeout:
            raise AssertionError(self._told(f"{text!r} was not seen within {timeout:g} s")) from None
        return found

    def button(self, name: str | re.Pattern[str], *, index: int | None = None) -> Locator:
        """The first button with this name (a part of it is enough), in the notebook or in the output of one cell."""
        place = self.page.locator(".jp-Notebook .jp-OutputArea-output") if index is None else self.output(index)
        return place.get_by_role("button", name=name).first

    def click(self, name: str | re.Pattern[str], *, index: int | None = None, timeout: float = PATIENCE) -> None:
        """Click a button once it is there and enabled."""
        try:
            self.button(name, index=index).click(timeout=timeout * 1000)
        except PlaywrightTimeout:
            raise AssertionError(self._told(f"the button {name!r} could not be clicked")) from None

    def screenshot(self, path: Path, *, index: int | None = None) -> Path:
        """Take a picture of the page, or of the output of one cell, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.page if index is None else self.output(index)).screenshot(path=path)
        return path

    def theme(self, name: Literal["light", "dark"]) -> None:
        """Choose the colours."""
        self.command("apputils:change-theme", theme=THEMES[name])
        self.page.wait_for_function(
            "(light) => document.body.dataset.jpThemeLight === light", arg="true" if name == "light" else "false"
        )
        # The front-end covers the page while it loads the colours.
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    # The file and the page

    def save(self) -> Any:
        """Save the notebook; what is in the file then."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return self._jupyter.read(self.name)

    def reload(self, *, save: bool = True) -> None:
        """Load the page anew, as after a closed laptop; return when the notebook is there and the kernel was heard.

        Args:
            save: Save first, as a person or the front-end does every so often: outputs are in the file alone.
        """
        if save:
            self.save()
        self.page.reload()
        self._wait(OPEN, None, timeout=60, what="the notebook after the reload")
        self._wait(SEEN, None, timeout=60, what="the kernel after the reload")

    def reopen(self) -> None:
        """Close the page and open the notebook in a fresh one, as after a day; return when it is there."""
        self.page.close()
        self.page = self._context.new_page()
        self.page.on("dialog", lambda dialog: dialog.accept())
        self._start()

    def close(self) -> None:
        """Close the page."""
        with contextlib.suppress(PlaywrightError):
            self._context.close()

    def _wait(self, question: str, arg: Any, *, timeout: float, what: str) -> None:
        try:
            self.page.wait_for_function(question, arg=arg, timeout=timeout * 1000)
        except PlaywrightTimeout:
            raise AssertionError(self._told(f"{what} was waited for in vain, for {timeout:g} s")) from None

    def _told(self, what: str) -> str:
        with contextlib.suppress(PlaywrightError):
            what += f"\n--- the notebook\n{self.text()}"
        return f"{what}\n--- the server\n{self._jupyter.log()}"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
