"""Outputs: whole or not at all, never outside the folder, and from where an earlier call stopped."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

import pytest

from hpcjobs import downloads
from hpcjobs.errors import ConnectionLost, JobNotFound, OutputError, OutputNotFound
from hpcjobs.operations import download
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")


class Folder:
    """A job's folder that answers as the server does."""

    def __init__(self, **files):
        self.files = {name.replace("__", "/"): data for name, data in files.items()}
        self.tags = dict.fromkeys(self.files, '"1"')
        self.sums = {}
        self.listed = None

    def __call__(self, request):
        if request.path.endswith("/files"):
            import json

            names = self.listed if self.listed is not None else list(self.files)
            items = [{"path": name, "size": len(self.files.get(name, b""))} for name in names]
            return Response(200, {"content-type": "application/json"}, json.dumps({"items": items}).encode())
        name = request.path.split("/files/")[1]
        if name not in self.files:
            return Response(404, {"content-type": "application/problem+json"}, b'{"detail": "no", "code": "file"}')
        data = self.files[name]
        first, last = (int(text) for text in re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"]).groups())
        told = {"etag": self.tags[name]}
        if "Want-Repr-Digest" in request.headers and name in self.sums:
            told["repr-digest"] = f"sha-256=:{base64.b64encode(self.sums[name]).decode()}:"
        if first >= len(data):
            return Response(416, {"content-range": f"bytes */{len(data)}", **told}, b"")
        piece = data[first : last + 1]
        place = f"bytes {first}-{first + len(piece) - 1}/{len(data)}"
        return Response(206, {"content-range": place, **told}, piece)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(downloads, "PIECE", 4)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def fetch(script, target):
    def go(folder, requests, *, to=None, **more):
        return script.play(download(SERVICE, "j", to or target, **more), *[folder] * requests)

    return go


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_files_are_fetched_in_pieces_into_their_folders(fetch, target):
    told = []
    paths = fetch(Folder(a=b"0123456789", sub__b=b"xy"), 5, on_bytes=told.append)
    assert paths == [target / "a", target / "sub" / "b"]
    assert [path.read_bytes() for path in paths] == [b"0123456789", b"xy"]
    assert everything(target) == ["a", "sub/b"]
    assert [(one.name, one.done, one.size, one.bytes_done, one.files_done) for one in told] == [
        ("a", 4, 10, 4, 0),
        ("a", 8, 10, 8, 0),
        ("a", 10, 10, 10, 0),
        ("a", 10, 10, 10, 1),
        ("sub/b", 2, 2, 12, 1),
        ("sub/b", 2, 2, 12, 2),
    ]
    assert {(one.action, one.bytes, one.files) for one in told} == {("fetch", 12, 2)}


def test_an_empty_file_is_a_file(fetch, target):
    fetch(Folder(a=b""), 2)
    assert (target / "a").read_bytes() == b""


def test_a_job_without_files_makes_an_empty_folder(fetch, target):
    assert fetch(Folder(), 1) == []
    assert everything(target) == []


def test_a_file_that_is_there_is_replaced(fetch, target):
    target.mkdir()
    (target / "a").write_text("old")
    fetch(Folder(a=b"new"), 2)
    assert (target / "a").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["a.csv"], ["a.csv"]),
        (["*.csv"], ["a.csv", "sub/b.csv"]),
        (["sub"], ["sub/b.csv", "sub/c.txt"]),
        (["sub/"], ["sub/b.csv", "sub/c.txt"]),
        (["sub/c.*", "a.csv"], ["a.csv", "sub/c.txt"]),
        (["?.csv"], ["a.csv"]),
    ],
)
def test_patterns_choose_files(fetch, target, patterns, names):
    folder = Folder(**{"a.csv": b"1", "sub__b.csv": b"2", "sub__c.txt": b"3"})
    fetch(folder, 1 + len(names), patterns=patterns)
    assert everything(target) == names


def test_a_pattern_that_fits_nothing_says_what_there_is(fetch, target):
    with pytest.raises(OutputError, match=r"no such file; it has a\.csv, b\.csv"):
        fetch(Folder(**{"a.csv": b"1", "b.csv": b"2"}), 1, patterns=["*.txt"])
    assert not target.exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\x00b", "a\\b", "", ".", "..", "x" * 300])
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_written(script, fetch, target, name):
    folder = Folder(good=b"1")
    folder.listed = ["good", name]
    with pytest.raises(OutputError):
        fetch(folder, 1)
    assert len(script.requests) == 1
    assert not target.exists()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling"])
def test_a_link_in_the_target_is_not_followed(tmp_path, fetch, target, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_text("mine")
    target.mkdir()
    if kind == "folder":
        (target / "sub").symlink_to(outside)
    else:
        (target / "sub").mkdir()
        (target / "sub" / "b").symlink_to(outside / ("b" if kind == "file" else "new"))
    with pytest.raises(OutputError, match="link"):
        fetch(Folder(sub__b=b"theirs"), 1)
    assert everything(outside) == ["b"]
    assert (outside / "b").read_text() == "mine"


def test_a_part_that_is_a_link_is_not_followed(tmp_path, script, fetch, target):
    outside = tmp_path / "outside"
    folder = Folder(a=b"0123456789")
    with pytest.raises(ConnectionLost):
        script.play(download(SERVICE, "j", target), folder, folder, ConnectionLost("cut"))
    [part] = target.iterdir()
    part.unlink()
    part.symlink_to(outside)
    fetch(folder, 4)
    assert not outside.exists()
    assert everything(target) == ["a"]


def test_the_target_itself_may_be_a_link(tmp_path, fetch):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    fetch(Folder(a=b"1"), 2, to=tmp_path / "link")
    assert everything(real) == ["a"]


def test_the_target_may_be_in_the_home_folder(tmp_path, fetch, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch(Folder(a=b"1"), 2, to="~/mine")
    assert everything(tmp_path / "mine") == ["a"]


@pytest.mark.parametrize("where", ["target", "parent", "name"])
def test_a_place_that_is_taken_by_something_else_says_so(fetch, target, where):
    if where == "target":
        target.write_text("a file")
    elif where == "parent":
        target.mkdir()
        (target / "sub").write_text("a file")
    else:
        (target / "sub" / "b").mkdir(parents=True)
    with pytest.raises(OutputError):
        fetch(Folder(sub__b=b"1"), 1)


def test_a_full_disk_is_told_of_the_file(fetch, monkeypatch):
    def full(*_args, **_settings):
        raise OSError(28, "No space left on device")

    folder = Folder(a=b"1")
    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OutputError, match=r"output 'a': cannot be stored: No space left on device"):
        fetch(folder, 2)


def interrupted(script, target, folder):
    """Two pieces have come, then the connection broke."""
    with pytest.raises(ConnectionLost):
        script.play(download(SERVICE, "j", target), folder, folder, folder, ConnectionLost("cut"))
    script.requests.clear()


def ranges(script):
    return [request.headers["Range"] for request in script.requests if "Range" in request.headers]


def test_what_is_not_whole_has_not_its_name(script, target):
    interrupted(script, target, Folder(a=b"0123456789"))
    [name] = everything(target)
    assert name.startswith(".")
    assert name.endswith(".part")


def test_the_next_call_goes_on_where_the_last_one_stopped(script, fetch, target):
    folder = Folder(a=b"0123456789")
    interrupted(script, target, folder)
    fetch(folder, 2)
    assert ranges(script) == ["bytes=8-11"]
    assert (target / "a").read_bytes() == b"0123456789"
    assert everything(target) == ["a"]


def test_a_file_that_has_changed_since_is_fetched_anew(script, fetch, target):
    folder = Folder(a=b"0123456789")
    interrupted(script, target, folder)
    folder.files["a"], folder.tags["a"] = b"abcdefghij", '"2"'
    fetch(folder, 5)
    assert (target / "a").read_bytes() == b"abcdefghij"
    assert everything(target) == ["a"]


def test_a_file_that_has_become_shorter_is_fetched_anew(script, fetch, target):
    folder = Folder(a=b"0123456789")
    interrupted(script, target, folder)
    folder.files["a"], folder.tags["a"] = b"ab", '"2"'
    fetch(folder, 3)
    assert (target / "a").read_bytes() == b"ab"


def test_a_service_without_etags_is_never_trusted_to_go_on(script, fetch, target):
    folder = Folder(a=b"0123456789")
    folder.tags["a"] = ""
    interrupted(script, target, folder)
    fetch(folder, 4)
    assert ranges(script) == ["bytes=0-3", "bytes=4-7", "bytes=8-11"]
    assert (target / "a").read_bytes() == b"0123456789"


def test_a_file_that_changes_all_the_time_is_given_up(script, target):
    folder = Folder(a=b"0123456789")
    version = iter(range(100))

    def changing(request):
        folder.tags["a"] = f'"{next(version)}"'
        return folder(request)

    with pytest.raises(OutputError, match="changes while it is fetched"):
        script.play(download(SERVICE, "j", target), folder, *[changing] * 8)
    assert everything(target) == []


def test_a_file_that_is_gone_says_so(fetch, target):
    folder = Folder()
    folder.listed = ["a"]
    with pytest.raises(OutputError, match="is gone"):
        fetch(folder, 2)


def test_a_file_that_ends_early_is_an_error(script, target):
    empty = Response(200, {"etag": '"1"'}, b"")
    short = Response(416, {"content-range": "bytes */9", "etag": '"1"'}, b"")
    folder = Folder(a=b"")
    with pytest.raises(OutputError, match="ends after 0 of 9 bytes"):
        script.play(download(SERVICE, "j", target), folder, short)
    assert script.play(download(SERVICE, "j", target), folder, empty) == [target / "a"]


def test_an_answer_without_a_range_is_the_whole_file(script, target):
    folder = Folder(a=b"0123456789")
    interrupted(script, target, folder)
    whole = Response(200, {"etag": '"1"'}, b"0123456789")
    script.play(download(SERVICE, "j", target), folder, whole)
    assert (target / "a").read_bytes() == b"0123456789"


def test_two_calls_at_once_never_make_a_wrong_file(script, target):
    folder = Folder(a=b"0123456789")

    def other_call(request):
        [part] = target.glob(".*.part")
        part.write_bytes(part.read_bytes() + b"4567")
        return folder(request)

    with pytest.raises(OutputError, match="same time"):
        script.play(download(SERVICE, "j", target), folder, folder, other_call)


def test_an_unknown_job_is_told(script, target):
    gone = Response(404, {"content-type": "application/problem+json"}, b'{"detail": "no", "code": "job_not_found"}')
    with pytest.raises(JobNotFound):
        script.play(download(SERVICE, "j", target), gone)
    assert not Path(target).exists()


def test_what_has_come_is_checked_and_the_sum_is_asked_for_with_the_last_piece_only(script, fetch, target):
    folder = Folder(a=b"0123456789", empty=b"")
    folder.sums = {name: hashlib.sha256(data).digest() for name, data in folder.files.items()}
    fetch(folder, 5)
    asked = ["Want-Repr-Digest" in request.headers for request in script.requests[1:]]
    assert asked == [False, False, True, True]
    assert (target / "a").read_bytes() == b"0123456789"


def test_what_did_not_arrive_intact_is_fetched_again_and_never_gets_its_name(script, fetch, target):
    folder = Folder(a=b"0123456789")
    folder.sums["a"] = hashlib.sha256(b"0123456789").digest()
    broken = Folder(a=b"01234_6789")
    broken.sums = folder.sums
    script.play(download(SERVICE, "j", target), folder, folder, broken, folder, folder, folder, folder)
    assert (target / "a").read_bytes() == b"0123456789"
    (target / "a").unlink()
    with pytest.raises(OutputError, match="its SHA-256 is another"):
        fetch(broken, 1 + 4 * 3)
    assert everything(target) == []


def test_a_beginning_from_an_earlier_call_is_checked_too(script, fetch, target):
    folder = Folder(a=b"0123456789")
    folder.sums["a"] = hashlib.sha256(b"0123456789").digest()
    interrupted(script, target, folder)
    [part] = target.iterdir()
    part.write_bytes(b"01234_67")
    fetch(folder, 5)
    assert ranges(script) == ["bytes=8-11", "bytes=0-3", "bytes=4-7", "bytes=8-11"]
    assert (target / "a").read_bytes() == b"0123456789"


def test_a_name_that_fits_nothing_is_a_file_that_is_not_found(fetch, target):
    with pytest.raises(FileNotFoundError) as caught:
        fetch(Folder(a=b"1"), 1, patterns=["b"])
    assert isinstance(caught.value, OutputNotFound)
    assert (caught.value.there, caught.value.errno) == (("a",), 2)
