"""The jobs as the Tapis API sees them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from hpcjobs.models import JobInfo, JobSpec
from hpcjobs_server.store.base import Database, Row, to_uuid
from hpcjobs_server.store.rows import INFO, to_info
from hpcjobs_server.store.searching import APP, CONDITION, FROM, STATUS, VERSION, Search

_SEEN = f"""{INFO}, x.spec AS spec, j.hidden, j.changed_at, {STATUS} AS status, {CONDITION} AS condition,
    {APP} AS app, {VERSION} AS app_version"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the Tapis API tells of a job.

    Attributes:
        info: What is known of it.
        spec: What was asked.
        number: Its place among all jobs.
        status: Tapis's word for its state.
        condition: Why it ended, in Tapis's word.
        app: Its app; for a job that has none, what it is instead.
        app_version: The version; "0" for a job that has no app.
        changed_at: When its state last changed.
        hidden: Whether lists leave it out.
    """

    info: JobInfo
    spec: JobSpec
    number: int
    status: str
    condition: str | None
    app: str
    app_version: str
    changed_at: dt.datetime
    hidden: bool


class TapisView(Database):
    """Looks at jobs, and hides them."""

    async def seen(self, owner: str | None, job_id: str) -> Seen | None:
        """One job; None where there is none, or it is another's."""
        uid = to_uuid(job_id)
        if uid is None:
            return None
        rows = await self.all(
            f"SELECT {_SEEN} FROM {FROM} WHERE j.id = %(id)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)",
            {"id": uid, "owner": owner},
        )
        return _seen(rows[0]) if rows else None

    async def search(self, owner: str | None, search: Search, *, limit: int, skip: int) -> list[Seen]:
        """The jobs of an owner that are meant and not hidden."""
        rows = await self.all(
            f"SELECT {_SEEN} FROM {FROM} WHERE {_mine(search)} ORDER BY {search.order} LIMIT %(limit)s OFFSET %(skip)s",
            {**search.parameters, "owner": owner, "limit": limit, "skip": skip},
        )
        return [_seen(row) for row in rows]

    async def total(self, owner: str | None, search: Search) -> int:
        """How many jobs of an owner are meant and not hidden."""
        rows = await self.all(
            f"SELECT count(*) AS n FROM {FROM} WHERE {_mine(search)}", {**search.parameters, "owner": owner}
        )
        count: int = rows[0]["n"]
        return count

    async def hide(self, job_id: str, *, hidden: bool) -> None:
        """Have lists leave a job out, or show it again; nothing else about it changes."""
        async with self.connection() as connection:
            await connection.execute(
                "UPDATE jobs SET hidden = %(hidden)s WHERE id = %(id)s AND hidden <> %(hidden)s",
                {"id": to_uuid(job_id), "hidden": hidden},
            )


def _mine(search: Search) -> str:
    hidden = "true" if "j.hidden" in search.where else "NOT j.hidden"
    return f"(%(owner)s::text IS NULL OR j.owner = %(owner)s) AND {hidden} AND {search.where}"


def _seen(row: Row) -> Seen:
    spec: dict[str, Any] = row["spec"]
    return Seen(
        info=to_info(row),
        # it was checked when it was accepted, perhaps by another version
        spec=JobSpec.model_validate({name: value for name, value in spec.items() if name in JobSpec.model_fields}),
        number=row["seq"],
        status=row["status"],
        condition=row["condition"],
        app=row["app"],
        app_version=row["app_version"],
        changed_at=row["changed_at"],
        hidden=row["hidden"],
    )
