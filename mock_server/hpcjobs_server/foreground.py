"""One worker in the foreground: ``hpcjobs worker``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from hpcjobs_server.console import say
from hpcjobs_server.processes import LAUNCH
from hpcjobs_server.settings import PREFIX, Settings
from hpcjobs_server.waking import Signals


def run_worker(settings: Settings) -> int:
    """Run a worker until it ends.

    The worker has a session of its own, so that a Ctrl-C in the terminal comes here: the first one drains it, the
    second one has it stop its jobs, a third one kills it. If this process is killed, the worker drains.

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
        say(f"A worker with {cores} core{'' if cores == 1 else 's'} runs (process {child.pid}). Ctrl-C ends it.")
        orders = 0
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
                    say("The jobs that run are asked to stop. Ctrl-C kills them now.")
                child.send_signal({1: signal.SIGTERM, 2: signal.SIGINT}.get(orders, signal.SIGKILL))
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
