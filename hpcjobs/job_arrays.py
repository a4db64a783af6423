"""Handles of arrays: many jobs as one.

``JobArray`` and ``AsyncJobArray`` have the same methods and hold no logic. What they show is what was last known of
the jobs.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hpcjobs import live, markup, operations
from hpcjobs.handles import AsyncJob, Job, R_co, as_they_end, changes_of
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobFilter, Progress
from hpcjobs.sessions import AsyncSession, OnInterrupt, Session
from hpcjobs.wording import Listed

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self

    from hpcjobs.acting import Changes
    from hpcjobs.actions import DeleteResult, RetryResult, UpdateResult
    from hpcjobs.arrays import ArrayInfo
    from hpcjobs.models import CancelResult, JobInfo

H_co = TypeVar("H_co", bound="Job[Any] | AsyncJob[Any]", covariant=True)
S = TypeVar("S", Session, AsyncSession)


class _Array(Generic[S, H_co]):
    """What is known of an array's jobs; nothing here asks the service."""

    def __init__(self, session: S, info: ArrayInfo, jobs: Sequence[H_co]) -> None:
        self._session: S = session
        self._info = info
        self._jobs: list[H_co] = list(jobs)
        self._by_id: dict[str, H_co] = {job.id: job for job in self._jobs}

    @property
    def id(self) -> str:
        """The array's id at its service."""
        return self._info.id

    @property
    def name(self) -> str | None:
        """The array's name; its jobs' names add their index."""
        return self._info.name

    @property
    def jobs(self) -> list[H_co]:
        """Handles to its jobs, in the order of their indexes."""
        return Listed(self._jobs)

    @property
    def counts(self) -> dict[JobState, int]:
        """How many of its jobs are in which state, as far as is known."""
        return dict(sorted(Counter(job.state for job in self._jobs).items()))

    @property
    def done(self) -> bool:
        """Whether all of its jobs are known to have ended, well or badly."""
        return all(job.done for job in self._jobs)

    @property
    def failed(self) -> list[H_co]:
        """Those of its jobs that are known not to have ended well: FAILED or CANCELLED."""
        return Listed(job for job in self._jobs if job.done and job.state is not JobState.FINISHED)

    @property
    def progress(self) -> Progress:
        """How far all of its jobs are together: one that has ended counts as 1, one that runs as its own fraction."""
        done = sum(1.0 if job.done else (job.progress and job.progress.fraction) or 0.0 for job in self._jobs)
        return Progress(done=done, total=len(self._jobs))

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[H_co]:
        return iter(self._jobs)

    def __getitem__(self, index: int) -> H_co:
        return self._jobs[index]

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        counted = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return f"<{type(self).__name__} {self.id}{name} {len(self)} jobs: {counted}>"

    def _repr_html_(self) -> str:
        """What a notebook shows for an array that is the last line of a cell."""
        return markup.as_html([job.info for job in self._jobs])

    def _renewed(self, info: ArrayInfo, infos: Sequence[JobInfo]) -> Self:
        self._info = info
        for one in infos:
            self._learn(one)
        return self

    def _known(self) -> dict[str, JobInfo | None]:
        return {job.id: job.info for job in self._jobs}

    def _learn(self, info: JobInfo) -> None:
        job = self._by_id.get(info.id)
        if job is not None:
            job._learn(info)  # noqa: SLF001 - an array and its jobs are of one piece


class JobArray(_Array[Session, Job[R_co]], Generic[R_co]):
    """An array bound to a client: many jobs of one spec, handled as one.

    It is a sequence of handles: ``array[3]``, ``len(array)``, ``for job in array``.

    Example:
        >>> from hpcjobs import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     sweep = client.submit_array("fit.py --damping {d}", over=[{"d": 0.02}, {"d": 0.05}])
        ...     sweep.wait()
        ...     print(sweep.counts)
    """

    def refresh(self) -> JobArray[R_co]:
        """Ask the service how the jobs are.

        Returns:
            This handle.

        Raises:
            NotFound: The service does not know the array.
            TransportError: No answer came.
        """
        return self._renewed(*self._session.run(operations.look_at_array(self._session.service, self.id)))

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> list[JobInfo]:
        """Wait until all jobs have ended, well or badly.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the jobs are shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the jobs that still go on when the waiting is interrupted.

        Returns:
            The final infos, in the order of the indexes.

        Raises:
            WaitTimeout: A job had not ended in time; it goes on.
            JobVanished: The service no longer knows one of the jobs.
        """
        return self._session.wait(
            self._known(), timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=self._learn
        )

    def results(self, timeout: float | None = None) -> Iterator[R_co]:
        """Hand out what its jobs came to, in the order of their indexes, as soon as each has ended.

        Where a job did not end well, its error is raised in its place, and the next step goes on after it.

        Args:
            timeout: Seconds for all of them; None for as long as it takes.

        Returns:
            An iterator of what :meth:`Job.result` of each job is.

        Raises:
            JobFailed: The job at this place failed.
            JobCancelled: The job at this place was cancelled.
            Exception: What the function raised at this place.
            WaitTimeout: The job at this place had not ended in time; it goes on.
        """
        return _Results(self._jobs, timeout)

    def cancel(
        self,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> list[CancelResult]:
        """Cancel all of its jobs that have not ended.

        Args:
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.
            confirm: Seconds to wait until all have ended; None not to wait.
            strict: Raise where one of them was not cancelled.

        Returns:
            What happened to each job that had not ended.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: One had not stopped within ``confirm`` seconds; the requests stand.
            NotCancelled: One was not cancelled, and ``strict`` was given.
        """
        chosen = JobFilter(array=self.id)
        order = operations.cancel_many(
            self._session.service,
            chosen,
            reason=reason,
            abort=abort,
            delete=delete,
            confirm=confirm,
            strict=strict,
            learn=self._learn,
        )
        return self._session.run(order)

    def retry(self) -> list[RetryResult]:
        """Run those of its jobs again that did not end well.

        Returns:
            What happened to each of them.

        Raises:
            Unsupported: The service runs no job again.
        """
        results = self._session.run(operations.retry_many(self._session.service, JobFilter(array=self.id)))
        self.refresh()
        return results

    def update(self, changes: Changes | None = None, /, **fields: Any) -> list[UpdateResult]:
        """Change those of its jobs that have not started.

        Args:
            changes: What is to be different, by name, or a function that is called with each job's info.
            **fields: The same by keyword.

        Returns:
            What happened to each of them.

        Raises:
            InvalidSpec: The changes make no sense.
            Unsupported: The service changes no jobs.
        """
        wanted, chosen = changes_of(changes, fields), JobFilter(array=self.id)
        return self._session.run(operations.update_many(self._session.service, chosen, wanted))

    def delete(self) -> list[DeleteResult]:
        """Remove the records and files of its jobs; those that run are left alone.

        Returns:
            What happened to each job that did not run.

        Raises:
            Unsupported: The service deletes no jobs.
        """
        return self._session.run(operations.delete_many(self._session.service, JobFilter(array=self.id)))


class AsyncJobArray(_Array[AsyncSession, AsyncJob[R_co]], Generic[R_co]):
    """An array bound to a client: many jobs of one spec, handled as one.

    It is a sequence of handles: ``array[3]``, ``len(array)``, ``for job in array``.

    Example:
        >>> from hpcjobs import AsyncClient
        >>> async with AsyncClient() as client:  # doctest: +SKIP
        ...     sweep = await client.submit_array("fit.py --damping {d}", over=[{"d": 0.02}, {"d": 0.05}])
        ...     await sweep.wait()
        ...     print(sweep.counts)
    """

    def __await__(self) -> Generator[Any, None, list[JobInfo]]:
        """``await array`` is ``await array.wait()``."""
        return self.wait().__await__()

    async def refresh(self) -> AsyncJobArray[R_co]:
        """Ask the service how the jobs are.

        Returns:
            This handle.

        Raises:
            NotFound: The service does not know the array.
            TransportError: No answer came.
        """
        return self._renewed(*(await self._session.run(operations.look_at_array(self._session.service, self.id))))

    async def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> list[JobInfo]:
        """Wait until all jobs have ended, well or badly.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the jobs are shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the jobs that still go on when the waiting is interrupted.

        Returns:
            The final infos, in the order of the indexes.

        Raises:
            WaitTimeout: A job had not ended in time; it goes on.
            JobVanished: The service no longer knows one of the jobs.
        """
        return await self._session.wait(
            self._known(), timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=self._learn
        )

    def results(self, timeout: float | None = None) -> AsyncIterator[R_co]:
        """Hand out what its jobs came to, in the order of their indexes, as soon as each has ended.

        Where a job did not end well, its error is raised in its place, and the next step goes on after it.

        Args:
            timeout: Seconds for all of them; None for as long as it takes.

        Returns:
            An iterator of what :meth:`AsyncJob.result` of each job is.

        Raises:
            JobFailed: The job at this place failed.
            JobCancelled: The job at this place was cancelled.
            Exception: What the function raised at this place.
            WaitTimeout: The job at this place had not ended in time; it goes on.
        """
        return _AsyncResults(self._jobs, timeout)

    async def cancel(
        self,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> list[CancelResult]:
        """Cancel all of its jobs that have not ended.

        Args:
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.
            confirm: Seconds to wait until all have ended; None not to wait.
            strict: Raise where one of them was not cancelled.

        Returns:
            What happened to each job that had not ended.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: One had not stopped within ``confirm`` seconds; the requests stand.
            NotCancelled: One was not cancelled, and ``strict`` was given.
        """
        chosen = JobFilter(array=self.id)
        order = operations.cancel_many(
            self._session.service,
            chosen,
            reason=reason,
            abort=abort,
            delete=delete,
            confirm=confirm,
            strict=strict,
            learn=self._learn,
        )
        return await self._session.run(order)

    async def retry(self) -> list[RetryResult]:
        """Run those of its jobs again that did not end well.

        Returns:
            What happened to each of them.

        Raises:
            Unsupported: The service runs no job again.
        """
        results = await self._session.run(operations.retry_many(self._session.service, JobFilter(array=self.id)))
        await self.refresh()
        return results

    async def update(self, changes: Changes | None = None, /, **fields: Any) -> list[UpdateResult]:
        """Change those of its jobs that have not started.

        Args:
            changes: What is to be different, by name, or a function that is called with each job's info.
            **fields: The same by keyword.

        Returns:
            What happened to each of them.

        Raises:
            InvalidSpec: The changes make no sense.
            Unsupported: The service changes no jobs.
        """
        wanted, chosen = changes_of(changes, fields), JobFilter(array=self.id)
        return await self._session.run(operations.update_many(self._session.service, chosen, wanted))

    async def delete(self) -> list[DeleteResult]:
        """Remove the records and files of its jobs; those that run are left alone.

        Returns:
            What happened to each job that did not run.

        Raises:
            Unsupported: The service deletes no jobs.
        """
        return await self._session.run(operations.delete_many(self._session.service, JobFilter(array=self.id)))


class _Ordered(Generic[H_co]):
    """The jobs whose results are handed out in their order; all of them are watched together."""

    def __init__(self, jobs: Sequence[H_co], timeout: float | None) -> None:
        self._all = list(jobs)
        self._jobs = iter(self._all)
        self._timeout = timeout
        self._end = math.inf if timeout is None else None
        self._watched: Any = None

    def _ended(self) -> Any:
        """Hands out the jobs as they end, with one display for all of them.

        On a terminal the caller's own prints would come in between, so that there is none.
        """
        if self._end is None:  # the time begins with the first step
            self._end = time.monotonic() + (self._timeout or 0.0)
        if self._watched is None:
            left = None if self._end == math.inf else max(0.0, self._end - time.monotonic())
            self._watched = as_they_end(self._all, left, progress=live.in_notebook())
        return self._watched


class _Results(_Ordered["Job[R_co]"], Iterator[R_co]):
    def __next__(self) -> R_co:
        job = next(self._jobs)
        while not job.done:
            if next(self._ended(), None) is None:  # the time is over
                return job.result(0, progress=False)
        try:
            return job.result(progress=False)
        except BaseException:
            self._watched = None  # closes the display: the loop may end here, and it would stay as it was
            raise


class _AsyncResults(_Ordered["AsyncJob[R_co]"], AsyncIterator[R_co]):
    async def __anext__(self) -> R_co:
        job = next(self._jobs, None)
        if job is None:
            raise StopAsyncIteration
        while not job.done:
            if await anext(self._ended(), None) is None:
                return await job.result(0, progress=False)
        try:
            return await job.result(progress=False)
        except BaseException:
            if self._watched is not None:
                watched, self._watched = self._watched, None
                await watched.aclose()
            raise
