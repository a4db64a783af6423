"""Jobs in the style of tapipy, over any service: ``t.jobs.submitJob(...)``, ``t.jobs.cancelJob(jobUuid=...)``.

A script that was written for tapipy runs when the line that makes ``t`` is changed. What differs is meant: a keyword
that does not exist is an error and is not dropped, ``jobId=`` is taken where training pages write it, every request has
a timeout, a submission makes one job, and a cancel says what happened.

Example:
    >>> import hpcjobs
    >>> t = hpcjobs.tapis_style.connect()  # doctest: +SKIP
    >>> job = t.jobs.submitJob(name="hello", appId="hello", appVersion="1.0")  # doctest: +SKIP
    >>> t.jobs.getJobStatus(jobUuid=job.uuid).status  # doctest: +SKIP
    'RUNNING'
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpcjobs import errors
from hpcjobs.tapis_style.calls import Jobs
from hpcjobs.wording import near

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcjobs.client import Client
    from hpcjobs.profiles import Token
    from hpcjobs.retrying import RetryPolicy

__all__ = [
    "BadRequestError",
    "BaseTapyException",
    "ForbiddenError",
    "InternalServerError",
    "InvalidInputError",
    "Jobs",
    "NotFoundError",
    "ServiceUnavailableError",
    "Tapis",
    "UnauthorizedError",
    "connect",
]

BaseTapyException = errors.HpcjobsError
"""tapipy's names for the errors that are raised here, so that a script's ``except`` needs one changed import."""
InvalidInputError = errors.InvalidSpec
BadRequestError = errors.InvalidRequest
UnauthorizedError = errors.AuthenticationError
ForbiddenError = errors.PermissionDenied
NotFoundError = errors.NotFound
ServiceUnavailableError = errors.ServiceUnavailable
InternalServerError = errors.ServiceUnavailable

_LOGIN = ("username", "password", "client_id", "client_key", "refresh_token", "login")
"""The words of a login that are handed to the service."""

_MEANINGLESS = frozenset(
    {
        "account_type", "custom_spec_dict", "debug_prints", "download_latest_specs", "is_tapis_service", "plugins",
        "resource_dicts", "resource_set", "site_id", "spec_dir", "tenant_id", "tenants", "x_tenant_id", "x_username",
    }
)  # fmt: skip
"""Words of tapipy's constructor that are not needed here."""

_OTHERS = frozenset(
    {
        "actors", "apps", "authenticator", "files", "globus_proxy", "meta", "notifications", "pgrest", "pods", "sk",
        "streams", "systems", "tenants", "tokens", "workflows",
    }
)  # fmt: skip
"""What tapipy has beside the jobs."""


class Tapis:
    """A connection whose ``jobs`` has tapipy's methods; ``connect`` is another name for it.

    Which service: said as for :class:`hpcjobs.Client`, or in tapipy's words, or by a client that there is already.

    Args:
        profile_or_url: A profile of the config file, or an address; None for the usual.
        client: A client to use; it stays yours to close.
        url: The service's address.
        token: The token, or a function that returns one.
        base_url: As for tapipy, the address of a tenant of Tapis: ``"https://designsafe.tapis.io"``.
        access_token: As for tapipy, the token.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.
        quiet: Whether a cancel prints nothing; else it tells a person, in a notebook or on a terminal, what happened.
        **more: ``username=`` and ``password=``, and what else a service is logged in by. tapipy's ``tenant_id=`` and
            words that concern tapipy itself are taken and not needed.

    Attributes:
        client: The :class:`hpcjobs.Client` below it, for all that tapipy has no word for.
        jobs: The methods.

    Raises:
        ConfigError: What is given cannot be used, or is said twice.
        NoService: There is no service, and none can be started.

    Example:
        >>> import getpass, hpcjobs
        >>> t = hpcjobs.tapis_style.connect(  # doctest: +SKIP
        ...     base_url="https://designsafe.tapis.io", username="me", password=getpass.getpass()
        ... )
    """

    def __init__(
        self,
        profile_or_url: str | None = None,
        *,
        client: Client | None = None,
        url: str | None = None,
        token: Token = None,
        base_url: str | None = None,
        access_token: Any = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        start: bool = True,
        quiet: bool = False,
        **more: Any,
    ) -> None:
        options = _options(more)
        told = {"profile_or_url": profile_or_url, "url": url, "base_url": base_url, "client": client}
        ways = [word for word, value in told.items() if value is not None]
        if len(ways) > 1:
            raise errors.ConfigError(f"{' and '.join(ways)} are given, and each says which service is meant; give one")
        if token is not None and access_token is not None:
            raise errors.ConfigError("token and access_token are given, and mean the same; give one")
        self._own = client is None
        if client is None:
            from hpcjobs.client import Client

            client = Client(
                profile_or_url,
                url=_address(base_url) if base_url is not None else url,
                token=token if token is not None else _token(access_token),
                timeout=timeout,
                retry=retry,
                start=start,
                **options,
            )
        elif options or token is not None or access_token is not None:
            raise errors.ConfigError("a client is given, which has logged in by itself; give nothing to log in by")
        self.client = client
        self.jobs = Jobs(client, quiet=quiet)

    @property
    def base_url(self) -> str:
        """The service's address."""
        return self.client.service.base_url

    def get_tokens(self) -> None:
        """Do nothing: a token is got when it is needed, and again when it ends."""

    refresh_user_tokens = get_tokens

    def close(self) -> None:
        """Close the connections; those of a client that was given stay open. The jobs go on."""
        if self._own:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} style over {self.client!r}>"

    def __getattr__(self, name: str) -> Any:
        if name in _OTHERS:
            raise AttributeError(
                f"hpcjobs does jobs only, t.jobs; for t.{name} use tapipy, in an environment of its own"
            )
        names = [word for word in (*dir(type(self)), "client", "jobs") if not word.startswith("_")]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; {near(name, names)}")


connect = Tapis
"""Make a ``t``: ``t = hpcjobs.tapis_style.connect()``."""


def _options(more: Mapping[str, Any]) -> dict[str, Any]:
    """What the service is logged in by.

    Raises:
        ConfigError: A word is not known; names the nearest one.
    """
    strange = [word for word in more if word not in _LOGIN and word not in _MEANINGLESS]
    if strange:
        known = ("client", "url", "token", "base_url", "access_token", "timeout", "retry", "start", "quiet", *_LOGIN)
        told = "; ".join(
            f"{word}: there is no such argument; {near(word, [*known, *_MEANINGLESS])}" for word in strange
        )
        raise errors.ConfigError(told)
    return {word: more[word] for word in _LOGIN if more.get(word) is not None}


def _address(base_url: str) -> str:
    """The address of a tenant, as a service of Tapis.

    Example:
        >>> _address("https://designsafe.tapis.io/")
        'tapis+https://designsafe.tapis.io'
    """
    address = base_url.rstrip("/").removesuffix("/v3")
    if "://" not in address:
        address = f"https://{address}"
    return address if address.startswith("tapis+") else f"tapis+{address}"


def _token(access_token: Any) -> Any:
    """The token; tapipy's own object has the text within it."""
    return getattr(access_token, "access_token", access_token)
