"""What holds for every answer: tokens, problems, health, metrics, the OpenAPI document, the process itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg_pool import PoolClosed, PoolTimeout

from hpcjobs._version import __version__
from hpcjobs.models import Scope
from hpcjobs_server import auth
from hpcjobs_server.api_process import OneLine
from hpcjobs_server.app import create_app
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Store
from tests.integration.serving import NO_DATABASE, Api, asyncio_timeout, events, serving


async def get(api: Api, path: str, authorization: str | None = None, **options: Any) -> httpx.Response:
    """GET without the token of ``api.http``."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with httpx.AsyncClient(base_url=api.server.url, trust_env=False, timeout=20) as client:
        return await client.get(path, headers=headers, **options)


# Tokens


async def test_without_a_good_token_nothing_is_told(api: Api) -> None:
    good = await api.token("ada")
    expired = await api.token("ada", expires_in=timedelta(milliseconds=1))
    for authorization, code in (
        (None, "no_token"),
        ("", "no_token"),
        ("Bearer", "no_token"),
        ("Basic YTpi", "no_token"),
        (good, "no_token"),
        ("Bearer nonsense", "bad_token"),
        (f"Bearer {good}x", "bad_token"),
        (f"Bearer {good} {good}", "bad_token"),
        ("Bearer " + "x" * 5000, "bad_token"),
        (f"Bearer {expired}", "expired_token"),
    ):
        answer = await get(api, "/v1/info", authorization)
        assert (answer.status_code, answer.json()["code"]) == (401, code), authorization
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await get(api, "/v1/info", f"bearer {good}")).status_code == 200
    assert (await get(api, "/v1/info", params={"token": good})).status_code == 401


async def test_a_token_is_revoked_at_once(api: Api) -> None:
    made = (await api.http.post("/v1/tokens", json={"name": "n", "scope": "read"})).json()
    assert (await get(api, "/v1/info", f"Bearer {made['token']}")).json()["scope"] == "read"
    assert (await api.http.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    assert (await get(api, "/v1/info", f"Bearer {made['token']}")).json()["code"] == "bad_token"
    again = await api.http.delete(f"/v1/tokens/{made['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "token_not_found")
    assert (await api.http.delete("/v1/tokens/nonsense")).status_code == 404


@pytest.mark.parametrize("written", [str.upper, "{{{}}}".format, lambda text: text.replace("-", "")])
async def test_a_token_is_revoked_at_once_however_its_id_is_written(api: Api, written: Callable[[str], str]) -> None:
    made = (await api.http.post("/v1/tokens", json={"name": "n", "scope": "read"})).json()
    assert (await get(api, "/v1/info", f"Bearer {made['token']}")).status_code == 200
    assert (await api.http.delete(f"/v1/tokens/{written(made['id'])}")).status_code == 204
    assert (await get(api, "/v1/info", f"Bearer {made['token']}")).json()["code"] == "bad_token"


async def test_a_token_that_was_looked_up_is_remembered_for_a_moment_and_their_number_is_bounded(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MOST_REMEMBERED", 2)
    asked: list[str] = []
    look = api.store.authenticate

    async def counted(token: str) -> Any:
        asked.append(token)
        return await look(token)

    monkeypatch.setattr(api.store, "authenticate", counted)
    tokens = auth.Tokens(api.store)
    some = [await api.token(f"owner-{n}") for n in range(3)]
    for _ in range(5):
        assert (await tokens.caller(f"Bearer {some[0]}")).owner == "owner-0"
    assert asked == [some[0]]
    for token in some:
        await tokens.caller(f"Bearer {token}")
    assert len(tokens._known) == 2
    await tokens.caller(f"Bearer {some[0]}")
    assert asked == [*some, some[0]]


async def test_a_token_may_do_no_more_than_the_one_that_made_it(api: Api) -> None:
    async def make(client: httpx.AsyncClient, **order: Any) -> httpx.Response:
        return await client.post("/v1/tokens", json=order)

    async with api.client("ada", "read") as reader, api.client("root", "admin") as admin:
        assert (await make(reader, scope="read")).json()["code"] == "scope"
        assert (await make(api.http, scope="admin")).json()["code"] == "scope"
        assert (await make(api.http, owner="bob")).json()["code"] == "scope"
        assert (await make(api.http, owner="ada")).status_code == 201
        assert (await make(admin, owner="bob", scope="admin")).json()["owner"] == "bob"
    short = await api.token("ada", expires_in=timedelta(minutes=1))
    async with httpx.AsyncClient(
        base_url=api.server.url, headers={"Authorization": f"Bearer {short}"}, trust_env=False
    ) as brief:
        for order in ({}, {"expires_in": "1d"}):
            made = (await make(brief, **order)).json()
            owner = await api.store.authenticate(short)
            assert owner is not None
            assert made["expires_at"] is not None
            assert made["expires_at"][:16] <= owner.expires_at.isoformat()[:16]  # type: ignore[union-attr]
    for order in ({"expires_in": 0}, {"expires_in": "4000d"}, {"scope": "all"}, {"owner": "../x"}, {"life": 1}):
        assert (await make(api.http, **order)).status_code == 422, order


async def test_tokens_are_listed_without_their_texts_and_each_owners_own(api: Api) -> None:
    await api.token("bob")
    listed = (await api.http.get("/v1/tokens")).json()["items"]
    assert {item["owner"] for item in listed} == {"ada"}
    assert all(item.get("token") is None for item in listed)
    async with api.client("root", "admin") as admin:
        owners = {item["owner"] for item in (await admin.get("/v1/tokens")).json()["items"]}
        assert owners == {"ada", "bob", "root"}
        bobs = next(item["id"] for item in (await admin.get("/v1/tokens")).json()["items"] if item["owner"] == "bob")
    assert (await api.http.delete(f"/v1/tokens/{bobs}")).status_code == 404


async def test_no_token_is_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = await api.token("ada")
    await get(api, "/v1/info", f"Bearer {token}")
    await get(api, "/v1/nothing", f"Bearer {token}")
    await get(api, "/v1/info", f"Bearer {token}x")
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert token not in "\n".join(told)


# Problems


async def test_every_refusal_is_a_problem_document(api: Api) -> None:
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("PATCH", "/healthz", 405, "method_not_allowed"),
        ("TRACE", "/v1/info", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/jobs?limit=x", 422, "invalid"),
    ):
        answer = await api.http.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) >= {"type", "title", "status", "detail", "code", "errors"}
        assert (problem["status"], problem["code"]) == (status, code)
    answer = await api.http.delete("/v1/jobs")
    assert answer.headers["allow"] == "GET, POST"
    assert "GET, POST" in answer.json()["detail"]
    head = await api.http.head("/v1/nothing")
    assert (head.status_code, head.headers["content-type"], head.content) == (404, "application/problem+json", b"")


async def test_every_answer_has_the_headers_that_keep_browsers_and_caches_out(api: Api) -> None:
    for path in ("/", "/v1/info", "/v1/nothing", "/v1/jobs", "/metrics"):
        answer = await api.http.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["cache-control"] == "no-store", path
        assert "server" not in answer.headers


async def test_an_unexpected_failure_is_a_500_whose_id_is_in_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(Store, "get", broken)
    answer = await api.http.get("/v1/jobs/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    record = next(record for record in caplog.records if answer.json()["id"] in record.getMessage())
    assert "the secret inside" in OneLine().format(record)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("gone"),
        PoolTimeout("none"),
        PoolClosed("closed"),
        psycopg.errors.AdminShutdown("bye"),
        psycopg.errors.UndefinedTable("no schema"),
    ],
)
async def test_a_database_that_is_away_is_told_as_such(error: Exception, tmp_path: Path) -> None:
    class Away(Store):
        async def authenticate(self, token: str) -> Any:
            del token
            raise error

    settings = Settings(data=tmp_path, database_url=NO_DATABASE)
    transport = httpx.ASGITransport(create_app(settings, store=Away(NO_DATABASE)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/info", headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database", "1")


async def test_two_apps_in_one_process_share_nothing(tmp_path: Path) -> None:
    counts = []
    for number in range(2):
        app = create_app(Settings(data=tmp_path / str(number), database_url=NO_DATABASE))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            await client.get("/healthz")
            text = app.state.context.metrics.registry
            counts.append(
                text.get_sample_value(
                    "hpcjobs_http_requests_total", {"method": "GET", "route": "/healthz", "status": "200"}
                )
            )
    assert counts == [1.0, 1.0]


# Without a database


async def test_without_a_database_the_service_runs_and_says_so(settings: Callable[..., Settings]) -> None:
    async with serving(settings(database_url=NO_DATABASE)) as api:
        assert (await api.http.get("/healthz")).json() == {"status": "ok"}
        began = time.monotonic()
        ready = await api.http.get("/readyz")
        assert (ready.status_code, ready.json()["code"], ready.headers["retry-after"]) == (503, "database", "1")
        for path in ("/v1/info", "/v1/jobs", "/v1/events"):
            answer = await api.http.get(path, headers={"Authorization": "Bearer x"})
            assert (answer.status_code, answer.json()["code"]) == (503, "database"), path
        assert time.monotonic() - began < 30
        assert "hpcjobs_database_up 0.0" in (await api.http.get("/metrics")).text


async def test_streams_and_requests_go_on_after_the_database_was_away(api: Api, postgres_url: str) -> None:
    """Every connection to the database is cut: who asks then asks again, and the stream goes on by itself."""
    async with events(api.http) as got:
        assert await got.next()
        name = psycopg.conninfo.conninfo_to_dict(api.settings.database_url)["dbname"]
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        async with asyncio_timeout(20):
            while (answer := await api.http.post("/v1/jobs", json={"command": "true"})).status_code != 201:
                assert answer.json()["code"] == "database"
                await asyncio.sleep(0.05)
        await got.until(answer.json()["id"], "QUEUED")


async def test_ready_needs_the_schema(settings: Callable[..., Settings], empty_database: str) -> None:
    async with serving(settings(database_url=NO_DATABASE).model_copy(update={"port": 0})) as api:
        assert (await api.http.get("/readyz")).status_code == 503
    app = create_app(settings(database_url=empty_database))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/readyz")).status_code == 503
            answer = await client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
            assert (answer.status_code, answer.json()["code"]) == (503, "database")


# What the service says of itself


async def test_what_needs_no_token(api: Api) -> None:
    assert (await get(api, "/")).json() == {"name": "hpcjobs", "version": __version__, "openapi": "/v1/openapi.json"}
    assert (await get(api, "/healthz")).json() == {"status": "ok"}
    assert (await get(api, "/readyz")).json() == {"status": "ready"}
    async with httpx.AsyncClient(base_url=api.server.url, trust_env=False) as client:
        for path in ("/", "/healthz", "/readyz"):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b""), path


async def test_the_service_says_what_it_offers_and_to_whom(api: Api) -> None:
    info = (await api.http.get("/v1/info")).json()
    assert info == {
        "version": __version__,
        "owner": "ada",
        "scope": "write",
        "max_input_bytes": api.settings.max_input_bytes,
        "max_cores": None,
        "workers": 0,
        "tasks_only": False,
    }
    await api.beat(cores=7)
    info = (await api.http.get("/v1/info")).json()
    assert (info["max_cores"], info["workers"]) == (7, 1)


async def test_metrics_count_by_route_and_never_by_path(api: Api) -> None:
    job_id = await api.submit()
    await api.beat(cores=3)
    await api.http.get(f"/v1/jobs/{job_id}")
    await api.http.get(f"/v1/jobs/{job_id}/files/some/name")
    await api.http.get("/made/up")
    await api.http.request("PURGE", "/v1/jobs")
    async with events(api.http) as got:
        assert await got.next()
        text = (await get(api, "/metrics")).text
    for line in (
        'hpcjobs_jobs{state="QUEUED"} 1.0',
        'hpcjobs_jobs{state="FAILED"} 0.0',
        "hpcjobs_workers 1.0",
        "hpcjobs_worker_cores 3.0",
        "hpcjobs_event_streams 1.0",
        "hpcjobs_database_up 1.0",
        'hpcjobs_http_requests_total{method="POST",route="/v1/jobs",status="201"} 1.0',
        'hpcjobs_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"} 1.0',
        'hpcjobs_http_requests_total{method="GET",route="/v1/jobs/{job_id}/files/{path:filename}",status="404"} 1.0',
        'hpcjobs_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'hpcjobs_http_requests_total{method="other",route="/v1/jobs",status="405"} 1.0',
        'hpcjobs_http_request_seconds_count{method="POST",route="/v1/jobs"} 1.0',
    ):
        assert line in text
    assert job_id not in text
    assert "/made/up" not in text
    assert "process_resident_memory_bytes" in text


async def test_metrics_need_a_token_from_elsewhere(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path, database_url=NO_DATABASE))
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/metrics")).json()["code"] == "no_token"


async def test_the_openapi_document_is_complete(api: Api) -> None:
    document = (await get(api, "/v1/openapi.json")).json()
    text = json.dumps(document)
    schemas = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= schemas
    assert schemas >= {"JobSpec", "JobInfo", "JobPage", "CancelOrder", "CancelResult", "TokenOrder", "ProblemDocument"}
    paths = document["paths"]
    assert set(paths) >= {
        "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/query", "/v1/jobs/cancel", "/v1/jobs/{job_id}/cancel", "/v1/events",
        "/v1/jobs/{job_id}/logs/{stream}", "/v1/jobs/{job_id}/files", "/v1/jobs/{job_id}/files/{path}", "/v1/info",
        "/v1/blobs/{sha256}", "/v1/tokens", "/v1/tokens/{token_id}", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    submit = paths["/v1/jobs"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/JobSpec"}
    assert submit["responses"]["201"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/JobInfo"
    }
    assert "application/problem+json" in submit["responses"]["409"]["content"]
    listed = {parameter["name"] for parameter in paths["/v1/jobs"]["get"]["parameters"]}
    assert listed == {
        "state",
        "tag",
        "name",
        "queue",
        "array",
        "created_after",
        "created_before",
        "limit",
        "sort",
        "cursor",
        "before",
        "key",
    }
    log = {parameter["name"] for parameter in paths["/v1/jobs/{job_id}/logs/{stream}"]["get"]["parameters"]}
    assert log == {"job_id", "stream", "wait", "Range"}
    assert document["security"] == [{"token": []}]
    assert paths["/healthz"]["get"]["security"] == []
    operations = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(operations) == len(set(operations))


# The process


@contextlib.contextmanager
def process(settings: Settings, **changes: str) -> Any:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("HPCJOBS_")}
    settings.data.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "hpcjobs_server.api_process"],
        env={**environ, **settings.environ(), **changes},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def answering(data: Path, running: subprocess.Popen[str]) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not (data / "server.json").exists():
        assert running.poll() is None, running.stderr and running.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)
    told: dict[str, Any] = json.loads((data / "server.json").read_text())
    return told


def test_the_process_tells_where_it_answers_and_ends_in_time(settings: Callable[..., Settings]) -> None:
    used = settings()
    with process(used) as running:
        told = answering(used.data, running)
        file = used.data / "server.json"
        assert (told["pid"], told["version"]) == (running.pid, __version__)
        assert file.stat().st_mode & 0o777 == 0o600
        assert httpx.get(f"{told['url']}/healthz", trust_env=False).status_code == 200
        assert b"hpcjobs api" in Path(f"/proc/{running.pid}/cmdline").read_bytes()
        token = asyncio.run(_token(used))
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{told['url']}/v1/events", headers=headers, trust_env=False) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: hello"
            began = time.monotonic()
            running.send_signal(signal.SIGTERM)
            for _ in lines:
                pass  # to the end
        assert running.wait(10) == 0
        assert time.monotonic() - began < 5
        assert not file.exists()
        assert running.stderr is not None
        for line in running.stderr.read().splitlines():
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [\w.]+: ", line), line


async def _token(used: Settings) -> str:
    store = Store(used.database_url, max_size=1)
    await store.open()
    try:
        made = await store.create_token("ada", name="test", scope=Scope.WRITE)
    finally:
        await store.close()
    assert made.token is not None
    return made.token


def test_a_process_removes_only_its_own_address(settings: Callable[..., Settings]) -> None:
    used = settings()
    with process(used) as running:
        answering(used.data, running)
        file = used.data / "server.json"
        file.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1, "version": "x"}))
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
        assert file.exists()


def test_a_port_that_is_taken_is_told_as_such(settings: Callable[..., Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(settings(port=port)) as running:
            assert running.wait(60) == 1
            assert running.stderr is not None
            told = running.stderr.read()
    assert f"127.0.0.1:{port}" in told
    assert "--port" in told
    assert "Traceback" not in told


def test_a_process_that_was_given_no_database_says_what_to_do(settings: Callable[..., Settings]) -> None:
    with process(settings(), HPCJOBS_SERVER_DATABASE_URL="") as running:
        assert running.wait(60) == 1
        assert running.stderr is not None
        assert "hpcjobs serve" in running.stderr.read()
