"""tapipy's methods over the reference server, with real jobs."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpcjobs
from hpcjobs import (
    CancelTimeout,
    Client,
    Conflict,
    InvalidSpec,
    Job,
    JobNotFound,
    JobState,
    OutputNotFound,
    Unsupported,
)
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS
from hpcjobs.tapis_style import Tapis
from tests.running import Service, until


@pytest.fixture
def t(shared_client: Client) -> Tapis:
    return hpcjobs.tapis_style.connect(client=shared_client)


@pytest.fixture
def running(shared_client: Client) -> Iterator[Job]:
    job = shared_client.submit("sleep 60", name="long", tags=["night"])
    until(lambda: job.refresh().state is JobState.RUNNING, what="the job's start")
    yield job
    job.cancel(reason="the test has ended", confirm=30)


@pytest.fixture
def ended(shared_client: Client) -> Job:
    job = shared_client.submit("mkdir -p out/deep && echo a > out/a.txt && echo b > out/deep/b.txt && echo c > c.txt")
    assert job.wait().state is JobState.FINISHED
    return job


class TestTheSnippetOfTheTrainingPages:
    """A script that looks, and cancels what has not ended."""

    def run(self, t: Tapis, job_id: str) -> None:
        status = t.jobs.getJob(jobId=job_id).status
        if status in ["FINISHED", "FAILED", "CANCELLED"]:
            print(f"Job is already in a terminal state: {status}")  # noqa: T201 - it is a script's
        else:
            t.jobs.cancelJob(jobId=job_id)

    def test_a_running_job_is_cancelled(self, t: Tapis, running: Job, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(t, running.id)
        assert "terminal state" not in capsys.readouterr().out
        assert running.wait(timeout=60).state is JobState.CANCELLED

    def test_of_a_job_that_has_ended_the_truth_is_printed(
        self, t: Tapis, ended: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run(t, ended.id)
        assert capsys.readouterr().out == "Job is already in a terminal state: FINISHED\n"
        assert ended.refresh().state is JobState.FINISHED

    def test_an_id_that_no_job_has_is_an_error_and_no_cancel(self, t: Tapis) -> None:
        nobody = str(uuid.uuid4())
        with pytest.raises(JobNotFound, match="no such job"):
            self.run(t, nobody)


class TestLooking:
    def test_a_job_has_every_key_of_tapis_and_its_own_values(self, t: Tapis, running: Job) -> None:
        job = t.jobs.getJob(jobUuid=running.id)
        assert set(JOB_KEYS) <= set(vars(job))
        assert (job.uuid, job.id, job.name, job.status, job.tags) == (
            running.id,
            running.id,
            "long",
            "RUNNING",
            ["night"],
        )
        assert job.condition is None
        assert job.lastMessage
        assert job.created.endswith("Z")
        assert job.remoteStarted >= job.created
        assert job.ended is None

    def test_the_id_is_taken_in_three_ways(self, t: Tapis, running: Job) -> None:
        first = t.jobs.getJobStatus(running.id)
        assert first.status == "RUNNING"
        assert t.jobs.getJobStatus(jobUuid=running.id) == t.jobs.getJobStatus(jobId=running.id) == first

    def test_a_job_that_failed_says_why(self, t: Tapis, shared_client: Client) -> None:
        job = shared_client.submit("exit 3")
        job.wait()
        seen = t.jobs.getJob(jobUuid=job.id)
        assert (seen.status, seen.condition, seen.remoteOutcome) == ("FAILED", "JOB_REMOTE_OUTCOME_ERROR", "FAILED")
        assert seen.remoteResultInfo == "3"
        assert "3" in seen.lastMessage

    def test_the_history_tells_each_status_in_order(self, t: Tapis, ended: Job) -> None:
        entries = t.jobs.getJobHistory(jobUuid=ended.id)
        words = [entry.eventDetail for entry in entries]
        assert words[-1] == "FINISHED"
        assert "RUNNING" in words
        assert [entry.created for entry in entries] == sorted(entry.created for entry in entries)
        last = json.loads(entries[-1].description)
        assert (last["oldJobStatus"], last["newJobStatus"]) == (words[-2], "FINISHED")
        assert last["jobUuid"] == ended.id
        assert [entry.eventDetail for entry in t.jobs.getJobHistory(ended.id, limit=1, skip=1)] == words[1:2]


class TestLists:
    def test_newest_first_with_the_keys_of_a_list(self, t: Tapis, shared_client: Client) -> None:
        made = [shared_client.submit("true", name=name).id for name in "abc"]
        found = t.jobs.getJobList()
        assert [job.uuid for job in found] == made[::-1]
        assert set(vars(found[0])) == {*LIST_KEYS, "id"}
        assert [job.uuid for job in t.jobs.getJobList(limit=1, skip=1)] == [made[1]]
        assert [job.name for job in t.jobs.getJobList(orderBy="name(asc)", limit=-1)] == ["a", "b", "c"]

    def test_a_search_finds_what_meets_all_conditions(self, t: Tapis, running: Job, shared_client: Client) -> None:
        shared_client.submit("true", name="other").wait()

        def found(**conditions: str) -> list[str]:
            return [job.name for job in t.jobs.getJobSearchList(**conditions)]

        assert found(**{"status.eq": "RUNNING"}) == ["long"]
        assert found(**{"status.in": "RUNNING,FINISHED"}) == ["other", "long"]
        assert found(**{"name.like": "oth%"}) == ["other"]
        assert found(**{"tags.contains": "night"}) == ["long"]
        assert found(**{"tags.contains": "night", "status.eq": "FINISHED"}) == []
        within = t.jobs.getJobSearchList(_tapis_query_parameters={"status.eq": "RUNNING"}, select="uuid,tags")
        assert [vars(job) for job in within] == [{"uuid": running.id, "tags": ["night"], "id": running.id}]

    def test_what_only_tapis_can_search_is_said_to_be_so(self, t: Tapis) -> None:
        with pytest.raises(Unsupported, match=r"nodeCount\.gt.*status\.eq"):
            t.jobs.getJobSearchList(**{"nodeCount.gt": 2})

    def test_a_hidden_job_is_left_out_until_it_is_shown_again(self, t: Tapis, ended: Job) -> None:
        assert "hidden" in t.jobs.hideJob(jobUuid=ended.id).message
        t.jobs.hideJob(jobUuid=ended.id)  # a second time changes nothing
        assert t.jobs.getJobList() == t.jobs.getJobSearchList() == []
        seen = t.jobs.getJob(jobUuid=ended.id)
        assert (seen.visible, seen.tags) == (False, [])
        t.jobs.unhideJob(jobUuid=ended.id)
        assert [job.uuid for job in t.jobs.getJobList()] == [ended.id]

    def test_a_job_that_has_not_ended_is_not_hidden(self, t: Tapis, running: Job) -> None:
        with pytest.raises(Conflict, match="RUNNING"):
            t.jobs.hideJob(jobUuid=running.id)


class TestCancel:
    def test_the_answer_says_that_it_was_asked_and_not_that_it_is_done(self, t: Tapis, running: Job) -> None:
        told = t.jobs.cancelJob(jobUuid=running.id, reason="wrong mesh")
        assert told.outcome == "CANCEL_REQUESTED"
        assert "CANCELLED" in told.message
        assert running.wait(timeout=60).state is JobState.CANCELLED
        seen = t.jobs.getJob(jobUuid=running.id)
        assert (seen.status, seen.condition) == ("CANCELLED", "CANCELLED_BY_USER")
        assert "wrong mesh" in seen.lastMessage

    def test_with_confirm_it_returns_when_the_job_has_ended(self, t: Tapis, running: Job) -> None:
        told = t.jobs.cancelJob(jobUuid=running.id, confirm=60)
        assert (told.outcome, told.status) == ("CANCELLED", "CANCELLED")

    def test_a_job_that_does_not_stop_in_time_is_an_error(self, t: Tapis, shared_client: Client) -> None:
        job = shared_client.submit("trap '' TERM; echo ready; while :; do sleep 0.1; done", grace="2s")
        until(lambda: "ready" in job.logs(), what="the trap")
        with pytest.raises(CancelTimeout):
            t.jobs.cancelJob(jobUuid=job.id, confirm=0.2)
        assert job.wait(timeout=60).state is JobState.CANCELLED

    def test_nothing_is_asked_of_a_job_that_has_ended(self, t: Tapis, ended: Job) -> None:
        told = t.jobs.cancelJob(jobUuid=ended.id)
        assert (told.outcome, told.status) == ("ALREADY_TERMINAL", "FINISHED")
        assert "nothing was cancelled" in told.message
        assert not ended.refresh().info.cancel_requested


class TestAgain:
    def test_a_new_job_is_asked_for_the_same(self, t: Tapis, shared_client: Client) -> None:
        first = shared_client.submit("echo $WORD", env={"WORD": "again"}, name="echo", tags=["x"])
        first.wait()
        t.jobs.hideJob(jobUuid=first.id)
        job = t.jobs.resubmitJob(jobUuid=first.id)
        assert job.uuid != first.id
        assert (job.name, job.tags, job.visible) == ("echo", ["x"], True)
        second = shared_client.job(job.uuid)
        assert second.wait().state is JobState.FINISHED
        assert second.logs() == "again\n"


class TestOutputs:
    def test_one_folder_at_a_time(self, t: Tapis, ended: Job) -> None:
        top = {entry.name: entry for entry in t.jobs.getJobOutputList(jobUuid=ended.id, outputPath="/")}
        assert (top["out"].type, top["c.txt"].type) == ("dir", "file")
        assert (top["c.txt"].size, top["out"].size) == (2, 4)
        inside = t.jobs.getJobOutputList(jobUuid=ended.id, outputPath="/out")
        assert [(entry.name, entry.path) for entry in inside] == [("a.txt", "out/a.txt"), ("deep", "out/deep")]
        assert [entry.name for entry in t.jobs.getJobOutputList(ended.id, outputPath="out/deep/b.txt")] == ["b.txt"]

    def test_a_file_comes_as_it_is_and_a_folder_as_a_zip_file(self, t: Tapis, ended: Job) -> None:
        assert t.jobs.getJobOutputDownload(jobUuid=ended.id, outputPath="out/a.txt") == b"a\n"
        packed = t.jobs.getJobOutputDownload(jobUuid=ended.id, outputPath="out")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == {"a.txt": b"a\n", "deep/b.txt": b"b\n"}

    def test_the_log_has_the_name_that_scripts_know(self, t: Tapis, shared_client: Client) -> None:
        job = shared_client.submit("echo said")
        job.wait()
        entry = t.jobs.getJobOutputList(jobUuid=job.id, outputPath="/")[0]
        assert (entry.name, entry.path, entry.size) == ("tapisjob.out", "tapisjob.out", 5)
        assert t.jobs.getJobOutputDownload(jobUuid=job.id, outputPath="/tapisjob.out") == b"said\n"
        packed = t.jobs.getJobOutputDownload(jobUuid=job.id, outputPath="/")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert archive.read("tapisjob.out") == b"said\n"

    def test_a_job_that_has_not_started_has_no_log(self, t: Tapis, shared_client: Client) -> None:
        job = shared_client.submit("true", start_in="1h")
        assert t.jobs.getJobOutputList(jobUuid=job.id, outputPath="/") == []

    def test_an_output_that_is_not_there_is_named(self, t: Tapis, ended: Job) -> None:
        with pytest.raises(OutputNotFound, match=r"nothing\.txt"):
            t.jobs.getJobOutputDownload(jobUuid=ended.id, outputPath="nothing.txt")
        with pytest.raises(OutputNotFound, match="nowhere"):
            t.jobs.getJobOutputList(jobUuid=ended.id, outputPath="nowhere")


def both(service: Service, token: str, owner: str) -> Iterator[Tapis]:
    """The style over the server's own API, and over its Tapis."""
    with hpcjobs.tapis_style.connect(url=service.url, token=token) as t:
        yield t
    with hpcjobs.tapis_style.connect(base_url=service.url, username=owner, password=token, tenant_id="dev") as t:
        yield t


class TestSubmit:
    def test_a_script_says_the_same_over_either_api(
        self, shared_service: Service, shared_client: Client, token: str
    ) -> None:
        """The whole life of jobs in tapipy's words alone: the script knows nothing of the service."""

        def script(t: Tapis) -> list[object]:
            said: list[object] = []
            sleep = {"appArgs": [{"arg": "-c"}, {"arg": "'import time; time.sleep(60)'"}]}
            one = t.jobs.submitJob(name="long", appId="python", appVersion="1.0", parameterSet=sleep, tags=["x"])
            until(lambda: t.jobs.getJobStatus(jobUuid=one.uuid).status == "RUNNING", what="the job's start")
            t.jobs.cancelJob(jobUuid=one.uuid)
            until(lambda: t.jobs.getJobStatus(jobUuid=one.uuid).status == "CANCELLED", what="the job's end")
            job = t.jobs.getJob(jobUuid=one.uuid)
            said += [job.condition, job.appId, job.appVersion, job.tags]
            greet = {"appArgs": [{"name": "whom", "arg": "World"}], "envVariables": [{"key": "A", "value": "b"}]}
            two = t.jobs.submitJob(
                name="greet", appId="hello", appVersion="1.0", maxMinutes=5, notes={"k": 1}, parameterSet=greet
            )
            until(lambda: t.jobs.getJobStatus(jobUuid=two.uuid).status == "FINISHED", what="the job's end")
            job = t.jobs.getJob(jobUuid=two.uuid)
            said += [job.condition, job.maxMinutes, json.loads(job.notes), json.loads(job.parameterSet)["appArgs"]]
            said += [t.client.job(two.uuid).info.meta]
            said += [entry.eventDetail for entry in t.jobs.getJobHistory(jobUuid=two.uuid)][-2:]
            said += [[(entry.name, entry.size) for entry in t.jobs.getJobOutputList(jobUuid=two.uuid, outputPath="/")]]
            said += [t.jobs.getJobOutputDownload(jobUuid=two.uuid, outputPath="tapisjob.out")]
            three = t.jobs.resubmitJob(jobUuid=two.uuid)
            assert three.uuid != two.uuid
            until(lambda: t.jobs.getJobStatus(jobUuid=three.uuid).status == "FINISHED", what="the job's end")
            mine = {one.uuid: 1, two.uuid: 2, three.uuid: 3}
            said += [[mine[job.uuid] for job in t.jobs.getJobList() if job.uuid in mine]]
            t.jobs.hideJob(jobUuid=three.uuid)
            said += [[mine[job.uuid] for job in t.jobs.getJobList() if job.uuid in mine]]
            found = t.jobs.getJobSearchList(_tapis_query_parameters={"status.eq": "CANCELLED"})
            said += [[mine[job.uuid] for job in found if job.uuid in mine]]
            return said

        native, tapis = (script(t) for t in both(shared_service, token, shared_client.info().owner))
        assert native == tapis
        assert b"Hello, World!\n" in native

    def test_an_app_that_is_not_there_is_told(self, shared_service: Service, shared_client: Client, token: str) -> None:
        for t in both(shared_service, token, shared_client.info().owner):
            with pytest.raises(hpcjobs.HpcjobsError, match="hello"):
                t.jobs.submitJob(name="a", appId="hullo", appVersion="1.0")
            assert t.jobs.getJobList() == []

    def test_a_wrong_request_makes_no_job(self, t: Tapis) -> None:
        with pytest.raises(InvalidSpec, match="did you mean maxMinutes"):
            t.jobs.submitJob(name="a", appId="hello", appVersion="1.0", maxMinute=5)
        assert t.jobs.getJobList() == []


class TestConnecting:
    def test_by_the_address_and_the_token(self, shared_service: Service, token: str) -> None:
        with hpcjobs.tapis_style.connect(url=shared_service.url, token=token) as t:
            assert t.jobs.getJobList() == []
        assert t.client._session.closed

    def test_by_the_environment(
        self, shared_service: Service, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HPCJOBS_URL", shared_service.url)
        monkeypatch.setenv("HPCJOBS_TOKEN", token)
        with hpcjobs.tapis_style.connect(tenant_id="dev") as t:
            assert t.base_url == shared_service.url
            assert t.jobs.getJobList() == []

    def test_a_client_that_was_given_stays_open(self, t: Tapis, shared_client: Client) -> None:
        t.close()
        assert shared_client.submit("true").wait().state is JobState.FINISHED
