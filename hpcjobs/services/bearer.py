"""Signs requests with a token, and gets a new one when it is no longer good."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator

import httpx

from hpcjobs.errors import ConfigError


class BearerAuth(httpx.Auth):
    """``Authorization: Bearer TOKEN`` on every request.

    A token that comes from a callable is fetched at the first request and once more after a 401. However many requests
    find the token stale at once, it is fetched once, and no lock is held while a request is under way.

    Args:
        token: The token, or what returns one (it may take its time: the async flow calls it in a thread).

    Example:
        >>> flow = BearerAuth("secret").sync_auth_flow(httpx.Request("GET", "http://127.0.0.1"))
        >>> next(flow).headers["authorization"]
        'Bearer secret'
    """

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._fetch = None if isinstance(token, str) else token
        self._lock = threading.Lock()
        self._token: str | None = _checked(token) if isinstance(token, str) else None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign ``request``; after a 401 once more with a fresh token."""
        token = self._token or self._fresh(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and self._fetch is not None:
            fresh = self._fresh(token)
            if fresh != token:
                request.headers["Authorization"] = f"Bearer {fresh}"
                yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign ``request``; after a 401 once more with a fresh token."""
        import asyncio  # not at the top: what is sync does without it

        token = self._token or await asyncio.to_thread(self._fresh, None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and self._fetch is not None:
            fresh = await asyncio.to_thread(self._fresh, token)
            if fresh != token:
                request.headers["Authorization"] = f"Bearer {fresh}"
                yield request

    def _fresh(self, stale: str | None) -> str:
        """A token other than ``stale``, fetched here or by whoever was first."""
        with self._lock:
            if self._token is None or self._token == stale:
                assert self._fetch is not None
                self._token = _checked(self._fetch())
            return self._token


def _checked(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The token itself is never shown.
        raise ConfigError("the token is empty or has characters that no token has (spaces, line ends, accents)")
    return token
