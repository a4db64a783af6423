"""What squeue says is understood, what is asked of sbatch is checked, and one look serves all that is watched."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobSpec
from hpcjobs_server.executors import on_node, slurm, slurm_watch
from hpcjobs_server.executors.base import Cause, Ended
from hpcjobs_server.executors.slurm import SlurmExecution, SlurmExecutor, node_folder
from hpcjobs_server.executors.slurm_commands import SlurmAway, SlurmCommands, SlurmRefused, environment
from hpcjobs_server.executors.slurm_options import arguments, check
from hpcjobs_server.executors.slurm_records import ENDS, STATES, Row, accounted, parse, verdict
from hpcjobs_server.runner import outcome
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Claim

pytestmark = pytest.mark.anyio

KEY = "hpcjobs:1b4e28ba-2fa1-11d2-883f-0016d3cca427:1"


def line(job: str, state: str, code: str, start: str, host: str, comment: str, reason: str) -> bytes:
    """A line as squeue 22.05 prints it for the executor's format: cut and filled by bytes."""
    fields = zip((job, state, code, start, host, comment, reason), (20, 24, 16, 24, 64, 64, 80), strict=True)
    return b"".join(text.encode()[:width].ljust(width) for text, width in fields) + b"\n"


class TestRecords:
    def test_a_recorded_answer_is_read_whatever_stands_in_the_texts(self) -> None:
        told = b"".join(
            [
                line("17", "PENDING", "0", "N/A", "n/a", KEY, "Nodes required for job are DOWN, DRAINED or reserved"),
                line("16", "RUNNING", "0", "2026-11-26T13:46:09", "n1", "", "None"),
                line("15", "FAILED", "1280", "2026-11-26T13:46:09", "n1", "grüße | an alle, " * 9, "NonZeroExitCode"),
                line("14", "CANCELLED", "0:15", "2026-11-26T13:46:09", "n/a", KEY, "None"),
                b"slurm_load_jobs: some notice\n",
                b"\xff\xfe\n",
                b"\n",
            ]
        )
        waits, runs, failed, cancelled = parse(told)
        assert (waits.job, waits.key, waits.started_at, waits.host) == ("17", KEY, None, None)
        assert "drained or reserved (Nodes required" in waits.waiting
        assert runs == Row(
            "16", "RUNNING", 0, dt.datetime(2026, 11, 26, 13, 46, 9, tzinfo=dt.timezone.utc), "n1", "", "None"
        )
        assert (failed.code, failed.host, failed.reason) == (5 << 8, "n1", "NonZeroExitCode")
        assert (cancelled.code, cancelled.ran, cancelled.ended) == (15, False, True)

    def test_every_word_that_a_job_can_have_is_a_state_or_an_end(self) -> None:
        words = """PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE
            OUT_OF_MEMORY CONFIGURING COMPLETING REQUEUED REQUEUE_HOLD SPECIAL_EXIT STOPPED RESIZING SIGNALING
            STAGE_OUT POWER_UP_NODE"""
        assert set(words.split()) <= STATES.keys() | ENDS
        assert not STATES.keys() & ENDS

    @pytest.mark.parametrize(
        ("row", "told", "asked", "state", "reason"),
        [
            (Row("7", "COMPLETED"), Ended(exit_code=0), False, "FINISHED", None),
            (Row("7", "COMPLETED"), None, False, "FINISHED", None),
            (Row("7", "FAILED", 3 << 8), Ended(exit_code=3), False, "FAILED", "exit code 3"),
            (Row("7", "FAILED", 3 << 8), None, False, "FAILED", "exit code 3"),
            (Row("7", "FAILED", 11), None, False, "FAILED", "killed by SIGSEGV"),
            (Row("7", "FAILED", 9), None, True, "CANCELLED", "why"),
            (Row("7", "FAILED", 53, host="n1"), None, False, "FAILED", "file system that all nodes share"),
            (Row("7", "TIMEOUT", 15), Ended(signal=15, aborted=True), False, "FAILED", "its walltime was over"),
            (Row("7", "TIMEOUT", 15), None, False, "FAILED", "its walltime was over"),
            (Row("7", "OUT_OF_MEMORY", 9), Ended(signal=9), False, "FAILED", "out of memory"),
            (Row("7", "NODE_FAIL"), None, False, "FAILED", "a node that it ran on failed"),
            (Row("7", "PREEMPTED", 15), Ended(signal=15, aborted=True), False, "FAILED", "preempted"),
            (Row("7", "BOOT_FAIL"), None, False, "FAILED", "could not be started"),
            (Row("7", "DEADLINE"), None, False, "FAILED", "deadline"),
            (Row("7", "NODE_FAIL"), Ended(exit_code=0), False, "FINISHED", None),
            (Row("7", "CANCELLED", 15), Ended(signal=15, aborted=True), True, "CANCELLED", "why"),
            (Row("7", "CANCELLED", 15), Ended(exit_code=0), True, "FINISHED", None),
            (Row("7", "CANCELLED"), None, False, "CANCELLED", "from outside the service"),
        ],
    )
    def test_what_an_end_means(self, row: Row, told: Ended | None, asked: bool, state: str, reason: str | None) -> None:
        by_itself = told is not None and not told.aborted
        ended = verdict(row, told, by_itself=by_itself, asked=asked)
        found, why = outcome(ended, Cause.CANCEL if asked else None, "why")
        assert found.value == state
        assert (why is None) == (reason is None)
        assert reason is None or reason in (why or "")

    def test_a_job_that_never_came_to_its_shim_has_the_last_words_of_its_log(self) -> None:
        row = Row("7", "FAILED", 127 << 8, host="n1")
        ended = verdict(row, None, by_itself=False, asked=False, heard="there is no Python 3.7 or newer on n1")
        assert ended.problem == "it could not be started on n1: there is no Python 3.7 or newer on n1"

    def test_the_books_say_how_a_job_ended_that_is_forgotten(self) -> None:
        row = accounted("FAILED|3:0|n[1-2]\n", "9")
        assert row is not None
        assert (row.state, row.code, row.host) == ("FAILED", 3 << 8, "n[1-2]")
        assert accounted("", "9") is None
        assert accounted("RUNNING|0:0|n1\n", "9") is None


class TestOptions:
    def test_what_a_job_asks_for_becomes_arguments_and_its_options_win(self) -> None:
        spec = JobSpec.parse(
            {
                "command": "x",
                "cores": 8,
                "memory": "1GiB",
                "walltime": "61s",
                "options": {"nodes": 2, "partition": "long", "exclusive": True, "overcommit": False},
            }
        )
        assert arguments(spec, ["partition=short", "qos=low"]) == [
            "--partition=long", "--qos=low", "--nodes=2", "--exclusive", "--ntasks=8", "--mem=512M", "--time=2",
        ]  # fmt: skip

    def test_the_words_of_an_app_are_not_for_sbatch(self) -> None:
        spec = JobSpec(app="an-app", options={"nodeCount": 2})
        assert arguments(spec, ["qos=low"]) == ["--qos=low", "--ntasks=1", "--cpus-per-task=1"]

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"output": "/etc/passwd"}, "set by the service"),
            ({"outp": "/etc/passwd"}, "set by the service"),  # sbatch would take it for --output
            ({"uid": "root"}, "set by the service"),
            ({"exp": "ALL"}, "give env="),
            ({"time": 5}, "give walltime="),
            ({"partition": "short\n--uid=0"}, "one line"),
            ({"partition": ""}, "one line"),
            ({"partition": ["a"]}, "must be a text"),
            ({"partition": None}, "must be a text"),
            ({"-p": "short"}, "long name"),
            ({"a b": "short"}, "long name"),
            ({"x" * 65: "short"}, "long name"),
        ],
    )
    def test_what_cannot_be_is_refused_with_what_to_do(self, options: dict[str, Any], why: str) -> None:
        [(name, said)] = check(options)
        assert name in options
        assert why in said

    def test_an_operators_option_is_checked_as_a_jobs_is(self) -> None:
        assert Settings(slurm_options=["partition=short", "exclusive"]).slurm_options == [
            "partition=short",
            "exclusive",
        ]
        with pytest.raises(ValueError, match="give walltime="):
            Settings(slurm_options=["time=5"])


class TestCommands:
    def test_what_the_server_itself_was_started_in_is_not_seen(self) -> None:
        seen = environment(
            {
                "SLURM_JOB_ID": "1",
                "SBATCH_QOS": "x",
                "SQUEUE_FORMAT": "x",
                "PMI_RANK": "1",
                "HPCJOBS_SERVER_X": "secret",
            }
        )
        assert seen == {"LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "standard"}

    @pytest.mark.parametrize(
        ("script", "result"),
        [
            ("echo 12", "12"),
            ("echo '12;north'", "12"),
            ("echo 'sbatch: a notice of the site' >&2; echo 12", "12"),
            ("exit 0", SlurmAway),
            ("echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1", SlurmRefused),
            ("echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1", SlurmAway),
            ("echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1", SlurmAway),
            ("echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1", SlurmAway),
            ("kill -9 $$", SlurmAway),
        ],
    )
    async def test_an_answer_of_sbatch_is_a_job_a_refusal_or_a_doubt(
        self, script: str, result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = tmp_path / "sbatch"
        fake.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        commands = SlurmCommands()
        if isinstance(result, str):
            assert await commands.submit("#!/bin/sh\n", []) == result
        else:
            with pytest.raises(result):
                await commands.submit("#!/bin/sh\n", [])


class Cluster:
    """Stands in for Slurm's commands: what is in it is said, and what it is told is noted."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.orders: list[tuple[str, tuple[str, ...]]] = []
        self.submits: list[Any] = []
        self.submitted: list[Sequence[str]] = []
        self.looks = 0
        self.looked = asyncio.Condition()
        self.away = False

    async def list(self) -> list[Row]:
        self.looks += 1
        async with self.looked:
            self.looked.notify_all()
        if self.away:
            raise SlurmAway("Unable to contact slurm controller")
        return list(self.rows.values())

    async def order(self, kind: str, jobs: Sequence[str]) -> None:
        self.orders.append((kind, tuple(jobs)))
        for job in jobs:
            if kind == "hold" and self.rows[job].state == "PENDING":
                self.put(job, "PENDING", reason="JobHeldUser")
            elif kind in {"cancel", "drop"} and self.rows[job].state == "PENDING":
                self.put(job, "CANCELLED")

    async def submit(self, script: str, asked: Sequence[str]) -> str:
        self.submitted.append(asked)
        said = self.submits.pop(0) if self.submits else str(100 + len(self.submitted))
        if isinstance(said, Exception):
            raise said
        self.put(said, "PENDING", key=next(one for one in asked if one.startswith("--comment="))[10:])
        return str(said)

    async def account(self, job: str) -> Row | None:
        return None

    def put(self, job: str, state: str, **fields: Any) -> None:
        row = self.rows.get(job, Row(job, state))
        self.rows[job] = dataclasses.replace(row, state=state, **fields)

    async def next_look(self) -> None:
        """The second look from now: the first may be under way."""
        for _ in range(2):
            async with self.looked:
                await asyncio.wait_for(self.looked.wait(), 10)


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def executor(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlurmExecutor]:
    for name, quick in {"_LATE_FILE": 0.1, "_VANISHED": 0.1, "_AGAIN": 0.0, "_LONGEST_PAUSE": 0.05}.items():
        monkeypatch.setattr(slurm, name, quick)
    for name, quick in {"_SLOWEST": 0.05, "_SILENT": 0.0}.items():
        monkeypatch.setattr(slurm_watch, name, quick)
    executor = SlurmExecutor(Settings(data=tmp_path / "data", slurm_interval=0.02))
    executor.commands = cluster  # type: ignore[assignment]
    executor.watcher = slurm_watch.Watcher(cluster, 0.02)
    yield executor
    await executor.close()


async def handed(executor: SlurmExecutor, *, start: bool = True, **claim: Any) -> SlurmExecution:
    spec = JobSpec.parse({"command": "true", "grace": 0})
    execution = executor.execution(Claim(KEY.split(":")[1], 1, "me", spec, **claim))
    await execution.prepare()
    if start:
        await execution.start()
    return execution


async def until_moved(execution: SlurmExecution, state: JobState, words: str = "") -> None:
    with anyio.fail_after(10):
        while True:
            move = execution.moved()
            if move is not None and move.state is state and words in (move.reason or ""):
                return
            await asyncio.sleep(0.01)


class TestWatching:
    async def test_one_look_serves_all_and_a_job_is_where_slurm_says(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        [job] = cluster.rows
        cluster.put(job, "PENDING", reason="Priority")
        await until_moved(execution, JobState.QUEUED, f"Slurm job {job} waits: other jobs come first (Priority)")
        for word, state in {"CONFIGURING": "STAGING", "RUNNING": "RUNNING", "SUSPENDED": "PAUSED"}.items():
            cluster.put(job, word, host="n1")
            await until_moved(execution, JobState(state))
        cluster.put(job, "A_NEW_WORD")
        await cluster.next_look()
        assert not execution._ended.done()
        cluster.put(job, "COMPLETED")
        assert (await execution.wait()).exit_code == 0

    async def test_a_word_of_sbatch_that_is_no_answer_is_followed_by_a_search_and_not_by_a_second_job(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        cluster.submits = [SlurmAway("Socket timed out")]
        execution = await handed(executor, start=False)
        cluster.put("7", "PENDING", key=KEY)  # it got through nevertheless
        await execution.start()
        assert (execution.job, len(cluster.submitted)) == ("7", 1)

    async def test_nothing_is_submitted_again_while_nobody_can_say_whether_it_was(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        cluster.submits, cluster.away = [SlurmAway("Socket timed out")], True
        execution = await handed(executor, start=False)
        starting = asyncio.create_task(execution.start())
        await until_moved(execution, JobState.QUEUED, "Slurm does not take it at present")
        await cluster.next_look()
        assert len(cluster.submitted) == 1
        cluster.away = False
        await asyncio.wait_for(starting, 10)
        assert len(cluster.submitted) == 2

    async def test_an_attempt_of_another_worker_is_looked_for_before_it_is_submitted(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        cluster.put("7", "RUNNING", key=KEY, host="n1")
        execution = await handed(executor, adopted=True)
        assert (execution.job, cluster.submitted) == ("7", [])

    async def test_of_two_jobs_for_one_attempt_the_one_counts_that_runs_it(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        [job] = cluster.rows
        cluster.put("207", "RUNNING", key=KEY, host="n1")
        (execution.place.folder / on_node.CLAIMED).write_text("207")
        await until_moved(execution, JobState.RUNNING)
        assert execution.job == "207"
        assert ("drop", (job,)) in cluster.orders
        assert all("207" not in jobs for _, jobs in cluster.orders)

    async def test_a_number_that_was_given_twice_is_not_taken_for_the_job(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        [job] = cluster.rows
        cluster.put(job, "RUNNING", key="hpcjobs:another:1", host="n1")
        ended = await asyncio.wait_for(execution.wait(), 10)
        assert ended.problem == f"Slurm does not know its job {job} any more, and it never started"
        assert cluster.orders == []

    async def test_a_forgotten_job_has_ended_as_its_files_say(self, executor: SlurmExecutor, cluster: Cluster) -> None:
        execution = await handed(executor)
        said = '{"event": "ended", "status": 768, "cause": null, "left": false, "cpu": 1.5, "memory": 10}\n'
        (execution.place.folder / on_node.STATUS).write_text(said)
        cluster.rows.clear()
        ended = await asyncio.wait_for(execution.wait(), 10)
        assert (ended.exit_code, ended.cpu_seconds) == (3, 1.5)

    async def test_while_slurm_is_silent_a_job_stays_where_it_was_and_says_so(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        [job] = cluster.rows
        cluster.put(job, "RUNNING", host="n1")
        await until_moved(execution, JobState.RUNNING)
        cluster.away = True
        await until_moved(execution, JobState.RUNNING, "Slurm has not answered since")
        cluster.away = False
        await until_moved(execution, JobState.RUNNING)
        cluster.put(job, "COMPLETED")
        assert (await execution.wait()).exit_code == 0

    async def test_a_worker_that_leaves_tells_slurm_nothing(self, executor: SlurmExecutor, cluster: Cluster) -> None:
        execution = await handed(executor)
        execution.leave()
        assert (await execution.wait()).left
        assert cluster.orders == []
        assert cluster.rows[execution.job or ""].state == "PENDING"

    async def test_what_is_only_to_be_cancelled_if_it_has_not_started_is_held_first(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        execution.abort(gently=True)
        assert (await asyncio.wait_for(execution.wait(), 10)).aborted
        assert [kind for kind, _ in cluster.orders[:2]] == ["hold", "cancel"]

    async def test_what_has_started_is_spared_and_the_worker_told(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        execution = await handed(executor)
        cluster.put(execution.job or "", "RUNNING", host="n1")
        execution.abort(gently=True)
        await cluster.next_look()
        move = execution.moved()
        assert move is not None
        assert (move.state, move.spared) == (JobState.RUNNING, True)
        assert not [kind for kind, _ in cluster.orders if kind != "hold"]

    async def test_a_job_that_hears_nothing_is_ended_by_slurm_after_its_grace_time(
        self, executor: SlurmExecutor, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slurm, "_SPARE", 0.05)
        execution = await handed(executor)
        cluster.put(execution.job or "", "RUNNING", host="n1")
        execution.abort()
        while not any(kind == "cancel" for kind, _ in cluster.orders):
            await cluster.next_look()
        assert cluster.orders[0][0] == "term"
        execution.kill()
        while cluster.orders[-1][0] != "kill":
            await cluster.next_look()

    async def test_a_job_that_has_not_started_by_its_expiry_fails_with_that(
        self, executor: SlurmExecutor, cluster: Cluster
    ) -> None:
        past = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=1)
        execution = await handed(executor, adopted=True, cluster_job="7", start=False, expires_at=past)
        cluster.put("7", "PENDING", key=KEY)
        await execution.start()
        assert (await asyncio.wait_for(execution.wait(), 10)).problem == "it had not started by its expiry"

    async def test_what_slurm_refuses_fails_with_its_words(self, executor: SlurmExecutor, cluster: Cluster) -> None:
        cluster.submits = [SlurmRefused("Invalid account")]
        execution = await handed(executor)
        assert (await execution.wait()).problem == "Slurm refused it: Invalid account"


class TestOnTheNode:
    def test_only_the_first_job_of_an_attempt_runs_it(self, tmp_path: Path) -> None:
        assert [on_node.claim(tmp_path, job) for job in ("7", "8", "7")] == [True, False, True]
        assert [path.name for path in tmp_path.iterdir()] == ["claimed"]

    def test_a_job_sees_its_node_and_not_how_it_was_submitted(self) -> None:
        order = {"env": {"PYTHONPATH": "/ours", "A": "1"}, "front": "/venv/bin", "python_path": False}
        node = {"PATH": "/bin", "PYTHONPATH": "/site", "SLURM_EXPORT_ENV": "NONE", "SLURM_JOB_ID": "7", "A": "0"}
        assert on_node.environment(order, node) == {
            "PATH": "/venv/bin:/bin", "PYTHONPATH": "/site:/ours", "SLURM_JOB_ID": "7", "A": "1",
        }  # fmt: skip

    def test_what_a_node_needs_is_put_beside_the_data_once(self, tmp_path: Path) -> None:
        folder = node_folder(tmp_path)
        assert (folder / "runtime/hpcjobs/runtime.py").is_file()
        assert (folder / "shim/hpcjobs_server/executors/on_node.py").is_file()
        assert node_folder(tmp_path) == folder
        assert list(folder.parent.iterdir()) == [folder]
