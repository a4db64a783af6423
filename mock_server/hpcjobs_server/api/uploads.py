"""Input files that are sent piece by piece, and continued after a break.

The headers and the steps are those of the IETF's draft "Resumable Uploads for HTTP" (``Upload-Offset``,
``Upload-Complete``, ``Upload-Length``, ``application/partial-upload``). An upload needs no address of its own to be
made: it is named by the SHA-256 of the whole, and begins with the piece at offset 0.
"""

from __future__ import annotations

import re
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hpcjobs.models import Scope
from hpcjobs_server.api import documents
from hpcjobs_server.api.blobs import BUFFER, FULL, no_space
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.partials import NoRoom, PartialUpload, UploadBusy, WrongOffset, WrongSum
from hpcjobs_server.problems import Problem, invalid, too_large

_MEDIA_TYPE = "application/partial-upload"
_SILENCE = 30.0
"""Seconds for which nothing may come before an upload counts as broken off, so that another connection may go on."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_COMPLETE = {"?1": True, "?0": False}
_BUSY: dict[int | str, dict[str, Any]] = {
    409: {"description": "Another number of bytes has arrived (Upload-Offset says how many), or someone appends"}
}

router = APIRouter(prefix="/v1", tags=["inputs"])


def _told(*names: str) -> dict[str, Any]:
    texts = {
        "Upload-Offset": "How many bytes have arrived",
        "Upload-Complete": "?1 once all have, and were checked; else ?0",
    }
    return {name: {"description": texts[name], "schema": {"type": "string"}} for name in names}


@router.head(
    "/blobs/{sha256}/upload",
    status_code=204,
    responses={
        204: {"description": "What has arrived", "headers": _told("Upload-Offset", "Upload-Complete")},
        404: {"description": "Nothing has"},
        409: {"description": "More is arriving at this moment", "headers": _told("Upload-Offset", "Upload-Complete")},
    },
)
async def upload_offset(request: Request, sha256: str) -> Response:
    """Ask how much of an input has arrived."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    size = await _stored(context, caller.owner, sha256)
    if size is not None:
        return _progress(204, size, complete=True)
    there = await anyio.to_thread.run_sync(context.partials.offset, caller.owner, sha256)
    if there is None:
        raise _no_upload()
    offset, busy = there
    return _progress(409 if busy else 204, offset)


@router.patch(
    "/blobs/{sha256}/upload",
    status_code=204,
    responses={
        201: {"description": "All has arrived and is stored", "headers": _told("Upload-Offset", "Upload-Complete")},
        200: {"description": "You had sent it before", "headers": _told("Upload-Offset", "Upload-Complete")},
        204: {"description": "The piece has arrived", "headers": _told("Upload-Offset", "Upload-Complete")},
        **documents.problems(408, 413, 415, 507),
        **_BUSY,
    },
    openapi_extra={
        "parameters": [
            documents.parameter("Upload-Offset", "header", "How many bytes have arrived: where this piece begins"),
            documents.parameter("Upload-Length", "header", "How many bytes there are in all"),
            documents.parameter("Upload-Complete", "header", "?1 for the last piece, else ?0"),
        ],
        "requestBody": {
            "required": True,
            "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def append(request: Request, sha256: str) -> Response:
    """Send the next piece of an input. What arrives before a break is kept; the last piece has the whole checked."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    offset, total, complete = _asked(request)
    limit = context.settings.max_input_bytes
    if total > limit:
        raise too_large(limit, "the file")
    size = await _stored(context, caller.owner, sha256)
    if size is not None:
        return _progress(200, size, complete=True)
    try:
        upload = await anyio.to_thread.run_sync(_open, context, caller.owner, sha256, offset, total)
        try:
            await _receive(request, upload, total)
            if not complete:
                return _progress(204, upload.size)
            if upload.size != total:
                raise invalid([("Upload-Length", f"is {total}, but only {upload.size} bytes have come")])
            new = await anyio.to_thread.run_sync(upload.finish)
        except OSError:
            upload.discard()
            raise
        finally:
            upload.keep()
    except WrongSum as error:
        detail = f"the {total} bytes that arrived have the SHA-256 {error.sha256}; send the file again"
        raise Problem(422, "checksum_mismatch", detail) from None
    except OSError as error:
        if error.errno in FULL:
            raise no_space() from None
        raise
    return _progress(201 if new else 200, total, complete=True)


@router.delete(
    "/blobs/{sha256}/upload",
    status_code=204,
    responses={204: {"description": "It is forgotten"}, **documents.problems(404), **_BUSY},
)
async def discard(request: Request, sha256: str) -> Response:
    """Forget what has arrived of an input that is not whole."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    try:
        gone = await anyio.to_thread.run_sync(context.partials.discard, caller.owner, sha256)
    except ValueError:
        gone = False
    except UploadBusy:
        raise _busy() from None
    if not gone:
        raise _no_upload()
    return Response(status_code=204)


async def _stored(context: Context, owner: str, sha256: str) -> int | None:
    try:
        return await anyio.to_thread.run_sync(context.blobs.size, owner, sha256)
    except ValueError as error:
        raise invalid([("sha256", str(error))]) from None


def _asked(request: Request) -> tuple[int, int, bool]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _MEDIA_TYPE:
        raise Problem(415, "media_type", f"send a piece of a file with 'Content-Type: {_MEDIA_TYPE}'")
    numbers = {name: request.headers.get(name, "").strip() for name in ("Upload-Offset", "Upload-Length")}
    wrong = [(name, "must be a number of bytes") for name, text in numbers.items() if not _NUMBER.fullmatch(text)]
    complete = _COMPLETE.get(request.headers.get("upload-complete", "").strip())
    if complete is None:
        wrong.append(("Upload-Complete", "must be ?1 for the last piece, else ?0"))
    if wrong:
        raise invalid(wrong)
    offset, total = (int(text) for text in numbers.values())
    if offset > total:
        raise invalid([("Upload-Offset", f"is {offset}, which is more than Upload-Length, {total}")])
    return offset, total, bool(complete)


def _open(context: Context, owner: str, sha256: str, offset: int, total: int) -> PartialUpload:
    try:
        return context.partials.open(owner, sha256, offset=offset, total=total)
    except UploadBusy:
        raise _busy() from None
    except WrongOffset as error:
        raise Problem(
            409,
            "upload_offset",
            f"{error.offset} bytes have arrived, and not {offset}; go on from there",
            headers={"Upload-Offset": str(error.offset), "Upload-Complete": "?0"},
            extra={"expected-offset": error.offset, "provided-offset": offset},
        ) from None
    except NoRoom:
        detail = "your other uploads that are under way leave no room for this one; wait until one of them is done"
        raise Problem(507, "no_room", detail) from None


async def _receive(request: Request, upload: PartialUpload, total: int) -> None:
    """Append the body; whatever ends it, what has come is written."""
    buffer = bytearray()
    room = total - upload.size
    parts = request.stream()
    try:
        while True:
            part: bytes | None = None
            with anyio.move_on_after(_SILENCE) as patience:
                part = await anext(parts, None)
            _check(silent=patience.cancelled_caught, total=total, left=room - len(part or b""))
            if part is None:
                break
            room -= len(part)
            buffer += part
            if len(buffer) >= BUFFER:
                full, buffer = buffer, bytearray()
                await anyio.to_thread.run_sync(upload.write, full)
    except (ClientDisconnect, Problem):
        await anyio.to_thread.run_sync(upload.write, buffer)
        raise
    await anyio.to_thread.run_sync(upload.write, buffer)


def _check(*, silent: bool, total: int, left: int) -> None:
    if silent:
        raise Problem(408, "upload_silent", f"nothing came for {_SILENCE:g} s; what has come is kept")
    if left < 0:
        raise invalid([("Upload-Length", f"is {total}, but more bytes have come")])


def _progress(status: int, offset: int, *, complete: bool = False) -> Response:
    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1" if complete else "?0"}
    if status == 409:
        headers["Retry-After"] = "1"
    return Response(status_code=status, headers=headers)


def _busy() -> Problem:
    return Problem(409, "upload_busy", "someone sends the same at this moment", headers={"Retry-After": "1"})


def _no_upload() -> Problem:
    return Problem(404, "upload_not_found", "nothing of this input has arrived, or it is not yours")
