"""The magics in a real IPython shell, as far as they ask no service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import hpcjobs
from hpcjobs.notebook import magics

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Any]:
    """A shell of its own with the magics, whose client must not be asked for anything."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(magics, "Client", None)
    made: Any = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    made.run_line_magic("load_ext", "hpcjobs")
    yield made
    magics.unload(made)
    made.restore_sys_module_state()


def usage(shell: Any, cell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a cell that is written wrongly: one line, and no traceback."""
    result = shell.run_cell(cell, store_history=True)
    assert isinstance(result.error_in_exec, UsageError), result
    out, err = capsys.readouterr()
    (line,) = (out + err).strip().splitlines()
    return line.removeprefix("UsageError: ")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%job --nonsense\ntrue", "unrecognized arguments: --nonsense"),
        ("%%job --walltim 1h\ntrue", "unrecognized arguments: --walltim 1h"),
        ("%%job --cores many\ntrue", "--cores/-c: invalid int value: 'many'"),
        ("%%job --cores 0\ntrue", "cores: "),
        ("%%job --walltime soon\ntrue", "walltime: 'soon' is not a length of time"),
        ("%%job --name 'a\ntrue", "No closing quotation"),
        ("%%job --env =1\ntrue", "--env '=1' names no variable"),
        ("%%job --meta 1\ntrue", "--meta '1' says nothing"),
        ("%%job --after a:soon\ntrue", "--after 'a:soon' cannot be read"),
        ("%%job --start-at soon\ntrue", "--start-at 'soon' is not a date"),
        ("%%job -i nowhere.csv\ntrue", "nowhere.csv"),
        ("%%job -o 1a\ntrue", "-o 1a: this is no name of a variable"),
        ("%%job -o a,b\ntrue", "-o a,b: name one variable"),
        ("%%job --timeout 1m\ntrue", "--timeout needs --wait"),
        ("%%job --in x\ntrue", "--in goes with -f"),
        ("%%job --out x\ntrue", "--out goes with -f"),
        ("%%job --python python3\ntrue", "--python goes with -f"),
        ("%%job -f --in x,y\n1", "--in x,y: there is no such variable"),
        ("%%job -f --in get_ipython\n1", "--in get_ipython: there is no such variable"),
        ("%%job -f --in class\n1", "--in class: this is no name of a variable"),
        ("%%job -f --out z\n1", "the cell does not set z, which --out names"),
        ("%%job -f\ndata", "the cell uses data; data travels only where it is named: --in data"),
        ("%jobs --state potato", "'potato' is not a state; the states are"),
        ("%jobs --limit -1", "--limit -1: write a number"),
        ("%cancel", "say which jobs to cancel"),
        ("%cancel 1 --tag x", "give jobs or conditions, not both"),
        ("%cancel data", "data is a dict; name a variable that holds jobs, or an id"),
        ("%cancel 1 --confirm soon", "'soon' is not a length of time"),
        ("%hpcjobs_client data", "data is a dict"),
    ],
)
def test_bad_input_is_told_in_one_line(
    shell: Any, cell: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong and what is allowed; nothing was asked of a service."""
    if cell.startswith("%hpcjobs_client"):
        monkeypatch.setattr(magics, "Client", hpcjobs.Client)
    shell.user_ns["data"] = {}
    assert said in usage(shell, cell, capsys)


def test_a_syntax_error_is_shown_with_the_line_of_the_cell(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = shell.run_cell("%%job -f\nx = 1\nsum((x", store_history=True)
    assert isinstance(result.error_in_exec, SyntaxError)
    out = capsys.readouterr().out
    assert "Cell In[1]" in out
    assert "sum((x" in out
    assert "'(' was never closed" in out
    assert "cells.py" not in out


def test_a_dry_run_prints_what_would_be_asked(shell: Any, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """And asks nothing, and sets nothing."""
    data = tmp_path / "data.csv"
    data.write_text("x" * 2048)
    shell.user_ns["n"] = 7
    cell = (
        "%%job --dry-run -o fit -n 'fit {n}' -c 4 -t 1h -q gpu --memory 2GiB --priority 3 --tag a --tag b --env A=b=c "
        f"--meta run=$n --meta 'note=wrong damping' --max-attempts 3 --backoff 10s --retry-on 4 --no-requeue "
        f"--after 0b7f --after 1c8a:any --stderr separate --grace 5s --expires-in 1d -i {data}\necho $n {{n}}\n"
    )
    result = shell.run_cell(cell)
    assert result.success
    assert result.result is None
    assert not {"fit", "_job"} & set(shell.user_ns)
    out = capsys.readouterr().out
    asked, _, rest = out.partition("files: ")
    assert rest == "cell.sh (12 B), data.csv (2 KiB)\nnothing was submitted\n"
    assert json.loads(asked) == {
        "command": ["bash", "cell.sh"],
        "name": "fit 7",
        "tags": ["a", "b"],
        "resources": {"cores": 4, "memory": 2 << 30, "walltime": 3600.0},
        "queue": "gpu",
        "priority": 3,
        "env": {"A": "b=c"},
        "meta": {"run": 7, "note": "wrong damping"},
        "max_attempts": 3,
        "backoff": 10.0,
        "retry_on": [4],
        "requeue": False,
        "after": [{"job": "0b7f", "when": "ok"}, {"job": "1c8a", "when": "any"}],
        "stderr": "separate",
        "grace": 5.0,
        "expires_in": 86400.0,
    }


def test_a_dry_run_of_python_packs_the_cell(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """So that what cannot travel is known before; a variable may be called like an option."""
    shell.run_cell("import threading\nname = 1\nlock = threading.Lock()")
    assert shell.run_cell("%%job -f --dry-run --in name --name fit\nname + 1").success
    asked, _, rest = capsys.readouterr().out.partition("files: ")
    assert json.loads(asked)["name"] == "fit"
    assert json.loads(asked)["function"]["name"] == "cell"
    assert ".hpcjobs/call" in rest
    said = usage(shell, "%%job -f --dry-run --in lock\nlock", capsys)
    assert "The trouble is argument 'lock'" in said


def test_help_shows_every_option(shell: Any) -> None:
    """``%%job?`` tells what can be written, and how."""
    text = shell.inspector.info(shell.find_cell_magic("job"))["docstring"]
    for option in ("--handle", "--cores", "--walltime", "--in", "--out", "--dry-run"):
        assert option in text
    assert "Submit the cell as a job" in text
    assert "--reason" in shell.find_line_magic("cancel").__doc__


def test_every_option_of_submit_is_one_of_the_magic(shell: Any) -> None:
    """By the same name, or by that of one of many; what a cell cannot have is left out."""
    from hpcjobs.client import JobOptions

    own = {text for action in magics.JobMagics.job.parser._actions for text in action.option_strings}  # type: ignore[attr-defined]
    many = {"tags": "--tag", "requeue": "--no-requeue", "options": "--option"}
    for name in [*JobOptions.__annotations__, "key", "python"]:
        assert many.get(name, "--" + name.replace("_", "-")) in own, name


def offered(shell: Any, text: str) -> list[str]:
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%%job --wa", ["--wait", "--walltime"]),
        ("%%job -c 4 --sta", ["--start-at", "--start-in"]),
        ("%jobs --st", ["--state"]),
        ("x = 1\n%jobs --st", ["--state"]),
        ("%jobs --state f", ["FAILED", "FINISHED"]),
        ("%jobs -s a", ["ARCHIVING", "active"]),
        ("%%job --stderr ", ["merged", "separate"]),
        ("%%job -f --in da", ["data"]),
        ("%%job -f --in other,da", ["other,data"]),
        ("%cancel --rea", ["--reason"]),
    ],
)
def test_tab_offers_options_and_values_and_nothing_else(shell: Any, text: str, words: list[str]) -> None:
    shell.user_ns.update(data=1, other=2)
    assert offered(shell, text) == words


@pytest.mark.parametrize(
    "text", ["%%job --cores 4\n--wa", "%%job --cores 4\n%jobs", "%%bash\n%%job --wa", "--wa", "%who --wa", "%%job"]
)
def test_tab_is_left_alone_elsewhere(shell: Any, text: str) -> None:
    """In the body of the cell, and behind what is not ours."""
    assert not [word for word in offered(shell, text) if word.startswith("--")]


def test_the_extension_can_be_loaded_twice_and_taken_away(shell: Any) -> None:
    """Nothing stays of it."""
    matchers = len(shell.Completer.custom_matchers)
    hpcjobs.load_ipython_extension(shell)
    assert len(shell.Completer.custom_matchers) == matchers
    shell.run_line_magic("unload_ext", "hpcjobs")
    assert len(shell.Completer.custom_matchers) == matchers - 1
    for name in ("jobs", "cancel", "hpcjobs_client"):
        assert shell.find_line_magic(name) is None
    assert shell.find_cell_magic("job") is None
    hpcjobs.unload_ipython_extension(shell)
