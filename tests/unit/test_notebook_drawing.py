"""What is shown in a notebook is drawn by one thread, not too often, and always as it is at last."""

from __future__ import annotations

import math
import threading
import time

import pytest

from hpcjobs.notebook import drawing as module
from hpcjobs.notebook.drawing import Drawing
from tests.running import until


class Counter:
    """A view that counts."""

    def __init__(self, pause: float = 0.0, tick: float = math.inf) -> None:
        self.pause, self.tick = pause, tick
        self.value = 0
        self.shown: list[int] = []
        self.threads: set[str] = set()

    def draw(self) -> float:
        self.threads.add(threading.current_thread().name)
        self.shown.append(self.value)
        return self.tick


def test_a_view_that_changes_a_thousand_times_a_second_is_drawn_ten_times_and_its_last_state_always() -> None:
    drawing, view = Drawing(), Counter(pause=0.1)
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        view.value += 1
        mark = drawing.mark(view)
        time.sleep(0.0005)
    seconds = time.monotonic() - began
    assert drawing.drawn(view, mark, 10)
    assert view.shown[-1] == view.value
    assert 2 <= len(view.shown) <= 2 + seconds / view.pause
    assert view.threads == {"hpcjobs-drawing"}


def test_what_was_clicked_is_drawn_at_once() -> None:
    drawing, view = Drawing(), Counter(pause=600.0)
    assert drawing.drawn(view, drawing.mark(view), 10)
    view.value = 1
    assert not drawing.drawn(view, drawing.mark(view), 0.05)
    assert drawing.drawn(view, drawing.mark(view, now=True), 10)
    assert view.shown == [0, 1]


def test_clocks_move_on_by_themselves_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many views there are, and however often they want it."""
    monkeypatch.setattr(module, "QUIET", 50.0)
    drawing = Drawing()
    views = [Counter(tick=0.001) for _ in range(25)]
    for view in views:
        drawing.mark(view)
    until(lambda: all(view.shown for view in views))
    began, before = time.monotonic(), sum(len(view.shown) for view in views)
    until(lambda: sum(len(view.shown) for view in views) >= before + 25)
    rate = 25 / (time.monotonic() - began)
    assert rate < 2 * 50.0


def test_a_view_that_fails_or_is_dropped_keeps_no_other_from_being_drawn() -> None:
    drawing, good, gone = Drawing(), Counter(), Counter()

    class Bad(Counter):
        def draw(self) -> float:
            super().draw()
            raise RuntimeError("no")

    bad = Bad()
    drawing.mark(bad)
    drawing.mark(gone)
    drawing.drop(gone)
    for number in range(3):
        good.value = number
        assert drawing.drawn(good, drawing.mark(good), 10)
        drawing.mark(bad)
    assert good.shown[-1] == 2
    assert drawing.drawn(gone, 1, 0.0), "nobody waits for what is gone"


def test_the_thread_ends_when_nothing_is_shown_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.05)
    drawing, view = Drawing(), Counter()
    for _ in range(2):
        assert drawing.drawn(view, drawing.mark(view), 10)
        drawing.drop(view)
        until(lambda: drawing._thread is None)
