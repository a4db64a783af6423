"""What type checkers must know of the public names. It is checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

from typing_extensions import assert_type

from hpcjobs import (
    AsyncClient,
    AsyncFile,
    AsyncJob,
    AsyncJobList,
    CancelResult,
    Client,
    Job,
    JobArray,
    JobInfo,
    JobList,
    JobSpec,
    JobState,
    OutputFile,
    Progress,
    ServiceInfo,
    TaskInfo,
    TokenInfo,
    as_completed,
    connect,
    connect_async,
    tapis_style,
    track,
)
from hpcjobs.tapis_style import Tapis
from hpcjobs.tapis_style.results import TapisResult


def half(n: int) -> float:
    """A function to submit."""
    return n / 2


async def later(n: int) -> bytes:
    """A coroutine function to submit."""
    return bytes(n)


def sync(client: Client, spec: JobSpec) -> None:
    """The sync facade."""
    assert_type(connect(), Client)
    job = client.submit("true", inputs=["a", Path("b")], cores=1, walltime="10m", name="n", tags=["t"])
    assert_type(job, Job)
    client.submit(["python", Path("x.py")], inputs={"a": "b"}, memory=1, stderr="separate", walltime=60)
    client.submit(spec, key="k")
    client.submit("true", wall_time="10m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.submit(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.submit(task=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(job.id, str)
    assert_type(job.info, JobInfo)
    assert_type(job.state, JobState)
    assert_type(job.progress, Progress | None)
    assert_type(job.exit_code, int | None)
    assert_type(job.refresh(), Job)
    assert_type(job.wait(), JobInfo)
    assert_type(job.result(timeout=3), JobInfo)
    assert_type(job.cancel(reason="r"), CancelResult)
    assert_type(job.logs(), str)
    assert_type(job.logs("stderr", tail=3), str)
    assert_type(job.logs(follow=True), Iterator[str])
    assert_type(job.files(), list[OutputFile])
    assert_type(job.download("x", "*.csv", progress=False), list[Path])
    assert_type(job.open("a.csv"), IO[str])
    assert_type(job.open("a.bin", "rb"), IO[bytes])
    job.open("a.csv", "w")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(job.watch(), Iterator[JobInfo])
    job.wait(on_interrupt="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    job.logs("log")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(client.job("id"), Job[Any])
    assert_type(client.jobs(state="RUNNING", tag=["t"]), JobList)
    assert_type(client.cancel(job), CancelResult)
    assert_type(client.cancel_many([job, "id"]), list[CancelResult])
    assert_type(client.wait([job, "id"]), list[JobInfo])
    assert_type(client.info(), ServiceInfo)
    assert_type(client.create_token("n", scope="read", expires_in="1d"), TokenInfo)
    assert_type(client.tokens(), list[TokenInfo])
    assert_type(client.tasks(), list[TaskInfo])
    assert_type(client.submit(half, 1), Job[float])
    assert_type(client.submit(half, n=1, cores=2, name="n").result(), float)
    assert_type(client.submit(later, 1).result(), bytes)
    assert_type(client.submit(lambda: 3, python=["srun", "python3"]).result(), int)
    assert_type(client.submit(task="fit", args={"n": 1}, cores=2).result(), Any)
    assert_type(client.submit(app="fit", app_version="1", args={"n": 1}, options={"nodeCount": 2}), Job[Any])
    assert_type(as_completed([client.submit(half, 1)], timeout=3), Iterator[Job[float]])
    assert_type(track(client.submit(half, 1), 3, progress=False), Iterator[JobInfo])
    assert_type(track([client.submit(half, 1)]), Iterator[Job[float]])
    assert_type(track(client.map(half, [1])), Iterator[Job[float]])
    client.cancel(client.submit(half, 1))
    assert_type(client.map(half, [1], cores=2), JobArray[float])
    assert_type(client.map(half, [1]).results(timeout=3), Iterator[float])
    assert_type(client.map(later, [1])[0], Job[bytes])
    client.map(half, [1], coers=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    with client as entered:
        assert_type(entered, Client)


async def awaited(client: AsyncClient, spec: JobSpec) -> None:
    """The async facade."""
    assert_type(await connect_async(), AsyncClient)
    job = await client.submit("true", inputs=["a", Path("b")], cores=1, walltime="10m", name="n", tags=["t"])
    assert_type(job, AsyncJob)
    await client.submit(spec)
    await client.submit("true", wall_time="10m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(await job, JobInfo)
    assert_type(await job.refresh(), AsyncJob)
    assert_type(await job.wait(), JobInfo)
    assert_type(await job.result(timeout=3), JobInfo)
    assert_type(await job.cancel(reason="r"), CancelResult)
    assert_type(await job.logs(), str)
    assert_type(job.logs(follow=True), AsyncIterator[str])
    assert_type(await job.files(), list[OutputFile])
    assert_type(await job.download("x", "*.csv"), list[Path])
    assert_type(await job.open("a.csv", encoding="latin-1"), AsyncFile[str])
    async with await job.open("a.bin", "rb") as file:
        assert_type(await file.read(), bytes)
        async for line in file:
            assert_type(line, bytes)
    assert_type(job.watch(), AsyncIterator[JobInfo])
    assert_type(await client.job("id"), AsyncJob[Any])
    assert_type(client.jobs(state="RUNNING", tag=["t"]), AsyncJobList)
    assert_type(await client.cancel(job), CancelResult)
    assert_type(await client.cancel_many([job, "id"]), list[CancelResult])
    assert_type(await client.wait([job, "id"]), list[JobInfo])
    assert_type(await client.info(), ServiceInfo)
    assert_type(await client.create_token("n", scope="read", expires_in="1d"), TokenInfo)
    assert_type(await client.tokens(), list[TokenInfo])
    assert_type(await client.tasks(), list[TaskInfo])
    assert_type(await client.submit(half, 1), AsyncJob[float])
    assert_type(await (await client.submit(later, 1)).result(), bytes)
    assert_type((await client.map(later, [1])).results(), AsyncIterator[bytes])
    assert_type(as_completed([await client.submit(half, 1)]), AsyncIterator[AsyncJob[float]])
    assert_type(track(await client.submit(half, 1)), AsyncIterator[JobInfo])
    assert_type(track(await client.map(half, [1])), AsyncIterator[AsyncJob[float]])
    async with client as entered:
        assert_type(entered, AsyncClient)


def style() -> None:
    with tapis_style.connect(base_url="https://tenant.example", access_token="t") as t:
        assert_type(t, Tapis)
        assert_type(t.client, Client)
        assert_type(t.jobs.submitJob(name="a", appId="hello", appVersion="1.0"), TapisResult)
        assert_type(t.jobs.getJob(jobId="id"), TapisResult)
        assert_type(t.jobs.getJobList(limit=1), list[TapisResult])
        assert_type(t.jobs.getJobOutputDownload("id", outputPath="a"), bytes)
