"""Hands jobs to a Slurm cluster, and watches them there.

What runs where::

    server      sbatch, squeue, scancel; the job's folder, logs and progress are read on the shared file system
    node        on_node.py, which Slurm starts: the shim that a local job has, without a worker to speak to

A job's key, its id and attempt, is its comment in Slurm. Before anything is submitted that may have been submitted
before, by a worker that was killed, the key is looked for; and on the node only the first job of a key runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Progress
from hpcjobs.slurm_data import MARK
from hpcjobs_server.apps import Apps
from hpcjobs_server.executors import on_node
from hpcjobs_server.executors.base import CannotRun, Ended, Move
from hpcjobs_server.executors.places import Place, job_environment
from hpcjobs_server.executors.slurm_commands import SlurmAway, SlurmCommands, SlurmRefused
from hpcjobs_server.executors.slurm_options import arguments
from hpcjobs_server.executors.slurm_records import STATES, Row, verdict
from hpcjobs_server.executors.slurm_watch import Watcher
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Claim

logger = logging.getLogger(__name__)

LOG = "slurm.out"
"""What Slurm itself, and the script before the shim, say of a job."""

_PATIENCE = 12 * 3600.0
"""Seconds for which a job is tried to be handed over while Slurm is away."""
_LONGEST_PAUSE = 30.0
_LATE_FILE = 5.0
"""Seconds after a job's end until what it wrote last is seen from another host."""
_VANISHED = 20.0
"""Seconds after which a job that Slurm does not know is given up."""
_AGAIN = 2.0
"""Seconds after which an order that had no effect is given again."""
_SPARE = 15.0
"""Seconds beyond its grace time after which Slurm itself is to end a job."""


class SlurmExecution:
    """One attempt that Slurm has, or is about to get."""

    def __init__(self, claim: Claim, executor: SlurmExecutor) -> None:
        self.place = Place(claim, executor.settings, executor.apps)
        self._executor, self._watcher = executor, executor.watcher
        self.key = f"{MARK}{claim.job_id}:{claim.attempt}"
        self.job = claim.cluster_job
        self._row: Row | None = None
        self._told: Move | None = None
        self._news: Move | None = None
        self._abort = self._gently = self._kill = self._left = False
        self._expired = False
        self._ordered: dict[str, float] = {}
        self._concluding: asyncio.Task[None] | None = None
        self._status_size = 0
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ended] = self._loop.create_future()

    # ------------------------------------------------------------------------------------------ what a worker asks

    async def prepare(self) -> None:
        """Make the attempt's folder, unless a worker before this one has."""
        folder = self.place.folder
        ready = await asyncio.to_thread((folder / on_node.ORDER).exists)
        if ready:
            with contextlib.suppress(CannotRun):  # it is with Slurm already, perhaps
                self.place.resolve()
            return
        self.place.resolve()
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        folder, claim = self.place.folder, self.place.claim
        if claim.adopted:
            shutil.rmtree(folder, ignore_errors=True)
        self.place.prepare()
        for name in (LOG, on_node.STATUS):  # there from the start, so that a host that looks early sees it grow
            (folder / name).touch(mode=0o600)
        env = job_environment(claim, folder, self._executor.node_folder / "runtime", {})
        if "PATH" not in claim.spec.env:
            del env["PATH"]
        order = {
            **self.place.order(env, silence=0),
            "front": str(Path(sys.executable).parent),
            "python_path": "PYTHONPATH" in claim.spec.env,
        }
        # the last of all, and whole: where it is, everything is
        fresh = folder / f".{on_node.ORDER}"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(order), encoding="utf-8")
        fresh.replace(folder / on_node.ORDER)

    async def start(self) -> None:
        """Hand it to Slurm, unless Slurm has it; returns when it has."""
        # one of another worker may be with Slurm, though nobody noted it
        doubtful = self.place.claim.adopted and self.job is None
        if doubtful:
            self.job = await asyncio.to_thread(_text, self.place.folder / on_node.CLAIMED) or None
        began, pause = time.monotonic(), 1.0
        while self.job is None and not self._ended.done():
            try:
                if doubtful and (row := await self._watcher.find(self.key)) is not None:
                    self.job = row.job
                    break
                if self._over_before_it_began():
                    return
                doubtful = True
                self.job = await self._executor.commands.submit(self._script(), self._arguments())
            except SlurmRefused as error:
                self._end(Ended(problem=f"Slurm refused it: {error}"))
            except SlurmAway as error:
                if self._left:
                    self._end(Ended(left=True))
                elif time.monotonic() - began > _PATIENCE:
                    self._end(Ended(problem=f"it could not be handed to Slurm: {error}"))
                else:
                    self._move(JobState.QUEUED, f"Slurm does not take it at present: {error}")
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), pause)
                    self._woken.clear()
                    pause = min(2 * pause, _LONGEST_PAUSE)
        if self.job is None or self._ended.done():
            return
        self._note(self._told or Move(JobState.QUEUED))
        if self._left:
            self._end(Ended(left=True))
        else:
            self._watcher.add(self)

    def _over_before_it_began(self) -> bool:
        """End what is not to be handed over any more, and is not with Slurm."""
        if self._left:
            self._end(Ended(left=True))
        elif self._abort:
            self._end(Ended(aborted=True))
        elif self._is_late():
            self._end(Ended(problem=_LATE))
        return self._ended.done()

    async def wait(self) -> Ended:
        """Wait until nothing of the attempt is left on the cluster."""
        return await asyncio.shield(self._ended)

    def abort(self, *, gently: bool = False) -> None:
        """Have it cancelled; `squeue` says when it is."""
        self._abort, self._gently = True, gently
        self._wake()

    def kill(self) -> None:
        """Have it killed at once."""
        self._kill = True
        self.abort()

    def leave(self) -> None:
        """Watch it no more: Slurm has it, or the next worker hands it over."""
        self._left = True
        self._wake()
        if self._watcher.remove(self):
            self._end(Ended(left=True))

    def _wake(self) -> None:
        self._woken.set()
        self._watcher.nudge()

    def ping(self) -> None:
        """Nobody on the cluster waits for this worker."""

    def progress(self) -> Progress | None:
        """How far it is; a look at its status on the way says whether squeue has something to tell."""
        with contextlib.suppress(OSError):
            size = (self.place.folder / on_node.STATUS).stat().st_size
            if size != self._status_size:
                self._status_size = size
                self._loop.call_soon_threadsafe(self._watcher.nudge)
        return self.place.progress.look()

    def moved(self) -> Move | None:
        """Where it is, if that is news since the last call."""
        news, self._news = self._news, None
        return news

    # ------------------------------------------------------------------------------------------ what squeue says

    def choose(self, rows: Sequence[Row]) -> Row:
        """Which of several jobs with its key is the one that counts: that which runs it, or is to run it."""
        claimed = _text(self.place.folder / on_node.CLAIMED) or self.job
        return next((row for row in rows if row.job == claimed), min(rows, key=lambda row: int(row.job)))

    def see(self, row: Row | None) -> bool:
        """Take what a look at Slurm has found of it; whether that is news."""
        if self._concluding is not None:
            return False
        if row is None:
            self._concluding = asyncio.create_task(self._conclude_unknown())
            return True
        before, self._row, self.job = self._row, row, row.job
        if row.ended:
            self._concluding = asyncio.create_task(self._conclude(row))
            return True
        state = STATES.get(row.state, self._told.state if self._told else JobState.QUEUED)
        if state is JobState.QUEUED:
            reason: str | None = row.waiting
            self._expired = self._expired or self._is_late()
        else:
            reason = f"Slurm has stopped it ({row.state})" if state is JobState.PAUSED else None
        spared = self._abort and self._gently and state not in {JobState.QUEUED, JobState.STAGING}
        if spared:
            self._abort = self._gently = False
        self._move(state, reason, started_at=row.started_at, spared=spared)
        return before != row or spared

    def unseen(self, since: float) -> None:
        """Slurm has not answered for ``since`` seconds: nothing is known, so nothing has changed."""
        if self._concluding is None and self._told is not None:
            clock = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=since)
            reason = f"Slurm has not answered since {clock:%H:%M} UTC; it is looked at again as soon as it does"
            self._move(self._told.state, reason, started_at=self._told.started_at)

    def order(self) -> str | None:
        """What Slurm is to be told about it now."""
        row = self._row
        if row is None or self._concluding is not None or not (self._abort or self._expired):
            return None
        waits = row.state in STATES and STATES[row.state] in {JobState.QUEUED, JobState.STAGING}
        if self._gently and not self._kill:
            # A job that is held does not start: what squeue says of it then stays true until it is cancelled.
            held = row.state == "PENDING" and row.reason.startswith("JobHeld")
            return self._once("cancel" if held else "hold") if waits else None
        if waits:
            return self._once("cancel")
        if self._expired and not self._abort:  # it has started in this very moment
            return None
        if self._kill:
            return self._once("kill")
        if STATES.get(row.state) is JobState.ARCHIVING:
            return None
        termed = self._ordered.get("first term")
        if row.state != "RUNNING":  # one that is stopped hears nothing
            return self._once("cancel")
        now = time.monotonic()
        if termed is None:
            self._ordered["first term"] = now
        elif now > termed + self.place.claim.spec.grace.total_seconds() + _SPARE:
            return self._once("cancel")
        return self._once("term")

    def _once(self, kind: str) -> str | None:
        now = time.monotonic()
        if now < self._ordered.get(kind, float("-inf")) + _AGAIN:
            return None
        self._ordered[kind] = now
        return kind

    # ------------------------------------------------------------------------------------------ ends

    async def _conclude(self, row: Row) -> None:
        """Say how it ended."""
        end = time.monotonic() + (_LATE_FILE if row.ran and not row.code & 0x7F else 1.0)
        while True:
            events = await asyncio.to_thread(self._events)
            if (last := _last(events)) is not None or time.monotonic() > end:
                break
            await asyncio.sleep(0.25)
        self._end(await asyncio.to_thread(self._verdict, row, events, last))

    async def _conclude_unknown(self) -> None:
        """Slurm knows nothing of it: it has ended, and was forgotten, or something is wrong with Slurm."""
        assert self.job is not None
        end = time.monotonic() + _VANISHED
        while True:
            events = await asyncio.to_thread(self._events)
            if (last := _last(events)) is not None:
                return self._end(self.place.ended(last))
            if (row := await self._executor.commands.account(self.job)) is not None:
                return self._end(await asyncio.to_thread(self._verdict, row, events, last))
            await asyncio.sleep(2.0)
            try:
                if (row := await self._watcher.find(self.key)) is not None:
                    self._concluding = None
                    self.see(row)
                    return None
            except SlurmAway:
                end = time.monotonic() + _VANISHED
            if time.monotonic() > end:
                break
        if self._abort and not events:
            return self._end(Ended(aborted=True))
        how = "it left no exit code" if events else "it never started"
        return self._end(Ended(problem=f"Slurm does not know its job {self.job} any more, and {how}"))

    def _verdict(self, row: Row, events: list[dict[str, Any]], last: dict[str, Any] | None) -> Ended:
        node = next((event["host"] for event in events if event["event"] == "node"), row.host)
        told = None if last is None else self.place.ended(last)
        by_itself = last is not None and last.get("cause") not in {"signal", "walltime"}
        heard = None if events else _text(self.place.folder / LOG).rpartition("\n")[2]
        if self._expired and not self._abort and told is None and not row.ran:
            return Ended(problem=_LATE)
        ended = verdict(row, told, by_itself=by_itself, asked=self._abort, heard=heard)
        return dataclasses.replace(ended, host=node)

    def _events(self) -> list[dict[str, Any]]:
        events = []
        for line in _text(self.place.folder / on_node.STATUS).splitlines():
            with contextlib.suppress(ValueError):  # being written
                events.append(json.loads(line))
        return events

    def _end(self, ended: Ended) -> None:
        self._watcher.remove(self)
        if not self._ended.done():
            self._ended.set_result(ended)

    # ------------------------------------------------------------------------------------------ inside

    def _is_late(self) -> bool:
        expiry = self.place.claim.expires_at
        return expiry is not None and dt.datetime.now(dt.timezone.utc) > expiry

    def _move(
        self, state: JobState, reason: str | None, *, started_at: dt.datetime | None = None, spared: bool = False
    ) -> None:
        move = Move(state, reason, self.job, started_at)
        if move != self._told or spared:
            self._note(move, spared=spared)

    def _note(self, move: Move, *, spared: bool = False) -> None:
        self._told = Move(move.state, move.reason, self.job, move.started_at)
        unsent = self._news is not None and self._news.spared
        self._news = Move(move.state, move.reason, self.job, move.started_at, spared=spared or unsent)

    def _script(self) -> str:
        claim = self.place.claim
        code = "import sys; sys.path.insert(0, sys.argv[1]); from hpcjobs_server.executors import on_node; "
        code += "sys.exit(on_node.main(sys.argv[2]))"
        words = ["-I", "-S", "-c", code, str(self._executor.node_folder / "shim"), str(self.place.folder)]
        return (
            "#!/bin/sh\n"
            f"# attempt {claim.attempt} of job {claim.job_id} of hpcjobs\n"
            f"for python in {shlex.quote(sys.executable)} {_PYTHONS}; do\n"
            '    if "$python" -I -S -c "import sys; sys.exit(sys.version_info < (3, 7))" 2>/dev/null; then\n'
            f'        exec "$python" {shlex.join(words)}\n'
            "    fi\n"
            "done\n"
            'echo "there is no Python 3.7 or newer on $(hostname)"\n'
            "exit 127\n"
        )

    def _arguments(self) -> list[str]:
        claim, folder = self.place.claim, str(self.place.folder)
        name = re.sub(r"[\x00-\x1f\x7f]", " ", claim.spec.name or "") or f"hpcjobs-{claim.job_id[:8]}"
        return [
            "--parsable",
            "--export=NONE",
            "--no-requeue",
            "--open-mode=append",
            f"--chdir={folder}",
            f"--output={folder.replace('%', '%%')}/{LOG}",
            f"--job-name={name}",
            f"--comment={self.key}",
            *arguments(claim.spec, self._executor.settings.slurm_options),
        ]


_PYTHONS = " ".join(["python3", *(f"python3.{minor}" for minor in range(14, 6, -1)), "/usr/bin/python3"])
_LATE = "it had not started by its expiry"


def _last(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((event for event in events if event["event"] in {"ended", "failed"}), None)


def _text(path: Path) -> str:
    """The end of a file that only we and Slurm write; empty where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        return file.read().decode(errors="replace").strip()
    return ""


class SlurmExecutor:
    """Hands jobs to the Slurm cluster that this host's commands speak to.

    Args:
        settings: The server's settings.

    Raises:
        AppError: The apps that they name cannot be offered.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.apps = Apps.load(settings.apps, tasks_only=settings.tasks_only)
        self.cluster: str | None = "slurm"
        self.slots = settings.slurm_jobs
        self.commands = SlurmCommands()
        self.watcher = Watcher(self.commands, settings.slurm_interval)
        self.node_folder = node_folder(settings.data)

    def weight(self, cores: int) -> int:
        """Any job takes one slot: the cores are the cluster's."""
        del cores
        return 1

    def execution(self, claim: Claim) -> SlurmExecution:
        """The execution of one attempt; nothing is handed over yet."""
        return SlurmExecution(claim, self)

    async def close(self) -> None:
        """Look no more."""
        await self.watcher.close()


def node_folder(data: Path) -> Path:
    """A folder with all that a node needs of us: it need have nothing installed but Python.

    ``shim`` has what runs a job, ``runtime`` the client package for the jobs' ``PYTHONPATH``. Its name says what is
    in it, so that a job that waits for a week finds what it was submitted with.

    Args:
        data: The data folder, which the nodes share.
    """
    import hpcjobs
    import hpcjobs_server

    client, server = Path(hpcjobs.__file__).parent, Path(hpcjobs_server.__file__).parent
    shim = [Path("executors", name) for name in ("__init__.py", "shim.py", "on_node.py")]
    files = {Path("runtime/hpcjobs", path.relative_to(client)): path for path in sorted(client.rglob("*.py"))}
    files |= {Path("shim/hpcjobs_server", path): server / path for path in (Path("__init__.py"), *shim)}
    digest = hashlib.sha256()
    for target, source in files.items():
        digest.update(f"{target}\0".encode() + source.read_bytes() + b"\0")
    folder = data / "run" / "node" / digest.hexdigest()[:16]
    if not folder.exists():
        fresh = folder.with_name(f".{folder.name}-{os.getpid()}")
        for target, source in files.items():
            (fresh / target).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source, fresh / target)
        with contextlib.suppress(OSError):  # another worker was first
            fresh.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
