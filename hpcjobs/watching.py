"""One daemon thread per client that looks at jobs for everyone who waits.

The thread starts when somebody first waits, sync or async, and ends when nobody has waited for a while. It follows the
service's stream of changes where there is one, and connects again where it breaks. Without a stream it looks at all
jobs at once, at a pace that slows down while nothing changes. Five thousand waiting jobs cost no more than one.

A service that is away is asked again for as long as somebody waits: a missed look says nothing about a job. A job that
the service does not know for longer than its grace has vanished, and those who wait for it are told so.

Whoever waits holds a listener: what it has not read yet is kept as one piece of news per job, the last one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import dataclasses
import datetime as dt
import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, cast

from hpcjobs import interrupts
from hpcjobs.errors import PASSING, ClientClosed, HpcjobsError, ServiceError, TransportError
from hpcjobs.models import JobInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from httpx_sse import ServerSentEvent
    from typing_extensions import Self

    from hpcjobs.services.base import Service
    from hpcjobs.transport import AsyncDriver

logger = logging.getLogger("hpcjobs")

IDLE = 10.0
"""Seconds without anyone who waits after which the thread ends."""

SAFETY = 30.0
"""Seconds between looks while the stream is followed: a stream does not tell of a job that is gone."""

SLOWEST = 15.0
"""Seconds between two tries to reach a service that is away, at most."""

LONGEST = 60.0
"""Seconds: the longest pause that a service can ask for by ``Retry-After``."""

GATHER = 0.01
"""Seconds for which new jobs are gathered, so that many that are waited for at once are looked at once."""

SLICE = 0.25
"""Seconds for which a sync wait blocks at a stretch."""

PUMP = 0.05
"""Seconds for which a sync wait blocks at a stretch where something else must be kept alive meanwhile."""

PumpHook = Callable[[], "AbstractContextManager[Callable[[float], None] | None]"]

pump_hooks: list[PumpHook] = []
"""Each is entered when a wait begins, and what it gives, unless that is None, is called over and over in the thread
that waits, in place of sleeping, with the longest time in seconds that it may take (a notebook uses it)."""


@dataclasses.dataclass
class News:
    """What a listener has not been told before.

    Attributes:
        changed: The present info of each job that changed.
        vanished: The jobs that the service no longer knows, with what was last known of each.
        notices: Sentences for a person: the connection was lost, or is back.
        away: Whether the service does not answer, where that has changed; the last notice says it.
        error: What ends the waiting: a token that is no longer good, a client that was closed.
        looked: Whether the service has been asked for every job since somebody listens; no news by itself.
    """

    changed: dict[str, JobInfo] = dataclasses.field(default_factory=dict)
    vanished: dict[str, JobInfo | None] = dataclasses.field(default_factory=dict)
    notices: list[str] = dataclasses.field(default_factory=list)
    away: bool | None = None
    error: BaseException | None = None
    looked: bool = False

    @property
    def empty(self) -> bool:
        """True where there is nothing to tell."""
        return not (self.changed or self.vanished or self.notices or self.error)


class _Listener:
    """What sync and async listeners share: the news that was not read, and the way in for the thread."""

    def __init__(self, watcher: Watcher, jobs: Mapping[str, JobInfo | None]) -> None:
        self._watcher = watcher
        self._jobs = dict(jobs)
        self.unasked = set(self._jobs)
        """The jobs for which the service was not asked yet; kept by the thread."""
        self._news = News()
        # Plain locks: an interrupt can leave a condition, which is Python code, half taken.
        self._lock = threading.Lock()
        self._quiet = threading.Lock()
        """Held while there is no news: who waits for some takes it."""
        self._quiet.acquire()

    @property
    def jobs(self) -> Mapping[str, JobInfo | None]:
        """The jobs that are listened for, with what was known of them at the start."""
        return self._jobs

    def close(self) -> None:
        """Listen no longer; may be called twice."""
        self._watcher.leave(self)

    def tell(
        self,
        *,
        changed: JobInfo | None = None,
        vanished: tuple[str, JobInfo | None] | None = None,
        notice: str | None = None,
        away: bool | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Add to the news; called by the thread."""
        with self._lock:
            if changed is not None:
                self._news.changed[changed.id] = changed
            if vanished is not None:
                self._news.vanished[vanished[0]] = vanished[1]
            if notice is not None:
                self._news.notices = [*self._news.notices[-3:], notice]
                self._news.away = away
            if error is not None and self._news.error is None:
                self._news.error = error
            if self._quiet.locked():
                self._quiet.release()
        self._wake()

    def _wake(self) -> None:
        """Wake whoever waits by other means than the lock."""

    def _take(self) -> News:
        # Put off because from Python 3.14 on an interrupt may come right after the lock was taken.
        with interrupts.put_off(), self._lock:
            news, self._news = self._news, News()
        news.looked = not self.unasked
        return news


class _Waiting(_Listener):
    """What sync and async listeners share for which somebody waits: the hooks, for as long as they do.

    A Ctrl-C leaves a wait neither begun nor ended in half. Where it comes before the end of one could put it off,
    nothing is done yet: who must be sure calls :meth:`close` after the context, too.
    """

    def __init__(self, watcher: Watcher, jobs: Mapping[str, JobInfo | None]) -> None:
        super().__init__(watcher, jobs)
        self._hooks = contextlib.ExitStack()
        self._pumps: list[Callable[[float], None]] = []

    def _begin(self) -> Self:
        try:
            with interrupts.put_off():
                self._watcher.join(self)
                for hook in pump_hooks:
                    pump = self._hooks.enter_context(hook())
                    if pump is not None:
                        self._pumps.append(pump)
            return self  # noqa: TRY300 - an interrupt that was put off comes here
        except BaseException:
            self.close()
            raise

    def _end(self) -> None:
        with interrupts.put_off():
            self.close()

    def close(self) -> None:
        """Wait no longer; may be called twice."""
        try:
            super().close()
        finally:
            self._hooks.close()


class Listener(_Waiting):
    """Listens in a thread, by blocking it. A context manager."""

    def __enter__(self) -> Self:
        return self._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def listen(self, seconds: float) -> News:
        """Wait for news for at most ``seconds``, and take it; it is empty where there was none."""
        end = time.monotonic() + seconds
        while self._news.empty:
            left = end - time.monotonic()
            if left <= 0:
                break
            if self._pumps:
                for pump in self._pumps:
                    pump(min(left, PUMP) / len(self._pumps))
            else:
                # In slices, so that Ctrl-C is heard where the system does not interrupt a lock.
                self._quiet.acquire(timeout=min(left, SLICE))  # taken or not: the news says whether there is some
        return self._take()


class Subscriber(_Listener):
    """Listens without waiting: ``wake`` is called in the watching thread when there is news, and returns at once."""

    def __init__(self, watcher: Watcher, jobs: Mapping[str, JobInfo | None], wake: Callable[[], object]) -> None:
        super().__init__(watcher, jobs)
        self._call = wake

    def open(self) -> None:
        """Begin to listen.

        Raises:
            ClientClosed: The client was closed.
        """
        self._watcher.join(self)

    def take(self) -> News:
        """The news since the last call; empty where there was none."""
        return self._take()

    def _wake(self) -> None:
        self._call()


class AsyncListener(_Waiting):
    """Listens in an event loop, without blocking it: the loop goes on, and calls nothing over and over.

    An async context manager.
    """

    def __init__(self, watcher: Watcher, jobs: Mapping[str, JobInfo | None]) -> None:
        super().__init__(watcher, jobs)
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    async def listen(self, seconds: float) -> News:
        """Wait for news for at most ``seconds``, and take it; it is empty where there was none."""
        if self._news.empty:
            self._event.clear()
            timer = None if math.isinf(seconds) else self._loop.call_later(seconds, self._event.set)
            try:
                # Between the look above and here the thread may have told something: it sets the event then.
                if self._news.empty:
                    await self._event.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        return self._take()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop was closed under the listener: nobody listens any more
            self._watcher.leave(self)  # no more than that: the hooks are not this thread's


@dataclasses.dataclass
class _Watched:
    """One job that somebody listens for."""

    info: JobInfo | None
    listeners: set[_Listener] = dataclasses.field(default_factory=set)
    asked: bool = False
    """Whether the service has answered for it."""
    missing_since: float | None = None


class Watcher:
    """Looks at jobs for everyone who listens, in a thread that lives only while somebody does.

    Args:
        service: What is asked.
        open_driver: Makes the driver that the thread asks with; it must not try anything again by itself.
        idle: Seconds without listeners after which the thread ends.
        clock: Seconds that only grow.
        draw: Draws from 0 to 1.
    """

    def __init__(
        self,
        service: Service,
        open_driver: Callable[[], AsyncDriver],
        *,
        idle: float = IDLE,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._service = service
        self._open_driver = open_driver
        self._idle = idle
        self._clock = clock
        self._draw = draw
        self._closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """Everything that belongs to one process: a child that was forked begins anew, without the parent's thread."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._listeners: set[_Listener] = set()
        self._fresh: set[str] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: asyncio.Task[None] | None = None
        self._outage: str | None = None
        # What the thread alone uses.
        self._streaming = False
        self._due = self._blocked = -math.inf
        self._looked_at: dict[str, float] = {}
        self._changed_at = self._clock()
        self._failures = 0

    # -- for those who wait ------------------------------------------------------------------------------------------

    def listener(self, jobs: Mapping[str, JobInfo | None]) -> Listener:
        """A listener for a thread; listens once it is entered.

        Args:
            jobs: The ids, each with what is known of the job, or None.
        """
        return Listener(self, jobs)

    def async_listener(self, jobs: Mapping[str, JobInfo | None]) -> AsyncListener:
        """A listener for the event loop that runs; listens once it is entered."""
        return AsyncListener(self, jobs)

    def subscriber(self, jobs: Mapping[str, JobInfo | None], wake: Callable[[], object]) -> Subscriber:
        """A listener that is called; listens once it is opened.

        Args:
            jobs: The ids, each with what is known of the job, or None.
            wake: Called in the watching thread.
        """
        return Subscriber(self, jobs, wake)

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._pid == os.getpid() and self._thread is not None

    def join(self, listener: _Listener) -> None:
        """Let a listener in.

        Raises:
            ClientClosed: The client was closed.
            RuntimeError: The system has no thread to give.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._closed:
                raise ClientClosed
            self._listeners.add(listener)
            for job_id, info in listener.jobs.items():
                watched = self._watched.get(job_id)
                if watched is None:
                    watched = self._watched[job_id] = _Watched(info and _bare(info))
                    self._fresh.add(job_id)
                elif watched.info is not None and (info is None or not _same_or_older(watched.info, info)):
                    listener.tell(changed=watched.info)
                if watched.asked:
                    listener.unasked.discard(job_id)
                watched.listeners.add(listener)
            if self._outage is not None:
                listener.tell(notice=self._outage, away=True)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hpcjobs-watching", daemon=True)
                try:
                    thread.start()
                except BaseException:
                    self._forget(listener)
                    raise
                self._thread = thread  # not before it has started: the next one who waits tries again
            else:
                self._nudge()

    def leave(self, listener: _Listener) -> None:
        """Let a listener go; one that is not there is no error."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if listener in self._listeners:
                self._forget(listener)

    def _forget(self, listener: _Listener) -> None:
        """Let a listener go; called with the lock held."""
        self._listeners.discard(listener)
        for job_id in listener.jobs:
            watched = self._watched.get(job_id)
            if watched is not None:
                watched.listeners.discard(listener)
                if not watched.listeners:
                    del self._watched[job_id]
                    self._fresh.discard(job_id)

    def close(self, *, seconds: float = 2.0) -> None:
        """End the thread and every wait; may be called twice.

        Args:
            seconds: How long the thread's end is waited for.
        """
        if self._pid != os.getpid():
            self._closed = True
            return
        with self._lock:
            self._closed = True
            thread = self._thread
        self._end_all(ClientClosed("the client was closed while it was waited for a job; the job goes on"))
        self.abandon()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def abandon(self) -> None:
        """Tell the thread to end, and wait for nothing: safe wherever the garbage collector may run."""
        self._closed = True
        loop, task = self._loop, self._task
        if self._pid == os.getpid() and loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended
                loop.call_soon_threadsafe(task.cancel)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # Not asyncio.run: programs that patch it for nested loops make it fail outside the main thread.
        loop: asyncio.AbstractEventLoop | None = None
        try:
            loop = asyncio.new_event_loop()  # fails where the process has too many files open
            more = True
            while more:
                driver = self._open_driver()
                try:
                    loop.run_until_complete(self._serve(driver))
                finally:
                    # Apart from what may be cancelled: whoever ends the thread, however often, must not keep it from
                    # closing its connections.
                    with self._lock:
                        self._loop = self._task = None
                    loop.run_until_complete(_tidy(driver))
                with self._lock:
                    more = bool(self._watched) and not self._closed
                    if not more:  # from here on, whoever comes starts another thread
                        self._thread = None
        except BaseException as error:  # whatever it is, nobody may wait for ever
            logger.debug("the watching thread ends", exc_info=True)
            self._end_all(error, thread_too=True)
        finally:
            if loop is not None:
                with contextlib.suppress(Exception):
                    loop.run_until_complete(loop.shutdown_asyncgens())
                    loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

    async def _serve(self, driver: AsyncDriver) -> None:
        task = asyncio.current_task()
        self._woken = asyncio.Event()
        self._streaming = False
        self._due = self._blocked = -math.inf
        self._looked_at = {}
        self._changed_at = self._clock()
        self._failures = 0
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), task
        if self._service.capabilities.events:
            self._stream = asyncio.create_task(self._follow(driver))
        await self._look_on(driver)

    def _nudge(self) -> None:
        """Wake the thread; called with the lock held."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended, or is about to
                self._loop.call_soon_threadsafe(self._woken.set)

    async def _sleep(self, seconds: float) -> bool:
        """Pause until woken; whether it was woken."""
        late = False

        def ring() -> None:
            nonlocal late
            late = True
            self._woken.set()

        timer = asyncio.get_running_loop().call_later(seconds, ring)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        return not late

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _look_on(self, driver: AsyncDriver) -> None:
        """Look at the jobs whenever it is time, until nobody has listened for a while."""
        while not self._closed:
            self._woken.clear()
            now = self._clock()
            with self._lock:
                fresh = min(map(self._may_look, self._fresh), default=math.inf)
                next_look = max(min(self._due, fresh), self._blocked)
                pause = next_look - now if self._watched else self._idle
            if pause > 0:
                woken = await self._sleep(pause)
                if not woken and not self._watched:
                    return
                continue
            await asyncio.sleep(GATHER)
            with self._lock:
                now = self._clock()
                whole = now >= self._due
                ids = [job_id for job_id in (self._watched if whole else self._fresh) if self._may_look(job_id) <= now]
                self._fresh.difference_update(ids)
                if whole and not ids:  # each was looked at a moment ago, because somebody came anew
                    self._due = now + self._service.capabilities.min_poll
            if ids:
                await self._look(driver, ids, whole=whole)

    def _may_look(self, job_id: str) -> float:
        """When a job may be looked at: at once, unless it was a moment ago."""
        return self._looked_at.get(job_id, -math.inf) + self._service.capabilities.min_poll

    async def _look(self, driver: AsyncDriver, ids: Sequence[str], *, whole: bool) -> None:
        """One look at these jobs, in as few requests as the service allows; ``whole`` where they are all there are."""
        self._remember(ids)
        try:
            answer = await driver.run(self._service.get_many(ids))
        except PASSING as error:
            self._away(error)
            with self._lock:
                self._fresh.update(job_id for job_id in ids if job_id in self._watched)
            self._asked(ids, answered=False)
        except HpcjobsError as error:
            self._end_all(error)
        else:
            self._back()
            for info in answer.items:
                self._learn(info)
            # One of which the answer says nothing is not there under this id: a wait for it must not be without end.
            for job_id in {*answer.missing, *ids}.difference(info.id for info in answer.items):
                self._miss(job_id)
            self._asked(ids, answered=True)
            due = self._clock() + self._pace()
            # Whoever comes anew must not keep the others from being looked at.
            self._due = due if whole else min(self._due, due)

    def _remember(self, ids: Sequence[str]) -> None:
        """These jobs are looked at now; what was looked at long ago does not matter."""
        now = self._clock()
        recent = now - self._service.capabilities.min_poll
        self._looked_at = {job_id: moment for job_id, moment in self._looked_at.items() if moment > recent}
        self._looked_at.update(dict.fromkeys(ids, now))

    def _asked(self, ids: Sequence[str], *, answered: bool) -> None:
        """The service was asked for these jobs, and has answered, or is away."""
        with self._lock:
            for job_id in ids:
                watched = self._watched.get(job_id)
                if watched is not None and not watched.asked:
                    watched.asked = answered
                    for listener in watched.listeners:
                        listener.unasked.discard(job_id)

    def _pace(self) -> float:
        """Seconds until the next regular look; what is added by chance keeps many clients from asking in step."""
        now = self._clock()
        capabilities = self._service.capabilities
        with self._lock:
            states = {watched.info.state for watched in self._watched.values() if watched.info is not None}
            missing = [watched.missing_since for watched in self._watched.values() if watched.missing_since is not None]
        pace = SAFETY if self._streaming else self._service.pace(now - self._changed_at, states)
        if missing:
            pace = min(pace, max(0.0, min(missing) + capabilities.vanish_grace - now))
        return max(pace, capabilities.min_poll) * (1 + 0.2 * self._draw())

    def _learn(self, info: JobInfo) -> None:
        """Tell a job's listeners what is new about it."""
        info = _bare(info)
        with self._lock:
            watched = self._watched.get(info.id)
            if watched is None:
                return
            watched.missing_since = None
            if watched.info is not None and _same_or_older(info, watched.info):
                return
            watched.info = info
            self._changed_at = self._clock()
            listeners = list(watched.listeners)
        for listener in listeners:
            listener.tell(changed=info)

    def _miss(self, job_id: str) -> None:
        """The service does not know a job: tell its listeners, if that has been so for long enough."""
        now = self._clock()
        with self._lock:
            watched = self._watched.get(job_id)
            if watched is None:
                return
            if watched.missing_since is None:
                watched.missing_since = now
            if now - watched.missing_since < self._service.capabilities.vanish_grace:
                return
            listeners = list(watched.listeners)
            info = watched.info
        for listener in listeners:
            listener.tell(vanished=(job_id, info))

    def _away(self, error: HpcjobsError) -> None:
        """The service did not answer: say so once, and ask again later and later."""
        pause = self._backoff(error, self._failures, SLOWEST)
        self._failures += 1
        self._blocked = self._clock() + max(pause, self._service.capabilities.min_poll)
        if self._outage is None:
            where = self._service.where
            # That nothing answers says it all; what a service or a proxy says instead of an answer is worth telling.
            why = (
                ""
                if isinstance(error, TransportError)
                else f" ({(str(error) or type(error).__name__).splitlines()[0]})"
            )
            self._announce(f"lost the connection to {where} at {_time_of_day()}, trying again{why}", outage=True)

    def _backoff(self, error: HpcjobsError | None, failures: int, slowest: float) -> float:
        """Seconds until the service is asked again: longer and longer, and not before it wants to be asked."""
        pause: float = min(slowest, 0.25 * 2 ** min(failures, 10)) * (0.75 + 0.5 * self._draw())
        wanted = error.retry_after if isinstance(error, ServiceError) else None
        return max(pause, min(wanted or 0.0, LONGEST))

    def _back(self) -> None:
        """The service answered."""
        self._failures = 0
        if self._outage is not None:
            self._announce(f"connected again at {_time_of_day()}", outage=False)

    def _announce(self, text: str, *, outage: bool) -> None:
        with self._lock:
            self._outage = text if outage else None
            listeners = list(self._listeners)
        for listener in listeners:
            listener.tell(notice=text, away=outage)

    def _end_all(self, error: BaseException, *, thread_too: bool = False) -> None:
        """Nobody can be served any more: every wait ends with this error."""
        with self._lock:
            if thread_too:
                self._thread = self._loop = self._task = None
            listeners = list(self._listeners)
            self._listeners.clear()
            self._watched.clear()
            self._fresh.clear()
            self._outage = None
        for listener in listeners:
            listener.tell(error=_copied(error))

    # -- following the stream ----------------------------------------------------------------------------------------

    async def _follow(self, driver: AsyncDriver) -> None:
        """Follow the stream of changes, and connect again where it breaks, for as long as the thread lives.

        An error that does not pass is left to the looks: they meet it too, and know what to do about it.
        """
        service = self._service
        cursor: str | None = None
        failures = 0
        while True:
            begun = self._clock()
            broken: HpcjobsError | None = None
            try:
                opened = cast("AsyncGenerator[ServerSentEvent, None]", driver.events(service.events_request(cursor)))
                async with contextlib.aclosing(opened) as events:
                    async for event in events:
                        cursor = event.id or cursor
                        self._back()
                        if not self._streaming:
                            self._connected(True)
                        if event.event == "job":
                            self._heard(event.data)
                        elif event.event == "reset":  # something may have been left out
                            self._connected(True)
            except PASSING as error:
                broken = error
                logger.debug("the stream of changes broke", exc_info=True)
            except HpcjobsError:
                logger.debug("there is no stream of changes; polling", exc_info=True)
                return
            except Exception:  # a fault here must not end the looks
                logger.debug("the stream of changes failed; polling", exc_info=True)
                return
            finally:
                if self._streaming:
                    self._connected(False)
            failures = 0 if self._clock() - begun > 5 else failures + 1
            await asyncio.sleep(self._backoff(broken, failures, 2 * SLOWEST))

    def _connected(self, yes: bool) -> None:
        """The stream has begun, has a gap, or has ended: what happened in between is found by a look."""
        self._streaming = yes
        with self._lock:
            self._fresh.update(self._watched)
        self._woken.set()

    def _heard(self, data: str) -> None:
        try:
            self._learn(JobInfo.model_validate_json(data))
        except ValueError:  # not the service's language: the next look tells
            logger.debug("an event could not be read: %.200s", data)
            self._due = self._clock()
            self._woken.set()


async def _tidy(driver: AsyncDriver) -> None:
    """End what still runs in the loop, and close the connections."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await driver.aclose()


def _bare(info: JobInfo) -> JobInfo:
    """The info without the spec, which not every answer has."""
    return info if info.spec is None else info.model_copy(update={"spec": None})


def _same_or_older(info: JobInfo, known: JobInfo) -> bool:
    """Whether ``info`` tells nothing that ``known`` does not: a look may be overtaken by the stream."""
    if info.version is not None and known.version is not None and info.version != known.version:
        return info.version < known.version
    new, old = info.progress, known.progress
    if (
        info.state is known.state
        and info.attempt == known.attempt
        and old is not None
        and old.at is not None
        and (new is None or (new.at is not None and new.at < old.at))
    ):
        return True
    return _bare(info) == _bare(known)


def _copied(error: BaseException) -> BaseException:
    """An error of one's own for each thread that raises it."""
    with contextlib.suppress(Exception):
        twin = copy.copy(error)
        twin.__cause__ = error.__cause__
        return twin
    return error


def _time_of_day() -> str:
    return dt.datetime.now().astimezone().strftime("%H:%M")


_all: weakref.WeakSet[Watcher] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is killed at the interpreter's end may complain; one that was told to end does not."""
    for watcher in list(_all):
        watcher.close(seconds=1.0)
