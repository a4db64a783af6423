"""Checks what is in the wheels: no server code in the client's, no tests in either, and types and SQL in place.

Usage: ``python .ci/check_wheels.py DIST``
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

MUST_HAVE = {
    "hpcjobs": ["hpcjobs/__init__.py", "hpcjobs/py.typed"],
    "hpcjobs_server": ["hpcjobs_server/__init__.py", "hpcjobs_server/py.typed"],
}


def check(wheel: Path) -> list[str]:
    """What is wrong with ``wheel``."""
    package = wheel.name.split("-")[0]
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [name for name in names if not name.startswith((f"{package}/", f"{package}-"))]
    absent = [name for name in MUST_HAVE[package] if name not in names]
    # what the source tree has beside its Python files (SQL, data, templates) is needed at run time, too
    source = Path("mock_server" if package == "hpcjobs_server" else ".", package)
    files = [path.relative_to(source.parent).as_posix() for path in source.rglob("*") if path.is_file()]
    lost = [name for name in files if "__pycache__" not in name and name not in names]
    return (
        [f"{wheel.name}: {name} does not belong here" for name in strangers]
        + [f"{wheel.name}: {name} is missing" for name in [*absent, *lost]]
        + ([] if any(name.endswith("licenses/LICENSE") for name in names) else [f"{wheel.name}: no licence"])
    )


def main(folder: str) -> None:
    """Exit with 1 and every problem, or say what is there."""
    wheels = sorted(Path(folder).glob("*.whl"))
    problems = [problem for wheel in wheels for problem in check(wheel)]
    if len(wheels) != len(MUST_HAVE):
        problems.append(f"{len(MUST_HAVE)} wheels are expected, there are {[wheel.name for wheel in wheels]}")
    if problems:
        sys.exit("\n".join(problems))
    print(f"in order: {', '.join(wheel.name for wheel in wheels)}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
