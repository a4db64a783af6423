"""One worker in the foreground: ``hpcjobs worker``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from hpcjobs_server.console import say
from hpcjobs_server.processes import LAUNCH, kill_tree
from hpcjobs_server.settings import PREFIX, Settings
from hpcjobs_server.waking import Signals

LAST_WORD = 10.0
"""Seconds within which a worker that was told to kill its jobs must have written down their end."""


def run_worker(settings: Settings) -> int:
    """Run a worker until it ends.

    The worker has a session of its own, so that a Ctrl-C in the terminal comes here: the first one drains it, the
    second one has it ask its jobs to stop, a third one has it kill them. If this process is killed, the worker drains.

    Args:
        settings: The worker's settings.

    Returns:
        The exit code.
    """
    environ = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    with Signals() as signals:
        child = subprocess.Popen(
            [
                *LAUNCH,
                "--with",
                str(os.getpid()),
                str(int(signal.SIGTERM)),
                sys.executable,
                "-m",
                "hpcjobs_server.worker",
            ],
            env={**environ, **settings.environ()},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        cores = settings.cores_per_worker
        gives = f"with {cores} core{'' if cores == 1 else 's'}"
        if settings.executor == "slurm":
            gives = f"for up to {settings.slurm_jobs} jobs in Slurm"
        say(f"A worker {gives} runs (process {child.pid}). Ctrl-C ends it.")
        orders = 0
        kill_at: float | None = None
        while child.poll() is None:
            for number in signals.wait(1.0):
                if number in {signal.SIGINT, signal.SIGQUIT}:
                    orders = max(orders + 1, 2 if number == signal.SIGQUIT else 1)
                elif number in {signal.SIGTERM, signal.SIGHUP}:
                    orders = max(orders, 1)
                else:
                    continue
                if orders == 1:
                    say("Stopping: the jobs that run may end; no other is started. Ctrl-C cancels them.")
                elif orders == 2:
                    say("The jobs are asked to stop, and killed after their grace time. Ctrl-C kills them now.")
                elif orders == 3:
                    say("Killing the jobs that run.")
                    kill_at = time.monotonic() + LAST_WORD
                if orders <= 2:
                    child.send_signal(signal.SIGTERM if orders == 1 else signal.SIGINT)
            if kill_at is not None and child.poll() is None:
                if time.monotonic() < kill_at:
                    child.send_signal(signal.SIGINT)  # each time: two that came at once were one for the worker
                else:
                    say("The worker does not end; it is killed with its jobs.")
                    kill_tree(child.pid)
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
