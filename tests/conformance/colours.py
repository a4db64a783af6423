"""Both colours of the client behind one face, so that a test is written once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hpcjobs import AsyncClient, Client

TIMEOUT = 180.0
"""Seconds for one call."""


class Blocking:
    """An async client or handle that is used as its sync twin is: what would be awaited, is."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner, self._loop = inner, loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not inspect.ismethod(value):
            return self._handed(value)

        def call(*args: Any, **named: Any) -> Any:
            return self._handed(value(*map(_plain, args), **{key: _plain(one) for key, one in named.items()}))

        return call

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self._inner, AsyncIterator):
            return iter([self._handed(one) for one in self._inner])

        async def listed() -> list[Any]:
            return [job async for job in self._inner]

        return iter(self._handed(self._wait(listed())))

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, index: Any) -> Any:
        return self._handed(self._inner[index])

    def _handed(self, value: Any) -> Any:
        if inspect.iscoroutine(value):  # handles can be awaited too
            return self._handed(self._wait(value))
        if isinstance(value, AsyncIterator):
            return Blocking(value, self._loop)
        if isinstance(value, list):
            return [self._handed(one) for one in value]
        return Blocking(value, self._loop) if type(value).__name__.startswith("Async") else value

    def _wait(self, awaitable: Any) -> Any:
        async def awaited() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(TIMEOUT)


def _plain(value: Any) -> Any:
    if isinstance(value, Blocking):
        return value._inner
    return [_plain(one) for one in value] if isinstance(value, list) else value


@contextlib.contextmanager
def client(colour: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of this colour (``"sync"`` or ``"async"``)."""
    if colour == "sync":
        with Client(url, **options) as made:
            yield made
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        made = Blocking(AsyncClient(url, **options), loop)
        try:
            yield made
        finally:
            made.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT)
        loop.close()
