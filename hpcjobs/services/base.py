"""What a service is: requests out, models in, no I/O.

A service turns each action into an operation (:mod:`hpcjobs.protocol`). It implements what it can; everything else
raises ``Unsupported`` and says what to do instead. What it can do is data: ``Service.capabilities``.
"""
# ruff: noqa: ARG002 - what is not implemented here looks at no argument

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from hpcjobs.actions import DeleteResult, JobChanges, JobUpdate, RetryResult, UpdateResult
from hpcjobs.errors import JobNotFound, ServiceError, Unsupported
from hpcjobs.lifecycle import MEANT, Action, JobState
from hpcjobs.models import (
    CancelResult,
    Capabilities,
    JobFilter,
    JobInfo,
    JobPage,
    JobQueryAnswer,
    JobSpec,
    OutputFile,
    ServiceInfo,
    TaskInfo,
    TokenInfo,
    TokenOrder,
)
from hpcjobs.protocol import Body, Op, Request, Response, call, each
from hpcjobs.services.answers import error_of

if TYPE_CHECKING:
    import httpx

    from hpcjobs.arrays import ArrayInfo, ArrayOrder
    from hpcjobs.records import History, QueueInfo, QueueOrder


SLOWEST = 15.0
"""Seconds between two looks at a job, at most, where the service does not say otherwise."""


@dataclasses.dataclass(frozen=True)
class LogChunk:
    """A piece of a log.

    Attributes:
        data: The bytes; empty where there is nothing (yet).
        offset: Where they start in the log of this attempt.
        total: How long that log was when it was read.
        state: The job's state, read before the log: where it is terminal, ``total`` is the log's end.
        attempt: Whose log it is; 0 before the job has started. Each attempt's log starts at 0 again.
    """

    data: bytes
    offset: int
    total: int
    state: JobState
    attempt: int


@dataclasses.dataclass(frozen=True)
class FileChunk:
    """A piece of a job's file.

    Attributes:
        data: The bytes.
        offset: Where they start.
        total: How long the file is.
        etag: Changes when the file does; ``""`` where the service does not tell.
        sha256: The sum of the whole file, where it was asked for and the service tells it; else ``""``.
    """

    data: bytes
    offset: int
    total: int
    etag: str
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class InputOffset:
    """How much of an input has arrived.

    Attributes:
        offset: Bytes from the start.
        complete: Whether that is all, and was checked.
        busy: Whether it is being sent at this moment.
    """

    offset: int
    complete: bool = False
    busy: bool = False


class Service(abc.ABC):
    """One kind of place that runs jobs, at one address.

    Attributes:
        name: A short word for the kind, as it is shown.
        base_url: Where it is, without a slash at the end.
        other_urls: The other places that its requests go to, by ``Request.base``.
        capabilities: What it can do.
        auth: Signs each request; None where nothing is signed.
        socket: The unix socket that it listens at, in place of the host in ``base_url``; None for a host.
        patience: Seconds that an answer may take at least, whatever the client's timeout is.
        advice: What to do where nothing answers; empty for what holds for the reference server.
    """

    name: str = "service"
    base_url: str = ""
    other_urls: Sequence[str] = ()
    capabilities: Capabilities = Capabilities.model_construct()  # constants need no validation at import
    auth: httpx.Auth | None = None
    socket: str | None = None
    patience: float = 0.0
    advice: str = ""

    @property
    def where(self) -> str:
        """Its address, for people."""
        return f"unix:{self.socket}" if self.socket else self.base_url or self.name

    @abc.abstractmethod
    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; ``key`` travels with it, so that it can be found again."""

    @abc.abstractmethod
    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """

    @abc.abstractmethod
    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:
        """Cancel jobs: one result per id, in the order of the ids; an unknown id has the outcome NOT_FOUND."""

    def submit_many(self, specs: Sequence[JobSpec], key: str) -> Op[list[JobInfo]]:
        """Ask for many jobs; one by one, with a key each, where the service has no request for many."""
        return each(self.submit(spec, f"{key}/{number}") for number, spec in enumerate(specs))

    def submit_array(self, order: ArrayOrder, key: str) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
        """Ask for an array, and tell its jobs in order."""
        raise self._cannot("submit arrays", "submit the jobs by submit_many()")

    def array(self, array_id: str) -> Op[ArrayInfo]:
        """Look at an array.

        Raises:
            NotFound: There is no such array, or it is another's.
        """
        raise self._cannot("look at arrays", "keep the ids of its jobs")

    def jobs_of_array(self, array_id: str) -> Op[list[str]]:
        """The ids of an array's jobs."""
        return self.ids_of(JobFilter(array=array_id))

    def members_of(self, ids: Sequence[str]) -> Op[dict[str, list[str]]]:
        """Those of the ids that are arrays, each with the ids of its jobs."""
        if not self.capabilities.arrays:
            return {}
        members: dict[str, list[str]] = {}
        for job_id in (yield from self.get_many(list(dict.fromkeys(ids)))).arrays:
            if jobs := (yield from self.jobs_of_array(job_id)):
                members[job_id] = jobs
        return members

    def cancel_where(
        self,
        filter: JobFilter,  # noqa: A002 - its name
        *,
        reason: str | None,
        abort: bool,
        delete: bool,
    ) -> Op[list[CancelResult]]:
        """Cancel all jobs that ``filter`` means and that have not ended."""
        ids = yield from self._listed(filter, MEANT[Action.CANCEL])
        return (yield from self.cancel(ids, reason=reason, abort=abort, delete=delete)) if ids else []

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Run jobs again: one result per id, in the order of the ids."""
        raise self._cannot("run a job again", "submit it again")

    def retry_where(self, filter: JobFilter) -> Op[list[RetryResult]]:  # noqa: A002 - its name
        """Run all jobs again that ``filter`` means; where it names no state, those that did not end well."""
        ids = yield from self._listed(filter, MEANT[Action.RETRY])
        return (yield from self.retry(ids)) if ids else []

    def delete(self, ids: Sequence[str]) -> Op[list[DeleteResult]]:
        """Delete jobs: one result per id, in the order of the ids."""
        raise self._cannot("delete jobs", "leave it; the service removes old jobs by itself")

    def delete_where(self, filter: JobFilter) -> Op[list[DeleteResult]]:  # noqa: A002 - its name
        """Delete all jobs that ``filter`` means; where it names no state, those that do not run."""
        ids = yield from self._listed(filter, MEANT[Action.DELETE])
        return (yield from self.delete(ids)) if ids else []

    def update(self, items: Sequence[JobUpdate]) -> Op[list[UpdateResult]]:
        """Change jobs, each in its own way: one result per item, in their order."""
        raise self._cannot("change a job", "cancel it and submit another one")

    def update_all(self, ids: Sequence[str], changes: JobChanges) -> Op[list[UpdateResult]]:
        """Change jobs, all alike: one result per id, in the order of the ids."""
        return self.update([JobUpdate(id=job_id, changes=changes) for job_id in ids])

    def update_where(self, filter: JobFilter, changes: JobChanges) -> Op[list[UpdateResult]]:  # noqa: A002 - its name
        """Change all jobs that ``filter`` means; where it names no state, those that have not started."""
        ids = yield from self._listed(filter, MEANT[Action.UPDATE])
        return (yield from self.update_all(ids, changes)) if ids else []

    def history(self, job_id: str) -> Op[History]:
        """What was written down about a job."""
        raise self._cannot("tell a job's history", "look at its times in JobInfo")

    def queues(self) -> Op[list[QueueInfo]]:
        """The queues and how they are set."""
        raise self._cannot("list queues", "see its documentation")

    def set_queue(self, name: str, order: QueueOrder) -> Op[QueueInfo]:
        """Set a queue."""
        raise self._cannot("set queues", "ask its operators")

    def _listed(self, filter: JobFilter, states: frozenset[JobState]) -> Op[list[str]]:  # noqa: A002 - its name
        """The ids of the jobs that ``filter`` means; where it names no state, in these ones."""
        return self.ids_of(filter if filter.state else filter.model_copy(update={"state": sorted(states)}))

    def acted_on(self, info: JobInfo) -> bool:
        """Whether a job that conditions mean is acted on, where all such jobs are to be cancelled or changed."""
        return True

    def ids_of(self, wanted: JobFilter) -> Op[list[str]]:
        """The ids of all jobs that a filter means and that may be acted on, page by page."""
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = yield from self.page(wanted, limit=1000, cursor=cursor)
            ids += [info.id for info in page.items if self.acted_on(info)]
            if page.next is None or page.next == cursor:
                return ids
            cursor = page.next

    def spelled(self, job_id: str) -> str:
        """An id as the service spells it in its answers; asks nothing. What is no id at all stays as it is."""
        return job_id

    def find(self, key: str) -> Op[JobInfo | None]:
        """Look a submission key up: the job that was made with it, or None."""
        raise self._cannot("look a submission key up", "look for the job in the list of jobs")

    def find_submitted(self, spec: JobSpec, key: str) -> Op[JobInfo | None]:
        """Look a submission key up, where ``spec`` was asked for: a service may have to know in which queue."""
        return self.find(key)

    def asked_for(self, info: JobInfo, spec: JobSpec, key: str) -> bool:
        """Whether a job that was found by ``key`` is the one that ``spec`` asks for, as far as the service tells."""
        return True

    def pace(self, quiet: float, states: Collection[JobState]) -> float:
        """Seconds until the next look at jobs that are waited for, where nothing tells of their changes.

        Args:
            quiet: Seconds since something last changed.
            states: Their states.
        """
        return min(SLOWEST, quiet / 10)

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        """Look at many jobs; an unknown one is named, not raised."""
        items: list[JobInfo] = []
        missing: list[str] = []
        for job_id in ids:
            try:
                items.append((yield from self.get(job_id)))
            except JobNotFound:
                missing.append(job_id)
        return JobQueryAnswer(items=items, missing=missing)

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of the jobs that ``filter`` means, newest first."""
        raise self._cannot("list jobs", "keep the ids of your jobs")

    def log(
        self, job_id: str, stream: str, *, offset: int, wait: float = 0.0, length: int | None = None
    ) -> Op[LogChunk]:
        """A piece of a log from ``offset``; the service may hold the answer for ``wait`` seconds until there is one."""
        raise self._cannot("show logs", "write to a file that the service lets you fetch")

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        """The last ``size`` bytes of a log."""
        raise self._cannot("show logs", "write to a file that the service lets you fetch")

    def files(self, job_id: str) -> Op[list[OutputFile]]:
        """The files of a job."""
        raise self._cannot("list a job's files", "have the job copy its results to where you can reach them")

    def file(self, job_id: str, path: str, *, offset: int, length: int, summed: bool = False) -> Op[FileChunk]:
        """A piece of a job's file; with ``summed`` the service is asked for the sum of the whole file too."""
        raise self._cannot("hand out a job's files", "have the job copy its results to where you can reach them")

    def has_input(self, sha256: str) -> Op[bool]:
        """Whether the service has these bytes from an earlier upload."""
        raise self._cannot("take input files", "put them where the job can reach them")

    def missing_inputs(self, sha256: Sequence[str]) -> Op[list[str]]:
        """Which of these contents the service has not, in their order."""
        missing: list[str] = []
        for one in sha256:
            if not (yield from self.has_input(one)):
                missing.append(one)  # noqa: PERF401 - no yield in a comprehension
        return missing

    def send_input(self, sha256: str, body: Body) -> Op[None]:
        """Send the bytes of an input file."""
        raise self._cannot("take input files", "put them where the job can reach them")

    def input_offset(self, sha256: str) -> Op[InputOffset]:
        """How much of an input has arrived, over all that was sent of it so far."""
        raise self._cannot("continue an upload", "send the file whole")

    def append_input(self, sha256: str, body: Body, *, offset: int, total: int) -> Op[None]:
        """Send the bytes of an input file from ``offset`` on; up to its end, ``total``, it is checked and stored."""
        raise self._cannot("continue an upload", "send the file whole")

    def info(self) -> Op[ServiceInfo]:
        """What the service says of itself and of who asks."""
        raise self._cannot("tell about itself", "see its documentation")

    def tasks(self) -> Op[list[TaskInfo]]:
        """The functions that the service offers by name."""
        raise self._cannot("offer named tasks", "submit a command or a function")

    def job_page(self) -> Op[str]:
        """An address that lets a browser in, once, to the service's page of all jobs."""
        raise self._cannot("open a page of its jobs", "see them in the service's own portal")

    def create_token(self, order: TokenOrder) -> Op[TokenInfo]:
        """Make a token; its secret is told once."""
        raise self._cannot("make tokens", "get one where you registered")

    def list_tokens(self) -> Op[list[TokenInfo]]:
        """The tokens of who asks, without their secrets."""
        raise self._cannot("list tokens", "look where you registered")

    def revoke_token(self, token_id: str) -> Op[None]:
        """End a token."""
        raise self._cannot("revoke tokens", "do it where you registered")

    def events_request(self, after: str | None) -> Request:
        """The request that opens the stream of changes, from the cursor ``after`` or from now."""
        raise self._cannot("stream changes", "ask for the state again")

    def sent(self, request: Request) -> Op[Response]:
        """The answer to a request, where it is a good one.

        Raises:
            ServiceError: The service refuses it.
        """
        response = yield from call(request)
        if not response.ok:
            raise self.error_of(request, response)
        return response

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer that is not what was asked for."""
        return error_of(response, method=request.method, url=(request.base or self.base_url) + request.path)

    def _cannot(self, action: str, instead: str) -> Unsupported:
        return Unsupported(self.name, action, instead)
