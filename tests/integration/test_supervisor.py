"""``hpcjobs serve``: what it starts, finds again, ends, and says. Every process here is real."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from hpcjobs_server import control, processes
from hpcjobs_server.datafolder import DataError, DataFolder, healthy, port_problem
from hpcjobs_server.embedded import EmbeddedPostgres
from hpcjobs_server.processes import Child
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import LOGIN
from hpcjobs_server.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Kept, Supervisor
from hpcjobs_server.waking import Signals
from tests.running import clean_environ, until

SERVER = [sys.executable, "-m", "hpcjobs_server"]
PATIENCE = 90.0
ALL_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the server's commands to its end."""
    return subprocess.run(
        [*SERVER, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env={**clean_environ(), **(env or {})},
    )


@dataclasses.dataclass
class Serve:
    """One ``hpcjobs serve`` in the foreground."""

    data: Path
    process: subprocess.Popen[str]
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def ready(self) -> Serve:
        """Wait until it greets."""

        def look() -> bool:
            assert self.process.poll() is None, self.said()
            return "Ctrl-C; jobs that run may end" in self.said()

        until(look, timeout=PATIENCE, what="the greeting")
        return self

    def says(self, text: str) -> None:
        until(lambda: text in self.said(), timeout=PATIENCE, what=f"{text!r} in the output")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(PATIENCE)

    @property
    def status(self) -> control.Status:
        return control.status(DataFolder(self.data))

    def http(self) -> httpx.Client:
        url = DataFolder(self.data).server()
        assert url is not None
        token = (self.data / "token").read_text().strip()
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False)

    def submit(self, command: str, **fields: Any) -> str:
        with self.http() as http:
            answer = http.post("/v1/jobs", json={"command": command, **fields})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        with self.http() as http:
            found: dict[str, Any] = http.get(f"/v1/jobs/{job_id}").json()
            return found

    def wait_state(self, job_id: str, state: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.TransportError, AssertionError):
                found = self.job(job_id)
                return found if found.get("state") == state else None
            return None

        found = until(look, timeout=PATIENCE, what=f"{state} of {job_id}")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that was used once: what every test starts from, because to make one takes a while."""
    data = tmp_path_factory.mktemp("made") / "data"
    done = run("serve", "--detach", "--port", "0", "--workers", "0", "--data", data)
    assert done.returncode == 0, done.stderr
    assert run("serve", "--stop", "--data", data).returncode == 0
    return data


@pytest.fixture
def data(tmp_path: Path, made_once: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    shutil.copytree(made_once, folder)
    yield folder
    done = run("serve", "--stop", "--now", "--data", folder)
    assert done.returncode == 0, done.stderr
    assert control.status(DataFolder(folder)).state == "stopped"


@pytest.fixture
def serve(data: Path, tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    """Start servers in the foreground on the test's data folder."""
    started: list[Serve] = []

    def start(*arguments: str, **env: str) -> Serve:
        output = tmp_path / f"serve-{len(started)}.out"
        with output.open("w") as file:
            process = subprocess.Popen(
                [*SERVER, "serve", "--data", str(data), "--port", "0", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                text=True,
                env={**clean_environ(), **env},
            )
        started.append(Serve(data, process, output))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.send(signal.SIGQUIT)
            one.end()


def pids(status: control.Status) -> list[int]:
    """All processes of a service."""
    return [pid for pid in (status.supervisor, status.api, status.postgres, *status.workers) if pid is not None]


def family(status: control.Status) -> dict[int, str]:
    """All processes of a service and what they started, with their births."""
    found: dict[int, str] = {}
    for pid in pids(status):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            found[process.pid] = processes.birth(process.pid) or ""
    return found


def all_gone(found: dict[int, str]) -> bool:
    return all(any(processes.birth(pid) != born for _ in processes.pauses(10)) for pid, born in found.items())


# The whole of it


def test_serve_runs_tells_how_and_ctrl_c_leaves_nothing(
    serve: Callable[..., Serve], data: Path, tmp_path: Path
) -> None:
    token_file = tmp_path / "my-token"
    one = serve("--token-file", str(token_file)).ready()
    token = (data / "token").read_text().strip()
    url = DataFolder(data).server()
    [address] = re.findall(rf"^    ({re.escape(url or '')}/login\?key=\S+)$", one.said(), re.MULTILINE)
    assert token not in one.said(), "it would be in the terminal's history, and in the browser's"
    assert httpx.get(address, trust_env=False).status_code == 200
    key = httpx.URL(address).params["key"]
    let_in = [httpx.post(f"{url}/login", data={"key": key}, trust_env=False) for _ in range(2)]
    assert [answer.status_code for answer in let_in] == [303, 401]
    assert f"{data}\n" in one.said()
    assert "\033" not in one.said(), "no colours in a file"
    assert token_file.read_text().strip() == token
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for path in ("token", "server.json", "run/serve.json", "run/api.json", "run/worker-1.json", "run/postgres.json"):
        assert stat.S_IMODE((data / path).stat().st_mode) == 0o600, path
    with one.http() as http:
        assert http.get("/v1/info").json()["scope"] == "admin"
        assert http.get("/readyz").status_code == 200
    one.wait_state(one.submit("true"), "FINISHED")

    said = run("serve", "--status", "--data", data)
    assert said.returncode == 0
    assert f"is running at {url}" in said.stdout
    told = json.loads(run("serve", "--status", "--json", "--data", data).stdout)
    assert told["state"] == "running"
    assert told["supervisor"] == one.process.pid
    assert len(told["workers"]) == 1

    second = run("serve", "--data", data)
    assert second.returncode == 3
    assert second.stdout == ""
    assert len(second.stderr.splitlines()) == 1
    assert f"process {one.process.pid}, at {url}" in second.stderr

    found = family(one.status)
    assert len(found) > 8
    one.send(signal.SIGINT)
    assert one.end() == 0
    assert all_gone(found)
    assert one.said().endswith("Stopping: no job runs.\nStopped.\n")
    assert not (data / "server.json").exists()
    assert [path.name for path in (data / "run").glob("*.json")] == []
    assert run("serve", "--status", "--data", data).returncode == 3
    assert (data / "token").read_text().strip() == token


def test_a_later_start_keeps_the_token_and_a_revoked_one_is_replaced(serve: Callable[..., Serve], data: Path) -> None:
    token = (data / "token").read_text().strip()
    one = serve("--workers", "0").ready()
    assert (data / "token").read_text().strip() == token
    with one.http() as http:
        ids = [item["id"] for item in http.get("/v1/tokens").json()["items"] if item["name"] != LOGIN]
        assert len(ids) == 1
        assert http.delete(f"/v1/tokens/{ids[0]}").status_code == 204
    one.send(signal.SIGTERM)
    assert one.end() == 0
    again = serve("--workers", "0").ready()
    assert (data / "token").read_text().strip() != token
    with again.http() as http:
        assert http.get("/v1/info").status_code == 200


def test_ctrl_c_waits_for_jobs_that_run_and_starts_no_other(serve: Callable[..., Serve], tmp_path: Path) -> None:
    one = serve("--cores", "1").ready()
    go = tmp_path / "go"
    runs = one.submit(f"while [ ! -e {go} ]; do sleep 0.05; done")
    waits = one.submit("true")
    one.wait_state(runs, "RUNNING")
    until(lambda: one.job(waits)["state"] == "QUEUED")
    time_of_beat = 1.5
    until(
        lambda: _running_in_database(one) == 1, what="the worker's word that it runs one job", timeout=20 * time_of_beat
    )
    one.send(signal.SIGINT)
    one.says("Stopping: waiting for 1 job that runs; no other is started. To cancel them: Ctrl-C")
    assert one.job(runs)["state"] == "RUNNING", "the API goes on while jobs run"
    assert one.status.state == "stopping"
    go.touch()
    assert one.end() == 0
    again = serve("--cores", "1", "--workers", "0").ready()
    assert again.job(runs)["state"] == "FINISHED"
    assert again.job(waits)["state"] == "QUEUED"


def _running_in_database(one: Serve) -> int:
    import psycopg

    url = EmbeddedPostgres(one.data).find()
    assert url is not None
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT coalesce(sum(running), 0) FROM hpcjobs.workers").fetchone()
    assert row is not None
    return int(row[0])


def test_a_second_ctrl_c_cancels_the_jobs(serve: Callable[..., Serve], tmp_path: Path) -> None:
    one = serve().ready()
    job = one.submit("sleep 600", grace="1s")
    one.wait_state(job, "RUNNING")
    found = family(one.status)
    one.send(signal.SIGINT)
    one.says("Stopping: ")
    one.send(signal.SIGINT)
    assert one.end() == 0
    assert "asked to stop" in one.said()
    assert all_gone(found)
    again = serve("--workers", "0").ready()
    ended = again.job(job)
    assert (ended["state"], ended["reason"]) == ("CANCELLED", "the service was stopped")


DEAF = "trap '' TERM; touch deaf; while :; do sleep 1; done"


def deaf_job(one: Serve) -> str:
    """A job that does not stop when it is asked to, and has ten minutes for it."""
    job = one.submit(DEAF, grace="600s")
    one.wait_state(job, "RUNNING")
    until(lambda: list(one.data.glob(f"jobs/{job}/*/work/deaf")), what="the job's trap")
    return job


def test_a_third_ctrl_c_kills_jobs_that_do_not_stop_and_their_end_is_known(serve: Callable[..., Serve]) -> None:
    one = serve().ready()
    job = deaf_job(one)
    found = family(one.status)
    for text in ("Stopping: ", "asked to stop", "Killing the jobs that run."):
        one.send(signal.SIGINT)
        one.says(text)
    killed = time.monotonic()
    assert one.end() == 0
    assert all_gone(found)
    assert time.monotonic() - killed < 30
    assert "is killed with its jobs" not in one.said(), "the workers end by themselves"
    again = serve("--workers", "0").ready()
    ended = again.job(job)
    assert (ended["state"], ended["reason"]) == ("CANCELLED", "the service was stopped")


def test_a_third_ctrl_c_ends_even_a_worker_that_hangs_with_its_jobs(serve: Callable[..., Serve]) -> None:
    one = serve().ready()
    deaf_job(one)
    found = family(one.status)
    (worker,) = one.status.workers
    os.kill(worker, signal.SIGSTOP)
    for text in ("Stopping: ", "asked to stop", "Killing the jobs that run."):
        one.send(signal.SIGINT)
        one.says(text)
    assert one.end() == 0
    assert f"A worker (process {worker}) does not end; it is killed with its jobs." in one.said()
    assert all_gone(found)


def test_a_start_that_is_interrupted_leaves_nothing(serve: Callable[..., Serve], data: Path) -> None:
    one = serve()
    until(lambda: (data / "run" / "postgres.json").exists() or one.process.poll() is not None)
    one.send(signal.SIGTERM)
    assert one.end() == 0
    assert one.status.state == "stopped"


# What dies is started again


def test_what_is_killed_is_started_again_at_the_same_address(serve: Callable[..., Serve], data: Path) -> None:
    one = serve().ready()
    job = one.submit("sleep 600", grace="1s")
    one.wait_state(job, "RUNNING")
    before = one.status
    assert before.api is not None
    assert before.postgres is not None
    for victim in (before.api, before.postgres):
        os.kill(victim, signal.SIGKILL)
    until(lambda: one.status.api not in {None, before.api} and one.status.url, timeout=PATIENCE)
    until(lambda: one.status.postgres not in {None, before.postgres}, timeout=PATIENCE)
    assert one.status.url == before.url

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError), one.http() as http:
            return http.get("/readyz").status_code == 200
        return False

    until(ready, timeout=PATIENCE, what="/readyz")
    assert one.job(job)["state"] == "RUNNING", "the job took no notice"
    assert one.status.workers == before.workers
    os.kill(before.workers[0], signal.SIGKILL)
    until(lambda: one.status.workers and one.status.workers != before.workers, timeout=PATIENCE)
    for text in (
        "api ended by SIGKILL; it is started again in 0.2 s",
        "Postgres does not run any more",
        "worker-1 ended",
    ):
        one.says(text)


def test_a_process_that_dies_at_once_is_tried_less_and_less_often_and_its_log_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"

    def make() -> Child:
        return Child.start([sys.executable, "-c", "print('no such thing'); raise SystemExit(7)"], log=log)

    kept, said = Kept("x", make, log), list[str]()
    kept.start()
    pauses = []
    for _ in range(9):
        until(lambda: not kept.alive)
        kept.tend(said.append)
        pauses.append(round(kept.due - time.monotonic(), 1))
        kept.due = 0.0  # do not wait for it
        kept.tend(said.append)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert said[0] == f"x ended with exit code 7; it is started again in 0.2 s. Its log, {log}, ends:\nno such thing"
    kept.since -= 31
    until(lambda: not kept.alive)
    kept.tend(said.append)
    assert said[-1] == "x ended with exit code 7; it is started again in 0.2 s."
    assert kept.pause == 2 * FIRST_PAUSE < LONGEST_PAUSE


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    def make() -> Child:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    kept, said = Kept("x", make, tmp_path / "log"), list[str]()
    kept.tend(said.append)
    assert said == ["x cannot be started: [Errno 11] Resource temporarily unavailable. It is tried again in 0.2 s."]
    assert kept.due > time.monotonic()


# A supervisor that was killed


def test_after_kill_9_the_next_serve_adopts_everything_and_jobs_go_on(
    serve: Callable[..., Serve], tmp_path: Path
) -> None:
    one = serve("--workers", "2", "--cores", "1").ready()
    go = tmp_path / "go"
    job = one.submit(f"while [ ! -e {go} ]; do sleep 0.05; done")
    one.wait_state(job, "RUNNING")
    before = one.status
    one.send(signal.SIGKILL)
    one.end()
    left = one.status
    assert left.state == "left"
    assert (left.api, left.postgres, left.workers) == (before.api, before.postgres, before.workers)
    said = run("serve", "--status", "--data", one.data)
    assert said.returncode == 3
    assert "was killed" in said.stdout

    again = serve("--workers", "2", "--cores", "1").ready()
    assert "Adopted what was running: " in again.said()
    now = again.status
    assert (now.api, now.postgres, now.workers) == (before.api, before.postgres, before.workers)
    assert now.url == before.url
    go.touch()
    again.wait_state(job, "FINISHED")
    os.kill(before.workers[1], signal.SIGKILL)  # one that was adopted is looked after, too
    until(lambda: len(again.status.workers) == 2 and again.status.workers != before.workers, timeout=PATIENCE)
    found = family(again.status)
    again.send(signal.SIGINT)
    assert again.end() == 0
    assert all_gone(found)


def test_a_worker_that_drains_is_not_adopted_for_new_jobs(serve: Callable[..., Serve], tmp_path: Path) -> None:
    one = serve("--cores", "1").ready()
    go = tmp_path / "go"
    job = one.submit(f"while [ ! -e {go} ]; do sleep 0.05; done")
    one.wait_state(job, "RUNNING")
    draining = one.status.workers
    one.send(signal.SIGINT)
    one.says("Stopping: ")
    one.send(signal.SIGKILL)
    one.end()
    assert one.status.workers == draining
    again = serve("--cores", "1").ready()
    assert "worker-1 (process" not in again.said()
    assert "Ending with the last job: 1 worker " in again.said()
    again.wait_state(again.submit("true"), "FINISHED")
    assert again.job(job)["state"] == "RUNNING"
    go.touch()
    again.wait_state(job, "FINISHED")
    until(lambda: not set(draining) & set(again.status.workers), timeout=PATIENCE, what="the old worker's end")
    assert len(again.status.workers) == 1


def test_a_start_that_fails_leaves_no_worker_that_looks_as_if_it_took_jobs(tmp_path: Path) -> None:
    supervisor = Supervisor(Settings(data=tmp_path / "data", database_url="postgresql://nowhere/x"))
    run_folder = supervisor.folder.run
    run_folder.mkdir(parents=True)
    seen: list[str] = []
    for name in ("api", "worker-1"):
        record = run_folder / f"{name}.json"
        argv = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = Child.start(argv, log=tmp_path / "x.log", record=record)
        until(record.exists)
        supervisor._began.append(child)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(child, "send", lambda _number: seen.extend(path.name for path in run_folder.glob("*-*.json")))
            patch.setattr(child, "wait", lambda _timeout: False)  # it still has a job
            supervisor._give_up()
    assert seen[-1:] == [f"retired-{child.pid}.json"], "before it was told to end"
    assert (run_folder / "api.json").exists() or not supervisor._began[0].alive
    for child in supervisor._began:
        assert child.stop(signals=((signal.SIGKILL, 10.0),))


def test_a_worker_that_was_just_starting_and_lost_the_order_to_abort_is_ended_all_the_same(tmp_path: Path) -> None:
    """Python ignores an interrupt that falls into the release of an import's lock."""
    supervisor = Supervisor(
        Settings(data=tmp_path / "data", database_url="postgresql://nowhere/x"), messages=io.StringIO()
    )
    supervisor.folder.prepare()
    starting = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    worker = supervisor._worker(1)
    worker.adopt(Child.start([sys.executable, "-c", starting], log=worker.log))
    until(lambda: "on" in worker.log.read_text())
    assert worker.child is not None
    supervisor.workers = [worker]
    with Signals() as signals:
        supervisor._end(signals, abort=True)
    assert not worker.child.alive


class FullDisk:
    """Stands for a Postgres that moved, and whose record cannot be written at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.running = False

    def start(self) -> str:
        self.running = True
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return "postgresql://moved/x"


def test_a_full_disk_while_postgres_is_started_again_does_not_end_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    supervisor = Supervisor(Settings(data=tmp_path / "data", database_url="postgresql://old/x"), messages=said)
    supervisor.postgres = cast("EmbeddedPostgres", FullDisk(failures=1))
    arranged: list[str] = []

    def arrange() -> None:
        arranged.append(supervisor.settings.database_url)
        if len(arranged) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervisor, "_arrange_workers", arrange)
    for pause in (0.2, 0.4):
        supervisor._tend_postgres()
        assert supervisor.settings.database_url == "postgresql://old/x"
        assert said.getvalue().endswith(f"No space left on device\nIt is tried again in {pause:g} s.\n")
        before = list(arranged)
        supervisor._tend_postgres()
        assert arranged == before, "not before the pause is over"
        supervisor._postgres_due = 0.0
    supervisor._tend_postgres()
    assert arranged == ["postgresql://moved/x"] * 2
    assert supervisor.settings.database_url == "postgresql://moved/x"
    supervisor._postgres_due = 0.0
    supervisor._tend_postgres()
    assert len(arranged) == 2, "all is well"
    assert said.getvalue().count("does not run any more") == 1


def test_with_other_settings_the_api_is_replaced_and_workers_end_with_their_jobs(
    serve: Callable[..., Serve], tmp_path: Path
) -> None:
    one = serve("--workers", "2", "--cores", "1").ready()
    jobs = {
        f"go-{number}": one.submit(f"while [ ! -e {tmp_path}/go-{number} ]; do sleep 0.05; done") for number in (1, 2)
    }
    for job in jobs.values():
        one.wait_state(job, "RUNNING")
    before = one.status
    one.send(signal.SIGKILL)
    one.end()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    again = serve("--workers", "1", "--cores", "3", "--port", str(port)).ready()
    now = again.status
    assert now.url == f"http://127.0.0.1:{port}"
    assert now.api != before.api
    assert now.postgres == before.postgres
    assert len(now.workers) == 3
    assert set(before.workers) < set(now.workers), "their jobs run"
    for name in jobs:
        (tmp_path / name).touch()
    for job in jobs.values():
        again.wait_state(job, "FINISHED")
    until(lambda: set(again.status.workers) == set(now.workers) - set(before.workers), timeout=PATIENCE)


def test_stop_ends_what_a_killed_supervisor_left(serve: Callable[..., Serve], data: Path) -> None:
    one = serve().ready()
    job = one.submit("sleep 600", grace="1s")
    one.wait_state(job, "RUNNING")
    found = family(one.status)
    one.send(signal.SIGKILL)
    one.end()
    done = run("serve", "--stop", "--now", "--data", data)
    assert done.returncode == 0, done.stderr
    assert f"The service on {data} has ended." in done.stdout
    assert all_gone(found)
    assert one.status.state == "stopped"
    again = serve("--workers", "0").ready()
    assert again.job(job)["state"] == "CANCELLED"


def test_stop_ends_only_what_is_left_when_even_postgres_was_killed(serve: Callable[..., Serve], data: Path) -> None:
    one = serve().ready()
    job = one.submit("sleep 600", grace="1s")
    one.wait_state(job, "RUNNING")
    status = one.status
    found = family(status)
    assert status.api is not None
    assert status.postgres is not None
    for victim in (one.process.pid, status.api, status.postgres):
        os.kill(victim, signal.SIGKILL)
    one.end()
    assert run("serve", "--stop", "--now", "--data", data).returncode == 0
    assert all_gone(found)
    again = serve("--workers", "0").ready()
    assert again.job(job)["state"] == "CANCELLED", "its end was written down all the same"


# In the background


def test_detach_returns_when_the_service_answers_and_stop_ends_it(data: Path) -> None:
    done = run("serve", "--detach", "--port", "0", "--data", data)
    assert done.returncode == 0, done.stderr
    folder = DataFolder(data)
    url = folder.server()
    assert url is not None
    assert healthy(url)
    assert f"{url}/login?key=" in done.stdout
    assert (data / "token").read_text().strip() not in done.stdout
    assert (data / "token").read_text().strip() not in (data / "log" / "serve.log").read_text()
    found = family(control.status(folder))
    supervisor = control.status(folder).supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGHUP)  # the terminal is closed
    again = run("serve", "--detach", "--json", "--data", data)
    assert json.loads(again.stdout) == {"url": url, "data": str(data), "token_file": str(data / "token")}
    assert control.status(folder).supervisor == supervisor
    ended = run("serve", "--stop", "--json", "--data", data)
    assert json.loads(ended.stdout) == {"stopped": True, "data": str(data)}
    assert all_gone(found)
    assert json.loads(run("serve", "--stop", "--json", "--data", data).stdout)["stopped"] is False


def test_two_that_detach_at_once_end_with_one_service(data: Path) -> None:
    command = [*SERVER, "serve", "--detach", "--json", "--port", "0", "--workers", "0", "--data", str(data)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ())
        for _ in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert json.loads(said[0][0])["url"] == DataFolder(data).server()


def test_detach_that_fails_says_why_and_leaves_nothing(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--detach", "--port", str(port), "--data", data)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: address already in use; choose another --port" in done.stderr
    assert "Traceback" not in done.stderr
    assert control.status(DataFolder(data)).state == "stopped"


def test_a_database_that_does_not_answer_is_an_error_without_its_password(data: Path) -> None:
    done = run("serve", "--database-url", "postgresql://me:secret@127.0.0.1:1/none", "--data", data)
    assert done.returncode == 1
    assert "the database cannot be used" in done.stderr
    assert "secret" not in done.stderr
    assert control.status(DataFolder(data)).state == "stopped"


# The command line and the data folder


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        (["--port", "70000"], {}, "'--port': Input should be less than or equal to 65535"),
        (["--workers", "-1"], {}, "'--workers'"),
        (["--workers", "many"], {}, "'--workers'"),
        (["--executor", "magic"], {}, "no executor 'magic'; there is: local"),
        (["--database-url", "mysql://x"], {}, "--database-url must be a URL such as postgresql://"),
        (["--stop", "--status"], {}, "only one of --detach, --stop and --status"),
        (["--now"], {}, "--now goes with --stop"),
        (["--json"], {}, "--json goes with"),
        ([], {"HPCJOBS_SERVER_WORKERS": "some"}, "HPCJOBS_SERVER_WORKERS: Input should be a valid integer"),
        ([], {"HPCJOBS_SERVER_QUEUES": "not json"}, "queues"),
        ([], {"HPCJOBS_SERVER_LEASE": "0"}, "HPCJOBS_SERVER_LEASE: Input should be greater than 0"),
    ],
)
def test_a_bad_option_is_named(arguments: list[str], env: dict[str, str], text: str, tmp_path: Path) -> None:
    done = run("serve", "--data", tmp_path / "data", *arguments, env=env)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_a_data_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir(mode=0o755)
    (project / "paper.tex").touch()
    with pytest.raises(DataError, match=r"holds paper\.tex"):
        DataFolder(project).prepare()
    assert stat.S_IMODE(project.stat().st_mode) == 0o755
    assert [path.name for path in project.iterdir()] == ["paper.tex"]
    with pytest.raises(DataError, match="it is a file"):
        DataFolder(project / "paper.tex").prepare()
    with pytest.raises(DataError, match="or below one"):
        DataFolder(project / "paper.tex" / "data").prepare()
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "format").write_text("99\n")
    with pytest.raises(DataError, match="written by a newer version of hpcjobs-server"):
        DataFolder(newer).prepare()
    done = run("serve", "--data", newer)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_data_folder_is_made_private_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = os.umask(0)
    try:
        folder = DataFolder(Path("a") / ".." / "deep" / "data")
        folder.prepare()
        folder.prepare()
    finally:
        os.umask(old)
    assert folder.path == tmp_path / "deep" / "data"
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_only_one_can_have_the_lock_and_a_dead_one_has_none(tmp_path: Path) -> None:
    one, two = DataFolder(tmp_path / "data"), DataFolder(tmp_path / "data")
    one.prepare()
    assert one.lock()
    assert not two.lock(wait=0.05)
    one.unlock()
    assert two.lock()
    two.announce("running")
    assert one.supervisor is not None
    assert one.supervisor.pid == os.getpid()
    two.retract()
    assert one.supervisor is None
    two.unlock()


def test_a_port_that_cannot_be_used_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "address already in use" in (port_problem("127.0.0.1", port) or "")
    assert port_problem("127.0.0.1", port) is None
    assert "give an address of this host" in (port_problem("no-such-host.invalid", 0) or "")
    assert "cannot listen on 192.0.2.1" in (port_problem("192.0.2.1", 0) or "")


# One more worker


def test_a_worker_joins_by_the_data_folder_and_ctrl_c_ends_it_with_its_last_job(
    serve: Callable[..., Serve], data: Path, tmp_path: Path
) -> None:
    one = serve("--workers", "0").ready()
    output = tmp_path / "worker.out"
    with output.open("w") as file:
        worker = subprocess.Popen(
            [*SERVER, "worker", "--data", str(data), "--cores", "2", "--queue", "big", "--queue", "bigger"],
            stdout=file,
            stderr=file,
            env=clean_environ(),
        )
    go = tmp_path / "go"
    other = one.submit("true")
    job = one.submit(f"while [ ! -e {go} ]; do sleep 0.05; done", queue="big", resources={"cores": 2})
    one.wait_state(job, "RUNNING")
    found = {
        process.pid: processes.birth(process.pid) or ""
        for process in psutil.Process(worker.pid).children(recursive=True)
    }
    worker.send_signal(signal.SIGINT)
    until(lambda: "Stopping: the jobs that run may end" in output.read_text())
    assert one.job(job)["state"] == "RUNNING"
    go.touch()
    assert worker.wait(PATIENCE) == 0
    assert all_gone(found)
    assert one.job(job)["state"] == "FINISHED"
    assert one.job(other)["state"] == "QUEUED", "it is in another queue"


def test_a_third_ctrl_c_has_a_worker_of_its_own_kill_its_jobs(
    serve: Callable[..., Serve], data: Path, tmp_path: Path
) -> None:
    one = serve("--workers", "0").ready()
    output = tmp_path / "worker.out"
    with output.open("w") as file:
        worker = subprocess.Popen(
            [*SERVER, "worker", "--data", str(data)], stdout=file, stderr=file, env=clean_environ()
        )
    job = deaf_job(one)
    found = {
        process.pid: processes.birth(process.pid) or ""
        for process in psutil.Process(worker.pid).children(recursive=True)
    }
    for text in ("Stopping: ", "asked to stop", "Killing the jobs that run."):
        worker.send_signal(signal.SIGINT)
        until(lambda text=text: text in output.read_text())  # type: ignore[misc]
    assert worker.wait(30) == 0
    assert all_gone(found)
    assert one.wait_state(job, "CANCELLED")["reason"] == "the service was stopped"


def test_a_worker_ends_with_the_command_that_started_it(serve: Callable[..., Serve], data: Path) -> None:
    serve("--workers", "0").ready()
    worker = subprocess.Popen(
        [*SERVER, "worker", "--data", str(data)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environ(),
    )
    children = until(lambda: psutil.Process(worker.pid).children(), timeout=PATIENCE)
    found = {child.pid: processes.birth(child.pid) or "" for child in children}
    worker.kill()
    worker.wait(PATIENCE)
    assert all_gone(found)


def test_a_worker_without_a_service_says_so(data: Path) -> None:
    done = run("worker", "--data", data)
    assert done.returncode == 3
    assert f"no service with an embedded Postgres runs on {data} on this host" in done.stderr


# The parts


def test_a_process_is_known_by_its_birth_not_by_its_number(tmp_path: Path) -> None:
    record = tmp_path / "run" / "x.json"
    argv = [sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(600)"]
    child = Child.start(argv, log=tmp_path / "x.log", record=record, facts={"settings": "abc"})
    until(record.exists)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    found = Child.find(record)
    assert found is not None
    assert (found.pid, found.born, found.facts) == (child.pid, child.born, {"settings": "abc"})
    told = processes.read_json(record)
    assert told is not None
    processes.write_json(record, {**told, "birth": "of-another:1"})
    assert Child.find(record) is None
    processes.write_json(record, told)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    assert found.stop()
    assert not child.alive
    assert child.exit_code == -signal.SIGTERM
    assert not record.exists()
    assert Child.find(record) is None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    child = Child.start([sys.executable, "-c", code], log=tmp_path / "x.log")
    until(lambda: "deaf" in (tmp_path / "x.log").read_text())
    assert child.stop(signals=((signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0)))
    assert child.exit_code == -signal.SIGKILL


def test_a_large_log_is_put_aside_and_a_tail_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert processes.tail(log, lines=2) == "line 998\nline 999"
    assert processes.tail(log, since=log.stat().st_size) == ""
    assert processes.tail(tmp_path / "none") == ""
    monkeypatch.setattr(processes, "LARGEST_LOG", 100)
    os.close(processes.open_log(log))
    assert log.stat().st_size == 0
    assert (tmp_path / "x.log.1").stat().st_size > 100


def test_files_of_state_are_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    assert processes.read_json(file) is None
    file.write_text('{"half": ')
    assert processes.read_json(file) is None
    file.write_text("[1]")
    assert processes.read_json(file) is None
    processes.write_json(file, {"a": 1})
    assert processes.read_json(file) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_signals_are_told_in_order_and_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in ALL_SIGNALS]
    with Signals() as signals:
        assert signals.wait(0) == []
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert signals.wait(5) == [signal.SIGTERM, signal.SIGINT]
    assert [signal.getsignal(number) for number in ALL_SIGNALS] == before
