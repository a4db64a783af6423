"""What slurmrestd says, small: its answers and its records of jobs, in the shape of each version."""

from __future__ import annotations

import json
from typing import Any

from hpcjobs.protocol import Response
from hpcjobs.services.slurm import SlurmService
from hpcjobs.services.slurm_requests import Defaults

VERSIONS = (38, 40, 42, 45)
DEFAULTS = Defaults(user="me", folder="/data")
PLAIN_404 = Response(404, {"content-type": "text/plain"}, b"Not found")


def slurm(version: int | None = 42, **options: Any) -> SlurmService:
    options = {"token": "e30.e30.c2ln", "username": "me", "folder": "/data", **options}
    return SlurmService("slurm+http://head:6820", api=version, **options)


def said(body: dict[str, Any], status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps({"errors": [], **body}).encode())


def no(number: int, status: int = 500, text: str = "no") -> Response:
    error = {"error_number": number, "description": text, "error": text, "source": "slurmctld"}
    return said({"errors": [error]}, status)


def amount(version: int, number: int | None) -> Any:
    """A number, or None for one that is unset."""
    if version < 40:
        return number
    return {"set": number is not None, "infinite": False, "number": number or 0}


def exited(version: int, code: int = 0, *, by: int = 0) -> Any:
    """How a command ended: with a code, or by a signal."""
    if version < 40:
        return code << 8 | by
    status = "SIGNALED" if by else "ERROR" if code else "SUCCESS"
    signal = {"id": amount(version, by or None), "name": ""}
    return {"status": [status], "return_code": amount(version, None if by else code), "signal": signal}


def record(*words: str, version: int = 42, number: int = 17, **more: Any) -> dict[str, Any]:
    """A job as a version tells of it."""
    job: dict[str, Any] = {
        "job_id": number,
        "job_state": words[0] if version < 40 else list(words),
        "name": "fit",
        "user_name": "me",
        "partition": "debug",
        "state_reason": "None",
        "comment": "",
        "current_working_directory": "/data",
        "submit_time": amount(version, 1_767_000_000),
        "start_time": amount(version, 1_767_000_100),
        "end_time": amount(version, 1_767_000_200),
        "exit_code": exited(version),
        "array_job_id": amount(version, 0),
        "array_task_id": amount(version, None),
        "array_task_string": "",
        "priority": amount(version, 1),
        "nodes": "n1",
    }
    return job | more
