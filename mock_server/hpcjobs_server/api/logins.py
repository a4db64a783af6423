"""Addresses that let a browser in to the job page once."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import LoginInfo, LoginOrder, Scope
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_model
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem, invalid
from hpcjobs_server.store import LOGIN

LONGEST = dt.timedelta(days=1)

router = APIRouter(prefix="/v1", tags=["tokens"])


@router.post(
    "/logins",
    status_code=201,
    responses={201: {"model": LoginInfo, "description": "The address, told this once"}, **documents.problems(413, 415)},
    openapi_extra=documents.body(LoginOrder, required=False),
)
async def create_login(request: Request) -> Response:
    """Make an address that lets a browser in once, to do what the token that asks may do."""
    caller = await authorise(request, Scope.READ)
    order = await read_model(request, LoginOrder, optional=True)
    if not dt.timedelta(0) < order.expires_in <= LONGEST:
        raise invalid([("expires_in", "must be more than zero and at most a day")])
    store = context_of(request).store
    made = await store.derive_token(caller.token_id, name=LOGIN, expires_in=order.expires_in, refreshes=True)
    if made is None or made.expires_at is None:
        raise Problem(401, "bad_token", "the token was revoked at this moment")
    info = LoginInfo(path=f"/login?{urlencode({'key': made.token or ''})}", expires_at=made.expires_at)
    return answer(info, 201)
