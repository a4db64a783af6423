"""The ``hpcjobs`` command.

It needs typer and rich: ``pip install 'hpcjobs[cli]'``. Everything that a command does not need is imported by the
command that does, so that ``hpcjobs --help`` and Tab answer at once.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after ``hpcjobs``; None for those of this process.

    Returns:
        The exit code: see :mod:`hpcjobs.cli.exits`. A process that Ctrl-C has interrupted ends by that signal, which a
        shell shows as 130.
    """
    interrupted: list[bool] = []
    if argv is None:  # registered before anything else is, so that it comes last
        atexit.register(_end_by_signal, interrupted)
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"hpcjobs: the command needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed; run: pip install 'hpcjobs[cli]'",
            file=sys.stderr,
        )
        return 1
    from hpcjobs.cli.app import run

    code = run(sys.argv[1:] if argv is None else argv)
    if code == 128 + signal.SIGINT:
        interrupted.append(True)
    return code


def _end_by_signal(interrupted: Sequence[bool]) -> None:
    """Where Ctrl-C ended the command, end by its signal: a shell's loop ends with it, which no exit code does."""
    if not interrupted:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
