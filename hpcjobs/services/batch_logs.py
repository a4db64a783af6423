"""Logs of AWS Batch: the events of a stream of CloudWatch Logs, as the bytes of a file.

Each event is a line. A stream has no offsets; it is read from its head, page by page, and each page gives a token from
which the next one goes on. Where which token stands is remembered, so that a look at the end of a log, or the next
piece of it, costs one or two requests and not the whole log.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from hpcjobs.errors import InvalidRequest, NotFound
from hpcjobs.protocol import Op

AHEAD = 16
"""Most pages (of 1 MB) that are read beyond what was asked for, to learn how long a log is."""

MORE = 1 << 62
"""The length of a log whose end was not seen: more than was read."""

PAGES = 100_000
"""Most pages that are read at once: a log that grows as fast as it is read has no end."""

SPACING = 1 << 18
"""Bytes between two tokens that are remembered, at least."""

STREAMS = 500
"""Most logs of which tokens are remembered."""

Place = tuple[str, str]
"""A log: the names of its group and its stream."""


class Logs:
    """Reads logs by byte offset.

    Args:
        ask: Asks for a page of events: what ``GetLogEvents`` answers to this.
    """

    def __init__(self, ask: Callable[[Mapping[str, Any]], Op[dict[str, Any]]]) -> None:
        self._ask = ask
        self._marks: OrderedDict[Place, list[tuple[int, str | None]]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, place: Place, offset: int, length: int | None) -> Op[tuple[bytes, int]]:
        """The bytes from ``offset`` on, and how long the log is; :data:`MORE` where its end is far off."""
        end = MORE if length is None else offset + length
        data = bytearray()
        ahead = 0
        at, token = self._mark_before(place, offset)
        for _ in range(PAGES):
            found = yield from self._page(place, token)
            if found is None:
                at, token = 0, None
                data.clear()
                continue
            page, following = found
            data += page[max(0, offset - at) : max(0, end - at)]
            at += len(page)
            if following == token:
                return bytes(data), at
            token = following
            self._remember(place, at, token)
            if at >= end:
                ahead += 1
                if ahead > AHEAD:
                    return bytes(data), MORE
        return bytes(data), at

    def tail(self, place: Place, size: int) -> Op[tuple[bytes, int]]:
        """The last ``size`` bytes, and how long the log is."""
        at, token = self._mark_before(place, max(0, self._known_end(place) - size))
        data = bytearray()
        for _ in range(PAGES):
            found = yield from self._page(place, token)
            if found is None:
                at, token = 0, None
                data.clear()
                continue
            page, following = found
            data += page
            del data[: max(0, len(data) - size)]
            at += len(page)
            if following == token:
                break
            token = following
            self._remember(place, at, token)
        return bytes(data), at

    def _page(self, place: Place, token: str | None) -> Op[tuple[bytes, str | None] | None]:
        """The bytes of one page, and the token for the next one: the same one at the end.

        None where ``token`` is no longer good, as they are after a day.
        """
        group, stream = place
        body: dict[str, Any] = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        if token is not None:
            body["nextToken"] = token
        try:
            answer = yield from self._ask(body)
        except NotFound:  # nothing was written yet
            return b"", token
        except InvalidRequest:
            if token is None:
                raise
            with self._lock:
                self._marks.pop(place, None)
            return None
        lines = [str(event.get("message", "")) for event in answer.get("events") or []]
        following = answer.get("nextForwardToken")
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"), str(following) if following else token

    def _mark_before(self, place: Place, offset: int) -> tuple[int, str | None]:
        with self._lock:
            marks = self._marks.get(place, [])
            number = bisect.bisect_right([at for at, _ in marks], offset)
            return marks[number - 1] if number else (0, None)

    def _known_end(self, place: Place) -> int:
        with self._lock:
            marks = self._marks.get(place)
            return marks[-1][0] if marks else 0

    def _remember(self, place: Place, at: int, token: str | None) -> None:
        with self._lock:
            marks = self._marks.setdefault(place, [])
            self._marks.move_to_end(place)
            while len(self._marks) > STREAMS:
                self._marks.popitem(last=False)
            if marks and at <= marks[-1][0]:
                if at == marks[-1][0]:
                    marks[-1] = (at, token)
                return
            before = marks[-2][0] if len(marks) > 1 else 0
            if marks and marks[-1][0] - before < SPACING:
                marks.pop()
            marks.append((at, token))
