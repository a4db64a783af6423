"""What a wait shows in a notebook: the card of a job, which stays alive when the waiting ends before the job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcjobs import live, waiting
from hpcjobs.notebook.card import show_card
from hpcjobs.sessions import AsyncSession, Session

if TYPE_CHECKING:
    from hpcjobs.models import JobInfo


class CardDisplay:
    """A wait's display that is a card. It has news of its own, so that the waiting only begins and ends it."""

    tick = math.inf

    def __init__(self, session: Session | AsyncSession, info: JobInfo) -> None:
        self._card = show_card(session, info)

    def show(self, jobs: Sequence[JobInfo]) -> None:
        """Nothing: the card is told itself."""

    def notice(self, text: str) -> None:
        """Nothing: the card is told itself."""

    def close(self, jobs: Sequence[JobInfo]) -> None:
        """Show how the job is now, before the cell goes on."""
        (info,) = jobs
        self._card.settle(waiting.seen(info))


def display_of(jobs: Sequence[JobInfo], session: object) -> live.Display | None:
    """The display for a wait in a notebook; None where another one is better."""
    if not live.in_notebook() or not isinstance(session, (Session, AsyncSession)):
        return None
    if len(jobs) == 1:
        return CardDisplay(session, jobs[0])
    return None
