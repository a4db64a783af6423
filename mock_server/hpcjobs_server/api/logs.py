"""Logs, by byte range, also of jobs that run: an answer can be held until there is more."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs_server.api import documents
from hpcjobs_server.auth import Caller, authorise
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.problems import job_not_found
from hpcjobs_server.ranges import ByteRange
from hpcjobs_server.sending import Piece, PieceResponse, gone
from hpcjobs_server.store import Place

LONGEST_WAIT = 30.0
"""Seconds."""
MOST_HELD = 1000
"""Answers that are held at once; beyond it they come at once."""

_BEYOND = 0.5
"""Seconds to wait at most where the range starts beyond the end: the log is of a newer attempt than that."""

_HEADERS = {
    "Hpcjobs_Job_State": "The job's state when it was read, before the log was: a terminal one and nothing beyond the "
    "range mean that this is the end",
    "Hpcjobs_Attempt": "Whose log this is; each attempt has a log of its own",
}
_MEDIA_TYPE = "text/plain; charset=utf-8"

router = APIRouter(prefix="/v1", tags=["logs"])


@dataclasses.dataclass
class _Log:
    """A request for a log."""

    context: Context
    caller: Caller
    job_id: str
    stream: str
    wanted: ByteRange | None
    head: bool

    async def place(self) -> Place:
        place = await self.context.store.place(self.caller.sees, self.job_id)
        if place is None:
            raise job_not_found()
        return place

    async def look(self, place: Place) -> Piece:
        """What there is of the range now."""
        if not place.attempt:
            return self._nothing()
        try:
            return await anyio.to_thread.run_sync(self._open, (*self.context.folder(place), self.stream))
        except FileNotFoundError:
            return self._nothing()

    async def hold(self, request: Request, place: Place, seconds: float) -> tuple[Place, Piece]:
        """Wait until there is something in the range, or there will not be: the last look."""
        wake = asyncio.Event()
        deadline = time.monotonic() + seconds
        settings, feed = self.context.settings, self.context.feed
        with feed.watching(place.job_id, wake.set) as watch, gone(request.receive, wake.set) as left:
            await feed.position()
            place = await self.place()  # anew: it is watched from here on
            while True:
                wake.clear()
                if watch.stale:
                    watch.stale, place = False, await self.place()
                elif watch.info is not None:
                    place = dataclasses.replace(place, state=watch.info.state, attempt=watch.info.attempt)
                piece = await self.look(place)
                if self._beyond(piece):
                    deadline = min(deadline, time.monotonic() + _BEYOND)
                remaining = deadline - time.monotonic()
                over = place.state.terminal or feed.closing or left.done() or remaining <= 0
                if over or not piece.empty:
                    return place, piece
                path = settings.job_folder(place.job_id, place.attempt) / self.stream
                with self.context.growth.following(path, piece.total, wake.set), anyio.move_on_after(remaining):
                    await wake.wait()

    def _beyond(self, piece: Piece) -> bool:
        return self.wanted is not None and self.wanted.first > piece.total

    def _open(self, parts: tuple[str, ...]) -> Piece:
        return Piece.of(self.context.settings.data, parts, self.wanted, head=self.head)

    def _nothing(self) -> Piece:
        return Piece(0, None if self.wanted else (0, 0), ranged=self.wanted is not None)


@router.get(
    "/jobs/{job_id}/logs/{stream}",
    responses={
        200: documents.raw("The whole log", _MEDIA_TYPE, **_HEADERS),
        206: documents.raw("The range that was asked for", _MEDIA_TYPE, Content_Range="bytes a-b/total", **_HEADERS),
        **documents.problems(404, 416),
    },
    openapi_extra={"parameters": [documents.parameter("Range", "header", "bytes=N-, bytes=N-M or bytes=-N")]},
)
async def read_log(
    request: Request,
    job_id: str,
    stream: Literal["stdout", "stderr"],
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for something in the range")
    ] = 0.0,
) -> Response:
    """Read a job's log. Before the job starts it is empty."""
    caller = await authorise(request, Scope.READ)
    wanted = ByteRange.parse(request.headers.get("range"))
    log = _Log(context_of(request), caller, job_id, stream, wanted, request.method == "HEAD")
    place = await log.place()
    piece = await log.look(place)
    if wait and piece.empty and not place.state.terminal and log.context.feed.watches < MOST_HELD:
        place, piece = await log.hold(request, place, wait)
    headers = {"Hpcjobs-Job-State": place.state.value, "Hpcjobs-Attempt": str(place.attempt)}
    name = f"{place.job_id}.{stream}.txt"
    return PieceResponse(piece, name=name, media_type=_MEDIA_TYPE, headers=headers)


router.add_api_route("/jobs/{job_id}/logs/{stream}", read_log, methods=["HEAD"], include_in_schema=False)
