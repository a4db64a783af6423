"""The Slurm service without a network: what each version is asked, what is made of its answers, what is never said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpcjobs import operations
from hpcjobs.errors import (
    AuthenticationError,
    ConfigError,
    Conflict,
    InvalidRequest,
    InvalidSpec,
    JobNotFound,
    PermissionDenied,
    ServiceUnavailable,
    TimedOut,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobSpec
from hpcjobs.protocol import Response
from hpcjobs.services import slurm_comment
from hpcjobs.services.slurm_versions import fixed
from tests.unit.conftest import Script
from tests.unit.slurm_words import PLAIN_404, VERSIONS, amount, exited, no, record, said, slurm

# The version


def test_the_newest_version_that_is_served_is_found_once(script: Script) -> None:
    service = slurm(None)
    answers = [PLAIN_404, PLAIN_404, said({"pings": []}), said({"jobs": [record("RUNNING")]})]
    assert script.play(service.get("17"), *answers).state is JobState.RUNNING
    assert script.sent == [f"GET /slurm/v0.0.{n}/ping" for n in (45, 44, 43)] + ["GET /slurm/v0.0.43/job/17"]
    script.requests.clear()
    script.play(service.get("17"), said({"jobs": [record("RUNNING")]}))
    assert script.sent == ["GET /slurm/v0.0.43/job/17"]


def test_a_version_that_is_too_old_is_said_to_be(script: Script) -> None:
    with pytest.raises(ConfigError, match=r"v0\.0\.38"):
        script.play(slurm(None).get("17"), *[PLAIN_404] * 8, said({"pings": []}))


@pytest.mark.parametrize("wrong", [37, "v0.0.99", "newest"])
def test_only_versions_that_are_understood_can_be_fixed(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="are understood"):
        fixed(wrong)


def test_what_serves_no_version_is_no_slurmrestd(script: Script) -> None:
    with pytest.raises(UnexpectedAnswer, match="no slurmrestd"):
        script.play(slurm(None).get("17"), *[PLAIN_404] * 10)


def test_a_version_that_is_served_no_longer_is_found_anew_and_the_job_sent_once(script: Script) -> None:
    """Slurm was updated under a client that goes on; a 404 in plain text means that nothing was done."""
    service = slurm(None)
    script.play(service.get("17"), said({"pings": []}), said({"jobs": [record("RUNNING")]}))
    script.requests.clear()
    made = [said({"job_id": 18}), said({"jobs": [record("PENDING", number=18)]})]
    info = script.play(service.submit(JobSpec(command="true"), "k"), PLAIN_404, PLAIN_404, said({"pings": []}), *made)
    assert info.id == "18"
    assert [path for path in script.sent if "ping" not in path] == [
        "POST /slurm/v0.0.45/job/submit",
        "POST /slurm/v0.0.44/job/submit",
        "GET /slurm/v0.0.44/job/18",
    ]


# Submitting


@pytest.mark.parametrize("version", VERSIONS)
def test_a_submission_has_succeeded_where_there_is_a_job_id(script: Script, version: int) -> None:
    """Notices beside it are shown, and are no errors."""
    notice = {"errors": [{"error_number": 2042, "error": "held", "description": "Job is held"}]}
    answers = [said({"job_id": 17, **notice}), said({"jobs": [record("PENDING", version=version)]})]
    info = script.play(slurm(version).submit(JobSpec(command="true"), "k"), *answers)
    assert (info.id, info.state) == ("17", JobState.QUEUED)


def test_a_200_without_a_job_id_is_no_success(script: Script) -> None:
    answer = said({"warnings": [{"description": "Expected integer", "source": "tasks"}]})
    with pytest.raises(InvalidRequest, match="Expected integer"):
        script.play(slurm().submit(JobSpec(command="true"), "k"), answer)


def test_a_word_that_slurm_ignores_cancels_the_job_and_is_an_error(script: Script) -> None:
    ignored = {"warnings": [{"description": 'Ignoring unknown field "x"', "source": "x"}]}
    with pytest.raises(InvalidRequest, match="job 17 was cancelled"):
        script.play(slurm().submit(JobSpec(command="true"), "k"), said({"job_id": 17, **ignored}), said({}))
    assert script.sent[-1] == "DELETE /slurm/v0.0.42/job/17"


def test_a_job_that_would_run_otherwise_than_asked_is_no_success_though_it_could_not_be_cancelled(
    script: Script,
) -> None:
    """And who asked is told that it may run."""
    ignored = {"warnings": [{"description": 'Ignoring unknown field "x"', "source": "x"}]}
    gone = no(1800, 502, "Unable to contact slurm controller")
    with pytest.raises(InvalidRequest, match="job 17 was to be cancelled, and may run") as caught:
        script.play(slurm().submit(JobSpec(command="true"), "k"), said({"job_id": 17, **ignored}), gone)
    assert not caught.value.may_have_acted


@pytest.mark.parametrize("made", [True, False])
def test_an_old_version_that_does_not_tell_whether_it_took_a_job_is_asked_before_it_is_sent_again(
    script: Script, made: bool
) -> None:
    """5005 is what it says of a dead token, and of a controller that died with the job in its hands."""
    comment = slurm_comment.Note(key="k").written()
    mine = said({"jobs": [record("RUNNING", version=38, comment=comment if made else "")]})
    look = said({"jobs": [record("RUNNING", version=38, comment=comment)]})
    answers = [no(5005), mine, look, look] if made else [no(5005), mine, said({"job_id": 17}), look]
    info = script.play(slurm(38).submit(JobSpec(command="true"), "k"), *answers)
    assert info.id == "17"
    assert [request.method for request in script.requests].count("POST") == (1 if made else 2)


def test_a_submit_is_marked_as_one_that_must_not_be_repeated(script: Script) -> None:
    script.play(slurm().submit(JobSpec(command="true"), "k"), said({"job_id": 17}), said({"jobs": [record("PENDING")]}))
    assert script.requests[0].repeatable is False


def test_a_job_that_was_accepted_is_not_hidden_by_a_look_that_fails(script: Script) -> None:
    info = script.play(slurm().submit(JobSpec(command="true"), "k"), said({"job_id": 17}), no(1800, 502))
    assert (info.id, info.state) == ("17", JobState.QUEUED)


def test_a_job_whose_answer_was_lost_is_found_by_its_comment_and_never_sent_again(script: Script) -> None:
    lost = TimedOut("late")
    lost.may_have_acted = True
    service = slurm()

    def mine(_: Any) -> Response:
        comment = json.loads(json.dumps(script.requests[0].json))["job"]["comment"]
        return said({"jobs": [record("RUNNING", comment=comment), record("RUNNING", number=18, comment="x")]})

    info = script.play(operations.submit_once(service, {"command": "true"}), lost, mine, mine)
    assert info.id == "17"
    assert [request.method for request in script.requests].count("POST") == 1


# Looking


@pytest.mark.parametrize("unknown", [no(2017, 404), no(2017, 500)])
def test_a_job_that_slurm_forgot_is_asked_of_the_accounting(script: Script, unknown: Response) -> None:
    """And where nobody knows it, it is not found: never guessed to be finished."""
    ended = {
        "job_id": 17,
        "name": "fit",
        "user": "me",
        "state": {"current": ["FAILED"], "reason": "None"},
        "time": {"submission": 1_767_000_000, "start": 1_767_000_100, "end": 1_767_000_200},
        "exit_code": exited(42, 3),
    }
    info = script.play(slurm().get("17"), unknown, said({"jobs": [ended]}))
    assert (info.state, info.exit_code) == (JobState.FAILED, 3)
    assert script.sent == ["GET /slurm/v0.0.42/job/17", "GET /slurmdb/v0.0.42/job/17"]
    for answer in (PLAIN_404, said({"jobs": [], "warnings": [{"description": "nothing"}]})):
        with pytest.raises(JobNotFound, match="MinJobAge"):
            script.play(slurm().get("17"), unknown, answer)


def test_an_end_that_was_seen_is_remembered(script: Script) -> None:
    service = slurm()
    assert script.play(service.get("17"), said({"jobs": [record("COMPLETED")]})).state is JobState.FINISHED
    assert script.play(service.get("17"), no(2017, 404)).state is JobState.FINISHED


def test_many_jobs_are_one_request_for_their_states(script: Script) -> None:
    """From some tens on; those of which something changed are looked at, and the list of all jobs is never asked for."""
    service, ids = slurm(), [str(number) for number in range(1, 61)]
    for job_id in ids:
        script.play(service.get(job_id), said({"jobs": [record("RUNNING", number=int(job_id))]}))
    script.requests.clear()
    states = [{"job_id": int(job_id), "state": ["RUNNING"]} for job_id in ids[1:]]
    ended = said({"jobs": [record("COMPLETED", number=1)]})
    answer = script.play(service.get_many(ids), said({"jobs": states}), ended)
    assert [info.id for info in answer.items] == ids
    assert [info.state for info in answer.items[:2]] == [JobState.FINISHED, JobState.RUNNING]
    assert script.sent == ["GET /slurm/v0.0.42/jobs/state", "GET /slurm/v0.0.42/job/1"]


@pytest.mark.parametrize("version", [40, 42])
def test_the_list_of_all_jobs_is_asked_for_only_if_it_changed(
    script: Script, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("hpcjobs.services.slurm_looking.time.monotonic", lambda: now[0])
    service = slurm(version)
    jobs = [record("RUNNING", version=version), record("RUNNING", version=version, number=18, user_name="other")]
    first = said({"jobs": jobs, "last_update": amount(version, 1_767_000_300)})
    page = script.play(service.page(JobFilter(), limit=10, cursor=None), first)
    now[0] += 60
    same = said({"jobs": [], "warnings": [{"description": "Nothing changed in jobs after update_time"}]})
    again = script.play(service.page(JobFilter(), limit=10, cursor=None), same)
    assert [info.id for info in page.items] == [info.id for info in again.items] == ["17"]
    told = "uts1767000300" if version == 40 else "1767000300"
    assert [list(request.params) for request in script.requests] == [[], [("update_time", told)]]


def test_an_old_version_that_answers_304_has_nothing_new(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say its time: two lists that name the same latest moment tell that it is over."""
    now = [100.0]
    monkeypatch.setattr("hpcjobs.services.slurm_looking.time.monotonic", lambda: now[0])
    service, whole = slurm(38), said({"jobs": [record("COMPLETED", version=38)]})
    for answer in (whole, whole, Response(304, {}, b""), Response(304, {}, b"")):
        page = script.play(service.page(JobFilter(), limit=10, cursor=None), answer)
        assert [info.id for info in page.items] == ["17"]
        now[0] += 60
    assert [list(request.params) for request in script.requests][2:] == [[("update_time", "1767000201")]] * 2


def test_many_jobs_of_an_old_version_are_one_list(script: Script) -> None:
    ids = [str(number) for number in range(1, 61)]
    jobs = [record("RUNNING", version=38, number=int(job_id)) for job_id in ids]
    answer = script.play(slurm(38).get_many(ids), said({"jobs": jobs}))
    assert [info.id for info in answer.items] == ids
    assert script.sent == ["GET /slurm/v0.0.38/jobs"]


def test_an_id_that_cannot_be_slurms_is_missing_and_asks_nothing(script: Script) -> None:
    answer = script.play(slurm().get_many(["abc", "1/../2", "17_"]))
    assert (answer.items, answer.missing) == ([], ["abc", "1/../2", "17_"])
    with pytest.raises(JobNotFound, match="is a number"):
        script.play(slurm().get("abc"))
    assert script.requests == []


def test_a_number_that_became_another_jobs_is_not_taken_for_the_one_that_was_seen(script: Script) -> None:
    """A controller that lost its memory counts from 1 again."""
    service = slurm()
    ours, theirs = (slurm_comment.Note(key=key).written() for key in ("k1", "k2"))
    script.play(service.get("17"), said({"jobs": [record("COMPLETED", comment=ours)]}))
    info = script.play(service.get("17"), said({"jobs": [record("RUNNING", comment=theirs)]}))
    assert info.state is JobState.FINISHED


# Cancelling


@pytest.mark.parametrize("version", VERSIONS)
def test_every_delete_is_followed_by_a_look(script: Script, version: int) -> None:
    """What Slurm answers to it says nothing of the job."""
    service = slurm(version)
    looks = [said({"jobs": [record(word, version=version)]}) for word in ("RUNNING", "CANCELLED")]
    [result] = script.play(
        service.cancel(["17"], reason=None, abort=True, delete=False), looks[0], said({"status": []}), looks[1]
    )
    assert (result.outcome, result.after) == (CancelOutcome.CANCELLED, JobState.CANCELLED)
    assert [request.method for request in script.requests] == ["GET", "DELETE", "GET"]


def test_a_job_that_is_being_stopped_is_not_said_to_be_cancelled(script: Script) -> None:
    looks = [said({"jobs": [record("RUNNING")]}), said({"jobs": [record("CANCELLED", "COMPLETING")]})]
    [result] = script.play(
        slurm().cancel(["17"], reason=None, abort=True, delete=False), looks[0], said({"status": []}), looks[1]
    )
    assert result.outcome is CancelOutcome.CANCEL_REQUESTED


@pytest.mark.parametrize("version", [40, 42, 45])
def test_anothers_job_is_never_asked_to_stop_where_that_would_hang_slurm(script: Script, version: int) -> None:
    look = said({"jobs": [record("RUNNING", version=version, user_name="somebody")]})
    with pytest.raises(PermissionDenied, match="somebody"):
        script.play(slurm(version).cancel(["17"], reason=None, abort=True, delete=False), look)
    assert [request.method for request in script.requests] == ["GET"]


def test_among_many_anothers_job_is_left_out_and_the_others_are_cancelled(script: Script) -> None:
    looks = [
        said({"jobs": [record("RUNNING")]}),
        said({"jobs": [record("RUNNING", number=18, user_name="somebody")]}),
        said({"jobs": [record("RUNNING", number=19)]}),
    ]
    after = [said({"jobs": [record("CANCELLED", number=number)]}) for number in (17, 19)]
    results = script.play(
        slurm().cancel(["17", "18", "19"], reason=None, abort=True, delete=False), *looks, said({"status": []}), *after
    )
    assert [one.outcome for one in results] == [
        CancelOutcome.CANCELLED,
        CancelOutcome.NOT_FOUND,
        CancelOutcome.CANCELLED,
    ]
    [delete] = [request for request in script.requests if request.method == "DELETE"]
    assert (delete.path, delete.json) == ("/slurm/v0.0.42/jobs", {"jobs": ["17", "19"]})


def test_a_job_that_ended_before_it_could_be_cancelled_has_ended_by_itself(script: Script) -> None:
    """Slurm answers 200 to it, with a status that says so."""
    ended = {"status": [{"error": {"string": "Job/step already completing", "code": 2021}, "step_id": "17"}]}
    looks = [said({"jobs": [record(word)]}) for word in ("RUNNING", "COMPLETED")]
    [result] = script.play(
        slurm().cancel(["17"], reason=None, abort=True, delete=False), looks[0], said(ended), looks[1]
    )
    assert (result.outcome, result.after) == (CancelOutcome.ALREADY_TERMINAL, JobState.FINISHED)


def test_an_ended_job_is_not_asked_to_stop(script: Script) -> None:
    [result] = script.play(
        slurm().cancel(["17"], reason=None, abort=True, delete=False), said({"jobs": [record("COMPLETED")]})
    )
    assert result.outcome is CancelOutcome.ALREADY_TERMINAL
    assert [request.method for request in script.requests] == ["GET"]


def test_the_reason_of_a_cancel_joins_the_comment_and_the_key_stays(script: Script) -> None:
    comment = slurm_comment.Note(text="for Ann", key="k").written()
    looks = [said({"jobs": [record(word, comment=comment)]}) for word in ("RUNNING", "CANCELLED")]
    [result] = script.play(
        slurm().cancel(["17"], reason="too slow", abort=True, delete=False),
        looks[0],
        said({}),
        said({"status": []}),
        looks[1],
    )
    [post] = [request for request in script.requests if request.method == "POST"]
    note = slurm_comment.read(post.json["comment"])
    assert (note.text, note.key, note.reason) == ("for Ann", "k", "too slow")
    assert result.reason_kept


def test_to_leave_a_started_job_alone_is_refused_with_advice(script: Script) -> None:
    with pytest.raises(Unsupported, match=";"):
        script.play(operations.cancel(slurm(), "17", abort=False), *[said({"jobs": [record("RUNNING")]})] * 1)


def test_a_name_that_is_no_signal_is_never_sent(script: Script) -> None:
    with pytest.raises(InvalidSpec, match="FOO"):
        script.play(slurm().signal("17", "FOO"))
    assert script.requests == []


def test_a_signal_goes_to_what_runs_only(script: Script) -> None:
    with pytest.raises(Conflict):
        script.play(slurm().signal("17", "USR1"), said({"jobs": [record("COMPLETED")]}))
    answers = [said({"jobs": [record("RUNNING")]}), said({"status": []}), said({"jobs": [record("RUNNING")]})]
    script.play(slurm().signal("17", "USR1"), *answers)
    assert script.requests[-2].params == [("signal", "USR1")]


def test_a_signal_to_a_job_that_has_just_ended_is_not_said_to_have_arrived(script: Script) -> None:
    ended = {"status": [{"error": {"string": "Job/step already completing", "code": 2021}, "step_id": "17"}]}
    with pytest.raises(Conflict, match="has ended"):
        script.play(slurm().signal("17", "USR1"), said({"jobs": [record("RUNNING")]}), said(ended))


# Errors


@pytest.mark.parametrize(
    ("version", "answer", "kind"),
    [
        (38, no(2017, 500, "Invalid job id specified"), JobNotFound),
        (42, no(2017, 404, "Invalid job id specified"), JobNotFound),
        (42, no(2002, 403), PermissionDenied),
        (42, no(1007, 511, "Protocol authentication error"), AuthenticationError),
        (38, no(5005, 500), AuthenticationError),
        (42, no(1800, 502, "Unable to contact slurm controller"), ServiceUnavailable),
        (38, no(1800, 500, "Unable to contact slurm controller"), ServiceUnavailable),
        (42, no(2000, 422, "Invalid partition"), InvalidRequest),
        (38, no(2072, 500, "Invalid generic resource"), InvalidRequest),
        (42, Response(401, {"content-type": "text/plain"}, b"Authentication failure"), AuthenticationError),
    ],
    ids=[
        "unknown, old",
        "unknown",
        "foreign",
        "token",
        "token, old",
        "controller",
        "controller, old",
        "partition",
        "gres, old",
        "no headers",
    ],
)
def test_errors_are_typed_by_their_number(script: Script, version: int, answer: Response, kind: type) -> None:
    service = slurm(version)
    request = next(slurm(version).array("17"))
    assert type(service.error_of(request, answer)) is kind


def test_what_never_reached_the_controller_may_be_sent_again() -> None:
    service = slurm()
    request = next(service.get("17"))
    assert service.error_of(request, no(1800, 502)).may_have_acted is False
