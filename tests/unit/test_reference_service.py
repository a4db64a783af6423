"""The reference server's service: the requests that go out and what is made of the answers."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from hpcjobs import errors
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobSpec, TokenOrder
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

ID = "0b7f3f0e-6c1d-4d57-9c1e-0a4b7d6f9a10"
AT = f"/v1/jobs/{ID}"
SERVICE = ReferenceService("http://127.0.0.1:8765/")
SHA = "ab" * 32
INFO = {"id": ID, "state": "RUNNING", "attempt": 1}


def chunk(status, data=b"", place="", state="RUNNING", attempt="1"):
    headers = {"hpcjobs-job-state": state, "hpcjobs-attempt": attempt, "content-type": "text/plain"}
    return Response(status, {**headers, **({"content-range": place} if place else {})}, data)


def test_submit_sends_the_key_and_only_what_was_asked_for(script, reply):
    info = script.play(SERVICE.submit(JobSpec(command="true", tags=["a"]), "key-1"), reply(201, INFO))
    [request] = script.requests
    assert (request.method, request.path) == ("POST", "/v1/jobs")
    assert request.headers["Idempotency-Key"] == "key-1"
    assert json.loads(request.content) == {"command": "true", "tags": ["a"]}
    assert request.safe_to_repeat
    assert info.id == ID


def test_what_was_asked_travels_also_where_it_is_the_default(script, reply):
    """An app may have another default: one core that is asked for is not the same as nothing."""
    spec = JobSpec.parse({"app": "fit", "cores": 1, "queue": "default"})
    script.play(SERVICE.submit(spec, "key"), reply(201, INFO))
    assert json.loads(script.requests[0].content) == {"app": "fit", "queue": "default", "resources": {"cores": 1}}


def test_the_body_of_a_submit_is_read_back_as_the_same_spec(script, reply):
    spec = JobSpec.parse({"command": ["a", "b"], "cores": 2, "walltime": "1h30m", "memory": "4GiB", "grace": 5})
    script.play(SERVICE.submit(spec, "key"), reply(201, INFO))
    assert JobSpec.model_validate_json(script.requests[0].content) == spec


def test_get_reads_a_job(script, reply):
    assert script.play(SERVICE.get(ID), reply(200, INFO)).state is JobState.RUNNING
    assert script.sent == [f"GET {AT}"]


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "a b", "ä", "x" * 101, "a?b=c", "a\x00"])
def test_what_cannot_be_an_id_is_not_sent(script, job_id):
    with pytest.raises(errors.JobNotFound):
        script.play(SERVICE.get(job_id))
    assert script.requests == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad", errors.InvalidRequest),
        (401, "bad_token", errors.AuthenticationError),
        (403, "scope", errors.PermissionDenied),
        (404, "job_not_found", errors.JobNotFound),
        (404, "file_not_found", errors.NotFound),
        (405, "", errors.InvalidRequest),
        (409, "key_reused", errors.Conflict),
        (412, "stale", errors.StaleVersion),
        (413, "too_large", errors.TooLarge),
        (415, "", errors.InvalidRequest),
        (422, "invalid", errors.InvalidRequest),
        (429, "slow_down", errors.RateLimited),
        (500, "", errors.ServiceUnavailable),
        (503, "database", errors.ServiceUnavailable),
        (418, "", errors.ServiceError),
    ],
)
def test_each_status_has_its_error(script, reply, status, code, kind):
    body = {"title": "No", "status": status, "detail": "because", "code": code}
    with pytest.raises(errors.ServiceError) as caught:
        script.play(SERVICE.get(ID), reply(status, body))
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.body) == (status, code, "because", body)


def test_every_field_that_is_wrong_is_named(script, reply):
    body = {
        "detail": "the job cannot be asked for",
        "code": "invalid",
        "errors": [{"field": "cores", "message": "must be at least 1"}, {"field": "queue", "message": "bad name"}],
    }
    with pytest.raises(errors.InvalidRequest, match="cores: must be at least 1; queue: bad name"):
        script.play(SERVICE.get(ID), reply(422, body))


def test_odd_error_lists_do_no_harm(script, reply):
    body = {"detail": None, "title": "Invalid", "errors": ["text", {"message": None}, {"message": "whole"}]}
    with pytest.raises(errors.InvalidRequest, match=r"^Invalid: whole$"):
        script.play(SERVICE.get(ID), reply(422, body))


def test_an_error_knows_how_often_it_was_tried_and_what_was_lost(script, reply):
    bad = reply(409, {"detail": "no", "code": "x"})
    with pytest.raises(errors.Conflict) as caught:
        script.play(SERVICE.get(ID), Response(bad.status, bad.headers, bad.content, tries=3, lost=True))
    assert caught.value.tries == 3
    assert caught.value.may_have_acted


HTML = Response(200, {"content-type": "text/html; charset=utf-8"}, b"<html>\n <title>Please log in</title>")


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (HTML, ["http://127.0.0.1:8765" + AT, "200", "text/html", "Please log in", "proxy"]),
        (Response(404, {"content-type": "text/html"}, b"<h1>Not Found"), ["404", "Not Found", "proxy"]),
        (Response(200, {"content-type": "application/json"}, b'{"id": "1", "sta'), ["200", "application/json", '"sta']),
        (Response(200, {"content-type": "application/json"}, b'{"hello": 1}'), ["id: Field required"]),
        (Response(200, {}, b""), ["200", "no content type", "empty"]),
        (Response(302, {"location": "https://other"}, b""), ["302", "https://other"]),
        (Response(404, {"content-type": "application/json"}, b"[1]"), ["404", "another version"]),
        (Response(400, {"content-type": "application/json"}, b"{nonsense"), ["400", "{nonsense"]),
        (Response(200, {"content-type": "text/plain"}, b"\xff\xfe"), ["text/plain"]),
    ],
    ids=["html", "html 404", "half", "other json", "nothing", "redirect", "list", "broken", "binary"],
)
def test_an_answer_in_another_language_says_where_it_came_from_and_what_it_may_be(script, response, words):
    with pytest.raises(errors.UnexpectedAnswer) as caught:
        script.play(SERVICE.get(ID), response)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.status == response.status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthenticationError),
        (403, errors.PermissionDenied),
        (413, errors.TooLarge),
        (429, errors.RateLimited),
        (502, errors.ServiceUnavailable),
        (504, errors.ServiceUnavailable),
    ],
)
def test_a_proxy_that_speaks_for_the_service_is_understood_by_its_status(script, status, kind):
    page = Response(status, {"content-type": "text/html"}, b"<html>nginx")
    with pytest.raises(kind, match="nginx"):
        script.play(SERVICE.get(ID), page)


def test_a_key_is_looked_up(script, reply):
    assert script.play(SERVICE.find("k"), reply(200, {"items": [INFO]})).id == ID
    assert script.play(SERVICE.find("k"), reply(200, {"items": []})) is None
    assert script.requests[0].params == [("key", "k"), ("limit", "1")]


def test_many_jobs_are_asked_for_in_chunks(script, reply):
    ids = [f"job-{number}" for number in range(10_500)]
    answers = [reply(200, {"items": [INFO], "missing": ["job-1"]}), reply(200, {"items": [], "missing": ["job-1200"]})]
    found = script.play(SERVICE.get_many(ids), *answers)
    assert [len(json.loads(request.content)["ids"]) for request in script.requests] == [10_000, 500]
    assert all(request.safe_to_repeat for request in script.requests)
    assert ([info.id for info in found.items], found.missing) == ([ID], ["job-1", "job-1200"])


def test_no_jobs_are_not_asked_for(script):
    assert script.play(SERVICE.get_many([])).items == []


def test_a_filter_becomes_parameters(script, reply):
    chosen = JobFilter.parse(
        {
            "state": ["RUNNING", "QUEUED"],
            "tag": ["a", "b"],
            "name": "fit*",
            "queue": "long",
            "created_after": dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone.utc),
        }
    )
    page = script.play(SERVICE.page(chosen, limit=7, cursor="c"), reply(200, {"items": [INFO], "next": "d"}))
    assert script.requests[0].params == [
        ("limit", "7"),
        ("state", "RUNNING"),
        ("state", "QUEUED"),
        ("tag", "a"),
        ("tag", "b"),
        ("name", "fit*"),
        ("queue", "long"),
        ("created_after", "2026-01-02T03:00:00+00:00"),
        ("cursor", "c"),
    ]
    assert page.next == "d"


def test_a_time_without_a_zone_is_local_time(script, reply):
    moment = dt.datetime(2026, 7, 1, 12)  # noqa: DTZ001
    script.play(SERVICE.page(JobFilter(created_before=moment), limit=1, cursor=None), reply(200, {"items": []}))
    sent = dict(script.requests[0].params)["created_before"]
    assert dt.datetime.fromisoformat(sent) == moment.astimezone(dt.timezone.utc)


def test_one_cancel_names_the_job_in_its_address(script, reply):
    answer = reply(200, {"job_id": ID, "outcome": "CANCELLED", "before": "QUEUED", "after": "CANCELLED"})
    [result] = script.play(SERVICE.cancel([ID], reason="why", abort=False, delete=True), answer)
    [request] = script.requests
    assert request.path == f"{AT}/cancel"
    assert json.loads(request.content) == {"reason": "why", "abort": False, "delete": True}
    assert request.safe_to_repeat
    assert result.outcome is CancelOutcome.CANCELLED


def test_one_cancel_of_an_unknown_job_is_an_outcome(script, reply):
    [result] = script.play(
        SERVICE.cancel([ID], reason=None, abort=True, delete=False),
        reply(404, {"detail": "no", "code": "job_not_found"}),
    )
    assert result.outcome is CancelOutcome.NOT_FOUND


def test_many_cancels_are_one_request(script, reply):
    results = [{"job_id": ID, "outcome": "CANCELLED"}, {"job_id": "x", "outcome": "NOT_FOUND"}]
    found = script.play(
        SERVICE.cancel([ID, "x"], reason=None, abort=True, delete=False), reply(200, {"results": results})
    )
    assert script.sent == ["POST /v1/jobs/cancel"]
    assert [result.outcome.value for result in found] == ["CANCELLED", "NOT_FOUND"]


def test_a_log_is_asked_for_by_range(script):
    got = script.play(SERVICE.log(ID, "stdout", offset=10, length=5), chunk(206, b"abc", "bytes 10-12/13"))
    [request] = script.requests
    assert request.path == f"{AT}/logs/stdout"
    assert request.headers["Range"] == "bytes=10-14"
    assert request.headers["Accept-Encoding"] == "identity"
    assert (got.data, got.offset, got.total, got.state, got.attempt) == (b"abc", 10, 13, JobState.RUNNING, 1)


def test_a_log_that_is_waited_for_has_a_longer_timeout(script):
    script.play(SERVICE.log(ID, "stderr", offset=0, wait=20.0), chunk(416, place="bytes */0"))
    [request] = script.requests
    assert request.params == [("wait", "20")]
    assert request.headers["Range"] == "bytes=0-"
    assert request.timeout == 50.0


def test_nothing_beyond_the_offset_is_an_empty_piece(script):
    got = script.play(SERVICE.log(ID, "stdout", offset=9), chunk(416, b"problem text", "bytes */9", "FINISHED", "2"))
    assert (got.data, got.offset, got.total, got.state, got.attempt) == (b"", 9, 9, JobState.FINISHED, 2)


def test_the_end_of_a_log_is_asked_for_by_a_suffix(script):
    got = script.play(SERVICE.log_tail(ID, "stdout", size=3), chunk(206, b"xyz", "bytes 7-9/10"))
    assert script.requests[0].headers["Range"] == "bytes=-3"
    assert (got.offset, got.total) == (7, 10)


def test_a_whole_log_is_taken_as_such(script):
    got = script.play(SERVICE.log(ID, "stdout", offset=2), chunk(200, b"abcdef"))
    assert (got.data, got.offset, got.total) == (b"abcdef", 0, 6)


@pytest.mark.parametrize(
    "bad",
    [
        HTML,
        chunk(206, b"abc", "bytes 0-5/6"),
        chunk(206, b"abc", ""),
        chunk(206, b"abc", "bytes */3"),
        chunk(416, b"", "bytes 0-1/2"),
        chunk(200, b"abc", attempt="x"),
    ],
    ids=["html", "short", "no range", "wrong range", "wrong 416", "no attempt"],
)
def test_a_piece_that_does_not_fit_its_range_is_refused(script, bad):
    with pytest.raises(errors.UnexpectedAnswer):
        script.play(SERVICE.log(ID, "stdout", offset=0), bad)


def test_a_log_of_an_unknown_job_is_job_not_found(script, reply):
    with pytest.raises(errors.JobNotFound):
        script.play(SERVICE.log(ID, "stdout", offset=0), reply(404, {"detail": "no", "code": "job_not_found"}))


def test_files_are_listed(script, reply):
    [file] = script.play(SERVICE.files(ID), reply(200, {"items": [{"path": "a/b.csv", "size": 3}]}))
    assert (file.path, file.size) == ("a/b.csv", 3)


def test_a_file_is_asked_for_by_range_and_its_name_is_quoted(script):
    answer = Response(206, {"content-range": "bytes 5-6/9", "etag": '"1-9"'}, b"xy")
    got = script.play(SERVICE.file(ID, "a b/ü?.csv", offset=5, length=2), answer)
    [request] = script.requests
    assert request.path == f"{AT}/files/a%20b/%C3%BC%3F.csv"
    assert request.headers["Range"] == "bytes=5-6"
    assert (got.data, got.offset, got.total, got.etag) == (b"xy", 5, 9, '"1-9"')


def test_an_empty_file_is_an_empty_piece(script):
    got = script.play(SERVICE.file(ID, "a", offset=0, length=2), Response(416, {"content-range": "bytes */0"}, b""))
    assert (got.data, got.offset, got.total) == (b"", 0, 0)


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, False)])
def test_an_input_is_looked_for_by_its_content(script, status, there):
    assert script.play(SERVICE.has_input(SHA), Response(status, {}, b"")) is there
    assert script.sent == [f"HEAD /v1/blobs/{SHA}"]


def test_a_look_for_an_input_that_is_refused_is_an_error(script):
    with pytest.raises(errors.AuthenticationError):
        script.play(SERVICE.has_input(SHA), Response(401, {}, b""))


def test_an_input_is_put_under_its_content(script, tmp_path):
    body = object()
    script.play(SERVICE.send_input(SHA, body), Response(201, {}, b""))  # type: ignore[arg-type]
    [request] = script.requests
    assert (request.method, request.path, request.body) == ("PUT", f"/v1/blobs/{SHA}", body)


def test_tokens_are_made_once_listed_and_revoked(script, reply):
    token = {"id": "t1", "name": "n", "owner": "me", "scope": "read", "created_at": "2026-01-01T00:00:00Z"}
    made = script.play(SERVICE.create_token(TokenOrder(name="n", expires_in="1h")), reply(201, {**token, "token": "s"}))
    assert made.token == "s"
    assert json.loads(script.requests[0].content)["expires_in"] == 3600.0
    assert not script.requests[0].safe_to_repeat
    assert [one.id for one in script.play(SERVICE.list_tokens(), reply(200, {"items": [token]}))] == ["t1"]
    script.play(SERVICE.revoke_token("a/b"), Response(204, {}, b""))
    assert script.sent[-1] == "DELETE /v1/tokens/a%2Fb"


def test_a_token_that_a_lost_try_has_revoked_is_revoked(script, reply):
    gone = reply(404, {"detail": "no", "code": "token_not_found"})
    script.play(SERVICE.revoke_token("t"), Response(404, gone.headers, gone.content, tries=2, lost=True))
    with pytest.raises(errors.NotFound):
        script.play(SERVICE.revoke_token("t"), gone)


def test_the_stream_of_changes_goes_on_from_a_cursor():
    assert SERVICE.events_request("17").headers == {"Last-Event-ID": "17"}
    fresh = SERVICE.events_request(None)
    assert (fresh.path, dict(fresh.headers)) == ("/v1/events", {})
    assert fresh.timeout is not None
    assert fresh.timeout > 15


def test_info_is_read(script, reply):
    told = {"version": "1", "owner": "me", "scope": "write", "max_input_bytes": 5, "new_field": 1}
    assert script.play(SERVICE.info(), reply(200, told)).max_input_bytes == 5


@pytest.mark.parametrize(
    ("told", "spelled"),
    [
        ("0B7F0000-0000-4000-8000-00000000000A", "0b7f0000-0000-4000-8000-00000000000a"),
        ("0b7f000000004000800000000000000a", "0b7f0000-0000-4000-8000-00000000000a"),
        ("no-id", "no-id"),
    ],
)
def test_an_id_is_spelled_as_the_server_spells_it(told, spelled):
    assert SERVICE.spelled(told) == spelled


def test_an_error_knows_when_the_service_wants_to_be_asked_again(script, reply):
    with pytest.raises(errors.ServiceError) as caught:
        script.play(SERVICE.get("a"), reply(503, {"detail": "later"}, retry_after="7"))
    assert caught.value.retry_after == 7.0
    with pytest.raises(errors.ServiceError) as caught:
        script.play(SERVICE.get("a"), reply(503, {"detail": "later"}))
    assert caught.value.retry_after is None
