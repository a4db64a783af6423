"""What a browser is shown where the answer is no."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from hpcjobs_server.api.pages.rendering import render

if TYPE_CHECKING:
    from starlette.types import Scope

    from hpcjobs_server.problems import Problem

_NOT_PAGES = ("/v1/", "/v3/", "/healthz", "/readyz", "/metrics")


def refusal(problem: Problem, scope: Scope) -> Response | None:
    """A problem as a page; None where no browser looks at the page that was asked for."""
    request = Request(scope)
    if request.url.path.startswith(_NOT_PAGES) or not wants_page(request):
        return None
    return render(
        request,
        "problem.html",
        status=problem.status,
        headers=problem.headers,
        title=http.HTTPStatus(problem.status).phrase,
        detail="there is no such page" if problem.code == "not_found" else problem.detail,
        errors=problem.errors,
    )


def wants_page(request: Request) -> bool:
    """Whether whoever asks shows pages, and is no program that reads data."""
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
