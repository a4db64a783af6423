"""One daemon thread that draws whatever is shown in the notebook, so that no drawing meets another one.

Whoever has news of a view marks it and goes on; the thread draws it as soon as it may, never more often than the view
wants, and always once more after the last mark. Views that only count seconds share a budget of redraws.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Protocol

logger = logging.getLogger("hpcjobs")

IDLE = 10.0
"""Seconds without a view after which the thread ends."""

QUIET = 20.0
"""Redraws a second, of all views together, that only move clocks on."""


class View(Protocol):
    """Something that is drawn."""

    pause: float
    """Seconds between two drawings, at least."""

    def draw(self) -> float:
        """Draw what is known now; called in the drawing thread only.

        Returns:
            Seconds after which it wants to be drawn again although nothing is new; infinity for never.
        """
        ...


class _Place:
    """What is known of one view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.marked = True
        self.drawn = -math.inf
        self.again = math.inf
        self.marks = 0
        self.seen = 0

    @property
    def due(self) -> float:
        return self.drawn + self.view.pause if self.marked else self.again


class Drawing:
    """The thread and its views."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: dict[int, _Place] = {}
        self._thread: threading.Thread | None = None

    def mark(self, view: View, *, now: bool = False) -> int:
        """A view has news, or is new; may be called anywhere, and waits for nothing.

        Args:
            view: The view.
            now: Whether it is drawn at once, because a person has clicked.

        Returns:
            A number for :meth:`drawn`.
        """
        with self._changed:
            place = self._places.get(id(view))
            if place is None:
                place = self._places[id(view)] = _Place(view)
            place.marked = True
            place.marks += 1
            if now:
                place.drawn = -math.inf
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hpcjobs-drawing", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return place.marks

    def drop(self, view: View) -> None:
        """A view is drawn no longer."""
        with self._changed:
            self._places.pop(id(view), None)
            self._changed.notify_all()

    def drawn(self, view: View, mark: int, timeout: float) -> bool:
        """Wait until the view was drawn with what was new at a mark.

        Args:
            view: The view.
            mark: What :meth:`mark` returned.
            timeout: Seconds.

        Returns:
            Whether it was.
        """
        if threading.current_thread() is self._thread:
            return False
        with self._changed:
            return self._changed.wait_for(
                lambda: (place := self._places.get(id(view))) is None or place.seen >= mark, timeout
            )

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                place = min(self._places.values(), key=lambda one: one.due, default=None)
                if place is None:
                    if now - idle_since >= IDLE:
                        self._thread = None
                        return
                    self._changed.wait(IDLE)
                    continue
                idle_since = now
                if place.due > now:
                    self._changed.wait(min(place.due - now, 60.0))
                    continue
                place.marked = False
                marks = place.marks
                quiet = len(self._places) / QUIET
            try:
                tick = place.view.draw()
            except Exception:  # a view that cannot be drawn must not keep others from it
                logger.debug("a view cannot be drawn", exc_info=True)
                tick = math.inf
            with self._changed:
                place.drawn = time.monotonic()
                place.again = place.drawn + max(tick, quiet)
                place.seen = marks
                self._changed.notify_all()


drawing = Drawing()
"""The one of this process."""
