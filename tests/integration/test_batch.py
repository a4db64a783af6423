"""Jobs on AWS Batch, in both colours: on moto's server, with jobs that really run."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcjobs import operations
from hpcjobs.actions import RetryOutcome
from hpcjobs.errors import (
    AuthenticationError,
    CancelTimeout,
    Conflict,
    InvalidSpec,
    JobNotFound,
    JobVanished,
    RateLimited,
    SubmissionUnknown,
    Unsupported,
)
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobInfo, JobSpec
from hpcjobs.services import find_service
from hpcjobs.services.batch import BatchService
from hpcjobs.transport import AsyncDriver, Driver
from tests import moto_batch
from tests.moto_batch import MotoBatch
from tests.running import run_async, until

Drive = Callable[[Any], Any]

AT_HOLD = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest, service: BatchService) -> Iterator[Drive]:
    """Runs an operation to its end, in one colour and in the other."""
    if request.param == "sync":
        driver = Driver(service)
        yield driver.run
        driver.close()
        return

    def run(op: Any) -> Any:
        async def main() -> Any:
            driver = AsyncDriver(service)
            try:
                return await driver.run(op)
            finally:
                await driver.aclose()

        return run_async(main)

    yield run


@pytest.fixture
def service(batch: MotoBatch, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchService]:
    """The service at the shared server; what a test leaves running is ended."""
    monkeypatch.setattr("hpcjobs.services.batch.STRAGGLERS", 0.3)  # lines are not long under way here
    batch.requests()
    found = find_service(batch.address())
    assert isinstance(found, BatchService)
    yield found
    driver = Driver(found)
    driver.run(operations.cancel_many(found, JobFilter(state=["active"]), reason="the test has ended"))
    driver.close()
    until(lambda: not batch.processes(), what="the end of the test's jobs")


@pytest.fixture
def submit(drive: Drive, service: BatchService) -> Callable[..., JobInfo]:
    def make(command: str | list[str] = "sleep 600", *, tags: dict[str, str] | None = None, **fields: Any) -> JobInfo:
        options = {**fields.pop("options", {}), **({"tags": tags} if tags else {})}
        info: JobInfo = drive(
            operations.submit_once(service, JobSpec.parse({"command": command, "options": options, **fields}))
        )
        return info

    return make


@pytest.fixture
def wait(drive: Drive, service: BatchService) -> Callable[..., JobInfo]:
    """Looks at a job until it is as it is wanted: ended, unless something else is said."""

    def look(job_id: str, wanted: Callable[[JobInfo], Any] = lambda info: info.terminal) -> JobInfo:
        def ask() -> JobInfo | None:
            info: JobInfo = drive(service.get(job_id))
            return info if wanted(info) else None

        found = until(ask, what=f"what is wanted of {job_id}")
        assert found is not None
        return found

    return look


def native(word: str) -> Callable[[JobInfo], bool]:
    return lambda info: info.native_state == word


# The way of a job


def test_a_job_that_ends_well(submit: Any, wait: Any, drive: Drive, service: BatchService) -> None:
    """Its environment, its name, its tags and its meta come back, whatever is in them."""
    job = submit(
        "echo $GREETING; exit 0",
        name="größe (7) «fit»",
        tags={"Project": "quake"},
        env={"GREETING": "good day"},
        meta={"study": [1, None, "ü"]},
        queue="queue",
    )
    assert job.state is JobState.PENDING
    info = wait(job.id)
    assert (info.state, info.native_state, info.exit_code, info.reason) == (JobState.FINISHED, "SUCCEEDED", 0, None)
    assert (info.name, info.tags, info.meta) == ("größe (7) «fit»", ["Project=quake"], {"study": [1, None, "ü"]})
    assert (info.queue, info.attempt, info.cancel_requested) == ("queue", 1, False)
    assert info.created_at <= info.started_at <= info.finished_at
    assert drive(operations.read_log(service, job.id)) == "good day\n"


def test_a_job_that_fails_says_how(submit: Any, wait: Any) -> None:
    info = wait(submit(["sh", "-c", "exit 3"]).id)
    assert (info.state, info.exit_code, info.reason) == (JobState.FAILED, 3, "exit code 3")


def test_a_job_that_cannot_start_says_why(submit: Any, wait: Any) -> None:
    info = wait(submit(["no-such-program"]).id)
    assert (info.state, info.exit_code) == (JobState.FAILED, None)
    assert info.reason.startswith("its container could not be started (CannotStartContainerError")


def test_a_job_whose_time_is_over_has_failed_and_is_gone(submit: Any, wait: Any, batch: MotoBatch) -> None:
    info = wait(submit("sleep 600", walltime="2m", tags={"test:timeout": "0.3"}).id)
    assert (info.state, info.exit_code) == (JobState.FAILED, 143)
    assert info.reason == "its walltime was over (Job attempt duration exceeded timeout)"
    assert not batch.processes()


def test_out_of_memory_is_told_in_words(submit: Any, wait: Any) -> None:
    said = "OutOfMemoryError: Container killed due to memory usage"
    info = wait(submit("exit 137", tags={"test:reason": said}).id)
    assert info.reason == f"out of memory ({said})"


def test_attempts_end_where_the_exit_code_is_not_worth_one(submit: Any, wait: Any) -> None:
    count = 'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; echo "attempt $n"; '
    info = wait(submit(f"{count} exit $((75 - n))", max_attempts=5, retry_on=[75, 74], name="again").id)
    assert (info.state, info.exit_code, info.attempt, info.max_attempts) == (JobState.FAILED, 73, 3, 5)


def test_an_app_is_a_job_definition_and_its_arguments_are_parameters(
    drive: Drive, service: BatchService, wait: Any
) -> None:
    for version in (None, "1"):
        spec = JobSpec(app=moto_batch.APP, app_version=version, args={"name": "Ada"})
        job = drive(operations.submit_once(service, spec))
        assert wait(job.id).state is JobState.FINISHED
        assert drive(operations.read_log(service, job.id)) == "hello Ada\n"
    with pytest.raises(InvalidSpec, match="over: the jobs of an array of an app"):
        drive(operations.submit_array(service, _order(app=moto_batch.APP, over=[1, 2])))


def test_why_a_job_waits_is_shown_and_not_acted_upon(submit: Any, wait: Any, batch: MotoBatch) -> None:
    job = submit("true", tags={"test:hold": "RUNNABLE"})
    info = wait(job.id, native("RUNNABLE"))
    assert (info.state, info.cancel_requested) == (JobState.QUEUED, False)
    batch.go(job.id)
    assert wait(job.id).state is JobState.FINISHED


# Cancelling


@pytest.mark.parametrize("abort", [True, False])
@pytest.mark.parametrize("state", AT_HOLD)
def test_a_job_is_cancelled_in_each_state(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch, state: str, abort: bool
) -> None:
    """Before it has started it is CANCELLED, with the reason; one that starts is left alone where that is wanted."""
    job = submit("sleep 600", tags={"test:hold": state})
    wait(job.id, native(state))
    if state == "STARTING" and not abort:
        result = drive(operations.cancel(service, job.id, reason="wrong damping", abort=False))
        assert result.outcome is CancelOutcome.LEFT_RUNNING
        assert not wait(job.id, native("STARTING")).cancel_requested
        batch.go(job.id)
        assert wait(job.id, native("RUNNING")).cancel_reason is None
        return
    result = drive(operations.cancel(service, job.id, reason="wrong damping", abort=abort, confirm=30))
    assert (result.outcome, result.reason_kept) == (CancelOutcome.CANCELLED, True)
    info = wait(job.id)
    assert (info.state, info.native_state) == (JobState.CANCELLED, "FAILED")
    assert info.reason == info.cancel_reason == "wrong damping"
    assert info.started_at is None


def test_a_job_that_runs_is_stopped_with_everything_that_it_started(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    """Asked is not stopped: it ignores SIGTERM for a while."""
    job = submit("trap 'echo asked' TERM; sleep 600 & echo ready; while :; do wait; done")
    wait(job.id, native("RUNNING"))
    until(lambda: drive(operations.read_log(service, job.id)) == "ready\n")
    [first, *others] = batch.processes()
    assert others
    result = drive(operations.cancel(service, job.id, reason="enough"))
    assert (result.outcome, result.after) == (CancelOutcome.CANCEL_REQUESTED, JobState.RUNNING)
    info = drive(service.get(job.id))
    assert (info.label, info.cancel_reason) == ("cancelling", "enough")
    with pytest.raises(CancelTimeout):
        drive(operations.cancel(service, job.id, confirm=0))
    info = wait(job.id)
    assert (info.state, info.exit_code, info.reason) == (JobState.CANCELLED, 137, "enough")
    assert not any(map(psutil.pid_exists, [first, *others]))


def test_a_job_that_runs_is_left_alone_where_that_is_wanted(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    job = submit()
    wait(job.id, native("RUNNING"))
    result = drive(operations.cancel(service, job.id, reason="no hurry", abort=False))
    assert (result.outcome, result.after) == (CancelOutcome.LEFT_RUNNING, JobState.RUNNING)
    info = drive(service.get(job.id))
    assert (info.label, info.cancel_requested) == ("RUNNING", False)
    assert batch.processes()


def test_a_job_that_has_ended_is_sent_nothing(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    done = wait(submit("true").id)
    batch.requests()
    for _ in range(2):
        assert drive(operations.cancel(service, done.id)).outcome is CancelOutcome.ALREADY_TERMINAL
    assert not any("terminate" in one or "cancel" in one for one in batch.requests())
    assert drive(service.get(done.id)).state is JobState.FINISHED


def test_a_cancel_without_a_reason_says_who(submit: Any, wait: Any, drive: Drive, service: BatchService) -> None:
    job = submit(tags={"test:hold": "RUNNABLE"})
    drive(operations.cancel(service, job.id, confirm=30))
    info = wait(job.id)
    assert info.cancel_reason is None
    assert info.reason.startswith("cancelled by ")


def test_the_longest_reason_is_kept_whole(submit: Any, wait: Any, drive: Drive, service: BatchService) -> None:
    job = submit(tags={"test:hold": "RUNNABLE"})
    drive(operations.cancel(service, job.id, reason="ä" * 1024, confirm=30))
    assert wait(job.id).reason == "ä" * 1024


def test_a_cancel_by_others_is_a_cancel(submit: Any, wait: Any, batch: MotoBatch) -> None:
    job = submit()
    wait(job.id, native("RUNNING"))
    batch.boto().terminate_job(jobId=job.id, reason="from the console")
    info = wait(job.id)
    assert (info.state, info.reason, info.cancel_reason) == (JobState.CANCELLED, "from the console", "from the console")


def test_a_job_that_waits_for_another_one_says_when_its_cancel_acts(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    first = submit("true", tags={"test:hold": "RUNNABLE"})
    second = submit("true", after=[first.id])
    wait(second.id, native("PENDING"))
    result = drive(operations.cancel(service, second.id, reason="not now"))
    assert (result.outcome, result.after) == (CancelOutcome.CANCEL_REQUESTED, JobState.PENDING)
    info = drive(service.get(second.id))
    assert info.cancel_requested
    assert first.id in info.reason
    batch.go(first.id)
    assert wait(second.id).state is JobState.CANCELLED
    assert wait(first.id).state is JobState.FINISHED


@pytest.mark.parametrize("bulk", [True, False])
def test_many_are_cancelled_each_with_an_outcome(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch, bulk: bool
) -> None:
    """By one request where the endpoint has it, else one by one, which is remembered."""
    done = wait(submit("true").id)
    jobs = [submit(tags={"test:hold": "RUNNABLE"}) for _ in range(3)]
    unknown = "00000000-0000-0000-0000-000000000000"
    ids = [jobs[0].id, unknown, done.id, "no id!", jobs[1].id]
    faults = [] if bulk else [{"path": "/v1/terminatejobs", "how": 404}]
    batch.requests()
    with batch.faults(*faults):
        results = drive(operations.cancel_many(service, ids, reason="many", confirm=30))
    assert [result.job_id for result in results] == ids
    assert [result.outcome.name for result in results] == [
        "CANCELLED", "NOT_FOUND", "ALREADY_TERMINAL", "NOT_FOUND", "CANCELLED"
    ]  # fmt: skip
    sent = [one for one in batch.requests() if "terminate" in one]
    assert sent == (["POST /v1/terminatejobs"] if bulk else ["POST /v1/terminatejobs", *["POST /v1/terminatejob"] * 2])
    assert not drive(service.get(jobs[2].id)).terminal
    if not bulk:
        drive(operations.cancel_many(service, [jobs[2].id, done.id, jobs[0].id]))
        assert "POST /v1/terminatejobs" not in batch.requests()


def test_a_filter_means_what_was_submitted_from_here(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    """The queue is shared: what others have submitted is listed, and not cancelled by the way."""
    mine = submit(tags={"test:hold": "RUNNABLE", "sweep": ""})
    other = batch.boto().submit_job(
        jobName="nightly",
        jobQueue="queue",
        jobDefinition="commands",
        tags={"test:hold": "RUNNABLE"},
    )["jobId"]
    assert wait(other, native("RUNNABLE")).name == "nightly"
    results = drive(operations.cancel_many(service, JobFilter(state=["active"]), confirm=30))
    assert [result.job_id for result in results] == [mine.id]
    assert drive(operations.cancel(service, other, confirm=30)).outcome is CancelOutcome.CANCELLED


def test_what_batch_cannot_do_is_told_with_advice(submit: Any, drive: Drive, service: BatchService) -> None:
    job = submit(tags={"test:hold": "RUNNABLE"})
    with pytest.raises(Unsupported, match="leave it"):
        drive(operations.cancel(service, job.id, delete=True))
    for action in (operations.delete, functools.partial(operations.update, changes={"priority": 1})):
        with pytest.raises(Unsupported, match=r"AWS Batch cannot .*; "):
            drive(action(service, job.id))
    with pytest.raises(Unsupported, match="put them where the job can reach them"):
        drive(operations.submit_once(service, JobSpec(command="true"), inputs=[__file__]))
    for ask in (service.files, service.history):
        with pytest.raises(Unsupported, match="; "):
            drive(ask(job.id))


# Submitting once


@pytest.mark.parametrize("how", ["lost", "failed"])
def test_a_lost_answer_makes_exactly_one_job(
    drive: Drive, service: BatchService, batch: MotoBatch, how: str, wait: Any
) -> None:
    """The job is found by its name, also where it is shown late; a request that was not heard is not repeated."""
    name = f"once-{time.time_ns()}"
    spec = JobSpec.parse({"command": "true", "name": name, "options": {"tags": {"test:hidden": "1.5"}}})
    with batch.faults({"path": "/v1/submitjob", "how": how}):
        job = drive(operations.submit_once(service, spec))
    assert wait(job.id).state is JobState.FINISHED
    assert [info.name for info in drive(_listed(service, JobFilter(name=name)))] == [name]
    assert batch.requests().count("POST /v1/submitjob") == 1


def test_a_job_that_is_not_found_is_not_guessed(drive: Drive, batch: MotoBatch, service: BatchService) -> None:
    service.capabilities = service.capabilities.model_copy(update={"find_within": 1.0})
    name = f"never-{time.time_ns()}"
    with batch.faults({"path": "/v1/submitjob", "how": "refused"}), pytest.raises(SubmissionUnknown) as caught:
        drive(operations.submit_once(service, JobSpec(command="true", name=name)))
    assert not drive(_listed(service, JobFilter(name=name)))
    job = drive(operations.submit_once(service, JobSpec(command="true", name=name), key=caught.value.key))
    assert [info.id for info in drive(_listed(service, JobFilter(name=name)))] == [job.id]


@pytest.mark.parametrize("queue", ["default", "other"])
def test_the_same_key_is_the_same_job_in_every_queue(drive: Drive, batch: MotoBatch, queue: str) -> None:
    service = find_service(batch.address())
    key = f"key {time.time_ns()}"
    spec = JobSpec(command="true", queue=queue, name="one")
    job = drive(operations.submit_once(service, spec, key=key))
    assert drive(operations.submit_once(find_service(batch.address()), spec, key=key)).id == job.id
    with pytest.raises(Conflict, match="another one"):
        drive(operations.submit_once(service, JobSpec(command="false", queue=queue, name="one"), key=key))


def test_throttling_is_heeded(drive: Drive, service: BatchService, batch: MotoBatch, submit: Any, wait: Any) -> None:
    """429 with Retry-After is waited for, also when a job is submitted: nothing was done."""
    busy = {"how": 429, "headers": {"Retry-After": "0.2", "x-amzn-errortype": "TooManyRequestsException"}}
    with batch.faults({"path": "/v1/submitjob", **busy}, {"path": "/v1/describejobs", **busy, "times": 2}):
        job = submit("true")
        assert wait(job.id).state is JobState.FINISHED
    assert batch.requests().count("POST /v1/submitjob") == 2
    with batch.faults({"path": "/v1/describejobs", **busy, "times": 100}), pytest.raises(RateLimited):
        drive(service.get(job.id))


# Looking


def test_a_job_that_is_not_shown_yet_is_no_unknown_one(
    submit: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    job = submit("true", tags={"test:hidden": "1"})
    info = drive(service.get(job.id))
    assert (info.state, info.reason) == (JobState.PENDING, "accepted, and not shown yet")
    stranger = find_service(batch.address())
    with pytest.raises(JobNotFound, match="seven days"):
        drive(stranger.get(job.id))
    until(lambda: drive(service.get(job.id)).terminal)


def test_more_jobs_than_one_look_takes(drive: Drive, service: BatchService, batch: MotoBatch, submit: Any) -> None:
    job = submit("true")
    ids = [f"{number:08d}-0000-0000-0000-000000000000" for number in range(250)]
    batch.requests()
    answer = drive(service.get_many([*ids, job.id, "no id!"]))
    assert [info.id for info in answer.items] == [job.id]
    assert answer.missing == [*ids, "no id!"]
    assert batch.requests().count("POST /v1/describejobs") == 3


def test_jobs_are_listed_newest_first_in_every_state(
    submit: Any, wait: Any, drive: Drive, service: BatchService
) -> None:
    name = f"list-{time.time_ns()}"
    waiting = submit("true", name=f"{name}-w", tags={"test:hold": "RUNNABLE", "color": "red"})
    failed = wait(submit("exit 1", name=f"{name}-f").id)
    done = wait(submit("true", name=f"{name}-d").id)
    runs = submit(name=f"{name}-r", tags={"color": "red"})
    begun = drive(service.get(waiting.id)).created_at
    wait(runs.id, native("RUNNING"))

    def ids(page_size: int = 100, **conditions: Any) -> list[str]:
        return [info.id for info in drive(_listed(service, JobFilter.parse(conditions), page_size=page_size))]

    everything = [runs.id, done.id, failed.id, waiting.id]
    for page_size in (1, 3, 100):
        assert ids(name=f"{name}*", page_size=page_size) == everything
        assert ids(name=f"{name}*", state="active", page_size=page_size) == [runs.id, waiting.id]
        assert ids(created_after=begun, page_size=page_size) == everything
    assert ids(name=f"{name}*", state=["FAILED", "FINISHED"]) == [done.id, failed.id]
    assert ids(created_after=begun, tag="color=red") == [runs.id, waiting.id]
    assert ids(created_before=failed.created_at, name=f"{name}*") == [waiting.id]
    assert ids(created_after=failed.created_at, created_before=runs.created_at or done.finished_at)[-1] == failed.id
    assert ids(name=f"{name}*", state="ARCHIVING") == []
    assert ids(queue="other", name=f"{name}*") == []
    with pytest.raises(InvalidSpec, match="cursor"):
        drive(service.page(JobFilter(), limit=3, cursor="alive/x"))


def test_a_job_that_is_forgotten_ends_the_wait(batch: MotoBatch, service: BatchService) -> None:
    """After a time of grace, with what was last known: how it ended is never guessed."""
    service.capabilities = service.capabilities.model_copy(update={"vanish_grace": 0.2})
    with batch.client() as client:
        client._session.service = service
        with pytest.raises(JobNotFound, match="seven days"):
            client.job("00000000-0000-0000-0000-000000000000")
        job = client.submit("sleep 600")
        until(lambda: job.refresh().state is JobState.RUNNING)
        with batch.forgotten(job.id), pytest.raises(JobVanished, match="last seen RUNNING"):
            job.wait(timeout=60)


# Running again


def test_a_job_that_has_ended_runs_again_as_a_new_one(
    submit: Any, wait: Any, drive: Drive, service: BatchService
) -> None:
    job = submit("echo $A", env={"A": "b"}, tags={"color": "red"}, name="twice", walltime="1h", cores=2)
    before = wait(job.id)
    result = drive(operations.retry(service, job.id))
    assert result.outcome is RetryOutcome.RETRIED
    again = wait(result.new_id)
    assert again.id != job.id
    assert (again.name, again.tags, again.state) == (before.name, before.tags, JobState.FINISHED)
    assert again.spec["timeout"] == before.spec["timeout"]
    assert again.spec["container"]["resourceRequirements"] == [{"type": "VCPU", "value": "2"}]
    assert drive(operations.read_log(service, again.id)) == "b\n"


def test_a_lost_answer_to_run_again_makes_one_job(
    submit: Any, wait: Any, drive: Drive, service: BatchService, batch: MotoBatch
) -> None:
    name = f"again-{time.time_ns()}"
    job = submit("true", name=name)
    wait(job.id)
    with batch.faults({"path": "/v1/submitjob", "how": "lost"}):
        result = drive(operations.retry(service, job.id))
    assert [info.id for info in drive(_listed(service, JobFilter(name=name)))] == [result.new_id, job.id]


def test_a_job_that_goes_on_does_not_run_again(submit: Any, drive: Drive, service: BatchService) -> None:
    job = submit(tags={"test:hold": "RUNNABLE"})
    [result, unknown] = drive(operations.retry_many(service, [job.id, "no id!"]))
    assert (result.outcome, unknown.outcome) == (RetryOutcome.STILL_RUNNING, RetryOutcome.NOT_FOUND)


# Arrays and order


def _order(**fields: Any) -> Any:
    from hpcjobs.arrays import ArrayOrder

    over, size = fields.pop("over", None), fields.pop("size", None)
    options = {name: value for name, value in (("over", over), ("size", size)) if value is not None}
    return ArrayOrder.parse({"spec": JobSpec.parse(fields), **options})


def _listed(service: Any, wanted: JobFilter, *, page_size: int = 100) -> Any:
    infos: list[JobInfo] = []
    cursor = None
    while True:
        page = yield from service.page(wanted, limit=page_size, cursor=cursor)
        infos += page.items
        if page.next is None:
            return infos
        cursor = page.next


def test_an_array_runs_each_item(drive: Drive, service: BatchService, wait: Any) -> None:
    """With the places of the command filled, whatever is in the items, and the index and the item in variables."""
    items = [{"d": 0.02, "who": "it's $HOME"}, {"d": 0.05, "who": ""}, {"d": 0.05, "who": "b"}]
    command = "echo {d} {who} {index} $HPCJOBS_ARRAY_INDEX/$HPCJOBS_ARRAY_SIZE; printenv HPCJOBS_ITEM; exit {index}"
    info, jobs = drive(operations.submit_array(service, _order(command=command, over=items, name="sweep")))
    assert (info.size, info.name, [job.id for job in jobs]) == (3, "sweep", [f"{info.id}:{n}" for n in range(3)])
    ended = [wait(job.id) for job in jobs]
    assert [one.exit_code for one in ended] == [0, 1, 2]
    assert [one.item for one in ended] == items
    assert [(one.array_id, one.array_index, one.name) for one in ended] == [
        (info.id, number, f"sweep[{number}]") for number in range(3)
    ]
    logs = [drive(operations.read_log(service, job.id)) for job in jobs]
    assert logs[0] == "0.02 it's $HOME 0 0/3\n" + '{"d": 0.02, "who": "it\'s $HOME"}\n'
    assert logs[1].startswith("0.05  1 1/3\n")
    now = drive(service.array(info.id))
    assert now.counts == {JobState.FINISHED: 1, JobState.FAILED: 2}
    assert now.progress.fraction == 1.0
    whole = drive(service.get(info.id))
    assert (whole.state, whole.reason) == (JobState.FAILED, "2 of its 3 jobs did not end well")
    found, again = drive(operations.look_at_array(service, info.id))
    assert (found.id, [one.id for one in again]) == (info.id, [job.id for job in jobs])


def test_an_array_of_programs_and_numbers(drive: Drive, service: BatchService, wait: Any) -> None:
    _, jobs = drive(operations.submit_array(service, _order(command=["printf", "%s|", "n{index}", "", "a b"], size=2)))
    assert wait(jobs[1].id).state is JobState.FINISHED
    assert drive(operations.read_log(service, jobs[1].id)) == "n1||a b|\n"


def test_an_array_is_cancelled_by_one_request(drive: Drive, service: BatchService, wait: Any, batch: MotoBatch) -> None:
    options = {"tags": {"test:hold": "RUNNABLE"}}
    info, jobs = drive(operations.submit_array(service, _order(command="sleep 600", size=3, options=options)))
    for job in jobs:
        wait(job.id, native("RUNNABLE"))
    batch.go(jobs[0].id)
    wait(jobs[0].id, native("RUNNING"))
    assert drive(service.array(info.id)).counts == {JobState.QUEUED: 2, JobState.RUNNING: 1}
    assert drive(service.get(info.id)).state is JobState.RUNNING
    batch.requests()
    results = drive(operations.cancel_many(service, JobFilter(array=info.id), reason="all", confirm=30))
    assert [(result.job_id, result.outcome.name) for result in results] == [(job.id, "CANCELLED") for job in jobs]
    assert [one for one in batch.requests() if "terminate" in one] == ["POST /v1/terminatejob"]
    assert wait(info.id).state is JobState.CANCELLED
    assert not batch.processes()


def test_one_job_of_an_array_is_cancelled_and_run_again(
    drive: Drive, service: BatchService, wait: Any, batch: MotoBatch
) -> None:
    options = {"tags": {"test:hold": "RUNNABLE"}}
    _, jobs = drive(
        operations.submit_array(service, _order(command="echo {x}", over=[{"x": 1}, {"x": 2}], options=options))
    )
    assert drive(operations.cancel(service, jobs[1].id, confirm=30)).outcome is CancelOutcome.CANCELLED
    batch.go(jobs[0].id)
    assert wait(jobs[0].id).state is JobState.FINISHED
    result = drive(operations.retry(service, jobs[1].id))
    batch.go(result.new_id)
    assert wait(result.new_id).state is JobState.FINISHED
    assert drive(operations.read_log(service, result.new_id)) == "2\n"


def test_a_lost_answer_makes_one_array(drive: Drive, service: BatchService, batch: MotoBatch, wait: Any) -> None:
    order = _order(command="true", size=2, name=f"array-{time.time_ns()}")
    key = f"key-{time.time_ns()}"
    with batch.faults({"path": "/v1/submitjob", "how": "lost"}):
        info, _ = drive(operations.submit_array(service, order, key=key))
    again, jobs = drive(operations.submit_array(service, order, key=key))
    assert (again.id, len(jobs)) == (info.id, 2)
    assert [one.id for one in drive(_listed(service, JobFilter(name=order.spec.name)))] == [info.id]
    with pytest.raises(Conflict):
        drive(operations.submit_array(service, _order(command="false", size=2), key=key))


def test_a_job_runs_after_others(drive: Drive, service: BatchService, submit: Any, wait: Any) -> None:
    good = submit("true")
    bad = submit("false")
    info, _ = drive(operations.submit_array(service, _order(command="true", size=2)))
    assert wait(submit("true", after=[good.id, info.id]).id).state is JobState.FINISHED
    failed = wait(submit("true", after=[good.id, bad.id]).id)
    assert (failed.state, failed.started_at) == (JobState.FAILED, None)
    assert failed.reason == "a job that it depends on did not end well (Dependent Job failed)"
    with pytest.raises(Unsupported, match="wait for the other job"):
        submit("true", after=[(good.id, "any")])


# Logs


def test_a_log_is_followed_without_a_lost_or_doubled_byte(
    drive: Drive, service: BatchService, submit: Any, wait: Any
) -> None:
    """Also from the middle, and by a reader who knows nothing of the log yet."""
    job = submit("for i in $(seq 200); do echo line $i; [ $((i % 50)) = 0 ] && sleep 0.2; done; printf end")
    expected = "".join(f"line {number}\n" for number in range(1, 201)) + "end\n"
    assert b"".join(_followed(service, job.id)).decode() == expected
    assert b"".join(_followed(service, job.id, offset=1000)).decode() == expected[1000:]
    assert drive(operations.read_log(service, job.id, tail=2)) == "line 200\nend\n"
    stranger = find_service(service_address(service))
    chunk = drive(stranger.log_tail(job.id, "stdout", size=10))
    assert (chunk.data, chunk.offset, chunk.total) == (expected.encode()[-10:], len(expected) - 10, len(expected))
    assert drive(stranger.log(job.id, "stdout", offset=5, length=7)).data == expected.encode()[5:12]


def service_address(service: BatchService) -> str:
    return f"batch://{service.region}/queue?endpoint={service.base_url}&logs_endpoint={service.other_urls[0]}"


def _followed(service: BatchService, job_id: str, offset: int = 0) -> list[bytes]:
    driver = Driver(service)
    try:
        return list(driver.iterate(operations.follow_log(service, job_id, offset=offset)))
    finally:
        driver.close()


def test_a_job_without_a_log_has_an_empty_one(drive: Drive, service: BatchService, submit: Any, wait: Any) -> None:
    job = submit("true", tags={"test:hold": "RUNNABLE"})
    assert drive(operations.read_log(service, job.id)) == ""
    quiet = wait(submit("true").id)
    assert drive(operations.read_log(service, quiet.id)) == drive(operations.read_log(service, quiet.id, tail=5)) == ""
    assert drive(operations.read_log(service, quiet.id, stream="stderr")) == ""


# Clients


def test_a_client_waits_and_tells_the_result(batch: MotoBatch, service: BatchService) -> None:
    with batch.client() as client:
        job = client.submit("echo fine; exit 3", name="bad")
        with pytest.raises(Exception, match="exit code 3\nThe log ends:\nfine"):
            job.result(timeout=60)
        sweep = client.submit_array("exit {x}", over=[{"x": 0}, {"x": 1}])
        assert [info.exit_code for info in sweep.wait(timeout=60)] == [0, 1]
        assert [job.array_index for job in (one.info for one in sweep.failed)] == [1]
        assert sweep.refresh().counts == {JobState.FINISHED: 1, JobState.FAILED: 1}
        with pytest.raises(Unsupported, match="submit a command"):
            client.submit(sorted, [2, 1])


def test_an_async_client_waits_and_cancels(batch: MotoBatch, service: BatchService) -> None:
    async def main() -> None:
        async with batch.async_client() as client:
            job = await client.submit("sleep 600")
            waiting = asyncio.ensure_future(job.wait(timeout=60))
            await asyncio.sleep(0)
            result = await job.cancel(reason="enough", confirm=30)
            assert result.confirmed
            assert (await waiting).state is JobState.CANCELLED
            assert [found.id async for found in client.jobs(limit=1)] == [job.id]

    run_async(main)


# Who asks


def test_a_real_signature_is_taken_and_a_wrong_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that checks signatures: the body, the host, the session, both services."""
    import httpx

    with moto_batch.running(tmp_path / "batch") as server:
        for name, text in server.environ.items():
            monkeypatch.setenv(name, text)
        iam = server.boto("iam")
        iam.create_user(UserName="me")
        rules = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="me", PolicyName="all", PolicyDocument=rules)
        key = iam.create_access_key(UserName="me")["AccessKey"]
        httpx.post(
            f"{server.url}/moto-api/reset-auth",
            content="0",
            headers={"Content-Type": "text/plain"},
            trust_env=False,
        ).raise_for_status()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        with server.client() as client:
            job = client.submit("echo ü", name="ü", meta={"a": "ü"})
            assert job.wait(timeout=60).state is JobState.FINISHED
            assert job.logs() == "ü\n"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with server.client() as client, pytest.raises(AuthenticationError, match="aws configure list"):
            client.job(job.id)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
        with server.client() as client, pytest.raises(AuthenticationError, match="does not know the access key"):
            client.job(job.id)
