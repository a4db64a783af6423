"""Jobs over HTTP: submit, look, list, cancel, and what is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hpcjobs.models import JobInfo, JobPage
from hpcjobs_server.settings import Settings
from tests.integration.serving import Api, serving


@pytest.fixture
async def api(settings: Callable[..., Settings]) -> AsyncIterator[Api]:
    async with serving(settings(max_body_bytes=4096)) as running:
        yield running


async def refused(api: Api, body: Any, *, status: int = 422) -> dict[str, Any]:
    answer = await api.http.post("/v1/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    return problem


async def test_a_submitted_job_is_queued_and_known(api: Api) -> None:
    answer = await api.http.post(
        "/v1/jobs", json={"command": ["echo", "1"], "name": "a", "tags": ["t"], "meta": {"x": [1]}}
    )
    assert answer.status_code == 201
    info = JobInfo.model_validate_json(answer.content)
    assert (info.state.value, info.native_state, info.owner, info.tags, info.meta) == (
        "QUEUED", "QUEUED", "ada", ["t"], {"x": [1]},
    )  # fmt: skip
    assert answer.headers["location"] == f"/v1/jobs/{info.id}"
    assert answer.headers["etag"] == f'"{info.version}"'
    again = await api.http.get(answer.headers["location"])
    assert again.status_code == 200
    assert again.headers["etag"] == answer.headers["etag"]
    assert JobInfo.model_validate_json(again.content) == info
    assert info.spec is not None
    assert info.spec["command"] == ["echo", "1"]


async def test_the_same_key_and_body_make_one_job_and_another_body_is_refused(api: Api) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await api.http.post("/v1/jobs", json={"command": "true"}, headers=headers)
    again = await api.http.post("/v1/jobs", json={"command": "true"}, headers=headers)
    other = await api.http.post("/v1/jobs", json={"command": "false"}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["code"] == "key_reused"
    found = await api.http.get("/v1/jobs", params={"key": "k-1"})
    assert [item["id"] for item in found.json()["items"]] == [first.json()["id"]]
    async with api.client("root", "admin") as admin:  # keys are each owner's own
        assert (await admin.get("/v1/jobs", params={"key": "k-1"})).json()["items"] == []
        assert (await admin.post("/v1/jobs", json={"command": "false"}, headers=headers)).status_code == 201


async def test_a_key_that_was_accepted_stays_accepted_though_the_job_could_not_run_any_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcjobs_server.context._FRESH", 0.0)
    await api.beat(cores=8)
    body, headers = {"command": "true", "resources": {"cores": 8}}, {"Idempotency-Key": "k"}
    first = await api.http.post("/v1/jobs", json=body, headers=headers)
    assert first.status_code == 201
    await api.work.leave(api.worker)
    await api.beat(cores=1, worker=uuid.uuid4())
    refusal = await api.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "new"})
    assert refusal.json()["code"] == "too_many_cores"
    again = await api.http.post("/v1/jobs", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


async def test_a_key_that_cannot_be_one_is_refused(api: Api) -> None:
    for key in (b"", b"k" * 201, b"a b", "ü".encode("latin-1")):
        answer = await api.http.post("/v1/jobs", json={"command": "true"}, headers=[(b"Idempotency-Key", key)])
        assert answer.status_code == 422, key
        assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_an_unknown_field_is_refused_and_the_allowed_ones_are_named(api: Api) -> None:
    problem = await refused(api, {"command": "true", "wall_time": "1h"})
    assert problem["code"] == "invalid"
    assert problem["errors"][0]["field"] == "wall_time"
    assert "walltime" in problem["errors"][0]["message"]
    assert "command" in problem["errors"][0]["message"]


async def test_every_wrong_field_is_named(api: Api) -> None:
    body = {"command": "", "resources": {"walltime": "5 parsecs", "memory": -1}, "env": {"A=B": "x"}}
    fields = {error["field"] for error in (await refused(api, body))["errors"]}
    assert fields == {"command", "walltime", "memory", "env"}


async def test_resources_may_stand_beside_the_other_fields(api: Api) -> None:
    answer = await api.http.post("/v1/jobs", json={"command": "true", "cores": 1, "walltime": "1m"})
    assert answer.status_code == 201
    assert answer.json()["spec"]["resources"]["walltime"] == 60.0


async def test_what_is_no_job_is_refused(api: Api) -> None:
    bodies: list[Any] = [
        [],
        "text",
        7,
        {"command": "true", "resources": 3},
        {"command": "true", "resources": "abc"},
        {"command": "true", "meta": {"a": "nul \x00 here"}},
        {"command": "true", "name": "nul \x00 here"},
        {"command": "true", "memory": "9" * 400},
        {"command": "true", "resources": {"walltime": "9" * 400 + "-00:00:00"}},
        {"command": "true", "resources": {"walltime": 0}},
        {"command": "true", "inputs": [{"name": "../x", "sha256": "0" * 64, "size": 1}]},
        {"command": "true", "inputs": [{"name": "a\x00", "sha256": "0" * 64, "size": 1}]},
        {"app": "no-such-app", "app_version": "1.0"},
        {"app": "hello", "app_version": "0.1"},
        {"app": "hello", "options": {"bogus": 1}},
        {"app": "hello", "options": {"maxMinutes": 1}},
        {"command": "true", "options": {"nodeCount": 2}},
    ]
    for body in bodies:
        assert (await refused(api, body))["code"] == "invalid", body


async def test_not_a_number_is_refused(api: Api) -> None:
    answer = await api.http.post(
        "/v1/jobs", content=b'{"command": "true", "meta": {"x": NaN}}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_broken_json_is_refused(api: Api) -> None:
    for content in (b"{", b"", b"\xff\xfe", b"[" * 3000):
        answer = await api.http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), content[:10]


async def test_what_does_not_say_that_it_is_json_is_refused(api: Api) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = await api.http.post("/v1/jobs", content=b'{"command": "true"}', headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "media_type")


async def test_a_body_beyond_the_limit_is_refused_also_where_its_length_is_not_announced(api: Api) -> None:
    content = json.dumps({"command": "x" * 5000}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    for body in (content, pieces()):
        answer = await api.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (413, "too_large", 4096)


async def test_more_cores_than_any_worker_has_are_refused_with_both_numbers(api: Api) -> None:
    await api.submit(resources={"cores": 64})  # nobody is alive who could be too small
    await api.beat(cores=2)
    problem = await refused(api, {"command": "true", "resources": {"cores": 3}})
    assert problem["code"] == "too_many_cores"
    assert "3 cores" in problem["detail"]
    assert "has 2" in problem["detail"]
    await api.submit(resources={"cores": 2})
    await api.beat(cores=3, worker=uuid.uuid4())
    await api.submit(resources={"cores": 3})


async def test_inputs_that_were_not_sent_are_named(api: Api) -> None:
    sent = await api.put(b"here")
    missing = {"name": "missing.csv", "sha256": "0" * 64, "size": 4}
    problem = await refused(api, {"command": "true", "inputs": [sent, missing]})
    assert problem["code"] == "input_missing"
    assert "missing.csv" in problem["detail"]
    assert [error["field"] for error in problem["errors"]] == ["inputs.1"]


async def test_the_size_of_an_input_must_be_that_of_what_was_sent(api: Api) -> None:
    sent = await api.put(b"here")
    problem = await refused(api, {"command": "true", "inputs": [{**sent, "size": 5}]})
    assert problem["code"] == "input_size"
    await api.submit(inputs=[sent])


async def test_anothers_input_does_not_count(api: Api) -> None:
    sent = await api.put(b"here")
    async with api.client("bob") as bob:
        answer = await bob.post("/v1/jobs", json={"command": "true", "inputs": [sent]})
        assert answer.json()["code"] == "input_missing"


async def test_anothers_job_is_not_found_but_an_administrator_finds_it(api: Api) -> None:
    job_id = await api.submit()
    async with api.client("bob") as bob, api.client("root", "admin") as admin:
        for path in (
            f"/v1/jobs/{job_id}",
            f"/v1/jobs/{job_id}/logs/stdout",
            f"/v1/jobs/{job_id}/files",
            f"/v1/jobs/{job_id}/files/a",
        ):
            assert (await bob.get(path)).json()["code"] == "job_not_found", path
        assert (await bob.post(f"/v1/jobs/{job_id}/cancel", json={})).json()["code"] == "job_not_found"
        assert (await bob.get("/v1/jobs")).json()["items"] == []
        assert (await bob.post("/v1/jobs/query", json={"ids": [job_id]})).json() == {
            "items": [],
            "missing": [job_id],
            "arrays": [],
        }
        assert (await admin.get(f"/v1/jobs/{job_id}")).json()["owner"] == "ada"


async def test_an_unknown_id_is_not_found(api: Api) -> None:
    for job_id in ("nothing", "0" * 32, "%00", "a" * 5000):
        answer = await api.http.get(f"/v1/jobs/{job_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


async def test_a_look_costs_nothing_while_the_version_is_the_same(api: Api) -> None:
    job_id = await api.submit()
    etag = (await api.http.get(f"/v1/jobs/{job_id}")).headers["etag"]
    same = await api.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    await api.http.post(f"/v1/jobs/{job_id}/cancel", json={})
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})).status_code == 200


async def test_progress_is_told_though_the_version_is_the_same(api: Api) -> None:
    job_id = await api.submit()
    await api.start(job_id)
    etag = (await api.http.get(f"/v1/jobs/{job_id}")).headers["etag"]
    await api.report(job_id, 3)
    answer = await api.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] == etag
    assert answer.json()["progress"]["done"] == 3


async def test_a_list_goes_page_by_page_newest_first_and_filters(api: Api) -> None:
    ids = [await api.submit(name=f"job-{n}", tags=["even" if n % 2 == 0 else "odd"]) for n in range(5)]
    got: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = JobPage.model_validate_json((await api.http.get("/v1/jobs", params=params)).content)
        got += [item.id for item in page.items]
        assert all(item.spec is None for item in page.items)
        if (cursor := page.next) is None:
            break
    assert got == ids[::-1]

    async def found(**params: Any) -> list[str]:
        return [item["id"] for item in (await api.http.get("/v1/jobs", params=params)).json()["items"]]

    await api.http.post(f"/v1/jobs/{ids[0]}/cancel", json={})
    assert await found(tag="odd") == [ids[3], ids[1]]
    assert await found(tag=["odd", "even"]) == []
    assert await found(name="job-*", state="CANCELLED") == [ids[0]]
    assert len(await found(state=["QUEUED", "CANCELLED"])) == 5
    assert await found(queue="other") == []
    created = (await api.http.get(f"/v1/jobs/{ids[2]}")).json()["created_at"]
    assert await found(created_after=created) == [ids[4], ids[3], ids[2]]
    assert await found(created_before=created.rstrip("Z")) == [ids[1], ids[0]]


async def test_a_question_that_makes_no_sense_is_refused(api: Api) -> None:
    questions: list[tuple[dict[str, Any], str]] = [
        ({"stat": "QUEUED"}, "stat"),
        ({"state": "SLEEPING"}, "state.0"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": ["1", "2"]}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"name": "a\x00"}, ""),
    ]
    for params, field in questions:
        answer = await api.http.get("/v1/jobs", params=params)
        assert answer.status_code == 422, params
        assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_many_jobs_are_looked_at_in_one_request(api: Api) -> None:
    ids = [await api.submit() for _ in range(3)]
    unknown = str(uuid.uuid4())
    answer = await api.http.post("/v1/jobs/query", json={"ids": [ids[0].upper(), *ids[1:], ids[1], unknown, "bad"]})
    assert sorted(item["id"] for item in answer.json()["items"]) == sorted(ids)
    assert answer.json()["missing"] == [unknown, "bad"]
    assert (await api.http.post("/v1/jobs/query", json={"ids": []})).status_code == 422


async def test_a_queued_job_is_cancelled_at_once_with_the_reason(api: Api) -> None:
    job_id = await api.submit()
    result = (await api.http.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "wrong damping"})).json()
    assert (result["outcome"], result["before"], result["after"]) == ("CANCELLED", "QUEUED", "CANCELLED")
    info = (await api.http.get(f"/v1/jobs/{job_id}")).json()
    assert (info["state"], info["reason"]) == ("CANCELLED", "wrong damping")
    again = (await api.http.post(f"/v1/jobs/{job_id}/cancel")).json()
    assert again["outcome"] == "ALREADY_TERMINAL"


async def test_a_running_job_is_asked_to_stop_or_left_alone(api: Api) -> None:
    job_id = await api.submit()
    await api.start(job_id)
    left = (await api.http.post(f"/v1/jobs/{job_id}/cancel", json={"abort": False})).json()
    assert left["outcome"] == "LEFT_RUNNING"
    asked = (await api.http.post(f"/v1/jobs/{job_id}/cancel", json={})).json()
    assert asked["outcome"] == "CANCEL_REQUESTED"
    assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["cancel_requested"] is True


async def test_many_jobs_are_cancelled_in_one_request_and_a_bad_id_spoils_nothing(api: Api) -> None:
    ids = [await api.submit() for _ in range(2)]
    async with api.client("bob") as bob:
        foreign = (await bob.post("/v1/jobs", json={"command": "true"})).json()["id"]
    order = {"ids": [ids[0], "bad", foreign, ids[1]], "reason": "r"}
    results = (await api.http.post("/v1/jobs/cancel", json=order)).json()["results"]
    assert [result["job_id"] for result in results] == order["ids"]
    assert [result["outcome"] for result in results] == ["CANCELLED", "NOT_FOUND", "NOT_FOUND", "CANCELLED"]


async def test_a_cancel_that_makes_no_sense_is_refused(api: Api) -> None:
    job_id = await api.submit()
    one, many = f"/v1/jobs/{job_id}/cancel", "/v1/jobs/cancel"
    for path, body, field in (
        (one, {"reason": "x" * 1025}, "reason"),
        (one, {"ids": [job_id]}, "ids"),
        (one, {"force": True}, "force"),
        (one, {"reason": "a\x00"}, ""),
        (many, {"reason": "r"}, "ids"),
    ):
        answer = await api.http.post(path, json=body)
        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["field"] == field
    assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["state"] == "QUEUED"


async def test_reading_is_all_that_a_token_to_read_may_do(api: Api) -> None:
    job_id = await api.submit()
    async with api.client("ada", "read") as reader:
        assert (await reader.get(f"/v1/jobs/{job_id}")).status_code == 200
        for answer in (
            await reader.post("/v1/jobs", json={"command": "true"}),
            await reader.post(f"/v1/jobs/{job_id}/cancel", json={}),
            await reader.post("/v1/jobs/cancel", json={"ids": [job_id]}),
            await reader.put(f"/v1/blobs/{'0' * 64}", content=b""),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "scope")
