"""A job's files as its page lists them.

A page is looked at anew with each step that its job tells of, and a job may have a hundred thousand files: a list that
took long is good for a while, so that a service does little else but list for nobody.
"""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio.to_thread

from hpcjobs.models import OutputFile
from hpcjobs_server.files import TooManyFiles, look_below

if TYPE_CHECKING:
    from hpcjobs_server.context import Context
    from hpcjobs_server.store import Place

MOST = 200
"""Files that are listed; the others are counted."""

_QUICK = 0.02
"""Seconds: a list that took no longer is made anew each time."""
_SHARE = 20
"""A list is good for so many times as long as it took."""
_MOST_KEPT = 100


@dataclasses.dataclass(frozen=True)
class Files:
    """The first of a job's files, and how many there are.

    Attributes:
        items: The files, each with its address within the page, in which whatever it is called is quoted.
        total: How many there are.
        unnamed: Those that cannot be fetched by their names, each with why.
        more_unnamed: How many more of them there are.
        too_many: Whether there are too many to list them.
    """

    items: list[tuple[OutputFile, str]] = dataclasses.field(default_factory=list)
    total: int = 0
    unnamed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    more_unnamed: int = 0
    too_many: bool = False


_Key = tuple[str, tuple[str, ...], str]


class Lists:
    """Lists jobs' files."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, tuple[float, Files]] = OrderedDict()

    async def of(self, context: Context, place: Place) -> Files:
        """The files of a job's present attempt; none before it has started."""
        folder = context.folder(place)
        if not folder:
            return Files()
        # one that has ended is listed anew: what it wrote last is what is looked for
        key = (str(context.settings.data), folder, place.state.value)
        until, kept = self._kept.get(key, (0.0, None))
        if kept is not None and time.monotonic() < until:
            return kept
        began = time.monotonic()
        files = await anyio.to_thread.run_sync(_look, context, place, folder)
        ended = time.monotonic()
        self._kept.pop(key, None)
        if ended - began > _QUICK:
            self._kept[key] = (ended + _SHARE * (ended - began), files)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return files


def _look(context: Context, place: Place, folder: tuple[str, ...]) -> Files:
    try:
        found = look_below(context.settings.data, (*folder, "work"))
    except TooManyFiles:
        return Files(too_many=True)
    base = f"v1/jobs/{place.job_id}/files/"
    return Files(
        [(file, base + quote(file.path, safe="/")) for file in found.files[:MOST]],
        len(found.files),
        found.unnamed[:MOST],
        max(len(found.unnamed) - MOST, 0),
    )
