"""Lists in every order, from any place in them, both ways; counts; what stands around a job; histories with a bound."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from hpcjobs.actions import CancelOrder, DeleteOrder, JobChanges, RetryOrder, UpdateOrder
from hpcjobs.arrays import ArrayOrder
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobFilter, JobInfo, JobPage, JobSpec, When
from hpcjobs_server.database import connection_info
from hpcjobs_server.store import SORTS, BadCursor, BadSort, Finish, Store, Work
from hpcjobs_server.store.rows import encode_cursor
from tests.integration.serving import Api

pytestmark = pytest.mark.anyio

ME, YOU = "me", "you"

ENDLESS = 1000
"""Pages that no list here has: one that goes round and round fails, rather than going on for ever."""

# Few values, so that many jobs have the same one, and each may be missing where that is possible.
_FILL = """
INSERT INTO jobs (id, owner, digest, state, name, queue, priority, cores, tags, meta, spec, grace, requeue,
    max_attempts, actor, created_at, started_at, finished_at)
SELECT gen_random_uuid(), CASE WHEN i %% 5 = 4 THEN 'you' ELSE 'me' END, '',
    (ARRAY['QUEUED', 'FINISHED', 'FAILED', 'CANCELLED'])[1 + i %% 4],
    (ARRAY[NULL, 'a', 'B', 'ä', E'\\u0001"'])[1 + i %% 5], (ARRAY['default', 'long'])[1 + i %% 2], i %% 3 - 1, 1,
    (ARRAY['{}', '{x}', '{x,y}'])[1 + i %% 3]::text[], '{}', '{}', 30, true, 1, 'test',
    now() - make_interval(secs => %(jobs)s - i),
    CASE WHEN i %% 7 > 1 THEN date_trunc('day', now()) + make_interval(secs => (i %% 4) + 0.000001) END,
    CASE WHEN i %% 4 > 0 THEN date_trunc('day', now()) + make_interval(secs => i %% 3) END
FROM generate_series(1, %(jobs)s) AS i
"""


def fill(database: str, jobs: int) -> None:
    with psycopg.connect(connection_info(database), autocommit=True) as connection:
        connection.execute(_FILL.encode(), {"jobs": jobs})


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    store = Store(database)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def work(database: str) -> AsyncIterator[Work]:
    work = Work(database)
    await work.open()
    yield work
    await work.close()


async def new(store: Store, owner: str = ME, **fields: object) -> str:
    info, _ = await store.submit(owner, JobSpec.parse({"command": "true", **fields}), actor=owner)
    return info.id


async def everything(store: Store, owner: str | None = None) -> list[JobInfo]:
    """All jobs, oldest first, read without any order of the store's."""
    rows = await store.all("SELECT id FROM jobs WHERE %s::text IS NULL OR owner = %s ORDER BY seq", [owner, owner])
    infos = {info.id: info for info in await store.get_many(None, [str(row["id"]) for row in rows])}
    return [infos[str(row["id"])] for row in rows]


_VALUES: dict[str, Callable[[JobInfo], Any]] = {
    "started": lambda info: info.started_at,
    "ended": lambda info: info.finished_at,
    "name": lambda info: info.name,
    "priority": lambda info: info.priority,
}


def in_order(jobs: list[JobInfo], sort: str) -> list[str]:
    """The ids as the order must have them; ``jobs`` are oldest first."""
    word, falls = sort.removeprefix("-"), sort.startswith("-")
    if word == "created":
        return [info.id for info in (reversed(jobs) if falls else jobs)]
    newest_first = jobs[::-1]
    having = [info for info in newest_first if _VALUES[word](info) is not None]
    having.sort(key=_VALUES[word], reverse=falls)
    return [info.id for info in having] + [info.id for info in newest_first if _VALUES[word](info) is None]


async def forwards(store: Store, owner: str | None, sort: str | None, limit: int, **conditions: Any) -> list[JobPage]:
    pages: list[JobPage] = []
    cursor = None
    while True:
        page = await store.list(owner, JobFilter.parse(conditions), limit=limit, cursor=cursor, sort=sort)
        pages.append(page)
        assert len(pages) < ENDLESS
        if (cursor := page.next) is None:
            return pages


def ids_of(pages: list[JobPage]) -> list[str]:
    return [info.id for page in pages for info in page.items]


class TestOrders:
    @pytest.mark.parametrize("sort", SORTS)
    @pytest.mark.parametrize("owner", [ME, None])
    async def test_pages_have_every_job_once_in_order_in_both_directions(
        self, store: Store, database: str, sort: str, owner: str | None
    ) -> None:
        """Whatever the size of a page: those that are alike and those without a value are neither lost nor doubled."""
        fill(database, 83)
        expected = in_order(await everything(store, owner), sort)
        for limit in (1, 4, 50, 83, 500):
            pages = await forwards(store, owner, sort, limit)
            assert ids_of(pages) == expected
            assert pages[0].previous is None
            back = [pages[-1]]
            while (before := back[0].previous) is not None:
                back.insert(0, await store.list(owner, JobFilter(), limit=limit, before=before, sort=sort))
                assert back[0].next is not None
                assert len(back) < ENDLESS
            assert ids_of(back) == expected
            assert [page.items for page in back] == [page.items for page in pages]

    @pytest.mark.parametrize("sort", SORTS)
    async def test_a_filter_leaves_jobs_out_and_changes_no_order(self, store: Store, database: str, sort: str) -> None:
        fill(database, 120)
        jobs = await everything(store, ME)
        filters: list[dict[str, Any]] = [
            {"state": "FINISHED"}, {"state": ["QUEUED", "FAILED"], "queue": "long"}, {"tag": "y"}, {"name": "a"},
            {"name": "B*", "state": "ended"}, {"queue": "nothing"}, {"state": "active"}, {"state": "UNKNOWN"},
        ]  # fmt: skip
        for conditions in filters:
            wanted = JobFilter.parse(conditions)
            expected = in_order([info for info in jobs if wanted.matches(info)], sort)
            assert ids_of(await forwards(store, ME, sort, 7, **conditions)) == expected, conditions

    @pytest.mark.parametrize("sort", SORTS)
    async def test_others_jobs_are_in_no_page(self, store: Store, database: str, sort: str) -> None:
        """Not even with a cursor that somebody else was given."""
        fill(database, 60)
        mine = {info.id for info in await everything(store, ME)}
        assert set(ids_of(await forwards(store, ME, sort, 9))) == mine
        for page in await forwards(store, YOU, sort, 3):
            for mark in filter(None, (page.next, page.previous)):
                after = await store.list(ME, JobFilter(), limit=100, cursor=mark, sort=sort)
                before = await store.list(ME, JobFilter(), limit=100, before=mark, sort=sort)
                ids = ids_of([before, after])
                assert (set(ids), len(ids)) == (mine, len(mine))

    @pytest.mark.parametrize("sort", SORTS)
    async def test_jobs_that_stay_are_seen_once_while_others_come_and_change(
        self, store: Store, work: Work, database: str, sort: str
    ) -> None:
        """In both directions, while jobs are added, start, end, are changed, run again and are deleted."""
        fill(database, 90)
        stay = [info.id for info in await everything(store, ME)]
        restless = [await new(store, name=random.choice(["a", "c"]), priority=n % 3) for n in range(40)]
        worker = uuid.uuid4()
        await work.beat(worker, host="here", pid=1, cores=2, busy=0, running=0)
        enough = asyncio.Event()

        async def attempt_of(job_id: str) -> int:
            info = await store.get(ME, job_id)
            return 0 if info is None else info.attempt

        async def stir() -> None:
            while not enough.is_set():
                one = random.choice(restless)
                order = UpdateOrder(ids=[one], changes=JobChanges(priority=random.randrange(3)))
                action = random.randrange(6)
                if action == 0:
                    await new(store, name="b")
                elif action == 1:
                    await store.update(ME, order, actor=ME)
                elif action == 2:
                    await store.cancel(ME, CancelOrder(ids=[one]), actor=ME)
                elif action == 3:
                    await store.retry(ME, RetryOrder(ids=[one]), actor=ME)
                elif action == 4 and len(restless) > 20:
                    await store.delete(ME, DeleteOrder(ids=[one]), actor=ME)
                elif (claim := await work.claim(one, (await attempt_of(one)), worker)) is not None:
                    await work.finish(worker, [Finish(one, claim.attempt, JobState.FAILED)])

        stirring = asyncio.create_task(stir())
        try:
            pages = await forwards(store, ME, sort, 6)
            seen = Counter(ids_of(pages))
            assert {job: seen[job] for job in stay} == dict.fromkeys(stay, 1)
            back, mark = Counter[str](), pages[-1].previous
            looks = 0
            last = {info.id for info in pages[-1].items}
            while mark is not None:
                page = await store.list(ME, JobFilter(), limit=6, before=mark, sort=sort)
                back.update(ids_of([page]))
                mark = page.previous
                assert (looks := looks + 1) < ENDLESS
            assert {job: back[job] for job in stay} == {job: int(job not in last) for job in stay}
        finally:
            enough.set()
            await stirring

    @pytest.mark.parametrize("sort", SORTS)
    async def test_a_place_stays_though_its_job_is_gone(self, store: Store, database: str, sort: str) -> None:
        """A page behind the last job is empty and leads back; so does one before the first."""
        fill(database, 30)
        ids = ids_of(pages := await forwards(store, ME, sort, 8))
        cursor, gone = pages[0].next, ids[7]
        await store.delete(ME, DeleteOrder(ids=[gone]), actor=ME)
        page = await store.list(ME, JobFilter(), limit=100, cursor=cursor, sort=sort)
        assert ids_of([page]) == ids[8:]
        assert page.previous is not None
        assert ids_of([await store.list(ME, JobFilter(), limit=100, before=page.previous, sort=sort)]) == ids[:7]

        await store.delete(ME, DeleteOrder(ids=ids[8:]), actor=ME)
        empty = await store.list(ME, JobFilter(), limit=5, cursor=cursor, sort=sort)
        assert (empty.items, empty.next) == ([], None)
        last = await store.list(ME, JobFilter(), limit=5, before=empty.previous, sort=sort)
        assert ids_of([last]) == ids[2:7]

        first = await store.list(ME, JobFilter(), limit=5, before=last.previous, sort=sort)
        assert ids_of([first]) == ids[:2]
        assert first.previous is None
        await store.delete(ME, DeleteOrder(ids=ids[:2]), actor=ME)
        empty = await store.list(ME, JobFilter(), limit=5, before=last.previous, sort=sort)
        assert (empty.items, empty.previous) == ([], None)
        assert ids_of([await store.list(ME, JobFilter(), limit=9, cursor=empty.next, sort=sort)]) == ids[2:7]

    async def test_the_page_behind_the_last_one_leads_back_to_the_last_job(self, store: Store, database: str) -> None:
        """Also where that job is still there: it is neither lost nor does it bring others along."""
        fill(database, 12)
        for sort in SORTS:
            [page] = await forwards(store, ME, sort, 50)
            ids = ids_of([page])
            whole = await store.list(ME, JobFilter(), limit=len(ids) - 1, sort=sort)
            end = await store.list(ME, JobFilter(), limit=5, cursor=whole.next, sort=sort)
            assert ids_of([end]) == ids[-1:]
            [mark] = [one for one in [end.previous] if one is not None]
            assert ids_of([await store.list(ME, JobFilter(), limit=2, before=mark, sort=sort)]) == ids[-3:-1]


class TestCursors:
    async def test_those_of_earlier_versions_are_good_for_the_newest_first(self, store: Store) -> None:
        jobs = [await new(store) for _ in range(5)]
        seqs = {str(row["id"]): row["seq"] for row in await store.all("SELECT id, seq FROM jobs")}
        cursor = encode_cursor(seqs[jobs[2]])
        for sort in (None, "-created"):
            assert ids_of([await store.list(ME, JobFilter(), limit=9, cursor=cursor, sort=sort)]) == jobs[1::-1]
            assert (await store.list(ME, JobFilter(), limit=2, sort=sort)).next == encode_cursor(seqs[jobs[3]])

    async def test_one_of_another_order_is_refused(self, store: Store, database: str) -> None:
        fill(database, 40)
        marks = {sort: (await store.list(ME, JobFilter(), limit=2, sort=sort)).next for sort in SORTS}
        for sort in SORTS:
            for other, mark in marks.items():
                if other != sort:
                    for where in ("cursor", "before"):
                        with pytest.raises(BadCursor):
                            await store.list(ME, JobFilter(), limit=2, sort=sort, **{where: mark})  # type: ignore[arg-type]

    @pytest.mark.parametrize("sort", SORTS)
    async def test_what_somebody_made_up_is_refused_without_an_error(self, store: Store, sort: str) -> None:
        def made(*parts: object) -> str:
            text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
            return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")

        values: list[object] = [
            True, 1.5, 2**70, "x\x00", "\ud800", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00",
            "9999-99-99T00:00:00+00:00", [], {}, "infinity",
        ]  # fmt: skip
        bad = ["", "x", "czE=x", "\x00", "ü", "[" * 500, made(sort), made(sort, None), made(sort, None, 1, 1), made({})]
        bad += [made(sort, value, 1) for value in values if not (sort.endswith("name") and isinstance(value, str))]
        bad += [made(sort, value, 1) for value in ("x\x00", "\ud800")]
        bad += [made(sort, value, seq) for value in (None, 1, "a") for seq in (-1, 2**63, True, "1", None, 1.0)]
        for mark in bad:
            for where in ("cursor", "before"):
                with pytest.raises(BadCursor):
                    await store.list(ME, JobFilter(), limit=1, sort=sort, **{where: mark})  # type: ignore[arg-type]

    async def test_two_at_once_and_an_order_that_there_is_not_are_refused(self, store: Store) -> None:
        mark = encode_cursor(1)
        with pytest.raises(BadCursor):
            await store.list(ME, JobFilter(), limit=1, cursor=mark, before=mark)
        for word in ("", "-", "id", "--created", "created ", "CREATED"):
            with pytest.raises(BadSort, match="-created"):
                await store.list(ME, JobFilter(), limit=1, sort=word)

    @pytest.mark.parametrize("sort", ["name", "-name"])
    async def test_a_name_of_any_kind_is_a_place(self, store: Store, sort: str) -> None:
        """The longest one too, and of an array, in letters that take four bytes each; the address takes its cursor."""
        names = ["😀" * 200, "ü" * 200, '"' * 200, "\\%_*", "a\nb", " ", "~", "\x7f", "\x01" * 190]
        for name in names:
            await new(store, name=name)
        made, _ = await store.submit_array(
            ME, ArrayOrder.parse({"spec": {"command": "true", "name": "😀" * 190}, "size": 3}), actor=ME
        )
        pages = await forwards(store, ME, sort, 1)
        assert ids_of(pages) == in_order(await everything(store, ME), sort)
        assert set(made.ids) < set(ids_of(pages))
        assert max(len(page.next or "") for page in pages) <= 2000


class TestCounts:
    @pytest.mark.parametrize("owner", [ME, YOU, None])
    async def test_they_are_those_of_counting_one_by_one(self, store: Store, database: str, owner: str | None) -> None:
        """Under every condition but those on the state; a bound that is not reached changes nothing."""
        fill(database, 150)
        made, _ = await store.submit_array(ME, ArrayOrder.parse({"spec": {"command": "true"}, "size": 4}), actor=ME)
        assert made.array is not None
        jobs = await everything(store, owner)
        middle = jobs[len(jobs) // 2].created_at
        filters: list[dict[str, Any]] = [
            {}, {"state": "FINISHED"}, {"queue": "long"}, {"tag": "x"}, {"tag": ["x", "y"], "queue": "long"},
            {"name": "a"}, {"name": "*B*"}, {"name": "B*", "queue": "default"}, {"array": made.array.id},
            {"array": "none"}, {"created_after": middle}, {"created_before": middle, "tag": "y"}, {"queue": "no"},
        ]  # fmt: skip
        for conditions in filters:
            wanted = JobFilter.parse(conditions)
            expected = Counter(info.state for info in jobs if wanted.model_copy(update={"state": []}).matches(info))
            for bound in (100_000, len(jobs)):
                counted = await store.count(owner, wanted, bound=bound)
                assert (counted.states, counted.complete) == (dict(expected), True), (conditions, bound)

    async def test_a_bound_that_is_reached_is_said_and_no_count_is_too_large(self, store: Store, database: str) -> None:
        """What has not ended is counted first, and what is not said to be a bound is exact."""
        fill(database, 200)
        await store.all("UPDATE jobs SET state = 'PENDING' WHERE state = 'QUEUED' AND seq % 8 = 1 RETURNING id")
        jobs = await everything(store, ME)
        exact = Counter(info.state for info in jobs)
        some = Counter(info.state for info in jobs if info.queue == "default")
        for bound in (0, 1, 25, 45, 90, 140):
            for conditions, right in (({}, exact), ({"queue": "default"}, some)):
                counted = await store.count(ME, JobFilter.parse(conditions), bound=bound)
                for state in JobState:
                    found = counted.states.get(state, 0)
                    assert found <= right[state] if state in counted.at_least else found == right[state]
                    assert found <= bound + 1
                assert counted.complete == (not conditions and bound >= max(exact.values()))
        for conditions in ({"queue": "default"}, {"tag": "x"}):  # one that an index finds, and one that none does
            counted = await store.count(ME, JobFilter.parse(conditions), bound=50)
            assert counted.at_least == {JobState.FINISHED, JobState.FAILED, JobState.CANCELLED}

    async def test_what_an_index_finds_is_exact_though_there_are_more_jobs_than_the_bound(
        self, store: Store, database: str
    ) -> None:
        fill(database, 200)
        await new(store, name="rare", tags=["rare"])
        for conditions in ({"name": "rare"}, {"name": "rar*"}, {"tag": "rare"}):
            counted = await store.count(ME, JobFilter.parse(conditions), bound=10)
            assert (counted.states, counted.complete) == ({JobState.QUEUED: 1}, True)


async def run(work: Work, job_id: str, state: JobState = JobState.FINISHED) -> None:
    worker = uuid.uuid4()
    await work.beat(worker, host="here", pid=1, cores=2, busy=0, running=0)
    assert await work.claim(job_id, 0, worker) is not None
    assert await work.finish(worker, [Finish(job_id, 1, state)]) == {job_id}


class TestNeighbours:
    async def test_both_sides_are_told_before_and_after_the_end(self, store: Store, work: Work) -> None:
        first, second = await new(store, name="first"), await new(store, name="second")
        job = await new(store, name="job", after=[first, (second, "any")])
        child = await new(store, name="child", after=[(job, "failed")])
        found = await store.neighbours(ME, job)
        assert found is not None
        assert [(one.id, one.name, one.state, one.when, one.met) for one in found.parents] == [
            (first, "first", JobState.QUEUED, When.OK, None),
            (second, "second", JobState.QUEUED, When.ANY, None),
        ]
        assert [(one.id, one.name, one.state, one.when, one.met) for one in found.children] == [
            (child, "child", JobState.PENDING, When.FAILED, None)
        ]
        assert (found.more_parents, found.more_children) == (False, False)
        await run(work, first)
        after = await store.neighbours(ME, job)
        assert after is not None
        assert [(one.id, one.state, one.met) for one in after.parents] == [
            (second, JobState.QUEUED, None),
            (first, JobState.FINISHED, True),
        ]
        await run(work, second, JobState.FAILED)
        await run(work, job)
        ended = await store.neighbours(ME, job)
        assert ended is not None
        assert [(one.id, one.met) for one in ended.parents] == [(first, True), (second, True)]
        assert [(one.id, one.state, one.met) for one in ended.children] == [(child, JobState.FAILED, False)]

    async def test_others_are_never_told(self, store: Store) -> None:
        """Neither around another's job, nor another's job around one's own, though the two were tied somehow."""
        mine, yours = await new(store), await new(store, owner=YOU)
        assert await store.neighbours(YOU, mine) is None
        for bad in ("", "x", "\x00", str(uuid.uuid4())):
            assert await store.neighbours(None, bad) is None
        async with store.connection() as connection:
            await connection.execute(
                "INSERT INTO dependencies (job_id, parent_id, kind) VALUES (%(a)s, %(b)s, 'ok'), (%(b)s, %(a)s, 'ok')",
                {"a": mine, "b": yours},
            )
        found = await store.neighbours(ME, mine)
        assert found is not None
        assert (found.parents, found.children) == ((), ())
        everybody = await store.neighbours(None, mine)
        assert everybody is not None
        assert [[one.id for one in side] for side in (everybody.parents, everybody.children)] == [[yours], [yours]]

    async def test_more_than_asked_for_is_said_and_those_that_wait_come_first(self, store: Store, work: Work) -> None:
        parents = [await new(store) for _ in range(5)]
        job = await new(store, after=parents)
        children = [await new(store, after=[job]) for _ in range(4)]
        await run(work, parents[0])
        found = await store.neighbours(ME, job, most=3)
        assert found is not None
        assert (found.more_parents, found.more_children) == (True, True)
        assert [one.id for one in found.parents] == parents[1:4]
        assert len(found.children) == 3
        assert {one.id for one in found.children} < set(children)
        exact = await store.neighbours(ME, job, most=5)
        assert exact is not None
        assert (exact.more_parents, exact.more_children) == (False, False)
        assert [one.id for one in exact.parents] == [*parents[1:], parents[0]]
        assert [one.id for one in exact.children] == children

    async def test_a_parent_that_was_deleted_is_still_known_by_its_id(self, store: Store, work: Work) -> None:
        parent = await new(store)
        job = await new(store, after=[parent])
        await run(work, parent)
        await store.delete(ME, DeleteOrder(ids=[parent]), actor=ME)
        found = await store.neighbours(ME, job)
        assert found is not None
        assert [(one.id, one.name, one.state, one.met) for one in found.parents] == [(parent, None, None, True)]


class TestHistory:
    async def _cancelled_and_retried(self, store: Store, times: int) -> str:
        job = await new(store)
        for _ in range(times):
            await store.cancel(ME, CancelOrder(ids=[job]), actor=ME)
            await store.retry(ME, RetryOrder(ids=[job]), actor=ME)
        return job

    async def test_a_long_one_has_its_newest_changes_and_the_times_of_all(self, store: Store) -> None:
        job = await self._cancelled_and_retried(store, 6)
        async with store.connection() as connection:  # ten seconds in each state
            await connection.execute(
                "UPDATE events e SET at = now() - make_interval(secs => 10 * n.left) FROM"
                " (SELECT seq, row_number() OVER (ORDER BY seq DESC) AS left FROM events) n WHERE n.seq = e.seq"
            )
        whole, cut = await store.history(ME, job), await store.history(ME, job, most=4)
        assert whole is not None
        assert cut is not None
        assert (len(whole.changes), whole.truncated, cut.truncated) == (13, False, True)
        assert cut.changes == whole.changes[-4:]
        for history in (whole, cut):
            assert history.queue_time is not None
            assert 70 <= history.queue_time.total_seconds() < 100
            assert history.run_time is not None
            assert history.run_time.total_seconds() == 0
        exact = await store.history(ME, job, most=13)
        assert exact is not None
        assert not exact.truncated
        assert "left out" in str(cut)
        assert "left out" not in str(exact)

    async def test_times_that_cannot_be_known_are_not_told(self, store: Store) -> None:
        """A job with more entries than are looked at has no times, rather than those of a part."""
        job = await self._cancelled_and_retried(store, 3)
        assert (whole := await store.history(ME, job, looked=7)) is not None
        assert (whole.truncated, whole.queue_time is None) == (False, False)
        assert (cut := await store.history(ME, job, looked=6)) is not None
        assert (cut.truncated, cut.queue_time, cut.run_time) == (True, None, None)
        assert cut.changes[-1] == whole.changes[-1]

    async def test_many_attempts_are_told_from_the_newest(self, store: Store) -> None:
        job = await new(store)
        async with store.connection() as connection:
            await connection.execute(
                "INSERT INTO attempts (job_id, attempt, state) SELECT %s, i, 'FAILED' FROM generate_series(1, 9) i",
                [job],
            )
        history = await store.history(ME, job, most=5)
        assert history is not None
        assert ([one.attempt for one in history.attempts], history.truncated) == ([5, 6, 7, 8, 9], True)


class TestApi:
    async def test_a_list_is_sorted_as_its_address_says_and_goes_both_ways(self, api: Api) -> None:
        ids = {name: await api.submit(name=name) for name in ("c", "a", "d", "b")}

        async def page(**params: Any) -> JobPage:
            answer = await api.http.get("/v1/jobs", params={"sort": "name", "limit": 2, **params})
            assert answer.status_code == 200, answer.text
            return JobPage.model_validate_json(answer.content)

        first = await page()
        second = await page(cursor=first.next)
        assert [info.id for info in first.items + second.items] == [ids[name] for name in "abcd"]
        assert (first.previous, second.next) == (None, None)
        assert await page(before=second.previous) == first

    async def test_what_cannot_be_is_refused_and_what_can_be_is_named(self, api: Api) -> None:
        await api.submit()
        await api.submit()
        mark = (await api.http.get("/v1/jobs", params={"limit": 1})).json()["next"]
        questions: list[tuple[dict[str, Any], str]] = [
            ({"sort": "size"}, "sort"),
            ({"sort": "name", "cursor": mark}, "cursor"),
            ({"sort": "name", "before": mark}, "before"),
            ({"cursor": mark, "before": mark}, "before"),
        ]
        for params, field in questions:
            answer = await api.http.get("/v1/jobs", params=params)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), params
        told = (await api.http.get("/v1/jobs", params={"sort": "size"})).json()["errors"][0]["message"]
        assert all(word in told for word in SORTS)

    async def test_the_orders_are_documented(self, api: Api) -> None:
        document = (await api.http.get("/v1/openapi.json")).json()
        parameters = {one["name"]: one["schema"] for one in document["paths"]["/v1/jobs"]["get"]["parameters"]}
        assert parameters["sort"]["enum"] == list(SORTS)
        assert "before" in parameters
