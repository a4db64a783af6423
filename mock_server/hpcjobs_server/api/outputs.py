"""The files that a job has written."""

from __future__ import annotations

from pathlib import PurePosixPath

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import OutputList, Scope, check_file_name
from hpcjobs_server.api import documents
from hpcjobs_server.api.bodies import answer
from hpcjobs_server.api.filenames import FILENAME
from hpcjobs_server.auth import authorise
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.digests import repr_digest, wants_sha256
from hpcjobs_server.files import MOST_FILES, TooManyFiles, list_below
from hpcjobs_server.problems import Problem, job_not_found
from hpcjobs_server.ranges import ByteRange
from hpcjobs_server.sending import Piece, PieceResponse

_MEDIA_TYPE = "application/octet-stream"
_FILE = f"/jobs/{{job_id}}/files/{{path:{FILENAME}}}"
_SUM = "The SHA-256 of the whole file, where Want-Repr-Digest asks for it and the file does not change meanwhile"

router = APIRouter(prefix="/v1", tags=["files"])


@router.get(
    "/jobs/{job_id}/files",
    responses={200: {"model": OutputList, "description": "Its files, by name"}, **documents.problems(404, 413)},
)
async def list_files(request: Request, job_id: str) -> Response:
    """List the regular files in a job's folder, also while it runs. Links are not listed."""
    context = context_of(request)
    folder = await _folder(request, context, job_id)
    try:
        items = await anyio.to_thread.run_sync(list_below, context.settings.data, folder) if folder else []
    except TooManyFiles:
        detail = f"the job has more than {MOST_FILES} files; pack them into an archive within the job"
        raise Problem(413, "too_many_files", detail) from None
    return answer(OutputList(items=items))


@router.get(
    _FILE,
    responses={
        200: documents.raw("The whole file", _MEDIA_TYPE, ETag="Tells this content from another", Repr_Digest=_SUM),
        206: documents.raw(
            "The range that was asked for", _MEDIA_TYPE, Content_Range="bytes a-b/total", Repr_Digest=_SUM
        ),
        304: {"description": "It is still the content of If-None-Match"},
        **documents.problems(404, 416),
    },
    openapi_extra={
        "parameters": [
            documents.parameter("Range", "header", "bytes=N-, bytes=N-M or bytes=-N"),
            documents.parameter("If-Range", "header", "An ETag: the range counts only for this content"),
            documents.parameter("Want-Repr-Digest", "header", "sha-256=10 asks for the sum of the file (RFC 9530)"),
        ]
    },
)
async def read_file(request: Request, job_id: str, path: str) -> Response:
    """Read a file of a job."""
    context = context_of(request)
    folder = await _folder(request, context, job_id)
    if not folder or path.endswith("/"):
        raise _no_such_file()
    wanted = ByteRange.parse(request.headers.get("range"))
    try:
        name = PurePosixPath(check_file_name(path))
        piece = await anyio.to_thread.run_sync(_open, context, (*folder, *name.parts), wanted, request)
    except (ValueError, FileNotFoundError):
        raise _no_such_file() from None
    headers = {"ETag": piece.etag}
    if piece.sha256 is not None:
        headers["Repr-Digest"] = repr_digest(piece.sha256)
    if request.headers.get("if-none-match") == piece.etag:
        if piece.file is not None:
            piece.file.close()
        return Response(status_code=304, headers=headers)
    return PieceResponse(piece, name=name.name, media_type=_MEDIA_TYPE, headers=headers)


router.add_api_route(_FILE, read_file, methods=["HEAD"], include_in_schema=False)


async def _folder(request: Request, context: Context, job_id: str) -> tuple[str, ...]:
    """The names from the data folder to the job's own; none for a job that has not started."""
    caller = await authorise(request, Scope.READ)
    place = await context.store.place(caller.sees, job_id)
    if place is None:
        raise job_not_found()
    return (*context.folder(place), "work") if place.attempt else ()


def _no_such_file() -> Problem:
    return Problem(404, "file_not_found", "the job has no such file")


def _open(context: Context, parts: tuple[str, ...], wanted: ByteRange | None, request: Request) -> Piece:
    return Piece.of(
        context.settings.data,
        parts,
        wanted,
        only_if=request.headers.get("if-range"),
        head=request.method == "HEAD",
        digests=context.digests if wants_sha256(request.headers.get("want-repr-digest")) else None,
    )
