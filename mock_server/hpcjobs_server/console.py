"""What the operator is told; a terminal that is gone or knows few characters is no reason to fail."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Print a message at once.

    Args:
        text: The message.
        stream: Where to; None for the standard output.
    """
    out = stream or sys.stdout
    known = text.encode(out.encoding or "utf-8", "backslashreplace").decode(out.encoding or "utf-8")
    with contextlib.suppress(OSError, ValueError):  # a pipe, a terminal or a file that is gone
        out.write(f"{known}\n")
        out.flush()


def complain(text: str, *, command: str = "serve") -> None:
    """Print what went wrong on the standard error.

    Args:
        text: The message.
        command: Whose it is.
    """
    say(f"hpcjobs {command}: {text}", stream=sys.stderr)


def pretty() -> bool:
    """Whether colours are wanted: on a terminal, unless ``NO_COLOR`` is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
