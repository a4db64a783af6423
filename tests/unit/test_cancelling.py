"""Each way a request to cancel can end."""

from __future__ import annotations

import json

import pytest

from hpcjobs import errors
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, Capabilities
from hpcjobs.operations import cancel, cancel_many
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")
AT = "/v1/jobs/j1"


class Lossy(ReferenceService):
    """A service that cannot leave a started job alone and may lose a cancel."""

    capabilities = Capabilities(cancel_can_be_lost=True, min_poll=30.0)


@pytest.fixture
def look(reply):
    """An answer to a look at the job."""

    def make(state, **more):
        return reply(200, {"id": "j1", "state": state, **more})

    return make


@pytest.fixture
def said(reply):
    """The service's answer to a cancel."""

    def make(outcome, after=None, before=None):
        return reply(200, {"job_id": "j1", "outcome": outcome, "before": before, "after": after, "reason": "why"})

    return make


@pytest.fixture
def ask(script):
    def go(*answers, service=SERVICE, **more):
        return script.play(cancel(service, "j1", **{"reason": "why", **more}, clock=script.clock), *answers)

    return go


GONE = Response(404, {"content-type": "application/problem+json"}, b'{"detail": "no", "code": "job_not_found"}')


@pytest.mark.parametrize("state", ["FINISHED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("confirm", [None, 5.0])
def test_a_job_that_has_ended_is_not_sent_a_cancel(script, ask, look, state, confirm):
    result = ask(look(state), confirm=confirm)
    assert script.sent == [f"GET {AT}"]
    assert (result.outcome, result.before, result.after) == (CancelOutcome.ALREADY_TERMINAL, state, state)
    assert not result.accepted


@pytest.mark.parametrize("state", ["PENDING", "QUEUED", "STAGING", "RUNNING", "PAUSED", "ARCHIVING"])
def test_a_job_that_has_not_ended_is_sent_one(script, ask, look, said, state):
    result = ask(look(state), said("CANCEL_REQUESTED", state, state))
    assert script.sent == [f"GET {AT}", f"POST {AT}/cancel"]
    assert json.loads(script.requests[1].content) == {"reason": "why", "abort": True, "delete": False}
    assert (result.outcome, result.before, result.reason) == (CancelOutcome.CANCEL_REQUESTED, state, "why")
    assert result.accepted
    assert not result.confirmed


@pytest.mark.filterwarnings("ignore:the service says")
def test_a_job_in_a_state_that_is_not_known_is_sent_one(ask, look, said):
    assert ask(look("TELEPORTING"), said("CANCEL_REQUESTED")).outcome is CancelOutcome.CANCEL_REQUESTED


def test_a_queued_job_is_cancelled_where_the_service_says_so_at_once(script, ask, look, said):
    result = ask(look("QUEUED"), said("CANCELLED", "CANCELLED", "QUEUED"), confirm=10.0)
    assert result.confirmed
    assert script.sleeps == []


def test_the_state_before_is_told_even_where_the_service_does_not(ask, look, said):
    assert ask(look("RUNNING"), said("CANCEL_REQUESTED")).before is JobState.RUNNING


def test_a_started_job_can_be_left_alone(script, ask, look, said):
    result = ask(look("RUNNING"), said("LEFT_RUNNING", "RUNNING", "RUNNING"), abort=False, confirm=5.0)
    assert json.loads(script.requests[1].content)["abort"] is False
    assert result.outcome is CancelOutcome.LEFT_RUNNING
    assert not result.accepted


def test_leaving_a_started_job_alone_is_unsupported_where_it_cannot_be_decided_at_once(script, ask):
    with pytest.raises(errors.Unsupported, match="abort=True"):
        ask(service=Lossy("http://h"), abort=False)
    assert script.requests == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"reason": "x" * 1025}, "1025 characters; at most 1024"),
        ({"reason": "a\x00"}, "NUL"),
        ({"confirm": -1.0}, "confirm"),
        ({"confirm": float("nan")}, "confirm"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_before_anything_is_sent(script, ask, more, words):
    with pytest.raises(errors.InvalidSpec, match=words):
        ask(**more)
    assert script.requests == []


def test_the_longest_reason_is_taken(ask, look, said):
    assert ask(look("RUNNING"), said("CANCEL_REQUESTED"), reason="ä" * 1024).accepted


def test_an_unknown_job_is_an_error(script, ask):
    with pytest.raises(errors.JobNotFound):
        ask(GONE)
    assert script.sent == [f"GET {AT}"]


def test_a_job_that_goes_between_look_and_cancel_is_an_error(ask, look):
    with pytest.raises(errors.JobNotFound):
        ask(look("RUNNING"), GONE)


def test_a_record_that_an_answer_that_was_lost_has_removed_is_cancelled(ask, look):
    result = ask(look("QUEUED"), GONE, delete=True)
    assert (result.outcome, result.after) == (CancelOutcome.CANCELLED, JobState.CANCELLED)


def test_a_job_that_ends_between_look_and_cancel_is_an_outcome(ask, look, said):
    result = ask(look("RUNNING"), said("ALREADY_TERMINAL", "FINISHED", "FINISHED"))
    assert (result.outcome, result.after) == (CancelOutcome.ALREADY_TERMINAL, JobState.FINISHED)


@pytest.mark.parametrize(("reason", "outcome"), [("why", "CANCELLED"), ("someone else's", "ALREADY_TERMINAL")])
def test_a_cancel_that_was_lost_and_sent_again_is_known_by_its_reason(ask, look, said, reason, outcome):
    answers = [look("QUEUED"), said("ALREADY_TERMINAL", "CANCELLED"), look("CANCELLED", cancel_reason=reason)]
    assert ask(*answers).outcome.value == outcome


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        ({"state": "FINISHED"}, CancelOutcome.ALREADY_TERMINAL),
        ({"state": "RUNNING", "cancel_requested": True}, CancelOutcome.CANCEL_REQUESTED),
    ],
)
def test_a_conflict_is_an_outcome(ask, look, reply, now, outcome):
    result = ask(look("RUNNING"), reply(409, {"detail": "too late"}), look(**now))
    assert (result.outcome, result.before) == (outcome, JobState.RUNNING)


def test_a_conflict_that_nothing_explains_is_raised(ask, look, reply):
    with pytest.raises(errors.Conflict):
        ask(look("RUNNING"), reply(409, {"detail": "no"}), look("RUNNING"))


@pytest.mark.parametrize("how", ["terminal", "left", "first"])
def test_strict_raises_where_nothing_was_cancelled(ask, look, said, how):
    answers = {
        "terminal": [look("FINISHED")],
        "left": [look("RUNNING"), said("LEFT_RUNNING")],
        "first": [look("RUNNING"), said("CANCEL_REQUESTED"), look("FINISHED")],
    }[how]
    with pytest.raises(errors.NotCancelled) as caught:
        ask(*answers, strict=True, abort=how != "left", confirm=9.0 if how == "first" else None)
    assert not caught.value.result.accepted


@pytest.mark.parametrize("outcome", ["CANCELLED", "CANCEL_REQUESTED"])
def test_strict_is_content_with_what_was_taken(ask, look, said, outcome):
    assert ask(look("QUEUED"), said(outcome), strict=True).accepted


# -- confirm -----------------------------------------------------------------------------------------------------------


def test_confirm_looks_until_the_job_is_cancelled(script, ask, look, said):
    result = ask(
        look("RUNNING"), said("CANCEL_REQUESTED"), look("RUNNING"), look("ARCHIVING"), look("CANCELLED"), confirm=30
    )
    assert (result.outcome, result.after) == (CancelOutcome.CANCELLED, JobState.CANCELLED)
    assert result.confirmed
    assert script.sleeps == pytest.approx([0.2, 0.3, 0.45])


@pytest.mark.parametrize("state", ["FINISHED", "FAILED"])
def test_a_job_that_ends_by_itself_finished_first(ask, look, said, state):
    result = ask(look("RUNNING"), said("CANCEL_REQUESTED"), look(state), confirm=30)
    assert (result.outcome, result.after) == (CancelOutcome.FINISHED_FIRST, state)


def test_a_job_that_does_not_stop_in_time_is_told_with_its_last_state(script, ask, look, said):
    looks = [look("RUNNING", cancel_requested=True) for _ in range(20)]
    with pytest.raises(errors.CancelTimeout, match=r"still cancelling 1 s after") as caught:
        ask(look("RUNNING"), said("CANCEL_REQUESTED"), *looks[:4], confirm=1)
    assert caught.value.info.state is JobState.RUNNING
    assert caught.value.result.outcome is CancelOutcome.CANCEL_REQUESTED
    assert sum(script.sleeps) == pytest.approx(1.0)


def test_pauses_grow_to_five_seconds_and_end_in_time(script, ask, look, said):
    with pytest.raises(errors.CancelTimeout):
        ask(look("RUNNING"), said("CANCEL_REQUESTED"), *[look("RUNNING")] * 19, confirm=60)
    assert max(script.sleeps) == 5.0
    assert sum(script.sleeps) == pytest.approx(60.0)


def test_no_time_at_all_looks_not_once(script, ask, look, said):
    with pytest.raises(errors.CancelTimeout):
        ask(look("RUNNING"), said("CANCEL_REQUESTED"), confirm=0)
    assert script.sleeps == []


@pytest.mark.parametrize(
    "failure", [errors.ConnectionLost("c"), errors.NoService("n"), Response(503, {}, b""), Response(429, {}, b"")]
)
def test_a_look_that_fails_is_only_one_look(ask, look, said, failure):
    result = ask(look("RUNNING"), said("CANCEL_REQUESTED"), failure, look("CANCELLED"), confirm=30)
    assert result.confirmed


def test_a_job_that_vanishes_is_told_with_what_was_last_known(ask, look, said):
    with pytest.raises(errors.JobVanished) as caught:
        ask(look("RUNNING"), said("CANCEL_REQUESTED"), look("ARCHIVING"), GONE, confirm=30)
    assert caught.value.info.state is JobState.ARCHIVING


def test_a_cancel_that_can_be_lost_is_sent_again_every_minute(script, ask, look, said):
    sent = said("CANCEL_REQUESTED")
    running = look("RUNNING")
    result = ask(
        *[running, sent], *[running, running, sent], *[running, running, sent], look("CANCELLED"),
        confirm=600, service=Lossy("http://h"),
    )  # fmt: skip
    assert result.confirmed
    assert [request.method for request in script.requests].count("POST") == 3
    assert json.loads(script.requests[4].content)["reason"] == "why"


def test_a_cancel_that_cannot_be_lost_is_sent_once(script, ask, look, said):
    with pytest.raises(errors.CancelTimeout):
        ask(look("RUNNING"), said("CANCEL_REQUESTED"), *[look("RUNNING")] * 47, confirm=200)
    assert [request.method for request in script.requests].count("POST") == 1


# -- many --------------------------------------------------------------------------------------------------------------


def test_many_jobs_are_looked_at_and_cancelled_in_one_request_each(script, reply):
    items = [{"id": "a", "state": "RUNNING"}, {"id": "b", "state": "FINISHED"}, {"id": "c", "state": "QUEUED"}]
    results = [{"job_id": "a", "outcome": "CANCEL_REQUESTED"}, {"job_id": "c", "outcome": "CANCELLED"}]
    found = script.play(
        cancel_many(SERVICE, ["a", "nope", "b", "c", "a"], reason="why"),
        reply(200, {"items": items, "missing": ["nope"]}),
        reply(200, {"results": results}),
    )
    assert script.sent == ["POST /v1/jobs/query", "POST /v1/jobs/cancel"]
    assert json.loads(script.requests[0].content)["ids"] == ["a", "nope", "b", "c"]
    assert json.loads(script.requests[1].content) == {
        "ids": ["a", "c"],
        "reason": "why",
        "abort": True,
        "delete": False,
    }
    assert [(one.job_id, one.outcome.value) for one in found] == [
        ("a", "CANCEL_REQUESTED"),
        ("nope", "NOT_FOUND"),
        ("b", "ALREADY_TERMINAL"),
        ("c", "CANCELLED"),
        ("a", "CANCEL_REQUESTED"),
    ]
    assert found[0].before is JobState.RUNNING


@pytest.mark.parametrize(("reason", "outcome"), [("why", "CANCELLED"), ("someone else's", "ALREADY_TERMINAL")])
def test_many_that_were_cancelled_by_a_try_whose_answer_was_lost_are_known_by_their_reason(
    script, reply, reason, outcome
):
    jobs = [{"id": "a", "state": "QUEUED"}, {"id": "b", "state": "QUEUED"}]
    said = [{"job_id": one["id"], "outcome": "ALREADY_TERMINAL", "after": "CANCELLED"} for one in jobs]
    now = [{**one, "state": "CANCELLED", "cancel_reason": reason} for one in jobs]
    found = script.play(
        cancel_many(SERVICE, ["a", "b"], reason="why"),
        reply(200, {"items": jobs}),
        reply(200, {"results": said}),
        reply(200, {"items": now}),
    )
    assert [one.outcome.value for one in found] == [outcome] * 2
    assert script.sent[-1] == "POST /v1/jobs/query"


def test_a_look_after_the_cancel_that_fails_takes_nothing_back(script, reply):
    said = {"results": [{"job_id": job, "outcome": "ALREADY_TERMINAL", "after": "CANCELLED"} for job in "ab"]}
    jobs = [{"id": "a", "state": "QUEUED"}, {"id": "b", "state": "QUEUED"}]
    answers = [reply(200, {"items": jobs}), reply(200, said), errors.NoService("gone")]
    found = script.play(cancel_many(SERVICE, ["a", "b"], reason="why"), *answers)
    assert [one.outcome.value for one in found] == ["ALREADY_TERMINAL"] * 2


def test_where_all_have_ended_no_cancel_is_sent(script, reply):
    found = script.play(cancel_many(SERVICE, ["b"]), reply(200, {"items": [{"id": "b", "state": "FAILED"}]}))
    assert [one.outcome.value for one in found] == ["ALREADY_TERMINAL"]
    assert script.sent == ["POST /v1/jobs/query"]


def test_no_jobs_need_no_request(script):
    assert script.play(cancel_many(SERVICE, [])) == []


def test_an_id_that_the_service_spells_in_another_way_is_left_to_the_service(script, reply):
    found = script.play(
        cancel_many(SERVICE, ["J-A"]),
        reply(200, {"items": [{"id": "ja", "state": "RUNNING"}]}),
        reply(200, {"job_id": "ja", "outcome": "CANCELLED"}),
    )
    assert [one.outcome.value for one in found] == ["CANCELLED"]


def test_an_answer_about_other_jobs_is_refused(script, reply):
    items = [{"id": "a", "state": "RUNNING"}, {"id": "b", "state": "RUNNING"}]
    with pytest.raises(errors.UnexpectedAnswer, match="2 jobs and told of 0"):
        script.play(cancel_many(SERVICE, ["a", "b"]), reply(200, {"items": items}), reply(200, {"results": []}))


def test_many_jobs_with_a_reason_that_is_too_long_are_refused_before_anything_is_sent(script):
    with pytest.raises(errors.InvalidSpec):
        script.play(cancel_many(SERVICE, ["a"], reason="x" * 1025))
    with pytest.raises(errors.Unsupported):
        script.play(cancel_many(Lossy("http://h"), ["a"], abort=False))
    assert script.requests == []


def test_a_job_that_started_before_a_gentle_cancel_came_to_it_is_left_running(ask, look, said):
    answers = [look("QUEUED"), said("CANCEL_REQUESTED", "QUEUED", "QUEUED")]
    answers += [look("RUNNING", cancel_requested=True), look("RUNNING", cancel_requested=False)]
    result = ask(*answers, abort=False, confirm=5.0)
    assert (result.outcome, result.after) == (CancelOutcome.LEFT_RUNNING, JobState.RUNNING)
