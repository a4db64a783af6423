"""Tapis style over a real service: the same script over its own API and over its Tapis API, with real jobs."""

from __future__ import annotations

import io
import json
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hpcjobs
from hpcjobs import Client, Conflict, InvalidRequest, InvalidSpec, JobNotFound, OutputNotFound
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS
from hpcjobs.tapis_style import NotFoundError, Tapis
from tests.running import Service, until

TRAINING = textwrap.dedent(
    '''
    def cancel(job_id):
        """As training pages have it."""
        status = t.jobs.getJob(jobId=job_id).status
        if status in ['FINISHED', 'FAILED', 'CANCELLED']:
            print(f"Job is already in a terminal state: {status}")
        else:
            t.jobs.cancelJob(jobId=job_id)
    '''
)
"""The function of the issue, to the letter within."""

HELLO = {"name": "greeting", "appId": "hello", "appVersion": "1.0"}


@pytest.fixture(params=["own API", "Tapis API"])
def t(request: pytest.FixtureRequest, shared_service: Service, shared_client: Client, token: str) -> Iterator[Tapis]:
    """The style over each API of the same service, for the same owner."""
    if request.param == "own API":
        yield hpcjobs.tapis_style.connect(client=shared_client)
    else:
        with hpcjobs.tapis_style.connect(base_url=shared_service.url, tenant_id="dev", access_token=token) as t:
            yield t


def ended(t: Tapis, uuid: str) -> str:
    """Wait for the end as scripts do."""

    def look() -> str | None:
        status: str = t.jobs.getJobStatus(jobUuid=uuid).status
        return status if status in {"FINISHED", "FAILED", "CANCELLED"} else None

    return until(look) or ""


def running(t: Tapis, uuid: str) -> None:
    until(lambda: t.jobs.getJobStatus(jobUuid=uuid).status == "RUNNING")


def python(code: str, **fields: Any) -> dict[str, Any]:
    """A request for a job that runs some Python."""
    args = [{"name": "how", "arg": "-c"}, {"name": "code", "arg": f'"{code}"'}]
    return {"name": "py", "appId": "python", "appVersion": "1.0", "parameterSet": {"appArgs": args}, **fields}


SLEEP = python("import time; time.sleep(600)")


def test_a_job_from_its_submission_to_its_output(t: Tapis) -> None:
    asked = {**HELLO, "parameterSet": {"appArgs": [{"name": "who", "arg": "Ada"}]}, "maxMinutes": 3, "tags": ["first"]}
    job = t.jobs.submitJob(**asked)
    assert job.id == job.uuid
    assert (job.name, job.appId, job.appVersion) == ("greeting", "hello", "1.0")
    assert ended(t, job.uuid) == "FINISHED"
    job = t.jobs.getJob(jobUuid=job.id)
    assert set(JOB_KEYS) <= set(vars(job))
    assert (job.condition, job.remoteOutcome, job.remoteResultInfo) == ("NORMAL_COMPLETION", "FINISHED", "0")
    assert (job.maxMinutes, "first" in job.tags, job.visible) == (3, True, True)
    assert json.loads(job.parameterSet)["appArgs"][0]["arg"] == "Ada"
    assert job.created <= job.remoteStarted <= job.ended
    words = [entry.eventDetail for entry in t.jobs.getJobHistory(jobUuid=job.uuid)]
    assert (words[-2:], words == [entry.get("eventDetail") for entry in t.jobs.getJobHistory(job)]) == (
        ["RUNNING", "FINISHED"],
        True,
    )
    assert json.loads(t.jobs.getJobHistory(jobUuid=job.uuid)[-1].description)["newJobStatus"] == "FINISHED"


def test_a_job_that_fails_says_why(t: Tapis) -> None:
    job = t.jobs.submitJob(**python("raise SystemExit(3)"))
    assert ended(t, job.uuid) == "FAILED"
    job = t.jobs.getJob(jobUuid=job.uuid)
    assert (job.condition, job.remoteResultInfo) == ("JOB_REMOTE_OUTCOME_ERROR", "3")
    assert "exit code 3" in job.lastMessage


def test_the_function_of_training_pages_cancels_and_prints_the_truth(
    t: Tapis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running job is stopped and that is said; one that has ended is left alone; an unknown one is not found."""
    monkeypatch.setattr("hpcjobs.live.seen_by_a_person", lambda: True)
    script: dict[str, Any] = {"t": t}
    exec(TRAINING, script)
    job = t.jobs.submitJob(**SLEEP)
    running(t, job.uuid)
    script["cancel"](job.uuid)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"job {job.uuid} was asked to stop" in told.err
    assert ended(t, job.uuid) == "CANCELLED"
    script["cancel"](job.uuid)
    assert capsys.readouterr().out == "Job is already in a terminal state: CANCELLED\n"
    with pytest.raises(NotFoundError) as caught:
        script["cancel"]("00000000-0000-4000-8000-000000000000-007")
    assert isinstance(caught.value, JobNotFound)


def test_a_cancel_says_in_words_and_in_one_word_what_happened(t: Tapis) -> None:
    job = t.jobs.submitJob(**SLEEP)
    running(t, job.uuid)
    told = t.jobs.cancelJob(jobUuid=job.uuid, confirm=30)
    assert (told.outcome, told.status, told.uuid) == ("CANCELLED", "CANCELLED", job.uuid)
    assert "is cancelled" in told.message
    again = t.jobs.cancelJob(jobUuid=job.uuid)
    assert (again.outcome, again.status) == ("ALREADY_TERMINAL", "CANCELLED")
    assert "nothing was cancelled" in again.message


@pytest.mark.parametrize(
    "call",
    [
        lambda jobs, uuid: jobs.getJob(jobUuid=uuid),
        lambda jobs, uuid: jobs.getJobStatus(jobUuid=uuid),
        lambda jobs, uuid: jobs.getJobHistory(jobUuid=uuid),
        lambda jobs, uuid: jobs.cancelJob(jobUuid=uuid),
        lambda jobs, uuid: jobs.resubmitJob(jobUuid=uuid),
        lambda jobs, uuid: jobs.getJobOutputList(jobUuid=uuid),
        lambda jobs, uuid: jobs.getJobOutputDownload(jobUuid=uuid, outputPath="/"),
        lambda jobs, uuid: jobs.hideJob(jobUuid=uuid),
    ],
)
@pytest.mark.parametrize("uuid", ["00000000-0000-4000-8000-000000000000-007", "../../v1/jobs", "77"])
def test_an_unknown_id_is_not_found(t: Tapis, call: Callable[[Any, str], Any], uuid: str) -> None:
    with pytest.raises(JobNotFound):
        call(t.jobs, uuid)


def test_a_job_is_submitted_once_more_as_a_new_one(t: Tapis) -> None:
    """Also while it runs; it has an id of its own, and the first one is left alone."""
    asked = {**HELLO, "parameterSet": {"appArgs": [{"arg": "again"}]}, "nodeCount": 1, "notes": {"run": 7}}
    job = t.jobs.submitJob(**asked)
    ended(t, job.uuid)
    new = t.jobs.resubmitJob(jobUuid=job.uuid)
    assert new.uuid != job.uuid
    assert ended(t, new.uuid) == "FINISHED"
    assert b"again" in t.jobs.getJobOutputDownload(jobUuid=new.uuid, outputPath="tapisjob.out")
    assert (new.name, new.appId, json.loads(new.notes)) == ("greeting", "hello", {"run": 7})
    job = t.jobs.submitJob(**SLEEP)
    running(t, job.uuid)
    new = t.jobs.resubmitJob(jobUuid=job.uuid)
    assert new.uuid != job.uuid
    for uuid in (job.uuid, new.uuid):
        t.jobs.cancelJob(jobUuid=uuid, confirm=30)


def test_outputs_are_listed_and_fetched(t: Tapis) -> None:
    code = (
        "import os; os.makedirs('deep/er'); open('deep/a.txt', 'w').write('A'); open('deep/er/b.bin', 'wb').write(b'B')"
    )
    job = t.jobs.submitJob(**python(code))
    assert ended(t, job.uuid) == "FINISHED"
    top = {item.name: item.type for item in t.jobs.getJobOutputList(jobUuid=job.uuid)}
    assert (top["deep"], top["tapisjob.out"]) == ("dir", "file")
    assert [item.name for item in t.jobs.getJobOutputList(jobUuid=job.uuid, outputPath="deep/")] == ["a.txt", "er"]
    assert len(t.jobs.getJobOutputList(jobUuid=job.uuid, outputPath="/deep", limit=1, skip=1)) == 1
    assert t.jobs.getJobOutputDownload(jobUuid=job.uuid, outputPath="/deep/a.txt") == b"A"
    packed = t.jobs.getJobOutputDownload(jobUuid=job.uuid, outputPath="deep")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.txt": b"A", "er/b.bin": b"B"}
    with pytest.raises(OutputNotFound, match=r"deep/a\.txt"):
        t.jobs.getJobOutputDownload(jobUuid=job.uuid, outputPath="nothing.txt")


def test_lists_are_newest_first_and_leave_out_what_is_hidden(t: Tapis) -> None:
    assert t.jobs.getJobList() == []
    made = [t.jobs.submitJob(**{**HELLO, "name": name}, tags=[name]).uuid for name in ("a", "b", "c")]
    for uuid in made:
        assert ended(t, uuid) == "FINISHED"
    listed = t.jobs.getJobList()
    assert [job.uuid for job in listed] == made[::-1]
    assert [job.id for job in listed] == made[::-1]
    assert set(LIST_KEYS) <= set(vars(listed[0]))
    assert [job.name for job in t.jobs.getJobList(limit=1, skip=1)] == ["b"]
    assert [job.name for job in t.jobs.getJobList(orderBy="name(asc)", computeTotal=True)] == ["a", "b", "c"]
    query = {"name.eq": "b", "status.eq": "FINISHED"}
    (found,) = t.jobs.getJobSearchList(select="allAttributes", _tapis_query_parameters=query)
    assert (found.uuid, found.appId, "b" in found.tags) == (made[1], "hello", True)
    assert t.jobs.getJobSearchList(**{"tags.contains": "nothing"}) == []

    assert t.jobs.hideJob(jobUuid=made[1]).message
    assert [job.name for job in t.jobs.getJobList()] == ["c", "a"]
    job = t.jobs.getJob(jobUuid=made[1])
    assert (job.visible, "b" in job.tags) == (False, True)
    assert t.jobs.unhideJob(jobUuid=made[1]).message
    assert len(t.jobs.getJobList()) == 3


def test_a_job_that_runs_is_not_hidden(t: Tapis) -> None:
    job = t.jobs.submitJob(**SLEEP)
    running(t, job.uuid)
    with pytest.raises(Conflict):
        t.jobs.hideJob(jobUuid=job.uuid)
    t.jobs.cancelJob(jobUuid=job.uuid, confirm=30)


def test_an_app_that_is_not_there_is_an_error(t: Tapis) -> None:
    with pytest.raises(InvalidRequest, match="there is no app 'nothing'; there is hello, python"):
        t.jobs.submitJob(**{**HELLO, "appId": "nothing"})


def test_what_one_api_was_asked_can_be_asked_once_more_by_the_other(
    shared_service: Service, shared_client: Client, token: str
) -> None:
    """Fields that have a place of their own in a spec are not asked for twice."""
    ours = hpcjobs.tapis_style.connect(client=shared_client)
    with hpcjobs.tapis_style.connect(base_url=shared_service.url, access_token=token) as theirs:
        variables = [{"key": "A", "value": "1"}]
        asked = {**HELLO, "parameterSet": {"envVariables": variables}, "maxMinutes": 5, "notes": {"run": 7}}
        job = theirs.jobs.submitJob(**asked, coresPerNode=1, memoryMB=200)
        new = ours.jobs.resubmitJob(jobUuid=job.uuid.removesuffix("-007"))
        assert (new.maxMinutes, new.memoryMB, json.loads(new.notes)) == (5, 200, {"run": 7})
        assert ended(ours, new.uuid) == "FINISHED"


def test_jobs_that_were_not_asked_for_in_tapis_words_can_be_looked_at(
    shared_client: Client, t: Tapis, request: pytest.FixtureRequest
) -> None:
    """A command is a job, too; it has a status, a last message and outputs."""
    job = shared_client.submit("echo hello > a.txt; sleep 600", name="plain", tags=["x"])
    uuid = job.id if "own" in request.node.name else f"{job.id}-007"
    running(t, uuid)
    until(lambda: "a.txt" in [item.name for item in t.jobs.getJobOutputList(jobUuid=uuid, allowIfRunning=True)])
    told = t.jobs.getJob(jobUuid=uuid)
    assert (told.status, told.name, told.condition, told.ended) == ("RUNNING", "plain", None, None)
    job.cancel(reason="seen", confirm=30)
    told = t.jobs.getJob(jobUuid=uuid)
    assert (told.status, told.condition) == ("CANCELLED", "CANCELLED_BY_USER")
    assert "seen" in told.lastMessage


def test_both_apis_tell_of_the_same_job_alike(shared_service: Service, shared_client: Client, token: str) -> None:
    """What our record of a job says, Tapis's own says too, but for its id and what only one of them knows."""
    ours = hpcjobs.tapis_style.connect(client=shared_client)
    with hpcjobs.tapis_style.connect(base_url=shared_service.url, access_token=token) as theirs:
        job = theirs.jobs.submitJob(**python("raise SystemExit(3)", maxMinutes=7, memoryMB=300, coresPerNode=1))
        ended(theirs, job.uuid)
        native = vars(theirs.jobs.getJob(jobUuid=job.uuid))
    told = vars(ours.jobs.getJob(jobUuid=job.uuid.removesuffix("-007")))
    apart = {"id", "uuid", "lastUpdated", "parameterSet", "tags", "execSystemConstraints"}

    def moment(value: Any) -> Any:
        return value.rstrip("Z").rstrip("0") if isinstance(value, str) and value.endswith("Z") else value

    differ = {
        key: (value, native[key])
        for key, value in told.items()
        if value is not None and key not in apart and moment(value) != moment(native[key])
    }
    assert not differ
    assert set(told) == set(native)


def test_files_by_address_are_for_the_tapis_api(shared_client: Client) -> None:
    with pytest.raises(InvalidSpec, match="inputs="):
        hpcjobs.tapis_style.connect(client=shared_client).jobs.submitJob(
            **HELLO, fileInputs=[{"sourceUrl": "tapis://lab/record.csv"}]
        )
