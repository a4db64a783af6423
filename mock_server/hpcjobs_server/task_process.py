"""The process of a named task: ``python -I -m hpcjobs_server.task_process ORDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pydantic_core

from hpcjobs import inside
from hpcjobs_server import tasks
from hpcjobs_server.tasks import Task, TaskError, Tasks

inside.OWN_FILES.update({__file__, tasks.__file__})


def main(order_file: str) -> int:
    """Run a task and write its result as JSON; the exit code for the process."""
    order: dict[str, Any] = json.loads(Path(order_file).read_text(encoding="utf-8"))

    def work() -> Any:
        return _task(order).call(order["args"])

    return inside.finish(work, order["result"], _dump, encoding="json", errors=False)


def _task(order: dict[str, Any]) -> Task:
    task = Tasks.load(order["modules"], order["path"]).get(order["task"])
    if task is None:
        raise TaskError(f"this worker has no task {order['task']!r}; start it with the --tasks of the server")
    return task


def _dump(value: Any, file: BinaryIO) -> None:
    file.write(pydantic_core.to_json(value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
