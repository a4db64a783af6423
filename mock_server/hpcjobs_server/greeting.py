"""What is printed when the service runs: where a browser finds it, and some facts."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hpcjobs._version import __version__

_LIFE = 86_400
"""Seconds for which the address that is printed lets somebody in."""


def greeting(url: str, token: Path, facts: Mapping[str, str], *, pretty: bool) -> str:
    """What is printed when the service runs.

    Args:
        url: The address.
        token: The file that holds the token.
        facts: The facts by name.
        pretty: Whether this goes to a terminal.
    """

    def style(text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if pretty else text

    page = page_url(url, token)
    where = f"log in with the token in {token}"
    if page is not None:
        where = "that address lets one browser in; for another: hpcjobs page"
    told = {"page": where, **facts}
    wide = max(map(len, told), default=0) + 2
    lines = [f"  {style(name.ljust(wide), '2')}{text}" for name, text in told.items()]
    head = style(f"hpcjobs {__version__} runs at", "1")
    return "\n".join([head, "", f"    {style(page or url, '36')}", "", *lines, ""])


def page_url(url: str, token: Path, *, timeout: float = 10.0) -> str | None:
    """An address of the job page that lets a browser in once, as Jupyter's does.

    Args:
        url: The service.
        token: The file that holds the token with which it is asked for.
        timeout: Seconds.

    Returns:
        The address; None where the service does not give one.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    with contextlib.closing(connection):
        try:
            headers = {
                "Authorization": f"Bearer {token.read_text(encoding='utf-8').strip()}",
                "Content-Type": "application/json",
            }
            connection.request("POST", "/v1/logins", json.dumps({"expires_in": _LIFE}), headers)
            answer = connection.getresponse()
            path = json.load(answer).get("path") if answer.status == http.HTTPStatus.CREATED else None
        except (OSError, ValueError, http.client.HTTPException):
            return None
    return f"{url}{path}" if isinstance(path, str) else None
