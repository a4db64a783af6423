"""Interrupts a wait at each of its lines in turn, looks at what is left, and prints how many moments it tried.

A program of its own (``python -m tests.unit.interrupted_waits``).
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from hpcjobs import interrupts, sessions, watching
from hpcjobs.protocol import Sleep
from hpcjobs.sessions import Session
from hpcjobs.waiting import Waiting
from hpcjobs.watching import Watcher
from tests.unit.test_watching import World, info

FILES = {watching.__file__, sessions.__file__, interrupts.__file__, contextlib.__file__}

LOCKED = {"leave", "_forget"}
"""What holds a plain lock; leaving one is not interrupted, other than it looks to a tracer."""


def interrupted(number: int, run: Callable[[], object]) -> bool:
    """Run something that is interrupted at its line ``number``; whether there was such a line."""
    seen = 0

    def trace(frame: types.FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        code = frame.f_code
        if event in {"line", "call"} and code.co_filename in FILES and code.co_name not in LOCKED:
            seen += 1
            if seen == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def main() -> None:
    """Try every moment."""
    world = World()
    world.jobs["a"] = info("a")
    watcher = Watcher(cast("Any", world), world.open, idle=5.0)
    session = cast("Session", types.SimpleNamespace(watcher=watcher))
    inside = 0

    @contextlib.contextmanager
    def hook() -> Iterator[Any]:
        nonlocal inside
        inside += 1
        try:
            yield time.sleep
        finally:
            inside -= 1

    def wait() -> Waiting[None]:
        yield Sleep(0)

    watching.pump_hooks[:] = [hook, hook]
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)  # it may have been told to ignore interrupts
    for number in itertools.count(1):
        attended = Session._attend(session, wait(), {"a": world.jobs["a"]})
        came = interrupted(number, lambda attended=attended: list(attended))  # type: ignore[misc]
        left = inside, len(watcher._listeners), signal.getsignal(signal.SIGINT)
        assert left == (0, 0, before), (number, left)
        if not came:
            break
    watcher.close()
    sys.stdout.write(f"{number}\n")


if __name__ == "__main__":
    main()
