"""The command without a server: what is parsed, what is shown, and how each error ends."""

from __future__ import annotations

import datetime as dt
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
import respx
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hpcjobs import cli, errors
from hpcjobs.cli import app, completion, exits, listing, output, selecting, views
from hpcjobs.cli.ids import read_ids
from hpcjobs.cli.items import read_items
from hpcjobs.cli.submit import _command, _environment, _inputs
from hpcjobs.lifecycle import ACTIVE, TERMINAL, JobState
from hpcjobs.logs import STREAMS
from hpcjobs.models import CancelOutcome, CancelResult, JobInfo, Scope, When

URL = "http://hpc.test"
NOW = "2026-05-01T12:00:00Z"


def info(**fields):
    """A job as the service tells of it."""
    return {"id": str(uuid.uuid4()), "state": "RUNNING", "created_at": NOW, "version": 1, **fields}


def problem(status, code, detail="no", **more):
    body = {"type": "about:blank", "title": "no", "status": status, "code": code, "detail": detail, **more}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


@pytest.fixture
def service(monkeypatch):
    """A service that answers what a test tells it to; nothing else is ever sent."""
    monkeypatch.setenv("HPCJOBS_URL", URL)
    monkeypatch.setenv("HPCJOBS_TOKEN", "secret")
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        yield router


@pytest.fixture
def run(capfd):
    """Runs the command in this process: ``run("list", "--json")`` gives the exit code, stdout and stderr."""

    def go(*argv):
        capfd.readouterr()
        code = cli.main(argv)
        out, err = capfd.readouterr()
        return code, out, err

    return go


# ----------------------------------------------------------------------------------------------------------------------
# Exit codes and errors


def all_errors():
    found, todo = [], [errors.HpcjobsError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo.extend(kind.__subclasses__())
    return found


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.NoService("x"), 3),
        (errors.TimedOut("x"), 3),
        (errors.ConnectionLost("x"), 3),
        (errors.ServiceUnavailable("x", status=503), 3),
        (errors.UnexpectedAnswer("<html>"), 3),
        (errors.RateLimited("x", status=429), 3),
        (errors.SubmissionUnknown("key"), 3),
        (errors.AuthenticationError("x", status=401), 4),
        (errors.PermissionDenied("x", status=403), 4),
        (errors.JobNotFound("x", status=404), 5),
        (errors.JobVanished("x"), 5),
        (errors.Conflict("x", status=409), 6),
        (errors.StaleVersion("x", status=412), 6),
        (errors.TooLarge("x", status=413), 6),
        (errors.InvalidRequest("x", status=422), 6),
        (errors.InvalidSpec([("cores", "x")]), 6),
        (errors.InputError("a", "is missing"), 6),
        (errors.Unsupported("a", "b", "c"), 6),
        (errors.WaitTimeout(JobInfo(id="1", state=JobState.RUNNING), 1), 124),
        (errors.JobFailed(JobInfo(id="1", state=JobState.FAILED)), 1),
        (errors.OutputError("a", "leaves the folder"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (OSError("disk full"), 1),
        (ZeroDivisionError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_error_has_its_exit_code(error, code):
    assert exits.code_of(error) == code
    assert exits.problem_of(error)["exit_code"] == code


def test_every_kind_of_error_that_says_no_service_or_no_has_a_code_of_its_own():
    """A new kind of transport or service error cannot end as an unexplained 1."""
    for kind in all_errors():
        if issubclass(kind, (errors.TransportError, errors.ServiceError)):
            assert any(issubclass(kind, known) for known, _ in exits._CODES), kind


def test_the_help_lists_every_exit_code():
    for code in exits.ExitCode:
        assert f"\n  {int(code):<5}" in exits.EPILOG


def test_the_guide_says_of_each_exit_code_what_the_help_says():
    def words(text):
        return " ".join(text.replace("(", "").replace(")", "").replace(";", "").split())

    told = re.findall(r"^  (\d+) +(.*(?:\n {7}\w.*)*)", exits.EPILOG.split("Environment")[0], re.MULTILINE)
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "cli.md").read_text(encoding="utf-8")
    table = re.findall(r"^\* - (\d+)\n  - (.+)$", guide, re.MULTILINE)
    assert {code: words(text) for code, text in table} == {code: words(text) for code, text in told}
    assert [int(code) for code, _ in told] == [code.value for code in exits.ExitCode]


def test_an_error_is_one_line_on_stderr_and_nothing_on_stdout(run, service):
    service.get("/v1/jobs/1").mock(return_value=problem(404, "job_not_found", "there is\nno \x1b[31msuch job"))
    assert run("show", "1") == (5, "", "hpcjobs: there is; no \\x1b[31msuch job\n")


def test_with_json_an_error_is_also_a_problem_document(run, service):
    service.post("/v1/jobs").mock(
        return_value=problem(422, "invalid", "the job is invalid", errors=[{"field": "queue", "message": "is closed"}])
    )
    code, out, err = run("submit", "--json", "--", "true")
    line, document = err.splitlines()
    assert (code, out) == (6, "")
    assert line.startswith("hpcjobs: ")
    told = json.loads(document)
    assert (told["status"], told["code"], told["exit_code"]) == (422, "invalid", 6)
    assert told["errors"] == [{"field": "queue", "message": "is closed"}]


def test_the_json_option_may_stand_before_or_behind_the_command(run, service):
    service.get("/v1/jobs").mock(return_value=httpx.Response(200, json={"items": [], "next": None}))
    assert run("--json", "list")[1] == run("list", "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["nonsense"],
        ["show"],
        ["list", "--limit", "-1"],
        ["list", "--state", "SLEEPING"],
        ["list", "--since", "yesterday"],
        ["submit", "--cores", "many", "--", "true"],
        ["submit", "--timeout", "1m", "--", "true"],
        ["submit", "--env", "NO_SUCH_VARIABLE_HERE", "--", "true"],
        ["logs", "1", "--stream", "stdin"],
        ["cancel", "1", "--confirm", "soon"],
        ["token", "create", "--scope", "god"],
        ["token", "nonsense"],
        ["watch", "--timeout", "1 parsec"],
        ["login", "--token", "x"],
        ["cancel"],
        ["retry", "--yes"],
        ["delete", "1", "--tag", "x"],
        ["cancel", "--tag", "x", "--created-before", "yesterday"],
        ["update", "1"],
        ["update", "--tag", "x", "--priority", "3"],
        ["update", "1", "--tag", "a", "--add-tag", "b"],
        ["update", "1", "--start-in", "1h", "--start-now"],
        ["update", "1", "--start-at", "soon"],
        ["update", "1", "--meta", "x"],
        ["submit", "--array", "2", "--follow", "--", "true"],
        ["submit", "--array", "2", "--over", "x.csv", "--", "true"],
        ["submit", "--over", "nowhere.csv", "--", "true"],
        ["submit", "--after", "1:well", "--", "true"],
        ["submit", "--after", ":ok", "--", "true"],
        ["submit", "--start-at", "2h", "--", "true"],
        ["submit", "--retry-on", "most", "--", "true"],
        ["submit", "--task", "fit", "--app", "fit"],
        ["submit", "--app-version", "1.0", "--", "true"],
        ["submit", "--app", "fit", "--shell"],
        ["submit", "--app", "fit", "--", "word"],
        ["submit", "--option", "nodeCount", "--", "true"],
        ["show", "1", "--files", "--history"],
        ["queues", "nonsense"],
        ["queues", "set", "x"],
        ["queues", "set", "x", "--max-running", "few"],
        ["queues", "pause"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line_that_names_the_help_and_exits_with_2(run, argv):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("hpcjobs: ")
    assert err.count("\n") == 1
    assert "--help)" in err


def test_a_wrong_command_line_is_a_problem_document_with_json(run):
    code, _, err = run("list", "--json", "--limit", "x")
    assert code == 2
    assert json.loads(err.splitlines()[-1])["exit_code"] == 2


def test_a_wrong_name_is_told_the_right_one(run):
    assert "Did you mean 'cancel'" in run("cancle")[2]


@pytest.mark.parametrize("argv", [[], ["token"]], ids=["root", "group"])
def test_without_a_command_the_help_goes_to_stderr_and_the_code_is_2(run, argv):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert "Usage: hpcjobs" in err


def test_a_fault_of_our_own_is_one_line_unless_debugging(run, monkeypatch):
    def broken(*_args, **_more):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("hpcjobs.client.Client.__init__", broken)
    code, _, err = run("list", "--url", URL)
    assert (code, err) == (1, "hpcjobs: unexpected ZeroDivisionError: oh (HPCJOBS_DEBUG=1 shows where)\n")
    monkeypatch.setenv("HPCJOBS_DEBUG", "1")
    assert "Traceback" in run("list", "--url", URL)[2]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (typer.Abort(), 130)], ids=repr
)
def test_an_interrupt_and_a_closed_pipe_end_quietly(run, monkeypatch, error, code):
    def broken(*_args, **_more):
        raise error

    monkeypatch.setattr("hpcjobs.client.Client.__init__", broken)
    # A closed pipe makes the command let go of its stdout, which is this test's as well.
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    result, out, err = run("list", "--url", URL)
    assert (result, out, err.strip()) == (code, "", "")


def test_no_service_is_code_3_and_none_is_started_by_a_look(run, monkeypatch):
    monkeypatch.setattr("hpcjobs.profiles.start_local", lambda *_args, **_more: pytest.fail("it was started"))
    for argv in (
        ["list"], ["show", "1"], ["watch"], ["cancel", "1"], ["logs", "1"], ["download", "1"], ["queues"], ["retry", "1"],
        ["delete", "1"], ["update", "1", "--priority", "2"], ["cancel", "--tag", "x", "--yes"],
    ):  # fmt: skip
        code, _, err = run(*argv)
        assert code == 3
        assert "hpcjobs serve" in err or "hpcjobs[server]" in err


def test_without_typer_or_rich_the_command_says_what_to_install(capsys, monkeypatch):
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "rich" else find(name))
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == (
        "hpcjobs: the command needs rich, which is not installed; run: pip install 'hpcjobs[cli]'\n"
    )


# ----------------------------------------------------------------------------------------------------------------------
# The list of commands


def test_help_imports_nothing_that_a_command_needs():
    """``hpcjobs --help`` and Tab must answer at once."""
    code = (
        "import sys; from hpcjobs.cli import main; main(['--help']); "
        "print([name for name in ('httpx', 'pydantic', 'rich', 'hpcjobs_server', 'hpcjobs.models') "
        "if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
    assert "Exit codes:" in done.stdout


def test_the_list_of_commands_says_what_each_command_says_of_itself():
    for name, entry in app.COMMANDS.items():
        if entry.target:
            command = app.Deferred(name, entry).load(name)
            assert command.name == name
            assert inspect.cleandoc(command.help).splitlines()[0] == entry.summary


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", [name for name, entry in app.COMMANDS.items() if entry.target])
def test_every_command_has_a_help_of_80_columns_without_boxes(run, name, option):
    code, out, err = run(name, option)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: hpcjobs {name}")
    assert out.isascii()
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.parametrize(
    "words",
    [[name] for name, entry in app.COMMANDS.items() if entry.target]
    + [["token", "create"], ["token", "list"], ["token", "revoke"]]
    + [["queues", "pause"], ["queues", "resume"], ["queues", "set"]],
    ids=" ".join,
)
def test_the_help_of_every_command_has_examples(run, words):
    [_, examples] = run(*words, "--help")[1].split("\nExamples:\n")
    assert all(line.startswith("  ") and f"hpcjobs {words[0]}" in line for line in examples.splitlines())


def test_the_help_of_the_whole_fits_80_columns(run):
    code, out, _ = run("--help")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    for name in app.COMMANDS:
        assert f"\n  {name} " in out


def test_the_version_is_told(run):
    from hpcjobs import __version__

    assert run("--version") == (0, f"hpcjobs {__version__}\n", "")


def serve_here(port: int = 1) -> None:
    """Stands for a command of another distribution."""
    sys.stdout.write(f"serving on {port}\n")


def test_a_command_of_another_distribution_is_found_by_its_entry_point(run, monkeypatch):
    point = EntryPoint("serve", f"{__name__}:serve_here", app.COMMAND_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: serve_here)
    monkeypatch.setattr(app, "_points", lambda: {"serve": point, "extra": point})
    assert run("serve", "--port", "7") == (0, "serving on 7\n", "")
    assert run("extra") == (0, "serving on 1\n", "")
    assert "extra" in run("--help")[1]


def test_listing_and_completing_commands_loads_none(run, monkeypatch):
    def refuse(_):
        pytest.fail("a command was loaded to list it")

    monkeypatch.setattr(EntryPoint, "load", refuse)
    assert run("--help")[0] == 0
    monkeypatch.setattr(app.Deferred, "load", lambda *_: refuse(None))
    monkeypatch.setenv("_HPCJOBS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "hpcjobs ")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run()[1].split() == list(app.COMMANDS)


def test_a_server_that_is_not_installed_is_named_with_what_to_install(run, monkeypatch):
    monkeypatch.setattr(app, "_points", dict)
    code, _, err = run("serve")
    assert code == 1
    assert "pip install 'hpcjobs[server]'" in err


def test_a_server_that_is_half_installed_says_what_is_missing(run, monkeypatch):
    def broken(_):
        raise ImportError("No module named 'uvicorn'")

    point = EntryPoint("serve", "there:serve", app.COMMAND_GROUP)
    monkeypatch.setattr(app, "_points", lambda: {"serve": point})
    monkeypatch.setattr(EntryPoint, "load", broken)
    code, _, err = run("serve")
    assert code == 1
    assert "uvicorn" in err
    assert "pip install 'hpcjobs[server]'" in err


# ----------------------------------------------------------------------------------------------------------------------
# Output


@given(st.text())
def test_nothing_that_a_terminal_would_obey_comes_through(text):
    import unicodedata

    cleaned = output.clean(text)
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in cleaned)
    assert "\n" not in cleaned


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_ordinary_text_stays_as_it_is(text):
    assert output.clean(text) == text


@given(
    st.lists(st.tuples(st.uuids(version=4).map(str), st.text(), st.text()), min_size=1, max_size=5),
    st.integers(20, 120),
)
def test_a_table_never_cuts_an_id_and_fills_no_more_than_the_terminal(rows, width):
    lines = output.table(["ID", "STATE", "NAME"], rows, width=width)
    assert len(lines) == len(rows) + 1
    for (job_id, state, _), line in zip(rows, lines[1:], strict=True):
        assert line.plain.startswith(job_id)
        fixed = 36 + 2 + max(cell_len(output.clean(row[1]) or "-") for row in [*rows, ("", "STATE")]) + 2
        assert line.cell_len <= max(width, fixed + 1)
        assert output.clean(state) in line.plain


def test_a_table_in_a_pipe_is_whole_and_plain(capfd):
    output.print_table(["ID", "NAME"], [[output.Cell("1", "bold red"), "x" * 300], ["2", ""]])
    assert capfd.readouterr().out == f"ID  NAME\n1   {'x' * 300}\n2   -\n"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_that_is_printed_item_by_item_is_json(capfd, count):
    output.json_array({"n": n} for n in range(count))
    assert json.loads(capfd.readouterr().out) == [{"n": n} for n in range(count)]


def test_colour_is_for_terminals_and_not_with_no_color(monkeypatch):
    def shown():
        console = output.console()
        file = io.StringIO()
        made = Console(file=file, force_terminal=True, no_color=console.no_color, width=80)
        for line in output.table(["A"], [[output.Cell("x", "red")]], width=80):
            made.print(line)
        return file.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[31m" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (90000, "1d")])
def test_an_age_has_one_unit(seconds, text):
    now = dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc)
    assert output.age(now - dt.timedelta(seconds=seconds), now) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-05-01T10:00:00+00:00"),
        ("90", "2026-05-01T11:58:30+00:00"),
        ("2026-04-01T08:00Z", "2026-04-01T08:00:00+00:00"),
        ("2026-04-01T08:00+02:00", "2026-04-01T06:00:00+00:00"),
    ],
)
def test_since_is_an_age_or_a_date(text, moment):
    now = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)
    assert selecting.to_moment(text, now).isoformat() == moment


def test_a_date_without_a_zone_is_local():
    moment = selecting.to_moment("2026-04-01T08:00")
    assert moment == dt.datetime(2026, 4, 1, 8).astimezone()


def test_states_are_known_in_any_case_and_in_groups():
    assert selecting.to_states(["running", "RUNNING", "Failed"]) == [JobState.RUNNING, JobState.FAILED]
    assert set(selecting.to_states(["active"])) == ACTIVE
    assert set(selecting.to_states(["ended"])) == TERMINAL


# ----------------------------------------------------------------------------------------------------------------------
# Views


def jobs(*states, **fields):
    return [
        JobInfo.model_validate(info(id=f"00000000-0000-4000-8000-{n:012}", state=state, name=f"job-{n}", **fields))
        for n, state in enumerate(states)
    ]


def test_lines_are_printed_for_changes_of_state_only(capfd):
    view = views.Lines()
    view.show(jobs("QUEUED", "RUNNING"))
    view.show(jobs("QUEUED", "RUNNING", progress={"done": 1, "total": 2}))
    view.show(jobs("RUNNING", "RUNNING"))
    view.close(jobs("RUNNING", "FAILED", reason="exit\x1b code 3"))
    lines = [line.split()[2:] for line in capfd.readouterr().out.splitlines()]
    assert lines == [
        ["QUEUED", "job-0"],
        ["RUNNING", "job-1"],
        ["RUNNING", "job-0"],
        ["FAILED", "job-1", "(exit\\x1b", "code", "3)"],
    ]


def test_json_lines_are_printed_for_each_change(capfd):
    view = views.JsonLines()
    view.show(jobs("RUNNING"))
    view.show(jobs("RUNNING"))
    view.show(jobs("RUNNING", progress={"done": 1, "total": 2}))
    view.close(jobs("FINISHED"))
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(job["state"], (job["progress"] or {}).get("done")) for job in told] == [
        ("RUNNING", None),
        ("RUNNING", 1.0),
        ("FINISHED", None),
    ]


def drawn(view):
    view._console.file.seek(0)
    return view._console.file.read()


@pytest.fixture
def table_of(monkeypatch):
    def make(width=80, height=24):
        made = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
        monkeypatch.setattr(output, "console", lambda **_: made)
        return views.Table()

    return make


def test_the_live_table_shows_whole_ids_and_the_last_state_stays(table_of):
    view = table_of(width=60)
    view.show(jobs("RUNNING", "QUEUED", progress={"done": 1, "total": 4, "message": "reading"}))
    view.close(jobs("FINISHED", "CANCELLED", reason="wrong damping"))
    text = drawn(view)
    assert "00000000-0000-4000-8000-000000000001" in text
    assert "RUNNING 25%" in text
    last = text[text.rindex("ID ") :]
    assert "FINISHED" in last
    assert "CANCELLED" in last
    assert "2 of 2 ended" in last


def test_the_live_table_is_never_higher_than_the_terminal(table_of):
    view = table_of(height=10)
    many = jobs(*["FINISHED"] * 500, "RUNNING")
    view.show(many)
    text = drawn(view)
    assert text.count("\n") < 10
    assert many[-1].id in text  # what moves is shown first
    assert "not shown" in text
    view.close(many)


# ----------------------------------------------------------------------------------------------------------------------
# What is said becomes what is asked


def test_an_app_is_asked_for_with_its_version_its_arguments_and_the_words_of_its_service(run, service):
    """What stands behind ``--app`` and ``--option`` is JSON where it can be, and text where it is none."""
    sent = service.post("/v1/jobs").respond(201, json=info())
    said = "--app fit --app-version 1.0 --option nodeCount=2 --option execSystemId=frontera -- n=3 file=a.csv"
    assert run("submit", *said.split())[0] == 0
    asked = json.loads(sent.calls.last.request.content)
    assert {name: asked[name] for name in ("app", "app_version", "args", "options")} == {
        "app": "fit",
        "app_version": "1.0",
        "args": {"n": 3, "file": "a.csv"},
        "options": {"nodeCount": 2, "execSystemId": "frontera"},
    }
    assert "command" not in asked


def test_the_options_of_submit_become_the_job_that_is_asked_for(run, service, tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "here")
    route = service.post("/v1/jobs").mock(return_value=httpx.Response(201, json=info(id="7", state="QUEUED")))
    said = (
        "-n fit --tag a --tag b -c 4 --memory 2GiB -t 1h30m -q long --priority 5 --env A=1=2 --env MINE "
        "--max-attempts 3 --grace 5s --no-requeue --stderr separate --key mykey"
    )
    argv = ["submit", *shlex.split(said)]
    assert run(*argv, "--", "python", "fit.py", "--json", "-f") == (0, "7\n", "")
    request = route.calls.last.request
    assert request.headers["Idempotency-Key"] == "mykey"
    asked = json.loads(request.content)
    assert asked["command"] == ["python", "fit.py", "--json", "-f"]
    assert asked["env"] == {"A": "1=2", "MINE": "here"}
    assert asked["resources"] == {"cores": 4, "memory": 2 * 1024**3, "walltime": 5400.0}
    assert (asked["name"], asked["tags"], asked["queue"], asked["priority"]) == ("fit", ["a", "b"], "long", 5)
    assert (asked["max_attempts"], asked["grace"], asked["requeue"], asked["stderr"]) == (3, 5.0, False, "separate")


def test_meta_is_json_where_it_is_json_and_text_where_it_is_not(run, service):
    route = service.post("/v1/jobs").mock(return_value=httpx.Response(201, json=info(id="7")))
    said = ["--meta", "run=7", "--meta", "grid=[1, 2]", "--meta", "note=a=b c", "--meta", "bad=NaN", "--meta", "empty="]
    assert run("submit", *said, "--", "true")[0] == 0
    meta = json.loads(route.calls.last.request.content)["meta"]
    assert meta == {"run": 7, "grid": [1, 2], "note": "a=b c", "bad": "NaN", "empty": ""}
    for wrong in ("run", "=7"):
        code, _, err = run("submit", "--meta", wrong, "--", "true")
        assert (code, "KEY=JSON" in err) == (2, True)


@pytest.mark.parametrize("key", [None, "mykey"])
def test_an_interrupted_submission_says_how_to_get_the_job(run, service, key):
    """The request was on its way, so the job may run: the key that was sent is the way back to it."""
    keys = []

    def interrupted(request):
        keys.append(request.headers["Idempotency-Key"])
        raise KeyboardInterrupt

    service.post("/v1/jobs").mock(side_effect=interrupted)
    code, out, err = run("submit", *(["--key", key] if key else []), "--", "true")
    [sent] = keys
    assert (code, out) == (130, "")
    assert key in {None, sent}
    assert "may have been accepted" in err
    assert f"hpcjobs submit --key {sent} " in err


def test_show_lists_the_files_of_a_job(run, service):
    files = [
        {"path": "out/a\x1b.csv", "size": 1536, "modified_at": NOW},
        {"path": "in", "size": 1, "unchanged_input": True},
    ]
    service.get("/v1/jobs/7/files").respond(200, json={"items": files})
    code, out, err = run("show", "7", "--files")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["SIZE", "MODIFIED", "INPUT", "PATH"],
        ["1.5", "KiB", NOW, "-", r"out/a\x1b.csv"],
        ["1", "B", "-", "unchanged", "in"],
    ]
    code, out, _ = run("show", "7", "--files", "--json")
    assert [(file["path"], file["size"]) for file in json.loads(out)] == [("out/a\x1b.csv", 1536), ("in", 1)]


def test_logs_prints_what_was_there_at_the_first_look_piece_by_piece(run, service, monkeypatch):
    monkeypatch.setattr("hpcjobs.logs.PIECE", 4)
    log = "0123ä67"

    def answer(request):
        first, last = (int(text) for text in request.headers["Range"].removeprefix("bytes=").split("-"))
        data = log.encode()[first : last + 1]
        place = {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{len(log.encode())}"}
        return httpx.Response(
            206, content=data, headers={**place, "Hpcjobs-Job-State": "RUNNING", "Hpcjobs-Attempt": "1"}
        )

    service.get("/v1/jobs/7").respond(200, json=info(id="7"))
    service.get("/v1/jobs/7/logs/stdout").mock(side_effect=answer)
    assert run("logs", "7") == (0, log, "")
    code, out, err = run("logs", "7", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["0123", "ä67"]


def test_the_words_of_an_option_are_those_that_the_service_knows():
    assert completion.complete_stream("") == list(STREAMS)
    assert completion.complete_scope("") == [scope.value for scope in Scope]
    assert completion.complete_scope("w") == ["write"]


def test_options_behind_the_command_belong_to_the_command_also_without_dashes(run, service):
    route = service.post("/v1/jobs").mock(return_value=httpx.Response(201, json=info(id="7")))
    assert run("submit", "ls", "--json", "-n")[1] == "7\n"
    assert json.loads(route.calls.last.request.content)["command"] == ["ls", "--json", "-n"]


@pytest.mark.parametrize(
    ("words", "shell", "command"),
    [
        (["true"], None, ["true"]),
        (["a b"], None, "a b"),
        (["a", "b c"], None, ["a", "b c"]),
        (["a|b"], True, "a|b"),
        (["a", "b"], True, "a b"),
        (["my program"], False, ["my program"]),
    ],
)
def test_one_word_with_spaces_is_for_a_shell_and_several_words_are_a_program(words, shell, command):
    assert _command(words, shell=shell) == command


def test_inputs_keep_their_names_or_get_new_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b=c.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d").write_text("x")
    found = _inputs(["a.txt", "b=c.txt", "sub/d", "new.txt=a.txt", "e=sub/d"])
    assert found == {
        "a.txt": "a.txt",
        "b=c.txt": "b=c.txt",
        "sub/d": "sub/d",
        "new.txt": "a.txt",
        "e": "sub/d",
    }


def test_folders_and_patterns_are_inputs_under_their_own_names_or_new_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/a.csv", "data/sub/b.csv", "x[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert _inputs(["data"]) == {"data/a.csv": "data/a.csv", "data/sub/b.csv": "data/sub/b.csv"}
    assert _inputs(["new=data/", "data/*.csv"]) == {
        "new/a.csv": "data/a.csv",
        "new/sub/b.csv": "data/sub/b.csv",
        "data/a.csv": "data/a.csv",
    }
    assert _inputs(["y=data/**/*.csv", "x[1].txt", "data", "data/a.csv"]).keys() == {
        "y/a.csv", "y/sub/b.csv", "x[1].txt", "data/a.csv", "data/sub/b.csv"
    }  # fmt: skip
    with pytest.raises(typer.BadParameter, match="NAME=PATH"):
        _inputs(["data/a.csv=data/sub/b.csv", "data"])


def test_a_pattern_that_means_nothing_is_said_before_anything_is_sent(run, service, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("submit", "-i", "params/*.json", "--", "true")
    assert code == 6
    assert "no file is meant by params/*.json" in err
    assert str(tmp_path) in err
    assert not service.calls


def test_two_inputs_of_one_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("x")
    with pytest.raises(typer.BadParameter, match="NAME=PATH"):
        _inputs([str(tmp_path / "one" / "x"), str(tmp_path / "two" / "x")])


def test_a_missing_input_is_said_before_anything_is_sent(run, service):
    code, _, err = run("submit", "-i", "nowhere.csv", "--", "true")
    assert code == 6
    assert "nowhere.csv" in err
    assert not service.calls


def test_a_variable_without_a_value_is_passed_on(monkeypatch):
    monkeypatch.setenv("MINE", "x y")
    assert _environment(["MINE", "A=", "B=c=d"]) == {"MINE": "x y", "A": "", "B": "c=d"}


def test_the_filters_of_list_become_the_question(run, service):
    route = service.get("/v1/jobs").mock(return_value=httpx.Response(200, json={"items": [info(id="7")], "next": None}))
    code, out, _ = run("list", "--ids-only", "-s", "running", "-s", "QUEUED", "--tag", "a", "-n", "fit*", "-q", "long")
    assert (code, out) == (0, "7\n")
    params = route.calls.last.request.url.params
    assert sorted(params.get_list("state")) == ["QUEUED", "RUNNING"]
    assert (params["tag"], params["name"], params["queue"]) == ("a", "fit*", "long")


def test_the_table_of_list_is_limited_and_says_so_where_a_person_reads(run, service, monkeypatch):
    many = [info(name=f"n{n}") for n in range(60)]
    service.get("/v1/jobs").mock(return_value=httpx.Response(200, json={"items": many, "next": None}))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run("list")
    assert code == 0
    assert len(out.splitlines()) == 1 + listing.TABLE_LIMIT
    assert "--limit 0" in err
    assert len(run("list", "--ids-only")[1].splitlines()) == 60
    assert len(json.loads(run("list", "--json")[1])) == 60


def test_a_name_cannot_play_tricks_in_the_table(run, service):
    evil = info(name="x\x1b]0;pwned\x07\n\u202egpj")
    service.get("/v1/jobs").mock(return_value=httpx.Response(200, json={"items": [evil], "next": None}))
    out = run("list")[1]
    assert out.count("\n") == 2
    assert "\\x1b]0;pwned\\x07\\n\\u202egpj" in out


def test_cancel_looks_first_and_asks_nothing_of_a_job_that_has_ended(run, service):
    ended, unknown = info(state="FINISHED"), str(uuid.uuid4())
    service.post("/v1/jobs/query").mock(return_value=httpx.Response(200, json={"items": [ended], "missing": [unknown]}))
    code, out, _ = run("cancel", ended["id"], unknown, "--reason", "x")
    assert code == 5
    assert out.splitlines() == [
        f"job {ended['id']} had already ended (FINISHED)",
        f"job {unknown} is not known",
    ]
    assert [call.request.url.path for call in service.calls] == ["/v1/jobs/query"]


def test_a_bad_id_does_not_keep_the_others_from_being_cancelled(run, service, monkeypatch):
    job, unknown = info(state="QUEUED"), str(uuid.uuid4())
    service.post("/v1/jobs/query").mock(return_value=httpx.Response(200, json={"items": [job], "missing": [unknown]}))
    result = CancelResult(
        job_id=job["id"], outcome=CancelOutcome.CANCELLED, before=JobState.QUEUED, after=JobState.CANCELLED, reason="x"
    )
    answer = {"results": [result.model_dump(mode="json")]}
    service.post(path__regex=r"/v1/jobs/.*cancel").mock(
        side_effect=lambda request: httpx.Response(
            200, json=answer if request.url.path == "/v1/jobs/cancel" else answer["results"][0]
        )
    )
    service.get(path__regex=r"/v1/jobs/.*").mock(return_value=httpx.Response(200, json=info(state="CANCELLED")))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{unknown}\n{job['id']}\n"))
    code, out, _ = run("cancel", "-", "--reason", "x", "--json")
    assert code == 5
    assert [(item["job_id"], item["outcome"]) for item in json.loads(out)] == [
        (unknown, "NOT_FOUND"),
        (job["id"], "CANCELLED"),
    ]


def test_strict_exits_with_1_where_nothing_was_cancelled(run, service):
    ended = info(state="FAILED")
    service.post("/v1/jobs/query").mock(return_value=httpx.Response(200, json={"items": [ended], "missing": []}))
    assert run("cancel", ended["id"])[0] == 0
    assert run("cancel", ended["id"], "--strict")[0] == 1


def test_a_reason_that_is_too_long_is_refused_before_anything_is_sent(run, service):
    code, _, err = run("cancel", "1", "--reason", "x" * 1025)
    assert code == 6
    assert "1024" in err
    assert not service.calls


def test_ids_come_from_the_command_line_and_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("b c\nd\n\n"))
    assert read_ids(["a", "-", "b", "e"]) == ["a", "b", "c", "d", "e"]


def test_no_id_at_all_on_stdin_is_nothing_to_do(run, service, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for argv in (["cancel"], ["retry"], ["delete"], ["update", "--priority", "1"], ["watch"]):
        assert run(*argv, "-") == (0, "", "")
    assert run("cancel", "-", "--json") == (0, "[]\n", "")
    assert not service.calls


# ----------------------------------------------------------------------------------------------------------------------
# Many jobs


CONDITIONS = "-s queued --tag a --tag b -n fit* -q long --array 7 --created-after 2026-05-01T00:00Z --created-before 1h"


@pytest.mark.parametrize("command", ["cancel", "retry", "delete"])
def test_conditions_are_one_request_that_names_no_job(run, service, command):
    """The same options mean the same everywhere, and with --yes nothing is looked up before."""
    route = service.post(f"/v1/jobs/{command}").respond(200, json={"results": [], "next": None})
    assert run(command, *CONDITIONS.split(), "--yes") == (0, "", "")
    [call] = service.calls
    asked = json.loads(call.request.content)["filter"]
    before = dt.datetime.fromisoformat(asked.pop("created_before").replace("Z", "+00:00"))
    assert dt.timedelta(minutes=59) < dt.datetime.now(dt.timezone.utc) - before < dt.timedelta(minutes=61)
    assert {name: value for name, value in asked.items() if value is not None} == {
        "state": ["QUEUED"], "tag": ["a", "b"], "name": "fit*", "queue": "long", "array": "7",
        "created_after": "2026-05-01T00:00:00Z",
    }  # fmt: skip
    assert route.called


def test_the_changes_of_update_are_apart_from_its_conditions(run, service):
    service.post("/v1/jobs/update").respond(200, json={"results": [], "next": None})
    said = "--where-tag a --where-name fit* --where-queue long -s PENDING --tag b --name new -q night --start-now --yes"
    assert run("update", *said.split()) == (0, "", "")
    asked = json.loads(service.calls.last.request.content)
    assert {name: value for name, value in asked["filter"].items() if value} == {
        "state": ["PENDING"], "tag": ["a"], "name": "fit*", "queue": "long",
    }  # fmt: skip
    assert asked["changes"] == {"name": "new", "tags": ["b"], "queue": "night", "start_at": None}


def test_changes_that_make_no_sense_are_refused_before_anything_is_sent(run, service):
    for said in ("--priority 99999", "--queue a/b", "--max-attempts 0", "--start-in soon", "--add-tag ="):
        code, _, err = run("update", "1", *said.replace("=", "\n").split(" "))
        assert (code, err.count("\n")) == (6, 1)
    assert not service.calls


@pytest.mark.parametrize(
    ("outcomes", "code"), [(["DELETED"], 0), (["DELETED", "STILL_RUNNING"], 1), (["STILL_RUNNING", "NOT_FOUND"], 5)]
)
def test_the_exit_code_tells_whether_all_of_it_was_done(run, service, outcomes, code):
    results = [{"job_id": str(n), "outcome": outcome, "before": "RUNNING"} for n, outcome in enumerate(outcomes)]
    service.post("/v1/jobs/delete").respond(200, json={"results": results})
    assert run("delete", *(one["job_id"] for one in results))[0] == code


def test_of_many_results_those_that_were_not_done_are_named_and_not_without_end(run, service):
    """A person sees the counts and the first of the rest; a program sees everything."""
    results = [{"job_id": f"good-{n}", "outcome": "DELETED"} for n in range(50)]
    results += [{"job_id": f"bad-{n}", "outcome": "STILL_RUNNING", "before": "RUNNING"} for n in range(30)]
    service.post("/v1/jobs/delete").respond(200, json={"results": results})
    code, out, _ = run("delete", "--tag", "x", "--yes")
    lines = out.splitlines()
    assert (code, lines[:2], lines[-1]) == (
        1, ["50 DELETED", "30 STILL_RUNNING"], "and 10 more such jobs; --json tells of each",
    )  # fmt: skip
    assert lines[2] == "job bad-0 is RUNNING and was left alone; cancel it first"
    assert len(lines) == 2 + 20 + 1
    assert len(json.loads(run("delete", "--tag", "x", "--yes", "--json")[1])) == 80


@pytest.mark.parametrize("who", ["stdin", "stderr"])
def test_nobody_is_asked_who_cannot_see_the_question_or_answer_it(run, service, monkeypatch, who):
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda stream=stream: stream != who)
    code, out, err = run("delete", "--tag", "x")
    assert (code, out) == (2, "")
    assert "say --yes to delete them" in err
    assert not service.calls


# ----------------------------------------------------------------------------------------------------------------------
# Arrays


@pytest.mark.parametrize(
    ("name", "text", "items"),
    [
        ("a.json", '[1, {"b": null}]', [1, {"b": None}]),
        ("a.JSON", "\ufeff[[1, 2]]", [[1, 2]]),
        ("a.jsonl", '{"a": "\u2028"}\n\n[1]\n', [{"a": "\u2028"}, [1]]),
        ("a.ndjson", "1\r\n2", [1, 2]),
        ("a.csv", 'a,b\r\n1,"x, \ny"\r\n\r\n2,\r\n', [{"a": "1", "b": "x, \ny"}, {"a": "2", "b": ""}]),
        ("a.csv", "\ufeffa\n007\n", [{"a": "007"}]),
        ("-", "[1, 2]", [1, 2]),
        ("-", '{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("-", '{\n"a": 1\n}', [{"a": 1}]),
    ],
)
def test_the_items_of_an_array_are_json_or_a_table(tmp_path, monkeypatch, name, text, items):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    if name != "-":
        Path(name).write_bytes(text.encode())
    assert read_items(name) == items


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "1", "its ending says nothing"),
        ("a.json", '{"a": 1}', "no list"),
        ("a.json", "[1,", "no JSON"),
        ("a.json", "[]", "no items"),
        ("a.jsonl", "1\n{\n", "line 2 is no JSON"),
        ("a.csv", "a,b\n1,2,3\n", "line 2 has 3 values and the header has 2"),
        ("a.csv", "a,a\n1,2\n", "a name of its own"),
        ("a.csv", "a,\n1,2\n", "a name of its own"),
        ("a.csv", 'a\n"1', "line 2"),
        ("a.csv", "a,b\n", "no items"),
        ("a.csv", "", "no items"),
        ("-", "a,b\n1,2\n", "line 1 is no JSON"),
        ("-", "", "no items"),
    ],
)
def test_what_is_no_list_of_items_is_refused_with_its_line(tmp_path, monkeypatch, name, text, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    if name != "-":
        Path(name).write_text(text)
    with pytest.raises(typer.BadParameter, match=f"--over {name}.*{said}"):
        read_items(name)


def test_a_table_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        read_items(str(tmp_path / "a.csv"))


def test_the_options_for_order_and_times_become_what_is_asked(run, service):
    route = service.post("/v1/jobs").mock(return_value=httpx.Response(201, json=info(id="7")))
    said = "--after 1 --after 2:any --start-at 2100-01-01T12:00+02:00 --expires-in 3d --backoff 1m --retry-on 75"
    assert run("submit", *said.split(), "--", "true")[0] == 0
    asked = json.loads(route.calls.last.request.content)
    assert [(one["job"], one.get("when", "ok")) for one in asked["after"]] == [("1", "ok"), ("2", "any")]
    assert asked["start_at"].replace("+00:00", "Z") == "2100-01-01T10:00:00Z"
    assert (asked["expires_in"], asked["backoff"], asked["retry_on"]) == (3 * 86400, 60, [75])


def test_an_interrupted_submission_of_an_array_says_how_to_get_it(run, service):
    def interrupted(_request):
        raise KeyboardInterrupt

    service.post("/v1/arrays").mock(side_effect=interrupted)
    code, out, err = run("submit", "--array", "3", "--key", "mine", "--", "true")
    assert (code, out) == (130, "")
    assert "hpcjobs submit --key mine " in err


# ----------------------------------------------------------------------------------------------------------------------
# Profiles, tokens, completion


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("HPCJOBS_CONFIG", str(path))
    for name in ("HPCJOBS_URL", "HPCJOBS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_login_keeps_a_token_that_the_service_knows(run, service, config, monkeypatch):
    route = service.get("/v1/info").mock(
        return_value=httpx.Response(200, json={"version": "1", "owner": "ada", "scope": "write", "max_input_bytes": 1})
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret-token\n"))
    code, out, err = run("login", URL, "--profile", "campus", "--token", "-")
    assert code == 0
    assert "ada" in out
    assert "not encrypted" in err
    assert route.calls.last.request.headers["Authorization"] == "Bearer s3cret-token"
    assert "s3cret-token" in config.read_text()
    assert config.stat().st_mode & 0o077 == 0
    for argv in (["profiles"], ["profiles", "--json"]):
        code, out, err = run(*argv)
        assert code == 0
        assert "campus" in out
        assert "default profile" in out
        assert "s3cret" not in out + err


def test_login_keeps_nothing_that_the_service_refuses(run, service, config):
    service.get("/v1/info").mock(return_value=problem(401, "bad_token", "the token is not known"))
    code, _, err = run("login", URL, "--token", "wrong")
    assert code == 4
    assert "the token is not known" in err
    assert not config.exists()


@pytest.mark.parametrize(
    ("url", "warned"), [("http://127.0.0.2:1", False), ("http://jobs.localhost", False), ("http://far.test", True)]
)
def test_login_warns_of_an_open_way_for_a_token(run, config, url, warned):
    with respx.mock(base_url=url) as router:
        router.get("/v1/info").respond(401, json={"code": "bad_token", "detail": "no"})
        assert ("not encrypted" in run("login", url, "--token", "x")[2]) is warned


def test_login_needs_a_terminal_or_a_token(run, service, config, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("login", URL)[0] == 2
    assert run("login", URL, "--token", "-")[0] == 2


@pytest.mark.parametrize(
    ("argv", "environ", "why"),
    [
        ([], {}, "default profile"),
        (["--profile", "two"], {}, "--profile"),
        (["--url", "http://three.test"], {}, "command line"),
        ([], {"HPCJOBS_PROFILE": "two"}, "HPCJOBS_PROFILE"),
        ([], {"HPCJOBS_URL": "http://four.test"}, "HPCJOBS_URL"),
    ],
)
def test_profiles_says_which_one_is_used_and_why(run, config, monkeypatch, argv, environ, why):
    config.write_text(
        'default = "one"\n[profiles.one]\nurl = "http://one.test"\n[profiles.two]\nurl = "http://two.test"\n'
    )
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, out, _ = run("profiles", "--json", *argv)
    assert code == 0
    told = json.loads(out)
    assert why in told["active"]["why"]
    assert [row["name"] for row in told["profiles"]] == ["one", "two"]
    assert {row["name"] for row in told["profiles"] if row["active"]} == ({told["active"]["profile"]} - {None})


def test_profiles_without_any_says_what_to_do(run, config):
    code, out, _ = run("profiles")
    assert code == 0
    assert "hpcjobs login" in out
    assert "Used: none" in out


def test_states_and_profiles_are_completed(config):
    config.write_text('[profiles.one]\nurl = "http://one.test"\n[profiles.two]\nurl = "http://two.test"\n')
    assert [word for word, _ in completion.complete_state("f")] == ["FINISHED", "FAILED"]
    assert [word for word, _ in completion.complete_state("a")] == ["ARCHIVING", "active"]
    assert completion.complete_profile("t") == ["two"]


def test_jobs_arrays_tags_and_queues_are_completed_from_the_service(run, service, monkeypatch):
    jobs = [info(id="1", array_id="9", name="sweep[0]", tags=["big", "old"]), info(id="2", tags=["big"])]
    service.get("/v1/jobs").respond(200, json={"items": jobs, "next": None})
    service.get("/v1/queues").respond(200, json={"items": [{"name": "night", "paused": True}, {"name": "gpu"}]})

    def completed(words):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        return run()[1].split()

    monkeypatch.setenv("_HPCJOBS_COMPLETE", "complete_bash")
    assert completed("hpcjobs watch ") == ["9", "1", "2"]
    assert completed("hpcjobs submit --after ") == ["9", "1", "2"]
    assert completed("hpcjobs submit --after 9:") == ["9:ok", "9:any", "9:failed"]
    assert completed("hpcjobs cancel --tag ") == ["big", "old"]
    assert completed("hpcjobs update --where-tag o") == ["old"]
    assert completed("hpcjobs delete --queue n") == ["night"]
    assert completed("hpcjobs queues resume ") == ["night", "gpu"]


def test_the_words_for_how_a_job_must_have_ended_are_those_that_the_service_knows():
    assert list(completion.ENDINGS) == [when.value for when in When]


def test_completion_never_fails_and_never_starts_a_service(config, monkeypatch):
    monkeypatch.setattr("hpcjobs.profiles.start_local", lambda *_args, **_more: pytest.fail("it was started"))
    config.write_text("this is not TOML")
    assert completion.complete_profile("") == []

    class Context:
        def __init__(self):
            self.params = {}

        def find_root(self):
            return self

    for complete in (completion.complete_job, completion.complete_tag, completion.complete_queue):
        assert complete(Context(), "") == []


@pytest.mark.parametrize(
    ("shell", "environ"),
    [
        ("bash", {"COMP_WORDS": "hpcjobs list --state FI", "COMP_CWORD": "3"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "hpcjobs list --state FI"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "hpcjobs list --state FI", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_completion_speaks_each_shell(run, monkeypatch, shell, environ):
    monkeypatch.setenv("_HPCJOBS_COMPLETE", f"complete_{shell}")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, out, _ = run()
    assert code == 0
    assert "FINISHED" in out
    assert "FAILED" not in out


def test_inputs_are_completed_also_behind_their_new_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x").touch()
    assert completion.complete_input("d") == ["data.csv", "deep/"]
    assert completion.complete_input("new=deep/") == ["new=deep/x"]
    assert completion.complete_input("nowhere/") == []


def test_a_token_is_printed_once_and_alone_on_stdout(run, service):
    token = {"id": "7", "name": "ci", "owner": "ada", "scope": "read", "created_at": NOW, "expires_at": None}
    route = service.post("/v1/tokens").mock(return_value=httpx.Response(201, json={**token, "token": "s3cret"}))
    service.get("/v1/tokens").mock(return_value=httpx.Response(200, json={"items": [token]}))
    service.delete("/v1/tokens/7").mock(return_value=httpx.Response(204))
    assert run("token", "create", "--name", "ci", "--scope", "read", "--expires", "30d") == (0, "s3cret\n", "")
    assert json.loads(route.calls.last.request.content)["expires_in"] == 30 * 86400
    code, out, _ = run("token", "list", "--json")
    assert code == 0
    assert "token" not in json.loads(out)[0]
    assert run("token", "revoke", "7") == (0, "token 7 is revoked\n", "")


def test_a_warning_is_one_line_like_everything_else(run, config):
    config.write_text('[profiles.one]\nurl = "http://one.test"\ntoken = "s3cret"\n')
    config.chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "hpcjobs.cli", "profiles", "--profile", "one"],
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == f"hpcjobs: warning: others can read the token in {config}; say: chmod 600 {config}\n"


def test_bytes_are_written_whole_also_where_a_write_is_only_a_part(monkeypatch):
    class Slow(io.BytesIO):
        def write(self, data):
            return super().write(bytes(data[:3]))

    class Stdout:
        buffer = Slow()

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Stdout())
    output.raw(b"0123456789")
    assert Stdout.buffer.getvalue() == b"0123456789"


def test_a_wait_that_is_out_of_time_names_the_job_in_json():
    problem = exits.problem_of(errors.WaitTimeout(JobInfo(id="7", state=JobState.RUNNING), 1))
    assert (problem["job_id"], problem["exit_code"]) == ("7", 124)
