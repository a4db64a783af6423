"""Jobs that a cluster has: queued with a worker that watches them, never lost with it, adopted as they are."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hpcjobs.actions import CancelOrder, DeleteOrder, DeleteOutcome, RetryOrder, RetryOutcome
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobInfo, JobSpec
from hpcjobs_server.store import Claim, Finish, Moved, Store, Work

pytestmark = pytest.mark.anyio

ME = "me"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database, max_size=4)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def work(database: str) -> AsyncIterator[Work]:
    work = Work(database, max_size=4)
    await work.open()
    yield work
    await work.close()


async def join(work: Work, **more: Any) -> uuid.UUID:
    worker = uuid.uuid4()
    facts = {"host": "here", "pid": 1, "cores": 10, "busy": 0, "running": 0, "cluster": "slurm", **more}
    await work.beat(worker, **facts)
    return worker


async def handed(store: Store, work: Work, worker: uuid.UUID, **fields: Any) -> str:
    """A job that a worker has claimed for the cluster."""
    info, _ = await store.submit(ME, JobSpec.parse({"command": "true", **fields}), actor=ME)
    claim = await work.claim(info.id, 0, worker, cluster="slurm")
    assert claim is not None
    return info.id


async def look(store: Store, job_id: str) -> JobInfo:
    info = await store.get(ME, job_id)
    assert info is not None
    return info


async def adopted(work: Work, worker: uuid.UUID, **how: Any) -> list[Claim]:
    return await work.adopt(worker, "slurm", **{"lease": 60.0, **how})


async def silent(store: Store, worker: uuid.UUID, seconds: float = 600) -> None:
    await store.all(
        "UPDATE workers SET seen_at = now() - make_interval(secs => %s) WHERE id = %s RETURNING id", [seconds, worker]
    )


async def test_it_is_queued_until_the_cluster_starts_it_and_started_when_the_cluster_says(
    store: Store, work: Work
) -> None:
    worker = await join(work)
    job = await handed(store, work, worker)
    info = await look(store, job)
    assert (info.state, info.started_at, info.attempt) == (JobState.QUEUED, None, 1)
    await work.moved(worker, [Moved(job, 1, JobState.QUEUED, "Slurm job 7 waits", "7")])
    assert (await look(store, job)).reason == "Slurm job 7 waits"
    early = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)  # by a clock that is wrong
    await work.moved(worker, [Moved(job, 1, JobState.RUNNING, None, "7", early)])
    info = await look(store, job)
    assert (info.state, info.reason, info.started_at) == (JobState.RUNNING, None, info.created_at)
    await work.moved(worker, [Moved(job, 1, JobState.PAUSED, None, "7", early)])
    assert (await look(store, job)).state is JobState.PAUSED
    assert await work.finish(worker, [Finish(job, 1, JobState.FINISHED, host="n7")]) == {job}
    history = await store.history(ME, job)
    assert history is not None
    assert [attempt.host for attempt in history.attempts] == ["n7"]


async def test_it_is_claimed_ticketed_changed_and_deleted_by_nobody_else(store: Store, work: Work) -> None:
    worker = await join(work)
    job = await handed(store, work, worker, expires_in="1s")
    await store.all(
        "UPDATE jobs SET changed_at = now() - interval '1 h', expires_at = now() - interval '1 s' RETURNING id"
    )
    done = await work.sweep(lease=60.0)
    assert {name: count for name, count in done.items() if count} == {}
    assert await work.claim(job, 1, await join(work)) is None
    await work.hand_back(job, 1, delay=0)
    await store.all("SELECT issue_tickets(%s::uuid[])", [[uuid.UUID(job)]])
    assert (await store.all("SELECT count(*) AS n FROM procrastinate_jobs WHERE queueing_lock = %s", [f"{job}:1"]))[0][
        "n"
    ] == 0
    [deleted] = (await store.delete(ME, DeleteOrder(ids=[job]), actor=ME)).results
    [retried] = (await store.retry(ME, RetryOrder(ids=[job]), actor=ME)).results
    assert (deleted.outcome, retried.outcome) == (DeleteOutcome.STILL_RUNNING, RetryOutcome.STILL_RUNNING)
    assert (await look(store, job)).state is JobState.QUEUED


async def test_a_cancel_is_the_workers_to_carry_out_and_says_whether_it_spares_what_runs(
    store: Store, work: Work
) -> None:
    worker = await join(work)
    job = await handed(store, work, worker)

    async def cancel(*, abort: bool) -> CancelOutcome:
        order = CancelOrder(ids=[job], abort=abort, reason="why")
        return (await store.cancel(ME, order, actor=ME)).results[0].outcome

    assert await cancel(abort=False) is CancelOutcome.CANCEL_REQUESTED
    assert [held.abort for held in await work.to_stop(worker)] == [False]
    await work.moved(worker, [Moved(job, 1, JobState.RUNNING)])
    await work.spared(job, 1, worker)
    assert not (await look(store, job)).cancel_requested
    assert await cancel(abort=False) is CancelOutcome.LEFT_RUNNING
    assert await cancel(abort=True) is CancelOutcome.CANCEL_REQUESTED
    await work.spared(job, 1, worker)  # too late: this one means what runs, too
    assert (await look(store, job)).cancel_requested


async def test_the_reaper_leaves_it_alone_and_the_next_worker_goes_on_with_the_same_attempt(
    store: Store, work: Work
) -> None:
    worker = await join(work)
    job = await handed(store, work, worker)
    await work.moved(worker, [Moved(job, 1, JobState.RUNNING, None, "7")])
    await silent(store, worker)
    assert (await work.sweep(lease=0.1)).get("reaped") == 0
    [claim] = await adopted(work, successor := await join(work), lease=0.1)
    assert (claim.job_id, claim.attempt, claim.adopted, claim.cluster_job) == (job, 1, True, "7")
    # the first comes back: it is another's now
    assert await work.finish(worker, [Finish(job, 1, JobState.FAILED)]) == set()
    await work.moved(worker, [Moved(job, 1, JobState.QUEUED)])
    assert (await look(store, job)).state is JobState.RUNNING
    assert await work.finish(successor, [Finish(job, 1, JobState.FINISHED)]) == {job}


async def test_only_what_nobody_watches_is_adopted_once_and_by_its_kind_and_queue(store: Store, work: Work) -> None:
    alive, gone, away = [await join(work) for _ in range(3)]
    jobs = [await handed(store, work, worker) for worker in (alive, gone, away)]
    local, _ = await store.submit(ME, JobSpec(command="true"), actor=ME)
    assert await work.claim(local.id, 0, away) is not None
    await work.leave(away)
    me = await join(work)
    assert await work.adopt(me, "pbs", lease=60.0) == []
    assert await adopted(work, me, queues=["other"]) == []
    assert [claim.job_id for claim in await adopted(work, me)] == [jobs[2]]
    assert await adopted(work, me) == []
    assert [claim.job_id for claim in await adopted(work, me, gone=[gone])] == [jobs[1]]
    # one whose adoption was not heard of is this worker's own, and is told again
    assert [claim.job_id for claim in await adopted(work, me, unknown=[jobs[1]])] == [jobs[1]]
    assert set(await work.colleagues(me, "slurm", "here")) == {alive}


async def test_a_worker_for_a_cluster_has_room_for_a_job_of_any_size(store: Store, work: Work) -> None:
    await join(work, cores=10, busy=9)
    [worker] = await store.workers()
    assert worker.room > 1_000_000
    assert await work.room_elsewhere(uuid.uuid4(), 500, "default")
    await join(work, cores=10, busy=9, cluster=None)
    assert await work.room_elsewhere(uuid.uuid4(), 500, "default")
