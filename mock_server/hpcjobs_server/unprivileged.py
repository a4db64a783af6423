"""Run programs that refuse to run as root, or as a user without a name, without changing what is not ours.

Postgres is such a program. Three ways, the first that works is taken:

plain
    We are an ordinary user.
mapped
    In a user namespace, where we have another number. Files stay ours, so nothing has to be handed over.
dropped
    As another user, for kernels and containers that allow no user namespaces. Only root can do this, and what the
    program reads and writes must lie in a folder that this user can reach: see `folder_for`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcjobs_server.processes import LAUNCH

PLACES = (Path("/var/lib"), Path("/srv"), Path("/var/tmp"))  # noqa: S108 - only root makes a folder, and a new one
"""Where a folder that an unprivileged user can reach may lie."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""All that the program learns of our environment: no PGPORT that moves it, and no secret."""


class CannotRun(Exception):
    """There is no way to run such a program here; the message says why and what to do."""


@dataclass(frozen=True)
class Way:
    """How a program is run.

    Attributes:
        kind: One of the ways above.
        uid: The user that the program sees.
        gid: Its group.
    """

    kind: Literal["plain", "mapped", "dropped"]
    uid: int
    gid: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """What comes before the program on its command line."""
        return (*LAUNCH, "--map", str(self.uid), str(self.gid)) if self.kind == "mapped" else ()

    @property
    def user(self) -> int | None:
        """The user to change to, for `subprocess`."""
        return self.uid if self.kind == "dropped" else None

    @property
    def group(self) -> int | None:
        """The group to change to, for `subprocess`."""
        return self.gid if self.kind == "dropped" else None

    @property
    def extra_groups(self) -> list[int] | None:
        """The further groups to have, for `subprocess`."""
        return [] if self.kind == "dropped" else None

    def own(self, path: Path) -> None:
        """Hand a file or folder of ours to the program's user, where that is another.

        Args:
            path: The file or folder.
        """
        if self.kind == "dropped":
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def find_way(*, mapped: bool = True) -> Way:
    """How such a program can be run by this user.

    Args:
        mapped: Whether a user namespace may be used.

    Raises:
        CannotRun: It cannot.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and _has_name(uid):
        return Way("plain", uid, gid)
    other = _somebody()
    if mapped:
        way = Way("mapped", other.pw_uid, other.pw_gid)
        if can_run([], way):
            return way
    if uid == 0:
        return Way("dropped", other.pw_uid, other.pw_gid)
    raise CannotRun(
        f"Postgres cannot run as user number {uid}: it has no name in /etc/passwd, and this system allows no user "
        "namespaces. Run as a user that has a name, or use a Postgres of your own with --database-url"
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _somebody() -> pwd.struct_passwd:
    """A user who is not root: nobody, else the one with the highest number."""
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        others = [entry for entry in pwd.getpwall() if entry.pw_uid]
    if not others:
        raise CannotRun(
            "Postgres cannot run as root, and /etc/passwd names nobody else. "
            "Add a user, or use a Postgres of your own with --database-url"
        )
    return max(others, key=lambda entry: entry.pw_uid)


def private_folder(path: Path, *, mode: int = 0o700) -> bool:
    """Make a folder that is ours alone, or check that the one that is there is.

    Args:
        path: The folder; the one above must be there.
        mode: Its permissions.

    Returns:
        Whether it is ours: no link, of this user, with exactly these permissions.
    """
    try:
        path.mkdir(mode=mode)
        path.chmod(mode)  # whatever the umask is
    except FileExistsError:
        pass
    except OSError:
        return False
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == mode


def folder_for(way: Way, *, places: tuple[Path, ...] = PLACES) -> Path:
    """Make a folder that belongs to the program's user and that this user can reach.

    It has a name of its own each time, so that a new data folder never finds what an earlier one left.

    Args:
        way: How the program is run.
        places: Where it may lie.

    Raises:
        CannotRun: There is no such place.
    """
    for place in places:
        parent = place / f"hpcjobs-{secrets.token_hex(6)}"
        if can_enter(place, way) and private_folder(parent, mode=0o711):
            leaf = parent / "postgres"
            leaf.mkdir(mode=0o700)
            way.own(leaf)
            return leaf
    raise CannotRun(
        "no folder for Postgres that an unprivileged user can reach below "
        f"{', '.join(map(str, places))}. Run as an ordinary user, or use a Postgres of your own with --database-url"
    )


def can_enter(folder: Path, way: Way) -> bool:
    """Whether the program's user can enter a folder.

    Args:
        folder: The folder.
        way: How the program is run.
    """
    return can_run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], way)


def can_run(argv: Sequence[str], way: Way) -> bool:
    """Whether a program runs, and ends well within half a minute.

    Args:
        argv: The program, with its full path, and its arguments.
        way: How it is run.
    """
    try:
        return run(argv, way, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def run(argv: Sequence[str], way: Way, *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        argv: The program, with its full path, and its arguments.
        way: How it is run.
        timeout: Seconds after which it is killed.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It took too long.
    """
    return subprocess.run(
        [*way.prefix, *argv],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=dict(ENVIRONMENT),
        cwd="/",
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal is ours alone
        user=way.user,
        group=way.group,
        extra_groups=way.extra_groups,
    )
