"""What we ask and what the server answers, against the OpenAPI document that tapipy brings along."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from hpcjobs import JobSpec
from hpcjobs.actions import JobChanges, JobUpdate
from hpcjobs.models import JobFilter
from hpcjobs.protocol import Op, Request
from hpcjobs.services.tapis import TapisService
from hpcjobs.services.tapis_requests import request_of
from hpcjobs.tapis_data import TapisRequest
from tests.conformance.conftest import PYTHON
from tests.running import Service, until

JOB = "6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
NEWER = {"/jobs/{jobUuid}/annotations"}
"""What releases have that are newer than the document."""


@functools.cache
def document() -> dict[str, Any]:
    """The document; every value may be null, because Tapis writes out what it does not know."""
    [path] = PYTHON.parents[1].glob("lib/python*/site-packages/tapipy/resources/openapi_v3-jobs.yml")
    found: dict[str, Any] = _with_nulls(yaml.safe_load(path.read_text(encoding="utf-8")))
    return found


def _with_nulls(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_nulls(item) for item in part]
    if not isinstance(part, dict):
        return part
    out = {name: _with_nulls(item) for name, item in part.items()}
    if isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    if isinstance(out.get("enum"), list):
        out["enum"] = [*out["enum"], None]
    return out


def check(value: Any, schema: dict[str, Any]) -> None:
    """Fail where a value does not fit a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    errors = [error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(value)]
    assert not errors


def operation(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of a request; None for what is newer."""
    bare = path.removeprefix("/v3")
    # an address without parameters first: "search" is no id
    for template, methods in sorted(document()["paths"].items(), key=lambda item: "{" in item[0]):
        # the last part of an output's path may have slashes
        pattern = re.sub(r"\{outputPath\}", ".*", re.sub(r"\{(?!outputPath)\w+\}", "[^/]+", template))
        if re.fullmatch(pattern, bare) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found
    assert any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare) for template in NEWER), f"{method} {path}"
    return None


def asks(op: Op[Any]) -> Request:
    effect = next(op)
    op.close()
    assert isinstance(effect, Request)
    return effect


SPEC = JobSpec(
    app="hello",
    app_version="1.0",
    args={"x": 1},
    env={"A": "b"},
    queue="skx",
    tags=["t"],
    meta={"a": 1},
    resources={"cores": 2, "memory": "1GB", "walltime": "1h"},
    options={"system": "s", "allocation": "A", "fileInputs": [{"sourceUrl": "tapis://s/a", "targetPath": "a"}]},
)


def requests() -> Iterator[Request]:
    """The first request of everything that the service can do."""
    tapis = TapisService("tapis+https://t.test", token="e30.e30.c2ln")
    yield asks(tapis.submit(SPEC, "k"))
    yield asks(tapis.get(JOB))
    yield asks(tapis.get_many([JOB, JOB.replace("6", "7")]))
    yield asks(tapis.find("k"))
    yield asks(tapis.page(JobFilter(state=["RUNNING"]), limit=10, cursor=None))
    yield asks(tapis.cancel([JOB], reason=None, abort=True, delete=False))
    yield Request("POST", f"/v3/jobs/{JOB}/resubmit")
    yield asks(tapis.delete([JOB]))
    yield asks(tapis.update([JobUpdate(id=JOB, changes=JobChanges(tags=["a"]))]))
    yield Request("PUT", f"/v3/jobs/{JOB}/annotations")
    yield asks(tapis.history(JOB))
    yield asks(tapis.files(JOB))
    yield asks(tapis.file(JOB, "a/b", offset=0, length=1))


@pytest.mark.parametrize("request_", list(requests()), ids=lambda request: f"{request.method} {request.path}")
def test_we_ask_only_for_what_there_is(request_: Request) -> None:
    """The address, the method, and every parameter of the query but the conditions of a search."""
    found = operation(request_.method, request_.path)
    if found is None:
        return
    known = {parameter["name"] for parameter in found.get("parameters", []) if parameter["in"] == "query"}
    assert {name for name, _ in request_.params if "." not in name} <= known


def test_what_we_ask_for_is_a_job_of_the_document() -> None:
    body = request_of(SPEC, "k")
    schema = document()["components"]["schemas"]["ReqSubmitJob"]
    check(body, schema)
    assert set(body) <= set(schema["properties"])


def test_the_fields_that_the_server_takes_are_those_of_the_document() -> None:
    """And what newer releases have."""
    known = {field.alias for field in TapisRequest.model_fields.values()}
    missing = set(document()["components"]["schemas"]["ReqSubmitJob"]["properties"]) - known
    assert not missing


@pytest.fixture(scope="module")
def http(shared_service: Service) -> Iterator[httpx.Client]:
    token = shared_service.make_token("contract").token or ""
    headers = {"X-Tapis-Token": token}
    with httpx.Client(base_url=shared_service.url, headers=headers, timeout=40, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def job(http: httpx.Client) -> str:
    """A job that has ended."""
    body = {
        "name": "a",
        "appId": "hello",
        "appVersion": "1.0",
        "tags": ["a"],
        "parameterSet": {"appArgs": [{"arg": "x"}]},
    }
    uuid = str(http.post("/v3/jobs/submit", json=body).json()["result"]["uuid"])
    until(lambda: http.get(f"/v3/jobs/{uuid}/status").json()["result"]["status"] == "FINISHED", what="the end")
    return uuid


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 200),
        ("GET", "/status", 200),
        ("GET", "/history", 200),
        ("GET", "/output/list/", 200),
        ("GET", "/resubmit_request", 200),
        ("POST", "/cancel", 409),
        ("POST", "/resubmit", 200),
        ("POST", "/hide", 200),
        ("POST", "/unhide", 200),
    ],
)
def test_what_the_server_says_of_a_job_fits_the_document(
    http: httpx.Client, job: str, method: str, path: str, status: int
) -> None:
    answer(http, method, f"/v3/jobs/{job}{path}", status)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v3/jobs/list?computeTotal=True", None, 200),
        ("GET", "/v3/jobs/search?status.eq=FINISHED&select=allAttributes", None, 200),
        ("POST", "/v3/jobs/submit", {"name": "a", "appId": "hello", "appVersion": "1.0"}, 200),
        ("POST", "/v3/jobs/submit", {"name": "a"}, 400),
        ("GET", "/v3/jobs/healthcheck", None, 200),
        ("GET", "/v3/jobs/readycheck", None, 200),
    ],
)
def test_what_the_server_says_otherwise_fits_the_document(
    http: httpx.Client, method: str, path: str, body: Any, status: int
) -> None:
    answer(http, method, path, status, json=body)


def answer(http: httpx.Client, method: str, path: str, status: int, **options: Any) -> None:
    response = http.request(method, path, **options)
    assert response.status_code in ({200, 201} if status == 200 else {status}), response.text
    found = operation(method, path.partition("?")[0])
    assert found is not None
    told = found["responses"].get(str(response.status_code)) or found["responses"]["200"]
    content = told.get("content", {}).get("application/json")
    if content is not None:
        check(response.json(), content["schema"])
