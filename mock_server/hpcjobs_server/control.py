"""A service from outside: start it in the background, say what runs, end it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from typing import Any, Literal

from hpcjobs_server import processes
from hpcjobs_server.datafolder import DataFolder, healthy
from hpcjobs_server.embedded import EmbeddedPostgres
from hpcjobs_server.processes import Child
from hpcjobs_server.settings import PREFIX, Settings
from hpcjobs_server.supervisor import DETACHED, TAKEN, Supervisor

START = 180.0
"""Seconds within which a service in the background must answer."""


MEETINGS = 10
"""How many supervisors that follow each other are ended before this is given up."""


class DetachError(Exception):
    """The service in the background did not come up; the message says why."""


@dataclasses.dataclass(frozen=True)
class Status:
    """What runs on a data folder.

    Attributes:
        state: ``running``; ``starting``; ``stopping``; ``left``: there is no supervisor, but something that it left;
            ``stopped``.
        url: The API's address, if it answers.
        data: The data folder.
        supervisor: The processes, by number.
        api: See `supervisor`.
        postgres: See `supervisor`; None also where the database is not ours.
        workers: See `supervisor`.
    """

    state: Literal["running", "starting", "stopping", "left", "stopped"]
    url: str | None
    data: str
    supervisor: int | None
    api: int | None
    postgres: int | None
    workers: list[int]

    @property
    def running(self) -> bool:
        """Whether there is a service that someone manages."""
        return self.state in {"running", "starting", "stopping"}

    def as_json(self) -> str:
        """All of it as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    def __str__(self) -> str:
        where = f"on {self.data}"
        if self.state == "stopped":
            return f"No service runs {where}."
        processes_ = {"supervisor": self.supervisor, "API": self.api, "Postgres": self.postgres}
        parts = [f"{name} {pid}" for name, pid in processes_.items() if pid is not None]
        parts += [f"worker {pid}" for pid in self.workers]
        listed = ", ".join(parts)
        if self.state == "left":
            return (
                f"The supervisor {where} was killed; there still are, by process number: {listed}. Adopt them with: "
                f"hpcjobs serve --data {self.data}; end them with: hpcjobs serve --stop --data {self.data}"
            )
        at = f" at {self.url}" if self.url else "; its API does not answer"
        return f"The service {where} is {self.state}{at}. Processes: {listed}."


def status(folder: DataFolder) -> Status:
    """What runs on a data folder; changes nothing.

    Args:
        folder: The data folder.
    """
    supervisor = folder.supervisor
    api = Child.find(folder.run / "api.json")
    records = [*sorted(folder.run.glob("worker-*.json")), *sorted(folder.run.glob("retired-*.json"))]
    workers = [child.pid for record in records if (child := Child.find(record)) is not None]
    postgres = EmbeddedPostgres(folder.path).pid
    url = folder.server(None if api is None else api.pid)
    if url is not None and (api is None or not healthy(url)):
        url = None
    if supervisor is not None:
        told = folder.announced.get("state")
        state: Any = told if told in {"running", "stopping"} else "starting"
    else:
        state = "left" if api is not None or workers or postgres is not None else "stopped"
    return Status(
        state=state,
        url=url,
        data=str(folder.path),
        supervisor=None if supervisor is None else supervisor.pid,
        api=None if api is None else api.pid,
        postgres=postgres,
        workers=workers,
    )


def detach(settings: Settings) -> str:
    """Start a service in the background, unless one runs, and wait until it answers.

    Args:
        settings: What is asked for; they do not change a service that runs.

    Returns:
        Its URL.

    Raises:
        DataError: The data folder cannot be used.
        DetachError: It did not come up.
    """
    folder = DataFolder(settings.data)
    folder.prepare()
    log = folder.logs / "serve.log"
    child: Child | None = None
    since = 0
    for _ in processes.pauses(START):
        if (supervisor := folder.supervisor) is not None:
            url = folder.server()
            if folder.announced.get("state") == "running" and url is not None and healthy(url):
                return url
        elif child is not None and not child.alive:
            # Two that were started at once: the other one has the folder, and is waited for.
            if child.exit_code != TAKEN:
                raise DetachError(f"the service did not start. {_said(log, since)}")
            child = None
        elif child is None and folder.lock():
            folder.unlock()  # nobody has it: ours will take it
            since = log.stat().st_size if log.exists() else 0
            child = _start(settings, folder)
        del supervisor
    if child is not None:
        child.send(signal.SIGTERM)
    raise DetachError(f"the service did not answer within {START:g} s. {_said(log, since)}")


def _start(settings: Settings, folder: DataFolder) -> Child:
    environ = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    asked = settings.model_copy(update={"data": folder.path}).environ()
    return Child.start(
        [sys.executable, "-m", "hpcjobs_server.supervisor"],
        log=folder.logs / "serve.log",
        env={**environ, **asked, DETACHED: "1"},
    )


def _said(log: Any, since: int) -> str:
    return f"Its log, {log}, ends:\n{processes.tail(log, since=since) or '(empty)'}"


def stop(settings: Settings, *, now: bool = False) -> bool:
    """End the service of a data folder and wait until nothing of it is left.

    Args:
        settings: They name the data folder.
        now: Whether jobs that run are asked to stop, instead of waited for.

    Returns:
        Whether there was anything to end.
    """
    folder = DataFolder(settings.data)
    found = False
    if not folder.run.is_dir():
        return found
    for _ in range(MEETINGS):
        if (supervisor := folder.supervisor) is not None:
            found = True
            supervisor.send(signal.SIGQUIT if now else signal.SIGTERM)
            while not supervisor.wait(60.0):
                pass  # jobs may run for days; whoever waits here ends it with Ctrl-C
        elif folder.lock(wait=5.0):  # one that has it has not said who it is yet
            try:
                if not _nothing_left(folder):
                    found = True
                    Supervisor(settings, messages=sys.stderr).finish(abort=now)
            finally:
                folder.unlock()
            break
    return found


def _nothing_left(folder: DataFolder) -> bool:
    return status(folder).state == "stopped"
