"""A whole reference server for tests: real processes on a real Postgres, controlled one by one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from datetime import timedelta

    from hpcjobs import Client
    from hpcjobs.models import TokenInfo
    from hpcjobs_server.embedded import EmbeddedPostgres
    from hpcjobs_server.settings import Settings
    from hpcjobs_server.store import Store

T = TypeVar("T")

START_TIMEOUT = 60.0
"""Seconds for a process to become ready; generous, because a busy machine is not a broken program."""

PAUSE = 0.01
"""Seconds between two looks at something that cannot be awaited (a file, a row, a process)."""

OWNER = "tester"


def clean_environ() -> dict[str, str]:
    """The environment without anything of hpcjobs in it, so that a developer's own settings do not count."""
    return {name: text for name, text in os.environ.items() if not name.startswith("HPCJOBS_")}


def until(condition: Callable[[], T], *, timeout: float = START_TIMEOUT, what: str = "the condition") -> T:
    """Look until ``condition()`` is true and return what it said; fail after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        if said := condition():
            return said
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true within {timeout:g} s")
        time.sleep(PAUSE)


def run_async(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function to its end in an event loop of its own; also from within an async test."""
    out: list[T] = []
    broken: list[BaseException] = []

    def target() -> None:
        async def wrapped() -> T:
            return await main()

        try:
            out.append(asyncio.run(wrapped()))
        except BaseException as error:
            broken.append(error)

    thread = threading.Thread(target=target, name="run_async")
    thread.start()
    thread.join()
    if broken:
        raise broken[0]
    return out[0]


class ProcessDied(AssertionError):
    """A process of the service ended before it was ready."""


@dataclasses.dataclass
class Service:
    """A running reference server: one API process and some workers, each a process of its own.

    Attributes:
        settings: What its processes were started with (``port`` is the real one after the start).
        postgres: The Postgres that belongs to this service alone, where it has one.
        url: The API's address.
        token: A token of the owner "tester" with scope admin.
        api: The API process, or None while there is none.
        workers: The worker processes that were started and not seen to end, oldest first.
    """

    settings: Settings
    postgres: EmbeddedPostgres | None = None
    url: str = ""
    token: str = ""
    api: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)
    _started: int = 0

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.settings.data

    # Starting and ending

    def start(self) -> Service:
        """Make a token, start the API and the workers, and wait until all of them are ready."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.data / "log").mkdir(exist_ok=True)
        self.token = self.make_token(OWNER, scope="admin").token or ""
        file = self.data / "token"
        file.touch(mode=0o600)
        file.write_text(self.token)
        self._launch_api()
        started = [self._launch_worker() for _ in range(self.settings.workers)]
        self._await_api()
        for worker in started:
            self._await_worker(worker)
        return self

    def end(self) -> None:
        """End every process of this service: jobs are aborted, what does not go is killed."""
        for worker in self.workers:
            _signal(worker, signal.SIGINT)
        if self.api is not None:
            _signal(self.api, signal.SIGTERM)
        for process in [*self.workers, *([self.api] if self.api is not None else [])]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.workers.clear()
        self.api = None
        if self.postgres is not None:
            self.postgres.stop()

    # The API

    def start_api(self) -> int:
        """Start the API again, on the same port; its process id."""
        assert self.api is None, "there is an API process already"
        self._launch_api()
        return self._await_api()

    def stop_api(self, timeout: float = 10) -> int:
        """SIGTERM to the API; its exit code."""
        return self._end_api(signal.SIGTERM, timeout)

    def kill_api(self) -> int:
        """Kill the API as a crash would; its exit code."""
        return self._end_api(signal.SIGKILL, 10)

    def _end_api(self, number: signal.Signals, timeout: float) -> int:
        assert self.api is not None, "there is no API process"
        _signal(self.api, number)
        code = self.api.wait(timeout)
        self.api = None
        return code

    def _launch_api(self) -> None:
        # A file that a killed API left behind must not be taken for the new one's.
        (self.data / "server.json").unlink(missing_ok=True)
        self.api = self._launch("hpcjobs_server.api_process", "api")

    def _await_api(self) -> int:
        api = self.api
        assert api is not None
        told = self._await(api, "api", "the API's server.json", lambda: _read_json(self.data / "server.json"))
        self.url = told["url"].rstrip("/")
        self.settings = self.settings.model_copy(update={"port": urlsplit(self.url).port})

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return http.get(f"{self.url}/readyz").status_code == 200
            return False

        with httpx.Client(timeout=10, trust_env=False) as http:
            self._await(api, "api", "/readyz", ready)
        return api.pid

    # The workers

    def start_worker(self, **changes: Any) -> int:
        """Start one more worker, with other settings where ``changes`` says so; its process id once it is alive."""
        worker = self._launch_worker(**changes)
        self._await_worker(worker)
        return worker.pid

    def stop_worker(self, pid: int | None = None, *, timeout: float = 30) -> int:
        """SIGTERM to a worker (the oldest where no ``pid`` is given), which drains; its exit code."""
        return self._end_worker(pid, signal.SIGTERM, timeout)

    def abort_worker(self, pid: int | None = None, *, timeout: float = 30) -> int:
        """SIGINT to a worker, which aborts its jobs; its exit code."""
        return self._end_worker(pid, signal.SIGINT, timeout)

    def kill_worker(self, pid: int | None = None) -> int:
        """Kill a worker as a crash would; its exit code."""
        return self._end_worker(pid, signal.SIGKILL, 10)

    def signal_worker(self, number: signal.Signals, pid: int | None = None) -> None:
        """Send a signal to a worker and do not wait for anything."""
        _signal(self._worker(pid), number)

    def _worker(self, pid: int | None) -> subprocess.Popen[bytes]:
        assert self.workers, "there is no worker"
        return self.workers[0] if pid is None else next(worker for worker in self.workers if worker.pid == pid)

    def _end_worker(self, pid: int | None, number: signal.Signals, timeout: float) -> int:
        worker = self._worker(pid)
        _signal(worker, number)
        code = worker.wait(timeout)
        self.workers.remove(worker)
        return code

    def _launch_worker(self, **changes: Any) -> subprocess.Popen[bytes]:
        self._started += 1
        worker = self._launch("hpcjobs_server.worker", f"worker-{self._started}", **changes)
        self.workers.append(worker)
        return worker

    def _await_worker(self, worker: subprocess.Popen[bytes]) -> None:
        name = f"worker with pid {worker.pid}"

        async def main() -> None:
            end = time.monotonic() + START_TIMEOUT
            async with self.store() as store:
                while worker.pid not in {alive.pid for alive in await store.workers()}:
                    self._check(worker, name)
                    if time.monotonic() > end:
                        raise TimeoutError(f"the {name} was not alive within {START_TIMEOUT:g} s\n{self.logs()}")
                    await asyncio.sleep(PAUSE)

        run_async(main)

    # Postgres, where it is this service's own

    def stop_postgres(self) -> None:
        """Stop the Postgres of this service."""
        assert self.postgres is not None, "this service has no Postgres of its own: service_factory(own_postgres=True)"
        self.postgres.stop()

    def start_postgres(self) -> None:
        """Start the Postgres of this service again, at the same address."""
        assert self.postgres is not None
        self.postgres.start()

    # What tests ask for

    def make_token(self, owner: str, *, scope: str = "write", expires_in: timedelta | None = None) -> TokenInfo:
        """A new token for ``owner``; ``.token`` is the secret."""
        from hpcjobs.models import Scope

        async def main() -> TokenInfo:
            async with self.store() as store:
                return await store.create_token(owner, name="test", scope=Scope(scope), expires_in=expires_in)

        return run_async(main)

    def client(self, token: str | None = None, **options: Any) -> Client:
        """A client of this service; the caller closes it."""
        from hpcjobs import Client

        return Client(url=self.url, token=token or self.token, **options)

    @contextlib.contextmanager
    def http(self, token: str | None = None, **options: Any) -> Iterator[httpx.Client]:
        """A bare HTTP client with the token set, to test the wire itself."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        options.setdefault("timeout", 40)
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False, **options) as http:
            yield http

    @contextlib.asynccontextmanager
    async def store(self) -> Any:
        """The store on this service's database, open."""
        from hpcjobs_server.store import Store

        store = Store(self.settings.database_url, min_size=1, max_size=4)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def ask_store(self, question: Callable[[Store], Awaitable[T]]) -> T:
        """Ask the store one thing from a sync test: ``service.ask_store(lambda store: store.workers())``."""

        async def main() -> T:
            async with self.store() as store:
                return await question(store)

        return run_async(main)

    def environ(self, token: str | None = None) -> dict[str, str]:
        """An environment in which a client (a command, a script) finds this service."""
        found = {"HPCJOBS_URL": self.url, "HPCJOBS_TOKEN": token or self.token}
        return {
            **clean_environ(),
            "HPCJOBS_CONFIG": str(self.data / "config.toml"),
            "HPCJOBS_DATA": str(self.data),
            **found,
        }

    def logs(self, lines: int = 40) -> str:
        """The last lines of every log of this service."""
        parts = []
        for file in sorted((self.data / "log").glob("*.log")):
            tail = file.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {file.name}", *tail]))
        return "\n".join(parts)

    # Inside

    def _launch(self, module: str, log: str, **changes: Any) -> subprocess.Popen[bytes]:
        settings = self.settings.model_copy(update=changes)
        with (self.data / "log" / f"{log}.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", module],
                env={**clean_environ(), **settings.environ()},
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _check(self, process: subprocess.Popen[bytes], name: str) -> None:
        if (code := process.poll()) is not None:
            raise ProcessDied(f"the {name} ended with {code} before it was ready\n{self.logs()}")

    def _await(self, process: subprocess.Popen[bytes], name: str, what: str, look: Callable[[], T]) -> T:
        def checked() -> T:
            self._check(process, name)
            return look()

        try:
            return until(checked, what=what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logs()}") from None


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return told
