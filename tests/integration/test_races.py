"""What many do to the same jobs at once, in the orders that go wrong if nobody looks: nothing is lost, nothing sticks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import psycopg
import pytest

from hpcjobs.actions import (
    CancelOrder,
    DeleteOrder,
    JobChanges,
    JobUpdate,
    RetryOrder,
    UpdateOrder,
    UpdateOutcome,
)
from hpcjobs.arrays import ArrayOrder
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, JobSpec
from hpcjobs.records import QueueOrder
from hpcjobs_server.store import Finish, KeyReused, Repeated, Store, TooMany, Work

pytestmark = pytest.mark.anyio

ME = "me"
T = TypeVar("T")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database, max_size=12)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def work(database: str) -> AsyncIterator[Work]:
    work = Work(database, max_size=12)
    await work.open()
    yield work
    await work.close()


def spec(**fields: object) -> JobSpec:
    return JobSpec.parse({"command": "true", **fields})


async def new(store: Store, **fields: object) -> str:
    info, _ = await store.submit(ME, spec(**fields), actor=ME)
    return info.id


async def new_array(store: Store, size: int, *, key: str | None = None, **fields: object) -> tuple[str, list[str]]:
    made, _ = await store.submit_array(ME, ArrayOrder(spec=spec(**fields), size=size), key=key, actor=ME)
    assert made.array is not None
    return made.array.id, made.ids


async def join(work: Work) -> uuid.UUID:
    worker = uuid.uuid4()
    await work.beat(worker, host="here", pid=1, cores=2, busy=0, running=0)
    return worker


async def look(store: Store, job_id: str) -> JobInfo:
    info = await store.get(ME, job_id)
    assert info is not None
    return info


async def blocked_or_done(store: Store, task: asyncio.Task[T]) -> None:
    """Until the task waits for a lock of the database, or has ended."""
    while not task.done():
        rows = await store.all(
            "SELECT 1 AS x FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        if rows:
            return
        await asyncio.sleep(0.01)


async def behind(store: Store, held: str, parameters: list[object], late: Awaitable[T]) -> T:
    """Run ``late`` while ``held`` has been executed and not committed; commit; what ``late`` came to."""
    async with await psycopg.AsyncConnection.connect(store.conninfo) as connection:
        await connection.execute(held, parameters)  # type: ignore[arg-type]
        task = asyncio.ensure_future(late)
        await blocked_or_done(store, task)
        await connection.commit()
    return await task


async def test_a_job_that_is_retried_while_its_parent_ends_does_not_wait_for_ever(store: Store, work: Work) -> None:
    worker = await join(work)
    parent = await new(store)
    child = await new(store, after=[parent])
    assert await work.claim(parent, 0, worker) is not None
    await store.cancel(ME, CancelOrder(ids=[child]), actor=ME)
    # so that the end of the parent finds nobody who waits
    await store.all("UPDATE dependencies SET met = true WHERE job_id = %s RETURNING 1 AS x", [child])
    ends = "UPDATE jobs SET state = 'FINISHED', worker_id = NULL, finished_at = now() WHERE id = %s"
    await behind(store, ends, [parent], store.retry(ME, RetryOrder(ids=[child]), actor=ME))
    assert (await look(store, child)).state is JobState.QUEUED


async def test_a_job_that_is_asked_to_stop_while_its_failure_is_stored_does_not_run_again(
    store: Store, work: Work
) -> None:
    worker = await join(work)
    job = await new(store, max_attempts=3)
    assert await work.claim(job, 0, worker) is not None
    asked = "UPDATE jobs SET cancel_requested_at = now(), cancel_reason = 'enough' WHERE id = %s"
    await behind(store, asked, [job], work.finish(worker, [Finish(job, 1, JobState.FAILED, exit_code=1)]))
    assert (await look(store, job)).state.terminal


async def test_two_that_delete_the_last_jobs_of_an_array_leave_no_array(store: Store) -> None:
    array, (one, other) = await new_array(store, 2)
    delete = store.delete(ME, DeleteOrder(ids=[other]), actor=ME)
    await behind(store, "DELETE FROM jobs WHERE id = %s", [one], delete)
    assert await store.array(ME, array) is None


async def test_the_end_of_a_job_with_backoff_is_stored_however_often_it_ran(store: Store, work: Work) -> None:
    worker = await join(work)
    job = await new(store, backoff=5, max_attempts=100)
    await store.all("UPDATE jobs SET attempt = 1999, max_attempts = 5000 WHERE id = %s RETURNING 1 AS x", [job])
    assert await work.claim(job, 1999, worker) is not None
    assert await work.finish(worker, [Finish(job, 2000, JobState.FAILED)]) == {job}
    assert (await look(store, job)).state is JobState.PENDING


async def test_a_ticket_of_the_queue_that_a_job_has_left_does_not_start_it_in_a_paused_one(
    store: Store, work: Work
) -> None:
    worker = await join(work)
    await store.set_queue("free", QueueOrder(max_running=5), actor=ME)
    await store.set_queue("held", QueueOrder(paused=True), actor=ME)
    job = await new(store, queue="free")
    await store.update(ME, UpdateOrder(ids=[job], changes=JobChanges(queue="held")), actor=ME)
    assert await work.claim(job, 0, worker, queue="free") is None


class TestUpdate:
    async def test_attempts_that_a_retry_added_outlive_a_change_of_something_else(
        self, store: Store, work: Work
    ) -> None:
        worker = await join(work)
        job = await new(store)
        assert await work.claim(job, 0, worker) is not None
        await work.finish(worker, [Finish(job, 1, JobState.FAILED)])
        await store.retry(ME, RetryOrder(ids=[job]), actor=ME)
        await store.update(ME, UpdateOrder(ids=[job], changes=JobChanges(tags=["again"])), actor=ME)
        assert (await look(store, job)).max_attempts == 2
        told = await store.update(ME, UpdateOrder(ids=[job], changes=JobChanges(max_attempts=1)), actor=ME)
        assert told.results[0].outcome is UpdateOutcome.UPDATED
        assert (await look(store, job)).max_attempts == 1

    async def test_two_items_for_one_job_are_refused_before_one_is_lost(self, store: Store) -> None:
        array, ids = await new_array(store, 2)
        for first, second in ((ids[0], ids[0].upper()), (array, ids[1])):
            items = [
                JobUpdate(id=first, changes=JobChanges(tags=["one"])),
                JobUpdate(id=second, changes=JobChanges(priority=3)),
            ]
            with pytest.raises(Repeated, match="again"):
                await store.update(ME, UpdateOrder(items=items), actor=ME)


class TestResent:
    @pytest.mark.parametrize("after", [[], ["#0"]])
    async def test_a_request_of_which_a_job_was_deleted_brings_nothing_back(
        self, store: Store, after: list[str]
    ) -> None:
        specs = [spec(), spec(), spec(after=after)]
        made, _ = await store.submit_many(ME, specs, key="k", actor=ME)
        await store.delete(ME, DeleteOrder(ids=[made.ids[2]]), actor=ME)
        with pytest.raises(KeyReused):
            await store.submit_many(ME, specs, key="k", actor=ME)
        assert (await store.counts()) == {"QUEUED": 2}

    @pytest.mark.parametrize(("first", "then"), [(2, 3), (3, 2)])
    async def test_more_or_fewer_jobs_are_another_request(self, store: Store, first: int, then: int) -> None:
        await store.submit_many(ME, [spec()] * first, key="k", actor=ME)
        with pytest.raises(KeyReused):
            await store.submit_many(ME, [spec()] * then, key="k", actor=ME)
        assert (await store.counts()) == {"QUEUED": first}


async def test_one_request_acts_on_a_bounded_number_of_jobs(store: Store) -> None:
    """An array counts once, however often it is named; many large ones are refused with what to do."""
    array, _ = await new_array(store, 100)
    spellings = [array, array.upper(), f"urn:uuid:{array}", f"{{{array}}}"] * 2000
    told = await store.cancel(ME, CancelOrder(ids=spellings), actor=ME)
    assert {result.jobs["CANCELLED"] for result in told.results if result.jobs} == {100}
    assert [result.job_id for result in told.results] == spellings
    await store.all("UPDATE arrays SET size = 200000 RETURNING 1 AS x")
    with pytest.raises(TooMany, match="name fewer arrays"):
        await store.cancel(ME, CancelOrder(ids=[array]), actor=ME)
