"""Reads slurmrestd's answers, and says which error is which: by its number, then by the status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcjobs.errors import (
    AuthenticationError,
    Conflict,
    InvalidRequest,
    JobNotFound,
    PermissionDenied,
    ServiceError,
    ServiceUnavailable,
)
from hpcjobs.protocol import Response, retry_after
from hpcjobs.services.answers import error_of as described
from hpcjobs.services.answers import json_of, kind_of
from hpcjobs.services.slurm_versions import Api

NO_SUCH_JOB = 2017
ENDED = 2021
NOT_NOW = 2020
BUSY = 11
NO_CONTACT = 1800
"""The controller could not be reached: nothing was sent to it."""

QUICK = 5.0
"""Seconds: where the controller is down, an answer takes nine at least."""

_KINDS: Mapping[int, type[ServiceError]] = {
    NO_SUCH_JOB: JobNotFound,
    1007: AuthenticationError,
    2002: PermissionDenied,
    ENDED: Conflict,
    2084: Conflict,
    BUSY: ServiceUnavailable,
    NOT_NOW: ServiceUnavailable,
    **dict.fromkeys(range(1800, 1810), ServiceUnavailable),
}

_ADVICE = {
    2000: "give queue= one of the cluster's partitions (sinfo lists them)",
    2014: "ask for less, or for another partition by queue=",
    2015: "ask for less, or for another partition by queue=",
    2038: "give after= jobs that the cluster still knows",
    2045: 'give options={"account": ...} one that you may charge',
    2066: 'give options={"qos": ...} one that you may use',
    2072: "ask for what the nodes have (sinfo -o %G lists it)",
    2081: "the cluster's MaxArraySize limits arrays (1001 unless its operators say otherwise)",
    2123: "only operators raise a job above others; give priority= zero or less",
}
"""What to do about errors that are a user's to mend."""


def complaints(body: Mapping[str, Any]) -> list[tuple[int | None, str]]:
    """The errors that a body tells of, each with its number; 0 is none."""
    found = []
    for item in body.get("errors") or ():
        number = item.get("error_number", item.get("error_code"))
        words = [str(item[name]) for name in ("error", "description") if item.get(name)]
        if number != 0:
            found.append((number if isinstance(number, int) else None, ": ".join(dict.fromkeys(words))))
    return found


def notices(body: Mapping[str, Any]) -> list[str]:
    """What a body remarks beside a success: the oldest version has it among the errors."""
    told = [str(item.get("description") or "") for item in body.get("warnings") or ()]
    told += [text for _, text in complaints(body)]
    return list(dict.fromkeys(filter(None, told)))


def refused(
    response: Response, *, method: str, url: str, api: Api | None, took: float, token_ended: bool = False
) -> ServiceError:
    """The typed error for an answer that is not what was asked for.

    Args:
        response: The answer.
        method: What was asked.
        url: Where.
        api: The version.
        took: Seconds until the answer came: an old version says the same of a dead token and of a dead controller.
        token_ended: Whether the token says itself that it is no longer good.
    """
    body = json_of(response)
    found = complaints(body) if body is not None else []
    if not found:
        return _plain(response, method, url)
    number = _telling([number for number, _ in found if number is not None])
    doubtful = api is not None and number in api.answers_for_a_dead_token
    text = "; ".join(dict.fromkeys(text for _, text in found if text)) or f"status {response.status}"
    kind: type[ServiceError]
    if doubtful and (token_ended or took < QUICK):
        kind = AuthenticationError
    elif number is not None and number in _KINDS:
        kind = _KINDS[number]
    elif number is None or number in range(2000, 3000) or number in range(9000, 10000) or number == 22:
        kind = InvalidRequest
    elif method == "DELETE" and number == 1:  # "Operation not permitted" is what a dead controller looks like here
        kind = ServiceUnavailable
    else:
        kind = kind_of(response.status) if response.status >= 400 else InvalidRequest
    if kind is AuthenticationError:
        text = f"Slurm does not take the token ({text}); get another one: scontrol token"
    elif doubtful and number == -1:
        text = f"Slurm's controller does not answer ({text})"
        kind = ServiceUnavailable
    elif number is not None and number in _ADVICE:
        text = f"{text}; {_ADVICE[number]}"
    error = kind(text, status=response.status, code="" if number is None else str(number), body=body)
    if number in {NO_CONTACT, NOT_NOW}:
        error.may_have_acted = False
    return _dressed(error, response)


def _telling(numbers: list[int]) -> int | None:
    """The number that says most: not the general ones that stand beside it."""
    for number in numbers:
        if number not in {-1, 9001, 9000}:
            return number
    return numbers[0] if numbers else None


def _plain(response: Response, method: str, url: str) -> ServiceError:
    """An answer in plain text, or one that is not slurmrestd's."""
    words = " ".join(response.text().split())
    kind = response.headers.get("content-type", "")
    if response.status in {400, 401, 405, 415, 422} and words and "html" not in kind:
        made = kind_of(response.status)(words[:200], status=response.status)
        if response.status == 401:
            made = AuthenticationError(
                f"slurmrestd says {words[:200]!r}: it wants a token, or for a unix socket its own user", status=401
            )
        return _dressed(made, response)
    return described(response, method=method, url=url)


def _dressed(error: ServiceError, response: Response) -> ServiceError:
    error.tries = response.tries
    error.retry_after = retry_after(response)
    error.may_have_acted = error.may_have_acted or response.lost
    return error
