"""Tokens: make, list, revoke."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope, TokenInfo, TokenList, TokenOrder
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_model
from hpcjobs_server.auth import Caller, authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem, invalid

LONGEST_LIFE = dt.timedelta(days=3650)

router = APIRouter(prefix="/v1", tags=["tokens"])


@router.post(
    "/tokens",
    status_code=201,
    responses={
        201: {"model": TokenInfo, "description": "The token; its text is told this once"},
        **documents.problems(413, 415),
    },
    openapi_extra=documents.body(TokenOrder),
)
async def create_token(request: Request) -> Response:
    """Make a token. It may do no more, and lives no longer, than the one that asks."""
    caller = await authorise(request, Scope.WRITE)
    order = await read_model(request, TokenOrder)
    owner = order.owner or caller.owner
    if not caller.may(order.scope):
        raise Problem(
            403, "scope", f"a token with the scope {caller.scope.value} cannot make one with {order.scope.value}"
        )
    if owner != caller.owner and not caller.may(Scope.ADMIN):
        raise Problem(403, "scope", "to make a token for another owner needs the scope admin")
    info = await context_of(request).store.create_token(
        owner, name=order.name, scope=order.scope, expires_in=_life(order.expires_in, caller)
    )
    return answer(info, 201)


@router.get(
    "/tokens", responses={200: {"model": TokenList, "description": "Without their texts"}, **documents.problems()}
)
async def list_tokens(request: Request) -> Response:
    """List your tokens; with the scope admin, everybody's."""
    caller = await authorise(request, Scope.READ)
    items = await context_of(request).store.list_tokens(caller.sees)
    return answer(TokenList(items=items), exclude={"items": {"__all__": {"token"}}})


@router.delete(
    "/tokens/{token_id}",
    status_code=204,
    responses={204: {"description": "It is of no use now"}, **documents.problems(404)},
)
async def revoke_token(request: Request, token_id: str) -> Response:
    """Revoke a token."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    if not await context.store.revoke_token(caller.sees, token_id):
        raise Problem(404, "token_not_found", "there is no such token, or it is not yours")
    context.tokens.forget(str(UUID(token_id)))  # an id may be written in several ways
    return Response(status_code=204)


def _life(asked: dt.timedelta | None, caller: Caller) -> dt.timedelta | None:
    if asked is not None and not dt.timedelta(0) < asked <= LONGEST_LIFE:
        raise invalid([("expires_in", f"must be more than zero and at most {LONGEST_LIFE.days} days")])
    if caller.expires_at is None:
        return asked
    left = max(caller.expires_at - dt.datetime.now(dt.timezone.utc), dt.timedelta(0))
    return left if asked is None else min(asked, left)
