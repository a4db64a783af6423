"""Processes that outlive the one that started them: start, find again, signal, end.

Each is known by a small file that holds its number and its *birth*, so that a number that the system gave to another
process in the meantime is never mistaken for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hpcjobs_server import launch

LAUNCH = (sys.executable, "-I", "-S", launch.__file__)
LARGEST_LOG = 16 * 1024**2
"""A log beyond this many bytes is put aside (one old one is kept) when its process starts."""


def birth(pid: int) -> str | None:
    """The birth of a process; None where there is none, or only its remains (a zombie).

    Args:
        pid: A process of this host.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return launch.birth(pid) or f"{process.create_time():.2f}"
    except (psutil.Error, OSError, ValueError):
        return None


def pauses(timeout: float, *, first: float = 0.002, longest: float = 0.05) -> Iterator[None]:
    """Pauses of growing length, at least one, until the time is up: for what can only be looked at.

    Args:
        timeout: Seconds in all.
        first: The first pause in seconds.
        longest: The longest one in seconds.
    """
    end = time.monotonic() + timeout
    pause = first
    while True:
        yield
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest)


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there, readable by its owner only.

    Args:
        path: The file.
        text: What to write.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write such a file as JSON.

    Args:
        path: The file.
        content: What to write.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, json.dumps(content))


def read_json(path: Path) -> dict[str, Any] | None:
    """What such a file says; None where there is none or it makes no sense.

    Args:
        path: The file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def open_log(path: Path) -> int:
    """Open a log for appending; a large one is put aside first.

    Args:
        path: The log; its folder is made.

    Returns:
        A file descriptor that the caller closes.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(path: Path, *, lines: int = 10, since: int = 0) -> str:
    """The last lines of a log.

    Args:
        path: The log.
        lines: How many lines.
        since: Nothing before this byte.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it, from the top, so that nobody starts again what was killed.

    Args:
        pid: A process of this host.
    """
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                process.kill()


@dataclass
class Child:
    """A process that was started, now or by an earlier run of this program.

    Attributes:
        pid: Its number.
        born: Its birth.
        facts: What was written down when it was started.
        record: The file that says so.
    """

    pid: int
    born: str
    facts: dict[str, Any] = field(default_factory=dict)
    record: Path | None = None
    _mine: bool = False
    """Whether it is a child of this process, which must take note of its end."""
    _code: int | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        log: Path,
        record: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        group: int | None = None,
        extra_groups: Sequence[int] | None = None,
    ) -> Child:
        """Start a program in a session of its own, with nothing on its standard input.

        Args:
            argv: The program, with its full path, and its arguments.
            log: Where its output goes.
            record: The file by which it is found again.
            facts: What to write down there (as JSON).
            env: Its environment; None for this one's.
            user: The user that it runs as; None for this one. `group` and `extra_groups` likewise.
            group: Its group.
            extra_groups: Its further groups.

        Raises:
            OSError: It cannot be started.
        """
        known = dict(facts or {})
        prefix: tuple[str, ...] = ()
        if record is not None:
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            prefix = (*LAUNCH, "--record", str(record), json.dumps(known))
        output = open_log(log)
        try:
            popen = subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                start_new_session=True,
                cwd="/",
                user=user,
                group=group,
                extra_groups=extra_groups,
            )
        finally:
            os.close(output)
        # The process outlives the object: it is waited for by number, and nothing is wrong when it never is.
        popen.returncode = 0
        return cls(popen.pid, birth(popen.pid) or "", known, record, _mine=True)

    @classmethod
    def find(cls, record: Path) -> Child | None:
        """The process that a file speaks of, if it runs.

        Args:
            record: The file.
        """
        content = read_json(record)
        if content is None:
            return None
        pid, born = content.pop("pid", None), content.pop("birth", None)
        if isinstance(pid, int) and isinstance(born, str) and birth(pid) == born:
            return cls(pid, born, content, record)
        return None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self._mine:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # someone else has taken note
                self._mine = False
            else:
                if pid == 0:
                    return True
                self._mine, self._code = False, os.waitstatus_to_exitcode(status)
        return self._code is None and birth(self.pid) == self.born

    @property
    def exit_code(self) -> int | None:
        """How it ended (minus the signal's number where one ended it); None where that is not known."""
        return None if self.alive else self._code

    def send(self, number: int) -> None:
        """Send a signal, if it runs.

        Args:
            number: The signal.
        """
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended.

        Args:
            timeout: Seconds.

        Returns:
            Whether it has.
        """
        return any(not self.alive for _ in pauses(timeout))

    def stop(self, *, signals: Sequence[tuple[int, float]] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))) -> bool:
        """End it: each signal in turn, until it is gone; then its file is removed.

        Args:
            signals: Pairs of a signal and the seconds to wait after it.

        Returns:
            Whether it is gone.
        """
        for number, seconds in signals:
            self.send(number)
            if self.wait(seconds):
                break
        else:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Remove its file, if that still speaks of it."""
        if self.record is not None and (read_json(self.record) or {}).get("pid") == self.pid:
            self.record.unlink(missing_ok=True)
