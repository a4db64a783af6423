"""The Tapis API over real jobs, by hand: what each address answers, word by word."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from hpcjobs import Client
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS, UUID
from tests.running import Service, until

ENDED = {"FINISHED", "FAILED", "CANCELLED"}
ENVELOPE = {"result", "status", "message", "version", "commit", "build", "metadata"}


class Tapis:
    """One owner's way to ``/v3``."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def result(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        response = self.http.request(method, f"/v3/jobs/{path}", **options)
        assert response.status_code == status, response.text
        return self.envelope(response)["result"]

    def refused(self, method: str, path: str, status: int, code: str, **options: Any) -> dict[str, Any]:
        response = self.http.request(method, f"/v3/jobs/{path}", **options)
        assert response.status_code == status, response.text
        told = self.envelope(response)
        assert told["message"].partition(" ")[0] == code
        assert told["status"] == "error"
        return told

    @staticmethod
    def envelope(response: httpx.Response) -> dict[str, Any]:
        assert response.headers["content-type"] == "application/json"
        told: dict[str, Any] = response.json()
        assert set(told) == ENVELOPE
        assert re.match(r"[A-Z0-9_]+ ", told["message"])
        return told

    def submit(self, *arguments: str, app: str = "hello", **fields: Any) -> dict[str, Any]:
        body = {"name": "a job", "appId": app, "appVersion": "1.0", **fields}
        if arguments:
            body["parameterSet"] = {**body.get("parameterSet", {}), "appArgs": [{"arg": one} for one in arguments]}
        job: dict[str, Any] = self.result("POST", "submit", json=body)
        return job

    def wait(self, uuid: str, *words: str) -> dict[str, Any]:
        wanted = set(words) or ENDED

        def look() -> dict[str, Any] | None:
            job: dict[str, Any] = self.result("GET", uuid)
            return job if job["status"] in wanted else None

        job = until(look, what=f"{uuid} in {wanted}")
        assert job is not None
        return job


@pytest.fixture
def tapis(shared_service: Service, token: str) -> Iterator[Tapis]:
    """One owner, who has no jobs yet."""
    headers = {"X-Tapis-Token": token}
    with httpx.Client(base_url=shared_service.url, headers=headers, trust_env=False, timeout=40) as http:
        yield Tapis(http)
    with shared_service.client(token) as client:
        client.cancel_many(state="active", reason="the test has ended")


SLEEP = ("-c", "'import time; print(\"up\", flush=True); time.sleep(600)'")


def test_a_job_of_an_app_runs_and_is_told_in_all_its_keys(tapis: Tapis) -> None:
    """The record has every key, in Tapis's types, first and last."""
    job = tapis.submit("'Ada L.'", "Grace", tags=["a"], notes={"n": 1}, maxMinutes=3)
    assert UUID.fullmatch(job["uuid"])
    assert tuple(job) == JOB_KEYS
    assert (job["appId"], job["appVersion"], job["name"], job["maxMinutes"]) == ("hello", "1.0", "a job", 3)
    ended = tapis.wait(job["uuid"])
    assert tuple(ended) == JOB_KEYS
    assert (ended["status"], ended["condition"], ended["remoteOutcome"], ended["remoteResultInfo"]) == (
        "FINISHED", "NORMAL_COMPLETION", "FINISHED", "0",
    )  # fmt: skip
    assert ended["lastMessage"] == "Setting job status to FINISHED."
    assert ended["tags"] == ["a"]
    assert json.loads(ended["notes"]) == {"n": 1}
    assert [arg["arg"] for arg in json.loads(ended["parameterSet"])["appArgs"]] == ["'Ada L.'", "Grace"]
    for key in ("fileInputs", "execSystemConstraints", "subscriptions"):
        assert json.loads(ended[key]) == []
    for key in ("created", "ended", "remoteStarted", "remoteEnded", "lastUpdated"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", ended[key]), key
    out = tapis.http.get(f"/v3/jobs/{job['uuid']}/output/download/tapisjob.out")
    assert out.text == "Hello, Ada L. and Grace!\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bogus": 1}, "bogus"),
        ({"appVersion": None}, "appVersion"),
        ({"name": "n" * 65}, "name"),
        ({"nodeCount": 0}, "nodeCount"),
        ({"parameterSet": {"appArgs": [{"argh": "x"}]}}, "argh"),
        ({"parameterSet": {"logConfig": {"stdoutFilename": "../x", "stderrFilename": "y"}}}, "logConfig"),
    ],
)
def test_a_submission_that_cannot_be_is_refused_with_the_field(tapis: Tapis, change: dict[str, Any], said: str) -> None:
    """Unknown fields are among them, as Tapis refuses them."""
    body = {"name": "a", "appId": "hello", "appVersion": "1.0", **change}
    told = tapis.refused("POST", "submit", 400, "NET_REQUEST_PAYLOAD_ERROR", json=body)
    assert said in told["message"]
    assert tapis.result("GET", "list") == []


def test_an_unknown_app_or_version_names_those_that_there_are(tapis: Tapis) -> None:
    """What is wrong, what is allowed."""
    body = {"name": "a", "appId": "nope", "appVersion": "1.0"}
    assert "hello" in tapis.refused("POST", "submit", 400, "JOBS_APP_NOT_FOUND", json=body)["message"]
    body = {"name": "a", "appId": "hello", "appVersion": "9"}
    assert "1.0" in tapis.refused("POST", "submit", 400, "JOBS_APP_NOT_FOUND", json=body)["message"]


def test_a_running_job_is_cancelled_and_a_cancelled_one_is_a_409(tapis: Tapis) -> None:
    """The 200 is told as a request that was taken, and the end is CANCELLED with its condition."""
    uuid = tapis.submit(*SLEEP, app="python")["uuid"]
    assert tapis.wait(uuid, "RUNNING")["remoteStarted"] is not None
    response = tapis.http.post(f"/v3/jobs/{uuid}/cancel")
    assert response.status_code == 200
    told = tapis.envelope(response)
    assert told["message"].startswith("JOBS_JOB_CANCEL_ACCEPTED_DETAILS ")
    assert told["result"]["message"].startswith("JOBS_JOB_CANCEL_ACCEPTED ")
    ended = tapis.wait(uuid)
    assert (ended["status"], ended["condition"]) == ("CANCELLED", "CANCELLED_BY_USER")
    assert "JOB_CANCEL" in ended["lastMessage"]
    told = tapis.refused("POST", f"{uuid}/cancel", 409, "JOBS_JOB_IN_TERMINAL_STATE")
    assert told["result"] == {"name": uuid}


def test_a_job_that_fails_says_how(tapis: Tapis) -> None:
    """The exit code is a text, and the message has the reason."""
    uuid = tapis.submit("-c", "'raise SystemExit(7)'", app="python")["uuid"]
    ended = tapis.wait(uuid)
    assert (ended["status"], ended["condition"], ended["remoteResultInfo"]) == (
        "FAILED", "JOB_REMOTE_OUTCOME_ERROR", "7",
    )  # fmt: skip
    assert "exit code 7" in ended["lastMessage"]
    assert tapis.result("GET", f"{uuid}/status") == {"status": "FAILED", "condition": "JOB_REMOTE_OUTCOME_ERROR"}


def test_a_job_that_there_is_not_is_a_404_everywhere(tapis: Tapis, shared_service: Service) -> None:
    """One of another owner is such a job, too, and so is what is no id."""
    other = shared_service.make_token("someone-else").token or ""
    with shared_service.client(other) as client:
        foreign = client.submit("true").id + "-007"
    for uuid in ("00000000-0000-4000-8000-000000000000-007", foreign, foreign.removesuffix("-007"), "x"):
        for method, path in (
            ("GET", ""), ("GET", "/status"), ("GET", "/history"), ("POST", "/cancel"), ("POST", "/hide"),
            ("POST", "/resubmit"), ("GET", "/resubmit_request"), ("GET", "/output/list/"),
            ("GET", "/output/download/tapisjob.out"),
        ):  # fmt: skip
            tapis.refused(method, uuid + path, 404, "JOBS_JOB_NOT_FOUND")


def test_without_a_good_token_there_is_a_401(shared_service: Service) -> None:
    """In the envelope, with Tapis's codes."""
    jwt = "e30.eyJleHAiOjF9.c2ln"
    with httpx.Client(base_url=shared_service.url, trust_env=False, timeout=40) as http:
        for header, code in (
            (None, "TAPIS_SECURITY_MISSING_JWT_INFO"),
            ("nonsense", "TAPIS_SECURITY_JWT_INVALID"),
            ("a.b.c", "TAPIS_SECURITY_JWT_PARSE_ERROR"),
            (jwt, "TAPIS_SECURITY_JWT_EXPIRED"),
        ):
            headers = {} if header is None else {"X-Tapis-Token": header}
            response = http.get("/v3/jobs/list", headers=headers)
            assert response.status_code == 401
            assert Tapis.envelope(response)["message"].startswith(code)


def test_jobs_of_either_api_are_seen_in_the_other(tapis: Tapis, shared_client: Client) -> None:
    """One id is the other with Tapis's number behind it; a command is an app of that name."""
    uuid = tapis.submit("'you'")["uuid"]
    spec = shared_client.job(uuid.removesuffix("-007")).refresh().info.spec
    assert spec is not None
    assert spec["app"] == "hello"
    job = shared_client.submit("echo plain; exit 3", name="plain", env={"A": "b"})
    ended = tapis.wait(job.id + "-007")
    assert (ended["appId"], ended["appVersion"], ended["name"]) == ("command", "0", "plain")
    assert ended["remoteResultInfo"] == "3"
    assert json.loads(ended["parameterSet"])["envVariables"] == [{"key": "A", "value": "b"}]
    assert {one["uuid"] for one in tapis.result("GET", "list")} == {uuid, job.id + "-007"}


def test_an_app_is_run_by_the_native_api_too(shared_client: Client) -> None:
    """Arguments by name come after those that the app declares."""
    job = shared_client.submit(app="hello", args={"who": "my dear"})
    job.wait(timeout=60)
    assert job.logs() == "Hello, my dear!\n"


def test_the_history_tells_every_status_once(tapis: Tapis) -> None:
    """Each with the one before it, inside a text."""
    uuid = tapis.submit()["uuid"]
    tapis.wait(uuid)
    items = tapis.result("GET", f"{uuid}/history")
    words = [item["eventDetail"] for item in items]
    assert words[-1] == "FINISHED"
    assert "RUNNING" in words
    assert len(words) == len(set(words))
    described = [json.loads(item["description"]) for item in items]
    assert [one["newJobStatus"] for one in described] == words
    assert [one["oldJobStatus"] for one in described] == [None, *words[:-1]]
    assert tapis.result("GET", f"{uuid}/history?limit=1&skip=1")[0]["eventDetail"] == words[1]


def test_a_hidden_job_is_left_out_of_lists_and_only_one_that_has_ended_is_hidden(tapis: Tapis) -> None:
    """It can be looked at itself, and not at its status."""
    uuid = tapis.submit(*SLEEP, app="python")["uuid"]
    told = tapis.refused("POST", f"{uuid}/hide", 409, "JOBS_JOB_NOT_IN_TERMINAL_STATE")
    assert told["result"] == {"name": uuid}
    tapis.result("POST", f"{uuid}/cancel")
    tapis.wait(uuid)
    tapis.result("POST", f"{uuid}/hide")
    tapis.result("POST", f"{uuid}/hide")
    assert tapis.result("GET", "list") == tapis.result("GET", "search") == []
    assert tapis.result("GET", uuid)["visible"] is False
    for path in ("status", "history", "output/list/"):
        tapis.refused("GET", f"{uuid}/{path}", 404, "JOBS_JOB_NOT_VISIBLE")
    tapis.result("POST", f"{uuid}/unhide")
    assert [one["uuid"] for one in tapis.result("GET", "list")] == [uuid]


def test_a_job_is_submitted_again_as_a_new_one(tapis: Tapis) -> None:
    """With what it was called with; the request can be looked at and sent, too."""
    first = tapis.submit("'once more'", tags=["t"], notes={"a": 1})["uuid"]
    tapis.wait(first)
    second = tapis.result("POST", f"{first}/resubmit")
    assert second["uuid"] != first
    assert second["tags"] == ["t"]
    request = tapis.result("GET", f"{first}/resubmit_request")
    third = tapis.result("POST", "submit", json=request)
    for uuid in (second["uuid"], third["uuid"]):
        ended = tapis.wait(uuid)
        assert json.loads(ended["notes"]) == {"a": 1}
        out = tapis.http.get(f"/v3/jobs/{uuid}/output/download/tapisjob.out").text
        assert out == "Hello, once more!\n"


def test_annotations_are_added_or_put(tapis: Tapis) -> None:
    """PATCH adds, PUT replaces, and what is not given stays."""
    uuid = tapis.submit(tags=["a"], notes={"x": 1, "y": 1})["uuid"]
    added = tapis.result("PATCH", f"{uuid}/annotations", json={"tags": ["a", "b"], "notes": {"y": 2}})
    assert added == {"uuid": uuid, "tags": ["a", "b"], "notes": {"x": 1, "y": 2}}
    tapis.result("PUT", f"{uuid}/annotations", json={"tags": ["c"]})
    job = tapis.result("GET", uuid)
    assert job["tags"] == ["c"]
    assert json.loads(job["notes"]) == {"x": 1, "y": 2}
    tapis.refused("PUT", f"{uuid}/annotations", 400, "NET_REQUEST_PAYLOAD_ERROR", json={"name": "x"})


def test_outputs_are_listed_folder_by_folder_and_sent_by_range(tapis: Tapis) -> None:
    """Before the end only where that is asked for."""
    code = '\'import os; os.mkdir("d"); open("d/a.txt", "w").write("0123456789"); print("done", flush=True)'
    uuid = tapis.submit("-c", code + "; import time; time.sleep(600)'", app="python")["uuid"]
    tapis.wait(uuid, "RUNNING")
    tapis.refused("GET", f"{uuid}/output/list/", 400, "JOBS_JOB_NOT_TERMINATED")
    running = {"allowIfRunning": "True"}

    def listed() -> list[Any]:
        items = tapis.result("GET", f"{uuid}/output/list/", params=running)
        return items if any(item["name"] == "tapisjob.out" and item["size"] == 5 for item in items) else []

    items = until(listed)
    assert [(item["name"], item["type"]) for item in items] == [("d", "dir"), ("tapisjob.out", "file")]
    tapis.result("POST", f"{uuid}/cancel")
    tapis.wait(uuid)
    (item,) = tapis.result("GET", f"{uuid}/output/list/d")
    assert (item["name"], item["size"], item["mimeType"]) == ("a.txt", 10, "text/plain")
    address = f"/v3/jobs/{uuid}/output/download/d/a.txt"
    whole = tapis.http.get(address)
    assert (whole.status_code, whole.text) == (200, "0123456789")
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["cache-control"] == "max-age=3600"
    assert "attachment" in whole.headers["content-disposition"]
    part = tapis.http.get(address, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "234", "bytes 2-4/10")
    for path in ("nothing", "../stdout", "d/../../stdout"):
        tapis.refused("GET", f"{uuid}/output/download/{path.replace('..', '%2e%2e')}", 404, "FILES_PATH_NOT_FOUND")
    for path, names in (
        ("d", ["a.txt"]), ("", ["d/a.txt", "tapisjob.out"]), ("d/a.txt?compress=TRUE&format=zip", ["d/a.txt"]),
    ):  # fmt: skip
        packed = tapis.http.get(f"/v3/jobs/{uuid}/output/download/{path}")
        assert packed.status_code == 200
        with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
            assert archive.namelist() == names
            if "a.txt" in names[0]:
                assert archive.read(names[0]) == b"0123456789"
    tapis.refused("GET", f"{uuid}/output/download/d?compress=true&format=tgz", 400, "FILES_NOT_SUPPORTED")


def test_the_log_has_the_names_that_were_asked_for(tapis: Tapis) -> None:
    """Two names, two streams."""
    code = "'import sys; print(1); print(2, file=sys.stderr)'"
    logs = {"stdoutFilename": "out.txt", "stderrFilename": "err.txt"}
    uuid = tapis.submit("-c", code, app="python", parameterSet={"logConfig": logs})["uuid"]
    tapis.wait(uuid)
    for name, text in (("out.txt", "1\n"), ("err.txt", "2\n")):
        assert tapis.http.get(f"/v3/jobs/{uuid}/output/download/{name}").text == text


def test_variables_reach_the_job(tapis: Tapis) -> None:
    """One that is not included does not."""
    variables = [{"key": "A", "value": "x y"}, {"key": "B", "value": "z", "include": False}]
    code = '\'import os; print(os.environ["A"], "B" in os.environ)\''
    uuid = tapis.submit("-c", code, app="python", parameterSet={"envVariables": variables})["uuid"]
    tapis.wait(uuid)
    assert tapis.http.get(f"/v3/jobs/{uuid}/output/download/tapisjob.out").text == "x y False\n"


def test_lists_are_limited_ordered_and_counted(tapis: Tapis) -> None:
    """The metadata says how; booleans are read in any case."""
    made = [tapis.submit(name=name)["uuid"] for name in ("b", "c", "a")]
    listed = tapis.envelope(tapis.http.get("/v3/jobs/list"))
    assert [tuple(one) for one in listed["result"]] == [LIST_KEYS] * 3
    assert [one["uuid"] for one in listed["result"]] == made[::-1]
    assert listed["metadata"] == {
        "recordCount": 3, "recordLimit": 100, "recordsSkipped": 0, "orderBy": None, "startAfter": None,
        "totalCount": -1,
    }  # fmt: skip
    some = tapis.envelope(
        tapis.http.get("/v3/jobs/list?limit=1&skip=1&orderBy=name(asc),created(desc)&computeTotal=True")
    )
    assert [one["name"] for one in some["result"]] == ["b"]
    assert (some["metadata"]["totalCount"], some["metadata"]["orderBy"]) == (3, "name(asc),created(desc)")
    after = tapis.result("GET", "list?orderBy=name&startAfter=b")
    assert [one["name"] for one in after] == ["c"]
    assert tapis.result("GET", "list?limit=0") == []
    assert tapis.result("GET", "list?listType=SHARED_JOBS") == []
    assert len(tapis.result("GET", "list?listType=ALL_JOBS&pretty=true")) == 3
    for query, code in (
        ("startAfter=b", "SEARCH_INVALID_PARAMETER"), ("orderBy=name&startAfter=b&skip=1", "SEARCH_INVALID_PARAMETER"),
        ("orderBy=bogus", "SEARCH_INVALID_PARAMETER"), ("orderBy=name(up)", "SEARCH_INVALID_PARAMETER"),
        ("listType=MINE", "JOBS_LIST_TYPE_INVALID"), ("limit=x", "NET_INVALID_PARAMETER"),
        ("computeTotal=yes", "NET_INVALID_PARAMETER"), ("skip=-1", "NET_INVALID_PARAMETER"),
    ):  # fmt: skip
        tapis.refused("GET", f"list?{query}", 400, code)


def test_every_operator_finds_what_it_says(tapis: Tapis) -> None:
    """Also uuid.in, status.in, tags.contains, name.like with a star, created.gte; in GET and in POST."""
    jobs = {
        name: tapis.submit(name=name, tags=tags, nodeCount=1, memoryMB=memory)
        for name, tags, memory in (("ab", ["x", "y"], 10), ("a_c", ["x"], 20), ("zz", [], 30))
    }
    for job in jobs.values():
        tapis.wait(job["uuid"])
    uuids = ",".join(jobs[name]["uuid"] for name in ("ab", "zz"))
    created = jobs["a_c"]["created"]
    for query, wanted in (
        (f"uuid.in={uuids}", "ab zz"), ("status.in=FINISHED,FAILED", "ab a_c zz"), ("status.neq=FINISHED", ""),
        ("tags.contains=x", "ab a_c"), ("tags.contains=x,y", "ab"), ("tags.ncontains=x", "zz"), ("tags.in=y,q", "ab"),
        ("name.like=a*", "ab a_c"), ("name.like=a_*", "a_c"), ("name.like=a!", "ab"), ("name.nlike=a*", "zz"),
        (f"created.gte={created}", "a_c zz"), (f"created.lt={created}", "ab"), ("memoryMB.gt=10", "a_c zz"),
        ("memoryMB.between=10,20", "ab a_c"), ("memoryMB.nbetween=10,20", "zz"), ("memoryMB.lte=10", "ab"),
        ("name.eq=ab&tags.contains=x", "ab"), ("name=zz", "zz"), ("visible.eq=TRUE", "ab a_c zz"),
        ("name.nin=ab,zz", "a_c"), ("appId.eq=hello&condition.eq=NORMAL_COMPLETION", "ab a_c zz"),
        ("remoteStarted.lt=2020-01-01", ""),
    ):  # fmt: skip
        found = tapis.result("GET", f"search?{query}&orderBy=created(asc)")
        assert " ".join(one["name"] for one in found) == wanted, query
    for parts, wanted in (
        (["(status = 'FINISHED' AND name = 'ab')", " OR (tags IN ('x') AND name LIKE 'a\\_%')"], "ab a_c"),
        (["NOT name LIKE 'a%'"], "zz"), (["memoryMB BETWEEN 10 AND 20 and name <> 'ab'"], "a_c"), ([""], "ab a_c zz"),
        (["name NOT IN ('ab', 'zz')"], "a_c"),
    ):  # fmt: skip
        found = tapis.result("POST", "search?orderBy=created(asc)", json={"search": parts})
        assert " ".join(one["name"] for one in found) == wanted, parts
    assert tapis.result("GET", "search?name.eq=ab&select=uuid,name") == [{"uuid": jobs["ab"]["uuid"], "name": "ab"}]
    assert tuple(tapis.result("GET", "search?name.eq=ab&select=allAttributes")[0]) == JOB_KEYS
    none = tapis.envelope(tapis.http.get("/v3/jobs/search?name.eq=nope"))
    assert none["result"] == []
    assert none["message"].startswith("JOBS_SEARCH_NO_JOBS_FOUND ")
    for query in ("bogus.eq=1", "name.sounds=x", "created.eq=x", "memoryMB.eq=x", "select=bogus", "name.eq=%00"):
        tapis.refused("GET", f"search?{query}", 400, "SEARCH_INVALID_PARAMETER")
    for text in ("name", "name = ", "name = 'a", "; DROP TABLE jobs", "name = 'a' name", "(" * 60, "name ~ 'a'"):
        tapis.refused("POST", "search", 400, "SEARCH_INVALID_PARAMETER", json={"search": [text]})


def test_what_is_written_into_a_search_never_becomes_sql(tapis: Tapis) -> None:
    """A quote is a letter."""
    tapis.submit(name="it's")
    assert len(tapis.result("GET", "search", params={"name.eq": "it's"})) == 1
    assert tapis.result("GET", "search", params={"name.eq": "' OR 'a' = 'a"}) == []
    assert len(tapis.result("POST", "search", json={"search": ["name = 'it''s'"]})) == 1


def test_what_of_tapis_is_not_here_says_so(tapis: Tapis) -> None:
    """501, not a job that is not found."""
    uuid = tapis.submit()["uuid"]
    for method, path in (("POST", f"{uuid}/share"), ("GET", f"subscribe/{uuid}"), ("POST", f"{uuid}/sendEvent")):
        tapis.refused(method, path, 501, "JOBS_NOT_SUPPORTED")
    assert tapis.http.put("/v3/jobs/submit").status_code == 405


def test_the_service_says_how_it_is_to_everybody(shared_service: Service) -> None:
    """Health, tenants and sites need no token."""
    with httpx.Client(base_url=shared_service.url, trust_env=False, timeout=40) as http:
        for path in (
            "jobs/healthcheck",
            "jobs/readycheck",
            "jobs/ready",
            "jobs/hello",
            "tenants",
            "sites",
            "tenants/dev",
        ):
            assert http.get(f"/v3/{path}").status_code == 200
        (tenant,) = http.get("/v3/tenants").json()["result"]
        assert (tenant["tenant_id"], tenant["base_url"]) == ("dev", shared_service.url)
        for path, status in (("nothing", 404), ("jobs/submit", 401)):
            response = http.post(f"/v3/{path}", json={})
            assert response.status_code == status
            Tapis.envelope(response)


def _login(http: httpx.Client, body: dict[str, Any], status: int = 201, **options: Any) -> Any:
    response = http.post("/v3/oauth2/tokens", json=body, **options)
    assert response.status_code == status, response.text
    return Tapis.envelope(response)["result"]


def test_a_password_gives_a_token_that_looks_like_a_jwt(shared_service: Service) -> None:
    """The password is a token of the owner; only a client gets a refresh token, which is good once."""
    info = shared_service.make_token("ada")
    with httpx.Client(base_url=shared_service.url, trust_env=False, timeout=40) as http:
        told = _login(http, {"username": "ada", "password": info.token, "grant_type": "password"})
        assert set(told) == {"access_token"}
        access = told["access_token"]
        payload = json.loads(base64.urlsafe_b64decode(access["access_token"].split(".")[1] + "=="))
        assert payload["tapis/username"] == "ada"
        assert abs(payload["exp"] - time.time() - access["expires_in"]) < 60
        assert info.token is not None
        assert info.token not in base64.urlsafe_b64decode(access["access_token"].split(".")[2] + "==").decode()

        def listing(token: str) -> int:
            return http.get("/v3/jobs/list", headers={"X-Tapis-Token": token}).status_code

        assert listing(access["access_token"]) == 200
        forged = ".".join([*access["access_token"].split(".")[:2], "c2ln"])
        assert listing(forged) == 401
        _login(http, {"username": "eve", "password": info.token, "grant_type": "password"}, 401)
        _login(http, {"username": "ada", "password": "wrong", "grant_type": "password"}, 401)
        _login(http, {"username": "ada", "password": info.token, "grant_type": "bogus"}, 400)
        told = _login(
            http, {"username": "ada", "password": info.token, "grant_type": "password"}, auth=("client", "key")
        )
        refresh = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"]["refresh_token"]}
        assert listing(refresh["refresh_token"]) == 401
        _login(http, refresh, 400)
        told = _login(http, refresh, auth=("client", "key"))
        assert listing(told["access_token"]["access_token"]) == 200
        _login(http, refresh, 401, auth=("client", "key"))


def test_a_short_token_ends_and_says_so(service_factory: Callable[..., Service]) -> None:
    """The setting is in seconds; then there is 401 with the code for it."""
    service = service_factory(workers=0, tapis_token_seconds=1)
    password = service.make_token("ada").token or ""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=40) as http:
        told = _login(http, {"username": "ada", "password": password, "grant_type": "password"})
        headers = {"X-Tapis-Token": told["access_token"]["access_token"]}
        refused = until(
            lambda: response if (response := http.get("/v3/jobs/list", headers=headers)).status_code == 401 else None
        )
        assert refused is not None
        assert Tapis.envelope(refused)["message"].startswith("TAPIS_SECURITY_JWT_EXPIRED ")
