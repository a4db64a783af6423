"""MiniBatch for hpcjobs: a service in a hundred lines. Copy it, and put your API's words in place of these."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcjobs.errors import InvalidSpec, JobNotFound, NotFound, Unsupported
from hpcjobs.lifecycle import JobState, to_state
from hpcjobs.models import CancelOutcome, CancelResult, Capabilities, JobFilter, JobInfo, JobPage, JobSpec
from hpcjobs.protocol import Op, Request, each
from hpcjobs.services.answers import unexpected
from hpcjobs.services.base import LogChunk, Service

# 1. Its words, and what they mean. A word that is missing here is shown as UNKNOWN, and is no end.
WORDS: Mapping[str, JobState] = {
    "queued": JobState.QUEUED,
    "active": JobState.RUNNING,
    "done": JobState.FINISHED,
    "error": JobState.FAILED,
    "timeout": JobState.FAILED,
    "killed": JobState.CANCELLED,
}


class MiniBatch(Service):
    """MiniBatch.

    Args:
        url: ``minibatch+http://host:port``.
        token: It has none; what is given is not used.
    """

    name = "MiniBatch"

    # 2. What it can do. What is not said here is refused, with advice, by the base class.
    capabilities = Capabilities.model_construct(logs=True, find_within=2.0, min_poll=0.2)

    def __init__(self, url: str, *, token: str | Callable[[], str] | None = None) -> None:
        self.base_url = url.removeprefix("minibatch+").rstrip("/")

    # 3. Asking for a job: in `note` there is room for our key. `repeatable=False`: sent twice it would be two jobs.
    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; ``key`` travels with it, so that it can be found again after a lost answer."""
        return self._info(
            (yield from self._ask(Request("POST", "/tasks", json=self._asked(spec, key), repeatable=False)))
        )

    def _asked(self, spec: JobSpec, key: str) -> dict[str, Any]:
        # What has no place is refused: nothing that was asked for is dropped without a word.
        possible = {"command", "name", "env", "resources", "tags", "options"}
        if extra := sorted({*spec.explicit.keys() - possible, *spec.resources.model_fields_set - {"walltime"}}):
            raise InvalidSpec([(field, "MiniBatch has no place for it; leave it out") for field in extra])
        if not isinstance(spec.command, str):
            raise InvalidSpec([("command", "MiniBatch runs shell commands; give one as a string")])
        limit = spec.resources.walltime
        note = json.dumps({"key": key, "tags": spec.tags})
        said = {"cmd": spec.command, "label": spec.name, "note": note, "env": spec.env}
        return {**said, "limit": limit.total_seconds() if limit else None, **spec.options}

    # 4. Finding it by that key, and looking at it.
    def find(self, key: str) -> Op[JobInfo | None]:
        """The job that was made with a submission key, or None."""
        for task in (yield from self._ask(Request("GET", "/tasks"))):
            if _noted(task).get("key") == key:
                return self._info(task)
        return None

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job."""
        return self._info((yield from self._ask(Request("GET", self._at(job_id)))))

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:
        """A page of the jobs that ``filter`` means, newest first; the API has no pages, so they are cut here."""
        tasks = yield from self._ask(Request("GET", "/tasks"))
        infos = [info for info in map(self._info, tasks) if filter.matches(info)]
        start = int(cursor or 0)
        end = start + limit
        return JobPage(items=infos[start:end], next=str(end) if end < len(infos) else None)

    # 5. Cancelling. It answers before the task is gone, so this is a request, until the state says otherwise.
    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:
        """Ask that jobs stop."""
        if not abort:
            raise Unsupported(self.name, "leave a started job alone", "look at its state, and cancel it or not")
        return (yield from each(self._cancel(job_id, reason) for job_id in ids))

    def _cancel(self, job_id: str, reason: str | None) -> Op[CancelResult]:
        told: dict[str, Any] = {"job_id": job_id, "reason": reason, "reason_kept": reason is None}
        try:
            task = yield from self._ask(Request("POST", f"{self._at(job_id)}/kill", repeatable=True))
        except JobNotFound:
            return CancelResult(outcome=CancelOutcome.NOT_FOUND, **told)
        after = to_state(task["status"], WORDS)
        outcome = {
            JobState.CANCELLED: CancelOutcome.CANCELLED,
            JobState.FINISHED: CancelOutcome.ALREADY_TERMINAL,
            JobState.FAILED: CancelOutcome.ALREADY_TERMINAL,
        }.get(after, CancelOutcome.CANCEL_REQUESTED)
        return CancelResult(outcome=outcome, after=after, **told)

    # 6. What it wrote. The state is read first: where it is an end, the output is whole.
    def log(
        self,
        job_id: str,
        stream: str,
        *,
        offset: int,
        wait: float = 0.0,
        length: int | None = None,
    ) -> Op[LogChunk]:
        """A piece of its output."""
        info = yield from self.get(job_id)
        response = yield from self.sent(Request("GET", f"{self._at(job_id)}/output"))
        data = response.content[offset:][:length]
        return LogChunk(data, offset, len(response.content), info.state, info.attempt)

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        """The last bytes of its output."""
        whole = yield from self.log(job_id, stream, offset=0)
        start = max(0, whole.total - size)
        return LogChunk(whole.data[start:], start, whole.total, whole.state, whole.attempt)

    # 7. Its answers in our words: errors typed, times with a zone, ids as text.
    def _ask(self, request: Request) -> Op[Any]:
        try:
            response = yield from self.sent(request)
        except NotFound:
            if request.path.startswith("/tasks/"):
                raise JobNotFound(f"there is no task {request.path.split('/')[2]}", status=404) from None
            raise
        try:
            return json.loads(response.content)
        except ValueError:
            raise unexpected(response, method=request.method, url=self.base_url + request.path) from None

    def _info(self, task: Mapping[str, Any]) -> JobInfo:
        word, code = task["status"], task.get("code")
        why = {"error": f"exit code {code}", "timeout": "ran longer than its time limit"}.get(word)
        return JobInfo(
            id=str(task["task"]),
            state=to_state(word, WORDS),
            native_state=word,
            name=task["label"],
            tags=_noted(task).get("tags") or [],
            reason=why,
            exit_code=code if code is None or code >= 0 else None,
            attempt=int("began" in task),
            created_at=_time(task.get("created")),
            started_at=_time(task.get("began")),
            finished_at=_time(task.get("ended")),
        )

    def _at(self, job_id: str) -> str:
        if not job_id.isdigit():
            raise JobNotFound(f"there is no job {job_id!r}: an id of MiniBatch is a number", status=404)
        return f"/tasks/{job_id}"


def _noted(task: Mapping[str, Any]) -> dict[str, Any]:
    try:
        note = json.loads(task["note"] or "{}")
    except ValueError:  # someone else's
        return {}
    return note if isinstance(note, dict) else {}


def _time(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
