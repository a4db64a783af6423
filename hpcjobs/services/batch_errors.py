"""Typed errors out of what AWS says where it says no."""

from __future__ import annotations

import json
import re
from typing import Any

from hpcjobs.errors import (
    AuthenticationError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServiceError,
    ServiceUnavailable,
)
from hpcjobs.protocol import Response, retry_after
from hpcjobs.services.answers import error_of, kind_of

NO_SUCH_OPERATION = frozenset({"UnknownOperationException", "UnknownOperation", "MissingAuthenticationTokenException"})
"""What an endpoint says to an operation that it has not (yet)."""

_THROTTLED = frozenset(
    {
        "TooManyRequestsException",
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestLimitExceeded",
        "LimitExceededException",
    }
)

_FAILED = frozenset({"ServerException", "ServiceUnavailableException", "InternalFailure", "InternalServerException"})

_WRONG_CREDENTIALS = {
    "ExpiredTokenException": "the session has ended; log in again, as by `aws sso login`",
    "ExpiredToken": "the session has ended; log in again, as by `aws sso login`",
    "UnrecognizedClientException": "AWS does not know the access key; see `aws configure list`",
    "InvalidClientTokenId": "AWS does not know the access key; see `aws configure list`",
    "InvalidSignatureException": "the secret key is wrong, or the clock of this computer is; see `aws configure list`",
    "SignatureDoesNotMatch": "the secret key is wrong, or the clock of this computer is; see `aws configure list`",
    "RequestTimeTooSkewed": "set the clock of this computer",
    "IncompleteSignature": "see `aws configure list`",
    "MissingAuthenticationToken": "see `aws configure list`",
    "AuthFailure": "see `aws configure list`",
}
"""Codes that say that it is not known who asks, and what to do."""

_XML = re.compile(r"<Code>([^<]*)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)


def batch_error(response: Response, *, method: str, url: str) -> ServiceError:
    """The typed error for an answer of AWS: by its code, then by its status.

    Example:
        >>> said = Response(429, {"x-amzn-errortype": "TooManyRequestsException"}, b'{"message": "Too Many Requests"}')
        >>> batch_error(said, method="POST", url="https://batch/v1/listjobs")
        RateLimited('Too Many Requests (TooManyRequestsException)')
    """
    code, message, body = _said(response)
    if not code and not message:
        return error_of(response, method=method, url=url)
    kind, advice = _kind(code, response.status)
    words = message or f"{method} {url} was answered with status {response.status}"
    text = f"{words} ({code})" if code and code not in words else words
    error = kind(f"{text.rstrip('.')}; {advice}" if advice else text, status=response.status, code=code, body=body)
    error.tries = response.tries
    error.retry_after = retry_after(response)
    error.may_have_acted = error.may_have_acted or response.lost
    return error


def error_with(code: str, message: str) -> ServiceError:
    """The typed error for one job of many, of which AWS says a code and a sentence."""
    kind, advice = _kind(code, 403 if code.startswith("AccessDenied") else 400)
    return kind(f"{message} ({code})" + (f"; {advice}" if advice else ""), code=code)


def _kind(code: str, status: int) -> tuple[type[ServiceError], str]:
    if status == 429 or code in _THROTTLED:
        return RateLimited, ""
    if code in _WRONG_CREDENTIALS:
        return AuthenticationError, _WRONG_CREDENTIALS[code]
    if code.startswith("AccessDenied") or status == 403:
        return PermissionDenied, "ask whoever looks after the AWS account for this permission (IAM)"
    if code in _FAILED or status >= 500:
        return ServiceUnavailable, ""
    if code == "ResourceNotFoundException" or status == 404:
        return NotFound, ""
    return (InvalidRequest if code else kind_of(status)), ""


def _said(response: Response) -> tuple[str, str, dict[str, Any]]:
    """The code, the sentence and the body of an answer that says no; empty where it is not AWS's."""
    code = response.headers.get("x-amzn-errortype", "")
    message = ""
    body: Any = None
    try:
        body = json.loads(response.content)
    except ValueError:
        if found := _XML.search(response.text()):
            code, message = code or found[1], found[2]
    if isinstance(body, dict):
        code = code or str(body.get("__type") or body.get("code") or body.get("Code") or "")
        message = str(body.get("message") or body.get("Message") or "")
    # "ClientException:http://internal..." and "com.amazonaws.batch#ClientException" both occur
    return code.partition(":")[0].rpartition("#")[2], message.strip(), body if isinstance(body, dict) else {}
