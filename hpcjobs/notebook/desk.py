"""What the views of one client share: a session of their own, orders that run beside the kernel, and one log reader.

A click must never wait for the service, and the service's answer must never wait for the kernel: orders run in threads
of their own, and logs are read one after the other by a thread that looks less and less often at what does not change.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from hpcjobs import operations
from hpcjobs.errors import HpcjobsError
from hpcjobs.retrying import RetryPolicy
from hpcjobs.sessions import Session

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo
    from hpcjobs.protocol import Op
    from hpcjobs.sessions import AsyncSession
    from hpcjobs.watching import Subscriber

T = TypeVar("T")

logger = logging.getLogger("hpcjobs")

TIMEOUT = 20.0
"""Seconds that a request of a view may take."""

FIRST, SLOWEST, SHARE = 1.0, 15.0, 0.25
"""Seconds between two looks at a log that grows, at one that does not, and for each log that is followed, at least."""

LONGEST_TURN = 10.0
"""Seconds after which the reader ends where it has nothing to read."""

LOG_LINES = 12
"""How many lines of its log a card shows."""


class Tail:
    """The end of one job's log, as a view wants it.

    Args:
        job_id: The job.
        told: Called with the text when it has changed; in the reader's thread.
    """

    def __init__(self, job_id: str, told: Callable[[str], object]) -> None:
        self.job_id = job_id
        self.told = told
        self.text: str | None = None
        self.due = 0.0
        self.pause = FIRST
        self.last = False
        """Whether one more look is enough, because the job has ended."""
        self.over = False
        """Whether that look was taken."""


class Desk:
    """Works for the views of one client.

    Args:
        session: The client's.
    """

    def __init__(self, session: Session | AsyncSession) -> None:
        self._client_session = weakref.ref(session)
        self._service = session.service
        # Of its own, because an async client's connections belong to its event loop. A view that gets no answer says
        # so, and is asked again by whoever looks at it.
        self._session = Session(session.service, timeout=TIMEOUT, retry=RetryPolicy(tries=2))
        weakref.finalize(session, self._session.close)
        self._changed = threading.Condition()
        self._tails: list[Tail] = []
        self._reader: threading.Thread | None = None

    @property
    def service(self) -> Any:
        """The service, and what it can do."""
        return self._service

    @property
    def closed(self) -> bool:
        """Whether the client was closed, or is gone."""
        session = self._client_session()
        return session is None or session.closed

    def run(self, op: Op[T]) -> T:
        """Run an operation; blocks."""
        return self._session.run(op)

    def iterate(self, op: Op[Any]) -> Iterator[Any]:
        """Run an operation and hand out its items; blocks."""
        return self._session.iterate(op)

    def transfer(self, make: Callable[..., Op[T]]) -> T:
        """Run an operation that fetches files, without showing it; blocks."""
        return self._session.transfer(make, progress=False)

    def open(self, job_id: str, path: str) -> Any:
        """Open a job's file for reading bytes."""
        return self._session.open(job_id, path, mode="rb", encoding=None, errors=None, newline=None)

    def subscribe(self, jobs: dict[str, JobInfo | None], wake: Callable[[], object]) -> Subscriber | None:
        """Listen for changes of jobs by the client's one watching thread; None where the client was closed."""
        session = self._client_session()
        if session is None or session.closed:
            return None
        with contextlib.suppress(HpcjobsError):
            subscriber = session.watcher.subscriber(jobs, wake)
            subscriber.open()
            return subscriber
        return None

    def order(self, work: Callable[[], object], failed: Callable[[str], object]) -> None:
        """Do something for a person who has clicked; returns at once.

        Args:
            work: What is to be done, in a thread of its own.
            failed: Told why it could not be done.
        """

        def run() -> None:
            try:
                work()
            except HpcjobsError as error:
                failed(str(error).splitlines()[0])
            except Exception as error:
                logger.debug("an order failed", exc_info=True)
                failed(f"{type(error).__name__}: {error}")

        threading.Thread(target=run, name="hpcjobs-order", daemon=True).start()

    # -- logs ----------------------------------------------------------------------------------------------------------

    def follow(self, tail: Tail) -> None:
        """Look at a log now and then, until it is let go."""
        with self._changed:
            if tail not in self._tails:
                self._tails.append(tail)
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, name="hpcjobs-logs", daemon=True)
                self._reader.start()
            self._changed.notify_all()

    def hurry(self, tail: Tail, *, last: bool | None = None) -> None:
        """Something has changed about the job: its log may have, too.

        Args:
            tail: The log.
            last: Whether the job has ended; None where that has not changed. Then it is looked at at once.
        """
        with self._changed:
            tail.pause = FIRST
            if last is None:
                tail.due = min(tail.due, time.monotonic() + FIRST)
            else:
                tail.last, tail.over, tail.due = last, False, 0.0
            self._changed.notify_all()

    def leave(self, tail: Tail) -> None:
        """Look no longer."""
        with self._changed:
            if tail in self._tails:
                self._tails.remove(tail)

    def _read(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                tail = min(self._tails, key=lambda one: one.due, default=None)
                if tail is None or self.closed:
                    if not self._changed.wait(LONGEST_TURN) or self.closed:
                        self._reader = None
                        return
                    continue
                if tail.due > now:
                    self._changed.wait(min(tail.due - now, LONGEST_TURN))
                    continue
                last = tail.last
            text = self._look(tail)
            with self._changed:
                grew = text is not None and text != tail.text
                slowest = max(SLOWEST, SHARE * len(self._tails))
                tail.pause = max(FIRST, SHARE * len(self._tails)) if grew else min(tail.pause * 1.5, slowest)
                tail.due = time.monotonic() + tail.pause
                if last and text is not None and tail in self._tails:
                    self._tails.remove(tail)
                    tail.due = math.inf
            over = last and text is not None
            if over or grew:
                tail.text = text
                tail.over = over and tail.last
                tail.told(tail.text or "")

    def _look(self, tail: Tail) -> str | None:
        try:
            return self.run(operations.read_log(self._service, tail.job_id, stream="stdout", tail=LOG_LINES))
        except HpcjobsError:  # there is none yet, or the service is away, which the watching thread tells
            return None


_desks: weakref.WeakKeyDictionary[Any, Desk] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def desk_of(session: Session | AsyncSession) -> Desk:
    """The one of a client."""
    with _lock:
        desk = _desks.get(session)
        if desk is None:
            desk = _desks[session] = Desk(session)
        return desk
