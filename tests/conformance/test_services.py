"""What every service keeps, in both colours: the contract.

What a service cannot do is not left out: it says ``Unsupported``, and what to do instead.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcjobs import InvalidSpec, JobNotFound, JobState, JobVanished, Unsupported
from hpcjobs.models import CancelOutcome, Capabilities
from tests.conformance.places import Place, Spec
from tests.running import until

TIMEOUT = 90.0
"""Seconds for what should take one or two."""

STARTED = {JobState.STAGING, JobState.RUNNING}


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, place: Place, slow: object) -> Iterator[Any]:
    """A client of the place in each colour."""
    with place.client(request.param) as made:
        yield made


@pytest.fixture
def can(client: Any) -> Capabilities:
    """What the service says that it can do."""
    capabilities: Capabilities = client.service.capabilities
    return capabilities


@pytest.fixture
def name() -> str:
    """A name that no other job has."""
    return f"contract-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def marks(place: Place, tmp_path: Path) -> Path:
    """A folder in which jobs can write."""
    return place.folder(tmp_path)


@pytest.fixture
def sleeper(place: Place, marks: Path) -> Callable[..., Spec]:
    """Makes jobs that write their process id into the folder, and sleep."""

    def make(**fields: Any) -> Spec:
        return place.shell(f"echo $$ > {marks}/new && mv {marks}/new {marks}/pid; exec sleep 600", **fields)

    return make


def started(marks: Path) -> int:
    """Wait until a sleeper runs; its process id."""
    file = marks / "pid"
    until(file.exists, timeout=TIMEOUT, what="the start of the job")
    return int(file.read_text())


def alive(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def running(job: Any) -> None:
    """Wait until the service says that the job runs."""
    until(lambda: job.refresh().state is JobState.RUNNING, timeout=TIMEOUT, what="the state RUNNING")


def helpful(error: Unsupported) -> bool:
    """Whether an error says what to do instead."""
    return len(str(error)) > 30 and ";" in str(error)


# From the submission to the end


def test_a_job_ends_well(place: Place, client: Any, name: str) -> None:
    job = client.submit(**place.shell("true", name=name))
    assert job.state in JobState
    info = job.wait(TIMEOUT)
    assert (info.state, info.name, info.terminal) == (JobState.FINISHED, name, True)
    assert info.exit_code in {0, None}
    assert info.created_at is not None
    assert info.finished_at is not None
    assert client.job(job.id).state is JobState.FINISHED
    job.result(TIMEOUT)  # it would raise where a job did not end well


def test_a_job_that_fails_says_why(place: Place, client: Any) -> None:
    info = client.submit(**place.shell("exit 3")).wait(TIMEOUT)
    assert info.state is JobState.FAILED
    assert info.exit_code == (3 if place.tells_exit_code else None)
    assert info.reason


def test_environment_and_arguments_arrive(place: Place, client: Any, marks: Path) -> None:
    target = marks / "said"
    job = client.submit(**place.shell(f'printf "%s" "$WORD" > {target}', env={"WORD": "a 'b' \"c\" $d"}))
    assert job.wait(TIMEOUT).state is JobState.FINISHED
    assert target.read_text() == "a 'b' \"c\" $d"


# Cancelling


def test_a_job_that_has_not_started_is_cancelled_and_never_runs(place: Place, client: Any) -> None:
    job = client.submit(**place.held())
    result = job.cancel(reason="not wanted", confirm=TIMEOUT)
    assert result.outcome is CancelOutcome.CANCELLED
    assert result.before in {JobState.PENDING, JobState.QUEUED}
    info = client.job(job.id).info
    assert info.state is JobState.CANCELLED
    assert info.started_at is None


def test_a_running_job_is_cancelled_when_its_process_is_gone(
    place: Place, client: Any, can: Capabilities, sleeper: Any, marks: Path
) -> None:
    """Neither the outcome nor the state says "cancelled" before it is so; the reason is kept, or said not to be."""
    job = client.submit(**sleeper())
    pid = started(marks)
    running(job)
    asked = job.cancel(reason="wrong mesh")
    assert asked.accepted
    assert asked.before is JobState.RUNNING
    info = job.wait(TIMEOUT)
    assert info.state is JobState.CANCELLED
    until(lambda: not alive(pid), timeout=5, what="the end of the process")
    assert asked.reason_kept is can.cancel_reason
    if can.cancel_reason:
        assert client.job(job.id).info.cancel_reason == "wrong mesh"


def test_confirm_returns_when_the_job_is_cancelled(place: Place, client: Any, sleeper: Any, marks: Path) -> None:
    job = client.submit(**sleeper())
    pid = started(marks)
    running(job)
    result = job.cancel(confirm=TIMEOUT)
    assert (result.outcome, result.confirmed) == (CancelOutcome.CANCELLED, True)
    assert client.job(job.id).state is JobState.CANCELLED
    until(lambda: not alive(pid), timeout=5, what="the end of the process")


def test_what_has_ended_is_not_cancelled_and_nothing_is_sent(place: Place, client: Any, can: Capabilities) -> None:
    job = client.submit(**place.shell("true"))
    job.wait(TIMEOUT)
    before = len(place.proxy.seen(place.cancels))
    result = client.job(job.id).cancel()
    assert (result.outcome, result.after) == (CancelOutcome.ALREADY_TERMINAL, JobState.FINISHED)
    assert len(place.proxy.seen(place.cancels)) == before or can.atomic
    assert client.job(job.id).state is JobState.FINISHED


def test_a_second_cancel_changes_nothing(place: Place, client: Any) -> None:
    job = client.submit(**place.held())
    assert job.cancel(confirm=TIMEOUT).confirmed
    again = client.cancel(job.id)
    assert (again.outcome, again.after) == (CancelOutcome.ALREADY_TERMINAL, JobState.CANCELLED)


def test_a_job_that_does_not_exist_is_not_found(place: Place, client: Any) -> None:
    for call in (client.job, client.cancel):
        with pytest.raises(JobNotFound) as caught:
            call(place.unknown_id)
        assert place.unknown_id in str(caught.value) or caught.value.status in {404, 400, 500}


def test_many_are_cancelled_each_with_its_outcome_and_a_bad_id_spoils_nothing(place: Place, client: Any) -> None:
    held = [client.submit(**place.held()) for _ in range(3)]
    ended = client.submit(**place.shell("true"))
    ended.wait(TIMEOUT)
    ids = [held[0].id, place.unknown_id, held[1].id, "no id at all", ended.id, held[2].id]
    results = client.cancel_many(ids, reason="a sweep", confirm=TIMEOUT)
    assert [result.job_id for result in results] == ids
    assert [result.outcome for result in results] == [
        CancelOutcome.CANCELLED,
        CancelOutcome.NOT_FOUND,
        CancelOutcome.CANCELLED,
        CancelOutcome.NOT_FOUND,
        CancelOutcome.ALREADY_TERMINAL,
        CancelOutcome.CANCELLED,
    ]


def test_abort_false_leaves_a_started_job_alone_or_is_refused(
    place: Place, client: Any, can: Capabilities, sleeper: Any, marks: Path
) -> None:
    job = client.submit(**sleeper())
    pid = started(marks)
    running(job)
    if can.abort_false:
        assert job.cancel(abort=False).outcome is CancelOutcome.LEFT_RUNNING
    else:
        with pytest.raises(Unsupported) as caught:
            job.cancel(abort=False)
        assert helpful(caught.value)
    assert job.refresh().state is JobState.RUNNING
    assert alive(pid)
    assert job.cancel(confirm=TIMEOUT).confirmed


# Looking


def test_jobs_are_listed_newest_first_and_found_by_name_and_state(place: Place, client: Any, name: str) -> None:
    first, second = client.submit(**place.shell("true", name=name)), client.submit(**place.shell("exit 1", name=name))
    client.wait([first, second], TIMEOUT)
    assert {job.id for job in client.jobs(name=name)} == {first.id, second.id}
    assert [job.id for job in client.jobs(name=name, state="FAILED")] == [second.id]
    assert [job.id for job in client.jobs(name=name, state="active")] == []
    assert [job.id for job in client.jobs(name=name, limit=1)] != []
    assert [job.id for job in client.jobs(name=f"{name}-not")] == []


def test_tags_come_back_and_find_their_jobs(place: Place, client: Any, name: str) -> None:
    job = client.submit(**place.shell("true", name=name, tags=[name, "other"]))
    job.wait(TIMEOUT)
    assert set(client.job(job.id).info.tags) >= {name, "other"}
    assert [found.id for found in client.jobs(tag=name)] == [job.id]


def test_many_are_waited_for_together(place: Place, client: Any) -> None:
    jobs = [client.submit(**place.shell(f"exit {number % 2}")) for number in range(4)]
    infos = client.wait(jobs, TIMEOUT)
    assert [info.id for info in infos] == [job.id for job in jobs]
    assert [info.state for info in infos] == [JobState.FINISHED, JobState.FAILED] * 2


def test_logs_are_what_the_job_wrote_or_are_refused(place: Place, client: Any, can: Capabilities) -> None:
    job = client.submit(**place.shell("echo one; echo two"))
    job.wait(TIMEOUT)
    if can.logs:
        assert job.logs() == "one\ntwo\n"
        assert job.logs(tail=1) == "two\n"
    else:
        with pytest.raises(Unsupported) as caught:
            job.logs()
        assert helpful(caught.value)


# Trouble


def test_a_submission_whose_answer_is_lost_makes_one_job(place: Place, client: Any, name: str) -> None:
    with place.proxy.losing(place.submits):
        job = client.submit(**place.shell("true", name=name))
    assert job.wait(TIMEOUT).state is JobState.FINISHED
    assert [found.id for found in client.jobs(name=name)] == [job.id]


def test_a_look_whose_answer_is_lost_is_repeated(place: Place, client: Any) -> None:
    job = client.submit(**place.shell("true"))
    with place.proxy.losing(place.looks, times=2):
        assert job.wait(TIMEOUT).state is JobState.FINISHED


def test_a_cancel_whose_answer_is_lost_is_repeated(place: Place, client: Any) -> None:
    job = client.submit(**place.held())
    with place.proxy.losing(place.cancels):
        result = job.cancel(confirm=TIMEOUT)
    assert result.after is JobState.CANCELLED
    assert job.refresh().state is JobState.CANCELLED


def test_a_word_that_nobody_knows_is_shown_and_is_no_end(place: Place, client: Any, sleeper: Any, marks: Path) -> None:
    job = client.submit(**sleeper())
    started(marks)
    running(job)
    word = f"HOVERING{uuid.uuid4().hex[:6].upper()}"
    with place.proxy.saying(place.running_word, word), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        seen = client.job(job.id)
        assert (seen.state, seen.info.native_state) == (JobState.UNKNOWN, word)
        assert not seen.info.terminal
        assert len([one for one in told if word in str(one.message)]) == 1
    assert job.cancel(confirm=TIMEOUT).confirmed


def test_a_job_that_the_service_forgets_ends_the_wait_and_is_not_said_to_have_ended(place: Place, client: Any) -> None:
    job = client.submit(**place.held())
    with place.forgetting(job.id), pytest.raises(JobVanished) as caught:
        job.wait(TIMEOUT)
    assert caught.value.job_id == job.id
    assert not job.info.terminal
    with contextlib.suppress(JobNotFound):
        client.cancel(job.id)


def test_who_is_told_to_ask_later_does(place: Place, client: Any) -> None:
    job = client.submit(**place.held())
    status, body, headers = place.throttled
    before = len(place.proxy.seen(place.looks))
    with place.proxy.answering(place.looks, status, body, {**headers, "Retry-After": "2"}):
        assert not job.refresh().info.terminal
    first, second = place.proxy.seen(place.looks)[before:][:2]
    assert second.at - first.at >= 2
    job.cancel()


# What not every service can do


def test_arrays_are_one_handle_or_are_refused(place: Place, client: Any, can: Capabilities, name: str) -> None:
    spec = place.shell("exit 0", name=name)
    if not can.arrays:
        with pytest.raises(Unsupported) as caught:
            client.submit_array(spec.pop("command", "true"), array=3)
        assert helpful(caught.value)
        return
    array = client.submit_array(**spec, array=3)
    assert [info.state for info in array.wait(TIMEOUT)] == [JobState.FINISHED] * 3
    assert [job.info.array_index for job in array] == [0, 1, 2]
    assert len(client.array(array.id)) == 3


def test_jobs_wait_for_others_or_that_is_refused(place: Place, client: Any, can: Capabilities) -> None:
    first = client.submit(**place.held())
    if not can.dependencies:
        with pytest.raises((Unsupported, InvalidSpec)):
            client.submit(**place.shell("true", after=[first.id]))
        first.cancel()
        return
    second = client.submit(**place.shell("true", after=[first.id]))
    assert second.state is JobState.PENDING
    assert first.cancel(confirm=TIMEOUT).confirmed
    client.cancel(second.id)
    assert second.wait(TIMEOUT).state in {JobState.FAILED, JobState.CANCELLED}


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("retry", lambda job: job.retry()),
        ("delete", lambda job: job.delete()),
        ("update", lambda job: job.update(tags=["new"])),
        ("history", lambda job: job.history()),
        ("files", lambda job: job.files()),
    ],
    ids=["retry", "delete", "update", "history", "files"],
)
def test_what_a_service_cannot_do_it_says_with_advice(
    place: Place, client: Any, can: Capabilities, capability: str, call: Callable[[Any], Any]
) -> None:
    """And what it says that it can do, it does."""
    if capability == "update":
        job = client.submit(**place.held())
    else:
        job = client.submit(**place.shell("true"))
        job.wait(TIMEOUT)
    if getattr(can, capability):
        assert call(job) is not None
    else:
        with pytest.raises(Unsupported) as caught:
            call(job)
        assert helpful(caught.value)
    with contextlib.suppress(JobNotFound):
        client.cancel(job.id)


def test_queues_are_told_or_refused(client: Any, can: Capabilities) -> None:
    if can.queues:
        assert isinstance(client.queues(), list)
    else:
        with pytest.raises(Unsupported) as caught:
            client.queues()
        assert helpful(caught.value)


# Last, because the shortest limit may be a minute: these jobs were submitted when the place was opened.


def test_a_job_that_runs_too_long_is_ended_and_says_so(place: Place, client: Any, too_long: str) -> None:
    info = client.job(too_long).wait(TIMEOUT)
    assert info.state is JobState.FAILED
    assert any(word in (info.reason or "").lower() for word in ("time", "walltime")), info.reason
