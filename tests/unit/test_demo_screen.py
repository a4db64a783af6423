"""The demo's story is the same on a terminal, in a pipe and in a picture."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pytest
from rich.console import Console

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, Progress
from hpcjobs_server.demo import hints, sweep
from hpcjobs_server.demo.screen import Screen

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)


def infos(done: float = 0.5) -> list[JobInfo]:
    """A job in each state, half done."""
    states = [JobState.RUNNING, JobState.QUEUED, JobState.FINISHED, JobState.CANCELLED, JobState.FAILED]
    return [
        JobInfo(
            id=f"{number:08d}-aaaa",
            state=state,
            meta={"damping": damping},
            progress=Progress(done=done, total=1, message="96 of 200 periods"),
            created_at=NOW,
            started_at=NOW + dt.timedelta(seconds=12.25),
            finished_at=NOW + dt.timedelta(seconds=17.75) if state.terminal else None,
            cancel_requested=state is JobState.RUNNING,
        )
        for number, (state, damping) in enumerate(zip(states, sweep.DAMPINGS, strict=False))
    ]


def told(width: int, *, terminal: bool, picture: Path | None = None) -> str:
    """A short story."""
    out = io.StringIO()
    screen = Screen(Console(file=out, width=width, force_terminal=terminal, color_system=None), picture=picture)
    screen.step("Watch [them]")
    screen.say("a sentence that is rather long and goes on for longer than a narrow terminal is wide " * 2)
    screen.code("job.cancel(reason='a [reason]')")
    with screen.watching(keep=True) as show:
        show(infos(0.3))
        show(infos(0.3))
        show(infos(0.6))
    screen.save()
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_wider_than_the_terminal_and_no_row_is_broken(width: int) -> None:
    """Each job keeps a row of its own at the usual widths, with its state in full."""
    lines = told(width, terminal=True).splitlines()
    assert max(map(len, lines)) <= width + len("\x1b[?25l\x1b[?25h\x1b[2K\x1b[1A") * 12
    rows = [line for line in lines if line.lstrip().startswith("0.5 % ")]
    assert rows
    assert all("cancelling" in row and "12.2 s" in row for row in rows)


def test_a_pipe_gets_one_line_per_change() -> None:
    """Without a terminal a line stays a line, and what did not change is not said again."""
    text = told(80, terminal=False)
    assert "\x1b" not in text
    lines = [line.split("damping", 1)[1].split() for line in text.splitlines() if " damping " in line]
    assert lines == [
        ["0.5", "%", "cancelling", "25", "%"],
        ["1", "%", "QUEUED"],
        ["2", "%", "FINISHED"],
        ["3", "%", "CANCELLED"],
        ["5", "%", "FAILED"],
        ["0.5", "%", "cancelling", "50", "%"],
    ]
    assert max(map(len, text.splitlines())) > 150


@pytest.mark.parametrize("terminal", [True, False])
def test_brackets_in_what_people_wrote_are_shown(terminal: bool) -> None:
    """A reason is a text, not rich's markup."""
    text = told(120, terminal=terminal)
    assert "Watch [them]" in text
    assert "a [reason]" in text


def test_the_picture_has_what_stays_once(tmp_path: Path) -> None:
    """The frames of the live table are not in it, only the last one."""
    told(100, terminal=True, picture=tmp_path / "deep" / "story.svg")
    svg = (tmp_path / "deep" / "story.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert svg.count("cancelling") == 1
    assert "url(http" not in svg.replace('"', ""), "it needs nothing from elsewhere"
    assert "{{" not in svg


def test_paths_are_written_as_a_person_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From here, from home, else whole."""
    home, here = tmp_path / "home", tmp_path / "home" / "work"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    assert hints.short(here / "results") == "results"
    assert hints.short(Path("results")) == "results"
    assert hints.short(home / "data") == "~/data"
    assert hints.short(Path("/srv/data")) == "/srv/data"
