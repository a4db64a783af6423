"""AWS Batch: jobs in containers, on computers that AWS starts for them.

What is said of the protocol is from botocore's model of it (2016-08-10), from AWS's documentation
(https://docs.aws.amazon.com/batch/latest/userguide) and from what other clients have met.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from hpcjobs.actions import RetryOutcome, RetryResult
from hpcjobs.arrays import ArrayInfo, ArrayOrder
from hpcjobs.errors import (
    ConfigError,
    Conflict,
    InvalidSpec,
    JobNotFound,
    NotFound,
    RateLimited,
    ServiceError,
    ServiceUnavailable,
    TransportError,
)
from hpcjobs.lifecycle import ACTIVE, BATCH_WORDS, JobState
from hpcjobs.models import (
    CancelResult,
    Capabilities,
    JobFilter,
    JobInfo,
    JobPage,
    JobQueryAnswer,
    JobSpec,
)
from hpcjobs.protocol import Op, Request, Response, each, sleep
from hpcjobs.services.answers import unexpected
from hpcjobs.services.base import LogChunk, Service
from hpcjobs.services.batch_errors import batch_error
from hpcjobs.services.batch_lists import age, alive, array_cursor, meant, of_all
from hpcjobs.services.batch_logs import Logs, Place
from hpcjobs.services.batch_records import (
    array_of,
    info_of,
    is_array,
    log_of,
    own_reason,
    sent_reason,
)
from hpcjobs.services.batch_requests import Defaults, request_again, request_of
from hpcjobs.services.batch_sign import Account, AwsAuth
from hpcjobs.services.batch_stops import STOP, Stopping, chunks, outcome
from hpcjobs.services.batch_tags import SUM_TAG, is_ours, prefix_of
from hpcjobs.services.remembering import Remembered
from hpcjobs.services.repeating import patiently, until_found

LOOK = 100
"""Most jobs that are looked at in one request."""

VISIBLE = 30.0
"""Seconds within which a job that was accepted from here can be looked at."""

GRACE = 15.0
"""Seconds for which a job may be missing before it counts as forgotten: it may be new, and from somewhere else."""

FAILED_PAUSES = (1.0, 3.0)
"""Seconds before a request that failed with status 500 is repeated."""

STRAGGLERS = 3.0
"""Seconds after a job's end within which the last lines of its log may still be under way."""

LOG_GROUP = "/aws/batch/job"

_ID = re.compile(r"[0-9a-zA-Z-]{1,128}(?:[:#]\d+)?")
_REGION = re.compile(r"[a-z0-9-]+")


class BatchService(Service):
    """The job queues of one region of AWS Batch.

    Who asks is settled as by every other program for AWS: environment, profiles, single sign-on, roles.

    Args:
        url: ``batch://REGION/QUEUE``; with ``default`` in place of the region, that of the AWS configuration.
        token: Not for AWS.
        region: The region, where the address does not say it.
        profile: A profile of the AWS configuration; None for the usual.
        job_definition: What runs the commands of jobs that do not name one: ``name``, ``name:revision``, or an ARN.
        share_identifier: For queues with a scheduling policy: whose share of the queue the jobs use.
        endpoint: Another address of AWS Batch; None for that of ``AWS_ENDPOINT_URL_BATCH``, else of the region.
        logs_endpoint: Another address of CloudWatch Logs; None for that of ``AWS_ENDPOINT_URL_CLOUDWATCH_LOGS``, else
            of the region.
        log_group: Where the logs are of jobs that do not say it.

    Raises:
        ConfigError: botocore is not installed, there is no region, or the AWS configuration cannot be used.

    Example:
        >>> service = BatchService("batch://eu-west-1/fast", job_definition="fit:3")
        >>> service.base_url
        'https://batch.eu-west-1.amazonaws.com'
    """

    name = "AWS Batch"
    capabilities = Capabilities.model_construct(
        abort_false=True,
        cancel_reason=True,
        bulk_cancel=STOP,
        bulk_get=LOOK,
        arrays=True,
        dependencies=True,
        retry=True,
        logs=True,
        find_within=30.0,
        min_poll=1.0,
        vanish_grace=GRACE,
    )

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        region: str | None = None,
        profile: str | None = None,
        job_definition: str | None = None,
        share_identifier: str | None = None,
        endpoint: str | None = None,
        logs_endpoint: str | None = None,
        log_group: str | None = None,
    ) -> None:
        if token is not None:
            raise ConfigError(
                "AWS Batch takes no token: requests are signed with AWS credentials, see `aws configure`; leave the "
                "token out, and HPCJOBS_TOKEN unset"
            )
        where, queue = _address(url)
        account = Account(profile)
        self.region = where or region or account.region() or ""
        if not _REGION.fullmatch(self.region):
            raise ConfigError(
                f"{self.region!r} is no region of AWS: write batch://REGION/QUEUE, or set AWS_REGION"
                if self.region
                else "no region of AWS is known: write batch://REGION/QUEUE, give region=, or set AWS_REGION"
            )
        self.base_url = (endpoint or account.endpoint("batch", self.region)).rstrip("/")
        logs = logs_endpoint or account.endpoint("logs", self.region)
        self.other_urls = (logs.rstrip("/"),)
        self.auth = AwsAuth(account, self.region)
        self.defaults = Defaults(
            queue=queue,
            job_definition=job_definition,
            share_identifier=share_identifier,
        )
        self._log_group = log_group or LOG_GROUP
        self._logs = Logs(self._events)
        self._stopping = Stopping(self.ask, self.spelled)
        self._new: Remembered[tuple[float, JobInfo]] = Remembered()
        self._asked: Remembered[tuple[str, bool]] = Remembered()
        self._items: Remembered[Sequence[Any]] = Remembered(100)
        self._clock = time.monotonic

    # Looking

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job, or at an array, which is a job too.

        Raises:
            JobNotFound: There is no such job, or it has ended more than a week ago.
        """
        answer = yield from self.get_many([job_id])
        if not answer.items:
            raise JobNotFound(
                f"there is no job {job_id!r} in {self.region}, or no longer: AWS Batch forgets a job some time (seven "
                "days or more) after its end",
                status=404,
                code="job_not_found",
            )
        return answer.items[0]

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        """Look at many jobs. One that was accepted a moment ago and is not shown yet is told as it was accepted."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, JobInfo] = {}
        good = [job_id for job_id in wanted if _ID.fullmatch(job_id)]
        for some in chunks(good, LOOK):
            for job in (yield from self.ask("describejobs", {"jobs": some})).get("jobs") or []:
                found[job["jobId"]] = self._info(job)
        for job_id in wanted:
            if job_id not in found and (new := self._new.get(job_id)) is not None:
                if self._clock() - new[0] < VISIBLE:
                    found[job_id] = new[1]
                else:
                    self._new.forget(job_id)
        missing = [job_id for job_id in wanted if job_id not in found]
        return JobQueryAnswer(items=[found[job_id] for job_id in wanted if job_id in found], missing=missing)

    def spelled(self, job_id: str) -> str:
        """An id without the rest of its ARN."""
        return job_id.rpartition("/")[2] if job_id.startswith("arn:") else job_id

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of a queue's jobs that ``filter`` means, newest first; it may have few of them, and go on."""
        if filter.array is not None:
            return (yield from self._page_of_array(filter, limit, cursor))
        queue = filter.queue or self.defaults.queue
        if queue is None:
            raise InvalidSpec([("queue", "AWS Batch lists one queue at a time: give queue=, or batch://REGION/QUEUE")])
        if filter.state and not set(filter.state) & {*BATCH_WORDS.values(), JobState.CANCELLED}:
            return JobPage(items=[])
        if filter.state and ACTIVE.issuperset(filter.state):
            some, following = yield from alive(self.ask, queue, limit, cursor)
        else:
            some, following = yield from of_all(self.ask, queue, filter, limit, cursor)
        infos = yield from self._whole(some)
        return JobPage(items=[info for info in infos if meant(filter).matches(info)], next=following)

    def _whole(self, jobs: Sequence[Mapping[str, Any]]) -> Op[list[JobInfo]]:
        """What is known of jobs of a list; a list has no tags, and of older endpoints no flags."""
        answer = yield from self.get_many([job["jobId"] for job in jobs])
        known = {info.id: info for info in answer.items}
        return [known.get(job["jobId"]) or self._info(job) for job in jobs]

    def pace(self, quiet: float, states: Collection[JobState]) -> float:  # noqa: ARG002
        """Seconds until the next look: AWS limits requests by account, and a container takes its time anyway."""
        return min(30.0, max(1.0, quiet / 8))

    # Submitting

    def submit(self, spec: JobSpec, key: str) -> Op[JobInfo]:
        """Ask for a job; the key begins its name, by which it is found again after a lost answer."""
        return (yield from self._send(request_of(spec, key, self.defaults)))

    def find(self, key: str) -> Op[JobInfo | None]:
        """The job whose name begins with a submission key, in the queue of the address."""
        if self.defaults.queue is None:
            raise self._cannot("look a submission key up without a queue", "write batch://REGION/QUEUE")
        return (yield from self._find(self.defaults.queue, key))

    def find_submitted(self, spec: JobSpec, key: str) -> Op[JobInfo | None]:
        """The job whose name begins with a submission key, in the queue that ``spec`` asks for."""
        return (yield from self._find(request_of(spec, key, self.defaults)["jobQueue"], key))

    def asked_for(self, info: JobInfo, spec: JobSpec, key: str) -> bool:
        """Whether a job that was found by ``key`` is the one that ``spec`` asks for."""
        return self._is_same(info, request_of(spec, key, self.defaults))

    def _is_same(self, info: JobInfo, body: Mapping[str, Any]) -> bool:
        known = ((info.spec or {}).get("tags") or {}).get(SUM_TAG)
        return known is None or known == body["tags"][SUM_TAG]

    def _find(self, queue: str, key: str) -> Op[JobInfo | None]:
        condition = {"name": "JOB_NAME", "values": [f"{prefix_of(key)}*"]}
        body: dict[str, Any] = {"jobQueue": queue, "filters": [condition], "maxResults": LOOK}
        answer = yield from self.ask("listjobs", body)
        jobs = sorted(answer.get("jobSummaryList") or [], key=age)
        return (yield from self._whole(jobs[-1:]))[0] if jobs else None

    def _send(self, body: Mapping[str, Any]) -> Op[JobInfo]:
        """Send the request for a job, once."""
        request = Request("POST", "/v1/submitjob", json=body, repeatable=False)
        told = yield from self._asked_for(request)
        if not told.get("jobId"):
            error = ServiceUnavailable("AWS Batch has answered to SubmitJob without the id of a job")
            error.may_have_acted = True
            raise error
        known = {name: body[name] for name in ("jobQueue", "tags", "dependsOn", "retryStrategy") if name in body}
        if "arrayProperties" in body:
            known["arrayProperties"] = {**body["arrayProperties"], "statusSummary": {}}
        job = {**known, "jobId": told["jobId"], "jobName": body["jobName"], "status": "SUBMITTED"}
        info = info_of(job)
        self._new.put(info.id, (self._clock(), info.model_copy(update={"reason": "accepted, and not shown yet"})))
        return info

    def _send_surely(self, body: Mapping[str, Any], key: str) -> Op[JobInfo]:
        """Send the request for a job; where the answer is lost, the job is looked up by its key."""
        try:
            return (yield from self._send(body))
        except (TransportError, ServiceError) as error:
            if not error.may_have_acted:
                raise
            found = yield from until_found(
                lambda: self._find(body["jobQueue"], key),
                within=self.capabilities.find_within,
                passing=(TransportError, ServiceError),
            )
            if found is None:
                raise
            return found

    # Arrays

    def submit_array(self, order: ArrayOrder, key: str) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
        """Ask for an array; one that has the key already is that one."""
        size = len(order.over) if order.over is not None else order.size
        body = request_of(order.spec, key, self.defaults, size=size, over=order.over)
        known = yield from self._find(body["jobQueue"], key)
        if known is not None and not self._is_same(known, body):
            raise Conflict(f"the key {key!r} was used for other jobs, {known.id}; use another one", status=409)
        parent = known or (yield from self._send_surely(body, key))
        if order.over is not None:
            self._items.put(parent.id, order.over)
        if known is not None:
            answer = yield from self.get_many((yield from self.jobs_of_array(known.id)))
            return array_of(known.spec or {}), answer.items
        job = {**(parent.spec or {}), "arrayProperties": {"size": size, "statusSummary": {"SUBMITTED": size}}}
        one: dict[str, Any] = {
            name: job[name] for name in ("jobName", "jobQueue", "tags", "retryStrategy") if name in job
        }
        jobs = [
            self._info({**one, "jobId": f"{parent.id}:{index}", "status": "SUBMITTED"}) for index in range(size or 0)
        ]
        now = self._clock()
        for info in jobs:
            self._new.put(info.id, (now, info))
        return array_of(job), jobs

    def array(self, array_id: str) -> Op[ArrayInfo]:
        """Look at an array.

        Raises:
            NotFound: There is no such array, or it is a job.
        """
        job = (yield from self.get(array_id)).spec or {}
        if not is_array(job):
            raise NotFound(f"{array_id} is a job and no array; look at it with job()", status=404)
        return array_of(job)

    def jobs_of_array(self, array_id: str) -> Op[list[str]]:
        """The ids of an array's jobs: its own, and their numbers."""
        return [f"{array_id}:{index}" for index in range((yield from self.array(array_id)).size)]

    def _page_of_array(self, wanted: JobFilter, limit: int, cursor: str | None) -> Op[JobPage]:
        """Some of an array's jobs, in order: their ids are known, so that none is missed while they change."""
        assert wanted.array is not None
        try:
            ids = yield from self.jobs_of_array(wanted.array)
        except NotFound:
            return JobPage(items=[])
        start = 0 if cursor is None else array_cursor(cursor)
        answer = yield from self.get_many(ids[start : start + limit])
        end = start + limit
        items = [info for info in answer.items if meant(wanted).matches(info)]
        return JobPage(items=items, next=f"array/{end}" if end < len(ids) else None)

    # Acting

    def cancel(self, ids: Sequence[str], *, reason: str | None, abort: bool, delete: bool) -> Op[list[CancelResult]]:
        """Ask that jobs stop, and look: that AWS has taken a request says nothing of the job.

        With ``abort=False`` a job that has started is left alone: AWS decides that at the moment of the request.

        Raises:
            Unsupported: The record of a job was to be removed.
            PermissionDenied: For one of the jobs; the others were asked.
        """
        return (yield from self._cancel(ids, ids, reason, abort=abort, delete=delete))

    def cancel_where(
        self,
        filter: JobFilter,  # noqa: A002 - its name
        *,
        reason: str | None,
        abort: bool,
        delete: bool,
    ) -> Op[list[CancelResult]]:
        """Cancel all jobs that ``filter`` means and that have not ended: a whole array by one request.

        Of a queue these are the jobs that were submitted with this library: others may use the queue, too.
        """
        ids = yield from self._listed(filter, ACTIVE)
        if not ids:
            return []
        whole = filter.array is not None and filter == JobFilter(array=filter.array)
        asked = [filter.array] if whole and filter.array is not None else ids
        return (yield from self._cancel(ids, asked, reason, abort=abort, delete=delete))

    def _cancel(
        self, ids: Sequence[str], asked: Sequence[str], reason: str | None, *, abort: bool, delete: bool
    ) -> Op[list[CancelResult]]:
        """Ask for some jobs, which stand for others where they are arrays, and tell what became of those."""
        if delete:
            raise self._cannot("remove the record of a job (delete=True)", "leave it; it is gone a week after its end")
        sent = sent_reason(reason)
        refused = yield from self._stopping.stop(
            [one for one in dict.fromkeys(asked) if _ID.fullmatch(one)], sent, abort=abort
        )
        taken = [job_id for job_id in dict.fromkeys(ids) if job_id not in refused]
        for job_id in taken:
            self._asked.put(job_id, (sent, abort))
        answer = yield from self.get_many(ids)
        for job_id in answer.missing:
            self._asked.forget(job_id)
        known = {info.id: info for info in answer.items}
        wrong = [job_id for job_id in refused if job_id in known and not known[job_id].terminal]
        if wrong:
            error = refused[wrong[0]]
            if len(ids) > 1:
                error = type(error)(
                    f"{len(wrong)} of {len(ids)} jobs were not asked to stop, the others were: {error}",
                    status=error.status,
                    code=error.code,
                )
            raise error
        return [outcome(job_id, known.get(job_id), reason, sent, abort=abort) for job_id in ids]

    def retry(self, ids: Sequence[str]) -> Op[list[RetryResult]]:
        """Submit what has ended once more: each runs as a new job."""
        return each(self._retry(job_id) for job_id in ids)

    def _retry(self, job_id: str) -> Op[RetryResult]:
        try:
            before = yield from self.get(job_id)
        except JobNotFound:
            return RetryResult(job_id=job_id, outcome=RetryOutcome.NOT_FOUND)
        if not before.terminal:
            state = before.state
            return RetryResult(job_id=job_id, outcome=RetryOutcome.STILL_RUNNING, before=state, after=state)
        key = str(uuid.uuid4())
        new = yield from self._send_surely(request_again(before.spec or {}, key), key)
        return RetryResult(
            job_id=job_id, outcome=RetryOutcome.RETRIED, before=before.state, after=new.state, new_id=new.id
        )

    def acted_on(self, info: JobInfo) -> bool:
        """Whether a job that conditions mean is acted on: in a queue, those that were submitted with this library."""
        return info.array_id is not None or is_ours(info.spec or {})

    # Logs

    def log(
        self,
        job_id: str,
        stream: str,
        *,
        offset: int,
        wait: float = 0.0,  # noqa: ARG002 - an answer is not held
        length: int | None = None,
    ) -> Op[LogChunk]:
        """A piece of what the job has written, from CloudWatch Logs; stdout and stderr are one there."""
        info, place = yield from self._log_of(job_id, stream)
        if place is None:
            return LogChunk(b"", offset, 0, info.state, info.attempt)
        data, total = yield from self._logs.read(place, offset, length)
        return LogChunk(data, offset, total, info.state, info.attempt)

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:
        """The last ``size`` bytes of what the job has written."""
        info, place = yield from self._log_of(job_id, stream)
        if place is None:
            return LogChunk(b"", 0, 0, info.state, info.attempt)
        data, total = yield from self._logs.tail(place, size)
        return LogChunk(data, total - len(data), total, info.state, info.attempt)

    def _log_of(self, job_id: str, stream: str) -> Op[tuple[JobInfo, Place | None]]:
        """A job as it is, and where its log is, where there is one yet."""
        info = yield from self.get(job_id)
        job = info.spec or {}
        if is_array(job):
            raise self._cannot(f"show the log of an array ({job_id})", f"look at those of its jobs: {job_id}:0, ...")
        driver = ((job.get("container") or {}).get("logConfiguration") or {}).get("logDriver") or "awslogs"
        if driver != "awslogs":
            raise self._cannot(f"show the log of this job ({job_id})", f"look where its log driver {driver} sends it")
        group, name = log_of(job)
        if name is None or stream != "stdout":
            return info, None
        if info.terminal and info.finished_at is not None:
            since = (dt.datetime.now(dt.timezone.utc) - info.finished_at).total_seconds()
            if 0 <= since < STRAGGLERS:
                yield from sleep(STRAGGLERS - since)
        return info, (group or self._log_group, name)

    def _events(self, body: Mapping[str, Any]) -> Op[dict[str, Any]]:
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.GetLogEvents"}
        content = json.dumps(body).encode()
        request = Request("POST", "/", headers=headers, content=content, repeatable=True, base=self.other_urls[0])
        return (yield from self._asked_for(request))

    # Asking

    def error_of(self, request: Request, response: Response) -> ServiceError:
        """The typed error for an answer: by the code that AWS gives it, then by its status."""
        return batch_error(response, method=request.method, url=(request.base or self.base_url) + request.path)

    def ask(self, operation: str, body: Mapping[str, Any]) -> Op[dict[str, Any]]:
        """What AWS Batch answers to an operation that does no more the second time.

        Raises:
            ServiceError: What it refuses, typed.
        """
        return self._asked_for(Request("POST", f"/v1/{operation}", json=body, repeatable=True))

    def _asked_for(self, request: Request) -> Op[dict[str, Any]]:
        """Send a request, and once more where it failed inside AWS and may be repeated."""
        response = yield from patiently(
            lambda: self.sent(request),
            FAILED_PAUSES if request.repeatable else (),
            # what is not among these was tried again already
            lambda error: isinstance(error, (ServiceUnavailable, RateLimited)) and error.status in {400, 500},
        )
        if not response.content.strip():
            return {}
        try:
            told = json.loads(response.content)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            url = (request.base or self.base_url) + request.path
            error = unexpected(response, method=request.method, url=url, why="no JSON object")
            error.may_have_acted = not request.safe_to_repeat
            raise error
        return told

    def _info(self, job: Mapping[str, Any]) -> JobInfo:
        """What is known of a job: also what we asked of it, and its item, which AWS does not tell."""
        info = info_of(job)
        if job.get("createdAt"):  # it is AWS that tells of it
            self._new.forget(info.id)
        changes: dict[str, Any] = {}
        if info.array_id is not None and (items := self._items.get(info.array_id)) is not None:
            changes["item"] = items[info.array_index or 0]
        asked = self._asked.get(info.id)
        if asked is not None:
            sent, abort = asked
            if info.terminal:
                self._asked.forget(info.id)
                if info.state is JobState.FAILED and job.get("statusReason") == sent:
                    changes |= {"state": JobState.CANCELLED, "reason": own_reason(sent)}
                    changes["cancel_reason"] = own_reason(sent)
            elif abort or info.native_state not in {"STARTING", "RUNNING"}:
                changes |= {"cancel_requested": True, "cancel_reason": own_reason(sent)}
        return info.model_copy(update=changes) if changes else info


def _address(url: str) -> tuple[str | None, str | None]:
    """The region and the queue that an address names."""
    parts = urlsplit(url)
    region = None if parts.netloc in {"", "default"} else parts.netloc
    return region, unquote(parts.path.strip("/")) or None
