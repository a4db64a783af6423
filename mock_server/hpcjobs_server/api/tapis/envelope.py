"""What every answer of the Tapis API is put in, and how it says no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from hpcjobs._version import __version__
from hpcjobs_server.problems import Problem

if TYPE_CHECKING:
    from starlette.types import Scope

PREFIX = "/v3/"

_CODES = {
    "no_token": "TAPIS_SECURITY_MISSING_JWT_INFO", "jwt_parse": "TAPIS_SECURITY_JWT_PARSE_ERROR",
    "bad_token": "TAPIS_SECURITY_JWT_INVALID", "expired_token": "TAPIS_SECURITY_JWT_EXPIRED",
    "scope": "TAPIS_SECURITY_FORBIDDEN", "invalid": "NET_INVALID_INPUT",
    "media_type": "NET_REQUEST_PAYLOAD_ERROR", "too_large": "NET_REQUEST_PAYLOAD_ERROR",
    "job_not_found": "JOBS_JOB_NOT_FOUND", "file_not_found": "FILES_PATH_NOT_FOUND", "range": "FILES_RANGE_ERROR",
    "database": "TAPIS_DB_CONNECTION_ERROR",
}  # fmt: skip
"""What the server's own problems are called here."""


class TapisProblem(Problem):
    """An answer of the Tapis API that says no.

    Args:
        status: The HTTP status.
        code: Tapis's code, which the message begins with.
        detail: A sentence that says what is wrong, what is allowed and what to do.
        result: What stands under ``result``.
    """

    def __init__(self, status: int, code: str, detail: str, *, result: Any = None) -> None:
        self.result = result
        super().__init__(status, code, detail)


def envelope(
    result: Any, message: str, *, status: int = 200, metadata: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer: what was asked for, in the envelope that all of Tapis's answers have.

    Args:
        result: What was asked for.
        message: Begins with a code.
        status: The HTTP status.
        metadata: Of a list: how many there are.
        headers: Further headers.
    """
    body = {
        "result": result,
        "status": "success" if status < 400 else "error",
        "message": message,
        "version": __version__,
        "commit": "hpcjobs",
        "build": "hpcjobs",
        "metadata": metadata,
    }
    return Response(json.dumps(body), status_code=status, headers=headers, media_type="application/json")


def refusal(problem: Problem, scope: Scope) -> Response | None:
    """A problem in an envelope; None where something else was asked for."""
    if not scope["path"].startswith(PREFIX):
        return None
    code = _CODES.get(problem.code) or (
        problem.code if isinstance(problem, TapisProblem) else f"TAPIS_{problem.code.upper()}"
    )
    result = problem.result if isinstance(problem, TapisProblem) else None
    # Tapis knows no 415 and no 422
    status = 400 if problem.status in {415, 422} else problem.status
    return envelope(result, f"{code} {problem.detail}", status=status, headers=problem.headers)


def bad_request(code: str, detail: str) -> TapisProblem:
    """400."""
    return TapisProblem(400, code, detail)
