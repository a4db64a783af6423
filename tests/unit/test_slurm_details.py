"""What the Slurm service remembers, how it logs in, and what it makes of arrays and of lists."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs import AsyncClient, Client
from hpcjobs.actions import JobChanges, JobUpdate, UpdateOutcome
from hpcjobs.errors import ConfigError, InvalidSpec, JobNotFound, ServiceUnavailable, TransportError
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobFilter, JobSpec
from hpcjobs.profiles import split_token
from hpcjobs.services.slurm import SlurmService
from hpcjobs.services.slurm_comment import LONGEST, Note, read, too_long
from hpcjobs.services.slurm_login import SlurmAuth
from hpcjobs.services.slurm_memory import Listing, Memory, cursor_of
from hpcjobs.services.slurm_records import indexes, info_of, info_of_accounting, output_of
from hpcjobs.services.slurm_rest import _address
from tests.unit.conftest import Script
from tests.unit.test_slurm_service import PLAIN_404, VERSIONS, amount, no, record, said, slurm

NOW = 1_000_000.0


def jwt(n: int = 0, *, left: float = 3600.0, user: str = "me") -> str:
    """A token that ends so many seconds from now."""
    claims = json.dumps({"exp": NOW + left, "sun": user, "n": n}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


def error_number(number: int, status: int) -> httpx.Response:
    body = {"errors": [{"description": "x", "error_number": number, "error": "y"}]}
    return httpx.Response(status, text=json.dumps(body, indent=2), headers={"content-type": "application/json"})


def auth(*tokens: str, timer: Any = lambda: 0.0, **options: Any) -> tuple[SlurmAuth, list[str]]:
    """What signs requests, with a function that gives these tokens one after the other, and those it gave."""
    given_out: list[str] = []

    def token() -> str:
        given_out.append(tokens[len(given_out)])
        return given_out[-1]

    options = {"username": None, "where": "here", "clock": lambda: NOW, "timer": timer, **options}
    return SlurmAuth(token, **options), given_out


def sent(
    signer: SlurmAuth, *answers: httpx.Response, method: str = "GET", path: str = "/slurm/v0.0.38/job/1"
) -> list[str]:
    """The tokens with which a request is sent until it is not sent again."""
    request = httpx.Request(method, f"http://h{path}")
    told = []
    flow = signer.sync_auth_flow(request)
    wanted = next(flow)
    try:
        for answer in answers:
            told.append(wanted.headers["x-slurm-user-token"])
            answer.request = request
            wanted = flow.send(answer)
        told.append("once more")
    except StopIteration:
        pass
    return told


# Logging in


@pytest.mark.parametrize(
    "refusal",
    [httpx.Response(401, text="Authentication failure"), error_number(1007, 511), error_number(-1, 500)],
    ids=["401", "1007", "-1"],
)
def test_a_token_that_is_refused_is_got_anew_once(refusal: httpx.Response) -> None:
    signer, given_out = auth(jwt(1), jwt(2), jwt(3))
    assert sent(signer, refusal, httpx.Response(200)) == [jwt(1), jwt(2)]
    assert len(given_out) == 2


def test_the_oldest_versions_word_is_no_reason_to_submit_again() -> None:
    """It may mean that the controller died after it had made the job."""
    signer, given_out = auth(jwt(1), jwt(2))
    path = "/slurm/v0.0.38/job/submit"
    assert sent(signer, error_number(5005, 500), method="POST", path=path) == [jwt(1)]
    assert sent(signer, error_number(5005, 500), httpx.Response(200), method="DELETE") == [jwt(1), jwt(2)]
    assert len(given_out) == 2


def test_what_takes_long_to_be_refused_is_no_token_that_ended() -> None:
    clock = itertools.count(0.0, 9.0)
    signer, given_out = auth(jwt(1), timer=lambda: next(clock))
    assert sent(signer, error_number(-1, 500)) == [jwt(1)]
    assert given_out == [jwt(1)]


def test_a_token_is_renewed_before_it_ends_and_names_its_user() -> None:
    signer, given_out = auth(jwt(1, left=61), jwt(2, user="you"))
    assert sent(signer, httpx.Response(200)) == [jwt(1, left=61)]
    assert signer.user == "me"
    signer._clock = lambda: NOW + 60.0
    assert sent(signer, httpx.Response(200)) == [jwt(2, user="you")]
    assert signer.user == "you"
    assert len(given_out) == 2


def test_who_is_named_goes_before_whom_the_token_names() -> None:
    signer, _ = auth(jwt(), username="ann")
    request = next(signer.sync_auth_flow(httpx.Request("GET", "http://h")))
    assert (request.headers["x-slurm-user-name"], signer.user) == ("ann", "ann")


def test_what_scontrol_prints_is_a_token() -> None:
    signer, _ = auth(f"SLURM_JWT={jwt()}\n")
    assert sent(signer, httpx.Response(200)) == [jwt()]


def test_without_any_token_it_is_said_where_one_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JWT", raising=False)
    with pytest.raises(ConfigError, match="scontrol token"):
        SlurmService("slurm+http://head:6820")
    monkeypatch.setenv("SLURM_JWT", jwt())
    service = SlurmService("slurm+http://head:6820")
    assert isinstance(service.auth, SlurmAuth)
    assert sent(service.auth, httpx.Response(200)) == [jwt()]


# Where it is


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("slurm+http://head:6820", "http://head:6820", None),
        ("slurm+https://head/slurm/", "https://head/slurm", None),
        ("slurm://head", "http://head:6820", None),
        ("slurm+unix:///run/rest.sock", "http://localhost", "/run/rest.sock"),
    ],
)
def test_addresses(url: str, base: str, path: str | None) -> None:
    assert _address(url) == (base, path)
    assert split_token(url)[0] == url.rstrip("/")


@pytest.mark.parametrize("url", ["slurm+ftp://head", "slurm+unix://run/rest.sock", "slurm+http://", "slurm+unix://"])
def test_what_is_no_address_is_refused_with_those_that_are(url: str) -> None:
    with pytest.raises(ConfigError, match="slurm\\+unix:///path/to/socket"):
        _address(url)


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Path]:
    """A unix socket at which something answers that has one job."""
    path = tmp_path / "s"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"jobs": [record("RUNNING")], "errors": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_args: Any) -> None:
            pass

    class Server(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(str(self.server_address))

    server = Server(str(path), Handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_unix_socket_is_spoken_to_from_a_thread(rest: Path) -> None:
    with Client(f"slurm+unix://{rest}", folder="/data") as client:
        assert client.job("17").state is JobState.RUNNING
        assert f"unix:{rest}" in repr(client)


@pytest.mark.anyio
async def test_a_unix_socket_is_spoken_to_from_an_event_loop(rest: Path) -> None:
    async with AsyncClient(f"slurm+unix://{rest}", folder="/data") as client:
        assert (await client.job("17")).state is JobState.RUNNING


# The version


def test_a_version_that_is_served_no_longer_is_replaced(script: Script) -> None:
    """Slurm was updated while the client lived: nothing is lost, and nothing is done twice."""
    service = slurm(None)
    down_to_40 = [PLAIN_404] * 5
    script.play(service.get("17"), *down_to_40, said({}), said({"jobs": [record("RUNNING", version=40)]}))
    body = said({"jobs": [record("RUNNING")]})
    info = script.play(service.get("17"), PLAIN_404, *[PLAIN_404] * 2, said({}), body)
    assert info.state is JobState.RUNNING
    assert script.sent[-1] == "GET /slurm/v0.0.43/job/17"


def test_a_path_that_a_fixed_version_does_not_have_is_an_error_and_no_loop(script: Script) -> None:
    with pytest.raises(Exception, match="address"):
        script.play(slurm(42).get("17"), PLAIN_404)


# What is remembered


def test_a_number_that_became_another_jobs_is_not_taken_for_the_first_one(script: Script) -> None:
    """A controller that lost its memory counts from 1 again."""
    service = slurm()
    mine, other = Note(key="a").written(), Note(key="b").written()
    script.play(service.get("17"), said({"jobs": [record("RUNNING", comment=mine)]}))
    with pytest.raises(JobNotFound):
        script.play(service.get("17"), said({"jobs": [record("COMPLETED", comment=other)]}), PLAIN_404)
    assert (
        script.play(service.get("17"), said({"jobs": [record("COMPLETED", comment=mine)]})).state is JobState.FINISHED
    )


def test_without_keys_a_number_is_told_by_when_it_was_submitted() -> None:
    memory = Memory()
    first = record("RUNNING")
    assert memory.learn(info_of(first), first) is not None
    again = record("PENDING", submit_time=amount(42, 1_767_009_999), restart_cnt=1)
    assert memory.learn(info_of(again), again) is not None  # requeued: its time is a new one, and it says so
    other = record("PENDING", submit_time=amount(42, 1_767_019_999))
    assert memory.learn(info_of(other), other) is None


def test_what_is_remembered_has_a_bound() -> None:
    memory = Memory(most=3)
    for number in range(10):
        one = record("COMPLETED", number=number)
        memory.learn(info_of(one), one)
        memory.bind(f"key-{number}", str(number))
    assert [number for number in range(10) if memory.final(str(number))] == [7, 8, 9]
    assert memory.by_key("key-0") is None
    assert memory.by_key("key-9") == "9"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_that_runs_again_is_not_being_cancelled(script: Script, version: int) -> None:
    service = slurm(version)
    comment = Note(key="a").written()
    looks = [record("RUNNING", version=version, comment=comment)] * 2
    ended = record("CANCELLED", version=version, comment=Note(key="a", reason="no").written())
    answers = [said({"jobs": [looks[0]]}), said({}), said({}), said({"jobs": [ended]})]
    [result] = script.play(service.cancel(["17"], reason="no", abort=True, delete=False), *answers)
    assert (result.outcome.value, result.reason_kept) == ("CANCELLED", True)
    again = {**ended, "job_state": record("PENDING", version=version)["job_state"], "restart_cnt": 1}
    info = script.play(service.get("17"), said({"jobs": [again]}))
    assert (info.state, info.cancel_requested, info.label) == (JobState.QUEUED, False, "QUEUED")


# Comments


@given(
    text=st.text(max_size=30).filter(lambda text: text == text.strip() and "hpcjobs:" not in text),
    key=st.text(max_size=30),
    tags=st.lists(st.text(max_size=10), max_size=4),
    meta=st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=3),
    size=st.integers(min_value=0, max_value=9),
)
def test_what_is_written_into_a_comment_comes_back(
    text: str, key: str, tags: list[str], meta: dict[str, Any], size: int
) -> None:
    note = Note(text=text, key=key, tags=tags, meta=meta, size=size)
    assert read(note.written()) == note


@pytest.mark.parametrize("text", ["", "for Ann", "hpcjobs:", "hpcjobs:{", "hpcjobs:[1]", 'x hpcjobs:{"size":"many"}'])
def test_a_comment_that_is_not_ours_is_a_persons(text: str) -> None:
    assert read(text) == Note(text=text)


def test_a_comment_that_does_not_fit_is_refused_before_anything_is_sent(script: Script) -> None:
    assert too_long("é" * (LONGEST // 2)) == 0
    assert too_long("é" * (LONGEST // 2) + "x") == 1
    with pytest.raises(InvalidSpec, match="bytes too long"):
        script.play(slurm().submit(JobSpec(command="true", tags=["x" * 200] * 6), "k"))
    update = JobUpdate(id="17", changes=JobChanges(tags=["x" * 200] * 6))
    [result] = script.play(slurm().update([update]), said({"jobs": [record("PENDING")]}))
    assert result.outcome is UpdateOutcome.INVALID


# Exactly once, on the oldest version


@pytest.mark.parametrize("there", [True, False], ids=["made", "not made"])
def test_a_refusal_that_may_mean_anything_is_looked_into_before_a_job_is_sent_again(
    script: Script, there: bool
) -> None:
    service = slurm(38)
    made = record("PENDING", version=38, comment=Note(key="k").written())
    listed = said({"jobs": [made] if there else []})
    answers = [no(5005), listed] + ([] if there else [said({"job_id": 17})])
    # the job is looked at when it is found, and when it is handed out
    answers += [said({"jobs": [made]})] * (2 if there else 1)
    info = script.play(service.submit(JobSpec(command="true"), "k"), *answers)
    assert info.id == "17"
    assert script.sent.count("POST /slurm/v0.0.38/job/submit") == (1 if there else 2)


def test_a_job_that_was_accepted_is_not_hidden_by_a_look_that_fails(script: Script) -> None:
    info = script.play(slurm().submit(JobSpec(command="true"), "k"), said({"job_id": 17}), no(1800, 502))
    assert (info.id, info.state) == ("17", JobState.QUEUED)


# What Slurm can do a moment later


@pytest.mark.parametrize("number", [11, 2020])
def test_what_slurm_is_too_busy_for_is_asked_for_again(script: Script, number: int) -> None:
    job = said({"jobs": [record("PENDING")]})
    update = JobUpdate(id="17", changes=JobChanges(queue="short"))
    [result] = script.play(slurm().update([update]), job, no(number), no(number), said({}), job)
    assert result.outcome is UpdateOutcome.UPDATED
    assert len(script.sleeps) == 2


def test_it_is_not_asked_for_without_end(script: Script) -> None:
    script.answers.append(said({"jobs": [record("PENDING")]}))
    script.answers.extend([no(11)] * 12)
    update = JobUpdate(id="17", changes=JobChanges(queue="short"))
    with pytest.raises(ServiceUnavailable):
        script.play(slurm().update([update]))


# Arrays


def task(index: int | None, *words: str, waiting: str = "", version: int = 42, **more: Any) -> dict[str, Any]:
    told = {"set": index is not None, "infinite": False, "number": index or 0} if version >= 40 else index
    comment = Note(key="k", size=4).written()
    number = 100 + (index or 0)
    fields = {"array_job_id": amount(version, 100), "array_task_id": told, "array_task_string": waiting}
    return record(*words, version=version, number=number, comment=comment, **fields, **more)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_array_is_one_job_and_each_task_is_another(script: Script, version: int) -> None:
    records = [task(0, "COMPLETED", version=version), task(1, "RUNNING", version=version)]
    records.append(task(None, "PENDING", version=version, waiting="2-3%1", state_reason="JobArrayTaskLimit"))
    answer = said({"jobs": records})
    answers = script.play(slurm(version).get_many(["100", "100_0", "100_1", "100_3", "100_4"]), answer, PLAIN_404)
    told = {info.id: (info.state, info.name) for info in answers.items}
    assert told == {
        "100": (JobState.RUNNING, "fit"),
        "100_0": (JobState.FINISHED, "fit[0]"),
        "100_1": (JobState.RUNNING, "fit[1]"),
        "100_3": (JobState.QUEUED, "fit[3]"),
    }
    assert answers.missing == ["100_4"]


def test_a_task_whose_end_nobody_saw_is_not_guessed_to_have_ended_well(script: Script) -> None:
    service = slurm()
    some = said({"jobs": [task(0, "COMPLETED"), task(2, "COMPLETED"), task(3, "COMPLETED")]})
    info = script.play(service.get("100"), some)
    assert (info.state, "1 tasks forgotten" in info.native_state) == (JobState.UNKNOWN, True)
    # what was seen of a task before it was forgotten counts
    script.play(service.get("100"), said({"jobs": [task(1, "COMPLETED"), task(3, "COMPLETED")]}))
    assert script.play(service.get("100"), some).state is JobState.FINISHED


def test_a_list_of_waiting_tasks_that_slurm_cuts_off_hides_no_task(script: Script) -> None:
    cut = task(None, "PENDING", waiting="1,3,5,...")
    assert script.play(slurm().get("100_99"), said({"jobs": [cut]})).state is JobState.QUEUED
    with pytest.raises(JobNotFound):
        script.play(slurm().get("100_4"), said({"jobs": [cut]}), PLAIN_404)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("0-3", [0, 1, 2, 3]), ("1,5-9:2%3", [1, 5, 7, 9]), ("", []), ("nonsense", []), ("[2-3]", [2, 3]), ("5-1", [])],
)
def test_indexes_of_an_array(text: str, meant: list[int]) -> None:
    assert list(indexes(text)) == meant


def test_an_array_is_submitted_as_one_script(script: Script) -> None:
    from hpcjobs.arrays import ArrayOrder

    order = ArrayOrder(spec=JobSpec(command="fit {item}"), over=["a b", "c"])
    whole = said({"jobs": [task(None, "PENDING", waiting="0-1")]})
    answers = [said({"jobs": []}), said({"job_id": 100}), whole, whole]
    info, jobs = script.play(slurm().submit_array(order, "k2"), *answers)
    assert (info.id, info.size, [job.id for job in jobs]) == ("100", 2, ["100_0", "100_1"])
    assert [job.item for job in jobs] == ["a b", "c"]
    [body] = [request.json for request in script.requests if request.method == "POST"]
    assert body["job"]["array"] == "0-1"
    assert "0)\nfit 'a b'\n;;\n1)\nfit c\n;;\nesac" in body["script"]


# Lists


def test_a_list_is_asked_for_only_if_anything_changed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hpcjobs.services.slurm_looking.time.monotonic", lambda: now[0])
    service = slurm(42)
    records = [record("RUNNING", number=5), record("RUNNING", number=6, user_name="other")]
    whole = said({"jobs": records, "last_update": amount(42, 77)})
    same = said({"jobs": [], "warnings": [{"description": "No job changes since update_time[77]"}]})

    def ids() -> Any:
        return service.page(JobFilter(), limit=10, cursor=None)

    assert [info.id for info in script.play(ids(), whole).items] == ["5"]
    assert [info.id for info in script.play(ids()).items] == ["5"]  # a moment later: nothing is asked
    now[0] = 5.0
    assert [info.id for info in script.play(ids(), same).items] == ["5"]
    assert script.requests[-1].params == [("update_time", "77")]
    now[0] = 10.0
    assert script.play(ids(), said({"jobs": [], "last_update": amount(42, 99)})).items == []


@pytest.mark.parametrize(
    "answer", [said({"job_id": 17}), TransportError("the answer was lost")], ids=["answered", "lost"]
)
def test_a_list_has_what_this_client_has_done_a_moment_ago(
    script: Script, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """Also where the answer was lost; without a change of its own, a list is not asked for again at once."""
    now = [0.0]
    monkeypatch.setattr("hpcjobs.services.slurm_looking.time.monotonic", lambda: now[0])
    service = slurm(42)

    def ids(*answers: Any, cursor: str | None = None) -> list[str]:
        now[0] += 0.1
        return [info.id for info in script.play(service.page(JobFilter(), limit=1, cursor=cursor), *answers).items]

    records = [record("RUNNING", number=5), record("RUNNING", number=6)]
    assert ids(said({"jobs": records, "last_update": amount(42, 77)})) == ["6"]
    now[0] += 0.1
    with contextlib.suppress(TransportError):
        script.play(service.ask("POST", "job/submit", json={}), answer)
    assert ids(cursor="99999999999-7-0") == ["6"]  # a further page is of the list before
    more = [*records, record("PENDING", number=17)]
    assert ids(said({"jobs": more, "last_update": amount(42, 77)})) == ["17"]
    assert ids() == ["17"]


def test_pages_go_on_where_the_last_one_ended(script: Script) -> None:
    service = slurm()
    records = [record("RUNNING", number=number, submit_time=amount(42, 1000 + number // 2)) for number in range(1, 8)]
    first = script.play(service.page(JobFilter(), limit=3, cursor=None), said({"jobs": records}))
    second = script.play(service.page(JobFilter(), limit=3, cursor=first.next))
    third = script.play(service.page(JobFilter(), limit=3, cursor=second.next))
    assert [[info.id for info in page.items] for page in (first, second, third)] == [
        ["7", "6", "5"],
        ["4", "3", "2"],
        ["1"],
    ]
    assert third.next is None


def test_an_old_versions_clock_is_told_by_its_jobs_and_nothing_is_missed() -> None:
    """The question is only asked for what is later than a second that was over when the list was made."""
    body = {"jobs": [record("PENDING", version=38, start_time=9_999_999_999, eligible_time=9_999_999_999)]}
    cursor, latest, since = cursor_of(body, None, 0.0, 0.1)
    assert (cursor, latest) == (None, 1_767_000_000)
    before = Listing([], 0.1, 0.1, cursor, latest, since)
    assert cursor_of(body, before, 0.9, 1.0)[0] is None
    assert cursor_of(body, before, 1.2, 1.3)[0] == 1_767_000_001
    later = {"jobs": [*body["jobs"], record("RUNNING", version=38, number=2, start_time=1_767_000_007)]}
    assert cursor_of(later, before, 9.0, 9.1)[0] is None


# Accounting


def test_the_oldest_accounting_says_success_of_every_exit_code() -> None:
    job = {
        "job_id": 17,
        "state": {"current": "FAILED", "reason": "None"},
        "time": {"start": 10, "end": 20, "submission": 5},
        "exit_code": {"status": "SUCCESS", "return_code": 0},
        "array": {"job_id": 0, "task_id": None},
        "user": "me",
    }
    info = info_of_accounting(job)
    assert (info.state, info.exit_code) == (JobState.FAILED, None)
    good = {**job, "state": {"current": ["FAILED"]}, "exit_code": {"status": ["ERROR"], "return_code": amount(42, 3)}}
    assert info_of_accounting(good).exit_code == 3


@pytest.mark.parametrize(
    ("fields", "stream", "path"),
    [
        ({}, "stdout", "/data/slurm-17.out"),
        ({}, "stderr", ""),
        ({"standard_output": "out-%5j.%x", "standard_error": "/tmp/%u.err"}, "stdout", "/data/out-00017.fit"),
        ({"standard_error": "/tmp/%u%%.err"}, "stderr", "/tmp/me%.err"),
        ({"standard_output": "a-%j", "stdout_expanded": "/data/a-17"}, "stdout", "/data/a-17"),
    ],
)
def test_where_a_job_writes(fields: dict[str, Any], stream: str, path: str) -> None:
    assert output_of(record("RUNNING", **fields), stream) == path
