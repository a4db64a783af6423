"""The result of a job: the value of a function or of a task, the final info of a command."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcjobs import inside, waiting
from hpcjobs.errors import JobNotFound, NotFound, ResultError, ResultTooLarge
from hpcjobs.functions import Outcome, outcome_of
from hpcjobs.lifecycle import JobState
from hpcjobs.protocol import Op, run

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo
    from hpcjobs.services.base import Service

_PIECE = 8 << 20
"""Bytes that are asked for at a time."""

_SMALL = 1 << 20
"""Bytes that are never too large."""


def result(service: Service, info: JobInfo) -> Op[Outcome]:
    """The result of a job that has ended; ``get()`` of it raises the function's own error.

    Args:
        service: Where it is.
        info: The job's final info.

    Raises:
        JobFailed: The job failed; with the traceback where a function raised an error that cannot be had here.
        JobCancelled: The job was cancelled.
        ResultError: The job ended well, and its result cannot be had.
    """
    if info.spec is None:  # a list does not tell what was asked
        info = waiting.merged((yield from service.get(info.id)), info)
    spec = info.spec or {}
    if spec.get("function") is None and spec.get("task") is None:
        return Outcome((yield from waiting.outcome(service, info)))
    if info.state is JobState.CANCELLED:
        return Outcome((yield from waiting.outcome(service, info)))
    data = yield from _fetch(service, info, _path(spec))
    ended = _ended(data)
    if info.state is not JobState.FINISHED and ended not in {"raised", "unfit"}:
        return Outcome((yield from waiting.outcome(service, info)))  # it was killed, or its process failed afterwards
    if data is None:
        raise ResultError(info, "is not there: the function ended its process, or has removed the file")
    # What a task has returned comes as JSON, and nothing that the service says makes it a pickle.
    return (yield from run(lambda: outcome_of(info, data, trusted=spec.get("task") is None)))


def _path(spec: Mapping[str, Any]) -> str:
    mark = spec.get("function")
    return str(mark.get("result", inside.RESULT)) if isinstance(mark, Mapping) else inside.RESULT


def _fetch(service: Service, info: JobInfo, path: str) -> Op[io.BytesIO | None]:
    """The file with the result; None where there is none."""
    data = io.BytesIO()
    etag = None
    while True:
        try:
            chunk = yield from service.file(info.id, path, offset=data.tell(), length=_PIECE if etag else _SMALL)
        except JobNotFound:
            raise
        except NotFound:
            return None
        if etag is None:
            available = available_memory()
            if available is not None and chunk.total > _SMALL and 2 * chunk.total > available:
                raise ResultTooLarge(info, path=path, size=chunk.total, available=available)
        if (etag is not None and chunk.etag != etag) or chunk.offset != data.tell():
            raise ResultError(info, "changes while it is fetched; try again")
        etag = chunk.etag
        data.write(chunk.data)
        if data.tell() >= chunk.total:
            data.seek(0)
            return data
        if not chunk.data:
            raise ResultError(info, f"ends after {data.tell():,} of {chunk.total:,} bytes; try again")


def _ended(data: io.BytesIO | None) -> str | None:
    if data is None:
        return None
    try:
        return str(inside.read_header(data).get("ended"))
    except ValueError:
        return None
    finally:
        data.seek(0)


def available_memory() -> int | None:
    """Bytes of memory that this process can still get; None where the system does not tell.

    The least of what the system has free, what its control group may still take, and its own limit.
    """
    found = [_free(), _group(), _limit()]
    return min((amount for amount in found if amount is not None), default=None)


def _free() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no Linux: all that it has is a bound, too
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _group() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        return max(0, most - int((group / "memory.current").read_text(encoding="ascii")))
    return None


def _limit() -> int | None:
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
            return max(0, limit - used)
    return None
