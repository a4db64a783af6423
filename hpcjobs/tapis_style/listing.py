"""Lists and searches of jobs as Tapis has them, on services that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from hpcjobs.errors import InvalidSpec, JobNotFound, Unsupported
from hpcjobs.tapis_data import LIST_KEYS
from hpcjobs.tapis_style.asking import conditions_of, order_of
from hpcjobs.tapis_style.jobs import record_of

if TYPE_CHECKING:
    from hpcjobs.client import Client

MOST_SORTED = 10_000
"""Most jobs that are fetched to be sorted, where a service does not sort."""

_WHOSE = ("MY_JOBS", "SHARED_JOBS", "ALL_JOBS")


def listed(
    client: Client,
    keys: Sequence[str],
    conditions: Mapping[str, Any],
    *,
    limit: int,
    skip: int,
    orderBy: str | None,
    startAfter: str | None,
    listType: str,
    computeTotal: bool | None,
) -> list[dict[str, Any]]:
    """The records of the jobs that are meant; hidden ones are left out.

    Args:
        client: Whose jobs.
        keys: The fields that are wanted; ``id`` comes beside them.
        conditions: What Tapis's search takes, by field and operator.
        limit: At most so many; -1 for all.
        skip: How many are left out before the first one.
        orderBy: As Tapis has it; None for newest first.
        startAfter: Only Tapis has it.
        listType: Whose jobs.
        computeTotal: Not needed.

    Raises:
        InvalidSpec: It cannot be asked so.
        Unsupported: Only Tapis itself can list so.
    """
    service = client.service.name
    if listType not in _WHOSE:
        raise InvalidSpec([("listType", f"is {listType!r}; give MY_JOBS, SHARED_JOBS or ALL_JOBS")])
    if startAfter is not None:
        raise Unsupported(service, "start a list after a value", "give skip=")
    wanted, order = conditions_of(service, conditions), order_of(orderBy)
    if listType == "SHARED_JOBS":
        return []  # nothing is shared but at Tapis
    chosen: Iterator[dict[str, Any]] = islice(
        _ordered(client, wanted, order), skip, None if limit < 0 else skip + limit
    )
    if keys is not LIST_KEYS:
        chosen = (_whole(client, record) for record in list(chosen))
    return [{**{key: record[key] for key in keys}, "id": record["id"]} for record in chosen]


def _whole(client: Client, record: dict[str, Any]) -> dict[str, Any]:
    """A job of a list with what lists do not tell."""
    try:
        return record_of(client.job(record["uuid"]).info)
    except JobNotFound:  # it was deleted in the meantime
        return record


def _ordered(client: Client, wanted: Mapping[str, Any], order: list[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    records = (record_of(job.info) for job in client.jobs(**wanted))
    shown = (record for record in records if record["visible"] is not False)
    if order in ([], [("created", True)]):  # as they come
        return shown
    found = list(islice(shown, MOST_SORTED + 1))
    if len(found) > MOST_SORTED:
        instead = "leave orderBy out, or search for fewer (getJobSearchList)"
        raise Unsupported(client.service.name, f"sort more than {MOST_SORTED:,} jobs", instead)
    for key, largest_first in reversed(order):
        found.sort(key=lambda record: (record[key] is not None, record[key]), reverse=largest_first)
    return iter(found)
