"""What the jobs table holds to when many act on it at once: nobody waits for ever, nothing is lost, no answer lies."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator

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
    outcomes,
)
from hpcjobs.arrays import ArrayOrder
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobInfo, JobSpec
from hpcjobs.records import QueueOrder
from hpcjobs_server.database import connection_info
from hpcjobs_server.migrate import migrate
from hpcjobs_server.store import BadDependency, Finish, Store, Work

pytestmark = pytest.mark.anyio

ME = "me"


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


async def new(store: Store, **fields: object) -> str:
    info, _ = await store.submit(ME, JobSpec.parse({"command": "true", **fields}), actor=ME)
    return info.id


async def join(work: Work) -> uuid.UUID:
    worker = uuid.uuid4()
    await work.beat(worker, host="here", pid=1, cores=2, busy=0, running=0)
    return worker


async def end(
    work: Work, worker: uuid.UUID, job_id: str, state: JobState = JobState.FINISHED, attempt: int = 1
) -> None:
    for _ in range(20):
        try:
            kept = await work.finish(worker, [Finish(job_id, attempt, state)])
        except psycopg.OperationalError:  # as the runner does: a deadlock is tried again
            continue
        assert kept == {job_id}
        return
    raise AssertionError("it could not be ended")


async def look(store: Store, job_id: str) -> JobInfo:
    info = await store.get(ME, job_id)
    assert info is not None
    return info


async def tickets(store: Store) -> set[str]:
    rows = await store.all("SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo'")
    return {row["queueing_lock"] for row in rows}


async def test_none_waits_for_ever_though_parents_end_while_it_is_submitted(store: Store, work: Work) -> None:
    """Dependents that are added while their parents end are all told, each once, and each has a ticket."""
    worker = await join(work)
    parents = [await new(store) for _ in range(20)]
    for parent in parents:
        assert await work.claim(parent, 0, worker) is not None
    dependents: list[str] = []

    async def add() -> None:
        for _ in range(12):
            after = random.sample(parents, 3)
            dependents.append(await new(store, after=after))

    async def finish(mine: list[str]) -> None:
        for parent in mine:
            await asyncio.sleep(random.uniform(0, 0.02))
            await end(work, worker, parent)

    await asyncio.gather(*(add() for _ in range(8)), *(finish(parents[part::5]) for part in range(5)))
    infos = await store.get_many(ME, dependents)
    assert {info.state for info in infos} == {JobState.QUEUED}
    assert await tickets(store) >= {f"{job_id}:0" for job_id in dependents}


async def test_bulk_actions_and_ends_in_every_order_leave_no_contradiction(store: Store, work: Work) -> None:
    """Cancels, retries and ends of jobs that wait for each other, all at once: every job ends where it belongs."""
    worker = await join(work)
    parents = [await new(store) for _ in range(10)]
    children = [await new(store, after=[random.choice(parents), random.choice(parents)]) for _ in range(40)]
    for parent in parents:
        assert await work.claim(parent, 0, worker) is not None

    async def finish(parent: str) -> None:
        await end(work, worker, parent, random.choice([JobState.FINISHED, JobState.FAILED]))

    async def cancel() -> None:
        chosen = random.sample(children, 20)
        await store.cancel(ME, CancelOrder(ids=chosen), actor=ME)
        await store.retry(ME, RetryOrder(ids=chosen[:5]), actor=ME)

    await asyncio.gather(*(finish(parent) for parent in parents), *(cancel() for _ in range(10)))
    for info in await store.get_many(ME, children):
        row = (await store.all("SELECT waiting_for FROM jobs WHERE id = %s", [info.id]))[0]
        assert row["waiting_for"] == 0, info
        assert info.state in {JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}, info


async def test_a_job_that_is_changed_while_it_is_taken_runs_as_one_of_both_says(store: Store, work: Work) -> None:
    """Either the change came first, and that is what runs, or it is refused; never something in between."""
    worker = await join(work)
    for _ in range(60):
        job = await new(store, command="old", queue="old")
        order = UpdateOrder(ids=[job], changes=JobChanges(command="new", queue="new"))
        claim, answer = await asyncio.gather(work.claim(job, 0, worker, queue="old"), store.update(ME, order, actor=ME))
        assert claim is not None
        outcome = answer.results[0].outcome
        assert (claim.spec.command, outcome) in {("new", UpdateOutcome.UPDATED), ("old", UpdateOutcome.REFUSED)}


async def test_no_update_is_lost(store: Store) -> None:
    """Of two changes to the same version one is told that it is stale."""
    job = await new(store)
    orders = [UpdateOrder(items=[JobUpdate(id=job, changes=JobChanges(tags=[tag]), version=1)]) for tag in "ab"]
    answers = await asyncio.gather(*(store.update(ME, order, actor=ME) for order in orders))
    assert sorted(str(answer.results[0].outcome) for answer in answers) == ["STALE", "UPDATED"]


async def test_a_ticket_follows_its_job_to_another_queue_priority_and_time(store: Store) -> None:
    job = await new(store)
    changes = JobChanges.parse({"queue": "night", "priority": 9, "start_in": "1h"})
    await store.update(ME, UpdateOrder(ids=[job], changes=changes), actor=ME)
    [row] = await store.all("SELECT queue_name, priority, scheduled_at > now() AS later, args FROM procrastinate_jobs")
    assert (row["queue_name"], row["priority"], row["later"], row["args"]["queue"]) == ("night", 9, True, "night")
    assert (await look(store, job)).state is JobState.PENDING


async def test_a_queue_never_runs_more_than_it_may_though_many_workers_take_at_once(store: Store, work: Work) -> None:
    await store.set_queue("narrow", QueueOrder(max_running=3), actor=ME)
    workers = [await join(work) for _ in range(4)]
    jobs = [await new(store, queue="narrow") for _ in range(20)]
    claims = await asyncio.gather(*(work.claim(job, 0, random.choice(workers), queue="narrow") for job in jobs))
    assert sum(claim is not None for claim in claims) == 3


async def test_a_place_that_becomes_free_is_offered_to_the_best_job(store: Store, work: Work) -> None:
    """A job that was turned away has no ticket, and gets one when there is room; the most urgent first."""
    await store.set_queue("narrow", QueueOrder(max_running=1), actor=ME)
    worker = await join(work)
    first = await new(store, queue="narrow")
    assert await work.claim(first, 0, worker, queue="narrow") is not None
    waiting = {priority: await new(store, queue="narrow", priority=priority) for priority in (1, 3, 2)}
    await store.all("DELETE FROM procrastinate_jobs RETURNING id")  # each was taken, and turned away
    await end(work, worker, first)
    assert await tickets(store) == {f"{waiting[3]}:0"}


async def test_a_sweep_offers_nothing_in_a_paused_queue(store: Store, work: Work) -> None:
    """And everything once it goes on."""
    job = await new(store, queue="held")
    await store.set_queue("held", QueueOrder(paused=True), actor=ME)
    await store.all("DELETE FROM procrastinate_jobs RETURNING id")
    await store.all("UPDATE jobs SET changed_at = now() - interval '1 h' RETURNING id")
    await work.sweep(lease=1.0)
    assert await tickets(store) == set()
    await store.set_queue("held", QueueOrder(paused=False), actor=ME)
    assert await tickets(store) == {f"{job}:0"}


async def test_a_job_whose_time_has_come_is_queued_by_a_sweep(store: Store, work: Work) -> None:
    """Where no worker takes it in that moment, it shows that it waits for one now."""
    job = await new(store, start_in=0.05)
    assert (await look(store, job)).state is JobState.PENDING
    await asyncio.sleep(0.1)  # the time itself
    done = await work.sweep(lease=1.0)
    assert (done["due"], (await look(store, job)).state) == (1, JobState.QUEUED)


async def test_a_job_is_not_taken_before_its_time_nor_after_its_expiry(store: Store, work: Work) -> None:
    worker = await join(work)
    early, late = await new(store, start_in="1h"), await new(store, expires_in=0.01)
    await asyncio.sleep(0.05)
    assert await work.claim(early, 0, worker, queue="default") is None
    assert await work.claim(late, 0, worker, queue="default") is None


async def test_retrying_what_waits_issues_no_second_ticket(store: Store) -> None:
    job = await new(store, start_in="1h")
    for _ in range(3):
        await store.retry(ME, RetryOrder(ids=[job]), actor=ME)
    rows = await store.all("SELECT scheduled_at FROM procrastinate_jobs")
    assert [row["scheduled_at"] for row in rows] == [None]


async def test_what_was_deleted_leaves_no_row_anywhere(store: Store, work: Work) -> None:
    """But a note that its files are to be removed."""
    worker = await join(work)
    new_jobs, _ = await store.submit_array(ME, ArrayOrder(spec=JobSpec(command="true"), size=2), actor=ME)
    job = new_jobs.ids[0]
    await work.claim(job, 0, worker)
    await end(work, worker, job)
    follower = await new(store, after=[new_jobs.ids[1]])
    await store.delete(ME, DeleteOrder(ids=[*new_jobs.ids, follower]), actor=ME)
    for table in ("jobs", "arrays", "events", "progress", "attempts", "dependencies"):
        assert (await store.all(f"SELECT count(*) AS n FROM {table}"))[0]["n"] == 0, table
    assert [str(uid) for uid in await store.removals()] == [job]


async def test_none_waits_for_ever_for_a_job_that_is_deleted_meanwhile(store: Store) -> None:
    """Dependents that come while their parents are deleted are refused, or are told that nothing comes any more."""
    dependents: list[str] = []

    async def add(parents: list[str]) -> None:
        for parent in parents:
            try:
                dependents.append(await new(store, after=[parent]))
            except BadDependency:
                assert await store.get(ME, parent) is None

    async def delete(parents: list[str]) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        answer = await store.delete(ME, DeleteOrder(ids=parents), actor=ME)
        assert set(outcomes(answer.results).values()) == {len(parents)}

    for _ in range(6):
        parents = [await new(store) for _ in range(12)]
        adding = [add(random.sample(parents, len(parents))) for _ in range(3)]
        await asyncio.gather(*adding, *(delete(parents[part::3]) for part in range(3)))
    assert dependents, "some came in time"
    states = {info.state for info in await store.get_many(ME, dependents)}
    assert states == {JobState.FAILED}


async def test_each_of_many_that_are_deleted_has_its_own_outcome(store: Store, work: Work) -> None:
    worker = await join(work)
    plain, awaited, running, ended = [await new(store) for _ in range(4)]
    child = await new(store, after=[awaited])
    for job in (running, ended):
        await work.claim(job, 0, worker)
    await end(work, worker, ended)
    ids = [plain, "nonsense", awaited, running, str(uuid.uuid4()), ended, plain.upper(), plain]
    for awaited_is_there in (True, False):
        answer = await store.delete(ME, DeleteOrder(ids=ids), actor=ME)
        assert [result.job_id for result in answer.results] == ids
        gone = "DELETED" if awaited_is_there else "NOT_FOUND"
        found = [str(result.outcome) for result in answer.results]
        assert found == [gone, "NOT_FOUND", gone, "STILL_RUNNING", "NOT_FOUND", gone, gone, gone]
    assert (await look(store, child)).state is JobState.FAILED


async def test_a_filter_goes_on_where_an_answer_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs than one answer holds are all reached, each once, though those that still match stay in the list."""
    from hpcjobs_server.store import actions

    monkeypatch.setattr(actions, "MAX_BULK", 10)
    jobs = {await new(store, tags=["x"]) for _ in range(25)}
    seen: list[str] = []
    order = UpdateOrder(filter=JobFilter(tag=["x"]), changes=JobChanges(priority=2))
    while True:
        answer = await store.update(ME, order, actor=ME)
        seen += [result.job_id for result in answer.results]
        if answer.next is None:
            break
        order = order.model_copy(update={"cursor": answer.next})
    assert (len(seen), set(seen)) == (25, jobs)


async def test_anothers_jobs_are_not_there(store: Store) -> None:
    """For any action, by id or by filter, and as a dependency."""
    job = await new(store, tags=["x"])
    by_id, by_filter = {"ids": [job]}, {"filter": JobFilter(tag=["x"])}
    for which, found in ((by_id, ["NOT_FOUND"]), (by_filter, [])):
        answers = [
            await store.cancel("other", CancelOrder(**which), actor="other"),
            await store.retry("other", RetryOrder(**which), actor="other"),
            await store.delete("other", DeleteOrder(**which), actor="other"),
            await store.update("other", UpdateOrder(**which, changes=JobChanges(priority=1)), actor="other"),
        ]
        for answer in answers:
            assert [str(result.outcome) for result in answer.results] == found
    with pytest.raises(BadDependency):
        await store.submit("other", JobSpec(command="true", after=[job]), actor="other")
    assert (await look(store, job)).version == 1


async def test_a_submission_that_is_sent_again_adds_no_dependency(store: Store) -> None:
    """The same key gives the same job, also when what it waited for was deleted since."""
    first = await new(store)
    spec = JobSpec(command="true", after=[first])
    info, created = await store.submit(ME, spec, key="k", actor=ME)
    again, created_again = await store.submit(ME, spec, key="k", actor=ME)
    assert (created, created_again, info.id) == (True, False, again.id)
    await store.delete(ME, DeleteOrder(ids=[first]), actor=ME)
    third, _ = await store.submit(ME, spec, key="k", actor=ME)
    assert third.id == info.id


async def test_an_array_is_cancelled_atomically_against_its_workers(store: Store, work: Work) -> None:
    """Each of its jobs is either cancelled before it starts or asked to stop; the counts say how many of each."""
    worker = await join(work)
    made, _ = await store.submit_array(ME, ArrayOrder(spec=JobSpec(command="true"), size=60), actor=ME)
    assert made.array is not None
    answers = await asyncio.gather(
        store.cancel(ME, CancelOrder(ids=[made.array.id]), actor=ME),
        *(work.claim(job, 0, worker, queue="default") for job in made.ids[:30]),
    )
    cancelled, claims = answers[0], answers[1:]
    started = sum(claim is not None for claim in claims)
    [result] = cancelled.results
    assert result.jobs is not None
    assert result.jobs.get(str(CancelOutcome.CANCEL_REQUESTED), 0) == started
    assert result.jobs[str(CancelOutcome.CANCELLED)] == 60 - started


async def test_jobs_of_an_earlier_version_go_on(empty_database: str) -> None:
    """A database that the first version filled is brought up to date, and its jobs can be acted upon."""
    from alembic import command

    original = command.upgrade
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, revision: original(config, "0001"))
        await asyncio.to_thread(migrate, empty_database)
    with psycopg.connect(connection_info(empty_database), autocommit=True) as connection:
        spec = JobSpec(command="true").model_dump_json(
            exclude={"after", "start_at", "start_in", "expires_in", "backoff", "retry_on"}
        )
        connection.execute(
            "INSERT INTO jobs (id, owner, digest, queue, priority, cores, tags, meta, spec, grace, requeue,"
            " max_attempts, actor) VALUES (%s, 'me', '', 'default', 0, 1, '{}', '{}', %s, 30, true, 1, 'me')",
            ["00000000-0000-0000-0000-000000000001", spec],
        )
    await asyncio.to_thread(migrate, empty_database)
    store = Store(empty_database)
    await store.open()
    try:
        order = UpdateOrder(ids=["00000000-0000-0000-0000-000000000001"], changes=JobChanges(priority=4))
        assert (await store.update(ME, order, actor=ME)).results[0].outcome is UpdateOutcome.UPDATED
        assert (await store.cancel(ME, CancelOrder(ids=order.ids), actor=ME)).results[0].confirmed
    finally:
        await store.close()


@pytest.mark.parametrize("whole", [False, True], ids=["ids", "array"])
async def test_a_job_that_starts_or_ends_while_it_is_selected_is_found(store: Store, work: Work, whole: bool) -> None:
    """Of thousands of jobs that are named while workers take and end some, each has its outcome."""
    made, _ = await store.submit_array(ME, ArrayOrder.parse({"spec": {"command": "true"}, "size": 2000}), actor=ME)
    assert made.array is not None
    asked = [made.array.id] if whole else made.ids
    worker = await join(work)
    enough = False

    async def run(ids: list[str]) -> None:
        for job_id in ids:
            if enough:
                break
            try:
                if await work.claim(job_id, 0, worker) is not None:
                    await end(work, worker, job_id)
            except psycopg.OperationalError:  # as a worker does: the next ticket is for that
                continue

    running = [asyncio.create_task(run(made.ids[first::2])) for first in range(2)]
    for number in range(4):
        changes = JobChanges(name=f"round-{number}")
        changed = await store.update(None, UpdateOrder(ids=asked, changes=changes), actor=ME)
        assert outcomes(changed.results) == {"UPDATED": 2000}
    enough = True
    await asyncio.gather(*running)
