"""The folder of one attempt, whoever runs it: its inputs, its logs, what is run there, and what its end means."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from hpcjobs.models import InputFile, StderrMode
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


def own_environment() -> dict[str, str]:
    """What of this process's environment a job may see.

    Only names that are known to be harmless are taken over, because the server's environment holds its secrets.
    """
    return {
        name: text
        for name, text in os.environ.items()
        if name in _KEPT or (name.startswith(_KEPT_PREFIXES) and name not in _SECRET)
    }


def job_environment(claim: Claim, folder: Path, runtime_path: Path, base: dict[str, str]) -> dict[str, str]:
    """The environment of a job: what a login shell would have, and nothing that the server keeps to itself.

    The worker's own Python comes first on ``PATH``; thread pools of numerical libraries are held to the job's cores.

    Args:
        claim: The attempt.
        folder: Its folder.
        runtime_path: Where ``from hpcjobs import runtime`` finds it.
        base: What it begins with.
    """
    env = dict(base)
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


class Place:
    """One attempt's folder.

    Args:
        claim: The attempt.
        settings: The server's settings.
        apps: What users can name.

    Attributes:
        claim: The attempt; its app, if it has one, is filled in by :meth:`prepare`.
        folder: Where everything of it is.
        stdout: Its log.
        stderr: Its second log, where it has one.
        progress: Reads how far it is.
    """

    def __init__(self, claim: Claim, settings: Settings, apps: Apps) -> None:
        self.claim, self._settings, self._apps = claim, settings, apps
        self.folder = settings.job_folder(claim.job_id, claim.attempt)
        separate = claim.spec.stderr is StderrMode.SEPARATE
        self.stdout, self.stderr = self.folder / "stdout", self.folder / "stderr" if separate else None
        self.progress = ProgressReader(self.folder / "progress", list(filter(None, [self.stdout, self.stderr])))

    def resolve(self) -> None:
        """Fill in what the spec's app says.

        Raises:
            CannotRun: The app is gone, or takes this no more.
        """
        if self.claim.spec.app is not None:
            try:
                spec = self._apps.resolved(self.claim.spec)
            except (AppError, ValueError) as error:
                raise CannotRun(str(error)) from None
            self.claim = dataclasses.replace(self.claim, spec=spec)

    def prepare(self) -> None:
        """Make the folder and put the inputs into it.

        Raises:
            OSError: That is impossible.
        """
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        work = self.folder / "work"
        work.mkdir()
        # there from the start, so that a log can be asked for, and so that a link cannot be put in its place
        for log in filter(None, [self.stdout, self.stderr]):
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

    def argv(self) -> list[str]:
        """What is run."""
        command = self.claim.spec.command
        if command is None:
            return tasks.argv(self.folder)
        if isinstance(command, list):
            return command
        return ["bash" if shutil.which("bash") else "sh", "-c", command]

    def order(self, env: dict[str, str], *, silence: float) -> dict[str, Any]:
        """What a shim is told.

        Args:
            env: The job's environment.
            silence: Seconds without a word of the worker after which it ends the job; 0 for ever.
        """
        spec = self.claim.spec
        walltime = spec.resources.walltime
        return {
            "argv": self.argv(),
            "cwd": str(self.folder / "work"),
            "env": env,
            "stdout": str(self.stdout),
            "stderr": str(self.stderr) if self.stderr else None,
            "grace": spec.grace.total_seconds(),
            "walltime": walltime.total_seconds() if walltime else None,
            "silence": silence,
        }

    def ended(self, event: dict[str, Any]) -> Ended:
        """What it means that a shim says ``ended`` or ``failed``."""
        if event["event"] == "failed":
            return Ended(problem=self._start_problem(event))
        cause, status = event["cause"], event["status"]
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        return Ended(
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            aborted=cause in {"abort", "signal"},
            timed_out=cause == "walltime",
            lost=cause == "lost",
            problem="some of its processes could not be killed" if event["left"] else None,
            said=self.progress.said_aborted(),
            error=self.progress.said_failed(),
            cpu_seconds=event["cpu"],
            peak_memory=event["memory"],
            note="the disk of the service is full" if code != 0 and _disk_is_full(self.folder) else None,
        )

    def _start_problem(self, event: dict[str, Any]) -> str:
        argv = self.argv()
        command = self.claim.spec.command
        program = command if isinstance(command, str) else argv[0]
        if event["file"] and str(event["file"]).startswith(str(self.folder)) and event["file"] != program:
            return f"the service could not prepare the job: {event['text']}"
        if event["errno"] == errno.E2BIG:  # the whole of it would fill the reason
            return "the command with its environment is too long for the system; put what is long into an input file"
        if event["errno"] == errno.ENOENT:
            return f"command not found: {program}"
        return f"the command could not be started: {program}: {event['text']}"


def _disk_is_full(folder: Path) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 64 * 1024
