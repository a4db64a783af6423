"""Which requests are tried again, when, and what is told in the end."""

from __future__ import annotations

import subprocess
import sys
from email.utils import formatdate
from time import time

import pytest

from hpcjobs.errors import ConnectionLost, InputError, NoService, ServiceUnavailable, SubmissionUnknown, TimedOut
from hpcjobs.protocol import Request, Response, Sleep, call, retry_after
from hpcjobs.retrying import RetryPolicy, retried

POLICY = RetryPolicy(tries=4, deadline=60.0, base=1.0, cap=3.0, retry_after_cap=20.0)
OK = Response(200, {}, b"")


def answer(status, **headers):
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


@pytest.fixture
def send(script):
    """Sends one request with retries; the jitter is switched off by always drawing the longest pause."""

    def go(request, *answers, policy=POLICY, random=lambda: 1.0):
        return script.play(retried(call(request), policy, clock=script.clock, random=random), *answers)

    return go


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "failure", [answer(408), answer(429), answer(502), answer(503), answer(504)], ids=lambda r: r.status
)
def test_a_request_that_can_be_repeated_is_tried_again_after_a_transient_answer(script, send, method, failure):
    assert send(Request(method, "/x"), failure, OK).status == 200
    assert len(script.requests) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("kind", [NoService, TimedOut, ConnectionLost])
def test_a_request_that_can_be_repeated_is_tried_again_after_a_lost_connection(script, send, method, kind):
    assert send(Request(method, "/x"), kind("gone"), OK).status == 200
    assert len(script.requests) == 2


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_post_that_may_have_had_its_effect_is_not_sent_again(script, send, status):
    assert send(Request("POST", "/x"), answer(status)).status == status
    assert len(script.requests) == 1


@pytest.mark.parametrize("kind", [TimedOut, ConnectionLost])
def test_a_post_whose_answer_was_lost_is_not_sent_again(script, send, kind):
    with pytest.raises(kind) as caught:
        send(Request("POST", "/x"), kind("gone"))
    assert caught.value.tries == 1
    assert caught.value.may_have_acted


@pytest.mark.parametrize("failure", [NoService("refused"), answer(429)], ids=["no connection", "429"])
def test_a_post_that_was_not_taken_is_sent_again(script, send, failure):
    assert send(Request("POST", "/x"), failure, OK).status == 200
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    "failure", [TimedOut("slow"), ConnectionLost("cut"), answer(503)], ids=["timeout", "cut", "503"]
)
def test_a_post_that_says_it_can_be_repeated_is_sent_again(script, send, failure):
    assert send(Request("POST", "/x", repeatable=True), failure, OK).status == 200
    assert script.requests[0] is script.requests[1]


def test_a_get_that_says_it_cannot_be_repeated_is_sent_once(script, send):
    assert send(Request("GET", "/x", repeatable=False), answer(503)).status == 503
    assert len(script.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 204, 301, 400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_any_other_answer_is_handed_over_at_once(script, send, status):
    assert send(Request("GET", "/x"), answer(status)).status == status
    assert len(script.requests) == 1


def test_an_error_that_is_not_the_transports_is_raised_at_once(script, send):
    with pytest.raises(InputError):
        send(Request("PUT", "/x"), InputError("a", "changed"))
    assert len(script.requests) == 1


def test_the_last_answer_is_handed_over_with_the_number_of_tries(send):
    last = send(Request("GET", "/x"), answer(503), answer(502), answer(503), answer(504))
    assert (last.status, last.tries) == (504, 4)


def test_the_last_error_itself_is_raised_with_the_number_of_tries(send):
    last = TimedOut("the last one")
    with pytest.raises(TimedOut) as caught:
        send(Request("GET", "/x"), ConnectionLost("a"), NoService("b"), TimedOut("c"), last)
    assert caught.value is last
    assert last.tries == 4


def test_no_connection_after_a_lost_answer_may_still_have_acted(send):
    with pytest.raises(NoService) as caught:
        send(Request("GET", "/x"), ConnectionLost("a"), *[NoService("b") for _ in range(3)])
    assert caught.value.may_have_acted


def test_no_connection_at_all_has_not_acted(send):
    with pytest.raises(NoService) as caught:
        send(Request("POST", "/x", repeatable=True), *[NoService("b") for _ in range(4)])
    assert not caught.value.may_have_acted


@pytest.mark.parametrize(
    ("first", "lost"),
    [(answer(429), False), (NoService("b"), False), (answer(503), True), (TimedOut("c"), True)],
    ids=["429", "no connection", "503", "timeout"],
)
def test_a_good_answer_tells_whether_an_earlier_one_was_lost(send, first, lost):
    last = send(Request("GET", "/x"), first, OK)
    assert (last.tries, last.lost) == (2, lost)


def test_an_error_that_the_operation_makes_of_the_last_answer_has_the_number_of_tries(script):
    def op():
        response = yield from call(Request("GET", "/x"))
        raise ServiceUnavailable(f"status {response.status}")

    with pytest.raises(ServiceUnavailable) as caught:
        script.play(retried(op(), POLICY, random=lambda: 0.0), *[answer(503)] * 4)
    assert caught.value.tries == 4


def test_the_number_of_tries_outlives_a_change_of_the_error(script):
    def op():
        try:
            yield from call(Request("GET", "/x"))
        except ConnectionLost as error:
            raise SubmissionUnknown("key") from error

    with pytest.raises(SubmissionUnknown) as caught:
        script.play(retried(op(), POLICY, random=lambda: 0.0), *[ConnectionLost("x") for _ in range(4)])
    assert caught.value.tries == 4


def test_each_request_of_an_operation_has_tries_of_its_own(script):
    def op():
        first = yield from call(Request("GET", "/a"))
        second = yield from call(Request("GET", "/b"))
        return first.tries, second.tries

    answers = [answer(503), answer(503), answer(503), OK, answer(503), OK]
    assert script.play(retried(op(), POLICY, random=lambda: 0.0), *answers) == (4, 2)


def test_pauses_double_up_to_the_cap(script, send):
    send(Request("GET", "/x"), *[answer(503)] * 5, OK, policy=RetryPolicy(tries=6, base=1.0, cap=6.0))
    assert script.sleeps == [1.0, 2.0, 4.0, 6.0, 6.0]


def test_pauses_are_drawn_between_zero_and_their_bound(script, send):
    draws = iter([0.0, 0.5, 0.25])
    send(Request("GET", "/x"), *[answer(503)] * 3, OK, random=lambda: next(draws))
    assert script.sleeps == [0.0, 1.0, 0.75]


@pytest.mark.parametrize(("text", "pause"), [("2", 2.0), ("0", 0.0), ("1.5", 1.5), ("3600", 20.0)])
def test_retry_after_in_seconds_is_heeded_and_capped(script, send, text, pause):
    send(Request("GET", "/x"), answer(503, retry_after=text), OK, random=lambda: 0.0)
    assert script.sleeps == [pause]


def test_everyone_who_was_told_the_same_pause_comes_back_at_a_time_of_their_own(script, send):
    send(Request("GET", "/x"), answer(429, retry_after="2"), OK, random=lambda: 0.5)
    assert script.sleeps == [2.5]


def test_retry_after_as_a_date_is_heeded(script, send):
    send(Request("GET", "/x"), answer(503, retry_after=formatdate(time() + 10, usegmt=True)), OK, random=lambda: 0.0)
    [pause] = script.sleeps
    assert 8.0 <= pause <= 10.0


def test_retry_after_as_a_date_in_the_past_means_now(script, send):
    send(Request("GET", "/x"), answer(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), OK, random=lambda: 0.0)
    assert script.sleeps == [0.0]


def test_a_date_is_measured_by_the_services_own_clock():
    response = answer(503, retry_after="Wed, 21 Oct 2015 07:28:05 GMT", date="Wed, 21 Oct 2015 07:28:00 GMT")
    assert retry_after(response) == 5.0


@pytest.mark.parametrize("text", ["", "soon", "-3", "1e9", "nan", "inf", "99999999999999999999", "Wed, 99 Oct"])
def test_retry_after_that_makes_no_sense_is_not_heeded(text):
    assert retry_after(answer(503, retry_after=text)) is None


def test_no_pause_ends_after_the_deadline(script, send):
    last = send(
        Request("GET", "/x"), *[answer(503)] * 3, policy=RetryPolicy(tries=99, base=4.0, cap=4.0, deadline=10.0)
    )
    assert last.status == 503
    assert script.sleeps == [4.0, 4.0]


def test_the_time_of_the_tries_counts_for_the_deadline(script, send):
    def slow(_request):
        script.now += 30.0
        return TimedOut("slow")

    with pytest.raises(TimedOut) as caught:
        send(Request("GET", "/x"), slow, slow, random=lambda: 0.1)
    assert caught.value.tries == 2


def test_one_try_means_no_retry(script, send):
    assert send(Request("GET", "/x"), answer(503), policy=RetryPolicy(tries=1)).status == 503
    assert script.sleeps == []


def test_an_interrupt_in_a_pause_reaches_the_operation():
    seen = []

    def op():
        try:
            yield from call(Request("GET", "/x"))
        except KeyboardInterrupt:
            seen.append("interrupt")
            raise

    wrapped = retried(op(), POLICY)
    next(wrapped)
    assert isinstance(wrapped.send(answer(503)), Sleep)
    with pytest.raises(KeyboardInterrupt):
        wrapped.throw(KeyboardInterrupt())
    assert seen == ["interrupt"]


def test_closing_the_wrapper_closes_the_operation():
    seen = []

    def op():
        try:
            yield from call(Request("GET", "/x"))
        finally:
            seen.append("closed")

    wrapped = retried(op(), POLICY)
    next(wrapped)
    wrapped.send(answer(503))
    wrapped.close()
    assert seen == ["closed"]


@pytest.mark.parametrize("bad", [{"tries": 0}, {"deadline": -1.0}, {"base": float("nan")}, {"cap": -0.1}])
def test_a_policy_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        RetryPolicy(**bad)


def test_tenacity_is_not_imported_before_something_has_failed():
    code = "import sys, hpcjobs.transport, hpcjobs.operations, hpcjobs.services.reference; print('tenacity' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
