"""Looks into folders for input files: all that is below one, or what a pattern means."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hpcjobs.errors import InputError

SKIPPED = frozenset({
    ".DS_Store",
    ".git",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".venv",
    "__pycache__",
})  # fmt: skip
"""What no folder and no pattern brings along: version control, caches, environments. Named itself, it is taken."""

MOST_ENTRIES = 1_000_000
"""Most entries of folders that are looked at for one input."""

_TWICE = ("**", "**")
"""Means what one of them does, and takes far longer."""

_Mark = tuple[int, int]


class _Bound:
    """Ends a walk that would not end by itself in a reasonable time."""

    def __init__(self, shown: str) -> None:
        self._shown, self._left = shown, MOST_ENTRIES

    def look(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder by name, without what is skipped."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(self._shown, why_unreadable(error, folder)) from None
        self._left -= len(found)
        if self._left < 0:
            raise InputError(self._shown, f"means looking at more than {MOST_ENTRIES:,} files; name fewer folders")
        return [entry for entry in found if not _skipped(entry.name)]


def below(top: Path, shown: str) -> Iterator[tuple[PurePosixPath, Path]]:
    """Every file below a folder, hidden ones included; empty folders are nothing.

    Args:
        top: The folder.
        shown: What the caller called it, for messages.

    Yields:
        The name relative to the folder, and the path. It may be a file of any kind.

    Raises:
        InputError: A folder cannot be read, or a link leads out of ``top`` or round in a circle.
    """
    bound = _Bound(shown)
    home = os.path.realpath(top)
    todo: list[tuple[PurePosixPath, Path, tuple[_Mark, ...]]] = [(PurePosixPath(), top, (_mark(top),))]
    while todo:
        inside, folder, line = todo.pop()
        deeper: list[tuple[PurePosixPath, Path, tuple[_Mark, ...]]] = []
        for entry in bound.look(folder):
            path = folder / entry.name
            if entry.is_symlink():
                _check_link(path, home)
            if not is_folder(path):
                yield inside / entry.name, path
                continue
            mark = _mark(path)
            if mark in line:
                raise InputError(str(path), "is a link that leads round in a circle; remove it, or name the files")
            deeper.append((inside / entry.name, path, (*line, mark)))
        todo += reversed(deeper)


def has_pattern(path: Path) -> bool:
    """Whether a path has a character in it that stands for others."""
    return any(char in str(path) for char in "*?[")


def matching(pattern: Path) -> tuple[Path, Iterator[PurePosixPath]]:
    """What a pattern means: ``*``, ``?`` and ``[...]`` as in a shell, ``**`` for any folders or none.

    A name that begins with a dot is meant only by a part that does so too. ``**`` follows no links.

    Args:
        pattern: The pattern.

    Returns:
        The folder up to the first part that is a pattern, and the names below it: of files, and of folders.

    Raises:
        InputError: A folder cannot be read.
    """
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if has_pattern(Path(part)))
    rest = [part for before, part in zip(("", *parts[fixed:]), parts[fixed:], strict=False) if (before, part) != _TWICE]
    base = Path(*parts[:fixed])
    return base, _match(base, PurePosixPath(), rest, _Bound(str(pattern)))


def _match(folder: Path, inside: PurePosixPath, parts: Sequence[str], bound: _Bound) -> Iterator[PurePosixPath]:
    part, rest = parts[0], parts[1:]
    if not is_folder(folder):
        return
    if not has_pattern(Path(part)):
        if rest:
            yield from _match(folder / part, inside / part, rest, bound)
        elif os.path.lexists(folder / part):
            yield inside / part
        return
    if part == "**" and rest:  # no folder at all
        yield from _match(folder, inside, rest, bound)
    for entry in bound.look(folder):
        name = entry.name
        if name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            if entry.is_dir(follow_symlinks=False):
                yield from _match(folder / name, inside / name, parts, bound)
            elif not rest and not is_folder(folder / name):
                yield inside / name
        elif fnmatch.fnmatchcase(name, part):
            if rest:
                yield from _match(folder / name, inside / name, rest, bound)
            else:
                yield inside / name


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False where that cannot be known."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def why_unreadable(error: OSError, path: Path) -> str:
    """Why a file or folder cannot be an input, in words."""
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


def _skipped(name: str) -> bool:
    return name in SKIPPED or (name.startswith(".hpcjobs-") and name.endswith(".part"))


def _mark(path: Path) -> _Mark:
    try:
        facts = path.stat()
    except OSError as error:
        raise InputError(str(path), why_unreadable(error, path)) from None
    return facts.st_dev, facts.st_ino


def _check_link(path: Path, home: str) -> None:
    target = os.path.realpath(path)
    if os.path.lexists(target) and os.path.commonpath([home, target]) != home:
        raise InputError(
            str(path), f"is a link that leaves the folder, to {target}; send that by its own name, with {{name: path}}"
        )
