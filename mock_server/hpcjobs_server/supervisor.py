"""The supervisor: ``hpcjobs serve``. Keeps one service running on a data folder, and ends it.

It starts Postgres, the API and the workers as processes of their own, or adopts those that an earlier supervisor left,
starts again what dies, and does no work itself: jobs go on without it.

::

    SIGINT, SIGTERM   no new jobs are started; the service ends with the last one that runs
    SIGINT again      the jobs that run are asked to stop, and killed after their grace time; a third one kills them now
    SIGQUIT           the same as SIGINT twice
    SIGHUP            the same as SIGTERM on a terminal, nothing in the background
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hpcjobs._version import __version__
from hpcjobs_server import console, processes
from hpcjobs_server.datafolder import DataError, DataFolder, port_problem
from hpcjobs_server.embedded import EmbeddedError, EmbeddedPostgres
from hpcjobs_server.greeting import greeting
from hpcjobs_server.processes import Child
from hpcjobs_server.settings import PREFIX, Settings
from hpcjobs_server.waking import Signals

DETACHED = f"{PREFIX}DETACHED"
"""Set in the environment of a supervisor that runs in the background."""

TAKEN = 3
"""The exit code where another service works on the data folder, or none runs."""

FIRST_PAUSE, LONGEST_PAUSE, STEADY = 0.2, 10.0, 30.0
"""Seconds before a process that died is started again, the first time and at most; after as many seconds of life as the
third says it is the first time again."""

API_START = 60.0
PREPARATION = 300.0
"""Seconds that the database's schema may take."""

LAST_WORD = 10.0
"""Seconds within which a worker that was told to kill its jobs must have written down their end."""

OF_NO_WORKER = ("HOST", "PORT", "POOL_SIZE", "MAX_BODY_BYTES", "WORKERS", "TOKEN_FILE")
OF_NO_API = ("WORKERS", "CORES", "TOKEN_FILE")
"""Settings whose change is no reason to start a process anew."""


class StartError(Exception):
    """The service cannot be started; the message says why and what to do."""


class Stopped(Exception):
    """The service was asked to end before it ran."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@dataclass
class Kept:
    """A process that is kept running.

    Attributes:
        name: Its name, which its log and its file have too.
        make: Starts it.
        log: Where it writes.
        child: The present one.
        pause: Seconds before it is started again when it dies.
    """

    name: str
    make: Callable[[], Child]
    log: Path
    child: Child | None = None
    pause: float = FIRST_PAUSE
    since: float = 0.0
    log_began: int = 0
    due: float = 0.0

    def start(self) -> None:
        """Start it now.

        Raises:
            OSError: The system does not allow it at present.
        """
        self.adopt(None)
        self.child = self.make()

    def adopt(self, child: Child | None) -> None:
        """Keep a process that runs already."""
        self.log_began = 0
        with contextlib.suppress(OSError):
            self.log_began = self.log.stat().st_size
        self.since = time.monotonic()
        self.child = child

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.child is not None and self.child.alive

    def tend(self, say: Callable[[str], None]) -> None:
        """Start it again if it died and its pause is over.

        Args:
            say: Tells the operator.
        """
        now = time.monotonic()
        if self.alive:
            return
        if self.child is not None:
            if now - self.since >= STEADY:
                self.pause = FIRST_PAUSE
            say(self.obituary(now - self.since))
            self.child, self.due = None, now + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        elif now >= self.due:
            try:
                self.start()
            except OSError as error:
                say(f"{self.name} cannot be started: {error}. It is tried again in {self.pause:g} s.")
                self.due = now + self.pause
                self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def obituary(self, age: float) -> str:
        """How it ended, and, where that was soon, what it said last.

        Args:
            age: Seconds that it lived.
        """
        code = None if self.child is None else self.child.exit_code
        how = "" if code is None else f" by {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"
        text = f"{self.name} ended{how}; it is started again in {self.pause:g} s."
        said = processes.tail(self.log, since=self.log_began) if age < STEADY else ""
        return f"{text} Its log, {self.log}, ends:\n{said}" if said else text


class Supervisor:
    """One service on one data folder.

    Args:
        settings: What was asked for.
        detached: Whether it runs in the background, with its output in a log.
        messages: Where the operator reads; None for the standard output.
    """

    def __init__(self, settings: Settings, *, detached: bool = False, messages: TextIO | None = None) -> None:
        self.folder = DataFolder(settings.data)
        token_file = settings.token_file and Path(os.path.abspath(settings.token_file.expanduser()))  # noqa: PTH100
        self.asked = settings.model_copy(update={"data": self.folder.path, "token_file": token_file})
        self.settings = self.asked
        self.detached = detached
        self._messages = messages
        self.postgres = None if settings.database_url else EmbeddedPostgres(self.folder.path)
        self.port = settings.port
        self.api = Kept("api", self._start_api, self.folder.logs / "api.log")
        self.workers: list[Kept] = []
        self.retired: list[Child] = []
        """Workers that end with their last job, because there are too many or because their settings are old."""
        self._adopted: list[str] = []
        self._began: list[Child] = []
        self._postgres_pause = FIRST_PAUSE
        self._postgres_due = 0.0
        self._postgres_settled = True
        """Whether its last start was completed: its record written, and the others moved to its address."""
        self._ending = False

    # The whole life

    def run(self) -> int:
        """Run the service until it is asked to end.

        Returns:
            The exit code.
        """
        with Signals() as signals:
            try:
                self.folder.prepare()
                if not self.folder.lock(wait=0.5):
                    return self._fail(self.folder.taken(), TAKEN)
            except DataError as error:
                return self._fail(str(error))
            try:
                return self._live(signals)
            finally:
                self.folder.unlock()

    def _live(self, signals: Signals) -> int:
        try:
            self._start(signals)
            number = self._keep(signals)
        except Stopped as stopped:
            number = stopped.number
        except (StartError, EmbeddedError, OSError) as error:
            self._give_up()
            return self._fail(str(error))
        self._end(signals, abort=number == signal.SIGQUIT)
        return 0

    def finish(self, *, abort: bool) -> None:
        """End what a supervisor that was killed has left; the folder's lock must be held.

        Args:
            abort: Whether jobs that run are asked to stop.
        """
        with Signals() as signals:
            self._find_left()
            if self.postgres is not None and not self.postgres.record.exists():
                self.postgres = None  # it was ended, or there never was one
            if self.retired and self.postgres is not None:
                with contextlib.suppress(EmbeddedError, OSError):  # without it the workers end as well as they can
                    self.settings = self.settings.model_copy(update={"database_url": self.postgres.start()})
            self._end(signals, abort=abort)

    # Starting

    def _start(self, signals: Signals) -> None:
        last_port = self.folder.announced.get("port")
        self.folder.announce("starting")
        self._database()
        self._heed(signals)
        self._prepare_database(signals)
        self._heed(signals)
        self._adopt_or_start_api(last_port if isinstance(last_port, int) else 0)
        self._arrange_workers()
        self._await_api(signals)
        self.folder.announce("running", port=self.port)
        self._greet()

    def _heed(self, signals: Signals, timeout: float = 0.0) -> None:
        """Raise if an order to end has come."""
        for number in signals.wait(timeout):
            if self._is_order(number):
                raise Stopped(number)

    def _is_order(self, number: int) -> bool:
        """Whether a signal means to end."""
        if number == signal.SIGHUP:
            return not self.detached
        return number in {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}

    def _database(self) -> None:
        """Start or adopt Postgres; the address is in the settings from here on."""
        if self.postgres is None:
            return
        ran = self.postgres.pid
        url = self.postgres.start()
        if ran == self.postgres.pid:
            self._adopted.append(f"Postgres (process {ran})")
        self.settings = self.settings.model_copy(update={"database_url": url})

    def _prepare_database(self, signals: Signals) -> None:
        """Bring the schema up to date, and have a token for the user."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "hpcjobs_server.prepare"],
                env=self._environ(self.settings.environ()),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
            )
            end = time.monotonic() + PREPARATION
            try:
                while process.poll() is None:
                    if time.monotonic() > end:
                        raise StartError(f"the database's schema was not ready after {PREPARATION:g} s")
                    self._heed(signals, 0.05)  # its end is a signal, too
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if process.returncode:
                said.seek(0)
                text = said.read().strip()
                raise StartError(text or f"the database could not be prepared (exit code {process.returncode})")

    def _environ(self, settings: Mapping[str, str]) -> dict[str, str]:
        """A child's environment: this one's, but for other settings of the server."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        # A process that gives itself a title keeps what the system shows of its environment, by which it can be found.
        return {**ours, "SPT_NOENV": "1", **settings}

    # The API

    def _api_settings(self, port: int) -> dict[str, str]:
        return self.settings.model_copy(update={"port": port}).environ()

    def _start_api(self) -> Child:
        (self.folder.path / "server.json").unlink(missing_ok=True)  # one that was killed has left it
        if self.asked.port == 0 and self.port and port_problem(self.asked.host, self.port):
            self.port = 0
        child = Child.start(
            [sys.executable, "-m", "hpcjobs_server.api_process"],
            log=self.api.log,
            record=self.folder.run / "api.json",
            facts={"settings": _fingerprint(self._api_settings(self.asked.port), OF_NO_API)},
            env=self._environ(self._api_settings(self.port)),
        )
        self._began.append(child)
        return child

    def _adopt_or_start_api(self, last_port: int) -> None:
        """Adopt the API that runs, if it has the present settings, or start one.

        Args:
            last_port: The port of the last API, 0 if that ended as it should.
        """
        left = Child.find(self.folder.run / "api.json")
        if left is not None:
            if left.facts.get("settings") == _fingerprint(self._api_settings(self.asked.port), OF_NO_API):
                self.api.adopt(left)
                self._adopted.append(f"API (process {left.pid})")
                return
            if not left.stop():
                raise StartError(f"the API that runs with other settings (process {left.pid}) does not end")
        if self.asked.port:
            if problem := port_problem(self.asked.host, self.asked.port):
                raise StartError(problem)
        else:
            # Clients may still know the address that an API which was killed had.
            self.port = last_port
            if problem := port_problem(self.asked.host, 0):
                raise StartError(problem)
        self.api.start()

    def _await_api(self, signals: Signals) -> None:
        """Wait until the API answers, and learn its port."""
        end = time.monotonic() + API_START
        while time.monotonic() < end:
            child = self.api.child
            if child is None or not child.alive:
                said = processes.tail(self.api.log, since=self.api.log_began)
                raise StartError(f"the API ended before it answered. Its log, {self.api.log}, ends:\n{said}")
            if url := self.folder.server(child.pid):
                self.port = int(url.rpartition(":")[2])
                return
            self._heed(signals, 0.02)
        raise StartError(f"the API did not answer within {API_START:g} s; see its log, {self.api.log}")

    @property
    def url(self) -> str | None:
        """The API's address, while it is known."""
        return self.folder.server()

    # The workers

    def _worker_settings(self) -> dict[str, str]:
        return self.settings.model_copy(update={"cores": self.settings.cores_per_worker}).environ()

    def _worker(self, number: int) -> Kept:
        name = f"worker-{number}"

        def make() -> Child:
            settings = self._worker_settings()
            child = Child.start(
                [sys.executable, "-m", "hpcjobs_server.worker"],
                log=self.folder.logs / f"{name}.log",
                record=self.folder.run / f"{name}.json",
                facts={"settings": _fingerprint(settings, OF_NO_WORKER)},
                env=self._environ(settings),
            )
            self._began.append(child)
            return child

        return Kept(name, make, self.folder.logs / f"{name}.log")

    def _arrange_workers(self) -> None:
        """Have as many workers as asked for, with the present settings; adopt those that fit, retire the others."""
        wanted = _fingerprint(self._worker_settings(), OF_NO_WORKER)
        workers = [self._worker(number) for number in range(1, self.asked.workers + 1)]
        for kept in workers:
            left = Child.find(self.folder.run / f"{kept.name}.json")
            if left is not None and left.facts.get("settings") == wanted:
                kept.adopt(left)
                self._adopted.append(f"{kept.name} (process {left.pid})")
        ours = {kept.child.pid for kept in workers if kept.child is not None}
        for child in self._left_workers():
            if child.pid not in ours:
                self._retire(child)
        self.workers = workers  # not before: one that is started takes the place of the record of an old one
        for kept in self.workers:
            if not kept.alive:
                kept.start()

    def _left_workers(self) -> list[Child]:
        """Every worker of this folder that runs, whoever started it."""
        records = [*self.folder.run.glob("worker-*.json"), *self.folder.run.glob("retired-*.json")]
        return [child for record in sorted(records) if (child := Child.find(record)) is not None]

    def _retire(self, child: Child) -> None:
        """Let a worker end with its last job."""
        self._set_aside(child)
        child.send(signal.SIGTERM)
        if all(child.pid != other.pid for other in self.retired):
            self.retired.append(child)

    def _set_aside(self, child: Child) -> None:
        """Name a worker's record such that no supervisor adopts it for new jobs, and that its successor's has room.

        Raises:
            OSError: It cannot be renamed.
        """
        record = self.folder.run / f"retired-{child.pid}.json"
        if child.record is None or child.record == record:
            return
        if (processes.read_json(child.record) or {}).get("pid") == child.pid:  # else it has hardly begun, or is gone
            child.record.replace(record)
            child.record = record

    def _find_left(self) -> None:
        """Find what an earlier supervisor left, in order to end it."""
        self.api.child = Child.find(self.folder.run / "api.json")
        self.retired = self._left_workers()

    # Running

    def _keep(self, signals: Signals) -> int:
        """Start again what dies, until an order to end comes, which is returned."""
        while True:
            now = time.monotonic()
            due = [kept.due - now for kept in (self.api, *self.workers) if kept.child is None]
            for number in signals.wait(max(0.0, min([1.0, *due]))):
                if self._is_order(number):
                    return number
            self._tend_postgres()
            self._tend_api()
            for kept in self.workers:
                kept.tend(self.say)
            self._tend_retired()

    def _tend_api(self) -> None:
        self.api.tend(self.say)
        child = self.api.child
        if child is not None and not self.port and (url := self.folder.server(child.pid)):
            self.port = int(url.rpartition(":")[2])
            with contextlib.suppress(OSError):
                self.folder.announce("stopping" if self._ending else "running", port=self.port)

    def _tend_retired(self) -> None:
        for child in [child for child in self.retired if not child.alive]:
            child.forget()
            self.retired.remove(child)

    def _tend_postgres(self) -> None:
        """Start Postgres again if it died; the others reconnect by themselves."""
        now = time.monotonic()
        if self.postgres is None:
            return
        running = self.postgres.running
        if running and self._postgres_settled:
            if now - self._postgres_due > STEADY:
                self._postgres_pause = FIRST_PAUSE
            return
        if now < self._postgres_due:
            return
        if not running:
            self.say("Postgres does not run any more; it is started again.")
        before = self.settings
        try:
            url = self.postgres.start()
            if url != before.database_url and not self._ending:
                # Its socket had to move: nobody who knows the old place can find it.
                self.settings = before.model_copy(update={"database_url": url})
                if self.api.child is not None:
                    self.api.child.stop()
                    self.api.start()
                self._arrange_workers()
        except (EmbeddedError, OSError) as error:
            self.say(f"{error}\nIt is tried again in {self._postgres_pause:g} s.")
            self.settings = before  # so that what has not moved yet is moved then
            self._postgres_settled = False
            self._postgres_due = now + self._postgres_pause
            self._postgres_pause = min(2 * self._postgres_pause, LONGEST_PAUSE)
            return
        self._postgres_settled = True
        self._postgres_due = now

    # Ending

    def _end(self, signals: Signals, *, abort: bool) -> None:
        """End everything: the workers with their jobs first, then the API, then Postgres."""
        self._ending = True
        with contextlib.suppress(OSError):
            self.folder.announce("stopping", port=self.port)
        workers = [kept.child for kept in self.workers if kept.child is not None] + self.retired
        workers = [worker for worker in workers if worker.alive]
        for worker in workers:
            # If this process is killed meanwhile, its successor must not count on a worker that takes no more jobs.
            with contextlib.suppress(OSError):  # they are ended nevertheless
                self._set_aside(worker)
        leaves = self.settings.executor == "slurm"
        if workers and not abort and leaves:  # a worker that has left them holds none any more
            self._say_running(workers)
        self._tell(workers, signal.SIGINT if abort else signal.SIGTERM)
        orders = 2 if abort else 1
        kill_at: float | None = None
        if workers and not abort and not leaves:
            self._say_running(workers)
        while workers:
            for number in signals.wait(0.5):
                if number in {signal.SIGINT, signal.SIGQUIT}:
                    orders += 1
                    self._hurry(workers, orders)
                    if orders == 3:
                        kill_at = time.monotonic() + LAST_WORD
            workers = [worker for worker in workers if worker.alive]
            if kill_at is not None:
                if time.monotonic() < kill_at:
                    self._tell(workers, signal.SIGINT)  # two that came at once were one for the worker
                else:
                    self._kill(workers)
            # One that was just starting may not have heard the order; to be told twice to drain does no harm.
            self._tell(workers, signal.SIGTERM)
            if workers:
                self._tend_postgres()
                if self.api.since:  # in a folder whose supervisor was killed, only what runs is ended
                    self._tend_api()
        if self.api.child is not None and not self.api.child.stop():
            self.say(f"the API (process {self.api.child.pid}) does not end")
        if self.postgres is not None:
            try:
                self.postgres.stop()
            except (EmbeddedError, OSError) as error:
                self.say(str(error))
        for record in (*self.folder.run.glob("worker-*.json"), *self.folder.run.glob("retired-*.json")):
            record.unlink(missing_ok=True)
        (self.folder.run / "api.json").unlink(missing_ok=True)
        self.folder.retract()
        self.say("Stopped.")

    def _tell(self, workers: list[Child], number: int) -> None:
        for worker in workers:
            worker.send(number)

    def _hurry(self, workers: list[Child], orders: int) -> None:
        """Answer the second and the third order to end."""
        if orders == 2:
            self.say(
                "The jobs that run are asked to stop, and are killed after their grace time. Ctrl-C kills them now."
            )
            self._tell(workers, signal.SIGINT)
        elif orders == 3:
            self.say("Killing the jobs that run.")
            self._tell(workers, signal.SIGINT)

    def _kill(self, workers: list[Child]) -> None:
        """Kill workers that do not answer, with everything below them."""
        for worker in workers:
            if worker.alive:
                self.say(f"A worker (process {worker.pid}) does not end; it is killed with its jobs.")
                processes.kill_tree(worker.pid)
                worker.wait(5.0)

    def _say_running(self, workers: list[Child]) -> None:
        """Say how many jobs run, as far as the database knows."""
        running = self._running_jobs({worker.pid for worker in workers})
        if running == 0:
            self.say("Stopping: no job runs.")
            return
        if self.settings.executor == "slurm":
            many = "what Slurm has" if running is None else f"{_count(running, 'job')} of Slurm's"
            goes = "goes" if running in {None, 1} else "go"
            self.say(f"Stopping: {many} {goes} on, watched again by the next service on {self.folder.path}.")
            return
        jobs = (
            "the jobs that run"
            if running is None
            else "1 job that runs"
            if running == 1
            else f"{running} jobs that run"
        )
        how = f"hpcjobs serve --stop --now --data {self.folder.path}" if self.detached else "Ctrl-C"
        self.say(f"Stopping: waiting for {jobs}; no other is started. To cancel them: {how}")

    def _running_jobs(self, pids: set[int]) -> int | None:
        """How many jobs our workers run; None where the database does not say."""
        # Only here: it is far larger than all the rest, and the supervisor lives long.
        import psycopg

        from hpcjobs_server.store import Store

        async def ask() -> int:
            store = Store(self.settings.database_url, max_size=1, use_listen=self.settings.listen)
            await store.open()
            try:
                found = await asyncio.wait_for(store.workers(), 5.0)
            finally:
                await store.close()
            return sum(worker.running for worker in found if worker.pid in pids and worker.host == platform.node())

        if not self.settings.database_url:
            return None
        try:
            return asyncio.run(ask())
        except (psycopg.Error, OSError, asyncio.TimeoutError):
            return None

    def _give_up(self) -> None:
        """End what this start began; what was adopted, and jobs that run, go on."""
        for child in self._began:
            if child.record is not None and child.record.name.startswith("worker-") and child.alive:
                with contextlib.suppress(OSError):
                    self._set_aside(child)
            child.send(signal.SIGTERM)
        for child in self._began:
            if child.wait(10.0):
                child.forget()
        if self.postgres is not None and not self._left_workers() and Child.find(self.folder.run / "api.json") is None:
            with contextlib.suppress(EmbeddedError, OSError):
                self.postgres.stop()
        self.folder.retract()

    # What the operator sees

    def say(self, text: str) -> None:
        """Tell the operator; in the log each message has its time."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ") if self.detached else ""
        console.say(f"{stamp}{text}", stream=self._messages)

    def _fail(self, text: str, code: int = 1) -> int:
        console.complain(text)
        return code

    def _greet(self) -> None:
        if self._adopted:
            self.say(f"Adopted what was running: {', '.join(self._adopted)}.")
        if self.retired:
            ending = _count(len(self.retired), "worker")
            self.say(f"Ending with the last job: {ending} with other settings, too many, or asked to end before.")
        url = self.url or ""
        if self.detached:
            self.say(f"hpcjobs {__version__} runs at {url}")
            return
        workers = len(self.workers)
        cores = self.settings.cores_per_worker
        gives = _count(cores, "core")
        stop = "Ctrl-C; jobs that run may end, a second Ctrl-C cancels them"
        if self.settings.executor == "slurm":
            gives = f"up to {_count(self.settings.slurm_jobs, 'job')} in Slurm"
            stop = f"Ctrl-C; what Slurm has goes on. To cancel it: hpcjobs serve --stop --now --data {self.folder.path}"
        database = "your Postgres" if self.postgres is None else f"embedded Postgres (process {self.postgres.pid})"
        self.say(
            greeting(
                url,
                self.folder.token,
                {
                    "data": str(self.folder.path),
                    "database": database,
                    "workers": f"{workers} with {gives}{' each' if workers > 1 else ''}",
                    "stop": stop,
                },
                pretty=console.pretty(),
            )
        )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _fingerprint(settings: Mapping[str, str], but: tuple[str, ...]) -> str:
    """What tells whether a process that runs has the settings that are wanted now."""
    left_out = {PREFIX + name for name in but}
    kept = sorted((name, text) for name, text in settings.items() if name not in left_out)
    return hashlib.sha256(json.dumps([__version__, kept]).encode()).hexdigest()


def main() -> None:
    """Run in the background, with the settings from the environment: see `hpcjobs_server.control.detach`."""
    from setproctitle import setproctitle

    detached = os.environ.pop(DETACHED, "") == "1"
    settings = Settings()
    setproctitle("hpcjobs serve")
    sys.exit(Supervisor(settings, detached=detached).run())


if __name__ == "__main__":
    main()
