"""A proxy between a client and a real service: it loses answers, refuses, and changes words on the way back."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_OWN_BUSINESS = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}
"""Headers that concern one connection only."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A request that came by.

    Attributes:
        method: In capitals.
        path: With the query.
        body: The bytes.
        at: When, by ``time.monotonic()``.
    """

    method: str
    path: str
    body: bytes
    at: float


Which = Callable[[Seen], bool]
"""Tells which requests are meant."""


@dataclasses.dataclass
class _Trouble:
    which: Which
    times: int
    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""


class Proxy:
    """Passes HTTP on to ``target``, and makes the trouble that a test asks for.

    Attributes:
        url: Where it listens.
        target: Whereto it passes on.
    """

    def __init__(self, target: str) -> None:
        self.target = target.rstrip("/")
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._troubles: list[_Trouble] = []
        self._words: list[tuple[bytes, bytes]] = []
        self._paths: list[tuple[str, str]] = []
        self._client = httpx.Client(timeout=60.0, trust_env=False, limits=httpx.Limits(max_connections=None))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _go(self) -> None:
                proxy._pass_on(self)

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):  # any method
                    return self._go
                raise AttributeError(name)

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: Any) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    # What a test asks for

    @contextlib.contextmanager
    def losing(self, which: Which, times: int = 1) -> Iterator[None]:
        """The answers to so many of these requests are lost after the service has acted."""
        with self._trouble(_Trouble(which, times)):
            yield

    @contextlib.contextmanager
    def answering(
        self, which: Which, status: int, body: bytes, headers: Mapping[str, str], times: int = 1
    ) -> Iterator[None]:
        """So many of these requests are answered in the service's place."""
        with self._trouble(_Trouble(which, times, status, headers, body)):
            yield

    @contextlib.contextmanager
    def saying(self, word: str, instead: str) -> Iterator[None]:
        """In all answers ``"word"`` is replaced."""
        pair = f'"{word}"'.encode(), f'"{instead}"'.encode()
        self._words.append(pair)
        try:
            yield
        finally:
            self._words.remove(pair)

    @contextlib.contextmanager
    def asking(self, part: str, instead: str) -> Iterator[None]:
        """In all requests this part of the path is replaced."""
        self._paths.append((part, instead))
        try:
            yield
        finally:
            self._paths.remove((part, instead))

    def seen(self, which: Which) -> list[Seen]:
        """The requests of this kind that came by, oldest first."""
        with self._lock:
            return [one for one in self._seen if which(one)]

    @contextlib.contextmanager
    def _trouble(self, trouble: _Trouble) -> Iterator[None]:
        with self._lock:
            self._troubles.append(trouble)
        try:
            yield
        finally:
            with self._lock:
                self._troubles.remove(trouble)

    # Passing on

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        seen = Seen(handler.command, handler.path, body, time.monotonic())
        with self._lock:
            self._seen.append(seen)
            trouble = next((one for one in self._troubles if one.times > 0 and one.which(seen)), None)
            if trouble is not None:
                trouble.times -= 1
        if trouble is not None and trouble.status is not None:
            _answer(handler, trouble.status, dict(trouble.headers), trouble.body)
            return
        path = seen.path
        for part, instead in self._paths:
            path = path.replace(part, instead)
        headers = {name: text for name, text in handler.headers.items() if name.lower() not in _OWN_BUSINESS}
        with self._client.stream(seen.method, self.target + path, content=body, headers=headers) as response:
            if trouble is not None:
                response.read()
                handler.close_connection = True
                with contextlib.suppress(OSError):
                    handler.connection.shutdown(socket.SHUT_RDWR)
                return
            self._hand_over(handler, response)

    def _hand_over(self, handler: BaseHTTPRequestHandler, response: httpx.Response) -> None:
        handler.send_response_only(response.status_code)
        for name, text in response.headers.multi_items():
            if name.lower() not in _OWN_BUSINESS:
                handler.send_header(name, text)
        empty = response.status_code in {204, 304} or handler.command == "HEAD"
        if not empty:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if empty:
            return
        for piece in response.iter_raw():
            for word, instead in self._words:
                piece = piece.replace(word, instead)  # noqa: PLW2901 - the same piece
            if piece:
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    handler.send_response_only(status)
    for name, text in headers.items():
        handler.send_header(name, text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
