"""Watches one job from a process of its own, so that the whole process tree of the job goes when it must.

It is run as a plain script by the worker's Python, with the standard library only. The script is a launcher that has
everything imported; for each job it forks a shim. A shim

* holds a pipe from its worker: when the worker dies, the pipe ends, and the shim ends the job;
* adopts what the job leaves behind (a daemon that left its session is found too, on Linux);
* ends the job on an abort, at its walltime, or when it has heard nothing from the worker for too long:
  SIGTERM to all of the tree, the grace time, SIGKILL to what is left.

The worker sends lines: first a JSON object, then ``ping``, ``abort`` and ``kill``. The shim answers in JSON lines:
``started``, ``failed`` (the program could not be started) or ``ended``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_KILL_LIMIT = 15.0  # seconds for which SIGKILL is repeated; a process in an uninterruptible wait may outlive it
_LINE_LIMIT = 4 * 1024 * 1024


def adopt_orphans() -> bool:
    """Become the parent of every process that the job leaves behind; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def descendants(root: int) -> set[int]:
    """The ids of all processes below ``root``, from /proc."""
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open("/proc/" + name + "/stat", "rb") as file:
                # the name of the program stands in brackets and may itself hold brackets and blanks
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
    found = {root}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found - {root}


class Shim:
    """One job, from its start until nothing of it is left."""

    def __init__(self, control: int | None, status: int) -> None:
        self.control = control
        self.status = status
        self.buffer = b""
        self.main: int | None = None  # the job's first process, which leads its session
        self.exit: int | None = None  # its wait status
        self.cause: str | None = None  # why the job is being ended
        self.grace = self.silence = self.heard = 0.0
        self.walltime_at: float | None = None
        self.kill_at: float | None = None
        self.give_up_at: float | None = None
        self.wake, wake_write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        self.adopts = adopt_orphans()

    def on_signal(self, number: int, _frame: object) -> None:
        """A signal to the shim itself is an order to end the job; SIGCHLD only wakes the loop."""
        if number != signal.SIGCHLD and self.cause is None:
            self.end("signal")

    def run(self) -> None:
        """Hear what the job is, and see it through."""
        config = self.read_config()
        if config is not None:
            self.see_through(config)

    def see_through(self, config: dict[str, Any]) -> None:
        """Start the job that ``config`` describes, and stay until nothing of it is left."""
        self.grace, self.silence = config["grace"], config["silence"]
        self.heard = time.monotonic()
        if not self.start(config):
            return
        walltime = config["walltime"]
        self.walltime_at = None if walltime is None else time.monotonic() + walltime
        self.obey()  # what came together with the configuration
        while not self.over():
            self.wait()
        left = self.left()
        # of all that was collected: whatever a job's processes leave behind is a child of this one in the end
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.say(
            {
                "event": "ended",
                "status": self.exit,
                "cause": self.cause,
                "left": left,
                "cpu": used.ru_utime + used.ru_stime,
                "memory": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            }
        )

    def read_config(self) -> dict[str, Any] | None:
        """The first line from the worker; None where it is gone already."""
        assert self.control is not None
        while b"\n" not in self.buffer:
            data = os.read(self.control, 65536)
            if not data or len(self.buffer) > _LINE_LIMIT:
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        config: dict[str, Any] = json.loads(line)
        return config

    def start(self, config: dict[str, Any]) -> bool:
        """Start the job's program; False where that is impossible."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            out = os.open(config["stdout"], flags, 0o600)
            err = out if config["stderr"] is None else os.open(config["stderr"], flags, 0o600)
            # close_fds keeps the pipes of this shim, and so the worker's life line, out of the job
            process = subprocess.Popen(
                config["argv"],
                cwd=config["cwd"],
                env=config["env"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                close_fds=True,
                start_new_session=True,
                restore_signals=True,
            )
        except OSError as error:
            self.say(
                {"event": "failed", "errno": error.errno, "text": os.strerror(error.errno or 0), "file": error.filename}
            )
            return False
        self.main = process.pid
        process.returncode = 0  # reaped here, not by the subprocess module
        os.close(out)
        if err != out:
            os.close(err)
        self.say({"event": "started", "pid": self.main})
        return True

    def say(self, message: dict[str, object]) -> None:
        """Tell the worker, if there still is one."""
        data = (json.dumps(message) + "\n").encode()
        try:
            while data:
                data = data[os.write(self.status, data) :]
        except OSError:
            pass  # the worker is gone; the job's end is what matters

    def wait(self) -> None:
        """Sleep until something happens or the next deadline, and act on it."""
        now = time.monotonic()
        deadlines = [self.kill_at, self.give_up_at]
        if self.cause is None:
            deadlines.append(self.walltime_at)
            if self.silence and self.control is not None:
                deadlines.append(self.heard + self.silence)
        due = [deadline for deadline in deadlines if deadline is not None]
        pause = max(0.0, min(due) - now) if due else None
        if self.kill_at is not None and self.kill_at <= now:
            pause = 0.05  # SIGKILL is repeated for what was forked in between
        watched = [self.wake] if self.control is None else [self.wake, self.control]
        readable = select.select(watched, [], [], pause)[0]
        if self.wake in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake, 4096)
        if self.control is not None and self.control in readable:
            self.listen()
        left = self.left()
        now = time.monotonic()
        if self.cause is None:
            if self.walltime_at is not None and now >= self.walltime_at and self.exit is None:
                self.end("walltime")
            elif self.silence and self.control is not None and now >= self.heard + self.silence:
                self.end("lost")
            elif self.exit is not None and left:
                # the job is over; what it left in the background has a moment to go by itself
                self.end("leftover", min(self.grace, 5.0))
        if self.kill_at is not None and now >= self.kill_at:
            self.signal_all(signal.SIGKILL)

    def listen(self) -> None:
        """Take what the worker sends; its end is the order to end the job."""
        assert self.control is not None
        data = os.read(self.control, 65536)
        if not data:
            os.close(self.control)
            self.control = None
            if self.cause is None:
                self.end("lost")
            return
        self.heard = time.monotonic()
        self.buffer += data
        self.obey()

    def obey(self) -> None:
        """Act on the lines that have come in whole."""
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            # a job that has ended by itself is not aborted, only what it left behind
            if line == b"abort" and self.cause is None and self.exit is None:
                self.end("abort")
            elif line == b"kill":
                if self.cause is None:
                    self.end("abort", 0.0)
                self.kill_at = time.monotonic()
                self.give_up_at = self.kill_at + _KILL_LIMIT

    def end(self, cause: str, grace: float | None = None) -> None:
        """Send SIGTERM to the whole tree now, and SIGKILL after the grace time."""
        self.cause = cause
        now = time.monotonic()
        kill_at = now + (self.grace if grace is None else grace)
        self.kill_at, self.give_up_at = kill_at, kill_at + _KILL_LIMIT
        self.signal_all(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)  # a stopped process gets SIGTERM only when it goes on

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the job's session and whatever has left it."""
        if self.main is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(self.main, number)
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                if os.getpgid(pid) != self.main:
                    os.kill(pid, number)

    def left(self) -> bool:
        """Collect what has ended; whether anything of the job lives: every orphan is a child of this process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not self.adopts and self.session_lives()
            if pid == 0:
                return True
            if pid == self.main:
                self.exit = status

    def session_lives(self) -> bool:
        """Where orphans cannot be adopted: whether the job's process group has members."""
        if self.main is None:
            return False
        try:
            os.killpg(self.main, 0)
        except OSError as error:
            return error.errno == errno.EPERM
        return True

    def over(self) -> bool:
        """Whether nothing of the job is left, or nothing more can be done."""
        return not self.left() or (self.give_up_at is not None and time.monotonic() > self.give_up_at)


def launch(connection: socket.socket) -> None:
    """Fork a shim for each pair of pipes that comes in; end when the worker's end is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shims report through their pipes, not by their exit status
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        data, pipes, _, _ = socket.recv_fds(connection, 1, 2)
        if not data:
            return
        if os.fork() == 0:
            connection.close()
            os.setsid()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = 0
            try:
                Shim(*pipes).run()
            except BaseException as error:  # noqa: BLE001 - a forked child must not go on with the launcher's loop
                sys.stderr.write(f"shim: {error!r}\n")
                code = 1
            finally:
                os._exit(code)
        for pipe in pipes:
            os.close(pipe)


if __name__ == "__main__":
    launch(socket.socket(fileno=int(sys.argv[1])))
