"""Reads and follows logs by byte offset."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from hpcjobs.errors import PASSING, InvalidSpec, JobNotFound, JobVanished
from hpcjobs.protocol import Op, emit, sleep
from hpcjobs.services.base import LogChunk, Service

PIECE = 4 << 20
"""Bytes that are asked for at a time."""

HOLD = 20.0
"""Seconds that the service may hold an answer until there is something new."""

PATIENCE = 600.0
"""Seconds without any answer after which following ends with the error."""

STREAMS = ("stdout", "stderr")
"""What a job writes to; stdout holds both, in order, unless the job asked for a separate stderr."""

LONGEST_TAIL = 64 << 20
"""Bytes: where fewer lines than asked for are found in so many, they are all that is shown."""

_LINE = 200
"""Bytes: a guess at the length of a line."""


def read_log(service: Service, job_id: str, *, stream: str = "stdout", tail: int | None = None) -> Op[str]:
    """The log as it is now.

    Args:
        service: Where the job is.
        job_id: Whose log.
        stream: ``"stdout"`` (holds both, in order, unless the job asked for a separate stderr) or ``"stderr"``.
        tail: Only so many lines from the end; None for everything.

    Returns:
        The text; bytes that are not UTF-8 are replaced. Empty before the job has started.

    Raises:
        InvalidSpec: There is no such stream, or ``tail`` is negative.
        JobNotFound: There is no such job.
    """
    if tail is not None:
        return (yield from tail_log(service, job_id, stream=stream, lines=tail)).data.decode("utf-8", "replace")
    while True:  # where another attempt has begun, its log is the one to show
        data = bytearray()
        if (yield from present_log(service, job_id, stream=stream, take=data.extend)):
            return data.decode("utf-8", "replace")


def present_log(service: Service, job_id: str, *, stream: str, take: Callable[[bytes], object]) -> Op[bool]:
    """Hand out, piece by piece, what was there at the first look: a job that writes faster than we read has no end.

    Args:
        service: Where the job is.
        job_id: Whose log.
        stream: ``"stdout"`` or ``"stderr"``.
        take: Given each piece as it comes.

    Returns:
        False where another attempt began meanwhile: what was handed out is the beginning of the one before.

    Raises:
        InvalidSpec: There is no such stream.
        JobNotFound: There is no such job.
    """
    _check_stream(stream)
    first = chunk = yield from service.log(job_id, stream, offset=0, length=PIECE)
    offset = 0
    while chunk.attempt == first.attempt:
        take(chunk.data)
        offset += len(chunk.data)
        if not chunk.data or offset >= first.total:
            return True
        chunk = yield from service.log(job_id, stream, offset=offset, length=PIECE)
    return False


def tail_log(service: Service, job_id: str, *, stream: str = "stdout", lines: int) -> Op[LogChunk]:
    """The last lines of the log as it is now, as bytes.

    Args:
        service: Where the job is.
        job_id: Whose log.
        stream: ``"stdout"`` or ``"stderr"``.
        lines: How many lines, at most.

    Returns:
        The bytes, and where in the log they are: following goes on at ``offset + len(data)``.

    Raises:
        InvalidSpec: There is no such stream, or ``lines`` is negative.
        JobNotFound: There is no such job.
    """
    _check_stream(stream)
    if lines < 0:
        raise InvalidSpec([("tail", f"{lines} lines cannot be shown; give a number of lines, zero or more")])
    size = max(4096, _LINE * lines)
    while True:
        chunk = yield from service.log_tail(job_id, stream, size=size)
        found = _lines(chunk.data)
        # One line more than asked for, as the first one may have lost its beginning.
        if len(found) > lines or size >= min(chunk.total, LONGEST_TAIL):
            data = b"".join(found[len(found) - min(lines, len(found)) :])
            return dataclasses.replace(chunk, data=data, offset=chunk.offset + len(chunk.data) - len(data))
        size *= 4


def _lines(data: bytes) -> list[bytes]:
    """The lines, with their ends. A carriage return ends none: progress bars draw one line over and over with it."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def follow_log(
    service: Service,
    job_id: str,
    *,
    stream: str = "stdout",
    offset: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Op[None]:
    """Hand out the log as it grows, until the job has ended and nothing is left.

    Goes on at the same byte after a connection was lost. A new attempt's log is handed out from its start.

    Args:
        service: Where the job is.
        job_id: Whose log.
        stream: ``"stdout"`` or ``"stderr"``.
        offset: The first byte to hand out.
        clock: Seconds that only grow.

    Yields:
        ``Emit`` of bytes.

    Raises:
        InvalidSpec: There is no such stream, or the offset is negative.
        JobNotFound: There is no such job.
        JobVanished: The service no longer knows the job.
        TransportError: No answer came for ten minutes.
        ServiceError: The service gave no usable answer for ten minutes, or it refused.
    """
    _check_stream(stream)
    if offset < 0:
        raise InvalidSpec([("offset", f"{offset} is before the start; give a number of bytes, zero or more")])
    last: LogChunk | None = None
    heard = clock()
    while True:
        asked = clock()
        try:
            chunk = yield from service.log(job_id, stream, offset=offset, wait=HOLD, length=PIECE)
        except PASSING:
            if clock() - heard > PATIENCE:
                raise
            yield from sleep(1.0)
            continue
        except JobNotFound:
            if last is None:
                raise
            raise JobVanished(job_id) from None
        heard = clock()
        before, last = last, chunk
        if before is not None and before.attempt not in {0, chunk.attempt}:
            # These bytes were asked for by an offset into another attempt's log.
            offset = 0
            if chunk.offset != 0:
                continue
        if chunk.data:
            yield from emit(chunk.data)
            offset = chunk.offset + len(chunk.data)
        if chunk.state.terminal and offset >= chunk.total:
            return
        if not chunk.data and heard - asked < service.capabilities.min_poll:  # the service does not hold its answers
            yield from sleep(service.capabilities.min_poll)


def _check_stream(stream: str) -> None:
    if stream not in STREAMS:
        raise InvalidSpec([("stream", f"there is no stream {stream!r}; the streams are {' and '.join(STREAMS)}")])
