"""What the parts of one app share."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from hpcjobs_server.apps import Apps
from hpcjobs_server.auth import Tokens
from hpcjobs_server.digests import Digests
from hpcjobs_server.events import Feed
from hpcjobs_server.faults import Faults
from hpcjobs_server.files import Blobs
from hpcjobs_server.following import Growth
from hpcjobs_server.janitor import Janitor
from hpcjobs_server.metrics import Metrics
from hpcjobs_server.outcomes import Outcomes
from hpcjobs_server.partials import Partials
from hpcjobs_server.store import EVENTS_CHANNEL
from hpcjobs_server.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from hpcjobs_server.settings import Settings
    from hpcjobs_server.store import Place, Store, WorkerInfo

_FRESH = 1.0
"""Seconds for which the list of workers is good; an empty one never is, because workers come with the service."""


@dataclasses.dataclass
class Context:
    """What one app is made of."""

    settings: Settings
    store: Store
    tokens: Tokens
    feed: Feed
    growth: Growth
    blobs: Blobs
    partials: Partials
    digests: Digests
    metrics: Metrics
    tasks: Tasks
    apps: Apps
    faults: Faults
    janitor: Janitor
    outcomes: Outcomes = dataclasses.field(default_factory=Outcomes)
    _workers: Sequence[WorkerInfo] = ()
    _asked: float = float("-inf")

    @classmethod
    def make(cls, settings: Settings, store: Store) -> Context:
        """Everything around one store."""
        blobs = Blobs(settings)
        return cls(
            settings=settings,
            store=store,
            tokens=Tokens(store),
            feed=Feed(store, EVENTS_CHANNEL),
            growth=Growth(),
            blobs=blobs,
            partials=Partials(settings, blobs),
            digests=Digests(),
            metrics=Metrics(store),
            tasks=Tasks.load(settings.tasks, settings.tasks_path),
            apps=Apps.load(settings.apps, tasks_only=settings.tasks_only),
            faults=Faults(),
            janitor=Janitor(settings, store),
        )

    def folder(self, place: Place) -> tuple[str, ...]:
        """The names from the data folder to that of a job's present attempt; none before it has started."""
        if not place.attempt:
            return ()
        return self.settings.job_folder(place.job_id, place.attempt).relative_to(self.settings.data).parts

    async def workers(self, *, now: bool = False) -> Sequence[WorkerInfo]:
        """The workers that are alive, as of a second ago at most.

        Args:
            now: Whether that is not good enough.
        """
        if now or not self._workers or time.monotonic() - self._asked > _FRESH:
            self._workers = await self.store.workers()
            self._asked = time.monotonic()
        return self._workers


def context_of(request: Request) -> Context:
    """The context of the app that serves ``request``."""
    context: Context = request.app.state.context
    return context
