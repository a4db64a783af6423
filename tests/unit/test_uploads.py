"""A large input: only what the service lacks travels, whatever breaks, and nothing goes on for ever."""

from __future__ import annotations

import hashlib

import pytest

from hpcjobs import uploads
from hpcjobs.bodies import FileBody, Stamp
from hpcjobs.errors import ConnectionLost, InputError, InvalidRequest, NoService, ServiceUnavailable, UnexpectedAnswer
from hpcjobs.protocol import Response
from hpcjobs.services.reference import ReferenceService
from hpcjobs.uploads import send_content

SERVICE = ReferenceService("http://h")
DATA = b"0123456789"
SHA = hashlib.sha256(DATA).hexdigest()
UPLOAD = f"/v1/blobs/{SHA}/upload"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(uploads, "RESUMABLE", 4)
    monkeypatch.setattr(uploads, "PIECE", 4)


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(DATA)
    return FileBody(path, "big", Stamp.of(path.stat()))


class Server:
    """Keeps what arrives; ``breaks`` says after how many bytes of each request the connection breaks."""

    def __init__(self, *breaks, there=b""):
        self.there, self.breaks, self.whole = there, list(breaks), False
        self.travelled = 0

    def __call__(self, request):
        if request.method == "HEAD":
            if not self.there:
                return Response(404, {}, b"")
            return Response(204, {"upload-offset": f"{len(self.there)}", "upload-complete": f"?{self.whole:d}"}, b"")
        assert (request.method, request.safe_to_repeat) == ("PATCH", False)
        if int(request.headers["Upload-Offset"]) != len(self.there):
            return problem(409, "upload_offset")
        data = b"".join(request.body)
        assert len(data) == request.body.size
        cut = self.breaks.pop(0) if self.breaks else None
        arrived = data if cut is None else data[:cut]
        self.there += arrived
        self.travelled += len(arrived)
        if cut is not None:
            raise ConnectionLost("cut")
        if request.headers["Upload-Complete"] == "?1":
            assert len(self.there) == int(request.headers["Upload-Length"])
            if self.there != DATA:
                self.there = b""
                return problem(422, "checksum_mismatch")
            self.whole = True
            return Response(201, {}, b"")
        return Response(204, {}, b"")


def problem(status, code):
    return Response(
        status, {"content-type": "application/problem+json"}, b'{"detail": "no", "code": "%s"}' % code.encode()
    )


def test_a_small_file_is_sent_whole(script, tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"012")
    script.play(send_content(SERVICE, SHA, FileBody(path, "small", Stamp.of(path.stat()))), Response(201, {}, b""))
    assert script.sent == [f"PUT /v1/blobs/{SHA}"]


def test_a_service_that_cannot_continue_is_sent_the_whole(script, body):
    plain = ReferenceService("http://h")
    plain.capabilities = plain.capabilities.model_copy(update={"resumable_inputs": False})
    script.play(send_content(plain, SHA, body), Response(201, {}, b""))
    assert script.sent == [f"PUT /v1/blobs/{SHA}"]


def test_a_large_file_is_sent_in_pieces(script, body):
    server = Server()
    script.play(send_content(SERVICE, SHA, body), *[server] * 4)
    assert script.sent == [f"HEAD {UPLOAD}", *[f"PATCH {UPLOAD}"] * 3]
    assert [request.headers["Upload-Complete"] for request in script.requests[1:]] == ["?0", "?0", "?1"]
    assert {request.headers["Upload-Length"] for request in script.requests[1:]} == {"10"}
    assert server.whole


def test_what_has_arrived_before_does_not_travel_again(script, body):
    server = Server(there=DATA[:7])
    script.play(send_content(SERVICE, SHA, body), *[server] * 2)
    assert (server.whole, server.travelled) == (True, 3)


def test_what_has_arrived_whole_and_was_not_checked_yet_is_only_said_to_be_all(script, body):
    server = Server(there=DATA)
    script.play(send_content(SERVICE, SHA, body), *[server] * 2)
    assert (server.whole, server.travelled) == (True, 0)


def test_after_a_break_only_the_rest_travels(script, body):
    server = Server(None, 2)
    script.play(send_content(SERVICE, SHA, body), *[server] * 5)
    assert (server.whole, server.travelled) == (True, 10)


def test_an_answer_that_was_lost_at_the_very_end_is_no_failure(script, body):
    server = Server()

    def lost(request):
        server(request)
        raise ConnectionLost("cut")

    script.play(send_content(SERVICE, SHA, body), *[server] * 3, lost, server)
    assert (server.whole, server.travelled) == (True, 10)


def test_a_connection_that_breaks_again_and_again_is_used_as_long_as_something_arrives(script, body):
    server = Server(*[1] * 9)
    script.play(send_content(SERVICE, SHA, body), *[server] * 20)
    assert (server.whole, server.travelled) == (True, 10)


def test_a_connection_that_carries_nothing_is_given_up(script, body):
    server = Server(*[0] * 20)
    with pytest.raises(ConnectionLost):
        script.play(send_content(SERVICE, SHA, body), *[server] * (2 * uploads.TRIES))
    assert len(script.sleeps) == uploads.TRIES - 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(507, "no_space"), ServiceUnavailable),
        (problem(422, "invalid"), InvalidRequest),
        (NoService("x"), NoService),
    ],
)
def test_what_will_not_pass_is_raised_at_once(script, body, answer, error):
    with pytest.raises(error):
        script.play(send_content(SERVICE, SHA, body), Server(), answer)


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_an_answer_that_passes_is_waited_for(script, body, status):
    server = Server()
    script.play(send_content(SERVICE, SHA, body), server, problem(status, "x"), *[server] * 4)
    assert server.whole


def test_a_beginning_that_was_of_another_file_is_thrown_away_once(script, body):
    server = Server(there=b"x23")
    script.play(send_content(SERVICE, SHA, body), *[server] * 7)
    assert (server.there, server.whole) == (DATA, True)


def test_a_sum_that_is_wrong_from_the_start_is_an_error(script, tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"abcdefgh")
    with pytest.raises(InvalidRequest):
        script.play(send_content(SERVICE, SHA, FileBody(path, "big", Stamp.of(path.stat()))), *[Server()] * 3)


def test_what_someone_else_sends_is_waited_for_and_not_sent_again(script, body):
    def busy(offset):
        return Response(409, {"upload-offset": f"{offset}", "upload-complete": "?0"}, b"")

    whole = Response(204, {"upload-offset": "10", "upload-complete": "?1"}, b"")
    script.play(send_content(SERVICE, SHA, body), busy(1), busy(5), busy(5), whole)
    assert {request.method for request in script.requests} == {"HEAD"}
    assert len(script.sleeps) == 3


def test_someone_else_who_is_stuck_is_not_waited_for_for_ever(script, body, monkeypatch):
    monkeypatch.setattr(uploads, "BUSY", 3.0)
    busy = Response(409, {"upload-offset": "5", "upload-complete": "?0"}, b"")
    with pytest.raises(InputError, match="someone else"):
        script.play(send_content(SERVICE, SHA, body), *[busy] * 4)


def test_more_than_there_is_cannot_have_arrived(script, body):
    with pytest.raises(UnexpectedAnswer, match="11 bytes of a file of 10"):
        script.play(send_content(SERVICE, SHA, body), Server(there=b"x" * 11))


def test_how_far_it_is_is_told_from_where_it_goes_on(script, tmp_path):
    path = tmp_path / "big"
    path.write_bytes(DATA)
    told = []
    body = FileBody(path, "big", Stamp.of(path.stat()), lambda *args: told.append(args))
    script.play(send_content(SERVICE, SHA, body), *[Server(there=DATA[:7])] * 2)
    assert told == [("big", 10, 10)]
