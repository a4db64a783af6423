"""Finds the processes that a test has left behind, however far they have moved away from it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable

import psutil


def running() -> set[int]:
    """The ids of all processes; cheap enough for every test."""
    return set(psutil.pids())


def _belongs(process: psutil.Process, roots: Iterable[str], known: set[int]) -> bool:
    """Whether ``process`` comes from this test run: a descendant of it, or one that names a folder of it."""
    ancestor = process.parent()
    while ancestor is not None and ancestor.pid not in {1, os.getpid()}:
        if ancestor.pid in known:
            return False  # of something that lives longer than this test, or of another program altogether
        ancestor = ancestor.parent()
    if ancestor is not None and ancestor.pid == os.getpid():
        return True
    return _names(process, roots)


def _names(process: psutil.Process, folders: Iterable[str]) -> bool:
    """Whether the folder, the command line or the environment of ``process`` names one of ``folders``."""
    told = [process.cwd(), *process.cmdline(), *process.environ().values()]
    return any(folder in text for folder in folders for text in told)


def find(before: set[int], *, roots: Iterable[str], long_lived: Iterable[str] = ()) -> list[psutil.Process]:
    """The processes of this test run that were not there ``before``.

    Args:
        before: The process ids at the start of the test.
        roots: Folders of this run; a process that names one of them belongs to it, also after it was orphaned.
        long_lived: Folders of what lives longer than one test.
    """
    found = []
    for pid in running() - before:
        # A process that goes away while it is looked at is not left behind; one of another user is not ours.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            # what gives itself another title hides its environment, but not whose child it is
            line = [process, *itertools.takewhile(lambda one: one.pid not in {1, os.getpid()}, process.parents())]
            if _belongs(process, roots, before) and not any(_names(one, long_lived) for one in line):
                found.append(process)
    return found


def describe(process: psutil.Process) -> str:
    """One line about a process."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid} (gone)"


def remove(processes: Iterable[psutil.Process]) -> None:
    """Kill ``processes`` and wait until they are gone."""
    victims = list(processes)
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(victims, timeout=5)
