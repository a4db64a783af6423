"""The notebooks run as they stand on a real service, and what is kept of them can be read anywhere."""

from __future__ import annotations

import getpass
import importlib.util
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.running import Service

ROOT = Path(__file__).parents[2]


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks_tool", ROOT / ".ci" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
SECRET = re.compile(r"hpcjobs_[A-Za-z0-9_-]{20,}|token=")
TRANSFER = re.compile("(read|sent|fetched) ")
every = pytest.mark.parametrize("path", TOOL.paths(), ids=lambda path: path.stem)


@pytest.fixture
def environ(shared_service: Service, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a kernel needs to find the shared service, as an owner of its own who leaves no job running."""
    owner = re.sub(r"\W+", "-", request.node.name).strip("-")
    token = shared_service.make_token(owner).token
    found = shared_service.environ(token)
    found.pop("PYTEST_CURRENT_TEST", None)  # the kernel must not take itself for a test
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), found["PATH"]])
    yield found
    with shared_service.client(token) as client:
        for job in client.jobs(state=["PENDING", "QUEUED", "RUNNING"]):
            job.cancel(reason="the notebook has ended", confirm=30)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[tuple[str, ...]]:
    """What sorts of outputs a cell has; what it printed may have come in pieces.

    The bars of transfers are left out: they are shown on slow machines only.
    """
    found: list[tuple[str, ...]] = []
    for output in cell.outputs:
        kind = (output.output_type, *sorted(output.get("data", {})), output.get("name", ""))
        printed_on = output.output_type == "stream" and found[-1:] == [kind]
        if not printed_on and not TRANSFER.match(output.get("data", {}).get("text/plain", "")):
            found.append(kind)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@every
def test_it_runs_and_shows_what_the_file_shows(path: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    """No cell fails, nothing goes to stderr, and each cell has outputs of the same sorts as in the file."""
    ran = TOOL.tidy(TOOL.run(path, tmp_path, environ), {})
    kept = nbformat.read(path, as_version=4)
    for cell, in_file in zip(code_cells(ran), code_cells(kept), strict=True):
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.outputs
        assert kinds(cell) == kinds(in_file), (
            f"after a change run `make notebooks`; the cell:\n{cell.source}\n{cell.outputs}"
        )


@every
def test_what_is_kept_can_be_read_anywhere(path: Path) -> None:
    """Everything was run once from an empty kernel; there is HTML and text, no widget, and the file is small."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    assert "application/vnd.jupyter.widget" not in text
    assert "widgets" not in notebook.metadata
    assert len(text) < 150_000
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type in {"stream", "display_data", "execute_result"}
            if "data" in output:
                assert output.data["text/plain"]
        if "print(" in cell.source.rsplit("\n\n\n", 1)[-1] and not cell.source.startswith("%%"):
            assert any(output.output_type == "stream" for output in cell.outputs), cell.source


@every
def test_what_is_kept_says_nothing_of_the_machine(path: Path) -> None:
    """No folder, name or secret of whoever has run it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        for output in cell.outputs:
            shown = [output.get("text", ""), *output.get("data", {}).values()]
            for text in (text for text in shown if isinstance(text, str)):
                assert not re.search(r"/(tmp|home|root|var|Users)/", text), text
                assert not SECRET.search(text), text
                for name in (getpass.getuser(), socket.gethostname()):
                    assert not re.search(rf"\b(by|on) {re.escape(name)}\b", text), text


def test_what_is_taken_out() -> None:
    """Widgets, the metadata of the run, paths, and outputs that are empty; what was printed in pieces is one."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    cell = nbformat.v4.new_code_cell(
        "job",
        metadata={"execution": {"iopub.status.busy": "2026-01-01"}},
        outputs=[
            nbformat.v4.new_output(
                "display_data", {**view, "text/html": "<b>&quot;/t/ipykernel_1/2.py&quot;</b>", "text/plain": "fit"}
            ),
            nbformat.v4.new_output("display_data", {"text/html": "", "text/plain": ""}),
            nbformat.v4.new_output("stream", name="stdout", text="/place/data/x\n"),
            nbformat.v4.new_output("stream", name="stdout", text='File "/run/ipykernel_12/34.py", line 1\n'),
        ],
    )
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    TOOL.tidy(notebook, {"/place": "~", "/place/data": "data"})
    assert notebook.metadata == TOOL.METADATA
    assert notebook.cells[0].metadata == {}
    shown, printed = notebook.cells[0].outputs
    assert shown.data == {"text/html": "<b>&quot;cell.py&quot;</b>", "text/plain": "fit"}
    assert printed.text == 'data/x\nFile "cell.py", line 1\n'
