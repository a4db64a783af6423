"""What a service is: requests out, models in, no I/O.

A service turns each action into an operation (:mod:`hpcjobs.protocol`). It implements what it can; everything else
raises ``Unsupported`` and says what to do instead. What it can do is data: ``Service.capabilities``.
"""
# ruff: noqa: ARG002 - what is not implemented here looks at no argument

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcjobs.errors import JobNotFound, ServiceError, Unsupported
from hpcjobs.lifecycle import JobState
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
from hpcjobs.protocol import Body, Op, Request, Response
from hpcjobs.services.answers import error_of

if TYPE_CHECKING:
    import httpx


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
    """

    data: bytes
    offset: int
    total: int
    etag: str


class Service(abc.ABC):
    """One kind of place that runs jobs, at one address.

    Attributes:
        name: A short word for the kind, as it is shown.
        base_url: Where it is, without a slash at the end.
        capabilities: What it can do.
        auth: Signs each request; None where nothing is signed.
    """

    name: str = "service"
    base_url: str = ""
    capabilities: Capabilities = Capabilities.model_construct()  # constants need no validation at import
    auth: httpx.Auth | None = None

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

    def spelled(self, job_id: str) -> str:
        """An id as the service spells it in its answers; asks nothing. What is no id at all stays as it is."""
        return job_id

    def find(self, key: str) -> Op[JobInfo | None]:
        """Look a submission key up: the job that was made with it, or None."""
        raise self._cannot("look a submission key up", "look for the job in the list of jobs")

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

    def file(self, job_id: str, path: str, *, offset: int, length: int) -> Op[FileChunk]:
        """A piece of a job's file."""
        raise self._cannot("hand out a job's files", "have the job copy its results to where you can reach them")

    def has_input(self, sha256: str) -> Op[bool]:
        """Whether the service has these bytes from an earlier upload."""
        raise self._cannot("take input files", "put them where the job can reach them")

    def send_input(self, sha256: str, body: Body) -> Op[None]:
        """Send the bytes of an input file."""
        raise self._cannot("take input files", "put them where the job can reach them")

    def info(self) -> Op[ServiceInfo]:
        """What the service says of itself and of who asks."""
        raise self._cannot("tell about itself", "see its documentation")

    def tasks(self) -> Op[list[TaskInfo]]:
        """The functions that the service offers by name."""
        raise self._cannot("offer named tasks", "submit a command or a function")

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

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer that is not what was asked for."""
        return error_of(response, method=request.method, url=self.base_url + request.path)

    def _cannot(self, action: str, instead: str) -> Unsupported:
        return Unsupported(self.name, action, instead)
