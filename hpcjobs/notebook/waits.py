"""What a wait shows in a notebook: a card or a table, which stays alive when the waiting ends before the jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcjobs import live, waiting
from hpcjobs.notebook import boards
from hpcjobs.notebook.card import JobCard, show_card
from hpcjobs.notebook.showing import cell
from hpcjobs.notebook.table import JobTable, show_table
from hpcjobs.sessions import AsyncSession, Session

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo


class CardDisplay:
    """A wait's display that is a card. It has news of its own, so that the waiting only begins and ends it."""

    tick = math.inf

    def __init__(self, session: Session | AsyncSession, info: JobInfo) -> None:
        here = _here(session, [info.id])
        self._card = here if isinstance(here, JobCard) else show_card(session, info)

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Nothing: the card is told itself."""

    def notice(self, text: str) -> None:
        """Nothing: the card is told itself."""

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Show how the job is now, before the cell goes on."""
        (info,) = jobs
        self._card.settle(waiting.seen(info))


class TableDisplay:
    """A wait's display that is a table."""

    tick = math.inf

    def __init__(self, session: Session | AsyncSession, infos: Sequence[JobInfo]) -> None:
        here = _here(session, [info.id for info in infos])
        self._table = here if isinstance(here, JobTable) else show_table(session, infos)

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Nothing: the table is told itself."""

    def notice(self, text: str) -> None:
        """Nothing: the table is told itself."""

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Show how the jobs are now, before the cell goes on."""
        self._table.settle([info for info in jobs if waiting.seen(info) is not None])


def _here(session: object, ids: list[str]) -> boards.Board | None:
    """What the cell that runs shows of these jobs already."""
    where = cell()
    same = (board for board in list(boards.shown) if board.output.cell == where and board.of(session, ids))
    return next(same, None) if where is not None else None


def display_of(jobs: Sequence[JobInfo], session: object) -> live.Display | None:
    """The display for a wait in a notebook; None where another one is better."""
    if not live.in_notebook() or not isinstance(session, (Session, AsyncSession)):
        return None
    if all(info.terminal for info in jobs):
        return None  # nothing is waited for: a line says how they ended
    if len(jobs) == 1:
        return CardDisplay(session, jobs[0])
    return TableDisplay(session, jobs)
