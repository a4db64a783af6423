"""What AWS Batch is asked for: where what is asked for goes, what wins, and what is refused before it is sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs.arrays import fill
from hpcjobs.errors import InvalidSpec, Unsupported
from hpcjobs.models import JobSpec
from hpcjobs.services.batch_arrays import array_command
from hpcjobs.services.batch_records import info_of
from hpcjobs.services.batch_requests import MAX_PAYLOAD, Defaults, request_again, request_of
from hpcjobs.services.batch_tags import (
    MAX_TAGS,
    SUM_TAG,
    job_name,
    meta_of,
    name_of,
    pack,
    prefix_of,
    tags_for,
    tags_of,
    unpacked,
)

DEFAULTS = Defaults("fast", "fit:3")


def body_of(command: Any = "true", **fields: Any) -> dict[str, Any]:
    size, over = fields.pop("size", None), fields.pop("over", None)
    asked = {"command": command, **fields} if command is not None else fields
    body: dict[str, Any] = request_of(JobSpec.parse(asked), "k", DEFAULTS, size=size, over=over)
    return body


def test_only_what_is_asked_for_is_sent() -> None:
    """The job definition decides the rest: its cores, its memory, its time, its attempts."""
    body = body_of("fit.py")
    assert set(body) == {"jobName", "jobQueue", "jobDefinition", "containerOverrides", "tags"}
    assert body["containerOverrides"] == {"command": ["/bin/sh", "-c", "fit.py"]}
    assert (body["jobQueue"], body["jobDefinition"]) == ("fast", "fit:3")


def test_everything_has_its_place() -> None:
    body = body_of(
        ["fit.py", "-v"],
        cores=1,
        memory="1.5GiB",
        walltime="90s",
        max_attempts=3,
        retry_on=[75],
        after=["a", "b"],
        env={"A": "1"},
        queue="slow",
        priority=5,
        options={"shareIdentifier": "lab", "gpus": 2},
    )
    assert body["containerOverrides"] == {
        "command": ["fit.py", "-v"],
        "environment": [{"name": "A", "value": "1"}],
        "resourceRequirements": [
            {"type": "VCPU", "value": "1"},
            {"type": "MEMORY", "value": "1536"},
            {"type": "GPU", "value": "2"},
        ],
    }
    assert body["timeout"] == {"attemptDurationSeconds": 90}
    assert body["retryStrategy"] == {
        "attempts": 3,
        "evaluateOnExit": [{"action": "RETRY", "onExitCode": "75"}, {"action": "EXIT", "onExitCode": "*"}],
    }
    assert body["dependsOn"] == [{"jobId": "a"}, {"jobId": "b"}]
    assert (body["jobQueue"], body["shareIdentifier"], body["schedulingPriorityOverride"]) == ("slow", "lab", 5)
    assert "gpus" not in body


def test_what_is_batchs_own_passes_through_and_wins() -> None:
    options = {
        "jobQueue": "arn:aws:batch:eu-west-1:1:job-queue/other",
        "jobDefinition": "other:1",
        "timeout": {"attemptDurationSeconds": 7200},
        "containerOverrides": {
            "resourceRequirements": [{"type": "VCPU", "value": "8"}],
            "environment": [{"name": "B", "value": "theirs"}],
        },
        "tags": {"Project": "quake"},
        "aFieldOfTomorrow": {"deep": [1, None]},
        "dependsOn": [{"type": "SEQUENTIAL"}],
    }
    before = json.dumps(options)
    body = body_of("fit.py", cores=2, memory="1GiB", walltime="1h", env={"A": "1", "B": "ours"}, options=options)
    for name in ("jobQueue", "jobDefinition", "timeout", "aFieldOfTomorrow", "dependsOn"):
        assert body[name] == options[name]
    assert body["containerOverrides"]["command"] == ["/bin/sh", "-c", "fit.py"]
    assert body["containerOverrides"]["environment"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "theirs"}]
    assert body["containerOverrides"]["resourceRequirements"] == [
        {"type": "MEMORY", "value": "1024"},
        {"type": "VCPU", "value": "8"},
    ]
    assert body["tags"]["Project"] == "quake"
    assert json.dumps(options) == before, "what the user gave is not changed"


@pytest.mark.parametrize(("version", "expected"), [(None, "fit"), ("7", "fit:7")])
def test_an_app_is_a_job_definition(version: str | None, expected: str) -> None:
    body = body_of(None, app="fit", app_version=version, args={"d": 0.5, "name": "x", "deep": [1]})
    assert body["jobDefinition"] == expected
    assert body["parameters"] == {"d": "0.5", "name": "x", "deep": "[1]"}
    assert "containerOverrides" not in body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"walltime": "59s"}, "walltime: is 59 s; AWS Batch knows no limit below 60 s"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"retry_on": [1, 2, 3, 4, 5]}, "retry_on: names 5; .*4 exit codes"),
        ({"after": [str(number) for number in range(21)]}, "after: names 21 jobs; AWS Batch takes 20"),
        ({"after": ["#0"]}, "same call"),
        ({"env": {"AWS_BATCH_X": "1"}}, "env.AWS_BATCH_X: names that begin with AWS_BATCH"),
        ({"priority": 3}, "share identifier"),
        ({"priority": -1, "options": {"shareIdentifier": "a"}}, "0 to 9999"),
        ({"tags": ["a#b"]}, "letters, digits"),
        ({"tags": ["aws:x"]}, "not for users"),
        ({"tags": ["a=1", "a=2"]}, "one value"),
        ({"tags": [f"t{number}" for number in range(60)]}, "50 tags"),
        ({"meta": {"long": "x" * 20_000}}, "shorter meta"),
        ({"env": {"LONG": "x" * MAX_PAYLOAD}}, "env: the request has .* bytes and AWS Batch takes 30,720"),
        ({"options": {"jobName": "mine"}}, "give name="),
        ({"options": {"gpus": 0}}, "one or more"),
        ({"size": 1}, "2 to 10,000 jobs"),
    ],
)
def test_limits_are_told_before_anything_is_sent(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        body_of(**fields)


def test_an_empty_argument_and_a_missing_definition_or_queue_are_told() -> None:
    with pytest.raises(InvalidSpec, match="no empty argument"):
        body_of(["fit.py", ""])
    with pytest.raises(InvalidSpec, match=r"queue: .*job_definition: "):
        request_of(JobSpec(command="true"), "k", Defaults())


@pytest.mark.parametrize(
    "fields",
    [
        {"start_in": "1h"},
        {"start_at": "2030-01-01"},
        {"expires_in": "1h"},
        {"backoff": "1m"},
        {"grace": "5m"},
        {"stderr": "separate"},
        {"after": [("a", "any")]},
        {"after": [("a", "failed")]},
        {"inputs": [{"name": "a", "sha256": "0" * 64, "size": 1}]},
    ],
)
def test_what_has_no_place_is_unsupported_with_advice(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=r"^AWS Batch cannot .+; .+"):
        body_of(**fields)


def test_a_task_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="app="):
        body_of(None, task="fit")


# Names, keys and tags


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_every_name_makes_a_name_of_batch_that_begins_with_the_key(key: str, name: str) -> None:
    made = job_name(key, name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", made)
    assert made.startswith(prefix_of(key))


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200),
    st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.text(max_size=50), st.none()), max_size=5),
)
def test_a_name_and_a_meta_come_back_whatever_is_in_them(name: str, meta: dict[str, Any]) -> None:
    spec = JobSpec(command="true", name=name, meta=meta)
    body = request_of(spec, "k", DEFAULTS)
    assert (name_of(body), meta_of(body)) == (name, meta)
    for key, value in body["tags"].items():
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@-]{1,128}", key)
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@-]{0,256}", value)


@pytest.mark.parametrize("tags", [["a"], ["a", "b=c", "d e=f=g"], ["grün=ja"]])
def test_tags_come_back(tags: list[str]) -> None:
    made, problems = tags_for("fit", tags, {"x": 1}, "me")
    assert not problems
    assert tags_of({"tags": made}) == tags
    assert len(made) < MAX_TAGS


def test_tags_that_are_not_whole_are_none() -> None:
    packed = pack({"meta": {"a": "x" * 1000}})
    assert len(packed) > 1
    packed.pop("hpcjobs:packed-0")
    assert unpacked(packed) == {}
    assert unpacked({"hpcjobs:packed-0": "!!!"}) == unpacked(None) == {}


def test_the_same_is_asked_with_the_same_sum_whatever_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever asks: a key may be used from two accounts of the same person."""
    spec = JobSpec(command="true", name="a", tags=["t"])
    one = request_of(spec, "k", DEFAULTS)
    monkeypatch.setattr("getpass.getuser", lambda: "somebody else")
    other = request_of(spec, "l", DEFAULTS)
    assert one["jobName"] != other["jobName"]
    assert one["tags"][SUM_TAG] == other["tags"][SUM_TAG]
    changed = request_of(JobSpec(command="false", name="a", tags=["t"]), "k", DEFAULTS)
    assert changed["tags"][SUM_TAG] != one["tags"][SUM_TAG]


# Arrays

VALUES = st.one_of(
    st.integers(),
    st.booleans(),
    st.none(),
    # no letters that a shell cannot hold, and no surrogates
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
)


def _printed(command: list[str], index: int) -> str:
    told = {"PATH": os.environ["PATH"], "AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ID": f"id:{index}"}
    return subprocess.run(command, env=told, capture_output=True, check=True, timeout=30).stdout.decode()


@given(st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES}), min_size=2, max_size=3), st.booleans())
def test_each_job_of_an_array_runs_what_its_item_says(items: list[dict[str, Any]], quoted: bool) -> None:
    """Word for word as the reference server fills the command, with a shell and without."""
    words = ["printf", "%s|", "{a}", "x{b}y{a}{index}", "{other}", "$HOME ${a}", ""]
    template = "printf '%s|' {a} x{b}y{a}{index} {other} '$HOME ${a}' ''" if quoted else words
    command = array_command(template, len(items), items)
    assert "" not in command
    for index, item in enumerate(items):
        plain = fill(template, item, index)
        direct = plain if isinstance(plain, list) else ["/bin/sh", "-c", plain]
        assert _printed(command, index) == _printed(direct, index)


def test_an_array_tells_its_jobs_who_they_are() -> None:
    shown = "echo $HPCJOBS_ARRAY_ID $HPCJOBS_ARRAY_INDEX $HPCJOBS_ARRAY_SIZE $HPCJOBS_ITEM"
    assert _printed(array_command(shown, 3, [1, "b", {"c": 2}]), 2) == 'id 2 3 {"c": 2}\n'
    assert _printed(array_command(shown, 10_000, None), 77) == "id 77 10000\n"


def test_an_array_of_numbers_needs_no_table() -> None:
    body = body_of("fit.py {index}", size=10_000)
    assert body["arrayProperties"] == {"size": 10_000}
    assert len(json.dumps(body)) < 1000


def test_an_array_that_is_too_large_says_what_to_do() -> None:
    with pytest.raises(InvalidSpec, match=r"command: .*several smaller arrays"):
        body_of("fit.py {x}", size=5000, over=[{"x": number} for number in range(5000)])


# Once more


def _detail(body: dict[str, Any], job_id: str = "1", **more: Any) -> dict[str, Any]:
    overrides = body.get("containerOverrides") or {}
    environment = [*overrides.get("environment", []), {"name": "AWS_BATCH_JOB_ID", "value": job_id}]
    container = {**overrides, "environment": environment, "exitCode": 1, "logStreamName": "a/b"}
    same = {name: value for name, value in body.items() if name != "containerOverrides"}
    return {**same, "jobId": job_id, "status": "FAILED", "container": container, **more}


def test_the_same_is_asked_once_more() -> None:
    body = body_of("fit.py", name="a b", cores=2, walltime="1h", max_attempts=2, tags=["t"], env={"A": "1"})
    detail = _detail(body, tags={**body["tags"], "aws:batch:x": "y"}, dependsOn=[{"jobId": "gone"}])
    again = request_again(detail, "other")
    assert again["jobName"].startswith(prefix_of("other"))
    changed = {"jobName", "tags"}
    assert {name: value for name, value in again.items() if name not in changed} == {
        name: value for name, value in body.items() if name not in changed
    }
    shown = info_of({**again, "jobId": "2", "status": "SUBMITTED"})
    assert (shown.name, shown.tags) == ("a b", ["t"])
    assert "aws:batch:x" not in again["tags"]


def test_an_array_once_more_is_an_array_and_one_of_its_jobs_is_a_job() -> None:
    body = body_of("echo {x}", size=2, over=[{"x": 1}, {"x": "b c"}])
    assert request_again(_detail(body), "other")["arrayProperties"] == {"size": 2}
    one = {**body, "arrayProperties": {"index": 1}}
    again = request_again(_detail(one, "1:1"), "other")
    assert "arrayProperties" not in again
    told = {"PATH": os.environ["PATH"], "AWS_BATCH_JOB_ID": "2"}
    ran = subprocess.run(again["containerOverrides"]["command"], env=told, capture_output=True, check=True, timeout=30)
    assert ran.stdout == b"b c\n"


def test_a_job_on_several_computers_is_not_run_again_by_half() -> None:
    with pytest.raises(Unsupported):
        request_again({"jobId": "1", "nodeProperties": {"numNodes": 2}}, "k")
