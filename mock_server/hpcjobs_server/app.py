"""The HTTP application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from hpcjobs._version import __version__
from hpcjobs_server import problems
from hpcjobs_server.api import (
    apps,
    blobs,
    documents,
    events,
    faults,
    health,
    jobs,
    logins,
    logs,
    named,
    outputs,
    pages,
    queues,
    tapis,
    tokens,
    uploads,
)
from hpcjobs_server.context import Context
from hpcjobs_server.edge import Edge
from hpcjobs_server.ending import ended
from hpcjobs_server.faults import Faulty
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Store

_TIDYING = 3600.0
"""Seconds between two looks for uploads that were left behind."""
_CLOSING = 2.0
"""Seconds for which the database's connections may take to end."""

DIALECTS: problems.Dialects = (tapis.refusal, pages.refusal)

logger = logging.getLogger(__name__)


def create_app(settings: Settings, *, store: Store | None = None) -> FastAPI:
    """Make an app; two in one process share nothing.

    Args:
        settings: What an operator can set; ``database_url`` must be there.
        store: The database, for a store that is made elsewhere; the app opens and closes it.
    """
    used = store or Store(
        settings.database_url, max_size=settings.pool_size, poll=settings.poll, use_listen=settings.listen
    )
    context = Context.make(settings, used)
    app = FastAPI(
        title="hpcjobs",
        version=__version__,
        description="Runs jobs: submit, look, follow, cancel.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # it would load its program from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=JSONResponse,
        lifespan=_lifespan,
    )
    app.state.context = context
    if settings.faults:
        app.add_middleware(Faulty, faults=context.faults, prefix=tapis.PREFIX)
    app.add_middleware(Edge, metrics=context.metrics, streams=frozenset({"/v1/events"}), dialects=DIALECTS)
    problems.install(app, DIALECTS)
    documents.install(app)
    # as one flat list: a request finds its route sooner, and the route knows its whole path
    for part in (jobs, logs, events, outputs, blobs, uploads, named, apps, faults, queues, tokens, logins, health):
        app.router.routes.extend(part.router.routes)
    app.router.routes.extend(health.outside.routes)
    for router in tapis.ROUTERS:
        app.router.routes.extend(router.routes)
    pages.install(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    tidying = asyncio.create_task(_tidy(context), name="tidy uploads")
    await context.store.open()
    context.feed.start()
    context.janitor.start()
    try:
        yield
    finally:
        await ended(tidying)
        await context.faults.close()
        await context.janitor.stop()
        await context.feed.stop()
        await context.growth.stop()
        try:
            await asyncio.wait_for(context.store.close(), _CLOSING)
        except asyncio.TimeoutError:
            logger.warning("the database's connections did not end within %g s", _CLOSING)


async def _tidy(context: Context) -> None:
    """Remove uploads that were left behind, now and every so often."""
    while True:
        try:
            removed = await anyio.to_thread.run_sync(context.blobs.remove_stale)
            removed += await anyio.to_thread.run_sync(context.partials.remove_stale)
        except OSError:
            logger.exception("uploads that were left behind could not be looked for")
        else:
            if removed:
                logger.info("removed %d uploads that were never finished", removed)
        await asyncio.sleep(_TIDYING)
