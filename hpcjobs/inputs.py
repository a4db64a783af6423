"""Finds, checks and hashes the input files of a job, before anything is sent."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Union

from hpcjobs.bodies import FileBody, OnBytes, OnFile, Stamp, Tally, changed
from hpcjobs.errors import InputError, InvalidRequest, TooLarge
from hpcjobs.folders import below, has_pattern, is_folder, matching, why_unreadable
from hpcjobs.models import MAX_INPUTS, InputFile, check_file_name
from hpcjobs.protocol import Op, run
from hpcjobs.services.base import Service
from hpcjobs.uploads import send_content

PathLike = Union[str, "os.PathLike[str]"]
Inputs = Union[PathLike, Sequence[PathLike], Mapping[str, PathLike], None]
"""Files, folders and patterns (each file keeps its name), or ``{name in the job's folder: path}``."""

LARGE = 100_000_000
"""Bytes: before a file of this size is sent, the service is asked whether it would take it."""

MOST_SUMS = 50_000
"""Most files whose sums are kept in memory, so that an unchanged file is read once by a process."""

_SETTLED = 2_000_000_000
"""Nanoseconds: what was written to later than this before it was read may be written to again unnoticed."""

_sums: dict[tuple[int, ...], str] = {}


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """An input file as it lies here.

    Attributes:
        name: Where it goes, relative to the job's folder.
        path: Where it is.
        stamp: What it was when it was looked at.
        executable: Whether its owner may execute it.
    """

    name: str
    path: Path
    stamp: Stamp
    executable: bool


def find_inputs(inputs: Inputs) -> list[LocalFile]:
    """Look at every input file.

    A path that exists is taken as it stands, whatever is in its name; a folder brings every file below it. What does
    not exist and has ``*``, ``?`` or ``[`` in it is a pattern, in which ``**`` stands for any folders.

    Args:
        inputs: Paths, or ``{name: path}``. A relative path keeps its folders, any other keeps its base name, or what
            follows the folders in which a pattern begins. The name ``"."`` means the job's folder itself.

    Raises:
        InputError: A file is missing, is not a regular file, cannot be read, or its name cannot be used; a pattern
            means nothing; a link leads out of its folder; there are too many files.
    """
    found: dict[str, LocalFile] = {}
    for given, path in _pairs(inputs):
        for file in _expanded(given, path):
            other = found.setdefault(file.name, file)
            if (other.stamp.device, other.stamp.inode) != (file.stamp.device, file.stamp.inode):
                raise InputError(file.name, f"named twice: {other.path} and {file.path}; use {{name: path}}")
            if len(found) > MAX_INPUTS:
                raise InputError(
                    str(path), f"makes more than {MAX_INPUTS:,} files; name fewer, or pack them into an archive"
                )
    for name in found:
        for folder in PurePosixPath(name).parents:
            if str(folder) in found:
                raise InputError(name, f"lies in {str(folder)!r}, which is a file; use {{name: path}}")
    return list(found.values())


def hash_file(file: LocalFile, on_file: OnFile | None = None) -> InputFile:
    """Read a file and describe it by its content; one that has not changed since it was read is not read again.

    Raises:
        InputError: It cannot be read, or changed while it was read.
    """
    key = _identity(file)
    now = time.time_ns()
    sha256 = _sums.get(key)
    if sha256 is None:
        digest = hashlib.sha256()
        for block in FileBody(file.path, file.name, file.stamp, on_file):
            digest.update(block)
        sha256 = digest.hexdigest()
        if now - max(key[-2:]) > _SETTLED:
            while len(_sums) >= MOST_SUMS:
                _sums.pop(next(iter(_sums)), None)
            _sums[key] = sha256
    return InputFile(name=file.name, sha256=sha256, size=file.stamp.size, executable=file.executable)


def send_inputs(service: Service, files: Sequence[LocalFile], on_bytes: OnBytes | None = None) -> Op[list[InputFile]]:
    """Send the files that the service does not have; each content travels once.

    Args:
        service: Where they go.
        files: What ``find_inputs`` found.
        on_bytes: Told how far it is.

    Raises:
        InputError: A file cannot be read, is larger than the service takes, or changed while it was sent.
    """
    described: list[InputFile] = []
    tally = Tally("read", files=len(files), size=sum(file.stamp.size for file in files), on_bytes=on_bytes)
    for file in files:
        described.append((yield from run(partial(hash_file, file, tally))))
        tally.whole(file.name, file.stamp.size)
    contents = {item.sha256: (file, item) for file, item in zip(reversed(files), reversed(described), strict=True)}
    missing = yield from service.missing_inputs(list(reversed(contents)))
    wanted = [contents[sha256] for sha256 in missing if sha256 in contents]
    if any(item.size > LARGE for _, item in wanted):
        limit = (yield from service.info()).max_input_bytes
        for _, item in wanted:
            if item.size > limit:
                raise _too_large(item, limit)
    tally = Tally("send", files=len(wanted), size=sum(item.size for _, item in wanted), on_bytes=on_bytes)
    for file, item in wanted:
        yield from _send(service, file, item, tally)
        tally.whole(item.name, item.size)
    return described


def _send(service: Service, file: LocalFile, item: InputFile, on_file: OnFile) -> Op[None]:
    try:
        yield from send_content(service, item.sha256, FileBody(file.path, file.name, file.stamp, on_file))
    except TooLarge as error:
        raise InputError(
            item.name, f"is larger than the service takes ({item.size:,} bytes): {error.detail}"
        ) from error
    except InvalidRequest as error:
        if error.code != "checksum_mismatch":
            raise
        raise changed(item.name) from error


def _too_large(item: InputFile, limit: int) -> InputError:
    return InputError(item.name, f"has {item.size:,} bytes; the service takes at most {limit:,} bytes per file")


def _pairs(inputs: Inputs) -> list[tuple[str | None, Path]]:
    if inputs is None:
        return []
    if isinstance(inputs, Mapping):
        return [(name, _path(path)) for name, path in inputs.items()]
    if isinstance(inputs, (str, os.PathLike)):
        return [(None, _path(inputs))]
    return [(None, _path(path)) for path in inputs]


def _path(path: PathLike) -> Path:
    try:
        return Path(path).expanduser()
    except (TypeError, RuntimeError) as error:
        raise InputError(str(path), f"is not a path ({error})") from None


def _expanded(given: str | None, path: Path) -> Iterator[LocalFile]:
    """The files that one input means."""
    shown = given if given is not None else str(path)
    files: Iterator[tuple[str, Path]]
    if is_folder(path):
        files = ((_within(given if given is not None else _name(path), name), one) for name, one in below(path, shown))
        problem = f"there is no file in the folder {path}"
    elif has_pattern(path) and not os.path.lexists(path):
        files = _meant(given, path)
        problem = f"no file is meant by {path}" + ("" if path.is_absolute() else f" (looked in {Path.cwd()})")
    else:
        yield _look(shown, given if given is not None else _name(path), path)
        return
    empty = True
    for name, one in files:
        yield _look(str(one), name, one)
        empty = False
    if empty:
        raise InputError(shown, problem)


def _meant(given: str | None, pattern: Path) -> Iterator[tuple[str, Path]]:
    """The files that a pattern means, and those of the folders that it means, with their names."""
    base, names = matching(pattern)
    prefix = given if given is not None else ("." if _outside(base) else base.as_posix())
    for name in names:
        path = base / name
        if is_folder(path):
            yield from ((_within(prefix, name / inside), one) for inside, one in below(path, str(path)))
        else:
            yield _within(prefix, name), path


def _look(shown: str, name: str, path: Path) -> LocalFile:
    name = _checked(shown, name)
    try:
        status = path.stat()
    except ValueError as error:  # a NUL
        raise InputError(shown, f"cannot be a path: {error}") from None
    except OSError as error:
        raise InputError(shown, why_unreadable(error, path)) from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(shown, f"{path} is not a regular file")
    return LocalFile(name, path, Stamp.of(status), bool(status.st_mode & stat.S_IXUSR))


def _identity(file: LocalFile) -> tuple[int, ...]:
    """What tells a content of a file from any other it has had; the times come last."""
    try:
        status = file.path.stat()
    except OSError as error:
        raise InputError(file.name, f"can no longer be read: {error.strerror}") from error
    if Stamp.of(status) != file.stamp:
        raise changed(file.name)
    return (*dataclasses.astuple(file.stamp)[:-1], status.st_mtime_ns, status.st_ctime_ns)


def _outside(path: Path) -> bool:
    return path.is_absolute() or ".." in path.parts


def _name(path: Path) -> str:
    """The name of a file or folder that was given by its path alone."""
    if not _outside(path):
        return path.as_posix()
    return path.name if path.name not in {"", ".."} else Path(os.path.realpath(path)).name or "."


def _within(prefix: str, name: PurePosixPath) -> str:
    return name.as_posix() if PurePosixPath(prefix) == PurePosixPath() else f"{prefix.rstrip('/') or '/'}/{name}"


def _checked(shown: str, name: str) -> str:
    try:
        name.encode()
        return check_file_name(name)
    except UnicodeEncodeError:
        raise InputError(shown, "its name is not UTF-8; give it another one with {name: path}") from None
    except ValueError as error:
        raise InputError(shown, str(error)) from None
