"""What cards and tables share: a question before a cancel, one order at a time, what came of it, and an end.

Nothing but the drawing thread changes the widgets. A click only leaves a note of what was clicked and goes; what is
asked of the service is asked in a thread of its own; and the state that is shown is the service's word alone.
"""

from __future__ import annotations

import abc
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcjobs.notebook import faces
from hpcjobs.notebook.desk import desk_of
from hpcjobs.notebook.drawing import drawing

if TYPE_CHECKING:
    from hpcjobs.notebook.showing import Output
    from hpcjobs.sessions import AsyncSession, Session
    from hpcjobs.watching import News

KEEP = 120.0
"""Seconds for which what has ended keeps its buttons, after the end or the last click."""

CLOSED = "the client was closed; this is what was seen last"


shown: set[Board] = set()
"""Those that are alive."""


def close_all() -> None:
    """The kernel ends: leave HTML."""
    for board in list(shown):
        board.close()


class Board(abc.ABC):
    """Something that is shown, and can be clicked.

    Args:
        session: The session of the client.
    """

    pause: float
    output: Output

    def __init__(self, session: Session | AsyncSession) -> None:
        self._session = session  # a client lives as long as what is shown of it
        self._desk = desk_of(session)
        self._lock = threading.Lock()
        self._asking = False
        self._busy = ""
        self._said, self._bad = "", False
        self._outage = ""
        self._ended_at = math.inf
        self._over = False

    def draw(self) -> float:
        """Draw what is known: see :class:`hpcjobs.notebook.drawing.View`."""
        if self._over:  # what came too late has marked it once more
            drawing.drop(self)
            return math.inf
        return self._draw()

    def close(self) -> None:
        """Put HTML in the place of the widgets; may be called twice."""
        with self._lock:
            if self._over:
                return
            self._over = True
        shown.discard(self)
        self._leave()
        drawing.drop(self)
        self.output.freeze(*self._static())

    @abc.abstractmethod
    def of(self, session: object, ids: list[str]) -> bool:
        """Whether it shows these jobs of this client."""

    @abc.abstractmethod
    def _draw(self) -> float: ...

    @abc.abstractmethod
    def _leave(self) -> None:
        """Listen no longer."""

    @abc.abstractmethod
    def _static(self) -> tuple[str, str]:
        """What stands in the widgets' place, as HTML and as text."""

    # -- what is told in other threads ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        drawing.mark(self)

    def _tell(self, text: str, *, bad: bool = False) -> None:
        """An order has been carried out, or not."""
        with self._lock:
            self._said, self._bad, self._busy = text, bad, ""
            if self._ended_at != math.inf:
                self._ended_at = time.monotonic()
        drawing.mark(self, now=True)

    def _failed(self, text: str) -> None:
        self._tell(text, bad=True)

    # -- clicks --------------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask whether it is meant."""
        self._asking, self._said = True, ""
        drawing.mark(self, now=True)

    def _ask_no(self) -> None:
        self._asking = False
        drawing.mark(self, now=True)

    def _begin(self, what: str) -> bool:
        """Take an order; False where another one is under way."""
        with self._lock:
            if self._busy or self._over:
                return False
            self._busy, self._said, self._asking = what, "", False
        drawing.mark(self, now=True)
        return True

    def _carry_out(self, what: str, work: Callable[[], object]) -> None:
        """Do what was clicked, unless another order is under way; ``what`` says so meanwhile."""
        if self._begin(what):
            self._desk.order(work, self._failed)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _hear_of_the_connection(self, news: News) -> bool:
        """Take note of what news say of the connection; False where there will be no more."""
        if news.away is not None:
            self._outage = news.notices[-1] if news.away else ""
        if news.error is not None:
            self._outage = f"no news any more: {str(news.error).splitlines()[0]}"
        return news.error is None

    def _notes(self, said: str) -> str:
        """What is to be said below the buttons; ``said`` where nothing is under way."""
        note = faces.note(self._outage, bad=True) if self._outage else ""
        return note + (faces.note(f"{self._busy} …") if self._busy else faces.note(said, bad=self._bad))

    def _rest(self, now: float) -> float:
        """Keep the buttons for a while after the end, and close then; returns as :meth:`draw` does."""
        left = KEEP - (now - self._ended_at)
        if left <= 0 and not self._busy:
            self.close()
            return math.inf
        return max(0.1, left)
