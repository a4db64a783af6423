"""Tokens of Slurm: a JWT, given, from a function, or from the environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import httpx

from hpcjobs.errors import ConfigError
from hpcjobs.hosts import local_user
from hpcjobs.services.slurm_answers import QUICK
from hpcjobs.services.tokens import Getting, JwtAuth, claims

VARIABLE = "SLURM_JWT"
"""The environment variable that ``scontrol token`` prints a token for."""

_SENT = "hpcjobs_sent"


class SlurmAuth(JwtAuth):
    """Signs requests with a token and a user's name.

    Args:
        token: The token, or what returns one; None for the environment's.
        username: Who is meant; None for whom the token names.
        where: The address, for people.
        clock: Seconds since 1970.
        timer: Seconds that only grow.

    Raises:
        ConfigError: There is no token.
    """

    statuses = frozenset({401, 500, 511})

    def __init__(
        self,
        token: str | Callable[[], str] | None,
        *,
        username: str | None,
        where: str,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if token is None:
            if not os.environ.get(VARIABLE):
                raise ConfigError(
                    f"{where} wants a token: give token= (or token_command or token_file in a profile), or set "
                    f"{VARIABLE}; on the cluster, scontrol token prints one"
                )
            token = _from_environment
        self._fetch = None if isinstance(token, str) else token
        self._username = username
        self._timer = timer
        super().__init__(
            bare(token) if isinstance(token, str) else None,
            renewable=self._fetch is not None,
            where=where,
            advice='give a function that returns one (token=...), or token_command in a profile: ["scontrol", "token"]',
            clock=clock,
        )

    @property
    def user(self) -> str:
        """Who is meant: who was named, else whom the token names, else who runs this program."""
        return self._username or _named(self._token) or local_user()

    @property
    def ended(self) -> bool:
        """Whether the token says itself that it is no longer good."""
        left = self.left(self._token)
        return left is not None and left <= 0

    def put(self, request: httpx.Request, token: str) -> None:
        """Put the token and the user's name into a request."""
        self.used(token)
        request.headers["X-SLURM-USER-NAME"] = self._username or _named(token) or local_user()
        request.headers["X-SLURM-USER-TOKEN"] = token
        request.extensions[_SENT] = self._timer()

    def refused(self, response: httpx.Response) -> bool:
        """Whether an answer says that the token is no longer good.

        The oldest version says it in words that may mean anything. A request that is answered so by a dead controller
        takes long, and one to submit is not sent again on such grounds: see ``SlurmService.submit``.
        """
        if response.status_code != 500:
            return True
        request = response.request
        if self._timer() - request.extensions.get(_SENT, 0.0) > QUICK or request.url.path.endswith("/job/submit"):
            return False
        return any(f'"error_number": {number},' in response.text for number in (-1, 5005))

    def get(self) -> Getting:
        """Call the function."""
        assert self._fetch is not None
        told: str = yield self._fetch
        return bare(told)


def bare(told: str) -> str:
    """A token without the name of the variable, as ``scontrol token`` prints it.

    Example:
        >>> bare("SLURM_JWT=e30.e30.c2ln")
        'e30.e30.c2ln'
    """
    return told.strip().removeprefix("export ").removeprefix(f"{VARIABLE}=").strip("'\"")


def _named(token: str | None) -> str | None:
    """Whom a token names."""
    told = claims(token or "")
    name = told.get("sun") or told.get("username")
    return name if isinstance(name, str) else None


def _from_environment() -> str:
    return os.environ.get(VARIABLE, "")
