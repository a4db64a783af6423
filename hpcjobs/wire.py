"""Turns requests into httpx's, and httpx's errors into ours: what both drivers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from hpcjobs._version import __version__
from hpcjobs.errors import ConfigError, ConnectionLost, NoService, TimedOut, UnexpectedAnswer
from hpcjobs.hosts import is_loopback
from hpcjobs.protocol import Body, Request

if TYPE_CHECKING:
    import ssl

    from hpcjobs.services.base import Service

T = TypeVar("T")

USER_AGENT = f"hpcjobs/{__version__}"

CONNECT_TIMEOUT = 10.0
"""Seconds: the longest wait for a connection; a service that is there answers long before."""

ERRORS = (httpx.HTTPError, httpx.InvalidURL)
"""What httpx raises for a request that came to nothing."""


class Upload(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that httpx can send in both colours, and again."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()


class Wire:
    """What both drivers need to know to make a client and to turn requests into httpx's."""

    def __init__(self, service: Service, timeout: float) -> None:
        if not timeout > 0:
            raise ConfigError(f"timeout is {timeout}; give seconds, more than zero")
        self.service = service
        self.base_url = service.base_url
        self.shown = service.where
        self._timeout = max(timeout, service.patience)
        self._verify: ssl.SSLContext | None = None
        urls = (self.base_url, *service.other_urls)
        try:
            hosts = [httpx.URL(url).host for url in urls]
        except httpx.InvalidURL as error:
            raise ConfigError(f"{' or '.join(map(repr, urls))} is not an address: {error}") from None
        self._loopback = all(map(is_loopback, hosts))
        self._encrypted = not all(url.startswith("http:") for url in urls)

    def client_settings(self) -> dict[str, Any]:
        """The keyword arguments that both kinds of httpx client take."""
        if self._verify is None:
            self._verify = self._make_verify()
        return {
            "auth": self.service.auth,
            "headers": {"User-Agent": USER_AGENT},
            "timeout": self.timeout(None),
            "verify": self._verify,
            # Each follower of a log holds a connection nearly all the time: a limit would starve everything else.
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
            # No proxy reaches this machine's own loopback.
            "trust_env": not self._loopback,
            "follow_redirects": False,
        }

    def by_socket(self, kind: Callable[..., T]) -> T | None:
        """What sends through the service's unix socket, of httpx's kind for one colour; None where there is none."""
        if self.service.socket is None:
            return None
        settings = self.client_settings()
        return kind(uds=self.service.socket, verify=settings["verify"], limits=settings["limits"])

    def timeout(self, seconds: float | None) -> httpx.Timeout:
        """``seconds`` for each read and write, the driver's own for None; never endless."""
        seconds = self._timeout if seconds is None else seconds
        return httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))

    def build(self, client: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
        """The request as httpx wants it."""
        headers: dict[str, str] | Any = request.headers
        if request.body is not None:
            headers = {**headers, "Content-Length": str(request.body.size)}
        built = client.build_request(
            request.method,
            (request.base or self.base_url) + request.path,
            params=list(request.params) if request.params else None,
            headers=headers or None,
            json=request.json,
            content=request.content,
            timeout=httpx.USE_CLIENT_DEFAULT if request.timeout is None else self.timeout(request.timeout),
        )
        if request.body is not None:
            built.stream = Upload(request.body)
        return built

    def _make_verify(self) -> ssl.SSLContext:
        if self._loopback and not self._encrypted:
            # Loading the certificate store costs more than a request. This context trusts nobody, so that nothing can
            # be fetched by TLS with it by accident.
            import ssl

            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.create_ssl_context()

    def translate(self, error: Exception, request: Request) -> Exception:
        """The typed error for one of httpx's; what is not httpx's is handed back."""
        base = request.base or self.shown
        where = f"{request.method} {base}{request.path}"
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
            if _bad_certificate(error):
                return ConfigError(
                    f"{base} is not trusted: {error}. If the service's certificate is signed by an authority "
                    "of its own, name that authority's file in SSL_CERT_FILE"
                )
            if isinstance(error, httpx.ProxyError):
                return NoService(f"the proxy does not let {where} through ({_words(error)}); see HTTPS_PROXY, NO_PROXY")
            return NoService(f"nothing answers at {base} ({_words(error)}); {self._what_to_do()}")
        if isinstance(error, httpx.PoolTimeout):
            return NoService(f"{where} was not sent: all connections were busy; make fewer requests at once")
        if isinstance(error, httpx.TimeoutException):
            return TimedOut(f"{where} was not answered in time ({_words(error)})")
        if isinstance(error, httpx.DecodingError):
            return UnexpectedAnswer(f"the answer to {where} cannot be decoded: {_words(error)}")
        if isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
            return ConfigError(f"{where} cannot be sent: {_words(error)}")
        if isinstance(error, httpx.TransportError):
            return ConnectionLost(f"the connection broke during {where} ({_words(error)})")
        if isinstance(error, httpx.InvalidURL):
            return ConfigError(f"{where} cannot be sent: {_words(error)}")
        return error

    def _what_to_do(self) -> str:
        if self.service.advice:
            return self.service.advice
        if self._loopback:
            return "start the service with `hpcjobs serve`, or set HPCJOBS_URL to where one runs"
        return "check the address, the network, and that the service runs"


def _bad_certificate(error: BaseException) -> bool:
    import ssl

    link: BaseException | None = error
    for _ in range(10):  # a chain of causes may be a ring
        if link is None or isinstance(link, ssl.SSLCertVerificationError):
            break
        link = link.__cause__ or link.__context__
    return isinstance(link, ssl.SSLCertVerificationError)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
