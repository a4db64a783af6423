"""What is shown of things: long lists, histories, queues, results of actions, and errors."""

from __future__ import annotations

import datetime as dt
import logging
import traceback
from pathlib import Path

import pytest

from hpcjobs import CancelOutcome, CancelResult, Client, ConnectionLost, InvalidSpec, JobState, NoService
from hpcjobs.actions import RetryOutcome, RetryResult
from hpcjobs.records import AttemptInfo, Change, History, QueueInfo
from hpcjobs.sessions import shortened
from hpcjobs.wording import Listed

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc)


def history(reason: str) -> History:
    changes = [
        Change(state=JobState.QUEUED, at=NOW, actor="ada"),
        Change(state=JobState.RUNNING, at=NOW, attempt=1, actor="worker", cancel_requested=True),
        Change(state=JobState.FAILED, at=NOW, attempt=1, actor="worker", reason=reason),
    ]
    attempt = AttemptInfo(attempt=1, state=JobState.FAILED, cpu_seconds=0.5, peak_memory=3 << 20, host="node")
    return History(changes=changes, attempts=[attempt], queue_time=dt.timedelta(seconds=2))


def test_a_long_list_is_a_list_that_is_shown_as_counts() -> None:
    """Nobody reads ten thousand lines, and nobody misses one of twenty."""
    results = [RetryResult(job_id=str(n), outcome=RetryOutcome.RETRIED) for n in range(1999)]
    many = Listed([*results, CancelResult(job_id="x", outcome=CancelOutcome.NOT_FOUND)])
    assert repr(many) == "<2,000 items: 1,999 RETRIED, 1 NOT_FOUND>"
    assert many[0] is results[0]
    assert many[:1999] == results
    few = Listed(results[:20])
    assert few == results[:20]
    assert all(repr(one) in repr(few) for one in few)
    assert repr(Listed([])) == "[]"


def test_a_history_is_read_a_change_per_line() -> None:
    lines = str(history("exit code 3")).splitlines()
    assert lines == [
        "2026-05-01 12:00:00 QUEUED by ada",
        "2026-05-01 12:00:00 cancelling by worker",
        "2026-05-01 12:00:00 FAILED by worker: exit code 3",
        "attempt 1 FAILED, 0.50 s of processor time, 3 MiB of memory, on node",
        "waited 2.0 s",
    ]
    assert all(line in repr(history("exit code 3")) for line in lines)
    shown = history("exit code 3")._repr_html_()
    assert all(text in shown for text in ("cancelling", "exit code 3", "3 MiB", "0.50 s", "waited 2.0 s", "UTC"))


def test_a_reason_cannot_put_anything_into_a_page_or_a_terminal() -> None:
    """It is another's text: neither markup nor an escape sequence of it is obeyed, and it adds no line."""
    bad = history("<script>alert(1)</script>\x1b[31m\nFINISHED")
    assert "<script" not in bad._repr_html_()
    assert "\x1b" not in bad._repr_html_()
    assert "\x1b" not in str(bad)
    assert len(str(bad).splitlines()) == len(str(history("")).splitlines())


def test_a_queue_says_how_it_is_set_in_a_line() -> None:
    queue = QueueInfo(
        name="gpu",
        paused=True,
        reason="maintenance",
        max_running=2,
        max_walltime=dt.timedelta(hours=12),
        counts={JobState.QUEUED: 3},
    )
    assert str(queue) == "gpu: paused: maintenance, 3 QUEUED, at most 2 running, walltime 12:00:00 at most"
    assert repr(QueueInfo(name="default")) == "<QueueInfo default: no jobs>"


def test_what_came_of_an_action_is_a_line() -> None:
    result = RetryResult(job_id="a1", outcome=RetryOutcome.STILL_RUNNING, before=JobState.RUNNING)
    assert repr(result) == "<RetryResult job a1 is RUNNING and was left alone>"
    assert "a2" in repr(CancelResult(job_id="a2", outcome=CancelOutcome.NOT_FOUND))


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_an_error_comes_without_the_calls_in_here_which_the_log_has(
    level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A user sees the own line, the method and the words; what led to it is in the log, at DEBUG only."""
    client = Client("http://127.0.0.1:9")
    with caplog.at_level(level, "hpcjobs"), pytest.raises(InvalidSpec) as refused:
        client.submit("true", walltme="1m")  # type: ignore[call-overload]
    client.close()
    functions = [frame.name for frame in traceback.extract_tb(refused.tb)]
    assert len(functions) <= 4
    assert functions[1] == "submit"
    told = [record for record in caplog.records if record.exc_text or record.exc_info]
    assert bool(told) is (level == logging.DEBUG)


def test_a_lost_connection_keeps_its_cause_and_nothing_of_the_http_library() -> None:
    def fail() -> None:
        try:
            Path("/nothing/here").read_text(encoding="utf-8")
        except OSError as error:
            raise NoService("nothing answers") from error

    with pytest.raises(NoService) as caught:
        fail()
    error = shortened(caught.value)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.__traceback__ is None
    assert error.__traceback__ is None
    assert isinstance(shortened(ConnectionLost("x")), ConnectionLost)
