"""Clients and handles over a service that is kept in memory: submit, wait, watch, result, cancel, interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hpcjobs import (
    AsyncClient,
    AsyncJob,
    CancelOutcome,
    CancelResult,
    CancelTimeout,
    Client,
    ClientClosed,
    ConfigError,
    InvalidSpec,
    Job,
    JobCancelled,
    JobFailed,
    JobInfo,
    JobNotFound,
    JobSpec,
    JobState,
    JobVanished,
    NoService,
    NotCancelled,
    Progress,
    WaitTimeout,
    lines,
    live,
)
from hpcjobs.models import Capabilities, JobFilter, JobPage, JobQueryAnswer, TokenInfo, TokenOrder
from hpcjobs.protocol import Op
from hpcjobs.services.base import LogChunk, Service


class Memory(Service):
    """A service whose jobs are moved on by the test."""

    name = "memory"
    base_url = "http://127.0.0.1:9"
    capabilities = Capabilities(
        idempotent_submit=True,
        abort_false=True,
        cancel_reason=True,
        bulk_cancel=100,
        bulk_get=100,
        min_poll=0.01,
        logs=True,
    )

    def __init__(self) -> None:
        self.jobs: dict[str, JobInfo] = {}
        self.logs: dict[tuple[str, str], bytes] = {}
        self.specs: list[JobSpec] = []
        self.gets = 0
        self.looks: list[list[str]] = []
        self.cancels: list[list[str]] = []
        self.looked = threading.Event()
        self.error: Exception | None = None

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        yield from ()
        self.specs.append(spec)
        info = JobInfo(
            id=f"job-{len(self.jobs) + 1}",
            state=JobState.QUEUED,
            native_state="QUEUED",
            name=spec.name,
            tags=spec.tags,
            version=1,
            spec=spec.model_dump(mode="json"),
        )
        self.jobs[info.id] = info
        return info

    def get(self, job_id: str) -> Op[JobInfo]:
        yield from ()
        self.gets += 1
        if job_id not in self.jobs:
            raise JobNotFound(f"there is no job {job_id!r}", status=404)
        return self.jobs[job_id]

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        yield from ()
        self.looks.append(list(ids))
        self.looked.set()
        if self.error is not None:
            raise self.error
        found = [self.jobs[job_id].model_copy(update={"spec": None}) for job_id in ids if job_id in self.jobs]
        return JobQueryAnswer(items=found, missing=[job_id for job_id in ids if job_id not in self.jobs])

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002
        yield from ()
        start = int(cursor or 0)
        known = list(reversed(self.jobs.values()))
        following = str(start + limit) if start + limit < len(known) else None
        return JobPage(items=known[start : start + limit], next=following)

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:
        yield from ()
        self.cancels.append(list(ids))
        results = []
        for job_id in ids:
            info = self.jobs[job_id]
            outcome = CancelOutcome.CANCELLED if info.state.not_started else CancelOutcome.CANCEL_REQUESTED
            after = JobState.CANCELLED if info.state.not_started else info.state
            self.move(job_id, after, cancel_requested=True, reason=reason, cancel_reason=reason)
            results.append(CancelResult(job_id=job_id, outcome=outcome, before=info.state, after=after, reason=reason))
        return results

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        yield from ()
        data = self.logs.get((job_id, stream), b"")
        return LogChunk(data[-size:], max(0, len(data) - size), len(data), self.jobs[job_id].state, 1)

    def log(
        self, job_id: str, stream: str, *, offset: int, wait: float = 0.0, length: int | None = None
    ) -> Op[LogChunk]:
        yield from ()
        data = self.logs.get((job_id, stream), b"")
        state = self.jobs[job_id].state
        step = 3 if length else None  # in small pieces, so that letters are torn apart
        return LogChunk(data[offset:][:step], offset, len(data), state, 1)

    def create_token(self, order: TokenOrder) -> Op[TokenInfo]:
        yield from ()
        return TokenInfo(
            id="1", name=order.name, owner=order.owner or "me", scope=order.scope, created_at="2026-01-01T00:00:00Z"
        )

    def move(self, job_id: str, state: JobState, **more: Any) -> None:
        old = self.jobs[job_id]
        changes = {"state": state, "native_state": state.value, "version": (old.version or 0) + 1, **more}
        self.jobs[job_id] = old.model_copy(update=changes)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """The service that the clients of this test get."""
    service = Memory()
    monkeypatch.setattr("hpcjobs.client.find_service", lambda *_, **__: service)
    return service


@pytest.fixture
def client(memory: Memory) -> Iterator[Client]:
    with Client("http://memory") as client:
        yield client


def later(memory: Memory, work: Callable[[], object]) -> threading.Thread:
    """Does the work once somebody has begun to wait."""
    memory.looked.clear()

    def run() -> None:
        memory.looked.wait(5)
        work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_submit_takes_a_command_a_list_and_a_spec(client: Client, memory: Memory) -> None:
    """A string is a shell command, a list is argv, a spec is taken as it is and may be overridden."""
    job = client.submit("echo hi", cores=2, walltime="10m", name="n", tags=["t"], memory="1GiB", env={"A": "b"})
    assert isinstance(job, Job)
    spec = memory.specs[-1]
    assert (spec.command, spec.resources.cores, spec.resources.memory, spec.env) == ("echo hi", 2, 2**30, {"A": "b"})
    assert spec.resources.walltime is not None
    assert spec.resources.walltime.total_seconds() == 600
    assert (job.name, job.tags, job.state) == ("n", ["t"], JobState.QUEUED)
    from pathlib import Path

    client.submit(["python", Path("x.py"), "3"])
    assert memory.specs[-1].command == ["python", "x.py", "3"]
    client.submit(spec)
    assert memory.specs[-1] == spec
    client.submit(spec, name="other", cores=3)
    assert memory.specs[-1].name == "other"
    assert memory.specs[-1].resources.cores == 3
    assert memory.specs[-1].resources.memory == 2**30


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"wall_time": "10m"}, r"wall_time: there is no such field; did you mean walltime\? The fields are .*walltime"),
        ({"walltime": "10 parsecs"}, "walltime: .*parsecs"),
        ({"cores": 0}, "cores"),
    ],
)
def test_a_job_that_cannot_be_asked_for_is_refused_here(
    client: Client, memory: Memory, fields: dict[str, Any], match: str
) -> None:
    """Nothing is sent, and the error says what is allowed."""
    with pytest.raises(InvalidSpec, match=match):
        client.submit("true", **fields)
    with pytest.raises(InvalidSpec):
        client.submit(3)  # type: ignore[arg-type]
    assert not memory.specs


def test_attributes_are_what_was_last_known(client: Client, memory: Memory) -> None:
    """Looking at a handle asks nothing; ``refresh`` asks once and keeps the spec."""
    job = client.submit("true", name="n")
    memory.move(job.id, JobState.RUNNING, progress=Progress(done=1, total=4, message="step 1"), reason="because")
    assert (job.state, job.progress, job.exit_code, job.reason, job.done) == (JobState.QUEUED, None, None, None, False)
    assert memory.gets == 0
    assert job.refresh() is job
    assert memory.gets == 1
    assert job.state is JobState.RUNNING
    assert job.native_state == "RUNNING"
    assert repr(job) == "<Job job-1 'n' RUNNING 25% step 1>"
    assert str(job) == "n (job-1) RUNNING"
    assert str(client.submit("true")) == "job-2 QUEUED"


def test_handles_are_equal_where_they_mean_the_same_job(client: Client, memory: Memory) -> None:
    """By service and id; never across kinds."""
    job = client.submit("true")
    same = client.job(job.id)
    other = client.submit("true")
    assert job == same != other
    assert len({job, same, other}) == 2
    assert job != job.id
    with pytest.raises(TypeError, match=r"send job\.id"):
        pickle.dumps(job)


def test_a_handle_by_id_asks_once(client: Client, memory: Memory) -> None:
    """So an id that is not known is told at once."""
    with pytest.raises(JobNotFound):
        client.job("nothing")
    assert memory.gets == 1


def test_waiting_returns_the_final_info_however_it_ended(client: Client, memory: Memory) -> None:
    """``wait`` does not judge; the handle knows what the wait has learnt, and keeps its spec."""
    for state in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED):
        job = client.submit("true")
        thread = later(memory, lambda job=job, state=state: memory.move(job.id, state, exit_code=3))  # type: ignore[misc]
        info = job.wait(timeout=10)
        thread.join()
        assert info.state is job.state is state
        assert info.exit_code == 3
        assert job.info.spec is not None
        looks = len(memory.looks)
        assert job.wait() == info
        assert len(memory.looks) == looks


def test_result_raises_with_the_reason_and_the_end_of_the_log(client: Client, memory: Memory) -> None:
    """The last twenty lines, of stderr where it is separate."""
    job = client.submit("true")
    memory.logs[job.id, "stdout"] = b"".join(b"line %d\n" % number for number in range(100))
    memory.move(job.id, JobState.FAILED, reason="exit code 3", exit_code=3)
    with pytest.raises(JobFailed, match="job-1 FAILED: exit code 3\nThe log ends:\nline 80\n") as caught:
        job.result(timeout=10)
    assert caught.value.info.exit_code == 3
    assert len(caught.value.log_tail.splitlines()) == 20
    job = client.submit("true", stderr="separate")
    memory.logs[job.id, "stdout"] = b"fine so far\n"
    memory.logs[job.id, "stderr"] = b"Traceback: no\n"
    memory.move(job.id, JobState.FAILED)
    with pytest.raises(JobFailed, match="The log ends:\nTraceback: no"):
        job.result(timeout=10)
    job = client.submit("true")
    memory.move(job.id, JobState.CANCELLED, reason="wrong damping")
    with pytest.raises(JobCancelled, match="CANCELLED: wrong damping"):
        job.result(timeout=10)
    job = client.submit("true")
    memory.move(job.id, JobState.FINISHED)
    assert job.result(timeout=10).state is JobState.FINISHED


def test_a_wait_has_an_end_where_one_is_asked_for(client: Client, memory: Memory) -> None:
    """The error says what the job was doing, and that it goes on; a timeout of zero still looks once."""
    job = client.submit("true")
    memory.move(job.id, JobState.RUNNING)
    with pytest.raises(WaitTimeout, match=r"job-1 was still RUNNING after 0.2 s; it goes on") as caught:
        job.wait(timeout=0.2)
    assert caught.value.info.state is job.state is JobState.RUNNING
    with pytest.raises(TimeoutError):
        job.wait(timeout=0)
    with pytest.raises(InvalidSpec, match="timeout"):
        job.wait(timeout=-1)
    with pytest.raises(ConfigError, match="'detach' or 'cancel'"):
        job.wait(on_interrupt="stop")  # type: ignore[arg-type]


def test_a_job_that_is_gone_ends_the_wait(client: Client, memory: Memory) -> None:
    """With what was last known; it is never guessed to be finished."""
    job = client.submit("true")
    memory.move(job.id, JobState.RUNNING)
    job.refresh()
    del memory.jobs[job.id]
    with pytest.raises(JobVanished, match="last seen RUNNING") as caught:
        job.wait(timeout=10)
    assert caught.value.info is not None
    with pytest.raises(JobVanished):
        list(job.watch())
    with pytest.raises(JobNotFound):
        client.wait(["never-there"], timeout=10)


def test_many_are_waited_for_at_once(client: Client, memory: Memory) -> None:
    """Handles and ids in any mix; the infos come in the order of the jobs, doubles included."""
    jobs = [client.submit("true") for _ in range(5)]
    thread = later(memory, lambda: [memory.move(job.id, JobState.FINISHED) for job in jobs])
    infos = client.wait([jobs[0], jobs[1].id, *jobs[2:], jobs[0]], timeout=10)
    thread.join()
    assert [info.id for info in infos] == [job.id for job in [*jobs, jobs[0]]]
    assert all(job.done for job in (jobs[0], *jobs[2:]))
    assert len(memory.looks[0]) == 5
    assert client.wait([], timeout=10) == []
    assert client.wait(jobs[0]) == [jobs[0].info]  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match="give a Job or an id"):
        client.wait([3])  # type: ignore[list-item]


def test_a_timeout_for_many_counts_the_others(client: Client, memory: Memory) -> None:
    """One is named, the others are counted."""
    jobs = [client.submit("true") for _ in range(3)]
    with pytest.raises(WaitTimeout, match="and 2 more had not ended; they go on"):
        client.wait(jobs, timeout=0.05)


def test_watch_hands_out_every_change_until_the_end(client: Client, memory: Memory) -> None:
    """First what is known, then each change, last the final info."""
    job = client.submit("true")
    states = []
    for info in job.watch():
        states.append(info.state)
        following = {JobState.QUEUED: JobState.RUNNING, JobState.RUNNING: JobState.FINISHED}.get(info.state)
        if following:
            memory.move(job.id, following)
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.FINISHED]
    assert job.done


def test_logs_as_text_and_followed(client: Client, memory: Memory) -> None:
    """A letter that is torn apart is put together again; what is no UTF-8 is replaced."""
    job = client.submit("true")
    memory.logs[job.id, "stdout"] = "Grüße, Ωmega\n".encode() + b"\xff\n"
    memory.move(job.id, JobState.FINISHED)
    text = "Grüße, Ωmega\n\ufffd\n"
    assert job.logs() == text
    assert job.logs(tail=1) == "\ufffd\n"
    assert "".join(job.logs(follow=True)) == text
    with pytest.raises(InvalidSpec, match="leave out tail"):
        list(job.logs(follow=True, tail=3))  # type: ignore[call-overload]
    with pytest.raises(InvalidSpec, match="stdout and stderr"):
        job.logs("log")  # type: ignore[call-overload]


def test_cancelling_tells_the_handle(client: Client, memory: Memory) -> None:
    """The handle knows what the result says, without another question; a job that has ended is not asked to stop."""
    job = client.submit("true")
    result = job.cancel(reason="wrong")
    assert result.outcome is CancelOutcome.CANCELLED
    assert job.state is JobState.CANCELLED
    assert job.info.cancel_reason == "wrong"
    running = client.submit("true")
    memory.move(running.id, JobState.RUNNING)
    assert client.cancel(running).outcome is CancelOutcome.CANCEL_REQUESTED
    assert running.info.label == "cancelling"
    sent = len(memory.cancels)
    assert client.cancel(job.id).outcome is CancelOutcome.ALREADY_TERMINAL
    assert len(memory.cancels) == sent


@pytest.mark.parametrize("how", ["at once", "confirmed", "by someone else", "finished first", "many"])
def test_a_job_that_was_cancelled_is_known_as_the_service_knows_it(client: Client, memory: Memory, how: str) -> None:
    """When it ended, why and with what: a wait after a cancel returns no info that was made up here."""
    job = client.submit("true")
    end = {"ended_at": "2026-01-01T00:00:00Z", "exit_code": 7, "reason": "the reason"}
    cancel = memory.cancel

    def ending(ids: Sequence[str], **more: Any) -> Op[list[CancelResult]]:
        results = yield from cancel(ids, **more)
        memory.move(job.id, JobState.FINISHED if how == "finished first" else JobState.CANCELLED, **end)
        return results

    memory.cancel = ending  # type: ignore[method-assign]
    if how in {"confirmed", "finished first"}:
        memory.move(job.id, JobState.RUNNING)
    if how == "by someone else":
        memory.move(job.id, JobState.CANCELLED, **end)
    if how == "many":
        client.cancel_many([job], reason="mine")
    else:
        job.cancel(reason="mine", confirm=10)
    info = job.wait(timeout=10)
    assert info == job.info == memory.jobs[job.id]
    assert info.exit_code == 7
    if info.state is JobState.CANCELLED:
        with pytest.raises(JobCancelled, match="the reason"):
            job.result()


def test_a_cancelled_job_is_not_taken_for_ended_where_nobody_could_look(client: Client, memory: Memory) -> None:
    """The handle then knows that it was asked to stop, and the wait looks."""
    job = client.submit("true")
    get = memory.get

    def once(job_id: str) -> Op[JobInfo]:
        if memory.cancels:
            raise NoService("gone")
        return (yield from get(job_id))

    memory.get = once  # type: ignore[method-assign]
    assert job.cancel(reason="r").confirmed
    assert (job.state, job.info.cancel_requested, job.info.cancel_reason) == (JobState.QUEUED, True, "r")
    assert job.wait(timeout=10).reason == "r"
    assert memory.looks == [[job.id]]


def test_a_job_whose_record_was_removed_is_cancelled(client: Client, memory: Memory) -> None:
    """There is nothing to look at any more; the reason is known here."""
    job = client.submit("true")
    cancel = memory.cancel

    def removing(ids: Sequence[str], **more: Any) -> Op[list[CancelResult]]:
        results = yield from cancel(ids, **more)
        del memory.jobs[job.id]
        return results

    memory.cancel = removing  # type: ignore[method-assign]
    job.cancel(reason="r", delete=True)
    assert (job.wait(timeout=10).state, job.reason) == (JobState.CANCELLED, "r")


def test_an_error_of_cancel_leaves_the_handle_with_what_was_learnt(client: Client, memory: Memory) -> None:
    """What was seen before the error was raised is known."""
    job = client.submit("true")
    memory.move(job.id, JobState.FINISHED, exit_code=0)
    with pytest.raises(NotCancelled):
        job.cancel(strict=True)
    assert (job.state, job.exit_code) == (JobState.FINISHED, 0)
    slow = client.submit("true")
    memory.move(slow.id, JobState.RUNNING)
    with pytest.raises(CancelTimeout):
        slow.cancel(reason="r", confirm=0.05)
    assert slow.info.label == "cancelling"
    assert slow.info.cancel_reason == "r"


def test_an_older_answer_does_not_replace_a_newer_one(client: Client, memory: Memory) -> None:
    """Two threads may ask, and the answers may overtake each other."""
    job = client.submit("true")
    old = memory.jobs[job.id]
    memory.move(job.id, JobState.FINISHED)
    job.refresh()
    memory.jobs[job.id] = old
    assert job.refresh().state is JobState.FINISHED


def test_an_id_may_be_spelled_in_any_way_the_service_understands(client: Client, memory: Memory) -> None:
    """A wait for an id in capitals ends."""
    memory.spelled = str.lower  # type: ignore[method-assign]
    job = client.submit("true")
    memory.move(job.id, JobState.FINISHED)
    assert client.wait([job.id.upper()], timeout=10)[0].id == job.id
    assert client.cancel_many([job.id.upper()])[0].outcome is CancelOutcome.ALREADY_TERMINAL


def test_a_wait_without_any_time_looks_once(client: Client, memory: Memory) -> None:
    """``timeout=0`` asks whether the jobs have ended; where nobody answers it does not wait for long."""
    jobs = [client.submit("true") for _ in range(2)]
    memory.move(jobs[0].id, JobState.FINISHED)
    assert client.wait([jobs[0].id], timeout=0)[0].state is JobState.FINISHED
    memory.move(jobs[1].id, JobState.RUNNING)
    with pytest.raises(WaitTimeout, match="still RUNNING"):
        client.wait([jobs[1].id], timeout=0)
    memory.error = NoService("nothing answers")
    begun = time.monotonic()
    with pytest.raises(WaitTimeout, match="not known yet"):
        client.wait(["other"], timeout=0)
    assert time.monotonic() - begun < 1.5


def test_a_log_is_followed_where_nobody_keeps_the_client(memory: Memory) -> None:
    """The iterator holds what it needs."""
    with Client("http://memory") as client:
        job = client.submit("true")
    memory.logs[job.id, "stdout"] = b"one two three"
    memory.move(job.id, JobState.FINISHED)
    forgotten = Client("http://memory")
    session = weakref.ref(forgotten._session)
    pieces = forgotten.job(job.id).logs(follow=True)
    del forgotten
    text = next(pieces)
    gc.collect()
    assert session() is not None
    assert text + "".join(pieces) == "one two three"


def test_the_end_of_stderr_is_told_by_a_handle_from_a_list(client: Client, memory: Memory) -> None:
    """A list does not tell whether stderr is separate; it is asked."""
    job = client.submit("true", stderr="separate")
    memory.logs[job.id, "stderr"] = b"Traceback: no\n"
    memory.move(job.id, JobState.FAILED)
    bare = memory.jobs[job.id].model_copy(update={"spec": None})
    listed = Job(client._session, bare)
    with pytest.raises(JobFailed, match="The log ends:\nTraceback: no"):
        listed.result()


def test_cancelling_many_is_one_request(client: Client, memory: Memory) -> None:
    """One result per job, in their order."""
    jobs = [client.submit("true") for _ in range(3)]
    results = client.cancel_many([jobs[2], jobs[0].id, jobs[1]], reason="all of it")
    assert [result.job_id for result in results] == [jobs[2].id, jobs[0].id, jobs[1].id]
    assert jobs[2].state is JobState.CANCELLED
    assert client.cancel_many([]) == []


def test_a_job_of_another_service_is_refused(client: Client, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be another job there, or none."""
    other = Memory()
    other.base_url = "http://127.0.0.1:10"
    monkeypatch.setattr("hpcjobs.client.find_service", lambda *_, **__: other)
    with Client("http://other") as second:
        job = second.submit("true")
        with pytest.raises(InvalidSpec, match="is at http://127"):
            client.cancel(job)


def test_jobs_are_listed_as_they_are_asked_for(client: Client, memory: Memory) -> None:
    """Conditions are checked at once, pages are fetched later."""
    for _ in range(3):
        client.submit("true")
    assert [job.id for job in client.jobs()] == ["job-3", "job-2", "job-1"]
    assert [job.id for job in client.jobs(state="QUEUED", tag="t", limit=2)] == ["job-3", "job-2"]
    with pytest.raises(InvalidSpec, match="state"):
        client.jobs(state="DONE")
    with pytest.raises(InvalidSpec, match="colour: there is no such field"):
        client.jobs(colour="red")  # type: ignore[arg-type]


def test_tokens_are_asked_for_in_words(client: Client) -> None:
    """A wrong scope or time is refused here."""
    assert client.create_token("ci", scope="read", expires_in="1d").scope.value == "read"
    with pytest.raises(InvalidSpec, match="scope"):
        client.create_token(scope="all")


def test_a_client_that_was_closed_says_so(memory: Memory) -> None:
    """Every use is refused, by the client and by its handles; closing twice is fine."""
    client = Client("http://memory")
    job = client.submit("true")
    client.close()
    client.close()
    assert "(closed)" in repr(client)
    for use in (lambda: client.submit("true"), job.refresh, job.wait, lambda: list(job.watch()), job.logs):
        with pytest.raises(ClientClosed, match="this client is closed"):
            use()
    assert isinstance(ClientClosed(), RuntimeError)


def test_closing_ends_a_wait_in_another_thread(memory: Memory) -> None:
    """It is told why."""
    client = Client("http://memory")
    job = client.submit("true")
    closer = later(memory, client.close)
    with pytest.raises(ClientClosed, match="while it was waited"):
        job.wait(timeout=10)
    closer.join()


def test_a_client_that_is_forgotten_takes_its_thread_along(memory: Memory) -> None:
    """No ``close`` is needed where a client just goes out of use."""
    client = Client("http://memory")
    job = client.submit("true")
    with pytest.raises(WaitTimeout):
        job.wait(timeout=0.05)
    watcher = client._session.watcher
    assert watcher.running
    gone = weakref.ref(client._session)
    del client, job
    gc.collect()
    assert gone() is None
    end = time.monotonic() + 5
    while watcher.running and time.monotonic() < end:
        time.sleep(0.01)
    assert not watcher.running


def test_two_clients_do_not_disturb_each_other(memory: Memory) -> None:
    """Each has a thread of its own; closing one leaves the other."""
    with Client("http://memory") as one, Client("http://memory") as two:
        job, twin = one.submit("true"), two.submit("true")
        thread = later(memory, lambda: (one.close(), memory.move(twin.id, JobState.FINISHED)))
        assert two.wait([twin], timeout=10)[0].state is JobState.FINISHED
        thread.join()
        with pytest.raises(ClientClosed):
            job.refresh()


def test_a_lost_connection_is_told_once(client: Client, memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    """A wait that shows nothing says so in the log, and goes on."""
    job = client.submit("true")

    def lose() -> None:
        memory.error = NoService("nothing answers")
        for _ in range(3):
            memory.looked.clear()
            memory.looked.wait(5)
        memory.error = None
        memory.move(job.id, JobState.FINISHED)

    thread = later(memory, lose)
    with caplog.at_level(logging.WARNING, "hpcjobs"):
        assert job.wait(timeout=20).state is JobState.FINISHED
    thread.join()
    assert [record.getMessage().split(" at ")[0] for record in caplog.records] == [
        "lost the connection to http://127.0.0.1:9",
        "connected again",
    ]


# Interrupts


def interrupt_soon(memory: Memory) -> threading.Thread:
    return later(memory, lambda: os.kill(os.getpid(), signal.SIGINT))


def test_ctrl_c_stops_the_waiting_and_not_the_job(
    client: Client, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that the job goes on, how to cancel it and how to come back, and is raised again."""
    job = client.submit("true")
    thread = interrupt_soon(memory)
    with pytest.raises(KeyboardInterrupt):
        job.wait(timeout=10)
    thread.join()
    told = capsys.readouterr().err
    for part in ("job job-1 goes on", "job.cancel()", "hpcjobs cancel job-1", 'client.job("job-1")'):
        assert part in told
    assert not memory.cancels
    thread = interrupt_soon(memory)
    with pytest.raises(KeyboardInterrupt):
        client.wait([job, client.submit("true")], timeout=10)
    thread.join()
    assert "2 of 2 jobs go on" in capsys.readouterr().err


def test_ctrl_c_cancels_where_that_was_asked_for(
    client: Client, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """One request, and the job knows it."""
    job = client.submit("true")
    thread = interrupt_soon(memory)
    with pytest.raises(KeyboardInterrupt):
        job.wait(timeout=10, on_interrupt="cancel")
    thread.join()
    assert memory.cancels == [[job.id]]
    assert "job job-1 is cancelled" in capsys.readouterr().err


async def test_a_cancelled_coroutine_cancels_where_that_was_asked_for(memory: Memory) -> None:
    """Otherwise the job goes on."""
    async with AsyncClient("http://memory") as client:
        for choice, sent in (("detach", 0), ("cancel", 1)):
            job = await client.submit("true")
            task = asyncio.ensure_future(job.wait(on_interrupt=choice))  # type: ignore[arg-type]
            memory.looked.clear()
            await asyncio.to_thread(memory.looked.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(memory.cancels) == sent


# Async


async def test_the_async_client_does_the_same(memory: Memory) -> None:
    """Submit, wait, await, result, watch, logs, list, cancel."""
    async with AsyncClient("http://memory") as client:
        job = await client.submit("true", name="n")
        assert isinstance(job, AsyncJob)
        thread = later(memory, lambda: memory.move(job.id, JobState.FINISHED))
        assert (await job).state is JobState.FINISHED
        thread.join()
        assert (await job.result()).state is JobState.FINISHED
        memory.logs[job.id, "stdout"] = b"hello\n"
        assert await job.logs() == "hello\n"
        assert [text async for text in job.logs(follow=True)] == ["hel", "lo\n"]
        assert [info.state async for info in job.watch()] == [JobState.FINISHED]
        assert [found.id async for found in client.jobs(limit=1)] == ["job-1"]
        other = await client.submit("true")
        assert (await client.cancel(other)).confirmed
        assert [info.state for info in await client.wait([job, other.id])] == [JobState.FINISHED, JobState.CANCELLED]
        failing = await client.submit("true")
        memory.move(failing.id, JobState.FAILED)
        with pytest.raises(JobFailed):
            await failing.result()
        with pytest.raises(WaitTimeout):
            await (await client.submit("true")).wait(0.05)
    with pytest.raises(ClientClosed):
        await job.refresh()


async def test_thousands_of_coroutines_wait_for_the_price_of_one(memory: Memory) -> None:
    """One look for all of them."""
    memory.capabilities = memory.capabilities.model_copy(update={"min_poll": 0.5})
    async with AsyncClient("http://memory") as client:
        jobs = [await client.submit("true") for _ in range(500)]
        tasks = [asyncio.ensure_future(job.wait()) for job in jobs]
        await asyncio.sleep(0.2)
        for job in jobs:
            memory.move(job.id, JobState.FINISHED)
        assert all(info.state is JobState.FINISHED for info in await asyncio.gather(*tasks))
        assert len(memory.looks) <= 25  # joining takes longer than one gathering on a busy machine


async def test_a_watch_that_is_left_early_is_let_go(memory: Memory) -> None:
    """Nobody listens any more after a ``break``."""
    async with AsyncClient("http://memory") as client:
        job = await client.submit("true")
        watch = job.watch()
        async for _ in watch:
            break
        await watch.aclose()  # type: ignore[attr-defined]
        assert not client._session.watcher._watched


def test_an_async_client_works_in_several_event_loops(memory: Memory) -> None:
    """Connections belong to a loop, and are closed with it; the client goes on in the next one."""
    client = AsyncClient("http://memory")

    async def once() -> Any:
        job = await client.submit("true")
        memory.move(job.id, JobState.FINISHED)
        await job
        return await client._session.driver()

    first, second = asyncio.run(once()), asyncio.run(once())
    assert first is not second
    assert first._is_closed
    assert second._is_closed
    asyncio.run(client.close())


# Forks


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(client: Client, memory: Memory) -> None:
    """Two processes cannot share one connection."""
    job = client.submit("true")
    mine = client._session.driver
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            job.refresh()
            code = 0 if client._session.driver is not mine else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client._session.driver is mine


# What is shown


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def info(state: JobState, **more: Any) -> JobInfo:
    return JobInfo(id="0b7f", state=state, native_state=state.value, **more)


def test_nothing_is_shown_in_tests_and_pipes_by_default(
    client: Client, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """``progress=True`` shows plain lines there, one per state."""
    job = client.submit("true", name="n")
    memory.move(job.id, JobState.FINISHED)
    client.job(job.id).wait()
    assert capsys.readouterr().err == ""
    job.wait(progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" · ")[0].split("  ")[:2] for line in lines] == [
        ["○ QUEUED", "n job-1"],
        ["✔ FINISHED", "n job-1"],
    ]


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_shows_a_live_line(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    """With rich and without; the last line stays, with the whole id and the reason."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    if not rich:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    progress = Progress(done=31, total=50, message="step 31/50")
    jobs = [info(JobState.RUNNING, name="spectrum", progress=progress)]
    display = live.choose(None, jobs)
    assert type(display) is (live.RichLine if rich else live.PlainLine)
    display.show(jobs)
    display.notice("lost the connection at 12:03, trying again")
    display.close([info(JobState.FAILED, name="spectrum", reason="exit code 3: " + "because " * 20)])
    text = terminal.getvalue()
    assert "62% step 31/50" in text
    assert "hpcjobs: lost the connection at 12:03" in text
    assert "because" * 20 in "".join(text.split())


def test_many_jobs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts by state, ended ones first."""
    jobs = [info(JobState.FINISHED)] * 2 + [info(JobState.FAILED)] + [info(JobState.RUNNING)] * 2
    assert lines.counts(jobs) == "3 of 5 ended · 1 FAILED · 2 FINISHED · 2 RUNNING"
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    rows = live.Lines()
    for _ in range(3):
        rows.show(jobs * 10)
    rows.close([info(JobState.FINISHED)] * 50)
    assert terminal.getvalue().splitlines() == [lines.counts(jobs * 10), "50 of 50 ended · 50 FINISHED"]


def test_a_terminal_without_unicode_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the encoding lacks is replaced; a stderr that is gone is ignored."""
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", plain)
    live.Lines().show([info(JobState.RUNNING)])
    plain.flush()
    assert b"? RUNNING" in plain.buffer.getvalue()  # type: ignore[attr-defined]
    plain.close()
    live.Lines().show([info(JobState.RUNNING)])
    monkeypatch.setattr("sys.stderr", None)
    live.Lines().show([info(JobState.RUNNING)])
    assert not live.seen_by_a_person()


def test_another_display_can_be_hooked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first factory that gives one is taken, where anything is shown at all."""
    mine = live.Silent()
    monkeypatch.setattr(live, "displays", [lambda *_: None, lambda *_: mine])
    assert live.choose(True, []) is mine
    assert live.choose(False, []) is not mine
    assert live.choose(None, []) is not mine


def test_a_notebook_shows_html_and_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output, replaced through its display id; names are escaped."""
    import sys
    import types

    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            shown.append(bundle)

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(bundle)
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    ipython.display = types.ModuleType("IPython.display")  # type: ignore[attr-defined]
    ipython.display.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    view = live.choose(None, [])
    assert type(view) is live.NotebookText
    view.show([info(JobState.QUEUED, name="<b>")])
    view.show([info(JobState.RUNNING, name="<b>")])  # too soon after the first one
    view.notice("lost the connection")
    view.show([info(JobState.RUNNING, name="<b>", progress=Progress(done=1, total=2))])
    view.close([info(JobState.FINISHED, name="<b>")])
    assert [bundle["text/plain"].split("  ")[0] for bundle in shown] == ["○ QUEUED", "● RUNNING", "✔ FINISHED"]
    assert "lost the connection" in shown[1]["text/html"]
    assert '<progress max="1" value="0.500" aria-label="progress of job &lt;b&gt;"' in shown[1]["text/html"]
    assert "<b>" not in shown[2]["text/html"].replace("<b style", "")
    assert "lost" not in shown[2]["text/plain"]
