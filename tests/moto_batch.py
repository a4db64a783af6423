"""AWS Batch on this machine, for tests: see ``tests.moto_batch_server`` for what it does."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.running import clean_environ, until

if TYPE_CHECKING:
    from hpcjobs import AsyncClient, Client

REGION = "us-east-1"
QUEUE, OTHER_QUEUE = "queue", "other"
JOB_DEFINITION = "commands"
"""Runs a command."""
APP = "greet"
"""Runs ``echo hello Ref::name``."""

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def environ(folder: Path) -> dict[str, str]:
    """An environment in which nothing of the developer's own AWS configuration counts, and there are credentials."""
    return {
        **KEYS,
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class MotoBatch:
    """A server of AWS Batch, a process of its own, with two queues and two job definitions.

    Attributes:
        url: Its address.
        folder: Where its jobs run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self.environ = environ(folder)
        own = {name: text for name, text in clean_environ().items() if not name.startswith(("AWS_", "MOTO_"))}
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.moto_batch_server", str(folder)],
                env={**own, **self.environ},
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(self._answers, what="the server of AWS Batch")
            self._make_queues()
        except BaseException:
            self.stop()
            raise

    def address(self, queue: str = QUEUE) -> str:
        """Where a client finds it."""
        told = f"endpoint={self.url}&logs_endpoint={self.url}&job_definition={JOB_DEFINITION}"
        return f"batch://{REGION}/{queue}?{told}"

    def client(self, queue: str = QUEUE, **options: Any) -> Client:
        """A client of one of its queues; the environment must have credentials."""
        from hpcjobs import Client

        return Client(self.address(queue), **options)

    def async_client(self, queue: str = QUEUE, **options: Any) -> AsyncClient:
        """The same, async."""
        from hpcjobs import AsyncClient

        return AsyncClient(self.address(queue), **options)

    def boto(self, service: str = "batch") -> Any:
        """Botocore's own client of it."""
        import botocore.session

        session = botocore.session.get_session()
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return session.create_client(service, region_name=REGION, endpoint_url=self.url, **keys)

    def go(self, job_id: str) -> None:
        """Let a job go on that is held in a state."""
        (self.folder / "go" / job_id.replace(":", "_")).touch()

    @contextlib.contextmanager
    def forgotten(self, job_id: str) -> Iterator[None]:
        """While the block runs, the server knows nothing of a job, as AWS does a week after its end."""
        file = self.folder / "gone" / job_id.replace(":", "_")
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    @contextlib.contextmanager
    def faults(self, *faults: dict[str, Any]) -> Iterator[None]:
        """What is to go wrong while the block runs: see ``Faults`` of the server."""
        file = self.folder / "faults.json"
        file.write_text(json.dumps(faults))
        try:
            yield
        finally:
            file.unlink()

    def requests(self) -> list[str]:
        """What the server was asked since this was last called, as ``POST /v1/submitjob``."""
        file = self.folder / "requests.log"
        try:
            return file.read_text().splitlines()
        except FileNotFoundError:
            return []
        finally:
            file.unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """The processes of its jobs."""
        import psutil

        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder / "jobs") in process.cwd() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def stop(self) -> None:
        """End it, and all of its jobs."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def logs(self) -> str:
        """What the server has said."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"the server of AWS Batch has ended\n{self.logs()}"
        with contextlib.suppress(httpx.TransportError, FileNotFoundError):
            self.url = f"http://127.0.0.1:{(self.folder / 'port').read_text()}"
            return httpx.get(f"{self.url}/moto-api/data.json", trust_env=False, timeout=5).status_code == 200
        return False

    def _make_queues(self) -> None:
        role = self.boto("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        batch = self.boto()
        place = batch.create_compute_environment(
            computeEnvironmentName="here", type="UNMANAGED", state="ENABLED", serviceRole=role
        )["computeEnvironmentArn"]
        for queue in (QUEUE, OTHER_QUEUE):
            batch.create_job_queue(
                jobQueueName=queue,
                state="ENABLED",
                priority=1,
                computeEnvironmentOrder=[{"order": 1, "computeEnvironment": place}],
            )
        for name, command in ((JOB_DEFINITION, ["true"]), (APP, ["echo", "hello", "Ref::name"])):
            batch.register_job_definition(
                jobDefinitionName=name,
                type="container",
                parameters={"name": "nobody"} if name == APP else {},
                containerProperties={
                    "image": "busybox",
                    "command": command,
                    "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
                },
            )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[MotoBatch]:
    """A server that runs as long as the block."""
    server = MotoBatch(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["MotoBatch", "environ", "running"]
