"""The worker's inner life with stand-ins for the database and the processes: orders that meet at a bad moment."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

import psycopg
import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobSpec, Progress
from hpcjobs_server.executors.base import Ended, Executor
from hpcjobs_server.runner import Cores, Runner
from hpcjobs_server.store import Claim, Finish, Work

pytestmark = pytest.mark.anyio


class Scripted:
    """An execution that runs until it is aborted."""

    def __init__(self) -> None:
        self.started, self.stopped = asyncio.Event(), asyncio.Event()

    async def prepare(self) -> None: ...

    async def start(self) -> None:
        self.started.set()

    async def wait(self) -> Ended:
        await self.stopped.wait()
        return Ended(signal=15, aborted=True)

    def abort(self, *, gently: bool = False) -> None:
        self.stopped.set()

    kill = leave = abort

    def moved(self) -> None: ...

    def ping(self) -> None: ...

    def progress(self) -> Progress | None:
        raise RecursionError("whatever a job wrote")


class Everything:
    """The parts of the store and of the executor that a runner needs."""

    cluster, slots = None, 2

    def __init__(self) -> None:
        self.execution_ = Scripted()
        self.claiming, self.claim_may_end = asyncio.Event(), asyncio.Event()
        self.claim_may_end.set()
        self.finishes: list[Finish] = []
        self.handed_back: list[str] = []
        self.fails: list[Exception] = []

    def execution(self, claim: Claim) -> Scripted:
        return self.execution_

    def weight(self, cores: int) -> int:
        return cores

    async def claim(self, job_id: str, attempt: int, worker: uuid.UUID, *, queue: str, cluster: str | None) -> Claim:
        self.claiming.set()
        await self.claim_may_end.wait()
        return Claim(job_id, attempt + 1, "me", JobSpec(command="x"))

    async def finish(self, worker: uuid.UUID, ends: list[Finish]) -> set[str]:
        if self.fails:
            raise self.fails.pop(0)
        self.finishes += ends
        return {end.job_id for end in ends}

    async def hand_back(self, job_id: str, attempt: int, *, delay: float) -> None:
        self.handed_back.append(job_id)

    async def room_elsewhere(self, *_: Any) -> bool:
        return False


def make() -> tuple[Runner, Everything]:
    parts = Everything()
    return Runner(cast("Work", parts), cast("Executor", parts), uuid.uuid4()), parts


async def test_an_order_to_stop_that_meets_a_claim_under_way_stops_that_job_too() -> None:
    runner, parts = make()
    parts.claim_may_end.clear()
    taking = asyncio.create_task(runner.take("job", 0, 1, "default"))
    finishing = asyncio.create_task(runner.send_finishes())
    await asyncio.wait_for(parts.claiming.wait(), 5)
    runner.closing.set()
    runner.abort_all("stopped")
    parts.claim_may_end.set()
    await asyncio.wait_for(taking, 5)
    await asyncio.wait_for(runner.idle.wait(), 5)
    assert parts.finishes == [Finish("job", 1, JobState.CANCELLED, "stopped")]
    finishing.cancel()


async def test_a_ticket_that_comes_while_the_worker_closes_is_handed_back() -> None:
    runner, parts = make()
    runner.closing.set()
    await runner.take("job", 0, 1, "default")
    assert parts.handed_back == ["job"]


async def test_an_end_whose_words_cannot_be_stored_is_stored_without_them() -> None:
    runner, parts = make()
    parts.fails = [
        psycopg.OperationalError("away"),
        psycopg.DataError("NUL"),
        UnicodeEncodeError("utf-8", "x", 0, 1, "y"),
    ]
    finishing = asyncio.create_task(runner.send_finishes())
    await runner.take("job", 0, 1, "default")
    parts.execution_.stopped.set()
    await asyncio.wait_for(runner.idle.wait(), 10)
    [end] = parts.finishes
    assert (end.job_id, end.state, end.reason) == ("job", JobState.CANCELLED, "its reason could not be stored")
    finishing.cancel()


async def test_a_wide_job_keeps_its_place_in_the_line() -> None:
    cores = Cores(2)
    await cores.acquire(1)
    wide = asyncio.create_task(cores.acquire(2))
    await asyncio.sleep(0)
    narrow = asyncio.create_task(cores.acquire(1))
    await asyncio.sleep(0)
    assert not narrow.done(), "a core is free, but the wide job was first"
    cores.release(1)
    await asyncio.wait_for(wide, 5)
    assert not narrow.done()
    cores.release(2)
    await asyncio.wait_for(narrow, 5)
    assert cores.free == 1


async def test_waiters_that_give_up_together_leave_the_cores_whole() -> None:
    cores = Cores(2)
    await cores.acquire(2)
    waiters = [asyncio.create_task(cores.acquire(count)) for count in (2, 1, 1, 2)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*waiters, return_exceptions=True)
    )
    cores.release(2)
    assert cores.free == 2
    await asyncio.wait_for(cores.acquire(2), 5)
