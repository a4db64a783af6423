"""Reads answers: models out of good ones, typed errors out of bad ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hpcjobs.errors import (
    AuthenticationError,
    Conflict,
    InvalidRequest,
    JobNotFound,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServiceError,
    ServiceUnavailable,
    StaleVersion,
    TooLarge,
    UnexpectedAnswer,
)
from hpcjobs.protocol import Response, retry_after

M = TypeVar("M", bound=BaseModel)

_BY_STATUS: Mapping[int, type[ServiceError]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    405: InvalidRequest,
    408: ServiceUnavailable,
    409: Conflict,
    412: StaleVersion,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}

# What a proxy in front of the service may say for it in a page of its own: the status is meant, the page is not.
_SAID_BY_PROXIES = frozenset({401, 403, 407, 408, 413, 429})

_SHOWN = 80


def parse(model: type[M], response: Response, *, method: str, url: str) -> M:
    """Read the body of a good answer.

    Raises:
        UnexpectedAnswer: It is not the JSON that was expected.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise unexpected(response, method=method, url=url, why=f"{where}: {first['msg']}" if where else "") from None


def error_of(response: Response, *, method: str, url: str) -> ServiceError:
    """The typed error for an answer that is not what was asked for."""
    problem = json_of(response)
    error: ServiceError
    if problem is None:
        error = _without_words(response, method=method, url=url)
    else:
        status = response.status
        code = str(problem.get("code") or "")
        kind = kind_of(status)
        if code in {"job_not_found", "is_array"}:
            kind = JobNotFound
        error = kind(_sentence(problem, response), status=status, code=code, body=problem)
    error.tries = response.tries
    error.retry_after = retry_after(response)
    if response.lost:
        error.may_have_acted = True
    return error


def kind_of(status: int) -> type[ServiceError]:
    """The error that a status stands for.

    Example:
        >>> kind_of(409).__name__, kind_of(507).__name__
        ('Conflict', 'ServiceUnavailable')
    """
    return _BY_STATUS.get(status) or (ServiceUnavailable if status >= 500 else ServiceError)


def unexpected(response: Response, *, method: str, url: str, why: str = "") -> UnexpectedAnswer:
    """The error for an answer that is not in the service's language: says where it came from and what it may be."""
    return UnexpectedAnswer(_describe(response, method, url, why), status=response.status)


def json_of(response: Response) -> dict[str, Any] | None:
    """The body of an answer, where that is an object in JSON, and says so."""
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        body = json.loads(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _sentence(problem: Mapping[str, Any], response: Response) -> str:
    detail = problem.get("detail")
    text = str(detail if isinstance(detail, str) and detail else problem.get("title") or f"status {response.status}")
    items = problem.get("errors")
    fields = [
        f"{item.get('field')}: {item.get('message')}" if item.get("field") else str(item.get("message"))
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("message")
    ]
    missing = [line for line in fields if line not in text]
    return f"{text.rstrip('.')}: {'; '.join(missing)}" if missing else text


def _without_words(response: Response, *, method: str, url: str) -> ServiceError:
    status = response.status
    if method == "HEAD" and status in _BY_STATUS:  # never has a body
        return _BY_STATUS[status](f"{method} {url} was answered with status {status}", status=status)
    if status >= 500 or status in _SAID_BY_PROXIES:
        kind = _BY_STATUS.get(status, ServiceUnavailable if status >= 500 else PermissionDenied)
        return kind(_describe(response, method, url, ""), status=status)
    return unexpected(response, method=method, url=url)


def _describe(response: Response, method: str, url: str, why: str) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0].strip() or "no content type"
    words = " ".join(response.text()[:1000].split())
    shown = f", which begins {words[:_SHOWN]!r}" if words else ", which is empty"
    because = f" ({why})" if why else ""
    text = f"{method} {url} was answered with status {response.status} and {kind}{shown}{because}. "
    if 300 <= response.status < 400 and (location := response.headers.get("location")):
        return f"{text}The address moved to {location}; use that one"
    if kind == "text/html":
        return f"{text}That is a web page: a proxy or a login page answers, or the address is not that of the service"
    if response.status >= 500:
        return f"{text}The service, or a proxy in front of it, has failed; try again later"
    return f"{text}The address is probably not that of the service, or the service is of another version"
