"""Tokens for a password, which is one of the owner's own tokens of this service."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import TokenInfo
from hpcjobs_server.api.bodies import read_json
from hpcjobs_server.api.tapis.callers import unwrapped, wrapped
from hpcjobs_server.api.tapis.envelope import TapisProblem, bad_request, envelope
from hpcjobs_server.context import Context, context_of

REFRESH_NAME = "Tapis refresh"
REFRESH = dt.timedelta(days=30)
"""For how long a token can be refreshed."""

router = APIRouter(prefix="/v3/oauth2", include_in_schema=False)


@router.post("/tokens", status_code=201)
async def create_token(request: Request) -> Response:
    """Make an access token for a user's name and password, or for a refresh token.

    The password is one of the user's tokens of this service, the new one may do as much as it may, and goes when it is
    revoked. A refresh token comes along where a client is named, any one, as Tapis does for the clients that it knows.
    """
    context = context_of(request)
    asked = await _asked(request)
    grant = asked.get("grant_type")
    if grant == "password":
        parent = await _by_password(context, _text(asked, "username"), _text(asked, "password"))
    elif grant == "refresh_token":
        if _client(request, asked) is None:
            raise bad_request("OAUTH_INVALID_CLIENT", "refresh_token needs a client_id, by Basic or in the body")
        token = unwrapped(_text(asked, "refresh_token"))[0]
        found = await context.store.redeem_token(token, name=REFRESH_NAME)
        if found is None:
            raise TapisProblem(401, "OAUTH_INVALID_GRANT", "the refresh token is not good, or was used; log in again")
        parent = found
    else:
        raise bad_request("OAUTH_INVALID_GRANT_TYPE", f"grant_type is password or refresh_token, not {grant!r}")
    made = await context.store.derive_token(
        parent, name="Tapis access", expires_in=dt.timedelta(seconds=context.settings.tapis_token_seconds)
    )
    if made is None:
        raise TapisProblem(401, "OAUTH_INVALID_GRANT", "the token that this one was got with is no longer good")
    issuer = f"{str(request.base_url).rstrip('/')}/v3/tokens"
    result = {"access_token": _told(context, made, "access", issuer)}
    if _client(request, asked) is not None:
        refresh = await context.store.derive_token(parent, name=REFRESH_NAME, expires_in=REFRESH, refreshes=True)
        if refresh is not None:
            result["refresh_token"] = _told(context, refresh, "refresh", issuer)
    return envelope(result, "OAUTH_TOKEN_CREATED Token created successfully.", status=201)


async def _by_password(context: Context, owner: str, password: str) -> str:
    """The id of the token that is the password."""
    info = await context.store.authenticate(password)
    now = dt.datetime.now(dt.timezone.utc)
    if info is None or info.owner != owner or (info.expires_at is not None and info.expires_at <= now):
        detail = "the username or the password is wrong; the password is a token of this user (hpcjobs token)"
        raise TapisProblem(401, "OAUTH_INVALID_CREDENTIALS", detail)
    return info.id


def _told(context: Context, made: TokenInfo, kind: str, issuer: str) -> dict[str, Any]:
    assert made.token is not None
    assert made.expires_at is not None
    jwt, jti = wrapped(
        made.token,
        owner=made.owner,
        tenant=context.settings.tapis_tenant,
        kind=kind,
        expires_at=made.expires_at,
        issuer=issuer,
    )
    left = max(0, int((made.expires_at - made.created_at).total_seconds()))
    return {f"{kind}_token": jwt, "expires_at": made.expires_at.isoformat(), "expires_in": left, "jti": jti}


async def _asked(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise bad_request("NET_REQUEST_PAYLOAD_ERROR", "the body must be a JSON object")
    return asked


def _text(asked: dict[str, Any], name: str) -> str:
    text = asked.get(name)
    if not isinstance(text, str) or not text or "\x00" in text:
        raise bad_request("OAUTH_INVALID_REQUEST", f"{name} is missing, or is no text")
    return text


def _client(request: Request, asked: dict[str, Any]) -> str | None:
    """The client that is named, by Basic authentication or in the body."""
    scheme, _, told = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name = base64.b64decode(told, validate=True).decode().partition(":")[0]
        except (binascii.Error, ValueError):
            raise bad_request("OAUTH_INVALID_CLIENT", "the header Authorization cannot be read") from None
        if name:
            return name
    told_in_body = asked.get("client_id")
    return told_in_body if isinstance(told_in_body, str) and told_in_body else None
