"""What a job waits for, and what waits for it."""

from __future__ import annotations

import dataclasses
from typing import Any

from hpcjobs.lifecycle import JobState
from hpcjobs.models import When
from hpcjobs_server.store.base import Database, Row, to_uuid

MOST = 100


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A job that another one waits for, or that waits for another one.

    Attributes:
        id: Its id.
        name: Its name.
        state: Its state; None where it has been deleted.
        when: How the job that is waited for must end.
        met: Whether it ended so; None while it has not ended.
    """

    id: str
    name: str | None
    state: JobState | None
    when: When
    met: bool | None


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The jobs around one job.

    Attributes:
        parents: What it waits for, or waited for; what has not ended yet comes first.
        children: What waits for it, or waited; what still waits comes first.
        more_parents: There are more of them.
        more_children: There are more of them.
    """

    parents: tuple[Neighbour, ...] = ()
    children: tuple[Neighbour, ...] = ()
    more_parents: bool = False
    more_children: bool = False


# Of those that no index has apart, as many are looked at as an order by them is worth.
_LOOKED = 10_000

# One that was deleted is still known by its id, which whoever submitted the job named.
_PARENTS = """
SELECT d.parent_id AS id, p.name, p.state, d.kind, d.met
FROM (SELECT parent_id, kind, met FROM dependencies WHERE job_id = %(id)s LIMIT %(looked)s) d
LEFT JOIN jobs p ON p.id = d.parent_id
WHERE p.id IS NULL OR %(owner)s::text IS NULL OR p.owner = %(owner)s
ORDER BY d.met NULLS FIRST, p.seq NULLS LAST, d.parent_id LIMIT %(limit)s
"""

# Each half is found by an index of its own: thousands may wait for one job.
_CHILDREN = """
SELECT c.id, c.name, c.state, c.kind, c.met FROM (
    (SELECT j.id, j.name, j.state, j.seq, d.kind, d.met FROM dependencies d JOIN jobs j ON j.id = d.job_id
     WHERE d.parent_id = %(id)s AND d.met IS NULL AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)
     LIMIT %(limit)s)
    UNION ALL
    (SELECT j.id, j.name, j.state, j.seq, d.kind, d.met FROM dependencies d JOIN jobs j ON j.id = d.job_id
     WHERE d.parent_id = %(id)s AND d.met IS NOT NULL AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)
     LIMIT %(limit)s)
) c ORDER BY c.met IS NOT NULL, c.seq LIMIT %(limit)s
"""


class Around(Database):
    """Looks around a job."""

    async def neighbours(self, owner: str | None, job_id: str, *, most: int = MOST) -> Neighbours | None:
        """What a job waits for and what waits for it; None where there is no such job, or it is another's.

        Args:
            owner: Whose it must be, and whose jobs are told; None for anybody's.
            job_id: Its id.
            most: Most jobs of either kind.
        """
        uid = to_uuid(job_id)
        parameters: dict[str, Any] = {"id": uid, "owner": owner, "limit": most + 1, "looked": _LOOKED}
        if uid is None or not await self.all(
            "SELECT 1 AS x FROM jobs WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)", parameters
        ):
            return None
        parents, children = await self.all(_PARENTS, parameters), await self.all(_CHILDREN, parameters)
        return Neighbours(
            parents=tuple(map(_to_neighbour, parents[:most])),
            children=tuple(map(_to_neighbour, children[:most])),
            more_parents=len(parents) > most,
            more_children=len(children) > most,
        )


def _to_neighbour(row: Row) -> Neighbour:
    state = None if row["state"] is None else JobState(row["state"])
    return Neighbour(str(row["id"]), row["name"], state, When(row["kind"]), row["met"])
