"""The async client does what the sync one does: each of its actions once, on a real service with real jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hpcjobs import AsyncClient, Conflict, JobNotFound, JobState, UpdateOutcome
from hpcjobs.actions import outcomes
from tests.running import Service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def aclient(shared_service: Service) -> AsyncIterator[AsyncClient]:
    token = shared_service.make_token("async-owner", scope="admin").token
    async with AsyncClient(url=shared_service.url, token=token) as client:
        yield client


async def test_one_job(aclient: AsyncClient) -> None:
    job = await aclient.submit("test $HPCJOBS_ATTEMPT = 2", start_in="1h", tags=["a"])
    assert (await job.update(lambda info: {"tags": [*info.tags, "b"]})).outcome is UpdateOutcome.UPDATED
    assert job.tags == ["a", "b"]
    assert (await aclient.update(job.id, priority=3)).done
    assert (await job.retry()).done
    assert (await job).state is JobState.FAILED
    with pytest.raises(Conflict):
        await job.update(command="true")
    assert (await aclient.retry(job.id)).done
    await job.refresh()
    assert (await job).state is JobState.FINISHED
    history = await job.history()
    assert [attempt.state for attempt in history.attempts] == [JobState.FAILED, JobState.FINISHED]
    assert (await job.delete()).done
    with pytest.raises(JobNotFound):
        await aclient.job(job.id)


async def test_many_jobs(aclient: AsyncClient) -> None:
    jobs = await aclient.submit_many(
        [{"command": "true", "after": [n - 1] if n else [], "tags": ["m"]} for n in range(3)]
    )
    seen = [info async for info in aclient.watch(jobs)]
    assert {info.id for info in seen if info.state is JobState.FINISHED} == {job.id for job in jobs}
    assert outcomes(await aclient.retry_many(jobs)) == {"RETRIED": 3}
    await aclient.wait(jobs)
    assert outcomes(await aclient.update_many(jobs, {"name": "same"})) == {"UPDATED": 3}
    assert outcomes(await aclient.cancel_many(tag="m")) == {}
    assert outcomes(await aclient.delete_many(tag="m")) == {"DELETED": 3}


async def test_an_array(aclient: AsyncClient) -> None:
    array = await aclient.submit_array("exit {index}", array=2)
    await array
    assert array.counts == {JobState.FINISHED: 1, JobState.FAILED: 1}
    assert outcomes(await array.retry()) == {"RETRIED": 1}
    await array.wait()
    later = await aclient.submit_array("true", over=["x", "y"], start_in="1h")
    assert outcomes(await later.update(priority=2)) == {"UPDATED": 2}
    assert outcomes(await later.cancel(confirm=5)) == {"CANCELLED": 2}
    assert (await (await aclient.array(later.id)).refresh()).done
    assert outcomes(await later.delete()) == {"DELETED": 2}
    assert (await aclient.delete_many([array]))[0].done


async def test_queues(aclient: AsyncClient) -> None:
    assert (await aclient.pause_queue("held", reason="why")).paused
    job = await aclient.submit("true", queue="held")
    assert (await job.refresh()).reason == "the queue 'held' is paused: why"
    assert not (await aclient.resume_queue("held")).paused
    await job
    assert (await aclient.set_queue("held", max_running=2)).max_running == 2
    assert "held" in {queue.name for queue in await aclient.queues()}
