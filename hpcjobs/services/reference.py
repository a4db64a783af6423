"""The reference server's native API."""

from __future__ import annotations

import datetime as dt
import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from hpcjobs.actions import (
    CancelAnswer,
    CancelOrder,
    DeleteAnswer,
    DeleteOrder,
    DeleteResult,
    JobChanges,
    JobUpdate,
    RetryAnswer,
    RetryOrder,
    RetryResult,
    Selection,
    UpdateAnswer,
    UpdateOrder,
    UpdateResult,
)
from hpcjobs.arrays import ArrayInfo, ArrayOrder, NewJobs
from hpcjobs.errors import JobNotFound, UnexpectedAnswer
from hpcjobs.lifecycle import to_state
from hpcjobs.models import (
    MAX_BULK,
    CancelOutcome,
    CancelResult,
    Capabilities,
    InputQuery,
    InputQueryAnswer,
    JobFilter,
    JobInfo,
    JobPage,
    JobQuery,
    JobQueryAnswer,
    JobSpec,
    LoginInfo,
    LoginOrder,
    OutputFile,
    OutputList,
    ServiceInfo,
    TaskInfo,
    TaskList,
    TokenInfo,
    TokenList,
    TokenOrder,
)
from hpcjobs.protocol import Body, Op, Request, Response, call
from hpcjobs.records import History, QueueInfo, QueueList, QueueOrder
from hpcjobs.services.answers import M, parse, unexpected
from hpcjobs.services.base import FileChunk, InputOffset, LogChunk, Service

if TYPE_CHECKING:
    from pydantic import BaseModel

A = TypeVar("A", CancelAnswer, RetryAnswer, DeleteAnswer, UpdateAnswer)

_JSON = {"Content-Type": "application/json"}
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_PATIENCE = 30.0
"""Seconds beyond the wait that was asked for: an answer that is held must not look like one that is late."""
_BULK = 120.0
"""Seconds for which the answer to a request for thousands of jobs is waited for."""
_SILENCE = 45.0
"""Seconds: three of the comments that the server sends into a quiet stream of changes."""
_SUMMED = 50_000_000.0
"""Bytes per second that the server reads and sums at least, where it does so before it answers."""
_WANT_SUM = {"Want-Repr-Digest": "sha-256=10"}
_REPR_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):")
_INPUTS_PER_LOOK = 2000


class ReferenceService(Service):
    """The reference server at one address.

    Args:
        base_url: ``http(s)://host[:port][/path]``.
        token: The token, or what returns one; None where the server asks for none.

    Example:
        >>> service = ReferenceService("http://127.0.0.1:8765/", token="secret")
        >>> next(service.get("0b7f")).path
        '/v1/jobs/0b7f'
    """

    name = "reference server"
    capabilities = Capabilities.model_construct(
        idempotent_submit=True,
        abort_false=True,
        cancel_reason=True,
        bulk_cancel=MAX_BULK,
        bulk_get=MAX_BULK,
        bulk_submit=MAX_BULK,
        bulk_change=MAX_BULK,
        atomic=True,
        arrays=True,
        dependencies=True,
        history=True,
        queues=True,
        retry=True,
        update=True,
        delete=True,
        events=True,
        logs=True,
        files=True,
        inputs=True,
        resumable_inputs=True,
        min_poll=0.2,
    )

    def __init__(self, base_url: str, *, token: str | Callable[[], str] | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        if token is not None:
            from hpcjobs.services.tokens import CalledAuth

            self.auth = CalledAuth(token)

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; the same key never makes a second one."""
        body = spec.model_dump_json(exclude_unset=True).encode()
        headers = {**_JSON, "Idempotency-Key": key}
        return self._model(JobInfo, Request("POST", "/v1/jobs", headers=headers, content=body, repeatable=True))

    def spelled(self, job_id: str) -> str:
        """A UUID in lower case and with dashes, however it was typed or stored."""
        try:
            return str(UUID(job_id))
        except ValueError:
            return job_id

    def find(self, key: str) -> Op[JobInfo | None]:
        """The job that was submitted with ``key``, or None."""
        page = yield from self._model(JobPage, Request("GET", "/v1/jobs", params=[("key", key), ("limit", "1")]))
        return page.items[0] if page.items else None

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """
        return self._model(JobInfo, Request("GET", self._at(job_id)))

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        """Look at many jobs; an unknown one is named, not raised."""
        items: list[JobInfo] = []
        missing: list[str] = []
        arrays: list[str] = []
        for some in _chunks(ids, self.capabilities.bulk_get):
            order = JobQuery(ids=some)
            answer = yield from self._model(JobQueryAnswer, _post("/v1/jobs/query", order))
            items.extend(answer.items)
            missing.extend(answer.missing)
            arrays.extend(answer.arrays)
        return JobQueryAnswer(items=items, missing=missing, arrays=arrays)

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of the jobs that ``filter`` means, newest first."""
        params = [("limit", str(limit))]
        params += [("state", state.value) for state in filter.state]
        params += [("tag", tag) for tag in filter.tag]
        params += [(name, text) for name in ("name", "queue", "array") if (text := getattr(filter, name)) is not None]
        for name in ("created_after", "created_before"):
            moment = getattr(filter, name)
            if moment is not None:  # a time without a zone is local time, as it is to whoever typed it
                params.append((name, moment.astimezone(dt.timezone.utc).isoformat()))
        if cursor is not None:
            params.append(("cursor", cursor))
        return self._model(JobPage, Request("GET", "/v1/jobs", params=params))

    def submit_many(self, specs: Sequence[JobSpec], key: str) -> Op[list[JobInfo]]:
        """Ask for many jobs, all or none of each chunk; the same key never makes them twice."""
        infos: list[JobInfo] = []
        for start in range(0, len(specs), MAX_BULK):
            some = specs[start : start + MAX_BULK]
            # a long list is sent in chunks, and jobs of one cannot name those of another
            headers = {**_JSON, "Idempotency-Key": f"{key}/{start}" if len(specs) > MAX_BULK else key}
            body = b'{"specs":[' + b",".join(spec.model_dump_json(exclude_unset=True).encode() for spec in some)
            request = Request(
                "POST", "/v1/jobs/many", headers=headers, content=body + b"]}", timeout=_BULK, repeatable=True
            )
            infos += _infos((yield from self._model(NewJobs, request)), some)
        return infos

    def submit_array(self, order: ArrayOrder, key: str) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
        """Ask for an array; the same key never makes a second one."""
        headers = {**_JSON, "Idempotency-Key": key}
        body = order.model_dump_json(exclude_unset=True).encode()
        request = Request("POST", "/v1/arrays", headers=headers, content=body, timeout=_BULK, repeatable=True)
        new = yield from self._model(NewJobs, request)
        if new.array is None:
            raise UnexpectedAnswer("POST /v1/arrays was answered without an array")
        items = order.over or [None] * len(new.ids)
        infos = [
            info.model_copy(
                update={
                    "array_id": new.array.id,
                    "array_index": index,
                    "item": item,
                    "name": f"{order.spec.name}[{index}]" if order.spec.name else None,
                }
            )
            for index, (info, item) in enumerate(zip(_infos(new, [order.spec] * len(new.ids)), items, strict=False))
        ]
        return new.array, infos

    def array(self, array_id: str) -> Op[ArrayInfo]:
        """Look at an array.

        Raises:
            NotFound: There is no such array, or it is another's.
        """
        self._at(array_id)
        return self._model(ArrayInfo, Request("GET", f"/v1/arrays/{array_id}"))

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:
        """Cancel jobs: one result per id, in the order of the ids; an unknown id has the outcome NOT_FOUND."""
        if len(ids) == 1:
            order = CancelOrder(reason=reason, abort=abort, delete=delete)
            try:
                return [(yield from self._model(CancelResult, _post(f"{self._at(ids[0])}/cancel", order)))]
            except JobNotFound:
                return [CancelResult(job_id=ids[0], outcome=CancelOutcome.NOT_FOUND, reason=reason)]
        results: list[CancelResult] = []
        for some in _chunks(ids, MAX_BULK):
            order = CancelOrder(ids=some, reason=reason, abort=abort, delete=delete)
            results += (yield from self._model(CancelAnswer, _post("/v1/jobs/cancel", order, timeout=_BULK))).results
        return results

    def cancel_where(
        self,
        filter: JobFilter,  # noqa: A002 - its name
        *,
        reason: str | None,
        abort: bool,
        delete: bool,
    ) -> Op[list[CancelResult]]:
        """Cancel all jobs that ``filter`` means and that have not ended."""
        order = CancelOrder(filter=filter, reason=reason, abort=abort, delete=delete)
        return self._where(CancelAnswer, "cancel", order)

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Run jobs again: one result per id, in the order of the ids."""
        results: list[RetryResult] = []
        for some in _chunks(ids, MAX_BULK):
            # not sent again after a lost answer: the job may have run and failed meanwhile, and would run once more
            request = _post("/v1/jobs/retry", RetryOrder(ids=some), timeout=_BULK, repeatable=False)
            results += (yield from self._model(RetryAnswer, request)).results
        return results

    def retry_where(self, filter: JobFilter) -> Op[list[RetryResult]]:  # noqa: A002 - its name
        """Run all jobs again that ``filter`` means; where it names no state, those that did not end well."""
        return self._where(RetryAnswer, "retry", RetryOrder(filter=filter), repeatable=False)

    def delete(self, ids: Sequence[str]) -> Op[list[DeleteResult]]:
        """Delete jobs: one result per id, in the order of the ids."""
        results: list[DeleteResult] = []
        for some in _chunks(ids, MAX_BULK):
            request = _post("/v1/jobs/delete", DeleteOrder(ids=some), timeout=_BULK)
            results += (yield from self._model(DeleteAnswer, request)).results
        return results

    def delete_where(self, filter: JobFilter) -> Op[list[DeleteResult]]:  # noqa: A002 - its name
        """Delete all jobs that ``filter`` means; where it names no state, those that do not run."""
        return self._where(DeleteAnswer, "delete", DeleteOrder(filter=filter))

    def update(self, items: Sequence[JobUpdate]) -> Op[list[UpdateResult]]:
        """Change jobs, each in its own way: one result per item, in their order."""
        results: list[UpdateResult] = []
        for start in range(0, len(items), MAX_BULK):
            some = list(items[start : start + MAX_BULK])
            # with a version it cannot be done twice, but the second time would be told that it is stale
            repeatable = all(item.version is None for item in some)
            request = _post("/v1/jobs/update", UpdateOrder(items=some), timeout=_BULK, repeatable=repeatable)
            results += (yield from self._model(UpdateAnswer, request)).results
        return results

    def update_all(self, ids: Sequence[str], changes: JobChanges) -> Op[list[UpdateResult]]:
        """Change jobs, all alike: one result per id, in the order of the ids."""
        results: list[UpdateResult] = []
        for some in _chunks(ids, MAX_BULK):
            request = _post("/v1/jobs/update", UpdateOrder(ids=some, changes=changes), timeout=_BULK)
            results += (yield from self._model(UpdateAnswer, request)).results
        return results

    def update_where(self, filter: JobFilter, changes: JobChanges) -> Op[list[UpdateResult]]:  # noqa: A002 - its name
        """Change all jobs that ``filter`` means; where it names no state, those that have not started."""
        return self._where(UpdateAnswer, "update", UpdateOrder(filter=filter, changes=changes))

    def history(self, job_id: str) -> Op[History]:
        """What was written down about a job."""
        return self._model(History, Request("GET", f"{self._at(job_id)}/history"))

    def queues(self) -> Op[list[QueueInfo]]:
        """The queues that are set or have jobs."""
        return (yield from self._model(QueueList, Request("GET", "/v1/queues"))).items

    def set_queue(self, name: str, order: QueueOrder) -> Op[QueueInfo]:
        """Set a queue; needs the scope admin."""
        content = order.model_dump_json(exclude_unset=True).encode()
        path = f"/v1/queues/{quote(name, safe='')}"
        return self._model(QueueInfo, Request("PATCH", path, headers=_JSON, content=content, repeatable=True))

    def _where(self, answer: type[A], action: str, order: Selection, *, repeatable: bool = True) -> Op[list[Any]]:
        """An action on all jobs that a filter means, in as many requests as it takes."""
        moments = {"created_after", "created_before"}
        wanted = order.filter
        assert wanted is not None
        # a time without a zone is local time, as it is to whoever typed it
        utc = {name: moment.astimezone(dt.timezone.utc) for name in moments if (moment := getattr(wanted, name))}
        order = order.model_copy(update={"filter": wanted.model_copy(update=utc)})
        results: list[Any] = []
        while True:
            request = _post(f"/v1/jobs/{action}", order, timeout=_BULK, repeatable=repeatable)
            told = yield from self._model(answer, request)
            results += told.results
            if told.next is None or told.next == order.cursor:
                return results
            order = order.model_copy(update={"cursor": told.next})

    def log(
        self, job_id: str, stream: str, *, offset: int, wait: float = 0.0, length: int | None = None
    ) -> Op[LogChunk]:
        """A piece of a log from ``offset``; with ``wait`` the server holds the answer until there is something."""
        end = "" if length is None else str(offset + length - 1)
        return self._log(job_id, stream, f"bytes={offset}-{end}", offset=offset, wait=wait)

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        """The last ``size`` bytes of a log."""
        return self._log(job_id, stream, f"bytes=-{size}", offset=0, wait=0.0)

    def files(self, job_id: str) -> Op[list[OutputFile]]:
        """The regular files in the job's folder, also while it runs."""
        return (yield from self._model(OutputList, Request("GET", f"{self._at(job_id)}/files"))).items

    def file(self, job_id: str, path: str, *, offset: int, length: int, summed: bool = False) -> Op[FileChunk]:
        """A piece of a job's file, empty where the file has no more; with ``summed`` also the sum of the whole."""
        request = Request(
            "GET",
            f"{self._at(job_id)}/files/{quote(path, safe='/')}",
            headers={**_range(f"bytes={offset}-{offset + length - 1}"), **(_WANT_SUM if summed else {})},
            timeout=_until_summed(offset + length) if summed else None,
        )
        response = yield from call(request)
        start, total = self._place(request, response, offset)
        data = b"" if response.status == 416 else response.content
        etag, sha256 = response.headers.get("etag", ""), _sha256(response.headers.get("repr-digest", ""))
        return FileChunk(data=data, offset=start, total=total, etag=etag, sha256=sha256)

    def has_input(self, sha256: str) -> Op[bool]:
        """Whether the server has these bytes of this owner's."""
        request = Request("HEAD", f"/v1/blobs/{sha256}")
        response = yield from call(request)
        if response.ok or response.status == 404:
            return response.ok
        raise self.error_of(request, response)

    def missing_inputs(self, sha256: Sequence[str]) -> Op[list[str]]:
        """Which of these contents the server has not of this owner's, in their order."""
        if len(sha256) == 1:
            return [] if (yield from self.has_input(sha256[0])) else list(sha256)
        missing: list[str] = []
        for some in _chunks(sha256, _INPUTS_PER_LOOK):
            answer = yield from self._model(InputQueryAnswer, _post("/v1/blobs/query", InputQuery(sha256=some)))
            missing.extend(answer.missing)
        return missing

    def send_input(self, sha256: str, body: Body) -> Op[None]:
        """Send the bytes of an input file; the server checks them against ``sha256``."""
        request = Request("PUT", f"/v1/blobs/{sha256}", headers={"Content-Type": "application/octet-stream"}, body=body)
        yield from self.sent(request)

    def input_offset(self, sha256: str) -> Op[InputOffset]:
        """How much of an input has arrived."""
        request = Request("HEAD", f"/v1/blobs/{sha256}/upload")
        response = yield from call(request)
        if response.status == 404:
            return InputOffset(0)
        if not (response.ok or response.status == 409):
            raise self.error_of(request, response)
        offset = response.headers.get("upload-offset", "")
        if not offset.isdecimal():
            raise self._unexpected(request, response, "the header Upload-Offset is missing")
        complete = response.headers.get("upload-complete") == "?1"
        return InputOffset(int(offset), complete=complete, busy=response.status == 409)

    def append_input(self, sha256: str, body: Body, *, offset: int, total: int) -> Op[None]:
        """Send a part of an input; the server checks the whole against ``sha256`` once it is there."""
        last = offset + body.size == total
        headers = {
            "Content-Type": "application/partial-upload",
            "Upload-Offset": str(offset),
            "Upload-Length": str(total),
            "Upload-Complete": "?1" if last else "?0",
        }
        path = f"/v1/blobs/{sha256}/upload"
        # Not to be repeated as it stands: a part of it may have arrived.
        request = Request(
            "PATCH",
            path,
            headers=headers,
            body=body,
            repeatable=False,
            timeout=_until_summed(total) if last else None,
        )
        yield from self.sent(request)

    def info(self) -> Op[ServiceInfo]:
        """What the server says of itself and of who asks."""
        return self._model(ServiceInfo, Request("GET", "/v1/info"))

    def tasks(self) -> Op[list[TaskInfo]]:
        """The functions that the server's operator offers by name."""
        return (yield from self._model(TaskList, Request("GET", "/v1/tasks"))).items

    def job_page(self) -> Op[str]:
        """An address that lets a browser in, once and within ten minutes, to the server's page of all jobs."""
        told = yield from self._model(LoginInfo, _post("/v1/logins", LoginOrder(), repeatable=None))
        return self.base_url + told.path

    def create_token(self, order: TokenOrder) -> Op[TokenInfo]:
        """Make a token; its secret is told once."""
        return self._model(TokenInfo, _post("/v1/tokens", order, repeatable=None))

    def list_tokens(self) -> Op[list[TokenInfo]]:
        """The tokens of who asks, without their secrets."""
        return (yield from self._model(TokenList, Request("GET", "/v1/tokens"))).items

    def revoke_token(self, token_id: str) -> Op[None]:
        """End a token."""
        request = Request("DELETE", f"/v1/tokens/{quote(token_id, safe='')}")
        response = yield from call(request)
        # A token that is gone after a lost answer was revoked by the try before.
        if not response.ok and not (response.status == 404 and response.lost):
            raise self.error_of(request, response)

    def events_request(self, after: str | None) -> Request:
        """The request that opens the stream of changes, from the cursor ``after`` or from now."""
        headers = {"Last-Event-ID": after} if after else {}
        return Request("GET", "/v1/events", headers=headers, timeout=_SILENCE)

    def _model(self, model: type[M], request: Request) -> Op[M]:
        response = yield from call(request)
        if not 200 <= response.status < 300:
            raise self.error_of(request, response)
        return parse(model, response, method=request.method, url=self.base_url + request.path)

    def _at(self, job_id: str) -> str:
        # What cannot be an id is not sent: "" or ".." would be another address.
        if not _ID.fullmatch(job_id):
            raise JobNotFound(f"there is no job {job_id!r}: that is not an id", status=404, code="job_not_found")
        return f"/v1/jobs/{job_id}"

    def _log(self, job_id: str, stream: str, range_: str, *, offset: int, wait: float) -> Op[LogChunk]:
        request = Request(
            "GET",
            f"{self._at(job_id)}/logs/{stream}",
            params=[("wait", f"{wait:g}")] if wait else (),
            headers=_range(range_),
            timeout=wait + _PATIENCE if wait else None,
        )
        response = yield from call(request)
        start, total = self._place(request, response, offset)
        word = response.headers.get("hpcjobs-job-state")
        attempt = response.headers.get("hpcjobs-attempt", "")
        if not word or not attempt.isdecimal():
            raise self._unexpected(request, response, "the state of the job is missing")
        data = b"" if response.status == 416 else response.content
        return LogChunk(data=data, offset=start, total=total, state=to_state(word), attempt=int(attempt))

    def _place(self, request: Request, response: Response, offset: int) -> tuple[int, int]:
        """Where the bytes of a ranged answer start, and how many there are in all."""
        if response.status == 200:  # the range was not heeded: everything
            return 0, len(response.content)
        if response.status not in {206, 416}:
            raise self.error_of(request, response)
        match = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or (response.status == 206) != (match[1] is not None):
            raise self._unexpected(request, response, "the range is missing")
        if match[1] is None:
            return offset, int(match[3])
        if int(match[2]) + 1 - int(match[1]) != len(response.content):
            raise self._unexpected(request, response, "the range does not fit the bytes")
        return int(match[1]), int(match[3])

    def _unexpected(self, request: Request, response: Response, why: str) -> Exception:
        return unexpected(response, method=request.method, url=self.base_url + request.path, why=why)


def _post(path: str, body: BaseModel, *, repeatable: bool | None = True, timeout: float | None = None) -> Request:
    # what was not set is not sent: None is a change, too
    content = body.model_dump_json(exclude_unset=True).encode()
    return Request("POST", path, headers=_JSON, content=content, repeatable=repeatable, timeout=timeout)


def _infos(new: NewJobs, specs: Sequence[JobSpec]) -> list[JobInfo]:
    """What is known of jobs that were just made, by what was asked."""
    return [
        JobInfo.model_construct(
            id=job_id,
            state=state,
            native_state=state.value,
            name=spec.name,
            queue=spec.queue,
            priority=spec.priority,
            tags=spec.tags,
            meta=spec.meta,
            max_attempts=spec.max_attempts,
            created_at=new.created_at,
        )
        for job_id, state, spec in zip(new.ids, new.states, specs, strict=False)
    ]


def _until_summed(size: int) -> float | None:
    """Seconds to wait for an answer before which the server may read a whole file; None for a file of no weight."""
    seconds = size / _SUMMED
    return seconds + _PATIENCE if seconds > 5.0 else None


def _sha256(header: str) -> str:
    """The sum in a ``Repr-Digest`` (RFC 9530), as hexadecimal digits; empty where there is none."""
    match = _REPR_DIGEST.search(header)
    return b64decode(match[1]).hex() if match else ""


def _range(text: str) -> dict[str, str]:
    # A range of a compressed answer would be a range of other bytes.
    return {"Range": text, "Accept-Encoding": "identity"}


def _chunks(ids: Sequence[str], size: int) -> list[list[str]]:
    return [list(ids[start : start + size]) for start in range(0, len(ids), size)]
