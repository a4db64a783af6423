"""Resolves the project's dependencies for several Pythons and writes constraints.txt.

Usage: ``python .ci/pins.py python3.10 python3.11 ...`` (the oldest first). Every interpreter resolves for itself. A
version that all of them agree on gets a plain line; where they differ, each version gets the Pythons that it is for.
Itself it needs Python 3.11 and nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
DECLARED = [ROOT / "pyproject.toml", ROOT / "mock_server" / "pyproject.toml"]
OURS = re.compile(r"hpcjobs\b")
HEAD = """\
# The versions that this project is tested with, for every supported Python. Made by `make pins`; not edited by hand.
"""


def declared() -> list[str]:
    """Everything that both distributions ask for, with all extras, but not each other."""
    asked: list[str] = []
    for path in DECLARED:
        project = tomllib.loads(path.read_text())["project"]
        asked += project.get("dependencies", [])
        for extra in project.get("optional-dependencies", {}).values():
            asked += extra
    return [item for item in dict.fromkeys(asked) if not OURS.match(item)]


def resolve(python: str, asked: list[str]) -> tuple[tuple[int, int], dict[str, str]]:
    """What ``python``'s pip would install, as its version and ``{name: version}``."""
    told = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"], check=True, capture_output=True, text=True
    )
    major, minor = map(int, told.stdout.split())
    with tempfile.TemporaryDirectory() as folder:
        venv, report = Path(folder, "venv"), Path(folder, "report.json")
        subprocess.run([python, "-m", "venv", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
        # An old pip knows neither today's wheels nor all of the report.
        subprocess.run([*pip, "install", "--upgrade", "pip"], check=True)
        # Some packages want a later patch release of Python than a stable distribution has: all must do for x.y.0.
        first = ["--only-binary", ":all:", "--python-version", f"{major}.{minor}.0"]
        subprocess.run(
            [*pip, "install", "--dry-run", "--ignore-installed", *first, "--report", report, *asked], check=True
        )
        said = json.loads(report.read_text())
    found = {}
    for item in said["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        found[name] = item["metadata"]["version"]
    return (major, minor), found


def marker(have: list[tuple[int, int]], everyone: list[tuple[int, int]]) -> str:
    """The condition that holds for the Pythons ``have`` among ``everyone``, which are in order; "" for all."""
    if have == everyone:
        return ""
    first, last = have[0], have[-1]
    parts = []
    if first != everyone[0]:
        parts.append(f'python_version >= "{first[0]}.{first[1]}"')
    if last != everyone[-1]:
        after = everyone[everyone.index(last) + 1]
        parts.append(f'python_version < "{after[0]}.{after[1]}"')
    return "; " + " and ".join(parts) if parts else ""


def main(pythons: list[str]) -> None:
    """Write constraints.txt."""
    asked = declared()
    resolved = dict(resolve(python, asked) for python in pythons)
    everyone = sorted(resolved)
    names = sorted({name for found in resolved.values() for name in found})
    lines = []
    for name in names:
        versions: dict[str, list[tuple[int, int]]] = {}
        for python in everyone:
            if version := resolved[python].get(name):
                versions.setdefault(version, []).append(python)
        if len(versions) == 1:
            # Where some Pythons do without it, the line does them no harm.
            lines.append(f"{name}=={next(iter(versions))}")
        else:
            lines.extend(f"{name}=={version}{marker(have, everyone)}" for version, have in versions.items())
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(names)} packages for Python {', '.join(f'{a}.{b}' for a, b in everyone)}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
