"""The executor `slurm`: the real server hands real jobs to a real Slurm, and loses and doubles none."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcjobs import Client, Conflict, InvalidRequest, JobState, runtime
from hpcjobs.handles import Job
from hpcjobs.models import CancelOutcome
from tests.conftest import _fresh_database, _make_settings
from tests.running import Service, clean_environ, until
from tests.slurm_cluster import SlurmCluster

_GATED = """#!/bin/sh
# sbatch, which waits before or behind the real one where a test says so
wait_at() {{
    if mv {gates}/$1 {gates}/waits 2>/dev/null; then while [ -e {gates}/waits ]; do sleep 0.05; done; fi
}}
wait_at before
{sbatch} "$@"
code=$?
wait_at behind
exit $code
"""


@dataclasses.dataclass
class Cluster:
    """A server whose jobs a Slurm runs."""

    service: Service
    slurm: SlurmCluster
    gates: Path

    def rows(self, job: Job) -> list[str]:
        """What Slurm has of a job: ids of all that carry its key."""
        told = self.slurm.run("squeue", "--noheader", "--states=all", "--Format=JobID:20,Comment:80")
        return [line.split()[0] for line in told.splitlines() if f"hpcjobs:{job.id}:" in line]

    def shown(self, job: Job) -> str:
        [row] = self.rows(job)
        return self.slurm.run("scontrol", "show", "job", row)

    @contextlib.contextmanager
    def gate(self, where: str) -> Iterator[None]:
        """Stop the next sbatch there until the block ends."""
        (self.gates / where).touch()
        try:
            yield
        finally:
            for name in (where, "waits"):
                (self.gates / name).unlink(missing_ok=True)

    def await_gate(self) -> None:
        until((self.gates / "waits").exists, what="sbatch at its gate")


@pytest.fixture(scope="module")
def cluster(
    slurm: SlurmCluster, postgres_url: str, tmp_path_factory: pytest.TempPathFactory, long_lived: set[str]
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("on-slurm")
    long_lived.add(str(folder))
    gates = folder / "gates"
    gates.mkdir()
    real = shutil.which("sbatch", path=slurm.environ["PATH"])
    tools = folder / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(_GATED.format(gates=gates, sbatch=real))
    (tools / "sbatch").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, _fresh_database(postgres_url) as url:
        patch.setenv("SLURM_CONF", str(slurm.conf))
        patch.setenv("PATH", f"{tools}:{slurm.environ['PATH']}")
        patch.setenv("SBATCH_PARTITION", "nowhere")  # what the server's own surroundings say is not for its jobs
        settings = _make_settings(folder / "data", url, executor="slurm", slurm_interval=0.2, lease=1.0)
        service = Service(settings)
        try:
            yield Cluster(service.start(), slurm, gates)
        finally:
            service.end()
            until(
                lambda: not any(_names(one, str(folder / "data")) for one in psutil.process_iter()),
                timeout=10,
                what="the end of all",
            )


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.service.client() as client:
        yield client
        client.cancel_many(state="active", reason="the test has ended", confirm=30)


def running(job: Job) -> Job:
    until(lambda: job.refresh().state is JobState.RUNNING, what="the start of the job")
    return job


def counted(folder: Path, seconds: float = 1.0) -> str:
    """A command that notes that it ran."""
    return f"echo ran >> {folder}/runs; sleep {seconds}"


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_a_job_gets_what_it_asks_for_and_its_node_needs_nothing_of_ours(cluster: Cluster, client: Client) -> None:
    source = "from hpcjobs import runtime; runtime.progress(3, 4, 'far'); print(open('data.txt').read(), flush=True)"
    (cluster.gates / "data.txt").write_text("some data")
    job = client.submit(
        f'python3 -c "{source}"; echo $HPCJOBS_CORES $OMP_NUM_THREADS $MINE $SLURM_JOB_PARTITION; cp data.txt out.txt',
        name="a name",
        cores=3,
        memory="300MiB",
        walltime="90s",
        env={"MINE": "own"},
        inputs=[cluster.gates / "data.txt"],
        options={"partition": "short", "nice": 5},
    )
    lines = "".join(job.logs(follow=True)).splitlines()
    assert lines == ["some data", "3 3 own short"]
    info = job.wait()
    assert (info.state, info.exit_code, info.reason) == (JobState.FINISHED, 0, None)
    assert info.progress is not None
    assert (info.progress.done, info.progress.message) == (3, "far")
    with job.open("out.txt") as copy:
        assert copy.read() == "some data"
    shown = cluster.shown(job)
    for word in ("JobName=a name", "TimeLimit=00:02:00", "NumCPUs=3", "MinMemoryNode=300M", "Nice=5", "Requeue=0"):
        assert word in shown
    [attempt] = job.history().attempts
    assert None not in {attempt.cpu_seconds, attempt.peak_memory, attempt.host}


def test_a_function_has_its_result_and_its_own_error(client: Client) -> None:
    def work(number: int) -> int:
        runtime.progress(1, 1, "done")
        return 100 // number

    good, bad = client.submit(work, 4), client.submit(work, 0)
    assert good.result() == 25
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert (bad.refresh().reason or "").startswith("ZeroDivisionError")


def test_an_array_ends_as_its_jobs_do_and_what_failed_runs_again(cluster: Cluster, client: Client) -> None:
    array = client.submit_array("exit {code}", over=[{"code": 0}, {"code": 3}, {"code": 0}])
    array.wait()
    assert array.counts == {"FINISHED": 2, "FAILED": 1}
    [failed] = array.failed
    assert (failed.exit_code, failed.reason) == (3, "exit code 3")
    failed.retry()
    assert failed.wait().attempt == 2
    assert len(cluster.rows(failed)) == 2  # one for each attempt


def test_a_walltime_ends_a_job_to_the_second_and_is_told_as_such(client: Client) -> None:
    job = client.submit("sleep 60", walltime="1s")
    info = job.wait()
    assert (info.state, info.reason) == (JobState.FAILED, "its walltime was over")


def test_a_job_that_runs_is_cancelled_with_its_own_grace_time(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    # the cluster kills two seconds after SIGTERM
    mark = tmp_path / "saved"
    script = f"trap 'sleep 3; touch {mark}; exit 1' TERM; echo ready; sleep 300 & wait; wait"
    job = running(client.submit(script, grace="20s"))
    until(lambda: "ready" in job.logs(), what="the trap")
    result = job.cancel(reason="enough", confirm=30)
    assert (result.outcome, mark.exists()) == (CancelOutcome.CANCELLED, True)
    assert (job.refresh().state, job.reason) == (JobState.CANCELLED, "enough")
    [row] = cluster.rows(job)
    assert cluster.slurm.jobs()[row] in {"FAILED", "CANCELLED"}
    assert not [process for process in psutil.process_iter() if _names(process, job.id)]


def _names(process: psutil.Process, text: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(text in told for told in [*process.cmdline(), *process.environ().values()])
    return False


def test_a_job_in_slurms_queue_says_why_it_waits_and_is_queued_until_it_is_cancelled(
    cluster: Cluster, client: Client
) -> None:
    job = client.submit("true", options={"hold": True})
    until(lambda: "scontrol release" in (job.refresh().reason or ""), what="Slurm's reason")
    [row] = cluster.rows(job)
    assert (job.state, job.reason) == (
        JobState.QUEUED, f"Slurm job {row} waits: it is held; scontrol release lets it go (JobHeldUser)",
    )  # fmt: skip
    # it is not this server's to change or to forget any more
    with pytest.raises(Conflict, match="in the cluster's queue: priority can no longer be changed"):
        job.update(priority=5)
    with pytest.raises(Conflict):
        job.delete()
    assert job.cancel(abort=False, reason="never mind", confirm=30).outcome is CancelOutcome.CANCELLED
    assert (cluster.slurm.jobs()[row], job.refresh().reason) == ("CANCELLED", "never mind")
    job.delete()


def test_a_cancel_for_jobs_that_have_not_started_leaves_one_alone_that_runs(client: Client) -> None:
    job = running(client.submit("sleep 60"))
    assert job.cancel(abort=False, confirm=10).outcome is CancelOutcome.LEFT_RUNNING
    assert job.refresh().state is JobState.RUNNING


def test_what_slurm_or_the_service_refuses_is_said_in_its_words(client: Client) -> None:
    job = client.submit("true", options={"partition": "nowhere"})
    info = job.wait()
    assert info.state is JobState.FAILED
    assert (info.reason or "").startswith("Slurm refused it: invalid partition specified: nowhere; ")
    with pytest.raises(InvalidRequest, match="give walltime="):
        client.submit("true", options={"time": 5})


def test_a_worker_killed_between_sbatch_and_its_note_loses_and_doubles_nothing(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    with cluster.gate("behind"):
        job = client.submit(counted(tmp_path))
        cluster.await_gate()
        cluster.service.kill_worker()
    cluster.service.start_worker()
    assert (info := job.wait()).state is JobState.FINISHED
    assert (runs(tmp_path), len(cluster.rows(job)), info.attempt) == (1, 1, 1)


def test_a_job_that_two_workers_have_submitted_runs_once(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    """An sbatch outlives its worker, and gets through only after the next worker has submitted the same."""
    with cluster.gate("before"):
        job = client.submit(counted(tmp_path, 3))
        cluster.await_gate()
        cluster.service.kill_worker()
        cluster.service.start_worker()
        running(job)
    until(lambda: len(cluster.rows(job)) == 2, what="the second job")
    assert job.wait().state is JobState.FINISHED
    assert runs(tmp_path) == 1
    until(lambda: "RUNNING" not in {cluster.slurm.jobs()[row] for row in cluster.rows(job)}, what="the end of both")
    assert runs(tmp_path) == 1


def test_jobs_go_on_while_the_whole_server_is_away(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    service = cluster.service
    short, long = (client.submit(counted(tmp_path, seconds)) for seconds in (1.5, 300))
    waiting = client.submit("true", options={"hold": True})
    for job in (short, long):
        running(job)
    began = time.monotonic()
    service.stop_worker()
    assert time.monotonic() - began < 20  # it waits for no job
    service.kill_api()
    [row] = cluster.rows(short)
    until(lambda: cluster.slurm.jobs()[row] == "COMPLETED", what="its end in Slurm")
    service.start_api()
    service.start_worker()
    assert short.wait().state is JobState.FINISHED
    assert (long.refresh().state, waiting.refresh().state) == (JobState.RUNNING, JobState.QUEUED)
    cluster.slurm.run("scontrol", "release", *cluster.rows(waiting))
    assert waiting.wait().state is JobState.FINISHED
    assert long.cancel(confirm=30).outcome is CancelOutcome.CANCELLED
    assert [len(cluster.rows(job)) for job in (short, long, waiting)] == [1, 1, 1]


def test_a_silent_worker_has_its_jobs_watched_by_another_and_none_runs_again(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    """No reaper takes what a cluster runs; a worker that comes back finds that it is another's."""
    service = cluster.service
    job = running(client.submit(counted(tmp_path, 60)))
    stopped = service.workers[0].pid
    service.signal_worker(signal.SIGSTOP, stopped)
    try:
        service.start_worker()
        assert job.cancel(reason="by the other", confirm=30).outcome is CancelOutcome.CANCELLED
    finally:
        service.signal_worker(signal.SIGCONT, stopped)
    again = client.submit(counted(tmp_path, 0))
    assert again.wait().state is JobState.FINISHED
    service.stop_worker(stopped)
    info = job.wait()
    assert (info.state, info.reason, info.attempt, runs(tmp_path)) == (JobState.CANCELLED, "by the other", 1, 2)


def test_nobody_fails_while_the_controller_is_away(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job = running(client.submit(counted(tmp_path, 5)))
    # a controller that is killed knows after that what it had stored by then, which it does every few seconds
    stored, began = cluster.slurm.folder / "state" / "job_state", time.time()
    until(lambda: stored.exists() and stored.stat().st_mtime > began, what="the controller's notes")
    cluster.slurm.stop_controller()
    try:
        late = client.submit(counted(tmp_path, 0))
        until(lambda: "Slurm does not take it" in (late.refresh().reason or ""), what="a word of it")
        assert late.state is JobState.QUEUED
        assert job.refresh().state is JobState.RUNNING
    finally:
        cluster.slurm.start_controller()
    assert (job.wait().state, late.wait().state) == (JobState.FINISHED, JobState.FINISHED)
    assert (runs(tmp_path), len(cluster.rows(job)), len(cluster.rows(late))) == (2, 1, 1)


def test_the_guide_shows_what_works(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    guide = Path(__file__).parents[2] / "docs/guide/on-a-cluster.md"
    [code] = re.findall(r"^```\{code-block\} python\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("HPCJOBS_URL", cluster.service.url)
    monkeypatch.setenv("HPCJOBS_TOKEN", cluster.service.token)
    exec(compile(code, str(guide), "exec"), {})
    assert "FINISHED" in (said := capsys.readouterr().out)
    assert "with 4 cores" in said


def test_serve_says_what_is_wrong_where_there_is_no_slurm(tmp_path: Path) -> None:
    def serve(path: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hpcjobs_server", "serve", "--executor", "slurm", "--data", str(tmp_path / "data")],
            env={**clean_environ(), "PATH": path, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        return " ".join(done.stderr.split())

    assert "sbatch was not found; install Slurm's client commands" in serve(str(tmp_path))
    assert "slurm.conf, which SLURM_CONF names, is not there" in serve(
        os.environ["PATH"], SLURM_CONF=str(tmp_path / "slurm.conf")
    )
    for name in ("sbatch", "squeue", "scancel"):  # as they are where the controller is away, but for the ten seconds
        (tmp_path / name).write_text(
            "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    assert "Slurm does not answer: Unable to contact slurm controller (connect failure)" in serve(str(tmp_path))
    assert not (tmp_path / "data").exists()
