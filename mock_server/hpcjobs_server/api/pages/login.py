"""The way in and out: by a token, or by an address that lets in once.

A session is a token of its own, which comes from the one that was shown: it may do what that one may, lives for some
hours, and goes when that one is revoked. The browser keeps it in a cookie that no script and no other site can use.
"""

from __future__ import annotations

import datetime as dt
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs.models import TokenInfo
from hpcjobs_server.api.pages.rendering import HEADERS, relative, render, scheme
from hpcjobs_server.api.pages.session import LoginNeeded, Viewer, form_of, read_form, viewer_of
from hpcjobs_server.auth import cookie_name
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem
from hpcjobs_server.store import LOGIN

REMEMBERED = dt.timedelta(days=1)
"""For how long a browser keeps the cookie of a session that has ended, so that it can be told of its end."""

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def ask(request: Request) -> Response:
    """Ask for a token; or, at an address that lets in once, whether to go on. Looking at it uses nothing up."""
    viewer, query = await _viewer(request), request.query_params
    after, key = query.get("next", ""), query.get("key", "")
    if viewer is not None:
        return await _already(request, viewer, next=after, key=key)
    return _page(request, next=after, key=key, expired="expired" in query)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Begin a session."""
    form = await form_of(request)
    fields = {name: text for name, text in form.multi_items() if isinstance(text, str)}
    after, token, key = fields.get("next", ""), fields.get("token", "").strip(), fields.get("key", "")
    if key and "instead" not in fields and (viewer := await _viewer(request)) is not None:
        # The address came by a link of another site, and the browser kept the session back until now.
        return await _already(request, viewer, next=after, key=key)
    parent = await (_redeemed(request, key) if key else _shown(request, token))
    if parent is None:
        return _page(request, next=after, wrong="key" if key else "token", status=401)
    life = dt.timedelta(seconds=context_of(request).settings.session_seconds)
    session = await context_of(request).store.derive_token(parent, name="browser", expires_in=life)
    if session is None:  # it was revoked, or has expired, at this moment
        return _page(request, next=after, wrong="key" if key else "token", status=401)
    answer = _onward(request, after)
    _set_cookie(request, answer, session, life)
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session, here and everywhere."""
    viewer = await viewer_of(request)
    await read_form(request, viewer)
    context = context_of(request)
    await context.store.revoke_token(viewer.caller.owner, viewer.caller.token_id)
    context.tokens.forget(viewer.caller.token_id)
    answer = RedirectResponse(relative(request, "login"), status_code=303, headers=HEADERS)
    answer.headers.append("Set-Cookie", _cookie(request, "", 0))
    return answer


def inside(where: str) -> str:
    """An address within the page, whatever was written: the list, where it leads elsewhere.

    Example:
        >>> inside("jobs/1?outcome=2"), inside("//evil.example/"), inside("https:evil")
        ('jobs/1?outcome=2', '', '')
    """
    path = where.partition("?")[0]
    good = where.isascii() and where.isprintable() and "\\" not in where and ":" not in path and " " not in where
    return where if good and not where.startswith("/") and "//" not in path and ".." not in path else ""


async def _viewer(request: Request) -> Viewer | None:
    """Who is logged in; None where nobody is."""
    try:
        return await viewer_of(request)
    except LoginNeeded:
        return None


async def _already(request: Request, viewer: Viewer, *, next: str, key: str) -> Response:  # noqa: A002 - as in _page
    """For who is logged in: nobody becomes somebody else, or may do more or less, without being asked."""
    found = await context_of(request).store.find_key(key, name=LOGIN) if key else None
    if found is not None and (found.owner, found.scope) == (viewer.caller.owner, viewer.caller.scope):
        return _onward(request, next)
    return _page(request, next=next, key=key, already=viewer.caller.owner)


def _onward(request: Request, where: str) -> Response:
    return RedirectResponse(relative(request, inside(where)), status_code=303, headers=HEADERS)


async def _shown(request: Request, token: str) -> str | None:
    """The id of a token that somebody typed; None where it is not good."""
    try:
        return (await context_of(request).tokens.bearer(token)).token_id
    except Problem:
        return None


async def _redeemed(request: Request, key: str) -> str | None:
    """The id of the token that an address was made with, which is used up; None where it is not good any more."""
    return await context_of(request).store.redeem_token(key, name=LOGIN)


def _set_cookie(request: Request, answer: Response, session: TokenInfo, life: dt.timedelta) -> None:
    assert session.token is not None
    answer.headers.append("Set-Cookie", _cookie(request, session.token, int((life + REMEMBERED).total_seconds())))


def _cookie(request: Request, value: str, seconds: int) -> str:
    """The cookie. It names no path, so that it counts for the folder in which this page is, and below."""
    return (
        f"{cookie_name(request)}={quote(value, safe='')}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
        f"{'; Secure' if scheme(request) == 'https' else ''}"
    )


def _page(
    request: Request,
    *,
    next: str,  # noqa: A002 - its name in the address
    key: str = "",
    expired: bool = False,
    already: str | None = None,
    wrong: str = "",
    status: int = 200,
) -> Response:
    return render(
        request,
        "login.html",
        status=status,
        next=inside(next),
        key=key,
        expired=expired,
        already=already,
        wrong=wrong,
    )
