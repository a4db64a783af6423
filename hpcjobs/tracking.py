"""``track``: a loop over what happens to jobs, which shows them meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hpcjobs import live, waiting
from hpcjobs.errors import InvalidSpec
from hpcjobs.handles import AsyncJob, Job, as_they_end

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo

R = TypeVar("R")


@overload
def track(jobs: Job[Any], timeout: float | None = None, *, progress: bool | None = True) -> Iterator[JobInfo]: ...


@overload
def track(
    jobs: AsyncJob[Any], timeout: float | None = None, *, progress: bool | None = True
) -> AsyncIterator[JobInfo]: ...


@overload
def track(
    jobs: Iterable[Job[R]], timeout: float | None = None, *, progress: bool | None = True
) -> Iterator[Job[R]]: ...


@overload
def track(
    jobs: Iterable[AsyncJob[R]], timeout: float | None = None, *, progress: bool | None = True
) -> AsyncIterator[AsyncJob[R]]: ...


def track(jobs: Any, timeout: float | None = None, *, progress: bool | None = True) -> Any:
    """Go through what happens to one job, or through many jobs as they end, and show them meanwhile.

    They are shown as the place allows: live in a notebook, by a line with a bar in a terminal, by plain lines in a
    file. What is shown stays with the last state when the loop ends, also where it is left early; the jobs go on then.

    Args:
        jobs: A handle: its infos are handed out, now and at every change, as by ``job.watch()``. Or an array, or
            handles of one client: each is handed out when it has ended, as by :func:`as_completed`.
        timeout: Seconds from the first step; None for as long as it takes.
        progress: False shows nothing; None shows something to people only: in a notebook and on a terminal.

    Returns:
        An iterator; for handles of an ``AsyncClient`` one for ``async for``.

    Raises:
        InvalidSpec: Something is not a handle, or the jobs are at several services.
        WaitTimeout: A job had not ended in time; it goes on.
        JobVanished: The service no longer knows one of the jobs.
        AuthenticationError: The token is no longer good.

    Example:
        >>> from hpcjobs import Client, track
        >>> with Client() as client:  # doctest: +SKIP
        ...     for info in track(client.submit("python fit.py", inputs=["fit.py"])):
        ...         print(info.state, info.progress)
        ...     for job in track(client.map(pow, [2, 3], [4, 5])):
        ...         print(job.result())
    """
    if isinstance(jobs, (Job, AsyncJob)):
        handles: list[Any] = [jobs]
        session = jobs._session  # noqa: SLF001 - of one piece
        known = {jobs.id: waiting.seen(jobs.info)}
        items: Any = session.watch(known, learn=jobs._learn, timeout=timeout, progress=progress)  # noqa: SLF001
    else:
        if not isinstance(jobs, Iterable):
            raise InvalidSpec([("jobs", f"is {jobs!r}; give a handle, an array, or handles in a list")])
        handles = list(jobs)
        items = as_they_end(handles, timeout, progress=progress)
        if not handles:
            return items
    return _async_told(items, handles) if isinstance(items, AsyncIterator) else _told(items, handles)


def _told(items: Iterator[Any], handles: Sequence[Job[Any]]) -> Iterator[Any]:
    """The items; who interrupts the waiting for the next one is told that the jobs go on."""
    try:
        yield from items
    except KeyboardInterrupt:
        live.tell(waiting.detached([handle.info for handle in handles]))
        raise


async def _async_told(items: Any, handles: Sequence[AsyncJob[Any]]) -> AsyncIterator[Any]:
    import asyncio

    try:
        async for item in items:
            yield item
    except asyncio.CancelledError:
        if live.seen_by_a_person():
            live.tell(waiting.detached([handle.info for handle in handles]))
        raise
    finally:
        await items.aclose()
