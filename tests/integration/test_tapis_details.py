"""Small things of the Tapis API over real jobs that are easily lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcjobs import Client
from tests.running import Service, until


@pytest.fixture
def http(shared_service: Service, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{shared_service.url}/v3/jobs", headers={"X-Tapis-Token": token}, trust_env=False, timeout=40
    ) as client:
        yield client


def test_a_stderr_that_is_kept_apart_is_named_where_it_is_found(http: httpx.Client, shared_client: Client) -> None:
    """A client reads the record to know which file to fetch."""
    job = shared_client.submit("echo out; echo err >&2", stderr="separate")
    job.wait(60)
    logs = json.loads(http.get(f"/{job.id}-007").json()["result"]["parameterSet"])["logConfig"]
    assert logs == {"stdoutFilename": "tapisjob.out", "stderrFilename": "tapisjob.err"}
    read = {name: http.get(f"/{job.id}-007/output/download/{file}").text for name, file in logs.items()}
    assert read == {"stdoutFilename": "out\n", "stderrFilename": "err\n"}


def test_annotations_name_their_job(http: httpx.Client, shared_client: Client) -> None:
    uuid = f"{shared_client.submit('true').id}-007"
    told = http.patch(f"/{uuid}/annotations", json={"tags": ["a"]}).json()["result"]
    assert told == {"uuid": uuid, "tags": ["a"], "notes": {}}


@pytest.mark.parametrize("third", ["!", "", "QUFB!"])
def test_what_is_no_base64_is_no_token(http: httpx.Client, third: str) -> None:
    """Nothing of it is passed over."""
    answer = http.get("/list", headers={"X-Tapis-Token": f"e30.eyJleHAiOiAxfQ.{third}"})
    assert answer.status_code == 401
    assert answer.json()["message"].startswith("TAPIS_SECURITY_JWT_PARSE_ERROR ")


def test_inputs_of_a_system_keep_their_mode_and_never_each_others_place(
    service_factory: Callable[..., Service], tmp_path: Path
) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (lab / "run.sh").chmod(0o755)
    (lab / "data").write_text("1")
    (tmp_path / "apps.toml").write_text(
        f'[systems.lab]\nfolder = "{lab}"\n[apps.run]\nversion = "1"\ncommand = "./run.sh"\n'
    )
    service = service_factory(apps=tmp_path / "apps.toml")
    body: dict[str, Any] = {"name": "n", "appId": "run", "appVersion": "1"}
    with httpx.Client(
        base_url=f"{service.url}/v3/jobs", headers={"X-Tapis-Token": service.token}, trust_env=False, timeout=40
    ) as http:
        two = [
            {"sourceUrl": "tapis://lab/run.sh", "targetPath": "x"},
            {"sourceUrl": "tapis://lab/data", "targetPath": "x"},
        ]
        refused = http.post("/submit", json={**body, "fileInputs": two})
        assert refused.status_code == 400
        assert "two inputs go to 'x'" in refused.json()["message"]
        uuid = http.post("/submit", json={**body, "fileInputs": two[:1]}).json()["result"]["uuid"]
        until(lambda: http.get(f"/{uuid}/status").json()["result"]["status"] == "FAILED")
        kept = [{"sourceUrl": "tapis://lab/run.sh"}]
        uuid = http.post("/submit", json={**body, "fileInputs": kept}).json()["result"]["uuid"]
        until(lambda: http.get(f"/{uuid}/status").json()["result"]["status"] in {"FINISHED", "FAILED"})
        assert http.get(f"/{uuid}/output/download/tapisjob.out").text == "ran\n"
