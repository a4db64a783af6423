"""Lists of jobs that are fetched page by page as they are gone through; in a notebook they are shown as a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic

from hpcjobs import operations
from hpcjobs.handles import AsyncJob, Job
from hpcjobs.sessions import AsyncSession, S, Session

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcjobs.models import JobFilter, JobInfo
    from hpcjobs.protocol import Op


class _List(Generic[S]):
    """What both lists share.

    Args:
        session: The client's.
        wanted: Which jobs.
        limit: At most so many.
    """

    def __init__(self, session: S, wanted: JobFilter, limit: int | None) -> None:
        self._session: S = session
        self._wanted = wanted
        self._limit = limit

    @property
    def title(self) -> str:
        """Which jobs, in words."""
        conditions = self._wanted.model_dump(mode="json", exclude_defaults=True)
        told: list[str] = [
            f"{condition} {', '.join(value) if isinstance(value, list) else value}"
            for condition, value in conditions.items()
        ]
        return " · ".join(["jobs", *told])

    def asked(self) -> Op[Any]:
        """The operation that fetches them anew, each info an item."""
        return operations.list_jobs(self._session.service, self._wanted, limit=self._limit)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}: go through it to fetch them>"


class JobList(_List[Session], Iterator[Job[Any]]):
    """Jobs, newest first; an iterator of handles.

    Example:
        >>> from hpcjobs import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     for job in client.jobs(state="FAILED"):
        ...         print(job, job.reason)
    """

    _infos: Iterator[JobInfo] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Job[Any]:
        if self._infos is None:
            self._infos = self._session.iterate(self.asked())
        return Job(self._session, next(self._infos))


class AsyncJobList(_List[AsyncSession], AsyncIterator[AsyncJob[Any]]):
    """Jobs, newest first; an async iterator of handles.

    Example:
        >>> async def show(client):
        ...     async for job in client.jobs(state="FAILED"):
        ...         print(job, job.reason)
    """

    _infos: AsyncIterator[JobInfo] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncJob[Any]:
        if self._infos is None:
            self._infos = self._session.iterate(self.asked())
        return AsyncJob(self._session, await self._infos.__anext__())
