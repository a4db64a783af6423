"""Files on the server's disk: inputs by content, and what jobs have written.

A job writes what it likes into its folder, so nothing there is trusted: every part of a name is opened by itself and
never through a link, and only regular files are opened at all (a FIFO would hang, a device would do worse).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcjobs.models import OutputFile, check_file_name

if TYPE_CHECKING:
    from hpcjobs_server.settings import Settings

MOST_FILES = 100_000
"""Most files of a job that are listed."""

_INPUTS = "inputs.json"
"""Beside ``work``: what the inputs looked like when they were put there."""

_LARGEST_INPUTS = 16 * 1024**2
"""Bytes of that file; one that is larger was not written here."""

_STALE_UPLOAD = 24 * 3600.0
"""Seconds: an upload that is older was left behind by a process that died."""

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class TooManyFiles(Exception):
    """A job has more files than are listed."""


# What jobs have written


class OpenFile:
    """A regular file that is open for reading.

    Attributes:
        size: Its bytes when it was opened.
        executable: Whether its owner may run it.
        etag: Tells this content from an earlier or later one, by time and size.
        identity: The same, from that of any other file too; the times come last.
    """

    def __init__(self, descriptor: int, facts: os.stat_result) -> None:
        self._descriptor = descriptor
        self.size = facts.st_size
        self.executable = bool(facts.st_mode & stat.S_IXUSR)
        self.etag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
        self.identity = _identity(facts)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, ``length`` of them or up to the end of the file."""
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def unchanged(self) -> bool:
        """Whether nobody has written to it since it was opened."""
        return _identity(os.fstat(self._descriptor)) == self.identity

    def close(self) -> None:
        """Close it; once is enough."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


@contextlib.contextmanager
def _folder(root: Path, parts: Sequence[str]) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def open_below(root: Path, parts: Sequence[str]) -> OpenFile:
    """Open a regular file below a folder, following no link on the way.

    Args:
        root: The folder, which is trusted.
        parts: The names from there to the file, one by one.

    Raises:
        FileNotFoundError: There is no such file, it is none that may be read, or a link is on the way.
        OSError: The disk has failed.
    """
    try:
        with _folder(root, parts[:-1]) as folder:
            # looked at before it is opened: merely to open a device can do something
            if not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file")
            descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        raise
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a regular file")
    return OpenFile(descriptor, facts)


def note_inputs(folder: Path, inputs: Iterable[Path]) -> None:
    """Write down what a job's inputs look like before it starts, so that they can be told from its outputs.

    Args:
        folder: The attempt's folder; the inputs are in ``work`` below it.
        inputs: The files.
    """
    facts = {path.relative_to(folder / "work").as_posix(): path.stat() for path in inputs}
    marks = {name: [fact.st_size, fact.st_mtime_ns] for name, fact in facts.items()}
    (folder / _INPUTS).write_text(json.dumps(marks))


def _noted_inputs(root: Path, parts: Sequence[str]) -> dict[str, list[int]]:
    try:
        file = open_below(root, [*parts, _INPUTS])
    except FileNotFoundError:
        return {}
    try:
        if file.size > _LARGEST_INPUTS:
            return {}
        marks = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError):  # the job has written over it
        return {}
    finally:
        file.close()
    return marks if isinstance(marks, dict) else {}


@dataclasses.dataclass
class Found:
    """What there is below a folder.

    Attributes:
        files: The files, by name.
        unnamed: Files, and folders with all that is in them, whose names cannot travel: the name, with what is no
            text in it written out, and why.
    """

    files: list[OutputFile] = dataclasses.field(default_factory=list)
    unnamed: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def list_below(root: Path, parts: Sequence[str]) -> list[OutputFile]:
    """The files of :func:`look_below`: one whose name cannot travel is left out."""
    return look_below(root, parts).files


def look_below(root: Path, parts: Sequence[str]) -> Found:
    """Every regular file below a folder; links are neither listed nor followed.

    Args:
        root: A folder that is trusted.
        parts: The names from there to the folder that is listed; where it is not there, nothing is.

    Raises:
        TooManyFiles: There are more than ``MOST_FILES``.
    """
    inputs = _noted_inputs(root, parts[:-1])
    found = Found()
    waiting: list[tuple[str, ...]] = [()]
    seen = 0
    while waiting:
        inside = waiting.pop()
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            contextlib.ExitStack() as stack,
        ):
            try:
                folder = stack.enter_context(_folder(root, [*parts, *inside]))
            except OSError as error:
                if error.errno in _NOT_THERE:
                    continue
                raise
            for entry in stack.enter_context(os.scandir(folder)):
                seen += 1
                if seen > MOST_FILES:
                    raise TooManyFiles
                name = "/".join((*inside, entry.name))
                why_not = _why_not(name)
                if why_not is not None:
                    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
                        found.unnamed.append((os.fsencode(name).decode("utf-8", "backslashreplace"), why_not))
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((*inside, entry.name))
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # removed since
                        facts = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                        unchanged = inputs.get(name) == [facts.st_size, facts.st_mtime_ns]
                        found.files.append(
                            OutputFile(
                                path=name,
                                size=facts.st_size,
                                modified_at=_moment(facts.st_mtime),
                                unchanged_input=unchanged,
                            )
                        )
    found.files.sort(key=lambda file: file.path)
    found.unnamed.sort()
    return found


def _why_not(name: str) -> str | None:
    """Why a name cannot travel; None where it can."""
    try:
        name.encode()
        if check_file_name(name) == name:
            return None
    except UnicodeEncodeError:
        return "it is not UTF-8"
    except ValueError:
        pass
    return "it has a backslash in it" if "\\" in name else "it is too long"


def _moment(seconds: float) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (ValueError, OverflowError, OSError):  # a job can set any time
        return None


# Inputs


class Blobs:
    """Input files by content, apart for each owner.

    Args:
        settings: Where they are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def path(self, owner: str, sha256: str) -> Path:
        """Where an input is, or would be.

        Raises:
            ValueError: ``owner`` or ``sha256`` cannot be one.
        """
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"the owner {owner!r} cannot be the name of a folder")
        if not _SHA256.fullmatch(sha256):
            raise ValueError("a sha256 is 64 digits and letters from a to f, in lower case")
        return self._settings.blob_path(owner, sha256)

    def size(self, owner: str, sha256: str) -> int | None:
        """The bytes of an input; None where this owner has not sent it.

        Who asks will use it and does not send it again: it counts as sent now, so that it is not removed before the
        job is there that has it.
        """
        path = self.path(owner, sha256)
        try:
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                return None
            os.utime(path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return facts.st_size

    def missing(self, owner: str, sha256: Iterable[str]) -> list[str]:
        """Which of these inputs this owner has not sent, in their order."""
        return [one for one in sha256 if self.size(owner, one) is None]

    def keep(self, path: Path, owner: str, sha256: str) -> bool:
        """Give a file that is whole, checked and durable its place, durably.

        Args:
            path: The file, on the same file system.
            owner: Whose it is.
            sha256: Its sum.

        Returns:
            Whether it is new; False where another upload of the same was first.

        Raises:
            OSError: There is no space, or the disk has failed.
        """
        target = self.path(owner, sha256)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = not target.exists()
        path.replace(target)
        for folder in (target.parent, target.parent.parent):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return new

    def begin(self, owner: str) -> Upload:
        """Begin to store an input.

        Raises:
            OSError: There is no space, or the folder cannot be written.
        """
        # beside the inputs themselves: a rename must not leave the file system
        folder = self.path(owner, "0" * 64).parent.parent / "tmp"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Upload(self, owner, folder / secrets.token_hex(16))

    def remove_stale(self) -> int:
        """Remove uploads that were left behind by a process that died; how many."""
        removed = 0
        for path in self._settings.data.glob("blobs/*/tmp/*"):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < time.time() - _STALE_UPLOAD:
                    path.unlink()
                    removed += 1
        return removed


class Upload:
    """An input that is being stored: in a file of its own, until all of it is there and checked.

    Attributes:
        size: The bytes that were written.
    """

    def __init__(self, blobs: Blobs, owner: str, path: Path) -> None:
        self._blobs, self._owner, self._path = blobs, owner, path
        self._hash = hashlib.sha256()
        self.size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    @property
    def sha256(self) -> str:
        """The sum of what was written."""
        return self._hash.hexdigest()

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``.

        Raises:
            OSError: There is no space, or the disk has failed.
        """
        self._hash.update(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self.size += len(data)

    def finish(self) -> bool:
        """Make it durable and put it in its place.

        Returns:
            Whether it is new; False where another upload of the same was first.

        Raises:
            OSError: There is no space, or the disk has failed.
        """
        os.fsync(self._descriptor)
        self._close()
        return self._blobs.keep(self._path, self._owner, self.sha256)

    def abort(self) -> None:
        """Leave nothing behind; after :meth:`finish` it does nothing."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
