"""The ``hpcjobs`` command.

It needs typer and rich: ``pip install 'hpcjobs[cli]'``. Everything that a command does not need is imported by the
command that does, so that ``hpcjobs --help`` and Tab answer at once.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after ``hpcjobs``; None for those of this process.

    Returns:
        The exit code: see :mod:`hpcjobs.cli.exits`.
    """
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"hpcjobs: the command needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed; run: pip install 'hpcjobs[cli]'",
            file=sys.stderr,
        )
        return 1
    from hpcjobs.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)
