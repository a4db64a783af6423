"""Clients, handles and waits on the real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcjobs import (
    AsyncClient,
    AuthenticationError,
    Client,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobState,
    WaitTimeout,
    profiles,
)

if TYPE_CHECKING:
    from tests.running import Service


def test_the_whole_way_of_a_job(shared_client: Client, tmp_path: Path) -> None:
    """Submit with an input, wait, log, download, come back by id."""
    script = tmp_path / "work.py"
    script.write_text("print('hello'); open('out.csv', 'w').write('1,2')")
    job = shared_client.submit("python3 work.py", inputs=[script], name="work", tags=["t"], cores=1, walltime="1m")
    info = job.wait(timeout=60)
    assert info.state is job.state is JobState.FINISHED
    assert job.exit_code == 0
    assert job.logs() == "hello\n"
    assert "".join(job.logs(follow=True)) == "hello\n"
    assert {file.path for file in job.files()} == {"work.py", "out.csv"}
    assert [path.read_text() for path in job.download(tmp_path / "results", "*.csv")] == ["1,2"]
    again = shared_client.job(job.id)
    assert again == job
    assert again.wait(timeout=0) == again.info
    assert [found.id for found in shared_client.jobs(tag="t")] == [job.id]


def test_result_tells_why_a_job_failed(shared_client: Client) -> None:
    """With the reason and the end of the log, from the stream that has it."""
    job = shared_client.submit("echo fine; echo no such record >&2; exit 3", stderr="separate")
    with pytest.raises(JobFailed, match="exit code 3\nThe log ends:\nno such record") as caught:
        job.result(timeout=60)
    assert caught.value.info.exit_code == 3


def test_cancelling_ends_a_wait_in_another_thread(shared_client: Client) -> None:
    """The waiter hears of it by the stream, with the reason."""
    job = shared_client.submit("sleep 60")
    seen = iter(job.watch())
    while next(seen).state is not JobState.RUNNING:
        pass
    canceller = threading.Thread(target=shared_client.cancel, args=(job.id,), kwargs={"reason": "wrong damping"})
    canceller.start()
    with pytest.raises(JobCancelled, match="wrong damping"):
        job.result(timeout=30)
    canceller.join()


def test_many_coroutines_wait_for_jobs(shared_service: Service) -> None:
    """Sync and async clients see the same jobs; an id that is not known is told."""

    async def main() -> None:
        async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
            jobs = [await client.submit("true") for _ in range(10)]
            infos = await asyncio.wait_for(asyncio.gather(*jobs), 60)
            assert {info.state for info in infos} == {JobState.FINISHED}
            with pytest.raises(JobNotFound):
                await client.wait(["00000000-0000-0000-0000-000000000000"], timeout=30)
            slow = await client.submit("sleep 60")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(slow.wait(on_interrupt="cancel"), 1)
            assert (await slow.wait(timeout=30)).state is JobState.CANCELLED

    asyncio.run(main())


def test_progress_arrives_while_a_job_runs(shared_client: Client) -> None:
    """What the job says of itself is handed out by ``watch``."""
    line = '{\\"done\\": %d, \\"total\\": 2, \\"message\\": \\"step %d\\"}'
    command = "; sleep 0.5; ".join(f'echo "{line % (step, step)}" > "$HPCJOBS_PROGRESS_FILE"' for step in (1, 2))
    job = shared_client.submit(f"{command}; sleep 0.5")
    seen = {str(info.progress) for info in job.watch() if info.progress is not None}
    assert "50% step 1" in seen
    assert "100% step 2" in seen


def test_a_wait_survives_the_service(service: Service, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The API is killed and comes back at the same address; the waiter hears of the end."""
    job = client.submit("sleep 2")
    waiting = threading.Event()
    ended: list[Any] = []

    def wait() -> None:
        for info in job.watch():
            waiting.set()
            ended.append(info)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waiting.wait(30)
    service.kill_api()
    time.sleep(0.5)
    service.start_api()
    waiter.join(60)
    assert ended[-1].state is JobState.FINISHED
    assert any("lost the connection" in record.getMessage() for record in caplog.records)


def test_a_token_that_is_revoked_ends_the_wait(service: Service, client: Client) -> None:
    """It would otherwise wait for ever."""
    info = client.create_token("short")
    with service.client(info.token) as other:
        job = other.submit("sleep 30")
        with pytest.raises(WaitTimeout):
            job.wait(timeout=0.5)
        client.revoke_token(info.id)
        with pytest.raises(AuthenticationError):
            job.wait(timeout=60)
    client.cancel(job.id, confirm=30)


def test_ctrl_c_in_a_script_leaves_the_job_running(shared_service: Service) -> None:
    """The script ends by the interrupt and says what goes on; nothing else is on its stderr but the traceback."""
    code = """
import sys
from hpcjobs import Client
job = Client().submit("sleep 60")
while job.refresh().state != "RUNNING":
    pass
print(job.id, flush=True)
job.wait()
"""
    environment = {**os.environ, "HPCJOBS_URL": shared_service.url, "HPCJOBS_TOKEN": shared_service.token}
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as script:
        assert script.stdout is not None
        job_id = script.stdout.readline().strip()
        time.sleep(1.0)
        script.send_signal(signal.SIGINT)
        _, told = script.communicate(timeout=30)
    assert script.returncode == -signal.SIGINT
    assert f"hpcjobs: no longer waiting; job {job_id} goes on." in told
    assert "ResourceWarning" not in told
    with shared_service.client() as client:
        job = client.job(job_id)
        assert job.state is JobState.RUNNING
        assert job.cancel(confirm=30).confirmed


def test_a_script_that_forgets_to_close_ends_cleanly_and_soon(shared_service: Service) -> None:
    """No warnings, no thread that holds the interpreter, also with a wait under way in another thread."""
    code = """
import threading, time
from hpcjobs import Client
client = Client()
job = client.submit("true")
job.wait()
slow = client.submit("sleep 3")
threading.Thread(target=slow.wait, daemon=True).start()
time.sleep(0.5)
"""
    environment = {**os.environ, "HPCJOBS_URL": shared_service.url, "HPCJOBS_TOKEN": shared_service.token}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "Warning" not in done.stderr


# The local service


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder for a local service, which is stopped at the end."""
    folder = tmp_path / "d"
    monkeypatch.setenv("HPCJOBS_DATA", str(folder))
    yield folder
    subprocess.run(
        [sys.executable, "-m", "hpcjobs_server", "serve", "--stop", "--now", "--data", str(folder)],
        check=True,
        timeout=90,
    )


def test_two_that_need_a_local_service_end_with_one(data: Path) -> None:
    """Both start at once, both work, there is one service; a third finds it without starting anything."""
    code = "from hpcjobs import Client; c = Client(); print(c.service.base_url, c.submit('true').wait(60).state)"
    scripts = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {script.communicate(timeout=120)[0] for script in scripts}
    url = json.loads((data / "server.json").read_text())["url"]
    assert answers == {f"{url} FINISHED\n"}
    target = profiles.resolve(start=False)
    assert target.url == url
    with Client(start=False) as client:
        assert client.info().workers == 1
