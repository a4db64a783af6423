"""The jobs table: what is accepted once, claimed once, ended once, and found again."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs.actions import CancelOrder
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, CancelResult, JobFilter, JobInfo, JobSpec, Progress, Scope
from hpcjobs_server.migrate import head, migrate
from hpcjobs_server.store import BadCursor, Claim, Finish, KeyReused, Store, Work
from hpcjobs_server.store.rows import decode_cursor, encode_cursor

pytestmark = pytest.mark.anyio

ME = "me"
TRUE = JobSpec(command="true")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database, max_size=8)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def work(database: str) -> AsyncIterator[Work]:
    work = Work(database, max_size=8)
    await work.open()
    yield work
    await work.close()


async def new(store: Store, **fields: object) -> str:
    info, _ = await store.submit(ME, JobSpec.parse({"command": "true", **fields}), actor=ME)
    return info.id


async def join(work: Work, worker: uuid.UUID | None = None, *, cores: int = 2) -> uuid.UUID:
    worker = worker or uuid.uuid4()
    await work.beat(worker, host="here", pid=1, cores=cores, busy=0, running=0)
    return worker


async def take(work: Work, job_id: str, worker: uuid.UUID, attempt: int = 0) -> Claim:
    claim = await work.claim(job_id, attempt, worker)
    assert claim is not None
    return claim


async def cancel(store: Store, ids: list[str], **how: Any) -> list[CancelResult]:
    return (await store.cancel(ME, CancelOrder(ids=ids, **how), actor=ME)).results


async def look(store: Store, job_id: str) -> JobInfo:
    info = await store.get(ME, job_id)
    assert info is not None
    return info


async def tickets(store: Store, job_id: str) -> list[str]:
    rows = await store.all(
        "SELECT queueing_lock, status::text FROM procrastinate_jobs WHERE args ->> 'job' = %s ORDER BY id", [job_id]
    )
    return [f"{row['queueing_lock'].split(':')[1]} {row['status']}" for row in rows]


class TestSubmit:
    async def test_the_same_key_and_body_is_the_same_job(self, store: Store) -> None:
        first, created = await store.submit(ME, TRUE, key="k", actor=ME)
        again, created_again = await store.submit(ME, TRUE, key="k", actor=ME)
        assert (created, created_again) == (True, False)
        assert again.id == first.id
        assert await tickets(store, first.id) == ["0 todo"]

    async def test_the_same_key_with_another_body_is_refused(self, store: Store) -> None:
        await store.submit(ME, TRUE, key="k", actor=ME)
        with pytest.raises(KeyReused):
            await store.submit(ME, JobSpec(command="false"), key="k", actor=ME)

    async def test_a_key_belongs_to_its_owner(self, store: Store) -> None:
        mine, _ = await store.submit(ME, TRUE, key="k", actor=ME)
        theirs, created = await store.submit("you", TRUE, key="k", actor="you")
        assert created
        assert theirs.id != mine.id

    async def test_twenty_at_once_with_one_key_make_one_job(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.submit(ME, TRUE, key="k", actor=ME) for _ in range(20)))
        assert len({info.id for info, _ in answers}) == 1
        assert sum(created for _, created in answers) == 1

    async def test_what_was_asked_comes_back_as_it_was(self, store: Store) -> None:
        spec = JobSpec.parse(
            {
                "command": ["a", "b"],
                "name": "n",
                "tags": ["x", "ü"],
                "meta": {"deep": [1, None]},
                "walltime": "1h",
                "cores": 3,
            }
        )
        info, _ = await store.submit(ME, spec, actor=ME)
        kept = await look(store, info.id)
        assert JobSpec.model_validate(kept.spec) == spec
        assert kept.model_copy(update={"spec": None}) == info.model_copy(update={"spec": None})


class TestLook:
    async def test_another_owners_job_is_not_there(self, store: Store) -> None:
        job = await new(store)
        assert await store.get("you", job) is None
        assert await store.place("you", job) is None
        assert await store.get_many("you", [job]) == []
        assert await store.get(None, job) is not None

    @pytest.mark.parametrize("bad", ["", "x", "../..", "\x00", "1" * 1000, str(uuid.UUID(int=1))])
    async def test_an_id_that_is_none_is_not_found(self, store: Store, bad: str) -> None:
        assert await store.get(ME, bad) is None
        assert await store.place(ME, bad) is None

    async def test_pages_hold_every_job_once_newest_first_while_others_are_added(self, store: Store) -> None:
        jobs = [await new(store) for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list(ME, JobFilter(), limit=3, cursor=cursor)
            seen += [info.id for info in page.items]
            await new(store)
            if (cursor := page.next) is None:
                break
        assert seen == jobs[::-1]

    async def test_every_condition_of_a_filter_must_hold(self, store: Store) -> None:
        wanted = await new(store, name="fit-1", tags=["a", "b"], queue="gpu")
        await new(store, name="fit-2", tags=["a"], queue="gpu")
        await new(store, name="fit_1", tags=["a", "b"], queue="cpu")
        await new(store, name="other", tags=["a", "b"], queue="gpu")

        async def ids(**conditions: object) -> list[str]:
            page = await store.list(ME, JobFilter.parse(conditions), limit=10, cursor=None)
            return [info.id for info in page.items]

        assert await ids(name="fit-*", tag=["a", "b"], queue="gpu", state="QUEUED") == [wanted]
        assert await ids(name="fit_1", queue="gpu") == []
        assert await ids(name="%") == []
        assert await ids(state="RUNNING") == []
        assert len(await ids(state=["QUEUED", "FINISHED"])) == 4
        assert await ids(created_after=dt.datetime.now(dt.timezone.utc)) == []

    async def test_a_cursor_of_someone_elses_making_is_refused(self, store: Store) -> None:
        for bad in ["", "x", "czE=x", "c2E", "\x00", "ü"]:
            with pytest.raises(BadCursor):
                await store.list(ME, JobFilter(), limit=1, cursor=bad)

    @given(st.integers(min_value=0, max_value=2**63 - 1))
    def test_a_cursor_is_read_back(self, seq: int) -> None:
        assert decode_cursor(encode_cursor(seq)) == seq


class TestCancel:
    async def test_a_queued_job_is_cancelled_at_once_with_its_reason(self, store: Store) -> None:
        job = await new(store)
        [result] = await cancel(store, [job], reason="why")
        assert (result.outcome, result.before, result.after) == (CancelOutcome.CANCELLED, "QUEUED", "CANCELLED")
        info = await look(store, job)
        assert (info.state, info.reason, info.cancel_requested) == (JobState.CANCELLED, "why", False)
        assert info.finished_at is not None

    async def test_a_running_job_is_asked_and_told_to_its_worker(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store)
        await take(work, job, worker)
        [result] = await cancel(store, [job], reason="why")
        assert result.outcome is CancelOutcome.CANCEL_REQUESTED
        info = await look(store, job)
        assert (info.state, info.cancel_requested, info.cancel_reason) == (JobState.RUNNING, True, "why")
        [held] = await work.beat(worker, host="here", pid=1, cores=2, busy=1, running=1)
        assert (held.job_id, held.cancel_requested, held.cancel_reason) == (job, True, "why")

    async def test_the_first_reason_stays(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store)
        await take(work, job, worker)
        await cancel(store, [job], reason="first")
        await cancel(store, [job], reason="second")
        assert (await look(store, job)).cancel_reason == "first"

    async def test_abort_false_leaves_a_started_job_alone(self, store: Store, work: Work) -> None:
        worker, started, waiting = await join(work), await new(store), await new(store)
        await take(work, started, worker)
        results = await cancel(store, [started, waiting], reason=None, abort=False)
        assert [result.outcome for result in results] == [CancelOutcome.LEFT_RUNNING, CancelOutcome.CANCELLED]
        assert not (await look(store, started)).cancel_requested

    async def test_an_ended_job_is_not_touched(self, store: Store) -> None:
        job = await new(store)
        await cancel(store, [job], reason="first")
        before = await look(store, job)
        [result] = await cancel(store, [job], reason="second")
        assert result.outcome is CancelOutcome.ALREADY_TERMINAL
        assert await look(store, job) == before

    async def test_bad_ids_spoil_nothing_and_answers_keep_the_order(self, store: Store) -> None:
        mine, other = await new(store), (await store.submit("you", TRUE, actor="you"))[0].id
        results = await cancel(store, ["nonsense", mine, other, str(uuid.uuid4()), mine], reason=None)
        assert [result.outcome.value for result in results] == [
            "NOT_FOUND",
            "CANCELLED",
            "NOT_FOUND",
            "NOT_FOUND",
            "CANCELLED",
        ]
        theirs = await store.get("you", other)
        assert theirs is not None
        assert theirs.state is JobState.QUEUED

    async def test_delete_removes_only_what_never_started(self, store: Store, work: Work) -> None:
        worker, started, waiting = await join(work), await new(store), await new(store)
        await take(work, started, worker)
        await cancel(store, [started, waiting], reason=None, delete=True)
        assert await store.get(ME, waiting) is None
        assert await store.all("SELECT 1 AS x FROM events WHERE job_id = %s", [waiting]) == []
        assert await store.get(ME, started) is not None

    async def test_a_cancelled_jobs_ticket_does_nothing(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store)
        await cancel(store, [job], reason=None)
        assert await work.claim(job, 0, worker) is None

    async def test_bulk_calls_in_opposite_orders_do_not_deadlock(self, store: Store) -> None:
        jobs = [await new(store) for _ in range(60)]
        answers = await asyncio.gather(
            *(cancel(store, jobs if turn % 2 else jobs[::-1], reason=None) for turn in range(6))
        )
        won = sum(result.outcome is CancelOutcome.CANCELLED for answer in answers for result in answer)
        assert won == len(jobs)


class TestAttempts:
    async def test_a_ticket_is_good_for_one_claim(self, store: Store, work: Work) -> None:
        workers = [await join(work) for _ in range(5)]
        job = await new(store)
        claims = await asyncio.gather(*(work.claim(job, 0, worker) for worker in workers))
        assert sum(claim is not None for claim in claims) == 1

    async def test_only_the_worker_that_made_the_attempt_can_end_it(self, store: Store, work: Work) -> None:
        mine, other, job = await join(work), await join(work), await new(store)
        await take(work, job, mine)
        assert await work.finish(other, [Finish(job, 1, JobState.FINISHED)]) == set()
        assert await work.finish(mine, [Finish(job, 2, JobState.FINISHED)]) == set()
        assert (await look(store, job)).state is JobState.RUNNING
        assert await work.finish(mine, [Finish(job, 1, JobState.FINISHED, None, 0)]) == {job}
        assert await work.finish(mine, [Finish(job, 1, JobState.FAILED, "late")]) == set()
        assert (await look(store, job)).state is JobState.FINISHED

    async def test_a_job_with_inputs_is_staged_before_it_runs(self, store: Store, work: Work) -> None:
        worker = await join(work)
        job = await new(store, inputs=[{"name": "a", "sha256": "0" * 64, "size": 0}])
        await take(work, job, worker)
        assert (await look(store, job)).state is JobState.STAGING
        await work.started(job, 1, worker)
        assert (await look(store, job)).state is JobState.RUNNING

    async def test_a_failed_job_with_attempts_left_is_ready_again_with_a_ticket(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, max_attempts=2)
        await take(work, job, worker)
        await work.finish(worker, [Finish(job, 1, JobState.FAILED, "exit code 1", 1)])
        info = await look(store, job)
        assert (info.state, info.attempt, info.finished_at) == (JobState.QUEUED, 1, None)
        assert await tickets(store, job) == ["0 todo", "1 todo"]
        await take(work, job, worker, 1)
        await work.finish(worker, [Finish(job, 2, JobState.FAILED, "exit code 1", 1)])
        assert (await look(store, job)).state is JobState.FAILED

    async def test_a_job_that_was_asked_to_stop_is_not_tried_again(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, max_attempts=5)
        await take(work, job, worker)
        await cancel(store, [job], reason="enough")
        await work.finish(worker, [Finish(job, 1, JobState.FAILED, "exit code 1", 1)])
        assert (await look(store, job)).state is JobState.CANCELLED

    async def test_an_error_of_its_own_counts_also_after_a_cancel(self, store: Store, work: Work) -> None:
        """A function that raises something else when it is told to stop has failed, and is not run again."""
        worker, job = await join(work), await new(store, max_attempts=5)
        await take(work, job, worker)
        await cancel(store, [job], reason="enough")
        await work.finish(worker, [Finish(job, 1, JobState.FAILED, "ValueError: x", 1, own_error=True)])
        info = await look(store, job)
        assert (info.state, info.reason) == (JobState.FAILED, "ValueError: x")

    async def test_what_a_worker_gives_back_runs_again_as_if_not_attempted(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store)
        await take(work, job, worker)
        await work.release(job, 1, worker)
        info = await look(store, job)
        assert (info.state, info.attempt, info.max_attempts) == (JobState.QUEUED, 1, 2)
        assert "1 todo" in await tickets(store, job)

    async def test_progress_is_kept_for_the_attempt_that_made_it(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, max_attempts=2)
        await take(work, job, worker)
        version = (await look(store, job)).version
        await work.report_progress([(job, 1, Progress(done=3, total=10, message="m"))])
        info = await look(store, job)
        assert info.progress is not None
        assert (info.progress.fraction, info.progress.message) == (0.3, "m")
        assert info.version == version, "progress must not spoil somebody's If-Match"
        await work.finish(worker, [Finish(job, 1, JobState.FAILED)])
        await take(work, job, worker, 1)
        assert (await look(store, job)).progress is None
        await work.report_progress([(job, 1, Progress(done=9, total=10))])
        assert (await look(store, job)).progress is None


class TestRooms:
    async def test_ends_and_cancels_of_the_same_jobs_in_opposite_orders_do_not_deadlock(
        self, store: Store, work: Work
    ) -> None:
        worker = await join(work)
        for _ in range(5):
            jobs = [await new(store) for _ in range(60)]
            for job in jobs:
                await take(work, job, worker)
            jobs.sort()
            await asyncio.gather(
                work.finish(worker, [Finish(job, 1, JobState.FINISHED) for job in jobs[::-1]]),
                cancel(store, jobs, reason=None),
                work.finish(worker, [Finish(job, 1, JobState.FAILED) for job in jobs]),
            )
            assert {(await look(store, job)).terminal for job in jobs} == {True}

    async def test_only_a_worker_that_would_take_the_job_counts_as_room(self, work: Work) -> None:
        mine = await join(work)

        async def other(**changes: object) -> bool:
            told = {"host": "h", "pid": 1, "cores": 2, "busy": 0, "running": 0, **changes}
            await work.beat(uuid.UUID(int=7), **told)  # type: ignore[arg-type]
            found = await work.room_elsewhere(mine, 2, "default")
            await work.leave(uuid.UUID(int=7))
            return found

        assert await other()
        assert await other(queues=["gpu", "default"])
        assert not await other(queues=["gpu"])
        assert not await other(closing=True)
        assert not await other(busy=1)

    async def test_a_spec_that_this_version_cannot_read_fails_the_job(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store)
        await store.all("UPDATE jobs SET spec = spec || '{\"new_field\": 1}' RETURNING 1 AS x")
        assert await work.claim(job, 0, worker) is None
        info = await look(store, job)
        assert (info.state, info.reason) == (JobState.FAILED, "this version of the server cannot read what was asked")


class TestSweep:
    async def silence(self, work: Work, worker: uuid.UUID, seconds: float) -> None:
        await work.all(
            "UPDATE workers SET seen_at = now() - make_interval(secs => %s) WHERE id = %s RETURNING 1 AS x",
            [seconds, worker],
        )

    async def age_postgres(self, work: Work) -> None:
        """The reaper spares everybody for one lease after a start of Postgres; here the lease is over."""
        rows = await work.all("SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS up")
        await asyncio.sleep(max(0.0, 0.3 - rows[0]["up"]))

    async def reap(self, work: Work) -> None:
        await self.age_postgres(work)
        await work.sweep(lease=0.2)

    async def test_a_lost_workers_job_runs_again_once(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, grace=1)
        await take(work, job, worker)
        await self.silence(work, worker, 1.1)
        await self.reap(work)
        assert (await look(store, job)).state is JobState.RUNNING, "the grace time is not over"
        await self.silence(work, worker, 5)
        await self.reap(work)
        assert (await look(store, job)).state is JobState.QUEUED
        await take(work, job, worker, 1)
        await self.silence(work, worker, 5)
        await self.reap(work)
        info = await look(store, job)
        assert (info.state, info.reason) == (JobState.FAILED, "its worker was lost")

    async def test_requeue_false_opts_out_whatever_max_attempts_says(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, grace=0, requeue=False, max_attempts=9)
        await take(work, job, worker)
        await self.silence(work, worker, 5)
        await self.reap(work)
        assert (await look(store, job)).state is JobState.FAILED

    async def test_a_lost_workers_job_that_was_to_stop_is_cancelled(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, grace=0)
        await take(work, job, worker)
        await cancel(store, [job], reason="why")
        await self.silence(work, worker, 5)
        await self.reap(work)
        info = await look(store, job)
        assert (info.state, info.reason) == (JobState.CANCELLED, "why (its worker was lost)")

    async def test_a_lost_worker_that_comes_back_ends_nothing(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, grace=0)
        await take(work, job, worker)
        await self.silence(work, worker, 5)
        await self.reap(work)
        assert await work.beat(worker, host="here", pid=1, cores=2, busy=0, running=1) == []
        assert await work.finish(worker, [Finish(job, 1, JobState.FINISHED)]) == set()
        assert (await look(store, job)).state is JobState.QUEUED

    async def test_nobody_is_reaped_for_one_lease_after_a_start_of_postgres(self, store: Store, work: Work) -> None:
        worker, job = await join(work), await new(store, grace=0)
        await take(work, job, worker)
        await self.silence(work, worker, 10**9)
        await work.sweep(lease=10**8)
        assert (await look(store, job)).state is JobState.RUNNING

    async def test_a_lost_ticket_is_issued_again_and_no_ticket_twice(self, store: Store, work: Work) -> None:
        job, other = await new(store), await new(store)
        await store.all("DELETE FROM procrastinate_jobs WHERE args ->> 'job' = %s RETURNING id", [job])
        await store.all("UPDATE jobs SET changed_at = now() - interval '1 min' RETURNING 1 AS x")
        for _ in range(2):
            await work.sweep(lease=0.2, reap=False)
        assert await tickets(store, job) == ["0 todo"]
        assert await tickets(store, other) == ["0 todo"]

    async def test_a_dead_queue_workers_ticket_is_replaced(self, store: Store, work: Work) -> None:
        job = await new(store)
        await store.all("UPDATE procrastinate_jobs SET status = 'doing' RETURNING id")
        await store.all("UPDATE jobs SET changed_at = now() - interval '1 min' RETURNING 1 AS x")
        await work.sweep(lease=0.2, reap=False)
        assert await tickets(store, job) == ["0 todo"]


class TestChanges:
    async def test_every_change_after_a_cursor_is_told(self, store: Store, work: Work) -> None:
        job, _ = await new(store), await new(store)
        cursor, nothing = await store.changes(None)
        assert nothing == []
        worker = await join(work)
        await take(work, job, worker)
        next_cursor, [(owner, info)] = await store.changes(cursor)
        assert (owner, info.id, info.state) == (ME, job, JobState.RUNNING)
        await work.report_progress([(job, 1, Progress(done=1, total=2))])
        _, [(_, info)] = await store.changes(next_cursor)
        assert info.progress is not None

    async def test_a_change_that_commits_late_is_not_missed(self, store: Store, database: str) -> None:
        """The cursor stays behind a transaction that is under way, whatever commits before it."""
        slow = await new(store)
        async with await psycopg.AsyncConnection.connect(store.conninfo) as connection:
            await connection.execute("UPDATE jobs SET name = 'slow' WHERE id = %s", [slow])
            cursor, _ = await store.changes(None)
            quick = await new(store)
            cursor, told = await store.changes(cursor)
            assert quick in {info.id for _, info in told}
            await connection.commit()
        _, told = await store.changes(cursor)
        assert slow in {info.id for _, info in told}

    async def test_listen_wakes_at_a_change_and_without_one_at_the_poll(self, database: str) -> None:
        for use_listen in (True, False):
            store = Store(database, poll=0.05, use_listen=use_listen)
            await store.open()
            turns = store.listen("hpcjobs_events")
            for _ in range(3):
                await asyncio.wait_for(turns.__anext__(), 10)
            await turns.aclose()  # type: ignore[attr-defined]
            await store.close()


class TestTokens:
    async def test_a_token_is_known_by_its_text_alone_and_is_kept_as_a_hash(self, store: Store) -> None:
        token = await store.create_token(ME, name="n", scope=Scope.READ)
        assert token.token is not None
        found = await store.authenticate(token.token)
        assert found == token.model_copy(update={"token": None})
        rows = await store.all("SELECT t::text AS line FROM tokens t")
        assert all(token.token not in row["line"] for row in rows)
        for wrong in ["", token.token[:-1], token.token.upper(), token.id, "\udcff"]:
            assert await store.authenticate(wrong) is None

    async def test_a_revoked_token_is_unknown_and_others_cannot_revoke_it(self, store: Store) -> None:
        token = await store.create_token(ME, name="n", scope=Scope.WRITE)
        assert not await store.revoke_token("you", token.id)
        assert not await store.revoke_token(ME, "nonsense")
        assert await store.revoke_token(ME, token.id)
        assert await store.authenticate(token.token or "") is None


class TestMigrate:
    async def test_two_that_start_at_once_make_one_schema(self, empty_database: str) -> None:
        await asyncio.gather(*(asyncio.to_thread(migrate, empty_database) for _ in range(2)))
        store = Store(empty_database)
        await store.open()
        assert await store.ready()
        assert (await store.all("SELECT version_num FROM schema_version"))[0]["version_num"] == head()
        await store.close()

    async def test_a_database_without_the_schema_is_not_ready(self, empty_database: str) -> None:
        store = Store(empty_database)
        await store.open()
        assert not await store.ready()
        await store.close()
