"""Become another program, after preparations that must happen in the new process itself.

Run as ``python -I -S launch.py [--record FILE FACTS] [--map UID GID] [--with PID SIGNAL] [PROGRAM ARGUMENT...]``.

``--record`` writes the file that says which process this is before the program starts, so that a starter which dies
at that very moment leaves no process behind that nobody knows. ``--map`` enters a user namespace in which this user
has another number; nothing else changes, files and signals are as before. ``--with`` has the system send a signal when
the starter, PID, dies. Without a program it only tries.

It imports the standard library only and takes a few milliseconds.
"""

from __future__ import annotations

import json
import os
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
REFUSED = 126
"""The exit code where the kernel allows no user namespace."""


def birth(pid: int) -> str:
    """What tells a process from an earlier or later one with the same number, also after a reboot.

    Args:
        pid: A process of this host.

    Returns:
        The start of this boot and of the process, or ``""`` where the system does not say.

    Raises:
        OSError: There is no such process.
    """
    if not os.path.exists("/proc/sys/kernel/random/boot_id"):  # noqa: PTH110 - pathlib would double the start-up time
        return ""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:  # noqa: PTH123
        boot_id = boot.read().strip()
    with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123
        # The second field is the name in parentheses and may hold anything; the start is the 22nd.
        ticks = stat.read().rpartition(b")")[2].split()[19].decode("ascii")
    return f"{boot_id}:{ticks}"


def record(path: str, facts: dict[str, object]) -> None:
    """Write who this process is, atomically and readable by its owner only.

    Args:
        path: The file.
        facts: What else to write down.
    """
    temporary = f"{path}.{os.getpid()}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({**facts, "pid": os.getpid(), "birth": birth(os.getpid())}, file)
    os.replace(temporary, path)  # noqa: PTH105


def enter_namespace(uid: int, gid: int) -> None:
    """Enter a user namespace in which the present user and group have these numbers.

    Args:
        uid: The user's number inside.
        gid: The group's number inside.

    Raises:
        OSError: The kernel refuses.
    """
    import ctypes

    outside = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise OSError("this system has no user namespaces")
    if libc.unshare(CLONE_NEWUSER):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # Without the first the kernel lets nobody but the outer root map a group.
    maps = {"setgroups": "deny", "uid_map": f"{uid} {outside[0]} 1", "gid_map": f"{gid} {outside[1]} 1"}
    for name, text in maps.items():
        with open(f"/proc/self/{name}", "wb", buffering=0) as file:  # noqa: PTH123 - no codec can be imported any more
            file.write(text.encode())


def die_with(parent: int, number: int) -> None:
    """Have a signal sent to this process when its parent dies, where the system can do that.

    Args:
        parent: The parent's number.
        number: The signal.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before it could be watched
            os.kill(os.getpid(), number)


def main(arguments: list[str]) -> None:
    """Prepare this process, then become the program."""
    while arguments and arguments[0].startswith("--"):
        option, first, second, *arguments = arguments
        if option == "--record":
            record(first, json.loads(second))
        elif option == "--map":
            try:
                enter_namespace(int(first), int(second))
            except OSError as error:
                sys.stderr.write(f"no user namespace: {error}\n")
                sys.exit(REFUSED)
        elif option == "--with":
            die_with(int(first), int(second))
        else:
            sys.exit(f"unknown option {option}")
    if arguments:
        os.execv(arguments[0], arguments)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
