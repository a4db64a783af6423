"""The outermost layer of the app: counts, adds the headers that every answer has, and lets no exception out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from hpcjobs_server.problems import Dialects, problem_of, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hpcjobs_server.metrics import Metrics

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")


class Edge:
    """An ASGI middleware.

    Args:
        app: The app inside.
        metrics: Where requests are counted.
        streams: The routes whose answers never end by themselves.
        dialects: How those who ask at some addresses are told no.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, streams: frozenset[str], dialects: Dialects) -> None:
        self._app, self._metrics, self._streams, self._dialects = app, metrics, streams, dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sender(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                headers.append(_NOSNIFF)
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, sender)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except Exception as error:
            if status:  # half an answer is sent: the connection must break, so that the client notices
                raise
            await told(problem_of(error), scope, self._dialects)(scope, receive, sender)
        finally:
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            seconds = time.perf_counter() - began
            self._metrics.answered(scope["method"], route, status, seconds, stream=route in self._streams)
