"""The card of one job: what it is doing, and buttons that act on it."""

from __future__ import annotations

import base64
import math
import mimetypes
import threading
import time
from typing import TYPE_CHECKING, Any

from hpcjobs import lines, operations, waiting
from hpcjobs.lifecycle import JobState
from hpcjobs.models import MAX_REASON, CancelOutcome
from hpcjobs.notebook import faces, parts
from hpcjobs.notebook.boards import CLOSED, Board, shown
from hpcjobs.notebook.desk import Tail
from hpcjobs.notebook.drawing import drawing
from hpcjobs.notebook.pace import Pace
from hpcjobs.notebook.showing import Output

if TYPE_CHECKING:
    from hpcjobs.models import CancelResult, JobInfo, OutputFile
    from hpcjobs.sessions import AsyncSession, Session
    from hpcjobs.watching import Subscriber

LAST_LINES = 3.0
"""Seconds for which the last lines of a job's log are waited for, to go into the notebook's file."""

CAPTION = 30.0
"""Seconds between two changes of the line that stays in the notebook's file, while only the progress changes."""

LINKED, LINKED_IN_ALL = 1 << 20, 4 << 20
"""Bytes of a file, and of all files of a card, that are put into links for the browser."""

ASKED = "it was asked to stop"


class JobCard(Board):
    """A live card.

    Args:
        session: The session of the client.
        info: What is known of the job.
    """

    pause = 0.1

    def __init__(self, session: Session | AsyncSession, info: JobInfo) -> None:
        import ipywidgets as widgets

        super().__init__(session)
        self.info = info
        self._pace = Pace()
        self._tail = Tail(info.id, self._log_grew)
        self._log = ""
        self._read_for: tuple[JobState, int] | None = None
        """The state and the attempt at which the log was looked for last."""
        self._cancelled_here = False
        self._files: list[OutputFile] | None = None
        self._links: dict[str, str] = {}
        self._captioned = 0.0
        self._captioned_label = ""
        self._recorded = threading.Event()
        """Set while the notebook's file has the end of the job."""
        self._filed = False
        self._subscriber: Subscriber | None = None

        name = faces.short(info)

        def html() -> Any:
            return widgets.HTML(layout={"width": "auto", "margin": "0"})

        self._head, self._body, self._log_html, self._note, self._list = (html() for _ in range(5))
        self._cancel = parts.button(f"Cancel {name}", self._ask)
        self._reason = parts.reason()
        self._yes = parts.button(f"Yes, cancel {name}", self._cancel_now, "danger", hidden=True)
        self._no = parts.button("Keep it running", self._ask_no, hidden=True)
        self._retry = parts.button(f"Run {name} again", self._retry_now, hidden=True)
        self._show_files = parts.button(f"Files of {name}", self._look_at_files, hidden=True)
        self._save = parts.button("Save files here", self._save_files, hidden=True)
        buttons = (self._cancel, self._reason, self._yes, self._no, self._retry, self._show_files, self._save)
        self.widget = widgets.VBox(
            [
                self._head,
                self._body,
                self._log_html,
                widgets.HBox(buttons, layout=parts.LINE),
                self._note,
                self._list,
            ],
            layout={**parts.BOX, "max_width": "60em"},
        )
        self.output = Output(self.widget)

    def of(self, session: object, ids: list[str]) -> bool:
        """Whether it is the card of this job of this client."""
        return self._session is session and ids == [self.info.id]

    # -- the beginning and the end -------------------------------------------------------------------------------------

    def show(self) -> None:
        """Show it in the cell that runs, and keep it up to date."""
        self._draw_widgets()
        remark = faces.caption_text(self.info)
        html = faces.static(self.info)
        self.output.show(html, lines.as_text([self.info]), faces.caption(self.info), remark)
        self._captioned, self._captioned_label = time.monotonic(), self.info.label
        self._listen()
        drawing.mark(self)
        shown.add(self)

    def _listen(self) -> None:
        self._subscriber = self._desk.subscribe({self.info.id: self.info}, self._wake)
        if self._subscriber is None:
            self._outage = CLOSED

    def _follow_log(self) -> None:
        """Read the log of a job that has begun; whoever brought the news of it."""
        now = (self.info.state, self.info.attempt)
        if now == self._read_for:
            return
        self._read_for = now
        if self.info.state.not_started or not self._desk.service.capabilities.logs:
            self._desk.leave(self._tail)
        else:
            self._desk.follow(self._tail)
            self._desk.hurry(self._tail, last=self.info.terminal)

    def settle(self, info: JobInfo | None, timeout: float = 1.0) -> None:
        """Show what a wait has learnt, before the cell goes on.

        Args:
            info: The job as the wait left it.
            timeout: Seconds that it may take.
        """
        if info is not None:
            with self._lock:
                self.info = waiting.merged(self.info, info)
        drawing.drawn(self, drawing.mark(self), timeout)
        if self.info.terminal:
            self._recorded.wait(timeout)

    def _leave(self) -> None:
        if self._subscriber is not None:
            self._subscriber.close()
        self._desk.leave(self._tail)

    def _static(self) -> tuple[str, str]:
        info = self.info
        said = "" if self._bad or self._cancelled_here else self._said
        if not info.terminal:
            said = faces.caption_text(info)
        elif self._desk.service.capabilities.retry and info.state is not JobState.FINISHED:
            said = f'{said + "; " if said else ""}client.job("{info.id}").retry() runs it again'
        html = faces.static(info, tail=self._log, said=said, listed=self._files or ())
        return html, "\n".join(part for part in (lines.as_text([info]), said) if part)

    # -- what is told in other threads ---------------------------------------------------------------------------------

    def _log_grew(self, text: str) -> None:
        self._log = text
        drawing.mark(self)

    # -- clicks --------------------------------------------------------------------------------------------------------

    def _cancel_now(self) -> None:
        reason = self._reason.value.strip()[:MAX_REASON] or None

        def work() -> None:
            result = self._desk.run(
                operations.cancel(self._desk.service, self.info.id, reason=reason, learn=self._learn)
            )
            self._cancelled_here = result.outcome is CancelOutcome.CANCEL_REQUESTED
            self._tell(_words(result))

        self._carry_out("asking the service to cancel it", work)

    def _retry_now(self) -> None:
        def work() -> None:
            result = self._desk.run(operations.retry(self._desk.service, self.info.id, learn=self._learn))
            self._files, self._links, self._cancelled_here = None, {}, False
            self._tell(str(result))

        self._carry_out("asking the service to run it again", work)

    def _look_at_files(self) -> None:
        def work() -> None:
            found = list(self._desk.run(self._desk.service.files(self.info.id)))
            self._files = [file for file in found if not file.path.startswith(".hpcjobs/")]
            self._links = self._linked(self._files)
            self._tell("")

        self._carry_out("looking at its files", work)

    def _linked(self, found: list[OutputFile]) -> dict[str, str]:
        """The contents of the small ones, for the browser."""
        links: dict[str, str] = {}
        left = LINKED_IN_ALL
        for file in found:
            if file.unchanged_input or file.size > min(LINKED, left):
                continue
            with self._desk.open(self.info.id, file.path) as opened:
                data = opened.read(LINKED + 1)
            if len(data) > LINKED:  # it has grown
                continue
            left -= len(data)
            kind = mimetypes.guess_type(file.path)[0] or "application/octet-stream"
            links[file.path] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        return links

    def _save_files(self) -> None:
        folder = _folder(self.info)

        def work() -> None:
            def make(**how: Any) -> Any:
                return operations.download(self._desk.service, self.info.id, folder, **how)

            paths = self._desk.transfer(make)
            self._tell(f"{len(paths)} file{'' if len(paths) == 1 else 's'} saved in {folder}/")

        self._carry_out("fetching its files", work)

    def _learn(self, info: JobInfo) -> None:
        with self._lock:
            self.info = waiting.merged(self.info, info)
        drawing.mark(self)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _draw(self) -> float:
        self._hear()
        self._follow_log()
        self._draw_widgets()
        now = time.monotonic()
        if not self.info.terminal:
            self._ended_at = math.inf
            self._filed = False
            self._recorded.clear()
            self._say_in_the_file(now)
            begun = self.info.run_time() or self.info.queue_time()
            seconds = begun.total_seconds() if begun is not None else 0.0
            return 1.0 if seconds < 120 else 5.0 if seconds < 3600 else 30.0
        if self._ended_at == math.inf:
            self._ended_at = now
        if not self._recorded.is_set() and self._record(now):
            self._recorded.set()
        if not self._recorded.is_set():
            return 0.1
        return self._rest(now)

    def _record(self, now: float) -> bool:
        """Put the end into the notebook's file, at once, and once more with the last lines of the log.

        Returns:
            Whether nothing more is awaited.
        """
        awaited = (
            self.info.state is not JobState.FINISHED  # whose log is not kept
            and self._desk.service.capabilities.logs
            and not self._tail.over
            and now - self._ended_at < LAST_LINES
        )
        if not awaited or not self._filed:
            self._filed = True
            self.output.keep(*self._static())
            self.output.say(faces.caption(self.info), faces.caption_text(self.info))
        return not awaited

    def _hear(self) -> None:
        if self._subscriber is None:
            return
        news = self._subscriber.take()
        for info in news.changed.values():
            before = self.info
            with self._lock:
                self.info = waiting.merged(self.info, info)
            if self.info.progress != before.progress:
                self._desk.hurry(self._tail)
        self._pace.add(self.info.progress)
        if not self._hear_of_the_connection(news):
            self._subscriber = None
        if self.info.id in news.vanished:
            self._outage = "the service no longer knows this job; this is what was seen last"

    def _draw_widgets(self) -> None:
        info = self.info
        parts.put(self._head, "value", faces.head(info))
        parts.put(self._body, "value", faces.body(info, self._pace))
        parts.put(self._log_html, "value", faces.log(info, self._log))
        self._draw_buttons(info)
        parts.put(self._note, "value", self._notes(self._last_word()))
        parts.put(self._list, "value", "" if self._files is None else faces.files(self._files, self._links))

    def _last_word(self) -> str:
        """What came of the last click, as long as the card does not say it anyway."""
        info = self.info
        if info.terminal and self._cancelled_here:  # what was said before is past
            early = info.state is not JobState.CANCELLED
            return "finished first: it ended by itself before it could be stopped" if early else ""
        return "" if self._said == ASKED and info.cancel_requested else self._said

    def _draw_buttons(self, info: JobInfo) -> None:
        capabilities = self._desk.service.capabilities
        asking = self._asking and not info.terminal
        if info.terminal:
            text = f"{info.label}: nothing to cancel"
        elif info.cancel_requested:
            text = f"Cancel {faces.short(info)} again"
        else:
            text = f"Cancel {faces.short(info)}"
        parts.put(self._cancel, "description", text)
        parts.put(self._cancel, "disabled", info.terminal or bool(self._busy))
        newly = asking and self._reason.layout.display == "none"
        parts.show(self._cancel, not asking)
        for part in (self._reason, self._yes, self._no):
            parts.show(part, asking)
        if newly:
            self._reason.focus()
        parts.show(self._retry, info.terminal and capabilities.retry)
        parts.show(self._show_files, capabilities.files and not asking and info.started_at is not None)
        parts.show(self._save, bool(self._files))
        for part in (self._yes, self._retry, self._show_files, self._save):
            parts.put(part, "disabled", bool(self._busy))

    def _say_in_the_file(self, now: float) -> None:
        """Keep the line below the card fresh, for whoever opens the notebook after the kernel is gone."""
        if self.info.label != self._captioned_label or now - self._captioned >= CAPTION:
            self._captioned, self._captioned_label = now, self.info.label
            self.output.say(faces.caption(self.info), faces.caption_text(self.info))


def _words(result: CancelResult) -> str:
    if result.outcome is CancelOutcome.ALREADY_TERMINAL:
        return "it had already ended; nothing was cancelled"
    if result.outcome is CancelOutcome.CANCEL_REQUESTED:
        return ASKED
    return str(result)


def _folder(info: JobInfo) -> str:
    plain = "".join(char if char.isalnum() or char in "-_." else "-" for char in info.name or "job").strip(".-")
    return f"{plain or 'job'}-{info.id[:8]}"


def show_card(session: Session | AsyncSession, info: JobInfo) -> JobCard:
    """Show a card in the cell that runs."""
    card = JobCard(session, info)
    card.show()
    return card
