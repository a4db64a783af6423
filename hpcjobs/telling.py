"""What is asked before many jobs are acted on, and what is told afterwards: at a command line and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hpcjobs.actions import DeleteResult, RetryResult, UpdateResult
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import CancelResult, JobInfo
    from hpcjobs.sessions import Session

    Result = CancelResult | RetryResult | DeleteResult | UpdateResult

R = TypeVar("R", bound="Result")

HANDFUL = 5
"""Up to so many ids are acted on without a question, and so many jobs are shown with one."""

FEW = 20
"""Up to so many results are told one by one; of more, only those that were not done."""


def matching(
    session: Session, where: Mapping[str, Any], states: Iterable[JobState]
) -> tuple[int, list[JobInfo], list[str]]:
    """The jobs that conditions mean.

    Args:
        session: Where they are.
        where: The conditions.
        states: What is meant where they name no state.

    Returns:
        How many they are, the first of them, and the ids of all.
    """
    from hpcjobs.models import JobFilter
    from hpcjobs.operations import list_jobs

    wanted = JobFilter.parse({"state": sorted(states), **where})
    first: list[JobInfo] = []
    ids: list[str] = []
    for info in session.iterate(list_jobs(session.service, wanted, page_size=1000)):
        ids.append(info.id)
        if len(first) < HANDFUL:
            first.append(info)
    return len(ids), first, ids


def question(verb: str, count: int, what: str = "") -> str:
    """The question that is asked before so many jobs are acted on.

    Example:
        >>> question("cancel", 3)
        'Cancel these 3 jobs? [y/N] '
    """
    return f"{verb.capitalize()} {'it' if count == 1 else f'these {count} jobs'}{what}? [y/N] "


def agreed(answer: str) -> bool:
    """Whether an answer to that means yes.

    Example:
        >>> agreed(" Yes"), agreed("")
        (True, False)
    """
    return answer.strip().lower() in {"y", "yes"}


def words(result: Result) -> str:
    """What came of it for one job, or for all jobs of an array, in a line."""
    if result.jobs is None:
        return str(result)
    return f"array {result.job_id}: {', '.join(f'{count} {outcome}' for outcome, count in result.jobs.items())}"


def not_kept(result: CancelResult, reason: str | None) -> str:
    """What is added where a reason was given and the service does not keep it."""
    return "" if result.reason_kept or not reason else " (the service does not keep the reason)"


def lines(
    results: Sequence[R],
    *,
    bad: Callable[[R], bool],
    line: Callable[[R], str] = words,
    more: str = "",
) -> list[str]:
    """What came of it, in lines: of few jobs one by one, of many the counts and those that were not done.

    Args:
        results: What came of each.
        bad: Whether a result is one to be named among many.
        line: How a result is told.
        more: Where all of them are told, if not here.
    """
    from hpcjobs.actions import outcomes

    if len(results) <= FEW:
        return [line(result) for result in results]
    told = [f"{count} {outcome}" for outcome, count in sorted(outcomes(results).items(), key=lambda item: -item[1])]
    failed = [result for result in results if bad(result)]
    told += [line(result) for result in failed[:FEW]]
    if len(failed) > FEW:
        told.append(f"and {len(failed) - FEW} more such jobs{more}")
    return told
