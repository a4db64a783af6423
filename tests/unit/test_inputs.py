"""Input files: found, checked, hashed, and sent only where they are missing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

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
        (["sub"], "folders are not taken; list the files"),
        ({"x": "."}, "folders are not taken"),
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
        (["a.txt", "./a.txt"], "named twice"),
        (["a.txt", "sub/../a.txt"], "named twice"),
        ({"d": "a.txt", "d/e": "sub/b.txt"}, "which is a file"),
        ([5], "not a path"),
        (["a.txt/x"], "cannot be read"),
        ({"y": "y" * 5000}, "cannot be read"),
    ],
)
def test_what_cannot_be_an_input_says_why(here, given, words):
    (here / "dangling").symlink_to("nowhere")
    (here / "circle").symlink_to("circle")
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


def test_only_what_the_service_lacks_is_sent(here, script):
    told = []
    files = find_inputs(["a.txt", "sub/b.txt"])
    sent = script.play(send_inputs(SERVICE, files, lambda *args: told.append(args)), YES, NO, STORED)
    assert script.sent == [
        f"HEAD /v1/blobs/{sha(b'aaa')}",
        f"HEAD /v1/blobs/{sha(b'bb')}",
        f"PUT /v1/blobs/{sha(b'bb')}",
    ]
    assert [(item.name, item.sha256, item.size) for item in sent] == [
        ("a.txt", sha(b"aaa"), 3),
        ("sub/b.txt", sha(b"bb"), 2),
    ]
    assert b"".join(script.requests[-1].body) == b"bb"
    assert told == [("a.txt", 3, 3), ("sub/b.txt", 2, 2)]


def test_the_same_content_travels_once(here, script):
    sent = script.play(send_inputs(SERVICE, find_inputs({"x": "a.txt", "y": "a.txt"})), NO, STORED)
    assert [item.name for item in sent] == ["x", "y"]
    assert len(script.requests) == 2


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
