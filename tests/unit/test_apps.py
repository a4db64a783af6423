"""Apps: what an operator's file says, which arguments a call gets, and which options fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs.models import JobSpec
from hpcjobs.tapis_data import Argument
from hpcjobs_server.apps import App, AppError, Apps, check_options, words


def _load(tmp_path: Path, text: str, **options: Any) -> Apps:
    file = tmp_path / "apps.toml"
    file.write_text(text)
    return Apps.load(file, **options)


def _argv(apps: Apps, **fields: Any) -> list[str]:
    command = apps.resolved(apps.accepted(JobSpec.parse(fields))).command
    assert isinstance(command, list)
    return command


FIT = App.model_validate(
    {
        "name": "fit",
        "version": "1.0",
        "command": ["fit"],
        "args": [
            {"name": "file", "required": True},
            {"name": "order", "arg": "--order 2"},
            {"name": "plot"},
        ],
    }
)


def test_declared_arguments_come_in_their_order_and_others_behind_them() -> None:
    """Whatever order the job gives them in."""
    apps = Apps([FIT])
    given_args = {"more": "x", "plot": "--plot", "file": "a b"}
    assert _argv(apps, app="fit", args=given_args) == ["fit", "a b", "--order", "2", "--plot", "x"]
    listed = {"parameterSet": {"appArgs": [{"arg": "last"}, {"name": "file", "arg": "'a b' c"}]}}
    assert _argv(apps, app="fit", options=listed) == ["fit", "a b", "c", "--order", "2", "last"]


def test_an_argument_that_is_not_included_is_left_out() -> None:
    """None by name says the same."""
    apps = Apps([FIT])
    assert _argv(apps, app="fit", args={"file": "f", "order": None}) == ["fit", "f"]
    listed = {"parameterSet": {"appArgs": [{"name": "order", "include": False}]}}
    assert _argv(apps, app="fit", args={"file": "f"}, options=listed) == ["fit", "f"]


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))))
def test_a_text_by_name_is_one_word_whatever_is_in_it(text: str) -> None:
    """A list is one word per item."""
    apps = Apps([FIT])
    assert _argv(apps, app="fit", args={"file": text, "order": None}) == ["fit", text]
    assert _argv(apps, app="fit", args={"file": [text, 1], "order": None}) == ["fit", text, "1"]


@pytest.mark.parametrize(
    ("command", "script"),
    [("wc -l", 'wc -l "$@"'), ("wc -l < $1", "wc -l < $1"), ('for f in "$@"; do :; done', 'for f in "$@"; do :; done')],
)
def test_a_shell_command_gets_its_words_as_arguments(command: str, script: str) -> None:
    """At its end, unless it names them; nothing that a job gives becomes part of the script."""
    argv = App(name="a", version="1", command=command).argv([Argument(arg="'$(id)'")])
    assert argv[1:] == ["-c", script, "a", "$(id)"]


def test_mpi_and_a_prefix_come_before_the_command() -> None:
    """And exclude each other."""
    apps = Apps([FIT])
    made = {"app": "fit", "args": {"file": "f", "order": None}}
    assert _argv(apps, **made, options={"cmdPrefix": "nice -n 5"}) == ["nice", "-n", "5", "fit", "f"]
    assert _argv(apps, **made, options={"isMpi": True, "mpiCmd": "mpirun -n 2"})[:4] == ["mpirun", "-n", "2", "fit"]
    for options in ({"isMpi": True}, {"isMpi": True, "mpiCmd": "mpirun", "cmdPrefix": "nice"}):
        assert [field for field, _ in apps.check(JobSpec.parse({**made, "options": options}))] == ["args"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"app": "nope"}, "app", "fit"),
        ({"app": "fit", "app_version": "9"}, "app_version", "1.0"),
        ({"app": "fit"}, "args", "'file' is missing"),
        ({"app": "fit", "options": {"parameterSet": {"appArgs": [{"arg": "'open"}]}}, "args": {"file": "f"}}, "args", "'open"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_call_names_what_is_allowed(fields: dict[str, Any], field: str, said: str) -> None:
    """By the field that is meant."""
    ((where, why),) = Apps([FIT]).check(JobSpec.parse(fields))
    assert where == field
    assert said in why


def test_the_newest_version_is_meant_where_none_is_named() -> None:
    """Newest by number, not by letter."""
    apps = Apps([App(name="a", version=version, command="true") for version in ("1.10", "1.9", "1.10rc1")])
    assert apps.get("a").version == "1.10"
    assert [app.version for app in apps] == ["1.9", "1.10rc1", "1.10"]


def test_what_a_job_does_not_say_is_as_its_app_has_it() -> None:
    """Cores, memory, walltime, queue; the job's own word counts more, and its variables do."""
    app = App.model_validate(
        {
            "name": "a", "version": "1", "command": ["a"], "cores": 2, "walltime": "1h", "queue": "long",
            "env": {"A": "app", "B": "app"},
        }
    )  # fmt: skip
    apps = Apps([app])
    kept = apps.accepted(JobSpec.parse({"app": "a", "env": {"B": "job"}, "resources": {"walltime": "5m"}}))
    assert (kept.app_version, kept.resources.cores, kept.queue) == ("1", 2, "long")
    assert kept.resources.walltime is not None
    assert kept.resources.walltime.total_seconds() == 300
    assert apps.resolved(kept).env == {"A": "app", "B": "job"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[apps.a", "is no TOML"),
        ("[apps.a]\nversion = '1'", "apps.a.command"),
        ("[apps.a]\nversion = '1'\ncommand = 'x'\ncolour = 1", "apps.a.colour"),
        ("[apps.a]\nversion = '1'\ncommand = 'x'\nname = 'b'", "apps.a.name"),
        ("[apps.a]\nversion = '1'\ncommand = 'x'\nenv = { HPCJOBS_X = '1' }", "HPCJOBS_X"),
        ("[apps.a]\nversion = '1'\ncommand = 'x'\nargs = [{name = 'x', arg = \"'\"}]", "cannot be split"),
        ("[apps.a]\nversion = '1'\ncommand = 'x'\nargs = [{name = 'x'}, {name = 'x'}]", "two are named 'x'"),
        ("[[apps.a]]\nversion = '1'\ncommand = 'x'\n[[apps.a]]\nversion = '1'\ncommand = 'y'", "there are two 1"),
        ("[systems.s]\nfolder = 'nowhere'", "is no folder"),
        ("[other]\n", "other"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, said: str) -> None:
    """The app and the key."""
    with pytest.raises(AppError) as refused:
        _load(tmp_path, text)
    assert said in str(refused.value)
    assert "apps.toml" in str(refused.value)


def test_the_bundled_apps_are_there_unless_the_operator_has_others_of_that_name(tmp_path: Path) -> None:
    """Python, which runs anything, is not there where only the operator's code runs."""
    mine = _load(tmp_path, "[apps.hello]\nversion = '7'\ncommand = 'echo'")
    assert [(app.name, app.version) for app in mine] == [("hello", "7"), ("python", "1.0")]
    assert [app.name for app in Apps.load(None, tasks_only=True)] == ["hello"]
    assert Apps.load(None).get("python").command == [sys.executable, "-u"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"command": "true", "options": {"maxMinutes": 1}}, "options"),
        ({"app": "fit", "options": {"maxMinutes": 1}}, "options.maxMinutes"),
        ({"app": "fit", "options": {"bogus": 1}}, "options.bogus"),
        ({"app": "fit", "options": {"parameterSet": {"envVariables": [{"key": "A"}]}}}, "options.parameterSet.envVariables"),
        ({"app": "fit", "options": {"parameterSet": {"appArgs": "x"}}}, "options.parameterSet.appArgs"),
    ],
)  # fmt: skip
def test_options_have_one_place_and_one_word(fields: dict[str, Any], named: str) -> None:
    """What a spec has a field for is refused among the options, and so is what nothing understands."""
    assert named in [field for field, _ in check_options(JobSpec.parse(fields))]
    assert check_options(JobSpec.parse({"app": "fit", "options": {"description": "x", "cmdPrefix": "nice"}})) == []


def test_words_are_split_as_a_shell_would_and_nothing_is_expanded() -> None:
    """Quotes group, dollars stay."""
    assert words("a 'b c' \"d $e\" f\\ g *") == ["a", "b c", "d $e", "f g", "*"]
