"""The data folder: whose it is, which service works in it, and the lock that lets only one do so."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import platform
import socket
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcjobs._version import __version__
from hpcjobs_server import processes
from hpcjobs_server.processes import Child

FORMAT = 1
"""What this version writes into a data folder; higher where an older version could not read it."""


class DataError(Exception):
    """The data folder cannot be used; the message says why and what to do."""


class DataFolder:
    """The data folder of one service.

    Args:
        path: Where it is; made absolute, without following links.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
        self.run = self.path / "run"
        self.logs = self.path / "log"
        self.token = self.path / "token"
        self._lock: int | None = None

    def prepare(self) -> None:
        """Make it, or check that it is one of ours and can be written to.

        Raises:
            DataError: It cannot be used.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.stat()
            mark = self.path / "format"
            known = mark.read_text(encoding="ascii", errors="replace").strip() if mark.exists() else ""
            others = [] if known else [item.name for item in self.path.iterdir() if item.name not in OURS | OF_THE_DEMO]
        except FileExistsError:
            raise DataError(
                f"{self.path} cannot be a data folder: it is a file, or below one. Choose a folder with --data"
            ) from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be a data folder: {error.strerror}. Choose one with --data") from error
        if found.st_uid != os.geteuid():
            raise DataError(
                f"{self.path} belongs to user number {found.st_uid}. Choose a folder of your own with --data"
            )
        if others:
            raise DataError(
                f"{self.path} is not a data folder of hpcjobs: it holds {_some(others)}. Choose a new one with --data"
            )
        if known and (not known.isdigit() or int(known) > FORMAT):
            raise DataError(
                f"{self.path} was written by a newer version of hpcjobs-server (format {known}; this version, "
                f"{__version__}, knows {FORMAT}). Upgrade hpcjobs-server, or choose another folder with --data"
            )
        try:
            if stat.S_IMODE(found.st_mode) & 0o077:
                self.path.chmod(0o700)  # it holds tokens and everybody's inputs
            for folder in (self.run, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            if not known:
                mark.write_text(f"{FORMAT}\n", encoding="ascii")
            if not os.access(self.run, os.W_OK):
                raise PermissionError(None, "it cannot be written to")
        except OSError as error:
            raise DataError(f"{self.path} cannot be used: {error.strerror}. Choose a folder with --data") from error

    # The one service that works in it

    def lock(self, *, wait: float = 0.0) -> bool:
        """Become the one that manages this folder's service, until `unlock` or the end of this process.

        Args:
            wait: Seconds to wait for it.

        Returns:
            Whether this is so now.
        """
        descriptor = os.open(self.run / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in processes.pauses(wait):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            self._lock = descriptor
            return True
        os.close(descriptor)
        return False

    def unlock(self) -> None:
        """Let another one manage it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def announce(self, state: str, *, port: int = 0) -> None:
        """Write down that this process manages the service.

        Args:
            state: ``starting``, ``running`` or ``stopping``.
            port: The API's port where it is known: the next API takes the same one.
        """
        me = {"pid": os.getpid(), "birth": processes.birth(os.getpid()), "host": platform.node()}
        processes.write_json(self._serve, {**me, "state": state, "port": port, "version": __version__})

    def retract(self) -> None:
        """Take back what `announce` wrote, and the API's address if it could not do that itself."""
        self._serve.unlink(missing_ok=True)
        told = processes.read_json(self.path / "server.json") or {}
        if not isinstance(told.get("pid"), int) or processes.birth(told["pid"]) is None:
            (self.path / "server.json").unlink(missing_ok=True)

    @property
    def _serve(self) -> Path:
        return self.run / "serve.json"

    @property
    def supervisor(self) -> Child | None:
        """The process that manages the service, if it runs on this host."""
        return Child.find(self._serve)

    @property
    def announced(self) -> dict[str, Any]:
        """What was announced last, also by one that was killed since."""
        return processes.read_json(self._serve) or {}

    def server(self, pid: int | None = None) -> str | None:
        """The API's URL, as it wrote it down when it answered.

        Args:
            pid: The process that it must be of.
        """
        told = processes.read_json(self.path / "server.json") or {}
        url = told.get("url")
        return url.rstrip("/") if isinstance(url, str) and (pid is None or told.get("pid") == pid) else None

    def taken(self) -> str:
        """One line that says who manages the service already."""
        known = self.announced
        where = "" if known.get("host") in {None, platform.node()} else f" on {known['host']}"
        url = self.server()
        at = f", at {url}" if url else ""
        who = f"process {known['pid']}{where}" if "pid" in known else "another process"
        doing = "is just being stopped" if known.get("state") == "stopping" else "already runs"
        return f"a service {doing} on {self.path}: {who}{at}. Stop it with: hpcjobs serve --stop --data {self.path}"


OURS = frozenset({"blobs", "format", "jobs", "log", "postgres", "run", "server.json", "token"})
OF_THE_DEMO = frozenset({"demo-serve.log", "this-folder-belongs-to-hpcjobs-demo"})
"""What a data folder may hold before it is marked as one: others may make some of it first."""


def healthy(url: str, *, timeout: float = 2.0) -> bool:
    """Whether the API at a URL answers.

    Args:
        url: Its address.
        timeout: Seconds.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def port_problem(host: str, port: int) -> str | None:
    """Why nothing can listen at an address; None where it can.

    Args:
        host: A name or an address of this host.
        port: The port; 0 for any.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror:
        return f"the host {host!r} is not known; give an address of this host with --host"
    except PermissionError:
        return f"this user may not listen on port {port}; choose one above 1023 with --port, or 0 for a free one"
    except OSError as error:
        return (
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0).lower()}; choose another --port, or 0"
        )
    return None


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
