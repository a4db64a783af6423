"""Cards and tables on a real service, their buttons clicked without a browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpcjobs import Client, JobState, TransportError
from hpcjobs.notebook import boards, showing
from hpcjobs.notebook.card import JobCard
from hpcjobs.notebook.drawing import drawing
from hpcjobs.notebook.table import PAGE, JobTable
from tests.running import Service, until


class Handle:
    """A display that keeps what it is told."""

    def __init__(self, bundle: dict[str, Any]) -> None:
        self.bundles = [bundle]

    def update(self, bundle: dict[str, Any], *, raw: bool) -> None:
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    """What was displayed."""
    handles: list[Handle] = []

    def display(bundle: dict[str, Any], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        handles.append(Handle(bundle))
        return handles[-1]

    monkeypatch.setattr(showing, "_display", lambda: display)
    return handles


@pytest.fixture
def show(shown: list[Handle], shared_client: Client) -> Iterator[Callable[[Any], JobCard]]:
    cards: list[JobCard] = []

    def make(job: Any) -> JobCard:
        card = JobCard(shared_client._session, job.info)
        cards.append(card)
        card.show()
        return card

    yield make
    for card in cards:
        card.close()


def text(card: JobCard) -> str:
    return str(card._head.value + card._body.value + card._note.value)


def says(card: JobCard, what: str) -> None:
    until(lambda: what in text(card), what=f"{what!r} on the card")


def visible(widget: Any) -> bool:
    return widget.layout.display != "none"


def test_a_card_asks_once_and_cancels_with_the_reason(show: Callable[[Any], JobCard], shared_client: Client) -> None:
    """It says what is so: cancelled when the service says so; then there is nothing to cancel."""
    job = shared_client.submit("echo begun; sleep 600", name="fit", grace="1s")
    card, twin = show(job), show(job)
    says(card, "RUNNING")
    until(lambda: "begun" in card._log_html.value)
    assert card._cancel.description == "Cancel fit"
    card._cancel.click()
    until(lambda: visible(card._yes))
    assert not visible(card._cancel)
    assert not visible(twin._yes)
    assert job.refresh().state is JobState.RUNNING, "it was only asked"
    card._no.click()
    until(lambda: visible(card._cancel))
    card._cancel.click()
    card._reason.value = " wrong damping "
    card._yes.click()
    for one in (card, twin):
        says(one, "CANCELLED")
        says(one, "wrong damping")
        until(lambda one=one: one._cancel.disabled and one._cancel.description == "CANCELLED: nothing to cancel")
    assert job.refresh().info.cancel_reason == "wrong damping"


def test_a_card_says_cancelling_until_it_is_true_and_when_the_job_finished_first(
    show: Callable[[Any], JobCard], shared_client: Client
) -> None:
    job = shared_client.submit("trap 'sleep 1; exit 0' TERM; touch ready; while :; do sleep 0.1; done", grace="30s")
    card = show(job)
    until(lambda: any(file.path == "ready" for file in job.files()))
    card._yes.click()
    says(card, "cancelling")
    assert "CANCELLED" not in text(card)
    says(card, "FINISHED")
    says(card, "it ended by itself before it could be stopped")


def test_a_failed_job_runs_again_on_its_card(show: Callable[[Any], JobCard], shared_client: Client) -> None:
    job = shared_client.submit("[ $HPCJOBS_ATTEMPT = 2 ] || exit 3; echo second", name="flaky")
    card = show(job)
    says(card, "exit code 3")
    until(lambda: visible(card._retry))
    card._retry.click()
    says(card, "FINISHED")
    says(card, "attempt 2")
    until(lambda: "second" in card._log_html.value)


def test_files_are_listed_linked_and_saved(
    show: Callable[[Any], JobCard], shared_client: Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = shared_client.submit("echo 1,2 > a.csv; head -c 3000000 /dev/zero > large.bin", name="run/1")
    card = show(job)
    says(card, "FINISHED")
    card._show_files.click()
    until(lambda: "a.csv" in card._list.value)
    assert 'download="a.csv"' in card._list.value
    assert "base64,MSwyCg==" in card._list.value
    assert 'download="large.bin"' not in card._list.value
    card._save.click()
    says(card, "2 files saved in")
    (saved,) = tmp_path.glob("run-1-*/a.csv")
    assert saved.read_text() == "1,2\n"


def test_what_ends_leaves_html_and_no_widget(
    show: Callable[[Any], JobCard], shown: list[Handle], shared_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it lives the file has its last state beside the widget; afterwards it has nothing but that."""
    monkeypatch.setattr(boards, "KEEP", 0.2)
    job = shared_client.submit("echo boom >&2; exit 3", name="bad")
    card = show(job)
    main, line = shown
    assert showing.WIDGET in main.bundles[0]
    assert job.id in main.bundles[0]["text/plain"]
    assert "seen 20" in line.bundles[0]["text/plain"]
    until(lambda: showing.WIDGET not in main.bundles[-1])
    assert "boom" in main.bundles[-1]["text/html"]
    assert "FAILED" in main.bundles[-1]["text/plain"]
    assert f'client.job("{job.id}").retry()' in main.bundles[-1]["text/plain"]
    assert line.bundles[-1]["text/html"] == ""
    assert card.widget.comm is None
    assert card not in boards.shown
    live = [bundle for bundle in main.bundles if showing.WIDGET in bundle]
    assert "FAILED" in live[-1]["text/plain"], "also before its buttons were taken away"


def test_a_click_that_cannot_be_served_says_why_and_can_be_repeated(
    shown: list[Handle], service_factory: Callable[..., Service]
) -> None:
    service = service_factory(workers=1)
    with service.client() as client:
        job = client.submit("sleep 600")
        card = JobCard(client._session, job.info)
        card.show()
        says(card, "RUNNING")
        read_only = service.make_token("someone-else").token
        card._desk._session.service.token = lambda: read_only  # type: ignore[attr-defined]
        card._desk._session.close()
        card._yes.click()
        until(lambda: card._bad and not card._busy)
        says(card, "⚠")
        until(lambda: not card._cancel.disabled)
        assert "CANCEL" not in text(card)
        card.close()
        assert "seen 20" in shown[0].bundles[-1]["text/plain"]
        job.cancel()


def test_a_table_draws_a_page_and_cancels_what_is_selected_after_one_question(
    shown: list[Handle], service_factory: Callable[..., Service]
) -> None:
    """Of thousands of jobs; each has its outcome, and nothing else is touched."""
    with service_factory(workers=0).client() as client:
        array = client.submit_array(["true"], array=1000, name="sweep")
        table = JobTable(client._session, [job.info for job in array], title="array sweep")
        table.show()
        until(lambda: "0 of 1000 ended" in table._head.value)
        assert len(table._grid.children) == PAGE
        table._after.click()
        until(lambda: table._checks[0].description == f"sweep[{PAGE}]")
        table._filter.value = "sweep[99"
        until(lambda: len(table._grid.children) == 11)
        table._checks[0].value = True
        until(lambda: table._cancel.description == "Cancel selected (1)")
        table._all.click()
        until(lambda: table._cancel.description == "Cancel selected (11)")
        table._cancel.click()
        until(lambda: visible(table._yes))
        assert table._yes.description == "Yes, cancel 11 jobs"
        table._reason.value = "enough"
        table._yes.click()
        until(lambda: "11 cancelled" in table._note.value)
        until(lambda: "11 CANCELLED" in table._head.value)
        assert "enough" in table._cells[0].value
        table._filter.value = ""
        table._state.value = "CANCELLED"
        until(lambda: "1 to 11 of 11" in table._where.value)
        assert array.refresh().counts == {JobState.QUEUED: 989, JobState.CANCELLED: 11}
        table.close()
        assert "11 of 1000 ended" in shown[0].bundles[-1]["text/plain"]


def test_a_list_of_jobs_is_a_table_that_fetches_them(
    shown: list[Handle], service_factory: Callable[..., Service]
) -> None:
    with service_factory(workers=1).client() as client:
        client.wait(client.submit_many([{"command": "true", "tags": ["x"]}, {"command": "exit 1", "tags": ["x"]}]))
        jobs = client.jobs(tag="x")
        assert repr(jobs) == "<JobList jobs · tag x: go through it to fetch them>"
        table = JobTable(client._session, title=jobs.title, load=jobs.asked)
        table.show()
        until(lambda: "2 of 2 ended" in table._head.value)
        assert "jobs · tag x" in table._head.value
        table._retry.click()
        until(lambda: "1 retried" in table._note.value)
        assert len(list(jobs)) == 2, "it can still be gone through"
        table.close()


def test_a_list_that_cannot_be_fetched_is_not_said_to_be_empty(shown: list[Handle], shared_client: Client) -> None:
    def broken() -> Any:
        raise TransportError("nothing answers")
        yield

    table = JobTable(shared_client._session, title="jobs", load=broken)
    table.show()
    until(lambda: "nothing answers" in table._note.value)
    assert "not known" in table._head.value
    table.close()
    assert shown[0].bundles[-1]["text/plain"] == "jobs: not known"


def test_news_that_come_after_the_end_bring_nothing_back(show: Callable[[Any], JobCard], shared_client: Client) -> None:
    card = show(shared_client.submit("true"))
    says(card, "FINISHED")
    card.close()
    drawing.mark(card)
    until(lambda: id(card) not in drawing._places)


def test_a_hundred_cards_of_quiet_jobs_need_no_thread_each_and_few_requests(
    shown: list[Handle], service_factory: Callable[..., Service]
) -> None:
    before = [thread.name for thread in threading.enumerate()]
    with service_factory(workers=0).client() as client:
        jobs = client.submit_many([{"command": "true"}] * 100)
        cards = [JobCard(client._session, job.info) for job in jobs]
        for card in cards:
            card.show()
        until(lambda: all("QUEUED" in card._head.value for card in cards))
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("hpcjobs-drawing") == 1
        for name in ("hpcjobs-logs", "hpcjobs-watching", "hpcjobs-order"):
            assert names.count(name) <= before.count(name) + 1
        mark = drawing.mark(cards[-1])
        began = time.monotonic()
        assert drawing.drawn(cards[-1], mark, 10)
        assert time.monotonic() - began < 5
        for card in cards:
            card.close()
