"""Faults on purpose: what real Tapis does now and then, done by the Tapis API of this service when it is asked to.

They are for tests of clients: off unless the setting ``faults`` is on, set by an administrator at ``/v1/faults``, and
kept in the memory of the API process alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import fnmatch
import html
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import HTMLResponse, PlainTextResponse

from hpcjobs_server.ending import ended

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hpcjobs_server.store import Seen

MOST_BLOCKED = 1000
"""Jobs of which it is remembered that they make a detour."""
MOST_LATE = 1000
"""Requests to cancel that wait at once; beyond it they are carried out at once."""

logger = logging.getLogger(__name__)


class FaultKind(str, enum.Enum):
    """What goes wrong."""

    CANCEL_LOST = "cancel_lost"
    """A request to cancel is taken, and nothing follows."""
    CANCEL_LATE = "cancel_late"
    """A request to cancel is taken, and carried out after ``seconds``."""
    BLOCKED = "blocked"
    """A job that runs is told to be BLOCKED for ``seconds`` from the first look at it, then to run again."""
    UNKNOWN_500 = "unknown_500"
    """A job that there is not is a 500 that names it, not a 404."""
    PLAIN_401 = "plain_401"
    """The token is told to have expired, in plain text without an envelope."""
    HTML_502 = "html_502"
    """A gateway fails before the request has an effect: 502 with a page for people."""
    HTML_502_AFTER = "html_502_after"
    """A gateway fails after the request had its effect: the answer is lost."""
    SLOW = "slow"
    """The answer comes ``seconds`` late."""

    def __str__(self) -> str:
        return self.value


class Fault(BaseModel):
    """One thing that is to go wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    times: Annotated[int, Field(ge=1, le=1_000_000)] | None = 1
    """How often; of ``blocked``, with how many jobs. None for until it is taken away."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    method: Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")] | None = None
    """Only requests with this method."""
    path: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "/v3/jobs/*"
    """Only addresses like this one; ``*`` stands for anything."""


class FaultList(BaseModel):
    """The faults that are still to come."""

    model_config = ConfigDict(extra="forbid")

    items: list[Fault] = Field(max_length=100)


class Faults:
    """The faults that are still to come, in the order in which they are taken."""

    def __init__(self) -> None:
        self._items: list[Fault] = []
        self._blocked: OrderedDict[str, float] = OrderedDict()
        self._late: set[asyncio.Task[None]] = set()

    @property
    def items(self) -> list[Fault]:
        """What is still to come."""
        return list(self._items)

    def put(self, items: Sequence[Fault]) -> None:
        """Have these come, in the place of all others."""
        self._items = list(items)
        self._blocked.clear()

    def take(self, kind: FaultKind, path: str, method: str | None = None) -> Fault | None:
        """The fault of this kind that comes now; it counts as done.

        Example:
            >>> faults = Faults()
            >>> faults.put([Fault(kind=FaultKind.SLOW)])
            >>> faults.take(FaultKind.SLOW, "/v3/jobs/list") is None, faults.items
            (False, [])
        """
        for place, fault in enumerate(self._items):
            if fault.kind is not kind or not fnmatch.fnmatchcase(path, fault.path):
                continue
            if method is not None and fault.method not in {None, method}:
                continue
            if fault.times == 1:
                del self._items[place]
            elif fault.times is not None:
                self._items[place] = fault.model_copy(update={"times": fault.times - 1})
            return fault
        return None

    def shown(self, seen: Seen, path: str) -> Seen:
        """A job as it is told: one that runs may be on its detour."""
        if seen.status != "RUNNING" or not (self._items or self._blocked):
            return seen
        job_id = seen.info.id
        until = self._blocked.get(job_id)
        if until is None and (fault := self.take(FaultKind.BLOCKED, path)):
            until = self._blocked[job_id] = time.monotonic() + fault.seconds
            if len(self._blocked) > MOST_BLOCKED:
                self._blocked.popitem(last=False)
        return seen if until is None or time.monotonic() > until else dataclasses.replace(seen, status="BLOCKED")

    async def late(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do something after so many seconds."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                logger.exception("a late cancel failed")

        if len(self._late) >= MOST_LATE:
            await work()
            return
        task = asyncio.create_task(wait(), name="late cancel")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def close(self) -> None:
        """End what waits: it is never carried out."""
        for task in list(self._late):
            await ended(task)


class Faulty:
    """Answers of the Tapis API that never came from it.

    Args:
        app: The app inside.
        faults: What goes wrong.
        prefix: What the API's addresses begin with.
    """

    def __init__(self, app: ASGIApp, *, faults: Faults, prefix: str) -> None:
        self._app, self._faults, self._prefix = app, faults, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or fail to."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if slow := self._faults.take(FaultKind.SLOW, path, method):
            await asyncio.sleep(slow.seconds)
        if self._faults.take(FaultKind.PLAIN_401, path, method):
            said = f"TAPIS_SECURITY_JWT_EXPIRED The token has expired: {path}"
            await PlainTextResponse(said, status_code=401)(scope, receive, send)
        elif self._faults.take(FaultKind.HTML_502, path, method):
            await _gateway(path)(scope, receive, send)
        elif self._faults.take(FaultKind.HTML_502_AFTER, path, method):
            await self._app(scope, receive, _nowhere)
            await _gateway(path)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _nowhere(message: Message) -> None:
    """Lose an answer."""


def _gateway(path: str) -> HTMLResponse:
    title = "502 Bad Gateway"
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{html.escape(path)}</body></html>"
    return HTMLResponse(body, status_code=502)
