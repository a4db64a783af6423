"""Everything that hpcjobs raises, in one tree.

::

    HpcjobsError
    ├── ConfigError            a profile, address or setting that cannot be used
    ├── InvalidSpec            a job that cannot be asked for (also a ValueError)
    ├── InputError             an input file that is missing, too large, badly named or changed while it was sent
    ├── OutputError            an output that cannot be stored here (a name that leaves the folder, a broken transfer)
    │   └── OutputNotFound         there is no such file; names those that there are (also a FileNotFoundError)
    ├── Unsupported            the service has no such action; says what to do instead
    ├── TransportError         no answer came
    │   ├── NoService          nothing listens at the address
    │   ├── TimedOut           the answer took too long (also a TimeoutError)
    │   └── ConnectionLost     the connection broke under way
    ├── ServiceError           an answer came, and it says no
    │   ├── AuthenticationError    401: no token, a wrong one or an expired one
    │   ├── PermissionDenied       403: the token may not do this
    │   ├── NotFound               404: no such thing, or another's
    │   │   └── JobNotFound
    │   ├── Conflict               409: the state or an earlier request stands against it
    │   ├── StaleVersion           412: someone else changed the job first
    │   ├── TooLarge               413: more than the service takes
    │   ├── InvalidRequest         400, 422: the service cannot make sense of it
    │   ├── RateLimited            429
    │   ├── ServiceUnavailable     5xx
    │   └── UnexpectedAnswer       not the service's language: an HTML page, broken JSON
    ├── SubmissionUnknown      it cannot be known whether the job was accepted; carries the key
    ├── ClientClosed           the client was closed, and is used all the same (also a RuntimeError)
    ├── WaitTimeout            the job had not ended in time (also a TimeoutError)
    ├── CancelTimeout          the job had not stopped in time (also a TimeoutError)
    ├── NotCancelled           ``strict=True`` and nothing was cancelled
    ├── JobVanished            the service no longer knows the job
    ├── ResultError            the result of a function or task cannot be had: gone, broken, not for this Python
    │   └── ResultTooLarge     it is larger than the memory that is free here
    └── JobUnsuccessful        ``result()`` of a job that did not end well
        ├── JobFailed
        │   ├── RemoteError          a function or task raised an error; has its traceback
        │   └── EnvironmentMismatch  the job's Python or packages cannot run the function; nothing of it was run
        └── JobCancelled
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from errno import ENOENT
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcjobs.models import CancelResult, JobInfo


class HpcjobsError(Exception):
    """The base of everything that hpcjobs raises."""

    tries: int = 1
    """How often the request was sent before this was raised."""
    may_have_acted: bool = False
    """Whether the service may have acted all the same: an answer, this one or that of an earlier try, was lost."""

    @property
    def message(self) -> str:
        """What is wrong, in words: ``str(error)``."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled by calling the class with ``args``, which are the sentence, not what made it.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[HpcjobsError], args: tuple[object, ...], state: dict[str, Any]) -> HpcjobsError:
    """An error as it was in another process, or before it was copied."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(HpcjobsError):
    """A profile, an address or a setting cannot be used."""


class InvalidSpec(HpcjobsError, ValueError):
    """A job that cannot be asked for.

    Attributes:
        problems: One ``(field, what is wrong and what is allowed)`` per problem.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        lines = [f"{field}: {text}" if field else text for field, text in self.problems]
        super().__init__("; ".join(lines))


class InputError(HpcjobsError):
    """An input file that is missing, too large, badly named, or that changed while it was sent.

    Attributes:
        name: The file's name as given.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(f"input {name!r}: {problem}")


class OutputError(HpcjobsError):
    """An output that cannot be stored here.

    Attributes:
        name: The file's name as the service gives it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(f"output {name!r}: {problem}")


class OutputNotFound(OutputError, FileNotFoundError):
    """The job has no such file.

    Attributes:
        name: What was asked for.
        there: The names of the files that the job has.
    """

    errno = ENOENT  # of an OSError it would be None, because this one is not made from a number and a text

    def __init__(self, name: str, there: Sequence[str]) -> None:
        self.there = tuple(there)
        shown = ", ".join(self.there[:10]) + (", ..." if len(self.there) > 10 else "")
        super().__init__(name, f"the job has no such file; it has {shown or 'none'}")


class Unsupported(HpcjobsError):
    """The service has no such action.

    Attributes:
        service: The service's name.
        action: What was asked.
        instead: What to do instead.
    """

    def __init__(self, service: str, action: str, instead: str) -> None:
        self.service, self.action, self.instead = service, action, instead
        super().__init__(f"{service} cannot {action}; {instead}")


class TransportError(HpcjobsError):
    """No answer came. ``tries`` says how often it was tried; ``__cause__`` is the transport's own error."""


class NoService(TransportError):
    """Nothing listens at the address: nothing was sent."""


class TimedOut(TransportError, TimeoutError):
    """The answer took longer than the timeout; the service may have acted all the same."""

    may_have_acted = True


class ConnectionLost(TransportError):
    """The connection broke under way; the service may have acted all the same."""

    may_have_acted = True


class ServiceError(HpcjobsError):
    """An answer came, and it says no.

    Attributes:
        status: The HTTP status.
        code: The service's own short word for the problem, or ``""``.
        detail: The service's sentence.
        body: The whole answer where it was structured.
    """

    retry_after: float | None = None
    """Seconds that the service asked to wait before the next request, or None where it did not say."""

    def __init__(self, detail: str, *, status: int = 0, code: str = "", body: Mapping[str, Any] | None = None) -> None:
        self.status, self.code, self.detail, self.body = status, code, detail, dict(body or {})
        super().__init__(detail)


class AuthenticationError(ServiceError):
    """There was no token, or a wrong or an expired one."""


class PermissionDenied(ServiceError):
    """The token is good, but may not do this."""


class NotFound(ServiceError):
    """There is no such thing, or it is another's."""


class JobNotFound(NotFound):
    """There is no such job, or it is another's."""


class Conflict(ServiceError):
    """The job's state, or an earlier request with the same key, stands against it."""


class StaleVersion(ServiceError):
    """Someone else changed the job first."""


class TooLarge(ServiceError):
    """More than the service takes."""


class InvalidRequest(ServiceError):
    """The service cannot make sense of the request."""


class RateLimited(ServiceError):
    """Too many requests."""


class ServiceUnavailable(ServiceError):
    """The service failed, or is not ready."""

    may_have_acted = True


class UnexpectedAnswer(ServiceError):
    """The answer is not in the service's language: a proxy's HTML page, or broken JSON."""


PASSING = (TransportError, ServiceUnavailable, RateLimited, UnexpectedAnswer)
"""The errors that pass: the service, or the way to it, may be back at any time."""


class SubmissionUnknown(HpcjobsError):
    """It cannot be known whether the job was accepted.

    Attributes:
        key: The submission key; submitting again with the same key makes no second job.
    """

    def __init__(self, key: str, detail: str = "the answer was lost and the service could not be asked") -> None:
        self.key = key
        super().__init__(
            f"it is not known whether the job was accepted: {detail}. "
            f"Submit again with key={key!r}: that never makes a second job"
        )


class ClientClosed(HpcjobsError, RuntimeError):
    """The client was closed, and is used all the same."""

    def __init__(self, message: str = "this client is closed; make a new one: Client(), or connect()") -> None:
        super().__init__(message)


class WaitTimeout(HpcjobsError, TimeoutError):
    """The job had not ended in time; it goes on.

    Attributes:
        info: What was last known of the job.
        others: How many more of the jobs that were waited for had not ended either.
    """

    def __init__(self, info: JobInfo, seconds: float, others: int = 0) -> None:
        self.info, self.others = info, others
        more = f", and {others} more had not ended; they go on" if others else "; it goes on"
        super().__init__(f"job {info.id} was still {info.label} after {seconds:g} s{more}")


class CancelTimeout(HpcjobsError, TimeoutError):
    """The job was asked to stop and had not stopped in time; the request stands.

    Attributes:
        result: What the service said to the request.
        info: What was last known of the job.
        others: How many more of the jobs that were asked to stop had not stopped either.
    """

    def __init__(self, result: CancelResult, info: JobInfo, seconds: float, others: int = 0) -> None:
        self.result, self.info, self.others = result, info, others
        more = f", and so were {others} more; the requests stand" if others else "; the request stands"
        super().__init__(f"job {info.id} was still {info.label} {seconds:g} s after it was asked to stop{more}")


class NotCancelled(HpcjobsError):
    """Nothing was cancelled, and the caller had said ``strict=True``.

    Attributes:
        result: What happened instead.
    """

    def __init__(self, result: CancelResult) -> None:
        self.result = result
        super().__init__(str(result))


class JobVanished(HpcjobsError):
    """The service no longer knows the job; how it ended is not known.

    Attributes:
        info: What was last known of it, or None.
    """

    def __init__(self, job_id: str, info: JobInfo | None = None) -> None:
        self.job_id, self.info = job_id, info
        last = f"; it was last seen {info.label}" if info is not None else ""
        super().__init__(f"the service no longer knows job {job_id}{last}. How it ended is not known")


class ResultError(HpcjobsError):
    """The job ended well, but its result cannot be had.

    Attributes:
        info: The job's final info.
    """

    def __init__(self, info: JobInfo, problem: str) -> None:
        self.info = info
        super().__init__(f"the result of job {info.id} {problem}")


class ResultTooLarge(ResultError):
    """The result is larger than the memory that is free here; nothing of it was fetched.

    Attributes:
        size: Bytes of the result's file.
        available: Bytes of memory that are free.
    """

    def __init__(self, info: JobInfo, *, path: str, size: int, available: int) -> None:
        self.size, self.available = size, available
        super().__init__(
            info,
            f"has {size:,} bytes, which need about twice that memory, and {available:,} bytes are free here. "
            f'Fetch the file with job.download("folder", {path!r}) and load it where there is more memory, with '
            "hpcjobs.functions.load(file); or have the function write its own files and return their names",
        )


class JobUnsuccessful(HpcjobsError):
    """The job did not end well.

    Attributes:
        info: The job's final info.
        log_tail: The last lines of its log.
    """

    def __init__(self, info: JobInfo, log_tail: str = "") -> None:
        self.info, self.log_tail = info, log_tail
        why = f": {info.reason}" if info.reason else ""
        tail = f"\nThe log ends:\n{log_tail.rstrip()}" if log_tail.strip() else ""
        super().__init__(f"job {info.id} {info.label}{why}{tail}")


class JobFailed(JobUnsuccessful):
    """The job ended badly."""


class RemoteError(JobFailed):
    """A function or a task raised an error in the job.

    Where the error itself could be brought here, that one is raised, and this is its ``__cause__``.

    Attributes:
        error: The error in one line, such as ``"ValueError: no data"``.
        traceback: Where it was raised, as the job saw it.
    """

    def __init__(self, info: JobInfo, error: str, traceback: str) -> None:
        self.error, self.traceback = error, traceback
        super().__init__(info)
        where = f"\nThe whole log: job.logs(), or: hpcjobs logs {info.id}"
        self.args = (f"job {info.id} {info.label}: {error}\nIn the job:\n{traceback.rstrip()}{where}",)


class EnvironmentMismatch(JobFailed):
    """The Python or the packages of the job cannot run the function; nothing of it was run.

    Attributes:
        problems: What is wrong and what to do, one sentence each.
    """

    def __init__(self, info: JobInfo, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(info)
        told = "".join(f"\n- {problem}" for problem in self.problems)
        self.args = (f"job {info.id} {info.label}: its environment cannot run the function{told}",)


class JobCancelled(JobUnsuccessful):
    """The job was cancelled."""
