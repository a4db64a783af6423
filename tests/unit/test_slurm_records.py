"""What is made of Slurm's records, in the shape that each version gives them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from hpcjobs.lifecycle import SLURM_WORDS, JobState
from hpcjobs.models import JobInfo
from hpcjobs.services import slurm_comment
from hpcjobs.services.slurm_arrays import together
from hpcjobs.services.slurm_records import info_of, info_of_accounting, output_of, tasks_of, waiting_tasks
from hpcjobs.slurm_data import ENDED
from tests.unit.slurm_words import VERSIONS, amount, exited, record

ENDS = sorted(word for word, state in SLURM_WORDS.items() if state.terminal)

each_version = pytest.mark.parametrize("version", VERSIONS)


# Ends


@each_version
@pytest.mark.parametrize("word", ENDS)
def test_every_end_is_an_end_and_a_failure_has_its_reason_in_words(version: int, word: str) -> None:
    info = info_of(record(word, version=version))
    assert (info.state, info.native_state) == (SLURM_WORDS[word], word)
    assert info.terminal
    assert info.finished_at == dt.datetime.fromtimestamp(1_767_000_200, dt.timezone.utc)
    if info.state is JobState.FAILED and word != "FAILED":
        assert info.reason is not None
        assert info.reason.startswith(ENDED[word])
        assert word in info.reason
    if info.state is JobState.FINISHED:
        assert (info.reason, info.exit_code) == (None, 0)


@each_version
def test_a_time_limit_is_told_with_its_minutes(version: int) -> None:
    told = record("TIMEOUT", version=version, time_limit=amount(version, 5), exit_code=exited(version, by=15))
    info = info_of(told)
    assert (info.reason, info.exit_code) == ("it ran longer than its time limit of 5 min (TIMEOUT)", None)


@each_version
@pytest.mark.parametrize(
    ("code", "by", "why", "reason"),
    [
        (3, 0, "NonZeroExitCode", "the command ended with 3 (NonZeroExitCode)"),
        (0, 11, "JobLaunchFailure", "it was ended by signal SIGSEGV (JobLaunchFailure)"),
        (0, 15, "None", "it was ended by signal SIGTERM"),
        (0, 53, "RaisedSignal:53", "it could not be started: is the folder /data there on the node"),
    ],
)
def test_an_exit_code_is_read_in_every_shape(version: int, code: int, by: int, why: str, reason: str) -> None:
    """A signal is no exit code, and is told by its name."""
    info = info_of(record("FAILED", version=version, exit_code=exited(version, code, by=by), state_reason=why))
    assert info.exit_code == (code if not by else None)
    assert (info.reason or "").startswith(reason)


@pytest.mark.parametrize(
    ("told", "code", "signal"),
    [
        (768, 3, ""),
        (139, None, "SIGSEGV"),  # 11, and the bit that tells of a core
        (4021, None, "could not be started"),
        ({"set": True, "infinite": False, "number": 768}, 3, ""),  # version 39
        ({"set": True, "infinite": False, "number": 15}, None, "SIGTERM"),
        ({"status": ["ERROR"], "return_code": amount(40, 3)}, 3, ""),
        ({"status": ["SIGNALED"], "return_code": amount(40, None), "signal": {"signal_id": 9}}, None, "SIGKILL"),
        ({"status": ["PENDING"], "return_code": amount(40, None), "signal": {"id": amount(40, None)}}, None, ""),
        (None, None, ""),
        ({}, None, ""),
    ],
    ids=str,
)
def test_an_exit_code_as_it_was_met(told: Any, code: int | None, signal: str) -> None:
    info = info_of(record("FAILED", exit_code=told))
    assert info.exit_code == code
    assert signal in (info.reason or "")


@each_version
def test_a_job_that_was_cancelled_before_it_started_never_ran(version: int) -> None:
    """Slurm gives it a start, which is the moment of the cancel, and the exit code 0."""
    moment = amount(version, 1_767_000_050)
    info = info_of(record("CANCELLED", version=version, start_time=moment, end_time=moment, nodes=""))
    assert (info.state, info.started_at, info.exit_code, info.attempt) == (JobState.CANCELLED, None, None, 0)
    assert info.finished_at is not None


def test_a_job_of_less_than_a_second_ran() -> None:
    moment = amount(42, 1_767_000_050)
    info = info_of(record("COMPLETED", start_time=moment, end_time=moment))
    assert (info.started_at, info.exit_code, info.attempt) == (info.finished_at, 0, 1)


def test_a_cancel_that_nobody_asked_for_is_a_failure() -> None:
    info = info_of(record("CANCELLED", state_reason="DependencyNeverSatisfied", nodes=""))
    assert info.state is JobState.FAILED
    assert "a job that it waited for" in (info.reason or "")


@each_version
def test_the_reason_of_a_cancel_is_the_one_in_the_comment(version: int) -> None:
    comment = slurm_comment.Note(key="k", reason="hpcjobs: too slow").written()
    info = info_of(record("CANCELLED", version=version, comment=comment, exit_code=exited(version, by=15)))
    assert (info.reason, info.cancel_reason) == ("hpcjobs: too slow",) * 2
    assert info_of(record("CANCELLED", version=version)).reason is None


# On the way


@pytest.mark.parametrize("finishing", ["COMPLETING", "STAGE_OUT"])
@pytest.mark.parametrize("word", ["CANCELLED", "COMPLETED", "FAILED", "TIMEOUT"])
def test_what_is_still_being_cleaned_up_has_not_ended(word: str, finishing: str) -> None:
    """Its exit code is 0 until then, whatever becomes of it; the oldest version hides the word behind."""
    for info in (
        info_of(record(word, finishing)),
        info_of(record(finishing, word)),
        info_of(record(finishing, version=38)),
    ):
        assert (info.state, info.terminal) == (JobState.ARCHIVING, False)
        assert (info.exit_code, info.finished_at) == (None, None)
    assert info_of(record(word, finishing)).cancel_requested is (word == "CANCELLED")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["RUNNING"], JobState.RUNNING),
        (["RUNNING", "CONFIGURING"], JobState.STAGING),
        (["RUNNING", "SIGNALING"], JobState.RUNNING),
        (["RUNNING", "EXPEDITING"], JobState.RUNNING),
        (["RUNNING", "A_FLAG_OF_TOMORROW"], JobState.RUNNING),
        (["SUSPENDED"], JobState.PAUSED),
        (["PENDING", "REQUEUED"], JobState.QUEUED),
        (["PENDING", "REQUEUE_HOLD"], JobState.PENDING),
        (["PENDING", "SPECIAL_EXIT"], JobState.PENDING),
        (["FAILED", "LAUNCH_FAILED"], JobState.FAILED),
        (["LAUNCH_FAILED", "FAILED"], JobState.FAILED),
    ],
    ids=str,
)
def test_flags_beside_the_word_change_it_only_where_they_are_known(words: list[str], state: JobState) -> None:
    info = info_of(record(*words))
    assert (info.state, info.native_state) == (state, "+".join(words))


@pytest.mark.filterwarnings("ignore:the service says")
@each_version
def test_an_unknown_word_is_no_end(version: int) -> None:
    assert info_of(record("HOVERING", version=version)).state is JobState.UNKNOWN


@each_version
@pytest.mark.parametrize(
    ("why", "state", "words"),
    [
        ("None", JobState.QUEUED, "not looked at it yet"),
        ("Resources", JobState.QUEUED, "no place is free"),
        ("Priority", JobState.QUEUED, "other jobs come first"),
        ("PartitionConfig", JobState.QUEUED, "may never start"),
        ("PartitionTimeLimit", JobState.QUEUED, "may never start"),
        ("BadConstraints", JobState.QUEUED, "may never start"),
        ("ReqNodeNotAvail, May be reserved for other job", JobState.QUEUED, "cannot be had now"),
        ("QOSMaxJobsPerUserLimit", JobState.QUEUED, "its QOS"),
        ("Dependency", JobState.PENDING, "other jobs"),
        ("DependencyNeverSatisfied", JobState.PENDING, "may never start"),
        ("BeginTime", JobState.PENDING, "not to start yet"),
        ("JobHeldUser", JobState.PENDING, "is held"),
        ("JobHeldAdmin", JobState.PENDING, "operator"),
        ("A_Reason_Of_Tomorrow", JobState.QUEUED, "A_Reason_Of_Tomorrow"),
    ],
)
def test_why_a_job_waits_is_told_in_words_and_decides_whether_it_is_ready(
    version: int, why: str, state: JobState, words: str
) -> None:
    told = record("PENDING", version=version, state_reason=why, priority=amount(version, 0), nodes="")
    info = info_of(told | {"start_time": amount(version, 1_999_000_000), "end_time": amount(version, 0)})
    assert info.state is state
    assert words in (info.reason or "")
    assert why in (info.reason or "")
    # the start is one that Slurm expects
    assert (info.started_at, info.finished_at, info.exit_code, info.attempt) == (None, None, None, 0)


@each_version
def test_a_job_that_was_just_released_is_not_held(version: int) -> None:
    """Slurm shows the reason until it looks at the job again; the priority tells."""
    held = record("PENDING", version=version, state_reason="JobHeldUser", priority=amount(version, 5))
    assert info_of(held).state is JobState.QUEUED


@each_version
def test_a_requeued_job_waits_again_and_is_at_its_next_attempt(version: int) -> None:
    told = {"restart_cnt": 1, "eligible_time": amount(version, 1_767_000_320), "end_time": amount(version, 0)}
    waits = info_of(record("PENDING", version=version, state_reason="BeginTime", **told))
    assert (waits.state, waits.attempt, waits.start_at) == (JobState.PENDING, 1, None)
    assert "requeued" in (waits.reason or "")
    assert info_of(record("RUNNING", version=version, **told)).attempt == 2


@each_version
def test_a_running_job_has_no_end_though_slurm_expects_one(version: int) -> None:
    info = info_of(record("RUNNING", version=version))
    assert (info.finished_at, info.exit_code) == (None, None)
    assert info.started_at == dt.datetime.fromtimestamp(1_767_000_100, dt.timezone.utc)


# Arrays


def array(version: int) -> list[dict[str, Any]]:
    """Five tasks: two run at a time; one record stands for those that wait."""

    def task(word: str, number: int, index: int | None, **more: Any) -> dict[str, Any]:
        places = {"array_job_id": amount(version, 31), "array_task_id": amount(version, index)}
        return record(word, version=version, number=number, **{**places, **more})

    return [
        task("PENDING", 31, None, array_task_string="3-4%2", nodes=""),
        task("FAILED", 34, 2, exit_code=exited(version, 7)),
        task("COMPLETED", 33, 1),
        task("RUNNING", 32, 0),
    ]


def tasks(records: list[dict[str, Any]]) -> dict[str, JobInfo]:
    return {task.id: task for one in records for task in tasks_of(one)}


@each_version
def test_every_task_of_an_array_is_a_job_with_its_index(version: int) -> None:
    told = tasks(array(version))
    assert {name: info.state for name, info in told.items()} == {
        "31_3": JobState.QUEUED,
        "31_4": JobState.QUEUED,
        "31_2": JobState.FAILED,
        "31_1": JobState.FINISHED,
        "31_0": JobState.RUNNING,
    }
    assert (told["31_2"].exit_code, told["31_2"].array_index, told["31_2"].array_id) == (7, 2, "31")
    assert told["31_3"].name == "fit[3]"


@each_version
def test_a_job_beside_arrays_is_of_none(version: int) -> None:
    info = info_of(record("RUNNING", version=version))
    assert (info.id, info.array_id, info.array_index, info.name) == ("17", None, None, "fit")


@each_version
def test_an_array_has_ended_when_all_of_it_has_and_failed_if_one_did(version: int) -> None:
    records = array(version)
    assert together("31", tasks(records), records).state is JobState.RUNNING
    ended = [*records[1:3], records[3] | {"job_state": record("COMPLETED", version=version)["job_state"]}]
    whole = together("31", tasks(ended), ended)
    assert (whole.id, whole.state, whole.name, whole.exit_code) == ("31", JobState.FAILED, "fit", 7)
    assert (whole.reason or "").startswith("task 2: the command ended with 7")


def test_an_array_of_which_tasks_were_forgotten_is_not_said_to_have_ended_well() -> None:
    comment = slurm_comment.Note(key="k", size=5).written()
    left = [array(42)[2] | {"comment": comment}]
    assert together("31", tasks(left), left).state is JobState.UNKNOWN


def test_a_list_of_tasks_that_was_cut_off_is_known_to_be() -> None:
    assert waiting_tasks({"array_task_string": "1,3,5,..."}) == ([1, 3, 5], False)
    assert waiting_tasks({"array_task_string": "[0-6:2,9%2]"}) == ([0, 2, 4, 6, 9], True)


# Paths


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ({}, "/data/slurm-17.out"),
        ({"standard_output": "/logs/%x-%j.txt"}, "/logs/fit-17.txt"),
        ({"standard_output": "%u/%5j%%.txt"}, "/data/me/00017%.txt"),
        ({"standard_output": "slurm-%j.out", "stdout_expanded": "/data/slurm-17.out"}, "/data/slurm-17.out"),
        ({"array_job_id": 9, "array_task_id": 2}, "/data/slurm-9_2.out"),
    ],
    ids=str,
)
def test_the_file_of_a_log_is_told_by_every_version(told: dict[str, Any], path: str) -> None:
    assert output_of(record("RUNNING", version=38, **told), "stdout") == path


# Accounting


def stored(word: str, **more: Any) -> dict[str, Any]:
    job = {
        "job_id": 17,
        "name": "fit",
        "user": "me",
        "nodes": "n1",
        "state": {"current": [word], "reason": "None"},
        "time": {"submission": 1_767_000_000, "start": 1_767_000_100, "end": 1_767_000_200},
        "exit_code": exited(42),
        "array": {"job_id": 0, "task_id": amount(42, None)},
    }
    return job | more


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"])
@pytest.mark.parametrize("old", [True, False])
def test_the_accounting_tells_every_end(word: str, old: bool) -> None:
    info = info_of_accounting(stored(word, state={"current": word if old else [word], "reason": ""}))
    assert (info.id, info.state, info.owner, info.name) == ("17", SLURM_WORDS[word], "me", "fit")
    assert info.finished_at == dt.datetime.fromtimestamp(1_767_000_200, dt.timezone.utc)


def test_a_failure_never_has_the_exit_code_0() -> None:
    """The oldest version says success of all exit codes in the accounting."""
    info = info_of_accounting(stored("FAILED", exit_code={"status": "SUCCESS", "return_code": 0}))
    assert (info.state, info.exit_code) == (JobState.FAILED, None)


def test_the_signal_that_ended_a_cancelled_job_is_in_its_steps() -> None:
    info = info_of_accounting(stored("CANCELLED", steps=[{"exit_code": exited(42, by=15)}]))
    assert (info.state, info.exit_code) == (JobState.CANCELLED, None)


@pytest.mark.parametrize(
    ("word", "why", "reason"),
    [
        ("TIMEOUT", "TimeLimit", "it ran longer than its time limit of 5 min"),
        ("CANCELLED", "DependencyNeverSatisfied", "a job that it waited for did not end as it had to"),
        ("FAILED", "NonZeroExitCode", "NonZeroExitCode"),
    ],
)
def test_the_accounting_tells_why_as_the_controller_did(word: str, why: str, reason: str) -> None:
    told = stored(word, state={"current": [word], "reason": why})
    told["time"]["limit"] = amount(42, 5)
    info = info_of_accounting(told)
    assert info.state is JobState.FAILED
    assert (info.reason or "").startswith(reason)
