"""Reads how far a job is: from the file that it reports to, else from the bars in its log."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hpcjobs.bars import last_progress, last_report
from hpcjobs.models import MAX_REASON, Progress

_TAIL = 8192
_MAX_MESSAGE = 500


class ProgressReader:
    """Looks at one attempt's files, and says what is new since the last look.

    Args:
        report: The file that ``HPCJOBS_PROGRESS_FILE`` names; JSON lines.
        logs: The attempt's logs.
    """

    def __init__(self, report: Path, logs: Sequence[Path]) -> None:
        self._report, self._logs = report, logs
        self._seen: dict[Path, tuple[int, int]] = {}
        self._last: Progress | None = None
        self._reports = False

    def look(self) -> Progress | None:
        """The progress, if it is not the one of the last look."""
        progress = last_report(_tail(self._report)).progress if self._changed(self._report) else None
        if progress is not None:
            self._reports = True
        elif not self._reports:
            # a job that reports is believed; what its log looks like no longer matters
            for log in self._logs:
                if self._changed(log):
                    progress = last_progress(_tail(log).decode("utf-8", "replace")) or progress
        if progress is None or _same(progress, self._last):
            return None
        self._last = progress
        return progress.model_copy(update={"message": _storable(progress.message or "", _MAX_MESSAGE) or None})

    def said_aborted(self) -> str | None:
        """The message of the ``JobAborted`` that ended the job, if one did."""
        said = last_report(_tail(self._report)).aborted
        return None if said is None else _storable(said, MAX_REASON) or "JobAborted"

    def said_failed(self) -> str | None:
        """The error that ended the job's work, if it said so."""
        said = last_report(_tail(self._report)).failed
        return None if said is None else _storable(said, MAX_REASON) or "an error"

    def _changed(self, path: Path) -> bool:
        try:
            status = path.lstat()
        except OSError:
            return False
        mark = (status.st_mtime_ns, status.st_size)
        if self._seen.get(path) == mark:
            return False
        self._seen[path] = mark
        return True


def _same(one: Progress, other: Progress | None) -> bool:
    return other is not None and one.model_copy(update={"at": other.at}) == other


def _tail(path: Path) -> bytes:
    """The end of a file; a job may have put a link, a folder or a pipe in its place, which is not read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        facts = os.fstat(descriptor)
        return os.pread(descriptor, _TAIL, max(0, facts.st_size - _TAIL)) if stat.S_ISREG(facts.st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _storable(text: str, limit: int) -> str:
    """What a job says, as the database can keep it: no NUL, nothing that is not Unicode."""
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
