"""The plans of the store's statements, as Postgres carries them out on a large table, for the documentation."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from hpcjobs.actions import CancelOrder, DeleteOrder, JobChanges, RetryOrder, UpdateOrder
from hpcjobs.models import JobFilter, JobSpec
from hpcjobs_server.store import Store, Work
from hpcjobs_server.store.rows import encode_cursor
from tests.running import Service, run_async

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks-plans.md"
_OWNER = "owner-0"
_WIDTH = 110
_SAID = re.compile(r"->|^[A-Z]|CTE|SubPlan|InitPlan|Cond:|Filter:|Trigger")
_UNSAID = re.compile(r"Storage:|Planning|Execution|Cache|Buckets|Heap Blocks|Sort Method")
_LONG = re.compile(r"'\{[^']{40,}\}'|'[^']{60,}'")


class Plan:
    """One statement's plan.

    Attributes:
        lines: What Postgres says of it.
        indexes: Which indexes it uses.
        wasted: Rows that were read and left out.
    """

    def __init__(self, lines: list[str]) -> None:
        said = [line for line in lines if _SAID.search(line) and not _UNSAID.search(line)]
        self.lines = [_LONG.sub("'…'", line)[:_WIDTH] for line in said]
        self.indexes = [one for line in lines for one in re.findall(r"(?:using|Index Scan on) (\w+)", line)]
        self.wasted = sum(int(one[1]) for line in lines if (one := re.search(r"Rows Removed by.*: (\d+)", line)))


class _Explaining(psycopg.AsyncCursor[Any]):
    """Explains each statement, in a transaction that is rolled back, before it is carried out."""

    plans: list[Plan] = []  # noqa: RUF012 - meant for all of them

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(self.connection)
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", text) and "advisory" not in text:
            async with self.connection.transaction(force_rollback=True):
                plain = psycopg.AsyncCursor(self.connection, row_factory=tuple_row)
                explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) " + text
                await plain.execute(explain.encode(), params)
                self.plans.append(Plan([row[0] for row in await plain.fetchall()]))
        return await super().execute(query, params, **options)


def plans_of(service: Service) -> dict[str, list[Plan]]:
    """The plans of everything that the store does, by what it does."""
    return run_async(lambda: _plans_of(service))


async def _plans_of(service: Service) -> dict[str, list[Plan]]:
    store, work = Store(service.settings.database_url), Work(service.settings.database_url)
    for database in (store, work):
        database.pool.kwargs["cursor_factory"] = _Explaining
        await database.open()
    try:
        return await _all_of(store, work)
    finally:
        await store.close()
        await work.close()


async def _all_of(store: Store, work: Work) -> dict[str, list[Plan]]:
    found: dict[str, list[Plan]] = {}

    async def one(what: str, action: Callable[[], Awaitable[object]]) -> None:
        _Explaining.plans.clear()
        await action()
        found[what] = list(_Explaining.plans)

    def listed(
        owner: str | None = _OWNER, cursor: str | None = None, **conditions: Any
    ) -> Callable[[], Awaitable[object]]:
        return lambda: store.list(owner, JobFilter.parse(conditions), limit=100, cursor=cursor)

    info, _ = await store.submit(_OWNER, JobSpec(command=["true"]), key="first", actor=_OWNER)
    rows = await store.all(
        "SELECT max(seq) / 2 AS middle, (SELECT id FROM jobs WHERE owner = %s AND state = 'FINISHED' LIMIT 1) AS ended,"
        " (SELECT array_id FROM jobs WHERE owner = %s AND array_id IS NOT NULL LIMIT 1) AS array_id FROM jobs",
        [_OWNER, _OWNER],
    )
    ended, array, middle = str(rows[0]["ended"]), str(rows[0]["array_id"]), encode_cursor(rows[0]["middle"])
    cursor, _ = await store.changes(None)
    every: Mapping[str, Callable[[], Awaitable[object]]] = {
        "list: newest": listed(),
        "list: newest, everybody's": listed(None),
        "list: from the middle": listed(cursor=middle),
        "list: state=FAILED": listed(state="FAILED"),
        "list: state=QUEUED, everybody's": listed(None, state="QUEUED"),
        "list: not ended": listed(state=["PENDING", "QUEUED", "STAGING", "RUNNING", "ARCHIVING"]),
        "list: tag": listed(tag="night"),
        "list: rare tag": listed(tag="sweep-4"),
        "list: name": listed(name="fit-4711"),
        "list: name=fit-471*": listed(name="fit-471*"),
        "list: array": listed(array=array),
        "list: queue": listed(queue="long"),
        "list: queue without jobs": listed(queue="nothing"),
        "list: created_after": listed(created_after="2100-01-01T00:00:00Z"),
        "list: created_before": listed(created_before="2000-01-01T00:00:00Z"),
        "get": lambda: store.get(_OWNER, ended),
        "history": lambda: store.history(_OWNER, ended),
        "array": lambda: store.array(_OWNER, array),
        "submit": lambda: store.submit(_OWNER, JobSpec(command=["true"]), key="new", actor=_OWNER),
        "submit: after a job": lambda: store.submit(
            _OWNER, JobSpec(command=["true"], after=[ended]), key="after", actor=_OWNER
        ),
        "update": lambda: store.update(
            _OWNER, UpdateOrder(ids=[info.id], changes=JobChanges(priority=7)), actor=_OWNER
        ),
        "claim": lambda: work.claim(info.id, 0, uuid.uuid4(), queue="default"),
        "cancel": lambda: store.cancel(_OWNER, CancelOrder(ids=[info.id]), actor=_OWNER),
        "cancel: tag": lambda: store.cancel(_OWNER, CancelOrder(filter=JobFilter(tag=["sweep-4"])), actor=_OWNER),
        "retry": lambda: store.retry(_OWNER, RetryOrder(ids=[ended]), actor=_OWNER),
        "delete": lambda: store.delete(_OWNER, DeleteOrder(ids=[ended]), actor=_OWNER),
        "stream of changes": lambda: store.changes(cursor),
        "beat of a worker": lambda: work.beat(uuid.uuid4(), host="h", pid=1, cores=1, busy=0, running=0),
        "sweep": lambda: work.sweep(lease=90),
        "admit to a queue": lambda: store.all("SELECT admit('default')"),
        "queues": store.queues,
        "counts for the metrics": store.counts,
        "forget: nothing is that old": lambda: store.forget(keep=1e9),
        "forget: 1000 jobs": lambda: store.forget(keep=0),
        "inputs in use": store.inputs_in_use,
    }
    for what, action in every.items():
        await one(what, action)
    return found


def write_plans(plans: Mapping[str, list[Plan]], jobs: int, path: Path = DOCUMENT) -> None:
    """Write them down."""
    lines = [
        "# Plans",
        "",
        f"Made by `make bench`: how Postgres carries out the store's statements with {jobs:,} jobs in the table, one owner",
        "having a twentieth of them. Rows that are read and left out are named where there are a thousand or more.",
        "",
        "| what | indexes | rows read and left out |",
        "| --- | --- | --- |",
    ]
    for what, made in plans.items():
        indexes = ", ".join(dict.fromkeys(f"`{name}`" for plan in made for name in plan.indexes))
        wasted = sum(plan.wasted for plan in made)
        lines.append(f"| {what} | {indexes} | {f'{wasted:,}' if wasted >= 1000 else ''} |")
    for what in (
        "list: newest",
        "list: from the middle",
        "list: state=FAILED",
        "list: tag",
        "claim",
        "cancel",
        "submit",
    ):
        lines += ["", f"## {what[0].upper()}{what[1:]}"]
        for plan in plans[what]:
            lines += ["", ":::{code-block} text", *plan.lines, ":::"]
    path.write_text("\n".join(lines) + "\n")
