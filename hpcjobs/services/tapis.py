"""Tapis v3: jobs on the systems of TACC, DesignSafe and others.

What is said of the protocol is from the OpenAPI document of Tapis Jobs 1.9.1, from the documentation
(https://tapis.readthedocs.io/en/latest/technical/jobs.html) and from the server's source, release 1.7.1.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hpcjobs.actions import DeleteOutcome, DeleteResult, RetryOutcome, RetryResult
from hpcjobs.errors import (
    AuthenticationError,
    Conflict,
    InvalidRequest,
    InvalidSpec,
    JobNotFound,
    NotFound,
    PermissionDenied,
    ServiceError,
    ServiceUnavailable,
)
from hpcjobs.lifecycle import TAPIS_WORDS, to_state
from hpcjobs.models import CancelOutcome, CancelResult, Capabilities, JobFilter, JobInfo, JobPage, JobSpec, OutputFile
from hpcjobs.protocol import Op, Request, Response, call
from hpcjobs.records import Change, History
from hpcjobs.services.answers import error_of, unexpected
from hpcjobs.services.base import Service
from hpcjobs.tapis_data import UUID, reason_of

KEY_TAG = "hpcjobs-key:"
"""How the tag begins that a submission key travels in: Tapis has no place of its own for one."""

UNKNOWN_JOB = ("JOBS_JOB_NOT_FOUND", "JOBS_JOB_SELECT_UUID_ERROR", "JOBS_JOBRESUBMIT_NOT_FOUND")
"""What a message names where there is no such job, whatever the status: 400, 404 and 500 occur."""

FOREIGN_JOB = ("JOBS_MISMATCHED_OWNER", "JOBS_MISMATCHED_TENANT")
"""What a message names where the job is another's: with 401, which elsewhere means that the token is no good."""

PAGE = 1000


class TapisService(Service):
    """One tenant of Tapis.

    Args:
        url: ``tapis+https://TENANT.tapis.io``.
        token: The token (a JWT), or what returns one: called again when Tapis says that it is no longer good.
    """

    name = "Tapis"
    capabilities = Capabilities.model_construct(
        cancel_can_be_lost=True,
        history=True,
        retry=True,
        delete=True,
        min_poll=2.0,
    )

    def __init__(self, url: str, *, token: str | Callable[[], str] | None = None) -> None:
        self.base_url = url.removeprefix("tapis+").rstrip("/")
        self._token = token

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """
        return info_of((yield from self._result(Request("GET", self._at(job_id)))))

    def find(self, key: str) -> Op[JobInfo | None]:
        """The job that carries a submission key among its tags."""
        params = [("tags.contains", KEY_TAG + key), ("select", "allAttributes"), ("limit", "1")]
        found = yield from self._result(Request("GET", "/v3/jobs/search", params=params))
        return info_of(found[0]) if found else None

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of the jobs that ``filter`` means, newest first."""
        skip = int(cursor or 0)
        params = [("limit", str(limit)), ("skip", str(skip)), ("orderBy", "created(desc)")]
        params += [("select", "allAttributes"), *_conditions(filter)]
        found = yield from self._result(Request("GET", "/v3/jobs/search", params=params))
        more = str(skip + len(found)) if len(found) == limit else None
        return JobPage(items=[info_of(job) for job in found], next=more)

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:  # noqa: ARG002
        """Ask that jobs stop, one by one. That Tapis has taken a request says nothing of the job."""
        results = []
        for job_id in ids:
            results.append((yield from self._cancel(job_id, reason)))  # noqa: PERF401 - no yield in a comprehension
        return results

    def _cancel(self, job_id: str, reason: str | None) -> Op[CancelResult]:
        told: dict[str, Any] = {"job_id": job_id, "reason": reason, "reason_kept": reason is None}
        try:
            yield from self._result(Request("POST", f"{self._at(job_id)}/cancel", repeatable=True))
        except JobNotFound:
            return CancelResult(outcome=CancelOutcome.NOT_FOUND, **told)
        except Conflict:  # it has ended: how, is asked
            state = (yield from self.get(job_id)).state
            return CancelResult(outcome=CancelOutcome.ALREADY_TERMINAL, before=state, after=state, **told)
        return CancelResult(outcome=CancelOutcome.CANCEL_REQUESTED, **told)

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Submit what has ended once more: each runs as a new job."""
        results = []
        for job_id in ids:
            results.append((yield from self._retry(job_id)))  # noqa: PERF401 - no yield in a comprehension
        return results

    def _retry(self, job_id: str) -> Op[RetryResult]:
        try:
            before = (yield from self.get(job_id)).state
            if not before.terminal:
                return RetryResult(job_id=job_id, outcome=RetryOutcome.STILL_RUNNING, before=before, after=before)
            new = yield from self._result(Request("POST", f"{self._at(job_id)}/resubmit", repeatable=False))
        except JobNotFound:
            return RetryResult(job_id=job_id, outcome=RetryOutcome.NOT_FOUND)
        after = to_state(new["status"], TAPIS_WORDS)
        return RetryResult(job_id=job_id, outcome=RetryOutcome.RETRIED, before=before, after=after, new_id=new["uuid"])

    def delete(self, ids: Sequence[str]) -> Op[list[DeleteResult]]:
        """Hide jobs: Tapis forgets none."""
        results = []
        for job_id in ids:
            results.append((yield from self._hide(job_id)))  # noqa: PERF401 - no yield in a comprehension
        return results

    def _hide(self, job_id: str) -> Op[DeleteResult]:
        try:
            yield from self._result(Request("POST", f"{self._at(job_id)}/hide", repeatable=True))
        except JobNotFound:
            return DeleteResult(job_id=job_id, outcome=DeleteOutcome.NOT_FOUND)
        except Conflict:
            return DeleteResult(
                job_id=job_id, outcome=DeleteOutcome.STILL_RUNNING, before=(yield from self.get(job_id)).state
            )
        return DeleteResult(job_id=job_id, outcome=DeleteOutcome.DELETED)

    def history(self, job_id: str) -> Op[History]:
        """What Tapis has written down about a job."""
        items: list[Any] = []
        while True:
            params = [("limit", str(PAGE)), ("skip", str(len(items)))]
            some = yield from self._result(Request("GET", f"{self._at(job_id)}/history", params=params))
            items += some
            if len(some) < PAGE:
                break
        return History(changes=[change for item in items if (change := _change(item)) is not None])

    def files(self, job_id: str) -> Op[list[OutputFile]]:
        """The outputs, also while the job runs; folders are walked through."""
        found: list[OutputFile] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            skip = 0
            while True:
                params = [("limit", str(PAGE)), ("skip", str(skip)), ("allowIfRunning", "true")]
                path = f"{self._at(job_id)}/output/list/{quote(folder, safe='/')}"
                some = yield from self._result(Request("GET", path, params=params))
                for item in some:
                    where = f"{folder}/{item['name']}".lstrip("/")
                    if item.get("type") == "dir":
                        folders.append(where)
                    elif item.get("type") == "file":
                        found.append(OutputFile(path=where, size=item["size"], modified_at=_time(item["lastModified"])))
                skip += len(some)
                if len(some) < PAGE:
                    break
        return sorted(found, key=lambda file: file.path)

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; the key travels as a tag, by which it is found again after a lost answer."""
        body = request_of(spec, key)
        return info_of((yield from self._result(Request("POST", "/v3/jobs/submit", json=body, repeatable=False))))

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer: by its status, then by the code that begins its message."""
        text = response.text()
        envelope = _json(response)
        message = envelope.get("message") if isinstance(envelope, dict) else text
        url = self.base_url + request.path
        if not isinstance(message, str) or "html" in response.headers.get("content-type", ""):
            return error_of(response, method=request.method, url=url)
        code, status = message.partition(" ")[0], response.status
        kind: type[ServiceError]
        if any(word in message for word in UNKNOWN_JOB) or (status == 404 and "JOBS_JOB" in code):
            kind = JobNotFound
        elif any(word in message for word in FOREIGN_JOB):
            kind = PermissionDenied
        else:
            kinds = {401: AuthenticationError, 403: PermissionDenied, 404: NotFound, 409: Conflict}
            kind = kinds.get(status, ServiceUnavailable if status >= 500 else InvalidRequest)
        error = kind(message, status=status, code=code, body=envelope if isinstance(envelope, dict) else None)
        error.tries = response.tries
        error.may_have_acted = response.lost
        return error

    def _result(self, request: Request) -> Op[Any]:
        response = yield from call(request)
        if not response.ok:
            raise self.error_of(request, response)
        envelope = _json(response)
        if not isinstance(envelope, dict) or "result" not in envelope:
            raise unexpected(response, method=request.method, url=self.base_url + request.path, why="no result")
        return envelope["result"]

    def _at(self, job_id: str) -> str:
        if not UUID.fullmatch(job_id):
            raise JobNotFound(f"there is no job {job_id!r}: an id of Tapis is a UUID that ends in -007", status=404)
        return f"/v3/jobs/{job_id}"


def request_of(spec: JobSpec, key: str) -> dict[str, Any]:
    """What Tapis is asked for.

    The fields of ``options`` are Tapis's own and travel as they are; what the spec says beside them is put into Tapis's
    words, and added to the lists among them.

    Raises:
        InvalidSpec: What is asked for has no place in Tapis, or says the same twice.

    Example:
        >>> spec = JobSpec(app="opensees", app_version="3.6.0", resources={"cores": 4, "walltime": "2h"})
        >>> request_of(spec, "k")["maxMinutes"]
        120
    """
    given = dict(spec.options)
    system, allocation = given.pop("system", None), given.pop("allocation", None)
    problems = [
        (name, f"Tapis has no place for it; {instead}")
        for name, instead in _NO_PLACE.items()
        if name in spec.model_fields_set
        and getattr(spec, name) != JobSpec.model_fields[name].get_default(call_default_factory=True)
    ]
    if spec.app is None:
        problems.append(("app", "Tapis runs apps only; give app= and app_version="))
    elif spec.app_version is None:
        problems.append(("app_version", "Tapis runs no app without a version"))
    said: dict[str, Any] = {"name": spec.name or spec.app, "appId": spec.app, "appVersion": spec.app_version}
    said["tags"] = [*spec.tags, KEY_TAG + key]
    if system is not None:
        said["execSystemId"] = system
    if spec.queue != "default":
        said["execSystemLogicalQueue"] = spec.queue
    if "cores" in spec.resources.model_fields_set:
        said["coresPerNode"] = spec.resources.cores
    if spec.resources.memory is not None:
        said["memoryMB"] = max(1, -(-spec.resources.memory // 1_000_000))
    if spec.resources.walltime is not None:
        said["maxMinutes"] = max(1, math.ceil(spec.resources.walltime.total_seconds() / 60))
    if spec.meta:
        said["notes"] = spec.meta
    problems += [
        (name, "is given in Tapis's word and in ours; give one of them")
        for name in given.keys() & said.keys() - {"tags"}
    ]
    if problems:
        raise InvalidSpec(problems)
    parameters = dict(given.pop("parameterSet", None) or {})
    for field, more in (
        ("appArgs", [{"name": name, "arg": str(value)} for name, value in (spec.args or {}).items()]),
        ("envVariables", [{"key": name, "value": value} for name, value in spec.env.items()]),
        ("schedulerOptions", [{"name": "allocation", "arg": f"-A {allocation}"}] if allocation else []),
    ):
        if more:
            parameters[field] = [*parameters.get(field, ()), *more]
    if parameters:
        said["parameterSet"] = parameters
    said["tags"] = [*given.pop("tags", ()), *said["tags"]]
    return {**given, **said}


_NO_PLACE = {
    "command": "make an app of it, or use one that takes a script",
    "task": "give app=",
    "inputs": 'give options={"fileInputs": [{"sourceUrl": ..., "targetPath": ...}]}',
    "priority": "leave it out",
    "max_attempts": "leave it out and retry() it",
    "backoff": "leave it out",
    "retry_on": "leave it out",
    "after": "wait for the other job, then submit",
    "start_at": "leave it out",
    "start_in": "leave it out",
    "expires_in": "leave it out",
}
"""Fields of a spec that Tapis cannot do, and what to do instead."""


def info_of(job: Mapping[str, Any]) -> JobInfo:
    """What is known of a job, from Tapis's record of it.

    Example:
        >>> info_of({"uuid": "1", "status": "BLOCKED", "name": "a", "lastMessage": "no quota"}).state
        <JobState.PAUSED: 'PAUSED'>
    """
    word = job["status"]
    state = to_state(word, TAPIS_WORDS)
    return JobInfo(
        id=job["uuid"],
        state=state,
        native_state=word,
        name=job.get("name"),
        owner=job.get("owner"),
        queue=job.get("execSystemLogicalQueue"),
        tags=[tag for tag in job.get("tags") or [] if not tag.startswith(KEY_TAG)],
        reason=reason_of(job.get("condition"), job.get("lastMessage")) if state.terminal or word == "BLOCKED" else None,
        exit_code=_number(job.get("remoteResultInfo")),
        created_at=_time(job.get("created")),
        started_at=_time(job.get("remoteStarted")),
        finished_at=_time(job.get("ended")),
        spec={key: value for key, value in job.items() if value is not None},
    )


def _conditions(wanted: JobFilter) -> list[tuple[str, str]]:
    told = []
    if wanted.state:
        words = [word for word, state in TAPIS_WORDS.items() if state in wanted.state]
        told.append(("status.in", ",".join(words)))
    if wanted.name is not None:
        told.append(("name.like", wanted.name) if "*" in wanted.name else ("name.eq", wanted.name))
    told += [("tags.contains", tag) for tag in wanted.tag]
    if wanted.queue is not None:
        told.append(("execSystemLogicalQueue.eq", wanted.queue))
    for operator, moment in (("gte", wanted.created_after), ("lt", wanted.created_before)):
        if moment is not None:
            told.append((f"created.{operator}", f"{moment.astimezone(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"))
    return told


def _change(item: Mapping[str, Any]) -> Change | None:
    """An entry of the history that is a change of the state; None for another one."""
    word = item.get("eventDetail") if item.get("event") == "JOB_NEW_STATUS" else item.get("jobStatus")
    at = _time(item.get("created"))
    if not word or at is None:
        return None
    try:
        said = json.loads(item.get("description") or "")
    except ValueError:
        said = None
    return Change(
        state=to_state(word, TAPIS_WORDS), at=at, reason=said.get("message") if isinstance(said, dict) else None
    )


def _time(text: str | None) -> dt.datetime | None:
    """A moment as Tapis writes it: with up to six digits of a second, or none."""
    if not text:
        return None
    seconds, _, fraction = text.rstrip("Z").partition(".")
    # Python 3.10 reads three digits of a second or six, nothing between
    return dt.datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().lstrip("-").isdecimal() else None


def _json(response: Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None
