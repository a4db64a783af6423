"""Tokens of Tapis: given, from a function, by password, by a refresh token, or by a code that is typed in a browser.

A token is a JWT that is good for some hours (four, unless the tenant says otherwise). Only a client that the tenant
knows (``client_id`` and ``client_key``) gets a refresh token beside it; with a password alone one logs in again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from hpcjobs.errors import AuthenticationError, ConfigError, ServiceUnavailable
from hpcjobs.services.tokens import Getting, JwtAuth

HEADER = "X-Tapis-Token"

DEVICE_PAUSE = 5.0
"""Seconds between two questions whether the code was typed."""

DEVICE_PATIENCE = 900.0
"""Seconds for which the code is waited for at most."""

FOREIGN_JOB = ("JOBS_MISMATCHED_OWNER", "JOBS_MISMATCHED_TENANT")
"""What an answer with 401 names where the token is good, and the job another's."""


class TapisAuth(JwtAuth):
    """Signs requests with a token, and gets another one before it ends.

    Args:
        base_url: The tenant's address.
        token: The token, or what returns one.
        username: Who logs in, with ``password``.
        password: The password, or what asks for it.
        client_id: The client that is known to the tenant; needed for refresh tokens and for a code.
        client_key: Its key.
        refresh_token: One that there is already.
        login: ``"device"`` to log in by a code that is typed in a browser.
        show: Told what to do with that code.
        clock: Seconds since 1970.

    Raises:
        ConfigError: That is no way to log in.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[], str] | None = None,
        username: str | None = None,
        password: str | Callable[[], str] | None = None,
        client_id: str | None = None,
        client_key: str | None = None,
        refresh_token: str | None = None,
        login: str | None = None,
        show: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if login not in {None, "device"}:
            raise ConfigError(f'login is {login!r}; give login="device", or a username and a password')
        if (username is None) != (password is None):
            raise ConfigError("a username and a password go together; give both")
        if (login is not None or refresh_token is not None) and client_id is None:
            raise ConfigError("a code or a refresh token is of a client that the tenant knows; give client_id, too")
        self._url = base_url
        self._fetch = token if callable(token) else None
        self._username, self._password = username, password
        self._client_id, self._client_key = client_id, client_key
        self._refresh = refresh_token
        self._device = login == "device"
        self._show = show or _show
        ways = (self._fetch, password, refresh_token, login)
        super().__init__(
            token if isinstance(token, str) else None,
            renewable=any(way is not None for way in ways),
            where=base_url,
            advice="give a function that returns one (token=...), or username= and password=",
            clock=clock,
        )
        if self._token is None and not self.renewable:
            raise ConfigError(
                f'{base_url} wants a token: give token=, or username= and password=, or client_id= and login="device"'
            )

    def put(self, request: httpx.Request, token: str) -> None:
        """Put the token into a request; warns once where it ends soon and cannot be renewed."""
        request.headers[HEADER] = token
        self.used(token)

    def refused(self, response: httpx.Response) -> bool:
        """Whether an answer says that the token is no longer good, and not that a job is another's."""
        return response.status_code == 401 and not any(word in response.text for word in FOREIGN_JOB)

    def get(self) -> Getting:
        """Get a token in the way that needs a person least."""
        token = None
        if self._fetch is not None:
            token = yield self._fetch
        if token is None and self._refresh is not None:
            token = yield from self._by_refresh_token()
        if token is None and self._password is not None:
            token = yield from self._by_password()
        if token is None and self._device:
            token = yield from self._by_code()
        if token is None:
            raise AuthenticationError(f"{self._url} takes the refresh token no longer; log in again", status=401)
        return str(token)

    def _by_refresh_token(self) -> Any:
        response = yield self._tokens({"grant_type": "refresh_token", "refresh_token": self._refresh})
        if response.status_code in {400, 401, 403}:  # it is used up: perhaps there is another way
            self._refresh = None
            return None
        return self._taken(response, "the refresh token")

    def _by_password(self) -> Any:
        password = (yield self._password) if callable(self._password) else self._password
        response = yield self._tokens({"grant_type": "password", "username": self._username, "password": password})
        return self._taken(response, f"the password of {self._username}")

    def _by_code(self) -> Any:
        """Show a code, and wait until somebody has typed it."""
        response = yield self._post("/v3/oauth2/device/code", {"client_id": self._client_id})
        told = self._result(response, f"the client {self._client_id}")
        try:
            device, code, address = (str(told[name]) for name in ("device_code", "user_code", "verification_uri"))
        except KeyError as missing:
            raise AuthenticationError(f"{self._url} gave no {missing.args[0]} to log in by") from None
        self._show(f"hpcjobs: open {address} and type the code {code}")
        end = self._clock() + min(_number(told.get("expires_in")) or DEVICE_PATIENCE, DEVICE_PATIENCE)
        while True:
            response = yield self._tokens({"grant_type": "device_code", "device_code": device})
            if response.is_success or response.status_code >= 500 or self._clock() >= end:
                return self._taken(response, f"the code {code}")
            yield DEVICE_PAUSE

    def _tokens(self, body: Mapping[str, Any]) -> httpx.Request:
        return self._post("/v3/oauth2/tokens", {"client_id": self._client_id, **body} if self._client_id else body)

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        headers = {}
        if self._client_id is not None and self._client_key is not None:
            pair = base64.b64encode(f"{self._client_id}:{self._client_key}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        extensions = {"timeout": httpx.Timeout(30.0).as_dict()}  # such a request has none of the client's
        return httpx.Request("POST", self._url + path, json=dict(body), headers=headers, extensions=extensions)

    def _taken(self, response: httpx.Response, what: str) -> str:
        told = self._result(response, what)
        refresh = told.get("refresh_token")
        if isinstance(refresh, dict) and isinstance(refresh.get("refresh_token"), str):
            self._refresh = refresh["refresh_token"]
        access = told.get("access_token")
        token = access.get("access_token") if isinstance(access, dict) else None
        if not isinstance(token, str):
            raise AuthenticationError(f"{self._url} took {what} and gave no token", status=response.status_code)
        return token

    def _result(self, response: httpx.Response, what: str) -> dict[str, Any]:
        try:
            told = response.json()
        except ValueError:
            told = None
        if response.is_success and isinstance(told, dict) and isinstance(told.get("result"), dict):
            result: dict[str, Any] = told["result"]
            return result
        said = str(told.get("message") or "") if isinstance(told, dict) else response.text[:200]
        because = f": {' '.join(said.split())}" if said.strip() else ""
        status = response.status_code
        if status >= 500:
            raise ServiceUnavailable(f"{self._url} could not check {what} (status {status}){because}", status=status)
        raise AuthenticationError(f"{self._url} does not take {what} (status {status}){because}", status=status)


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _show(text: str) -> None:
    import sys

    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
