"""The jobs as the API sees them: look, list, follow."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobFilter, JobInfo, JobPage
from hpcjobs_server.store.base import Row, to_uuid
from hpcjobs_server.store.rows import FROM, INFO, SPEC, BadCursor, decode_cursor, to_info
from hpcjobs_server.store.sorting import Order
from hpcjobs_server.store.tokens import Tokens

_MAX_CHANGES = 50_000
"""Most jobs that one look at the changes returns; a client that was away for longer asks for its jobs anyway."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a job's files are, and its state when that was read."""

    job_id: str
    owner: str
    state: JobState
    attempt: int


@dataclasses.dataclass(frozen=True)
class WorkerInfo:
    """A worker that is alive."""

    id: UUID
    host: str
    pid: int
    cores: int
    running: int
    cluster: str | None
    started_at: dt.datetime
    seen_at: dt.datetime

    @property
    def room(self) -> float:
        """The cores that a job can have there; of a cluster, as many as it likes to give."""
        return self.cores if self.cluster is None else float("inf")


_CHANGES = f"""
SELECT {INFO} FROM (
    SELECT job_id FROM events WHERE xid >= %(since)s::text::xid8
    UNION SELECT job_id FROM progress WHERE xid >= %(since)s::text::xid8
    LIMIT %(most)s
) c JOIN jobs j ON j.id = c.job_id LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt
"""


class Jobs(Tokens):
    """Looks at jobs."""

    async def get(self, owner: str | None, job_id: str) -> JobInfo | None:
        """One job with what was asked; None where there is none, or it is another's.

        Args:
            owner: Whose job it must be; None for anybody's.
            job_id: Its id; one that is no id is simply not found.
        """
        found = await self._by_ids(owner, [job_id], f", {SPEC} AS spec")
        return to_info(found[0]) if found else None

    async def get_many(self, owner: str | None, ids: Sequence[str]) -> list[JobInfo]:
        """The jobs that were found, without what was asked."""
        return [to_info(row) for row in await self._by_ids(owner, ids, "")]

    async def changed_since(self, owner: str | None, ids: Sequence[str], moment: dt.datetime) -> set[str]:
        """Those of these jobs whose state has changed after a moment of the database's clock.

        Args:
            owner: Whose; None for anybody's. Of another's job nothing is told, not even this.
            ids: Their ids; one that is none is no job.
            moment: The moment.
        """
        good = [uid for uid in map(to_uuid, ids) if uid is not None]
        rows = await self.all(
            "SELECT id FROM jobs WHERE id = ANY(%s) AND changed_at > %s AND (%s::text IS NULL OR owner = %s)",
            [good, moment, owner, owner],
        )
        return {str(row["id"]) for row in rows}

    async def _by_ids(self, owner: str | None, ids: Sequence[str], more: str) -> list[Row]:
        good = [uid for uid in map(to_uuid, ids) if uid is not None]
        if not good:
            return []
        return await self.all(
            f"SELECT {INFO}{more} FROM {FROM} WHERE j.id = ANY(%(ids)s)"
            " AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)",
            {"ids": good, "owner": owner},
        )

    async def place(self, owner: str | None, job_id: str) -> Place | None:
        """Where a job's files are; None where there is none, or it is another's."""
        uid = to_uuid(job_id)
        if uid is None:
            return None
        rows = await self.all(
            "SELECT owner, state, attempt FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s)",
            [uid, owner, owner],
        )
        return Place(str(uid), rows[0]["owner"], JobState(rows[0]["state"]), rows[0]["attempt"]) if rows else None

    async def changes(self, since: int | None) -> tuple[int, list[tuple[str, JobInfo]]]:
        """The present info of each job that changed since a cursor.

        What a transaction that is still open has changed comes after its commit: the cursor is the oldest transaction
        that is under way, so nothing is missed, and a change may come twice.

        Args:
            since: A cursor that this method returned; None for the present one alone.

        Returns:
            The next cursor, and each job with its owner.
        """
        async with self.connection() as connection:
            # the cursor is read before the rows: what commits in between comes again, rather than never
            cursor = await (
                await connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS cursor")
            ).fetchone()
            assert cursor is not None
            if since is None:
                return int(cursor["cursor"]), []
            rows = await (await connection.execute(_CHANGES, {"since": str(since), "most": _MAX_CHANGES})).fetchall()
        return int(cursor["cursor"]), [(row["owner"], to_info(row)) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = await self.all("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def workers(self, *, silent: float = 15.0) -> list[WorkerInfo]:
        """The workers that were heard in the last ``silent`` seconds."""
        rows = await self.all(
            "SELECT id, host, pid, cores, running, cluster, started_at, seen_at FROM workers"
            " WHERE seen_at > now() - make_interval(secs => %s) ORDER BY started_at",
            [silent],
        )
        return [WorkerInfo(**row) for row in rows]

    async def list(
        self,
        owner: str | None,
        wanted: JobFilter,
        *,
        limit: int,
        cursor: str | None = None,
        key: str | None = None,
        sort: str | None = None,
        before: str | None = None,
    ) -> JobPage:
        """One page of jobs.

        Args:
            owner: Whose; None for everybody's.
            wanted: Which.
            limit: Most jobs in the page.
            cursor: The page that follows this place: a page's ``next``.
            key: Only the job that was submitted with this key.
            sort: In which order: one of :data:`hpcjobs_server.store.sorting.SORTS`; None for the newest first.
            before: The page that precedes this place: a page's ``previous``.

        Raises:
            BadCursor: A cursor is not one of ours, or of another order, or there are two.
            BadSort: There is no such order.
        """
        order = Order(sort)
        if cursor is not None and before is not None:
            raise BadCursor(before)
        backwards, mark = before is not None, cursor if before is None else before
        place = None if mark is None else order.decode(mark)
        conditions, parameters = conditions_of(owner, wanted)
        if key is not None:
            conditions.append("j.submit_key = %(key)s")
            parameters["key"] = key
        parts, more_parameters = order.parts(place, backwards=backwards)
        # Each part is found by an index, and the next one is begun only where those before it do not fill the page.
        union = " UNION ALL ".join(
            f"(SELECT j.* FROM jobs j WHERE {' AND '.join([*conditions, part.where])}"
            f" ORDER BY {part.by} LIMIT {limit + 1})"
            for part in parts
        )
        rows = await self.planned(
            f"SELECT {INFO} FROM"
            f" (SELECT u.*, row_number() OVER () AS place FROM ({union}) u LIMIT {limit + 1}) j"
            " LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt ORDER BY j.place",
            {**parameters, **more_parameters},
        )
        more = len(rows) > limit
        rows = rows[:limit][:: -1 if backwards else 1]
        if rows:
            first, last = order.place_of(rows[0]), order.place_of(rows[-1])
        elif place is not None:  # what was there has gone: the job at the place itself is what can be gone back to
            first = last = order.beside(place, behind=not backwards)
        else:
            return JobPage(items=[])
        return JobPage(
            items=[to_info(row) for row in rows],
            next=order.encode(last) if more or backwards else None,
            previous=order.encode(first) if (more if backwards else place is not None) else None,
        )


def conditions_of(owner: str | None, wanted: JobFilter, cursor: str | None = None) -> tuple[list[str], dict[str, Any]]:
    """What a filter means in SQL: conditions that must all hold, and their parameters.

    Raises:
        BadCursor: The cursor is not one of ours.
    """
    conditions, parameters = ["true"], dict[str, Any]()

    def add(condition: str, **values: Any) -> None:
        conditions.append(condition)
        parameters.update(values)

    if owner is not None:
        add("j.owner = %(owner)s", owner=owner)
    if cursor is not None:
        add("j.seq < %(before)s", before=decode_cursor(cursor))
    if wanted.state:
        # Written out, so that the plan is made for these very states, some of which are rare, and one of them alone is
        # found in order. They are words of ours; none here is UNKNOWN, and no index knows that word.
        words = ", ".join(f"'{state.value}'" for state in wanted.state if state is not JobState.UNKNOWN)
        conditions.append(f"j.state IN ({words})" if words else "false")
    if wanted.tag:
        add("j.tags @> %(tags)s::text[] AND j.tags <> '{}'", tags=list(wanted.tag))
    if wanted.name is not None:
        if "*" in wanted.name:
            pattern = wanted.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
            add("j.name LIKE %(name)s", name=pattern)
        else:
            add("j.name = %(name)s", name=wanted.name)
    if wanted.queue is not None:
        add("j.queue = %(queue)s", queue=wanted.queue)
    if wanted.array is not None:
        add("j.array_id = %(array)s", array=to_uuid(wanted.array))
    if wanted.created_after is not None:
        add("j.created_at >= %(after)s", after=wanted.created_after)
    if wanted.created_before is not None:
        add("j.created_at < %(until)s", until=wanted.created_before)
    return conditions, parameters
