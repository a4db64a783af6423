"""Why a job is where it is, in words."""

from __future__ import annotations

import signal

from hpcjobs.slurm_data import ENDED, why_waiting


def waiting(word: str, restarts: int) -> str:
    """Why a job waits.

    Example:
        >>> waiting("PartitionConfig", 0)
        'waits: it asks for more than its partition has; it may never start (PartitionConfig)'
        >>> waiting("Resources", 0)
        'waits: no place is free that is large enough (Resources)'
        >>> waiting("Hovering", 0)
        'Hovering'
    """
    if word.partition(",")[0] == "BeginTime" and restarts:
        return f"waits: it was requeued, and is not to start yet ({word})"
    words = why_waiting(word)
    return f"waits: {words} ({word})" if words else word


def failed(word: str, state_reason: str, code: int | None, number: int | None, *, limit: int | None, cwd: str) -> str:
    """Why a job failed.

    Args:
        word: Slurm's word for how it ended.
        state_reason: Slurm's reason.
        code: Its exit code.
        number: The signal that ended it.
        limit: Its time limit in minutes.
        cwd: The folder in which it was started.

    Example:
        >>> failed("FAILED", "NonZeroExitCode", 3, None, limit=None, cwd="/")
        'the command ended with 3 (NonZeroExitCode)'
    """
    if word == "TIMEOUT" and limit:
        return f"{ENDED[word]} of {limit} min ({word})"
    if word in ENDED:
        return f"{ENDED[word]} ({word})"
    if state_reason == "DependencyNeverSatisfied":
        return f"a job that it waited for did not end as it had to ({state_reason})"
    told = f" ({state_reason})" if state_reason not in {"", "None"} else ""
    if number == 53:  # no signal has this number: Slurm says 0:53 where it cannot open what it needs
        return f"it could not be started: is the folder {cwd} there on the node, and may its files be written?{told}"
    if number:
        return f"it was ended by signal {_name(number)}{told}"
    if code:
        return f"the command ended with {code}{told}"
    return state_reason if told else word


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
