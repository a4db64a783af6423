"""Jobs as live text, where there are no widgets: one output that is replaced at every change, without buttons."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs import lines, markup, waiting
from hpcjobs.notebook.desk import desk_of
from hpcjobs.notebook.drawing import drawing

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo
    from hpcjobs.protocol import Op
    from hpcjobs.sessions import AsyncSession, Session
    from hpcjobs.watching import Subscriber


class PlainView:
    """Jobs as text and HTML that change.

    Args:
        session: The session of the client.
        infos: What is known of the jobs.
        load: Makes the operation that fetches them, where they are not known yet.
    """

    pause = 0.5

    def __init__(
        self,
        session: Session | AsyncSession,
        infos: Sequence[JobInfo] = (),
        *,
        load: Callable[[], Op[Any]] | None = None,
    ) -> None:
        self._session = session
        self._desk = desk_of(session)
        self._infos = {info.id: info for info in infos}
        self._load = load
        self._handle: Any = None
        self._last = ""
        self._remark = ""
        self._subscriber: Subscriber | None = None

    def show(self) -> None:
        """Show them in the cell that runs, and keep them up to date until all have ended."""
        if self._load is not None:
            self._infos = {info.id: info for info in self._desk.iterate(self._load())}
        self._replace()
        if self._infos and not self._ended:
            self._subscriber = self._desk.subscribe(dict(self._infos), lambda: drawing.mark(self))
            drawing.mark(self)

    @property
    def _ended(self) -> bool:
        return all(info.terminal for info in self._infos.values())

    def draw(self) -> float:
        """Draw what is known; returns seconds until time alone makes a difference."""
        subscriber = self._subscriber
        if subscriber is None:
            drawing.drop(self)
            return math.inf
        news = subscriber.take()
        for info in news.changed.values():
            self._infos[info.id] = waiting.merged(self._infos.get(info.id), info)
        for text in news.notices:
            self._remark = "" if text.startswith("connected again") else text
        if news.error is not None or news.vanished or self._ended:
            subscriber.close()
            self._subscriber = None
            self._remark = "" if self._ended else f"as of {dt.datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
            drawing.drop(self)
        self._replace()
        return 1.0 if len(self._infos) == 1 else 5.0

    def _replace(self) -> None:
        infos = list(self._infos.values())
        plain = lines.as_text(infos) if infos else "no jobs"
        if self._remark:
            plain += f"\n{self._remark}"
        if plain == self._last:
            return
        self._last = plain
        html = markup.as_html(infos, self._remark) if infos else markup.line_as_html("no jobs")
        bundle = {"text/plain": plain, "text/html": html}
        if self._handle is None:
            from IPython.display import display

            show: Any = display
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            with contextlib.suppress(Exception):  # the kernel is about to end
                self._handle.update(bundle, raw=True)


def show_plain(session: Any, infos: Sequence[JobInfo] = (), *, load: Callable[[], Op[Any]] | None = None) -> None:
    """Show jobs as live text in the cell that runs.

    Raises:
        HpcjobsError: They cannot be fetched.
    """
    PlainView(session, infos, load=load).show()
