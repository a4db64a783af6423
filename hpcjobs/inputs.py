"""Finds, checks and hashes the input files of a job, before anything is sent."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Union

from hpcjobs.bodies import FileBody, OnBytes, Stamp, changed
from hpcjobs.errors import InputError, InvalidRequest, TooLarge
from hpcjobs.models import InputFile, check_file_name
from hpcjobs.protocol import Op, run
from hpcjobs.services.base import Service

PathLike = Union[str, "os.PathLike[str]"]
Inputs = Union[PathLike, Sequence[PathLike], Mapping[str, PathLike], None]
"""Files by path (each keeps its name), or ``{name in the job's folder: path}``."""

LARGE = 100_000_000
"""Bytes: before a file of this size is sent, the service is asked whether it would take it."""


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

    Args:
        inputs: Paths, or ``{name: path}``. A relative path keeps its folders, any other keeps its base name.

    Raises:
        InputError: A file is missing, is not a regular file, cannot be read, or its name cannot be used.
    """
    found: dict[str, LocalFile] = {}
    for given, path in _pairs(inputs):
        file = _look(given, path)
        if file.name in found:
            raise InputError(file.name, f"named twice: {found[file.name].path} and {file.path}; use {{name: path}}")
        found[file.name] = file
    for name in found:
        for folder in PurePosixPath(name).parents:
            if str(folder) in found:
                raise InputError(name, f"lies in {str(folder)!r}, which is a file; use {{name: path}}")
    return list(found.values())


def hash_file(file: LocalFile) -> InputFile:
    """Read a file and describe it by its content.

    Raises:
        InputError: It cannot be read, or changed while it was read.
    """
    digest = hashlib.sha256()
    body = FileBody(file.path, file.name, file.stamp)
    for block in body:
        digest.update(block)
    return InputFile(name=file.name, sha256=digest.hexdigest(), size=file.stamp.size, executable=file.executable)


def send_inputs(service: Service, files: Sequence[LocalFile], on_bytes: OnBytes | None = None) -> Op[list[InputFile]]:
    """Send the files that the service does not have; each content travels once.

    Args:
        service: Where they go.
        files: What ``find_inputs`` found.
        on_bytes: Told how much of a file is there.

    Raises:
        InputError: A file cannot be read, is larger than the service takes, or changed while it was sent.
    """
    described: list[InputFile] = []
    for file in files:
        described.append((yield from run(partial(hash_file, file))))  # noqa: PERF401 - no yield in a comprehension
    there: set[str] = set()
    limit: int | None = None
    for file, item in zip(files, described, strict=True):
        if item.sha256 not in there and not (yield from service.has_input(item.sha256)):
            if limit is None and item.size > LARGE:
                limit = (yield from service.info()).max_input_bytes
            if limit is not None and item.size > limit:
                raise _too_large(item, limit)
            yield from _send(service, file, item, on_bytes)
        elif on_bytes is not None:
            on_bytes(item.name, item.size, item.size)
        there.add(item.sha256)
    return described


def _send(service: Service, file: LocalFile, item: InputFile, on_bytes: OnBytes | None) -> Op[None]:
    try:
        yield from service.send_input(item.sha256, FileBody(file.path, file.name, file.stamp, on_bytes))
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


def _look(given: str | None, path: Path) -> LocalFile:
    shown = given if given is not None else str(path)
    name = _name(shown, path) if given is None else _checked(given, given)
    try:
        status = path.stat()
    except ValueError as error:  # a NUL
        raise InputError(shown, f"cannot be a path: {error}") from None
    except OSError as error:
        raise InputError(shown, _why(error, path)) from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(shown, f"{path} is a folder, and folders are not taken; list the files")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(shown, f"{path} is not a regular file")
    return LocalFile(name, path, Stamp.of(status), bool(status.st_mode & stat.S_IXUSR))


def _why(error: OSError, path: Path) -> str:
    if error.errno == errno.ELOOP:
        return f"{path} is a link that leads round in a circle"
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"{path} is a link to a file that does not exist"
        return (
            f"there is no file {path} (looked in {Path.cwd()})"
            if not path.is_absolute()
            else f"there is no file {path}"
        )
    if isinstance(error, PermissionError):
        return f"{path} may not be read by you"
    return f"{path} cannot be read: {error.strerror}"


def _name(shown: str, path: Path) -> str:
    """The name of a file that was given by its path alone."""
    outside = path.is_absolute() or ".." in path.parts
    return _checked(shown, path.name if outside else path.as_posix())


def _checked(shown: str, name: str) -> str:
    try:
        name.encode()
        return check_file_name(name)
    except UnicodeEncodeError:
        raise InputError(shown, "its name is not UTF-8; give it another one with {name: path}") from None
    except ValueError as error:
        raise InputError(shown, str(error)) from None
