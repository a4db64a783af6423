"""The style of tapipy without a service: what is refused before anything is sent, and what a tenant of Tapis is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

import hpcjobs
from hpcjobs import AuthenticationError, Client, ConfigError, HpcjobsError, InvalidSpec, JobNotFound, Unsupported, live
from hpcjobs.lifecycle import TAPIS_WORDS, JobState
from hpcjobs.models import JobInfo, OutputFile
from hpcjobs.retrying import RetryPolicy
from hpcjobs.tapis_data import JOB_KEYS, LIST_KEYS
from hpcjobs.tapis_style import Tapis
from hpcjobs.tapis_style.asking import conditions_of, count_of, job_fields, order_of, select_of
from hpcjobs.tapis_style.jobs import record_of, status_of
from hpcjobs.tapis_style.outputs import listed
from hpcjobs.tapis_style.results import TapisResult, plain

JOB = "6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
NEW = "11111111-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
TENANT = "https://tenant.test"
CALLS = (
    "submitJob", "getJob", "getJobStatus", "getJobList", "getJobSearchList", "getJobHistory", "cancelJob",
    "resubmitJob", "getJobOutputList", "getJobOutputDownload", "hideJob", "unhideJob",
)  # fmt: skip


@pytest.fixture
def tenant() -> Iterator[respx.MockRouter]:
    """A tenant of Tapis that knows no address but those that a test names."""
    with respx.mock(base_url=f"{TENANT}/v3/jobs") as router:
        yield router


@pytest.fixture
def t() -> Iterator[Tapis]:
    with hpcjobs.tapis_style.connect(
        base_url=TENANT, access_token="e30.e30.c2ln", tenant_id="tenant", retry=RetryPolicy(tries=1)
    ) as t:
        yield t


def said(result: Any, status: int = 200, message: str = "JOBS_RETRIEVED ok") -> httpx.Response:
    return httpx.Response(status, json={"result": result, "status": "success", "message": message, "metadata": None})


def record(status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(JOB_KEYS), "id": 4711, "uuid": JOB, "name": "fit", "status": status, **more}


# Words


@pytest.mark.parametrize("call", CALLS)
def test_a_keyword_that_does_not_exist_is_refused_and_the_nearest_is_named(t: Tapis, call: str) -> None:
    """Where tapipy drops it without a word; nothing is sent here."""
    job = {} if call in {"submitJob", "getJobList", "getJobSearchList"} else {"jobUuid": JOB}
    needed = {"outputPath": "/"} if call == "getJobOutputDownload" else {}
    with respx.mock, pytest.raises(InvalidSpec, match="bogus"):
        getattr(t.jobs, call)(**job, **needed, bogus=3)
    if job:
        with respx.mock, pytest.raises(InvalidSpec, match="did you mean jobUuid"):
            getattr(t.jobs, call)(**needed, job_uuid=JOB)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "getJob.jobUuid=.*jobId"),
        ({"jobUuid": JOB, "jobId": NEW}, "they mean the same"),
        ({"jobUuid": 4711}, "4711"),
        ({"jobId": "  "}, "uuid"),
    ],
)
def test_a_job_that_is_not_named_well_is_refused(t: Tapis, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        t.jobs.getJob(**given)


def test_what_tapipy_lets_through_changes_nothing(t: Tapis, tenant: respx.MockRouter) -> None:
    tenant.get(f"/{JOB}").respond(json={"result": record()})
    more = {"_tapis_headers": {}, "headers": {}, "_x_tapis_tracking_id": "a.b", "_tapis_debug": False, "pretty": True}
    assert t.jobs.getJob(jobUuid=JOB, **more).status == "RUNNING"
    with pytest.raises(InvalidSpec, match="_tapis_debug"):
        t.jobs.getJob(jobUuid=JOB, _tapis_debug=True)


def test_names_that_are_not_there_say_what_is(t: Tapis) -> None:
    with pytest.raises(AttributeError, match=r"t\.files use tapipy"):
        t.files  # noqa: B018 - the look is the test
    with pytest.raises(AttributeError, match=r"t\.jobs\.shareJob; use tapipy"):
        t.jobs.shareJob(jobUuid=JOB)
    with pytest.raises(AttributeError, match="did you mean cancelJob"):
        t.jobs.canceljob(jobUuid=JOB)
    with pytest.raises(AttributeError, match="did you mean jobs"):
        t.job  # noqa: B018 - the look is the test


# Results


def test_objects_within_a_result_are_results_and_can_be_sent_again() -> None:
    data = {"a": {"b": [{"c": 1}, 2]}, "d": None}
    result = TapisResult(data)
    assert result.a.b[0].c == 1
    assert result.get("nothing") is None
    assert plain(result) == data
    assert result == TapisResult(data)


def test_a_result_shows_what_is_known_and_no_control_characters() -> None:
    shown = TapisResult({"uuid": JOB, "status": "RUNNING", "lastMessage": "a\x1b[31mb", "ended": None})
    assert "\x1b" not in str(shown) + repr(shown)
    assert "ended" not in str(shown)


@pytest.mark.parametrize("state", JobState)
def test_every_state_is_one_of_the_thirteen_words(state: JobState) -> None:
    """But for UNKNOWN, which is the service's own word."""
    word = status_of(JobInfo(id="1", state=state, native_state="STRANGE"))
    assert word == "STRANGE" if state is JobState.UNKNOWN else TAPIS_WORDS[word] is state


def test_a_native_word_of_the_thirteen_is_kept() -> None:
    assert status_of(JobInfo(id="1", state=JobState.STAGING, native_state="PROCESSING_INPUTS")) == "PROCESSING_INPUTS"


@pytest.mark.parametrize(
    ("reason", "code", "condition"),
    [
        ("exit code 3", 3, "JOB_REMOTE_OUTCOME_ERROR"),
        ("the walltime of 1 h was used up", None, "SCHEDULER_TIMEOUT"),
        ("out of memory", 137, "SCHEDULER_OUT_OF_MEMORY"),
        ("killed by signal 9", None, "JOB_REMOTE_OUTCOME_ERROR"),
        ("something else", None, None),
    ],
)
def test_why_a_job_failed_is_a_word_of_tapis_where_there_is_one(
    reason: str, code: int | None, condition: str | None
) -> None:
    job = record_of(JobInfo(id="1", state=JobState.FAILED, reason=reason, exit_code=code))
    assert job["condition"] == condition
    assert reason in job["lastMessage"]


def test_what_was_asked_is_told_as_tapis_tells_it() -> None:
    """Objects are JSON inside strings, as on the wire."""
    spec = {"app": "hello", "app_version": "1.0", "options": {"parameterSet": {"appArgs": []}, "nodeCount": 2}}
    job = record_of(JobInfo(id="1", state=JobState.RUNNING, spec=spec))
    assert (job["appId"], job["appVersion"], job["nodeCount"]) == ("hello", "1.0", 2)
    assert json.loads(job["parameterSet"]) == {"appArgs": []}
    assert json.loads(job["fileInputs"]) == []


# What is asked


def test_a_request_is_checked_as_a_whole_and_says_all_that_is_wrong() -> None:
    with pytest.raises(InvalidSpec) as error:
        job_fields(
            {
                "name": "a" * 65,
                "appId": "hello",
                "appVersion": "1.0",
                "maxMinute": 5,
                "parameterSet": {"appArgs": [{"args": "x"}], "envVariable": []},
            }
        )
    told = str(error.value)
    for part in (
        "name",
        "did you mean maxMinutes?",
        "appArgs.0.args",
        "did you mean arg?",
        "did you mean envVariables?",
    ):
        assert part in told


def test_tapis_is_asked_as_it_is_and_other_services_in_their_own_words() -> None:
    """What has no word of theirs is an option of the app."""
    asked = {
        "name": "fit",
        "appId": "opensees",
        "appVersion": "3.6",
        "nodeCount": 2,
        "coresPerNode": 3,
        "memoryMB": 200,
        "maxMinutes": 5,
        "execSystemLogicalQueue": "fast",
        "notes": {"a": 1},
        "tags": ["night"],
        "parameterSet": {
            "appArgs": [{"arg": "x"}],
            "envVariables": [{"key": "A", "value": "1"}, {"key": "B", "include": False}],
            "logConfig": {"stdoutFilename": "o", "stderrFilename": "e"},
        },
        "jobType": "FORK",
    }
    own = {"name": "fit", "app": "opensees", "app_version": "3.6", "tags": ["night"]}
    options = {key: value for key, value in asked.items() if key not in {"name", "appId", "appVersion", "tags"}}
    assert job_fields(asked) == {**own, "options": options}
    assert job_fields(asked, at_tapis=False) == {
        **own,
        "cores": 6,
        "memory": 200_000_000,
        "walltime": 300,
        "queue": "fast",
        "meta": {"a": 1},
        "env": {"A": "1"},
        "stderr": "separate",
        "options": {
            "parameterSet": {
                "appArgs": [{"arg": "x"}],
                "logConfig": {"stdoutFilename": "o", "stderrFilename": "e"},
            },
            "jobType": "FORK",
        },
    }


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidSpec, match="appVersion"):
        job_fields({"name": "a", "appId": "hello"})


@pytest.mark.parametrize("value", [-2, "many", None, True, 1.5])
def test_a_limit_that_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(InvalidSpec, match="limit"):
        count_of("limit", value, least=-1)


def test_orders_and_selections_name_the_nearest_field() -> None:
    assert order_of(None) == []
    assert order_of(" created ( DESC ) , name") == [("created", True), ("name", False)]
    with pytest.raises(InvalidSpec, match="did you mean created"):
        order_of("create(desc)")
    with pytest.raises(InvalidSpec, match="is no order"):
        order_of("created desc")
    assert select_of(None) == LIST_KEYS
    assert select_of("allAttributes") == JOB_KEYS
    with pytest.raises(InvalidSpec, match="did you mean status"):
        select_of("uuid,statu")


def test_conditions_are_translated_or_refused() -> None:
    assert conditions_of("x", {"status.in": ["QUEUED", "STAGING_JOB", "STAGING_INPUTS"]}) == {
        "state": sorted([JobState.QUEUED, JobState.STAGING])
    }
    assert conditions_of("x", {"created.between": "2026-01-01,2026-02-01"}) == {
        "created_after": "2026-01-01",
        "created_before": "2026-02-01",
    }
    with pytest.raises(InvalidSpec, match="did you mean RUNNING"):
        conditions_of("x", {"status.eq": "RUNING"})
    with pytest.raises(Unsupported, match=r"owner\.eq"):
        conditions_of("x", {"owner.eq": "me"})


def test_a_folder_has_the_size_of_all_that_is_below_it() -> None:
    files = [OutputFile(path="a/b/c", size=3), OutputFile(path="a/d", size=4), OutputFile(path="ab", size=5)]
    assert [(entry["name"], entry["type"], entry["size"]) for entry in listed(files, "/")] == [
        ("a", "dir", 7),
        ("ab", "file", 5),
    ]
    assert [entry["path"] for entry in listed(files, "/a/")] == ["a/b", "a/d"]
    assert [entry["path"] for entry in listed(files, "../../a")] == ["a/b", "a/d"]


# A tenant of Tapis


def test_a_job_of_tapis_is_told_as_it_is_and_its_id_names_it(t: Tapis, tenant: respx.MockRouter) -> None:
    """The number of a row, which Tapis has as ``id``, is of no use to anyone."""
    tenant.get(f"/{JOB}").mock(
        return_value=said(record("BLOCKED", lastMessage="no quota", nodeCount=2, tags=["hpcjobs-key:1"]))
    )
    job = t.jobs.getJob(jobId=JOB)
    assert (job.status, job.lastMessage, job.nodeCount, job.id) == ("BLOCKED", "no quota", 2, JOB)
    assert job.tags == []  # the one that is ours is not told


def test_a_submission_travels_untouched(t: Tapis, tenant: respx.MockRouter) -> None:
    route = tenant.post("/submit").mock(return_value=said(record("PENDING")))
    parameters = {"appArgs": [{"name": "n", "arg": "--n 3"}], "schedulerOptions": [{"arg": "-A X"}]}
    asked = {"nodeCount": 2, "maxMinutes": 5, "parameterSet": parameters, "archiveMode": "ALWAYS", "tags": ["night"]}
    job = t.jobs.submitJob(name="fit", appId="opensees", appVersion="3.6", **asked)
    assert job.uuid == JOB
    sent = json.loads(route.calls.last.request.content)
    assert {key: sent[key] for key in asked if key != "tags"} == {key: asked[key] for key in asked if key != "tags"}
    assert (sent["name"], sent["appId"], sent["appVersion"]) == ("fit", "opensees", "3.6")
    assert "night" in sent["tags"]
    assert route.calls.last.request.headers["x-tapis-token"] == "e30.e30.c2ln"


def test_lists_searches_and_histories_are_tapis_own(t: Tapis, tenant: respx.MockRouter) -> None:
    listing = tenant.get("/list").mock(return_value=said([{key: record()[key] for key in LIST_KEYS}]))
    search = tenant.get("/search").mock(return_value=said([record(tags=["night", "hpcjobs-key:1"])]))
    tenant.get(f"/{JOB}").mock(return_value=said(record()))
    history = tenant.get(f"/{JOB}/history").mock(
        return_value=said([{"event": "JOB_NEW_STATUS", "eventDetail": "PENDING"}])
    )
    assert t.jobs.getJobList(orderBy="created(desc)", computeTotal=True)[0].id == JOB
    assert dict(listing.calls.last.request.url.params) == {
        "limit": "100", "skip": "0", "orderBy": "created(desc)", "computeTotal": "True", "listType": "MY_JOBS",
    }  # fmt: skip
    wanted = {"nodeCount.gt": 2, "status.in": ["RUNNING", "QUEUED"]}
    assert t.jobs.getJobSearchList(select="allAttributes", **wanted)[0].tags == ["night"]
    params = search.calls.last.request.url.params
    assert (params["nodeCount.gt"], params["status.in"], params["select"]) == ("2", "RUNNING,QUEUED", "allAttributes")
    assert t.jobs.getJobHistory(JOB, limit=5)[0].eventDetail == "PENDING"
    assert history.calls.last.request.url.params["limit"] == "5"


def test_outputs_are_listed_by_tapis_and_names_are_quoted(t: Tapis, tenant: respx.MockRouter) -> None:
    tenant.get(f"/{JOB}").mock(return_value=said(record("FINISHED")))
    route = tenant.get(url__regex=r".*/output/list/.*").mock(return_value=said([{"name": "x", "path": "/x"}]))
    assert t.jobs.getJobOutputList(jobUuid=JOB, outputPath="/a b?/c", allowIfRunning=True)[0].name == "x"
    assert route.calls.last.request.url.raw_path.startswith(f"/v3/jobs/{JOB}/output/list/a%20b%3F/c?".encode())


def test_what_acts_on_a_job_is_a_post_to_tapis(t: Tapis, tenant: respx.MockRouter) -> None:
    tenant.get(f"/{JOB}").mock(return_value=said(record("FINISHED")))
    tenant.get(f"/{NEW}").mock(return_value=said(record("PENDING", uuid=NEW)))
    hide = tenant.post(f"/{JOB}/hide").mock(return_value=said({"message": "hidden"}))
    unhide = tenant.post(f"/{JOB}/unhide").mock(return_value=said({"message": "shown"}))
    resubmit = tenant.post(f"/{JOB}/resubmit").mock(return_value=said(record("PENDING", uuid=NEW)))
    assert t.jobs.hideJob(jobUuid=JOB).message == "hidden"
    assert t.jobs.unhideJob(jobUuid=JOB).message == "shown"
    assert t.jobs.resubmitJob(jobUuid=JOB).uuid == NEW
    assert (hide.call_count, unhide.call_count, resubmit.call_count) == (1, 1, 1)


def test_a_cancel_that_tapis_took_is_not_said_to_be_done(
    t: Tapis, tenant: respx.MockRouter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a person is told so."""
    monkeypatch.setattr(live, "seen_by_a_person", lambda: True)
    tenant.get(f"/{JOB}").mock(return_value=said(record("RUNNING")))
    route = tenant.post(f"/{JOB}/cancel").mock(return_value=said({"message": "JOBS_JOB_CANCEL_ACCEPTED"}))
    told = t.jobs.cancelJob(jobId=JOB)
    assert (told.outcome, told.status, route.call_count) == ("CANCEL_REQUESTED", "RUNNING", 1)
    assert told.message in capsys.readouterr().err.replace("\n", "")


def test_a_job_that_has_ended_is_never_asked_to_stop(t: Tapis, tenant: respx.MockRouter) -> None:
    """The tenant has no route for a cancel here: one that was sent would be an error."""
    tenant.get(f"/{JOB}").mock(return_value=said(record("FAILED")))
    assert t.jobs.cancelJob(jobId=JOB).outcome == "ALREADY_TERMINAL"


@pytest.mark.parametrize(
    ("answer", "error", "name"),
    [
        (said(None, 404, "JOBS_JOB_NOT_FOUND"), JobNotFound, "NotFoundError"),
        (httpx.Response(401, text="TAPIS_SECURITY_JWT_EXPIRED"), AuthenticationError, "UnauthorizedError"),
        (httpx.Response(502, html="<h1>Bad gateway</h1>"), HpcjobsError, "BaseTapyException"),
    ],
)
def test_errors_are_caught_by_tapipys_names(
    t: Tapis, tenant: respx.MockRouter, answer: httpx.Response, error: type[Exception], name: str
) -> None:
    tenant.get(f"/{JOB}").mock(return_value=answer)
    with pytest.raises(getattr(hpcjobs.tapis_style, name)) as raised:
        t.jobs.getJob(jobUuid=JOB)
    assert isinstance(raised.value, error)
    assert isinstance(raised.value, hpcjobs.tapis_style.BaseTapyException)


# Connecting


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"base_url": TENANT, "url": TENANT}, "url and base_url"),
        ({"base_url": TENANT, "token": "a", "access_token": "b"}, "mean the same"),
        ({"base_url": TENANT, "user": "me"}, "did you mean username"),
    ],
)
def test_what_is_said_twice_or_not_known_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        hpcjobs.tapis_style.connect(**given)


def test_a_given_client_has_logged_in_by_itself() -> None:
    with Client(url="http://127.0.0.1:9", token="a") as client, pytest.raises(ConfigError, match="logged in by itself"):
        hpcjobs.tapis_style.connect(client=client, username="me")


@pytest.mark.parametrize("address", [TENANT, f"{TENANT}/", f"{TENANT}/v3", "tenant.test", f"tapis+{TENANT}"])
def test_an_address_in_tapipys_words_is_a_tenant(address: str) -> None:
    with hpcjobs.tapis_style.connect(base_url=address, access_token="e30.e30.c2ln") as t:
        assert (t.base_url, t.client.service.name) == (TENANT, "Tapis")
        t.get_tokens()
        assert "e30" not in repr(t)
