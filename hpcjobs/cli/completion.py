"""What Tab offers for the values of options and arguments.

Nothing here may print, raise or take long: a person waits with a finger on the key.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from hpcjobs.lifecycle import JobState

COMPLETION_TIMEOUT = 1.0
"""Seconds that the service is given to name its jobs."""

GROUPS = {"active": "every state of a job that has not ended", "ended": "every state of a job that has ended"}
"""Words that stand for several states."""


def complete_state(incomplete: str) -> list[tuple[str, str]]:
    """The states, and the words for several of them."""
    states = [(state.value, "") for state in JobState if state is not JobState.UNKNOWN]
    choices = [*states, *GROUPS.items()]
    return [(word, text) for word, text in choices if word.lower().startswith(incomplete.lower())]


def complete_stream(incomplete: str) -> list[str]:
    """What a job writes to."""
    from hpcjobs.logs import STREAMS

    return [stream for stream in STREAMS if stream.startswith(incomplete)]


def complete_scope(incomplete: str) -> list[str]:
    """The scopes of a token."""
    from hpcjobs.models import Scope

    return [scope.value for scope in Scope if scope.value.startswith(incomplete)]


def complete_profile(incomplete: str) -> list[str]:
    """The names of the profiles."""
    with contextlib.suppress(Exception):
        from hpcjobs.profiles import list_profiles

        return [profile.name for profile in list_profiles() if profile.name.startswith(incomplete)]
    return []


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the newest jobs, with their states and names, where the service answers at once."""
    with contextlib.suppress(Exception):
        from itertools import islice

        from hpcjobs.cli.output import clean
        from hpcjobs.client import Client
        from hpcjobs.retrying import RetryPolicy

        said = {**ctx.find_root().params, **{name: value for name, value in ctx.params.items() if value}}
        with Client(
            said.get("profile"),
            url=said.get("url"),
            start=False,
            timeout=COMPLETION_TIMEOUT,
            retry=RetryPolicy(tries=1, deadline=COMPLETION_TIMEOUT),
        ) as client:
            return [
                (job.id, clean(f"{job.info.label} {job.info.name or ''}".strip()))
                for job in islice(client.jobs(limit=100), 100)
                if job.id.startswith(incomplete)
            ]
    return []


def complete_input(incomplete: str) -> list[str]:
    """Files for ``--input``, also behind ``NAME=``."""
    before, equals, start = incomplete.rpartition("=")
    folder, _, part = start.rpartition("/")
    base = Path(folder or ("/" if start.startswith("/") else "."))
    try:
        found = sorted(path for path in base.iterdir() if path.name.startswith(part))
    except OSError:
        return []
    shown = [f"{folder}/{path.name}" if "/" in start else path.name for path in found]
    return [f"{before}{equals}{text}{'/' if path.is_dir() else ''}" for text, path in zip(shown, found, strict=True)]
