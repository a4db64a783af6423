"""A job's file as a file: what is read is fetched, in one version, and everything else is refused with words."""

from __future__ import annotations

import io
import os

import pytest

from hpcjobs import readers
from hpcjobs.errors import InvalidSpec, JobNotFound, OutputError, OutputNotFound
from hpcjobs.readers import AsyncFile, open_reader, read_piece
from hpcjobs.services.base import FileChunk
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")
DATA = bytes(range(256)) * 20


class Remote:
    """A file elsewhere, which remembers what was fetched of it."""

    def __init__(self, data=DATA, etag='"1"'):
        self.data, self.etag = data, etag
        self.asked = []

    def __call__(self, offset, length):
        self.asked.append((offset, length))
        return FileChunk(self.data[offset : offset + length], offset, len(self.data), self.etag)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(readers, "AHEAD", 1000)
    monkeypatch.setattr(readers, "MOST", 2000)


def opened(remote, mode="rb", **how):
    return open_reader("out", remote, mode=mode, **{"encoding": None, "errors": None, "newline": None, **how})


def test_what_is_read_is_fetched_in_sensible_pieces():
    remote = Remote()
    with opened(remote) as file:
        assert [file.read(1) for _ in range(900)] == [bytes([byte]) for byte in DATA[:900]]
        assert remote.asked == [(0, 1000)]
        assert file.read() == DATA[900:]
    assert remote.asked == [(0, 1000), (1000, 2000), (3000, 2000), (5000, 2000)]


def test_places_are_those_of_a_file():
    real, file = io.BytesIO(DATA), opened(Remote())
    for offset, whence, size in [(-5, os.SEEK_END, 9), (0, os.SEEK_SET, 3), (2000, os.SEEK_CUR, 1500), (9999, 0, 1)]:
        assert file.seek(offset, whence) == real.seek(offset, whence)
        assert file.read(size) == real.read(size)
        assert file.tell() == real.tell()
    for wrong in ((-1, 0), (-99999, os.SEEK_END), (0, 7)):
        with pytest.raises(ValueError):
            file.seek(*wrong)
    buffer = bytearray(10)
    file.seek(5)
    assert (file.readinto(buffer), buffer) == (10, DATA[5:15])
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        file.fileno()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_text_is_utf_8_with_ends_of_lines_as_open_reads_them():
    text = "größe,1\r\n" * 300
    assert opened(Remote(text.encode()), "r").readlines() == ["größe,1\n"] * 300
    assert opened(Remote(text.encode()), "r", newline="").readline() == "größe,1\r\n"
    assert opened(Remote(b"\xff"), "rt", errors="replace").read() == "\ufffd"
    assert opened(Remote(b""), "r").read() == ""


@pytest.mark.parametrize(
    ("mode", "how", "words"),
    [
        ("w", {}, "read only"),
        ("r+", {}, "read only"),
        ("", {}, "read only"),
        ("rb", {"encoding": "utf-8"}, "no encoding"),
        ("r", {"encoding": "nonsense"}, "nonsense"),
        ("r", {"newline": "x"}, "newline"),
    ],
)
def test_what_makes_no_sense_is_said(mode, how, words):
    with pytest.raises(InvalidSpec, match=words):
        opened(Remote(), mode, **how)


@pytest.mark.parametrize("change", ["etag", "longer", "shorter"])
def test_a_file_that_changes_is_never_a_mixture(change):
    remote = Remote()
    file = opened(remote)
    file.read(10)
    if change == "etag":
        remote.etag = '"2"'
    else:
        remote.data = DATA + b"x" if change == "longer" else DATA[:2000]
    with pytest.raises(OutputError, match="changed while it was read; open it again"):
        file.read()


def test_a_file_that_ends_early_is_an_error_and_no_end():
    remote = Remote()
    file = opened(remote)
    file.read(1000)
    file.raw._fetch = lambda offset, length: FileChunk(b"", offset, len(DATA), remote.etag)
    with pytest.raises(OutputError, match="ends after 1,000 of 5,120 bytes"):
        file.read()


def test_a_service_that_heeds_no_range_is_read_all_the_same():
    """It answers with the whole file."""
    file = opened(lambda offset, length: FileChunk(DATA, 0, len(DATA), ""))
    file.seek(3000)
    assert file.read() == DATA[3000:]


def test_a_file_that_is_not_there_says_which_are(script, reply):
    gone = reply(404, {"detail": "no", "code": "file_not_found"})
    listed = reply(200, {"items": [{"path": f"{n}.csv", "size": 1} for n in range(12)]})
    with pytest.raises(OutputNotFound, match=r"it has 0\.csv, .*9\.csv, \.\.\.$") as caught:
        script.play(read_piece(SERVICE, "j", "out.csv", 0, 10), gone, listed)
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.name, len(caught.value.there)) == ("out.csv", 12)
    with pytest.raises(OutputNotFound, match="it has none"):
        script.play(read_piece(SERVICE, "j", "out.csv", 0, 10), gone, reply(200, {"items": []}))
    with pytest.raises(JobNotFound):
        script.play(read_piece(SERVICE, "j", "x", 0, 10), reply(404, {"detail": "no", "code": "job_not_found"}))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", ".", "a\x00", "a\\b"])
def test_a_name_that_leaves_the_folder_is_not_asked_for(script, name):
    with pytest.raises(OutputError):
        script.play(read_piece(SERVICE, "j", name, 0, 10))
    assert script.requests == []


@pytest.mark.anyio
async def test_an_async_file_has_the_methods_of_a_file():
    async with AsyncFile(opened(Remote(b"1\n2\n3\n" * 400), "r")) as file:
        assert (await file.readline(), await file.read(3)) == ("1\n", "2\n3")
        assert len([line async for line in file]) == 1198
        assert await file.seek(2) == 2
        assert await file.tell() == 2
        assert (await file.readlines())[:2] == ["2\n", "3\n"]
        assert (file.name, file.closed) == ("out", False)
    assert file.closed
    await file.aclose()
