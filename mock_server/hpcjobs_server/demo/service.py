"""The demo's service: ``hpcjobs serve`` in a process of its own, started, looked at and stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from hpcjobs import Client
from hpcjobs.profiles import local_service
from hpcjobs_server.demo.claims import DemoError, claim
from hpcjobs_server.demo.place import end_all, processes_of, still_running
from hpcjobs_server.processes import pauses, tail

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_SAMPLE = re.compile(r"^(?P<name>\w+?_total)\{(?P<labels>.*)\} (?P<value>\S+)")


class DemoService:
    """A running ``hpcjobs serve`` with a data folder and a port of its own.

    Args:
        folder: Its data folder.
        cores: How many cores its worker gives to jobs.
    """

    def __init__(self, folder: Path, *, cores: int) -> None:
        self.folder, self.cores = folder, cores
        self.url = ""
        self._token: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What ``hpcjobs serve`` itself said."""
        return self.folder / "demo-serve.log"

    @property
    def command(self) -> list[str]:
        """What is run, without the program."""
        return ["serve", "--port", "0", "--workers", "1", "--cores", str(self.cores), "--data", str(self.folder)]

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            DemoError: It ended, or did not answer in time; with the last lines of what it said.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith("HPCJOBS_")}
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C reaches the demo alone, which then stops the service in good order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpcjobs_server", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        for _ in pauses(START_SECONDS):
            if self._process.poll() is not None:
                code = self._process.returncode
                raise DemoError(f"the service ended with exit code {code}; it said:\n{self.said()}")
            if (found := local_service(self.folder)) is not None:
                self.url, self._token = found.url, found.token if isinstance(found.token, str) else None
                return
        raise DemoError(f"the service did not answer within {START_SECONDS:g} s; it said:\n{self.said()}")

    def said(self) -> str:
        """The last lines of what the service said, without its token."""
        return re.sub(r"token=\S+", "token=...", tail(self.log, lines=15)) or "(nothing)"

    def client(self) -> Client:
        """A client of it, exactly as anyone else would make one."""
        return Client(url=self.url, token=self._token)

    def cancel_requests(self) -> int:
        """How many requests to cancel the service has received so far, by its own count at ``/metrics``."""
        answer = httpx.get(f"{self.url}/metrics", timeout=10.0)
        answer.raise_for_status()
        samples = filter(None, map(_SAMPLE.match, answer.text.splitlines()))
        return int(sum(float(sample["value"]) for sample in samples if "/cancel" in sample["labels"]))

    def stop(self) -> int:
        """Stop it as Ctrl-C would, and make sure that nothing of it is left.

        Returns:
            How many processes there were.

        Raises:
            DemoError: It did not stop in time, complained, or left a process behind.
        """
        process = self._process
        if process is None:
            return 0
        were = processes_of(self.folder)
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the service did not stop within {STOP_SECONDS:g} s; it said:\n{self.said()}") from None
        claim(code == 0, f"the service stopped with exit code {code}; it said:\n{self.said()}")
        left: list[psutil.Process] = []
        for _ in pauses(3.0):  # what was told to go may take a moment
            left = still_running([*were, *processes_of(self.folder)])
            if not left:
                break
        claim(not left, f"processes are left: {', '.join(map(_described, left))}")
        self._process = None
        return len(were)

    def abandon(self) -> None:
        """End whatever there is of it, now; for the way out when something went wrong."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
            process.send_signal(signal.SIGINT)
            process.wait(1.0)
        with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
            process.send_signal(signal.SIGINT)  # the second one aborts the jobs
            process.wait(10.0)
        left = end_all(self.folder)
        claim(not left, f"processes are left: {', '.join(map(_described, left))}")
        self._process = None


def _described(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({' '.join(process.cmdline())[:100]})"
    return str(process.pid)
