"""The list of jobs, ``/``: filtered and sorted by its address, with boxes to select by."""

from __future__ import annotations

import dataclasses
import datetime as dt

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hpcjobs._version import __version__
from hpcjobs.models import JobInfo, JobPage
from hpcjobs_server.api import documents
from hpcjobs_server.api.pages.asking import Asked
from hpcjobs_server.api.pages.refusals import wants_page
from hpcjobs_server.api.pages.rendering import render
from hpcjobs_server.api.pages.session import Viewer, viewer_of
from hpcjobs_server.context import context_of
from hpcjobs_server.store import BadCursor, BadSort, Counted

SORTS = (
    ("-created", "newest first"),
    ("created", "oldest first"),
    ("-started", "started last first"),
    ("started", "started first first"),
    ("-ended", "ended last first"),
    ("ended", "ended first first"),
    ("name", "by name"),
    ("-name", "by name, backwards"),
    ("-priority", "highest priority first"),
    ("priority", "lowest priority first"),
)
"""The orders, and what they are called."""

router = APIRouter()


@dataclasses.dataclass(frozen=True)
class Listed:
    """One page of the list, with what is known of the whole."""

    page: JobPage
    counted: Counted

    @property
    def total(self) -> int:
        """How many jobs there are under these conditions, whatever their state."""
        return sum(self.counted.states.values())


@router.get("/", openapi_extra=documents.OPEN, response_model=None)
async def show_list(request: Request) -> Response:
    """The list for a browser; for a program where to go from here."""
    if not wants_page(request):
        return JSONResponse({"name": "hpcjobs", "version": __version__, "openapi": "/v1/openapi.json"})
    viewer = await viewer_of(request)
    asked = Asked.of(request.query_params)
    listed = None
    if not asked.problems:
        asked, listed = await _look(request, viewer, asked)
    return render(
        request,
        "list.html",
        status=422 if asked.problems else 200,
        viewer=viewer,
        asked=asked,
        listed=listed,
        sorts=SORTS,
        rows=[] if listed is None else rows_of(listed.page.items),
        shown=_shown(asked, listed),
    )


router.add_api_route("/", show_list, methods=["HEAD"], include_in_schema=False, response_model=None)


async def _look(request: Request, viewer: Viewer, asked: Asked) -> tuple[Asked, Listed | None]:
    store, caller = context_of(request).store, viewer.caller
    if not asked.may_be_seen(caller):
        return dataclasses.replace(asked, problems=(("owner", "you see your own jobs only; leave it out"),)), None
    owner = asked.whose(caller)
    try:
        page = await store.list(
            owner, asked.wanted, limit=asked.limit, cursor=asked.cursor, before=asked.before, sort=asked.sort
        )
    except BadCursor:
        return dataclasses.replace(asked, problems=(("cursor", "is of another list; start at the first page"),)), None
    except BadSort as error:
        return dataclasses.replace(asked, problems=(("sort", str(error)),)), None
    return asked, Listed(page, await store.count(owner, asked.wanted))


def _shown(asked: Asked, listed: Listed | None) -> int | None:
    """How many jobs the list has in all its pages; None where that was not counted to the end."""
    if listed is None or not listed.counted.complete:
        return None
    return sum(listed.counted.among(asked.wanted.state).states.values())


@dataclasses.dataclass(frozen=True)
class Row:
    """A job as a line of a table, with how long it had waited and run at a moment."""

    info: JobInfo
    waited: dt.timedelta | None
    ran: dt.timedelta | None
    now: dt.datetime

    @classmethod
    def of(cls, info: JobInfo, now: dt.datetime) -> Row:
        """The line for a job at this moment."""
        return cls(info, info.queue_time(now), info.run_time(now), now)

    @property
    def waits_since(self) -> dt.datetime | None:
        """Since when it has waited as long as it has, where it still does."""
        return None if self.waited is None or not self.info.state.not_started else self.now - self.waited

    @property
    def runs_since(self) -> dt.datetime | None:
        """Since when it has run, where it still does."""
        return None if self.info.terminal or self.ran is None else self.info.started_at


def rows_of(jobs: list[JobInfo]) -> list[Row]:
    """The lines for these jobs, at this moment."""
    now = dt.datetime.now(dt.timezone.utc)
    return [Row.of(info, now) for info in jobs]
