"""Logs over HTTP: ranges, and answers that are held until there is more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs_server.settings import Settings
from tests.integration.serving import Api, serving


async def read(api: Api, job_id: str, range_: str | None = None, *, wait: float = 0) -> httpx.Response:
    headers = {"Range": range_} if range_ else {}
    params = {"wait": str(wait)} if wait else {}
    return await api.http.get(f"/v1/jobs/{job_id}/logs/stdout", headers=headers, params=params)


def append(folder: Path, data: bytes) -> None:
    with (folder / "stdout").open("ab") as file:
        file.write(data)


def facts(answer: httpx.Response) -> tuple[int, str, str, str]:
    """Status, range, state and attempt."""
    headers = answer.headers
    return (
        answer.status_code,
        headers.get("content-range", ""),
        headers["hpcjobs-job-state"],
        headers["hpcjobs-attempt"],
    )


async def test_before_a_job_starts_its_log_is_empty(api: Api) -> None:
    job_id = await api.submit()
    whole = await read(api, job_id)
    assert (facts(whole), whole.content) == ((200, "", "QUEUED", "0"), b"")
    ranged = await read(api, job_id, "bytes=0-")
    assert facts(ranged) == (416, "bytes */0", "QUEUED", "0")
    assert ranged.headers["content-type"] == "application/problem+json"
    assert ranged.json()["code"] == "range"


async def test_ranges_of_a_log(api: Api) -> None:
    job_id = await api.submit()
    append(await api.start(job_id), b"0123456789")
    for range_, status, content, told in (
        (None, 200, b"0123456789", ""),
        ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=4-6", 206, b"456", "bytes 4-6/10"),
        ("bytes=4-600", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", ""),
        ("bytes=5-4", 200, b"0123456789", ""),
        ("lines=1-2", 200, b"0123456789", ""),
    ):
        answer = await read(api, job_id, range_)
        assert (facts(answer), answer.content) == ((status, told, "RUNNING", "1"), content), range_
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment")
    for range_ in ("bytes=10-", "bytes=-0", "bytes=9999999999999999999-"):
        assert facts(await read(api, job_id, range_)) == (416, "bytes */10", "RUNNING", "1"), range_


async def test_a_large_log_is_streamed_as_it_was_when_it_was_opened(api: Api) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    data = bytes(range(256)) * 16384  # 4 MiB
    append(folder, data)
    async with api.http.stream("GET", f"/v1/jobs/{job_id}/logs/stdout") as answer:
        append(folder, b"more")
        assert int(answer.headers["content-length"]) == len(data)
        assert b"".join([part async for part in answer.aiter_bytes()]) == data
    tail = await read(api, job_id, "bytes=-1000000")
    assert tail.content == (data + b"more")[-1_000_000:]


async def test_a_log_that_is_not_there_is_empty_and_a_stream_that_is_none_is_refused(api: Api) -> None:
    job_id = await api.submit()
    await api.start(job_id)
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs/stderr")).content == b""
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs/progress")).status_code == 422
    assert (await api.http.get(f"/v1/jobs/{job_id}/logs/stdout", params={"wait": "31"})).status_code == 422


async def test_a_log_that_is_a_link_is_not_followed(api: Api, tmp_path: Path) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    (tmp_path / "secret").write_text("secret")
    (folder / "stdout").unlink()
    (folder / "stdout").symlink_to(tmp_path / "secret")
    assert (await read(api, job_id)).content == b""


async def test_a_held_answer_comes_as_soon_as_there_is_more(api: Api) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    append(folder, b"one")
    waiting = asyncio.create_task(read(api, job_id, "bytes=3-", wait=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    began = time.monotonic()
    append(folder, b"two")
    answer = await waiting
    assert time.monotonic() - began < 5
    assert (facts(answer), answer.content) == ((206, "bytes 3-5/6", "RUNNING", "1"), b"two")


async def test_a_held_answer_comes_at_once_where_there_is_something(api: Api) -> None:
    job_id = await api.submit()
    append(await api.start(job_id), b"one")
    began = time.monotonic()
    assert (await read(api, job_id, "bytes=1-", wait=30)).content == b"ne"
    assert time.monotonic() - began < 10


async def test_a_held_answer_ends_with_its_time(api: Api) -> None:
    job_id = await api.submit()
    await api.start(job_id)
    began = time.monotonic()
    answer = await read(api, job_id, "bytes=0-", wait=0.4)
    assert time.monotonic() - began >= 0.4
    assert facts(answer) == (416, "bytes */0", "RUNNING", "1")


async def test_a_held_answer_comes_when_the_job_has_ended(api: Api) -> None:
    job_id = await api.submit()
    append(await api.start(job_id), b"all")
    waiting = asyncio.create_task(read(api, job_id, "bytes=3-", wait=30))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await api.finish(job_id)
    assert facts(await waiting) == (416, "bytes */3", "FINISHED", "1")
    assert time.monotonic() - began < 10


async def test_what_was_written_before_the_end_is_told_before_the_end(api: Api) -> None:
    """A terminal state comes with the bytes, or with nothing beyond them: never before them."""
    job_id = await api.submit()
    folder = await api.start(job_id)
    waiting = asyncio.create_task(read(api, job_id, "bytes=0-", wait=30))
    await asyncio.sleep(0.1)
    append(folder, b"last words")
    await api.finish(job_id)
    got, offset = b"", 0
    answer = await waiting
    while answer.status_code == 206:
        got, offset = got + answer.content, offset + len(answer.content)
        answer = await read(api, job_id, f"bytes={offset}-", wait=30)
    assert facts(answer) == (416, "bytes */10", "FINISHED", "1")
    assert got == b"last words"


async def test_a_follower_may_wait_for_a_job_that_has_not_started(api: Api) -> None:
    job_id = await api.submit()
    waiting = asyncio.create_task(read(api, job_id, "bytes=0-", wait=30))
    await asyncio.sleep(0.1)
    folder = await api.start(job_id)
    append(folder, b"hello")
    answer = await waiting
    assert (answer.content, answer.headers["hpcjobs-attempt"]) == (b"hello", "1")


async def test_a_new_attempt_starts_its_log_anew(api: Api) -> None:
    job_id = await api.submit(max_attempts=2)
    append(await api.start(job_id), b"first attempt")
    waiting = asyncio.create_task(read(api, job_id, "bytes=13-", wait=30))
    await asyncio.sleep(0.1)
    await api.finish(job_id, JobState.FAILED)
    folder = await api.start(job_id, attempt=1)
    append(folder, b"second")
    began = time.monotonic()
    assert facts(await waiting) == (416, "bytes */6", "RUNNING", "2")
    assert time.monotonic() - began < 10
    assert (await read(api, job_id, "bytes=0-")).content == b"second"


async def test_many_idle_followers_of_one_log_all_get_it(api: Api) -> None:
    job_id = await api.submit()
    folder = await api.start(job_id)
    waiting = [asyncio.create_task(read(api, job_id, "bytes=0-", wait=30)) for _ in range(30)]
    await asyncio.sleep(0.3)
    append(folder, b"x")
    assert {answer.content for answer in await asyncio.gather(*waiting)} == {b"x"}


async def test_a_follower_that_leaves_is_forgotten(api: Api) -> None:
    job_id = await api.submit()
    await api.start(job_id)
    with pytest.raises(httpx.ReadTimeout):
        await api.http.get(
            f"/v1/jobs/{job_id}/logs/stdout", headers={"Range": "bytes=0-"}, params={"wait": "30"}, timeout=0.3
        )
    end = time.monotonic() + 5
    while api.server.server_state.tasks and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert not api.server.server_state.tasks


async def test_held_answers_come_when_the_service_stops(settings: Callable[..., Settings]) -> None:
    async with serving(settings()) as api:
        job_id = await api.submit()
        await api.start(job_id)
        waiting = asyncio.create_task(read(api, job_id, "bytes=0-", wait=30))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        api.server.should_exit = True
        assert facts(await waiting) == (416, "bytes */0", "RUNNING", "1")
        assert time.monotonic() - began < 5
