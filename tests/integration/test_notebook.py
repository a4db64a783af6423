"""A notebook that is run without a browser, and what stays in it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.running import Service

SYNC = (
    """from hpcjobs import Client
client = Client()
job = client.submit('echo hello', name='<b>')
cancelled = client.submit('sleep 600', name='long')""",
    "info = job.wait()",
    "job",
    "print(cancelled.cancel(reason='wrong damping', confirm=30).outcome)\ndone = client.wait([job, cancelled])",
)
ASYNC = (
    """from hpcjobs import AsyncClient
client = AsyncClient()
job = await client.submit('echo hello', name='<b>')
cancelled = await client.submit('sleep 600', name='long')""",
    "info = await job",
    "job",
    """print((await cancelled.cancel(reason='wrong damping', confirm=30)).outcome)
done = await client.wait([job, cancelled])""",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("cells", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_notebook_keeps_the_final_state_of_each_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cells: tuple[str, ...]
) -> None:
    """As HTML and as text, with when that was seen; whatever a job says is escaped; nothing goes to stderr."""
    monkeypatch.setenv("HPCJOBS_URL", service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", service.token)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # the kernel must not take itself for a test
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    submitted, waited, shown, both = (cell.outputs for cell in notebook.cells)
    assert not submitted
    output, seen = waited
    assert output.data["text/plain"].startswith("✔ FINISHED  <b> ")
    assert "&lt;b&gt;" in output.data["text/html"]
    assert ": FINISHED" in seen.data["text/plain"]
    output, seen = shown
    assert "FINISHED" in output.data["text/plain"]
    assert "&lt;b&gt;" in output.data["text/html"]
    printed, output = both
    assert printed.name == "stdout"
    assert printed.text == "CANCELLED\n"
    lines = output.data["text/plain"].splitlines()
    assert lines[0] == "2 of 2 ended · 1 CANCELLED · 1 FINISHED"
    assert "wrong damping" in lines[2]


def _run(service: Service, monkeypatch: pytest.MonkeyPatch, folder: Path, *cells: str) -> list[list[str]]:
    """What is displayed by each cell in the end, as text."""
    monkeypatch.setenv("HPCJOBS_URL", service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", service.token)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return [[output.data["text/plain"] for output in cell.outputs if "data" in output] for cell in notebook.cells]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_without_ipywidgets_jobs_are_live_text(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One output each, which is kept up to date by itself, and no widget."""
    nothing, job, array, empty, _ = _run(
        service,
        monkeypatch,
        tmp_path,
        """import importlib.util, sys, time
sys.modules["ipywidgets"] = None
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ipywidgets" else real(name, *more)
from hpcjobs import Client
client = Client()
job = client.submit("sleep 1; exit 3", name="fit")""",
        "job",
        "client.submit_array('sleep 1', array=2, name='sweep')",
        "client.jobs(tag='none such')",
        """from hpcjobs.notebook.drawing import drawing
infos = client.wait(client.jobs(), progress=False)
end = time.monotonic() + 30
while drawing._places and time.monotonic() < end:  # a view that has shown the end is drawn no longer
    time.sleep(0.05)""",
    )
    assert not nothing
    assert [text.split("  ")[0] for text in job] == ["✘ FAILED"]
    assert [text.splitlines()[0] for text in array] == ["2 of 2 ended · 2 FINISHED"]
    assert empty == ["no jobs"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_wait_takes_the_view_that_its_cell_shows_already(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """But what is displayed twice is shown twice, and lists that differ are all shown."""
    start, once, twice, lists = _run(
        service,
        monkeypatch,
        tmp_path,
        "from hpcjobs import Client\nclient = Client()\njob = client.submit('sleep 1', name='fit')",
        "display(job)\ninfo = job.wait()",
        "display(job)\ndisplay(job)",
        "display(client.jobs(tag='a'))\ndisplay(client.jobs(tag='b'))",
    )
    assert not start
    assert [text.split("  ")[0] for text in once if not text.startswith("seen ")] == ["✔ FINISHED"]
    assert len([text for text in twice if not text.startswith("seen ")]) == 2
    assert [text for text in lists if not text.startswith("seen ")] == [f"jobs · tag {tag}: no jobs" for tag in "ab"]


FUNCTIONS = (
    """import asyncio
from dataclasses import dataclass
from hpcjobs import AsyncClient, Client, as_completed
offset = 10
@dataclass
class Fit:
    slope: float""",
    """def fit(n, *, scale=1):
    if n < 0:
        raise ValueError(f"n is {n}")
    return Fit(scale * n + offset)""",
    """client = Client()
result = client.submit(fit, 3, scale=2).result(60, progress=False)
assert isinstance(result, Fit), type(result)
print(result)""",
    """try:
    client.submit(fit, -1).result(60, progress=False)
except ValueError as error:
    print(repr(error))
    print(error.__cause__.traceback)""",
    """async with AsyncClient() as aclient:
    jobs = [await aclient.submit(lambda n=n: n * n) for n in range(3)]
    print(sorted([await job.result() async for job in as_completed(jobs)]))""",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_functions_of_cells_run_as_jobs(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the variables and classes of other cells; an error comes back with the lines of its cell."""
    monkeypatch.setenv("HPCJOBS_URL", service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", service.token)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in FUNCTIONS])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = ["".join(output.text for output in cell.outputs if "text" in output) for cell in notebook.cells]
    assert texts[:3] == ["", "", "Fit(slope=16)\n"]
    assert texts[3].startswith("ValueError('n is -1')\n")
    assert 'raise ValueError(f"n is {n}")' in texts[3]
    assert texts[4] == "[0, 1, 4]\n"
