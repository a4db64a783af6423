"""How many jobs there are in each state, without ever counting for long."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobFilter
from hpcjobs_server.store.base import Database, Row
from hpcjobs_server.store.jobs import conditions_of

BOUND = 100_000
"""Most rows that one count looks at; where only an index is looked at, most for each state."""

_FEW = 20_000
"""Most rows of what an index finds: further apart in the table than those that follow each other in it."""

_COLUMNS = "j.state, j.name, j.queue, j.tags, j.array_id, j.created_at"

_ACTIVE = tuple(state for state in JobState if not state.terminal and state is not JobState.UNKNOWN)
_ENDED = tuple(state for state in JobState if state.terminal)


@dataclasses.dataclass(frozen=True)
class Counted:
    """How many jobs are in each state.

    Attributes:
        states: The counts; a state without jobs is left out.
        at_least: The states that may have more, because the count stopped at its bound.
    """

    states: dict[JobState, int]
    at_least: frozenset[JobState] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether every count is exact."""
        return not self.at_least

    def among(self, states: Collection[JobState]) -> Counted:
        """The counts of these states alone; all of them where none is named."""
        if not states:
            return self
        return Counted({s: n for s, n in self.states.items() if s in states}, self.at_least.intersection(states))


class Counts(Database):
    """Counts jobs."""

    async def count(self, owner: str | None, wanted: JobFilter, *, bound: int = BOUND) -> Counted:
        """How many jobs are in each state, of those that meet the conditions; conditions on the state do not count.

        Args:
            owner: Whose; None for everybody's.
            wanted: Which.
            bound: Most rows to look at.
        """
        fields = {name for name in JobFilter.model_fields if getattr(wanted, name) not in (None, [])} - {"state"}
        # conditions for which there is an index
        found = {"array", "tag", "created_after", "created_before"} & fields
        if wanted.name is not None and not wanted.name.startswith("*"):
            found.add("name")
        if not fields:
            return await self._all(owner, bound)
        if found:
            counted = await self._found(owner, wanted, found, fields - found, min(bound, _FEW))
            if counted is not None:
                return counted
        if sum((await self._all(owner, bound)).states.values()) <= bound:
            counted = await self._found(owner, wanted, fields, set(), bound)
            if counted is not None:
                return counted
        return await self._newest(owner, _only(wanted, fields), bound)

    async def _all(self, owner: str | None, bound: int) -> Counted:
        """Count each state by its index alone."""
        owned, parameters = conditions_of(owner, JobFilter())
        union = " UNION ALL ".join(
            f"SELECT '{state}' AS state, count(*) AS n FROM"
            f" (SELECT 1 FROM jobs j WHERE {' AND '.join(owned)} AND j.state = '{state}' LIMIT {bound + 1}) j"
            for state in (*_ACTIVE, *_ENDED)
        )
        rows = await self.planned(union, parameters)
        return _counted(rows, frozenset(JobState(row["state"]) for row in rows if row["n"] > bound))

    async def _found(
        self, owner: str | None, wanted: JobFilter, found: set[str], others: set[str], bound: int
    ) -> Counted | None:
        """Count what meets the conditions ``found``, and the ``others`` too; None where the first are too many."""
        inner, parameters = conditions_of(owner, _only(wanted, found))
        outer, more = conditions_of(None, _only(wanted, others))
        rows = await self.planned(
            f"{_count(outer)} (SELECT {_COLUMNS} FROM jobs j WHERE {' AND '.join(inner)} LIMIT {bound + 1}) j"
            " GROUP BY j.state",
            {**parameters, **more},
        )
        return _counted(rows) if sum(row["looked"] for row in rows) <= bound else None

    async def _newest(self, owner: str | None, wanted: JobFilter, bound: int) -> Counted:
        """Look at what has not ended, and then at the newest of what has, until the bound."""
        owned, parameters = conditions_of(owner, JobFilter())
        outer, more = conditions_of(None, wanted)
        parts = [f"j.state = '{state}'" for state in _ACTIVE]
        parts.append(f"j.state IN ({', '.join(repr(state.value) for state in _ENDED)}) ORDER BY j.seq DESC")
        union = " UNION ALL ".join(
            f"(SELECT {_COLUMNS} FROM jobs j WHERE {' AND '.join(owned)} AND {part} LIMIT {bound + 1})"
            for part in parts
        )
        rows = await self.planned(
            f"{_count(outer)} ({union} LIMIT {bound + 1}) j GROUP BY j.state", {**parameters, **more}
        )
        if sum(row["looked"] for row in rows) <= bound:
            return _counted(rows)
        looked = {JobState(row["state"]) for row in rows}
        # the last state that was begun, and what comes after it
        begun = 0 if looked & {*_ENDED} else len(_ACTIVE) - max(map(_ACTIVE.index, looked))
        return _counted(rows, frozenset([*_ACTIVE[len(_ACTIVE) - begun :], *_ENDED]))


def _count(conditions: Sequence[str]) -> str:
    counted = f"count(*) FILTER (WHERE {' AND '.join(conditions)})"
    return f"SELECT j.state, count(*) AS looked, {counted} AS n FROM"


def _counted(rows: Sequence[Row], cut: frozenset[JobState] = frozenset()) -> Counted:
    return Counted({JobState(row["state"]): row["n"] for row in rows if row["n"]}, cut)


def _only(wanted: JobFilter, fields: set[str]) -> JobFilter:
    return JobFilter.model_construct(fields, **{name: getattr(wanted, name) for name in fields})
