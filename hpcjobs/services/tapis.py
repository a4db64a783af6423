"""Tapis v3: jobs on the systems of TACC, DesignSafe and others.

What is said of the protocol is from the OpenAPI document of Tapis Jobs 1.9.1, from the documentation
(https://tapis.readthedocs.io/en/latest/technical/jobs.html) and from the server's source, release 1.7.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hpcjobs.actions import (
    DeleteOutcome,
    DeleteResult,
    JobUpdate,
    RetryOutcome,
    RetryResult,
    UpdateOutcome,
    UpdateResult,
)
from hpcjobs.errors import (
    Conflict,
    InvalidRequest,
    JobNotFound,
    NotFound,
    PermissionDenied,
    ServiceError,
    ServiceUnavailable,
    Unsupported,
)
from hpcjobs.lifecycle import TAPIS_WORDS, JobState, to_state
from hpcjobs.models import (
    CancelOutcome,
    CancelResult,
    Capabilities,
    JobFilter,
    JobInfo,
    JobPage,
    JobQueryAnswer,
    JobSpec,
    OutputFile,
)
from hpcjobs.protocol import Op, Request, Response, call, each, retry_after
from hpcjobs.records import History
from hpcjobs.services.answers import error_of, kind_of, unexpected
from hpcjobs.services.base import FileChunk, LogChunk, Service
from hpcjobs.services.remembering import Remembered
from hpcjobs.services.repeating import patiently
from hpcjobs.services.tapis_login import FOREIGN_JOB, TapisAuth
from hpcjobs.services.tapis_records import KEY_TAG, SUM_TAG, history_of, info_of, log_name, time_of
from hpcjobs.services.tapis_requests import conditions, key_tag, request_of, sum_tag
from hpcjobs.tapis_data import UUID

UNKNOWN_JOB = ("JOBS_JOB_NOT_FOUND", "JOBS_JOB_SELECT_UUID_ERROR", "JOBS_JOBRESUBMIT_NOT_FOUND", "JOBS_JOB_NOT_VISIBLE")
"""What a message names where there is no such job, whatever the status: 400, 404 and 500 occur."""

PAGE = 1000
"""Most entries that are asked for at once."""

LOOK = 50
"""Most jobs that are looked at in one request: their ids are in the address."""

FAILED_PAUSES = (1.0, 3.0)
"""Seconds before a look that failed with status 500 is repeated."""

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class TapisService(Service):
    """One tenant of Tapis.

    Args:
        url: ``tapis+https://TENANT.tapis.io``.
        token: The token (a JWT), or what returns one: called again when it ends.
        username: Who logs in, with ``password``, where there is no token.
        password: The password, or a function that asks for it.
        client_id: A client that the tenant knows; with it there are refresh tokens, and login by a code.
        client_key: Its key.
        refresh_token: One that there is already.
        login: ``"device"`` to log in by a code that is typed in a browser.

    Example:
        >>> service = TapisService("tapis+https://designsafe.tapis.io", token="e30.e30.c2ln")
        >>> next(service.get("6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007")).path
        '/v3/jobs/6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007'
    """

    name = "Tapis"
    capabilities = Capabilities.model_construct(
        cancel_can_be_lost=True,
        history=True,
        retry=True,
        update=True,
        delete=True,
        logs=True,
        files=True,
        bulk_get=LOOK,
        find_within=15.0,
        min_poll=2.0,
    )

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        username: str | None = None,
        password: str | Callable[[], str] | None = None,
        client_id: str | None = None,
        client_key: str | None = None,
        refresh_token: str | None = None,
        login: str | None = None,
    ) -> None:
        rest = url.removeprefix("tapis+")
        self.base_url = re.sub(r"^tapis://", "https://", rest).rstrip("/").removesuffix("/v3")
        self.auth = TapisAuth(
            self.base_url,
            token=token,
            username=username,
            password=password,
            client_id=client_id,
            client_key=client_key,
            refresh_token=refresh_token,
            login=login,
        )
        self._asked: Remembered[tuple[str | None]] = Remembered()

    # Looking

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """
        return self._info((yield from self.ask(Request("GET", self._at(job_id)))))

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        """Look at many jobs: by a search, and one by one at those that it does not find (a hidden one, say)."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, JobInfo] = {}
        good = [job_id for job_id in wanted if UUID.fullmatch(job_id)]
        for start in range(0, len(good), LOOK) if len(good) > 1 else ():
            some = good[start : start + LOOK]
            params = [("uuid.in", ",".join(some)), ("select", "allAttributes"), ("limit", str(len(some)))]
            try:
                jobs = yield from self.ask(Request("GET", "/v3/jobs/search", params=params))
            except InvalidRequest:  # a release that does not search for ids
                break
            found.update((job["uuid"], self._info(job)) for job in jobs)
        missing: list[str] = []
        for job_id in wanted:
            if job_id not in found:
                try:
                    found[job_id] = yield from self.get(job_id)
                except (JobNotFound, PermissionDenied):
                    missing.append(job_id)
        return JobQueryAnswer(items=[found[job_id] for job_id in wanted if job_id in found], missing=missing)

    def find(self, key: str) -> Op[JobInfo | None]:
        """The job that carries a submission key among its tags."""
        # a job that was resubmitted has the tags of the first one, which is the one that is meant
        params = [("tags.contains", key_tag(key)), ("orderBy", "created(asc)")]
        params += [("select", "allAttributes"), ("limit", "1")]
        found = yield from self.ask(Request("GET", "/v3/jobs/search", params=params))
        return self._info(found[0]) if found else None

    def asked_for(self, info: JobInfo, spec: JobSpec, key: str) -> bool:
        """Whether a job that was found by ``key`` is the one that ``spec`` asks for."""
        tags = (info.spec or {}).get("tags") or []
        return not any(tag.startswith(SUM_TAG) for tag in tags) or sum_tag(request_of(spec, key)) in tags

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of the jobs that ``filter`` means, newest first."""
        if filter.array is not None or (filter.state and not set(filter.state) & set(TAPIS_WORDS.values())):
            return JobPage(items=[])
        skip = int(cursor or 0)
        params = [("limit", str(limit)), ("skip", str(skip)), ("orderBy", "created(desc)")]
        params += [("select", "allAttributes"), *conditions(filter)]
        envelope = yield from self._envelope(Request("GET", "/v3/jobs/search", params=params))
        found = envelope["result"]
        # it may hand out fewer than were asked for, and says so
        most = (envelope.get("metadata") or {}).get("recordLimit")
        full = len(found) >= (min(most, limit) if isinstance(most, int) and most > 0 else limit)
        return JobPage(items=[self._info(job) for job in found], next=str(skip + len(found)) if full else None)

    def history(self, job_id: str) -> Op[History]:
        """What Tapis has written down about a job."""
        return history_of((yield from self._all(f"{self._at(job_id)}/history")))

    def pace(self, quiet: float, states: Collection[JobState]) -> float:
        """Seconds until the next look, as Tapis itself looks at the scheduler: asking more often tells nothing new.

        Its monitor looks after 1 s, every 10 s up to the first minute, every 60 s up to eleven minutes, and every
        180 s or more from then on; other states than QUEUED and RUNNING change by themselves.
        """
        if quiet < 60 or not {JobState.QUEUED, JobState.RUNNING}.issuperset(states):
            return min(15.0, max(2.0, quiet / 4))
        return 60.0 if quiet < 651 else 180.0

    # Acting

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; the key travels as a tag, by which it is found again after a lost answer."""
        body = request_of(spec, key)
        return self._info((yield from self.ask(Request("POST", "/v3/jobs/submit", json=body, repeatable=False))))

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:  # noqa: ARG002
        """Ask that jobs stop, one by one. That Tapis has taken a request says nothing of the job."""
        return each(self._cancel(job_id, reason) for job_id in ids)

    def _cancel(self, job_id: str, reason: str | None) -> Op[CancelResult]:
        told: dict[str, Any] = {"job_id": job_id, "reason": reason, "reason_kept": reason is None}
        try:
            yield from self.ask(Request("POST", f"{self._at(job_id)}/cancel", repeatable=True))
        except JobNotFound:
            return CancelResult(outcome=CancelOutcome.NOT_FOUND, **told)
        except Conflict:  # it has ended: how, is asked
            state = (yield from self.get(job_id)).state
            return CancelResult(outcome=CancelOutcome.ALREADY_TERMINAL, before=state, after=state, **told)
        self._asked.put(job_id, (reason,))
        return CancelResult(outcome=CancelOutcome.CANCEL_REQUESTED, **told)

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Submit what has ended once more: each runs as a new job."""
        return each(self._retry(job_id) for job_id in ids)

    def _retry(self, job_id: str) -> Op[RetryResult]:
        try:
            before = (yield from self.get(job_id)).state
            if not before.terminal:
                return RetryResult(job_id=job_id, outcome=RetryOutcome.STILL_RUNNING, before=before, after=before)
            new = yield from self.ask(Request("POST", f"{self._at(job_id)}/resubmit", repeatable=False))
        except JobNotFound:
            return RetryResult(job_id=job_id, outcome=RetryOutcome.NOT_FOUND)
        after = to_state(new["status"], TAPIS_WORDS)
        return RetryResult(job_id=job_id, outcome=RetryOutcome.RETRIED, before=before, after=after, new_id=new["uuid"])

    def delete(self, ids: Sequence[str]) -> Op[list[DeleteResult]]:
        """Hide jobs: Tapis forgets none."""
        return each(self._hide(job_id) for job_id in ids)

    def _hide(self, job_id: str) -> Op[DeleteResult]:
        try:
            yield from self.ask(Request("POST", f"{self._at(job_id)}/hide", repeatable=True))
        except JobNotFound:
            return DeleteResult(job_id=job_id, outcome=DeleteOutcome.NOT_FOUND)
        except Conflict:
            state = (yield from self.get(job_id)).state
            return DeleteResult(job_id=job_id, outcome=DeleteOutcome.STILL_RUNNING, before=state)
        return DeleteResult(job_id=job_id, outcome=DeleteOutcome.DELETED)

    def update(self, items: Sequence[JobUpdate]) -> Op[list[UpdateResult]]:
        """Change tags and meta (Tapis's notes), where the tenant's release has annotations; nothing else can change.

        Raises:
            Unsupported: The tenant's release has no annotations.
        """
        return each(map(self._annotate, items))

    def _annotate(self, item: JobUpdate) -> Op[UpdateResult]:
        given = item.changes.given
        if others := sorted(given.keys() - {"tags", "meta"}):
            detail = f"{', '.join(others)}: Tapis changes nothing of a job but its tags and its meta (notes)"
            return UpdateResult(job_id=item.id, outcome=UpdateOutcome.REFUSED, detail=detail)
        try:
            job = yield from self.ask(Request("GET", self._at(item.id)))
            body: dict[str, Any] = {}
            if "tags" in given:  # those by which the job is found again stay
                kept = [tag for tag in job.get("tags") or [] if tag.startswith((KEY_TAG, SUM_TAG))]
                body["tags"] = [*(given["tags"] or []), *kept]
            if "meta" in given:
                body["notes"] = given["meta"] or {}
            before = info_of(job).state
            yield from self.ask(Request("PUT", f"{self._at(item.id)}/annotations", json=body))
        except JobNotFound:
            return UpdateResult(job_id=item.id, outcome=UpdateOutcome.NOT_FOUND)
        except Conflict as error:
            return UpdateResult(job_id=item.id, outcome=UpdateOutcome.REFUSED, detail=error.detail)
        except NotFound:
            advice = "leave them, or submit another job"
            raise Unsupported(self.name, "change a job's tags in this tenant's release", advice) from None
        return UpdateResult(job_id=item.id, outcome=UpdateOutcome.UPDATED, before=before, after=before)

    # Files and logs

    def files(self, job_id: str) -> Op[list[OutputFile]]:
        """The outputs, also while the job runs; folders are walked through."""
        found: list[OutputFile] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for item in (yield from self._all(self._output("list", job_id, folder), _WHILE_RUNNING)):
                where = f"{folder}/{item['name']}".lstrip("/")
                if item.get("type") == "dir":
                    folders.append(where)
                elif item.get("type") == "file":
                    size, changed = int(item.get("size") or 0), time_of(item.get("lastModified"))
                    found.append(OutputFile(path=where, size=size, modified_at=changed))
        return sorted(found, key=lambda file: file.path)

    def file(self, job_id: str, path: str, *, offset: int, length: int, summed: bool = False) -> Op[FileChunk]:  # noqa: ARG002
        """A piece of a job's file; the rest of it, where Tapis hands files out whole only."""
        return (yield from self._piece(job_id, path, f"bytes={offset}-{offset + length - 1}", offset))

    def log(
        self,
        job_id: str,
        stream: str,
        *,
        offset: int,
        wait: float = 0.0,  # noqa: ARG002 - an answer is not held
        length: int | None = None,
    ) -> Op[LogChunk]:
        """A piece of what the application wrote: one of the job's files, which is looked at before it is fetched."""
        state, attempt, name, size = yield from self._log(job_id, stream)
        if name is None or size <= offset:
            return LogChunk(b"", offset, size, state, attempt)
        end = size if length is None else min(size, offset + length)
        chunk = yield from self._piece(job_id, name, f"bytes={offset}-{end - 1}", offset)
        return LogChunk(chunk.data[: end - offset], chunk.offset, max(size, chunk.total), state, attempt)

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        """The last ``size`` bytes of what the application wrote."""
        state, attempt, name, total = yield from self._log(job_id, stream)
        start = max(0, total - size)
        if name is None or total == start:
            return LogChunk(b"", total, total, state, attempt)
        chunk = yield from self._piece(job_id, name, f"bytes={start}-{total - 1}", start)
        return LogChunk(chunk.data[: total - start], chunk.offset, total, state, attempt)

    def _log(self, job_id: str, stream: str) -> Op[tuple[JobState, int, str | None, int]]:
        """A job's state, its attempt, and the name and size of a log, where there is one yet."""
        job = yield from self.ask(Request("GET", self._at(job_id)))
        info = info_of(job)
        name = log_name(job, stream)
        if name is None or not info.attempt:
            return info.state, info.attempt, None, 0
        try:
            listed = yield from self.ask(
                Request("GET", self._output("list", job_id, name), params=[*_WHILE_RUNNING, ("limit", "1")])
            )
        except JobNotFound:
            raise
        except (NotFound, InvalidRequest):  # the application has not written yet, or never did
            return info.state, info.attempt, None, 0
        size = int(listed[0].get("size") or 0) if listed else 0
        return info.state, info.attempt, name if listed else None, size

    def _piece(self, job_id: str, path: str, wanted: str, offset: int) -> Op[FileChunk]:
        """A piece of a file; some releases know no ranges and send the whole."""
        request = Request(
            "GET", self._output("download", job_id, path), params=_WHILE_RUNNING, headers={"Range": wanted}
        )
        response = yield from call(request)
        etag = response.headers.get("etag", "")
        told = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status == 416:
            total = int(told[3]) if told else offset
            return FileChunk(b"", min(offset, total), total, etag)
        if not response.ok:
            raise self.error_of(request, response)
        if response.status == 206:
            if told is None or told[1] is None:
                raise unexpected(response, method="GET", url=self.base_url + request.path, why="no Content-Range")
            return FileChunk(response.content, int(told[1]), int(told[3]), etag)
        return FileChunk(response.content[offset:], offset, len(response.content), etag)

    def _output(self, what: str, job_id: str, path: str) -> str:
        return f"{self._at(job_id)}/output/{what}/{quote(path, safe='/') or '/'}"

    # Asking

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer: by its status, then by the code that begins its message."""
        envelope = _json(response)
        message = envelope.get("message") if isinstance(envelope, dict) else response.text().strip()
        url = self.base_url + request.path
        if not isinstance(message, str) or not message or "html" in response.headers.get("content-type", ""):
            return error_of(response, method=request.method, url=url)
        code, status = message.partition(" ")[0], response.status
        kind: type[ServiceError]
        if any(word in message for word in UNKNOWN_JOB):
            kind = JobNotFound
        elif any(word in message for word in FOREIGN_JOB):
            kind = PermissionDenied
        else:
            kind = kind_of(status)
        body = envelope if isinstance(envelope, dict) else None
        error = kind(message, status=status, code=code if code.isupper() else "", body=body)
        error.tries = response.tries
        error.retry_after = retry_after(response)
        error.may_have_acted = error.may_have_acted or response.lost
        return error

    def ask(self, request: Request) -> Op[Any]:
        """What Tapis answers to a request, out of its envelope.

        Raises:
            ServiceError: What it refuses, typed.
            UnexpectedAnswer: That is no answer of Tapis.
        """
        return (yield from self._envelope(request))["result"]

    def _envelope(self, request: Request) -> Op[dict[str, Any]]:
        """Send a request, and once more where a look failed with 500 and not because there is no such job."""
        response = yield from patiently(
            lambda: self.sent(request),
            FAILED_PAUSES if request.method == "GET" else (),
            lambda error: error.status == 500 and isinstance(error, ServiceUnavailable),
        )
        envelope = _json(response)
        if not isinstance(envelope, dict) or "result" not in envelope:
            raise unexpected(response, method=request.method, url=self.base_url + request.path, why="no result")
        return envelope

    def _all(self, path: str, params: Sequence[tuple[str, str]] = ()) -> Op[list[Any]]:
        """A list, page by page until there is nothing more."""
        items: list[Any] = []
        while True:
            asked = [*params, ("limit", str(PAGE)), ("skip", str(len(items)))]
            some = yield from self.ask(Request("GET", path, params=asked))
            items += some or []
            if not some or len(some) < PAGE_AT_LEAST:
                return items

    def _info(self, job: Mapping[str, Any]) -> JobInfo:
        """What is known of a job: also that it was asked to stop, where we asked: Tapis does not tell."""
        info = info_of(job)
        asked = self._asked.get(info.id)
        if asked is None:
            return info
        [reason] = asked
        if info.terminal:
            self._asked.forget(info.id)
            return info.model_copy(update={"cancel_reason": reason}) if info.state is JobState.CANCELLED else info
        return info.model_copy(update={"cancel_requested": True, "cancel_reason": reason})

    def _at(self, job_id: str) -> str:
        if not UUID.fullmatch(job_id):
            raise JobNotFound(f"there is no job {job_id!r}: an id of Tapis is a UUID that ends in -007", status=404)
        return f"/v3/jobs/{job_id}"


PAGE_AT_LEAST = 100
"""A page with fewer entries than that is the last one, whatever limit the service has of its own."""

_WHILE_RUNNING = (("allowIfRunning", "true"),)


def _json(response: Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None
