"""Puts off Ctrl-C over what must be done whole or not at all."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Put off an interrupt until the end of the block; then it does what it would have done before.

    In another thread than the main one there is nothing to do, because no interrupt comes there. Blocks may lie in each
    other.

    Example:
        >>> import signal
        >>> usual = signal.signal(signal.SIGINT, signal.default_int_handler)
        >>> done = []
        >>> try:
        ...     with put_off():
        ...         signal.raise_signal(signal.SIGINT)
        ...         done.append("whole")
        ... except KeyboardInterrupt:
        ...     done.append("interrupted")
        >>> done
        ['whole', 'interrupted']
        >>> _ = signal.signal(signal.SIGINT, usual)
    """
    came: list[FrameType | None] = []

    def note(number: int, frame: FrameType | None) -> None:
        del number
        came.append(frame)

    before = _set(note)
    if before is None:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            _interrupt(before, came[-1])


def _set(handler: signal._HANDLER) -> signal._HANDLER:
    """Set what an interrupt does; what it did before, or None where nothing was changed."""
    if threading.current_thread() is not threading.main_thread():
        return None
    if signal.getsignal(signal.SIGINT) is None:  # set by other than Python: it could not be put back
        return None
    try:
        return signal.signal(signal.SIGINT, handler)
    except ValueError:  # before Python 3.13 the thread that first imported threading is taken for the main one
        return None


def _interrupt(handler: signal._HANDLER, frame: FrameType | None) -> None:
    if callable(handler):
        # Not by another signal: an event loop that listens for them has heard the first one by its own means.
        handler(signal.SIGINT, frame)
    else:
        signal.raise_signal(signal.SIGINT)
