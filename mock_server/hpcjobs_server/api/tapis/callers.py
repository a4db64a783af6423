"""Who asks: the header ``X-Tapis-Token``.

It takes a token of this service as it is, or one that looks like a JWT, whose third part is such a token: Tapis's own
clients read the payload of a JWT, and this service looks at nothing but that token.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import uuid
from typing import TYPE_CHECKING

from hpcjobs.models import Scope
from hpcjobs_server.auth import Caller
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem

if TYPE_CHECKING:
    import datetime as dt

    from starlette.requests import Request


_PART = re.compile(r"[A-Za-z0-9_-]+={0,2}")


async def authorise(request: Request, scope: Scope) -> Caller:
    """Who sends ``request``, where they may do what ``scope`` allows.

    Raises:
        Problem: 401 without a good token, 403 where the token's scope is too small.
    """
    header = request.headers.get("x-tapis-token")
    if header is None:
        header = request.headers.get("authorization", "").partition(" ")[2]
    if not header.strip():
        raise Problem(401, "no_token", "send a token in the header X-Tapis-Token; POST /v3/oauth2/tokens gives one")
    token, expired = unwrapped(header.strip())
    try:
        caller = await context_of(request).tokens.caller(f"Bearer {token}")
    except Problem as problem:
        if expired and problem.code == "bad_token":  # it has been forgotten since
            raise Problem(401, "expired_token", "the token has expired; get a new one") from None
        raise
    if not caller.may(scope):
        raise Problem(403, "scope", f"the token has the scope {caller.scope.value}; this needs {scope.value}")
    return caller


def wrapped(token: str, *, owner: str, tenant: str, kind: str, expires_at: dt.datetime, issuer: str) -> tuple[str, str]:
    """A token in the shape of a JWT, and its ``jti``.

    Example:
        >>> import datetime as dt
        >>> jwt, _ = wrapped(
        ...     "t", owner="ada", tenant="dev", kind="access", expires_at=dt.datetime(2026, 5, 1), issuer="http://x"
        ... )
        >>> unwrapped(jwt)[0]
        't'
    """
    jti = str(uuid.uuid4())
    payload = {
        "jti": jti,
        "iss": issuer,
        "sub": f"{owner}@{tenant}",
        "tapis/tenant_id": tenant,
        "tapis/token_type": kind,
        "tapis/delegation": False,
        "tapis/delegation_sub": None,
        "tapis/username": owner,
        "tapis/account_type": "user",
        "tapis/target_site": "local",
        "exp": int(expires_at.timestamp()),
    }
    parts = (json.dumps({"typ": "JWT", "alg": "none"}), json.dumps(payload), token)
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts), jti


def unwrapped(text: str) -> tuple[str, bool]:
    """The token of this service in a JWT, and whether that says that it has expired; any other text as it is."""
    parts = text.split(".")
    if len(parts) != 3:
        return text, False
    try:
        payload, token = json.loads(_decoded(parts[1])), _decoded(parts[2]).decode("ascii")
        return token, float(payload["exp"]) < time.time()
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise Problem(401, "jwt_parse", "this is no token of this service; POST /v3/oauth2/tokens gives one") from None


def _decoded(part: str) -> bytes:
    if not _PART.fullmatch(part):  # what is no base64 would be passed over
        raise ValueError(part)
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
