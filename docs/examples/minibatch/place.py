"""MiniBatch as a place where the contract of all services is tried."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.places import Place, Spec
from tests.conformance.proxy import Seen

SERVER = Path(__file__).with_name("server.py")


class MiniBatchPlace(Place):
    """The real thing, started on a free port."""

    name = "MiniBatch"
    unknown_id = "999999"
    running_word = "active"

    def __init__(self) -> None:
        self._server = subprocess.Popen([sys.executable, str(SERVER), "0"], stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        super().__init__(self._server.stdout.readline().strip())

    def connection(self) -> tuple[str, dict[str, Any]]:
        return f"minibatch+{self.proxy.url}", {}

    def shell(self, command: str, **fields: Any) -> Spec:
        return {"command": command, **fields}

    def held(self) -> Spec:
        return self.shell("true", options={"hold": True})

    def too_long(self) -> Spec:
        return self.shell("sleep 600", walltime="1s")

    def submits(self, seen: Seen) -> bool:
        return (seen.method, seen.path) == ("POST", "/tasks")

    def cancels(self, seen: Seen) -> bool:
        return seen.path.endswith("/kill")

    def looks(self, seen: Seen) -> bool:
        return seen.method == "GET" and seen.path.startswith("/tasks/")

    def close(self) -> None:
        super().close()
        self._server.terminate()
        self._server.wait(10)
        assert self._server.stdout is not None
        self._server.stdout.close()
