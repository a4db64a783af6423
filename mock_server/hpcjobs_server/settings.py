"""The reference server's settings: one class for the supervisor, the API and the workers.

They are read from the environment (``HPCJOBS_SERVER_*``), which is also how the supervisor hands them to the processes
that it starts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from hpcjobs.models import parse_duration

PREFIX = "HPCJOBS_SERVER_"


def default_data() -> Path:
    """Where the local service keeps its data: ``HPCJOBS_DATA``, else ``hpcjobs`` below ``XDG_DATA_HOME``."""
    if chosen := os.environ.get("HPCJOBS_DATA"):
        return Path(chosen)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "hpcjobs"


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds(value: Any) -> float:
    return parse_duration(value).total_seconds()


def _slurm_option(value: str) -> str:
    from hpcjobs_server.executors.slurm_options import check, read_option

    if problems := check(dict([read_option(value)])):
        raise ValueError(f"{value!r}: {problems[0][1]}")
    return value


class Settings(BaseSettings):
    """Everything that an operator can set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    data: Path = Field(default_factory=default_data)
    """The data folder; all of the server's hosts must see it at the same path."""
    database_url: str = ""
    """A ``postgresql://`` URL; empty for the embedded Postgres."""
    host: str = "127.0.0.1"
    port: int = 8765
    """0 for a free one."""
    executor: str = "local"
    """``local`` runs jobs on the workers' hosts, ``slurm`` hands them to the cluster."""
    workers: int = Field(default=1, ge=0, le=1000)
    """Worker processes on this host; with ``slurm`` one is enough for thousands of jobs."""
    cores: int = Field(default=0, ge=0)
    """Cores that each worker may give to jobs; 0: this host's cores, shared among its workers."""
    queues: list[str] = Field(default_factory=list)
    """The queues that a worker serves; empty for all."""
    listen: bool = True
    """Whether LISTEN may be used; without it (a pooler that cannot) everything is polled."""
    poll: float = Field(default=1.0, gt=0)
    """Pause between looks where no notification came."""
    lease: float = Field(default=30.0, gt=0)
    """A worker that was silent for this long, and for the grace time of its job, is lost."""
    beat: float = Field(default=1.0, gt=0)
    """Pause between a worker's heartbeats."""
    max_input_bytes: int = Field(default=5 * 1024**3, ge=0)
    max_unfinished_bytes: int = Field(default=20 * 1024**3, ge=0)
    """Of one owner's uploads that broke off, in all; older ones make room for newer ones."""
    max_body_bytes: int = Field(default=64 * 1024**2, ge=1024)
    """The largest JSON body."""
    tasks: list[str] = Field(default_factory=list)
    """Modules whose functions can be called by name."""
    tasks_path: list[str] = Field(default_factory=list)
    """Folders where these modules are looked for, beside the server's own Python path."""
    tasks_only: bool = False
    """Whether commands and functions of the users' own are refused."""
    apps: Path | None = None
    """The TOML file with the apps and systems that users can name."""
    tapis_tenant: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,23}$")] = "dev"
    """The tenant that the Tapis API (``/v3``) says it is."""
    tapis_token_seconds: float = Field(default=14_400.0, gt=0)
    """For how long a token is good that was got with a password at ``/v3/oauth2/tokens``."""
    session_seconds: float = Field(default=43_200.0, gt=0, le=30 * 86_400)
    """For how long a browser that has logged in to the job page stays so."""
    faults: bool = False
    """Whether an administrator may have the Tapis API fail on purpose, by ``/v1/faults``."""
    keep: Annotated[float, BeforeValidator(_seconds), Field(gt=0)] | None = None
    """For how long jobs that have ended are kept, with their files and the inputs that no other has; None for ever.

    Also ``"90d"``, ``"12h"``, as everywhere in hpcjobs."""
    slurm_jobs: int = Field(default=1000, ge=1, le=100_000)
    """Jobs that each worker of the executor ``slurm`` hands over at once: such as wait in Slurm's queue, or run."""
    slurm_options: list[Annotated[str, AfterValidator(_slurm_option)]] = Field(default_factory=list)
    """sbatch's options for all jobs, as ``NAME=VALUE`` or ``NAME``; a job's own options come before them."""
    slurm_interval: float = Field(default=2.0, gt=0, le=600)
    """Seconds between two calls of squeue at least; one call serves all jobs of a worker."""
    pool_size: int = Field(default=8, ge=2)
    """Database connections of the API process."""
    token_file: Path | None = None
    """Where the local owner's token is written; None: ``token`` in the data folder."""

    @property
    def cores_per_worker(self) -> int:
        """Cores that each worker gives to jobs."""
        return self.cores or max(1, usable_cores() // max(1, self.workers))

    def job_folder(self, job_id: str, attempt: int) -> Path:
        """The folder of one attempt of a job."""
        return self.data / "jobs" / job_id / str(attempt)

    def blob_path(self, owner: str, sha256: str) -> Path:
        """Where an input file of an owner is kept, by its content."""
        return self.data / "blobs" / owner / sha256[:2] / sha256

    def environ(self) -> dict[str, str]:
        """These settings as environment variables, for a process that is started with them."""
        out: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, list):
                out[PREFIX + name.upper()] = json.dumps(value)
            else:
                out[PREFIX + name.upper()] = str(value)
        return out
