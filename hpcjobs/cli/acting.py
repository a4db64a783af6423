"""What ``cancel``, ``retry``, ``delete`` and ``update`` share: which jobs are meant, the question, and the answer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from hpcjobs import telling
from hpcjobs.cli import output
from hpcjobs.cli.exits import ExitCode

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import JobInfo
    from hpcjobs.telling import Result

R = TypeVar("R", bound="Result")


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
        return self.ids is None or len(self.ids) > telling.HANDFUL


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
    from hpcjobs.cli import waits

    if chosen.ids is None:
        count, first, ids = telling.matching(waits.session_of(client), chosen.where, verb.states)
    else:
        infos, missing = waits.look(client, chosen.ids)
        count, first, ids = len(infos), infos[: telling.HANDFUL], chosen.ids
        if missing:
            output.error_line(f"{len(missing)} of these ids are not known")
    if not count:
        return Chosen([] if chosen.ids is None else ids)
    for line in _shown(count, first):
        print(line, file=sys.stderr)
    print(output.clean(telling.question(verb.name, count, what)), end="", file=sys.stderr, flush=True)
    if not telling.agreed(sys.stdin.readline()):
        output.error_line(f"nothing was {verb.done}")
        raise typer.Exit(ExitCode.UNSUCCESSFUL)
    return Chosen(ids)


def _shown(count: int, first: Sequence[JobInfo]) -> list[str]:
    rows: list[list[output.Cell | str]] = [
        [info.id, output.state_cell(info), info.name or output.EMPTY] for info in first
    ]
    lines = [f"  {line.plain}" for line in output.table(["ID", "STATE", "NAME"], rows)]
    return [*lines, f"  and {count - len(first)} more"] if count > len(first) else lines


def tell(
    results: Sequence[R],
    verb: Verb,
    *,
    as_json: bool,
    bad: Callable[[R], bool],
    line: Callable[[R], str] = telling.words,
) -> None:
    """Print what came of it: of few jobs one by one, of many the counts and those that were not done.

    Args:
        results: What came of each.
        verb: What was to be done.
        as_json: Whether to print all of it as JSON.
        bad: Whether a result is one to be named among many.
        line: How a result is told.
    """
    if as_json:
        output.json_document(results)
        return
    if not results:
        output.note(f"no job was {verb.done}: none is meant")
    for text in telling.lines(results, bad=bad, line=line, more="; --json tells of each"):
        print(output.clean(text))


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
