"""The service AWS Batch without a network: errors, requests for many, pages, logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs import operations
from hpcjobs.errors import (
    AuthenticationError,
    InvalidRequest,
    JobNotFound,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServiceUnavailable,
    SubmissionUnknown,
    TimedOut,
    UnexpectedAnswer,
)
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobSpec
from hpcjobs.protocol import Request, Response
from hpcjobs.services import batch_logs
from hpcjobs.services.batch import VISIBLE, BatchService
from tests.unit.conftest import Script

IDS = [f"{number:08d}-0d4e-4a8e-9d3a-0b6f3f0d6a11" for number in range(120)]
ID = IDS[0]


@pytest.fixture
def batch() -> BatchService:
    return BatchService(
        "batch://eu-west-1/fast",
        job_definition="fit",
        endpoint="https://batch.test",
        logs_endpoint="https://logs.test",
    )


def said(**body: Any) -> Response:
    return Response(200, {"content-type": "application/json"}, json.dumps(body).encode())


def no(status: int, code: str = "", message: str = "no", **headers: str) -> Response:
    named = {"x-amzn-errortype": code} if code else {}
    return Response(status, {**named, **headers}, json.dumps({"message": message}).encode())


def job(job_id: str = ID, status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    return {"jobId": job_id, "jobName": "fit", "status": status, "createdAt": 1_700_000_000_000} | more


def asked(request: Request) -> Any:
    return json.loads(request.content) if request.content is not None else request.json


# Errors


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (no(400, "ClientException"), InvalidRequest),
        (no(400, "ClientException:http://internal.amazon.com/coral/com.amazonaws.batch/"), InvalidRequest),
        (no(500, "ServerException"), ServiceUnavailable),
        (no(429, "TooManyRequestsException"), RateLimited),
        (no(400, "ThrottlingException"), RateLimited),
        (no(429), RateLimited),
        (no(503), ServiceUnavailable),
        (no(403, "AccessDeniedException", "User is not authorized"), PermissionDenied),
        (no(403), PermissionDenied),
        (no(403, "ExpiredTokenException"), AuthenticationError),
        (no(403, "UnrecognizedClientException"), AuthenticationError),
        (no(403, "InvalidSignatureException"), AuthenticationError),
        (no(400, "ResourceNotFoundException"), NotFound),
        (Response(403, {}, b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"), AuthenticationError),
        (Response(400, {}, b'{"__type": "com.amazonaws.logs#ResourceNotFoundException", "Message": "no"}'), NotFound),
        (Response(502, {"content-type": "text/html"}, b"<html>Bad Gateway"), ServiceUnavailable),
        (Response(404, {"content-type": "text/html"}, b"<html>no such page"), UnexpectedAnswer),
        (Response(500, {}, b""), ServiceUnavailable),
    ],
)  # fmt: skip
def test_errors_are_typed(batch: BatchService, answer: Response, kind: type[Exception]) -> None:
    error = batch.error_of(Request("POST", "/v1/listjobs"), answer)
    assert type(error) is kind
    if answer.status == 403:
        assert "; " in str(error), "it says what to do"


def test_a_throttled_answer_says_when_to_come_back(batch: BatchService) -> None:
    error = batch.error_of(Request("POST", "/"), no(429, "TooManyRequestsException", **{"retry-after": "7"}))
    assert error.retry_after == 7.0


def test_what_fails_inside_is_repeated_and_a_submission_is_not(batch: BatchService, script: Script) -> None:
    failed, busy = no(500, "ServerException"), no(400, "ThrottlingException")
    assert script.play(batch.get(ID), failed, busy, said(jobs=[job()])).state is JobState.RUNNING
    assert script.sleeps == [1.0, 3.0]
    with pytest.raises(ServiceUnavailable):
        script.play(batch.get(ID), failed, failed, failed)
    with pytest.raises(ServiceUnavailable) as caught:
        script.play(batch.submit(JobSpec(command="true"), "k"), failed)
    assert caught.value.may_have_acted
    [*_, submitted] = script.requests
    assert not submitted.safe_to_repeat


@pytest.mark.parametrize("answer", [Response(200, {"content-type": "text/html"}, b"<html>login"), said()])
def test_an_answer_without_a_job_may_have_made_one(batch: BatchService, script: Script, answer: Response) -> None:
    """A page of a proxy, or no id: the job is looked up, and nothing is guessed."""
    batch.capabilities = batch.capabilities.model_copy(update={"find_within": 0.0})
    with pytest.raises(SubmissionUnknown):
        script.play(operations.submit_once(batch, JobSpec(command="true")), answer, said(jobSummaryList=[]))
    assert script.sent == ["POST /v1/submitjob", "POST /v1/listjobs"]


def test_a_job_whose_answer_was_lost_is_found_by_the_beginning_of_its_name(batch: BatchService, script: Script) -> None:
    """Of two, which there cannot be, the older one is meant; a later one has run it again."""
    found = [job(IDS[1], createdAt=1_700_000_000_002), job(IDS[2], createdAt=1_700_000_000_001)]
    info = script.play(
        operations.submit_once(batch, JobSpec(command="true", queue="slow")),
        TimedOut("late"),
        said(jobSummaryList=[]),
        said(jobSummaryList=found),
        said(jobs=[found[1]]),
    )
    assert info.id == IDS[2]
    submitted, looked = asked(script.requests[0]), asked(script.requests[1])
    assert looked["jobQueue"] == "slow"
    [condition] = looked["filters"]
    assert condition["name"] == "JOB_NAME"
    assert condition["values"][0].endswith("*")
    assert submitted["jobName"].startswith(condition["values"][0][:-1])


# Looking


def test_answers_are_told_by_id_whatever_their_order(batch: BatchService, script: Script) -> None:
    some = [job(one) for one in reversed(IDS[:100])]
    answer = script.play(batch.get_many([*IDS, ID]), said(jobs=some), said(jobs=[job(IDS[101])]))
    assert [info.id for info in answer.items] == [*IDS[:100], IDS[101]]
    assert len(answer.missing) == 19
    assert [len(asked(request)["jobs"]) for request in script.requests] == [100, 20]


@pytest.mark.parametrize("job_id", ["", "a b", "1/2", "../x", "x" * 200, "1:x", "1?y"])
def test_what_is_no_id_is_never_sent(batch: BatchService, script: Script, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        script.play(batch.get(job_id))


def test_an_arn_is_an_id(batch: BatchService) -> None:
    assert batch.spelled(f"arn:aws:batch:eu-west-1:1:job/{ID}:3") == f"{ID}:3"
    assert batch.spelled(ID) == ID


def test_a_new_job_is_known_before_it_is_shown_and_not_for_ever(batch: BatchService, script: Script) -> None:
    batch._clock = script.clock
    assert script.play(batch.submit(JobSpec(command="true"), "k"), said(jobId=ID)).state is JobState.PENDING
    assert script.play(batch.get(ID), said(jobs=[])).reason == "accepted, and not shown yet"
    assert script.play(batch.get_many([ID]), said(jobs=[])).missing == []
    script.now += VISIBLE + 1
    with pytest.raises(JobNotFound):
        script.play(batch.get(ID), said(jobs=[]))
    script.play(batch.submit(JobSpec(command="true"), "k"), said(jobId=ID))
    script.play(batch.get(ID), said(jobs=[job()]))
    with pytest.raises(JobNotFound):
        script.play(batch.get(ID), said(jobs=[]))


def test_what_has_not_ended_is_met_at_least_once_while_it_goes_on(batch: BatchService, script: Script) -> None:
    """The states are asked for in the order of a job's life: one that goes on meanwhile is in two lists, not in none."""
    one = job(IDS[1], "RUNNABLE")
    page = script.play(
        batch.page(JobFilter(state=["active"]), limit=10, cursor=None),
        said(jobSummaryList=[]),
        said(jobSummaryList=[], nextToken="t"),
        said(jobSummaryList=[job(ID, "PENDING")]),
        said(jobSummaryList=[one]),
        said(jobSummaryList=[]),
        said(jobSummaryList=[one | {"status": "RUNNING"}]),
        said(jobs=[one | {"status": "RUNNING"}, job(ID, "PENDING")]),
    )
    assert sorted(info.id for info in page.items) == [ID, IDS[1]]
    words = [asked(request).get("jobStatus") for request in script.requests[:-1]]
    assert words == ["SUBMITTED", "PENDING", "PENDING", "RUNNABLE", "STARTING", "RUNNING"]


def test_a_list_of_all_is_one_filter_and_never_the_default(batch: BatchService, script: Script) -> None:
    """Without a state and a filter AWS tells of running jobs only."""
    first = script.play(
        batch.page(JobFilter(), limit=1000, cursor=None),
        said(jobSummaryList=[job()], nextToken="t"),
        said(jobs=[job(tags={"a": ""})]),
    )
    assert [info.tags for info in first.items] == [["a"]]
    last = script.play(
        batch.page(JobFilter(), limit=1000, cursor=first.next), said(jobSummaryList=[job(IDS[1])]), said(jobs=[])
    )
    assert ([info.id for info in last.items], last.next) == ([IDS[1]], None)
    listed = [asked(request) for request in script.requests if request.path == "/v1/listjobs"]
    assert [(len(body["filters"]), body["maxResults"], body.get("nextToken")) for body in listed] == [
        (1, 100, None), (1, 100, "t")
    ]  # fmt: skip


# Cancelling


def test_for_many_the_answer_tells_what_was_refused(batch: BatchService, script: Script) -> None:
    """Those for which AWS was too busy are asked for again; a bad id spoils nothing."""
    errors = [
        {"job": IDS[1], "code": "ThrottlingException", "message": "busy"},
        {"job": IDS[2], "code": "ValidationException", "message": "no such id"},
    ]
    results = script.play(
        batch.cancel(IDS[:3], reason="why", abort=True, delete=False),
        said(successful=[ID], errors=errors),
        said(successful=[IDS[1]], errors=[]),
        said(jobs=[job(ID, isTerminated=True), job(IDS[1], "FAILED", statusReason="hpcjobs: why")]),
    )
    assert [result.outcome for result in results] == [
        CancelOutcome.CANCEL_REQUESTED, CancelOutcome.CANCELLED, CancelOutcome.NOT_FOUND
    ]  # fmt: skip
    assert script.sent == ["POST /v1/terminatejobs", "POST /v1/terminatejobs", "POST /v1/describejobs"]
    assert asked(script.requests[1]) == {"jobs": [IDS[1]], "reason": "hpcjobs: why"}


def test_a_job_that_may_not_be_cancelled_is_told(batch: BatchService, script: Script) -> None:
    errors = [{"job": ID, "code": "AccessDenied", "message": "not yours"}]
    with pytest.raises(PermissionDenied, match="1 of 2 jobs were not asked to stop, the others were: not yours"):
        script.play(
            batch.cancel(IDS[:2], reason=None, abort=True, delete=False),
            said(successful=[IDS[1]], errors=errors),
            said(jobs=[job(ID), job(IDS[1])]),
        )


def test_many_go_in_pieces_of_fifty(batch: BatchService, script: Script) -> None:
    done = said(successful=[], errors=[])
    results = script.play(
        batch.cancel(IDS, reason=None, abort=False, delete=False), done, done, done, said(jobs=[]), said(jobs=[])
    )
    assert {result.outcome for result in results} == {CancelOutcome.NOT_FOUND}
    assert [len(asked(request)["jobs"]) for request in script.requests[:3]] == [50, 50, 20]
    assert {request.path for request in script.requests[:3]} == {"/v1/canceljobs"}


@pytest.mark.parametrize(
    "answer",
    [
        Response(404, {"content-type": "text/html"}, b"<html>"),
        no(404, "UnknownOperationException"),
        no(403, "MissingAuthenticationTokenException"),
    ],
)
def test_an_endpoint_without_requests_for_many_is_asked_one_by_one(
    batch: BatchService, script: Script, answer: Response
) -> None:
    nothing = Response(200, {}, b"")
    script.play(batch.cancel(IDS[:2], reason=None, abort=False, delete=False), answer, nothing, nothing, said(jobs=[]))
    script.play(batch.cancel(IDS[:2], reason=None, abort=True, delete=False), nothing, nothing, said(jobs=[]))
    assert [one for one in script.sent if "describe" not in one] == [
        "POST /v1/canceljobs",
        *["POST /v1/canceljob"] * 2,
        *["POST /v1/terminatejob"] * 2,
    ]


def test_a_200_is_no_cancel(batch: BatchService, script: Script) -> None:
    """Without a flag, because the answer is from a moment before, the job is told as asked to stop all the same."""
    [result] = script.play(
        batch.cancel([ID], reason="why", abort=True, delete=False), Response(200, {}, b""), said(jobs=[job()])
    )
    assert (result.outcome, result.after) == (CancelOutcome.CANCEL_REQUESTED, JobState.RUNNING)
    info = script.play(batch.get(ID), said(jobs=[job()]))
    assert (info.label, info.cancel_reason) == ("cancelling", "why")
    info = script.play(batch.get(ID), said(jobs=[job(status="SUCCEEDED", isTerminated=True)]))
    assert (info.state, info.cancel_requested) == (JobState.FINISHED, False)


def test_a_job_that_ended_by_itself_was_not_cancelled(batch: BatchService, script: Script) -> None:
    for status, more in (("SUCCEEDED", {}), ("FAILED", {"isTerminated": True, "statusReason": "somebody else"})):
        [result] = script.play(
            batch.cancel([ID], reason="why", abort=True, delete=False),
            Response(200, {}, b""),
            said(jobs=[job(status=status, **more)]),
        )
        assert result.outcome is CancelOutcome.ALREADY_TERMINAL


# Logs


class Stream:
    """A stream of CloudWatch Logs: pages of some events, tokens that stand still at the end."""

    def __init__(self, lines: list[str], size: int) -> None:
        self.lines, self.size, self.calls, self.good = lines, size, 0, True

    def __call__(self, request: Request) -> Response:
        self.calls += 1
        body = asked(request)
        assert request.headers["X-Amz-Target"] == "Logs_20140328.GetLogEvents"
        assert request.base == "https://logs.test"
        token = body.get("nextToken")
        if token is not None and not self.good:
            self.good = True
            return no(400, "InvalidParameterException", "the token has expired")
        start = int(token or 0)
        some = self.lines[start : start + self.size]
        events = [{"timestamp": 1.5, "message": line} for line in some]
        return said(events=events, nextForwardToken=str(start + len(some)))


def run(op: Any, *answers: Callable[[Request], Response]) -> Any:
    """Run an operation whose requests are all answered by the same."""
    value = None
    while True:
        try:
            request = op.send(value)
        except StopIteration as end:
            return end.value
        value = answers[0](request)


LINES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12), max_size=30)


@given(LINES, st.integers(1, 7), st.integers(0, 100), st.one_of(st.none(), st.integers(1, 50)), st.data())
def test_a_log_is_the_same_bytes_from_wherever_it_is_read(
    lines: list[str], size: int, offset: int, length: int | None, data: st.DataObject
) -> None:
    """In pages of any size, from any offset, while it grows, and after the tokens have ended."""
    batch = BatchService("batch://eu-west-1/fast", endpoint="https://batch.test", logs_endpoint="https://logs.test")
    whole = "".join(f"{line}\n" for line in lines).encode()
    end = len(whole) if length is None else offset + length
    place = ("group", "stream")
    stream = Stream([], size)
    logs = batch._logs
    for count in sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=4))):
        stream.lines = lines[:count]
        known = len("".join(f"{line}\n" for line in lines[:count]).encode())
        assert run(logs.read(place, 0, None), stream) == (whole[:known], known)
    stream.lines = lines
    stream.good = data.draw(st.booleans())
    found, total = run(logs.read(place, offset, length), stream)
    assert found == whole[offset:end]
    assert total in {len(whole), batch_logs.MORE}
    tail = data.draw(st.integers(1, 60))
    assert run(logs.tail(place, tail), stream) == (whole[-tail:], len(whole))


def test_a_look_at_the_end_of_a_log_costs_two_requests(batch: BatchService) -> None:
    """However long the log is: where it was read before is remembered."""
    stream = Stream(["x" * 99_999] * 500, 10)
    place = ("group", "stream")
    run(batch._logs.tail(place, 10), stream)
    assert stream.calls > 50
    stream.calls = 0
    stream.lines = [*stream.lines, "end"]
    assert run(batch._logs.tail(place, 10), stream) == (b"xxxxx\nend\n", 500 * 100_000 + 4)
    assert stream.calls <= 3


def test_a_long_log_is_not_read_to_its_end_for_its_first_piece(batch: BatchService) -> None:
    stream = Stream(["x" * 99] * 1000, 1)
    data, total = run(batch._logs.read(("group", "stream"), 0, 100), stream)
    assert (len(data), total) == (100, batch_logs.MORE)
    assert stream.calls < 30


def test_the_state_is_read_before_the_log(batch: BatchService, script: Script) -> None:
    """So that what a job has written before its end is never missed."""
    container = {"logStreamName": "a/b", "logConfiguration": {"options": {"awslogs-group": "mine"}}}
    chunk = script.play(
        batch.log(ID, "stdout", offset=0),
        said(jobs=[job(container=container)]),
        said(events=[{"timestamp": 1, "message": "a"}], nextForwardToken="1"),
        said(events=[], nextForwardToken="1"),
    )
    assert (chunk.data, chunk.total, chunk.state) == (b"a\n", 2, JobState.RUNNING)
    assert asked(script.requests[1])["logGroupName"] == "mine"
    assert script.sent[0] == "POST /v1/describejobs"
