"""``hpcjobs login``."""

from __future__ import annotations

import os
import sys
import urllib.parse
from typing import TYPE_CHECKING, Annotated

import typer

from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.models import ServiceInfo

EXAMPLES = """\
Examples:
  hpcjobs login https://jobs.example.edu --profile campus
  pass show campus | hpcjobs login --profile campus --token -
"""

DEFAULT_NAME = "default"
"""The profile that is written where none is named."""

app = typer.Typer(**PLAIN)


@app.command("login", cls=Command, epilog=EXAMPLES)
def login(
    ctx: typer.Context,
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help="The service's address; without it, that of the profile if there is one, else HPCJOBS_URL.",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="-|TEXT",
            help="The token; - reads it from stdin. Without it you are asked, and it is not shown.",
        ),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Use this profile where nothing else is said, from now on.")
    ] = False,
) -> None:
    """Check a token with a service and keep both in a profile.

    The profile is named with --profile NAME. Nothing is kept if the service does not accept the token.
    """
    from hpcjobs.cli import output
    from hpcjobs.hosts import is_loopback
    from hpcjobs.profiles import save_profile, split_token

    settings = Settings.of(ctx)
    name = settings.profile or DEFAULT_NAME
    url, inside = split_token(_address(address or settings.url, name))
    secret = _token(token, inside, url)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.rpartition("+")[2] == "http" and not is_loopback(parts.hostname or ""):
        output.error_line(f"warning: {url} is not encrypted; anyone on the way can read the token")
    info = _check(url, secret)
    where = save_profile(name, url=url, token=secret, default=True if default else None)
    if settings.json:
        told = {"owner": info.owner, "scope": info.scope.value, "version": info.version} if info else {}
        output.json_document({"profile": name, "url": url, "file": str(where), **told})
        return
    if info is None:
        print(output.clean(f"The profile {name!r} is kept in {where}; the token was not checked."))
    else:
        print(output.clean(f"{url} knows you as {info.owner}, with the scope {info.scope.value}."))
        print(output.clean(f"The profile {name!r} is kept in {where}."))


def _address(given: str | None, name: str) -> str:
    from hpcjobs.profiles import list_profiles

    if given:
        return given if "://" in given else f"https://{given}"
    for profile in list_profiles():
        if profile.name == name:
            return profile.address
    if known := os.environ.get("HPCJOBS_URL"):
        return known
    raise typer.BadParameter(f"there is no profile {name!r} yet, so the service's address is needed: hpcjobs login URL")


def _token(given: str | None, inside: str | None, url: str) -> str:
    """The token: the one given, one line of stdin, the one inside the address, or what is typed."""
    if given == "-":
        secret = sys.stdin.readline()
    elif given is not None:
        secret = given
    elif inside is not None:
        secret = inside
    elif sys.stdin.isatty():
        secret = typer.prompt(f"Token for {url} (not shown)", hide_input=True, err=True)
    else:
        raise typer.BadParameter("there is no terminal to ask for the token on; pass --token - and write it to stdin")
    if not secret.strip():
        raise typer.BadParameter("the token is empty")
    return secret.strip()


def _check(url: str, token: str) -> ServiceInfo | None:
    """What the service says to the token; None where it cannot say anything."""
    from hpcjobs.client import Client
    from hpcjobs.errors import Unsupported

    with Client(url=url, token=token, start=False) as client:
        try:
            return client.info()
        except Unsupported:
            return None
