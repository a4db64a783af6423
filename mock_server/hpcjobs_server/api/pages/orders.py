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
            cancel, which is meant however far a job is by then.
        reason: Why, for a cancel.
        abort: Whether jobs that have started are cancelled, too.
        until: When the page showed what would be done; what came of a job since, nobody has seen.
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
    def of(cls, form: FormData) -> Order:
        """Read a form.

        Raises:
            Problem: 422: it asks for nothing that can be done.
        """
        texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        action = _ACTIONS.get(texts.get("action", ""))
        if action is None:
            raise invalid([("action", f"must be one of {', '.join(_ACTIONS)}")])
        until = _moment(texts["until"]) if "until" in texts else dt.datetime.now(dt.timezone.utc)
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
        """Which jobs all of the conditions mean: those that were there when the page asked, and no later ones."""
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

    def unseen(self, info: JobInfo) -> bool:
        """Whether a job has started or ended since the page showed what would be done, and may not be meant any more.

        A cancel means the job however far it is; but nobody deletes, or runs once more, what ended a moment ago without
        having seen how.
        """
        moments = (info.started_at, info.finished_at)
        return self.action is not Action.CANCEL and any(at is not None and at > self.until for at in moments)


def _moment(text: str) -> dt.datetime:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid([("until", f"{text!r} is no moment; load the page again")])
    return found
