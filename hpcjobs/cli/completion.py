"""What Tab offers for the values of options and arguments.

Nothing here may print, raise or take long: a person waits with a finger on the key.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hpcjobs.lifecycle import GROUPS, JobState
from hpcjobs.texts import ENDINGS

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.models import JobInfo

COMPLETION_TIMEOUT = 1.0
"""Seconds that the service is given to name its jobs."""


def complete_state(incomplete: str) -> list[tuple[str, str]]:
    """The states, and the words for several of them."""
    states = [(state.value, "") for state in JobState if state is not JobState.UNKNOWN]
    choices = [*states, *((word, f"jobs that are {word}") for word in GROUPS)]
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
    """The ids of the newest jobs and of their arrays, with states and names, where the service answers at once."""
    found: dict[str, str] = {}
    for job in _newest_jobs(ctx):
        if job.array_id is not None:
            found.setdefault(job.array_id, f"array {(job.name or '').partition('[')[0]}".strip())
        found[job.id] = f"{job.label} {job.name or ''}".strip()
    return _described(found, incomplete)


def complete_after(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What a job may wait for; behind an id and a colon: how it must have ended."""
    before, colon, start = incomplete.rpartition(":")
    if not colon:
        return complete_job(ctx, incomplete)
    return [(f"{before}:{word}", text) for word, text in ENDINGS.items() if word.startswith(start)]


def complete_tag(ctx: typer.Context, incomplete: str) -> list[str]:
    """The tags of the newest jobs."""
    tags = dict.fromkeys(tag for job in _newest_jobs(ctx) for tag in job.tags)
    return [tag for tag in tags if tag.startswith(incomplete) and tag.isprintable()]


def complete_queue(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The queues of the service, where it answers at once."""
    with contextlib.suppress(Exception), _client(ctx) as client:
        return _described({queue.name: "paused" if queue.paused else "" for queue in client.queues()}, incomplete)
    return []


def _newest_jobs(ctx: typer.Context) -> list[JobInfo]:
    with contextlib.suppress(Exception), _client(ctx) as client:
        return [job.info for job in client.jobs(limit=100)]
    return []


def _described(found: dict[str, str], incomplete: str) -> list[tuple[str, str]]:
    from hpcjobs.cli.output import clean

    return [(word, clean(text)) for word, text in found.items() if word.startswith(incomplete)]


def _client(ctx: typer.Context) -> Client:
    """A client of the service that the words before say, which gives up soon and starts nothing."""
    from hpcjobs.client import Client
    from hpcjobs.retrying import RetryPolicy

    said = {**ctx.find_root().params, **{name: value for name, value in ctx.params.items() if value}}
    return Client(
        said.get("profile"),
        url=said.get("url"),
        start=False,
        timeout=COMPLETION_TIMEOUT,
        retry=RetryPolicy(tries=1, deadline=COMPLETION_TIMEOUT),
    )


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
