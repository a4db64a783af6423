"""A worker: a process that takes jobs from the queue and runs them.

``python -m hpcjobs_server.worker``. SIGTERM drains: no new jobs, those that run go on and can be cancelled, the process
ends with the last of them. SIGINT ends them all: they are asked to stop, and are CANCELLED; a second one kills
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import time
from uuid import uuid4

import psutil
import psycopg

from hpcjobs_server.apps import AppError
from hpcjobs_server.database import worker_channel
from hpcjobs_server.ending import ended
from hpcjobs_server.executors import make_executor
from hpcjobs_server.queue import make_app, serve_tickets
from hpcjobs_server.runner import Runner
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Work

logger = logging.getLogger(__name__)

STOPPED = "the service was stopped"
_LAST_WORD = 30.0
"""Seconds for which a worker that ends waits for the database to take what it has to say."""
_TAKING = 5.0
"""Seconds in which a ticket that is being taken has become a job that runs, or was given back."""


class Worker:
    """One worker process's life."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = uuid4()
        self.store = Work(settings.database_url, min_size=2, max_size=6, poll=settings.poll, use_listen=settings.listen)
        self.executor = make_executor(settings)
        self.runner = Runner(self.store, self.executor, self.id)
        self._known = asyncio.Event()
        """The database knows of this worker: what it takes is not taken for another's that is gone."""
        self._beating_since: float | None = None
        self._last_beat = 0.0
        self._orders = 0
        self._aborting = False
        self._host = socket.gethostname()
        # where nobody but this host can reach the database, an outage of it means that nobody can take the jobs over
        self._database_is_local = "host=/" in self.store.conninfo or "host='/" in self.store.conninfo

    async def run(self) -> None:
        """Work until asked to stop, then end what must be ended."""
        loop = asyncio.get_running_loop()
        # before anything waits: the loop's own answer to SIGINT, a cancellation, can be lost while the pool is opened
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        loop.add_signal_handler(signal.SIGINT, self.abort)
        await self.store.open()
        duties = [
            asyncio.create_task(duty, name=name)
            for name, duty in {
                "heart": self._heart(),
                "ear": self._ear(),
                "life line": self._life_line(),
                "sweeper": self._sweeper(),
                **({} if self.executor.cluster is None else {"adoptions": self._adoptions(self.executor.cluster)}),
                "finishes": self.runner.send_finishes(),
                "progress": self.runner.watch_progress(),
            }.items()
        ]
        tickets = asyncio.create_task(self._tickets(), name="tickets")
        closing = asyncio.create_task(self.runner.closing.wait(), name="closing")
        try:
            done, _ = await asyncio.wait([*duties, closing], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {closing}:
                task.result()  # a duty never ends by itself: this raises what ended it
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended(tickets, again=_TAKING), _LAST_WORD)
            await self._everything_told()
        finally:
            await ended(*duties, tickets, closing)
            if not self.runner.attempts:  # else the lease protects what may still run
                with contextlib.suppress(psycopg.Error, asyncio.TimeoutError):
                    await asyncio.wait_for(self.store.leave(self.id), 5.0)
            await self.executor.close()
            await self.store.close()

    async def _everything_told(self) -> None:
        """Wait for the last job, and for the database to know how it ended; not for ever where all were stopped."""
        patience = _LAST_WORD
        while not self.runner.idle.is_set() and patience > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.runner.idle.wait(), 1.0)
            if self._orders and self.runner.all_ended:
                patience -= 1.0

    def drain(self) -> None:
        """Take no new jobs, and end with the last that runs."""
        if not self.runner.closing.is_set():
            logger.info("draining: %d jobs run", len(self.runner.attempts))
            self.runner.closing.set()
            if self.executor.cluster is not None and not self._aborting:
                self.runner.leave_all()

    def abort(self) -> None:
        """Take no new jobs, and ask those that run to stop; the second time, kill them."""
        self._aborting = True
        self.drain()
        self._orders += 1
        self.runner.abort_all(STOPPED)
        if self._orders > 1:
            self.runner.kill_all()

    # --------------------------------------------------------------------------------------------- duties

    async def _tickets(self) -> None:
        """Take tickets; Procrastinate's worker is started again whenever it gives up, which no running job notices."""
        pause = 0.2
        app = make_app(self.runner.take)
        await self._known.wait()
        while True:
            began = time.monotonic()
            try:
                await serve_tickets(
                    app,
                    self.store.pool,
                    queues=self.settings.queues,
                    concurrency=max(1, min(self.executor.slots // 8, 16)),
                    listen=self.settings.listen,
                    poll=self.settings.poll,
                )
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the jobs that run must not feel it
                logger.warning("the queue cannot be served: %s; trying again", error)
            pause = 0.2 if time.monotonic() - began > 10 else min(pause * 2, 5.0)
            await asyncio.sleep(pause)

    async def _heart(self) -> None:
        """Say that this worker is alive, and act on what the answer says of its jobs."""
        pool_cores = self.runner.cores
        while True:
            expected = self.runner.expected()
            try:
                held = await self.store.beat(
                    self.id,
                    host=self._host,
                    pid=os.getpid(),
                    cores=pool_cores.total,
                    busy=pool_cores.total - pool_cores.free,
                    running=len(expected),
                    queues=self.settings.queues,
                    closing=self.runner.closing.is_set(),
                    cluster=self.executor.cluster,
                )
                self._known.set()
                # by the wall clock, which goes on while the machine sleeps
                if time.time() - self._last_beat > self.settings.lease / 2:
                    self._beating_since = None
                self._last_beat = time.time()
                self._beating_since = self._beating_since or time.monotonic()
                await self.runner.follow(expected, held)
                if not self._database_is_local:
                    self.runner.ping()
            except psycopg.Error as error:
                if self._beating_since is not None:
                    logger.warning("the database is away: %s", error)
                self._beating_since = None
            await asyncio.sleep(self.settings.beat)

    async def _life_line(self) -> None:
        """Tell the shims that this process lives, where an outage of the database is the same for everybody.

        Where another host could still reach the database, only a heartbeat that arrived tells them so.
        """
        while True:
            if self._database_is_local:
                self.runner.ping()
            await asyncio.sleep(self.settings.beat)

    async def _adoptions(self, cluster: str) -> None:
        """Go on with what a cluster has and no worker watches any more."""
        await self._known.wait()
        while True:
            if not self.runner.closing.is_set():
                with contextlib.suppress(psycopg.Error):
                    beside = await self.store.colleagues(self.id, cluster, self._host)
                    claims = await self.store.adopt(
                        self.id,
                        cluster,
                        lease=self.settings.lease,
                        queues=self.settings.queues,
                        gone=[worker for worker, pid in beside.items() if not psutil.pid_exists(pid)],
                        unknown=sorted(self.runner.unknown),
                    )
                    if claims:
                        logger.info("watching %d jobs that another worker handed over", len(claims))
                        self.runner.adopt(claims)
            await asyncio.sleep(self.settings.beat)

    async def _ear(self) -> None:
        """Act at once when one of this worker's jobs is to stop; a heartbeat finds what was missed here."""
        async for _ in self.store.listen(worker_channel(self.id)):
            with contextlib.suppress(psycopg.Error):
                self.runner.obey(await self.store.to_stop(self.id))

    async def _sweeper(self) -> None:
        """Put right what others left behind. One that was deaf itself a moment ago does not judge others."""
        while True:
            await asyncio.sleep(self.settings.lease / 3 * random.uniform(0.75, 1.25))  # noqa: S311 - only spreads the work
            since = self._beating_since
            awake = time.time() - self._last_beat < self.settings.lease / 2
            reap = awake and since is not None and time.monotonic() - since > self.settings.lease
            try:
                done = await self.store.sweep(lease=self.settings.lease, reap=reap)
            except psycopg.Error:
                continue
            if any(done.values()):
                logger.info("swept: %s", ", ".join(f"{count} {name}" for name, count in done.items() if count))


def main() -> None:
    """Run one worker with the settings of the environment."""
    import setproctitle

    settings = Settings()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    setproctitle.setproctitle("hpcjobs worker")
    try:
        worker = Worker(settings)
    except AppError as error:
        sys.exit(f"the apps cannot be offered: {error}")
    try:
        import uvloop
    except ImportError:  # not on every system
        asyncio.run(worker.run())
    else:
        uvloop.run(worker.run())


if __name__ == "__main__":
    main()
