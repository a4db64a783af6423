"""Submit once, look and list, by ``gen.send``."""

from __future__ import annotations

import json

import pytest

from hpcjobs import operations
from hpcjobs.errors import (
    AuthenticationError,
    Conflict,
    ConnectionLost,
    InputError,
    InvalidSpec,
    JobNotFound,
    NoService,
    RateLimited,
    SubmissionUnknown,
    TimedOut,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.models import Capabilities, JobFilter, JobSpec
from hpcjobs.protocol import Response
from hpcjobs.retrying import RetryPolicy, retried
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")
INFO = {"id": "j1", "state": "QUEUED"}
QUICK = RetryPolicy(tries=3, base=0.0)


class Forgetful(ReferenceService):
    """A service that makes a new job of every submit, but lets a key be looked up, as most clusters do."""

    capabilities = Capabilities()

    def submit(self, spec, key):
        import dataclasses

        op = super().submit(spec, key)
        request = next(op)
        response = yield dataclasses.replace(request, repeatable=False)
        try:
            op.send(response)
        except StopIteration as end:
            return end.value


class Blind(Forgetful):
    """One that cannot even look a key up."""

    def find(self, key):
        raise Unsupported("blind", "find", "look")


def keys(script):
    return [request.headers["Idempotency-Key"] for request in script.requests if request.method == "POST"]


def submit(service=SERVICE, fields=None, **more):
    return retried(operations.submit_once(service, fields or {"command": "true"}, **more), QUICK)


def test_a_job_is_submitted_with_a_key_of_its_own(script, reply):
    for _ in range(2):
        assert script.play(submit(), reply(201, INFO)).id == "j1"
    first, second = keys(script)
    assert first != second
    assert len(first) == 36


def test_a_key_that_is_given_is_used(script, reply):
    script.play(submit(key="mine"), reply(200, INFO))
    assert keys(script) == ["mine"]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "schlüssel", " a", "a\x00"])
def test_a_key_that_cannot_travel_is_refused_before_anything_is_sent(script, key):
    with pytest.raises(InvalidSpec, match="key"):
        script.play(submit(key=key))
    assert script.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "true", "coers": 2}, "coers"),
        ({"command": "true", "walltime": "0s"}, "walltime"),
        ({"command": "true", "memory": "4 lightyears"}, "memory"),
        ({"command": ""}, "command"),
        ({"command": "true", "meta": {"a": object()}}, "meta"),
        ({"command": "true", "meta": {"a": "\udcff"}}, "meta"),
    ],
)
def test_a_job_that_cannot_be_asked_for_is_refused_before_anything_is_sent(script, fields, words):
    with pytest.raises(InvalidSpec, match=words):
        script.play(submit(fields=fields))
    assert script.requests == []


@pytest.mark.parametrize(
    "lost", [TimedOut("t"), ConnectionLost("c"), Response(503, {}, b""), NoService("n")], ids=["t", "c", "503", "n"]
)
def test_a_lost_answer_means_the_same_again_with_the_same_key(script, reply, lost):
    assert script.play(submit(), lost, reply(200, INFO)).id == "j1"
    assert script.requests[0] is script.requests[1]


@pytest.mark.parametrize(
    "answers",
    [
        [TimedOut("t") for _ in range(3)],
        [ConnectionLost("c"), NoService("n"), NoService("n")],
        [Response(503, {}, b"") for _ in range(3)],
        [Response(500, {}, b"")],
        [TimedOut("t"), Response(401, {"content-type": "application/json"}, b'{"detail": "expired"}')],
        [NoService("n"), TimedOut("t"), Response(429, {}, b"")],
    ],
    ids=["timeouts", "cut, then away", "503", "500", "cut, then 401", "cut, then 429"],
)
def test_where_a_try_may_have_been_taken_the_end_is_unknown_and_the_key_is_told(script, answers):
    with pytest.raises(SubmissionUnknown) as caught:
        script.play(submit(key="mine"), *answers)
    assert caught.value.key == "mine"
    assert "'mine'" in str(caught.value)
    assert caught.value.tries == len(answers)
    assert caught.value.__cause__ is not None


def test_where_nothing_was_ever_sent_there_is_no_service(script):
    with pytest.raises(NoService) as caught:
        script.play(submit(), *[NoService("n") for _ in range(3)])
    assert caught.value.tries == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (409, Conflict), (404, UnexpectedAnswer), (200, UnexpectedAnswer)]
)
def test_a_clear_no_is_told_as_such(script, status, kind):
    body = b'{"detail": "no"}' if status in {401, 409} else b"<html>"
    kind_of = "application/problem+json" if status in {401, 409} else "text/html"
    with pytest.raises(kind):
        script.play(submit(), Response(status, {"content-type": kind_of}, body))


def test_being_turned_away_is_no_lost_answer(script):
    with pytest.raises(RateLimited):
        script.play(submit(), *[Response(429, {}, b"")] * 3)


@pytest.mark.parametrize("lost", [TimedOut("t"), ConnectionLost("c"), Response(503, {}, b"")], ids=["t", "c", "503"])
def test_a_service_that_forgets_keys_is_asked_for_the_job_and_never_sent_another(script, reply, lost):
    info = script.play(submit(Forgetful("http://h")), lost, reply(200, {"items": [INFO]}))
    assert info.id == "j1"
    assert script.sent == ["POST /v1/jobs", "GET /v1/jobs"]
    key = script.requests[0].headers["Idempotency-Key"]
    assert ("key", key) in script.requests[1].params


def test_a_key_that_was_used_makes_no_second_job_on_a_service_that_forgets_keys(script, reply):
    """It is asked for the job first; what the same key was used for before is no other job."""
    assert script.play(submit(Forgetful("http://h"), key="mine"), reply(200, {"items": [INFO]})).id == "j1"
    assert script.sent == ["GET /v1/jobs"]


def test_the_same_key_for_another_job_is_refused_where_the_service_forgets_keys(script, reply):
    class Another(Forgetful):
        def asked_for(self, info, spec, key):
            return False

    with pytest.raises(Conflict, match="'mine' was used for another job, j1"):
        script.play(submit(Another("http://h"), key="mine"), reply(200, {"items": [INFO]}))


def test_a_job_that_is_accepted_late_is_found_by_its_key(script, reply):
    class Slow(Forgetful):
        capabilities = Forgetful.capabilities.model_copy(update={"find_within": 5.0})

    found = [reply(200, {"items": []}), reply(200, {"items": []}), reply(200, {"items": [INFO]})]
    assert script.play(submit(Slow("http://h")), TimedOut("t"), *found).id == "j1"


def test_a_job_that_is_not_found_by_its_key_is_unknown(script, reply):
    with pytest.raises(SubmissionUnknown):
        script.play(submit(Forgetful("http://h")), TimedOut("t"), reply(200, {"items": []}))


def test_a_look_up_that_fails_leaves_the_job_unknown(script):
    with pytest.raises(SubmissionUnknown):
        script.play(submit(Forgetful("http://h")), TimedOut("t"), *[NoService("n") for _ in range(3)])
    with pytest.raises(SubmissionUnknown):
        script.play(submit(Blind("http://h")), TimedOut("t"))


def test_an_interrupt_tells_the_key():
    op = submit(key="mine")
    next(op)
    with pytest.raises(KeyboardInterrupt) as caught:
        op.throw(KeyboardInterrupt())
    notes = getattr(caught.value, "__notes__", ["key='mine'"])  # since Python 3.11
    assert "key='mine'" in notes[0]


def test_inputs_are_sent_first_and_named_in_the_job(script, reply, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a")
    script.play(submit(inputs=[path]), Response(404, {}, b""), Response(201, {}, b""), reply(201, INFO))
    assert [request.method for request in script.requests] == ["HEAD", "PUT", "POST"]
    [item] = json.loads(script.requests[-1].content)["inputs"]
    assert (item["name"], item["size"]) == ("a.txt", 1)


def test_a_missing_input_is_told_before_anything_is_sent(script, tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        script.play(submit(inputs=[tmp_path / "none"]))
    assert script.requests == []


def test_a_wrong_spec_is_told_before_inputs_are_read(script, tmp_path):
    with pytest.raises(InvalidSpec, match="coers"):
        script.play(submit(fields={"command": "a", "coers": 1}, inputs=[tmp_path / "none"]))


def test_inputs_join_those_of_a_spec_and_must_have_names_of_their_own(script, reply, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a")
    item = {"name": "b.txt", "sha256": "0" * 64, "size": 1}
    there = Response(200, {}, b"")
    script.play(
        submit(fields=JobSpec.parse({"command": "x", "inputs": [item]}), inputs=[path]), there, reply(201, INFO)
    )
    assert [one["name"] for one in json.loads(script.requests[-1].content)["inputs"]] == ["b.txt", "a.txt"]
    with pytest.raises(InvalidSpec, match=r"two inputs are named 'b\.txt'"):
        script.play(submit(fields={"command": "x", "inputs": [item]}, inputs={"b.txt": path}), there)


def test_get_looks_at_a_job(script, reply):
    assert script.play(operations.get(SERVICE, "j1"), reply(200, INFO)).id == "j1"
    with pytest.raises(JobNotFound):
        script.play(operations.get(SERVICE, "j2"), reply(404, {"detail": "no", "code": "job_not_found"}))


# -- lists -----------------------------------------------------------------------------------------------------------


def page(reply, *ids, next_=None):
    return reply(200, {"items": [{"id": one, "state": "QUEUED"} for one in ids], "next": next_})


def test_jobs_are_listed_page_by_page(script, reply):
    op = operations.list_jobs(SERVICE, JobFilter(name="x"), page_size=2)
    script.play(op, page(reply, "a", "b", next_="c1"), page(reply, "c", next_="c2"), page(reply))
    assert [info.id for info in script.items] == ["a", "b", "c"]
    assert [dict(request.params).get("cursor") for request in script.requests] == [None, "c1", "c2"]
    assert all(("name", "x") in request.params for request in script.requests)


def test_no_more_is_asked_for_than_is_wanted(script, reply):
    script.play(
        operations.list_jobs(SERVICE, limit=3, page_size=2),
        page(reply, "a", "b", next_="c1"),
        page(reply, "c", next_="c2"),
    )
    assert [info.id for info in script.items] == ["a", "b", "c"]
    assert [dict(request.params)["limit"] for request in script.requests] == ["2", "1"]


def test_a_service_that_hands_out_too_much_is_cut(script, reply):
    script.play(operations.list_jobs(SERVICE, limit=1), page(reply, "a", "b"))
    assert [info.id for info in script.items] == ["a"]


def test_no_jobs_are_not_asked_for(script):
    script.play(operations.list_jobs(SERVICE, limit=0))
    assert script.requests == []


def test_a_list_that_goes_round_in_a_circle_ends(script, reply):
    with pytest.raises(UnexpectedAnswer, match="again and again"):
        script.play(operations.list_jobs(SERVICE), page(reply, "a", next_="c"), page(reply, "a", next_="c"))


@pytest.mark.parametrize("bad", [{"limit": -1}, {"page_size": 0}, {"page_size": 1001}])
def test_a_list_that_makes_no_sense_is_refused(script, bad):
    with pytest.raises(InvalidSpec, match=next(iter(bad))):
        script.play(operations.list_jobs(SERVICE, **bad))
