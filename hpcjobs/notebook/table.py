"""Many jobs as one view: counts, a page of rows, and buttons that act on those that are selected.

Only the page that is seen has widgets; five thousand jobs cost no more than twenty. As with a card, nothing but the
drawing thread changes the widgets.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs import lines, markup, operations, waiting
from hpcjobs.lifecycle import JobState
from hpcjobs.models import MAX_REASON
from hpcjobs.notebook import faces, parts, rows
from hpcjobs.notebook.boards import CLOSED, Board, shown
from hpcjobs.notebook.card import CAPTION
from hpcjobs.notebook.drawing import drawing
from hpcjobs.notebook.showing import Output, in_order

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo
    from hpcjobs.protocol import Op
    from hpcjobs.sessions import AsyncSession, Session
    from hpcjobs.watching import Subscriber

AT_ONCE = 0.5
"""Seconds for which a list of jobs is waited for before it is shown without them."""

PAGE = 20
"""Rows on a page."""

MOST = 10_000
"""Jobs that one view has at most."""


class JobTable(Board):
    """A live table.

    Args:
        session: The session of the client.
        infos: What is known of the jobs, in the order in which they are shown first.
        title: What they are.
        load: Makes the operation that fetches the jobs, where they are not known yet.
    """

    pause = 1.0

    def __init__(
        self,
        session: Session | AsyncSession,
        infos: Sequence[JobInfo] = (),
        *,
        title: str = "jobs",
        load: Callable[[], Op[Any]] | None = None,
    ) -> None:
        super().__init__(session)
        self._title = title
        self._load = load
        self._infos = {info.id: info for info in infos}
        self._order = {job_id: number for number, job_id in enumerate(self._infos)}
        self._unknown = "" if load is None else "looking …"
        """Why it is not known which jobs there are."""
        self._loaded = threading.Event()
        self._selected: set[str] = set()
        self._outcomes: dict[str, str] = {}
        self._page = 0
        self._captioned, self._captioned_counts = 0.0, ""
        self._kept = False
        self._subscribers: list[Subscriber] = []
        self._make_widgets()
        self.output = Output(self.widget)
        for row in self._rows:  # those that are not on the first page, too
            in_order(row)

    def _make_widgets(self) -> None:
        import ipywidgets as widgets

        plain = widgets.Layout(width="auto", margin="0")
        self._head = widgets.HTML(layout=plain)
        self._filter = widgets.Text(
            placeholder="name, tag, id or reason",
            description="Filter",
            layout={"width": "20em"},
            style={"description_width": "auto"},
        )
        self._state = widgets.Dropdown(
            options=list(rows.SHOWN), description="Show", layout={"width": "14em"}, style={"description_width": "auto"}
        )
        self._sort = widgets.Dropdown(
            options=list(rows.SORTS), description="Sort", layout={"width": "14em"}, style={"description_width": "auto"}
        )
        for control in (self._filter, self._state, self._sort):
            control.observe(lambda _: self._turn(0), "value")
        row_layout = widgets.Layout(margin="0", align_items="center", overflow="hidden")
        check_layout = widgets.Layout(width="12em", flex="none", margin="0", overflow="hidden")
        cell_layout = widgets.Layout(width="auto", flex="1 1 auto", min_width="0", margin="0", overflow="hidden")
        check_style = {"description_width": "0"}
        self._checks = [
            widgets.Checkbox(indent=False, layout=check_layout, style=check_style, description="") for _ in range(PAGE)
        ]
        self._cells = [widgets.HTML(layout=cell_layout) for _ in range(PAGE)]
        self._row_ids: list[str | None] = [None] * PAGE
        for number, check in enumerate(self._checks):
            check.observe(lambda change, number=number: self._checked(number, change["new"]), "value")
        self._rows = [
            widgets.HBox([check, row], layout=row_layout) for check, row in zip(self._checks, self._cells, strict=True)
        ]
        self._grid = widgets.VBox([], layout=widgets.Layout(margin="4px 0"))
        self._before = parts.button("◀ Previous", lambda: self._turn(self._page - 1))
        self._after = parts.button("Next ▶", lambda: self._turn(self._page + 1))
        self._where = widgets.HTML(layout=widgets.Layout(margin="4px 8px 0 0"))
        self._all = parts.button("Select all", self._select_all)
        self._none = parts.button("Select none", self._select_none)
        self._cancel = parts.button("Cancel selected", self._ask)
        self._retry = parts.button("Run failed again", self._retry_failed)
        self._reason = parts.reason()
        self._yes = parts.button("Yes", self._cancel_selected, "danger", hidden=True)
        self._no = parts.button("Keep them", self._ask_no, hidden=True)
        self._note = widgets.HTML(layout=plain)
        self.widget = widgets.VBox(
            [
                self._head,
                widgets.HBox([self._filter, self._state, self._sort], layout=parts.LINE),
                self._grid,
                widgets.HBox([self._before, self._where, self._after, self._all, self._none], layout=parts.LINE),
                widgets.HBox([self._cancel, self._reason, self._yes, self._no, self._retry], layout=parts.LINE),
                self._note,
            ],
            layout={**parts.BOX, "max_width": "72em"},
        )

    # -- the beginning and the end -------------------------------------------------------------------------------------

    def of(self, session: object, ids: list[str]) -> bool:
        """Whether it is a view of these jobs of this client."""
        return self._session is session and ids == list(self._infos)

    def show(self) -> None:
        """Show it in the cell that runs, and keep it up to date."""
        if self._load is not None:
            self._desk.order(self._fetch, self._failed)
            self._loaded.wait(AT_ONCE)
        self._draw_widgets()
        self.output.show(*self._static(), *self._caption())
        self._captioned, self._captioned_counts = time.monotonic(), self._counted()
        if self._load is None:
            self._listen(self._infos)
        drawing.mark(self)
        shown.add(self)

    def _fetch(self) -> None:
        assert self._load is not None
        found: dict[str, JobInfo] = {}
        unknown = "not known"  # unless all goes well
        try:
            for info in self._desk.iterate(self._load()):
                found[info.id] = info
                if len(found) == MOST:
                    self._said = f"the newest {MOST:,} are shown"
                    break
            unknown = ""
        finally:
            with self._lock:
                self._infos = found
                self._order = {job_id: number for number, job_id in enumerate(found)}
                self._unknown = unknown
            self._loaded.set()
            if self.output.shown:
                drawing.mark(self, now=True)
        self._listen(found)

    def _listen(self, infos: dict[str, JobInfo]) -> None:
        if not infos:
            return
        subscriber = self._desk.subscribe(dict(infos), self._wake)
        if subscriber is None:
            self._outage = CLOSED
        else:
            self._subscribers.append(subscriber)

    def settle(self, infos: Sequence[JobInfo], timeout: float = 1.0) -> None:
        """Show what a wait has learnt, before the cell goes on."""
        with self._lock:
            for info in infos:
                if info.id in self._infos:
                    self._infos[info.id] = waiting.merged(self._infos[info.id], info)
        drawing.drawn(self, drawing.mark(self, now=True), timeout)

    def _leave(self) -> None:
        for subscriber in self._subscribers:
            subscriber.close()

    def _static(self) -> tuple[str, str]:
        infos = list(self._infos.values())
        if not infos:
            text = f"{self._title}: {self._counted()}"
            return faces.note(text), text
        remark = "" if all(info.terminal for info in infos) else self._caption()[1]
        return markup.as_html(infos, remark), lines.as_text(infos)

    def _caption(self) -> tuple[str, str]:
        text = f"seen {dt.datetime.now().astimezone():%Y-%m-%d %H:%M:%S}: {self._counted()}"
        return faces.note(text), text

    def _counted(self) -> str:
        return self._unknown or lines.counts(list(self._infos.values()))

    # -- clicks --------------------------------------------------------------------------------------------------------

    def _turn(self, page: int) -> None:
        self._page = max(0, page)
        drawing.mark(self, now=True)

    def _checked(self, number: int, yes: bool) -> None:
        job_id = self._row_ids[number]
        if job_id is None or yes == (job_id in self._selected):  # drawn, and not clicked
            return
        with self._lock:
            (self._selected.add if yes else self._selected.discard)(job_id)
        drawing.mark(self, now=True)

    def _select_all(self) -> None:
        with self._lock:
            self._selected = {info.id for info in self._matching()}
        drawing.mark(self, now=True)

    def _select_none(self) -> None:
        with self._lock:
            self._selected = set()
        drawing.mark(self, now=True)

    def _cancel_selected(self) -> None:
        ids = [job_id for job_id in self._infos if job_id in self._selected]
        reason = self._reason.value.strip()[:MAX_REASON] or None
        if not ids:
            return

        def work() -> None:
            op = operations.cancel_many(self._desk.service, ids, reason=reason, abort=True, delete=False)
            results = self._desk.run(op)
            outcomes = {result.job_id: _word(result.outcome) for result in results}
            with self._lock:
                self._outcomes.update(outcomes)
                self._selected -= outcomes.keys()
            self._tell(_summed(outcomes.values()))

        self._carry_out(f"asking the service to cancel {len(ids):,} jobs", work)

    def _retry_failed(self) -> None:
        ids = [info.id for info in self._infos.values() if info.state is JobState.FAILED]
        if not ids:
            return

        def work() -> None:
            results = self._desk.run(operations.retry_many(self._desk.service, ids))
            with self._lock:
                for job_id in ids:
                    self._outcomes.pop(job_id, None)
            self._tell(_summed(_word(result.outcome) for result in results))

        self._carry_out(f"asking the service to run {len(ids):,} jobs again", work)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _draw(self) -> float:
        self._hear()
        self._draw_widgets()
        now = time.monotonic()
        infos = self._infos.values()
        if self._unknown or not all(info.terminal for info in infos):
            self._ended_at, self._kept = math.inf, False
            counted = self._counted()
            if counted != self._captioned_counts and now - self._captioned >= CAPTION / 10:
                self._captioned, self._captioned_counts = now, counted
                self.output.say(*self._caption())
            return 2.0
        if self._ended_at == math.inf:
            self._ended_at = now
        if not self._kept:
            self._kept = True
            self.output.keep(*self._static())
            self.output.say(*self._caption())
        return self._rest(now)

    def _hear(self) -> None:
        for subscriber in list(self._subscribers):
            news = subscriber.take()
            with self._lock:
                for info in news.changed.values():
                    if info.id in self._infos:
                        self._infos[info.id] = waiting.merged(self._infos[info.id], info)
                for job_id in news.vanished:
                    self._outcomes[job_id] = "no longer known"
            if not self._hear_of_the_connection(news):
                self._subscribers.remove(subscriber)

    def _matching(self) -> list[JobInfo]:
        """The jobs that the filter means, sorted."""
        infos = rows.chosen(self._infos.values(), str(self._state.value), self._filter.value)
        return rows.sorted_by(infos, str(self._sort.value), self._order)

    def _draw_widgets(self) -> None:
        with self._lock:
            infos = list(self._infos.values())
            matching = self._matching()
            pages = max(1, math.ceil(len(matching) / PAGE))
            self._page = min(self._page, pages - 1)
            page = matching[self._page * PAGE : (self._page + 1) * PAGE]
            selected, outcomes = set(self._selected), dict(self._outcomes)
        parts.put(self._head, "value", rows.head(self._title, infos, unknown=self._unknown))
        self._draw_rows(page, selected, outcomes)
        first = self._page * PAGE + 1 if page else 0
        parts.put(
            self._where,
            "value",
            faces.note(f"{first:,} to {self._page * PAGE + len(page):,} of {len(matching):,}"),
        )
        parts.put(self._before, "disabled", self._page == 0)
        parts.put(self._after, "disabled", self._page >= pages - 1)
        self._draw_buttons(infos, matching, selected)
        parts.put(self._note, "value", self._notes(self._said))

    def _draw_rows(self, page: Sequence[JobInfo], selected: set[str], outcomes: dict[str, str]) -> None:
        for number, info in enumerate(page):
            self._row_ids[number] = info.id
            parts.put(self._checks[number], "description", faces.short(info))
            parts.put(self._checks[number], "value", info.id in selected)
            parts.put(self._cells[number], "value", rows.row(info, outcomes.get(info.id, "")))
        if len(self._grid.children) != len(page):
            self._grid.children = tuple(self._rows[: len(page)])

    def _draw_buttons(self, infos: Sequence[JobInfo], matching: Sequence[JobInfo], selected: set[str]) -> None:
        capabilities = self._desk.service.capabilities
        going = sum(not self._infos[job_id].terminal for job_id in selected if job_id in self._infos)
        failed = sum(info.state is JobState.FAILED for info in infos)
        asking = self._asking and going > 0
        parts.put(self._all, "description", f"Select all {len(matching):,}")
        parts.put(self._all, "disabled", not matching)
        parts.put(self._none, "disabled", not selected)
        parts.put(self._cancel, "description", f"Cancel selected ({going:,})" if going else "Cancel selected")
        parts.put(self._cancel, "disabled", not going or bool(self._busy))
        parts.put(self._yes, "description", f"Yes, cancel {going:,} job{'' if going == 1 else 's'}")
        parts.put(self._retry, "description", f"Run {failed:,} failed again")
        parts.put(self._retry, "disabled", bool(self._busy))
        newly = asking and self._reason.layout.display == "none"
        parts.show(self._cancel, not asking)
        for part in (self._reason, self._yes, self._no):
            parts.show(part, asking)
        if newly:
            self._reason.focus()
        parts.show(self._retry, failed > 0 and capabilities.retry and not asking)


def _word(outcome: object) -> str:
    return str(outcome).replace("_", " ").lower()


def _summed(words: Iterable[str]) -> str:
    return " · ".join(f"{count:,} {word}" for word, count in Counter(words).items())


def show_table(
    session: Session | AsyncSession,
    infos: Sequence[JobInfo] = (),
    *,
    title: str = "jobs",
    load: Callable[[], Op[Any]] | None = None,
) -> JobTable:
    """Show a table in the cell that runs."""
    table = JobTable(session, infos, title=title, load=load)
    table.show()
    return table
