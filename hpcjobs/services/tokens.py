"""Signs requests with a token, and gets a new one when it is no longer good.

How a token is got is a generator (:data:`Getting`) that does nothing itself: it yields the requests of a login, pauses
and functions to call, so that it is written once for both colours.
"""

from __future__ import annotations

import abc
import base64
import binascii
import datetime as dt
import json
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Union

import httpx

from hpcjobs.errors import ConfigError

Getting = Generator[Union[httpx.Request, float, Callable[[], str]], Any, str]
"""Gets a token: yields a request and is sent its response, seconds to pause, or a function and is sent its result."""

STEP = 0.02
"""Seconds between two looks of a coroutine at whether another one has got the token."""

EARLY = 60.0
"""Seconds before its end at which a token is renewed; a tenth of its life where that is less."""

WARN = 900.0
"""Seconds before its end at which it is said that a token ends which cannot be renewed."""


class TokenAuth(httpx.Auth, abc.ABC):
    """Signs every request with a token, which is got at the first one and again when it is no longer good.

    However many requests find the token stale at once, it is got once. Nothing is locked while a request of the user's
    is under way.

    Args:
        token: The token that there is already, if any.
        renewable: Whether another one can be got.

    Attributes:
        statuses: The statuses of the answers that may say that the token is no longer good; their bodies are read.
    """

    statuses: frozenset[int] = frozenset({401})

    def __init__(self, token: str | None, *, renewable: bool) -> None:
        self.renewable = renewable
        self._token = None if token is None else checked(token)
        self._lock = threading.Lock()

    @abc.abstractmethod
    def put(self, request: httpx.Request, token: str) -> None:
        """Put the token into a request."""

    @abc.abstractmethod
    def get(self) -> Getting:
        """Get a new token."""

    def good(self, token: str) -> bool:  # noqa: ARG002 - what is not told apart here looks at nothing
        """Whether a token may still be used, as far as it can be known without asking."""
        return True

    def refused(self, response: httpx.Response) -> bool:
        """Whether an answer with one of the ``statuses`` says that the token is no longer good; its body was read."""
        return response.status_code == 401

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign ``request``; where its token is refused, once more with a new one."""
        flow = self._flow(request)
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, httpx.Request):
                    response = yield effect
                    if effect is not request or response.status_code in self.statuses:
                        response.read()
                    effect = flow.send(response)
                elif isinstance(effect, float):
                    time.sleep(effect)
                    effect = flow.send(None)
                elif effect is self._lock:
                    effect = flow.send(self._lock.acquire())
                else:
                    effect = flow.send(effect())
        except StopIteration:
            return
        finally:
            flow.close()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign ``request``; where its token is refused, once more with a new one."""
        import asyncio  # not at the top: what is sync does without it

        flow = self._flow(request)
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, httpx.Request):
                    response = yield effect
                    if effect is not request or response.status_code in self.statuses:
                        await response.aread()
                    effect = flow.send(response)
                elif isinstance(effect, float):
                    await asyncio.sleep(effect)
                    effect = flow.send(None)
                elif effect is self._lock:
                    # threads and loops share it: nothing here may block, and there is nothing to await
                    while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
                        await asyncio.sleep(STEP)
                    effect = flow.send(None)
                else:
                    effect = flow.send(await asyncio.to_thread(effect))
        except StopIteration:
            return
        finally:
            flow.close()

    def _flow(self, request: httpx.Request) -> Generator[Any, Any, None]:
        token = self._token
        if token is None or (self.renewable and not self.good(token)):
            token = yield from self._renewed(token)
        self.put(request, token)
        response = yield request
        if response.status_code in self.statuses and self.renewable and self.refused(response):
            fresh = yield from self._renewed(token)
            if fresh != token:
                self.put(request, fresh)
                yield request

    def _renewed(self, stale: str | None) -> Generator[Any, Any, str]:
        """A token other than ``stale``, got here or by whoever was first."""
        yield self._lock
        try:
            if self._token is None or self._token == stale:
                self._token = checked((yield from self.get()))
            return self._token
        finally:
            self._lock.release()


class JwtAuth(TokenAuth):
    """A token that says itself when it ends (a JWT): another one is got before that.

    Args:
        token: The token that there is already, if any.
        renewable: Whether another one can be got.
        where: What it opens, for people.
        advice: What to do where it ends and cannot be renewed.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        token: str | None,
        *,
        renewable: bool,
        where: str,
        advice: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(token, renewable=renewable)
        self._where, self._advice = where, advice
        self._clock = clock
        self._warned = False
        self._first: tuple[str | None, float | None] = (None, None)

    def good(self, token: str) -> bool:
        """Whether the token is good for some time yet, by what it says itself."""
        left = self._note(token)
        return left is None or left > min(EARLY, (self._first[1] or 0.0) / 10)

    def left(self, token: str | None) -> float | None:
        """Seconds until a token ends, by what it says itself; None where it says nothing."""
        end = None if token is None else expiry(token)
        return None if end is None else end - self._clock()

    def used(self, token: str) -> None:
        """Take note of a token that goes into a request; where it ends soon and cannot be renewed, say so once."""
        left = self._note(token)
        if not self.renewable and not self._warned and left is not None and left < WARN:
            self._warned = True
            end = dt.datetime.fromtimestamp(self._clock() + left).astimezone()
            ends = f"ends at {end:%H:%M}" if left > 0 else f"ended at {end:%Y-%m-%d %H:%M}"
            warnings.warn(f"the token for {self._where} {ends} and cannot be renewed; {self._advice}", stacklevel=2)

    def _note(self, token: str) -> float | None:
        """Seconds until a token ends; how many there were when it was seen first is kept."""
        left = self.left(token)
        if self._first[0] != token:
            self._first = token, left
        return left


class CalledAuth(TokenAuth):
    """A token that is given, or that a function returns, in one header.

    Args:
        token: The token, or what returns one: called at the first request, and once more when the service says that the
            token is no longer good (it may take its time: in an event loop it is called in a thread).
        header: Where it goes.
        scheme: The word before it.

    Example:
        >>> flow = CalledAuth("secret").sync_auth_flow(httpx.Request("GET", "http://127.0.0.1"))
        >>> next(flow).headers["authorization"]
        'Bearer secret'
    """

    def __init__(
        self, token: str | Callable[[], str], *, header: str = "Authorization", scheme: str = "Bearer"
    ) -> None:
        fixed = token if isinstance(token, str) else None
        super().__init__(fixed, renewable=fixed is None)
        self._fetch = None if isinstance(token, str) else token
        self._header, self._before = header, f"{scheme} " if scheme else ""

    def put(self, request: httpx.Request, token: str) -> None:
        """Put the token into a request."""
        request.headers[self._header] = self._before + token

    def get(self) -> Getting:
        """Call the function."""
        assert self._fetch is not None
        token: str = yield self._fetch
        return token


def checked(token: str) -> str:
    """A token without the white space around it.

    Raises:
        ConfigError: It cannot be one. The token itself is never shown.
    """
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("the token is empty or has characters that no token has (spaces, line ends, accents)")
    return token


def claims(token: str) -> dict[str, Any]:
    """What a token (a JWT) says of itself; nothing is verified, and empty where it says nothing.

    Example:
        >>> claims("e30.eyJzdW4iOiJtZSJ9.c2ln"), claims("opaque")
        ({'sun': 'me'}, {})
    """
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        told = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return told if isinstance(told, dict) else {}


def expiry(token: str) -> float | None:
    """When a token ends, in seconds since 1970; None where it does not say.

    Example:
        >>> expiry("e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln")
        1800000000.0
        >>> expiry("opaque") is None
        True
    """
    try:
        return float(claims(token)["exp"])
    except (ValueError, TypeError, KeyError):
        return None
