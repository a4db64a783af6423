"""The magics on a real service: in a real IPython shell, and in a notebook."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from hpcjobs import AsyncClient, Client, JobArray, JobFailed, JobState, RemoteError
from hpcjobs.notebook import magics
from tests.running import Service

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def client(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Client]:
    """A client of an owner of this test alone, which is found in the environment, too."""
    token = shared_service.make_token(re.sub(r"\W+", "-", request.node.name).strip("-")).token
    for name, text in shared_service.environ(token).items():
        monkeypatch.setenv(name, text)
    with Client() as made:
        yield made
        made.cancel_many(state=["PENDING", "QUEUED", "RUNNING"], confirm=30)


@pytest.fixture
def shell(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made: Any = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    made.run_line_magic("load_ext", "hpcjobs")
    made.user_ns["client"] = client
    made.run_cell("%hpcjobs_client client")
    yield made
    magics.unload(made)
    made.restore_sys_module_state()


def run(shell: Any, cell: str) -> Any:
    """The result of a cell, which must end well."""
    result = shell.run_cell(cell, store_history=True)
    result.raise_error()
    return result.result


def test_a_cell_is_a_script_and_its_handle_is_in_a_variable(shell: Any, tmp_path: Path) -> None:
    """Submitted at once, not waited for; it runs in the job's folder, beside its inputs."""
    (tmp_path / "data.csv").write_text("1,2\n")
    job = run(
        shell,
        f"%%job -o fit --name 'my fit' -c 2 --walltime 1h --tag a --meta run=7 --env WORD='two words' -i {tmp_path}/data.csv\n"
        'for n in 1 2; do echo "$n $WORD"; done\nif [[ -e data.csv ]]; then cat data.csv; fi',
    )
    assert shell.user_ns["fit"] is shell.user_ns["_job"] is job
    assert not job.done
    assert (job.name, job.tags, job.info.meta) == ("my fit", ["a"], {"run": 7})
    assert job.info.spec["resources"]["cores"] == 2
    assert job.wait(60).state is JobState.FINISHED
    assert job.logs() == "1 two words\n2 two words\n1,2\n"
    second = run(shell, "%%job\ntrue")
    assert shell.user_ns["_job"] is second
    assert shell.user_ns["fit"] is job


def test_the_first_line_names_the_program(shell: Any, tmp_path: Path) -> None:
    """And Python finds the modules that were sent along."""
    (tmp_path / "helper.py").write_text("word = 'found'")
    job = run(shell, f"%%job -i {tmp_path}/helper.py\n#!/usr/bin/env python3\nimport helper\nprint(helper.word)")
    assert job.wait(60).state is JobState.FINISHED
    assert job.logs() == "found\n"


def test_to_wait_ends_with_an_error_where_the_job_failed(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With the end of its log, and the handle kept; a good end shows nothing."""
    assert run(shell, "%%job --wait -o good\necho fine") is None
    assert shell.user_ns["good"].state is JobState.FINISHED
    result = shell.run_cell("%%job --wait -o bad\necho no such column >&2; exit 3")
    assert isinstance(result.error_in_exec, JobFailed)
    assert "no such column" in str(result.error_in_exec)
    assert shell.user_ns["bad"].exit_code == 3
    said = usage(shell, "%%job --wait --timeout 0.3s -o slow\nsleep 600", capsys, error=None)
    assert "WaitTimeout" in said
    assert not shell.user_ns["slow"].refresh().done


def usage(shell: Any, cell: str, capsys: pytest.CaptureFixture[str], *, error: type | None = UsageError) -> str:
    """What is said of a cell that is not done."""
    capsys.readouterr()
    result = shell.run_cell(cell, store_history=True)
    assert isinstance(result.error_in_exec, error or Exception)
    return "".join(capsys.readouterr())


def test_a_python_cell_takes_variables_and_gives_some_back(shell: Any) -> None:
    """With ``--wait`` they are set here; without, they are the job's result."""
    run(
        shell,
        "import math\nx, y, name = 3, [4, 5], 'n'\nclass Fit:\n    pass\ndef scaled(n):\n    return n * scale\nscale = 2",
    )
    cell = "z = math.hypot(scaled(x), *y)\nw = Fit()\nw.name = name\nunseen = 1"
    assert run(shell, f"%%job -f --in x,y --in name --out z,w --wait -o fit\n{cell}") is None
    assert shell.user_ns["z"] == pytest.approx(77**0.5)
    assert isinstance(shell.user_ns["w"], shell.user_ns["Fit"])
    assert shell.user_ns["w"].name == "n"
    assert "unseen" not in shell.user_ns
    job = run(shell, "%%job -f --in x --out z --name later\nz = x + 1\nx = 100")
    assert job.name == "later"
    assert job.result(60) == {"z": 4}
    assert shell.user_ns["x"] == 3
    assert shell.user_ns["z"] != 4


def test_without_variables_the_last_expression_is_the_result(shell: Any) -> None:
    assert run(shell, "%%job -f --wait\nvalues = range(5)\nsum(values)") == 10
    assert run(shell, "%%job -f\nimport asyncio\nawait asyncio.sleep(0)\n'slept'").result(60) == "slept"


def test_an_error_of_a_python_cell_comes_back_with_its_lines(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """As itself, with the traceback of the job, whose lines are those of the cell."""
    run(shell, "1")
    result = shell.run_cell("%%job -f --wait\nvalues = []\nmean = sum(values) / len(values)", store_history=True)
    error = result.error_in_exec
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.__cause__, RemoteError)
    out = capsys.readouterr().out
    for text in (out, error.__cause__.traceback):
        assert 'File "Cell In[2]", line 3, in cell' in text
        assert "mean = sum(values) / len(values)" in text
    assert "results.py" not in out


def test_jobs_are_listed_newest_first(shell: Any, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """By the conditions of the client; it is said where there are more."""
    made = [client.submit(f"exit {n}", name=f"fit-{n}", tags=["t"]) for n in (0, 1, 0)]
    client.wait(made)
    other = client.submit("true", name="other")
    other.wait()
    assert run(shell, "%jobs") == [other, *reversed(made)]
    assert run(shell, "%jobs --state ended --tag t --name 'fit-*' --queue default") == made[::-1]
    assert run(shell, "%jobs -s failed") == [made[1]]
    capsys.readouterr()
    assert run(shell, "%jobs --limit 2") == [other, made[2]]
    out = capsys.readouterr().out
    assert "there are more than these 2; --limit 0 lists all" in out
    assert "fit-0" in out
    assert run(shell, "%jobs --limit 0") == [other, *reversed(made)]
    capsys.readouterr()
    assert run(shell, "%jobs --tag none") == []
    assert "there is no such job" in capsys.readouterr().out


def test_cancel_takes_ids_and_variables(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each outcome is told in words, and handles know it; up to five jobs are not asked about."""
    monkeypatch.setattr(builtins, "input", None)
    done = client.submit("true")
    done.wait()
    one = run(shell, "%%job -o one\nsleep 600")
    two, three = client.submit("sleep 600"), client.submit("sleep 600")
    shell.user_ns.update(listed=[two], done=done)
    capsys.readouterr()
    run(shell, f"%cancel one listed {three.id} done nowhere --reason 'wrong damping' --confirm 30s")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert [line for line in lines if "CANCELLED" in line and "wrong damping" in line] == lines[:3]
    assert f"job {done.id}" in lines[3]
    assert lines[4] == "job nowhere is not known"
    assert (one.state, two.state) == (JobState.CANCELLED, JobState.CANCELLED)
    assert three.refresh().info.cancel_reason == "wrong damping"


@pytest.mark.parametrize("answer", ["y", "n", None])
def test_many_jobs_are_asked_about_once(
    shell: Any, client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """With what is meant; where nobody can be asked, it is said what to write."""
    jobs = client.submit_array("sleep 600", array=6, tags=["sweep"])
    other = client.submit("sleep 600")
    shell.user_ns["sweep"] = jobs
    questions = []

    def asked(question: str) -> str:
        questions.append(question)
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(builtins, "input", asked)
    for words in ("sweep", "--tag sweep"):
        if answer is None:
            assert "6 jobs, and there is nobody to ask: say --yes" in usage(shell, f"%cancel {words}", capsys)
        else:
            run(shell, f"%cancel {words}")
        assert questions.pop() == "Cancel these 6 jobs? [y/N] "
        assert not questions
        out = capsys.readouterr().out
        if answer == "y":
            assert "CANCEL" in out
            break
        if answer == "n":
            assert out.endswith("nothing was cancelled\n")
    jobs.refresh()
    assert any(job.info.cancel_requested or job.state is JobState.CANCELLED for job in jobs) is (answer == "y")
    run(shell, "%cancel --tag sweep --yes --confirm 30s")
    assert set(jobs.refresh().counts) == {JobState.CANCELLED}
    assert not other.refresh().info.cancel_requested


async def test_handles_of_other_clients_are_understood(shell: Any, client: Client, shared_service: Service) -> None:
    """An async handle of the same service is cancelled; one of another service is refused."""
    async with AsyncClient() as other:
        job = await other.submit("sleep 600")
        array = await other.submit_array("sleep 600", array=2)
        shell.user_ns.update(job=job, array=array)
        run(shell, "%cancel job array --confirm 30s")
        assert (await job.refresh()).state is JobState.CANCELLED
        assert set((await array.refresh()).counts) == {JobState.CANCELLED}
    with Client(url="http://127.0.0.1:9", start=False) as far:
        shell.user_ns["far"] = far
        run(shell, "%hpcjobs_client far")
        result = shell.run_cell("%cancel job")
        assert isinstance(result.error_in_exec, UsageError)
        assert "choose another by %hpcjobs_client" in str(result.error_in_exec)


def test_a_job_comes_after_those_in_variables(shell: Any, client: Client) -> None:
    """Handles, arrays and lists, with the way in which they must end."""
    array = client.submit_array("true", array=2)
    shell.user_ns.update(array=array, bad=client.submit("false"), listed=[client.submit("true")])
    job = run(shell, "%%job --after array --after bad:failed --after listed\ntrue")
    assert [one["when"] for one in job.info.spec["after"]].count("failed") == 1
    assert {one["job"] for one in job.info.spec["after"]} >= {shell.user_ns["bad"].id, shell.user_ns["listed"][0].id}
    assert job.wait(60).state is JobState.FINISHED
    assert isinstance(array, JobArray)


def test_the_client_is_the_one_of_the_environment_or_the_chosen_one(
    shell: Any, client: Client, shared_service: Service
) -> None:
    """By a variable, or by a profile or an address; jobs of the one before go on being of use."""
    first = run(shell, "%%job\ntrue")
    assert run(shell, "%hpcjobs_client") is client
    made = run(shell, f"%hpcjobs_client {shared_service.url}")
    assert made is not client
    assert made.service.base_url == client.service.base_url
    assert first.wait(60).state is JobState.FINISHED
    magics.unload(shell)
    shell.run_line_magic("load_ext", "hpcjobs") if "hpcjobs" not in shell.extension_manager.loaded else magics.load(
        shell
    )
    assert run(shell, "%jobs") == [first]


CELLS = (
    "%load_ext hpcjobs\nx = 20",
    "%%job -o fit --name fit --wait\necho hello from the cell",
    "print(fit.logs())",
    "%%job -f --in x --out z --wait\nz = x + 1",
    "z",
    "%%job -f --in x --name half\nx / 2",
    "print(_job.result(60, progress=False))",
    "%jobs",
    "%%job -o slow --name slow\nsleep 600",
    "%cancel slow --reason 'the notebook is over' --confirm 30s",
)


def test_a_notebook_runs_cells_as_jobs(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Jobs and lists are shown as handles are, and so is a wait; what comes out is there for the next cell."""
    notebook = executed(service, monkeypatch, tmp_path, CELLS)
    first = [cell.outputs[0] if cell.outputs else None for cell in notebook.cells]
    shown = {number: first[number].data for number in (1, 3, 5, 7, 8)}
    assert first[0] is None
    for number, name in ((1, "fit"), (3, "cell"), (5, "half"), (8, "slow")):
        assert name in shown[number]["text/plain"]
        assert name in shown[number]["text/html"]
    assert all("application/vnd.jupyter.widget-view+json" in data for data in shown.values())
    assert {output.output_type for output in notebook.cells[3].outputs} == {"display_data"}
    assert first[2].text == "hello from the cell\n\n"
    assert first[4].data["text/plain"] == "21"
    assert first[6].text == "10.0\n"
    assert "the notebook is over" in first[9].text


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%job -f --wait\na = []\na[3]", "a[3]"),
        ("%%job --wait\necho nothing there; exit 4", "nothing there"),
        ("%cancel --state active", "there is nobody to ask: say --yes"),
    ],
)
def test_a_notebook_stops_at_a_cell_that_failed(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cell: str, said: str
) -> None:
    """Run All must not go on as if it were done."""
    with pytest.raises(CellExecutionError) as caught:
        executed(
            service,
            monkeypatch,
            tmp_path,
            ("%load_ext hpcjobs\nfrom hpcjobs import Client\njob = Client().submit('sleep 600')", cell),
        )
    assert said in re.sub(r"\x1b\[[0-9;]*m", "", str(caught.value))


def executed(service: Service, monkeypatch: pytest.MonkeyPatch, folder: Path, cells: tuple[str, ...]) -> Any:
    monkeypatch.setenv("HPCJOBS_URL", service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", service.token)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # the kernel must not take itself for a test
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook
