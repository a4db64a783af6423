"""The services that the contract is tried on, each with what a test needs to know of it."""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import shlex
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import Self

from hpcjobs.services import batch
from tests.conformance import colours
from tests.conformance.proxy import Proxy, Seen
from tests.moto_batch import JOB_DEFINITION, QUEUE, REGION, MotoBatch
from tests.running import Service
from tests.slurm_cluster import SlurmCluster

Spec = dict[str, Any]
"""What ``client.submit()`` is called with."""


class Place(abc.ABC):
    """A real service behind a proxy.

    A service of your own is tried by ``pytest tests/conformance/test_services.py --place my.module:MyPlace``.

    Attributes:
        name: What the tests call it.
        proxy: What the clients speak to.
    """

    name: ClassVar[str]

    unknown_id: ClassVar[str] = "00000000-0000-4000-8000-000000000000"
    """An id that looks like one of this service's and is none."""

    running_word: ClassVar[str] = "RUNNING"
    """The service's own word for a job that runs."""

    throttled: ClassVar[tuple[int, bytes, Mapping[str, str]]] = (429, b"", {})
    """How this service says that it is asked too often, but for Retry-After: status, body and headers."""

    tells_exit_code: ClassVar[bool] = True
    """Whether a job that failed has its exit code."""

    def __init__(self, url: str) -> None:
        self.proxy = Proxy(url)

    @classmethod
    def opened(cls, fixture: Callable[[str], Any]) -> Self:
        """The place, started; ``fixture(name)`` gives the value of one of the tests' own session fixtures."""
        return cls()

    @abc.abstractmethod
    def connection(self) -> tuple[str, dict[str, Any]]:
        """The address for a client, which leads through the proxy, and its options."""

    @abc.abstractmethod
    def shell(self, command: str, **fields: Any) -> Spec:
        """A job that runs this shell command."""

    @abc.abstractmethod
    def held(self) -> Spec:
        """A job that does not start by itself, and of which nothing has been started."""

    @abc.abstractmethod
    def too_long(self) -> Spec:
        """A job that runs longer than it may, with the shortest limit that the service knows."""

    @abc.abstractmethod
    def submits(self, seen: Seen) -> bool:
        """Whether a request asks for a job."""

    @abc.abstractmethod
    def cancels(self, seen: Seen) -> bool:
        """Whether a request asks that a job stop."""

    @abc.abstractmethod
    def looks(self, seen: Seen) -> bool:
        """Whether a request looks at one job or at several."""

    def folder(self, given: Path) -> Path:
        """A folder in which jobs can write; ``given`` is the test's own."""
        return given

    @contextlib.contextmanager
    def forgetting(self, job_id: str) -> Iterator[None]:
        """From now on the service does not know this job, which was held."""
        with self.proxy.asking(job_id, self.unknown_id):
            yield

    def client(self, colour: str) -> contextlib.AbstractContextManager[Any]:
        """A client of this colour."""
        url, options = self.connection()
        return colours.client(colour, url, **options)

    def close(self) -> None:
        """Give everything back."""
        self.proxy.close()


class ReferencePlace(Place):
    """The reference server, over its own API."""

    name = "reference server"

    @classmethod
    def opened(cls, fixture: Callable[[str], Any]) -> Self:
        return cls(fixture("shared_service"))

    def __init__(self, service: Service) -> None:
        super().__init__(service.url)
        self._token = service.make_token(f"owner-{uuid.uuid4().hex[:8]}").token or ""
        self._direct = service.client(self._token)

    def connection(self) -> tuple[str, dict[str, Any]]:
        return self.proxy.url, {"token": self._token}

    def shell(self, command: str, **fields: Any) -> Spec:
        return {"command": command, **fields}

    def held(self) -> Spec:
        return self.shell("true", start_in="1h")

    def too_long(self) -> Spec:
        return self.shell("sleep 600", walltime="1s", grace="1s")

    def submits(self, seen: Seen) -> bool:
        return seen.method == "POST" and seen.path == "/v1/jobs"

    def cancels(self, seen: Seen) -> bool:
        return seen.method == "POST" and "cancel" in seen.path

    def looks(self, seen: Seen) -> bool:
        return (seen.method == "GET" and seen.path.startswith("/v1/jobs/")) or seen.path.startswith("/v1/jobs/query")

    @contextlib.contextmanager
    def forgetting(self, job_id: str) -> Iterator[None]:
        self._direct.delete(job_id)
        yield

    def close(self) -> None:
        self._direct.cancel_many(state="active")
        self._direct.close()
        super().close()


class TapisPlace(ReferencePlace):
    """The reference server, over its Tapis API."""

    name = "Tapis"
    unknown_id = "00000000-0000-4000-8000-000000000000-007"

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._stopped = f"stopped-{uuid.uuid4().hex[:8]}"
        with service.client() as operator:
            operator.pause_queue(self._stopped)

    def connection(self) -> tuple[str, dict[str, Any]]:
        return f"tapis+{self.proxy.url}", {"token": self._token}

    def shell(self, command: str, **fields: Any) -> Spec:
        code = f"import os; os.execvp('sh', ['sh', '-c', {command!r}])"
        return {"app": "python", "app_version": "1.0", "args": {"how": "-c", "code": shlex.quote(code)}, **fields}

    def held(self) -> Spec:
        return self.shell("true", queue=self._stopped)

    def too_long(self) -> Spec:
        return self.shell("sleep 600", walltime="1m")

    def submits(self, seen: Seen) -> bool:
        return seen.method == "POST" and seen.path == "/v3/jobs/submit"

    def looks(self, seen: Seen) -> bool:
        return seen.method == "GET" and seen.path.startswith("/v3/jobs/")

    @contextlib.contextmanager
    def forgetting(self, job_id: str) -> Iterator[None]:
        with self.proxy.asking(job_id, self.unknown_id):
            yield


class SlurmPlace(Place):
    """A real Slurm, over its slurmrestd."""

    name = "Slurm"
    unknown_id = "99999"

    @classmethod
    def opened(cls, fixture: Callable[[str], Any]) -> Self:
        return cls(fixture("slurm"))

    def __init__(self, cluster: SlurmCluster) -> None:
        super().__init__(cluster.url)
        self._token = cluster.token()
        self._work = cluster.folder_for_jobs()

    def connection(self) -> tuple[str, dict[str, Any]]:
        return f"slurm+{self.proxy.url}", {"token": self._token, "folder": str(self._work)}

    def shell(self, command: str, **fields: Any) -> Spec:
        return {"command": command, **fields}

    def held(self) -> Spec:
        return self.shell("true", options={"hold": True})

    def too_long(self) -> Spec:
        return self.shell("sleep 600", walltime="1m")

    def submits(self, seen: Seen) -> bool:
        return seen.method == "POST" and seen.path.endswith("/job/submit")

    def cancels(self, seen: Seen) -> bool:
        return seen.method == "DELETE"

    def looks(self, seen: Seen) -> bool:
        return seen.method == "GET" and "/job" in seen.path

    def folder(self, given: Path) -> Path:
        made = self._work / uuid.uuid4().hex[:8]
        made.mkdir()
        made.chmod(0o777)
        return made

    @contextlib.contextmanager
    def forgetting(self, job_id: str) -> Iterator[None]:
        with self.proxy.asking(f"/job/{job_id}", f"/job/{self.unknown_id}"):
            yield


class BatchPlace(Place):
    """AWS Batch, on moto's server with jobs that really run."""

    name = "AWS Batch"

    @classmethod
    def opened(cls, fixture: Callable[[str], Any]) -> Self:
        return cls(fixture("moto_batch_server"))

    def __init__(self, server: MotoBatch) -> None:
        super().__init__(server.url)
        self._server = server
        self._environ = pytest.MonkeyPatch()
        for name, text in server.environ.items():
            self._environ.setenv(name, text)

    def connection(self) -> tuple[str, dict[str, Any]]:
        options = {"endpoint": self.proxy.url, "logs_endpoint": self.proxy.url, "job_definition": JOB_DEFINITION}
        return f"batch://{REGION}/{QUEUE}", options

    def shell(self, command: str, **fields: Any) -> Spec:
        return {"command": command, **fields}

    def held(self) -> Spec:
        return self.shell("true", options={"tags": {"test:hold": "RUNNABLE"}})

    def too_long(self) -> Spec:
        # the shortest limit is a minute, of which the server makes less
        return self.shell("sleep 600", walltime="1m", options={"tags": {"test:timeout": "2"}})

    def submits(self, seen: Seen) -> bool:
        return seen.path == "/v1/submitjob"

    def cancels(self, seen: Seen) -> bool:
        return seen.path.startswith(("/v1/terminatejob", "/v1/canceljob"))

    def looks(self, seen: Seen) -> bool:
        return seen.path == "/v1/describejobs"

    @contextlib.contextmanager
    def forgetting(self, job_id: str) -> Iterator[None]:
        patience = batch.BatchService.capabilities.model_copy(update={"vanish_grace": 1.0})
        with self._server.forgotten(job_id), pytest.MonkeyPatch.context() as patched:
            patched.setattr(batch, "VISIBLE", 1.0)
            patched.setattr(batch.BatchService, "capabilities", patience)
            yield

    def close(self) -> None:
        super().close()
        self._environ.undo()


EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "minibatch" / "place.py:MiniBatchPlace"
"""The one of the guide "Write a service in a day"."""

PLACES = [ReferencePlace, TapisPlace, BatchPlace, SlurmPlace]


def found(address: str) -> type[Place]:
    """The place at ``package.module:Class`` or ``path/to/file.py:Class``."""
    where, _, name = address.rpartition(":")
    if where.endswith(".py"):
        sys.path.append(str(Path(where).resolve().parent))
        spec = importlib.util.spec_from_file_location(f"place_{Path(where).parent.name}", where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    made: type[Place] = getattr(module, name)
    return made
