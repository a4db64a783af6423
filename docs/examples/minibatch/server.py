"""A small job runner with an HTTP API of its own: what a site may have, and hpcjobs knows nothing of.

Usage: ``python server.py PORT``. One user, four tasks at a time, nothing outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SLOTS = 4


class Runner:
    """Runs shell commands, some at a time."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._change = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Put a task in the line."""
        with self._change:
            number = len(self.tasks) + 1
            kept = {name: asked.get(name) for name in ("cmd", "label", "note", "env", "limit", "hold")}
            self.tasks[number] = {**kept, "task": number, "status": "queued", "created": time.time()}
            self._change.notify()
            return self.tasks[number]

    def kill(self, number: int) -> None:
        """End a task; one that waits never starts."""
        with self._change:
            task = self.tasks[number]
            if task["status"] == "queued":
                task.update(status="killed", ended=time.time())
            elif task["status"] == "active":
                task["kill"] = True
                self._signal(number, signal.SIGTERM)

    def output(self, number: int) -> bytes:
        """What it has written so far."""
        try:
            with open(self._output(number), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def close(self) -> None:
        """End everything."""
        for number in list(self._processes):
            self._signal(number, signal.SIGKILL)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait(0.05)
                now = time.time()
                for number, process in list(self._processes.items()):
                    self._look(number, process, now)
                for number, task in self.tasks.items():
                    if task["status"] == "queued" and not task["hold"] and len(self._processes) < SLOTS:
                        self._start(number, task, now)

    def _start(self, number: int, task: dict[str, Any], now: float) -> None:
        with open(self._output(number), "wb") as out:
            self._processes[number] = subprocess.Popen(
                ["sh", "-c", task["cmd"]],
                env={**os.environ, **(task["env"] or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        task.update(status="active", began=now)

    def _look(self, number: int, process: subprocess.Popen[bytes], now: float) -> None:
        task, code = self.tasks[number], process.poll()
        if code is None:
            if task["limit"] and now - task["began"] > task["limit"]:
                task["late"] = True
                self._signal(number, signal.SIGKILL)
            return
        del self._processes[number]
        status = "timeout" if task.get("late") else "killed" if task.get("kill") else "error" if code else "done"
        task.update(status=status, code=code, ended=now)

    def _signal(self, number: int, which: signal.Signals) -> None:
        os.killpg(self._processes[number].pid, which)

    def _output(self, number: int) -> str:
        return os.path.join(self._folder.name, str(number))


class Handler(BaseHTTPRequestHandler):
    """``POST /tasks``, ``GET /tasks?label=``, ``GET /tasks/N``, ``GET /tasks/N/output``, ``POST /tasks/N/kill``."""

    protocol_version = "HTTP/1.1"
    runner: Runner

    def do_GET(self) -> None:
        parts, runner = urlsplit(self.path), self.runner
        words = parts.path.strip("/").split("/")
        if words == ["tasks"]:
            wanted = {name: values[0] for name, values in parse_qs(parts.query).items()}
            found = [task for task in runner.tasks.values() if all(task[name] == wanted[name] for name in wanted)]
            self._say(200, found[::-1])
        elif (number := self._number(words)) is None:
            self._say(404, {"error": "no such task"})
        elif words[2:] == ["output"]:
            self._say(200, runner.output(number))
        else:
            self._say(200, runner.tasks[number])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        words = self.path.strip("/").split("/")
        if words == ["tasks"]:
            self._say(201, self.runner.add(json.loads(body)))
        elif (number := self._number(words)) is None or words[2:] != ["kill"]:
            self._say(404, {"error": "no such task"})
        else:
            self.runner.kill(number)
            self._say(202, self.runner.tasks[number])

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    def _number(self, words: list[str]) -> int | None:
        known = len(words) > 1 and words[0] == "tasks" and words[1].isdigit() and int(words[1]) in self.runner.tasks
        return int(words[1]) if known else None

    def _say(self, status: int, what: Any) -> None:
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(what, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(port: int) -> None:
    """Serve until SIGTERM."""
    Handler.runner = Runner()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(0.05)
    Handler.runner.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
