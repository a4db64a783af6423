"""A file as a request body: whole, again, and never other bytes than were announced."""

from __future__ import annotations

import os

import pytest

from hpcjobs import bodies
from hpcjobs.bodies import FileBody, Stamp
from hpcjobs.errors import InputError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sync", "async"])
def read(request):
    """Reads a body block by block, in either colour; ``between`` is called after each block."""

    async def go(body, between=lambda: None):
        blocks = []
        if request.param == "sync":
            for block in body:
                blocks.append(block)
                between()
        else:
            async for block in body:
                blocks.append(block)
                between()
        return blocks

    return go


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "BLOCK", 4)
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    os.utime(path, ns=(1, 1))  # so that any write is seen, however coarse the clock
    return path


def body_of(path, **more):
    return FileBody(path, "data", Stamp.of(path.stat()), **more)


async def test_the_bytes_come_in_blocks_as_often_as_they_are_asked_for(file, read):
    body = body_of(file)
    for _ in range(2):
        assert await read(body) == [b"0123", b"4567", b"89"]
    assert body.size == 10


async def test_an_empty_file_has_no_blocks(file, read):
    file.write_bytes(b"")
    assert await read(body_of(file)) == []


async def test_what_was_sent_is_told(file, read):
    told = []
    await read(body_of(file, on_bytes=lambda *args: told.append(args)))
    assert told == [("data", 4, 10), ("data", 8, 10), ("data", 10, 10)]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"9876543210"),
        lambda path: path.write_bytes(b"012345678"),
        lambda path: path.write_bytes(b"0123456789+"),
        lambda path: path.with_suffix(".new").write_bytes(b"0123456789") and path.with_suffix(".new").replace(path),
    ],
    ids=["rewritten", "shorter", "longer", "replaced"],
)
async def test_a_file_that_changed_since_it_was_hashed_is_not_sent(file, read, change):
    body = body_of(file)
    change(file)
    with pytest.raises(InputError, match="changed while it was sent"):
        await read(body)


@pytest.mark.parametrize("content", [b"9876543210", b"01234", b"0123456789+"], ids=["rewritten", "cut", "grown"])
async def test_a_file_that_changes_while_it_is_sent_is_an_error(file, read, content):
    sent = []

    def between():
        sent.append(1)
        if len(sent) == 1:
            file.write_bytes(content)

    with pytest.raises(InputError, match="changed while it was sent"):
        await read(body_of(file), between)


async def test_a_file_that_is_gone_is_an_error(file, read):
    body = body_of(file)
    file.unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        await read(body)


async def test_a_part_is_only_that_and_tells_where_in_the_file_it_is(file, read):
    told = []
    part = body_of(file, on_bytes=lambda *args: told.append(args)).part(3, 9)
    assert part.size == 6
    for _ in range(2):
        assert await read(part) == [b"3456", b"78"]
    assert told == [("data", 7, 10), ("data", 9, 10)] * 2
    assert await read(part.part(4, 4)) == []


async def test_a_part_of_a_file_that_changed_is_an_error_too(file, read):
    def between():
        file.write_bytes(b"9876543210")

    with pytest.raises(InputError, match="changed while it was sent"):
        await read(body_of(file).part(0, 8), between)
