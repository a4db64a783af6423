"""Sends parts of files, and notices when the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hpcjobs_server.digests import Digests
from hpcjobs_server.files import OpenFile, open_below
from hpcjobs_server.problems import Problem
from hpcjobs_server.ranges import ByteRange

CHUNK = 512 * 1024
"""Bytes that are read and sent at once."""


@contextlib.contextmanager
def gone(receive: Receive, told: Callable[[], None]) -> Iterator[asyncio.Task[None]]:
    """Call ``told`` when the client closes its connection, until the block ends.

    The request's body must have been read, or be of no interest.

    Args:
        receive: The request's channel.
        told: Called in the event loop, at most once.

    Yields:
        A task that is done once the client has gone.
    """

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told()

    task = asyncio.create_task(wait(), name="client gone")
    try:
        yield task
    finally:
        task.cancel()


@dataclasses.dataclass
class Piece:
    """A part of a file that is ready to be sent.

    Attributes:
        total: The bytes of the whole file.
        span: The start, and the end exclusive; None where there is nothing in the range.
        etag: Tells this content from another.
        first: The first bytes of it.
        file: The file, where there is more than ``first``; whoever takes the piece closes it.
        ranged: Whether a range was asked for and counts.
        sha256: The sum of the whole file, where it was asked for and the file is still.
    """

    total: int
    span: tuple[int, int] | None
    etag: str = ""
    first: bytes = b""
    file: OpenFile | None = None
    ranged: bool = False
    sha256: bytes | None = None

    @classmethod
    def of(
        cls,
        root: Path,
        parts: tuple[str, ...],
        wanted: ByteRange | None,
        *,
        only_if: str | None = None,
        head: bool = False,
        digests: Digests | None = None,
    ) -> Piece:
        """Open a file and read the beginning of a range; blocks, so it is for a thread.

        Args:
            root: A folder that is trusted.
            parts: The names from there to the file.
            wanted: The range; None for the whole file.
            only_if: The range counts only for a file with this ETag (``If-Range``); another one is read whole.
            head: Whether only the facts are asked for.
            digests: Tells the sum of the whole file; None where it is not asked for.

        Raises:
            FileNotFoundError: There is no such regular file.
        """
        file = open_below(root, parts)
        keep = False
        try:
            if only_if is not None and only_if != file.etag:
                wanted = None
            span = (0, file.size) if wanted is None else wanted.within(file.size)
            piece = cls(file.size, span, file.etag, ranged=wanted is not None)
            sha256 = digests.of(file) if digests is not None else None
            if span is not None and not head:
                start, end = span
                piece.first = file.read(start, min(CHUNK, end - start))
                if end - start > CHUNK:
                    piece.file, keep = file, True
            if sha256 is not None and file.unchanged():
                piece.sha256 = sha256
            return piece
        finally:
            if not keep:
                file.close()

    @property
    def empty(self) -> bool:
        """Whether there is not a byte in it."""
        return self.span is None or self.span[0] == self.span[1]


class PieceResponse(Response):
    """Answers with a file or a part of it: 200 where no range was asked for, else 206, or 416 for nothing.

    Args:
        piece: What to send.
        name: What the file is called when it is saved.
        media_type: Its media type.
        headers: Further headers.

    Raises:
        Problem: 416, where nothing is in the range.
    """

    def __init__(self, piece: Piece, *, name: str, media_type: str, headers: dict[str, str] | None = None) -> None:
        made = {**(headers or {}), "Accept-Ranges": "bytes"}
        if piece.span is None:
            made["Content-Range"] = f"bytes */{piece.total}"
            raise Problem(416, "range", f"nothing is in that range; there are {piece.total} bytes", headers=made)
        self._piece, (self._start, self._end) = piece, piece.span
        made["Content-Length"] = str(self._end - self._start)
        made["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        # whatever a job wrote, a browser that is shown it runs nothing of it
        made["Content-Security-Policy"] = "default-src 'none'; sandbox"
        if piece.ranged:
            made["Content-Range"] = f"bytes {self._start}-{self._end - 1}/{piece.total}"
        super().__init__(None, status_code=206 if piece.ranged else 200, headers=made, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, a chunk at a time.

        Raises:
            OSError: The file became shorter; the connection breaks, so that the client notices.
        """
        piece = self._piece
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        if piece.file is None:
            await send({"type": "http.response.body", "body": piece.first})
            return
        try:
            with gone(receive, lambda: None) as left:
                await self._stream(piece.file, send, left)
        finally:
            piece.file.close()

    async def _stream(self, file: OpenFile, send: Send, left: asyncio.Task[None]) -> None:
        data, start, end = self._piece.first, self._start, self._end
        while True:
            start += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": start < end})
            if start >= end or left.done():
                return
            data = await anyio.to_thread.run_sync(file.read, start, min(CHUNK, end - start))
            if not data:
                raise OSError("the file became shorter while it was sent")
