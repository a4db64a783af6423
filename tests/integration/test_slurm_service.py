"""A real Slurm, by its REST service, in both colours: what jobs become there, and what trouble comes to."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcjobs import (
    AuthenticationError,
    Conflict,
    InvalidRequest,
    InvalidSpec,
    JobNotFound,
    JobState,
    JobVanished,
    NoService,
    PermissionDenied,
    ServiceUnavailable,
    Unsupported,
)
from hpcjobs.models import CancelOutcome, JobInfo
from tests.conformance import colours
from tests.conformance.proxy import Proxy
from tests.running import until
from tests.slurm_cluster import OTHER_USER, USER, SlurmCluster

TIMEOUT = 60.0

Connect = Callable[..., Any]
"""Makes a client; closed at the end."""


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    colour: str = request.param
    return colour


@pytest.fixture
def connect(colour: str) -> Iterator[Connect]:
    """Clients of a cluster, of one colour; without a token of their own they get a fresh one."""
    with contextlib.ExitStack() as stack:

        def make(cluster: SlurmCluster, *, url: str | None = None, **options: Any) -> Any:
            options = {"token": cluster.token(), "folder": str(cluster.work), **options}
            return stack.enter_context(colours.client(colour, f"slurm+{url or cluster.url}", **options))

        yield make


@pytest.fixture
def client(connect: Connect, slurm: SlurmCluster) -> Any:
    return connect(slurm)


@pytest.fixture
def name() -> str:
    """A name that no other job has."""
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def forgetful(start_slurm: Callable[..., Any]) -> Iterator[SlurmCluster]:
    """A cluster of its own, whose controller forgets soon and may be stopped."""
    with start_slurm(min_job_age=5) as cluster:
        yield cluster


def is_state(job: Any, state: JobState) -> Any:
    """Wait until the service says so; the job."""
    until(lambda: job.refresh().state is state, timeout=TIMEOUT, what=f"the state {state}")
    return job


def output(cluster: SlurmCluster, job: Any) -> str:
    return (cluster.work / f"slurm-{job.id.partition('_')[0]}.out").read_text()


# What a job is given, and what is told of it


def test_what_was_asked_is_what_the_job_gets(client: Any, slurm: SlurmCluster, name: str) -> None:
    job = client.submit(
        'echo "$WORD:$USER:$PWD:$SLURM_CPUS_PER_TASK:$SLURM_MEM_PER_NODE:$SLURM_JOB_PARTITION:$HOME"; echo bad >&2; exit 7',
        name=name,
        queue="short",
        cores=3,
        memory="200MiB",
        walltime="90s",
        tags=["a b", "c"],
        meta={"run": {"n": 1, "é": None}},
        env={"WORD": "a 'b' \"c\" $d"},
        stderr="separate",
        options={"comment": "for Ann", "requeue": False},
    )
    info = job.wait(TIMEOUT)
    assert (info.state, info.exit_code, info.native_state) == (JobState.FAILED, 7, "FAILED")
    assert info.reason == "the command ended with 7 (NonZeroExitCode)"
    assert (info.name, info.owner, info.queue, info.attempt) == (name, USER, "short", 1)
    assert (info.tags, info.meta) == (["a b", "c"], {"run": {"n": 1, "é": None}})
    assert info.created_at <= info.started_at <= info.finished_at <= dt.datetime.now(dt.timezone.utc)
    home = Path(f"~{USER}").expanduser()
    assert output(slurm, job) == f"a 'b' \"c\" $d:{USER}:{slurm.work}:3:200:short:{home}\n"
    assert (slurm.work / f"slurm-{job.id}.err").read_text() == "bad\n"
    told = client.job(job.id).info.spec
    assert (told["time_limit"], told["comment"].startswith("for Ann hpcjobs:{")) == (2, True)


def test_a_list_is_a_program_with_its_arguments_to_the_letter(client: Any, slurm: SlurmCluster) -> None:
    job = client.submit(["printf", "%s|", "a b", "$HOME", "`id`", "'", '"', "\\n"])
    assert job.wait(TIMEOUT).state is JobState.FINISHED
    assert output(slurm, job) == "a b|$HOME|`id`|'|\"|\\n|"


def test_a_whole_script_is_run_by_its_own_interpreter(client: Any, slurm: SlurmCluster) -> None:
    job = client.submit("#!/bin/sh\nreadlink /proc/$$/exe\n")
    assert job.wait(TIMEOUT).state is JobState.FINISHED
    assert output(slurm, job).strip() == str(Path("/bin/sh").resolve())


def test_how_a_job_ended_is_told_in_words(client: Any, slurm: SlurmCluster) -> None:
    killed = client.submit("kill -SEGV $$")
    nowhere = client.submit("true", options={"current_working_directory": "/no/such/folder"})
    infos = client.wait([killed, nowhere], timeout=TIMEOUT)
    assert [info.state for info in infos] == [JobState.FAILED] * 2
    assert [info.exit_code for info in infos] == [None, None]
    assert "signal SIGSEGV" in infos[0].reason
    assert "/no/such/folder" in infos[1].reason


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"options": {"hold": True}}, "is held"),
        ({"start_in": "1h"}, "it is not to start yet (BeginTime)"),
        ({"cores": 9999}, "it may never start (PartitionConfig)"),
    ],
    ids=["held", "later", "too large"],
)
def test_why_a_job_waits_is_told_in_words(client: Any, fields: dict[str, Any], says: str) -> None:
    job = client.submit("true", **fields)
    until(lambda: says in (job.refresh().info.reason or ""), timeout=TIMEOUT, what=says)
    assert job.state is (JobState.QUEUED if "cores" in fields else JobState.PENDING)
    assert (job.info.start_at is not None) is ("start_in" in fields)
    assert job.cancel().outcome is CancelOutcome.CANCELLED


def test_a_moment_to_start_at_is_kept_to_the_second(client: Any) -> None:
    when = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(hours=3)
    job = client.submit("true", start_at=when)
    assert (job.state, job.info.start_at) == (JobState.PENDING, when)
    assert client.submit("true", start_at=when - dt.timedelta(days=1)).wait(TIMEOUT).state is JobState.FINISHED
    job.cancel()


# Refusals: nothing is there afterwards


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"options": {"partitoin": "debug"}}, InvalidSpec, "did you mean partition?"),
        ({"command": "#!/bin/bash\n#SBATCH --time=5\ntrue"}, InvalidSpec, "#SBATCH"),
        ({"command": "#!/bin/bash\r\ntrue\r\n"}, InvalidSpec, "Windows"),
        ({"max_attempts": 2}, InvalidSpec, "requeue="),
        ({"meta": {"text": "x" * 1000}}, InvalidSpec, "bytes too long"),
        ({"after": ["#0"]}, InvalidSpec, "no job of Slurm"),
        ({"options": {"current_working_directory": "here"}}, InvalidSpec, "absolute"),
        ({"queue": "nowhere"}, InvalidRequest, "give queue= one of the cluster's partitions"),
        ({"priority": 5}, InvalidRequest, "only operators"),
        ({"options": {"array": "5-1"}}, InvalidRequest, "array"),
        ({"options": {"tasks": "many"}}, InvalidRequest, "tasks"),
    ],
    ids=lambda value: None if isinstance(value, dict) else getattr(value, "__name__", None),
)
def test_what_cannot_be_is_refused_with_advice_and_no_job_is_made(
    client: Any, name: str, fields: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        client.submit(**{"command": "true", "name": name, **fields})
    assert says in str(caught.value)
    assert [job.id for job in client.jobs(name=name)] == []


def test_without_a_folder_nothing_is_submitted(connect: Connect, slurm: SlurmCluster) -> None:
    client = connect(slurm, folder=None)
    with pytest.raises(InvalidSpec, match="folder="):
        client.submit("true")
    assert client.submit("true", options={"current_working_directory": "/tmp"}).wait(TIMEOUT).state is JobState.FINISHED


def test_what_the_service_cannot_do_names_the_place_to_look(client: Any, slurm: SlurmCluster) -> None:
    job = client.submit("echo here")
    job.wait(TIMEOUT)
    with pytest.raises(Unsupported, match=f"{slurm.work}/slurm-{job.id}.out"):
        job.logs()
    with pytest.raises(Unsupported, match=str(slurm.work)):
        job.files()


# Cancelling and signals


def test_the_reason_is_in_the_job_for_everyone_to_see(client: Any, connect: Connect, slurm: SlurmCluster) -> None:
    job = client.submit("sleep 600", tags=["kept"])
    is_state(job, JobState.RUNNING)
    result = job.cancel(reason="wrong mesh", confirm=TIMEOUT)
    assert (result.outcome, result.before, result.reason_kept) == (CancelOutcome.CANCELLED, JobState.RUNNING, True)
    info = connect(slurm, token=slurm.token(OTHER_USER)).job(job.id).info
    assert (info.state, info.cancel_reason, info.reason) == (JobState.CANCELLED, "wrong mesh", "wrong mesh")
    assert info.tags == ["kept"]


def test_a_job_that_ignores_the_request_is_cancelling_until_it_is_killed(
    client: Any, connect: Connect, slurm: SlurmCluster
) -> None:
    """Slurm's word hides that it was asked; it is told all the same, also to who did not ask."""
    job = client.submit("trap '' TERM; for i in $(seq 100); do sleep 1; done")
    is_state(job, JobState.RUNNING)
    until(lambda: "sleep" in _processes(slurm), timeout=TIMEOUT, what="the trap")
    asked = job.cancel(reason="enough")
    assert asked.outcome is CancelOutcome.CANCEL_REQUESTED
    seen = connect(slurm).job(job.id).info
    assert (seen.state, seen.cancel_requested, seen.label) == (JobState.ARCHIVING, True, "cancelling")
    assert job.wait(TIMEOUT).state is JobState.CANCELLED


def _processes(cluster: SlurmCluster) -> str:
    import psutil

    told = []
    for process in psutil.process_iter(["uids", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            if process.username() == USER:
                told.append(" ".join(process.cmdline()))
    return "\n".join(told)


def test_a_signal_arrives_and_a_name_that_slurm_does_not_know_is_not_sent(client: Any, slurm: SlurmCluster) -> None:
    job = client.submit("trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    is_state(job, JobState.RUNNING)
    until(lambda: (slurm.work / f"slurm-{job.id}.out").exists() and "ready" in output(slurm, job), timeout=TIMEOUT)
    with pytest.raises(InvalidSpec, match="USR1"):
        client.run(client.service.signal(job.id, "FOO"))
    assert job.refresh().state is JobState.RUNNING
    client.run(client.service.signal(job.id, "SIGUSR1"))
    assert job.wait(TIMEOUT).exit_code == 5
    with pytest.raises(Conflict, match="FAILED"):
        client.run(client.service.signal(job.id, "USR1"))


def test_another_users_job_is_seen_and_left_alone(client: Any, connect: Connect, slurm: SlurmCluster) -> None:
    other = connect(slurm, token=slurm.token(OTHER_USER))
    job = other.submit("sleep 600")
    is_state(job, JobState.RUNNING)
    assert client.job(job.id).info.owner == OTHER_USER
    with pytest.raises(PermissionDenied):
        client.cancel(job.id)
    assert [result.outcome for result in client.cancel_many([job.id])] == [CancelOutcome.NOT_FOUND]
    assert [one.id for one in client.jobs(limit=1000) if one.id == job.id] == []
    assert job.refresh().state is JobState.RUNNING
    assert job.cancel(confirm=TIMEOUT).confirmed


# Dependencies


def test_dependencies_are_kept_and_what_can_never_start_fails(client: Any) -> None:
    bad = client.submit("exit 1")
    good, never, after_all, because = (
        client.submit("true", options={"begin_time": "now"}),
        client.submit("true", after=[bad]),
        client.submit("true", after=[(bad, "any")]),
        client.submit("true", after=[(bad, "failed")]),
    )
    infos = client.wait([good, never, after_all, because], timeout=TIMEOUT)
    assert [info.state for info in infos] == [
        JobState.FINISHED,
        JobState.FAILED,
        JobState.FINISHED,
        JobState.FINISHED,
    ]
    assert "did not end as it had to" in infos[1].reason
    assert infos[1].attempt == 0


# Arrays


def test_each_task_of_an_array_has_its_item(client: Any, slurm: SlurmCluster, name: str) -> None:
    array = client.submit_array(
        "echo {word} > {file}; exit {index}",
        over=[{"word": "a b", "file": f"{slurm.work}/{name}-0"}, {"word": "$c", "file": f"{slurm.work}/{name}-1"}],
        name=name,
    )
    infos = array.wait(TIMEOUT)
    assert [(info.id, info.array_id, info.array_index, info.name) for info in infos] == [
        (f"{array.id}_{index}", array.id, index, f"{name}[{index}]") for index in range(2)
    ]
    assert [(info.state, info.exit_code) for info in infos] == [(JobState.FINISHED, 0), (JobState.FAILED, 1)]
    assert [(slurm.work / f"{name}-{index}").read_text() for index in range(2)] == ["a b\n", "$c\n"]
    whole = client.job(array.id).info
    assert (whole.state, whole.name, whole.native_state) == (JobState.FAILED, name, "1 COMPLETED, 1 FAILED")
    assert whole.reason == "task 1: the command ended with 1 (NonZeroExitCode)"
    assert {job.id for job in client.jobs(name=f"{name}*")} == {info.id for info in infos}


def test_tasks_are_cancelled_one_by_one_or_all_at_once(client: Any) -> None:
    job = client.submit("sleep 600", options={"array": "0-5%2"})
    until(lambda: client.job(f"{job.id}_1").state is JobState.RUNNING, timeout=TIMEOUT)
    assert client.job(f"{job.id}_5").state is JobState.QUEUED
    waiting, running = client.cancel_many([f"{job.id}_4", f"{job.id}_0"], confirm=TIMEOUT)
    assert (waiting.outcome, running.outcome) == (CancelOutcome.CANCELLED, CancelOutcome.CANCELLED)
    assert client.job(f"{job.id}_4").info.started_at is None  # Slurm has no record of it any more
    assert client.job(f"{job.id}_1").state is JobState.RUNNING
    with pytest.raises(JobNotFound):
        client.job(f"{job.id}_6")
    assert job.cancel(reason="all", confirm=TIMEOUT).outcome is CancelOutcome.CANCELLED
    assert job.wait(TIMEOUT).native_state == "6 CANCELLED"


def test_an_array_is_cancelled_with_one_request(connect: Connect, slurm: SlurmCluster) -> None:
    proxy = Proxy(slurm.url)
    try:
        client = connect(slurm, url=proxy.url)
        array = client.submit_array("sleep 600", array=20, options={"hold": True})
        results = array.cancel(reason="a mistake", confirm=TIMEOUT)
        assert [result.outcome for result in results] == [CancelOutcome.CANCELLED] * 20
        assert len(proxy.seen(lambda seen: seen.method == "DELETE")) == 1
        assert client.job(array.id).info.cancel_reason == "a mistake"
    finally:
        proxy.close()


def test_an_array_whose_answer_is_lost_is_made_once(connect: Connect, slurm: SlurmCluster, name: str) -> None:
    proxy = Proxy(slurm.url)
    try:
        client = connect(slurm, url=proxy.url)
        with proxy.losing(lambda seen: seen.path.endswith("/job/submit")):
            array = client.submit_array("true", array=3, name=name, key=name)
        assert len(array) == 3
        assert client.submit_array("true", array=3, name=name, key=name).id == array.id
        with pytest.raises(Conflict, match=name):
            client.submit_array("false", array=3, name=name, key=name)
        assert len(array.wait(TIMEOUT)) == 3
        assert {job.info.array_id for job in client.jobs(name=f"{name}*")} == {array.id}
    finally:
        proxy.close()


# Changing


def test_a_held_job_is_changed_and_released(client: Any) -> None:
    job = client.submit("true", walltime="2m", tags=["old"], meta={"a": 1}, options={"hold": True, "comment": "mine"})
    assert job.update(tags=["new"], queue="short", priority=-3, start_in="1h").done
    info = client.job(job.id).info
    assert (info.tags, info.meta, info.queue, info.priority) == (["new"], {"a": 1}, "short", -3)
    assert info.spec["comment"].startswith("mine hpcjobs:")
    assert client.run(client.service.release(job.id)).state in {JobState.QUEUED, JobState.PENDING}
    until(lambda: "BeginTime" in job.refresh().info.reason, timeout=TIMEOUT)
    assert client.run(client.service.hold(job.id)).reason.startswith("waits: it is held")
    assert job.update(start_at=None).done
    client.run(client.service.release(job.id))
    assert job.wait(TIMEOUT).state is JobState.FINISHED
    with pytest.raises(Conflict, match="FINISHED"):
        client.run(client.service.hold(job.id))
    with pytest.raises(Conflict):
        job.update(tags=["late"])
    for changes, says in (({"priority": 5}, "operators"), ({"command": "false"}, "command"), ({"name": "x"}, "name")):
        other = client.submit("true", options={"hold": True})
        with pytest.raises(Conflict, match=says):
            other.update(**changes)
        other.cancel()


def test_a_version_that_cannot_requeue_says_what_to_do(client: Any) -> None:
    job = client.submit("true")
    job.wait(TIMEOUT)
    with pytest.raises(Unsupported):
        job.retry()


# Exactly once


def test_a_submission_whose_answer_is_lost_is_found_by_its_key(
    connect: Connect, slurm: SlurmCluster, name: str
) -> None:
    proxy = Proxy(slurm.url)
    try:
        client = connect(slurm, url=proxy.url)
        with proxy.losing(lambda seen: seen.path.endswith("/job/submit")):
            job = client.submit("true", name=name, key=name)
        assert connect(slurm).submit("true", name=name, key=name).id == job.id
        with pytest.raises(Conflict, match=name):
            connect(slurm).submit("false", name=name, key=name)
        assert [found.id for found in client.jobs(name=name)] == [job.id]
        assert len(proxy.seen(lambda seen: seen.path.endswith("/job/submit"))) == 1
    finally:
        proxy.close()


# Looking at many


def test_many_are_asked_for_by_a_list_only_if_anything_changed(connect: Connect, slurm: SlurmCluster) -> None:
    proxy = Proxy(slurm.url)
    try:
        client = connect(slurm, url=proxy.url)
        client.submit("true", start_in="3h").cancel(confirm=TIMEOUT)  # its hour is in the future, and none of Slurm's
        array = client.submit("true", options={"array": "0-2", "hold": True})
        ids = [client.submit("true", options={"hold": True}).id for _ in range(60)]
        before = len(proxy.seen(lambda seen: seen.method == "GET"))
        results = client.cancel_many(ids, confirm=TIMEOUT)
        assert [result.outcome for result in results] == [CancelOutcome.CANCELLED] * 60
        assert len(proxy.seen(lambda seen: seen.method == "GET")) - before < 60
        assert array.cancel(confirm=TIMEOUT).confirmed

        def spared() -> bool:
            list(client.jobs(limit=1))
            return any("update_time" in seen.path for seen in proxy.seen(lambda seen: "/jobs" in seen.path))

        until(spared, timeout=TIMEOUT, what="a question whether anything changed")
        seen = client.submit("true", options={"hold": True})  # and what changes is not missed
        until(lambda: seen.id in {job.id for job in client.jobs(limit=5)}, timeout=TIMEOUT)
        seen.cancel()
    finally:
        proxy.close()


# Tokens


def test_a_token_is_renewed_before_it_ends_and_when_it_is_refused(connect: Connect, slurm: SlurmCluster) -> None:
    good, short = slurm.token(), slurm.token(lifespan=3)
    for first in (short, good[:-4] + "AAAA"):
        calls: list[str] = []

        def token(first: str = first, calls: list[str] = calls) -> str:
            calls.append("")
            return first if len(calls) == 1 else f"SLURM_JWT={good}\n"  # as scontrol prints it

        client = connect(slurm, token=token)
        if first is short:
            client.submit("true")
            time.sleep(3)  # nothing tells that a token has ended but the clock
        job = client.submit("true")
        assert job.wait(TIMEOUT).state is JobState.FINISHED
        assert len(calls) == 2
        assert [one.id for one in client.jobs(limit=1)] == [job.id]


def test_a_token_that_cannot_be_renewed_is_said_to_be_no_good(connect: Connect, slurm: SlurmCluster) -> None:
    client = connect(slurm, token=slurm.token()[:-4] + "AAAA")
    for call in (lambda: client.submit("true"), lambda: client.job("1"), lambda: list(client.jobs())):
        with pytest.raises(AuthenticationError, match="scontrol token"):
            call()


def test_the_environments_token_is_used(connect: Connect, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JWT", slurm.token())
    client = connect(slurm, token=None)
    assert client.submit("true").wait(TIMEOUT).owner == USER


def test_an_operators_token_acts_for_who_is_named(connect: Connect, slurm: SlurmCluster) -> None:
    client = connect(slurm, token=slurm.token("root"), username=USER)
    assert client.submit("true").wait(TIMEOUT).owner == USER


# A unix socket


# the connection that could not be made is left open by httpcore
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_unix_socket_needs_no_token(connect: Connect, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are those of slurmrestd's own user, and start in the present folder."""
    monkeypatch.chdir(slurm.work)
    monkeypatch.setenv("SLURM_JWT", "e30.e30.c2ln")  # is for another place
    client = connect(slurm, url=f"unix://{slurm.socket}", token=None, folder=None)
    job = client.submit("pwd")
    info = job.wait(TIMEOUT)
    assert (info.state, info.owner) == (JobState.FINISHED, slurm.socket.owner())
    assert output(slurm, job) == f"{slurm.work}\n"
    assert job.id in {one.id for one in client.jobs(limit=5)}
    nobody = connect(slurm, url="unix:///no/such/socket", token=None)
    with pytest.raises(NoService, match="unix:/no/such/socket"):
        nobody.job("1")


# Trouble


def test_a_job_that_slurm_forgot_is_not_guessed_to_have_ended_well(connect: Connect, forgetful: SlurmCluster) -> None:
    """Who saw its end knows it still; who did not is told that nobody knows."""
    client, stranger = connect(forgetful), connect(forgetful)
    job = client.submit("exit 4")
    unseen = client.submit("true")
    assert job.wait(TIMEOUT).exit_code == 4
    handle = stranger.job(unseen.id)

    until(lambda: not {job.id, unseen.id} & forgetful.jobs().keys(), timeout=TIMEOUT, what="MinJobAge")
    with pytest.raises(JobNotFound, match="MinJobAge"):
        connect(forgetful).job(job.id)
    assert client.job(job.id).info.exit_code == 4
    if not handle.info.terminal:
        with pytest.raises(JobVanished):
            handle.wait(TIMEOUT)


def test_a_controller_that_is_away_is_a_typed_error_and_waits_go_on(connect: Connect, forgetful: SlurmCluster) -> None:
    client = connect(forgetful, api="v0.0.38")
    job = client.submit("sleep 600")
    is_state(job, JobState.RUNNING)
    # once it has stored a job that came later, it has stored that this one runs
    later = client.submit("true", name=f"later-{uuid.uuid4().hex}", options={"hold": True})
    stored = forgetful.folder / "state" / "job_state"
    until(lambda: stored.exists() and later.name.encode() in stored.read_bytes(), timeout=TIMEOUT, what="its memory")
    forgetful.stop_controller()
    try:
        with pytest.raises(ServiceUnavailable, match="contact") as caught:
            client.submit("true")
        assert not caught.value.may_have_acted
        with pytest.raises(ServiceUnavailable, match="controller"):
            client.job(job.id)
    finally:
        forgetful.start_controller()
    until(lambda: _looks(client, job.id) is not None, timeout=TIMEOUT)
    assert client.job(job.id).state is JobState.RUNNING
    assert [result.confirmed for result in client.cancel_many([job.id, later.id], confirm=TIMEOUT)] == [True, True]


def _looks(client: Any, job_id: str) -> JobInfo | None:
    with contextlib.suppress(ServiceUnavailable, AuthenticationError):
        info: JobInfo = client.job(job_id).info
        return info
    return None
