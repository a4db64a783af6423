"""Logs: read whole or from the end, and followed without a lost or doubled byte."""

from __future__ import annotations

import re

import pytest

from hpcjobs import errors, logs
from hpcjobs.operations import follow_log, read_log
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService

SERVICE = ReferenceService("http://h")
GONE = Response(404, {"content-type": "application/problem+json"}, b'{"detail": "no", "code": "job_not_found"}')


class Log:
    """A log that answers ranges as the server does."""

    def __init__(self, data=b"", state="RUNNING", attempt=1):
        self.data, self.state, self.attempt = data, state, attempt

    def __call__(self, request):
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers["Range"]).groups()
        total = len(self.data)
        if first == "":
            start, end = max(0, total - int(last)), total
        else:
            start, end = int(first), min(total, int(last) + 1 if last else total)
        headers = {"hpcjobs-job-state": self.state, "hpcjobs-attempt": str(self.attempt)}
        if start >= end:
            return Response(416, {**headers, "content-range": f"bytes */{total}"}, b"")
        place = f"bytes {start}-{end - 1}/{total}"
        return Response(206, {**headers, "content-range": place}, self.data[start:end])


@pytest.fixture
def follow(script):
    def go(*answers, **more):
        script.play(follow_log(SERVICE, "j", **more, clock=script.clock), *answers)
        return b"".join(script.items)

    return go


def offsets(script):
    return [re.match(r"bytes=(\d+)", request.headers["Range"])[1] for request in script.requests]


def test_a_log_is_read_to_its_end_in_pieces(script, monkeypatch):
    monkeypatch.setattr(logs, "PIECE", 4)
    log = Log("0123ä6789".encode())
    assert script.play(read_log(SERVICE, "j"), log, log, log) == "0123ä6789"
    assert offsets(script) == ["0", "4", "8"]


def test_a_log_that_grows_faster_than_it_is_read_is_read_to_where_it_was(script, monkeypatch):
    monkeypatch.setattr(logs, "PIECE", 4)
    assert script.play(read_log(SERVICE, "j"), Log(b"012345"), Log(b"0123456789")) == "01234567"


def test_the_log_of_a_job_that_has_not_started_is_empty(script):
    assert script.play(read_log(SERVICE, "j", stream="stderr"), Log(state="QUEUED", attempt=0)) == ""
    assert script.sent == ["GET /v1/jobs/j/logs/stderr"]


def test_bytes_that_are_no_text_are_replaced(script):
    assert script.play(read_log(SERVICE, "j"), Log(b"a\xffb")) == "a\ufffdb"


def test_an_attempt_that_starts_meanwhile_is_read_from_its_start(script, monkeypatch):
    monkeypatch.setattr(logs, "PIECE", 4)
    second = Log(b"abcdefgh", attempt=2)
    assert script.play(read_log(SERVICE, "j"), Log(b"012345"), second, second, second) == "abcdefgh"


@pytest.mark.parametrize(
    ("data", "tail", "text"),
    [
        (b"1\n2\n3\n", 2, "2\n3\n"),
        (b"1\n2\n3", 2, "2\n3"),
        (b"1\n2\n3\n", 99, "1\n2\n3\n"),
        (b"1\r\n2\r\n", 1, "2\r\n"),
        (b"0%\r50%\r100%\ndone\n", 2, "0%\r50%\r100%\ndone\n"),
        (b"", 5, ""),
        (b"\n\n", 1, "\n"),
    ],
)
def test_the_last_lines_of_a_log(script, data, tail, text):
    assert script.play(read_log(SERVICE, "j", tail=tail), Log(data)) == text


def test_more_is_asked_for_until_there_are_lines_enough(script):
    log = Log(b"".join(b"%06d" % number + b"x" * 1000 + b"\n" for number in range(100)))
    text = script.play(read_log(SERVICE, "j", tail=10), log, log)
    assert [line[:6] for line in text.splitlines()] == [f"{number:06d}" for number in range(90, 100)]
    assert [request.headers["Range"] for request in script.requests] == ["bytes=-4096", "bytes=-16384"]


def test_one_endless_line_is_not_read_for_ever(script, monkeypatch):
    monkeypatch.setattr(logs, "LONGEST_TAIL", 8192)
    log = Log(b"x" * 100_000)
    assert len(script.play(read_log(SERVICE, "j", tail=1), log, log)) == 16384


def test_no_lines_are_no_text(script):
    assert script.play(read_log(SERVICE, "j", tail=0), Log(b"1\n2\n")) == ""


@pytest.mark.parametrize(
    "op",
    [
        lambda: read_log(SERVICE, "j", stream="stdin"),
        lambda: read_log(SERVICE, "j", tail=-1),
        lambda: follow_log(SERVICE, "j", stream="both"),
        lambda: follow_log(SERVICE, "j", offset=-1),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(script, op):
    with pytest.raises(errors.InvalidSpec):
        script.play(op())
    assert script.requests == []


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_log_is_followed_to_the_end_of_its_job(script, follow):
    assert follow(Log(b"ab"), Log(b"abcd"), Log(b"abcde", "FINISHED")) == b"abcde"
    assert offsets(script) == ["0", "2", "4"]
    assert all(("wait", "20") in request.params for request in script.requests)


def test_a_piece_of_a_log_that_has_ended_is_not_the_end(script, follow, monkeypatch):
    monkeypatch.setattr(logs, "PIECE", 2)
    log = Log(b"abcde", "FAILED")
    assert follow(log, log, log) == b"abcde"


@pytest.mark.parametrize("state", ["FINISHED", "FAILED", "CANCELLED"])
def test_an_empty_log_of_a_job_that_has_ended_ends(follow, state):
    assert follow(Log(state=state)) == b""


def test_a_quiet_job_is_no_end(script, follow):
    assert follow(Log(), Log(), Log(b"a", "PAUSED"), Log(b"a", "ARCHIVING"), Log(b"a", "FINISHED")) == b"a"


def test_a_service_that_does_not_hold_its_answers_is_not_asked_without_a_pause(script, follow):
    follow(Log(), Log(), Log(b"a", "FINISHED"))
    assert script.sleeps == [0.2, 0.2]


def test_a_service_that_holds_its_answers_is_asked_at_once(script, follow):
    def held(request):
        script.now += 20.0
        return Log()(request)

    follow(held, held, Log(b"a", "FINISHED"))
    assert script.sleeps == []


@pytest.mark.parametrize(
    "failure",
    [
        errors.ConnectionLost("c"),
        errors.TimedOut("t"),
        errors.NoService("n"),
        Response(503, {}, b""),
        Response(200, {"content-type": "text/html"}, b"<h1>We are back soon"),
    ],
)
def test_following_goes_on_at_the_same_byte_after_a_failure(script, follow, failure):
    assert follow(Log(b"ab"), failure, failure, Log(b"abcd", "FINISHED")) == b"abcd"
    assert offsets(script) == ["0", "2", "2", "2"]


def test_following_gives_up_after_ten_minutes_without_an_answer(script, follow):
    def away(_request):
        script.now += 60.0
        return errors.NoService("n")

    with pytest.raises(errors.NoService):
        follow(Log(b"ab"), *[away] * 10)
    assert script.items == [b"ab"]


def test_a_token_that_has_expired_ends_the_following(follow):
    with pytest.raises(errors.AuthenticationError):
        follow(Log(b"ab"), Response(401, {"content-type": "application/json"}, b'{"detail": "expired"}'))


def test_an_unknown_job_is_told(follow):
    with pytest.raises(errors.JobNotFound):
        follow(GONE)


def test_a_job_that_vanishes_is_told_as_such(follow):
    with pytest.raises(errors.JobVanished):
        follow(Log(b"ab"), GONE)


def test_the_log_of_a_new_attempt_is_handed_out_from_its_start(script, follow):
    second = Log(b"second", "FINISHED", attempt=2)
    assert follow(Log(b"one"), second, second) == b"onesecond"
    assert offsets(script) == ["0", "3", "0"]


def test_a_new_attempt_that_has_written_less_than_the_old_one_is_noticed(script, follow):
    assert (
        follow(Log(b"first"), Log(b"2", attempt=2), Log(b"2", attempt=2), Log(b"2nd", "FINISHED", attempt=2))
        == b"first2nd"
    )
    assert offsets(script) == ["0", "5", "0", "1"]


def test_the_first_attempt_is_not_a_new_one(script, follow):
    assert follow(Log(state="QUEUED", attempt=0), Log(b"ab"), Log(b"abc", "FINISHED")) == b"abc"
    assert offsets(script) == ["0", "0", "2"]


def test_following_can_start_anywhere(script, follow):
    assert follow(Log(b"abcd", "FINISHED"), offset=2) == b"cd"


def test_following_from_beyond_the_end_of_a_log_that_has_ended_ends(follow):
    assert follow(Log(b"abcd", "FINISHED"), offset=9) == b""
