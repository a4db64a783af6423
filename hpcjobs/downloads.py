"""Fetches a job's files: only into the folder that was named, whole or not at all, and from where it stopped."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hpcjobs.bodies import OnBytes, OnFile, Tally
from hpcjobs.errors import JobNotFound, NotFound, OutputError, OutputNotFound
from hpcjobs.models import OutputFile, check_file_name
from hpcjobs.protocol import Op, run
from hpcjobs.services.base import FileChunk, Service

R = TypeVar("R")

PIECE = 8 << 20
"""Bytes that are asked for at a time."""

BLOCK = 1 << 20
"""Bytes that are read at a time to be checked."""

FRESH_STARTS = 3
"""How often a file that changes while it is fetched is begun anew."""


def download(
    service: Service,
    job_id: str,
    target: str | os.PathLike[str],
    *,
    patterns: Sequence[str] = (),
    on_bytes: OnBytes | None = None,
) -> Op[list[Path]]:
    """Fetch the files of a job into a folder.

    A file appears under its name only when it is complete. What was fetched before an interruption is kept in a hidden
    ``.part`` file, and the next call goes on from there if the job's file is still the same. Where the service tells
    the sum of a file, what has come is checked against it.

    Args:
        service: Where the job is.
        job_id: Whose files.
        target: The folder; it is made.
        patterns: Which files: names, folders, or patterns with ``*``. Where there are none: all but the inputs that
            the job has not changed.
        on_bytes: Told how far it is.

    Returns:
        The paths of the files, in the service's order.

    Raises:
        JobNotFound: There is no such job.
        OutputError: A name leaves the folder, a pattern fits no file, or a file cannot be stored or fetched.
    """
    folder = Path(target).expanduser()
    listed = yield from service.files(job_id)
    # All names are checked before the first file is written.
    chosen = [(item, _place(folder, item.path)) for item in _choose(listed, patterns)]
    yield from _local(str(folder), partial(folder.mkdir, parents=True, exist_ok=True))
    paths: list[Path] = []
    tally = Tally("fetch", files=len(chosen), size=sum(item.size for item, _ in chosen), on_bytes=on_bytes)
    for item, path in chosen:
        part = yield from _local(item.path, partial(_Part.find, folder, item.path, path))
        size = yield from _fetch(service, job_id, item, path, part, tally)
        tally.whole(item.path, size)
        paths.append(path)
    return paths


def _choose(listed: Sequence[OutputFile], patterns: Sequence[str]) -> list[OutputFile]:
    if not patterns:
        return [item for item in listed if not item.unchanged_input]
    wanted: set[str] = set()
    for pattern in patterns:
        plain = pattern.rstrip("/")
        fits = {
            item.path
            for item in listed
            if item.path == plain or item.path.startswith(f"{plain}/") or fnmatch.fnmatchcase(item.path, pattern)
        }
        if not fits:
            raise OutputNotFound(pattern, [item.path for item in listed])
        wanted |= fits
    return [item for item in listed if item.path in wanted]


def _place(folder: Path, name: str) -> Path:
    """Where a file goes; the service's word is not trusted."""
    try:
        return folder / check_file_name(name)
    except ValueError as error:
        raise OutputError(name, f"{error}; it was not stored") from None


def _fetch(  # noqa: PLR0917 - called in one place only
    service: Service, job_id: str, item: OutputFile, path: Path, part: _Part, on_file: OnFile
) -> Op[int]:
    """Fetch one file, piece by piece, from where ``part`` ends; returns its size."""
    name, total = item.path, item.size
    fresh_starts = 0
    while True:
        try:
            # The last piece brings the sum along; the others must not make the service read the file.
            last = part.size + PIECE >= total
            chunk = yield from service.file(job_id, name, offset=part.size, length=PIECE, summed=last)
        except JobNotFound:
            raise
        except NotFound as error:
            raise OutputError(name, "is gone; the job has removed it") from error
        total = chunk.total
        if not part.goes_on(chunk):
            part, fresh_starts = (yield from _local(name, part.anew)), fresh_starts + 1
            if fresh_starts > FRESH_STARTS:
                raise OutputError(name, "changes while it is fetched; wait until the job has ended")
            if chunk.offset != 0:
                continue
        part = yield from _local(name, partial(part.add, chunk))
        on_file(name, part.size, total)
        if part.size < total:
            if not chunk.data:
                raise OutputError(name, f"ends after {part.size:,} of {total:,} bytes; try again")
            continue
        if not chunk.sha256 or (yield from _local(name, part.sha256)) == chunk.sha256:
            break
        part, fresh_starts = (yield from _local(name, part.anew)), fresh_starts + 1
        if fresh_starts > FRESH_STARTS:
            raise OutputError(name, "does not arrive as the service has it: its SHA-256 is another; try again")
    yield from _local(name, partial(part.finish, path))
    return total


class _Part:
    """What there is of a file already: hidden beside it, named after the file and its ETag."""

    def __init__(self, parent: Path, prefix: str, mark: str | None = None, size: int = 0) -> None:
        self._parent, self._prefix, self._mark, self.size = parent, prefix, mark, size

    @classmethod
    def find(cls, folder: Path, name: str, path: Path) -> _Part:
        """Prepare the folder of ``path`` and look for what an earlier call has left."""
        _refuse_links(folder, name, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".hpcjobs-{_digest(name)}-"
        for entry in sorted(path.parent.glob(f"{prefix}*.part")):
            status = entry.lstat()
            mark = entry.name[len(prefix) : -len(".part")]
            if stat.S_ISREG(status.st_mode) and mark != _digest(""):
                return cls(path.parent, prefix, mark, status.st_size)
            entry.unlink()
        return cls(path.parent, prefix)

    def goes_on(self, chunk: FileChunk) -> bool:
        """Whether ``chunk`` is the next piece of the file of which this is the beginning."""
        same = self.size == 0 or self._mark == _digest(chunk.etag)
        return same and chunk.offset == self.size <= chunk.total

    def anew(self) -> _Part:
        """Throw away what is here."""
        self._remove()
        return _Part(self._parent, self._prefix)

    def add(self, chunk: FileChunk) -> _Part:
        """Write the next piece."""
        mark = _digest(chunk.etag)
        if mark != self._mark:
            self._remove()
        part = _Part(self._parent, self._prefix, mark, self.size + len(chunk.data))
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        if self.size == 0:
            flags |= os.O_CREAT
        with os.fdopen(os.open(part._path, flags, 0o666), "wb") as file:
            if os.fstat(file.fileno()).st_size != self.size:
                raise OSError(errno.EBUSY, "another call fetches the same file at the same time")
            file.seek(self.size)
            file.write(chunk.data)
        return part

    def sha256(self) -> str:
        """The sum of what is here."""
        digest = hashlib.sha256()
        with self._path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def finish(self, path: Path) -> None:
        """Give the file its name."""
        self._path.replace(path)

    @property
    def _path(self) -> Path:
        return self._parent / f"{self._prefix}{self._mark}.part"

    def _remove(self) -> None:
        if self._mark is not None:
            self._path.unlink(missing_ok=True)


def _refuse_links(folder: Path, name: str, path: Path) -> None:
    """Nothing below the folder may be a link: it could lead out of it."""
    step = folder
    for part in path.relative_to(folder).parts:
        step = step / part
        if step.is_symlink():
            raise OutputError(name, f"{step} is a link, and links are not followed; remove it or use another folder")
    if path.is_dir():
        raise OutputError(name, f"{path} is a folder")


def _local(name: str, work: Callable[[], R]) -> Op[R]:
    """Do a piece of local work; what the system refuses is said of the file."""
    try:
        return (yield from run(work))
    except OSError as error:
        raise OutputError(name, f"cannot be stored: {error.strerror or error}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
