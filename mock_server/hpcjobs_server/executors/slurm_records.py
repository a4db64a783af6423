"""What squeue says of a job, and what its end means."""

from __future__ import annotations

import dataclasses
import datetime as dt

from hpcjobs.lifecycle import SLURM_WORDS, JobState
from hpcjobs.slurm_data import ENDED, why_waiting
from hpcjobs_server.executors.base import Ended

_FIELDS = {
    "JobID": 20,
    "State": 24,
    "exit_code": 16,
    "StartTime": 24,
    "BatchHost": 64,
    "Comment": 64,
    "Reason": 80,
}
"""Fixed widths, because a text may hold whatever separates others; the text that is least known comes last."""

FORMAT = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
"""What squeue is asked for."""

STATES = {
    word: JobState.QUEUED if state is JobState.PENDING else state  # what we have handed over is ready, for us
    for word, state in SLURM_WORDS.items()
    if not state.terminal
}
"""Where a job is that has not ended; any other word than these and ``ENDS`` leaves it where it was."""

ENDS = frozenset(word for word, state in SLURM_WORDS.items() if state.terminal)
"""The words that say that a job has ended."""

_BY_ITSELF = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}
"""Those of which more is to be said than that something of the cluster's ended the job."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One job as squeue has it.

    Attributes:
        job: Slurm's id.
        state: Slurm's word.
        code: How the batch script ended, as ``wait`` has it; 0 before that.
        started_at: When it was started.
        host: The node of the batch script.
        key: The comment, which has our key.
        reason: Slurm's word for why it waits, or why it ended.
    """

    job: str
    state: str
    code: int = 0
    started_at: dt.datetime | None = None
    host: str | None = None
    key: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended, and everything of it is gone from its nodes."""
        return self.state in ENDS

    @property
    def ran(self) -> bool:
        """Whether it had a node; one that was cancelled in the queue has a start all the same."""
        return self.host is not None

    @property
    def waiting(self) -> str:
        """Why it waits, in words, with Slurm's own."""
        words = why_waiting(self.reason)
        if words and self.reason != "None":
            words = f"{words} ({self.reason})"
        return f"Slurm job {self.job} waits: {words or self.reason}"


def parse(told: bytes) -> list[Row]:
    """The jobs in an answer of squeue to ``FORMAT``; a line that is none is left out.

    Args:
        told: As it was printed with TZ=UTC; cut by bytes, as squeue counts.
    """
    rows = []
    for line in told.splitlines():
        fields, place = [], 0
        for width in _FIELDS.values():
            fields.append(line[place : place + width].decode(errors="replace").strip())
            place += width
        job, state, code, start, host, key, reason = fields
        if job.isdigit():
            rows.append(
                Row(job, state, _code(code), _time(start), None if host == "n/a" else host or None, key, reason)
            )
    return rows


def _code(text: str) -> int:
    """A wait status: some versions print it, some print ``exit:signal``."""
    code, colon, number = text.partition(":")
    try:
        return int(code) << 8 | int(number) if colon else int(code)
    except ValueError:
        return 0


def _time(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)
    except ValueError:  # N/A
        return None


def accounted(told: str, job: str) -> Row | None:
    """A job that has ended in an answer of sacct to ``State,ExitCode,NodeList``, one line with bars.

    Example:
        >>> accounted("CANCELLED by 1000|0:0|n1", "17").state
        'CANCELLED'
    """
    fields = told.partition("\n")[0].split("|")
    state = fields[0].split()[0] if fields[0].split() else ""
    if len(fields) < 3 or state not in ENDS:
        return None
    return Row(job, state, _code(fields[1]), host=None if fields[2].startswith("None") else fields[2] or None)


def verdict(row: Row, told: Ended | None, *, by_itself: bool, asked: bool, heard: str | None = None) -> Ended:
    """What the end of a job of Slurm's means.

    Args:
        row: What Slurm says.
        told: What the job's shim wrote down, if it came to that.
        by_itself: Whether it says that the job ended without being told to.
        asked: Whether the service was asked to stop it.
        heard: The last line that Slurm, or the script before the shim, wrote; None where the shim had begun.
    """
    known = told or Ended()
    if told is not None and by_itself and told.exit_code == 0 and not told.problem:
        return told  # whatever happened to it after that
    if row.state in ENDED and row.state not in _BY_ITSELF:
        why = f"{ENDED[row.state]} (Slurm job {row.job}: {row.state})"
        return dataclasses.replace(known, aborted=False, timed_out=False, problem=why)
    if row.state == "TIMEOUT":
        return dataclasses.replace(known, aborted=False, timed_out=True)
    if told is not None:
        return told
    if row.state == "CANCELLED":
        return Ended(aborted=True)
    if row.state == "COMPLETED":
        return Ended(exit_code=0)
    code, number = row.code >> 8 & 0xFF, row.code & 0x7F
    if number == 53:  # Slurm's own: the batch script's files could not be opened
        return Ended(
            problem=f"Slurm could not start it on {row.host or 'its node'}: its folder is not there. "
            "The data folder must be on a file system that all nodes share, at the same path"
        )
    if number:
        return Ended(signal=number, aborted=asked)
    if heard is None:
        return Ended(exit_code=code)
    return Ended(exit_code=code, problem=f"it could not be started on {row.host or 'its node'}: {heard or code}")
