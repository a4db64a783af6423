"""What the tests of the reference server's API and pages share: the API itself, and visitors of its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from hpcjobs_server.settings import Settings
from tests.integration.browsing import Visitor, visiting
from tests.integration.serving import Api, serving


@pytest.fixture
async def api(settings: Callable[..., Settings]) -> AsyncIterator[Api]:
    """The API on a fresh database; a module that wants other settings has its own."""
    async with serving(settings()) as running:
        yield running


@pytest.fixture
async def stranger(api: Api) -> AsyncIterator[Visitor]:
    """Somebody who has not logged in."""
    async with visiting(api, None) as visitor:
        yield visitor


@pytest.fixture
async def ada(api: Api) -> AsyncIterator[Visitor]:
    """Somebody who may act on her own jobs, which are those of ``api.submit``."""
    async with visiting(api, "ada") as visitor:
        yield visitor


@pytest.fixture
async def operator(api: Api) -> AsyncIterator[Visitor]:
    """Somebody who sees everybody's jobs and sets queues."""
    async with visiting(api, "root", "admin") as visitor:
        yield visitor
