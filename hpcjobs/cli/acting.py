"""What ``cancel``, ``retry``, ``delete`` and ``update`` share: which jobs are meant, the question, and the answer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from hpcjobs.cli import output
from hpcjobs.cli.exits import ExitCode

if TYPE_CHECKING:
    from hpcjobs.actions import DeleteResult, RetryResult, UpdateResult
    from hpcjobs.client import Client
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import CancelResult, JobInfo

    Result = CancelResult | RetryResult | DeleteResult | UpdateResult

R = TypeVar("R", bound="Result")

HANDFUL = 5
"""Up to so many ids are acted on without a question, and so many jobs are shown with one."""

FEW = 20
"""Up to so many results are told one by one; of more, only those that were not done."""


@dataclasses.dataclass(frozen=True)
class Verb:
    """What is to be done with jobs.

    Attributes:
        name: As it is asked: ``cancel``.
        done: As it is told: ``cancelled``.
        states: Which jobs are meant where conditions name no state.
    """

    name: str
    done: str
    states: frozenset[JobState]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The jobs that are meant: by id, or by conditions.

    Attributes:
        ids: The ids; None where there are conditions.
        where: The conditions.
    """

    ids: list[str] | None
    where: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Whether it is asked before anything is done."""
        return self.ids is None or len(self.ids) > HANDFUL


def choose(
    given: Sequence[str] | None,
    where: dict[str, Any],
    verb: Verb,
    *,
    yes: bool,
    conditions: str = "--state, --tag, --name, --queue, --array, --created-after, --created-before",
) -> Chosen:
    """Which jobs are meant. Asks nothing.

    Args:
        given: The ids on the command line; ``-`` stands for those on stdin.
        where: The conditions.
        verb: What is to be done.
        yes: Whether it was said that nothing is to be asked.
        conditions: The names of the options that are conditions.

    Raises:
        typer.BadParameter: No job is named, or in two ways, or there is nobody to ask.
    """
    from hpcjobs.cli.ids import read_ids

    if given and where:
        raise typer.BadParameter("give ids or conditions, not both")
    if not given and not where:
        raise typer.BadParameter(f"say which jobs to {verb.name}: ids, or a condition ({conditions})")
    chosen = Chosen(None, where) if where else Chosen(read_ids(given or ()))
    if chosen.many and not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        meant = "conditions may mean many jobs" if where else f"these are {len(chosen.ids or ())} ids"
        raise typer.BadParameter(f"{meant}, and there is no terminal to ask on: say --yes to {verb.name} them")
    return chosen


def agreed(client: Client, chosen: Chosen, verb: Verb, *, yes: bool, what: str = "") -> Chosen:
    """Show how many jobs are meant and ask, where that is to be done.

    Args:
        client: Whose jobs they are.
        chosen: The jobs.
        verb: What is to be done.
        yes: Whether nothing is to be asked.
        what: More words of what is to be done.

    Returns:
        The jobs to act on: where it was asked, those that were shown and no others.

    Raises:
        typer.Exit: The answer was no; it was said that nothing was done.
    """
    if yes or not chosen.many:
        return chosen
    if chosen.ids is None:
        count, first, ids = _matching(client, chosen.where, verb.states)
    else:
        from hpcjobs.cli import waits

        infos, missing = waits.look(client, chosen.ids)
        count, first, ids = len(infos), infos[:HANDFUL], chosen.ids
        if missing:
            output.error_line(f"{len(missing)} of these ids are not known")
    if not count:
        return Chosen([] if chosen.ids is None else ids)
    for line in _shown(count, first):
        print(line, file=sys.stderr)
    them = "it" if count == 1 else f"these {count} jobs"
    print(output.clean(f"{verb.name.capitalize()} {them}{what}? [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        output.error_line(f"nothing was {verb.done}")
        raise typer.Exit(ExitCode.UNSUCCESSFUL)
    return Chosen(ids)


def _matching(
    client: Client, where: dict[str, Any], states: Iterable[JobState]
) -> tuple[int, list[JobInfo], list[str]]:
    """The jobs that conditions mean: how many, the first of them, and the ids of all."""
    from hpcjobs.cli.waits import session_of
    from hpcjobs.models import JobFilter
    from hpcjobs.operations import list_jobs

    session = session_of(client)
    wanted = JobFilter.parse({"state": sorted(states), **where})
    first: list[JobInfo] = []
    ids: list[str] = []
    for info in session.iterate(list_jobs(session.service, wanted, page_size=1000)):
        ids.append(info.id)
        if len(first) < HANDFUL:
            first.append(info)
    return len(ids), first, ids


def _shown(count: int, first: Sequence[JobInfo]) -> list[str]:
    rows: list[list[output.Cell | str]] = [
        [info.id, output.state_cell(info), info.name or output.EMPTY] for info in first
    ]
    lines = [f"  {line.plain}" for line in output.table(["ID", "STATE", "NAME"], rows)]
    return [*lines, f"  and {count - len(first)} more"] if count > len(first) else lines


def words(result: Result) -> str:
    """What came of it for one job, or for all jobs of an array, in a line."""
    if result.jobs is None:
        return str(result)
    return f"array {result.job_id}: {', '.join(f'{count} {outcome}' for outcome, count in result.jobs.items())}"


def tell(
    results: Sequence[R],
    verb: Verb,
    *,
    as_json: bool,
    bad: Callable[[R], bool],
    line: Callable[[R], str] = words,
) -> None:
    """Print what came of it: of few jobs one by one, of many the counts and those that were not done.

    Args:
        results: What came of each.
        verb: What was to be done.
        as_json: Whether to print all of it as JSON.
        bad: Whether a result is one to be named among many.
        line: How a result is told.
    """
    from hpcjobs.actions import outcomes

    if as_json:
        output.json_document(results)
        return
    if not results:
        output.note(f"no job was {verb.done}: none is meant")
    if len(results) <= FEW:
        for result in results:
            print(output.clean(line(result)))
        return
    for outcome, count in sorted(outcomes(results).items(), key=lambda item: -item[1]):
        print(f"{count} {outcome}")
    failed = [result for result in results if bad(result)]
    for result in failed[:FEW]:
        print(output.clean(line(result)))
    if len(failed) > FEW:
        print(f"and {len(failed) - FEW} more such jobs; --json tells of each")


def undone(result: Result, good: Sequence[str]) -> bool:
    """Whether something came to another outcome than those in ``good``."""
    return bool(set(result.jobs or {str(result.outcome): 1}) - set(good))


def verdict(results: Sequence[Result], good: Sequence[str]) -> ExitCode:
    """``DONE`` if everything came to an outcome in ``good``."""
    from hpcjobs.actions import outcomes

    counts = outcomes(results)
    if "NOT_FOUND" in counts:
        return ExitCode.NOT_FOUND
    return ExitCode.UNSUCCESSFUL if set(counts) - set(good) else ExitCode.DONE
