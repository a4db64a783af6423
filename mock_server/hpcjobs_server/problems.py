"""Answers that say what went wrong, as RFC 9457 problem documents.

Every answer of the API with a status of 400 or more is one: ``code`` is a short stable word for programs, ``detail`` a
sentence for people, ``errors`` names the fields that are meant.

Example:
    >>> Problem(404, "job_not_found", "there is no such job").document()["title"]
    'Not Found'
"""

from __future__ import annotations

import http
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"

DATABASE_AWAY = (
    psycopg.OperationalError,  # the pool's own errors are among them
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,  # not migrated yet
    psycopg.errors.InvalidSchemaName,
)
"""What the store raises while the database cannot be used; all of it passes."""

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "invalid"}

logger = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One field that is wrong."""

    field: str
    """Where: the field's name, with dots between levels; empty for the whole."""
    message: str
    """What is wrong and what is allowed."""


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """A sentence for people."""
    code: str
    """A short stable word for programs."""
    errors: list[FieldError] = Field(default_factory=list)
    """The fields that are meant."""
    id: str | None = None
    """Of an unexpected failure: the log has it under this id."""


class Problem(Exception):
    """An answer that says no.

    Args:
        status: The HTTP status.
        code: A short stable word.
        detail: A sentence that says what is wrong, what is allowed and what to do.
        errors: ``(field, message)`` of each field that is wrong.
        headers: Further headers of the answer.
        extra: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        super().__init__(detail)

    def document(self) -> dict[str, Any]:
        """The problem document."""
        errors = [{"field": field, "message": message} for field, message in self.errors]
        return {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": errors,
            **self.extra,
        }

    def response(self) -> Response:
        """The answer."""
        body = json.dumps(self.document()).encode()
        return Response(body, status_code=self.status, headers=self.headers, media_type=MEDIA_TYPE)


def invalid(errors: Iterable[tuple[str, str]]) -> Problem:
    """422: fields that cannot be used.

    Example:
        >>> invalid([("walltime", "must be longer than zero")]).detail
        'the request cannot be used: walltime: must be longer than zero'
    """
    listed = list(errors)
    told = "; ".join(f"{field}: {message}" if field else message for field, message in listed[:3])
    more = f"; and {len(listed) - 3} more" if len(listed) > 3 else ""
    return Problem(422, "invalid", f"the request cannot be used: {told}{more}", errors=listed)


def job_not_found() -> Problem:
    """404: there is no such job, or it is another's."""
    return Problem(404, "job_not_found", "there is no such job, or it is not yours")


def too_large(limit: int, what: str) -> Problem:
    """413: more than the service takes.

    Args:
        limit: What it takes, in bytes.
        what: What is too large.
    """
    return Problem(413, "too_large", f"{what} is larger than the limit of {limit} bytes", extra={"limit": limit})


def database_away() -> Problem:
    """503: the database cannot be used at the moment."""
    return Problem(
        503, "database", "the service's database does not answer at the moment; try again", headers={"Retry-After": "1"}
    )


class _Outage:
    """Tells the log of an outage now and then, not once a request."""

    every = 5.0
    """Seconds."""

    def __init__(self) -> None:
        self._told, self._more = float("-inf"), 0

    def tell(self, error: Exception) -> None:
        if time.monotonic() - self._told < self.every:
            self._more += 1
            return
        since = f" ({self._more} more since the last line)" if self._more else ""
        self._told, self._more = time.monotonic(), 0
        logger.warning("the database is away%s: %s: %s", since, type(error).__name__, " ".join(str(error).split()))


_outage = _Outage()


def problem_of(error: Exception) -> Problem:
    """The problem that an exception is to the client.

    What was not expected goes to the log in full, under an id that the client is told; the client is told no more.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, DATABASE_AWAY):
        _outage.tell(error)
        return database_away()
    if isinstance(error, psycopg.DataError):
        return invalid([("", "it has a value that cannot be stored: a NUL character, a NaN, or a number out of range")])
    failure = secrets.token_hex(6)
    logger.error("failure %s", failure, exc_info=error)
    return Problem(
        500, "internal", f"the service has failed; its log has the details under {failure}", extra={"id": failure}
    )


Dialect = Callable[[Problem, Scope], Response | None]
"""How those who ask are told no, by what they ask; None where this is not for them."""

Dialects = Sequence[Dialect]
"""The first that has an answer gives it."""


def told(problem: Problem, scope: Scope, dialects: Dialects) -> Response:
    """A problem in the words of what was asked: a problem document, where that has none of its own."""
    answers = (dialect(problem, scope) for dialect in dialects)
    return next((answer for answer in answers if answer is not None), None) or problem.response()


def install(app: FastAPI, dialects: Dialects) -> None:
    """Make every answer of ``app`` that says no a problem document, or what a dialect has in its place."""

    async def on_error(request: Request, error: Exception) -> Response:
        return told(problem_of(error), request.scope, dialects)

    async def on_validation(request: Request, error: Exception) -> Response:
        problem = invalid(_request_errors(cast("RequestValidationError", error)))
        return told(problem, request.scope, dialects)

    async def on_http(request: Request, error: Exception) -> Response:
        return told(_of_http(request, cast("HTTPException", error)), request.scope, dialects)

    for kind in (Problem, *DATABASE_AWAY, psycopg.DataError):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _request_errors(error: RequestValidationError) -> list[tuple[str, str]]:
    return [(".".join(map(str, item["loc"][1:])), str(item["msg"])) for item in error.errors()]


def _of_http(request: Request, error: HTTPException) -> Problem:
    code = _CODES.get(error.status_code, "http_error")
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = "there is nothing at this address; /v1/openapi.json lists what there is"
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
        detail = f"{request.method} is not possible here; {headers['Allow']} is"
    return Problem(error.status_code, code, detail, headers=headers)


def _methods(request: Request) -> set[str]:
    """Every method that the request's address has, over all routes."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return found
