"""What is shown while files travel: nothing of what is over at once, the same words wherever it is shown."""

from __future__ import annotations

import io
import sys
import types

import pytest

from hpcjobs import markup, transfers
from hpcjobs.bodies import Tally, Travel
from hpcjobs.transfers import shown

NASTY = "a\x1b[31m<b>\n"


def travel(done: int, action: str = "send", name: str = "big", size: int = 4096, **more: int) -> Travel:
    counts = {"files_done": 0, "files": 1, **more}
    return Travel(action, name, done, size, bytes_done=done, bytes=size, **counts)  # type: ignore[arg-type]


class Err(io.StringIO):
    terminal = False
    encoding = "utf-8"

    def isatty(self):
        return self.terminal


@pytest.fixture
def watched(monkeypatch):
    """Makes a stderr of its own, on a terminal or not, which a person watches; to be called by the test itself."""

    def make(*, terminal=False):
        stream = Err()
        stream.terminal = terminal
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
        monkeypatch.setattr(transfers, "PATIENCE", 0.0)
        return stream

    return make


def play(on_bytes):
    on_bytes(travel(1024))
    on_bytes(travel(4096))
    on_bytes(travel(4096, files_done=1))


def test_nothing_is_shown_where_nobody_sees_it(watched):
    watched()
    for progress in (None, False):
        with shown(progress) as on_bytes:
            assert on_bytes is None
    watched(terminal=True)
    with shown(False) as on_bytes:
        assert on_bytes is None


def test_nothing_is_shown_of_what_is_over_at_once(watched, monkeypatch):
    err = watched()
    monkeypatch.setattr(transfers, "PATIENCE", 1000.0)
    with shown(True) as on_bytes:
        play(on_bytes)
    assert err.getvalue() == ""


def test_where_there_is_no_terminal_there_are_lines_now_and_then(watched):
    err = watched()
    with shown(True) as on_bytes:
        play(on_bytes)
    first, last = err.getvalue().splitlines()
    assert first == "sending big · 1 KiB of 4 KiB"
    assert last.startswith("sent big · 4 KiB in ")


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal_a_line_is_drawn_over_and_over_and_what_was_done_stays(watched, monkeypatch, rich):
    err = watched(terminal=True)
    if not rich:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with shown(None) as on_bytes:
        play(on_bytes)
    assert "sending big · 1 KiB of 4 KiB" in err.getvalue()
    assert "sent big · 4 KiB in " in err.getvalue().splitlines()[-1]


@pytest.mark.parametrize("kind", ["_Lines", "_PlainLine", "_RichBar"])
def test_no_name_plays_tricks_on_a_terminal(watched, kind):
    err = watched()
    display = getattr(transfers, kind)()
    display.show(transfers.going(travel(1, name=NASTY)), travel(1, name=NASTY))
    display.close(transfers.done(travel(1, name=NASTY), 1.0))
    assert r"a\x1b[31m<b>\n" in err.getvalue()
    assert "\x1b[31m" not in err.getvalue()


def test_a_notebook_has_one_output_that_is_replaced(watched, monkeypatch):
    err = watched()
    drawn: list[dict[str, str]] = []

    def draw(bundle, *, raw, display_id=False):
        assert raw
        assert display_id is (not drawn)
        drawn.append(bundle)
        return types.SimpleNamespace(update=draw)

    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = draw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with shown(True) as on_bytes:
        on_bytes(travel(1024, name=NASTY))
        on_bytes(travel(4096, name=NASTY, files_done=1))
    first, last = drawn
    assert '<progress max="1" value="0.250"' in first["text/html"]
    assert "<b>" not in first["text/html"]
    assert first["text/plain"] == r"sending a\x1b[31m<b>\n · 1 KiB of 4 KiB"
    assert last["text/plain"].startswith(r"sent a\x1b[31m<b>\n · 4 KiB in ")
    assert "<progress" not in last["text/html"]
    assert err.getvalue() == ""


def test_what_was_broken_off_is_left_as_it_was(watched):
    err = watched()

    def broken_off():
        with shown(True) as on_bytes:
            on_bytes(travel(1024))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert err.getvalue().splitlines()[-1].startswith("sending big · 1 KiB of 4 KiB")


def test_the_pace_counts_what_has_travelled_since_the_beginning_of_this_action():
    """Not what was there before, nor what was only read."""
    now = 0.0
    told: list[str] = []

    class Display:
        tick = 0.0

        def show(self, text, travel):
            told.append(text)

        def close(self, text):
            told.append(text)

    watch = transfers._Watch(Display, clock=lambda: now)
    now = 1.0
    watch(travel(4096, action="read"))
    watch(travel(1024))
    now = 2.0
    watch(travel(2048))
    watch.close()
    assert told[1:] == ["sending big · 1 KiB of 4 KiB", "sending big · 2 KiB of 4 KiB · 1 KiB/s", told[-1]]


def test_a_tally_adds_up_the_files_and_never_exceeds_the_whole():
    told: list[Travel] = []
    tally = Tally("fetch", files=2, size=10, on_bytes=told.append)
    tally("a", 4, 4)
    tally.whole("a", 4)
    tally("b", 8, 9)  # it has grown since it was listed
    tally("b", 2, 9)  # and is begun anew
    tally.whole("b", 9)
    assert [(one.bytes_done, one.bytes, one.files_done) for one in told] == [
        (4, 10, 0), (4, 10, 1), (12, 13, 1), (6, 13, 1), (13, 13, 2)
    ]  # fmt: skip
    Tally("fetch", files=1, size=1, on_bytes=None)("a", 1, 1)


def test_the_bar_of_empty_files_counts_files():
    assert transfers.fraction(travel(0, size=0, files=4, files_done=1)) == 0.25
    assert markup.line_as_html("x & y") == '<div style="padding:2px 5px;line-height:1.5">x &amp; y</div>'
