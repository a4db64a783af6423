"""The files of a job as Tapis lists and sends them: one folder at a time, a folder as a zip file."""

from __future__ import annotations

import io
import mimetypes
import posixpath
import zipfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hpcjobs.errors import OutputNotFound
from hpcjobs.tapis_data import time_text

if TYPE_CHECKING:
    from hpcjobs.models import OutputFile


def listed(files: Sequence[OutputFile], path: str) -> list[dict[str, Any]]:
    """What is in a folder of a job, or the one file of that name, under Tapis's keys.

    Args:
        files: All files of the job.
        path: The folder or the file; ``"/"`` for what is at the top.

    Raises:
        OutputNotFound: There is no such folder and no such file.
    """
    folder = _clean(path)
    inside = [file for file in files if not folder or file.path.startswith(f"{folder}/")]
    if folder and not inside:
        return [_file(_the_file(files, folder))]
    found: dict[str, dict[str, Any]] = {}
    for file in inside:
        rest = file.path[len(folder) + 1 if folder else 0 :]
        name, slash, _ = rest.partition("/")
        if not slash:
            found[name] = _file(file)
        elif name not in found:
            below = posixpath.join(folder, name)
            found[name] = _entry(name, below, "dir", size=0, modified=None)
        if slash:
            found[name]["size"] += file.size
    return [found[name] for name in sorted(found)]


def fetched(files: Sequence[OutputFile], path: str, read: Callable[[str], bytes], *, compress: bool) -> bytes:
    """The bytes of a file, or a zip file of a folder.

    Args:
        files: All files of the job.
        path: The file or the folder.
        read: Fetches a file.
        compress: Whether a single file is put into a zip file, too.

    Raises:
        OutputNotFound: There is no such folder and no such file.
    """
    folder = _clean(path)
    inside = [file.path for file in files if not folder or file.path.startswith(f"{folder}/")]
    if folder and not inside:
        name = _the_file(files, folder).path
        if not compress:
            return read(name)
        inside, folder = [name], posixpath.dirname(name)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in inside:
            archive.writestr(name[len(folder) + 1 if folder else 0 :], read(name))
    return packed.getvalue()


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path).strip("/")


def _the_file(files: Sequence[OutputFile], path: str) -> OutputFile:
    for file in files:
        if file.path == path:
            return file
    raise OutputNotFound(path, [file.path for file in files])


def _file(file: OutputFile) -> dict[str, Any]:
    return _entry(
        posixpath.basename(file.path), file.path, "file", size=file.size, modified=time_text(file.modified_at)
    )


def _entry(name: str, path: str, kind: str, *, size: int, modified: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "path": path,
        "type": kind,
        "size": size,
        "lastModified": modified,
        "mimeType": mimetypes.guess_type(name)[0] if kind == "file" else None,
        "owner": None,
        "group": None,
        "nativePermissions": None,
        "url": None,
    }
