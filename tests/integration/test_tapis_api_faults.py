"""The Tapis API where it fails on purpose, and inputs from systems: with services of their own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcjobs.models import Scope
from tests.integration.test_tapis_api import SLEEP, Tapis
from tests.running import Service, until


@contextlib.contextmanager
def _tapis(service: Service) -> Iterator[Tapis]:
    headers = {"X-Tapis-Token": service.token}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False, timeout=40) as http:
        yield Tapis(http)


class Faulty(Tapis):
    """A service that fails when it is told to."""

    def __init__(self, http: httpx.Client, admin: httpx.Client) -> None:
        super().__init__(http)
        self._admin = admin

    def fail(self, kind: str, **how: Any) -> None:
        response = self._admin.put("/v1/faults", json={"items": [{"kind": kind, **how}]})
        assert response.status_code == 200, response.text
        assert response.json()["items"][0]["kind"] == kind

    def left(self) -> list[Any]:
        items: list[Any] = self._admin.get("/v1/faults").json()["items"]
        return items


@pytest.fixture
def faulty(service_factory: Callable[..., Service]) -> Iterator[Faulty]:
    """One such service."""
    service = service_factory(faults=True)
    with _tapis(service) as tapis, service.http() as admin:
        yield Faulty(tapis.http, admin)


def test_faults_are_the_administrators_and_off_unless_they_are_asked_for(
    faulty: Faulty, shared_service: Service, service_factory: Callable[..., Service]
) -> None:
    """404 where they are off, 403 without the scope, 422 for what is no fault."""
    with shared_service.http() as http:
        assert http.get("/v1/faults").status_code == 404
        assert http.put("/v1/faults", json={"items": []}).status_code == 404
    faulty.fail("slow", times=3, seconds=0.01)
    assert faulty.left()[0]["times"] == 3
    faulty.result("GET", "list")
    assert faulty.left()[0]["times"] == 2
    assert faulty._admin.delete("/v1/faults").status_code == 204
    assert faulty.left() == []
    assert faulty._admin.put("/v1/faults", json={"items": [{"kind": "bogus"}]}).status_code == 422
    made = faulty._admin.post("/v1/tokens", json={"name": "small", "scope": Scope.WRITE.value}).json()
    refused = faulty._admin.get("/v1/faults", headers={"Authorization": f"Bearer {made['token']}"})
    assert refused.status_code == 403


def test_a_cancel_is_taken_and_lost_and_the_next_one_is_not(faulty: Faulty) -> None:
    """The 200 is the same."""
    uuid = faulty.submit(*SLEEP, app="python")["uuid"]
    faulty.wait(uuid, "RUNNING")
    faulty.fail("cancel_lost")
    assert "ACCEPTED" in faulty.result("POST", f"{uuid}/cancel")["message"]
    assert faulty.left() == []
    assert "JOB_CANCEL" not in faulty.result("GET", uuid)["lastMessage"]
    assert faulty.result("GET", f"{uuid}/status")["status"] == "RUNNING"
    faulty.result("POST", f"{uuid}/cancel")
    assert faulty.wait(uuid)["status"] == "CANCELLED"


def test_a_cancel_comes_late(faulty: Faulty) -> None:
    """It is taken at once, and the job stops by itself later."""
    uuid = faulty.submit(*SLEEP, app="python")["uuid"]
    faulty.wait(uuid, "RUNNING")
    faulty.fail("cancel_late", seconds=2)
    faulty.result("POST", f"{uuid}/cancel")
    assert faulty.result("GET", f"{uuid}/status")["status"] == "RUNNING"
    assert faulty.wait(uuid)["status"] == "CANCELLED"


def test_a_job_that_runs_makes_a_detour_through_blocked(faulty: Faulty) -> None:
    """And goes backwards out of it."""
    uuid = faulty.submit(*SLEEP, app="python")["uuid"]
    faulty.fail("blocked", seconds=3)
    blocked = faulty.wait(uuid, "BLOCKED")
    assert (blocked["status"], blocked["blockedCount"]) == ("BLOCKED", 1)
    assert faulty.result("GET", "list")[0]["status"] == "BLOCKED"
    assert faulty.wait(uuid, "RUNNING")["uuid"] == uuid
    faulty.result("POST", f"{uuid}/cancel")
    faulty.wait(uuid)


def test_an_unknown_job_is_a_500_that_names_it(faulty: Faulty) -> None:
    """As often as was asked for."""
    faulty.fail("unknown_500", times=2)
    unknown = "00000000-0000-4000-8000-000000000000-007"
    for _ in range(2):
        told = faulty.refused("GET", unknown, 500, "JOBS_JOB_SELECT_UUID_ERROR")
        assert "JOBS_JOB_NOT_FOUND" in told["message"]
    faulty.refused("GET", unknown, 404, "JOBS_JOB_NOT_FOUND")


def test_a_401_in_plain_text_and_a_502_in_html(faulty: Faulty) -> None:
    """Neither has an envelope; the second has had its effect where that is asked for."""
    body = {"name": "once", "appId": "hello", "appVersion": "1.0"}
    for kind, status, media, made in (
        ("plain_401", 401, "text/plain", 0), ("html_502", 502, "text/html", 0), ("html_502_after", 502, "text/html", 1),
    ):  # fmt: skip
        faulty.fail(kind, method="POST")
        assert faulty.http.get("/v3/jobs/list").status_code == 200
        response = faulty.http.post("/v3/jobs/submit", json=body)
        assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (status, media)
        assert len(faulty.result("GET", "list")) == made
    assert faulty.left() == []


APPS = """
[apps.count]
version = "2.1"
description = "Counts lines."
command = "wc -l < $1"
args = [{ name = "file", required = true }]
walltime = "1m"
env = { LC_ALL = "C" }

[[apps.fit]]
version = "1.0"
command = ["python3", "-c", "import sys; print(sys.argv[1:])"]
args = [{ name = "order", arg = "--order 2" }]

[[apps.fit]]
version = "1.1"
command = ["python3", "-c", "import sys; print('new', sys.argv[1:])"]

[systems.project]
folder = "project"
"""


@pytest.fixture
def operated(service_factory: Callable[..., Service], tmp_path: Path) -> Iterator[Tapis]:
    """A service whose operator has registered apps and a system."""
    (tmp_path / "project" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "project" / "a.txt").write_text("1\n2\n3\n")
    (tmp_path / "project" / "deep" / "b.txt").write_text("1\n")
    (tmp_path / "project" / "deep" / "er" / "c.txt").write_text("1\n2\n")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "project" / "link.txt").symlink_to(tmp_path / "secret.txt")
    file = tmp_path / "apps.toml"
    file.write_text(APPS)
    with _tapis(service_factory(apps=file)) as tapis:
        yield tapis


def test_the_operators_apps_are_listed_and_run(operated: Tapis) -> None:
    """With their arguments and the walltime that they have; how they are run is not told."""
    bearer = {"Authorization": f"Bearer {operated.http.headers['X-Tapis-Token']}"}
    items = operated.http.get("/v1/apps", headers=bearer).json()["items"]
    assert [(item["name"], item["version"]) for item in items] == [
        ("count", "2.1"), ("fit", "1.0"), ("fit", "1.1"), ("hello", "1.0"), ("python", "1.0"),
    ]  # fmt: skip
    assert not any({"command", "env"} & set(item) for item in items)
    uuid = operated.submit("'x y'", app="fit")["uuid"]
    operated.wait(uuid)
    out = operated.http.get(f"/v3/jobs/{uuid}/output/download/tapisjob.out").text
    assert out == "['--order', '2', 'x y']\n"
    native = operated.http.post("/v1/jobs", json={"app": "count", "args": {"file": "/dev/null"}}, headers=bearer).json()
    assert native["spec"]["app_version"] == "2.1"
    ended = operated.wait(native["id"] + "-007")
    assert (ended["status"], ended["maxMinutes"]) == ("FINISHED", 1)
    refused = operated.http.post("/v1/jobs", json={"app": "nope"}, headers=bearer)
    assert refused.status_code == 422
    assert "fit" in refused.json()["detail"]


def test_inputs_come_from_a_system(operated: Tapis) -> None:
    """A file, a folder, an array of files; each under the name that is asked for, and named by its variable."""
    inputs = [
        {"sourceUrl": "tapis://project/a.txt", "envKey": "FIRST"},
        {"sourceUrl": "tapis://project/deep", "targetPath": "all"},
        {"sourceUrl": "tapis://project/a.txt", "targetPath": "x/renamed.txt"},
    ]
    arrays = [{"sourceUrls": ["tapis://project/deep/b.txt", "tapis://project/a.txt"], "targetDir": "many"}]
    code = (
        '\'import os, pathlib; print(os.environ["FIRST"], '
        '*sorted(p.as_posix() for p in pathlib.Path().rglob("*.txt")))\''
    )
    job = operated.submit("-c", code, app="python", fileInputs=inputs, fileInputArrays=arrays)
    assert len(json.loads(job["fileInputs"])) == 5
    assert operated.wait(job["uuid"])["status"] == "FINISHED"
    out = operated.http.get(f"/v3/jobs/{job['uuid']}/output/download/tapisjob.out").text
    assert out == "a.txt a.txt all/b.txt all/er/c.txt many/a.txt many/b.txt x/renamed.txt\n"


@pytest.mark.parametrize(
    "source",
    [
        "tapis://project/../secret.txt", "tapis://project/link.txt", "tapis://project/%2e%2e/secret.txt",
        "tapis://other/a.txt", "file:///etc/passwd", "https://example.org/x", "tapis://project/nothing",
        "tapis://project//../secret.txt",
    ],
)  # fmt: skip
def test_nothing_outside_a_system_is_an_input(operated: Tapis, source: str) -> None:
    """Neither by dots nor by a link."""
    body = {"name": "a", "appId": "hello", "appVersion": "1.0", "fileInputs": [{"sourceUrl": source}]}
    operated.refused("POST", "submit", 400, "JOBS_INVALID_INPUT", json=body)


def test_where_only_tasks_and_apps_run_nobody_brings_code(service_factory: Callable[..., Service]) -> None:
    """The bundled python is not there, and neither are variables and prefixes."""
    with _tapis(service_factory(tasks_only=True)) as tapis:
        body = {"name": "a", "appId": "python", "appVersion": "1.0"}
        tapis.refused("POST", "submit", 400, "JOBS_APP_NOT_FOUND", json=body)
        hello = {"name": "a", "appId": "hello", "appVersion": "1.0"}
        for more in (
            {"cmdPrefix": "sh -c 'id'"},
            {"isMpi": True, "mpiCmd": "sh"},
            {"parameterSet": {"envVariables": [{"key": "LD_PRELOAD", "value": "x"}]}},
        ):
            tapis.refused("POST", "submit", 400, "JOBS_INVALID_REQUEST", json={**hello, **more})
        job = tapis.result("POST", "submit", json=hello)
        assert until(lambda: tapis.wait(job["uuid"]))["status"] == "FINISHED"
