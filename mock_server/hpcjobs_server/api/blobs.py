"""Input files, by content."""

from __future__ import annotations

import errno

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import InputQuery, InputQueryAnswer, Scope
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer, read_model
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import context_of
from hpcjobs_server.files import Upload
from hpcjobs_server.problems import Problem, invalid, too_large

BUFFER = 1024 * 1024
"""Bytes that are collected before they are hashed and written, in one call to a thread."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

router = APIRouter(prefix="/v1", tags=["inputs"])


@router.head(
    "/blobs/{sha256}",
    responses={200: {"description": "You have sent it"}, 404: {"description": "You have not"}},
)
async def has_blob(request: Request, sha256: str) -> Response:
    """Ask whether an input was sent before."""
    caller = await authorise(request, Scope.READ)
    try:
        size = await anyio.to_thread.run_sync(context_of(request).blobs.size, caller.owner, sha256)
    except ValueError:
        size = None
    if size is None:
        raise Problem(404, "input_not_found", "you have not sent this input")
    return Response(status_code=200)


@router.post(
    "/blobs/query",
    responses={
        200: {"model": InputQueryAnswer, "description": "Those that you have not sent"},
        **documents.problems(413, 415),
    },
    openapi_extra=documents.body(InputQuery),
)
async def query_blobs(request: Request) -> Response:
    """Ask which of many inputs were not sent before."""
    caller = await authorise(request, Scope.READ)
    asked = (await read_model(request, InputQuery)).sha256
    missing = await anyio.to_thread.run_sync(context_of(request).blobs.missing, caller.owner, asked)
    return answer(InputQueryAnswer(missing=missing))


@router.put(
    "/blobs/{sha256}",
    status_code=201,
    responses={
        201: {"description": "It is stored"},
        200: {"description": "You had sent it before"},
        **documents.problems(411, 413, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_blob(request: Request, sha256: str) -> Response:
    """Send an input: the bytes whose SHA-256 the address names."""
    context = context_of(request)
    caller = await authorise(request, Scope.WRITE)
    limit = context.settings.max_input_bytes
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise Problem(411, "length_required", "send the length of the file as Content-Length")
    if int(length[:20]) > limit:
        raise too_large(limit, "the file")
    try:
        known = await anyio.to_thread.run_sync(context.blobs.size, caller.owner, sha256)
    except ValueError as error:
        raise invalid([("sha256", str(error))]) from None
    if known is not None:
        return Response(status_code=200)
    try:
        upload = await anyio.to_thread.run_sync(context.blobs.begin, caller.owner)
        try:
            await _receive(request, upload, limit)
            if upload.sha256 != sha256:
                detail = f"the {upload.size} bytes that arrived have the SHA-256 {upload.sha256}; send the file again"
                raise Problem(422, "checksum_mismatch", detail)
            new = await anyio.to_thread.run_sync(upload.finish)
        finally:
            upload.abort()
    except OSError as error:
        if error.errno in FULL:
            raise no_space() from None
        raise
    return Response(status_code=201 if new else 200)


def no_space() -> Problem:
    """507: the disk is full."""
    return Problem(507, "no_space", "the service has no space left for inputs; ask who runs it")


async def _receive(request: Request, upload: Upload, limit: int) -> None:
    buffer = bytearray()
    arrived = 0
    async for part in request.stream():
        arrived += len(part)
        if arrived > limit:
            raise too_large(limit, "the file")
        buffer += part
        if len(buffer) >= BUFFER:
            await anyio.to_thread.run_sync(upload.write, buffer)
            buffer = bytearray()
    if buffer:
        await anyio.to_thread.run_sync(upload.write, buffer)
