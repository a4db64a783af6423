"""What happens to jobs when a worker is killed, stopped, cut off or told to go: none lost, none ended twice, nothing left."""

from __future__ import annotations

import asyncio
import collections
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from hpcjobs.actions import CancelOrder
from hpcjobs.lifecycle import JobState
from hpcjobs.models import CancelOutcome, JobFilter, JobInfo, JobSpec
from hpcjobs_server.store import Store
from tests.running import Service, until

ServiceFactory = Callable[..., Service]


def submit(service: Service, commands: Iterable[str], **fields: Any) -> list[str]:
    async def main(store: Store) -> list[str]:
        specs = [JobSpec.parse({"command": command, "grace": 0.5, **fields}) for command in commands]
        return [(await store.submit("tester", spec, actor="tester"))[0].id for spec in specs]

    return service.ask_store(main)


def look(service: Service, ids: Iterable[str]) -> list[JobInfo]:
    return service.ask_store(lambda store: store.get_many(None, list(ids)))


def wait(
    service: Service, ids: Iterable[str], done: Callable[[JobInfo], bool], *, timeout: float = 60
) -> list[JobInfo]:
    """Wait until ``done`` holds for every job."""
    ids = list(ids)

    async def main(store: Store) -> list[JobInfo]:
        end = asyncio.get_running_loop().time() + timeout
        async for _ in store.listen("hpcjobs_events"):
            infos = await store.get_many(None, ids)
            if all(map(done, infos)):
                return infos
            assert asyncio.get_running_loop().time() < end, [(info.state.value, info.reason) for info in infos]
        raise AssertionError("unreachable")

    return service.ask_store(main)


def terminal(info: JobInfo) -> bool:
    return info.terminal


def running(info: JobInfo) -> bool:
    return info.state is JobState.RUNNING


def marked(service: Service, ids: Iterable[str]) -> list[psutil.Process]:
    """The processes of these jobs."""
    wanted = set(ids)
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HPCJOBS_JOB_ID") in wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def ends(service: Service, ids: Iterable[str]) -> collections.Counter[str]:
    """How often each job was ended, from the history."""
    rows = service.ask_store(
        lambda store: store.all(
            "SELECT job_id::text AS job FROM events WHERE state IN ('FINISHED', 'FAILED', 'CANCELLED') AND job_id = ANY(%s::uuid[])",
            [list(ids)],
        )
    )
    return collections.Counter(row["job"] for row in rows)


def test_a_killed_worker_loses_no_job_ends_none_twice_and_leaves_no_process(service_factory: ServiceFactory) -> None:
    service = service_factory(workers=2, cores=3, lease=1.5)
    ids = submit(service, ["(setsid sleep 0.8 &); sleep 0.8"] * 24)
    until(lambda: sum(running(info) for info in look(service, ids)) >= 4, what="four running jobs")
    victim = service.workers[0].pid
    service.kill_worker(victim)
    service.start_worker()
    infos = wait(service, ids, terminal)
    assert {info.state for info in infos} == {JobState.FINISHED}
    assert set(ends(service, ids).values()) == {1}
    assert any(info.attempt == 2 for info in infos), "the killed worker's jobs ran again"
    until(lambda: not marked(service, ids), timeout=5, what="the end of all processes")


def test_a_worker_that_stood_still_ends_what_was_taken_from_it_and_reports_nothing_of_it(
    service_factory: ServiceFactory,
) -> None:
    """The shims end the jobs before another worker may take them, so that no two attempts overlap."""
    service = service_factory(workers=1, cores=2, lease=1.5)
    log = service.data / "overlap"
    command = f'echo "start $HPCJOBS_ATTEMPT" >> {log}; trap "echo end $HPCJOBS_ATTEMPT >> {log}; exit 1" TERM; sleep 3 & wait; echo "end $HPCJOBS_ATTEMPT" >> {log}'
    [job] = submit(service, [command])
    wait(service, [job], running)
    until(lambda: log.exists() and "start" in log.read_text(), what="the job's first line")
    service.signal_worker(signal.SIGSTOP)
    still = service.workers[0].pid
    service.start_worker()
    [info] = wait(service, [job], lambda info: info.attempt == 2 and running(info), timeout=30)
    service.signal_worker(signal.SIGCONT, still)
    [info] = wait(service, [job], terminal)
    assert (info.state, info.attempt) == (JobState.FINISHED, 2)
    assert log.read_text().split("\n")[:4] == ["start 1", "end 1", "start 2", "end 2"]
    assert ends(service, [job])[job] == 1


def test_a_draining_worker_takes_nothing_new_lets_jobs_end_and_still_obeys_a_cancel(service: Service) -> None:
    going, stopped = submit(service, ["sleep 1.5", "sleep 60"])
    wait(service, [going, stopped], running)
    service.signal_worker(signal.SIGTERM)
    [queued] = submit(service, ["true"])
    service.ask_store(lambda store: store.cancel(None, CancelOrder(ids=[stopped], reason="late"), actor="tester"))
    [info] = wait(service, [stopped], terminal, timeout=1.5)
    assert (info.state, info.reason) == (JobState.CANCELLED, "late")
    assert service.workers[0].wait(20) == 0
    service.workers.clear()
    states = {info.id: info.state for info in look(service, [going, queued])}
    assert states == {going: JobState.FINISHED, queued: JobState.QUEUED}
    service.start_worker()
    wait(service, [queued], terminal)


def test_sigint_aborts_the_workers_jobs_and_says_so(service: Service) -> None:
    ids = submit(service, ["sleep 60", "trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done"])
    wait(service, ids, running)
    polite = service.settings.job_folder(ids[1], 1) / "stdout"
    until(lambda: polite.exists() and polite.read_text() == "up\n", what="the polite job's handler")
    assert service.abort_worker() == 0
    infos = {info.id: info for info in look(service, ids)}
    assert (infos[ids[0]].state, infos[ids[0]].reason) == (JobState.CANCELLED, "the service was stopped")
    assert infos[ids[1]].state is JobState.FINISHED
    assert not marked(service, ids)


def test_a_second_sigint_kills_jobs_that_do_not_stop(service: Service) -> None:
    [job] = submit(service, ["trap '' TERM; echo up; while true; do sleep 0.1; done"], grace=600)
    log = service.settings.job_folder(job, 1) / "stdout"
    until(lambda: log.exists() and log.read_text() == "up\n", what="the stubborn job's handler")
    service.signal_worker(signal.SIGINT)
    wait(service, [job], running, timeout=5)
    service.signal_worker(signal.SIGINT)
    [info] = wait(service, [job], terminal, timeout=15)
    assert (info.state, info.reason) == (JobState.CANCELLED, "the service was stopped")
    assert service.workers[0].wait(10) == 0
    service.workers.clear()
    assert not marked(service, [job])


def test_what_a_job_says_cannot_hurt_its_worker_or_other_jobs(service: Service) -> None:
    """A NUL or half a character in a message is stored as well as can be, and everybody else's job goes on."""
    script = 'python -c "from hpcjobs import runtime; {}"'
    worker = service.workers[0].pid
    hostile = submit(
        service,
        [
            script.format("raise runtime.JobAborted('bad name ' + chr(0))"),
            script.format("raise runtime.JobAborted('bad name ' + chr(0xdcff))"),
            """echo '{"done": 1, "message": "a\\udcff"}' >> $HPCJOBS_PROGRESS_FILE; sleep 0.6""",
            """echo '{"done": 1, "message": "a\\u0000"}' >> $HPCJOBS_PROGRESS_FILE; sleep 0.6""",
            "mkdir $HPCJOBS_PROGRESS_FILE; sleep 0.6",
        ],
    )
    [bystander] = submit(service, ["sleep 0.1"])
    states = {info.id: info for info in wait(service, [*hostile, bystander], terminal, timeout=30)}
    assert states[bystander].state is JobState.FINISHED
    assert [states[job].state.value for job in hostile] == ["CANCELLED"] * 2 + ["FINISHED"] * 3
    assert {info.attempt for info in states.values()} == {1}
    assert (states[hostile[0]].reason or "").startswith("bad name")
    assert service.workers[0].pid == worker
    assert service.workers[0].poll() is None


def test_cores_are_never_given_twice_and_a_wide_job_is_not_starved(service_factory: ServiceFactory) -> None:
    service = service_factory(cores=2)
    now = service.data / "now"
    now.mkdir()
    log = service.data / "sums"
    # each job stands for its cores by files, and writes down how many are in use while it runs
    command = f"for i in $(seq $HPCJOBS_CORES); do touch {now}/$HPCJOBS_JOB_ID-$i; done; ls {now} | wc -l >> {log}; sleep 0.05; rm {now}/$HPCJOBS_JOB_ID-*"
    ids = submit(service, [command] * 12)
    wide = submit(service, [command] * 3, cores=2, priority=5)
    wait(service, ids + wide, terminal)
    assert {info.state for info in look(service, ids + wide)} == {JobState.FINISHED}
    assert max(int(line) for line in log.read_text().split()) == 2


def test_the_higher_priority_goes_first_and_else_the_older(service_factory: ServiceFactory) -> None:
    service = service_factory(cores=1)
    [blocker] = submit(service, ["sleep 0.7"])
    wait(service, [blocker], running)
    low = submit(service, ["true"] * 3, priority=-1)
    usual = submit(service, ["true"] * 3)
    high = submit(service, ["true"] * 3, priority=9)
    infos = {info.id: info for info in wait(service, low + usual + high, terminal)}
    order = sorted(infos, key=lambda job: infos[job].started_at or 0)
    assert order == high + usual + low


def test_postgres_gone_and_back_loses_no_job_and_no_result(service_factory: ServiceFactory) -> None:
    service = service_factory(own_postgres=True, lease=2.0)
    long, short = submit(service, ["sleep 6", "sleep 1; echo done"])
    wait(service, [long, short], running)
    worker = service.workers[0].pid
    service.stop_postgres()
    short_log = service.settings.job_folder(short, 1) / "stdout"
    until(lambda: short_log.read_text() == "done\n", what="the end of the short job while Postgres is away")
    with service.http() as http:
        answer = http.get(f"/v1/jobs/{short}")
        assert answer.status_code == 503
        assert answer.json()["code"] == "database"
    # longer than the lease: nobody may be reaped for it
    until(lambda: _age(short_log) > 3, what="an outage that is longer than the lease")
    service.start_postgres()
    infos = wait(service, [long, short], terminal)
    assert {info.state for info in infos} == {JobState.FINISHED}
    assert {info.attempt for info in infos} == {1}
    assert service.workers[0].pid == worker
    [after] = submit(service, ["true"])
    wait(service, [after], terminal, timeout=15)


def _age(path: Path) -> float:
    import time

    return time.time() - path.stat().st_mtime


def test_a_killed_api_is_not_felt_by_jobs_and_works_again_on_its_port(service: Service) -> None:
    [job] = submit(service, ["sleep 1; echo done"])
    wait(service, [job], running)
    service.kill_api()
    [info] = wait(service, [job], terminal)
    assert (info.state, info.attempt) == (JobState.FINISHED, 1)
    url = service.url
    service.start_api()
    assert service.url == url
    with service.http() as http:
        assert http.get(f"/v1/jobs/{job}").json()["state"] == "FINISHED"


def test_a_job_whose_ticket_was_lost_runs_all_the_same(service_factory: ServiceFactory) -> None:
    service = service_factory(workers=0, lease=1.0)
    [job] = submit(service, ["true"])
    service.ask_store(lambda store: store.all("DELETE FROM procrastinate_jobs RETURNING id"))
    service.start_worker()
    wait(service, [job], terminal, timeout=20)


def test_a_worker_that_cannot_listen_polls(service_factory: ServiceFactory) -> None:
    service = service_factory(listen=False, poll=0.2)
    done, stopped = submit(service, ["true", "sleep 60"])
    wait(service, [done], terminal)
    wait(service, [stopped], running)
    service.ask_store(lambda store: store.cancel(None, CancelOrder(ids=[stopped]), actor="tester"))
    [info] = wait(service, [stopped], terminal, timeout=10)
    assert info.reason == "cancelled by tester"


def test_cancel_against_pick_up_a_thousand_times_never_contradicts_itself(service_factory: ServiceFactory) -> None:
    """CANCELLED means that the job never ran; CANCEL_REQUESTED and ALREADY_TERMINAL mean that it had been taken."""
    service = service_factory(workers=2, cores=4)
    count = 1000
    trace = service.data / "ran"
    trace.mkdir()

    async def race(store: Store) -> list[tuple[str, CancelOutcome]]:
        answers: list[tuple[str, CancelOutcome]] = []
        limit = asyncio.Semaphore(3)

        async def one(turn: int) -> None:
            async with limit:
                spec = JobSpec(command=f"touch {trace}/$HPCJOBS_JOB_ID; sleep 5", grace=1)
                info, _ = await store.submit("tester", spec, actor="tester")
                await asyncio.sleep((turn % 20) * 0.001)  # from before the pick-up to after it
                [result] = (await store.cancel(None, CancelOrder(ids=[info.id]), actor="tester")).results
                answers.append((info.id, result.outcome))

        await asyncio.gather(*(one(turn) for turn in range(count)))
        return answers

    answers = service.ask_store(race)
    infos = {info.id: info for info in wait(service, [job for job, _ in answers], terminal, timeout=120)}
    assert len(infos) == count
    ran = {path.name for path in trace.iterdir()}
    seen = collections.Counter(outcome for _, outcome in answers)
    assert set(seen) <= {CancelOutcome.CANCELLED, CancelOutcome.CANCEL_REQUESTED}
    assert len(seen) == 2, f"the race was one-sided: {seen}"
    for job, outcome in answers:
        info = infos[job]
        assert info.state is JobState.CANCELLED
        if outcome is CancelOutcome.CANCELLED:
            assert (info.attempt, job in ran) == (0, False)
        else:
            assert info.attempt == 1
    assert set(ends(service, infos).values()) == {1}
    assert not marked(service, infos)
    page = service.ask_store(lambda store: store.list(None, JobFilter(state=[JobState.RUNNING]), limit=1, cursor=None))
    assert page.items == []
