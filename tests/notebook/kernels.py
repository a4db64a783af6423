"""Jupyter kernels of several versions, driven by their messages as a page would do it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.running import clean_environ

INSTALLED = "installed"
"""Stands for the version that is installed with the project: the newest one that it is tested with."""

VERSIONS = ("6.29.5", "6.31.*", "7.1.*", "7.3.*", INSTALLED)
"""The first and the last of each line that is supported, and those between which subshells changed."""

PATIENCE = 20.0
"""Seconds for any message; generous, because a busy machine is not a broken program."""


def install_versions(folder: Path) -> dict[str, Path | None]:
    """Put every version of ipykernel into a folder of its own, all at the same time; what it needs is there already.

    Returns:
        The folder of each version, which goes before everything else on a kernel's path; None for the installed one.
    """
    places = {version: None if version == INSTALLED else folder / version.strip(".*") for version in VERSIONS}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
    running = {
        version: subprocess.Popen(
            [*pip, str(place), f"ipykernel=={version}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for version, place in places.items()
        if place is not None
    }
    said = {version: process.communicate()[0] for version, process in running.items()}
    for version, process in running.items():
        assert process.returncode == 0, f"ipykernel {version} could not be installed:\n{said[version]}"
    return places


@dataclasses.dataclass
class Message:
    """A message from the kernel: its kind, the request that it belongs to, and what it says."""

    kind: str
    parent: str
    content: dict[str, Any]


class Kernel:
    """A running kernel, and what it has said so far.

    Attributes:
        said: All messages on its public channel and all replies, in the order in which they came.
    """

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.said: list[Message] = []
        self._manager = manager
        self._client = client

    # Requests; each returns its id.

    def begin(self, code: str) -> str:
        """Begin to run a cell."""
        return str(self._client.execute(code))

    def send(self, kind: str, content: dict[str, Any]) -> str:
        """Send a request of any kind on the shell channel."""
        message = self._client.session.msg(kind, content)
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def click(self, button: str) -> str:
        """Click a button, by the id of its comm."""
        return self.send("comm_msg", {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}})

    def interrupt(self) -> None:
        """What the stop button does."""
        self._manager.interrupt_kernel()

    # Answers

    def run(self, code: str) -> str:
        """Run a cell to its end; what it printed."""
        cell = self.begin(code)
        self.end_of(cell)
        return self.printed(cell)

    def recover(self) -> None:
        """Wait until cells are run again: after one that failed the kernel drops some."""
        end = time.monotonic() + PATIENCE
        while True:
            cell = self.begin("pass")
            reply = self.wait(lambda message: message.kind == "execute_reply" and message.parent == cell)  # noqa: B023
            if reply.content["status"] == "ok":
                return
            assert time.monotonic() < end, f"the kernel runs no cells\n{self.told()}"

    def end_of(self, cell: str, status: str = "ok") -> Message:
        """Wait for the end of a cell: its reply has come, and all that it said before."""
        reply = self.wait(lambda message: message.kind == "execute_reply" and message.parent == cell)
        said = "\n".join(reply.content.get("traceback", []))
        assert reply.content["status"] == status, f"the cell ended with {reply.content['status']}\n{said}"
        if status != "aborted":
            self.wait(lambda message: message.parent == cell and message.content.get("execution_state") == "idle")
        return reply

    def wait_printed(self, text: str, *, times: int = 1) -> None:
        """Wait until a text has been printed, so many times."""
        end = time.monotonic() + PATIENCE
        while sum(text in message.content["text"] for message in self.said if message.kind == "stream") < times:
            assert time.monotonic() < end, f"{text!r} was not printed\n{self.told()}"
            self._take()

    def printed(self, request: str) -> str:
        """What was printed so far on behalf of a request."""
        return "".join(
            message.content["text"] for message in self.said if message.kind == "stream" and message.parent == request
        )

    def wait(self, condition: Callable[[Message], bool]) -> Message:
        """The first message of which ``condition`` is true, also one that came before."""
        looked = 0
        end = time.monotonic() + PATIENCE
        while True:
            for message in self.said[looked:]:
                if condition(message):
                    return message
            looked = len(self.said)
            assert time.monotonic() < end, f"a message did not come\n{self.told()}"
            self._take()

    def place(self, condition: Callable[[Message], bool]) -> int:
        """Where among all that was said the first such message is."""
        return self.said.index(self.wait(condition))

    def told(self) -> str:
        """The last messages, for a failed test."""
        return "\n".join(f"{message.kind} {message.parent[-8:]} {message.content}"[:300] for message in self.said[-30:])

    def _take(self) -> None:
        """Take all that has come on both channels."""
        for get, first in ((self._client.get_iopub_msg, 0.02), (self._client.get_shell_msg, 0.0)):
            with contextlib.suppress(queue.Empty):
                patience = first
                while True:
                    message = get(timeout=patience)
                    self.said.append(
                        Message(message["msg_type"], message["parent_header"].get("msg_id", ""), message["content"])
                    )
                    patience = 0.0


@contextlib.contextmanager
def running_kernel(folder: Path, place: Path | None, environ: Mapping[str, str]) -> Iterator[Kernel]:
    """Start a kernel with a version of ipykernel that lies in ``place``, and end it."""
    name = "tested"
    (folder / name).mkdir(parents=True)
    argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": name, "language": "python"}
    (folder / name / "kernel.json").write_text(json.dumps(spec))
    mine = {**clean_environ(), **environ, "IPYTHONDIR": str(folder / "ipython")}
    mine.pop("PYTEST_CURRENT_TEST", None)  # the kernel must not take itself for a test
    if place is not None:
        mine["PYTHONPATH"] = str(place)
    manager = KernelManager(
        kernel_name=name,
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]),
        connection_file=str(folder / "connection.json"),
    )
    with (folder / "kernel.log").open("wb") as log:
        manager.start_kernel(env=mine, cwd=str(folder), stdout=log, stderr=log)
    client: BlockingKernelClient = manager.blocking_client()
    client.start_channels()
    try:
        try:
            client.wait_for_ready(timeout=PATIENCE)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{(folder / 'kernel.log').read_text()[-2000:]}") from error
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
