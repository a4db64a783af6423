"""Accepting jobs: one, many, or an array; each exactly once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg

from hpcjobs.arrays import ArrayInfo, ArrayOrder, NewJobs
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, JobSpec, Progress, When
from hpcjobs_server.queue import TICKETS
from hpcjobs_server.store.base import Database, Row, to_uuid
from hpcjobs_server.store.rows import FROM, INFO, SPEC, to_info


class KeyReused(Exception):
    """The same submission key came with another body, or some of its jobs were deleted since."""


class BadDependency(Exception):
    """A job that cannot be waited for.

    Attributes:
        index: Which of the specs; 0 for a single one.
        place: Which of its dependencies.
        why: What is wrong with it.
    """

    def __init__(self, index: int, place: int, why: str) -> None:
        self.index, self.place, self.why = index, place, why
        super().__init__(why)


# The columns that are read from the spec: from a ``spec`` and an owner's ``asked`` row beside it.
READ_SPEC = """
    jsonb_to_record({spec}) AS s (name text, queue text, priority integer, tags text[], meta jsonb,
        grace double precision, requeue boolean, max_attempts integer, backoff double precision, retry_on integer[],
        start_at timestamptz, start_in double precision, expires_in double precision, resources jsonb, inputs jsonb),
    LATERAL (SELECT coalesce(s.start_at, now() + make_interval(secs => s.start_in)) AS due,
                    now() + make_interval(secs => s.expires_in) AS expiry,
                    (s.resources ->> 'cores')::integer AS cores, jsonb_array_length(s.inputs) > 0 AS has_inputs) d
"""

_COLUMNS = """
    name, queue, priority, tags, meta, grace, requeue, max_attempts, backoff, retry_on, cores, has_inputs, start_at,
    expires_at
"""
_VALUES = """
    s.queue, s.priority, s.tags, s.meta, s.grace, s.requeue, s.max_attempts, s.backoff, s.retry_on, d.cores,
    d.has_inputs, d.due, d.expiry
"""

_MADE = """
    id, seq, state, reason, submit_key, queue, priority, cores, attempt, waiting_for, start_at, expires_at, created_at,
    finished_at, version
"""
"""What is needed of new jobs: all columns of thousands would be written to a disk on the way."""

_TICKETED = "(SELECT * FROM new WHERE state = 'QUEUED' OR (state = 'PENDING' AND waiting_for = 0)) n"

_SUBMIT = f"""
WITH new AS (
    INSERT INTO jobs (id, owner, submit_key, digest, spec, actor, waiting_for, state, {_COLUMNS})
    SELECT r.id, %(owner)s, r.key, decode(r.digest, 'hex'), r.spec, %(actor)s, coalesce(r.waiting_for, 0),
        CASE WHEN r.waiting_for > 0 OR d.due > now() THEN 'PENDING' ELSE 'QUEUED' END, s.name, {_VALUES}
    FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS r (n integer, id uuid, key text, digest text, spec jsonb, waiting_for integer),
        {READ_SPEC.format(spec="r.spec")}
    ORDER BY r.n
    ON CONFLICT (owner, submit_key) WHERE submit_key IS NOT NULL DO NOTHING
    RETURNING {_MADE}
), ticket AS ({TICKETS.format(rows=_TICKETED)})
SELECT id, state, reason, submit_key, created_at, finished_at, version, start_at, expires_at,
       (SELECT count(*) FROM ticket)
FROM new
"""

_EDGES = """
INSERT INTO dependencies (job_id, parent_id, kind)
SELECT job, parent, kind FROM jsonb_to_recordset(%(edges)s::jsonb) AS e (job uuid, parent uuid, kind text)
JOIN jobs ON jobs.id = e.job
ON CONFLICT DO NOTHING
"""

_SUBMIT_ARRAY = f"""
WITH parent AS (
    INSERT INTO arrays (id, owner, submit_key, digest, name, size, spec)
    VALUES (%(id)s, %(owner)s, %(key)s, %(digest)s, %(name)s, %(size)s, %(spec)s::jsonb)
    ON CONFLICT (owner, submit_key) WHERE submit_key IS NOT NULL DO NOTHING
    RETURNING *
), new AS (
    INSERT INTO jobs (id, owner, digest, spec, actor, array_id, array_index, item, waiting_for, state, {_COLUMNS})
    SELECT i.id, p.owner, p.digest, '{{}}', %(actor)s, p.id, i.index - 1, %(items)s::jsonb -> (i.index - 1)::integer,
        %(waiting_for)s, CASE WHEN %(waiting_for)s > 0 OR d.due > now() THEN 'PENDING' ELSE 'QUEUED' END,
        s.name || '[' || i.index - 1 || ']', {_VALUES}
    FROM parent p, unnest(%(ids)s::uuid[]) WITH ORDINALITY AS i (id, index), {READ_SPEC.format(spec="p.spec")}
    ORDER BY i.index
    RETURNING {_MADE}
), edges AS (
    INSERT INTO dependencies (job_id, parent_id, kind)
    SELECT new.id, e.parent, e.kind FROM new,
        jsonb_to_recordset(%(edges)s::jsonb) AS e (parent uuid, kind text)
), ticket AS ({TICKETS.format(rows=_TICKETED)})
SELECT p.created_at, (SELECT count(*) FROM ticket) FROM parent p
"""

_TELL = "SELECT tell_dependents(%s::uuid[])"
"""Those who wait for jobs that had ended before are told at once what they would have been told later."""

_COUNTS = """
SELECT a.id, a.name, a.owner, a.size, a.created_at, a.spec, a.digest, c.state, c.n, c.fraction
FROM arrays a LEFT JOIN LATERAL (
    SELECT j.state, count(*) AS n, sum(least(1, greatest(0, p.done / nullif(p.total, 0)))) AS fraction
    FROM jobs j LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt
    WHERE j.array_id = a.id GROUP BY j.state
) c ON true
WHERE {where} AND (%(owner)s::text IS NULL OR a.owner = %(owner)s)
"""


class Submits(Database):
    """Accepts jobs."""

    async def submit(
        self, owner: str, spec: JobSpec, *, key: str | None = None, actor: str, asked: JobSpec | None = None
    ) -> tuple[JobInfo, bool]:
        """Accept a job, once per ``key``.

        Args:
            owner: Whose job.
            spec: What is kept.
            key: The submission key.
            actor: Who asks.
            asked: What was asked, by which a repeated request is known, where that is not the same as what is kept.

        Returns:
            The job, and whether it is new.

        Raises:
            KeyReused: The key was used for another body.
            BadDependency: A job that it is to wait for is not there, or is another's.
        """
        new = _New(owner, [spec], [key], actor, None if asked is None else [asked])
        if not spec.after:
            async with self.connection() as connection:
                rows = await new.insert(connection)
        else:
            try:
                rows = await self.untangled(new.insert_waiting)
            except BadDependency:
                # what was accepted stays accepted, though what it waited for may be gone since
                if key is None or not (old := await self._by_key(owner, key)):
                    raise
                return self._accepted(old, new)
        if rows:
            return new.info(rows[0]), True
        return self._accepted(await self._by_key(owner, key), new)

    async def _by_key(self, owner: str, key: str | None) -> list[Row]:
        return await self.all(
            f"SELECT {INFO}, {SPEC} AS spec, j.digest FROM {FROM} WHERE j.owner = %s AND j.submit_key = %s",
            [owner, key],
        )

    @staticmethod
    def _accepted(rows: Sequence[Row], new: _New) -> tuple[JobInfo, bool]:
        if not rows or bytes(rows[0]["digest"]) != new.digests[0]:
            raise KeyReused
        return to_info(rows[0]), False

    async def submit_many(
        self,
        owner: str,
        specs: Sequence[JobSpec],
        *,
        key: str | None = None,
        actor: str,
        asked: Sequence[JobSpec] | None = None,
    ) -> tuple[NewJobs, bool]:
        """Accept many jobs at once: all of them or none.

        Args:
            owner: Whose jobs.
            specs: What is kept.
            key: The submission key of the request.
            actor: Who asks.
            asked: What was asked, where that is not the same.

        Returns:
            The jobs in the order of the specs, and whether they are new.

        Raises:
            KeyReused: The key was used for other jobs.
            BadDependency: A job that one is to wait for is not there, is another's, or would wait for it in turn.
        """
        keys = [None if key is None else f"{key}/{number}" for number in range(len(specs))]
        new = _New(owner, specs, keys, actor, asked)
        waits = any(spec.after for spec in specs)

        async def accept(connection: psycopg.AsyncConnection[Row]) -> tuple[NewJobs, bool]:
            rows = await (new.insert_waiting(connection) if waits else new.insert(connection))
            if len(rows) == len(specs):
                by_id = {row["id"]: row for row in rows}
                return _new_jobs([by_id[uid] for uid in new.ids]), True
            if rows:  # not these jobs, or not all of them any more: what was inserted now is taken back
                raise KeyReused
            cursor = await connection.execute(
                "SELECT id, state, submit_key, digest, created_at FROM jobs WHERE owner = %s AND submit_key = ANY(%s)",
                [owner, [*keys, f"{key}/{len(specs)}"]],
            )
            by_key = {row["submit_key"]: row for row in await cursor.fetchall()}
            known = [by_key.get(one) for one in keys]
            old = [
                row
                for row, digest in zip(known, new.digests, strict=True)
                if row is not None and bytes(row["digest"]) == digest
            ]
            if len(old) < len(specs) or len(by_key) > len(specs):
                raise KeyReused
            return _new_jobs(old), False

        return await self.untangled(accept)

    async def submit_array(
        self, owner: str, order: ArrayOrder, *, key: str | None = None, actor: str, asked: ArrayOrder | None = None
    ) -> tuple[NewJobs, bool]:
        """Accept an array, once per ``key``; ``asked`` is the order as it came, where another one is kept.

        Returns:
            The array and its jobs in order, and whether they are new.

        Raises:
            KeyReused: The key was used for another array.
            BadDependency: A job that it is to wait for is not there, or is another's.
        """
        digest = hashlib.sha256((asked or order).model_dump_json().encode()).digest()
        size = order.size or len(order.over or ())
        array_id, ids = uuid4(), [uuid4() for _ in range(size)]

        async def insert(connection: psycopg.AsyncConnection[Row]) -> Row | None:
            [wanted] = await _parents(connection, owner, [order.spec], [array_id])
            edges = [{"parent": str(parent.id), "kind": kind.value} for parent, kind in wanted]
            parameters = {
                "id": array_id,
                "owner": owner,
                "key": key,
                "digest": digest,
                "name": order.spec.name,
                "size": size,
                "spec": order.spec.model_dump_json(),
                "actor": actor,
                "items": None if order.over is None else json.dumps(order.over),
                "ids": ids,
                "waiting_for": len(edges),
                "edges": json.dumps(edges),
            }
            row = await (await connection.execute(_SUBMIT_ARRAY, parameters)).fetchone()
            if row is not None and edges:
                await connection.execute(_TELL, [[parent.id for parent, _ in wanted if parent.state.terminal]])
            return row

        new = await self.untangled(insert) is not None
        where = "a.id = %(id)s" if new else "a.submit_key = %(key)s"
        rows = await self.all(_COUNTS.format(where=where), {"id": array_id, "key": key, "owner": owner})
        if not rows or bytes(rows[0]["digest"]) != digest:
            raise KeyReused
        children = await self.all(
            "SELECT id, state, created_at FROM jobs WHERE array_id = %s ORDER BY array_index", [rows[0]["id"]]
        )
        if not children:  # they were all deleted in this very moment
            raise KeyReused
        return _new_jobs(children).model_copy(update={"array": _array_info(rows)}), new

    async def array(self, owner: str | None, array_id: str) -> ArrayInfo | None:
        """One array; None where there is none, or it is another's."""
        uid = to_uuid(array_id)
        if uid is None:
            return None
        rows = await self.all(_COUNTS.format(where="a.id = %(id)s"), {"id": uid, "owner": owner})
        return _array_info(rows) if rows else None

    async def arrays_among(self, owner: str | None, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are arrays, as they were spelled."""
        uids = {uid: text for text in ids if (uid := to_uuid(text)) is not None}
        if not uids:
            return []
        rows = await self.all(
            "SELECT id FROM arrays WHERE id = ANY(%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)",
            {"ids": list(uids), "owner": owner},
        )
        return [uids[row["id"]] for row in rows]


class _New:
    """Jobs that are about to be inserted.

    Args:
        owner: Whose jobs.
        specs: What is asked.
        keys: The submission key of each.
        actor: Who asks.
        asked: What was asked, where that is not what is kept.
    """

    def __init__(
        self,
        owner: str,
        specs: Sequence[JobSpec],
        keys: Sequence[str | None],
        actor: str,
        asked: Sequence[JobSpec] | None = None,
    ) -> None:
        self._owner, self._specs, self._keys, self._actor = owner, specs, keys, actor
        self._texts = [spec.model_dump_json() for spec in specs]
        came = [
            text if one is spec else one.model_dump_json()
            for text, spec, one in zip(self._texts, specs, asked or specs, strict=True)
        ]
        self.digests = [hashlib.sha256(text.encode()).digest() for text in came]
        self.ids = [uuid4() for _ in specs]

    async def insert(
        self, connection: psycopg.AsyncConnection[Row], waiting_for: Sequence[int] | None = None
    ) -> list[Row]:
        """Insert the jobs with their tickets; fewer rows come back where keys are taken."""
        rows = []
        for number, (uid, key, digest, text) in enumerate(
            zip(self.ids, self._keys, self.digests, self._texts, strict=True)
        ):
            around = {"n": number, "id": str(uid), "key": key, "digest": digest.hex()}
            if waiting_for is not None:
                around["waiting_for"] = waiting_for[number]
            # the spec is JSON already: what is around it is put around it, so that nothing is written twice
            rows.append(f'{json.dumps(around)[:-1]},"spec":{text}}}')
        parameters = {"owner": self._owner, "actor": self._actor, "rows": f"[{','.join(rows)}]"}
        return await (await connection.execute(_SUBMIT, parameters)).fetchall()

    async def insert_waiting(self, connection: psycopg.AsyncConnection[Row]) -> list[Row]:
        """The same for jobs that wait for others: these are locked, so that none ends unseen in between."""
        parents = await _parents(connection, self._owner, self._specs, self.ids)
        rows = await self.insert(connection, [len(wanted) for wanted in parents])
        if len(rows) < len(self.ids):
            return rows
        edges = [
            {"job": str(uid), "parent": str(parent.id), "kind": kind.value}
            for uid, wanted in zip(self.ids, parents, strict=True)
            for parent, kind in wanted
        ]
        await connection.execute(_EDGES, {"edges": json.dumps(edges)})
        ended = {parent.id for wanted in parents for parent, _ in wanted if parent.state.terminal}
        if not ended:
            return rows
        await connection.execute(_TELL, [list(ended)])
        cursor = await connection.execute(
            "SELECT id, state, reason, created_at, finished_at, version, start_at, expires_at"
            " FROM jobs WHERE id = ANY(%s)",
            [self.ids],
        )
        return await cursor.fetchall()

    def info(self, row: Row) -> JobInfo:
        """The info of the one job that was inserted."""
        spec, state = self._specs[0], JobState(row["state"])
        return JobInfo(
            id=str(row["id"]),
            state=state,
            native_state=state.value,
            name=spec.name,
            owner=self._owner,
            queue=spec.queue,
            priority=spec.priority,
            tags=spec.tags,
            meta=spec.meta,
            reason=row["reason"],
            max_attempts=spec.max_attempts,
            start_at=row["start_at"],
            expires_at=row["expires_at"],
            created_at=row["created_at"],
            finished_at=row["finished_at"],
            version=row["version"],
            spec=spec.model_dump(mode="json"),
        )


@dataclasses.dataclass(frozen=True)
class _Parent:
    """A job that is waited for."""

    id: UUID
    state: JobState


async def _parents(
    connection: psycopg.AsyncConnection[Row], owner: str, specs: Sequence[JobSpec], own: Sequence[UUID]
) -> list[list[tuple[_Parent, When]]]:
    """For each spec the jobs that it waits for, locked, and how they must end.

    Raises:
        BadDependency: One is not there, is another's, or the jobs of the call wait for each other in a ring.
    """
    named = {to_uuid(one.job) for spec in specs for one in spec.after if not one.job.startswith("#")} - {None}
    jobs: dict[UUID, _Parent] = {}
    arrays: dict[UUID, list[_Parent]] = {}
    if named:
        cursor = await connection.execute(
            "SELECT id, state, array_id FROM jobs WHERE owner = %(owner)s"
            " AND (id = ANY(%(ids)s) OR array_id = ANY(%(ids)s)) ORDER BY id FOR SHARE",
            {"owner": owner, "ids": list(named)},
        )
        for row in await cursor.fetchall():
            parent = jobs[row["id"]] = _Parent(row["id"], JobState(row["state"]))
            arrays.setdefault(row["array_id"], []).append(parent)
    found: list[list[tuple[_Parent, When]]] = []
    for index, spec in enumerate(specs):
        mine: dict[UUID, tuple[_Parent, When]] = {}
        for place, one in enumerate(spec.after):
            if one.job.startswith("#"):
                number = int(one.job[1:]) if one.job[1:].isdecimal() else len(own)
                if number >= len(own) or len(own) == 1:
                    raise BadDependency(index, place, f"{one.job!r} is no other job of this call")
                wanted = [_Parent(own[number], JobState.QUEUED)]
            else:
                uid = to_uuid(one.job)
                wanted = [] if uid is None else [jobs[uid]] if uid in jobs else arrays.get(uid, [])
                if not wanted:
                    raise BadDependency(index, place, f"there is no job {one.job!r}, or it is another's")
            mine.update((parent.id, (parent, one.when)) for parent in wanted)
        found.append(list(mine.values()))
    _check_no_ring(specs, own, found)
    return found


def _check_no_ring(
    specs: Sequence[JobSpec], own: Sequence[UUID], parents: Sequence[Sequence[tuple[_Parent, When]]]
) -> None:
    """Jobs of one call may wait for each other, but not in a ring.

    Raises:
        BadDependency: They do.
    """
    numbers = {uid: number for number, uid in enumerate(own)}
    left = {
        number: {numbers[parent.id] for parent, _ in wanted if parent.id in numbers}
        for number, wanted in enumerate(parents)
    }
    ready = [number for number, wanted in left.items() if not wanted]
    children: dict[int, list[int]] = {}
    for number, wanted in left.items():
        for parent in wanted:
            children.setdefault(parent, []).append(number)
    done = 0
    while ready:
        number = ready.pop()
        done += 1
        for child in children.get(number, ()):
            left[child].discard(number)
            if not left[child]:
                ready.append(child)
    if done < len(specs):
        stuck = next(number for number, wanted in left.items() if wanted)
        place = next(
            place
            for place, one in enumerate(specs[stuck].after)
            if one.job.startswith("#") and int(one.job[1:]) in left[stuck]
        )
        raise BadDependency(stuck, place, "the jobs wait for each other in a ring, so that none could ever run")


def _new_jobs(rows: Sequence[Row]) -> NewJobs:
    return NewJobs(
        ids=[str(row["id"]) for row in rows],
        states=[JobState(row["state"]) for row in rows],
        created_at=rows[0]["created_at"],
    )


def _array_info(rows: Sequence[Row]) -> ArrayInfo:
    first = rows[0]
    counts = {JobState(row["state"]): row["n"] for row in rows if row["state"] is not None}
    ended = sum(count for state, count in counts.items() if state.terminal)
    running = sum(row["fraction"] or 0.0 for row in rows if row["state"] and not JobState(row["state"]).terminal)
    total = sum(counts.values())
    return ArrayInfo(
        id=str(first["id"]),
        size=first["size"],
        name=first["name"],
        owner=first["owner"],
        counts=counts,
        progress=Progress(done=ended + running, total=total, at=dt.datetime.now(dt.timezone.utc)) if total else None,
        created_at=first["created_at"],
        spec=first["spec"],
    )
