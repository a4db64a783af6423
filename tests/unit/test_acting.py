"""Retry, update and delete by hand: what is looked at, what is sent, and what a lost answer or a lost race comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpcjobs import acting
from hpcjobs.actions import DeleteOutcome, JobChanges, RetryOutcome, UpdateOutcome
from hpcjobs.errors import Conflict, ConnectionLost, InvalidSpec, JobNotFound, StaleVersion, Unsupported
from hpcjobs.lifecycle import JobState
from hpcjobs.models import Capabilities, JobInfo
from hpcjobs.services.base import Service
from hpcjobs.services.reference import ReferenceService

ID = "0b7f8c1e-0000-4000-8000-000000000001"
AT = f"/v1/jobs/{ID}"
SERVICE = ReferenceService("http://service.test")


def info(state: str = "QUEUED", version: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": ID, "state": state, "version": version, **more}


def answered(outcome: str, **more: Any) -> dict[str, Any]:
    return {"results": [{"job_id": ID, "outcome": outcome, **more}]}


@pytest.fixture
def look(reply):
    return lambda *args, **more: reply(200, info(*args, **more))


class TestRetry:
    def test_a_job_that_runs_is_not_asked_for(self, script, look):
        with pytest.raises(Conflict, match="RUNNING"):
            script.play(acting.retry(SERVICE, ID), look("RUNNING"))
        assert script.sent == [f"GET {AT}"]

    def test_it_is_never_sent_twice(self, script, look, reply):
        """The first may have been heard: the job shows it."""
        result = script.play(acting.retry(SERVICE, ID), look("FAILED", 4), ConnectionLost("gone"), look("QUEUED", 5))
        assert (result.outcome, result.after) == (RetryOutcome.RETRIED, JobState.QUEUED)
        assert script.sent == [f"GET {AT}", "POST /v1/jobs/retry", f"GET {AT}"]
        assert not script.requests[1].safe_to_repeat

    def test_one_that_was_not_heard_is_an_error(self, script, look):
        with pytest.raises(ConnectionLost):
            script.play(acting.retry(SERVICE, ID), look("FAILED", 4), ConnectionLost("gone"), look("FAILED", 4))

    def test_a_job_that_starts_in_this_moment_is_left_alone(self, script, look, reply):
        with pytest.raises(Conflict, match="started this moment"):
            script.play(acting.retry(SERVICE, ID), look("QUEUED"), reply(200, answered("STILL_RUNNING")))


class TestDelete:
    def test_a_job_that_runs_is_not_asked_for(self, script, look):
        with pytest.raises(Conflict, match="cancel it first"):
            script.play(acting.delete(SERVICE, ID), look("STAGING"))
        assert script.sent == [f"GET {AT}"]

    def test_one_that_is_gone_after_a_lost_answer_is_deleted(self, script, look, reply):
        result = script.play(acting.delete(SERVICE, ID), look("FAILED"), reply(200, answered("NOT_FOUND")))
        assert result.outcome is DeleteOutcome.DELETED

    def test_an_unknown_one_is_an_error(self, script, reply):
        with pytest.raises(JobNotFound):
            script.play(acting.delete(SERVICE, ID), reply(404, {"detail": "no", "code": "job_not_found"}))


class TestUpdate:
    def test_a_function_is_called_again_with_the_newer_job(self, script, look, reply):
        calls: list[list[str]] = []

        def add(now: JobInfo) -> dict[str, Any]:
            calls.append(now.tags)
            return {"tags": [*now.tags, "mine"]}

        result = script.play(
            acting.update(SERVICE, ID, add),
            look(version=1),
            reply(200, answered("STALE")),
            look(version=2, tags=["theirs"]),
            reply(200, answered("UPDATED", version=3)),
            look(version=3, tags=["theirs", "mine"]),
        )
        assert calls == [[], ["theirs"]]
        assert result.info is not None
        assert result.info.tags == ["theirs", "mine"]
        sent = [json.loads(request.content)["items"][0] for request in script.requests if request.method == "POST"]
        assert [(item["version"], item["changes"]["tags"]) for item in sent] == [(1, ["mine"]), (2, ["theirs", "mine"])]

    def test_a_change_whose_answer_was_lost_is_not_made_twice(self, script, look):
        """The very next version has it: it was heard."""
        result = script.play(
            acting.update(SERVICE, ID, lambda now: {"tags": [*now.tags, "mine"]}),
            look(version=1),
            ConnectionLost("gone"),
            look(version=2, tags=["mine"]),
        )
        assert result.outcome is UpdateOutcome.UPDATED
        assert script.sent == [f"GET {AT}", "POST /v1/jobs/update", f"GET {AT}"]

    def test_a_change_that_was_not_heard_is_made(self, script, look, reply):
        """Also where someone else changed the job in between."""
        script.play(
            acting.update(SERVICE, ID, lambda now: {"tags": [*now.tags, "mine"]}),
            look(version=1),
            ConnectionLost("gone"),
            look(version=2, tags=["theirs"]),
            reply(200, answered("UPDATED", version=3)),
            look(version=3, tags=["theirs", "mine"]),
        )
        assert json.loads(script.requests[3].content)["items"][0]["changes"]["tags"] == ["theirs", "mine"]

    def test_it_ends_where_others_never_let_it(self, script, look, reply):
        now = iter([0.0, 61.0])
        with pytest.raises(StaleVersion, match="again and again"):
            script.play(
                acting.update(SERVICE, ID, lambda _: {"priority": 1}, clock=lambda: next(now)),
                look(),
                reply(200, answered("STALE")),
            )

    @pytest.mark.parametrize("changes", [lambda _: None, lambda _: {}, {}])
    def test_nothing_to_change_sends_nothing(self, script, look, changes):
        result = script.play(acting.update(SERVICE, ID, changes), look())
        assert (result.outcome, len(script.sent)) == (UpdateOutcome.UNCHANGED, 1)

    def test_what_a_started_job_refuses_is_not_sent(self, script, look):
        with pytest.raises(Conflict, match="RUNNING: queue can no longer be changed"):
            script.play(acting.update(SERVICE, ID, {"queue": "x", "tags": []}), look("RUNNING"))
        assert script.sent == [f"GET {AT}"]

    def test_none_is_a_change_too(self, script, look, reply):
        """``start_at=None`` brings a job forward, and is not the same as not to say anything of it."""
        script.play(
            acting.update(SERVICE, ID, {"start_at": None}), look("PENDING"), reply(200, answered("UPDATED")), look()
        )
        assert json.loads(script.requests[1].content)["items"][0]["changes"] == {"start_at": None}


class TestMany:
    def test_each_has_its_own_changes_and_only_the_stale_are_tried_again(self, script, reply):
        def jobs(*versions: int) -> Any:
            items = [{"id": f"job-{n}", "state": "QUEUED", "version": v, "tags": []} for n, v in enumerate(versions)]
            return reply(200, {"items": items, "missing": ["job-9"] if len(versions) == 2 else []})

        def told(*outcomes: str) -> Any:
            results = [{"job_id": f"job-{n}", "outcome": outcome} for n, outcome in enumerate(outcomes)]
            return reply(200, {"results": results})

        results = script.play(
            acting.update_many(SERVICE, ["job-0", "job-9", "job-1"], lambda now: {"name": f"was {now.version}"}),
            jobs(1, 1),
            told("STALE", "UPDATED"),
            jobs(2),
            told("UPDATED"),
        )
        assert [str(result.outcome) for result in results] == ["UPDATED", "NOT_FOUND", "UPDATED"]
        assert json.loads(script.requests[3].content)["items"][0]["changes"] == {"name": "was 2"}

    @pytest.mark.parametrize("changes", [None, {}])
    def test_no_change_at_all_is_a_mistake(self, script, changes):
        with pytest.raises(InvalidSpec, match="say what is to be different"):
            script.play(acting.update_many(SERVICE, [ID], changes))

    def test_no_jobs_are_not_asked_for(self, script):
        for op in (acting.retry_many(SERVICE, []), acting.delete_many(SERVICE, [])):
            assert script.play(op) == []


class Bare(Service):
    """A service that can do nothing but the least."""

    name = "bare"
    capabilities = Capabilities()

    def submit(self, spec: Any, key: str) -> Any:
        raise NotImplementedError

    def get(self, job_id: str) -> Any:
        raise NotImplementedError

    def cancel(self, ids: Any, **how: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("op", "instead"),
    [
        (lambda: acting.retry(Bare(), ID), "submit the job again"),
        (lambda: acting.delete_many(Bare(), [ID]), "leave it"),
        (lambda: acting.update(Bare(), ID, {"priority": 1}), "submit another one"),
    ],
)
def test_what_a_service_cannot_do_is_said_with_what_to_do_instead(script, op, instead):
    """Before anything is sent."""
    with pytest.raises(Unsupported, match=instead):
        script.play(op())
    assert script.sent == []


def test_changes_know_what_is_the_jobs_and_what_is_its_label() -> None:
    changes = JobChanges(tags=["a"], name="n", meta={}, max_attempts=3)
    assert changes.refused(JobState.RUNNING) == []
    assert changes.refused(JobState.FINISHED) == []
    assert JobChanges(command="x").refused(JobState.FINISHED) == ["command"]
