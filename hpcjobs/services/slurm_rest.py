"""How slurmrestd is spoken to: its address, its version, its answers."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcjobs.errors import AuthenticationError, ConfigError, ServiceError, UnexpectedAnswer
from hpcjobs.hosts import local_user
from hpcjobs.protocol import Op, Request, Response, call
from hpcjobs.services.answers import json_of, unexpected
from hpcjobs.services.base import Service
from hpcjobs.services.repeating import patiently
from hpcjobs.services.slurm_answers import complaints, refused
from hpcjobs.services.slurm_login import SlurmAuth
from hpcjobs.services.slurm_memory import Listing, Memory
from hpcjobs.services.slurm_requests import Defaults
from hpcjobs.services.slurm_versions import KNOWN, NEWEST, OLDEST, TOO_OLD, Api, fixed

PORT = 6820
"""Where slurmrestd listens by default."""

FAILED_PAUSES = (1.0, 3.0)
"""Seconds before a look is repeated that failed in a way that may mean a dead token, or a controller that restarts."""


class SlurmRest(Service):
    """A slurmrestd at one address: what is said of it is said at :class:`hpcjobs.services.slurm.SlurmService`."""

    name = "Slurm"
    patience = 40.0  # with its controller down, slurmrestd takes 20 seconds to say so
    advice = f"check the address, and that slurmrestd runs there (at port {PORT} unless it is told otherwise)"

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        username: str | None = None,
        api: int | str | None = None,
        folder: str | None = None,
        account: str | None = None,
        partition: str | None = None,
        qos: str | None = None,
        min_poll: float | str | None = None,
    ) -> None:
        self.base_url, self.socket = _address(url)
        if min_poll is not None:
            try:
                seconds = float(min_poll)  # a text, where it stood in the address
            except ValueError:
                seconds = 0.0
            if not seconds > 0:
                raise ConfigError(f"min_poll is {min_poll}; give seconds, more than zero")
            self.capabilities = self.capabilities.model_copy(update={"min_poll": seconds})
        self._username = username
        if self.socket is None or token is not None:  # behind a socket one that lies about is not meant
            self.auth = SlurmAuth(token, username=username, where=url)
        if folder is None and self.socket is not None:
            folder = os.getcwd()  # noqa: PTH109 - as text
        self._said = {"folder": folder, "account": account, "partition": partition, "qos": qos}
        self._memory = Memory()
        self._listing: Listing | None = None
        self._changed = -math.inf
        """When this client last changed anything, by a clock that only grows."""
        self._accounting: bool | None = None
        self._fixed = fixed(api)
        self._api: Api | None = None
        if self._fixed is not None:
            self._settle(self._fixed)

    @property
    def user(self) -> str:
        """Whose jobs these are; behind a socket without a token they are slurmrestd's own, who made the socket."""
        if isinstance(self.auth, SlurmAuth):
            return self.auth.user
        return self._username or _owner(self.socket) or local_user()

    @property
    def defaults(self) -> Defaults:
        """What holds for every job that does not say otherwise."""
        return Defaults(user=self.user, **{name: value or "" for name, value in self._said.items()})

    # The version

    def served(self) -> Op[Api]:
        """The version that is spoken: the newest that is served and understood, found once.

        Raises:
            ConfigError: Only versions are served that are too old, or too new.
        """
        if self._api is not None:
            return self._api
        for number in KNOWN:
            if (yield from self._serves(Api(number))):
                self._settle(Api(number))
                return Api(number)
        for number in TOO_OLD:
            if (yield from self._serves(Api(number))):
                raise ConfigError(
                    f"{self.base_url} serves no newer version of its interface than {Api(number)}; v0.0.{OLDEST} is "
                    "needed, which Slurm 22.05 has: its operators can start slurmrestd with -s openapi/v0.0.38, "
                    "or update Slurm"
                )
        raise UnexpectedAnswer(
            f"{self.base_url} serves none of v0.0.{OLDEST} to v0.0.{NEWEST}: it is no slurmrestd, or a newer one than "
            f"this hpcjobs knows. {self.base_url}/openapi/v3 tells what is there",
            status=404,
        )

    def _serves(self, api: Api) -> Op[bool]:
        request = Request("GET", f"/slurm/{api}/ping")
        response = yield from call(request)
        if response.status == 404:
            return False
        if json_of(response) is None:
            raise self.error_of(request, response)
        return True  # whatever it says: that the controller is down, or the token dead, is told by the next request

    def _settle(self, api: Api) -> None:
        self._api = api
        if self.capabilities.retry != api.requeues:
            self.capabilities = self.capabilities.model_copy(update={"retry": api.requeues})

    # Asking

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        json: Any = None,
        repeatable: bool | None = None,
        strict: bool = True,
    ) -> Op[dict[str, Any]]:
        """What Slurm answers to a request; empty where nothing has changed (304).

        Args:
            method: The HTTP method.
            path: The path below the version.
            params: Query parameters.
            json: The body.
            repeatable: Whether sending it twice does no more than sending it once; None: as the method has it.
            strict: Whether a complaint beside a 200 is an error; a submit has notices there.

        Raises:
            ServiceError: What it refuses, typed.
            UnexpectedAnswer: That is no answer of slurmrestd.
        """
        return patiently(
            lambda: self._ask(Request(method, path, params=params, json=json, repeatable=repeatable), strict=strict),
            FAILED_PAUSES if method == "GET" else (),
            self._may_pass,
        )

    def _may_pass(self, error: ServiceError) -> bool:
        """Whether an error is one by which an old version says that a token is dead, and anything else as well."""
        dead = self._api.answers_for_a_dead_token if self._api is not None else ()
        return isinstance(error, AuthenticationError) and not self._ended and error.code in map(str, dead)

    def _ask(self, asked: Request, *, strict: bool) -> Op[dict[str, Any]]:
        """Ask once, of the version that is served; ``asked.path`` is the one below it."""
        while True:
            api = yield from self.served()
            request = dataclasses.replace(asked, path=f"/slurm/{api}/{asked.path}")
            began = time.monotonic()
            try:
                response = yield from call(request)
            finally:
                if request.method != "GET":  # also where the answer was lost: it may have been done
                    self._changed = time.monotonic()
            took = time.monotonic() - began
            body = json_of(response)
            if response.status == 404 and body is None and self._fixed is None and self._api is not None:
                # Slurm was updated meanwhile, and serves this version no longer: nothing was done
                self._api = None
                if (yield from self.served()) == api:
                    raise self._refused(request, response, took)
                continue
            if response.status == 304:
                return {}
            if response.ok and body is not None and not (strict and complaints(body)):
                self._note(body)
                return body
            raise self._refused(request, response, took)

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer: by its number, then by its status."""
        return self._refused(request, response, 0.0)

    def _refused(self, request: Request, response: Response, took: float) -> ServiceError:
        url = self.base_url + request.path
        if response.ok and json_of(response) is None:
            return unexpected(response, method=request.method, url=url)
        return refused(response, method=request.method, url=url, api=self._api, took=took, token_ended=self._ended)

    @property
    def _ended(self) -> bool:
        return isinstance(self.auth, SlurmAuth) and self.auth.ended

    def _note(self, body: Mapping[str, Any]) -> None:
        """Take note of whether there is an accounting, where the answer tells."""
        plugin = (body.get("meta") or {}).get("plugin") or {}
        if "accounting_storage" in plugin and self._accounting is None:
            self._accounting = "slurmdbd" in str(plugin["accounting_storage"])


def _owner(socket: str | None) -> str:
    """Who owns a socket; empty where that cannot be told."""
    try:
        return Path(socket or "").owner()
    except (OSError, KeyError, NotImplementedError):
        return ""


def _address(url: str) -> tuple[str, str | None]:
    """The base URL, and the unix socket, of an address.

    Raises:
        ConfigError: It is no address of a slurmrestd.

    Example:
        >>> _address("slurm+unix:///run/slurmrestd.sock"), _address("slurm://head")
        (('http://localhost', '/run/slurmrestd.sock'), ('http://head:6820', None))
    """
    rest = re.sub(r"^slurm(\+|(?=://))", "", url.strip())
    rest = f"http{rest}" if rest.startswith("://") else rest
    parts = urlsplit(rest)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return "http://localhost", parts.path
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{url!r} is no address of a slurmrestd; write slurm+http://host:{PORT}, slurm+https://host or "
            "slurm+unix:///path/to/socket"
        )
    plain = url.strip().startswith("slurm://") and parts.port is None
    return f"{parts.scheme}://{parts.netloc}{f':{PORT}' if plain else ''}{parts.path}".rstrip("/"), None
