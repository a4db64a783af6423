"""Queues: how they are set, and the jobs in them."""

from __future__ import annotations

import time

from hpcjobs.lifecycle import JobState
from hpcjobs.records import QueueInfo, QueueOrder
from hpcjobs_server.store.base import Database

_FRESH = 1.0
"""Seconds for which the limits of the queues are good in this process."""

_SET = """
INSERT INTO queues (name, paused, reason, max_running, max_walltime, actor)
VALUES (%(name)s, coalesce(%(paused)s, false), %(reason)s, %(max_running)s, %(max_walltime)s, %(actor)s)
ON CONFLICT (name) DO UPDATE SET
    paused = coalesce(%(paused)s, queues.paused),
    reason = CASE WHEN %(paused)s IS NULL THEN queues.reason ELSE excluded.reason END,
    max_running = CASE WHEN %(set_running)s THEN excluded.max_running ELSE queues.max_running END,
    max_walltime = CASE WHEN %(set_walltime)s THEN excluded.max_walltime ELSE queues.max_walltime END,
    actor = excluded.actor, changed_at = now()
"""

_LIST = """
SELECT coalesce(q.name, c.queue) AS name, coalesce(q.paused, false) AS paused, q.reason, q.max_running, q.max_walltime,
       c.counts
FROM queues q FULL JOIN (
    SELECT queue, jsonb_object_agg(state, n) AS counts FROM (
        SELECT queue, state, count(*) AS n FROM jobs
        WHERE state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'PAUSED', 'ARCHIVING') GROUP BY queue, state
    ) s GROUP BY queue
) c ON c.queue = q.name
WHERE %(name)s::text IS NULL OR coalesce(q.name, c.queue) = %(name)s
ORDER BY 1
"""


class Queues(Database):
    """Sets queues."""

    _walltimes: dict[str, float] | None = None
    _asked = float("-inf")

    async def queues(self, name: str | None = None) -> list[QueueInfo]:
        """Every queue that is set or has jobs that have not ended, or the one of this name."""
        rows = await self.all(_LIST, {"name": name})
        return [
            QueueInfo(
                name=row["name"],
                paused=row["paused"],
                reason=row["reason"],
                max_running=row["max_running"],
                max_walltime=row["max_walltime"],
                counts={JobState(state): count for state, count in (row["counts"] or {}).items()},
            )
            for row in rows
        ]

    async def set_queue(self, name: str, order: QueueOrder, *, actor: str) -> QueueInfo:
        """Set a queue, and offer its jobs to the workers where they may run now."""
        walltime = order.max_walltime
        async with self.connection() as connection, connection.transaction():
            await connection.execute(
                _SET,
                {
                    "name": name,
                    "paused": order.paused,
                    "reason": order.reason,
                    "max_running": order.max_running,
                    "max_walltime": walltime.total_seconds() if walltime else None,
                    "set_running": "max_running" in order.model_fields_set,
                    "set_walltime": "max_walltime" in order.model_fields_set,
                    "actor": actor,
                },
            )
            await connection.execute("SELECT admit(%s)", [name])
        self._walltimes = None
        found = await self.queues(name)
        return found[0]

    async def longest(self, queue: str) -> float | None:
        """The longest that a job of this queue may run, in seconds; None for no limit. As of a second ago at most."""
        if self._walltimes is None or time.monotonic() - self._asked > _FRESH:
            rows = await self.all("SELECT name, max_walltime FROM queues WHERE max_walltime IS NOT NULL")
            self._walltimes = {row["name"]: row["max_walltime"] for row in rows}
            self._asked = time.monotonic()
        return self._walltimes.get(queue)
