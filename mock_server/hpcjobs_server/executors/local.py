"""Runs jobs as processes of this host, each in a session and a folder of its own under a shim."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from hpcjobs.models import Progress
from hpcjobs_server.apps import Apps
from hpcjobs_server.executors.base import Ended, Move
from hpcjobs_server.executors.places import Place, job_environment, own_environment
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Claim


class Launcher:
    """The process that forks a shim for each job; started again when it is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def launch(self) -> tuple[int, int]:
        """Fork a shim; returns the pipe to it and the pipe from it."""
        control_read, control = os.pipe()
        status, status_write = os.pipe()
        try:
            for again in (True, False):
                try:
                    socket.send_fds(self._connection(), [b"+"], [control_read, status_write])
                    break
                except OSError:
                    self.close()
                    if not again:
                        raise
        except BaseException:
            os.close(control)
            os.close(status)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        os.set_blocking(control, False)
        os.set_blocking(status, False)
        return control, status

    def _connection(self) -> socket.socket:
        if self._socket is None or self._process is None or self._process.poll() is not None:
            self.close()
            self._socket, theirs = socket.socketpair()
            with theirs:
                script = Path(__file__).with_name("shim.py")
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(script), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={},
                    start_new_session=True,
                )
        return self._socket

    def close(self) -> None:
        """End the launcher; shims that run go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process = None


class LocalExecution:
    """One attempt under its shim."""

    def __init__(
        self, claim: Claim, settings: Settings, launcher: Launcher, runtime_path: Path, silence: float, *, apps: Apps
    ) -> None:
        self.place = Place(claim, settings, apps)
        self.folder = self.place.folder
        self._launcher, self._runtime_path = launcher, runtime_path
        self._silence = silence
        self._control: int | None = None
        self._status: int | None = None
        self._buffer = b""
        self._pid: int | None = None
        self._abort_wanted = False
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    @property
    def claim(self) -> Claim:
        """The attempt."""
        return self.place.claim

    async def prepare(self) -> None:
        """Make the attempt's folder and put the inputs into it."""
        self.place.resolve()
        await asyncio.to_thread(self.place.prepare)

    async def start(self) -> None:
        """Hand the job to a shim of its own."""
        env = job_environment(self.claim, self.folder, self._runtime_path, own_environment())
        config = self.place.order(env, silence=self._silence)
        control, status = self._launcher.launch()
        self._control, self._status = control, status
        asyncio.get_running_loop().add_reader(status, self._on_status)
        await self._send_all((json.dumps(config) + "\n").encode())
        if self._abort_wanted:
            self._send(b"abort\n")

    async def _send_all(self, data: bytes) -> None:
        """Send more than a pipe takes at once."""
        while data and self._control is not None:
            try:
                data = data[os.write(self._control, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except OSError:
                return  # the shim is gone, which its status pipe tells as well

    def _send(self, line: bytes) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                os.write(self._control, line)

    async def wait(self) -> Ended:
        """Wait until nothing of the attempt is left."""
        return await asyncio.shield(self._ended)

    def abort(self, *, gently: bool = False) -> None:
        """Have the shim end the job: SIGTERM, the grace time, SIGKILL."""
        del gently  # what is here has started
        self._abort_wanted = True
        self._send(b"abort\n")

    def kill(self) -> None:
        """Have the shim kill the job at once."""
        self.abort()
        self._send(b"kill\n")

    def leave(self) -> None:
        """End it: what is nobody's must not run on this host."""
        self.abort()

    def ping(self) -> None:
        """Tell the shim that the worker is alive."""
        self._send(b"ping\n")

    def progress(self) -> Progress | None:
        """How far the job is, if that is news since the last call."""
        return self.place.progress.look()

    def moved(self) -> Move | None:
        """Where it is, is known without asking."""
        return None

    def _on_status(self) -> None:
        assert self._status is not None
        try:
            data = os.read(self._status, 65536)
        except BlockingIOError:
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_event(json.loads(line))
        if not data:
            self._close()
            if not self._ended.done():
                self._kill_unwatched()
                self._ended.set_result(Ended(problem="the process that watched the job died; the job was killed"))

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "started":
            self._pid = event["pid"]
        elif event["event"] in {"failed", "ended"}:
            self._ended.set_result(self.place.ended(event))

    def _kill_unwatched(self) -> None:
        """Kill what a shim that was killed itself has left without a watcher."""
        if self._pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
        marks = {"HPCJOBS_JOB_ID": self.claim.job_id, "HPCJOBS_ATTEMPT": str(self.claim.attempt)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                env = process.environ()
                if all(env.get(name) == text for name, text in marks.items()):
                    process.kill()

    def _close(self) -> None:
        if self._status is not None:
            asyncio.get_running_loop().remove_reader(self._status)
            os.close(self._status)
            self._status = None
        if self._control is not None:
            os.close(self._control)
            self._control = None


class LocalExecutor:
    """Runs jobs on this host.

    Args:
        settings: The server's settings.

    Raises:
        AppError: The apps that they name cannot be offered.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apps = Apps.load(settings.apps, tasks_only=settings.tasks_only)
        self._launcher = Launcher()
        # earlier than the reaper, which waits for the lease and the grace time
        self._silence = settings.lease * 0.8
        self._runtime_path = _runtime_path(settings.data)
        self.cluster: str | None = None
        self.slots = settings.cores_per_worker

    def weight(self, cores: int) -> int:
        """A job takes the cores that it asks for."""
        return cores

    def execution(self, claim: Claim) -> LocalExecution:
        """The execution of one attempt; nothing is started yet."""
        return LocalExecution(claim, self._settings, self._launcher, self._runtime_path, self._silence, apps=self._apps)

    async def close(self) -> None:
        """End the launcher."""
        await asyncio.to_thread(self._launcher.close)


def _runtime_path(data: Path) -> Path:
    """A folder with nothing but the client package, for the jobs' ``PYTHONPATH``: ``from hpcjobs import runtime``.

    The folder of the installed package itself would bring everything else that is installed there along.
    """
    import hpcjobs

    folder = data / "run" / "runtime"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    link, package = folder / "hpcjobs", Path(hpcjobs.__file__).parent
    if not link.is_symlink() or link.resolve() != package.resolve():
        fresh = folder / f".hpcjobs-{os.getpid()}"
        fresh.symlink_to(package, target_is_directory=True)
        fresh.replace(link)
    return folder
