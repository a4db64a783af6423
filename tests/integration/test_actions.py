"""Retry, update, delete, many at once, arrays, dependencies, times and queues, on a real service with real jobs."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcjobs import (
    CancelOutcome,
    Client,
    Conflict,
    DeleteOutcome,
    InvalidRequest,
    InvalidSpec,
    Job,
    JobNotFound,
    JobState,
    NotFound,
    PermissionDenied,
    RetryOutcome,
    UpdateOutcome,
    WaitTimeout,
)
from hpcjobs.actions import outcomes
from tests.running import Service, until

FINISHED, FAILED, CANCELLED = JobState.FINISHED, JobState.FAILED, JobState.CANCELLED
PENDING, QUEUED, RUNNING = JobState.PENDING, JobState.QUEUED, JobState.RUNNING


@pytest.fixture
def idle(service_factory: Callable[..., Service]) -> Iterator[Client]:
    """A client of a service without workers: nothing starts."""
    with service_factory(workers=0).client() as client:
        yield client


def started(job: Job) -> Job:
    until(lambda: job.refresh().state is RUNNING, what="the job's start")
    return job


class TestRetry:
    def test_a_job_that_ended_runs_again_as_the_same_job(self, shared_client: Client) -> None:
        """Its attempts go on to be counted, and one that was used up is added."""
        job = shared_client.submit("test $HPCJOBS_ATTEMPT = 2")
        assert job.wait().state is FAILED
        result = job.retry()
        assert result.done
        assert (result.before, result.job_id) == (FAILED, job.id)
        info = job.wait()
        assert (info.state, info.attempt, info.max_attempts) == (FINISHED, 2, 2)

    @pytest.mark.parametrize("command", ["true", "exit 3"])
    def test_it_does_not_matter_how_the_job_ended(self, shared_client: Client, command: str) -> None:
        job = shared_client.submit(command)
        job.wait()
        job.retry()
        assert job.wait().attempt == 2

    def test_a_cancelled_job_runs_again_without_its_old_reason(self, shared_client: Client) -> None:
        job = shared_client.submit("true", start_in="1h")
        job.cancel(reason="not now")
        job.retry()
        info = job.wait()
        assert (info.state, info.reason, info.cancel_reason) == (FINISHED, None, None)

    def test_a_scheduled_job_is_ready_now(self, shared_client: Client) -> None:
        job = shared_client.submit("true", start_in="1h")
        assert job.state is PENDING
        assert job.retry().done
        assert job.wait(30).state is FINISHED

    def test_a_running_job_is_no_job_to_run_again(self, shared_client: Client) -> None:
        job = started(shared_client.submit("sleep 60"))
        with pytest.raises(Conflict, match="RUNNING; it can run again when it has ended"):
            job.retry()
        [result] = shared_client.retry_many([job])
        assert result.outcome is RetryOutcome.STILL_RUNNING
        job.cancel(confirm=10)

    def test_the_policy_says_how_often_and_for_which_exit_codes(self, shared_client: Client) -> None:
        """Exit codes that are not named end the job at once; those that are run again, after a pause that grows."""
        useless = shared_client.submit("exit 3", max_attempts=5, retry_on=[75])
        useful = shared_client.submit(
            "test $HPCJOBS_ATTEMPT = 3 || exit 75", max_attempts=3, retry_on=[75], backoff=0.2
        )
        infos = shared_client.wait([useless, useful])
        assert [(info.state, info.attempt) for info in infos] == [(FAILED, 1), (FINISHED, 3)]
        attempts = useful.history().attempts
        pauses = [
            (after.started_at - before.finished_at).total_seconds()  # type: ignore[operator]
            for before, after in itertools.pairwise(attempts)
        ]
        assert pauses[0] >= 0.2
        assert pauses[1] >= 0.4

    def test_a_job_that_was_aborted_is_not_run_again_by_policy(self, shared_client: Client) -> None:
        job = started(shared_client.submit("sleep 60", max_attempts=5))
        job.cancel(reason="enough", confirm=10)
        assert (job.state, job.info.attempt) == (CANCELLED, 1)


class TestUpdate:
    def test_twenty_at_once_lose_nothing(self, idle: Client) -> None:
        """Each function is called with the job as it is, and again where another one was faster."""
        job = idle.submit("true")

        def add(tag: str) -> None:
            idle.update(job.id, lambda info: {"tags": [*info.tags, tag]})

        threads = [threading.Thread(target=add, args=[f"tag-{number}"]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(job.refresh().tags) == sorted(f"tag-{number}" for number in range(20))

    def test_what_is_changed_is_what_runs(self, idle: Client) -> None:
        job = idle.submit("false", name="old", priority=1)
        result = job.update(command="true", name="new", priority=7, queue="night", meta={"a": 1}, max_attempts=4)
        assert result.outcome is UpdateOutcome.UPDATED
        info = job.info
        assert info.spec is not None
        assert (info.name, info.priority, info.queue, info.meta, info.max_attempts, info.spec["command"]) == (
            "new", 7, "night", {"a": 1}, 4, "true",
        )  # fmt: skip
        assert job.update(name="new").outcome is UpdateOutcome.UNCHANGED

    def test_a_start_can_be_put_off_and_brought_forward(self, shared_client: Client) -> None:
        job = shared_client.submit("true", start_in="1h")
        job.update(start_in="2h")
        assert (job.info.start_at - job.info.created_at).total_seconds() == pytest.approx(7200, abs=30)  # type: ignore[operator]
        job.update(start_at=None)
        assert job.wait(30).state is FINISHED

    def test_a_running_job_takes_labels_and_refuses_what_would_mislead(self, shared_client: Client) -> None:
        job = started(shared_client.submit("sleep 60"))
        job.update(tags=["seen"], name="busy")
        assert (job.tags, job.name) == (["seen"], "busy")
        with pytest.raises(Conflict, match="RUNNING: command, priority can no longer be changed"):
            job.update(command="true", priority=3)
        [result] = shared_client.update_many([job], {"queue": "other"})
        assert (result.outcome, result.detail) == (
            UpdateOutcome.REFUSED, "the job is RUNNING: queue can no longer be changed",
        )  # fmt: skip
        job.cancel(confirm=10)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"colour": "red"}, "colour: there is no such field"),
            ({"priority": 10**6}, "priority: "),
            ({"command": ""}, "command"),
            ({"start_at": "2030-01-01T00:00Z", "start_in": "1h"}, "start_at or start_in, not both"),
        ],
    )
    def test_changes_that_make_no_job_change_nothing(self, idle: Client, changes: dict[str, Any], said: str) -> None:
        job = idle.submit("true")
        with pytest.raises(InvalidSpec, match=said):
            job.update(changes)
        assert job.refresh().info.version == 1


class TestDelete:
    def test_the_record_and_the_files_go(self, service: Service, client: Client) -> None:
        """What was deleted is no longer found, listed or counted, and takes no space."""
        job = client.submit("echo hello > out.txt")
        job.wait()
        folder = service.settings.data / "jobs" / job.id
        assert folder.exists()
        assert job.delete().outcome is DeleteOutcome.DELETED
        with pytest.raises(JobNotFound):
            client.job(job.id)
        assert list(client.jobs()) == []
        until(lambda: not folder.exists(), what="the removal of the files")

    def test_never_a_running_one(self, shared_client: Client) -> None:
        job = started(shared_client.submit("sleep 60"))
        with pytest.raises(Conflict, match="cancel it first"):
            job.delete()
        job.cancel(confirm=10)
        job.delete()

    def test_a_cancel_can_delete_what_never_ran(self, idle: Client) -> None:
        job = idle.submit("true")
        assert job.cancel(delete=True).outcome is CancelOutcome.CANCELLED
        with pytest.raises(JobNotFound):
            idle.job(job.id)


class TestMany:
    def test_one_bad_id_spoils_nothing(self, idle: Client) -> None:
        """Each job has an outcome of its own, in the order of the ids."""
        jobs = idle.submit_many(["true"] * 3)
        nobody = str(uuid.uuid4())
        ids = [jobs[0].id, "nonsense", nobody, jobs[1].id]
        assert [str(one.outcome) for one in idle.update_many(ids, {"priority": 2})] == [
            "UPDATED", "NOT_FOUND", "NOT_FOUND", "UPDATED",
        ]  # fmt: skip
        assert [str(one.outcome) for one in idle.cancel_many(ids)] == [
            "CANCELLED", "NOT_FOUND", "NOT_FOUND", "CANCELLED",
        ]  # fmt: skip
        assert [str(one.outcome) for one in idle.retry_many(ids)] == ["RETRIED", "NOT_FOUND", "NOT_FOUND", "RETRIED"]
        assert [str(one.outcome) for one in idle.delete_many(ids)] == ["DELETED", "NOT_FOUND", "NOT_FOUND", "DELETED"]

    def test_ten_thousand_in_one_call(self, idle: Client) -> None:
        """Submit, change, cancel, retry and delete ten thousand jobs, each with its outcome."""
        jobs = idle.submit_many([{"command": "true", "tags": ["crowd"], "meta": {"n": n}} for n in range(10_000)])
        ids = [job.id for job in jobs]
        assert len(set(ids)) == 10_000
        assert idle.job(ids[9_999]).info.meta == {"n": 9_999}
        assert outcomes(idle.update_many(ids, {"priority": 3})) == {"UPDATED": 10_000}
        assert outcomes(idle.cancel_many(tag="crowd", reason="enough")) == {"CANCELLED": 10_000}
        assert outcomes(idle.retry_many(ids)) == {"RETRIED": 10_000}
        assert outcomes(idle.delete_many(tag="crowd")) == {"DELETED": 10_000}
        assert list(idle.jobs()) == []

    def test_a_filter_means_the_jobs_that_the_action_is_for(self, shared_client: Client) -> None:
        """Without a state: those that have not ended, that did not end well, that do not run, that have not started."""
        good, bad = shared_client.submit_many([{"command": one, "tags": ["mine"]} for one in ("true", "false")])
        shared_client.wait([good, bad])
        late = shared_client.submit("true", tags=["mine"], start_in="1h", name="late-1")
        assert [one.job_id for one in shared_client.update_many(tag="mine", changes={"priority": 5})] == [late.id]
        assert [one.job_id for one in shared_client.cancel_many(tag="mine")] == [late.id]
        assert {one.job_id for one in shared_client.retry_many(tag="mine", name="late-*")} == {late.id}
        shared_client.wait([late])
        assert [one.job_id for one in shared_client.retry_many(tag="mine")] == [bad.id]
        bad.refresh().wait()
        assert len(shared_client.delete_many(tag="mine")) == 3

    def test_everything_is_never_meant_by_accident(self, idle: Client) -> None:
        job = idle.submit("true")
        for act in (idle.cancel_many, idle.retry_many, idle.delete_many):
            with pytest.raises(InvalidSpec, match="name jobs, or give a condition"):
                act()
            with pytest.raises(InvalidSpec, match="not both"):
                act([job], tag="x")
        assert job.refresh().state is QUEUED

    def test_all_are_waited_for(self, shared_client: Client) -> None:
        """``confirm`` ends when the last of them has stopped, and tells of each how it ended."""
        running = started(shared_client.submit("sleep 60"))
        waiting = shared_client.submit("true", start_in="1h")
        done = shared_client.submit("true")
        done.wait()
        results = shared_client.cancel_many([running, waiting, done], confirm=20, reason="all of it")
        assert [str(one.outcome) for one in results] == ["CANCELLED", "CANCELLED", "ALREADY_TERMINAL"]
        assert running.state is CANCELLED

    def test_the_same_key_makes_the_jobs_once(self, idle: Client) -> None:
        first = idle.submit_many(["true", "false"], key="both")
        again = idle.submit_many(["true", "false"], key="both")
        assert [job.id for job in first] == [job.id for job in again]
        with pytest.raises(Conflict, match="key"):
            idle.submit_many(["true", "true", "true"], key="both")
        assert len(list(idle.jobs())) == 2


class TestArrays:
    def test_each_job_has_its_index_and_its_item(self, shared_client: Client) -> None:
        command = "echo $HPCJOBS_ARRAY_INDEX of $HPCJOBS_ARRAY_SIZE: {d} {index} '{other}' $HPCJOBS_ITEM"
        array = shared_client.submit_array(command, over=[{"d": 0.02}, {"d": "a b"}], name="sweep")
        assert [job.name for job in array] == ["sweep[0]", "sweep[1]"]
        array.wait()
        assert array.counts == {FINISHED: 2}
        assert array[0].logs() == '0 of 2: 0.02 0 {other} {"d": 0.02}\n'
        assert array[1].logs() == '1 of 2: a b 1 {other} {"d": "a b"}\n'

    def test_it_is_found_again_with_its_jobs_in_order(self, shared_client: Client) -> None:
        array = shared_client.submit_array("exit {index}", array=3)
        array.wait()
        found = shared_client.array(array.id)
        assert [job.id for job in found] == [job.id for job in array]
        assert found.counts == {FINISHED: 1, FAILED: 2}
        assert found.progress.fraction == 1.0
        assert [job.exit_code for job in found] == [0, 1, 2]
        with pytest.raises(NotFound, match="array"):
            shared_client.array(str(uuid.uuid4()))

    def test_only_the_failed_run_again(self, shared_client: Client) -> None:
        array = shared_client.submit_array("test $HPCJOBS_ATTEMPT = 2 -o {index} = 0", array=3)
        array.wait()
        assert [job.info.array_index for job in array.failed] == [1, 2]
        assert outcomes(array.retry()) == {"RETRIED": 2}
        array.wait()
        assert [job.info.attempt for job in array] == [1, 2, 2]
        assert array.counts == {FINISHED: 3}

    def test_cancelling_the_array_cancels_its_jobs(self, shared_client: Client) -> None:
        """By its handle, or by its id wherever the id of a job can stand."""
        array = shared_client.submit_array("sleep 60", array=4)
        until(lambda: array.refresh().counts.get(RUNNING, 0) == 2, what="two of them to run")
        result = shared_client.cancel(array.id, reason="wrong", confirm=20)
        assert (result.outcome, result.jobs) == (CancelOutcome.CANCELLED, {"CANCELLED": 4})
        assert array.refresh().counts == {CANCELLED: 4}
        assert {job.reason for job in array} == {"wrong"}
        other = shared_client.submit_array("sleep 60", array=2, start_in="1h")
        assert outcomes(other.cancel()) == {"CANCELLED": 2}
        assert other.counts == {CANCELLED: 2}
        assert outcomes(shared_client.delete_many([array, other])) == {"DELETED": 6}
        with pytest.raises(NotFound):
            shared_client.array(array.id)

    def test_what_became_of_each_job_is_told_when_a_cancel_of_the_array_is_confirmed(
        self, shared_client: Client
    ) -> None:
        """One that had ended before is not counted in place of one that was stopped."""
        array = shared_client.submit_array("test {index} = 1 || exec sleep 60", array=2)
        until(lambda: array.refresh().counts == {FINISHED: 1, RUNNING: 1}, what="one to end and one to run")
        result = shared_client.cancel(array.id, confirm=20)
        assert result.jobs == {"ALREADY_TERMINAL": 1, "CANCELLED": 1}

    def test_a_function_is_called_for_each_job_that_an_array_stands_for(self, idle: Client) -> None:
        array, alone = idle.submit_array("true", array=3), idle.submit("true")
        results = idle.update_many(
            [array.id, alone, array[1], str(uuid.uuid4())], lambda info: {"tags": [str(info.array_index)]}
        )
        assert [str(result.outcome) for result in results] == ["UPDATED", "UPDATED", "UPDATED", "NOT_FOUND"]
        assert results[0].jobs == {"UPDATED": 3}
        assert [job.tags for job in idle.array(array.id)] == [["0"], ["1"], ["2"]]

    def test_an_array_that_is_submitted_again_after_jobs_were_deleted_keeps_its_indexes(self, idle: Client) -> None:
        first = idle.submit_array("true", over=["a", "b", "c"], key="one")
        first[1].delete()
        again = idle.submit_array("true", over=["a", "b", "c"], key="one")
        assert [(job.id, job.info.array_index, job.info.item) for job in again] == [
            (first[0].id, 0, "a"),
            (first[2].id, 2, "c"),
        ]

    def test_an_item_that_fits_on_no_command_line_is_said_to_be_too_long(self, shared_client: Client) -> None:
        [info] = shared_client.submit_array("echo {item}", over=["x" * 200_000]).wait(30)
        assert info.state is FAILED
        assert info.reason is not None
        assert "too long" in info.reason
        assert "x" * 100 not in info.reason

    def test_the_address_of_a_job_does_not_change_an_array_unseen(self, service: Service) -> None:
        with service.client() as client:
            array = client.submit_array("true", array=2, start_in="1h")
            headers = {"Authorization": f"Bearer {service.token}"}
            answer = httpx.patch(f"{service.url}/v1/jobs/{array.id}", json={"tags": ["x"]}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "is_array")
            assert [job.tags for job in client.array(array.id)] == [[], []]

    def test_one_job_can_be_changed_alone(self, idle: Client) -> None:
        array = idle.submit_array("true", array=2, name="both")
        array[1].update(command="false", tags=["odd"])
        again = idle.array(array.id)
        assert [job.tags for job in again] == [[], ["odd"]]
        assert [idle.job(job.id).info.spec["command"] for job in again] == ["true", "false"]  # type: ignore[index]
        assert [job.name for job in again] == ["both[0]", "both[1]"]

    def test_a_function_changes_each_job_of_an_array(self, idle: Client) -> None:
        """It is called for each of them, as for an id; the array has one result, and other ids one each."""
        array = idle.submit_array("true", array=3)
        changed = idle.update_many([array, array[1], "nonsense"], lambda info: {"tags": [*info.tags, "seen"]})
        assert [(one.job_id, one.jobs) for one in changed[::2]] == [(array.id, {"UPDATED": 3}), ("nonsense", None)]
        assert changed[1].outcome is UpdateOutcome.UPDATED
        assert [job.tags for job in idle.array(array.id)] == [["seen"]] * 3

    def test_the_same_key_makes_one_array(self, idle: Client) -> None:
        first, again = (idle.submit_array("true", array=2, key="one") for _ in range(2))
        assert [job.id for job in first] == [job.id for job in again]
        with pytest.raises(Conflict):
            idle.submit_array("true", array=3, key="one")

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({}, "array="),
            ({"array": 2, "over": [1]}, "over="),
            ({"over": []}, "over: is empty"),
            ({"array": 0}, "array:"),
        ],
    )
    def test_a_size_is_needed(self, idle: Client, asked: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidSpec, match=said):
            idle.submit_array("true", **asked)


class TestDependencies:
    def test_a_job_runs_after_those_it_waits_for(self, shared_client: Client, tmp_path: Path) -> None:
        first = shared_client.submit(f"sleep 0.3; echo 1 >> {tmp_path}/log")
        second = shared_client.submit(f"echo 2 >> {tmp_path}/log", after=[first])
        assert second.state is PENDING
        assert second.wait(30).state is FINISHED
        assert (tmp_path / "log").read_text() == "1\n2\n"

    @pytest.mark.parametrize(
        ("command", "when", "state"),
        [
            ("true", "ok", FINISHED), ("true", "any", FINISHED), ("true", "failed", FAILED),
            ("false", "ok", FAILED), ("false", "any", FINISHED), ("false", "failed", FINISHED),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("late", [False, True])
    def test_how_it_must_have_ended(
        self, shared_client: Client, command: str, when: str, state: JobState, late: bool
    ) -> None:
        """It makes no difference whether the first has ended when the second is submitted."""
        first = shared_client.submit(command if late else f"sleep 0.2; {command}", name="first")
        if late:
            first.wait()
        second = shared_client.submit("true", after=[(first, when)])
        assert second.wait(30).state is state
        if state is FAILED:
            assert first.id in str(second.reason)
            assert second.info.attempt == 0

    def test_a_failure_goes_down_the_whole_chain(self, idle: Client) -> None:
        """Each names the one before it; a chain of any length."""
        chain = idle.submit_many([{"command": "true", "after": [n - 1] if n else []} for n in range(300)])
        chain[0].cancel(reason="stop")
        infos = idle.wait(chain, 30)
        assert [info.state for info in infos[1:]] == [FAILED] * 299
        for before, info in itertools.pairwise(infos):
            assert before.id in str(info.reason)

    def test_a_job_that_waits_is_cancelled_at_once(self, idle: Client) -> None:
        first = idle.submit("true")
        second = idle.submit("true", after=[first])
        third = idle.submit("true", after=[second])
        assert second.cancel(reason="no").outcome is CancelOutcome.CANCELLED
        assert third.refresh().state is FAILED
        assert third.reason == f"it was to run after job {second.id}, which is CANCELLED"

    def test_an_array_is_waited_for_as_a_whole(self, shared_client: Client) -> None:
        array = shared_client.submit_array("sleep 0.1", array=3)
        job = shared_client.submit("true", after=[array])
        assert job.wait(30).state is FINISHED
        assert array.refresh().counts == {FINISHED: 3}

    def test_what_cannot_be_waited_for_is_refused(self, service: Service, client: Client) -> None:
        """An id that is not there, another's job, and a ring; nothing is submitted."""
        foreign = service.client(service.make_token("another").token)
        with foreign:
            theirs = foreign.submit("true")
            theirs.wait()
        for bad in (str(uuid.uuid4()), "nonsense", theirs.id, "#1"):
            with pytest.raises(InvalidRequest, match=r"no job|no other job"):
                client.submit("true", after=[bad])
        with pytest.raises(InvalidRequest, match="in a ring"):
            client.submit_many(
                [
                    {"command": "true", "after": [1]},
                    {"command": "true", "after": [2]},
                    {"command": "true", "after": [0]},
                ]
            )
        assert [job.id for job in client.jobs()] == [theirs.id]  # this client sees everybody's

    def test_a_retry_waits_only_for_what_has_not_ended(self, idle: Client) -> None:
        first = idle.submit("true")
        second = idle.submit("true", after=[first])
        first.cancel()
        assert second.refresh().state is FAILED
        first.retry()
        assert second.retry().after is PENDING
        first.cancel()
        assert second.refresh().state is FAILED
        assert second.retry().after is QUEUED

    def test_deleting_a_job_tells_those_who_wait_for_it(self, idle: Client) -> None:
        first = idle.submit("true")
        second = idle.submit("true", after=[first])
        first.delete()
        assert second.refresh().state is FAILED


class TestTimes:
    def test_a_job_does_not_start_before_its_time(self, shared_client: Client) -> None:
        job = shared_client.submit("true", start_in=1.0)
        info = job.wait(30)
        assert info.state is FINISHED
        assert (info.started_at - info.created_at).total_seconds() >= 1.0  # type: ignore[operator]

    def test_a_job_that_never_starts_expires(self, service: Service, client: Client) -> None:
        blocker = started(client.submit("sleep 60", cores=2))
        job = client.submit("true", expires_in=0.5)
        info = job.wait(30)
        assert (info.state, info.reason) == (FAILED, "it had not started by its expiry")
        assert blocker.cancel(confirm=10).confirmed


class TestQueues:
    @pytest.fixture
    def admin(self, service: Service) -> Iterator[Client]:
        with service.client(service.make_token("operator", scope="admin").token) as client:
            yield client

    def test_a_paused_queue_holds_its_jobs_back(self, client: Client, admin: Client) -> None:
        admin.pause_queue("slow", reason="maintenance")
        held, free = client.submit("true", queue="slow"), client.submit("true")
        assert free.wait(30).state is FINISHED
        [slow] = [queue for queue in client.queues() if queue.name == "slow"]
        assert (slow.paused, slow.reason, slow.counts) == (True, "maintenance", {QUEUED: 1})
        assert held.refresh().state is QUEUED
        admin.resume_queue("slow")
        assert held.wait(30).state is FINISHED

    def test_a_queue_runs_no_more_jobs_at_once_than_it_may(self, client: Client, admin: Client, tmp_path: Path) -> None:
        admin.set_queue("narrow", max_running=1)
        count = f"echo + >> {tmp_path}/log; sleep 0.1; echo - >> {tmp_path}/log"
        array = client.submit_array(count, array=8, queue="narrow")
        array.wait(60)
        assert array.counts == {FINISHED: 8}
        assert (tmp_path / "log").read_text() == "+\n-\n" * 8

    def test_the_best_job_is_next(self, client: Client, admin: Client, tmp_path: Path) -> None:
        admin.set_queue("narrow", max_running=1)
        first = client.submit("sleep 0.5", queue="narrow")
        started(first)
        jobs = [
            client.submit(f"echo {priority} >> {tmp_path}/log", queue="narrow", priority=priority)
            for priority in (1, 3, 2)
        ]
        client.wait(jobs, 60)
        assert (tmp_path / "log").read_text() == "3\n2\n1\n"

    def test_a_queue_limits_the_walltime(self, client: Client, admin: Client) -> None:
        """A job that asks for more is refused, one that asks for nothing is stopped in time."""
        admin.set_queue("short", max_walltime=1)
        with pytest.raises(InvalidRequest, match="lets its jobs run for 1 s"):
            client.submit("true", queue="short", walltime="1h")
        job = client.submit("sleep 60", queue="short", grace=0)
        assert job.wait(30).reason == "its walltime was over"
        assert admin.set_queue("short", max_walltime=None).max_walltime is None

    def test_only_an_administrator_sets_queues(self, client: Client, service: Service) -> None:
        with service.client(service.make_token("user").token) as user, pytest.raises(PermissionDenied):
            user.pause_queue("default")
        with pytest.raises(InvalidSpec, match="max_running"):
            client.set_queue("x", max_running=0)


class TestHistory:
    def test_every_change_of_state_is_written_down(self, shared_client: Client) -> None:
        job = shared_client.submit("test $HPCJOBS_ATTEMPT = 2", max_attempts=2)
        job.wait()
        history = job.history()
        assert [(str(change.state), change.attempt) for change in history.changes] == [
            ("QUEUED", 0), ("RUNNING", 1), ("QUEUED", 1), ("RUNNING", 2), ("FINISHED", 2),
        ]  # fmt: skip
        assert history.changes[0].actor == job.info.owner
        assert history.changes[2].reason == "exit code 1"
        assert [attempt.state for attempt in history.attempts] == [FAILED, FINISHED]
        assert history.queue_time is not None
        assert history.run_time is not None

    def test_what_each_attempt_used(self, shared_client: Client) -> None:
        """Processor time and memory of all of its processes."""
        work = "x = bytearray(100_000_000); import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
        job = shared_client.submit(["python3", "-c", work])
        job.wait()
        [attempt] = job.history().attempts
        assert attempt.cpu_seconds is not None
        assert attempt.peak_memory is not None
        assert attempt.cpu_seconds >= 0.3
        assert attempt.peak_memory >= 100_000_000
        assert attempt.run_time is not None
        assert attempt.host

    def test_a_label_is_no_change_of_state(self, idle: Client) -> None:
        job = idle.submit("true")
        job.update(tags=["x"])
        job.cancel(reason="no")
        assert [(str(change.state), change.reason) for change in job.history().changes] == [
            ("QUEUED", None), ("CANCELLED", "no"),
        ]  # fmt: skip


def test_old_jobs_are_forgotten_where_an_operator_says_so(service_factory: Callable[..., Service]) -> None:
    """The records, the files and the inputs that no job has any more."""
    service = service_factory(keep=1.0)
    with service.client() as client:
        job = client.submit("true")
        job.wait()
        folder = service.settings.data / "jobs" / job.id
        time.sleep(1.2)  # there is nothing to wait for but the time itself
        client.submit("true").wait()
        client.submit("true", start_in="1h").delete()  # wakes the janitor
        until(lambda: not folder.exists(), timeout=15, what="the removal")
        with pytest.raises(JobNotFound):
            job.refresh()


def test_many_jobs_are_watched_as_one(shared_client: Client) -> None:
    """Each job is handed out at once, and at the last as it ended."""
    array = shared_client.submit_array("sleep 0.1; exit {index}", array=3)
    last = {info.id: info.state for info in shared_client.watch([*array])}
    assert [last[job.id] for job in array] == [FINISHED, FAILED, FAILED]
    assert array.counts == {FINISHED: 1, FAILED: 2}


def test_why_a_job_has_not_started_is_said(idle: Client, service_factory: Callable[..., Service]) -> None:
    """It waits for others, for its time, or for its queue."""
    first = idle.submit("true")
    assert idle.job(idle.submit("true", after=[first]).id).reason == "it waits for 1 job"
    assert str(idle.job(idle.submit("true", start_in="1h").id).reason).startswith("it is to start at ")
    operator = idle  # the only token of this service is its owner's, who may set queues
    operator.pause_queue("held", reason="maintenance")
    assert idle.job(idle.submit("true", queue="held").id).reason == "the queue 'held' is paused: maintenance"


def test_five_thousand_waiting_jobs_cost_no_more_requests_than_one(service_factory: Callable[..., Service]) -> None:
    """Everyone who waits shares one look and one stream, however many jobs are waited for."""

    def asked(number: int) -> int:
        service = service_factory(workers=0)
        with service.client() as client:
            array = client.submit_array("true", array=number)
            with pytest.raises(WaitTimeout):
                client.wait([*array], 3.0)
            before = requests(service)
            assert outcomes(array.cancel()) == {"CANCELLED": number}
            assert len(array.wait(30)) == number
            return before

    def requests(service: Service) -> int:
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("hpcjobs_http_requests_total{")))

    assert asked(5_000) <= asked(1) + 1  # a look more or less is a matter of the moment
