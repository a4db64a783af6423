"""The local executor and its shim: real processes, and nothing of a job is left when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobSpec
from hpcjobs_server.executors.base import Cause, Ended
from hpcjobs_server.executors.local import LocalExecution, LocalExecutor
from hpcjobs_server.runner import outcome
from hpcjobs_server.settings import Settings
from hpcjobs_server.store import Claim

pytestmark = pytest.mark.anyio

Run = Callable[..., LocalExecution]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", lease=3)


@pytest.fixture
async def executor(settings: Settings) -> AsyncIterator[LocalExecutor]:
    executor = LocalExecutor(settings)
    yield executor
    await executor.close()


@pytest.fixture
def make(executor: LocalExecutor) -> Run:
    def make(command: str | list[str], **fields: object) -> LocalExecution:
        spec = JobSpec.parse({"command": command, "grace": 1, **fields})
        return executor.execution(Claim(str(uuid.uuid4()), 1, "me", spec))

    return make


async def begin(execution: LocalExecution) -> None:
    await execution.prepare()
    await execution.start()


async def end(execution: LocalExecution, seconds: float = 20) -> Ended:
    return await asyncio.wait_for(execution.wait(), seconds)


async def finished(execution: LocalExecution) -> Ended:
    await begin(execution)
    return await end(execution)


def log(execution: LocalExecution, name: str = "stdout") -> str:
    return (execution.folder / name).read_text()


async def said(execution: LocalExecution, text: str) -> None:
    """Wait until the job has printed ``text``."""
    for _ in range(2000):
        if text in log(execution):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the job never said {text!r}: {log(execution)!r}")


def alive(execution: LocalExecution) -> list[psutil.Process]:
    """Every process that carries the job's mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HPCJOBS_JOB_ID") == execution.claim.job_id and process.status() != "zombie":
                found.append(process)
    return found


class TestEnds:
    async def test_the_exit_code_is_the_programs_own(self, make: Run) -> None:
        assert (await finished(make("exit 7"))).exit_code == 7
        assert (await finished(make(["true"]))).exit_code == 0

    async def test_a_signal_is_told_as_one(self, make: Run) -> None:
        ended = await finished(make("kill -SEGV $$"))
        assert (ended.exit_code, ended.signal) == (None, signal.SIGSEGV)

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            (["no-such-program", "x"], "command not found: no-such-program"),
            (["/no/such/place"], "command not found: /no/such/place"),
            (["/etc/passwd"], "could not be started"),
            (["/tmp"], "could not be started"),
        ],
    )
    async def test_a_program_that_cannot_be_started_says_why(self, make: Run, command: list[str], words: str) -> None:
        ended = await finished(make(command))
        state, reason = outcome(ended, None, None)
        assert state is JobState.FAILED
        assert reason is not None
        assert words in reason

    async def test_a_shell_that_finds_no_command_says_so(self, make: Run) -> None:
        assert outcome(await finished(make("no-such-program")), None, None)[1] == "exit code 127: command not found"

    async def test_walltime_ends_a_job_with_its_children(self, make: Run) -> None:
        execution = make("sleep 70 & sleep 71", walltime="0.3s")
        ended = await finished(execution)
        assert ended.timed_out
        assert outcome(ended, None, None) == (JobState.FAILED, "its walltime was over")
        assert not alive(execution)

    async def test_what_a_finished_job_leaves_in_the_background_goes(self, make: Run) -> None:
        execution = make("sleep 70 & (setsid sleep 71 &) ; exit 0")
        assert (await finished(execution)).exit_code == 0
        assert not alive(execution)


class TestAbort:
    async def test_the_whole_tree_goes_also_what_left_the_session(self, make: Run) -> None:
        execution = make("sleep 70 & (setsid sh -c 'sleep 71 & sleep 72' &) ; setsid -f sleep 73; echo up; sleep 74")
        await begin(execution)
        await said(execution, "up")
        assert len(alive(execution)) >= 4
        execution.abort()
        assert (await end(execution)).aborted
        assert not alive(execution)

    async def test_a_job_that_ignores_sigterm_is_killed_after_the_grace_time(self, make: Run) -> None:
        execution = make("trap '' TERM; echo up; while true; do sleep 0.1; done", grace=0.3)
        await begin(execution)
        await said(execution, "up")
        execution.abort()
        ended = await end(execution)
        assert (ended.aborted, ended.signal) == (True, signal.SIGKILL)
        assert not alive(execution)

    async def test_a_kill_does_not_wait_for_the_grace_time(self, make: Run) -> None:
        execution = make("trap '' TERM; echo up; while true; do sleep 0.1; done", grace=600)
        await begin(execution)
        await said(execution, "up")
        execution.abort()
        execution.kill()
        assert (await end(execution, 10)).signal == signal.SIGKILL
        assert not alive(execution)

    async def test_a_job_that_was_to_stop_and_ended_as_its_worker_stood_still_is_cancelled(self) -> None:
        assert outcome(Ended(signal=15, lost=True), Cause.CANCEL, "why") == (JobState.CANCELLED, "why")

    async def test_a_daemon_that_ignores_sigterm_is_killed_too(self, make: Run) -> None:
        execution = make(
            """setsid sh -c "trap '' TERM; echo up; while true; do sleep 0.1; done" & sleep 70""", grace=0.3
        )
        await begin(execution)
        await said(execution, "up")
        execution.abort()
        await end(execution)
        assert not alive(execution)

    async def test_a_stopped_job_can_be_aborted(self, make: Run) -> None:
        execution = make("echo up; kill -STOP $$; sleep 70", grace=30)
        await begin(execution)
        await said(execution, "up")
        execution.abort()
        assert (await end(execution, 10)).aborted

    async def test_exit_code_0_after_an_abort_means_that_the_job_chose_to_complete(self, make: Run) -> None:
        execution = make("trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done")
        await begin(execution)
        await said(execution, "up")
        execution.abort()
        assert outcome(await end(execution), Cause.CANCEL, "why") == (JobState.FINISHED, None)

    async def test_any_other_end_after_an_abort_is_cancelled_with_the_reason(self, make: Run) -> None:
        for command in ["trap 'exit 3' TERM; echo up; while true; do sleep 0.05; done", "echo up; sleep 70"]:
            execution = make(command)
            await begin(execution)
            await said(execution, "up")
            execution.abort()
            assert outcome(await end(execution), Cause.CANCEL, "why") == (JobState.CANCELLED, "why")

    async def test_an_abort_before_the_start_is_not_lost(self, make: Run) -> None:
        execution = make("sleep 70")
        await execution.prepare()
        execution.abort()
        await execution.start()
        assert (await end(execution)).aborted

    async def test_a_job_that_failed_by_itself_before_the_abort_is_not_called_aborted(self, make: Run) -> None:
        execution = make("exit 4")
        await begin(execution)
        await asyncio.sleep(0)
        ended = await end(execution)
        execution.abort()
        assert (ended.exit_code, ended.aborted) == (4, False)

    async def test_exit_code_0_after_a_jobaborted_of_one_step_is_finished(self, make: Run) -> None:
        execution = make("python -c \"from hpcjobs import runtime; raise runtime.JobAborted('x')\"; exit 0")
        assert outcome(await finished(execution), None, None) == (JobState.FINISHED, None)

    async def test_jobaborted_cancels_from_inside_with_its_message(self, make: Run) -> None:
        execution = make([sys.executable, "-c", "from hpcjobs import runtime; raise runtime.JobAborted('no data')"])
        ended = await finished(execution)
        assert outcome(ended, None, None) == (JobState.CANCELLED, "no data")
        assert "no data" in log(execution)


class TestWorkerLost:
    async def test_the_job_goes_when_the_pipe_from_its_worker_ends(self, make: Run) -> None:
        execution = make("sleep 70 & (setsid sleep 71 &); echo up; sleep 72")
        await begin(execution)
        await said(execution, "up")
        assert execution._control is not None
        os.close(execution._control)
        execution._control = None
        assert (await end(execution)).lost
        assert not alive(execution)

    async def test_the_job_goes_when_its_worker_is_silent_for_too_long(self, tmp_path: Path) -> None:
        executor = LocalExecutor(Settings(data=tmp_path / "data", lease=0.5))
        execution = executor.execution(Claim(str(uuid.uuid4()), 1, "me", JobSpec(command="sleep 70", grace=1)))
        await begin(execution)
        assert (await end(execution, 10)).lost
        await executor.close()

    async def test_pings_keep_it_alive(self, tmp_path: Path) -> None:
        executor = LocalExecutor(Settings(data=tmp_path / "data", lease=1.0))
        execution = executor.execution(Claim(str(uuid.uuid4()), 1, "me", JobSpec(command="sleep 2", grace=1)))
        await begin(execution)
        waiting = asyncio.ensure_future(execution.wait())
        while not waiting.done():
            execution.ping()
            await asyncio.wait({waiting}, timeout=0.1)
        assert waiting.result().exit_code == 0
        await executor.close()

    async def test_a_killed_shim_leaves_no_job_behind(self, make: Run) -> None:
        execution = make("(setsid sleep 71 &); echo up; sleep 72")
        await begin(execution)
        await said(execution, "up")
        [main] = [process for process in alive(execution) if process.pid == execution._pid]
        shim = main.parent()
        assert shim is not None
        shim.kill()
        ended = await end(execution)
        assert ended.problem is not None
        assert "watched the job died" in ended.problem
        for _ in range(100):
            if not alive(execution):
                break
            await asyncio.sleep(0.02)
        assert not alive(execution)

    async def test_a_killed_launcher_is_replaced_and_running_jobs_do_not_feel_it(
        self, make: Run, executor: LocalExecutor
    ) -> None:
        execution = make("echo up; sleep 0.5; echo done")
        await begin(execution)
        await said(execution, "up")
        assert executor._launcher._process is not None
        executor._launcher._process.kill()
        executor._launcher._process.wait()
        assert (await finished(make("exit 3"))).exit_code == 3
        assert (await end(execution)).exit_code == 0


class TestSurroundings:
    async def test_the_servers_secrets_are_not_in_the_jobs_environment(
        self, make: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [
            "SLURM_JWT",
            "HPCJOBS_SERVER_DATABASE_URL",
            "HPCJOBS_TOKEN",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "MY_API_KEY",
        ]:
            monkeypatch.setenv(name, "s3cret")
        execution = make("env; cat /proc/$PPID/environ | tr '\\0' '\\n'")
        await finished(execution)
        assert "s3cret" not in log(execution)

    async def test_a_job_finds_its_id_its_cores_its_own_variables_and_the_workers_python(self, make: Run) -> None:
        execution = make(
            "echo $HPCJOBS_JOB_ID $HPCJOBS_CORES $OMP_NUM_THREADS $MINE; command -v python", cores=3, env={"MINE": "x"}
        )
        await finished(execution)
        words = log(execution).split()
        assert words[:4] == [execution.claim.job_id, "3", "3", "x"]
        assert Path(words[4]).parent == Path(sys.executable).parent

    async def test_no_descriptor_of_the_server_is_open_in_the_job(self, make: Run) -> None:
        execution = make("ls -l /proc/self/fd")
        await finished(execution)
        assert "pipe" not in log(execution)
        assert "socket" not in log(execution)

    async def test_stdout_and_stderr_are_one_log_in_order_or_two_if_asked(self, make: Run) -> None:
        command = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
        merged, separate = make(command), make(command, stderr="separate")
        await finished(merged)
        await finished(separate)
        assert log(merged).split() == ["out1", "err1", "out2", "err2", "out3", "err3"]
        assert log(separate).split() == ["out1", "out2", "out3"]
        assert log(separate, "stderr").split() == ["err1", "err2", "err3"]

    async def test_inputs_are_copies_so_that_a_job_cannot_change_them_for_others(
        self, make: Run, settings: Settings
    ) -> None:
        digest = hashlib.sha256(b"data").hexdigest()
        blob = settings.blob_path("me", digest)
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"data")
        inputs = [
            {"name": "deep/in.txt", "sha256": digest, "size": 4},
            {"name": "run.sh", "sha256": digest, "size": 4, "executable": True},
        ]
        execution = make("echo more >> deep/in.txt; cat deep/in.txt; test -x run.sh", inputs=inputs)
        assert (await finished(execution)).exit_code == 0
        assert log(execution) == "datamore\n"
        assert blob.read_bytes() == b"data"

    async def test_a_missing_input_or_a_full_disk_is_an_oserror_of_prepare(self, make: Run) -> None:
        with pytest.raises(OSError):
            await make("true", inputs=[{"name": "x", "sha256": "0" * 64, "size": 4}]).prepare()

    async def test_a_long_command_arrives_whole(self, make: Run) -> None:
        """Longer than a pipe takes at once."""
        text = "x" * 90_000
        execution = make(["sh", "-c", 'printf %s "$0" | wc -c', text, *["y" * 1000] * 30])
        assert (await finished(execution)).exit_code == 0
        assert log(execution).strip() == "90000"


class TestProgress:
    async def test_reports_are_read_and_bars_only_where_there_are_none(self, make: Run) -> None:
        script = "from hpcjobs import runtime; print(' 90%|#########  | 9/10 [00:01<00:00, 9.9it/s]'); runtime.progress(3, 4, 'm')"
        execution = make([sys.executable, "-c", script])
        await finished(execution)
        progress = execution.progress()
        assert progress is not None
        assert (progress.fraction, progress.message) == (0.75, "m")
        assert execution.progress() is None, "what is not new is not told again"

    async def test_a_bar_of_an_unchanged_script_is_read_from_the_log(self, make: Run) -> None:
        execution = make("printf '\\r 45%%|####      | 45/100 [00:01<00:01, 33.2it/s]' >&2")
        await finished(execution)
        progress = execution.progress()
        assert progress is not None
        assert (progress.done, progress.total) == (45, 100)

    async def test_a_time_that_cannot_be_does_not_spoil_the_report(self, make: Run) -> None:
        execution = make("""echo '{"done": 1, "total": 2, "at": 1e300}' > $HPCJOBS_PROGRESS_FILE""")
        await finished(execution)
        progress = execution.progress()
        assert progress is None or progress.fraction == 0.5

    async def test_junk_and_links_in_the_report_do_no_harm(self, make: Run) -> None:
        for command in [
            "echo junk > $HPCJOBS_PROGRESS_FILE",
            'echo \'{"done": "x"}\' > $HPCJOBS_PROGRESS_FILE',
            "ln -s /etc/passwd $HPCJOBS_PROGRESS_FILE",
            "mkfifo $HPCJOBS_PROGRESS_FILE",
            "mkdir $HPCJOBS_PROGRESS_FILE",
            "head -c 100000 /dev/urandom > $HPCJOBS_PROGRESS_FILE",
            """echo '{"done": NaN}' > $HPCJOBS_PROGRESS_FILE""",
            """python -c "print('[' * 5000)" > $HPCJOBS_PROGRESS_FILE""",
        ]:
            execution = make(command)
            assert (await finished(execution)).exit_code == 0
            assert execution.progress() is None


class TestFullDisk:
    async def test_a_disk_that_fills_up_while_logs_are_written_fails_the_job_and_says_so(self, tmp_path: Path) -> None:
        """On a disk of its own, which is full in no time; the executor goes on and says what it knows."""
        script = tmp_path / "fill.py"
        script.write_text(
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from hpcjobs.models import JobSpec\n"
            "from hpcjobs_server.executors.local import LocalExecutor\n"
            "from hpcjobs_server.runner import outcome\n"
            "from hpcjobs_server.settings import Settings\n"
            "from hpcjobs_server.store import Claim\n"
            "async def main():\n"
            "    executor = LocalExecutor(Settings(data=Path(sys.argv[1])))\n"
            "    for job, command in [('one', 'yes | head -c 9000000'), ('two', 'true')]:\n"
            "        execution = executor.execution(Claim(job, 1, 'me', JobSpec(command=command)))\n"
            "        try:\n"
            "            await execution.prepare()\n"
            "        except OSError as error:\n"
            "            print('prepare:', error.strerror)\n"
            "            break\n"
            "        await execution.start()\n"
            "        print(*outcome(await execution.wait(), None, None))\n"
            "    await executor.close()\n"
            "asyncio.run(main())\n"
        )
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = f'mount -t tmpfs -o size=256k,nr_inodes=20 tmpfs {disk} && exec "$0" "$@"'
        process = await asyncio.create_subprocess_exec(
            *[
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                mount,
                sys.executable,
                str(script),
                str(disk),
            ],
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await asyncio.wait_for(process.communicate(), 60)
        first, second = told.decode().strip().splitlines()
        assert first.startswith("FAILED exit code 1")
        assert first.endswith("the disk of the service is full")
        assert second == "prepare: No space left on device" or second.startswith("FINISHED")
