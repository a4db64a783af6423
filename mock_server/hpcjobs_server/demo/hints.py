"""How paths and commands are written for a person who stands in this folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def short(path: Path) -> str:
    """``path`` as a person would write it: from here, or from home."""
    whole = path.absolute()
    for root, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if whole != root and whole.is_relative_to(root):
            return f"{name}{whole.relative_to(root)}"
    return str(whole)


def program() -> str:
    """How this environment's ``hpcjobs`` is called from here."""
    beside = Path(sys.executable).parent / "hpcjobs"
    found = shutil.which("hpcjobs")
    if not beside.exists() or (found is not None and Path(found).resolve() == beside.resolve()):
        return "hpcjobs"
    return shlex.quote(short(beside))
