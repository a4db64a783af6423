"""The Tapis service without a network: what is asked, what is made of the answers, and what is never said."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs import operations
from hpcjobs.actions import DeleteOutcome, JobChanges, JobUpdate, RetryOutcome, UpdateOutcome
from hpcjobs.errors import (
    AuthenticationError,
    CancelTimeout,
    Conflict,
    HpcjobsError,
    InvalidRequest,
    InvalidSpec,
    JobNotFound,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    SubmissionUnknown,
    TimedOut,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.lifecycle import TAPIS_WORDS, JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobSpec
from hpcjobs.protocol import Request, Response
from hpcjobs.services import find_service
from hpcjobs.services.tapis import TapisService
from hpcjobs.services.tapis_records import KEY_TAG, SUM_TAG, info_of
from hpcjobs.services.tapis_requests import key_tag, request_of
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS, TapisRequest
from tests.unit.conftest import Script

JOB = "6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
OTHER = "11111111-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
AT = f"/v3/jobs/{JOB}"


@pytest.fixture
def tapis() -> TapisService:
    return TapisService("tapis+https://tenant.test", token="e30.e30.c2ln")


def said(result: Any, status: int = 200, message: str = "JOBS_RETRIEVED ok", **more: Any) -> Response:
    """An answer of Tapis."""
    body = {"result": result, "status": "success", "message": message, "version": "1.9.1", "metadata": None, **more}
    return Response(status, {"content-type": "application/json"}, json.dumps(body).encode())


def no(status: int, message: str, *, kind: str = "application/json") -> Response:
    """An answer that says no."""
    if kind == "application/json":
        return said({"name": JOB}, status, message)
    return Response(status, {"content-type": kind}, message.encode())


def record(status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A job as Tapis tells of it."""
    job: dict[str, Any] = dict.fromkeys(JOB_KEYS)
    job.update(uuid=JOB, status=status, name="fit", owner="me", tags=[], created="2026-01-02T03:04:05.123456Z")
    if status in {"RUNNING", "ARCHIVING", "FINISHED", "FAILED"}:
        job["remoteStarted"] = "2026-01-02T03:05:05Z"
    return job | more


# What is told of a job


@pytest.mark.parametrize("word", TAPIS_WORDS)
def test_each_of_the_thirteen_words_is_a_state_and_is_kept(word: str) -> None:
    info = info_of(record(word))
    assert (info.state, info.native_state) == (TAPIS_WORDS[word], word)
    assert info.terminal == (word in {"FINISHED", "FAILED", "CANCELLED"})


def test_the_thirteen_words_are_all() -> None:
    assert len(TAPIS_WORDS) == 13
    assert {word for word, state in TAPIS_WORDS.items() if state is JobState.PAUSED} == {"BLOCKED", "PAUSED"}


def test_a_word_that_is_not_known_ends_nothing() -> None:
    with pytest.warns(UserWarning, match="'RELAXING'"):
        info = info_of(record("RELAXING"))
    assert (info.state, info.native_state, info.terminal) == (JobState.UNKNOWN, "RELAXING", False)


@pytest.mark.parametrize(
    ("condition", "message", "reason"),
    [
        ("SCHEDULER_TIMEOUT", "Setting job status to FAILED.", "the walltime was used up (SCHEDULER_TIMEOUT)"),
        (
            "JOB_REMOTE_OUTCOME_ERROR",
            "JOBS_USER_APP_FAILURE The app failed",
            "the application ended with an error (JOB_REMOTE_OUTCOME_ERROR): JOBS_USER_APP_FAILURE The app failed",
        ),
        ("JOB_OF_TOMORROW", None, "JOB_OF_TOMORROW"),
        (None, "some words", "some words"),
    ],
)
def test_why_a_job_failed_is_told_in_words(condition: str | None, message: str | None, reason: str) -> None:
    job = record("FAILED", condition=condition, lastMessage=message, remoteResultInfo="3")
    info = info_of(job)
    assert (info.reason, info.exit_code) == (reason, 3)


@pytest.mark.parametrize("field", ["fileInputs", "parameterSet", "notes", "remoteResultInfo", "tags", "lastMessage"])
@pytest.mark.parametrize("value", [None, "", "{not json"])
def test_a_record_with_holes_is_read_all_the_same(field: str, value: str | None) -> None:
    if field == "tags":
        value = None
    assert info_of(record(**{field: value})).state is JobState.RUNNING


def test_notes_may_be_an_object_or_one_inside_a_string() -> None:
    assert info_of(record(notes={"a": 1})).meta == info_of(record(notes='{"a": 1}')).meta == {"a": 1}


@pytest.mark.parametrize("digits", range(7))
def test_moments_have_up_to_six_digits_of_a_second(digits: int) -> None:
    fraction = f".{'1' * digits}" if digits else ""
    created = info_of(record(created=f"2026-01-02T03:04:05{fraction}Z")).created_at
    assert created is not None
    assert created.utcoffset() == dt.timedelta(0)
    assert created.microsecond == int(f"{'1' * digits:0<6}")


def test_our_own_tags_are_not_shown() -> None:
    assert info_of(record(tags=["a", f"{KEY_TAG}x", f"{SUM_TAG}y"])).tags == ["a"]


def test_a_list_entry_is_enough_to_tell_the_state() -> None:
    job = {name: record("FAILED")[name] for name in LIST_KEYS}
    assert info_of(job).state is JobState.FAILED


# Errors


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (no(404, "JOBS_JOB_NOT_FOUND Job not found."), JobNotFound),
        (no(500, "JOBS_JOB_SELECT_UUID_ERROR x JOBS_JOB_NOT_FOUND y"), JobNotFound),
        (no(400, "JOBS_JOB_SELECT_UUID_ERROR x"), JobNotFound),
        (no(404, "JOBS_JOB_NOT_VISIBLE x"), JobNotFound),
        (no(401, "JOBS_MISMATCHED_OWNER x"), PermissionDenied),
        (no(500, "JOBS_MISMATCHED_TENANT x"), PermissionDenied),
        (no(401, "TAPIS_SECURITY_JWT_EXPIRED x", kind="text/plain"), AuthenticationError),
        (no(400, "bad query", kind="text/plain"), InvalidRequest),
        (no(409, "JOBS_JOB_IN_TERMINAL_STATE x"), Conflict),
        (no(500, "JOBS_QMGR_POST_CANCEL x"), ServiceUnavailable),
        (no(502, "<html><h1>Bad Gateway</h1>", kind="text/html"), ServiceUnavailable),
        (no(404, "<html>no such page", kind="text/html"), UnexpectedAnswer),
        (Response(500, {}, b""), ServiceUnavailable),
    ],
)
def test_the_irregular_errors_are_typed(tapis: TapisService, answer: Response, kind: type[Exception]) -> None:
    """By the status, then by the code that begins the message; the body's own ``status`` says "success"."""
    assert type(tapis.error_of(Request("GET", AT), answer)) is kind


def test_a_job_that_is_not_known_is_asked_for_once(tapis: TapisService, script: Script) -> None:
    """Its 500 is no failure that passes."""
    with pytest.raises(JobNotFound):
        script.play(tapis.get(JOB), no(500, "JOBS_JOB_SELECT_UUID_ERROR x JOBS_JOB_NOT_FOUND y"))
    assert len(script.requests) == 1


def test_a_look_that_failed_is_repeated_and_an_action_is_not(tapis: TapisService, script: Script) -> None:
    failed = no(500, "TAPIS_DB_ERROR x")
    assert script.play(tapis.get(JOB), failed, failed, said(record())).state is JobState.RUNNING
    with pytest.raises(ServiceUnavailable):
        script.play(tapis.get(JOB), failed, failed, failed)
    with pytest.raises(ServiceUnavailable):
        script.play(tapis.cancel([JOB], reason=None, abort=True, delete=False), failed)


def test_an_answer_that_is_not_tapis_is_told(tapis: TapisService, script: Script) -> None:
    with pytest.raises(UnexpectedAnswer):
        script.play(tapis.get(JOB), Response(200, {"content-type": "text/html"}, b"<html>login"))


@pytest.mark.parametrize("job_id", ["1234", JOB.removesuffix("-007"), f"{JOB}/../x", "", "a?b=c"])
def test_what_is_no_id_is_never_sent(tapis: TapisService, script: Script, job_id: str) -> None:
    with pytest.raises(JobNotFound, match="ends in -007"):
        script.play(tapis.get(job_id))


# Submitting


def test_the_fields_of_tapis_travel_as_they_are() -> None:
    options = {
        "execSystemId": "frontera",
        "archiveOnAppError": False,
        "fileInputs": [{"sourceUrl": "tapis://a/b", "targetPath": "b"}],
        "parameterSet": {"appArgs": [{"name": "x", "arg": "1"}], "archiveFilter": {"includes": ["*.csv"]}},
        "aFieldOfTomorrow": {"deep": [1, None]},
        "tags": ["theirs"],
    }
    spec = JobSpec(app="opensees", app_version="3", options=options, tags=["mine"], args={"y": 2}, env={"A": "b"})
    body = request_of(spec, "k")
    for name in ("execSystemId", "archiveOnAppError", "fileInputs", "aFieldOfTomorrow"):
        assert body[name] == options[name]
    assert body["parameterSet"] == {
        "appArgs": [{"name": "x", "arg": "1"}, {"name": "y", "arg": "2"}],
        "archiveFilter": {"includes": ["*.csv"]},
        "envVariables": [{"key": "A", "value": "b"}],
    }
    assert body["tags"][:3] == ["theirs", "mine", f"{KEY_TAG}k"]
    assert options["parameterSet"] == {
        "appArgs": [{"name": "x", "arg": "1"}], "archiveFilter": {"includes": ["*.csv"]}
    }, "what the user gave is not changed"  # fmt: skip


def test_system_queue_allocation_and_resources_have_their_places() -> None:
    spec = JobSpec(
        app="a",
        app_version="1",
        name="fit",
        queue="skx",
        resources={"cores": 4, "memory": "2GB", "walltime": "90s"},
        options={"system": "stampede3", "allocation": "ABC-1", "nodeCount": 2},
        meta={"study": 7},
    )
    body = request_of(spec, "k")
    TapisRequest.model_validate(body)
    assert (body["execSystemId"], body["execSystemLogicalQueue"]) == ("stampede3", "skx")
    assert (body["nodeCount"], body["coresPerNode"], body["memoryMB"], body["maxMinutes"]) == (2, 4, 2000, 2)
    assert body["parameterSet"]["schedulerOptions"] == [{"name": "allocation", "arg": "-A ABC-1"}]
    assert body["notes"] == {"study": 7}
    assert "system" not in body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"command": "true"}, "Tapis runs apps only"),
        ({"app": "a"}, "no app without a version"),
        ({"app": "a", "app_version": "1", "priority": 3}, "priority"),
        ({"app": "a", "app_version": "1", "start_in": "1h"}, "start_in"),
        ({"app": "a", "app_version": "1", "name": "b", "options": {"name": "c"}}, "in Tapis's word and in ours"),
    ],
)
def test_what_tapis_has_no_place_for_is_refused_before_anything_is_sent(
    tapis: TapisService, script: Script, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        script.play(operations.submit_once(tapis, fields))
    assert not script.requests


SPEC = JobSpec(app="hello", app_version="1.0")


def test_a_job_whose_answer_was_lost_is_found_by_its_tag_and_sent_once(tapis: TapisService, script: Script) -> None:
    """Also where Tapis needs some seconds to accept it."""
    found = [said([]), said([]), said([record("PENDING")])]
    info = script.play(operations.submit_once(tapis, SPEC), TimedOut("t"), *found)
    assert info.id == JOB
    assert [request.method for request in script.requests] == ["POST", "GET", "GET", "GET"]
    [tag] = [tag for tag in script.requests[0].json["tags"] if tag.startswith(KEY_TAG)]
    assert {("tags.contains", tag), ("orderBy", "created(asc)")} <= set(script.requests[1].params)


@pytest.mark.parametrize("answer", [Response(502, {"content-type": "text/html"}, b"<html>"), no(500, "TAPIS_X y")])
def test_an_answer_of_a_proxy_may_hide_a_job(tapis: TapisService, script: Script, answer: Response) -> None:
    assert script.play(operations.submit_once(tapis, SPEC), answer, said([record()])).id == JOB
    lost = [said([])] * 10
    with pytest.raises(SubmissionUnknown, match="mine"):
        script.play(operations.submit_once(tapis, SPEC, key="mine"), said([]), answer, *lost[: looks(tapis)])


def looks(service: TapisService) -> int:
    """How often a job is looked for after a lost answer."""
    count, left, pause = 1, service.capabilities.find_within, service.capabilities.min_poll
    while left > 0:
        count, left, pause = count + 1, left - pause, 2 * pause
    return count


def test_the_same_key_makes_one_job_and_another_job_by_it_is_refused(tapis: TapisService, script: Script) -> None:
    mine = record(tags=request_of(SPEC, "mine")["tags"])
    assert script.play(operations.submit_once(tapis, SPEC, key="mine"), said([mine])).id == JOB
    other = SPEC.model_copy(update={"name": "another"})
    with pytest.raises(Conflict, match="'mine' was used for another job"):
        script.play(operations.submit_once(tapis, other, key="mine"), said([mine]))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200))
def test_any_key_travels_as_one_value_of_a_search(key: str) -> None:
    tag = key_tag(key)
    assert "," not in tag.removeprefix(KEY_TAG)
    assert len(tag) <= 128
    assert tag == key_tag(key)


# Looking


def test_many_are_looked_at_by_a_search_and_those_it_does_not_find_one_by_one(
    tapis: TapisService, script: Script
) -> None:
    answer = script.play(tapis.get_many([JOB, OTHER, "no id"]), said([record()]), no(404, "JOBS_JOB_NOT_FOUND x"))
    assert [info.id for info in answer.items] == [JOB]
    assert answer.missing == [OTHER, "no id"]
    assert script.sent == ["GET /v3/jobs/search", f"GET /v3/jobs/{OTHER}"]


def test_five_thousand_jobs_are_looked_at_in_a_hundredth_of_the_requests(tapis: TapisService, script: Script) -> None:
    ids = [f"{uuid.uuid4()}-007" for _ in range(5000)]

    def answer(request: Request) -> Response:
        return said([record(uuid=job_id) for job_id in dict(request.params)["uuid.in"].split(",")])

    found = script.play(tapis.get_many(ids), *[answer] * 100)
    assert [info.id for info in found.items] == ids
    assert all(len(request.path) + len(str(request.params)) < 4000 for request in script.requests)


def test_where_ids_cannot_be_searched_for_jobs_are_looked_at_one_by_one(tapis: TapisService, script: Script) -> None:
    answers = [no(400, "SEARCH_INVALID x"), said(record()), said(record(uuid=OTHER))]
    assert len(script.play(tapis.get_many([JOB, OTHER]), *answers).items) == 2


def test_a_filter_is_said_in_the_words_of_a_search(tapis: TapisService, script: Script) -> None:
    after = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    wanted = JobFilter(state=["PAUSED", "FAILED"], tag=["a", "b"], name="fit-*", queue="skx", created_after=after)
    page = script.play(tapis.page(wanted, limit=2, cursor="4"), said([record(), record(uuid=OTHER)]))
    params = list(script.requests[0].params)
    assert page.next == "6"
    assert set(params) >= {
        ("limit", "2"), ("skip", "4"), ("orderBy", "created(desc)"), ("status.in", "BLOCKED,PAUSED,FAILED"),
        ("tags.contains", "a"), ("tags.contains", "b"), ("name.like", "fit-*"),
        ("execSystemLogicalQueue.eq", "skx"), ("created.gte", "2026-01-02T01:04:00Z"),
    }  # fmt: skip


def test_a_page_that_is_shorter_than_asked_for_by_the_services_own_limit_is_not_the_last(
    tapis: TapisService, script: Script
) -> None:
    answer = said([record(), record(uuid=OTHER)], metadata={"recordLimit": 2})
    assert script.play(tapis.page(JobFilter(), limit=1000, cursor=None), answer).next == "2"
    assert script.play(tapis.page(JobFilter(), limit=1000, cursor="2"), said([record()])).next is None


def test_a_state_that_tapis_has_no_word_for_is_that_of_no_job(tapis: TapisService, script: Script) -> None:
    assert script.play(tapis.page(JobFilter(state=["UNKNOWN"]), limit=10, cursor=None)).items == []


def test_the_history_is_read_in_both_its_forms(tapis: TapisService, script: Script) -> None:
    def entry(second: int, **more: Any) -> dict[str, Any]:
        return {"created": f"2026-01-02T03:04:{second:02}Z", **more}

    told = json.dumps({"newJobStatus": "RUNNING", "message": "off it goes"})
    items = [
        entry(0, event="JOB_NEW_STATUS", eventDetail="PENDING"),
        entry(10, event="JOB_NEW_STATUS", eventDetail="RUNNING", description=told),
        entry(11, event="JOB_INPUT_TRANSACTION_ID", eventDetail="abc"),
        entry(30, jobStatus="FINISHED"),
    ]
    history = script.play(tapis.history(JOB), said(items))
    assert [change.state for change in history.changes] == [JobState.PENDING, JobState.RUNNING, JobState.FINISHED]
    assert history.changes[1].reason == "off it goes"
    assert (history.queue_time, history.run_time) == (dt.timedelta(seconds=10), dt.timedelta(seconds=20))


@pytest.mark.parametrize(
    ("quiet", "pace"), [(0, 2), (20, 5), (59, 14.75), (61, 60), (650, 60), (652, 180), (90_000, 180)]
)
def test_a_job_is_looked_at_as_often_as_tapis_itself_looks(tapis: TapisService, quiet: float, pace: float) -> None:
    assert tapis.pace(quiet, {JobState.RUNNING, JobState.QUEUED}) == pace


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.STAGING, JobState.ARCHIVING, JobState.PAUSED])
def test_what_changes_by_itself_is_looked_at_every_quarter_of_a_minute(tapis: TapisService, state: JobState) -> None:
    assert tapis.pace(5000, {state, JobState.RUNNING}) == 15


# Cancelling


def cancel(tapis: TapisService, script: Script, **how: Any) -> Any:
    return operations.cancel(tapis, JOB, clock=script.clock, **how)


def test_what_tapis_has_taken_is_never_said_to_be_cancelled(tapis: TapisService, script: Script) -> None:
    result = script.play(cancel(tapis, script, reason="why"), said(record()), said({"message": "accepted"}))
    assert (result.outcome, result.confirmed) == (CancelOutcome.CANCEL_REQUESTED, False)
    assert not result.reason_kept
    info = script.play(tapis.get(JOB), said(record()))
    assert (info.cancel_requested, info.cancel_reason, info.label) == (True, "why", "cancelling")
    assert script.play(tapis.get(JOB), said(record("FINISHED"))).cancel_reason is None


def test_a_job_that_has_ended_is_left_alone(tapis: TapisService, script: Script) -> None:
    result = script.play(cancel(tapis, script), said(record("FAILED")))
    assert result.outcome is CancelOutcome.ALREADY_TERMINAL
    assert script.sent == [f"GET {AT}"]


def test_a_lost_race_is_an_outcome(tapis: TapisService, script: Script) -> None:
    late = no(409, "JOBS_JOB_IN_TERMINAL_STATE x")
    result = script.play(cancel(tapis, script), said(record()), late, said(record("FINISHED")))
    assert (result.outcome, result.after) == (CancelOutcome.ALREADY_TERMINAL, JobState.FINISHED)


def test_a_cancel_that_was_lost_is_sent_again_every_minute_until_it_is_true(
    tapis: TapisService, script: Script
) -> None:
    def answer(request: Request) -> Response:
        if request.method == "POST":
            sent.append(script.now)
            return said({"message": "accepted"})
        if len(sent) < 3 or script.now < sent[-1] + 10:
            return said(record("BLOCKED"))
        script.answers.clear()
        return said(record("CANCELLED"))

    sent: list[float] = []
    result = script.play(cancel(tapis, script, confirm=600), *[answer] * 1000)
    assert result.outcome is CancelOutcome.CANCELLED
    assert len(sent) == 3
    assert all(60 <= later - earlier < 70 for earlier, later in itertools.pairwise(sent))


def test_a_job_that_does_not_stop_in_time_is_said_to_run(tapis: TapisService, script: Script) -> None:
    def answer(request: Request) -> Response:
        return said({"message": "accepted"}) if request.method == "POST" else said(record())

    script.answers.extend([answer] * 1000)
    with pytest.raises(CancelTimeout) as caught:
        script.play(cancel(tapis, script, confirm=100))
    assert caught.value.info.state is JobState.RUNNING


def test_a_started_job_cannot_be_left_alone(tapis: TapisService, script: Script) -> None:
    with pytest.raises(Unsupported):
        script.play(cancel(tapis, script, abort=False))


def test_tapis_itself_may_tell_that_a_job_was_asked_to_stop() -> None:
    heard = "JOBS_CMD_MSG_RECEIVED Job x received a JOB_CANCEL command from y"
    assert info_of(record(lastMessage=heard)).cancel_requested
    assert not info_of(record("CANCELLED", lastMessage=heard)).cancel_requested


# Retry, delete, update


def test_a_retry_is_another_job(tapis: TapisService, script: Script) -> None:
    [result] = script.play(tapis.retry([JOB]), said(record("FAILED")), said(record("PENDING", uuid=OTHER)))
    assert (result.outcome, result.job_id, result.new_id) == (RetryOutcome.RETRIED, JOB, OTHER)
    assert script.requests[1].safe_to_repeat is False
    [result] = script.play(tapis.retry([JOB]), said(record()))
    assert result.outcome is RetryOutcome.STILL_RUNNING


def test_a_delete_hides(tapis: TapisService, script: Script) -> None:
    assert [result.outcome for result in script.play(tapis.delete([JOB]), said({"message": "x"}))] == [
        DeleteOutcome.DELETED
    ]
    [result] = script.play(tapis.delete([JOB]), no(409, "JOBS_X y"), said(record()))
    assert (result.outcome, result.before) == (DeleteOutcome.STILL_RUNNING, JobState.RUNNING)


def change(**fields: Any) -> list[JobUpdate]:
    return [JobUpdate(id=JOB, changes=JobChanges(**fields))]


def test_tags_and_notes_can_change_and_the_key_stays(tapis: TapisService, script: Script) -> None:
    job = record(tags=["old", f"{KEY_TAG}k", f"{SUM_TAG}s"])
    [result] = script.play(tapis.update(change(tags=["new"], meta={"a": 1})), said(job), said({}))
    assert result.outcome is UpdateOutcome.UPDATED
    assert script.requests[1].method == "PUT"
    assert script.requests[1].json == {"tags": ["new", f"{KEY_TAG}k", f"{SUM_TAG}s"], "notes": {"a": 1}}


def test_nothing_else_can_change(tapis: TapisService, script: Script) -> None:
    [result] = script.play(tapis.update(change(priority=3)))
    assert result.outcome is UpdateOutcome.REFUSED
    assert "priority" in (result.detail or "")


def test_a_release_without_annotations_is_said_to_have_none(tapis: TapisService, script: Script) -> None:
    with pytest.raises(Unsupported, match="this tenant's release"):
        script.play(tapis.update(change(tags=[])), said(record()), no(404, "HTTP 404 Not Found", kind="text/plain"))


# Logs and files


def test_the_log_is_one_of_the_outputs(tapis: TapisService, script: Script) -> None:
    listed = said([{"name": "tapisjob.out", "type": "file", "size": 10}])
    part = Response(206, {"content-range": "bytes 4-9/10"}, b"456789")
    chunk = script.play(tapis.log(JOB, "stdout", offset=4), said(record()), listed, part)
    assert (chunk.data, chunk.offset, chunk.total, chunk.state) == (b"456789", 4, 10, JobState.RUNNING)
    assert script.requests[2].path == f"{AT}/output/download/tapisjob.out"
    assert ("allowIfRunning", "true") in script.requests[2].params
    assert script.requests[2].headers["Range"] == "bytes=4-9"


def test_a_release_without_ranges_sends_the_whole_and_the_rest_of_it_is_taken(
    tapis: TapisService, script: Script
) -> None:
    listed = said([{"name": "tapisjob.out", "type": "file", "size": 10}])
    whole = Response(200, {}, b"0123456789")
    chunk = script.play(tapis.log(JOB, "stdout", offset=4, length=2), said(record()), listed, whole)
    assert (chunk.data, chunk.offset, chunk.total) == (b"45", 4, 10)
    tail = script.play(tapis.log_tail(JOB, "stdout", size=3), said(record()), listed, whole)
    assert (tail.data, tail.offset, tail.total) == (b"789", 7, 10)
    piece = script.play(tapis.file(JOB, "a b/c.csv", offset=3, length=2), whole)
    assert (piece.data, piece.offset, piece.total) == (b"3456789", 3, 10)
    assert script.requests[-1].path == f"{AT}/output/download/a%20b/c.csv"


def test_a_log_is_fetched_only_where_it_has_grown(tapis: TapisService, script: Script) -> None:
    listed = said([{"name": "tapisjob.out", "type": "file", "size": 10}])
    chunk = script.play(tapis.log(JOB, "stdout", offset=10), said(record("FINISHED")), listed)
    assert (chunk.data, chunk.total, chunk.state) == (b"", 10, JobState.FINISHED)


@pytest.mark.parametrize(
    "answer", [no(404, "FILES_NOT_FOUND x"), no(400, "JOBS_JOB_NOT_TERMINATED x"), said([])], ids=["404", "400", "[]"]
)
def test_a_log_that_is_not_there_is_empty(tapis: TapisService, script: Script, answer: Response) -> None:
    assert script.play(tapis.log(JOB, "stdout", offset=0), said(record()), answer).total == 0


def test_a_job_names_its_logs_itself(tapis: TapisService, script: Script) -> None:
    config = json.dumps({"logConfig": {"stdoutFilename": "o.txt", "stderrFilename": "e.txt"}})
    listed = said([{"name": "e.txt", "type": "file", "size": 1}])
    script.play(
        tapis.log(JOB, "stderr", offset=0),
        said(record(parameterSet=config)),
        listed,
        Response(206, {"content-range": "bytes 0-0/1"}, b"x"),
    )
    assert script.requests[2].path.endswith("/e.txt")
    assert script.play(tapis.log(JOB, "stderr", offset=0), said(record())).total == 0


def test_folders_are_walked_through(tapis: TapisService, script: Script) -> None:
    def listed(request: Request) -> Response:
        deep = request.path.endswith("/sub")
        items = [{"name": "b.txt", "type": "file", "size": 2, "lastModified": "2026-01-02T03:04:05Z"}]
        return said(items if deep else [*items, {"name": "sub", "type": "dir", "size": 0}])

    files = script.play(tapis.files(JOB), listed, listed)
    assert [(file.path, file.size) for file in files] == [("b.txt", 2), ("sub/b.txt", 2)]


def test_a_missing_file_is_no_missing_job(tapis: TapisService, script: Script) -> None:
    with pytest.raises(NotFound) as caught:
        script.play(tapis.file(JOB, "x", offset=0, length=1), no(404, "FILES_NOT_FOUND x"))
    assert not isinstance(caught.value, JobNotFound)


def test_the_address_of_a_tenant_is_understood() -> None:
    for url in ("tapis+https://tenant.test", "tapis://tenant.test/", "tapis+https://tenant.test/v3"):
        assert find_service(url, token="t").base_url == "https://tenant.test"


def test_everything_that_is_raised_is_ours(tapis: TapisService) -> None:
    for status in range(300, 600):
        for kind in ("application/json", "text/plain", "text/html"):
            for body in (b"", b"words", b"[]", b'{"message": null}', b'{"message": "X y"}'):
                error = tapis.error_of(Request("GET", AT), Response(status, {"content-type": kind}, body))
                assert isinstance(error, HpcjobsError)
                assert str(error)
