"""Who looks at a page, and whether a form comes from a page of ours."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs.models import Scope
from hpcjobs_server.api.pages.rendering import HEADERS, relative, render
from hpcjobs_server.auth import Caller, session_of
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem, invalid, too_large

LARGEST_FORM = 1024**2
"""Bytes of a form: ten thousand ids of selected jobs fit."""
MOST_FIELDS = 20_000
_FROM = "from"
"""In an address: it was gone on to from a page of ours."""
_LABEL = b"hpcjobs form:"


@dataclasses.dataclass(frozen=True)
class Viewer:
    """Who looks.

    Attributes:
        caller: What their session may do.
        csrf: What every form of theirs must send along; no other site can know it.
    """

    caller: Caller
    csrf: str

    @property
    def may_act(self) -> bool:
        """Whether they may cancel, retry and delete."""
        return self.caller.may(Scope.WRITE)

    @property
    def operator(self) -> bool:
        """Whether they see everybody's jobs, and set queues."""
        return self.caller.may(Scope.ADMIN)


class LoginNeeded(Exception):
    """Nobody is logged in, or not any more.

    Attributes:
        expired: Whether there was a session.
    """

    def __init__(self, *, expired: bool) -> None:
        self.expired = expired
        super().__init__("log in first")


async def viewer_of(request: Request) -> Viewer:
    """Who looks.

    Raises:
        LoginNeeded: Nobody whom the service knows.
    """
    token = session_of(request)
    if token is None:
        raise LoginNeeded(expired=False)
    try:
        caller = await context_of(request).tokens.bearer(token)
    except Problem:
        raise LoginNeeded(expired=True) from None
    return Viewer(caller, csrf_of(token))


def csrf_of(token: str) -> str:
    """What a form of the session with this token must send along."""
    return hashlib.sha256(_LABEL + token.encode()).hexdigest()


async def read_form(request: Request, viewer: Viewer) -> FormData:
    """A form that was sent from one of our own pages.

    Raises:
        Problem: 403 for one from elsewhere, 413 for one that is too large.
    """
    form = await form_of(request)
    sent = form.get("csrf")
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), viewer.csrf.encode()):
        raise Problem(403, "csrf", "the form is not of this session; load the page again and send it once more")
    return form


async def form_of(request: Request) -> FormData:
    """A form whose sender's browser does not say that another site sent it.

    Raises:
        Problem: 403 for one from elsewhere, 413 for one that is too large.
    """
    check_origin(request)
    size = 0
    parts: list[bytes] = []
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_FORM:
            raise too_large(LARGEST_FORM, "the form")
        parts.append(part)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "media_type", "send a form as the pages do: application/x-www-form-urlencoded")
    try:
        text = b"".join(parts).decode()
        read = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise invalid([("", f"the form cannot be read: UTF-8, and at most {MOST_FIELDS} fields")]) from None
    fields: list[tuple[str, str | UploadFile]] = [*read]
    return FormData(fields)


def check_origin(request: Request) -> None:
    """Refuse what the browser says another site has sent.

    Raises:
        Problem: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        good = site in {"same-origin", "none"}
    else:
        # behind a proxy the scheme may be another one than the browser's: the host tells them apart
        good = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not good:
        raise Problem(403, "cross_site", "another site sent this; open the job page and do it there")


async def to_login(request: Request, error: Exception) -> Response:
    """Send whoever is not logged in to where they can do that, and from there back."""
    assert isinstance(error, LoginNeeded)
    asked = request.url.path.removeprefix(request.scope.get("root_path", "")).lstrip("/")
    fields = [(name, text) for name, text in request.query_params.multi_items() if name != _FROM]
    if _came_by_link(request):
        # A browser sends the session along only where the way leads from our own page.
        onward = f"?{urlencode([*fields, (_FROM, 'link')])}"
        return render(request, "onward.html", onward=onward)
    if fields:
        asked += f"?{urlencode(fields)}"
    query = {"next": asked} if asked and request.method == "GET" else {}
    if error.expired:
        query["expired"] = "1"
    where = relative(request, "login") + (f"?{urlencode(query)}" if query else "")
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={**HEADERS, "HX-Redirect": where})
    return RedirectResponse(where, status_code=303, headers=HEADERS)


def _came_by_link(request: Request) -> bool:
    """Whether somebody follows a link of another site, a mail's or a chat's, for the first time."""
    return (
        request.method == "GET"
        and request.headers.get("sec-fetch-site") == "cross-site"
        and request.headers.get("sec-fetch-mode") == "navigate"
        and _FROM not in request.query_params
    )
