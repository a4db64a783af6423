"""Apps from the command line, through the workers, and by the native API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hpcjobs import Client, JobSpec, ServiceError
from tests.running import Service, clean_environ

APPS = """
[apps.greet]
version = "1.0"
command = "echo Good"
args = [{ name = "when", arg = "morning" }, { name = "who", required = true }]
"""


def test_the_command_offers_the_apps_of_a_file_and_refuses_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of the service is started, in one line; faults are on where they are asked for."""
    (tmp_path / "good.toml").write_text(APPS)
    (tmp_path / "bad.toml").write_text("[apps.greet]\ncommand = 'x'\n")

    def serve(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hpcjobs_server", "serve", "--data", str(tmp_path / "data"), *options],
            env={**clean_environ(), "PATH": os.environ["PATH"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    for file, said in (("bad.toml", "apps.greet.version"), ("nowhere.toml", "cannot be read")):
        refused = serve("--apps", file)
        assert refused.returncode == 2
        assert said in refused.stderr
    started = serve("--apps", "good.toml", "--faults", "--port", "0", "--workers", "1", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("HPCJOBS_DATA", str(tmp_path / "data"))
        with Client(start=False) as client:
            job = client.submit(app="greet", args={"who": "Ada L."})
            job.wait(timeout=60)
            assert job.logs() == "Good morning Ada L.\n"
            url = client.service.base_url
        token = (tmp_path / "data" / "token").read_text().strip()
        answer = httpx.get(f"{url}/v1/faults", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.json() == {"items": []}
    finally:
        assert serve("--stop", "--now").returncode == 0


def test_a_key_makes_one_job_of_an_app_and_another_call_is_refused(shared_client: Client) -> None:
    """The body that was sent counts, not what it became."""
    first = shared_client.submit(app="hello", args={"a": "x"}, key="once")
    again = shared_client.submit(app="hello", args={"a": "x"}, key="once")
    assert again.id == first.id
    with pytest.raises(ServiceError, match="another job"):
        shared_client.submit(app="hello", args={"a": "y"}, key="once")


def test_an_array_of_an_app_takes_arguments_from_its_items(shared_client: Client) -> None:
    """As one of a task does."""
    array = shared_client.submit_array(JobSpec(app="hello", args={"b": "and"}), over=[{"a": "x"}, {"a": "y"}])
    array.wait(timeout=60)
    assert sorted(job.logs() for job in array) == sorted(f"Hello, and and {one}!\n" for one in "xy")


def test_a_worker_without_the_app_says_so(service_factory: Callable[..., Service], tmp_path: Path) -> None:
    """The job fails with what to do, and its condition is that of a launch that failed."""
    file = tmp_path / "apps.toml"
    file.write_text(APPS)
    service = service_factory(apps=file, workers=0)
    service.settings = service.settings.model_copy(update={"apps": None})
    service.start_worker()
    with service.client() as client:
        job = client.submit(app="greet", args={"who": "x"})
        job.wait(timeout=60)
        assert "start this worker with the --apps of the server" in (job.reason or "")
        headers = {"X-Tapis-Token": service.token}
        told = httpx.get(f"{service.url}/v3/jobs/{job.id}-007/status", headers=headers, trust_env=False).json()
        assert told["result"] == {"status": "FAILED", "condition": "JOB_LAUNCH_FAILURE"}
