"""The services, and how one is found by its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from hpcjobs.errors import ConfigError

if TYPE_CHECKING:
    from hpcjobs.services.base import Service

__all__ = ["ENTRY_POINTS", "find_service"]

ENTRY_POINTS = "hpcjobs.services"
"""The entry point group in which other packages offer services: the name is the URL's scheme (before a ``+``)."""


def find_service(
    url: str, *, token: str | Callable[[], str] | None = None, options: Mapping[str, Any] | None = None
) -> Service:
    """The service at ``url``.

    Args:
        url: ``http(s)://host[:port][/path]`` is the reference server, ``?token=...`` at its end is understood; other
            schemes (``NAME://`` or ``NAME+https://``) are looked up among the installed services, and what stands
            behind a question mark are options: ``slurm+http://head:6820?folder=/scratch/me``.
        token: The token, or what returns one: called again when the service says that the token is no longer good.
        options: The service's own keys of a profile: given to it as keyword arguments.

    Raises:
        ConfigError: The address makes no sense, no installed service has its scheme, or it does not know an option.

    Example:
        >>> find_service("http://127.0.0.1:8765").name
        'reference server'
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not an address: {error}; write http://host:port or https://host") from None
    scheme = parts.scheme.lower()
    if scheme in {"http", "https"}:
        if not host:
            raise ConfigError(f"{url!r} names no host; write http://host:port or https://host")
        if parts.username or parts.password:
            raise ConfigError(f"the address of {host} has a user or a password in it; give a token instead")
        from hpcjobs.services.reference import ReferenceService

        told = parse_qs(parts.query).get("token")
        if token is None and told:
            token = told[0]
        return _made(ReferenceService, f"{scheme}://{parts.netloc}{parts.path}", token, options)
    named = dict(parse_qsl(parts.query))
    secret = named.pop("token", None)
    token = secret if token is None else token
    return _made(_from_entry_points(url, scheme), url.partition("?")[0], token, {**named, **(options or {})})


def _made(
    kind: Callable[..., Service],
    url: str,
    token: str | Callable[[], str] | None,
    options: Mapping[str, Any] | None,
) -> Service:
    """The service with its options, which are the keyword arguments that it has beside ``token``."""
    if options:
        import inspect

        known = inspect.signature(kind).parameters.values()
        allowed = {parameter.name for parameter in known if parameter.kind is parameter.KEYWORD_ONLY}
        unknown = ", ".join(repr(key) for key in sorted(options.keys() - allowed))
        if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
            raise ConfigError(
                f"the service at {url} has no option {unknown}; it has {', '.join(sorted(allowed))}, "
                "and in a profile also service, token_command, token_file, url"
            )
    return kind(url, token=token, **(options or {}))


def _from_entry_points(url: str, scheme: str) -> Callable[..., Service]:
    from importlib.metadata import entry_points  # costs as much as a request: only when it is needed

    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    point = offered.get(scheme) or offered.get(scheme.partition("+")[0])
    if point is None or not scheme or "://" not in url:
        known = ", ".join(["http://", "https://", *sorted(f"{name}://" for name in offered if name != "reference")])
        hint = f"; did you mean http://{url}?" if "://" not in url else ""
        raise ConfigError(f"no service is known for {url!r}; an address starts with {known}{hint}")
    kind: Callable[..., Service] = point.load()
    return kind
