"""What cards and tables look like: true, escaped, and told in words as well as in colours."""

from __future__ import annotations

import datetime as dt
from html.parser import HTMLParser

import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, OutputFile, Progress
from hpcjobs.notebook import faces, rows
from hpcjobs.notebook.pace import Pace

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"
START = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)


def info(state: JobState = JobState.RUNNING, number: int = 1, **fields: object) -> JobInfo:
    times = {"created_at": START, "started_at": START + dt.timedelta(seconds=5)}
    return JobInfo.model_validate({"id": f"job-{number}", "state": state, "name": "fit", **times, **fields})


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_that_a_job_says_becomes_markup() -> None:
    hostile = info(
        name=NASTY, reason=NASTY, tags=["ok"], queue=NASTY, progress=Progress(done=1, total=2, message=NASTY)
    )
    file = OutputFile(path=f"{NASTY}.csv", size=3)
    parts = [
        faces.head(hostile),
        faces.body(hostile),
        faces.log(hostile, NASTY + "\n</pre>" + NASTY),
        faces.note(NASTY),
        faces.files([file], {file.path: "data:text/csv;base64,AAAA"}),
        faces.caption(hostile),
        faces.static(hostile, tail=NASTY, said=NASTY, listed=[file]),
        rows.row(hostile, NASTY),
        rows.head(NASTY, [hostile]),
    ]
    for part in parts:
        seen = Seen(part)
        assert not {"script", "img"} & set(seen.tags), part
        assert not [name for _, name, _ in seen.attributes if name.startswith("on")], part
        assert "\x1b" not in part
        assert "\u202e" not in part


@pytest.mark.parametrize("state", list(JobState))
def test_a_state_is_a_word_and_a_sign_and_not_only_a_colour(state: JobState) -> None:
    seen = Seen(faces.head(info(state, native_state="STRANGE")))
    assert ("span", "role", "status") in seen.attributes
    assert ("STRANGE" if state is JobState.UNKNOWN else state.value) in seen.text
    assert not seen.text.strip()[0].isalnum()


def test_a_screen_reader_is_told_what_bar_and_log_are() -> None:
    running = info(progress=Progress(done=2, total=5))
    bar = Seen(faces.body(running))
    assert ("progress", "aria-label", "progress of job fit job-1") in bar.attributes
    log = Seen(faces.log(running, "one\n"))
    assert ("pre", "tabindex", "0") in log.attributes
    assert ("pre", "aria-label", "end of the log of job fit job-1") in log.attributes


def test_a_card_says_for_how_long_and_why() -> None:
    now = START + dt.timedelta(minutes=3, seconds=5)
    assert "running 3:00 · waited 5.0 s" in Seen(faces.body(info(), now=now)).text
    waiting = info(JobState.QUEUED, started_at=None, reason="2 jobs before it")
    text = Seen(faces.body(waiting, now=now)).text
    assert "waiting 3:05" in text
    assert "2 jobs before it" in text
    failed = info(JobState.FAILED, finished_at=now, exit_code=3)
    assert "exit code 3" in Seen(faces.body(failed)).text
    asked = info(cancel_requested=True, cancel_reason="wrong damping")
    assert "it was asked to stop: wrong damping" in Seen(faces.body(asked)).text
    assert "cancelling" in Seen(faces.head(asked)).text


def test_a_log_is_shown_as_a_terminal_leaves_it() -> None:
    """Without colours, a line that was written over as it was last, and nothing that moves."""
    text = "\x1b[32mgreen\x1b[0m\n 10%\r 20%\r 30%\nbell\x07 \x1b]0;title\x07end\n"
    assert faces.plain_log(text) == "green\n 30%\nbell\ufffd end"
    assert faces.log(info(), "\n") == ""
    assert len(faces.plain_log("x" * 10_000)) == 300


def test_a_rate_begins_anew_with_another_attempt() -> None:
    pace = Pace()
    for second, done in enumerate([0, 10, 20, 0, 5, 10]):
        pace.add(Progress(done=done, total=100, at=START + dt.timedelta(seconds=second)))
    assert pace.rate == 5.0
    assert pace.remaining == 18.0
    pace.add(None)
    assert (pace.rate, pace.remaining, str(pace)) == (None, None, "")
    pace.add(Progress(done=3, at=START))
    pace.add(Progress(done=9, at=START + dt.timedelta(seconds=120)))
    assert str(pace) == "3/min"


def test_jobs_are_chosen_and_sorted() -> None:
    jobs = [
        info(JobState.FINISHED, 1, name="b", reason=None),
        info(JobState.FAILED, 2, name="a", reason="Out of memory"),
        info(JobState.RUNNING, 3, name="c", tags=["Sweep-3"], created_at=START + dt.timedelta(hours=1)),
    ]
    order = {job.id: number for number, job in enumerate(jobs)}

    def ids(shown: str = "all", text: str = "", how: str = "as listed") -> list[str]:
        return [job.id for job in rows.sorted_by(rows.chosen(jobs, shown, text), how, order)]

    assert ids() == ["job-1", "job-2", "job-3"]
    assert ids("not ended") == ["job-3"]
    assert ids("not ended well") == ["job-2"]
    assert ids("FINISHED") == ["job-1"]
    assert ids(text="sweep") == ["job-3"]
    assert ids(text="MEMORY") == ["job-2"]
    assert ids(text="job-") == ["job-1", "job-2", "job-3"]
    assert ids(how="name") == ["job-2", "job-1", "job-3"]
    assert ids(how="newest first") == ["job-3", "job-1", "job-2"]
    assert ids(how="failed first")[0] == "job-2"
    for how in rows.SORTS:
        assert sorted(ids(how=how)) == ids()
