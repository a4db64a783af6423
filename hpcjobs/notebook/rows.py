"""The rows of a table of jobs: which, in what order, and what they look like."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs import lines, markup
from hpcjobs.lifecycle import ACTIVE, JobState

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo

ALL, GOING, NOT_WELL = "all", "not ended", "not ended well"

SHOWN: Mapping[str, frozenset[JobState] | None] = {
    ALL: None,
    GOING: frozenset({*ACTIVE, JobState.UNKNOWN}),
    NOT_WELL: frozenset({JobState.FAILED, JobState.CANCELLED}),
    **{state.value: frozenset({state}) for state in JobState if state is not JobState.UNKNOWN},
}
"""What can be shown, by name."""


def _time(moment: dt.datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0


def _natural(name: str) -> list[tuple[int, str]]:
    """A name such that numbers in it count as such: ``fit[2]`` comes before ``fit[10]``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)]


SORTS: Mapping[str, Callable[[JobInfo], Any] | None] = {
    "as listed": None,
    "newest first": lambda info: -_time(info.created_at),
    "oldest first": lambda info: _time(info.created_at),
    "failed first": lambda info: (info.state is not JobState.FAILED, info.state is not JobState.CANCELLED),
    "state": lambda info: info.state,
    "name": lambda info: _natural(info.name or ""),
    "progress": lambda info: -((info.progress and info.progress.fraction) or 0.0),
    "longest": lambda info: -(run.total_seconds() if (run := info.run_time()) else 0.0),
}
"""What can be sorted by, by name."""


def chosen(infos: Iterable[JobInfo], shown: str, text: str) -> list[JobInfo]:
    """The jobs that are meant.

    Args:
        infos: The jobs.
        shown: A key of :data:`SHOWN`.
        text: What their name, a tag, their id or their reason must contain, in any case.
    """
    states, word = SHOWN[shown], text.strip().casefold()
    return [
        info
        for info in infos
        if (states is None or info.state in states)
        and (not word or any(word in part.casefold() for part in _words(info)))
    ]


def _words(info: JobInfo) -> list[str]:
    return [info.name or "", info.id, info.reason or "", *info.tags]


def sorted_by(infos: Iterable[JobInfo], how: str, order: Mapping[str, int]) -> list[JobInfo]:
    """The jobs in an order; among equals they stay as they were listed.

    Args:
        infos: The jobs.
        how: A key of :data:`SORTS`.
        order: The place of each id in the list.
    """
    listed = sorted(infos, key=lambda info: order.get(info.id, len(order)))
    key = SORTS[how]
    return listed if key is None else sorted(listed, key=key)


_PAST = {"cancelled", "cancel requested"}
"""Outcomes that the state of a cancelled job says already."""


def head(title: str, infos: Sequence[JobInfo], *, unknown: str = "") -> str:
    """The counts, with a bar; ``unknown`` says why it is not known which jobs there are."""
    name = f"<b>{markup.escaped(title)}</b>"
    if unknown or not infos:
        return f'<div role="status">{name}: {markup.escaped(unknown or lines.counts(infos))}</div>'
    ended = sum(info.terminal for info in infos)
    bar = markup.bar(ended / len(infos), f"{title} that have ended") if ended < len(infos) else ""
    return f'<div role="status">{name} {bar} {markup.escaped(lines.counts(infos))}</div>'


def row(info: JobInfo, outcome: str) -> str:
    """One job."""
    told = "" if info.state is JobState.CANCELLED and outcome in _PAST else outcome
    last = " · ".join(part for part in (lines.details(info), told) if part)
    parts = [
        _cell(markup.state(info), "0 0 8.5em"),
        _cell(f"{markup.bar_of(info)} {markup.escaped(last)}", "1 0 19em"),
        _cell(markup.identity(info) if info.name else "", "0 1 19em"),
    ]
    # as wide as there is room, whatever is in it
    style = "display:flex;align-items:center;white-space:nowrap;width:0;min-width:100%"
    return f'<div style="{style}">{"".join(parts)}</div>'


def _cell(inner: str, flex: str) -> str:
    """A part of a row; as wide as those above and below, so that they stand in columns."""
    style = f"flex:{flex};min-width:0;overflow:hidden;text-overflow:ellipsis"
    return f'<span style="{style}">{inner}</span>'
