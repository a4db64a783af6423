"""Runs jobs as processes of this host, each in a session and a folder of its own under a shim."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from hpcjobs.models import InputFile, Progress, StderrMode
from hpcjobs_server import tasks
from hpcjobs_server.apps import AppError, Apps
from hpcjobs_server.executors.base import CannotRun, Ended
from hpcjobs_server.files import note_inputs
from hpcjobs_server.progress import ProgressReader
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Claim

_KEPT = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "HOSTNAME", "LD_LIBRARY_PATH",
        "LIBRARY_PATH", "MANPATH", "PKG_CONFIG_PATH", "VIRTUAL_ENV", "SCRATCH", "WORK", "PROJECT", "SSL_CERT_FILE",
        "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
        "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    }
)  # fmt: skip
_KEPT_PREFIXES = (
    "LC_", "XDG_", "CONDA_", "MAMBA_", "MODULE", "LMOD_", "_ModuleTable", "CUDA_", "ROCR_", "HIP_", "OMP_", "MKL_",
    "OPENBLAS_", "NUMEXPR_", "SLURM_",
)  # fmt: skip
_SECRET = frozenset({"SLURM_JWT"})
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def job_environment(claim: Claim, folder: Path, runtime_path: Path) -> dict[str, str]:
    """The environment of a job: what a login shell would have, and nothing that the server keeps to itself.

    Only names that are known to be harmless are taken over, because the server's environment holds its secrets. The
    worker's own Python comes first on ``PATH``; thread pools of numerical libraries are held to the job's cores.
    """
    env = {
        name: text
        for name, text in os.environ.items()
        if name in _KEPT or (name.startswith(_KEPT_PREFIXES) and name not in _SECRET)
    }
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    cores = str(claim.spec.resources.cores)
    env.update(dict.fromkeys(_THREADS, cores))
    env.update(claim.spec.env)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(runtime_path)]))
    env.setdefault("PYTHONUNBUFFERED", "1")  # so that a log can be followed
    env.update(
        claim.environ,
        HPCJOBS_JOB_ID=claim.job_id,
        HPCJOBS_ATTEMPT=str(claim.attempt),
        HPCJOBS_CORES=cores,
        HPCJOBS_PROGRESS_FILE=str(folder / "progress"),
    )
    return env


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
        self.claim = claim
        self._apps = apps
        self.folder = settings.job_folder(claim.job_id, claim.attempt)
        self._settings, self._launcher, self._runtime_path = settings, launcher, runtime_path
        self._silence = silence
        separate = claim.spec.stderr is StderrMode.SEPARATE
        self._stdout, self._stderr = self.folder / "stdout", self.folder / "stderr" if separate else None
        self._progress = ProgressReader(
            self.folder / "progress", [self._stdout, *([self._stderr] if self._stderr else [])]
        )
        self._control: int | None = None
        self._status: int | None = None
        self._buffer = b""
        self._pid: int | None = None
        self._abort_wanted = False
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> None:
        """Make the attempt's folder and put the inputs into it."""
        if self.claim.spec.app is not None:
            try:
                spec = self._apps.resolved(self.claim.spec)
            except (AppError, ValueError) as error:
                raise CannotRun(str(error)) from None
            self.claim = dataclasses.replace(self.claim, spec=spec)
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        work = self.folder / "work"
        work.mkdir()
        # there from the start, so that a log can be asked for, and so that a link cannot be put in its place
        for log in filter(None, [self._stdout, self._stderr]):
            os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if self.claim.spec.task is not None:
            tasks.write_order(self.folder, self.claim.spec, self._settings)
        note_inputs(self.folder, [self._put(item, work) for item in self.claim.spec.inputs])

    def _put(self, item: InputFile, work: Path) -> Path:
        source = self._settings.blob_path(self.claim.owner, item.sha256)
        target = work / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # a copy, because a job may change its inputs and others have the same file
        shutil.copyfile(source, target)
        if target.stat().st_size != item.size:
            raise OSError(errno.EIO, f"the input {item.name} has {target.stat().st_size} bytes and not {item.size}")
        if item.executable:
            target.chmod(0o755)
        return target

    async def start(self) -> None:
        """Hand the job to a shim of its own."""
        spec = self.claim.spec
        walltime = spec.resources.walltime
        config: dict[str, Any] = {
            "argv": self._argv(),
            "cwd": str(self.folder / "work"),
            "env": job_environment(self.claim, self.folder, self._runtime_path),
            "stdout": str(self._stdout),
            "stderr": str(self._stderr) if self._stderr else None,
            "grace": spec.grace.total_seconds(),
            "walltime": walltime.total_seconds() if walltime else None,
            "silence": self._silence,
        }
        control, status = self._launcher.launch()
        self._control, self._status = control, status
        asyncio.get_running_loop().add_reader(status, self._on_status)
        await self._send_all((json.dumps(config) + "\n").encode())
        if self._abort_wanted:
            self._send(b"abort\n")

    def _argv(self) -> list[str]:
        command = self.claim.spec.command
        if command is None:
            return tasks.argv(self.folder)
        if isinstance(command, list):
            return command
        return ["bash" if shutil.which("bash") else "sh", "-c", command]

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

    def abort(self) -> None:
        """Have the shim end the job: SIGTERM, the grace time, SIGKILL."""
        self._abort_wanted = True
        self._send(b"abort\n")

    def kill(self) -> None:
        """Have the shim kill the job at once."""
        self.abort()
        self._send(b"kill\n")

    def ping(self) -> None:
        """Tell the shim that the worker is alive."""
        self._send(b"ping\n")

    def progress(self) -> Progress | None:
        """How far the job is, if that is news since the last call."""
        return self._progress.look()

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
        elif event["event"] == "failed":
            self._ended.set_result(Ended(problem=self._start_problem(event)))
        elif event["event"] == "ended":
            cause, status = event["cause"], event["status"]
            code = os.waitstatus_to_exitcode(status) if status is not None else None
            self._ended.set_result(
                Ended(
                    exit_code=code if code is not None and code >= 0 else None,
                    signal=-code if code is not None and code < 0 else None,
                    aborted=cause in {"abort", "signal"},
                    timed_out=cause == "walltime",
                    lost=cause == "lost",
                    problem="some of its processes could not be killed" if event["left"] else None,
                    said=self._progress.said_aborted(),
                    error=self._progress.said_failed(),
                    cpu_seconds=event["cpu"],
                    peak_memory=event["memory"],
                    note="the disk of the service is full" if code != 0 and _disk_is_full(self.folder) else None,
                )
            )

    def _start_problem(self, event: dict[str, Any]) -> str:
        argv = self._argv()
        command = self.claim.spec.command
        program = command if isinstance(command, str) else argv[0]
        if event["file"] and str(event["file"]).startswith(str(self.folder)) and event["file"] != program:
            return f"the service could not prepare the job: {event['text']}"
        if event["errno"] == errno.E2BIG:  # the whole of it would fill the reason
            return "the command with its environment is too long for the system; put what is long into an input file"
        if event["errno"] == errno.ENOENT:
            return f"command not found: {program}"
        return f"the command could not be started: {program}: {event['text']}"

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

    def execution(self, claim: Claim) -> LocalExecution:
        """The execution of one attempt; nothing is started yet."""
        return LocalExecution(claim, self._settings, self._launcher, self._runtime_path, self._silence, apps=self._apps)

    async def close(self) -> None:
        """End the launcher."""
        await asyncio.to_thread(self._launcher.close)


def _disk_is_full(folder: Path) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 64 * 1024


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
