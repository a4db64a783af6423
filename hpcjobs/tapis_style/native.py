"""What Tapis itself answers: where a service is Tapis, its own words are handed on and not made up anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hpcjobs.protocol import Op, Request, call

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.services.tapis import TapisService


def look(client: Client, path: str, params: Mapping[str, Any]) -> Any:
    """What a GET is answered.

    Args:
        client: A client of a tenant.
        path: Which, below ``/v3/jobs``.
        params: The query; what is None is left out, a list is written with commas.

    Raises:
        HpcjobsError: What Tapis refuses.
    """
    return _ask(client, Request("GET", f"/v3/jobs/{path}", params=_query(params)))


def act(client: Client, path: str, *, repeatable: bool) -> Any:
    """What a POST without a body is answered.

    Args:
        client: A client of a tenant.
        path: Which, below ``/v3/jobs``.
        repeatable: Whether it may be sent again where the answer is lost.

    Raises:
        HpcjobsError: What Tapis refuses.
    """
    return _ask(client, Request("POST", f"/v3/jobs/{path}", repeatable=repeatable))


def fetch(client: Client, path: str, params: Mapping[str, Any]) -> bytes:
    """The bytes that a GET is answered with.

    Args:
        client: A client of a tenant.
        path: Which, below ``/v3/jobs``.
        params: The query; what is None is left out.

    Raises:
        HpcjobsError: What Tapis refuses.
    """
    service, request = client.service, Request("GET", f"/v3/jobs/{path}", params=_query(params))

    def op() -> Op[bytes]:
        response = yield from call(request)
        if not response.ok:
            raise service.error_of(request, response)
        return response.content

    return client._session.run(op())  # noqa: SLF001 - they are of one piece


def _ask(client: Client, request: Request) -> Any:
    return client._session.run(cast("TapisService", client.service).ask(request))  # noqa: SLF001 - the same


def _query(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (word, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
        for word, value in params.items()
        if value is not None
    ]
