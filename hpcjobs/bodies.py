"""Request bodies that are read from a file while they are sent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from hpcjobs.errors import InputError

BLOCK = 1 << 20
"""Bytes that are read at a time."""

OnFile = Callable[[str, int, int], None]
"""Told ``(name, bytes done, bytes in all)`` while a file is read."""

Action = Literal["read", "send", "fetch"]
"""What a transfer does with files: inputs are read to be hashed and sent, outputs are fetched."""


@dataclasses.dataclass(frozen=True)
class Travel:
    """How far a transfer of files is.

    Attributes:
        action: ``"read"`` while inputs are hashed, ``"send"`` or ``"fetch"``.
        name: The file that is under way.
        done: Its bytes that are done.
        size: Its bytes in all.
        files_done: The files that are whole.
        files: The files in all.
        bytes_done: The bytes of all files that are done.
        bytes: The bytes of all files.
    """

    action: Action
    name: str
    done: int
    size: int
    files_done: int
    files: int
    bytes_done: int
    bytes: int


OnBytes = Callable[[Travel], None]
"""Told how far a transfer is, at every step of it."""


class Tally:
    """Adds up the files of a transfer, one after the other, and tells how far it is.

    Args:
        action: What is done with them.
        files: How many there are.
        size: Their bytes in all.
        on_bytes: Told; None tells nobody.
    """

    def __init__(self, action: Action, *, files: int, size: int, on_bytes: OnBytes | None) -> None:
        self._action: Action = action
        self._files, self._bytes, self._on_bytes = files, size, on_bytes
        self._whole = self._before = 0

    def __call__(self, name: str, done: int, size: int) -> None:
        """So many bytes of this file are done; it may be fewer than before, where it was begun anew."""
        if self._on_bytes is not None:
            travel = Travel(
                self._action,
                name,
                done,
                size,
                self._whole,
                self._files,
                self._before + done,
                max(self._bytes, self._before + size),  # a file may have grown since it was listed
            )
            self._on_bytes(travel)

    def whole(self, name: str, size: int) -> None:
        """This file is done; the next one begins."""
        self._whole += 1
        self(name, size, size)
        self._before += size


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What tells one content of a file from another without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file by its status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def changed(name: str) -> InputError:
    """The error for a file that was written to meanwhile."""
    return InputError(name, "changed while it was sent; submit again when it is complete")


@dataclasses.dataclass(frozen=True)
class FileBody:
    """The bytes of a file, or of a part of it, opened anew for every try, so that a retry never sends an empty body.

    It can be iterated over by either driver; the file is checked against its stamp before the first byte and after the
    last, and never more bytes are sent than were announced.

    Attributes:
        path: The file.
        name: Its name among the job's inputs, for messages.
        stamp: What it was when it was hashed.
        on_bytes: Told up to which byte of the file it was sent.
        start: The first byte that is sent.
        stop: Where the bytes end, exclusive; None for the end of the file.
    """

    path: Path
    name: str
    stamp: Stamp
    on_bytes: OnFile | None = None
    start: int = 0
    stop: int | None = None

    @property
    def size(self) -> int:
        """Length in bytes of what is sent."""
        return self._stop - self.start

    @property
    def _stop(self) -> int:
        return self.stamp.size if self.stop is None else self.stop

    def part(self, start: int, stop: int) -> FileBody:
        """The bytes from ``start`` up to ``stop`` as a body of their own."""
        return dataclasses.replace(self, start=start, stop=stop)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes from the start.

        Raises:
            InputError: The file changed since it was hashed, or can no longer be read.
        """
        with self._open() as file:
            place = self.start
            while block := self._read(file, place):
                place += len(block)
                yield block
                self._tell(place)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from the start, read in a thread.

        Raises:
            InputError: The file changed since it was hashed, or can no longer be read.
        """
        import asyncio  # not at the top: what is sync does without it

        file = await asyncio.to_thread(self._open)
        with file:
            place = self.start
            while block := await asyncio.to_thread(self._read, file, place):
                place += len(block)
                yield block
                self._tell(place)

    def _open(self) -> BinaryIO:
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise InputError(self.name, f"can no longer be read: {error.strerror}") from error
        if Stamp.of(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise changed(self.name)
        file.seek(self.start)
        return file

    def _read(self, file: BinaryIO, place: int) -> bytes:
        """The next block; empty at the end, where the file must still be what it was."""
        left = self._stop - place
        try:
            block = file.read(min(BLOCK, left)) if left > 0 else b""
            if left > 0 and not block:
                raise changed(self.name)
            if len(block) == left and Stamp.of(os.fstat(file.fileno())) != self.stamp:
                raise changed(self.name)
        except OSError as error:
            raise InputError(self.name, f"cannot be read: {error.strerror}") from error
        return block

    def _tell(self, place: int) -> None:
        if self.on_bytes is not None:
            self.on_bytes(self.name, place, self.stamp.size)
