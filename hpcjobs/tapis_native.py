"""What Tapis itself answers: where a service is Tapis, its own words are handed on and not made up anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcjobs.errors import UnexpectedAnswer
from hpcjobs.protocol import Op, Request, call

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.services.base import Service


def look(client: Client, path: str, params: Mapping[str, Any]) -> Any:
    """What a GET is answered.

    Args:
        client: A client of a tenant.
        path: Which, below ``/v3/jobs``.
        params: The query; what is None is left out, a list is written with commas.

    Raises:
        HpcjobsError: What Tapis refuses.
    """
    told = [
        (word, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
        for word, value in params.items()
        if value is not None
    ]
    return _run(client, Request("GET", f"/v3/jobs/{path}", params=told))


def act(client: Client, path: str, *, repeatable: bool) -> Any:
    """What a POST without a body is answered.

    Args:
        client: A client of a tenant.
        path: Which, below ``/v3/jobs``.
        repeatable: Whether it may be sent again where the answer is lost.

    Raises:
        HpcjobsError: What Tapis refuses.
    """
    return _run(client, Request("POST", f"/v3/jobs/{path}", repeatable=repeatable))


def _run(client: Client, request: Request) -> Any:
    return client._session.run(_result(client.service, request))  # noqa: SLF001 - they are of one piece


def _result(service: Service, request: Request) -> Op[Any]:
    response = yield from call(request)
    if not response.ok:
        raise service.error_of(request, response)
    try:
        return json.loads(response.content)["result"]
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswer(
            f"{request.method} {service.base_url}{request.path} was not answered as Tapis does: no result",
            status=response.status,
        ) from None
