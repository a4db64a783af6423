"""The Slurm service without a network: what each version is asked, what is made of its answers, what is never said."""

from __future__ import annotations

import json
import signal
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
    Unsupported,
)
from hpcjobs.lifecycle import SLURM_WORDS, JobState
from hpcjobs.models import CancelOutcome, JobSpec
from hpcjobs.protocol import Response
from hpcjobs.services.slurm import SlurmService
from hpcjobs.services.slurm_records import info_of
from hpcjobs.services.slurm_requests import Defaults, request_of, signal_name
from hpcjobs.services.slurm_versions import Api, fixed
from tests.unit.conftest import Script

VERSIONS = (38, 40, 42, 45)
ENDS = sorted(word for word, state in SLURM_WORDS.items() if state.terminal)
DEFAULTS = Defaults(user="me", folder="/data")


def slurm(version: int | None = 42, **options: Any) -> SlurmService:
    options = {"token": "e30.e30.c2ln", "username": "me", "folder": "/data", **options}
    return SlurmService("slurm+http://head:6820", api=version, **options)


def said(body: dict[str, Any], status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps({"errors": [], **body}).encode())


def no(number: int, status: int = 500, text: str = "no") -> Response:
    error = {"error_number": number, "description": text, "error": text, "source": "slurmctld"}
    return said({"errors": [error]}, status)


PLAIN_404 = Response(404, {"content-type": "text/plain"}, b"Not found")


def amount(version: int, number: int) -> Any:
    return number if version < 40 else {"set": True, "infinite": False, "number": number}


def record(*words: str, version: int = 42, number: int = 17, **more: Any) -> dict[str, Any]:
    """A job as a version tells of it."""
    job: dict[str, Any] = {
        "job_id": number,
        "job_state": words[0] if version < 40 else list(words),
        "name": "fit",
        "user_name": "me",
        "partition": "debug",
        "state_reason": "None",
        "comment": "",
        "current_working_directory": "/data",
        "submit_time": amount(version, 1_767_000_000),
        "start_time": amount(version, 1_767_000_100),
        "end_time": amount(version, 1_767_000_200),
        "exit_code": 0 if version < 40 else {"status": ["SUCCESS"], "return_code": amount(42, 0)},
        "array_job_id": amount(version, 0),
        "array_task_id": None if version < 40 else {"set": False, "infinite": False, "number": 0},
        "priority": amount(version, 1),
        "nodes": "n1",
    }
    return job | more


# What is sent


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_is_asked_for_in_the_words_of_the_version(version: int) -> None:
    spec = JobSpec(
        command="echo hi", name="fit", env={"A": "b"}, queue="short", resources={"cores": 2, "walltime": "90s"}
    )
    asked = request_of(spec, "key-1", Api(version), DEFAULTS)
    job = asked["job"]
    assert asked["script"].startswith("#!/bin/bash\n")
    assert "echo hi" in asked["script"]
    assert (job["name"], job["partition"], job["current_working_directory"]) == ("fit", "short", "/data")
    assert job["cpus_per_task"] == 2
    assert job["time_limit"] == amount(version, 2)
    environment = job["environment"]
    pairs = environment if version < 40 else dict(one.split("=", 1) for one in environment)
    assert type(environment) is (dict if version < 40 else list)
    assert pairs["A"] == "b"
    assert "/bin" in pairs["PATH"]
    assert '"key":"key-1"' in job["comment"]


def test_words_of_a_list_stay_apart() -> None:
    asked = request_of(JobSpec(command=["fit", "a b", "$HOME"]), "k", Api(42), DEFAULTS)
    assert "fit 'a b' '$HOME'" in asked["script"]


@pytest.mark.parametrize("version", VERSIONS)
def test_options_are_slurms_own_and_win(version: int) -> None:
    spec = JobSpec(command="true", queue="short", options={"partition": "long", "qos": "high", "tasks": 4})
    job = request_of(spec, "k", Api(version), DEFAULTS)["job"]
    assert (job["partition"], job["qos"], job["tasks"]) == ("long", "high", 4)


@pytest.mark.parametrize(
    ("fields", "defaults", "word"),
    [
        ({"task": "fit"}, DEFAULTS, "task"),
        ({"command": "true", "max_attempts": 3}, DEFAULTS, "max_attempts"),
        ({"command": "true", "expires_in": "1h"}, DEFAULTS, "expires_in"),
        ({"command": "true", "grace": "5s"}, DEFAULTS, "grace"),
        ({"command": "true"}, Defaults(user="me"), "folder"),
        ({"command": "true"}, Defaults(user="me", folder="relative"), "folder"),
        ({"command": "true", "options": {"script": "echo no shebang"}}, DEFAULTS, "script"),
        ({"command": "true", "options": {"script": ""}}, DEFAULTS, "is empty"),
        ({"command": "true", "options": {"script": "#!/bin/sh\r\ntrue\r\n"}}, DEFAULTS, "line ends"),
        ({"command": "true", "options": {"partitoin": "x"}}, DEFAULTS, "partition"),
        ({"command": "true", "tags": ["x" * 200] * 20}, DEFAULTS, "comment"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_would_not_run_is_refused_before_anything_is_sent(
    fields: dict[str, Any], defaults: Defaults, word: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        request_of(JobSpec(**fields), "k", Api(42), defaults)
    assert word in str(caught.value)


def test_dependencies_are_in_slurms_words() -> None:
    spec = JobSpec(command="true", after=["12", ("13", "any"), ("14", "failed")])
    told = request_of(spec, "k", Api(42), DEFAULTS)["job"]["dependency"]
    assert {"afterok:12", "afterany:13", "afternotok:14"} == set(told.split(","))


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "usr1", signal.SIGUSR1])
def test_a_signal_has_one_name(name: Any) -> None:
    assert signal_name(name) == "USR1"


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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("word", ENDS)
def test_every_end_is_an_end_and_has_a_reason_in_words(version: int, word: str) -> None:
    info = info_of(record(word, version=version))
    assert (info.state, info.native_state) == (SLURM_WORDS[word], word)
    assert info.terminal
    if info.state is JobState.FAILED and word != "FAILED":
        assert " " in (info.reason or "")
        assert word in (info.reason or "")


@pytest.mark.parametrize("words", [("COMPLETING",), ("CANCELLED", "COMPLETING"), ("COMPLETED", "COMPLETING")])
def test_what_is_still_being_cleaned_up_has_not_ended(words: tuple[str, ...]) -> None:
    info = info_of(record(*words, version=38 if len(words) == 1 else 42))
    assert (info.state, info.exit_code) == (JobState.ARCHIVING, None)


@pytest.mark.parametrize(
    ("version", "told", "code"),
    [
        (38, 3 << 8, 3),
        (40, {"status": ["ERROR"], "return_code": amount(42, 3)}, 3),
        (42, {"status": ["ERROR"], "return_code": amount(42, 3), "signal": {"id": amount(42, 0), "name": ""}}, 3),
        (38, 15, None),
        (42, {"status": ["SIGNALED"], "signal": {"id": amount(42, 15), "name": "TERM"}}, None),
    ],
)
def test_exit_codes_are_read_in_every_shape(version: int, told: Any, code: int | None) -> None:
    info = info_of(record("FAILED", version=version, exit_code=told, state_reason="NonZeroExitCode"))
    assert info.exit_code == code
    assert ("ended with 3" if code else "SIGTERM") in (info.reason or "")


@pytest.mark.parametrize(
    ("reason", "state"),
    [("Dependency", JobState.PENDING), ("JobHeldAdmin", JobState.PENDING), ("Resources", JobState.QUEUED)],
)
def test_why_a_job_waits_decides_whether_it_is_ready(reason: str, state: JobState) -> None:
    info = info_of(record("PENDING", state_reason=reason, priority=amount(42, 0), start_time=amount(42, 0)))
    assert info.state is state
    assert reason in (info.reason or "")
    assert info.started_at is None


@pytest.mark.filterwarnings("ignore:the service says")
def test_an_unknown_word_is_no_end() -> None:
    assert info_of(record("HOVERING", version=38)).state is JobState.UNKNOWN


@pytest.mark.parametrize("unknown", [no(2017, 404), no(2017, 500)])
def test_a_job_that_slurm_forgot_is_asked_of_the_accounting(script: Script, unknown: Response) -> None:
    """And where nobody knows it, it is not found: never guessed to be finished."""
    ended = {
        "job_id": 17,
        "name": "fit",
        "user": "me",
        "state": {"current": ["FAILED"], "reason": "None"},
        "time": {"submission": 1_767_000_000, "start": 1_767_000_100, "end": 1_767_000_200},
        "exit_code": {"status": ["ERROR"], "return_code": amount(42, 3)},
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


# Errors


@pytest.mark.parametrize(
    ("version", "answer", "kind"),
    [
        (42, no(2002, 403), PermissionDenied),
        (42, no(1007, 511, "Protocol authentication error"), AuthenticationError),
        (38, no(5005, 500), AuthenticationError),
        (42, no(1800, 502, "Unable to contact slurm controller"), ServiceUnavailable),
        (42, no(2000, 422, "Invalid partition"), InvalidRequest),
        (38, no(2072, 500, "Invalid generic resource"), InvalidRequest),
        (42, Response(401, {"content-type": "text/plain"}, b"Authentication failure"), AuthenticationError),
    ],
    ids=["foreign", "token", "token, old", "controller", "partition", "gres, old", "no headers"],
)
def test_errors_are_typed_by_their_number(script: Script, version: int, answer: Response, kind: type) -> None:
    service = slurm(version)
    request = next(slurm(version).array("17"))
    assert type(service.error_of(request, answer)) is kind
