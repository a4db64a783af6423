"""Request bodies that are read from a file while they are sent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from hpcjobs.errors import InputError

BLOCK = 1 << 20
"""Bytes that are read at a time."""

OnBytes = Callable[[str, int, int], None]
"""Told ``(name, bytes done, bytes in all)`` while a file travels."""


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
    """The bytes of a file, opened anew for every try, so that a retry never sends an empty body.

    It can be iterated over by either driver; the file is checked against its stamp before the first byte and after the
    last, and never more bytes are sent than were announced.

    Attributes:
        path: The file.
        name: Its name among the job's inputs, for messages.
        stamp: What it was when it was hashed.
        on_bytes: Told how much was sent.
    """

    path: Path
    name: str
    stamp: Stamp
    on_bytes: OnBytes | None = None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stamp.size

    def __iter__(self) -> Iterator[bytes]:
        """The bytes from the start.

        Raises:
            InputError: The file changed since it was hashed, or can no longer be read.
        """
        with self._open() as file:
            sent = 0
            while block := self._read(file, sent):
                sent += len(block)
                yield block
                self._tell(sent)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from the start, read in a thread.

        Raises:
            InputError: The file changed since it was hashed, or can no longer be read.
        """
        import asyncio  # not at the top: what is sync does without it

        file = await asyncio.to_thread(self._open)
        with file:
            sent = 0
            while block := await asyncio.to_thread(self._read, file, sent):
                sent += len(block)
                yield block
                self._tell(sent)

    def _open(self) -> BinaryIO:
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise InputError(self.name, f"can no longer be read: {error.strerror}") from error
        if Stamp.of(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise changed(self.name)
        return file

    def _read(self, file: BinaryIO, sent: int) -> bytes:
        """The next block; empty at the end, where the file must still be what it was."""
        try:
            block = file.read(min(BLOCK, self.size - sent)) if sent < self.size else b""
            if len(block) < self.size - sent and not block:
                raise changed(self.name)
            if sent + len(block) == self.size and Stamp.of(os.fstat(file.fileno())) != self.stamp:
                raise changed(self.name)
        except OSError as error:
            raise InputError(self.name, f"cannot be read: {error.strerror}") from error
        return block

    def _tell(self, sent: int) -> None:
        if self.on_bytes is not None:
            self.on_bytes(self.name, sent, self.size)
