"""A job's file, open for reading: what is read is fetched, and nothing is stored.

The file is an ordinary one of :mod:`io`, over pieces that are fetched where it is read. It is read in one version:
where the job writes to it meanwhile, the next piece is an error and never a mixture.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic, TypeVar

from hpcjobs.errors import InvalidSpec, JobNotFound, NotFound, OutputError, OutputNotFound
from hpcjobs.models import check_file_name
from hpcjobs.protocol import Op
from hpcjobs.services.base import FileChunk, Service

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

R = TypeVar("R")

AHEAD = 1 << 20
"""Bytes that are fetched at a time, where fewer are read."""

MOST = 8 << 20
"""Bytes that are fetched at a time at most."""

_LINES = 1 << 16
"""Bytes or characters of lines that are read in one call to a thread."""

_MODES = {"r": False, "rt": False, "tr": False, "rb": True, "br": True}

Fetch = Callable[[int, int], FileChunk]
"""Fetches so many bytes from an offset."""


def read_piece(service: Service, job_id: str, path: str, offset: int, length: int) -> Op[FileChunk]:
    """A piece of a job's file.

    Raises:
        JobNotFound: There is no such job.
        OutputNotFound: The job has no such file; says which it has.
    """
    try:
        return (yield from service.file(job_id, _checked(path), offset=offset, length=length))
    except JobNotFound:
        raise
    except NotFound as error:
        listed = yield from service.files(job_id)
        raise OutputNotFound(path, [item.path for item in listed]) from error


def open_reader(
    path: str, fetch: Fetch, *, mode: str, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """Open a file over what ``fetch`` fetches; asks for its beginning at once.

    Args:
        path: Its name, for messages.
        fetch: Fetches a piece.
        mode: ``"r"`` or ``"rb"``.
        encoding: Of text; None for UTF-8.
        errors: What is done with bytes that are not in that encoding, as in :func:`open`.
        newline: How ends of lines are read, as in :func:`open`.

    Raises:
        InvalidSpec: The mode is no mode for reading, or goes with no encoding.
        OutputNotFound: The job has no such file.
    """
    if mode not in _MODES:
        raise InvalidSpec([("mode", f"{mode!r} cannot be used; a job's file is read only: write 'r' or 'rb'")])
    if _MODES[mode] and (encoding, errors, newline) != (None, None, None):
        raise InvalidSpec([("mode", f"{mode!r} reads bytes, which have no encoding, errors or newline")])
    buffered = io.BufferedReader(_Pieces(path, fetch), AHEAD)
    if _MODES[mode]:
        return buffered
    try:
        return io.TextIOWrapper(buffered, encoding=encoding or "utf-8", errors=errors, newline=newline)
    except (LookupError, ValueError) as error:
        buffered.close()
        raise InvalidSpec([("encoding", f"cannot be used: {error}")]) from None


class _Pieces(io.RawIOBase):
    """The bytes of a file, fetched piece by piece as they are read."""

    def __init__(self, path: str, fetch: Fetch) -> None:
        self.name = path
        self.mode = "rb"
        self._fetch = fetch
        self._place = 0
        self._start = 0
        first = fetch(0, AHEAD)
        self._piece, self._total, self._etag = first.data, first.total, first.etag

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._total}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}; it must be 0, 1 or 2")
        if base + offset < 0:
            raise ValueError(f"there is nothing {-(base + offset)} bytes before the beginning")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        self._check_open()
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        with memoryview(buffer).cast("B") as room:
            data = self._at(self._place, len(room))
            room[: len(data)] = data
        self._place += len(data)
        return len(data)

    def readall(self) -> bytes:
        parts: list[bytes] = []
        self._check_open()
        while part := bytes(self._at(self._place, self._total)):
            parts.append(part)
            self._place += len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._piece = b""
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")

    def _at(self, place: int, length: int) -> memoryview:
        """Some of the bytes from ``place`` on, at most ``length``; none at the end."""
        if place >= self._total or not length:
            return memoryview(b"")
        if not self._start <= place < self._start + len(self._piece):
            chunk = self._fetch(place, min(max(length, AHEAD), MOST))
            if chunk.etag != self._etag or chunk.total != self._total:
                raise OutputError(self.name, "was changed while it was read; open it again")
            if chunk.offset > place or chunk.offset + len(chunk.data) <= place:
                raise OutputError(self.name, f"ends after {place:,} of {self._total:,} bytes; open it again")
            self._piece, self._start = chunk.data, chunk.offset
        begin = place - self._start
        return memoryview(self._piece)[begin : begin + length]


class AsyncFile(Generic[AnyStr]):
    """A job's file, open for reading in async code: the methods of a file, to be awaited.

    It is an async context manager, and an async iterator over its lines.

    Example:
        >>> async def head(job):
        ...     async with await job.open("out.csv") as file:
        ...         return await file.readline()
    """

    def __init__(self, file: IO[AnyStr]) -> None:
        import asyncio

        self._file: IO[AnyStr] = file
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._file.name

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    async def read(self, size: int = -1) -> AnyStr:
        """At most ``size`` bytes or characters; all that are left where it is negative."""
        return await self._do(lambda: self._file.read(size))

    async def readline(self) -> AnyStr:
        """The next line with its end; empty at the end of the file."""
        return await self._do(self._file.readline)

    async def readlines(self) -> list[AnyStr]:
        """The lines that are left."""
        return await self._do(self._file.readlines)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file; returns it."""
        return await self._do(lambda: self._file.seek(offset, whence))

    async def tell(self) -> int:
        """The place in the file."""
        return await self._do(self._file.tell)

    async def aclose(self) -> None:
        """Close it; may be called twice."""
        self._file.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[AnyStr]:
        """The lines that are left, one by one."""
        while lines := await self._do(lambda: self._file.readlines(_LINES)):
            for line in lines:
                yield line

    async def _do(self, work: Callable[[], R]) -> R:
        """Do it in a thread: to read may mean to fetch."""
        import asyncio

        async with self._lock:
            return await asyncio.to_thread(work)


def fetching_in(
    loop: asyncio.AbstractEventLoop, run: Callable[[Op[FileChunk]], Coroutine[Any, Any, FileChunk]]
) -> Callable[[Op[FileChunk]], FileChunk]:
    """What runs an operation in an event loop for a thread that is not the loop's."""
    import asyncio

    def fetch(op: Op[FileChunk]) -> FileChunk:
        return asyncio.run_coroutine_threadsafe(run(op), loop).result()

    return fetch


def _checked(path: str) -> str:
    try:
        return check_file_name(path)
    except ValueError as error:
        raise OutputError(path, str(error)) from None
