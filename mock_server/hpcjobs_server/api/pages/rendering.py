"""Makes pages of templates.

Whatever a job prints or is named is text: templates escape everything, and the browser is told to run no script and to
take no style but the files of the page itself.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs import lines, wording
from hpcjobs._version import __version__
from hpcjobs.lifecycle import Action, JobState
from hpcjobs.models import MAX_REASON
from hpcjobs_server.api.pages.assets import assets

if TYPE_CHECKING:
    from hpcjobs_server.api.pages.session import Viewer

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)
"""The content security policy of every page."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # with "no-referrer" our own forms come from the origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Cookie",
}


def relative(request: Request, path: str) -> str:
    """The address of ``path`` within the page, as seen from the address that was asked for.

    Args:
        request: The request.
        path: Without a slash before it, and with whatever query it has.
    """
    # not from the path that was decoded: there an escaped slash looks like one between folders
    asked: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    depth = asked.partition(b"?")[0].count(b"/") - request.scope.get("root_path", "").count("/")
    up = "../" * (depth - 1)
    if not up and path[:1] in {"", "?"}:
        up = "./"  # a query alone would be one of the present page
    return f"{up}{path}"


def scheme(request: Request) -> str:
    """``http`` or ``https``, as the browser has it: what the outermost of the proxies on the way says, if they do."""
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return told if told in {"http", "https"} else request.url.scheme


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    viewer: Viewer | None = None,
    **context: Any,
) -> Response:
    """A page.

    Args:
        request: What is answered.
        template: The file of the template.
        status: The HTTP status.
        headers: Further headers.
        viewer: Who looks; None where nobody is logged in.
        context: What the template needs.
    """
    text = templates().get_template(template).render(
        link=functools.partial(relative, request),
        asset=lambda name: relative(request, assets()[name].path),
        place=f"?{request.url.query}",
        viewer=viewer,
        now=dt.datetime.now(dt.timezone.utc),
        **context,
    )  # fmt: skip
    return Response(text, status_code=status, headers={**HEADERS, **(headers or {})}, media_type="text/html")


@functools.cache
def templates() -> Environment:
    """The templates, compiled when they are first used."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        clean=lambda text: wording.clean(str(text)),
        duration=wording.duration,
        size=wording.size,
        moment=moment,
        number=lambda count: f"{count:,}",
    )
    environment.globals.update(
        version=__version__,
        JobState=JobState,
        Action=Action,
        SYMBOLS=lines.SYMBOLS,
        MAX_REASON=MAX_REASON,
        why=lines.why,
    )
    return environment


def moment(value: dt.datetime | None) -> Markup:
    """A moment, in UTC; the page's script adds how it reads where the browser is."""
    if value is None:
        return Markup("")
    utc = value.astimezone(dt.timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), escape(f"{utc:%Y-%m-%d %H:%M:%S}")
    )
