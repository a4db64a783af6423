"""The stream of changes, as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hpcjobs import models
from hpcjobs_server.api import documents
from hpcjobs_server.auth import Caller, authorise, credentials
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.events import Batch, Connection
from hpcjobs_server.problems import DATABASE_AWAY, Problem, invalid
from hpcjobs_server.sending import gone

KEEPALIVE = 15.0
"""Seconds between comments into a quiet stream."""
SEND_TIMEOUT = 30.0
"""Seconds for which a client may take nothing before its connection is closed."""
MOST_IDS = 1000

_LARGEST_CURSOR = 2**63 - 1
_CHUNK = 64 * 1024

router = APIRouter(prefix="/v1", tags=["events"])


@router.get(
    "/events",
    responses={
        200: documents.raw(
            "Events `hello` (first), `job` (a JobInfo without spec) and `reset` (something may be missing: look at your"
            " jobs anew); the id is a cursor for Last-Event-ID",
            "text/event-stream",
        ),
        **documents.problems(),
    },
)
async def stream_events(
    request: Request,
    ids: Annotated[str | None, Query(description=f"Only these jobs: ids with commas, at most {MOST_IDS}")] = None,
    after: Annotated[int | None, Query(ge=0, le=_LARGEST_CURSOR, description="As Last-Event-ID")] = None,
    last_event_id: Annotated[
        str | None,
        Header(description="Everything that changed since this id comes again; without it, what changes from now on"),
    ] = None,
) -> Response:
    """Stream the present info of each job that changes. A job may come twice, and only its newest info comes."""
    caller = await authorise(request, models.Scope.READ)
    wanted = None
    if ids is not None:
        wanted = frozenset(one.strip().lower() for one in ids.split(",") if one.strip())
        if not 1 <= len(wanted) <= MOST_IDS:
            raise invalid([("ids", f"name 1 to {MOST_IDS} jobs, with commas between them, or leave it out")])
    if last_event_id:
        if not last_event_id.isdecimal() or int(last_event_id[:20]) > _LARGEST_CURSOR:
            raise invalid([("Last-Event-ID", "is not an id of this service's events; start without it")])
        after = int(last_event_id)
    return EventStream(request, caller, wanted, after)


class EventStream(Response):
    """Streams events until the client leaves, the service stops or the token is no longer good."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, caller: Caller, ids: frozenset[str] | None, after: int | None) -> None:
        # not super().__init__: that would give it a body, and with it a length
        self.status_code, self.background = 200, None
        self.init_headers({"X-Accel-Buffering": "no"})
        self._request, self._caller, self._ids, self._after = request, caller, ids, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        del scope
        context = context_of(self._request)
        async with context.feed.connect(self._caller, ids=self._ids, after=self._after) as (connection, first):
            context.metrics.streams.set(context.feed.connections)
            try:
                with gone(receive, connection.end):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await self._stream(context, connection, first, send)
            finally:
                context.metrics.streams.set(context.feed.connections - 1)

    async def _stream(self, context: Context, connection: Connection, first: Batch, send: Send) -> None:
        # Who resumes has seen nothing after the old cursor before the last of the missed changes has arrived.
        seen = first.cursor if self._after is None or first.reset else self._after
        batch: Batch | None = first
        opening = [_event("hello", json.dumps({"cursor": first.cursor}).encode(), seen)]
        checked = time.monotonic()
        while batch is not None:
            events = [*opening, *_events(batch)]
            opening = []
            if not events:
                events = [b": still here\nid: %d\n\n" % batch.cursor]
            for chunk in _chunks(events):
                with anyio.fail_after(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if time.monotonic() - checked > KEEPALIVE:
                checked = time.monotonic()
                if not await self._still_allowed(context):
                    break
            batch = await connection.take(KEEPALIVE)
        with anyio.move_on_after(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _still_allowed(self, context: Context) -> bool:
        try:
            await context.tokens.caller(credentials(self._request))
        except Problem:
            return False
        except DATABASE_AWAY:
            pass  # the stream outlives an outage
        return True


def _events(batch: Batch) -> Iterator[bytes]:
    """The events of a batch. Only the last one has the id: until it has arrived, the batch has not."""
    for number, change in enumerate(batch.changes, start=1):
        last = number == len(batch.changes) and not batch.reset
        yield _event("job", change.data, batch.cursor if last else None)
    if batch.reset:
        yield _event("reset", json.dumps({"cursor": batch.cursor}).encode(), batch.cursor)


def _event(name: str, data: bytes, cursor: int | None) -> bytes:
    told = b"" if cursor is None else b"id: %d\n" % cursor
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), told, data)


def _chunks(events: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for event in events:
        parts.append(event)
        size += len(event)
        if size >= _CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
