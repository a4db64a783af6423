"""One typed client, one live view and one cancel button for every place that runs a job.

Every public name can be had from here; it is imported when it is first used, so that ``import hpcjobs`` costs next to
nothing, also inside a job.

Example:
    >>> from hpcjobs import Client
    >>> with Client() as client:  # doctest: +SKIP
    ...     job = client.submit("python fit.py", inputs=["fit.py"], cores=2, walltime="10m")
    ...     job.wait()
    ...     print(job.logs())
"""

from __future__ import annotations

from hpcjobs._version import __version__

# Not typing.TYPE_CHECKING: a job that imports hpcjobs.runtime must not pay for typing. Not a plain False either: some
# editors would then not look at the names below.
TYPE_CHECKING = bool(0)
if TYPE_CHECKING:
    from hpcjobs import tapis_style
    from hpcjobs.actions import (
        DeleteOutcome,
        DeleteResult,
        RetryOutcome,
        RetryResult,
        UpdateOutcome,
        UpdateResult,
    )
    from hpcjobs.arrays import ArrayInfo
    from hpcjobs.client import AsyncClient, Client, connect, connect_async
    from hpcjobs.errors import (
        AuthenticationError,
        CancelTimeout,
        ClientClosed,
        ConfigError,
        Conflict,
        ConnectionLost,
        EnvironmentMismatch,
        HpcjobsError,
        InputError,
        InvalidRequest,
        InvalidSpec,
        JobCancelled,
        JobFailed,
        JobNotFound,
        JobUnsuccessful,
        JobVanished,
        NoService,
        NotCancelled,
        NotFound,
        OutputError,
        OutputNotFound,
        PermissionDenied,
        RateLimited,
        RemoteError,
        ResultError,
        ResultTooLarge,
        ServiceError,
        ServiceUnavailable,
        StaleVersion,
        SubmissionUnknown,
        TimedOut,
        TooLarge,
        TransportError,
        UnexpectedAnswer,
        Unsupported,
        WaitTimeout,
    )
    from hpcjobs.handles import AsyncJob, Job, as_completed
    from hpcjobs.job_arrays import AsyncJobArray, JobArray
    from hpcjobs.job_lists import AsyncJobList, JobList
    from hpcjobs.lifecycle import Action, JobState
    from hpcjobs.models import (
        CancelOutcome,
        CancelResult,
        Capabilities,
        Dependency,
        JobFilter,
        JobInfo,
        JobSpec,
        OutputFile,
        Progress,
        Resources,
        Scope,
        ServiceInfo,
        TaskInfo,
        TokenInfo,
        When,
    )
    from hpcjobs.readers import AsyncFile
    from hpcjobs.records import AttemptInfo, Change, History, QueueInfo
    from hpcjobs.retrying import RetryPolicy
    from hpcjobs.tracking import track

__all__ = [
    "Action",
    "ArrayInfo",
    "AsyncClient",
    "AsyncFile",
    "AsyncJob",
    "AsyncJobArray",
    "AsyncJobList",
    "AttemptInfo",
    "AuthenticationError",
    "CancelOutcome",
    "CancelResult",
    "CancelTimeout",
    "Capabilities",
    "Change",
    "Client",
    "ClientClosed",
    "ConfigError",
    "Conflict",
    "ConnectionLost",
    "DeleteOutcome",
    "DeleteResult",
    "Dependency",
    "EnvironmentMismatch",
    "History",
    "HpcjobsError",
    "InputError",
    "InvalidRequest",
    "InvalidSpec",
    "Job",
    "JobArray",
    "JobCancelled",
    "JobFailed",
    "JobFilter",
    "JobInfo",
    "JobList",
    "JobNotFound",
    "JobSpec",
    "JobState",
    "JobUnsuccessful",
    "JobVanished",
    "NoService",
    "NotCancelled",
    "NotFound",
    "OutputError",
    "OutputFile",
    "OutputNotFound",
    "PermissionDenied",
    "Progress",
    "QueueInfo",
    "RateLimited",
    "RemoteError",
    "Resources",
    "ResultError",
    "ResultTooLarge",
    "RetryOutcome",
    "RetryPolicy",
    "RetryResult",
    "Scope",
    "ServiceError",
    "ServiceInfo",
    "ServiceUnavailable",
    "StaleVersion",
    "SubmissionUnknown",
    "TaskInfo",
    "TimedOut",
    "TokenInfo",
    "TooLarge",
    "TransportError",
    "UnexpectedAnswer",
    "Unsupported",
    "UpdateOutcome",
    "UpdateResult",
    "WaitTimeout",
    "When",
    "__version__",
    "as_completed",
    "connect",
    "connect_async",
    "tapis_style",
    "track",
]

_HOMES = {
    "actions": (
        "DeleteOutcome",
        "DeleteResult",
        "RetryOutcome",
        "RetryResult",
        "UpdateOutcome",
        "UpdateResult",
    ),
    "arrays": ("ArrayInfo",),
    "client": ("AsyncClient", "Client", "connect", "connect_async"),
    "handles": ("AsyncJob", "Job", "as_completed"),
    "job_arrays": ("AsyncJobArray", "JobArray"),
    "job_lists": ("AsyncJobList", "JobList"),
    "lifecycle": ("Action", "JobState"),
    "models": (
        "CancelOutcome",
        "CancelResult",
        "Capabilities",
        "Dependency",
        "JobFilter",
        "JobInfo",
        "JobSpec",
        "OutputFile",
        "Progress",
        "Resources",
        "Scope",
        "ServiceInfo",
        "TaskInfo",
        "TokenInfo",
        "When",
    ),
    "readers": ("AsyncFile",),
    "records": ("AttemptInfo", "Change", "History", "QueueInfo"),
    "retrying": ("RetryPolicy",),
    "tracking": ("track",),
}
"""Where the public names live; all others are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "tapis_style":
        return import_module(f"{__name__}.{name}")
    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # found here from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: object) -> None:
    """``%load_ext hpcjobs``: the magics ``%%job``, ``%jobs``, ``%cancel`` and ``%hpcjobs_client`` are there."""
    from importlib import import_module

    import_module(f"{__name__}.notebook.magics").load(shell)


def unload_ipython_extension(shell: object) -> None:
    """``%unload_ext hpcjobs``: they are gone."""
    from importlib import import_module

    import_module(f"{__name__}.notebook.magics").unload(shell)
