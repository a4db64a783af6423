"""Who asks: bearer tokens and what they may do.

A token that was looked up is remembered for a few seconds under its hash, so that a busy client costs no query per
request; one that is revoked by this process is forgotten at once, by another one within those seconds. A token that is
not known is never remembered: it may be made the next moment.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from hpcjobs.models import Scope, TokenInfo
from hpcjobs_server.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from hpcjobs_server.store import Store

REMEMBERED = 3.0
"""Seconds for which a token that was looked up is good without another look."""
MOST_REMEMBERED = 1024

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_RANK = {Scope.READ: 0, Scope.WRITE: 1, Scope.ADMIN: 2}


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks, and what they may do."""

    owner: str
    scope: Scope
    token_id: str
    expires_at: dt.datetime | None

    @property
    def sees(self) -> str | None:
        """Whose jobs the caller sees; None for everybody's."""
        return None if self.scope is Scope.ADMIN else self.owner

    def may(self, scope: Scope) -> bool:
        """Whether the caller may do what ``scope`` allows."""
        return _RANK[self.scope] >= _RANK[scope]


class Tokens:
    """Looks tokens up, and remembers them for a moment.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, credentials: str | None) -> Caller:
        """Who asks, by the header ``Authorization`` or by what :func:`credentials` has in its place.

        Raises:
            Problem: 401, where there is no token, or a wrong or an expired one.
        """
        scheme, _, token = (credentials or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _refused("no_token", "send a token: 'Authorization: Bearer TOKEN'", challenge="Bearer")
        return await self.bearer(token)

    async def bearer(self, token: str) -> Caller:
        """Who has this token.

        Raises:
            Problem: 401, where it is wrong or has expired.
        """
        if not _TOKEN.fullmatch(token):
            raise _bad_token()
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            caller = known[1]
        else:
            info = await self._store.authenticate(token)
            if info is None:
                self._known.pop(key, None)
                raise _bad_token()
            caller = self._remember(key, info)
        if caller.expires_at is not None and caller.expires_at <= dt.datetime.now(dt.timezone.utc):
            raise _refused("expired_token", "the token has expired; make a new one")
        return caller

    def forget(self, token_id: str) -> None:
        """Forget a token that was revoked."""
        for key in [key for key, (_, caller) in self._known.items() if caller.token_id == token_id]:
            del self._known[key]

    def _remember(self, key: bytes, info: TokenInfo) -> Caller:
        caller = Caller(owner=info.owner, scope=info.scope, token_id=info.id, expires_at=info.expires_at)
        self._known[key] = (time.monotonic() + REMEMBERED, caller)
        self._known.move_to_end(key)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return caller


async def authorise(request: Request, scope: Scope) -> Caller:
    """Who sends ``request``, where they may do what ``scope`` allows.

    Raises:
        Problem: 401 without a good token, 403 where the token's scope is too small.
    """
    tokens: Tokens = request.app.state.context.tokens
    caller = await tokens.caller(credentials(request))
    if not caller.may(scope):
        raise Problem(403, "scope", f"the token has the scope {caller.scope.value}; this needs {scope.value}")
    return caller


def credentials(request: Request) -> str | None:
    """What a request shows to be let in: its token, else, where it only looks, the session of the job page.

    A browser sends a cookie by itself, so it counts only for what changes nothing, and only where the browser does not
    say that another site has sent it there. A header that has no token is for a proxy on the way.
    """
    header = request.headers.get("authorization")
    if (header or "").partition(" ")[0].lower() == "bearer" or request.method not in {"GET", "HEAD"}:
        return header
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return header
    session = session_of(request)
    return header if session is None else f"Bearer {session}"


def session_of(request: Request) -> str | None:
    """The token of the job page's session that a browser has; None where it has none."""
    return request.cookies.get(cookie_name(request)) or None


def cookie_name(request: Request) -> str:
    """The name of the cookie that has the session.

    Browsers do not tell cookies of one host apart by port: two services there would log each other's people out.
    """
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"hpcjobs-session-{port}" if port.isdecimal() and len(port) <= 5 else "hpcjobs-session"


def _bad_token() -> Problem:
    return _refused("bad_token", "the token is not known to this service, or was revoked")


def _refused(code: str, detail: str, *, challenge: str = 'Bearer error="invalid_token"') -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": challenge})
