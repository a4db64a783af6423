"""Arrays: what an item becomes in a command, and what an array must be."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs.arrays import ArrayInfo, ArrayOrder, fill
from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import JobState

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(TEXT)
def test_an_item_is_one_word_of_a_shell_command(value: str) -> None:
    """Whatever it holds: quotes, blanks, dollars, newlines."""
    assert shlex.split(str(fill("x {item} y", value, 0))) == ["x", value, "y"]


@given(TEXT)
def test_an_item_is_put_into_an_argument_as_it_is(value: str) -> None:
    assert fill(["x", "--a={item}"], value, 0) == ["x", f"--a={value}"]


def test_the_shell_sees_what_was_meant() -> None:
    """Values that look like the shell's own are not, and what is the shell's own stays."""
    command = fill("X=1; echo {a} ${X} {b} {{index}} '{c}'", {"a": "$X `id`", "b": [1, 2]}, 7)
    ended = subprocess.run(["bash", "-c", str(command)], capture_output=True, text=True, check=True)
    assert ended.stdout == "$X `id` 1 [1, 2] {7} {c}\n"


@pytest.mark.parametrize("command", ["awk '{print $1}' ${HOME} {}", "echo {nobody} {a-b}"])
def test_what_names_nothing_is_left_as_it_is(command: str) -> None:
    assert fill(command, {"a": 1}, 0) == command


@pytest.mark.parametrize(("item", "text"), [(0.05, "0.05"), (True, "true"), (None, "{item}"), ("x", "x"), (3, "3")])
def test_values_are_written_as_json_has_them(item: object, text: str) -> None:
    assert fill("{item}", item, 0) == text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "over="),
        ({"size": 2, "over": [1]}, "over="),
        ({"size": 10_001}, "size"),
        ({"over": [float("nan")]}, "JSON does not have"),
        ({"size": 1, "spec": {"command": "x", "name": "n" * 200}}, "190 characters"),
    ],
)
def test_an_array_that_makes_no_sense_is_refused_in_words(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        ArrayOrder.parse({"spec": {"command": "true"}, **fields})


def test_an_array_has_ended_when_all_of_its_jobs_have() -> None:
    info = ArrayInfo(id="a", size=3, counts={JobState.FINISHED: 2, JobState.FAILED: 1})
    assert info.terminal
    assert str(info) == "a: 2 FINISHED, 1 FAILED"
    assert not ArrayInfo(id="a", size=3, counts={JobState.FINISHED: 2, JobState.RUNNING: 1}).terminal
