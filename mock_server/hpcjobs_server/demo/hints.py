"""How paths and commands are written for a person who stands in this folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def short(path: Path) -> str:
    """``path`` as a person would write it: from here, or from home."""
    whole = _whole(path)
    for root, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if whole != root and whole.is_relative_to(root):
            return f"{name}{whole.relative_to(root)}"
    return str(whole)


def argument(path: Path) -> str:
    """``path`` as a shell in this folder takes it: relative where it is inside, else whole."""
    whole, here = _whole(path), Path.cwd()
    return shlex.quote(str(whole.relative_to(here) if whole.is_relative_to(here) else whole))


def program() -> str:
    """How this environment's ``hpcjobs`` is called from here."""
    beside = Path(sys.executable).parent / "hpcjobs"
    found = shutil.which("hpcjobs")
    if not beside.exists() or (found is not None and Path(found).resolve() == beside.resolve()):
        return "hpcjobs"
    return argument(beside)


def submission(script: Path, record: Path) -> str:
    """The words behind ``hpcjobs`` that submit the demo's program once more."""
    inputs = " ".join(f"-i {argument(path)}" for path in (script, record))
    # In the job's folder a relative path keeps its folders, any other one only its name.
    names = [argument(path) if _whole(path).is_relative_to(Path.cwd()) else path.name for path in (script, record)]
    return f"submit {inputs} -- python {' '.join(names)}"


def _whole(path: Path) -> Path:
    return path.parent.resolve() / path.name
