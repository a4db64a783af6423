"""Signals as things to wait for, instead of things that interrupt."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """While it is entered, signals only end a `wait`; what they mean is for the caller to say.

    Only the main thread can enter it.

    Example:
        >>> import os
        >>> with Signals() as signals:
        ...     os.kill(os.getpid(), signal.SIGHUP)
        ...     [signal.Signals(number).name for number in signals.wait(1.0)]
        ['SIGHUP']
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            # A handler, not SIG_IGN: the processes that are started here must not inherit deafness.
            self._before[number] = signal.signal(number, _nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout: float) -> list[int]:
        """Wait for signals.

        Args:
            timeout: Seconds.

        Returns:
            The numbers of those that came, in order; empty when the time is up.
        """
        select.select([self._reader], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            return list(self._reader.recv(4096))
        return []


def _nothing(number: int, frame: FrameType | None) -> None:
    """Signals are read from the wake-up socket."""
