"""The result of a job: which file is fetched, how, and what is refused."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from typing import Any

import pytest

from hpcjobs import inside, results
from hpcjobs.errors import JobCancelled, JobFailed, JobNotFound, ResultError, ResultTooLarge
from hpcjobs.models import JobInfo
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://127.0.0.1:1")
FUNCTION: dict[str, Any] = {"command": ["python"], "function": {"name": "f", "result": "there/it/is"}}


def info(state: str = "FINISHED", **spec: Any) -> JobInfo:
    return JobInfo(id="7", state=state, spec=spec or FUNCTION)


def written(value: object, **fields: Any) -> bytes:
    file = io.BytesIO()
    inside.write_header(file, {"ended": "returned", "encoding": "pickle", "python": [3, 11, 1], **fields})
    pickle.dump(value, file)
    return file.getvalue()


def piece(data: bytes, start: int, end: int, total: int | None = None, etag: str = '"1"') -> Response:
    part = data[start:end]
    told = f"bytes {start}-{start + len(part) - 1}/{len(data) if total is None else total}"
    return Response(206, {"content-range": told, "etag": etag}, part)


def test_a_command_has_its_info_and_no_file_is_asked_for(script):
    job = info(command="true")
    assert script.play(results.result(SERVICE, job)).get() is job
    assert script.sent == []


def test_the_file_that_the_spec_names_is_fetched_in_pieces(script, monkeypatch):
    monkeypatch.setattr(results, "_SMALL", 40)
    monkeypatch.setattr(results, "_PIECE", 50)
    data = written(list(range(100)))
    answers = [piece(data, 0, 40), *(piece(data, start, start + 50) for start in range(40, len(data), 50))]
    assert script.play(results.result(SERVICE, info()), *answers).get() == list(range(100))
    assert {request.path for request in script.requests} == {"/v1/jobs/7/files/there/it/is"}


def test_a_job_from_a_list_is_asked_what_it_was(script, reply):
    """A list does not tell the spec."""
    whole = reply(200, {"id": "7", "state": "FINISHED", "spec": FUNCTION})
    data = written("x")
    bare = JobInfo(id="7", state="FINISHED")
    assert script.play(results.result(SERVICE, bare), whole, piece(data, 0, len(data))).get() == "x"


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda data: piece(data, 40, 90, etag='"2"'), "changes while it is fetched"),
        (lambda data: Response(416, {"content-range": f"bytes */{len(data)}"}, b""), "changes while|ends after"),
    ],
)
def test_half_a_file_is_an_error(script, monkeypatch, second, words):
    monkeypatch.setattr(results, "_SMALL", 40)
    data = written(list(range(100)))
    with pytest.raises(ResultError, match=words):
        script.play(results.result(SERVICE, info()), piece(data, 0, 40), second(data))


def test_what_needs_more_memory_than_is_free_is_refused_after_the_first_piece(script, monkeypatch):
    """Twice its size is needed: for the bytes and for what they become."""
    data = written(b"x")
    first = piece(data, 0, len(data), total=3_000_000)
    monkeypatch.setattr(results, "available_memory", lambda: 5_999_999)
    with pytest.raises(ResultTooLarge) as caught:
        script.play(results.result(SERVICE, info()), first)
    assert (caught.value.size, caught.value.available) == (3_000_000, 5_999_999)
    assert "job.download(\"folder\", 'there/it/is')" in str(caught.value)


def test_a_function_without_a_result_is_an_error(script, reply):
    with pytest.raises(ResultError, match="is not there"):
        script.play(results.result(SERVICE, info()), reply(404, {"code": "file_not_found", "detail": "no such file"}))
    with pytest.raises(ResultError, match="cannot be read"):
        script.play(results.result(SERVICE, info()), piece(b"no header\n", 0, 100))


def test_a_job_that_is_gone_is_told_as_such(script, reply):
    gone = reply(404, {"code": "job_not_found", "detail": "no such job"})
    with pytest.raises(JobNotFound):
        script.play(results.result(SERVICE, info()), gone)


@pytest.mark.parametrize("data", [None, written("x"), b"junk"])
def test_a_job_that_failed_without_an_error_of_the_function_is_told_with_its_log(script, reply, data):
    """It was killed, or its process failed after the function had returned."""
    missing = reply(404, {"code": "file_not_found", "detail": "no such file"})
    log = Response(200, {"hpcjobs-job-state": "FAILED", "hpcjobs-attempt": "1"}, b"Killed\n")
    file = missing if data is None else piece(data, 0, len(data))
    with pytest.raises(JobFailed, match="Killed"):
        script.play(results.result(SERVICE, info("FAILED")), file, log)


def test_a_cancelled_job_is_told_as_such_and_its_file_is_not_looked_at(script):
    log = Response(200, {"hpcjobs-job-state": "CANCELLED", "hpcjobs-attempt": "1"}, b"")
    with pytest.raises(JobCancelled):
        script.play(results.result(SERVICE, info("CANCELLED")), log)


def test_a_task_is_not_unpickled_whatever_the_file_says(script):
    data = written("x")
    with pytest.raises(ResultError, match="not expected"):
        script.play(results.result(SERVICE, info(task="fit")), piece(data, 0, len(data)))


def test_a_result_of_another_world_says_who_wrote_it(script):
    data = written("x")[:-3] + b"cno_such_module\nthing\n."
    with pytest.raises(ResultError, match=r"cannot be loaded here: .*Python 3.11.1 wrote it") as caught:
        script.play(results.result(SERVICE, info()), piece(data, 0, len(data)))
    assert caught.value.info.id == "7"


def test_the_memory_that_is_free_respects_the_limit_of_the_process():
    """As a batch system or ``ulimit -v`` sets it."""
    assert (results.available_memory() or 0) > 0
    code = (
        "import resource; from hpcjobs.results import available_memory\n"
        "limit = 4 << 30; resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "assert 0 < available_memory() < limit, available_memory()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
