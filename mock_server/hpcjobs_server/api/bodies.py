"""Reads what a request asks, and writes models as answers.

Bodies are validated from their bytes and answers are written by the models themselves: nothing is parsed or checked
twice on the way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import problems_of
from hpcjobs_server.context import context_of
from hpcjobs_server.problems import Problem, invalid, too_large

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, *, optional: bool = False) -> bytes:
    """The JSON body of a request, not parsed yet.

    Args:
        request: The request.
        optional: Whether it may be left out; then it is ``{}``.

    Raises:
        Problem: 413 for one that is too large, 415 for one that does not say that it is JSON.
    """
    limit = context_of(request).settings.max_body_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large(limit, "the body")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large(limit, "the body")
        parts.append(part)
    body = b"".join(parts)
    if optional and not body:
        return b"{}"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        told = f"not {kind}" if kind else "and the request does not say what it is"
        raise Problem(415, "media_type", f"send JSON with 'Content-Type: application/json', {told}")
    return body


async def read_model(request: Request, model: type[M], *, optional: bool = False) -> M:
    """The body of a request as a model.

    Raises:
        Problem: 413 or 415 as :func:`read_json` has it, 422 for fields that cannot be used.
    """
    body = await read_json(request, optional=optional)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid(problems_of(error, model.model_fields)) from None
    except (ValueError, OverflowError):  # a number that is too large for what it is turned into
        raise invalid([("", "a value is out of range")]) from None


def read_query(request: Request, model: type[M], *, many: Collection[str] = ()) -> M:
    """The query of a request as a model.

    Args:
        request: The request.
        model: What it must be.
        many: The fields that may be given several times.

    Raises:
        Problem: 422 for fields that cannot be used.
    """
    fields: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in many:
            fields.setdefault(name, []).append(text)
        elif name in fields:
            raise invalid([(name, "is given more than once")])
        else:
            fields[name] = text
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(problems_of(error, model.model_fields)) from None


def answer(
    model: BaseModel, status: int = 200, *, exclude: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A model as JSON."""
    return Response(
        model.model_dump_json(exclude=exclude), status_code=status, headers=headers, media_type="application/json"
    )
