"""Inputs up and outputs down over HTTP, and what no name can reach."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hpcjobs_server import files
from hpcjobs_server.digests import Digests
from hpcjobs_server.sending import Piece
from hpcjobs_server.settings import Settings
from tests.integration.serving import Api, asyncio_timeout, serving

LIMIT = 3_000_000


@pytest.fixture
async def api(settings: Callable[..., Settings]) -> AsyncIterator[Api]:
    async with serving(settings(max_input_bytes=LIMIT)) as running:
        yield running


def blob(data: bytes) -> str:
    return f"/v1/blobs/{hashlib.sha256(data).hexdigest()}"


async def raw(api: Api, head: str) -> bytes:
    """Send a head as it stands (a client would tidy it); the whole answer."""
    host, port = api.server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{head}Host: test\r\nConnection: close\r\n\r\n".encode())
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


def left_behind(api: Api) -> list[Path]:
    return list(api.settings.data.glob("blobs/*/tmp/*"))


# Inputs


async def test_an_input_is_stored_once_for_each_owner(api: Api) -> None:
    data = os.urandom(2_500_000)
    assert (await api.http.head(blob(data))).status_code == 404
    assert (await api.http.put(blob(data), content=data)).status_code == 201
    assert (await api.http.put(blob(data), content=data)).status_code == 200
    assert (await api.http.head(blob(data))).status_code == 200
    stored = api.settings.blob_path("ada", hashlib.sha256(data).hexdigest())
    assert stored.read_bytes() == data
    assert stored.stat().st_mode & 0o077 == 0
    async with api.client("bob") as bob:
        assert (await bob.head(blob(data))).status_code == 404
    assert left_behind(api) == []


async def test_an_empty_input_is_an_input(api: Api) -> None:
    assert (await api.http.put(blob(b""), content=b"")).status_code == 201
    assert (await api.http.head(blob(b""))).status_code == 200


async def test_two_uploads_of_the_same_at_once_are_fine(api: Api) -> None:
    data = os.urandom(1_000_000)
    answers = await asyncio.gather(*(api.http.put(blob(data), content=data) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert api.settings.blob_path("ada", hashlib.sha256(data).hexdigest()).read_bytes() == data
    assert left_behind(api) == []


async def test_bytes_with_another_sum_are_refused(api: Api) -> None:
    answer = await api.http.put(blob(b"meant"), content=b"sent!")
    assert (answer.status_code, answer.json()["code"]) == (422, "checksum_mismatch")
    assert (await api.http.head(blob(b"meant"))).status_code == 404
    assert left_behind(api) == []


async def test_an_input_beyond_the_limit_is_refused_before_it_is_read(api: Api) -> None:
    data = b"x" * (LIMIT + 1)
    answer = await api.http.put(blob(data), content=data)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert str(LIMIT) in answer.json()["detail"]
    assert left_behind(api) == []
    head = f"PUT {blob(data)} HTTP/1.1\r\nAuthorization: {api.http.headers['authorization']}\r\n"
    huge = await raw(api, f"{head}Content-Length: {10**18}\r\n")
    assert huge.startswith(b"HTTP/1.1 413 ")


async def test_an_input_without_a_length_is_refused(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"

    answer = await api.http.put(blob(b"a"), content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


async def test_an_address_that_is_no_sum_is_refused(api: Api) -> None:
    for name in ("abc", "A" * 64, "0" * 65, "..%2f" + "0" * 61):
        assert (await api.http.head(f"/v1/blobs/{name}")).status_code == 404
        assert (await api.http.put(f"/v1/blobs/{name}", content=b"")).status_code in {404, 422}


async def test_an_upload_that_breaks_off_leaves_nothing_behind(api: Api) -> None:
    data = os.urandom(2_000_000)
    host, port = api.server.url.removeprefix("http://").split(":")
    token = api.http.headers["authorization"]
    head = f"PUT {blob(data)} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {len(data)}\r\n\r\n"
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + data[:1_500_000])
    await writer.drain()
    async with asyncio_timeout(10):
        while not left_behind(api):
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        while left_behind(api):
            await asyncio.sleep(0.01)
    assert (await api.http.head(blob(data))).status_code == 404


async def test_a_full_disk_is_told_as_such(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("write", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(files.Upload, step, full)
            answer = await api.http.put(blob(b"data"), content=b"data")
        assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
        assert left_behind(api) == []


@pytest.mark.parametrize("written", ["[" * 100_000, '{"a":' * 100_000, "[1]", "not json", '{"kept": 7}'])
def test_what_a_job_writes_over_the_note_of_its_inputs_does_no_harm(tmp_path: Path, written: str) -> None:
    (tmp_path / "work").mkdir()
    kept = tmp_path / "work" / "kept"
    kept.touch()
    files.note_inputs(tmp_path, [kept])
    assert [file.unchanged_input for file in files.list_below(tmp_path, ["work"])] == [True]
    (tmp_path / "inputs.json").write_text(written)
    assert [file.unchanged_input for file in files.list_below(tmp_path, ["work"])] == [False]


def test_a_huge_note_of_inputs_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "made").touch()
    with (tmp_path / "inputs.json").open("wb") as file:
        file.truncate(100 * 1024**3)
    monkeypatch.setattr(files.OpenFile, "read", lambda *_: pytest.fail("it was read"))
    assert [file.path for file in files.list_below(tmp_path, ["work"])] == ["made"]


def test_uploads_of_a_process_that_died_are_removed(tmp_path: Path) -> None:
    blobs = files.Blobs(Settings(data=tmp_path))
    old, new = blobs.begin("ada"), blobs.begin("ada")
    os.utime(old._path, (1, 1))
    assert blobs.remove_stale() == 1
    assert not old._path.exists()
    assert new._path.exists()
    old.abort()
    new.abort()


@pytest.mark.parametrize("owner", ["", "..", ".hidden", "a/b", "a\x00", "a" * 101])
def test_an_owner_whose_name_is_no_folder_has_no_inputs(tmp_path: Path, owner: str) -> None:
    with pytest.raises(ValueError, match="owner"):
        files.Blobs(Settings(data=tmp_path)).begin(owner)


# Outputs


async def started(api: Api) -> tuple[str, Path]:
    job_id = await api.submit()
    return job_id, (await api.start(job_id)) / "work"


async def test_the_files_of_a_job_are_listed_and_read_while_it_runs(api: Api) -> None:
    job_id, work = await started(api)
    (work / "sub").mkdir()
    (work / "sub" / "grün 1.csv").write_bytes(b"1,2\n")
    (work / "a.txt").write_bytes(b"hello")
    listed = (await api.http.get(f"/v1/jobs/{job_id}/files")).json()["items"]
    assert [(item["path"], item["size"]) for item in listed] == [("a.txt", 5), ("sub/grün 1.csv", 4)]
    assert all(item["modified_at"] for item in listed)
    answer = await api.http.get(f"/v1/jobs/{job_id}/files/sub/grün 1.csv")
    assert (answer.status_code, answer.content) == (200, b"1,2\n")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%BCn%201.csv"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
    head = await api.http.head(f"/v1/jobs/{job_id}/files/a.txt")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")


async def test_a_job_that_has_not_started_has_no_files(api: Api) -> None:
    job_id = await api.submit()
    assert (await api.http.get(f"/v1/jobs/{job_id}/files")).json() == {"items": []}
    assert (await api.http.get(f"/v1/jobs/{job_id}/files/a")).json()["code"] == "file_not_found"
    (api.settings.data / "work").mkdir()
    (api.settings.data / "work" / "a").touch()
    assert (await api.http.get(f"/v1/jobs/{job_id}/files/work/a")).status_code == 404


async def test_a_download_is_resumed_only_where_the_file_is_the_same(api: Api) -> None:
    job_id, work = await started(api)
    data = os.urandom(2_000_000)
    (work / "big").write_bytes(data)
    path = f"/v1/jobs/{job_id}/files/big"
    first = await api.http.get(path, headers={"Range": "bytes=0-999999"})
    assert (first.status_code, first.headers["content-range"]) == (206, "bytes 0-999999/2000000")
    etag = first.headers["etag"]
    rest = await api.http.get(path, headers={"Range": "bytes=1000000-", "If-Range": etag})
    assert rest.status_code == 206
    assert first.content + rest.content == data
    assert (await api.http.get(path, headers={"If-None-Match": etag})).status_code == 304
    (work / "big").write_bytes(data[::-1])
    os.utime(work / "big", (1, 1))
    changed = await api.http.get(path, headers={"Range": "bytes=1000000-", "If-Range": etag})
    assert (changed.status_code, changed.content) == (200, data[::-1])
    assert changed.headers["etag"] != etag
    beyond = await api.http.get(path, headers={"Range": "bytes=2000000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */2000000")


async def test_no_name_leaves_the_folder_of_the_job(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, work = await started(api)
    (work.parent / "stdout").write_text("the log")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (work / "link").symlink_to(tmp_path / "outside" / "secret")
    (work / "folder").symlink_to(tmp_path / "outside")
    (work / "loop").symlink_to("loop")
    (work / "up").symlink_to("..")
    os.mkfifo(work / "fifo")
    with socket.socket(socket.AF_UNIX) as listener, monkeypatch.context() as there:
        there.chdir(work)  # a socket's path has at most 107 bytes
        listener.bind("socket")
    (work / "good").write_text("good")
    token = api.http.headers["authorization"]
    for name in (
        "../stdout", "..%2fstdout", "%2e%2e/stdout", "./../stdout", "folder/../good", "/etc/passwd", "//etc/passwd",
        "link", "folder/secret", "folder", "loop", "up/stdout", "fifo", "socket", "good/", "good/x", "", "a%00b",
        "a\\b", "x" * 300, "y/" * 600, "missing",
    ):  # fmt: skip
        answer = await raw(api, f"GET /v1/jobs/{job_id}/files/{name} HTTP/1.1\r\nAuthorization: {token}\r\n")
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), (name, answer)
        assert b"secret" not in answer
        assert b"the log" not in answer
    listed = (await api.http.get(f"/v1/jobs/{job_id}/files")).json()["items"]
    assert [item["path"] for item in listed] == ["good"]


async def test_a_work_folder_that_is_a_link_is_not_followed(api: Api, tmp_path: Path) -> None:
    job_id, work = await started(api)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    work.rmdir()
    work.symlink_to(tmp_path / "outside")
    assert (await api.http.get(f"/v1/jobs/{job_id}/files")).json() == {"items": []}
    assert (await api.http.get(f"/v1/jobs/{job_id}/files/secret")).status_code == 404


async def test_names_that_cannot_travel_and_odd_times_spoil_no_list(api: Api) -> None:
    job_id, work = await started(api)
    (work / "good").touch()
    (work / "back\\slash").touch()
    (work / os.fsdecode(b"not-\xff-utf8")).touch()
    os.utime(work / "good", (1e11, 1e11))
    deep = work.joinpath(*["d" * 50] * 30)
    deep.mkdir(parents=True)
    (deep / "beyond the longest name").touch()
    listed = (await api.http.get(f"/v1/jobs/{job_id}/files")).json()["items"]
    assert [item["path"] for item in listed] == ["good"]


async def test_more_files_than_can_be_listed_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 3)
    job_id, work = await started(api)
    for name in "abcd":
        (work / name).touch()
    answer = await api.http.get(f"/v1/jobs/{job_id}/files")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_files")


async def test_a_file_that_becomes_shorter_breaks_the_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    job_id, work = await started(api)
    with (work / "big").open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012
        async with api.http.stream("GET", f"/v1/jobs/{job_id}/files/big") as answer:
            os.truncate(work / "big", 10)
            async for _ in answer.aiter_bytes():
                pass


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_sum_is_told_of_a_file_that_changes_meanwhile(tmp_path: Path, when: str) -> None:
    """Before it is summed or after: the sum would not be that of the bytes that are sent."""
    (tmp_path / "out").write_bytes(b"hello")

    class Writing(Digests):
        def of(self, file: files.OpenFile) -> bytes | None:
            if when == "before":
                (tmp_path / "out").write_bytes(b"HELLO there")
            found = super().of(file)
            if when == "after":
                (tmp_path / "out").write_bytes(b"HELLO there")
            return found

    assert Piece.of(tmp_path, ("out",), None, digests=Writing()).sha256 is None
    assert Piece.of(tmp_path, ("out",), None, digests=Digests()).sha256 == hashlib.sha256(b"HELLO there").digest()


def test_the_sum_of_a_file_that_has_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for one that was just written to, which may be written to again unnoticed."""
    (tmp_path / "out").write_bytes(b"hello")
    digests = Digests()
    reads: list[int] = []
    read = files.OpenFile.read

    def counted(file: files.OpenFile, offset: int, length: int) -> bytes:
        reads.append(offset)
        return read(file, offset, length)

    monkeypatch.setattr(files.OpenFile, "read", counted)
    for settled, expected in ((10**18, 2), (0, 3)):
        monkeypatch.setattr("hpcjobs_server.digests._SETTLED", settled)
        for _ in range(2):
            with contextlib.closing(files.open_below(tmp_path, ["out"])) as file:
                assert digests.of(file) == hashlib.sha256(b"hello").digest()
        assert len(reads) == expected
