"""Uploads over HTTP that break off, go on, meet each other, and never become anything but what they say they are."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcjobs_server import partials
from hpcjobs_server.api import uploads
from hpcjobs_server.files import Blobs
from hpcjobs_server.partials import NoRoom, Partials, UploadBusy, WrongOffset
from hpcjobs_server.settings import Settings
from tests.integration.serving import Api, asyncio_timeout, serving

LIMIT = 3_000_000


@pytest.fixture
async def api(settings: Callable[..., Settings]) -> AsyncIterator[Api]:
    async with serving(settings(max_input_bytes=LIMIT, max_unfinished_bytes=LIMIT)) as running:
        yield running


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload(data: bytes) -> str:
    return f"/v1/blobs/{sha(data)}/upload"


def headers(offset: int, total: int, complete: bool | None = None) -> dict[str, str]:
    return {
        "Content-Type": "application/partial-upload",
        "Upload-Offset": str(offset),
        "Upload-Length": str(total),
        "Upload-Complete": f"?{bool(complete):d}",
    }


async def send(http: httpx.AsyncClient, data: bytes, start: int, stop: int) -> httpx.Response:
    """Send a part of ``data``; the last one is said to be the last."""
    said = headers(start, len(data), stop == len(data))
    return await http.patch(upload(data), content=data[start:stop], headers=said)


async def offset(http: httpx.AsyncClient, data: bytes) -> tuple[int, str | None, str | None]:
    answer = await http.head(upload(data))
    return answer.status_code, answer.headers.get("upload-offset"), answer.headers.get("upload-complete")


async def begin(api: Api, data: bytes, start: int, stop: int) -> asyncio.StreamWriter:
    """Send a part over a connection of its own, which promises the rest and does not send it."""
    host, port = api.server.url.removeprefix("http://").split(":")
    said = {**headers(start, len(data), complete=True), "Content-Length": str(len(data) - start), "Host": "x"}
    said["Authorization"] = api.http.headers["authorization"]
    lines = [f"PATCH {upload(data)} HTTP/1.1", *(f"{name}: {text}" for name, text in said.items())]
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode() + data[start:stop])
    await writer.drain()
    return writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def settled(api: Api, data: bytes, more_than: int = 0) -> int:
    """How much has arrived, once it is more than before and nobody appends any more."""
    async with asyncio_timeout(10):
        while True:
            status, arrived, _ = await offset(api.http, data)
            if status == 204 and arrived is not None and int(arrived) > more_than:
                return int(arrived)
            await asyncio.sleep(0.01)


def left_behind(api: Api) -> list[Path]:
    return list(api.settings.data.glob("blobs/*/partial/*"))


async def test_an_upload_in_pieces_becomes_an_input(api: Api) -> None:
    data = os.urandom(2_500_000)
    assert (await offset(api.http, data))[0] == 404
    first = await send(api.http, data, 0, 1_000_000)
    assert (first.status_code, first.headers["upload-offset"], first.headers["upload-complete"]) == (
        204,
        "1000000",
        "?0",
    )
    assert await offset(api.http, data) == (204, "1000000", "?0")
    assert (await api.http.head(f"/v1/blobs/{sha(data)}")).status_code == 404
    assert (await send(api.http, data, 1_000_000, 2_000_000)).status_code == 204
    last = await send(api.http, data, 2_000_000, len(data))
    assert (last.status_code, last.headers["upload-complete"]) == (201, "?1")
    stored = api.settings.blob_path("ada", sha(data))
    assert stored.read_bytes() == data
    assert stored.stat().st_mode & 0o077 == 0
    assert await offset(api.http, data) == (204, "2500000", "?1")
    assert (await send(api.http, data, 0, len(data))).status_code == 200
    assert left_behind(api) == []


async def test_what_arrived_before_a_break_is_kept_and_the_rest_completes_it(api: Api) -> None:
    """But for what the system still held of it. Also where it was less than is collected before it is written."""
    data = os.urandom(2_900_000)
    arrived = 0
    for stop in (1_400_000, 2_800_001):
        await close(await begin(api, data, arrived, stop))
        arrived = await settled(api, data, more_than=arrived)
        assert arrived <= stop
    assert (await send(api.http, data, arrived, len(data))).status_code == 201
    assert api.settings.blob_path("ada", sha(data)).read_bytes() == data
    assert left_behind(api) == []


async def test_a_server_that_has_forgotten_everything_goes_on_from_the_file(api: Api) -> None:
    data = os.urandom(1_000_000)
    await send(api.http, data, 0, 600_000)
    api.server._context.partials._sums.clear()
    assert (await send(api.http, data, 600_000, len(data))).status_code == 201
    assert api.settings.blob_path("ada", sha(data)).read_bytes() == data


async def test_the_last_piece_may_be_empty(api: Api) -> None:
    """All had arrived, and the API died before it had checked it."""
    data = os.urandom(1_000)
    assert (await api.http.patch(upload(data), content=data, headers=headers(0, 1_000))).status_code == 204
    answer = await api.http.patch(upload(data), content=b"", headers=headers(1_000, 1_000, complete=True))
    assert answer.status_code == 201
    assert api.settings.blob_path("ada", sha(data)).read_bytes() == data


async def test_a_piece_that_does_not_fit_is_refused_and_told_where_to_go_on(api: Api) -> None:
    data = os.urandom(1_000)
    await send(api.http, data, 0, 500)
    for start in (0, 499, 501):
        answer = await send(api.http, data, start, 1_000)
        assert (answer.status_code, answer.json()["code"], answer.headers["upload-offset"]) == (
            409,
            "upload_offset",
            "500",
        )
        assert answer.json()["expected-offset"] == 500
    other = os.urandom(10)
    assert (await send(api.http, other, 5, 10)).status_code == 409
    assert (await offset(api.http, other))[0] == 404
    assert [path.name for path in left_behind(api)] == [sha(data)]


async def test_bytes_with_another_sum_are_refused_and_forgotten(api: Api) -> None:
    data = os.urandom(1_000)
    await api.http.patch(upload(data), content=bytes(400), headers=headers(0, 1_000))
    answer = await send(api.http, data, 400, 1_000)
    assert (answer.status_code, answer.json()["code"]) == (422, "checksum_mismatch")
    assert (await offset(api.http, data))[0] == 404
    assert (await api.http.head(f"/v1/blobs/{sha(data)}")).status_code == 404
    assert left_behind(api) == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"Upload-Length": str(LIMIT + 1)}, 413, "too_large"),
        ({"Upload-Length": "9"}, 422, "invalid"),
        ({"Upload-Length": "11"}, 422, "invalid"),
        ({"Upload-Length": "-1"}, 422, "invalid"),
        ({"Upload-Length": ""}, 422, "invalid"),
        ({"Upload-Offset": "x"}, 422, "invalid"),
        ({"Upload-Offset": "11"}, 422, "invalid"),
        ({"Upload-Offset": "9" * 30}, 422, "invalid"),
        ({"Upload-Complete": "true"}, 422, "invalid"),
        ({"Content-Type": "application/octet-stream"}, 415, "media_type"),
    ],
)
async def test_a_piece_that_makes_no_sense_is_refused(
    api: Api, changes: dict[str, str], status: int, code: str
) -> None:
    data = b"0123456789"
    answer = await api.http.patch(upload(data), content=data, headers={**headers(0, 10, complete=True), **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await api.http.head(f"/v1/blobs/{sha(data)}")).status_code == 404


async def test_more_bytes_than_were_announced_are_not_stored(api: Api) -> None:
    data = os.urandom(10)
    answer = await api.http.patch(upload(data), content=bytes(2_000_000), headers=headers(0, 10))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Upload-Length")
    assert left_behind(api) == []


async def test_an_address_that_is_no_sum_is_refused(api: Api) -> None:
    for name in ("abc", "A" * 64, "0" * 65, "..%2f" + "0" * 61):
        path = f"/v1/blobs/{name}/upload"
        assert (await api.http.head(path)).status_code in {404, 422}
        assert (await api.http.patch(path, content=b"", headers=headers(0, 0))).status_code in {404, 422}
        assert (await api.http.delete(path)).status_code == 404


async def test_the_uploads_of_others_are_not_seen_and_not_touched(api: Api) -> None:
    data = os.urandom(1_000)
    await send(api.http, data, 0, 500)
    async with api.client("bob") as bob:
        assert (await offset(bob, data))[0] == 404
        assert (await send(bob, data, 500, 1_000)).status_code == 409
        assert (await bob.delete(upload(data))).status_code == 404
        assert (await send(bob, data, 0, 300)).status_code == 204
    assert await offset(api.http, data) == (204, "500", "?0")
    async with api.client("ada", "read") as reader:
        assert await offset(reader, data) == (204, "500", "?0")
        assert (await send(reader, data, 500, 1_000)).status_code == 403
        assert (await reader.delete(upload(data))).status_code == 403


async def test_two_who_send_the_same_never_mix_their_bytes(api: Api) -> None:
    data = os.urandom(1_000_000)
    writer = await begin(api, data, 0, 300_000)
    async with asyncio_timeout(10):
        while not left_behind(api) or (await offset(api.http, data))[0] != 409:
            await asyncio.sleep(0.01)
    answer = await send(api.http, data, 0, len(data))
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_busy")
    assert (await api.http.delete(upload(data))).status_code == 409
    writer.write(data[300_000:])
    await writer.drain()
    async with asyncio_timeout(10):
        while await offset(api.http, data) != (204, "1000000", "?1"):
            await asyncio.sleep(0.01)
    await close(writer)
    assert api.settings.blob_path("ada", sha(data)).read_bytes() == data
    assert left_behind(api) == []


async def test_a_whole_file_may_come_while_an_upload_of_it_is_under_way(api: Api) -> None:
    data = os.urandom(1_000_000)
    writer = await begin(api, data, 0, 300_000)
    assert (await api.http.put(f"/v1/blobs/{sha(data)}", content=data)).status_code == 201
    writer.write(data[300_000:])
    await writer.drain()
    async with asyncio_timeout(10):
        while left_behind(api):
            await asyncio.sleep(0.01)
    await close(writer)
    assert api.settings.blob_path("ada", sha(data)).read_bytes() == data


async def test_a_connection_on_which_nothing_comes_lets_go(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else a client whose network has changed could not go on until the system gives the old connection up."""
    monkeypatch.setattr(uploads, "_SILENCE", 0.2)
    data = os.urandom(1_000)
    writer = await begin(api, data, 0, 400)
    assert await settled(api, data) == 400
    assert (await send(api.http, data, 400, 1_000)).status_code == 201
    await close(writer)


async def test_an_upload_can_be_forgotten(api: Api) -> None:
    data = os.urandom(1_000)
    await send(api.http, data, 0, 500)
    assert (await api.http.delete(upload(data))).status_code == 204
    assert (await api.http.delete(upload(data))).status_code == 404
    assert left_behind(api) == []


async def test_a_full_disk_is_told_as_such(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("write", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(partials.PartialUpload, step, full)
            answer = await send(api.http, b"data", 0, 4)
        assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
        assert left_behind(api) == []


async def test_uploads_that_broke_off_make_room_for_newer_ones(api: Api) -> None:
    old, newer = os.urandom(2_000_000), os.urandom(2_500_000)
    await send(api.http, old, 0, 1_000_000)
    await send(api.http, newer, 0, 1_000_000)
    assert [path.name for path in left_behind(api)] == [sha(newer)]
    assert (await offset(api.http, old))[0] == 404


async def test_an_upload_that_is_under_way_is_never_removed_for_another_one(api: Api) -> None:
    data, other = os.urandom(2_000_000), os.urandom(2_500_000)
    writer = await begin(api, data, 0, 1_200_000)
    async with asyncio_timeout(10):
        while (await offset(api.http, data))[1] in {None, "0"}:
            await asyncio.sleep(0.01)
    answer = await send(api.http, other, 0, 1_000_000)
    assert (answer.status_code, answer.json()["code"]) == (507, "no_room")
    writer.write(data[1_200_000:])
    await writer.drain()
    async with asyncio_timeout(10):
        while (await api.http.head(f"/v1/blobs/{sha(data)}")).status_code != 200:
            await asyncio.sleep(0.01)
    await close(writer)
    assert (await send(api.http, other, 0, 1_000_000)).status_code == 204


async def test_many_inputs_are_looked_for_at_once(api: Api) -> None:
    there, missing = [os.urandom(10) for _ in range(3)], [os.urandom(10) for _ in range(3)]
    for data in there:
        await api.put(data)
    await send(api.http, missing[0], 0, 5)
    asked = [sha(data) for pair in zip(there, missing, strict=True) for data in pair]
    answer = await api.http.post("/v1/blobs/query", json={"sha256": asked})
    assert (answer.status_code, answer.json()) == (200, {"missing": [sha(data) for data in missing]})
    async with api.client("bob", "read") as bob:
        assert (await bob.post("/v1/blobs/query", json={"sha256": asked})).json() == {"missing": asked}
    for wrong in ([], ["x"], ["../" + "0" * 61], ["0" * 64] * 10_001):
        assert (await api.http.post("/v1/blobs/query", json={"sha256": wrong})).status_code == 422


async def test_an_input_that_was_asked_for_counts_as_sent_now(api: Api) -> None:
    """Or else it could be removed as old between the look for it and the job that has it."""
    data = os.urandom(10)
    await api.put(data)
    path = api.settings.blob_path("ada", sha(data))
    for look in (
        lambda: api.http.head(f"/v1/blobs/{sha(data)}"),
        lambda: api.http.head(upload(data)),
        lambda: api.http.post("/v1/blobs/query", json={"sha256": [sha(data)]}),
    ):
        os.utime(path, (1, 1))
        await look()
        assert path.stat().st_mtime > 1


async def test_the_steps_of_an_upload_are_in_the_openapi_document(api: Api) -> None:
    paths = (await api.http.get("/v1/openapi.json")).json()["paths"]
    assert "post" in paths["/v1/blobs/query"]
    steps = paths["/v1/blobs/{sha256}/upload"]
    assert set(steps) == {"head", "patch", "delete"}
    assert {one["name"] for one in steps["patch"]["parameters"] if one["in"] == "header"} == {
        "Upload-Offset", "Upload-Length", "Upload-Complete"
    }  # fmt: skip
    assert "Upload-Offset" in steps["head"]["responses"]["204"]["headers"]


# Without HTTP


@pytest.fixture
def kept(tmp_path: Path) -> Partials:
    settings = Settings(data=tmp_path, max_unfinished_bytes=1_000, max_input_bytes=1_000)
    return Partials(settings, Blobs(settings))


DATA = b"0123456789"


def keep(kept: Partials, name: str, data: bytes, *, age: float = 0.0) -> Path:
    begun = kept.open("ada", sha(name.encode()), offset=0, total=len(data) + 1)
    begun.write(data)
    begun.keep()
    path = kept.path("ada", sha(name.encode()))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_nobody_went_on_with_is_removed_and_what_someone_appends_to_is_not(kept: Partials) -> None:
    old, new = keep(kept, "old", DATA, age=partials.STALE + 10), keep(kept, "new", DATA, age=partials.STALE - 10)
    under_way = kept.open("ada", sha(b"way"), offset=0, total=20)
    under_way.write(DATA)
    os.utime(kept.path("ada", sha(b"way")), (1, 1))
    assert kept.remove_stale() == 1
    assert (old.exists(), new.exists(), kept.path("ada", sha(b"way")).exists()) == (False, True, True)
    under_way.keep()


def test_the_number_of_uploads_is_bounded(kept: Partials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "MOST_PARTIALS", 2)
    paths = [keep(kept, str(number), b"x", age=100 - number) for number in range(4)]
    assert [path.exists() for path in paths] == [False, False, True, True]
    held = [kept.open("ada", sha(str(number).encode()), offset=1, total=2) for number in (2, 3)]
    with pytest.raises(NoRoom):
        kept.open("ada", sha(b"more"), offset=0, total=1)
    for one in held:
        one.keep()


def test_one_appends_at_a_time_and_who_comes_after_the_end_finds_nothing_to_append_to(kept: Partials) -> None:
    first = kept.open("ada", sha(DATA), offset=0, total=10)
    with pytest.raises(UploadBusy):
        kept.open("ada", sha(DATA), offset=0, total=10)
    first.write(DATA)
    assert first.finish()
    with pytest.raises(WrongOffset):
        kept.open("ada", sha(DATA), offset=10, total=10)
    assert kept.blobs.path("ada", sha(DATA)).read_bytes() == DATA
    assert kept.offset("ada", sha(DATA)) is None


def test_a_file_that_was_put_in_its_place_meanwhile_is_never_appended_to(
    kept: Partials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moment at which it is opened and the one at which it is locked."""
    first = kept.open("ada", sha(DATA), offset=0, total=10)
    first.write(DATA)
    lock = partials._lock

    def late(descriptor: int, how: int) -> bool:
        if not first._descriptor < 0:
            first.finish()
        return lock(descriptor, how)

    monkeypatch.setattr(partials, "_lock", late)
    second = kept.open("ada", sha(DATA), offset=0, total=10)
    second.write(b"other")
    second.keep()
    assert kept.blobs.path("ada", sha(DATA)).read_bytes() == DATA


def test_what_another_process_has_appended_is_summed_too(kept: Partials) -> None:
    path = keep(kept, "x", b"ab")
    with path.open("ab") as file:
        file.write(b"cd")
    whole = path.rename(kept.path("ada", sha(b"abcdef")))
    rest = kept.open("ada", sha(b"abcdef"), offset=4, total=6)
    rest.write(b"ef")
    assert rest.finish()
    assert not whole.exists()
    assert kept.blobs.path("ada", sha(b"abcdef")).read_bytes() == b"abcdef"


def test_who_only_looks_keeps_nobody_from_going_on(kept: Partials, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep(kept, "x", DATA)
    looking = os.open(path, os.O_RDONLY)
    assert partials._lock(looking, partials.fcntl.LOCK_SH)

    def looked(seconds: float) -> None:
        nonlocal looking
        if looking >= 0:
            os.close(looking)
            looking = -1

    monkeypatch.setattr(partials.time, "sleep", looked)
    kept.open("ada", sha(b"x"), offset=10, total=11).keep()
    assert looking < 0


def test_an_upload_of_nothing_leaves_nothing(kept: Partials) -> None:
    kept.open("ada", sha(DATA), offset=0, total=10).keep()
    assert kept.offset("ada", sha(DATA)) is None


def test_a_link_in_the_place_of_an_upload_is_not_followed(kept: Partials, tmp_path: Path) -> None:
    keep(kept, "x", b"x")
    path = kept.path("ada", sha(DATA))
    (tmp_path / "outside").write_bytes(b"")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic links"):
        kept.open("ada", sha(DATA), offset=0, total=10)
    assert (tmp_path / "outside").read_bytes() == b""
