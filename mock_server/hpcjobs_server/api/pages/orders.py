"""What a form asks to have done: an action, and the jobs that are meant."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, QueryParams

from hpcjobs.lifecycle import MEANT, Action, JobState
from hpcjobs.models import MAX_BULK, JobFilter, JobInfo
from hpcjobs_server.api.pages.asking import Asked
from hpcjobs_server.problems import invalid

_ACTIONS = {action.value: action for action in (Action.CANCEL, Action.RETRY, Action.DELETE)}


@dataclasses.dataclass(frozen=True)
class Order:
    """What a form asks for.

    Attributes:
        action: What is to be done.
        ids: The jobs, where they were selected.
        asked: The conditions, where all that meet them are meant.
        states: Of all that meet them, those in these states, as the page has said; empty where it has not, and for a
            cancel.
        reason: Why, for a cancel.
        abort: Whether jobs that have started are cancelled, too.
        until: The moment, by the clock of the database, of which the page showed what would be done.
        confirmed: Whether the page has asked already.
        home: The job whose page is to be shown next, where it came from there.
    """

    action: Action
    ids: tuple[str, ...]
    asked: Asked | None
    states: frozenset[JobState]
    reason: str | None
    abort: bool
    until: dt.datetime
    confirmed: bool
    home: str | None

    @classmethod
    def of(cls, form: FormData, *, now: dt.datetime) -> Order:
        """Read a form.

        Args:
            form: What was sent.
            now: This moment, by the clock of the database.

        Raises:
            Problem: 422: it asks for nothing that can be done.
        """
        texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        action = _ACTIONS.get(texts.get("action", ""))
        if action is None:
            raise invalid([("action", f"must be one of {', '.join(_ACTIONS)}")])
        until = _moment(texts["until"]) if "until" in texts else now
        ids = tuple(dict.fromkeys(str(one) for one in form.getlist("ids")))
        asked = None
        if "all" in texts:
            # "2h ago" means the same moment when it is asked and when it is confirmed
            asked, ids = Asked.of(QueryParams(parse_qsl(texts.get("conditions", ""))), now=until), ()
            if asked.problems:
                raise invalid(asked.problems)
        elif not ids:
            raise invalid([("ids", "no job was selected; go back and select some")])
        elif len(ids) > MAX_BULK:
            raise invalid([("ids", f"more than {MAX_BULK} jobs were selected")])
        words = texts.get("states", "").split() if action is not Action.CANCEL else []
        return cls(
            action,
            ids,
            asked,
            states=frozenset(JobState(word) for word in words if word in JobState.__members__),
            reason=texts.get("reason", "").strip() or None,
            abort="spare" not in texts,
            until=until,
            confirmed="confirmed" in texts,
            home=texts.get("home") or None,
        )

    @property
    def wanted(self) -> JobFilter:
        """Which jobs all of the conditions mean: those that were submitted until the page asked, and no later ones."""
        assert self.asked is not None
        wanted = self.asked.wanted
        if wanted.created_before is not None and wanted.created_before <= self.until:
            return wanted
        return wanted.model_copy(update={"created_before": self.until})

    def meant(self, states: Iterable[JobState]) -> frozenset[JobState]:
        """Of jobs in these states, those whose state is meant.

        Who runs many jobs again means those that did not end well, unless there is none of them.
        """
        able = frozenset(state for state in states if state.allows(self.action))
        return able & MEANT[self.action] or able

    @property
    def sought(self) -> frozenset[JobState]:
        """The states in which jobs that meet all of the conditions are meant."""
        assert self.asked is not None
        return self.states or MEANT[self.action].intersection(self.asked.wanted.state or JobState)

    def waited(self, info: JobInfo) -> bool:
        """Whether a cancel means a job though it is not in a state of the conditions: it was, when the page asked."""
        return info.started_at is not None and info.started_at > self.until


def _moment(text: str) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid([("until", f"{text!r} is no moment; load the page again")])
    return found
