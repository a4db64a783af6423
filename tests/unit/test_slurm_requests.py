"""What Slurm is asked for, version by version: the script and the job around it, and what is refused unsent."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
from typing import Any

import pytest

from hpcjobs.arrays import ArrayOrder
from hpcjobs.errors import InvalidSpec
from hpcjobs.models import JobSpec
from hpcjobs.services import slurm_comment
from hpcjobs.services.slurm_requests import Defaults, array_request_of, begin_of, request_of, signal_name
from hpcjobs.services.slurm_versions import Api
from tests.unit.slurm_words import DEFAULTS, VERSIONS, amount

each_version = pytest.mark.parametrize("version", VERSIONS)


def asked(version: int = 42, **fields: Any) -> dict[str, Any]:
    return request_of(JobSpec(**{"command": "true", **fields}), "key-1", Api(version), DEFAULTS)


def job(version: int = 42, **fields: Any) -> dict[str, Any]:
    return asked(version, **fields)["job"]


def output_of(script: str, **variables: str) -> str:
    """What a script prints where nothing is set, as Slurm starts it."""
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        ["/bin/bash", "-c", script], env=environment, text=True, capture_output=True, check=True
    ).stdout


@each_version
def test_the_environment_is_an_object_for_the_oldest_version_and_a_list_since(version: int) -> None:
    told = job(version, env={"A": "b=c"})["environment"]
    assert type(told) is (dict if version == 38 else list)
    pairs = told if version == 38 else dict(one.split("=", 1) for one in told)
    assert pairs["A"] == "b=c"
    assert "/bin" in pairs["PATH"].split(":")
    assert pairs["USER"] == "me"


def test_a_path_of_the_users_wins() -> None:
    assert "PATH=/opt/bin" in job(env={"PATH": "/opt/bin"})["environment"]


@each_version
def test_numbers_are_plain_for_the_oldest_version_and_objects_since(version: int) -> None:
    """Minutes and megabytes, rounded up: a job must not get less than it asks for."""
    told = job(version, resources={"cores": 2, "walltime": "61s", "memory": (1 << 20) + 1})
    assert told["time_limit"] == amount(version, 2)
    assert told["memory_per_node"] == amount(version, 2)
    assert (told["tasks"], told["cpus_per_task"]) == (1, 2)


def test_what_nobody_asked_for_is_left_to_the_cluster() -> None:
    assert job().keys() == {"comment", "current_working_directory", "environment"}


@each_version
def test_a_version_is_sent_only_fields_that_it_knows(version: int) -> None:
    told = job(
        version,
        name="fit",
        queue="short",
        priority=-3,
        requeue=True,
        stderr="separate",
        start_in="5s",
        after=["12"],
        resources={"cores": 1, "walltime": "1m", "memory": 1 << 30},
    )
    assert told.keys() <= Api(version).fields
    assert (told["name"], told["partition"], told["nice"], told["requeue"]) == ("fit", "short", 3, True)


# The script


def test_a_text_is_for_the_shell() -> None:
    assert output_of(asked(command="X=1; echo $X | cat")["script"], HOME="/") == "1\n"


def test_the_words_of_a_list_arrive_as_they_are() -> None:
    words = ["a b", "$HOME", "it's", "*", "", "new\nline"]
    told = asked(command=["printf", "<%s>", *words])["script"]
    assert told.startswith("#!/bin/bash\n")
    assert output_of(told, HOME="/") == "".join(f"<{word}>" for word in words)


def test_a_script_of_the_users_is_sent_as_it_is() -> None:
    text = "#!/usr/bin/env python3\nprint(1)\n"
    assert asked(command=text)["script"] == text
    assert asked(options={"script": text})["script"] == text
    assert "script" not in asked(options={"script": text})["job"]


def test_a_job_has_a_home_though_slurm_sets_none() -> None:
    assert output_of(asked(command="echo $HOME")["script"]).strip() not in {"", "~"}
    assert output_of(asked(command="echo $HOME")["script"], HOME="/mine") == "/mine\n"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"task": "fit", "command": None}, "task"),
        ({"max_attempts": 3}, "max_attempts"),
        ({"expires_in": "1h"}, "expires_in"),
        ({"grace": "5s"}, "grace"),
        ({"options": {"script": "echo no shebang"}}, "#!"),
        ({"options": {"script": ""}}, "is empty"),
        ({"options": {"script": " \n"}}, "is empty"),
        ({"options": {"script": 3}}, "is empty"),
        ({"options": {"script": "#!/bin/sh\r\ntrue\r\n"}}, "line ends"),
        ({"command": "true\r\nfalse"}, "line ends"),
        ({"command": ["true", "a\r\nb"]}, "line ends"),
        ({"command": "#!/bin/sh\n#SBATCH -n 4\ntrue"}, "-n 4"),
        ({"options": {"script": "#!" + "x" * (4 << 20)}}, "4 MiB"),
        ({"options": {"current_working_directory": "here"}}, "absolute"),
        ({"options": {"environment": ["A=b"]}}, "env="),
        ({"after": ["fit"]}, "fit"),
        ({"tags": ["x" * 200] * 20}, "too long"),
    ],
    ids=lambda value: str(value)[:40],
)
@each_version
def test_what_would_not_run_is_refused_before_anything_is_sent(version: int, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        asked(version, **fields)
    assert word in str(caught.value)


@pytest.mark.parametrize("command", ["", "  ", "\n", []])
def test_an_empty_command_is_refused(command: Any) -> None:
    with pytest.raises((InvalidSpec, ValueError)):
        asked(command=command)


@pytest.mark.parametrize("folder", ["", "relative"])
def test_a_folder_is_never_guessed(folder: str) -> None:
    with pytest.raises(InvalidSpec, match="folder"):
        request_of(JobSpec(command="true"), "k", Api(42), Defaults(user="me", folder=folder))


# Options


@each_version
def test_options_are_slurms_own_and_win(version: int) -> None:
    options = {"partition": "long", "qos": "high", "tasks": 4, "licenses": "abaqus:2", "mail_user": "me"}
    told = job(version, queue="short", options=options)
    assert {name: told[name] for name in options} == options


@each_version
def test_an_option_that_the_version_would_ignore_is_refused_with_the_word_that_is_meant(version: int) -> None:
    with pytest.raises(InvalidSpec, match="did you mean partition"):
        job(version, options={"partitoin": "x"})


def test_an_option_is_refused_only_by_versions_that_do_not_know_it() -> None:
    assert job(45, options={"container_type": "x"})["container_type"] == "x"
    with pytest.raises(InvalidSpec, match=r"v0\.0\.42"):
        job(42, options={"container_type": "x"})


@pytest.mark.parametrize(
    ("version", "field"), [(38, "gpus_per_node"), (40, "tres_per_node"), (42, "tres_per_node"), (45, "tres_per_node")]
)
def test_gpus_have_the_name_that_the_version_knows(version: int, field: str) -> None:
    told = job(version, options={"gpus_per_node": "a100:2"})
    assert told[field] == ("a100:2" if version == 38 else "gres/gpu:a100:2")


# Dependencies, times, arrays


def test_dependencies_are_in_slurms_words() -> None:
    told = job(after=["12", ("13", "any"), ("14_2", "failed")])["dependency"]
    assert set(told.split(",")) == {"afterok:12", "afterany:13", "afternotok:14_2"}


@each_version
def test_a_job_whose_dependency_cannot_be_met_ends(version: int) -> None:
    """It would wait for ever otherwise."""
    told = job(version, after=["12"])
    if version == 38:
        assert told["kill_on_invalid_dependency"] is True
    else:
        assert told["flags"] == ["KILL_INVALID_DEPENDENCY"]


def test_a_start_is_never_before_the_moment_that_was_asked_for() -> None:
    moment = dt.datetime(2999, 1, 1, 0, 0, 0, 500, tzinfo=dt.timezone.utc)
    assert begin_of(moment, None) == f"uts{int(moment.timestamp()) + 1}"
    assert begin_of(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), None) == "now"
    assert begin_of(None, dt.timedelta(seconds=1.2)) == "now+2seconds"


@each_version
def test_each_task_of_an_array_runs_its_own_command(version: int) -> None:
    order = ArrayOrder(spec=JobSpec(command=["printf", "<%s>", "{item}"]), over=["a b", "it's", "c;d"])
    told = array_request_of(order, "k", Api(version), DEFAULTS)
    assert told["job"]["array"] == "0-2"
    assert slurm_comment.read(told["job"]["comment"]).size == 3
    printed = [output_of(told["script"], HOME="/", SLURM_ARRAY_TASK_ID=str(index)) for index in range(3)]
    assert printed == ["<a b>", "<it's>", "<c;d>"]


def test_tasks_that_are_alike_share_one_line() -> None:
    order = ArrayOrder(spec=JobSpec(command="echo $SLURM_ARRAY_TASK_ID"), size=1000)
    told = array_request_of(order, "k", Api(42), DEFAULTS)
    assert told["job"]["array"] == "0-999"
    assert told["script"].count("echo") == 1


def test_an_array_is_not_asked_for_twice() -> None:
    order = ArrayOrder(spec=JobSpec(command="true", options={"array": "0-3"}), size=4)
    with pytest.raises(InvalidSpec, match="array"):
        array_request_of(order, "k", Api(42), DEFAULTS)


def test_an_array_of_slurms_own_is_counted() -> None:
    assert slurm_comment.read(job(options={"array": "0-9:3,20%2"})["comment"]).size == 5


# The comment


@each_version
def test_the_key_travels_in_the_comment_behind_what_a_person_wrote(version: int) -> None:
    comment = job(version, tags=["night"], meta={"for": "Ann"}, options={"comment": "for Ann"})["comment"]
    note = slurm_comment.read(comment)
    assert comment.startswith("for Ann ")
    assert (note.text, note.key, note.tags, note.meta) == ("for Ann", "key-1", ["night"], {"for": "Ann"})


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ["hpcjobs:x"]},
        {"meta": {"made by": 'hpcjobs:{"key":"other"}'}},
        {"options": {"comment": "hpcjobs: a trial"}},
        {"options": {"comment": 'hpcjobs:{"key":"other"}'}},
    ],
    ids=["tag", "meta", "text", "text like ours"],
)
def test_a_key_is_read_whatever_else_the_comment_says(fields: dict[str, Any]) -> None:
    """A job whose key cannot be read is not found after a lost answer, and is made twice."""
    note = slurm_comment.read(job(**fields)["comment"])
    assert note.key == "key-1"
    assert note.tags == fields.get("tags", [])
    assert note.text == fields.get("options", {}).get("comment", "")


@pytest.mark.parametrize("comment", [None, "", "for Ann", "hpcjobs:", "hpcjobs:[]", 'hpcjobs:{"key":', "hpcjobs:5"])
def test_a_comment_that_is_not_ours_is_a_persons_text(comment: str | None) -> None:
    assert slurm_comment.read(comment) == slurm_comment.Note(text=comment or "")


def test_another_job_has_another_sum() -> None:
    sums = [slurm_comment.read(job(command=command)["comment"]).sum for command in ("true", "true", "false")]
    assert sums[0] == sums[1] != sums[2]


# Signals


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "usr1", signal.SIGUSR1])
def test_a_signal_has_one_name(name: Any) -> None:
    assert signal_name(name) == "USR1"


@pytest.mark.parametrize("name", ["FOO", "", "SIG", "9", signal.SIGSEGV])
def test_a_name_that_slurm_does_not_know_is_refused(name: Any) -> None:
    with pytest.raises(InvalidSpec, match="USR1"):
        signal_name(name)
