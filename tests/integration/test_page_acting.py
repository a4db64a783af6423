"""Cancel, retry and delete of many jobs by the page's forms: what is asked first, what is done, and what is said of it."""

from __future__ import annotations

import functools
import uuid
from typing import Any
from urllib.parse import parse_qsl

import psycopg
import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs_server.api.pages import fulfilment
from hpcjobs_server.store import Store
from tests.integration.browsing import Page, Visitor, read, visiting
from tests.integration.serving import Api

FORM = ("action", "all", "conditions", "states", "ids", "until", "confirmed")


def form_of(page: Page) -> dict[str, Any]:
    """What the page sends when its question is answered with yes."""
    return {name: values for name in FORM if (values := [value or "" for value in page.values(name)])}


async def ask(visitor: Visitor, action: str, conditions: str = "") -> Page:
    """The question whether to act on all jobs that meet conditions."""
    return read(await visitor.post("/act", action=action, all="1", conditions=conditions))


async def go(visitor: Visitor, form: dict[str, Any]) -> Page:
    """What came of an order."""
    answer = await visitor.post("/act", **form)
    assert answer.status_code == 303, answer.text
    return await visitor.page("/" + answer.headers["location"])


async def test_nothing_is_done_before_it_was_confirmed(api: Api, ada: Visitor) -> None:
    ids = [await api.submit(name=f"n{n}") for n in range(3)]
    page = read(await ada.post("/act", action="cancel", ids=ids))
    assert "Cancel 3 jobs?" in page.text
    assert set(page.values("ids")) == set(ids)
    assert [await api.state(job_id) for job_id in ids] == ["QUEUED"] * 3


async def test_each_job_has_its_outcome_and_the_reason_is_kept(api: Api, ada: Visitor) -> None:
    """What waits is cancelled; what runs is asked to stop, and no more is said of it; what has ended is left alone."""
    waits, runs, ended = await api.submit(name="waits"), await api.submit(name="runs"), await api.failed(name="ended")
    await api.start(runs)
    asked = {"action": "cancel", "ids": [waits, runs, ended, "nothing"], "confirmed": "1", "reason": "wrong <mesh>"}
    answer = await ada.post("/act", **asked)
    assert answer.status_code == 303
    page = await ada.page("/" + answer.headers["location"])
    assert "1 cancelled, 1 asked to stop, 1 had already ended, 1 not there any more" in page.text
    assert "Reason: wrong <mesh>." in page.text
    assert "cancelling" in page.text
    assert page.text.count("CANCELLED") == 1
    for job_id in (waits, runs):
        assert (await api.http.get(f"/v1/jobs/{job_id}")).json()["cancel_reason"] == "wrong <mesh>"
    await api.finish(runs, JobState.CANCELLED)
    assert (await ada.page("/" + answer.headers["location"])).text.count("CANCELLED") == 2


async def test_those_that_have_started_can_be_left_alone(api: Api, ada: Visitor) -> None:
    runs = await api.submit()
    await api.start(runs)
    answer = await ada.post("/act", action="cancel", ids=runs, confirmed="1", spare="1")
    assert "1 had started and left alone" in (await ada.page("/" + answer.headers["location"])).text
    assert not (await api.http.get(f"/v1/jobs/{runs}")).json()["cancel_requested"]


async def test_retry_of_many_means_those_that_did_not_end_well(api: Api, ada: Visitor) -> None:
    bad, good = await api.failed(name="bad"), await api.submit(name="good")
    await api.start(good)
    await api.finish(good)
    page = read(await ada.post("/act", action="retry", ids=[bad, good]))
    assert "Retry 1 job?" in page.text
    assert page.values("ids") == [bad]
    assert "Left alone: 1 ✔ FINISHED" in page.text
    await ada.post("/act", action="retry", all="1", conditions="", confirmed="1")
    assert (await api.state(bad), await api.state(good)) == ("QUEUED", "FINISHED")
    # where somebody means one that ended well, it is that one
    assert "Retry 1 job?" in read(await ada.post("/act", action="retry", ids=good)).text


async def test_delete_leaves_what_runs(api: Api, ada: Visitor) -> None:
    runs, ended = await api.submit(), await api.failed()
    await api.start(runs)
    page = read(await ada.post("/act", action="delete", ids=[runs, ended]))
    assert "Delete 1 job?" in page.text
    assert "for good" in page.text
    await ada.post("/act", action="delete", ids=[runs, ended], confirmed="1")
    assert (await api.state(runs), await api.state(ended)) == ("RUNNING", "none")


async def test_all_of_a_list_means_what_meets_its_conditions(api: Api, ada: Visitor) -> None:
    meant = [await api.submit(name="x", tags=["a & b"]) for _ in range(5)]
    other = await api.submit(name="x")
    page = await ada.page("/?tag=a+%26+b&limit=2")
    [conditions] = page.values("conditions")
    assert parse_qsl(conditions or "") == [("tag", "a & b")]
    form = {"action": "cancel", "all": "1", "conditions": conditions or ""}
    assert "Cancel 5 jobs?" in read(await ada.post("/act", **form)).text
    answer = await ada.post("/act", confirmed="1", **form)
    assert "5 cancelled" in (await ada.page("/" + answer.headers["location"])).text
    assert {await api.state(job_id) for job_id in meant} == {"CANCELLED"}
    assert await api.state(other) == "QUEUED"


# All that meet conditions: those that the page has asked about


async def test_a_job_that_came_after_the_question_is_not_among_all(api: Api, ada: Visitor) -> None:
    """The page has said how many jobs there are; one that nobody was asked about is left alone."""
    seen = await api.submit()
    page = await ask(ada, "cancel", "created_before=2100-01-01")
    assert "Cancel 1 job?" in page.text
    later = await api.submit()
    assert "1 cancelled" in (await go(ada, form_of(page))).text
    assert (await api.state(seen), await api.state(later)) == ("CANCELLED", "QUEUED")


async def test_a_cancel_means_a_job_however_far_it_is_by_then(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    page = await ask(ada, "cancel")
    await api.start(job_id)
    assert "1 asked to stop" in (await go(ada, form_of(page))).text


async def test_a_cancel_of_what_waits_means_what_has_started_since(api: Api, ada: Visitor) -> None:
    """It was counted when the page asked; what ran already was not."""
    runs, waits, starts = await api.submit(), await api.submit(), await api.submit()
    await api.start(runs)
    page = await ask(ada, "cancel", "state=QUEUED")
    assert "Cancel 2 jobs?" in page.text
    await api.start(starts)
    assert "1 asked to stop, 1 cancelled" in (await go(ada, form_of(page))).text
    assert await api.state(waits) == "CANCELLED"
    assert not (await api.http.get(f"/v1/jobs/{runs}")).json()["cancel_requested"]


async def test_a_retry_that_is_sent_twice_runs_nothing_that_ended_well(api: Api, ada: Visitor) -> None:
    """By a second click, or after somebody else did the same: those that were meant are meant, and no others."""
    bad, good = await api.failed(), await api.submit()
    await api.start(good)
    await api.finish(good)
    page = await ask(ada, "retry")
    assert "Retry 1 job?" in page.text
    assert "1 to run again" in (await go(ada, form_of(page))).text
    assert "There was no job left" in (await go(ada, form_of(page))).text
    assert "There was no job left" in (await go(ada, {"action": "retry", "all": "1", "confirmed": "1"})).text
    assert (await api.state(bad), await api.state(good)) == ("QUEUED", "FINISHED")
    # where there are none but those that ended well, they are meant, and the page has said so
    assert "1 to run again" in (await go(ada, form_of(await ask(ada, "retry", "state=FINISHED")))).text
    assert await api.state(good) == "QUEUED"


@pytest.mark.parametrize(("action", "left"), [("delete", "FINISHED"), ("retry", "FAILED")])
async def test_what_ended_after_the_question_is_left_alone(api: Api, ada: Visitor, action: str, left: str) -> None:
    """The page has said that it is left alone, because it runs; nobody has seen yet how it ended."""
    ended, runs = await api.failed(), await api.submit()
    await api.start(runs)
    page = await ask(ada, action)
    assert "1 job?" in page.text
    await api.finish(runs, JobState(left))
    assert await api.state(ended) == "FAILED"
    page = await go(ada, form_of(page))
    told = "It was not done to all of them: 1 of them has changed since the page asked" in page.text
    assert told is (action == "retry"), "of the others the page had said it already"
    assert await api.state(ended) == {"delete": "none", "retry": "QUEUED"}[action]
    assert await api.state(runs) == left


@pytest.mark.parametrize("action", ["delete", "retry"])
async def test_a_selected_job_that_has_ended_since_is_asked_about_again(api: Api, ada: Visitor, action: str) -> None:
    """Of the page that was left open, of one without a script, and after somebody else has acted."""
    job_id = await api.submit(start_in="1h")
    shown = await ada.page(f"/jobs/{job_id}")
    seen = shown.values("until")[0] or ""
    await api.http.post(f"/v1/jobs/{job_id}/retry")
    await api.start(job_id)
    await api.finish(job_id)
    form = {"action": action, "ids": job_id, "home": job_id, "confirmed": "1", "until": seen, "reason": "x"}
    page = read(await ada.post("/act", **form))
    assert "a job has changed since you were asked" in page.text
    assert "FINISHED" in page.text
    assert await api.state(job_id) == "FINISHED"
    assert page.values("home") == [job_id]
    await go(ada, form_of(page))
    assert await api.state(job_id) == {"delete": "none", "retry": "QUEUED"}[action]


@pytest.mark.parametrize("everything", [False, True])
async def test_only_what_has_changed_is_left_alone(api: Api, ada: Visitor, everything: bool) -> None:
    """A busy queue keeps nobody from deleting what still waits; and what is to run again is not what had failed."""
    waits, starts, bad = await api.submit(), await api.submit(), await api.failed()
    ids = [waits, starts, bad]
    page = await ask(ada, "delete") if everything else read(await ada.post("/act", action="delete", ids=ids))
    assert "Delete 3 jobs?" in page.text
    await api.http.post(f"/v1/jobs/{bad}/retry")
    await api.start(starts)
    page = await go(ada, form_of(page))
    assert "1 deleted" in page.text
    assert f"{1 if everything else 2} of them ha" in page.text, "what runs is among all no more"
    assert [await api.state(job_id) for job_id in ids] == ["none", "RUNNING", "QUEUED"]


@pytest.mark.parametrize("action", ["delete", "retry"])
async def test_whether_anothers_job_has_changed_is_not_told(api: Api, ada: Visitor, action: str) -> None:
    """An order for it says the same as one for a job that never was, whatever has happened to it since the question."""
    job_id, none = await api.submit(), str(uuid.uuid4())
    async with visiting(api, "bob") as bob:
        form = {"action": action, "confirmed": "1", "until": (await api.store.now()).isoformat()}
        await api.start(job_id)
        for one in (job_id, none):
            text = (await go(bob, {**form, "ids": one})).text
            assert "1 not there any more" in text
            assert "It was not done to all of them" not in text
    assert await api.state(job_id) == "RUNNING"


async def test_what_was_not_counted_to_the_end_is_meant_nonetheless(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many jobs only the newest are counted: the older ones are there, and the page says that it is not all."""
    bad = await api.failed(queue="night", name="the-old-one")
    good = [await api.submit(queue="night") for _ in range(4)]
    for job_id in good:
        await api.start(job_id)
        await api.finish(job_id)
    monkeypatch.setattr(Store, "count", functools.partialmethod(Store.count, bound=2))
    assert "FINISHED 3+" in (await ada.page("/?queue=night")).text
    page = await ask(ada, "retry", "queue=night")
    assert "Retry all of these jobs?" in page.text
    assert "Left alone: 3+ ✔ FINISHED" in page.text
    assert "the-old-one" in page.text
    assert "1 to run again" in (await go(ada, form_of(page))).text
    assert await api.state(bad) == "QUEUED"
    assert {await api.state(job_id) for job_id in good} == {"FINISHED"}


async def test_the_jobs_that_are_named_are_those_that_are_meant(api: Api, ada: Visitor) -> None:
    """However many newer ones there are that are left alone."""
    await api.failed(name="old-and-bad")
    done = [await api.submit() for _ in range(60)]
    assert "60 cancelled" in (await go(ada, {"action": "cancel", "ids": done, "confirmed": "1"})).text
    async with api.store.connection() as connection:
        await connection.execute("UPDATE jobs SET state = 'FINISHED' WHERE state = 'CANCELLED'")
    page = await ask(ada, "retry")
    assert "Retry 1 job?" in page.text
    assert "old-and-bad" in page.text


# Orders that are not carried out to the end


async def test_an_order_for_too_many_says_that_it_is_not_all(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulfilment, "MAX_BULK", 2)
    monkeypatch.setattr(fulfilment, "MOST_ALL", 4)
    for left in (1, 0):
        for _ in range(4 + left):
            await api.submit()
        form = {"action": "cancel", "all": "1", "conditions": "state=QUEUED", "confirmed": "1"}
        text = (await go(ada, form)).text
        assert "4 cancelled" in text
        assert ("It was not done to all of them: one order is for 4 jobs at most" in text) is (left > 0)
        await ada.post("/act", **form)


async def test_what_was_done_is_told_also_where_the_rest_could_not_be_done(
    api: Api, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away between two batches."""
    monkeypatch.setattr(fulfilment, "MAX_BULK", 2)
    cancel, orders = Store.cancel, []

    async def goes_away(self: Store, *args: Any, **options: Any) -> Any:
        orders.append(args)
        if len(orders) == 2:
            raise psycopg.OperationalError("gone")
        return await cancel(self, *args, **options)

    monkeypatch.setattr(Store, "cancel", goes_away)
    for _ in range(5):
        await api.submit(name="one of five")
    page = await go(ada, {"action": "cancel", "all": "1", "confirmed": "1"})
    assert "2 cancelled" in page.text
    assert "It was not done to all of them" in page.text
    orders[:] = [(), ()]
    assert "3 cancelled" in (await go(ada, {"action": "cancel", "all": "1", "confirmed": "1"})).text


async def test_deleted_jobs_are_told_by_their_names(api: Api, ada: Visitor) -> None:
    for n in range(60):
        await api.submit(name=f"n{n}")
    await go(ada, {"action": "cancel", "all": "1", "confirmed": "1"})
    text = (await go(ada, form_of(await ask(ada, "delete")))).text
    assert [n for n in range(60) if f"n{n} " not in text] == []


# What came of it


async def test_loading_an_outcome_again_does_nothing_again(api: Api, ada: Visitor) -> None:
    job_id = await api.failed()
    answer = await ada.post("/act", action="retry", ids=job_id, confirmed="1")
    where = "/" + answer.headers["location"]
    await api.start(job_id, attempt=1)
    for _ in range(2):
        await ada.page(where)
    assert await api.state(job_id) == "RUNNING"
    async with visiting(api, "bob") as bob:
        assert "not kept any more" in (await bob.page(where, 404)).text


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"action": "cancel"}, "no job was selected"),
        ({"action": "explode", "ids": "x"}, "cancel, retry, delete"),
        ({"ids": "x"}, "cancel, retry, delete"),
        ({"action": "cancel", "all": "1", "conditions": "state=DONE"}, "no state"),
    ],
)
async def test_a_form_that_asks_for_nothing_possible_is_told(ada: Visitor, form: dict[str, str], said: str) -> None:
    answer = await ada.post("/act", **form)
    assert answer.status_code == 422
    assert said in read(answer).text


async def test_a_reason_that_is_too_long_cancels_nothing(api: Api, ada: Visitor) -> None:
    job_id = await api.submit()
    answer = await ada.post("/act", action="cancel", ids=job_id, confirmed="1", reason="x" * 1025)
    assert answer.status_code == 422
    assert "1024" in read(answer).text
    assert await api.state(job_id) == "QUEUED"
