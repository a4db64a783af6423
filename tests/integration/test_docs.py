"""Everything that the README and the documentation show is run as it stands there, on a real service.

Every ``python`` block of a page is run, all of a page in one namespace; every ``bash`` block too, all of a page in one
shell. ``console`` and ``text`` blocks are for reading only.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import Service

ROOT = Path(__file__).parents[2]
OPERATORS = ("docs/guide/order.md",)
"""Pages that show what needs the scope admin."""
BLOCK = re.compile(r"^```(?P<kind>python|bash)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def pages(kind: str) -> list[Path]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if "_build" not in page.parts and blocks(page, kind)]


def blocks(page: Path, kind: str) -> list[str]:
    """The code blocks of a page; each starts at its own line, so that a traceback names the line of the page."""
    text = page.read_text(encoding="utf-8")
    return [
        "\n" * text[: match.start("code")].count("\n") + match["code"]
        for match in BLOCK.finditer(text)
        if match["kind"] == kind
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def place(
    tmp_path: Path, shared_service: Service, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A folder with the demo's files, from which the shared service is found with a token of the page's own owner."""
    import hpcjobs_server.demo

    demo = Path(hpcjobs_server.demo.__file__).parent
    for file in ("spectrum.py", "record.csv"):
        shutil.copy(demo / file, tmp_path)
    owner = re.sub(r"\W+", "-", request.node.name).strip("-")
    scope = "admin" if any(page in request.node.name for page in OPERATORS) else "write"
    token = shared_service.make_token(owner, scope=scope).token
    for variable, text in shared_service.environ(token).items():
        monkeypatch.setenv(variable, text)
    if "on-batch" in request.node.name:  # a page of AWS has a server of AWS
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("batch").url)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages("python"), ids=name)
def test_python_blocks_run_as_they_stand(page: Path, place: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}

    async def main() -> None:
        for code in blocks(page, "python"):
            # A notebook allows await at the top level, and so do the pages.
            program = compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(program, namespace)
            if inspect.iscoroutine(result):
                await result

    try:
        asyncio.run(main())
    finally:
        client = namespace.get("client")
        if client is not None:
            for job in client.jobs(state=["PENDING", "QUEUED", "RUNNING"]):
                job.cancel(reason="the page has ended", confirm=30)
            client.close()


@pytest.mark.parametrize("page", pages("bash"), ids=name)
def test_shell_blocks_run_as_they_stand(page: Path, place: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks(page, "bash"))
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert "Traceback" not in ended.stderr


def test_every_page_is_reached_from_the_index() -> None:
    """No page of the documentation is lost."""
    reached = set()
    todo = [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            entries = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            todo += [page.parent / f"{entry}.md" for entry in entries]
    assert reached == {page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts}


def test_the_command_is_shown_with_options_that_it_has(place: Path) -> None:
    """The ``console`` blocks name only commands and options that exist."""
    wrong = []
    helps: dict[str, str] = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for line in re.findall(r"^\$ hpcjobs ([a-z]+)(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            command, rest = line
            if command not in helps:
                ended = subprocess.run(
                    ["hpcjobs", command, "--help"], capture_output=True, text=True, timeout=60, check=False
                )
                helps[command] = ended.stdout if ended.returncode == 0 else ""
            options = re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.split(" -- ")[0])
            wrong += [
                f"{name(page)}: hpcjobs {command} {option}"
                for option in options
                if not re.search(rf"(?<![\w-]){option}\b", helps[command])
            ]
            if not helps[command]:
                wrong.append(f"{name(page)}: hpcjobs {command}")
    assert not wrong
