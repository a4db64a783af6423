"""What stands behind a client and all of its handles: the service, the drivers, and the thread that watches.

Everything is opened on first need. A session may be used from several threads; an async one from several event loops,
each with connections of its own, which are closed when the loop ends. In a process that was forked it opens new
connections, because one connection cannot serve two processes.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from hpcjobs import live, operations, readers, transfers, waiting
from hpcjobs.errors import ClientClosed, ConfigError, HpcjobsError, TransportError
from hpcjobs.models import JobInfo
from hpcjobs.protocol import Emit, Op
from hpcjobs.retrying import RetryPolicy
from hpcjobs.transport import AsyncDriver, Driver
from hpcjobs.wording import Listed

if TYPE_CHECKING:
    import asyncio

    from hpcjobs.cancelling import Learn
    from hpcjobs.services.base import FileChunk, Service
    from hpcjobs.watching import Watcher

logger = logging.getLogger("hpcjobs")

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

OnInterrupt = Literal["detach", "cancel"]
"""What Ctrl-C does to a wait: ``"detach"`` stops the waiting only, ``"cancel"`` cancels what was waited for."""

_ONCE = RetryPolicy(tries=1)


class _Session:
    """What sync and async sessions share.

    Args:
        service: Where the jobs are.
        timeout: Seconds to wait for each read or write.
        retry: How often and how long requests are tried; None for the usual.
    """

    def __init__(self, service: Service, *, timeout: float, retry: RetryPolicy | None) -> None:
        self.service = service
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Everything that belongs to one process."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

    @property
    def watcher(self) -> Watcher:
        """What watches the jobs; made on first need, because most of its cost is that of asyncio."""
        self._check_open()
        with self._lock:
            if self._watcher is None:
                from hpcjobs.watching import Watcher

                # It tries again by itself, and says so.
                open_driver = functools.partial(AsyncDriver, self.service, timeout=self._timeout, retry=_ONCE)
                self._watcher = Watcher(self.service, open_driver)
                # A client that was forgotten takes its thread along. The watcher knows nothing of the session.
                weakref.finalize(self, self._watcher.abandon)
            return self._watcher

    def _check_open(self) -> None:
        """Called before anything is used.

        Raises:
            ClientClosed: The client was closed.
        """
        if self._closed:
            raise ClientClosed
        if self._pid != os.getpid():
            # Forked. What the parent has open is kept, so that nothing of it is closed here, but it is not used.
            self._inherited = dict(vars(self))
            self._begin()

    def _until_ended(
        self,
        jobs: Mapping[str, JobInfo | None],
        timeout: float | None,
        progress: bool | None,
        learn: Learn,
        *,
        hand_out: waiting.HandOut = "nothing",
    ) -> waiting.Waiting[list[JobInfo]]:
        self._check_open()
        display = functools.partial(live.choose, progress, session=self)
        return waiting.until_ended(jobs, timeout=timeout, display=display, learn=learn, hand_out=hand_out)


class Session(_Session):
    """Runs operations and waits by blocking the thread."""

    def _begin(self) -> None:
        super()._begin()
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        """The driver of this process.

        Raises:
            ClientClosed: The client was closed.
        """
        self._check_open()
        driver = self._driver
        if driver is None:
            with self._lock:
                driver = self._driver
                if driver is None:
                    driver = self._driver = Driver(self.service, timeout=self._timeout, retry=self._retry)
                    weakref.finalize(self, driver.close)
        return driver

    def run(self, op: Op[T]) -> T:
        """Run an operation to its end."""
        try:
            return self.driver.run(op)
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error

    def transfer(self, make: Callable[..., Op[T]], progress: bool | None) -> T:
        """Run an operation that sends or fetches files, and show how far it is; ``make`` is given ``on_bytes``."""
        with transfers.shown(progress) as on_bytes:
            return self.run(make(on_bytes=on_bytes))

    def open(self, job_id: str, path: str, **how: Any) -> IO[Any]:
        """Open a job's file: see :func:`hpcjobs.readers.open_reader`."""

        def fetch(offset: int, length: int) -> FileChunk:
            return self.run(readers.read_piece(self.service, job_id, path, offset, length))

        return readers.open_reader(path, fetch, **how)

    def iterate(self, op: Op[Any]) -> Iterator[Any]:
        """Run an operation and hand out its items."""
        # Not the driver's own iterator: that would not keep this session, and with it the driver, open.
        try:
            yield from self.driver.iterate(op)
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error

    def wait(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        timeout: float | None,
        progress: bool | None,
        on_interrupt: OnInterrupt,
        learn: Learn,
    ) -> list[JobInfo]:
        """Wait until all jobs have ended: see :func:`hpcjobs.waiting.until_ended`."""
        _check_choice(on_interrupt)
        last = _Last(jobs, learn)
        try:
            return Listed(self.see_through(self._until_ended(jobs, timeout, progress, last), jobs))
        except KeyboardInterrupt as interrupt:
            if on_interrupt == "cancel":
                self._cancel_going(last.infos)
            else:
                live.tell(waiting.detached(last.infos))
            raise shortened(interrupt)  # noqa: B904 - it is the same interrupt
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error

    def watch(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        learn: Learn,
        timeout: float | None = None,
        progress: bool | None = False,
    ) -> Iterator[JobInfo]:
        """Hand out the jobs' infos at every change until all have ended."""
        return self._attend(self._until_ended(jobs, timeout, progress, learn, hand_out="changes"), jobs)

    def as_completed(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        timeout: float | None,
        learn: Learn,
        progress: bool | None = False,
    ) -> Iterator[JobInfo]:
        """Hand out the final info of each job as it ends."""
        return self._attend(self._until_ended(jobs, timeout, progress, learn, hand_out="ends"), jobs)

    def see_through(self, wait: waiting.Waiting[T], jobs: Mapping[str, JobInfo | None]) -> T:
        """Run a wait that hands out nothing to its end; what it returns."""
        return _returned(self._attend(wait, jobs))

    def _attend(self, wait: waiting.Waiting[T], jobs: Mapping[str, JobInfo | None]) -> Generator[Any, None, T]:
        """Run a wait with a listener, which is not needed where it ends at once."""
        listener = None
        try:
            effect = next(wait)
            while isinstance(effect, Emit):
                yield effect.item
                effect = wait.send(None)
            listener = self.watcher.listener(jobs)
            with listener:
                while True:
                    if isinstance(effect, Emit):
                        yield effect.item
                        effect = wait.send(None)
                    else:
                        effect = wait.send(listener.listen(effect.seconds))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            wait.close()
            if listener is not None:
                listener.close()  # once more: an interrupt may come before what ends it could put it off

    def _cancel_going(self, infos: Sequence[JobInfo]) -> None:
        ids = [info.id for info in infos if not info.terminal]
        try:
            for result in self.run(operations.cancel_many(self.service, ids, reason=None, abort=True, delete=False)):
                live.tell(f"hpcjobs: {result}\n")
        except HpcjobsError as error:
            live.tell(f"hpcjobs: the jobs could not be cancelled and go on: {error}\n")

    def close(self) -> None:
        """Close all connections and end the watching thread; may be called twice."""
        mine = self._pid == os.getpid()
        self._closed = True
        if mine and self._watcher is not None:
            self._watcher.close()
        if mine and self._driver is not None:
            self._driver.close()


class AsyncSession(_Session):
    """Runs operations and waits in the event loop that is running."""

    def _begin(self) -> None:
        super()._begin()
        self._drivers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopDriver] = weakref.WeakKeyDictionary()
        self._cancelling: set[asyncio.Task[None]] = set()

    async def driver(self) -> AsyncDriver:
        """The driver of the running loop.

        Raises:
            ClientClosed: The client was closed.
        """
        import asyncio

        self._check_open()
        loop = asyncio.get_running_loop()
        opened = self._drivers.get(loop)
        if opened is None:
            opened = _LoopDriver(AsyncDriver(self.service, timeout=self._timeout, retry=self._retry))
            self._drivers[loop] = opened
            await opened.open()
        return opened.driver

    async def run(self, op: Op[T]) -> T:
        """Run an operation to its end."""
        try:
            return await (await self.driver()).run(op)
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error

    async def transfer(self, make: Callable[..., Op[T]], progress: bool | None) -> T:
        """Run an operation that sends or fetches files, and show how far it is; ``make`` is given ``on_bytes``."""
        with transfers.shown(progress) as on_bytes:
            return await self.run(make(on_bytes=on_bytes))

    async def open(self, job_id: str, path: str, **how: Any) -> readers.AsyncFile[Any]:
        """Open a job's file: see :func:`hpcjobs.readers.open_reader`. What is read is fetched in this event loop."""
        import asyncio

        run = readers.fetching_in(asyncio.get_running_loop(), self.run)

        def fetch(offset: int, length: int) -> FileChunk:
            return run(readers.read_piece(self.service, job_id, path, offset, length))

        return readers.AsyncFile(await asyncio.to_thread(readers.open_reader, path, fetch, **how))

    async def iterate(self, op: Op[Any]) -> AsyncGenerator[Any, None]:
        """Run an operation and hand out its items."""
        items = (await self.driver()).iterate(op)
        try:
            async for item in items:
                yield item
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error
        finally:
            await _closed_iterator(items)

    async def wait(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        timeout: float | None,
        progress: bool | None,
        on_interrupt: OnInterrupt,
        learn: Learn,
    ) -> list[JobInfo]:
        """Wait until all jobs have ended: see :func:`hpcjobs.waiting.until_ended`."""
        import asyncio

        _check_choice(on_interrupt)
        last = _Last(jobs, learn)
        result: list[JobInfo] = Listed()
        try:
            attended = self._attend(self._until_ended(jobs, timeout, progress, last), jobs, result.extend)
            async for _ in attended:
                raise AssertionError("a wait hands out nothing")
        except asyncio.CancelledError:
            if on_interrupt == "cancel":
                await self._cancel_going(last.infos)
            elif progress is not False and live.seen_by_a_person():
                live.tell(waiting.detached(last.infos))
            raise
        except HpcjobsError as error:
            raise shortened(error)  # noqa: B904 - it is the same error
        return result

    async def watch(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        learn: Learn,
        timeout: float | None = None,
        progress: bool | None = False,
    ) -> AsyncGenerator[JobInfo, None]:
        """Hand out the jobs' infos at every change until all have ended."""
        wait = self._until_ended(jobs, timeout, progress, learn, hand_out="changes")
        attended = self._attend(wait, jobs, lambda _: None)
        try:
            async for item in attended:
                yield item
        finally:
            await attended.aclose()

    def as_completed(
        self,
        jobs: Mapping[str, JobInfo | None],
        *,
        timeout: float | None,
        learn: Learn,
        progress: bool | None = False,
    ) -> AsyncIterator[JobInfo]:
        """Hand out the final info of each job as it ends."""
        return self._attend(self._until_ended(jobs, timeout, progress, learn, hand_out="ends"), jobs, lambda _: None)

    async def _attend(
        self, wait: waiting.Waiting[T], jobs: Mapping[str, JobInfo | None], done: Callable[[T], object]
    ) -> AsyncGenerator[Any, None]:
        """Run a wait with a listener, which is not needed where it ends at once; ``done`` is given its result."""
        listener = None
        try:
            effect = next(wait)
            while isinstance(effect, Emit):
                yield effect.item
                effect = wait.send(None)
            listener = self.watcher.async_listener(jobs)
            async with listener:
                while True:
                    if isinstance(effect, Emit):
                        yield effect.item
                        effect = wait.send(None)
                    else:
                        effect = wait.send(await listener.listen(effect.seconds))
        except StopIteration as end:
            done(end.value)
        finally:
            wait.close()
            if listener is not None:
                listener.close()  # as above

    async def _cancel_going(self, infos: Sequence[JobInfo]) -> None:
        import asyncio

        async def send() -> None:
            ids = [info.id for info in infos if not info.terminal]
            order = operations.cancel_many(self.service, ids, reason=None, abort=True, delete=False)
            try:
                for result in await self.run(order):
                    live.tell(f"hpcjobs: {result}\n")
            except HpcjobsError as error:
                live.tell(f"hpcjobs: the jobs could not be cancelled and go on: {error}\n")

        # A task of its own: who was cancelled once may be cancelled again, and the request must go out all the same.
        task = asyncio.ensure_future(send())
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Close the connections of the running loop and end the watching thread; may be called twice."""
        import asyncio

        mine = self._pid == os.getpid()
        self._closed = True
        if mine and self._watcher is not None:
            await asyncio.to_thread(self._watcher.close)
        opened = self._drivers.pop(asyncio.get_running_loop(), None)
        if mine and opened is not None:
            await opened.close()


S = TypeVar("S", Session, AsyncSession)


def shortened(error: E) -> E:
    """An error without the calls that led to it in here.

    Its words say what was wrong. Some thirty lines on how an operation is driven would only push them out of sight,
    most of all in a notebook. Who wants them gets them by the log, at the level DEBUG.
    """
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s: where it was raised", type(error).__name__, exc_info=error)
    if isinstance(error, TransportError):  # what it comes from is the HTTP library's, and has as many lines again
        inner = error.__cause__
        while inner is not None:
            inner.__traceback__ = None
            inner = inner.__cause__ or inner.__context__
    return error.with_traceback(None)


"""Either kind of session."""


class _LoopDriver:
    """An async driver that is closed with its loop.

    A loop closes its async generators when it ends (``asyncio.run`` sees to that): the last moment at which its
    connections can be closed.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self.driver = driver
        self._guard = _guard(driver)

    async def open(self) -> None:
        await anext(self._guard)

    async def close(self) -> None:
        await self._guard.aclose()


async def _guard(driver: AsyncDriver) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await driver.aclose()


class _Last:
    """Remembers the last info of each job for a wait that is interrupted."""

    def __init__(self, jobs: Mapping[str, JobInfo | None], learn: Learn) -> None:
        self._infos = {job_id: waiting.known(job_id, info) for job_id, info in jobs.items()}
        self._learn = learn

    def __call__(self, info: JobInfo) -> None:
        self._infos[info.id] = info
        self._learn(info)

    @property
    def infos(self) -> list[JobInfo]:
        return list(self._infos.values())


def _returned(generator: Generator[Any, None, T]) -> T:
    """What a generator that hands out nothing returns."""
    try:
        next(generator)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a wait hands out nothing")


async def _closed_iterator(items: AsyncIterator[Any]) -> None:
    if isinstance(items, AsyncGenerator):
        await items.aclose()


def _check_choice(on_interrupt: str) -> None:
    if on_interrupt not in {"detach", "cancel"}:
        raise ConfigError(f"on_interrupt is {on_interrupt!r}; write 'detach' or 'cancel'")
