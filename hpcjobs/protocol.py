"""What operations are made of.

An operation is a generator that does no I/O: it yields what it needs and returns its result. A driver
(:mod:`hpcjobs.transport`) sends what is yielded and hands the answer back, once for sync and once for async, so that
every loop, precheck, fallback and retry is written once.

Example:
    >>> def ping() -> Op[int]:
    ...     response = yield from call(Request("GET", "/healthz"))
    ...     return response.status
    >>> op = ping()
    >>> next(op).path
    '/healthz'
    >>> try:
    ...     op.send(Response(200, {}, b"{}"))
    ... except StopIteration as end:
    ...     print(end.value)
    200
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, Union, cast

T = TypeVar("T")


class Body(Protocol):
    """A request body that can be opened anew for every try, so that a retry never sends an empty one."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """The bytes from the start, for the sync driver."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from the start, for the async driver."""
        ...


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request that an operation wants sent.

    Attributes:
        method: The HTTP method, upper case.
        path: The path below the service's base URL.
        params: Query parameters in order; a name may occur several times.
        headers: Headers beside those that the driver adds (authorisation, user agent).
        json: A body to be sent as JSON; at most one of ``json``, ``content`` and ``body``.
        content: A body of bytes that are in memory.
        body: A body that is read while it is sent.
        timeout: Seconds to wait for each read; None for the client's own.
        repeatable: Whether sending it twice does no more than sending it once. None: decided by the method
            (GET, HEAD, PUT, DELETE and OPTIONS are, POST and PATCH are not).
        base: Where it goes in place of the service's base URL: a service may stand on another one (logs, say), which
            then is among its ``other_urls``.
    """

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    body: Body | None = None
    timeout: float | None = None
    repeatable: bool | None = None
    base: str | None = None

    @property
    def safe_to_repeat(self) -> bool:
        """Whether a lost answer may be followed by the same request."""
        if self.repeatable is not None:
            return self.repeatable
        return self.method in {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


@dataclasses.dataclass(frozen=True)
class Response:
    """An answer, whole: the driver reads the body before it hands it over.

    Attributes:
        status: The HTTP status.
        headers: Header names in lower case.
        content: The body.
        tries: How often the request was sent until this answer came.
        lost: Whether the answer to an earlier try was lost, so that the request may have had its effect before.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    tries: int = 1
    lost: bool = False

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body as UTF-8; what is not UTF-8 is replaced."""
        return self.content.decode("utf-8", "replace")


@dataclasses.dataclass(frozen=True)
class Sleep:
    """A pause that an operation wants, in seconds."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Emit:
    """An item that a streaming operation hands to its caller at once."""

    item: Any


@dataclasses.dataclass(frozen=True)
class Run(Generic[T]):
    """A short blocking piece of local work (hash a file, write a chunk): the async driver runs it in a thread."""

    function: Callable[[], T]


Effect = Union[Request, Sleep, Emit, Run[Any]]
Op = Generator[Effect, Any, T]
"""An operation that returns a ``T``."""


def call(request: Request) -> Op[Response]:
    """Send ``request`` and return the answer; transport errors are raised here."""
    return cast(Response, (yield request))


def sleep(seconds: float) -> Op[None]:
    """Pause for ``seconds``."""
    yield Sleep(seconds)


def emit(item: Any) -> Op[None]:
    """Hand ``item`` to whoever iterates over the operation."""
    yield Emit(item)


def run(function: Callable[[], T]) -> Op[T]:
    """Do a short blocking piece of local work and return its result."""
    return cast(T, (yield Run(function)))


def each(operations: Iterable[Op[T]]) -> Op[list[T]]:
    """Run operations one after another; their results, in order."""
    results: list[T] = []
    for operation in operations:
        results.append((yield from operation))  # noqa: PERF401 - no yield in a comprehension
    return results


def retry_after(response: Response) -> float | None:
    """The pause that an answer asks for, in seconds.

    Args:
        response: An answer with or without the header ``Retry-After``, as a number of seconds or as an HTTP date.

    Returns:
        Seconds, zero for a date in the past; None where there is no such header or where it makes no sense.

    Example:
        >>> retry_after(Response(503, {"retry-after": "2"}, b""))
        2.0
    """
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d*)?", text):
        return float(text)
    then = _timestamp(text)
    if then is None:
        return None
    # The service's own clock, where it tells it: a wrong clock here must not make a wrong pause.
    now = _timestamp(response.headers.get("date", ""))
    return max(0.0, then - (time.time() if now is None else now))


def _timestamp(text: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
