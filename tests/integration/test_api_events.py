"""The stream of changes: complete, resumable, bounded, and each owner's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from hpcjobs.models import JobInfo
from hpcjobs_server import events as feed
from hpcjobs_server.api import events as stream
from hpcjobs_server.settings import Settings
from tests.integration.serving import Api, asyncio_timeout, events, serving


async def test_a_stream_begins_with_hello_and_tells_each_state(api: Api) -> None:
    async with events(api.http) as got:
        hello = await got.next()
        assert hello is not None
        assert (hello.name, hello.data) == ("hello", {"cursor": hello.id})
        job_id = await api.submit(name="n")
        event = await got.until(job_id, "QUEUED")
        info = JobInfo.model_validate(event.data)
        assert (info.name, info.owner, info.spec) == ("n", "ada", None)
        await api.start(job_id)
        await got.until(job_id, "RUNNING")
        await api.report(job_id, 4)
        while event.data["progress"] is None:
            following = await got.next()
            assert following is not None
            event = following
        assert event.data["progress"]["done"] == 4
        await api.finish(job_id)
        last = await got.until(job_id, "FINISHED")
        assert last.id >= hello.id


async def test_what_changed_while_nobody_listened_comes_on_resuming(api: Api) -> None:
    async with events(api.http) as got:
        hello = await got.next()
    assert hello is not None
    ids = [await api.submit() for _ in range(20)]
    await api.start(ids[0])
    async with events(api.http, headers={"Last-Event-ID": str(hello.id)}) as got:
        first = await got.next()
        assert first is not None
        assert (first.name, first.id) == ("hello", hello.id)  # what was missed is still to come
        seen = {}
        for number in range(20):
            event = await got.next()
            assert event is not None
            seen[event.data["id"]] = event.data["state"]
            if number < 19:
                assert event.id == hello.id  # until the last of a batch has come, the batch has not
        assert event.id > hello.id
    assert set(seen) == set(ids)
    assert seen[ids[0]] == "RUNNING"  # the present info, once
    async with events(api.http, params={"after": str(event.id)}) as got:
        assert (await got.next() or event).name == "hello"
        later = await api.submit()
        await got.until(later, "QUEUED")


async def test_no_change_is_lost_however_often_the_stream_breaks(api: Api) -> None:
    finished: set[str] = set()

    async def work() -> None:
        for _ in range(30):
            job_id = await api.submit()
            await api.http.post(f"/v1/jobs/{job_id}/cancel", json={})

    async with events(api.http) as got:
        hello = await got.next()
    assert hello is not None
    cursor, breaks = hello.id, 0
    working = asyncio.create_task(work())
    async with asyncio_timeout(60):
        while len(finished) < 30:
            async with events(api.http, headers={"Last-Event-ID": str(cursor)}) as got:
                for _ in range(1 + 3 * breaks % 40):
                    if len(finished) == 30:
                        break
                    event = await got.next()
                    assert event is not None
                    cursor = event.id
                    if event.name == "job" and event.data["state"] == "CANCELLED":
                        finished.add(event.data["id"])
            breaks += 1
    await working
    assert breaks > 3


async def test_a_stream_shows_its_owners_jobs_and_all_to_an_administrator(api: Api) -> None:
    async with (
        api.client("bob", "read") as bob,
        api.client("root", "admin") as admin,
        events(bob) as to_bob,
        events(admin) as to_admin,
    ):
        assert await to_bob.next()
        assert await to_admin.next()
        async with api.client("bob") as writer:
            mine = await api.submit()
            bobs = (await writer.post("/v1/jobs", json={"command": "true"})).json()["id"]
        event = await to_bob.next()
        assert event is not None
        assert event.data["id"] == bobs
        seen = {event.data["id"] for _ in range(2) if (event := await to_admin.next())}
        assert seen == {mine, bobs}


async def test_a_stream_can_be_of_some_jobs_only(api: Api) -> None:
    some, other = await api.submit(), await api.submit()
    async with events(api.http, params={"ids": f"{some.upper()}, nothing"}) as got:
        assert await got.next()
        await api.http.post(f"/v1/jobs/{other}/cancel", json={})
        await api.http.post(f"/v1/jobs/{some}/cancel", json={})
        event = await got.next()
        assert event is not None
        assert event.data["id"] == some


async def test_one_reader_serves_all_and_an_open_transaction_repeats_nothing(api: Api) -> None:
    """While an older transaction is open the cursor stands still; what came once does not come again and again."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(api.settings.database_url) as other, events(api.http) as got:
        assert await got.next()
        await other.execute("SELECT pg_current_xact_id()")
        first = await api.submit()
        await got.until(first, "QUEUED")
        second = await api.submit()
        event = await got.next()
        assert event is not None
        assert event.data["id"] == second
        await other.rollback()
        third = await api.submit()
        seen = set()
        while third not in seen:
            event = await got.next()
            assert event is not None
            seen.add(event.data["id"])
        assert first not in seen


async def test_a_cursor_from_the_future_is_answered_with_a_reset(api: Api) -> None:
    await api.submit()
    async with events(api.http, headers={"Last-Event-ID": str(2**62)}) as got:
        hello, reset = await got.next(), await got.next()
        assert hello is not None
        assert reset is not None
        assert (hello.name, reset.name) == ("hello", "reset")
        assert hello.id == reset.id < 2**62
        job_id = await api.submit()
        await got.until(job_id, "QUEUED")


async def test_who_missed_too_much_is_told_to_look_anew(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_PENDING", 5)
    async with events(api.http) as got:
        hello = await got.next()
    assert hello is not None
    for _ in range(6):
        await api.submit()
    async with events(api.http, headers={"Last-Event-ID": str(hello.id)}) as got:
        names = [event.name for _ in range(2) if (event := await got.next())]
        assert names == ["hello", "reset"]


def test_a_connection_that_takes_nothing_is_ended_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_PENDING", 3)
    connection = feed.Connection("ada", None)

    def change(number: int, owner: str = "ada") -> feed.Change:
        return feed.Change(owner, JobInfo.model_validate({"id": str(number), "state": "QUEUED"}))

    for cursor in range(10):
        connection.offer(feed.Batch(cursor, [change(1), change(2), change(cursor, "bob")]))
    assert not connection.ended  # the newest info of two jobs
    connection.offer(feed.Batch(10, [change(3), change(4)]))
    assert connection.ended


async def test_a_question_that_makes_no_sense_is_refused(api: Api) -> None:
    for options in (
        {"headers": {"Last-Event-ID": "abc"}},
        {"headers": {"Last-Event-ID": "-1"}},
        {"headers": {"Last-Event-ID": "9" * 19}},
        {"params": {"after": "x"}},
        {"params": {"after": str(2**63)}},
        {"params": {"ids": ","}},
        {"params": {"ids": ",".join(map(str, range(stream.MOST_IDS + 1)))}},
    ):
        answer = await api.http.get("/v1/events", **options)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), options


async def test_more_streams_than_the_bound_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_CONNECTIONS", 1)
    async with events(api.http) as got:
        assert await got.next()
        answer = await api.http.get("/v1/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
    async with asyncio_timeout(10):
        while (await api.http.get("/metrics")).text.find("hpcjobs_event_streams 0.0") < 0:
            await asyncio.sleep(0.01)


async def test_a_quiet_stream_has_comments_and_ends_with_its_token(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEPALIVE", 0.05)
    async with api.client("bob") as bob, events(bob) as got:
        assert await got.next()
        made = next(token for token in await api.store.list_tokens("bob"))
        async with api.client("bob") as another:
            await asyncio.sleep(0.3)
            assert (await another.delete(f"/v1/tokens/{made.id}")).status_code == 204
        assert await got.next() is None
        assert got.comments >= 2


async def test_streams_end_promptly_when_the_service_stops(settings: Callable[..., Settings]) -> None:
    async with serving(settings()) as api, events(api.http) as got:
        assert await got.next()
        began = time.monotonic()
        api.server.should_exit = True
        assert await got.next() is None
        assert time.monotonic() - began < 3


async def test_without_listen_the_stream_works_by_polling(settings: Callable[..., Settings]) -> None:
    async with serving(settings(listen=False, poll=0.1)) as api, events(api.http) as got:
        assert await got.next()
        job_id = await api.submit()
        await got.until(job_id, "QUEUED")


async def test_a_stream_needs_a_token_in_the_header(api: Api) -> None:
    token = api.http.headers["authorization"].removeprefix("Bearer ")
    async with httpx.AsyncClient(base_url=api.server.url, trust_env=False) as nobody:
        for params in ({}, {"token": token}, {"access_token": token}):
            answer = await nobody.get("/v1/events", params=params)
            assert (answer.status_code, answer.json()["code"]) == (401, "no_token")
