"""The data of Tapis v3 as it travels: what the service sends, what the reference server takes, what a script sees.

Field names on the wire are Tapis's; in Python they are written with underscores. Facts are from the OpenAPI document of
Tapis Jobs 1.9.1 and from its documentation (https://tapis.readthedocs.io/en/latest/technical/jobs.html).

Example:
    >>> from hpcjobs.tapis_data import TapisRequest
    >>> asked = TapisRequest.model_validate({"name": "a", "appId": "hello", "appVersion": "1.0", "maxMinutes": 5})
    >>> asked.app_id, asked.node_count, asked.max_minutes
    ('hello', 1, 5)
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from hpcjobs.lifecycle import JobState

SUFFIX = "-007"
"""Tapis's number for jobs, which ends the id of each."""

UUID = re.compile(rf"[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}{SUFFIX}")
"""What a job's id looks like: a UUID, and Tapis's number for jobs."""

WORDS: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.PENDING: "PENDING",
        JobState.QUEUED: "QUEUED",
        JobState.STAGING: "STAGING_JOB",
        JobState.RUNNING: "RUNNING",
        JobState.PAUSED: "BLOCKED",
        JobState.ARCHIVING: "ARCHIVING",
        JobState.FINISHED: "FINISHED",
        JobState.FAILED: "FAILED",
        JobState.CANCELLED: "CANCELLED",
    }
)
"""The word of Tapis for each state, for services that have words of their own."""

HIDDEN_TAG = "tapis:hidden"
"""The tag of a job that was hidden, on services that hide none by themselves."""

CONDITIONS: Mapping[str, str] = MappingProxyType(
    {
        "CANCELLED_BY_USER": "cancelled by its owner",
        "JOB_ARCHIVING_FAILED": "its outputs could not be archived",
        "JOB_DATABASE_ERROR": "the jobs service could not reach its database",
        "JOB_EXECUTION_MONITORING_ERROR": "the job could not be watched",
        "JOB_EXECUTION_MONITORING_ERROR_TIMEOUT": "the job could not be watched for too long",
        "JOB_EXECUTION_MONITORING_TIMEOUT": "the job was running for longer than it is watched",
        "JOB_FILES_SERVICE_ERROR": "the files service failed",
        "JOB_INTERNAL_ERROR": "the jobs service failed",
        "JOB_INVALID_DEFINITION": "what was asked for is not valid",
        "JOB_LAUNCH_FAILURE": "the job could not be started",
        "JOB_QUEUE_MONITORING_ERROR": "the job could not be watched in the scheduler's queue",
        "JOB_RECOVERY_FAILURE": "a blocked job could not be brought back",
        "JOB_RECOVERY_TIMEOUT": "a blocked job was not brought back in time",
        "JOB_REMOTE_ACCESS_ERROR": "the execution system could not be reached",
        "JOB_REMOTE_OUTCOME_ERROR": "the application ended with an error",
        "JOB_TRANSFER_FAILED_OR_CANCELLED": "a file transfer failed or was cancelled",
        "JOB_TRANSFER_MONITORING_TIMEOUT": "a file transfer took too long",
        "JOB_UNABLE_TO_STAGE_INPUTS": "its inputs could not be put in place",
        "JOB_UNABLE_TO_STAGE_JOB": "the application could not be put in place",
        "NORMAL_COMPLETION": "ended normally",
        "SCHEDULER_CANCELLED": "cancelled in the scheduler",
        "SCHEDULER_DEADLINE": "the scheduler's deadline went by",
        "SCHEDULER_OUT_OF_MEMORY": "out of memory",
        "SCHEDULER_STOPPED": "stopped by the scheduler",
        "SCHEDULER_TERMINATED": "ended by the scheduler",
        "SCHEDULER_TIMEOUT": "the walltime was used up",
    }
)
"""Why a job ended, Tapis's word by word."""

# fmt: off
JOB_KEYS = (
    "id", "name", "owner", "tenant", "description", "status", "condition", "lastMessage", "created", "ended",
    "lastUpdated", "uuid", "appId", "appVersion", "archiveOnAppError", "archiveMode", "dynamicExecSystem",
    "execSystemId", "execSystemExecDir", "execSystemInputDir", "execSystemOutputDir", "execSystemLogicalQueue",
    "archiveSystemId", "archiveSystemDir", "dtnSystemId", "dtnSystemInputDir", "dtnSystemOutputDir",
    "nodeCount", "coresPerNode", "memoryMB", "maxMinutes", "fileInputs", "parameterSet",
    "execSystemConstraints", "subscriptions", "blockedCount", "remoteJobId", "remoteJobId2", "remoteOutcome",
    "remoteResultInfo", "remoteQueue", "remoteSubmitted", "remoteStarted", "remoteEnded", "remoteSubmitRetries",
    "remoteChecksSuccess", "remoteChecksFailed", "remoteLastStatusCheck", "inputTransactionId",
    "inputCorrelationId", "archiveTransactionId", "archiveCorrelationId", "stageAppTransactionId",
    "stageAppCorrelationId", "dtnInputTransactionId", "dtnInputCorrelationId", "dtnOutputTransactionId",
    "dtnOutputCorrelationId", "tapisQueue", "visible", "createdby", "createdbyTenant", "tags", "jobType",
    "isMpi", "mpiCmd", "cmdPrefix", "sharedAppCtx", "sharedAppCtxAttribs", "trackingId", "notes",
    "_fileInputsSpec", "_parameterSetModel",
)
# fmt: on
"""The keys of a job on the wire, in the order of Tapis's document: ``isMpi`` where it says ``mpi``, and two more."""

# fmt: off
LIST_KEYS = (
    "uuid", "name", "owner", "appId", "created", "status", "condition", "remoteStarted", "ended", "tenant",
    "execSystemId", "archiveSystemId", "appVersion", "lastUpdated",
)
# fmt: on
"""The keys of a job in a list."""


ENDED_BEFORE = (("its walltime was over*", "SCHEDULER_TIMEOUT"), ("MemoryError*", "SCHEDULER_OUT_OF_MEMORY"),
    ("*out of memory*", "SCHEDULER_OUT_OF_MEMORY"))  # fmt: skip
"""Conditions by reasons as this project words them (``*`` is anything), whatever the exit code."""

ENDED_OTHERWISE = (
    ("*walltime*", "SCHEDULER_TIMEOUT"),
    ("killed by *", "JOB_REMOTE_OUTCOME_ERROR"),
    ("it had not started by its expiry*", "SCHEDULER_DEADLINE"),
    ("its worker was lost*", "JOB_EXECUTION_MONITORING_ERROR"),
    ("the service could not prepare the job*", "JOB_UNABLE_TO_STAGE_JOB"),
    ("command not found*", "JOB_LAUNCH_FAILURE"),
    ("the command could not be*", "JOB_LAUNCH_FAILURE"),
    ("there is no *", "JOB_LAUNCH_FAILURE"),
)
"""The same where there is no exit code, which alone says JOB_REMOTE_OUTCOME_ERROR."""


def reason_of(condition: str | None, last_message: str | None) -> str | None:
    """Why a job ended as it did, in words.

    Args:
        condition: Tapis's word; one that is not known is shown as it is.
        last_message: What Tapis says beside it.

    Example:
        >>> reason_of("SCHEDULER_OUT_OF_MEMORY", "Setting job status to FAILED.")
        'out of memory (SCHEDULER_OUT_OF_MEMORY)'
        >>> reason_of("NORMAL_COMPLETION", "Setting job status to FINISHED.") is None
        True
    """
    if condition == "NORMAL_COMPLETION":
        return None
    said = (last_message or "").strip()
    told = "" if not said or said.startswith("Setting job status to ") else said
    if condition is None:
        return told or None
    words = f"{CONDITIONS[condition]} ({condition})" if condition in CONDITIONS else condition
    return f"{words}: {told}" if told else words


def time_text(moment: dt.datetime | None) -> str | None:
    """A moment as Tapis writes it, without a fraction where there is none.

    Example:
        >>> time_text(dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc))
        '2026-05-01T00:00:00Z'
    """
    if moment is None:
        return None
    text = moment.astimezone(dt.timezone.utc).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}Z"


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class _Asked(_Wire):
    model_config = ConfigDict(extra="forbid")


class Argument(_Asked):
    """An argument of an application, a container or the scheduler."""

    name: str | None = None
    description: str | None = None
    include: bool | None = None
    arg: str | None = None
    notes: Any = None


class Variable(_Asked):
    """An environment variable."""

    key: Annotated[str, StringConstraints(min_length=1)]
    value: str | None = None
    description: str | None = None
    include: bool | None = None
    notes: Any = None


class ArchiveFilter(_Asked):
    """Which outputs are archived."""

    includes: list[str] = Field(default_factory=list)
    excludes: list[str] = Field(default_factory=list)
    include_launch_files: bool = True


class LogConfig(_Asked):
    """Where the application's output goes."""

    stdout_filename: str
    stderr_filename: str


class ParameterSet(_Asked):
    """What an application is called with."""

    app_args: list[Argument] = Field(default_factory=list)
    container_args: list[Argument] = Field(default_factory=list)
    scheduler_options: list[Argument] = Field(default_factory=list)
    env_variables: list[Variable] = Field(default_factory=list)
    archive_filter: ArchiveFilter | None = None
    log_config: LogConfig | None = None


class FileInput(_Asked):
    """A file or a folder that is put in place before the job starts."""

    name: str | None = None
    description: str | None = None
    env_key: str | None = None
    auto_mount_local: bool | None = None
    source_url: str | None = None
    target_path: str | None = None
    notes: Any = None


class FileInputArray(_Asked):
    """Several files that go into one folder."""

    name: str | None = None
    description: str | None = None
    env_key: str | None = None
    source_urls: list[str] = Field(default_factory=list)
    target_dir: str | None = None
    notes: Any = None


class TapisRequest(_Asked):
    """What is asked when a job is submitted; a field that Tapis does not know is refused, as Tapis does."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    app_id: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    app_version: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    owner: str | None = None
    tenant: str | None = None
    description: str | None = None
    job_type: Literal["FORK", "BATCH"] | None = None
    archive_on_app_error: bool = True
    archive_mode: str | None = None
    dynamic_exec_system: bool = False
    exec_system_id: str | None = None
    exec_system_exec_dir: str | None = None
    exec_system_input_dir: str | None = None
    exec_system_output_dir: str | None = None
    exec_system_logical_queue: str | None = None
    archive_system_id: str | None = None
    archive_system_dir: str | None = None
    dtn_system_input_dir: str | None = None
    dtn_system_output_dir: str | None = None
    node_count: int = Field(default=1, ge=1)
    cores_per_node: int = Field(default=1, ge=1)
    memory_mb: int = Field(default=100, ge=1, alias="memoryMB")
    max_minutes: int = Field(default=10, ge=1)
    file_inputs: list[FileInput] = Field(default_factory=list)
    file_input_arrays: list[FileInputArray] = Field(default_factory=list)
    parameter_set: ParameterSet = Field(default_factory=ParameterSet)
    exec_system_constraints: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    subscriptions: list[dict[str, Any]] = Field(default_factory=list)
    is_mpi: bool = False
    mpi_cmd: str | None = None
    cmd_prefix: str | None = None
    notes: Any = None
