"""Jobs as live text, where there are no widgets: one output that is replaced at every change, without buttons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs import waiting
from hpcjobs.live import NotebookText
from hpcjobs.notebook.desk import desk_of
from hpcjobs.notebook.drawing import drawing

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo
    from hpcjobs.protocol import Op
    from hpcjobs.sessions import AsyncSession, Session
    from hpcjobs.watching import Subscriber


class PlainView:
    """What a wait shows without widgets, of jobs for which nobody waits.

    Args:
        session: The session of the client.
        infos: What is known of the jobs.
        load: Makes the operation that fetches them, where they are not known yet.
    """

    pause = NotebookText.PAUSE

    def __init__(
        self,
        session: Session | AsyncSession,
        infos: Sequence[JobInfo] = (),
        *,
        load: Callable[[], Op[Any]] | None = None,
    ) -> None:
        self._session = session  # a client lives as long as what is shown of it
        self._desk = desk_of(session)
        self._infos = {info.id: info for info in infos}
        self._load = load
        self._text = NotebookText()
        self._subscriber: Subscriber | None = None

    def show(self) -> None:
        """Show them in the cell that runs, and keep them up to date until all have ended.

        Raises:
            HpcjobsError: They cannot be fetched.
        """
        if self._load is not None:
            self._infos = {info.id: info for info in self._desk.iterate(self._load())}
        self._text.show(list(self._infos.values()))
        if not self._ended:
            self._subscriber = self._desk.subscribe(dict(self._infos), lambda: drawing.mark(self))
            drawing.mark(self)

    @property
    def _ended(self) -> bool:
        return all(info.terminal for info in self._infos.values())

    def draw(self) -> float:
        """Draw what is known: see :class:`hpcjobs.notebook.drawing.View`."""
        if self._subscriber is None:
            drawing.drop(self)
            return math.inf
        news = self._subscriber.take()
        for info in news.changed.values():
            self._infos[info.id] = waiting.merged(self._infos.get(info.id), info)
        for text in news.notices:
            self._text.notice(text)
        infos = list(self._infos.values())
        if news.error is None and not news.vanished and not self._ended:
            self._text.show(infos)
            return 1.0 if len(infos) == 1 else 5.0
        self._subscriber.close()
        self._subscriber = None
        self._text.close(infos)
        drawing.drop(self)
        return math.inf


def show_plain(session: Any, infos: Sequence[JobInfo] = (), *, load: Callable[[], Op[Any]] | None = None) -> None:
    """Show jobs as live text in the cell that runs.

    Raises:
        HpcjobsError: They cannot be fetched.
    """
    PlainView(session, infos, load=load).show()
