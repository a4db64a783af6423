"""Cancel, retry, update and delete: of one job, of many, of all that a filter means, and of whole arrays.

Each action locks its jobs in the order of their ids and decides by the states that they have then. What follows from
it is done in SQL: jobs that wait for these are told by a trigger.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg

from hpcjobs.actions import (
    CancelAnswer,
    CancelOrder,
    DeleteAnswer,
    DeleteOrder,
    DeleteOutcome,
    DeleteResult,
    JobChanges,
    JobUpdate,
    RetryAnswer,
    RetryOrder,
    RetryOutcome,
    RetryResult,
    Selection,
    UpdateAnswer,
    UpdateOrder,
    UpdateOutcome,
    UpdateResult,
    summed,
)
from hpcjobs.arrays import one_of
from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import ACTIVE, NOT_STARTED, TERMINAL, JobState
from hpcjobs.models import MAX_BULK, CancelOutcome, CancelResult, JobFilter, JobSpec
from hpcjobs_server.store.base import Database, Ids, Row, to_uuid
from hpcjobs_server.store.jobs import conditions_of
from hpcjobs_server.store.rows import SPEC, encode_cursor

_CANCEL = """
WITH changed AS (
    UPDATE jobs SET
        state = CASE WHEN worker_id IS NULL THEN 'CANCELLED' ELSE state END,
        finished_at = CASE WHEN worker_id IS NULL THEN now() END,
        changed_at = CASE WHEN worker_id IS NULL THEN now() ELSE changed_at END,
        reason = CASE WHEN worker_id IS NULL THEN coalesce(%(reason)s, 'cancelled by ' || %(actor)s) ELSE reason END,
        cancel_requested_at = CASE WHEN worker_id IS NOT NULL THEN coalesce(cancel_requested_at, now()) END,
        cancel_reason = CASE WHEN cancel_requested_at IS NULL THEN %(reason)s
                             ELSE coalesce(cancel_reason, %(reason)s) END,
        cancel_abort = CASE WHEN worker_id IS NULL THEN true ELSE %(abort)s
                            OR (cancel_requested_at IS NOT NULL AND cancel_abort) END,
        waiting_for = 0, actor = %(actor)s, version = version + 1
    WHERE id = ANY(%(ids)s)
    RETURNING worker_id
)
SELECT count(pg_notify('hpcjobs_worker_' || replace(w.worker_id::text, '-', ''), 'cancel'))
FROM (SELECT DISTINCT worker_id FROM changed WHERE worker_id IS NOT NULL) w
"""

_HOLD_PARENTS = """
SELECT 1 FROM jobs WHERE id IN (SELECT parent_id FROM dependencies WHERE job_id = ANY(%s)) ORDER BY id FOR SHARE
"""

_AWAITED = "SELECT DISTINCT parent_id AS id FROM dependencies WHERE parent_id = ANY(%s) AND met IS NULL"

_DELETE = """
DELETE FROM jobs WHERE id = ANY(%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)
    AND worker_id IS NULL
RETURNING id, state
"""

# Jobs that it waits for and that have not ended are waited for again; whatever has ended is past.
_RETRY = """
WITH waiting AS (
    UPDATE dependencies d SET met = CASE WHEN p.state IN ('FINISHED', 'FAILED', 'CANCELLED') THEN true END
    FROM jobs p WHERE p.id = d.parent_id AND d.job_id = ANY(%(ids)s)
    RETURNING d.job_id, d.met
), counted AS (
    SELECT job_id, count(*) FILTER (WHERE met IS NULL) AS n FROM waiting GROUP BY job_id
), ready AS (
    UPDATE jobs j SET
        state = CASE WHEN coalesce(c.n, 0) > 0 THEN 'PENDING' ELSE 'QUEUED' END, waiting_for = coalesce(c.n, 0),
        max_attempts = greatest(j.max_attempts, j.attempt + 1), lost = 0, start_at = NULL, expires_at = NULL,
        reason = NULL, exit_code = NULL, finished_at = NULL, cancel_reason = NULL,
        changed_at = now(), actor = %(actor)s, version = j.version + 1
    FROM unnest(%(ids)s::uuid[]) AS r (id) LEFT JOIN counted c ON c.job_id = r.id
    WHERE j.id = r.id
    RETURNING j.id, j.attempt, j.state
), gone AS (
    DELETE FROM procrastinate_jobs p USING ready
    WHERE p.queueing_lock = ready.id || ':' || ready.attempt AND p.status = 'todo'
)
SELECT id, state FROM ready
"""

# What a spec is to be overwritten with comes once, however many jobs it is for; each job says by number which it is.
_UPDATE = f"""
WITH patches AS (
    SELECT n - 1 AS n, patch, patch ? 'start_at' AS moved,
           coalesce((patch ->> 'start_at')::timestamptz,
                    now() + make_interval(secs => (patch ->> 'start_in')::double precision)) AS due,
           ARRAY(SELECT jsonb_array_elements_text(patch -> 'tags')) AS tags
    FROM jsonb_array_elements(%(patches)s::jsonb) WITH ORDINALITY AS p (patch, n)
), changed AS (
    UPDATE jobs j SET
        -- of a job of an array only what is its own is kept: the rest stays shared
        spec = j.spec || r.patch,
        name = CASE WHEN r.patch ? 'name' THEN r.patch ->> 'name' ELSE j.name END,
        queue = coalesce(r.patch ->> 'queue', j.queue),
        priority = coalesce((r.patch ->> 'priority')::integer, j.priority),
        tags = CASE WHEN r.patch ? 'tags' THEN r.tags ELSE j.tags END,
        meta = coalesce(r.patch -> 'meta', j.meta),
        max_attempts = coalesce((r.patch ->> 'max_attempts')::integer, j.max_attempts),
        start_at = CASE WHEN r.moved THEN r.due ELSE j.start_at END,
        state = CASE WHEN j.state IN ('PENDING', 'QUEUED') THEN
                    CASE WHEN j.waiting_for > 0 OR (CASE WHEN r.moved THEN r.due ELSE j.start_at END) > now()
                         THEN 'PENDING' ELSE 'QUEUED' END
                ELSE j.state END,
        actor = %(actor)s, version = j.version + 1
    FROM unnest(%(ids)s::uuid[], %(which)s::integer[]) AS i (id, n) JOIN patches r ON r.n = i.n
    WHERE j.id = i.id
      AND (r.moved OR (r.patch ? 'name' AND j.name IS DISTINCT FROM r.patch ->> 'name')
           -- a retry may have raised it beyond what was asked
           OR (r.patch ->> 'max_attempts')::integer <> j.max_attempts
           -- the first of these says the same as the second of nearly all jobs, and takes a tenth of the time
           OR (j.array_id IS NULL AND NOT j.spec @> r.patch) OR ({SPEC} || r.patch) <> ({SPEC}))
    RETURNING j.id, j.attempt, j.state, j.version, j.queue, j.priority, j.cores, j.start_at, r.patch
), again AS (
    -- a ticket that is under way (it waits for cores somewhere) is a hint of what was, and does no harm
    UPDATE procrastinate_jobs p SET
        queue_name = c.queue, priority = c.priority, scheduled_at = c.start_at,
        args = jsonb_build_object('job', c.id, 'attempt', c.attempt, 'cores', c.cores, 'queue', c.queue)
    FROM changed c
    WHERE c.patch ?| ARRAY['queue', 'priority', 'start_at']
      AND p.queueing_lock = c.id || ':' || c.attempt AND p.status = 'todo'
)
SELECT id, state, version FROM changed
"""

_RUNS = frozenset({"command", "task", "args"})
"""The changes that can be judged only together with the rest of the spec."""

_STARTS = frozenset({"start_at", "start_in"})

MAX_JOBS = 10 * MAX_BULK
"""Most jobs that one request can act on, where it names arrays."""

R = TypeVar("R", CancelResult, RetryResult, DeleteResult, UpdateResult)


@dataclasses.dataclass
class _Selected:
    """The jobs that an action is for, locked.

    Attributes:
        ids: For each id that was asked for, as it was spelled, the jobs that are meant.
        rows: Those that were found.
        arrays: The ids that are arrays.
        next: Where to go on, with a filter.
    """

    ids: list[tuple[str, list[UUID]]]
    rows: dict[UUID, Row]
    arrays: set[str]
    next: str | None = None

    def results(self, make: Callable[[str, Row | None], R]) -> list[R]:
        """One result per id; of an array one for all of its jobs."""
        sums: dict[UUID, R] = {}  # an array may be named again and again, in many spellings
        results: list[R] = []
        for text, uids in self.ids:
            if text in self.arrays:
                if uids[0] not in sums:
                    sums[uids[0]] = summed(text, [make(str(uid), self.rows[uid]) for uid in uids])
                results.append(sums[uids[0]].model_copy(update={"job_id": text}))
            else:
                results.append(make(text, self.rows.get(uids[0]) if uids else None))
        return results


class Repeated(Exception):
    """Two changes to one job in one request: which of them counts cannot be known."""

    def __init__(self, text: str, job_id: str) -> None:
        self.why = f"{text!r} names job {job_id} again: put all changes to a job into one item"
        super().__init__(self.why)


class TooMany(Exception):
    """The arrays that are named have too many jobs for one request."""

    def __init__(self, count: int) -> None:
        self.why = f"these are {count:,} jobs in all; {MAX_JOBS:,} at most in one request: name fewer arrays"
        super().__init__(self.why)


class Actions(Database):
    """Acts on jobs that exist."""

    async def cancel(self, owner: str | None, order: CancelOrder, *, actor: str) -> CancelAnswer:
        """Cancel jobs; atomic against a worker that is about to take one.

        Args:
            owner: Whose jobs; None for anybody's.
            order: Which jobs, and how.
            actor: Who asks.

        Returns:
            One result per id, in their order; with a filter, one per job that was meant and had not ended.
        """

        async def work(connection: psycopg.AsyncConnection[Row]) -> CancelAnswer:
            chosen = await _select(connection, owner, order, ACTIVE)
            # Two statements, because the second must see the rows as they are now that they are locked.
            touched = [
                uid
                for uid, row in chosen.rows.items()
                if not (state := JobState(row["state"])).terminal and (order.abort or state.not_started)
            ]
            if touched:
                await connection.execute(
                    _CANCEL, {"ids": Ids(touched), "reason": order.reason, "actor": actor, "abort": order.abort}
                )
            never = [
                uid
                for uid, row in chosen.rows.items()
                if order.delete and row["attempt"] == 0 and JobState(row["state"]).not_started
            ]
            if never:
                await connection.execute("DELETE FROM jobs WHERE id = ANY(%s)", [Ids(never)])
            results = chosen.results(lambda text, row: _cancel_result(text, row, order.reason, abort=order.abort))
            return CancelAnswer.model_construct(results=results, next=chosen.next)

        return await self.untangled(work)

    async def retry(self, owner: str | None, order: RetryOrder, *, actor: str) -> RetryAnswer:
        """Make jobs ready at once, also such as are scheduled; attempts that were used up are raised by one.

        Args:
            owner: Whose jobs; None for anybody's.
            order: Which jobs.
            actor: Who asks.

        Returns:
            One result per id, in their order; with a filter that names no state, those that did not end well.
        """

        async def work(connection: psycopg.AsyncConnection[Row]) -> RetryAnswer:
            chosen = await _select(connection, owner, order, frozenset({JobState.FAILED, JobState.CANCELLED}))
            ready = [uid for uid, row in chosen.rows.items() if row["worker_id"] is None]
            after: dict[UUID, JobState] = {}
            if ready:
                # the jobs that these wait for are held still, so that none ends unseen in between
                await connection.execute(_HOLD_PARENTS, [Ids(ready)])
                cursor = await connection.execute(_RETRY, {"ids": Ids(ready), "actor": actor})
                after = {row["id"]: JobState(row["state"]) for row in await cursor.fetchall()}
                await connection.execute(_TICKETS_OF, [Ids(after)])

            def result(text: str, row: Row | None) -> RetryResult:
                if row is None:
                    return RetryResult(job_id=text, outcome=RetryOutcome.NOT_FOUND)
                before = JobState(row["state"])
                if (now := after.get(row["id"])) is None:
                    outcome, now = RetryOutcome.STILL_RUNNING, before
                else:
                    outcome = RetryOutcome.RETRIED
                return RetryResult(job_id=text, outcome=outcome, before=before, after=now)

            return RetryAnswer.model_construct(results=chosen.results(result), next=chosen.next)

        return await self.untangled(work)

    async def delete(self, owner: str | None, order: DeleteOrder, *, actor: str) -> DeleteAnswer:
        """Remove the records of jobs that do not run; their files are removed next.

        Args:
            owner: Whose jobs; None for anybody's.
            order: Which jobs.
            actor: Who asks.

        Returns:
            One result per id, in their order; with a filter that names no state, those that do not run.
        """

        async def work(connection: psycopg.AsyncConnection[Row]) -> DeleteAnswer:
            easy = await _delete_unawaited(connection, owner, order.ids)
            if len(easy) == len(order.ids) > 0:
                return DeleteAnswer.model_construct(results=[easy[text] for text in order.ids], next=None)
            rest = order.model_copy(update={"ids": [text for text in order.ids if text not in easy]})
            chosen = await _select(connection, owner, rest, TERMINAL | NOT_STARTED)
            gone = [uid for uid, row in chosen.rows.items() if row["worker_id"] is None]
            waiting = [uid for uid in gone if JobState(chosen.rows[uid]["state"]) in NOT_STARTED]
            if waiting:  # those for which others wait are cancelled first, so that the others are told
                awaited = [row["id"] for row in await (await connection.execute(_AWAITED, [Ids(waiting)])).fetchall()]
                if awaited:
                    parameters = {"ids": Ids(awaited), "reason": "it was deleted", "actor": actor, "abort": True}
                    await connection.execute(_CANCEL, parameters)
            if gone:
                await connection.execute("DELETE FROM jobs WHERE id = ANY(%s)", [Ids(gone)])

            def result(text: str, row: Row | None) -> DeleteResult:
                if row is None:
                    return DeleteResult(job_id=text, outcome=DeleteOutcome.NOT_FOUND)
                before = JobState(row["state"])
                if row["worker_id"] is not None:
                    return DeleteResult(job_id=text, outcome=DeleteOutcome.STILL_RUNNING, before=before, after=before)
                return DeleteResult(job_id=text, outcome=DeleteOutcome.DELETED, before=before)

            hard = iter(chosen.results(result))
            results = [easy[text] if text in easy else next(hard) for text in order.ids] if order.ids else list(hard)
            return DeleteAnswer.model_construct(results=results, next=chosen.next)

        return await self.untangled(work)

    async def update(
        self,
        owner: str | None,
        order: UpdateOrder,
        *,
        actor: str,
        refuse: Callable[[JobSpec], str | None] | None = None,
    ) -> UpdateAnswer:
        """Change jobs: what they would do only while they have not started, their labels always.

        Args:
            owner: Whose jobs; None for anybody's.
            order: Which jobs, and what is to be different about them.
            actor: Who asks.
            refuse: Says why what a job is to run now cannot be run here.

        Returns:
            One result per id or item, in their order; with a filter that names no state, those that have not started.

        Raises:
            Repeated: Two items are for the same job.
            TooMany: The arrays have too many jobs for one request.
        """
        selection = Selection.model_construct(
            ids=[item.id for item in order.items] or order.ids, filter=order.filter, cursor=order.cursor
        )

        every = [order.changes] if order.changes is not None else [item.changes for item in order.items]
        whole = any(_RUNS & changes.model_fields_set for changes in every)

        async def work(connection: psycopg.AsyncConnection[Row]) -> UpdateAnswer:
            more = f", j.version, j.item, {SPEC} AS spec" if whole else ", j.version"
            chosen = await _select(connection, owner, selection, NOT_STARTED, more=more)
            items: dict[UUID, JobUpdate] = {}
            for each, (text, uids) in zip(order.items, chosen.ids, strict=False):
                if repeated := items.keys() & set(uids):
                    raise Repeated(text, str(min(repeated)))
                items.update(dict.fromkeys(uids, each))
            patches = _Patches(refuse)
            refused: dict[UUID, tuple[UpdateOutcome, str]] = {}
            which: dict[UUID, int] = {}
            for uid, row in chosen.rows.items():
                item = items.get(uid)
                changes = item.changes if item is not None else order.changes
                assert changes is not None
                try:
                    _check_changes(row, changes, item.version if item is not None else None)
                    which[uid] = patches.number(row, changes)
                except _Refused as error:
                    refused[uid] = error.outcome, error.detail
            after: dict[UUID, Row] = {}
            if which:
                parameters = {"ids": Ids(which), "which": list(which.values()), "actor": actor}
                cursor = await connection.execute(_UPDATE, {**parameters, "patches": json.dumps(patches.made)})
                after = {row["id"]: row for row in await cursor.fetchall()}
                if any({"queue", "start_at"} & patch.keys() for patch in patches.made):
                    await connection.execute(_TICKETS_OF, [Ids(after)])

            def result(text: str, row: Row | None) -> UpdateResult:
                if row is None:
                    return UpdateResult(job_id=text, outcome=UpdateOutcome.NOT_FOUND)
                outcome, detail = refused.get(row["id"]) or (UpdateOutcome.UNCHANGED, None)
                now = after.get(row["id"])
                if now is not None:
                    outcome = UpdateOutcome.UPDATED
                now = now or row
                return UpdateResult(
                    job_id=text,
                    outcome=outcome,
                    before=row["state"],
                    after=now["state"],
                    version=now["version"],
                    detail=detail,
                )

            return UpdateAnswer.model_construct(results=chosen.results(result), next=chosen.next)

        return await self.untangled(work)


_TICKETS_OF = "SELECT issue_tickets(%s::uuid[])"


async def _delete_unawaited(
    connection: psycopg.AsyncConnection[Row], owner: str | None, ids: Sequence[str]
) -> dict[str, DeleteResult]:
    """Delete jobs for which no other waits without locking them first, which takes as long as the deleting.

    Args:
        connection: In a transaction.
        owner: Whose jobs; None for anybody's.
        ids: Which jobs; whatever else stands there is left alone.

    Returns:
        By id, as it was spelled, those that were deleted: all that do not run, or none where others wait for one.
    """
    uids = {text: to_uuid(text) for text in ids}
    wanted = Ids({uid for uid in uids.values() if uid is not None})
    if not wanted:
        return {}
    async with connection.transaction() as attempt:
        cursor = await connection.execute(_DELETE, {"ids": wanted, "owner": owner})
        before = {row["id"]: JobState(row["state"]) for row in await cursor.fetchall()}
        # After the deleting: a job that came to wait for one of these held it until it was stored.
        if before and await (await connection.execute(_AWAITED, [Ids(before)])).fetchone() is not None:
            before = {}
            raise psycopg.Rollback(attempt)
    return {
        text: DeleteResult(job_id=text, outcome=DeleteOutcome.DELETED, before=before[uid])
        for text, uid in uids.items()
        if uid in before
    }


async def _select(
    connection: psycopg.AsyncConnection[Row],
    owner: str | None,
    order: Selection,
    states: frozenset[JobState],
    *,
    more: str = "",
) -> _Selected:
    """Lock the jobs that are meant.

    Args:
        connection: In a transaction.
        owner: Whose jobs; None for anybody's.
        order: Which jobs.
        states: With a filter that names none: the states of those that are meant.
        more: Further columns.
    """
    columns = f"j.id, j.seq, j.state, j.attempt, j.worker_id, j.array_id, j.array_index{more}"
    if order.filter is not None:
        wanted: JobFilter = order.filter
        if not wanted.state:
            wanted = wanted.model_copy(update={"state": sorted(states)})
        conditions, parameters = conditions_of(owner, wanted, order.cursor)
        query = f"SELECT j.id FROM jobs j WHERE {' AND '.join(conditions)} ORDER BY j.seq DESC LIMIT {MAX_BULK}"
        cursor = await connection.execute(cast("Any", query), parameters)
        ids = [row["id"] for row in await cursor.fetchall()]
        # looked at again, now that they are locked: some may have gone on in between
        rows = await _locked(connection, columns, "j.id = ANY(%(ids)s)", {"ids": Ids(ids)})
        found = {row["id"]: row for row in rows if JobState(row["state"]) in wanted.state}
        last = min((row["seq"] for row in rows), default=0)
        return _Selected(
            ids=[(str(uid), [uid]) for uid in ids if uid in found],
            rows=found,
            arrays=set(),
            next=encode_cursor(last) if len(ids) == MAX_BULK else None,
        )
    uids = [(text, to_uuid(text)) for text in order.ids]
    wanted_ids = Ids(dict.fromkeys(uid for _, uid in uids if uid is not None))
    owned = "(%(owner)s::text IS NULL OR j.owner = %(owner)s)"
    cursor = await connection.execute(
        f"SELECT j.id, j.size FROM arrays j WHERE j.id = ANY(%(ids)s) AND {owned}", {"ids": wanted_ids, "owner": owner}
    )
    sizes = {row["id"]: row["size"] for row in await cursor.fetchall()}
    if (size := sum(sizes.values())) > MAX_JOBS:
        raise TooMany(size)
    of_arrays: list[UUID] = []
    if sizes:
        # The jobs of arrays are looked up first, so that no join is locked: of thousands of rows that were locked by
        # one, those were left out that a worker changed at that very moment.
        cursor = await connection.execute("SELECT c.id FROM jobs c WHERE c.array_id = ANY(%s)", [Ids(sizes)])
        of_arrays = [row["id"] for row in await cursor.fetchall()]
    rows = await _locked(
        connection,
        columns,
        "j.id = ANY(%(ids)s) AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)",
        {"ids": Ids({*wanted_ids, *of_arrays}), "owner": owner},
    )
    found = {row["id"]: row for row in rows}
    children: dict[UUID, list[tuple[int, UUID]]] = {}
    for row in rows:
        if row["array_id"] is not None:
            children.setdefault(row["array_id"], []).append((row["array_index"], row["id"]))
    members = {array: [uid for _, uid in sorted(jobs)] for array, jobs in children.items()}
    chosen: list[tuple[str, list[UUID]]] = []
    arrays: set[str] = set()
    for text, uid in uids:
        if uid is not None and uid not in found and uid in children:
            arrays.add(text)
            chosen.append((text, members[uid]))
        else:
            chosen.append((text, [] if uid is None else [uid]))
    return _Selected(ids=chosen, rows=found, arrays=arrays)


async def _locked(
    connection: psycopg.AsyncConnection[Row], columns: str, where: str, parameters: dict[str, Any]
) -> list[Row]:
    query = f"SELECT {columns} FROM jobs j WHERE {where} ORDER BY j.id FOR UPDATE OF j"
    cursor = await connection.execute(cast("Any", query), parameters)
    return await cursor.fetchall()


def _cancel_result(text: str, row: Row | None, reason: str | None, *, abort: bool) -> CancelResult:
    if row is None:
        return CancelResult(job_id=text, outcome=CancelOutcome.NOT_FOUND)
    state = JobState(row["state"])
    if state.terminal:
        outcome, after = CancelOutcome.ALREADY_TERMINAL, state
    elif row["worker_id"] is None:
        outcome, after = CancelOutcome.CANCELLED, JobState.CANCELLED
    elif abort or state.not_started:  # in a cluster's queue: its worker takes it out, and leaves it alone if it started
        outcome, after = CancelOutcome.CANCEL_REQUESTED, state
    else:
        outcome, after = CancelOutcome.LEFT_RUNNING, state
    return CancelResult(job_id=text, outcome=outcome, before=state, after=after, reason=reason)


class _Refused(Exception):
    """A change that cannot be made to a job."""

    def __init__(self, outcome: UpdateOutcome, detail: str) -> None:
        self.outcome, self.detail = outcome, detail
        super().__init__(detail)


def _check_changes(row: Row, changes: JobChanges, version: int | None) -> None:
    """Raises ``_Refused`` where someone was faster, or the job has gone too far."""
    if version is not None and version != row["version"]:
        raise _Refused(UpdateOutcome.STALE, f"the record is at version {row['version']}, not {version}")
    state = JobState(row["state"])
    where = row["state"]
    if state.not_started and row["worker_id"] is not None:
        state, where = JobState.STAGING, "in the cluster's queue"
    if refused := changes.refused(state):
        named = " and ".join(", ".join(refused).rsplit(", ", 1))
        raise _Refused(UpdateOutcome.REFUSED, f"the job is {where}: {named} can no longer be changed")


class _Patches:
    """What specs are to be overwritten with; changes that are the same for many jobs are looked at once.

    Args:
        refuse: Says why what a job is to run now cannot be run here.

    Attributes:
        made: The patches, as JSON has them.
    """

    def __init__(self, refuse: Callable[[JobSpec], str | None] | None) -> None:
        self._refuse = refuse
        self._known: dict[int, int | str] = {}
        self.made: list[dict[str, Any]] = []

    def number(self, row: Row, changes: JobChanges) -> int:
        """The number of the patch for this job. Raises ``_Refused`` where the changes make no job."""
        alone = not _RUNS & changes.model_fields_set
        found = self._known.get(id(changes)) if alone else None
        if found is None:
            # what is changed by itself is judged by itself: any command will do
            found = self._make({} if alone else row, changes, alone=alone)
            self._known[id(changes)] = found
        if isinstance(found, str):
            raise _Refused(UpdateOutcome.INVALID, found)
        return found

    def _make(self, row: Row, changes: JobChanges, *, alone: bool) -> int | str:
        spec: dict[str, Any] = row.get("spec", {"command": "true"})
        try:
            asked = changes.apply(spec)
        except InvalidSpec as error:
            return str(error)
        if not alone and self._refuse is not None:
            run = asked if row["array_id"] is None else one_of(asked, row["item"], row["array_index"])
            if why := self._refuse(run):
                return why
        named = changes.model_fields_set
        if _STARTS & named:  # one takes the place of the other
            named = named | _STARTS
        patch = {
            name: value
            for name, value in asked.model_dump(mode="json").items()
            if name in named or not (alone or name in _STARTS or value == spec.get(name))
        }
        self.made.append(patch)
        return len(self.made) - 1
