"""What a notebook shows of jobs, as HTML and as text."""

from __future__ import annotations

import datetime as dt
import html.parser
import sys
import types
from typing import Any

import pytest

from hpcjobs import lines, live, markup
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, Progress

NASTY = "</code><script>alert(1)</script>\"'&\x1b[31m\n\u202e"


def info(state: JobState = JobState.RUNNING, number: int = 1, **fields: Any) -> JobInfo:
    begun = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    times = {"created_at": begun, "started_at": begun, "finished_at": begun + dt.timedelta(seconds=3)}
    return JobInfo(id=f"job-{number}", state=state, **{**(times if state.terminal else {}), **fields})


class Reader(html.parser.HTMLParser):
    """Collects the elements and the text, and checks that what is opened is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style", "max", "value", "aria-label"}
        self.open.append(tag)
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What is drawn in a notebook, in the order in which it is drawn; each replaces the one before."""
    drawn: list[dict[str, str]] = []

    def draw(bundle: dict[str, str], *, raw: bool, display_id: bool = False) -> Any:
        assert raw
        assert display_id is (not drawn)
        drawn.append(bundle)
        return types.SimpleNamespace(update=draw)

    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = draw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return drawn


@pytest.mark.parametrize("number", [1, 3, 50])
def test_whatever_a_job_says_is_text_in_the_html(number: int) -> None:
    """Names, ids, reasons, messages, words for states and remarks neither end an element nor begin one."""
    said = {"name": NASTY, "reason": NASTY, "progress": Progress(done=1, total=2, message=NASTY)}
    jobs = [info(state, n, native_state=NASTY, **said) for n in range(number) for state in JobState][:number]
    jobs[0] = jobs[0].model_copy(update={"id": NASTY})
    page = Reader(markup.as_html(jobs, NASTY))
    assert set(page.names) <= {"div", "b", "code", "progress", "table", "tr", "td"}
    assert "<script>alert(1)</script>\"'&\\x1b[31m\\n\\u202e" in page.text
    assert page.text.isprintable()


def test_both_forms_say_the_same_of_one_job() -> None:
    """State in a word, name, whole id, reason and time."""
    job = info(JobState.FAILED, name="spectrum", reason="exit code 3")
    assert lines.as_text([job]) == "✘ FAILED  spectrum job-1  exit code 3 · ran 3.0 s"
    assert Reader(markup.as_html([job])).text == "✘ FAILED spectrum job-1 exit code 3 · ran 3.0 s"


def test_nothing_is_made_up_of_a_job_that_was_just_cancelled() -> None:
    """The answer to a cancel has no times: whether and how long the job ran is not said before it is known."""
    job = info(JobState.CANCELLED, cancel_reason="wrong damping", finished_at=None)
    assert lines.details(job) == "wrong damping"
    assert lines.details(info(JobState.CANCELLED, started_at=None, reason="no need")) == "no need · never ran"


def test_a_few_jobs_have_a_line_each() -> None:
    """In the caller's order, below the counts."""
    jobs = [info(JobState.FINISHED, 1, name="a"), info(JobState.FAILED, 2, reason="exit code 1")]
    assert lines.as_text(jobs).splitlines() == [
        "2 of 2 ended · 1 FAILED · 1 FINISHED",
        "  ✔ FINISHED  a job-1  ran 3.0 s",
        "  ✘ FAILED  job-2  exit code 1 · ran 3.0 s",
    ]
    page = Reader(markup.as_html(jobs))
    assert page.names.count("tr") == 2
    assert "progress" not in page.names


def test_of_many_jobs_those_that_failed_come_first_and_the_rest_is_counted() -> None:
    """However many jobs there are, the output stays small."""
    jobs = [info(JobState.FINISHED, n) for n in range(5000)]
    assert lines.as_text(jobs) == "5000 of 5000 ended · 5000 FINISHED"
    assert "table" not in Reader(markup.as_html(jobs)).names
    jobs += [info(JobState.CANCELLED, n) for n in range(30)] + [info(JobState.RUNNING, 7), info(JobState.FAILED, 9)]
    text = lines.as_text(jobs).splitlines()
    assert [line.split()[1] for line in text[1:4]] == ["FAILED", "RUNNING", "CANCELLED"]
    assert text[-1] == "  and 12 more"
    assert len(text) == lines.FEW + 2
    page = Reader(markup.as_html(jobs))
    assert page.names.count("tr") == lines.FEW
    assert page.text.endswith("and 12 more")


def test_an_output_that_is_left_while_a_job_goes_on_says_how_old_it_is(shown: list[dict[str, str]]) -> None:
    """It stays in the notebook long after the job has ended."""
    view = live.NotebookText()
    view.show([info(JobState.RUNNING)])
    view.close([info(JobState.RUNNING)])
    for form in shown[-1].values():
        assert "as of 2" in form
        assert ", when the waiting ended" in form


def test_a_flood_of_changes_is_drawn_twice_a_second_and_the_last_one_always(
    shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One output, replaced; nothing is drawn again that looks the same."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    view = live.NotebookText()
    for step in range(1000):
        now = step / 100
        view.show([info(JobState.QUEUED, progress=Progress(done=step, total=1000))])
    assert 15 <= len(shown) <= 21
    view.close([info(JobState.FINISHED)])
    assert shown[-1]["text/plain"].startswith("✔ FINISHED")
    assert "as of" not in shown[-1]["text/html"]
    drawn = len(shown)
    view.close([info(JobState.FINISHED)])
    assert len(shown) == drawn


def test_sentences_go_to_stdout_in_a_notebook(
    shown: list[dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There stderr is painted as an error; elsewhere stdout belongs to the program."""
    live.tell("no longer waiting\n")
    assert tuple(capsys.readouterr()) == ("no longer waiting\n", "")
    monkeypatch.setattr(live, "in_notebook", lambda: False)
    live.tell("no longer waiting\n")
    assert tuple(capsys.readouterr()) == ("", "no longer waiting\n")
    assert not shown
