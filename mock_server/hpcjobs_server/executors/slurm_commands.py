"""Slurm's commands: sbatch, squeue, scancel, scontrol and sacct, as processes that always end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcjobs_server.executors.slurm_records import FORMAT, Row, accounted, parse

logger = logging.getLogger(__name__)

_TIMEOUT = 60.0
"""Seconds for one command: where the controller is away, Slurm's own commands give up after about ten."""
_AT_ONCE = 4
"""Commands that submit at once; more are no faster."""
_MOST_IDS = 200
"""Ids in one command."""

_SECRETS = "HPCJOBS_"
_SPOKEN_FOR = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SCONTROL_", "SACCT_", "SINFO_", "PMI")
"""Variables that change what Slurm's commands do, or that are about another job: the server may run in one itself."""

_PASSING = re.compile(
    "unable to contact|timed out|connection (refused|reset)|zero bytes|communication|transport endpoint|munge"
    "|authentication|temporarily|try again|unreachable|no route|could not establish|dns srv"
    # as many jobs as may be submitted: some will end
    "|MaxSubmitJob",
    re.IGNORECASE,
)

_SIGNALS = {
    "cancel": ("scancel",),
    # to the batch script alone, which is the shim: it ends the job with its own grace time
    "term": ("scancel", "--batch", "--signal=TERM"),
    "kill": ("scancel", "--full", "--signal=KILL"),
    # of several for one attempt, where one may have begun meanwhile
    "drop": ("scancel", "--state=PENDING"),
    "hold": ("scontrol", "hold"),
    "release": ("scontrol", "release"),
}


class SlurmAway(Exception):
    """Slurm does not answer now, or not as it should; says why."""


class SlurmRefused(Exception):
    """Slurm does not do what it was asked; says why in its own words."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What Slurm's commands see of an environment: the same answers whoever starts the server where.

    Example:
        >>> environment({"PATH": "/bin", "SLURM_CONF": "/etc/s.conf", "SLURM_JOB_ID": "7", "SBATCH_QOS": "high"})
        {'PATH': '/bin', 'SLURM_CONF': '/etc/s.conf', 'LC_ALL': 'C', 'TZ': 'UTC', 'SLURM_TIME_FORMAT': 'standard'}
    """
    kept = {
        name: text
        for name, text in environ.items()
        if name == "SLURM_CONF" or not name.startswith((*_SPOKEN_FOR, _SECRETS))
    }
    return {**kept, "LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "standard"}


def problem() -> str | None:
    """Why jobs cannot be handed to Slurm from here; None where they can."""
    for name in ("sbatch", "squeue", "scancel"):
        if shutil.which(name) is None:
            return f"{name} was not found; install Slurm's client commands on this host, or add their folder to PATH"
    conf = os.environ.get("SLURM_CONF")
    if conf and not Path(conf).is_file():  # Slurm's commands would wait a minute for it
        return f"{conf}, which SLURM_CONF names, is not there"
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--jobs=1", "--states=all"],
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"squeue does not work: {error}"
    said = _said(done.stderr)
    if done.returncode and "invalid job id" not in said.lower():
        return f"Slurm does not answer: {said}. Try squeue on this host; SLURM_CONF names another configuration"
    return None


class SlurmCommands:
    """Asks Slurm, always as the user of this process."""

    def __init__(self) -> None:
        self._environ = environment(os.environ)
        self._submitting = asyncio.Semaphore(_AT_ONCE)
        self._accounting = shutil.which("sacct") is not None
        try:
            self._user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            self._user = str(os.geteuid())

    async def submit(self, script: str, arguments: Sequence[str]) -> str:
        """Hand a script over; Slurm's id of the job.

        Raises:
            SlurmRefused: Slurm does not take it; there is no job.
            SlurmAway: Nobody knows whether there is a job.
        """
        async with self._submitting:
            code, out, said = await self._run(["sbatch", *arguments], script.encode())
        job = out.decode(errors="replace").strip().splitlines()[-1:] or [""]
        number = job[0].partition(";")[0]  # what comes behind is the cluster's name
        if code == 0 and number.isdigit():
            if said:
                logger.info("sbatch, of job %s: %s", number, said)
            return number
        if code > 0 and not _PASSING.search(said):
            raise SlurmRefused(said or f"sbatch ended with exit code {code}")
        raise SlurmAway(said or f"sbatch gave no answer (exit code {code})")

    async def list(self) -> list[Row]:
        """All jobs of this user that Slurm knows, also such as have ended.

        Raises:
            SlurmAway: It does not answer.
        """
        code, out, said = await self._run(
            ["squeue", "--noheader", "--states=all", f"--user={self._user}", f"--Format={FORMAT}"]
        )
        if code:
            raise SlurmAway(said or f"squeue ended with exit code {code}")
        return parse(out)

    async def order(self, kind: str, jobs: Sequence[str]) -> None:
        """Cancel, signal, hold or release jobs. Only squeue tells whether it has done so: scancel always says yes."""
        for start in range(0, len(jobs), _MOST_IDS):
            with contextlib.suppress(SlurmAway):
                code, _, said = await self._run([*_SIGNALS[kind], *jobs[start : start + _MOST_IDS]])
                if code:
                    logger.info("%s: %s", " ".join(_SIGNALS[kind]), said)

    async def account(self, job: str) -> Row | None:
        """How a job has ended that squeue does not know any more; None where nobody keeps the books."""
        if not self._accounting:
            return None
        fields = "--format=State,ExitCode,NodeList"
        with contextlib.suppress(SlurmAway):
            code, out, said = await self._run(
                ["sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={job}", fields]
            )
            if code == 0:
                return accounted(out.decode(errors="replace"), job)
            self._accounting = "disabled" not in said
        return None

    async def _run(self, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=self._environ,
                cwd="/",
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SlurmAway(f"{argv[0]} cannot be started: {error.strerror}") from None
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), _TIMEOUT)
        except asyncio.TimeoutError:
            raise SlurmAway(f"{argv[0]} gave no answer within {_TIMEOUT:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out, _said(err.decode(errors="replace"))


def _said(stderr: str) -> str:
    """What a command complains of, without its name before each line."""
    lines = [re.sub(r"^(?:\w+: (?:error: |fatal: )?|\w+ error: )", "", line.strip()) for line in stderr.splitlines()]
    return "; ".join(dict.fromkeys(filter(None, lines)))[:1000]
