"""The real tapipy drives the server unchanged, and our own service sees the same jobs in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpcjobs import Client, JobState
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS
from tests.conformance.conftest import Tapipy, TapipyError
from tests.running import Service, until

NOBODY = "11111111-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
ENDED = {"FINISHED", "FAILED", "CANCELLED"}
SLEEP = {"appArgs": [{"name": "c", "arg": "-c"}, {"name": "s", "arg": "'import time; time.sleep(600)'"}]}


@pytest.fixture
def ours(shared_service: Service, owner: str, token: str) -> Iterator[Client]:
    """Our client of the same endpoints, with the same login."""
    with Client(f"tapis+{shared_service.url}", username=owner, password=token) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_runs_on(shared_client: Client) -> None:
    """What a test leaves is cancelled when it ends."""


def hello(tapipy: Tapipy, **fields: Any) -> Any:
    """A job that has ended."""
    job = tapipy.submitJob(name="greet", appId="hello", appVersion="1.0", **fields)
    return reached(tapipy, job["uuid"], *ENDED)


def reached(tapipy: Tapipy, uuid: str, *words: str) -> Any:
    until(lambda: tapipy.getJobStatus(jobUuid=uuid)["status"] in words, what=f"one of {words}")
    return tapipy.getJob(jobUuid=uuid)


def sleeping(tapipy: Tapipy) -> str:
    """The id of a job that runs."""
    job = tapipy.submitJob(name="sleep", appId="python", appVersion="1.0", parameterSet=SLEEP)
    reached(tapipy, job["uuid"], "RUNNING")
    return str(job["uuid"])


def test_a_job_runs_to_its_end_and_tells_all_that_tapis_tells(tapipy: Tapipy) -> None:
    job = hello(tapipy, parameterSet={"appArgs": [{"name": "who", "arg": "world"}]}, tags=["a"])
    assert set(job) == set(JOB_KEYS)
    assert (job["status"], job["condition"], job["tags"]) == ("FINISHED", "NORMAL_COMPLETION", ["a"])
    words = [item["eventDetail"] for item in tapipy.getJobHistory(jobUuid=job["uuid"])]
    assert words[-2:] == ["RUNNING", "FINISHED"]
    names = [item["name"] for item in tapipy.getJobOutputList(jobUuid=job["uuid"], outputPath="/")]
    assert names == ["tapisjob.out"]
    log = tapipy.getJobOutputDownload(jobUuid=job["uuid"], outputPath="tapisjob.out")
    assert log == {"bytes": "Hello, world!\n"}


def test_lists_and_searches(tapipy: Tapipy) -> None:
    first, second = hello(tapipy)["uuid"], hello(tapipy)["uuid"]
    listed = tapipy.getJobList(limit=10, orderBy="created(desc)", computeTotal=True)
    assert [job["uuid"] for job in listed] == [second, first]
    assert all(set(job) == set(LIST_KEYS) for job in listed)
    found = tapipy.getJobSearchList(select="uuid,status", _tapis_query_parameters={"status.eq": "FINISHED"})
    assert {job["uuid"] for job in found} == {first, second}
    tapipy.hideJob(jobUuid=first)
    assert [job["uuid"] for job in tapipy.getJobList()] == [second]


def test_a_cancel_is_accepted_and_then_true_and_a_second_one_is_a_conflict(tapipy: Tapipy) -> None:
    uuid = sleeping(tapipy)
    assert tapipy.cancelJob(jobUuid=uuid)["message"].startswith("JOBS_JOB_CANCEL_ACCEPTED ")
    assert reached(tapipy, uuid, *ENDED)["condition"] == "CANCELLED_BY_USER"
    with pytest.raises(TapipyError, match="JOBS_JOB_IN_TERMINAL_STATE") as caught:
        tapipy.cancelJob(jobUuid=uuid)
    assert (caught.value.kind, caught.value.status) == ("BaseTapyException", 409)


def test_a_resubmitted_job_is_another_one(tapipy: Tapipy) -> None:
    job = hello(tapipy)
    new = tapipy.resubmitJob(jobUuid=job["uuid"])
    assert new["uuid"] != job["uuid"]
    assert reached(tapipy, new["uuid"], *ENDED)["status"] == "FINISHED"


def test_each_class_of_error(tapipy: Tapipy, shared_service: Service) -> None:
    """By what tapipy raises: a script's ``except`` works."""

    def kind(call: Any, **arguments: Any) -> tuple[str, int | None]:
        with pytest.raises(TapipyError) as caught:
            call(**arguments)
        return caught.value.kind, caught.value.status

    assert kind(tapipy.getJob, jobUuid=NOBODY) == ("NotFoundError", 404)
    assert kind(tapipy.getJobStatus, jobUuid=NOBODY) == ("NotFoundError", 404)
    assert kind(tapipy.submitJob, name="a", appId="nope", appVersion="1") == ("BadRequestError", 400)
    assert kind(tapipy.getJobList, orderBy="colour(up)") == ("BadRequestError", 400)
    tapipy.ask({"token": "not-known"})
    assert kind(tapipy.getJobList) == ("UnauthorizedError", 401)
    with pytest.raises(TapipyError):
        Tapipy(base_url=shared_service.url, username="nobody", password="wrong")


def test_a_token_that_may_only_read_is_forbidden_to_act(shared_service: Service, owner: str) -> None:
    read = shared_service.make_token(owner, scope="read").token
    reader = Tapipy(base_url=shared_service.url, username=owner, password=read)
    try:
        assert reader.getJobList() == []
        with pytest.raises(TapipyError) as caught:
            reader.submitJob(name="a", appId="hello", appVersion="1.0")
    finally:
        reader.close()
    assert (caught.value.kind, caught.value.status) == ("ForbiddenError", 403)


def test_what_tapis_does_now_and_then_is_what_tapipy_knows(service_factory: Callable[..., Service]) -> None:
    """An unknown job with status 500, a 401 in plain text, a proxy's page."""
    service = service_factory(faults=True, workers=0)
    theirs = Tapipy(base_url=service.url, username="tester", password=service.token)
    try:
        with service.http() as admin:
            for fault, kind, status in (
                ("unknown_500", "InternalServerError", 500),
                ("plain_401", "UnauthorizedError", 401),
                ("html_502", "InternalServerError", 502),
            ):
                admin.put("/v1/faults", json={"items": [{"kind": fault, "times": 1}]}).raise_for_status()
                if fault == "plain_401":
                    theirs.ask({"token": "not-known"})
                with pytest.raises(TapipyError) as caught:
                    theirs.getJob(jobUuid=NOBODY)
                assert (caught.value.kind, caught.value.status) == (kind, status)
    finally:
        theirs.close()


def test_both_see_the_same_job_in_the_same_way(tapipy: Tapipy, ours: Client) -> None:
    theirs = hello(tapipy, tags=["mine"], parameterSet={"appArgs": [{"name": "who", "arg": "you"}]})
    job = ours.job(theirs["uuid"])
    info = job.refresh().info
    assert (info.id, info.native_state, info.name, info.owner) == (
        theirs["uuid"], theirs["status"], theirs["name"], theirs["owner"]
    )  # fmt: skip
    assert info.tags == theirs["tags"]
    assert job.logs() == "Hello, you!\n"
    assert [file.path for file in job.files()] == ["tapisjob.out"]
    assert [change.state.value for change in job.history().changes] == [
        item["eventDetail"] for item in tapipy.getJobHistory(jobUuid=info.id)
    ]
    mine = ours.submit(app="hello", app_version="1.0", args={"who": "me"}, name="from us")
    assert mine.wait(60).state is JobState.FINISHED
    assert tapipy.getJob(jobUuid=mine.id)["name"] == "from us"


def test_what_one_cancels_the_other_sees_cancelled(tapipy: Tapipy, ours: Client) -> None:
    uuid = sleeping(tapipy)
    result = ours.job(uuid).cancel(reason="enough", confirm=60)
    assert result.confirmed
    assert tapipy.getJobStatus(jobUuid=uuid)["status"] == "CANCELLED"
    uuid = sleeping(tapipy)
    tapipy.cancelJob(jobUuid=uuid)
    assert ours.job(uuid).wait(60).state is JobState.CANCELLED
