"""The code that submits a job again asks for the very same job, whatever the job is called and carries along."""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import io
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
import respx
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hpcjobs
from hpcjobs import cli
from hpcjobs.again import as_python, as_shell
from hpcjobs.arrays import one_of, own_spec
from hpcjobs.inputs import find_inputs, hash_file
from hpcjobs.models import JobInfo, JobSpec

URL = "http://hpc.test"
BASH = shutil.which("bash") or "bash"
BAD = "\n# x\r'\"\\\u202e $(touch y) `touch y`;touch y\n!x {index} é\u2028\x07b"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
words = st.one_of(texts, st.just(BAD), st.sampled_from(["-x", "--", "a b", "--name=y", "'", "=ls", "~", "it's!x", "*"]))
tags = words.filter(lambda text: not any(ord(char) < 32 or ord(char) == 127 for char in text))
numbers = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(st.one_of(numbers, words), lambda inner: st.lists(inner, max_size=2), max_leaves=4)
names = st.text("abcXYZ_09", min_size=1, max_size=8).filter(lambda name: not name[0].isdigit())
lengths = st.integers(1, 10**6).map(lambda seconds: dt.timedelta(seconds=seconds / 4))
commands = st.one_of(words.filter(str.strip), st.lists(words, min_size=1, max_size=4))
labels = {
    "name": words,
    "tags": st.lists(tags, min_size=1, max_size=3),
    "meta": st.dictionaries(names, values, min_size=1, max_size=2),
    "env": st.dictionaries(names, words, min_size=1, max_size=2),
    "queue": st.just("night"),
    "priority": st.integers(-9, 9),
    "grace": st.integers(0, 3600).map(lambda seconds: dt.timedelta(seconds=seconds)),
    "max_attempts": st.integers(1, 9),
    "backoff": lengths,
    "retry_on": st.lists(st.integers(1, 255), min_size=1, max_size=3),
    "after": st.lists(st.tuples(st.just("0b7f"), st.sampled_from(["ok", "any", "failed"])), min_size=1, max_size=2),
    "expires_in": lengths,
    "requeue": st.booleans(),
    "stderr": st.sampled_from(["merged", "separate"]),
    "cores": st.integers(1, 9),
    "memory": st.integers(1, 2**45),
    "walltime": lengths,
}
starts = st.one_of(
    st.just({}),
    lengths.map(lambda length: {"start_in": length}),
    st.integers(0, 10**9).map(lambda seconds: {"start_at": dt.datetime.fromtimestamp(seconds, dt.timezone.utc)}),
)
work = st.one_of(
    commands.map(lambda command: {"command": command}),
    st.builds(
        lambda name, args: {"task": name, **({"args": args} if args else {})},
        words,
        st.dictionaries(names, values, max_size=2),
    ),
    st.builds(
        lambda name, version, options: {"app": name, "app_version": version, "options": options},
        words,
        words,
        st.dictionaries(names, values, min_size=1, max_size=2),
    ),
)
specs = st.builds(
    lambda what, more, start: JobSpec.parse({**what, **more, **start}),
    work,
    st.fixed_dictionaries({}, optional=labels),
    starts,
)


def said(spec: JobSpec) -> dict[str, Any]:
    """What a spec asks for, with what holds anyway."""
    found: dict[str, Any] = json.loads(spec.model_dump_json())
    return found


class Recorder:
    """Stands for the client: keeps what is submitted."""

    submitted: JobSpec
    url: str | None

    def __init__(self, url: str | None = None) -> None:
        Recorder.url = url

    def submit(self, command: Any = None, *, inputs: Any = None, **options: Any) -> str:
        files = [] if inputs is None else [hash_file(file) for file in find_inputs(inputs)]
        given_fields = options if command is None else {"command": command, **options}
        Recorder.submitted = JobSpec.parse({**given_fields, **({"inputs": files} if files else {})})
        return "job"


def by_python(code: str) -> JobSpec:
    """What the Python submits."""
    with mock.patch.object(hpcjobs, "Client", Recorder):
        exec(compile(code, "again", "exec"), {})
    return Recorder.submitted


def by_shell(code: str) -> JobSpec:
    """What the command submits, with the words that bash gives to it, where nothing else is called."""
    script = 'hpcjobs() { printf "%s\\0" "$HPCJOBS_URL" "$@"; }\n' + code
    ended = subprocess.run(
        [BASH, "-c", script], capture_output=True, check=True, timeout=30, env={"LC_ALL": "C", "PATH": "/none"}
    )
    assert ended.stderr == b""
    url, *argv = ended.stdout.decode().split("\0")[:-1]
    assert url == URL
    posted: list[JobSpec] = []

    def post(request: httpx.Request) -> httpx.Response:
        posted.append(JobSpec.parse(json.loads(request.content)))
        return httpx.Response(201, json={"id": "0b7f", "state": "QUEUED"})

    with respx.mock(base_url=URL, assert_all_called=False) as router:
        router.post("/v1/blobs/query").respond(json={"missing": []})
        router.post("/v1/jobs").mock(side_effect=post)
        place = mock.patch.dict("os.environ", {"HPCJOBS_URL": URL, "HPCJOBS_TOKEN": "secret"})
        with place, contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(argv) == 0
    [sent] = posted
    return sent


def comments(code: str) -> list[str]:
    return [line for line in code.split("\n") if line.startswith("#")]


def without_comments(code: str) -> str:
    return "\n".join(line for line in code.split("\n") if not line.startswith("#"))


@given(specs)
def test_the_python_asks_for_the_same(spec: JobSpec) -> None:
    sent = by_python(as_python(json.loads(spec.model_dump_json()), url=URL))
    assert said(sent) == said(spec)
    assert Recorder.url == URL


@settings(max_examples=60, deadline=None)
@given(specs)
@example(JobSpec(command=["a b"]))
@example(JobSpec(command=["a", "", "--name", "-x"], name="-n", tags=["--"], priority=-3, requeue=False))
@example(JobSpec(command="x" + BAD, name=BAD, env={"A": "", "B": BAD}, meta={"a": BAD}))
def test_the_shell_asks_for_the_same(spec: JobSpec) -> None:
    """What bash makes of it, read by the real command, is the same job."""
    sent = by_shell(as_shell(json.loads(spec.model_dump_json()), url=URL))
    assert said(sent) == said(spec)


@given(specs, st.one_of(st.none(), st.integers(0, 9)))
def test_the_code_is_plain_to_see(spec: JobSpec, index: int | None) -> None:
    """Nothing in it turns the direction of writing, ends a line or moves a cursor, other than the code's own lines."""
    for code in (as_python(spec, array_index=index), as_shell(spec, array_index=index)):
        assert code.replace("\n", "").isprintable()


def test_only_what_was_asked_is_written() -> None:
    assert as_python({"command": "true"}).splitlines()[-1] == 'job = client.submit("true")'
    assert as_shell({"command": "true"}) == "hpcjobs submit --shell -- true"
    full = said(JobSpec(command="true"))
    assert as_python(full) == as_python({"command": "true"})
    assert as_shell(full) == as_shell({"command": "true"})


def test_lengths_and_sizes_are_as_people_write_them() -> None:
    spec = {"command": ["true"], "resources": {"walltime": 5400, "memory": 4 * 1024**3}}
    assert as_python(spec).endswith('client.submit(["true"], memory="4GiB", walltime="1h30m")')
    assert as_shell(spec) == "hpcjobs submit --memory 4GiB --walltime 1h30m -- true"


def test_the_files_are_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that has the files, whatever they are called, the code asks for the very same inputs."""
    odd = ["a.txt", "b c/d.csv", "x=a.txt", "p[1]*?.csv", "-n", "it's;$(touch y)", "é", "line\nend"]
    for name in odd:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    (tmp_path / "a.txt").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    files = [hash_file(file) for file in find_inputs(odd)]
    spec = JobSpec(command="sort a.txt", inputs=files)
    assert by_python(as_python(spec, url=URL)).inputs == files
    assert by_shell(as_shell(spec, url=URL)).inputs == files
    assert not (tmp_path / "y").exists()


def files_named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "sha256": "0" * 64, "size": 2048, "executable": name == "run.sh"} for name in names]


def test_files_that_must_be_there_are_named() -> None:
    """It is said that they must be in the present folder, twenty by name, and all of them are sent."""
    spec = {"command": "sort a.txt", "inputs": files_named("a.txt", "run.sh")}
    for code in (as_python(spec), as_shell(spec)):
        assert comments(code) == [
            "# Its input files must be in the present folder, as they were:",
            "#   a.txt, 2 KiB",
            "#   run.sh, 2 KiB, executable",
        ]
    many = {**spec, "inputs": files_named(*(f"{n}.txt" for n in range(30)))}
    for code in (as_python(many), as_shell(many)):
        assert comments(code)[-1] == "#   and 10 more"
        assert len(comments(code)) == 22
        assert "29.txt" in without_comments(code)


def test_a_file_that_would_be_looked_for_at_home_is_said() -> None:
    spec = {"command": "true", "inputs": files_named("~ada", "b")}
    for code in (as_python(spec), as_shell(spec)):
        assert any("home" in line and "~ada" in line for line in comments(code))
        assert "~ada" not in without_comments(code)


def test_a_function_is_not_called_by_a_command_that_would_not_work() -> None:
    """Its code is not here: that is said, with what to do and what was asked beside it, and no command is shown."""
    spec = {
        "command": ["python3", ".hpcjobs/run.py"],
        "function": {"name": "simulate\nimport os", "result": "r"},
        "inputs": files_named(".hpcjobs/call", "data.csv"),
        "resources": {"walltime": 600},
    }
    for code in (as_python(spec), as_shell(spec)):
        text = "\n".join(comments(code))
        assert "submit the function 'simulate\\nimport os' again from your own code" in text
        assert "10m" in text
        assert "data.csv" in text
        assert ".hpcjobs/" not in code
        assert "import os" not in without_comments(code)
    assert as_shell(spec) == "\n".join(comments(as_shell(spec)))
    assert without_comments(as_python(spec)) == "from hpcjobs import Client\n\nclient = Client()"


def hostile(text: str) -> dict[str, Any]:
    """A spec that has a text wherever a comment may tell of it."""
    return {
        "command": "true",
        "name": f"a\0{text}",
        "meta": {f"b={text}": 1},
        "after": [f"#{text}"[:100]],
        "inputs": [{**file, "name": f"{n}{text}"} for n, file in enumerate(files_named("a", "b"))],
    }


@given(st.one_of(texts, st.just(BAD), st.just("'; touch y #"), st.just("x; touch y")))
def test_no_comment_ends_where_a_name_says_so(text: str) -> None:
    """Whatever is told of in a comment stays in it: the code is the same with and without its comments."""
    spec = hostile(text.replace("/", "_").replace("\\", "_"))
    quiet = hostile("z")
    for made in (spec, {**spec, "function": {"name": text, "result": "r"}}):
        like = {**quiet, "function": {"name": "f", "result": "r"}} if "function" in made else quiet
        python, shell = as_python(made, array_index=1), as_shell(made, array_index=1)
        assert ast.dump(ast.parse(python)) == ast.dump(ast.parse(without_comments(python)))
        assert len(comments(python)) == len(comments(as_python(like, array_index=1)))
        assert len(comments(shell)) == len(comments(as_shell(like, array_index=1)))
        assert len(without_comments(shell).split(" \\\n")) == without_comments(shell).count("\n") + 1


@pytest.mark.parametrize("text", [BAD.replace("\\", ""), "'; touch y #", "x; touch y", "$(touch y)", "`touch y`"])
def test_a_comment_that_is_typed_into_a_shell_without_comments_does_nothing(text: str, tmp_path: Path) -> None:
    """It does nothing: zsh takes no comments where one types, and neither does bash where it is told so."""
    for made in (hostile(text), {**hostile(text), "function": {"name": text, "result": "r"}}):
        script = "\n".join(["shopt -u interactive_comments", *comments(as_shell(made, array_index=1)), "touch end", ""])
        subprocess.run(
            [BASH, "--norc", "--noprofile", "-i"],
            input=script,
            text=True,
            cwd=tmp_path,
            capture_output=True,
            check=True,
            timeout=30,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HISTFILE": "/dev/null", "LC_ALL": "C.UTF-8"},
        )
    assert [file.name for file in tmp_path.iterdir()] == ["end"]


def test_what_a_command_line_cannot_say_is_said_in_a_comment() -> None:
    """The rest is there, and Python says all of it."""
    spec = {"task": "fit", "args": {"a=b": 1, "c": 2}, "name": "a\0b", "meta": {"": 1, "d\0": 2, "e": "\0"}}
    assert said(by_python(as_python(spec, url=URL))) == said(JobSpec.parse(spec))
    code = as_shell(spec, url=URL)
    left_out = [line.rpartition(": ")[2] for line in comments(code)]
    assert left_out == [r"name 'a\x00b'", "meta ''", r"meta 'd\x00'", "args a=b"]
    assert said(by_shell(code)) == said(JobSpec.parse({"task": "fit", "args": {"c": 2}, "meta": {"e": "\0"}}))


@pytest.mark.parametrize(
    "spec",
    [
        {"task": "a\0b", "args": {"c": 2}},
        {"command": "true " + "x" * 60_000 + "€" * 30_000},
        {"command": ["true", *(["x" * 50_000] * 20)]},
        {"command": "true", "inputs": files_named(*(f"{n:0200}" for n in range(9_000)))},
    ],
)
def test_where_no_command_line_can_say_it_there_is_none(spec: dict[str, Any]) -> None:
    """That, and that Python can, is said in its place."""
    code = as_shell(spec)
    assert code == "\n".join(comments(code))
    assert "Python" in comments(code)[-1]
    ast.parse(as_python(spec))


def test_what_is_too_deep_for_python_is_said(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(240):
        deep = [deep]
    spec = {"command": "true", "meta": {"a": deep}, "name": "x"}
    code = as_python(spec, url=URL)
    assert comments(code) == ["# Left out, as it is too deep to be written: meta"]
    assert by_python(code).name == "x"
    assert by_shell(as_shell(spec, url=URL)).meta == {"a": deep}


def test_jobs_of_the_same_call_are_said() -> None:
    """They have no ids here; those that have are in the code."""
    spec = {"command": "true", "after": ["#2", ("0b7f", "any")]}
    for code in (as_python(spec), as_shell(spec)):
        assert any("after job 2 of the same call" in line for line in comments(code))
        assert "#2" not in code
    assert by_python(as_python(spec)).after == JobSpec.parse({"command": "true", "after": [("0b7f", "any")]}).after


@pytest.mark.parametrize(
    ("field", "value"),
    [("start_in", 60), ("start_at", "2030-01-01T00:00:00Z"), ("expires_in", 60), ("after", ["0b7f"])],
)
def test_times_and_jobs_that_may_mean_another_thing_by_now_are_said(field: str, value: Any) -> None:
    for code in (as_python({"command": "true", field: value}), as_shell({"command": "true", field: value})):
        [line] = comments(code)
        assert field in line


@pytest.mark.parametrize("asked", [{"command": "fit {day} {index}"}, {"task": "fit", "args": {"order": 2}}])
def test_a_job_of_an_array_has_its_own_values(asked: dict[str, Any]) -> None:
    """It is submitted by itself as the service ran it, and it is said what it does not find then."""
    info = JobInfo(id="1", state="QUEUED", array_id="9", array_index=3, item={"day": "a b"}, spec=asked)  # type: ignore[arg-type]
    spec = own_spec(info)
    assert JobSpec.parse(spec) == one_of(JobSpec.parse(asked), {"day": "a b"}, 3)
    for code in (as_python(spec, array_index=3), as_shell(spec, array_index=3)):
        assert "index 3 of an array" in comments(code)[0]
        assert "HPCJOBS_ARRAY_INDEX" in comments(code)[1]


def test_what_is_no_spec_is_refused() -> None:
    for make in (as_python, as_shell):
        with pytest.raises(hpcjobs.InvalidSpec):
            make({"command": "true", "wrong": 1})


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls ``hpcjobs show`` for a job that the service tells of so."""
    monkeypatch.setenv("HPCJOBS_URL", URL)
    monkeypatch.setenv("HPCJOBS_TOKEN", "secret")

    def call(*options: str, **fields: Any) -> tuple[int, str, str]:
        job = {"id": str(uuid.uuid4()), "state": "FINISHED", "version": 1, **fields}
        with respx.mock(base_url=URL) as router:
            router.get(f"/v1/jobs/{job['id']}").respond(json=job)
            code = cli.main(["show", job["id"], *options])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_show_prints_both(show: Any) -> None:
    spec = {"command": "fit {index}", "name": "fit"}
    filled = {**spec, "command": "fit 2"}
    code, out, _ = show("--again", spec=spec, array_id=str(uuid.uuid4()), array_index=2)
    assert code == 0
    assert out == f"{as_python(filled, array_index=2)}\n\n{as_shell(filled, array_index=2)}\n"
    code, out, _ = show("--again", "--json", spec=spec)
    assert json.loads(out) == {"python": as_python(spec), "shell": as_shell(spec)}


@pytest.mark.parametrize("spec", [None, {}, {"appId": "opensees", "archiveOnAppError": True}])
def test_show_says_where_the_service_does_not_tell_what_was_asked(show: Any, spec: dict[str, Any] | None) -> None:
    code, out, err = show("--again", spec=spec)
    assert (code, out) != (0, "")
    assert out == ""
    assert "cannot tell what was asked of the job" in err


def test_show_shows_one_thing_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "0b7f", "--again", "--files"]) == 2
    assert "--again" in capsys.readouterr().err
