"""What a job calls from inside itself: say how far it is, ask whether it should stop, stop with a reason.

::

    from hpcjobs import runtime

    for step in range(1000):
        if runtime.should_abort():
            save_checkpoint()
            raise runtime.JobAborted("stopped at step %d" % step)
        advance()
        runtime.progress(step + 1, 1000, "relaxing")

It is one file that needs nothing but the standard library (Python 3.8 or newer) and imports next to nothing of that, so
that it costs nothing in a job whose environment has nothing of this package but this file. Outside of a job every
function does nothing, so that the same script runs at the desk.

**Progress** goes as one JSON line to the file that ``HPCJOBS_PROGRESS_FILE`` names::

    {"done": 20, "total": 1000, "message": "relaxing", "at": 1767225600.123}

A job that has no such file (but has ``HPCJOBS_JOB_ID``) prints the line on its stdout after the mark ``::hpcjobs::``.
The last complete line is what counts. A file that has grown past 1 MB is emptied before the next line.

**Abort.** SIGTERM is the signal. The first call of :func:`should_abort` starts to listen for it; a script that never
asks is ended by it at once, as ever. A job that goes on regardless is killed when its grace time is over.

**JobAborted** that nobody catches ends the script with exit code 1, the line ``JobAborted: why`` on stderr instead of a
traceback, and a last line ``{"aborted": "why", "at": ...}`` beside the progress; the job then ends CANCELLED with that
reason. A last line ``{"failed": "ValueError: no data", "at": ...}`` says that the work itself raised an error; the job
then ends FAILED with it.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import time

TYPE_CHECKING = False  # typing itself costs more than all the rest of this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, SupportsFloat, SupportsIndex

    from typing_extensions import Self

    Report = tuple[int | float, int | float | None, str | None, float]

__all__ = ["MARK", "JobAborted", "attempt", "job_id", "progress", "should_abort"]

MARK = "::hpcjobs:: "
"""Stands before a line of progress in a job's stdout."""

MAX_FILE = 1_000_000
"""Bytes after which the progress file is emptied."""

_MAX_MESSAGE = 500
_MAX_REASON = 1024

# At most _BURST + _REFILL = 10 lines in any second. A few calls close together all get through, and the last of the
# budget is kept for the value that completes the work, which often is the last one for a long time.
_BURST = 4.0
_REFILL = 6.0


class JobAborted(Exception):
    """Raise it to stop the job from inside: it ends CANCELLED with this reason, and is not tried again.

    It is for the main thread of the job's own script: one that a thread, or a child of :mod:`multiprocessing`, lets
    escape is an error like any other there.

    Args:
        reason: Why, for everyone who looks at the job; at most 1,024 characters are kept.

    Example:
        >>> str(JobAborted("the residual grows"))
        'the residual grows'
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make one; here and not in ``__init__``, because a subclass may have one that does not call this one's."""
        _catch_uncaught()
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, reason: str = "the job stopped itself") -> None:
        super().__init__(reason)


def progress(
    done: SupportsFloat | SupportsIndex,
    total: SupportsFloat | SupportsIndex | None = None,
    message: str | None = None,
) -> None:
    """Say how far the job is.

    It may be called as often as is convenient, from any thread: a process writes at most ten lines a second, and of
    what comes faster the last value is written by a later call or at the end of the process. A full disk or a closed
    stdout is not the job's trouble: nothing is raised, and the value is written later if that is possible.

    Args:
        done: How much is done, in any unit, at least 0.
        total: How much there is in the same unit; None if that is not known.
        message: A word on what is being done, shown beside the bar; 500 characters of it are kept, on one line.

    Raises:
        TypeError: Something is not a number, or the message is not a text. Also outside of a job.
        ValueError: A number is negative, infinite or not a number.

    Example:
        >>> progress(20, 100, "relaxing")
        >>> progress(float("nan"))
        Traceback (most recent call last):
            ...
        ValueError: done must be a finite number, 0 or more
    """
    whole = None if total is None else _number("total", total)
    part = _number("done", done)
    if message is not None and not isinstance(message, str):
        raise TypeError(f"message must be a text, not {type(message).__name__}")
    _reporter.report((part, whole, message, time.time()))


def should_abort() -> bool:
    """Whether the job was asked to stop.

    Ask it where the job can stop in good order. It reads a flag; asking costs nothing. The first call starts to listen
    for SIGTERM, which from then on sets the flag and no longer ends the process; a handler that the script had set
    before is still called. A child that is forked later starts anew: SIGTERM ends it, unless it asks as well. A worker
    of a pool of processes that has asked, was signalled and has nothing to do ends by itself, so that the pool can end.

    Python delivers signals in the main thread, and only there can listening start. **Make the first call in the main
    thread.** If another thread is the first to ask, it gets a ``RuntimeWarning`` and ``False``, and SIGTERM
    still ends the process at once. Once the main thread has asked, every thread may.

    Example:
        >>> should_abort()
        False
    """
    return _abort.requested or _abort.listen()


def job_id() -> str | None:
    """The id of the job that this process belongs to, or None outside of a job."""
    return os.environ.get("HPCJOBS_JOB_ID") or None


def attempt() -> int | None:
    """Which attempt of the job this is, from 1, or None outside of a job."""
    number = os.environ.get("HPCJOBS_ATTEMPT", "")
    return int(number) if number.isdigit() else None


def _number(name: str, value: Any) -> int | float:
    """``value`` as a plain number; numpy's and others' scalars are taken as well."""
    kind = type(value)
    if kind is int or kind is float:
        number: int | float = value
    elif isinstance(value, (bool, str, bytes, bytearray)):
        raise TypeError(f"{name} must be a number, not {kind.__name__}")
    else:
        try:
            number = int(value.__index__())
        except (AttributeError, TypeError):
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"{name} must be a number, not {kind.__name__}") from None
    if not 0 <= number <= sys.float_info.max:  # false for NaN too
        raise ValueError(f"{name} must be a finite number, 0 or more")
    return number


class _Abort:
    """The flag that SIGTERM sets, and the handler that sets it."""

    def __init__(self) -> None:
        self.requested = False
        self.listening = False
        self.warned = False
        self.leaving = False
        self.previous: Any = None
        self.masks: dict[int, Any] = {}

    def listen(self) -> bool:
        """Set the handler if it is not set; return the flag."""
        if not self.listening:
            import signal

            try:
                self.previous = signal.getsignal(signal.SIGTERM)
                signal.signal(signal.SIGTERM, self.handle)
            except ValueError:  # not the main thread
                self.warn()
            else:
                self.listening = True
        return self.requested

    def warn(self) -> None:
        if not self.warned:
            import warnings

            self.warned = True
            warnings.warn(
                "should_abort() was first called outside of the main thread, and only there can listening for SIGTERM "
                "start; call it once in the main thread before",
                RuntimeWarning,
                stacklevel=4,
            )

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM."""
        self.requested = True
        processes: Any = sys.modules.get("multiprocessing.process")
        if not self.leaving and processes is not None and processes.parent_process() is not None:
            self.leaving = True
            _thread.start_new_thread(_leave_idle_pool, (_thread.get_ident(),))
        if callable(self.previous):
            self.previous(number, frame)

    def hold(self) -> None:
        """Before a fork: a signal to the child that came too early would be lost, so it has to wait."""
        if self.listening:
            import signal

            self.masks[_thread.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def release(self) -> None:
        """After a fork, in the parent, and in the child when it is ready."""
        mask = self.masks.pop(_thread.get_ident(), None)
        if mask is not None:
            import signal

            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def forget(self) -> None:
        """In a forked child: SIGTERM means again what it meant before, for pools end their children with it."""
        if self.listening:
            import signal

            self.listening = self.leaving = False
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self.previous is None else self.previous)
        self.release()
        self.masks.clear()


def _leave_idle_pool(main_thread: int) -> None:
    """End this worker of a process pool, which was signalled, when it waits for work.

    Both kinds of pool end their workers with SIGTERM and wait for them to end, for ever if need be. Whether the signal
    came from there or is the job's cannot be told, so a worker that has work is left to ask for the flag, and one that
    has none goes: at once where it only waits for its turn to listen for work, which harms nobody; after a while
    in an executor, which is broken by it.
    """
    since = 0.0
    while True:
        time.sleep(0.05)
        patience = _idle_patience(sys._current_frames().get(main_thread))  # noqa: SLF001 - documented, in spite of its name
        since = since + 0.05 if patience is not None else 0.0
        if patience is not None and since >= patience:
            os._exit(143)  # as if SIGTERM had ended it


def _idle_patience(frame: FrameType | None) -> float | None:
    """Seconds for which the worker whose main thread is at ``frame`` may be idle; None while it is not."""
    above = ""
    for _ in range(8):
        if frame is None:
            break
        if frame.f_code.co_name == "get" and frame.f_globals.get("__name__") == "multiprocessing.queues":
            owner = frame.f_back.f_globals.get("__name__") if frame.f_back is not None else None
            if owner == "multiprocessing.pool" and above == "multiprocessing.synchronize":
                return 0.1
            return 5.0 if owner == "concurrent.futures.process" else None
        above = str(frame.f_globals.get("__name__"))
        frame = frame.f_back
    return None


class _Reporter:
    """Writes progress, not too often, and the last value in any case."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = _thread.RLock()  # a signal handler may report while the thread that it interrupts is about to
        self.budget = _BURST
        self.filled = clock()
        self.pending: Report | None = None
        self.registered = False
        self.writing = False

    def report(self, report: Report) -> None:
        with self.lock:
            now = self.clock()
            self.budget = min(_BURST, self.budget + (now - self.filled) * _REFILL)
            self.filled = now
            done, total = report[:2]
            complete = total is not None and done >= total
            self.pending = report
            if self.budget >= (1 if complete else 2) and not self.writing:
                self.budget -= 1
                self.flush()
            if not self.registered:
                self.flush_at_exit()

    def flush(self) -> None:
        """Write the value that waits, if one does."""
        with self.lock:
            report = self.pending
            if report is None:
                return
            done, total, message, at = report
            line: dict[str, str | float | None] = {
                "done": done,
                "total": total,
                "message": _one_line(message, _MAX_MESSAGE),
                "at": round(at, 3),
            }
            self.writing = True
            try:
                written = _write(line)
            finally:
                self.writing = False
            if written and self.pending is report:
                self.pending = None

    def end(self, how: str, reason: str) -> None:
        """Write how the job ends, ``"aborted"`` or ``"failed"``, and why, as the last line."""
        with self.lock:
            self.flush()
            _write({how: _one_line(reason, _MAX_REASON), "at": round(time.time(), 3)})
            self.pending = None

    def flush_at_exit(self) -> None:
        self.registered = True
        atexit.register(self.flush)
        util = sys.modules.get("multiprocessing.util")
        if util is not None:  # a child of multiprocessing ends without atexit
            util.Finalize(None, self.flush, exitpriority=0)

    def forget(self) -> None:
        """In a forked child: what waits is the parent's to write; the lock may be held by a thread that is not here."""
        self.lock = _thread.RLock()
        self.pending = None
        self.registered = self.writing = False


def _one_line(text: str | None, longest: int) -> str | None:
    return None if text is None else " ".join(text[: 4 * longest].split())[:longest]


def _write(fields: dict[str, str | float | None]) -> bool:
    """Write one line where this job's progress goes; False if it could not be written."""
    path = os.environ.get("HPCJOBS_PROGRESS_FILE")
    if not path and not os.environ.get("HPCJOBS_JOB_ID"):
        return True
    text = "{" + ", ".join(f'"{name}": {_json(value)}' for name, value in fields.items()) + "}"
    try:
        return _append(path, text) if path else _print_marked(text)
    except (OSError, ValueError, RuntimeError):  # ValueError: a closed file; RuntimeError: a signal came amid a print
        return False


_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), ord('"'), ord("\\"))}


def _json(value: str | float | None) -> str:
    """One JSON value. The json module would cost more than this one, and an import amid a fork can block the child."""
    if value is None:
        return "null"
    return f'"{value.translate(_ESCAPES)}"' if isinstance(value, str) else repr(value)


def _append(path: str, text: str) -> bool:
    data = text.encode("utf-8", "replace") + b"\n"
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(file).st_size
        if size + len(data) > MAX_FILE:
            # Whoever empties the file writes its own, newer line next: the last line is never lost, without a lock.
            os.ftruncate(file, 0)
        elif size and os.pread(file, 1, size - 1) != b"\n":
            data = b"\n" + data  # the rest of a line that a full disk or a kill cut short
        return os.write(file, data) == len(data)
    finally:
        os.close(file)


def _print_marked(text: str) -> bool:
    out = sys.__stdout__  # sys.stdout may have been put elsewhere, to capture what the job prints
    if out is None:
        return False
    out.flush()  # or the line comes before, or amid, what was printed earlier
    data = (MARK + text).encode("utf-8", "replace") + b"\n"
    return os.write(out.fileno(), data) == len(data)


def _catch_uncaught() -> None:
    """Make sure that a ``JobAborted`` that ends the script is announced.

    It is looked after whenever one is made, so that importing changes nothing, and that a hook which another
    library has set in the meantime does not stand before it.
    """
    previous = sys.excepthook
    if getattr(previous, "announces_job_aborted", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, JobAborted):
            _announce(str(error) or "the job stopped itself")
        else:
            previous(kind, error, trace)

    hook.announces_job_aborted = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _announce(reason: str) -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # so that the reason stands at the end of the log
    except (OSError, ValueError, RuntimeError):
        pass
    _reporter.end("aborted", reason)
    if sys.stderr is not None:
        sys.stderr.write(f"JobAborted: {reason}\n")
        sys.stderr.flush()


def _announce_error(error: str) -> None:
    """Say that the job fails by an error of its own, which counts as that also where it was asked to stop.

    :mod:`hpcjobs.inside` calls it for functions, by this name also from other versions.
    """
    _reporter.end("failed", error)


_abort = _Abort()
_reporter = _Reporter()


def _after_fork() -> None:
    _abort.forget()
    _reporter.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_abort.hold, after_in_parent=_abort.release, after_in_child=_after_fork)
