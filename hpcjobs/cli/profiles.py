"""``hpcjobs profiles``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from hpcjobs.cli.settings import PLAIN, Command, Settings

if TYPE_CHECKING:
    from hpcjobs.profiles import Profile, Target

EXAMPLES = """\
Examples:
  hpcjobs profiles
  hpcjobs profiles --json | jq -r .active.url
"""

app = typer.Typer(**PLAIN)


@app.command("profiles", cls=Command, epilog=EXAMPLES)
def profiles(ctx: typer.Context) -> None:
    """List the profiles, and say which is used and why.

    Tokens are never shown, only where they come from.
    """
    from hpcjobs.cli import output
    from hpcjobs.errors import ConfigError, NoService
    from hpcjobs.profiles import config_path, list_profiles, resolve, split_token

    settings = Settings.of(ctx)
    known = list_profiles()
    target: Target | None = None
    try:
        target = resolve(settings.profile, url=settings.url, start=False)
        why = _why(settings, target)
    except (NoService, ConfigError) as error:
        why = str(error)
    rows: list[dict[str, Any]] = [
        {
            "name": profile.name,
            "url": split_token(profile.address)[0],
            "token": _token_place(profile),
            "default": profile.default,
            "active": target is not None and target.profile == profile.name,
        }
        for profile in known
    ]
    if settings.json:
        active = {"profile": target.profile, "url": target.url} if target else {"profile": None, "url": None}
        output.json_document({"file": str(config_path()), "active": {**active, "why": why}, "profiles": rows})
        return
    if rows:
        output.print_table(
            ["USED", "NAME", "TOKEN", "URL"],
            [["*" if row["active"] else "", row["name"], row["token"], row["url"]] for row in rows],
        )
    else:
        print(output.clean(f"There are no profiles in {config_path()}; write one with: hpcjobs login URL"))
    print(output.clean(f"Used: {target.profile or target.url}, because {why}." if target else f"Used: none; {why}"))


def _why(settings: Settings, target: Target) -> str:
    """Why this service is the one."""
    if settings.url is not None or (settings.profile is not None and "://" in settings.profile):
        return "the command line gives its address"
    if settings.profile is not None:
        return "--profile names it"
    if target.profile is None:
        if target.origin == "HPCJOBS_URL":
            return "HPCJOBS_URL is set"
        return f"no profile is the default and this service runs here (data in {target.origin})"
    return "HPCJOBS_PROFILE is set" if os.environ.get("HPCJOBS_PROFILE") else "it is the default profile"


def _token_place(profile: Profile) -> str:
    """Where a profile's token comes from, in a word."""
    from hpcjobs.profiles import split_token

    if profile.token is not None or split_token(profile.address)[1] is not None:
        return "kept"
    if profile.token_file is not None:
        return "file"
    return "command" if profile.token_command is not None else "none"
