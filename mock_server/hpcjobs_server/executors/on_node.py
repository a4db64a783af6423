"""The end of a job that a cluster runs, on its node: runs it under a shim, and writes down how it goes.

It has nothing but Python's standard library and the job's folder, which the node shares with the server. There

* ``order.json`` says what is run, as a worker says it to a local shim;
* ``claimed`` names the cluster's job that runs it: whoever else is started for the same attempt ends at once;
* ``status`` gets a line of JSON for each event, as a local worker hears them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from hpcjobs_server.executors.shim import Shim

ORDER, CLAIMED, STATUS = "order.json", "claimed", "status"
_PATIENCE = 20.0
"""Seconds until a file that was written before this was started is seen on every node."""
_NOT_FOR_JOBS = ("SLURM_EXPORT_ENV", "SLURM_GET_USER_ENV", "SLURM_JWT")
"""The first two are about this script: with them srun would keep the job's environment from its steps."""


def main(name: str) -> int:
    """Run the attempt whose folder this is; the exit code for the cluster."""
    folder, job = Path(name), os.environ.get("SLURM_JOB_ID", "")
    if not claim(folder, job):
        sys.stderr.write("another job of the cluster runs this attempt\n")
        return 0
    order = read_order(folder)
    order["env"] = environment(order, dict(os.environ))
    status = os.open(folder / STATUS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    shim = Shim(None, status)
    shim.say({"event": "node", "host": platform.node(), "job": job})
    shim.see_through(order)
    os.fsync(status)
    if shim.exit is None:
        return 127
    return os.WEXITSTATUS(shim.exit) if os.WIFEXITED(shim.exit) else 128 + os.WTERMSIG(shim.exit)


def claim(folder: Path, job: str) -> bool:
    """Whether this job of the cluster is the one that runs the attempt: the first to come here, on any node."""
    path = folder / CLAIMED
    mine = folder / f".{CLAIMED}-{job}-{platform.node()}-{os.getpid()}"
    mine.write_text(job, encoding="ascii")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)  # with its content, or not at all
    finally:
        mine.unlink()
    return path.read_text(encoding="ascii") == job


def read_order(folder: Path) -> dict[str, Any]:
    """What is to be run; a node may see it a little later than it was written."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            order: dict[str, Any] = json.loads((folder / ORDER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return order


def environment(order: dict[str, Any], node: dict[str, str]) -> dict[str, str]:
    """The job's environment: that of a login on the node, and what the order adds to it."""
    own: dict[str, str] = order["env"]
    env = {name: text for name, text in node.items() if name not in _NOT_FOR_JOBS}
    if "PATH" not in own:
        env["PATH"] = os.pathsep.join([order["front"], node.get("PATH") or os.defpath])
    if node.get("PYTHONPATH") and not order["python_path"]:
        own = {**own, "PYTHONPATH": os.pathsep.join([node["PYTHONPATH"], own["PYTHONPATH"]])}
    env.update(own)
    return env
