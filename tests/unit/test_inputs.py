"""Input files: found, checked, hashed, and sent only where they are missing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest

from hpcjobs import folders
from hpcjobs import inputs as inputs_module
from hpcjobs.errors import InputError, InvalidRequest
from hpcjobs.inputs import find_inputs, hash_file, send_inputs
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")
YES, NO, STORED = Response(200, {}, b""), Response(404, {}, b""), Response(201, {}, b"")


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"aaa")
    (folder / "sub" / "b.txt").write_bytes(b"bb")
    (tmp_path / "up.txt").write_bytes(b"u")
    monkeypatch.chdir(folder)
    return folder


def names(inputs):
    return [file.name for file in find_inputs(inputs)]


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_a_relative_path_keeps_its_folders_and_any_other_its_base_name(here):
    assert names(["a.txt", "./sub/b.txt", "../up.txt"]) == ["a.txt", "sub/b.txt", "up.txt"]
    assert names([here / "sub" / "b.txt"]) == ["b.txt"]
    assert names([Path("sub/b.txt")]) == ["sub/b.txt"]


def test_a_path_in_the_home_folder_is_understood(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert names(["~/sub/b.txt"]) == ["b.txt"]


def test_a_mapping_names_the_files(here):
    [file] = find_inputs({"data/x.txt": "a.txt"})
    assert (file.name, file.path) == ("data/x.txt", Path("a.txt"))


def test_one_path_alone_is_a_list_of_one(here):
    assert names("a.txt") == names(Path("a.txt")) == ["a.txt"]
    assert names(None) == names([]) == names({}) == []


def test_a_link_to_a_file_is_followed(here):
    (here / "link").symlink_to("a.txt")
    [file] = find_inputs(["link"])
    assert (file.name, hash_file(file).sha256) == ("link", sha(b"aaa"))


def test_the_executable_bit_travels(here):
    (here / "a.txt").chmod(0o755)
    assert [hash_file(file).executable for file in find_inputs(["a.txt", "sub/b.txt"])] == [True, False]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["none.txt"], "there is no file none.txt"),
        (["/none/at/all"], "there is no file /none/at/all"),
        (["empty"], "there is no file in the folder empty"),
        ({"x": "empty"}, "there is no file in the folder empty"),
        (["."], "round in a circle"),
        (["*.csv"], "no file is meant by *.csv (looked in "),
        (["none/**/*.txt"], "no file is meant by none/**/*.txt (looked in "),
        (["/none/at/*.all"], "no file is meant by /none/at/*.all"),
        (["empty*"], "no file is meant by empty*"),
        (["pip?"], "not a regular file"),
        (["dangling"], "a link to a file that does not exist"),
        (["circle"], "round in a circle"),
        (["pipe"], "not a regular file"),
        (["a\x00b"], "NUL"),
        ({"../x": "a.txt"}, "leaves the job's folder"),
        ({"/x": "a.txt"}, "leaves the job's folder"),
        ({"": "a.txt"}, "needs a name"),
        ({"a\x00": "a.txt"}, "NUL"),
        ({"a\\b": "a.txt"}, "backslash"),
        ({"x" * 300: "a.txt"}, "too long"),
        ({"\udcff": "a.txt"}, "not UTF-8"),
        (["sub/b.txt", "../here/sub/b.txt", "sub/../up/b.txt"], "named twice"),
        ({"../x": "sub"}, "leaves the job's folder"),
        ({"/x": "sub"}, "leaves the job's folder"),
        ({"../x": "*.txt"}, "leaves the job's folder"),
        (["*/../../up.txt"], "leaves the job's folder"),
        ({"d": "a.txt", "d/e": "sub/b.txt"}, "which is a file"),
        ([5], "not a path"),
        (["a.txt/x"], "cannot be read"),
        ({"y": "y" * 5000}, "cannot be read"),
    ],
)
def test_what_cannot_be_an_input_says_why(here, given, words):
    (here / "dangling").symlink_to("nowhere")
    (here / "circle").symlink_to("circle")
    (here / "empty").mkdir()
    (here / "up").mkdir()
    (here / "up" / "b.txt").write_bytes(b"other")
    os.mkfifo(here / "pipe")
    with pytest.raises(InputError) as caught:
        find_inputs(given)
    assert words in str(caught.value)


def test_a_file_that_may_not_be_read_says_so(here, monkeypatch):
    def refuse(*_args, **_settings):
        raise PermissionError(13, "Permission denied")

    [file] = find_inputs(["a.txt"])
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        hash_file(file)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(InputError, match="may not be read by you"):
        find_inputs(["a.txt"])


def lacks(*data):
    """The service's answer to a look for several contents."""
    return Response(200, {}, json.dumps({"missing": [sha(one) for one in data]}).encode())


def test_only_what_the_service_lacks_is_sent(here, script):
    told = []
    sent = script.play(send_inputs(SERVICE, find_inputs(["a.txt", "sub/b.txt"]), told.append), lacks(b"bb"), STORED)
    assert script.sent == ["POST /v1/blobs/query", f"PUT /v1/blobs/{sha(b'bb')}"]
    assert json.loads(script.requests[0].content) == {"sha256": [sha(b"aaa"), sha(b"bb")]}
    assert [(item.name, item.sha256, item.size) for item in sent] == [
        ("a.txt", sha(b"aaa"), 3),
        ("sub/b.txt", sha(b"bb"), 2),
    ]
    assert [(one.name, one.bytes_done, one.bytes, one.files_done) for one in told if one.action == "send"] == [
        ("sub/b.txt", 2, 2, 1),
    ]
    assert max(one.bytes_done for one in told if one.action == "read") == 5
    assert b"".join(script.requests[-1].body) == b"bb"


def test_the_same_content_travels_once(here, script):
    sent = script.play(send_inputs(SERVICE, find_inputs({"x": "a.txt", "y": "a.txt"})), NO, STORED)
    assert [item.name for item in sent] == ["x", "y"]
    assert len(script.requests) == 2


def test_thousands_of_files_are_looked_for_in_few_requests(here, script):
    (here / "many").mkdir()
    for number in range(3000):
        (here / "many" / f"{number}").write_text(f"{number}")
    sent = script.play(send_inputs(SERVICE, find_inputs("many")), lacks(), lacks())
    assert len(sent) == 3000
    assert script.sent == ["POST /v1/blobs/query"] * 2


def test_a_file_that_has_not_changed_is_read_once_by_a_process(here, monkeypatch):
    """And again as soon as anything of it may have changed, also where its time and its size say nothing."""
    reads = []

    def counted(body):
        reads.append(body.path.name)
        return iter([body.path.read_bytes()])

    monkeypatch.setattr(inputs_module.FileBody, "__iter__", counted)
    monkeypatch.setattr(inputs_module, "_SETTLED", 0)

    def look():
        [file] = find_inputs("a.txt")
        return hash_file(file).sha256

    assert look() == look() == sha(b"aaa")
    assert reads == ["a.txt"]
    before = (here / "a.txt").stat()
    (here / "a.txt").write_bytes(b"bbb")
    os.utime(here / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look() == sha(b"bbb")


def test_what_was_just_written_is_read_every_time(here, monkeypatch):
    monkeypatch.setattr(inputs_module, "_SETTLED", 10**18)
    before = dict(inputs_module._sums)
    [file] = find_inputs("a.txt")
    hash_file(file)
    assert inputs_module._sums == before


def test_the_sums_that_are_kept_are_bounded(here, monkeypatch):
    monkeypatch.setattr(inputs_module, "_SETTLED", 0)
    monkeypatch.setattr(inputs_module, "MOST_SUMS", 1)
    for file in find_inputs(["a.txt", "sub/b.txt"]):
        hash_file(file)
    assert list(inputs_module._sums.values()) == [sha(b"bb")]


def test_a_large_file_is_not_sent_where_the_service_would_not_take_it(here, script, reply, monkeypatch):
    monkeypatch.setattr(inputs_module, "LARGE", 2)
    told = {"version": "1", "owner": "me", "scope": "write", "max_input_bytes": 2}
    with pytest.raises(InputError, match=r"has 3 bytes; .+ at most 2 bytes"):
        script.play(send_inputs(SERVICE, find_inputs(["a.txt"])), NO, reply(200, told))
    assert [request.method for request in script.requests] == ["HEAD", "GET"]


def test_a_file_that_the_service_does_not_take_says_how_large_it_is(here, script, reply):
    too_large = reply(413, {"detail": "at most 2 bytes per file", "code": "too_large"})
    with pytest.raises(InputError, match=r"3 bytes.+at most 2 bytes per file"):
        script.play(send_inputs(SERVICE, find_inputs(["a.txt"])), NO, too_large)


def test_bytes_that_do_not_fit_the_hash_mean_that_the_file_changed(here, script, reply):
    mismatch = reply(422, {"detail": "other bytes", "code": "checksum_mismatch"})
    with pytest.raises(InputError, match="changed while it was sent"):
        script.play(send_inputs(SERVICE, find_inputs(["a.txt"])), NO, mismatch)


def test_any_other_refusal_stays_what_it_is(here, script, reply):
    with pytest.raises(InvalidRequest, match="nonsense"):
        script.play(
            send_inputs(SERVICE, find_inputs(["a.txt"])), NO, reply(422, {"detail": "nonsense", "code": "invalid"})
        )


def test_a_file_that_changes_between_look_and_hash_is_an_error(here, script):
    files = find_inputs(["a.txt"])
    (here / "a.txt").write_bytes(b"other")
    with pytest.raises(InputError, match="changed"):
        script.play(send_inputs(SERVICE, files))
    assert script.requests == []


# Folders and patterns


@pytest.fixture
def tree(here):
    """A folder with everything that folders have."""
    for name in (
        "data/one.csv", "data/two.csv", "data/.hidden", "data/deep/er/three.csv", "data/.secret/x", "data/empty/.keep",
        "params/a.json", "params/b.json", "params/b.txt", "src/run.py", "src/pkg/mod.py", "src/pkg/__pycache__/mod.pyc",
        ".git/config", ".venv/bin/python", "data/.ipynb_checkpoints/n", "data/.DS_Store", "data/.hpcjobs-1-2.part",
    ):  # fmt: skip
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    (here / "data" / "nothing").mkdir()
    return here


DATA = ["data/.hidden", "data/one.csv", "data/two.csv", "data/.secret/x", "data/deep/er/three.csv", "data/empty/.keep"]


@pytest.mark.parametrize("given", ["data", "data/", "./data", Path("data")])
def test_a_folder_brings_every_file_below_it_hidden_ones_too_but_no_caches(tree, given):
    assert names(given) == DATA


def test_a_folder_elsewhere_keeps_its_own_name(tree):
    short = [name.removeprefix("data/") for name in DATA]
    assert names(tree / "data") == names("src/../data") == DATA
    assert names({"in": "data"}) == [f"in/{name}" for name in short]
    assert names({"in/put/": "data/"}) == [f"in/put/{name}" for name in short]
    assert names({".": "data"}) == names({"./": tree / "data"}) == short
    assert names({"x": "data", "y": "data"}) == [f"{at}/{name}" for at in "xy" for name in short]


def test_the_working_folder_is_a_folder_too(tree, monkeypatch):
    monkeypatch.chdir(tree / "src")
    assert names(".") == ["run.py", "pkg/mod.py"]
    monkeypatch.chdir(tree / "src" / "pkg")
    assert names("..") == ["src/run.py", "src/pkg/mod.py"]


def test_what_no_folder_brings_along_is_taken_where_it_is_named(tree):
    assert names([".git", ".venv/bin/python", "data/.DS_Store"]) == [
        ".git/config",
        ".venv/bin/python",
        "data/.DS_Store",
    ]
    assert names("src/pkg/__pycache__/*") == ["src/pkg/__pycache__/mod.pyc"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("params/*.json", ["params/a.json", "params/b.json"]),
        ("params/?.[jt]*", ["params/a.json", "params/b.json", "params/b.txt"]),
        ("params/[!a].json", ["params/b.json"]),
        ("**/*.py", ["src/pkg/mod.py", "src/run.py"]),
        ("**/**/*.py", ["src/pkg/mod.py", "src/run.py"]),
        ("**/pkg/*.py", ["src/pkg/mod.py"]),
        ("src/**", ["src/pkg/mod.py", "src/run.py"]),
        ("./src/*.py", ["src/run.py"]),
        ("*/run.py", ["src/run.py"]),
        ("s*", ["src/pkg/mod.py", "src/run.py", "sub/b.txt"]),
        ("data/*", ["data/deep/er/three.csv", "data/empty/.keep", "data/one.csv", "data/two.csv"]),
        ("data/.*", ["data/.hidden", "data/.secret/x"]),
        ("**/*.csv", ["data/deep/er/three.csv", "data/one.csv", "data/two.csv"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(tree, pattern, meant):
    assert sorted(names(pattern)) == meant
    assert sorted(names(Path(pattern))) == meant


def test_what_a_pattern_elsewhere_means_keeps_its_name_from_there(tree):
    assert names(f"{tree}/src/**/*.py") == ["run.py", "pkg/mod.py"]
    assert names("../here/params/*.json") == ["a.json", "b.json"]
    assert names({"p": "params/*.json"}) == ["p/a.json", "p/b.json"]
    assert names({".": "params/*.json"}) == ["a.json", "b.json"]


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_it_stands(tree):
    for name in ("x[1].txt", "*", "what?"):
        (tree / "odd" / name).parent.mkdir(exist_ok=True)
        (tree / "odd" / name).write_text("x")
    (tree / "odd" / "x1.txt").write_text("x")
    assert names(["odd/x[1].txt", "odd/*", "odd/what?"]) == ["odd/x[1].txt", "odd/*", "odd/what?"]
    assert sorted(names(["odd"])) == ["odd/*", "odd/what?", "odd/x1.txt", "odd/x[1].txt"]
    (tree / "runs[1]").mkdir()
    (tree / "runs[1]" / "a").write_text("x")
    assert names("runs[1]") == ["runs[1]/a"]
    (tree / "odd" / "[dangling]").symlink_to("nowhere")
    with pytest.raises(InputError, match="a link to a file that does not exist"):
        names("odd/[dangling]")


def test_the_same_file_by_several_ways_is_one(tree):
    assert names(["params/", "params/*.json", "params/a.json", "./params/a.json", "**/*.json"]) == [
        "params/a.json", "params/b.json", "params/b.txt"
    ]  # fmt: skip


def test_links_within_a_folder_are_followed_and_those_that_leave_it_are_refused(tree, tmp_path):
    (tree / "data" / "again").symlink_to("deep")
    (tree / "data" / "same.csv").symlink_to(tree / "data" / "one.csv")
    assert {"data/again/er/three.csv", "data/same.csv"} <= set(names("data"))
    assert "data/again/er/three.csv" not in names("data/**")
    for target in (tmp_path / "up.txt", tmp_path, "..", "../src"):
        (tree / "data" / "out").symlink_to(target)
        with pytest.raises(InputError, match="a link that leaves the folder, to "):
            names("data")
        (tree / "data" / "out").unlink()
    (tree / "data" / "out").symlink_to("nowhere")
    with pytest.raises(InputError, match="a link to a file that does not exist"):
        names("data")


def test_a_folder_that_is_named_may_be_a_link(tree):
    (tree / "linked").symlink_to("params")
    assert names("linked") == ["linked/a.json", "linked/b.json", "linked/b.txt"]
    assert names("link*") == ["linked/a.json", "linked/b.json", "linked/b.txt"]


@pytest.mark.parametrize("target", [".", "..", "../../data", "loop"])
def test_links_that_lead_round_in_a_circle_end_at_once(tree, target, monkeypatch):
    monkeypatch.setattr(folders, "MOST_ENTRIES", 20)
    (tree / "data" / "deep" / "loop").symlink_to(target)
    with pytest.raises(InputError, match="round in a circle"):
        names("data")


def test_sockets_and_pipes_in_a_folder_are_refused_and_never_opened(tree, monkeypatch):
    os.mkfifo(tree / "data" / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        names("data")
    (tree / "data" / "pipe").unlink()
    monkeypatch.chdir(tree / "data")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(InputError, match="socket is not a regular file"):
            names(".")


@pytest.mark.parametrize("odd", ["back\\slash", os.fsdecode(b"not-\xff-utf8")])
def test_a_name_that_cannot_travel_spoils_the_folder_and_says_so(tree, odd):
    (tree / "data" / odd).write_text("x")
    with pytest.raises(InputError, match=r"backslash|not UTF-8"):
        names("data")


def test_a_folder_that_may_not_be_read_says_so(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for given in ("data", "data/**/*.csv"):
        with pytest.raises(InputError, match="data/deep may not be read by you"):
            names(given)


def test_more_files_than_a_job_takes_are_refused(tree, monkeypatch):
    monkeypatch.setattr(inputs_module, "MAX_INPUTS", 6)
    assert len(names("data")) == 6
    with pytest.raises(InputError, match="more than 6 files"):
        names(["data", "params/a.json"])


def test_a_walk_without_end_ends(tree, monkeypatch):
    monkeypatch.setattr(folders, "MOST_ENTRIES", 5)
    for given in ("data", "**/*.json"):
        with pytest.raises(InputError, match="more than 5 files"):
            names(given)
