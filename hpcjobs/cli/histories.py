"""The history of a job as two tables: the changes of its state, and its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcjobs.cli import output

if TYPE_CHECKING:
    from hpcjobs.records import AttemptInfo, Change, History


def print_history(history: History, *, as_json: bool) -> None:
    """Print what was written down about a job.

    Args:
        history: What it is.
        as_json: Whether to print all of it as JSON.
    """
    if as_json:
        output.json_document(history)
        return
    output.print_table(
        ["TIME", "STATE", "ATTEMPT", "BY", "REASON"],
        [
            [
                output.iso(change.at),
                _state(change),
                str(change.attempt) if change.attempt else output.EMPTY,
                change.actor or output.EMPTY,
                change.reason or output.EMPTY,
            ]
            for change in history.changes
        ],
    )
    if history.attempts:
        print()
        output.print_table(
            ["ATTEMPT", "STATE", "EXIT", "STARTED", "RAN", "CPU", "MEMORY", "HOST", "REASON"],
            [_attempt(attempt) for attempt in history.attempts],
        )
    print()
    output.print_fields([("waited", output.duration(history.queue_time)), ("ran", output.duration(history.run_time))])


def _state(change: Change) -> output.Cell:
    from hpcjobs.lines import COLOURS

    if change.cancel_requested and not change.state.terminal:
        return output.Cell("cancelling", "yellow")
    return output.Cell(change.state.value, COLOURS[change.state])


def _attempt(attempt: AttemptInfo) -> list[output.Cell | str]:
    from hpcjobs.lines import COLOURS

    return [
        str(attempt.attempt),
        output.Cell(attempt.state.value, COLOURS[attempt.state]),
        output.EMPTY if attempt.exit_code is None else str(attempt.exit_code),
        output.iso(attempt.started_at),
        output.duration(attempt.run_time),
        output.EMPTY if attempt.cpu_seconds is None else f"{attempt.cpu_seconds:.1f}s",
        output.EMPTY if attempt.peak_memory is None else output.size(attempt.peak_memory),
        attempt.host or output.EMPTY,
        attempt.reason or output.EMPTY,
    ]
