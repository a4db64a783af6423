"""The files of a job, its log among them, as Tapis shows them."""

from __future__ import annotations

import contextlib
import datetime as dt
import mimetypes
import os
import tempfile
import zipfile
from pathlib import PurePosixPath
from typing import Any

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hpcjobs.models import Scope, StderrMode, check_file_name
from hpcjobs.tapis_data import SUFFIX, time_text
from hpcjobs_server.api.filenames import FILENAME
from hpcjobs_server.api.tapis.callers import authorise
from hpcjobs_server.api.tapis.envelope import TapisProblem, bad_request, envelope
from hpcjobs_server.api.tapis.finding import find, flag, page
from hpcjobs_server.apps import logs_of
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.files import MOST_FILES, OpenFile, TooManyFiles, list_below, open_below
from hpcjobs_server.ranges import ByteRange
from hpcjobs_server.sending import CHUNK, Piece, PieceResponse
from hpcjobs_server.store import Seen

_MEDIA_TYPE = "application/octet-stream"

MOST_PACKED = 1024**3
"""Bytes of the files that are packed into one archive at most."""

router = APIRouter(prefix="/v3/jobs/{uuid}/output", include_in_schema=False)


class _TooLarge(Exception):
    """These files are more than is packed."""


class _Outputs:
    """The files of one job: those in its folder, and its logs beside them.

    Args:
        context: The app's.
        seen: The job.
    """

    def __init__(self, context: Context, seen: Seen) -> None:
        self._root, self._seen = context.settings.data, seen
        self._folder: tuple[str, ...] = ()
        if seen.info.attempt:
            folder = context.settings.job_folder(seen.info.id, seen.info.attempt)
            self._folder = folder.relative_to(context.settings.data).parts
        names = logs_of(seen.spec)
        self._logs = {names.stdout_filename: "stdout"}
        if seen.spec.stderr is StderrMode.SEPARATE:
            error = names.stderr_filename if names.stderr_filename not in self._logs else "tapisjob.err"
            self._logs[error] = "stderr"

    def parts(self, path: str) -> tuple[str, ...]:
        """The names from the data folder to a file.

        Raises:
            FileNotFoundError: The job has not started.
        """
        if not self._folder:
            raise FileNotFoundError
        inside = (*self._folder, "work", *PurePosixPath(path).parts)
        if path in self._logs:
            try:
                open_below(self._root, inside).close()
            except FileNotFoundError:
                return (*self._folder, self._logs[path])
        return inside

    def listed(self, path: str) -> list[dict[str, Any]]:
        """What is at a path: a file itself, or what is in a folder; blocks, so it is for a thread.

        Raises:
            FileNotFoundError: There is nothing.
        """
        if not self._folder:
            if path:
                raise FileNotFoundError
            return []
        files = self._files()
        if path in files:
            return [self._item(path, "file", *files[path])]
        prefix = f"{path}/" if path else ""
        folders: dict[str, dt.datetime | None] = {}
        items = []
        for name, (size, changed) in files.items():
            if not name.startswith(prefix):
                continue
            first, slash, _ = name[len(prefix) :].partition("/")
            if slash:
                folders[prefix + first] = max(filter(None, (folders.get(prefix + first), changed)), default=None)
            else:
                items.append(self._item(name, "file", size, changed))
        items += [self._item(name, "dir", 0, changed) for name, changed in folders.items()]
        if path and not items:
            raise FileNotFoundError
        return sorted(items, key=lambda item: str(item["path"]))

    def _files(self) -> dict[str, tuple[int, dt.datetime | None]]:
        """Every file: its bytes, and when it was changed."""
        files = {file.path: (file.size, file.modified_at) for file in list_below(self._root, (*self._folder, "work"))}
        for name, stream in self._logs.items():
            if name not in files:
                with contextlib.suppress(FileNotFoundError):
                    log = open_below(self._root, (*self._folder, stream))
                    files[name] = log.size, dt.datetime.fromtimestamp(log.identity[3] / 1e9, dt.timezone.utc)
                    log.close()
        return files

    def packed(self, path: str) -> Piece:
        """A file, or everything in a folder, as a zip archive; blocks, so it is for a thread.

        Raises:
            FileNotFoundError: There is nothing.
            _TooLarge: It is too much for that.
        """
        if not self._folder:
            raise FileNotFoundError
        files = self._files()
        prefix = f"{path}/" if path else ""
        names = [name for name in sorted(files) if name == path or name.startswith(prefix)]
        if not names:
            raise FileNotFoundError
        if sum(files[name][0] for name in names) > MOST_PACKED:
            raise _TooLarge
        # without a name: whatever happens to this process, nothing is left of it
        with tempfile.TemporaryFile(dir=self._root) as made:
            with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    with contextlib.suppress(FileNotFoundError):  # removed since
                        self._pack(archive, name, name.removeprefix(prefix) if name != path else name)
            made.flush()
            descriptor = os.dup(made.fileno())
        file = OpenFile(descriptor, os.fstat(descriptor))
        return Piece(file.size, (0, file.size), first=file.read(0, CHUNK), file=file)

    def _pack(self, archive: zipfile.ZipFile, name: str, inside: str) -> None:
        source = open_below(self._root, self.parts(name))
        try:
            with archive.open(inside, "w", force_zip64=True) as target:
                place = 0
                while place <= MOST_PACKED and (data := source.read(place, CHUNK)):
                    target.write(data)
                    place += len(data)
        finally:
            source.close()

    def _item(self, path: str, kind: str, size: int, changed: dt.datetime | None) -> dict[str, Any]:
        uuid = self._seen.info.id + SUFFIX
        return {
            "mimeType": mimetypes.guess_type(path)[0] if kind == "file" else None,
            "type": kind,
            "owner": self._seen.info.owner,
            "group": self._seen.info.owner,
            "nativePermissions": "rwx------" if kind == "dir" else "rw-------",
            "url": f"tapis://local/jobs/{uuid}/{path}",
            "lastModified": time_text(changed),
            "name": path.rpartition("/")[2],
            "path": f"/jobs/{uuid}/{path}",
            "size": size,
        }


@router.get(f"/list/{{path:{FILENAME}}}")
async def list_outputs(request: Request, uuid: str, path: str) -> Response:
    """List what is in a folder of a job."""
    limit, skip = page(request)
    _, outputs, name = await _outputs(request, uuid, path)
    try:
        items = await anyio.to_thread.run_sync(outputs.listed, name)
    except FileNotFoundError:
        raise _no_such_file(uuid, path) from None
    except TooManyFiles:
        raise _too_many() from None
    return envelope(items[skip : skip + limit], f"JOBS_OUTPUT_FILES_LIST_RETRIEVED Files of job {uuid} retrieved.")


router.add_api_route("/list", list_outputs, methods=["GET"])


@router.get(f"/download/{{path:{FILENAME}}}")
async def download_output(request: Request, uuid: str, path: str) -> Response:
    """Send a file of a job, or a range of it."""
    seen, outputs, name = await _outputs(request, uuid, path)
    compress = flag(request.query_params, "compress")
    if compress and request.query_params.get("format", "zip").lower() != "zip":
        raise bad_request("FILES_NOT_SUPPORTED", "the format is zip; there is no other one here")
    wanted = ByteRange.parse(request.headers.get("range"))
    root, only_if = context_of(request).settings.data, request.headers.get("if-range")

    def look() -> tuple[Piece, str]:
        if name and not compress:
            with contextlib.suppress(FileNotFoundError):  # a folder, perhaps
                piece = Piece.of(root, outputs.parts(name), wanted, only_if=only_if, head=request.method == "HEAD")
                return piece, PurePosixPath(name).name
        return outputs.packed(name), f"{PurePosixPath(name).name or uuid}.zip"

    try:
        piece, called = await anyio.to_thread.run_sync(look)
    except FileNotFoundError:
        raise _no_such_file(uuid, path) from None
    except TooManyFiles:
        raise _too_many() from None
    except _TooLarge:
        detail = f"these are more than {MOST_PACKED} bytes; download the files one by one: output/list names them"
        raise bad_request("FILES_TOO_LARGE", detail) from None
    headers = {"ETag": piece.etag} if piece.etag else {}
    if seen.info.terminal:
        headers["Cache-Control"] = "max-age=3600"
    return PieceResponse(piece, name=called, media_type=_MEDIA_TYPE, headers=headers)


router.add_api_route(f"/download/{{path:{FILENAME}}}", download_output, methods=["HEAD"])


async def _outputs(request: Request, uuid: str, path: str) -> tuple[Seen, _Outputs, str]:
    """The job, its files, and the path without slashes around it."""
    context = context_of(request)
    caller = await authorise(request, Scope.READ)
    running = flag(request.query_params, "allowIfRunning")
    seen = await find(context, caller, uuid, hidden=False)
    if not seen.info.terminal and not running:
        detail = f"Job {uuid} is {seen.status}; give allowIfRunning=true to look at it before its end."
        raise bad_request("JOBS_JOB_NOT_TERMINATED", detail)
    name = path.strip("/")
    if name in {"", "."}:
        return seen, _Outputs(context, seen), ""
    try:
        return seen, _Outputs(context, seen), check_file_name(name)
    except ValueError:
        raise _no_such_file(uuid, path) from None


def _too_many() -> TapisProblem:
    return bad_request("FILES_TOO_MANY", f"the job has more than {MOST_FILES} files; pack them within the job")


def _no_such_file(uuid: str, path: str) -> TapisProblem:
    return TapisProblem(404, "FILES_PATH_NOT_FOUND", f"Job {uuid} has no {path or '/'} among its outputs.")
