"""A real Slurm on this machine, for tests: munge, controller, node and slurmrestd, all below one folder.

It needs root and Debian's packages (``PACKAGES``); everything listens on loopback, on ports that were free. The node
claims more cores than there are, and confines no job.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.running import clean_environ, until

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd", "slurmrestd", "slurm-wlm-jwt-plugin")
"""What Debian calls the parts."""

PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmrestd", "sbatch")

USER, OTHER_USER = "nobody", "games"
"""Accounts that every Debian has; jobs belong to the first, and for the second they are another's."""

_REST_USER = "daemon"  # slurmrestd refuses to be root or Slurm's own user
_WAIT = 30.0
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_SYSTEM_PATH) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: needs {' '.join(PACKAGES)}"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, below those that the system gives to connections: such a one could be gone soon."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port, one = random.randrange(20_000, 32_000), stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
        return found


class SlurmCluster:
    """One Slurm cluster.

    Args:
        folder: Where everything of it is; other users must be able to reach it (pytest's own folders cannot be).
        nodes: How many nodes it pretends to have.
        cpus: Cores that each of them claims.
        min_job_age: Seconds for which the controller remembers a job that has ended.
        more: Further lines of slurm.conf.

    Attributes:
        work: A folder in which every user may write.
        url: Where slurmrestd answers on TCP: tokens say who asks.
        socket: Where a second slurmrestd answers on a unix socket: the caller's user id says who asks.
    """

    def __init__(self, folder: Path, *, nodes: int = 1, cpus: int = 16, min_job_age: int = 300, more: str = "") -> None:
        self.folder, self.nodes = folder, nodes
        self.conf = folder / "slurm.conf"
        self.work = folder / "work"
        self.socket = folder / "rest" / "slurmrestd.sock"
        control, self._rest_port, *node_ports = _free_ports(2 + nodes)
        self.url = f"http://127.0.0.1:{self._rest_port}"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._make_folders()
        self._write_conf(control, node_ports, cpus, min_job_age, more)

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which Slurm's commands speak to this cluster."""
        kept = {name: text for name, text in clean_environ().items() if not name.startswith(("SLURM", "SBATCH"))}
        return {**kept, "SLURM_CONF": str(self.conf), "PATH": f"{kept.get('PATH', '')}:{_SYSTEM_PATH}"}

    def token(self, user: str = USER, *, lifespan: int = 3600) -> str:
        """A token (JWT) of ``user`` that is good for ``lifespan`` seconds."""
        return self.run("scontrol", "token", f"username={user}", f"lifespan={lifespan}").strip().partition("=")[2]

    def run(self, *argv: str, user: str | None = None, stdin: str | None = None) -> str:
        """Run one of Slurm's commands, as root or as ``user``, and return what it prints."""
        command = [*_as(user), *argv] if user else list(argv)
        done = subprocess.run(
            command,
            env=self.environ,
            cwd=self.work,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self, *, states: str = "all") -> dict[str, str]:
        """The jobs that the controller knows, each with its state."""
        told = self.run("squeue", "--noheader", "--array", f"--states={states}", "--format=%i %T")
        return dict(line.split() for line in told.splitlines())

    def folder_for_jobs(self) -> Path:
        """A new folder in which every user may write."""
        made = Path(tempfile.mkdtemp(dir=self.work))
        made.chmod(0o777)
        return made

    # Starting and ending

    def start(self) -> SlurmCluster:
        """Start all daemons, and wait until jobs can run."""
        munge = self.folder / "munge"
        for old in munge.glob("munge.socket*"):
            old.unlink()
        self._launch(
            "munged",
            [
                *_as("munge"),
                "munged",
                "--foreground",
                f"--socket={munge}/munge.socket",
                f"--key-file={munge}/munge.key",
                f"--seed-file={munge}/seed",
                f"--log-file={munge}/log",
                f"--pid-file={munge}/pid",
            ],
        )
        self._until_works("munge", f"--socket={munge}/munge.socket", "--no-input")
        self.start_controller()
        for number in range(1, self.nodes + 1):
            self._launch(f"slurmd-{number}", ["slurmd", "-D", "-f", str(self.conf), "-N", f"n{number}"])
        # all plugins but those that end slurmrestd where there is no slurmdbd
        rest = [*_as(_REST_USER), "env", "SLURM_JWT=daemon", "slurmrestd"]
        told = subprocess.run([*rest, "-s", "list"], env=self.environ, capture_output=True, text=True, check=False)
        plugins = sorted(set(re.findall(r"openapi/[a-z0-9._]+", told.stdout + told.stderr)))
        chosen = ",".join(name for name in plugins if not name.startswith(("openapi/db", "openapi/slurmdbd")))
        self._launch("slurmrestd", [*rest, "-a", "rest_auth/jwt", "-s", chosen, f"127.0.0.1:{self._rest_port}"])
        self.socket.unlink(missing_ok=True)
        self._launch(
            "slurmrestd-local",
            [*_as(_REST_USER), "slurmrestd", "-a", "rest_auth/local", "-s", chosen, f"unix:{self.socket}"],
        )
        until(self._nodes_are_up, timeout=_WAIT, what="a node that takes jobs")
        until(self._rest_answers, timeout=_WAIT, what="slurmrestd")
        return self

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self._launch("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        self._until_works("scontrol", "ping")

    def stop_controller(self) -> None:
        """End slurmctld as if its machine had failed; jobs go on."""
        self._end("slurmctld", signal.SIGKILL)

    def stop(self) -> None:
        """Cancel what runs, and end all daemons."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired, TimeoutError):
            active = "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING"
            if jobs := self.jobs(states=active):
                self.run("scancel", "--quiet", *{job.partition("_")[0] for job in jobs})
                until(lambda: not self.jobs(states=active), timeout=10, what="the end of the jobs")
        for name in reversed(list(self._daemons)):
            self._end(name, signal.SIGTERM)
        for process in psutil.process_iter():  # steps of jobs, which are no children of ours
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()) or process.environ().get("SLURM_CONF") == str(
                    self.conf
                ):
                    process.kill()

    def logs(self) -> str:
        """What the daemons have written."""
        files = [*sorted((self.folder / "log").rglob("*")), *sorted((self.folder / "munge").glob("log"))]
        return "\n".join(
            f"--- {file.name}\n{file.read_text(errors='replace')[-4000:]}" for file in files if file.is_file()
        )

    def _launch(self, name: str, argv: Sequence[str]) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                argv, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._daemons.pop(name)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def _until_works(self, *argv: str) -> None:
        def works() -> bool:
            done = subprocess.run(argv, env=self.environ, capture_output=True, timeout=60, check=False)
            return done.returncode == 0

        until(works, timeout=_WAIT, what=" ".join(argv))

    def _nodes_are_up(self) -> bool:
        self._check()
        told = self.run("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%t").split()
        return len(told) == self.nodes and {"idle", "mix", "alloc"}.issuperset(told)

    def _rest_answers(self) -> bool:
        self._check()
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
            return tcp.connect_ex(("127.0.0.1", self._rest_port)) == 0 and unix.connect_ex(str(self.socket)) == 0

    def _check(self) -> None:
        ended = [name for name, process in self._daemons.items() if process.poll() is not None]
        if ended:
            raise RuntimeError(f"{', '.join(ended)} ended\n{self.logs()}")
        time.sleep(0.05)

    # Making

    def _make_folders(self) -> None:
        self.folder.chmod(0o755)
        for name, mode, owner in (
            ("log", 0o755, "root"),
            ("log/control", 0o755, "slurm"),
            ("munge", 0o755, "munge"),
            ("rest", 0o755, _REST_USER),
            ("run", 0o755, "root"),
            ("spool", 0o755, "root"),
            ("state", 0o700, "slurm"),
            ("work", 0o1777, "root"),
        ):
            made = self.folder / name
            made.mkdir(exist_ok=True)
            shutil.chown(made, owner)
            made.chmod(mode)
        _secret(self.folder / "munge" / "munge.key", 128, "munge")
        _secret(self.folder / "jwt.key", 32, "slurm")

    def _write_conf(self, control: int, nodes: Sequence[int], cpus: int, min_job_age: int, more: str) -> None:
        here, host = self.folder, socket.gethostname().partition(".")[0]
        settings: Mapping[str, object] = {
            "ClusterName": "tests",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": control,
            "SlurmUser": "slurm",
            "StateSaveLocation": here / "state",
            "SlurmdSpoolDir": here / "spool" / "%n",
            "SlurmctldPidFile": here / "run" / "slurmctld.pid",
            "SlurmdPidFile": here / "run" / "slurmd-%n.pid",
            "SlurmctldLogFile": here / "log" / "control" / "slurmctld.log",
            "SlurmdLogFile": here / "log" / "slurmd-%n.log",
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",  # loopback only
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={here}/munge/munge.socket",
            "CredType": "cred/munge",
            "AuthAltTypes": "auth/jwt",
            "AuthAltParameters": f"jwt_key={here}/jwt.key",
            # neither cgroups nor MPI, and the hardware is taken at its word
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "MpiDefault": "none",
            "SlurmdParameters": "config_overrides",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "ReturnToService": 2,
            "AccountingStorageType": "accounting_storage/none",
            "MinJobAge": min_job_age,
            # jobs start within a second, and stubborn ones are killed soon
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=5,sched_min_interval=0,bf_interval=5",
            "KillWait": 2,
            "MailProg": "/bin/true",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        for number, port in enumerate(nodes, 1):
            spool = here / "spool" / f"n{number}"
            spool.mkdir(exist_ok=True)
            lines.append(
                f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=16000"
            )
        lines.append("PartitionName=debug Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE State=UP")
        lines.append("PartitionName=short Nodes=ALL DefaultTime=1 MaxTime=5 State=UP")
        self.conf.write_text("\n".join([*lines, more, ""]))
        version = subprocess.run(
            ["slurmctld", "-V"], env=self.environ, capture_output=True, text=True, check=True
        ).stdout
        major = int(re.findall(r"\d+", version)[0])
        # older ones want a plugin even where nothing uses it; this one does nothing until it is asked
        plugin = "disabled" if major >= 24 else "cgroup/v1"
        (here / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")


def _as(user: str) -> list[str]:
    """The words that make the command behind them run as ``user``."""
    account = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def _secret(path: Path, size: int, owner: str) -> None:
    if not path.exists():
        path.touch(mode=0o400)
        path.write_bytes(secrets.token_bytes(size))
        shutil.chown(path, owner, owner)


@contextlib.contextmanager
def running(folder: Path, **options: int | str) -> Iterator[SlurmCluster]:
    """A cluster that runs as long as the block."""
    cluster = SlurmCluster(folder, **options)  # type: ignore[arg-type]
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
