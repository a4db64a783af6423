"""A server of AWS Batch and CloudWatch Logs: moto, with jobs that really run.

    python -m tests.moto_batch_server FOLDER

What moto has for jobs is replaced: a job is a process in a process group of its own, which is told to stop by SIGTERM
and killed some time later; its lines go to CloudWatch Logs as it writes them; time limits, attempts, dependencies and
arrays do what AWS's documentation says, and so do ``ListJobs`` and the flags of a job that was asked to stop. Queues,
job definitions, tags, logs and signatures are moto's own.

Tags of a job tell what else is to happen to it: ``test:hold=RUNNABLE`` keeps it in that state (several: with spaces)
until a file ``FOLDER/go/ID`` is there, ``test:timeout=0.5`` stands in for a time limit, which is a minute at least,
``test:reason=...`` is said of its container in place of nothing, ``test:hidden=0.5`` shows it so many seconds late.
``FOLDER/faults.json`` is a list of what is to go wrong: see ``Faults``.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import moto.batch.models as batch_models
from moto.batch.exceptions import ClientException
from moto.batch.models import BatchBackend, batch_backends
from moto.batch.responses import BatchResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

FOLDER = Path()
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL; AWS gives 30."""
PAUSE = 0.03
WORDS = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
GROUP = "/aws/batch/job"

asked = threading.local()
"""``asked.body``: the request for a job that this thread is answering; moto hands on a part of it."""

running: set[int] = set()
"""The process groups that there are."""


class RunningJob(batch_models.Job):
    """A job that runs."""

    __module__ = "moto.batch.models"  # where moto keeps a list of its models, by the name of the service

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        body = asked.body
        self.word = "SUBMITTED"
        self.created = self.started = self.stopped = 0.0
        self.created = time.time()
        self.cancelled = self.terminated = False
        self.reason: str | None = None
        self.told: str | None = None
        self.asked_tags = dict(body.get("tags") or {})
        self.strategy = body.get("retryStrategy") or self.job_definition.retry_strategy or {}
        self.share = body.get("shareIdentifier")
        self.priority = body.get("schedulingPriorityOverride")
        self.overrides = json.loads(json.dumps(body.get("containerOverrides") or {}))
        self.code: int | None = None
        self.container_reason: str | None = self.asked_tags.get("test:reason")
        self.stream: str | None = None
        self.past: list[dict[str, Any]] = []

    # What it is

    @property
    def children(self) -> list[RunningJob]:
        return self._child_jobs or []  # type: ignore[return-value]

    @property
    def index(self) -> int | None:
        return self.array_properties.get("index")

    @property
    def status(self) -> str:  # type: ignore[override]
        if not self.children:
            return self.word
        words = [child.word for child in self.children]
        if any(word not in {"SUCCEEDED", "FAILED"} for word in words):
            return "PENDING"
        return "FAILED" if "FAILED" in words else "SUCCEEDED"

    @status.setter
    def status(self, word: str) -> None:
        self.word = word

    @property
    def visible(self) -> bool:
        if (FOLDER / "gone" / self.job_id.replace(":", "_")).exists():
            return False
        return time.time() >= self.created + float(self.asked_tags.get("test:hidden", 0))

    @property
    def ended(self) -> bool:
        return self.status in {"SUCCEEDED", "FAILED"}

    def of(self, name: str, default: Any) -> Any:
        """What the request says of the container, else the job definition."""
        return self.overrides.get(name) or (self.job_definition.container_properties or {}).get(name) or default

    def environment(self) -> dict[str, str]:
        told = {
            item["name"]: item["value"]
            for one in ((self.job_definition.container_properties or {}), self.overrides)
            for item in one.get("environment") or []
        }
        told |= {"AWS_BATCH_JOB_ID": self.job_id, "AWS_BATCH_JOB_ATTEMPT": str(len(self.past) + 1)}
        if self.index is not None:
            told["AWS_BATCH_JOB_ARRAY_INDEX"] = str(self.index)
        return told

    def describe_short(self) -> dict[str, Any]:
        word = self.status
        ended = word in {"SUCCEEDED", "FAILED"}
        told: dict[str, Any] = {
            "jobId": self.job_id,
            "jobArn": self.arn,
            "jobName": self.job_name,
            "createdAt": int(self.created * 1000),
            "status": word,
            "jobDefinition": self.job_definition.arn,
        }
        reason = self.told
        stopped = self.stopped
        if self.children and ended:
            stopped = max(child.stopped for child in self.children)
            if word == "FAILED":
                reason = self.reason or "Array Child Job failed"
        if reason is not None:
            told["statusReason"] = reason
        if self.started:
            told["startedAt"] = int(self.started * 1000)
        if ended:
            told["stoppedAt"] = int(stopped * 1000)
            if self.code is not None:
                told["container"] = {"exitCode": self.code}
        # only where they are true
        told |= {name: True for name in ("isCancelled", "isTerminated") if getattr(self, name[2:].lower())}
        if self.index is not None:
            told["arrayProperties"] = {"index": self.index, "statusSummary": {}}
        if self.children:
            summary = {word: sum(child.word == word for child in self.children) for word in WORDS}
            told["arrayProperties"] = {"size": len(self.children), "statusSummary": summary}
        return told

    def describe(self) -> dict[str, Any]:
        told = self.describe_short()
        container = {
            "image": self.of("image", "busybox"),
            "command": self.of("command", []),
            "environment": [{"name": name, "value": text} for name, text in self.environment().items()],
            "resourceRequirements": self.of("resourceRequirements", []),
            "exitCode": self.code,
            "reason": self.container_reason if self.ended else None,
            "logStreamName": self.stream,
        }
        told |= {
            "jobQueue": self.job_queue.arn,
            "dependsOn": self.depends_on or [],
            "parameters": self.parameters,
            "tags": self.asked_tags,
            "attempts": self.past,
            "container": {name: value for name, value in container.items() if value is not None},
            "startedAt": int(self.started * 1000),
        }
        optional = {"retryStrategy": self.strategy, "timeout": self.timeout, "shareIdentifier": self.share}
        optional["schedulingPriority"] = self.priority
        return told | {name: value for name, value in optional.items() if value}

    # What becomes of it

    def run(self) -> None:
        try:
            self._live()
        except Exception as error:  # a job must end whatever happens
            self._end("FAILED", f"the test's server failed: {error!r}")
            raise

    def _live(self) -> None:
        self._hold("SUBMITTED")
        self._hold("PENDING")
        if not self._dependencies():
            return
        self._hold("RUNNABLE")
        attempts = int(self.strategy.get("attempts") or 1)
        while True:
            if self.cancelled or self.terminated:
                self._end("FAILED", self.reason)
                return
            self._hold("STARTING")
            if self.terminated:
                self._end("FAILED", self.reason)
                return
            why = self._attempt()
            if self.code == 0 and why is None:
                self._end("SUCCEEDED", "Essential container in task exited")
                return
            if why is not None or len(self.past) >= attempts or not self._again():
                self._end("FAILED", why or "Essential container in task exited")
                return
            self._hold("RUNNABLE")

    def _hold(self, word: str) -> None:
        """Come into a state, and stay there for as long as a test wants."""
        self.word = word
        holds = self.asked_tags.get("test:hold", "").split()
        while word in holds and not (FOLDER / "go" / self.job_id.replace(":", "_")).exists():
            if self.terminated or (self.cancelled and word != "STARTING"):
                return
            time.sleep(PAUSE)

    def _dependencies(self) -> bool:
        """Wait for other jobs; a cancel acts once they have ended."""
        failed = False
        for item in self.depends_on or []:
            while (other := self.all_jobs.get(item.get("jobId", ""))) is None or not other.ended:  # type: ignore[attr-defined]
                time.sleep(PAUSE)
            failed = failed or other.status == "FAILED"
        if self.cancelled or self.terminated:
            self._end("FAILED", self.reason)
        elif failed:
            self._end("FAILED", "Dependent Job failed")
        return self.word != "FAILED"

    def _attempt(self) -> str | None:
        """Run once; why it was ended from outside, if it was."""
        self.started = time.time()
        self.code, self.container_reason = None, self.asked_tags.get("test:reason")
        self.stream = f"{self.job_definition.name}/default/{uuid.uuid4().hex}"
        logs = self._log_backend
        place = FOLDER / "jobs" / self.job_id.replace(":", "_")
        place.mkdir(parents=True, exist_ok=True)
        command = self._add_parameters_to_command(self.of("command", ["true"]))
        limit = float(self.asked_tags.get("test:timeout") or self._get_attempt_duration() or 1e9)
        self.word = "RUNNING"
        why: str | None = None
        try:
            process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "HOME": str(place), **self.environment()},
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self.container_reason = f"CannotStartContainerError: Error response from daemon: {error}"
        else:
            running.add(process.pid)
            reader = threading.Thread(target=self._read, args=(process, logs, self.stream), daemon=True)
            reader.start()
            ends, killed = self.started + limit, None
            while process.poll() is None:
                now = time.time()
                if why is None and (self.terminated or now > ends):
                    why = (self.reason or "") if self.terminated else "Job attempt duration exceeded timeout"
                    killed = now + GRACE
                    _signal(process.pid, signal.SIGTERM)
                if killed is not None and now > killed:
                    _signal(process.pid, signal.SIGKILL)
                time.sleep(PAUSE)
            _signal(process.pid, signal.SIGKILL)  # what it has left behind ends with its container
            running.discard(process.pid)
            reader.join(5)
            self.code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        self.stopped = time.time()
        container = {"exitCode": self.code, "reason": self.container_reason, "logStreamName": self.stream}
        self.past.append(
            {
                "startedAt": int(self.started * 1000),
                "stoppedAt": int(self.stopped * 1000),
                "statusReason": why or "Essential container in task exited",
                "container": {name: value for name, value in container.items() if value is not None},
            }
        )
        return why

    def _read(self, process: subprocess.Popen[bytes], logs: Any, stream: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            logs.ensure_log_group(GROUP)
            logs.ensure_log_stream(GROUP, stream)
            event = {"timestamp": int(time.time() * 1000), "message": line.decode("utf-8", "replace").rstrip("\n")}
            logs.put_log_events(GROUP, stream, [event])

    def _again(self) -> bool:
        """Whether its rules want another attempt."""
        for rule in self.strategy.get("evaluateOnExit") or []:
            told = {
                "onExitCode": "" if self.code is None else str(self.code),
                "onReason": self.container_reason or "",
                "onStatusReason": "Essential container in task exited",
            }
            if all(fnmatch.fnmatchcase(told[name], rule[name]) for name in told if name in rule):
                return str(rule["action"]).upper() == "RETRY"
        return True

    def _end(self, word: str, reason: str | None) -> None:
        self.told, self.stopped = reason, self.stopped or time.time()
        self.word = word

    def ask_to_stop(self, reason: str, *, terminate: bool) -> None:
        if self.ended:
            return
        for child in self.children:
            child.ask_to_stop(reason, terminate=terminate)
        if terminate:
            self.terminated, self.reason = True, self.reason or reason
        elif self.children or self.word in {"SUBMITTED", "PENDING", "RUNNABLE"}:
            self.cancelled, self.reason = True, self.reason or reason


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


# What AWS answers, where moto answers something else


def submitjob(self: Any) -> str:
    body = json.loads(self.body)
    strategy = body.get("retryStrategy") or {}
    rules = strategy.get("evaluateOnExit") or []
    size = (body.get("arrayProperties") or {}).get("size")
    command = (body.get("containerOverrides") or {}).get("command")
    for wrong, what in (
        (len(self.body) > 30 * 1024, "the payload is too large"),
        ((body.get("timeout") or {}).get("attemptDurationSeconds", 60) < 60, "timeout is less than 60 seconds"),
        (size is not None and not 2 <= size <= 10_000, "Array size must be between 2 and 10000"),
        (len(body.get("dependsOn") or []) > 20, "Cannot have more than 20 dependencies"),
        (not 1 <= strategy.get("attempts", 1) <= 10, "attempts must be between 1 and 10"),
        (len(rules) > 5 or (rules and "attempts" not in strategy), "evaluateOnExit is not valid"),
        (command is not None and "" in command, "Command must not have empty strings"),
        ("schedulingPriorityOverride" in body and "shareIdentifier" not in body, "no share identifier"),
        (
            any(
                item["name"].startswith("AWS_BATCH")
                for item in (body.get("containerOverrides") or {}).get("environment") or []
            ),
            "Environment variables must not start with AWS_BATCH",
        ),
    ):
        if wrong:
            raise ClientException(f"Error executing request, Exception : {what}")
    asked.body = body
    return str(_submitjob(self))


_submitjob = BatchResponse.submitjob


def describejobs(self: Any) -> str:
    ids = json.loads(self.body).get("jobs") or []
    if len(ids) > 100:
        raise ClientException("Error executing request, Exception : Maximum number of jobs supported is  100 .")
    if not ids:
        raise ClientException("jobs is required")
    jobs = self.batch_backend._jobs
    found = [jobs[one] for one in dict.fromkeys(ids) if one in jobs]
    # in no order that a client could count on
    return json.dumps({"jobs": [job.describe() for job in reversed(found) if job.visible]})


def listjobs(self: Any) -> str:
    body = json.loads(self.body)
    backend: BatchBackend = self.batch_backend
    if sum(name in body for name in ("jobQueue", "arrayJobId", "multiNodeJobId")) != 1:
        raise ClientException("exactly one of jobQueue, arrayJobId and multiNodeJobId")
    if "arrayJobId" in body:
        parent = backend.get_job_by_id(body["arrayJobId"])
        jobs = list(parent._child_jobs or []) if parent else []
    else:
        queue = backend.get_job_queue(body["jobQueue"])
        if queue is None:
            raise ClientException(f"{body['jobQueue']} does not exist")
        jobs = [job for job in queue.jobs if job.index is None]  # type: ignore[attr-defined]
    most = 1000
    if filters := body.get("filters"):
        if len(filters) != 1:
            raise ClientException("only one filter")
        most = 100
        jobs = [job for job in jobs if _meant(job, filters[0])]
    else:
        jobs = [job for job in jobs if job.status == body.get("jobStatus", "RUNNING")]
    jobs = sorted((job for job in jobs if job.visible), key=lambda job: -job.created)  # type: ignore[attr-defined]
    start = int(body.get("nextToken") or 0)
    end = start + min(most, int(body.get("maxResults") or most))
    told: dict[str, Any] = {"jobSummaryList": [job.describe_short() for job in jobs[start:end]]}
    if end < len(jobs):
        told["nextToken"] = str(end)
    return json.dumps(told)


def _meant(job: Any, condition: dict[str, Any]) -> bool:
    name, value = condition["name"], condition["values"][0]
    created = int(job.created * 1000)
    if name == "JOB_NAME":
        low, wanted = job.job_name.lower(), value.lower()
        return low.startswith(wanted[:-1]) if wanted.endswith("*") else low == wanted
    if name == "AFTER_CREATED_AT":
        return created > int(value)
    if name == "BEFORE_CREATED_AT":
        return created < int(value)
    raise ClientException(f"{name} is not known here")


def _stop(self: Any, body: dict[str, Any], job_id: str, *, terminate: bool) -> None:
    if not body.get("reason") or len(body["reason"]) > 1024:
        raise ClientException("reason is required, with 1024 characters at most")
    job = self.batch_backend._jobs.get(job_id)
    if job is not None:  # nothing is said of a job that is not known
        job.ask_to_stop(body["reason"], terminate=terminate)


def canceljob(self: Any) -> str:
    body = json.loads(self.body)
    _stop(self, body, body["jobId"], terminate=False)
    return ""


def terminatejob(self: Any) -> str:
    body = json.loads(self.body)
    _stop(self, body, body["jobId"], terminate=True)
    return ""


BatchResponse.submitjob = submitjob  # type: ignore[method-assign]
BatchResponse.describejobs = describejobs  # type: ignore[method-assign]
BatchResponse.listjobs = listjobs  # type: ignore[method-assign]
BatchResponse.canceljob = canceljob  # type: ignore[method-assign]
BatchResponse.terminatejob = terminatejob  # type: ignore[method-assign]
batch_models.Job = RunningJob  # type: ignore[misc]


class Faults:
    """What stands before moto: the operations for many jobs, which moto has not, and what is to go wrong.

    Each fault is ``{"path": "/v1/submitjob", "how": ..., "times": 1}``: ``"lost"`` does what is asked and sends no answer,
    ``"failed"`` does it and answers with status 500, ``"refused"`` does nothing and sends none, a number is the status of an answer in place of what was asked, with
    ``"headers"`` and ``"body"``. ``{"path": "/v1/canceljobs", "how": 404, "times": 1000}`` is an endpoint of before they were.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        path = environ["PATH_INFO"]
        with (FOLDER / "requests.log").open("a") as log:
            log.write(f"{environ['REQUEST_METHOD']} {path} {environ.get('HTTP_X_AMZ_TARGET', '')}".strip() + "\n")
        fault = self._take(path)
        how = fault.get("how")
        if isinstance(how, int):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            told = [("Content-Type", "application/json"), *fault.get("headers", {}).items()]
            start(f"{how} said so", told)
            return [json.dumps(fault.get("body", {})).encode()]
        if how == "refused":
            return self._hang_up(environ)
        if path in {"/v1/canceljobs", "/v1/terminatejobs"}:
            answer: Any = self._many(environ, start, terminate=path == "/v1/terminatejobs")
        else:
            answer = self._app(environ, (lambda *_: None) if how in {"lost", "failed"} else start)
        if how == "lost":
            list(answer)
            return self._hang_up(environ)
        if how == "failed":
            list(answer)
            start("500 failed", [("Content-Type", "application/json"), ("x-amzn-errortype", "ServerException")])
            return [b'{"message": "internal failure"}']
        return answer

    def _take(self, path: str) -> dict[str, Any]:
        file = FOLDER / "faults.json"
        with self._lock:
            faults = json.loads(file.read_text()) if file.exists() else []
            for fault in faults:
                if fault["path"] == path and fault.get("times", 1) > 0:
                    fault["times"] = fault.get("times", 1) - 1
                    file.write_text(json.dumps(faults))
                    return dict(fault)
        return {}

    def _hang_up(self, environ: dict[str, Any]) -> Any:
        connection: socket.socket = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionError("the answer is lost")

    def _many(self, environ: dict[str, Any], start: Any, *, terminate: bool) -> list[bytes]:
        body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        told: dict[str, list[Any]] = {"successful": [], "errors": []}
        region = re.search(r"Credential=[^/]+/\d+/([^/]+)/", environ["HTTP_AUTHORIZATION"])[1]  # type: ignore[index]
        backend = batch_backends["123456789012"][region]
        for job_id in body["jobs"]:
            if not re.fullmatch(r"[0-9a-f-]{36}(:\d+)?", job_id):
                told["errors"].append({"job": job_id, "code": "ValidationException", "message": "no id of a job"})
                continue
            if (job := backend._jobs.get(job_id)) is not None:
                job.ask_to_stop(body["reason"], terminate=terminate)  # type: ignore[attr-defined]
            told["successful"].append(job_id)
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]


class Handler(MotoRequestHandler):
    """Says nothing, and keeps connections, as AWS does."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Say nothing."""


def main(folder: str) -> None:
    """Serve until SIGTERM, then end every job; the port is told in the file ``port``."""
    global FOLDER  # noqa: PLW0603 - one process serves one folder
    FOLDER = Path(folder)
    for name in ("go", "gone"):
        (FOLDER / name).mkdir(exist_ok=True)
    server = make_server(
        "127.0.0.1",
        0,
        Faults(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=Handler,
    )

    def stop(*_: Any) -> None:
        for group in list(running):
            _signal(group, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    fresh = FOLDER / ".port"
    fresh.write_text(str(server.server_port))
    fresh.replace(FOLDER / "port")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
