"""The API on a real port in the test's own event loop, and a hand to move jobs as a worker would."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Progress, Scope
from hpcjobs_server.api_process import Server, bind
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Finish, Store, Work

PATIENCE = 20.0
"""Seconds; generous, because a busy machine is not a broken program."""


@dataclasses.dataclass
class Api:
    """A running API; ``http`` sends as the owner "ada" with the scope write."""

    settings: Settings
    server: Server
    store: Store
    work: Work
    http: httpx.AsyncClient
    worker: UUID = dataclasses.field(default_factory=uuid4)

    async def token(self, owner: str, scope: str = "write", expires_in: timedelta | None = None) -> str:
        made = await self.store.create_token(owner, name="test", scope=Scope(scope), expires_in=expires_in)
        assert made.token is not None
        return made.token

    @contextlib.asynccontextmanager
    async def client(self, owner: str, scope: str = "write") -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {await self.token(owner, scope)}"}
        async with httpx.AsyncClient(
            base_url=self.server.url, headers=headers, timeout=PATIENCE, trust_env=False
        ) as client:
            yield client

    async def submit(self, **fields: Any) -> str:
        answer = await self.http.post("/v1/jobs", json={"command": "true", **fields})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    async def put(self, data: bytes) -> dict[str, Any]:
        """Send an input; what a spec says of it."""
        sha256 = hashlib.sha256(data).hexdigest()
        answer = await self.http.put(f"/v1/blobs/{sha256}", content=data)
        assert answer.status_code in {200, 201}, answer.text
        return {"name": "input", "sha256": sha256, "size": len(data)}

    # What a worker does

    async def beat(self, cores: int = 2, worker: UUID | None = None) -> None:
        await self.work.beat(worker or self.worker, host="test", pid=1, cores=cores, busy=0, running=0)

    async def start(self, job_id: str, attempt: int = 0) -> Path:
        """Start the next attempt of a job; its folder, with an empty log and an empty work folder."""
        await self.beat()
        claim = await self.work.claim(job_id, attempt, self.worker)
        assert claim is not None
        await self.work.started(job_id, claim.attempt, self.worker)
        folder = self.settings.job_folder(job_id, claim.attempt)
        (folder / "work").mkdir(parents=True)
        (folder / "stdout").touch()
        return folder

    async def report(self, job_id: str, done: float, attempt: int = 1) -> None:
        await self.work.report_progress([(job_id, attempt, Progress(done=done, total=10))])

    async def finish(self, job_id: str, state: JobState = JobState.FINISHED, attempt: int = 1) -> None:
        assert await self.work.finish(self.worker, [Finish(job_id, attempt, state, exit_code=0)]) == {job_id}

    async def failed(self, **fields: Any) -> str:
        """A job that has run and failed."""
        job_id = await self.submit(**fields)
        await self.start(job_id)
        await self.finish(job_id, JobState.FAILED)
        return job_id

    async def state(self, job_id: str) -> str:
        """The word for a job's state; "none" where there is no such job."""
        answer = await self.http.get(f"/v1/jobs/{job_id}")
        return str(answer.json()["state"]) if answer.status_code == 200 else "none"


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Api]:
    """Run the API until the block ends."""
    settings.data.mkdir(parents=True, exist_ok=True)
    listener = bind(settings.host, settings.port)
    server = Server(settings, listener)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    store, work = (kind(settings.database_url, max_size=2) for kind in (Store, Work))
    try:
        async with asyncio_timeout(PATIENCE):
            while not server.started:
                assert not task.done(), "the server ended"
                await asyncio.sleep(0.005)
        await store.open()
        await work.open()
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, trust_env=False) as http:
            api = Api(settings, server, store, work, http)
            if settings.database_url != NO_DATABASE:
                http.headers["Authorization"] = f"Bearer {await api.token('ada')}"
            yield api
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, PATIENCE)
        await store.close()
        await work.close()
        listener.close()


NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"


@contextlib.asynccontextmanager
async def asyncio_timeout(seconds: float) -> AsyncIterator[None]:
    """Fail a block that takes longer."""
    import anyio

    with anyio.fail_after(seconds):
        yield


@dataclasses.dataclass
class Event:
    id: int
    name: str
    data: Any


class Events:
    """Reads a stream of events as a client does, ids included."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id = -1
        self.comments = 0

    async def next(self) -> Event | None:
        """The next event; None at the end of the stream."""
        name, data = "", []
        async with asyncio_timeout(PATIENCE):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("id: "):
                    self.last_id = int(line[4:])
                elif line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data.append(line[6:])
                elif not line and data:
                    return Event(self.last_id, name, json.loads("\n".join(data)))
        return None

    async def until(self, job_id: str, state: str) -> Event:
        """The first event of a job in a state."""
        while (event := await self.next()) is not None:
            if event.name == "job" and event.data["id"] == job_id and event.data["state"] == state:
                return event
        raise AssertionError(f"the stream ended before {job_id} was {state}")


@contextlib.asynccontextmanager
async def events(client: httpx.AsyncClient, **options: Any) -> AsyncIterator[Events]:
    """Open a stream of events."""
    async with client.stream("GET", "/v1/events", **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)
