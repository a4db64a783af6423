"""Uploads that may break off and be continued: one file for each owner and content.

Whoever appends holds a lock on the file, which ends with its process; so two who send the same never mix their bytes.
What has arrived is what the file holds, so that nothing has to be remembered: an API that is restarted goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcjobs_server.files import Blobs
    from hpcjobs_server.settings import Settings

MOST_PARTIALS = 1000
"""Most uploads of one owner that are kept to be continued."""

STALE = 3 * 24 * 3600.0
"""Seconds: an upload that was not continued for this long is removed."""

_BLOCK = 1 << 20
_MOST_SUMS = 1000
_LOOKS = 10
_GLANCE = 0.01
"""Seconds: longer than one look at an upload holds its lock."""


class UploadBusy(Exception):
    """Someone appends at this moment."""


class WrongOffset(Exception):
    """Another number of bytes has arrived.

    Attributes:
        offset: How many have.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{offset} bytes have arrived")


class NoRoom(Exception):
    """The owner's uploads that are under way take all the room there is."""


class WrongSum(Exception):
    """The bytes have another sum.

    Attributes:
        sha256: The sum that they have.
    """

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(sha256)


class Partials:
    """Uploads that are under way or broke off, apart for each owner.

    Args:
        settings: Where they are kept, and how much.
        blobs: Where they go when they are whole.
    """

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings, self.blobs = settings, blobs
        # Saves reading again what this process has just written; by file, with its size and what was hashed of it.
        self._sums: OrderedDict[tuple[int, int], tuple[int, Any]] = OrderedDict()

    def path(self, owner: str, sha256: str) -> Path:
        """Where an upload is, or would be.

        Raises:
            ValueError: ``owner`` or ``sha256`` cannot be one.
        """
        return self.blobs.path(owner, sha256).parent.parent / "partial" / sha256

    def offset(self, owner: str, sha256: str) -> tuple[int, bool] | None:
        """How many bytes have arrived, and whether more are arriving; None where nothing has begun."""
        try:
            descriptor = os.open(self.path(owner, sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            busy = not _lock(descriptor, fcntl.LOCK_SH)
            return os.fstat(descriptor).st_size, busy
        finally:
            os.close(descriptor)

    def open(self, owner: str, sha256: str, *, offset: int, total: int) -> PartialUpload:
        """Begin to append.

        Args:
            owner: Whose it is.
            sha256: The sum of the whole.
            offset: How many bytes have arrived, as far as the client knows.
            total: How many there will be.

        Raises:
            UploadBusy: Someone else appends.
            WrongOffset: Another number has arrived.
            NoRoom: There are too many uploads under way.
            OSError: There is no space, or the folder cannot be written.
        """
        path = self.path(owner, sha256)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(path, total)
        descriptor = _opened(path)
        facts = os.fstat(descriptor)
        if facts.st_size != offset:
            if not facts.st_size:
                path.unlink(missing_ok=True)
            os.close(descriptor)
            raise WrongOffset(facts.st_size)
        known, digest = self._sums.pop((facts.st_dev, facts.st_ino), (-1, None))
        if not offset:
            known, digest = 0, hashlib.sha256()
        return PartialUpload(self, owner, sha256, path, descriptor, offset, digest if known == offset else None)

    def discard(self, owner: str, sha256: str) -> bool:
        """Forget an upload; False where there is none.

        Raises:
            UploadBusy: Someone appends.
        """
        path = self.path(owner, sha256)
        if not path.exists():
            return False
        return _removed(path)

    def remove_stale(self) -> int:
        """Remove what was not continued for long; how many."""
        old = time.time() - STALE
        removed = 0
        for path in self._settings.data.glob("blobs/*/partial/*"):
            with contextlib.suppress(OSError, UploadBusy):
                removed += path.lstat().st_mtime < old and _removed(path)
        return removed

    def remember(self, facts: os.stat_result, digest: Any) -> None:
        """Keep what was hashed of a file that will be continued."""
        self._sums[facts.st_dev, facts.st_ino] = (facts.st_size, digest)
        while len(self._sums) > _MOST_SUMS:
            self._sums.popitem(last=False)

    def _make_room(self, mine: Path, total: int) -> None:
        """Remove the owner's oldest uploads that nobody continues, until there is room for this one."""
        others: list[tuple[float, int, Path]] = []
        for path in mine.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):
                facts = path.lstat()
                if path != mine and stat.S_ISREG(facts.st_mode):
                    others.append((facts.st_mtime, facts.st_size, path))
        others.sort()
        limit = max(self._settings.max_unfinished_bytes, self._settings.max_input_bytes)
        count, size = len(others), sum(size for _, size, _ in others)
        for _, one, path in others:
            if count < MOST_PARTIALS and size + total <= limit:
                return
            with contextlib.suppress(UploadBusy, FileNotFoundError):
                _removed(path)
                count, size = count - 1, size - one
        if count >= MOST_PARTIALS or size + total > limit:
            raise NoRoom


class PartialUpload:
    """An upload that is being continued; the lock on it is held until it is closed.

    Attributes:
        size: The bytes that have arrived.
    """

    def __init__(  # noqa: PLR0917 - made in one place only
        self, partials: Partials, owner: str, sha256: str, path: Path, descriptor: int, size: int, digest: Any
    ) -> None:
        self._partials, self._owner, self._sha256, self._path = partials, owner, sha256, path
        self._descriptor, self.size, self._digest = descriptor, size, digest

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``.

        Raises:
            OSError: There is no space, or the disk has failed.
        """
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        if self._digest is not None:
            self._digest.update(data)
        self.size += len(data)

    def finish(self) -> bool:
        """Check the whole, make it durable and put it in its place.

        Returns:
            Whether it is new; False where another upload of the same was first.

        Raises:
            WrongSum: It is not what it was said to be; it is gone now.
            OSError: There is no space, or the disk has failed.
        """
        found = self._sum()
        if found != self._sha256:
            self.discard()
            raise WrongSum(found)
        os.fsync(self._descriptor)
        new = self._partials.blobs.keep(self._path, self._owner, self._sha256)
        self._close()
        return new

    def keep(self) -> None:
        """Let go of it, to be continued; after :meth:`finish` or :meth:`discard` it does nothing."""
        if self._descriptor < 0:
            return
        if self._digest is not None and self.size:
            facts = os.fstat(self._descriptor)
            if facts.st_size == self.size:
                self._partials.remember(facts, self._digest)
        if not self.size:
            self._path.unlink(missing_ok=True)
        self._close()

    def discard(self) -> None:
        """Forget it; after :meth:`finish` or :meth:`keep` it does nothing."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            self._close()

    def _sum(self) -> str:
        if self._digest is None:
            self._digest, place = hashlib.sha256(), 0
            while block := os.pread(self._descriptor, _BLOCK, place):
                self._digest.update(block)
                place += len(block)
        return str(self._digest.hexdigest())

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True


def _opened(path: Path) -> int:
    """A descriptor with the lock on the file that is at ``path`` now: it may have been put in its place meanwhile."""
    for _ in range(_LOOKS):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        locked = _lock(descriptor, fcntl.LOCK_EX)
        if locked and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if not locked:  # perhaps only because someone looks how much has arrived
            time.sleep(_GLANCE)
    raise UploadBusy


def _is_at(descriptor: int, path: Path) -> bool:
    mine = os.fstat(descriptor)
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _removed(path: Path) -> bool:
    """Remove a file that nobody appends to.

    Raises:
        UploadBusy: Someone does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _lock(descriptor, fcntl.LOCK_EX):
            raise UploadBusy
        if not _is_at(descriptor, path):
            return False
        path.unlink()
    finally:
        os.close(descriptor)
    return True
