"""The command against a real server: what a person and a script see, and what they can rely on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid

import pytest

from hpcjobs import cli
from tests.running import until

TIMEOUT = 60.0
COMMAND = [sys.executable, "-m", "hpcjobs.cli"]


@pytest.fixture
def environ(shared_service):
    """Surroundings in which the command is an owner of its own, who has no jobs yet."""
    return shared_service.environ(shared_service.make_token(f"cli-{uuid.uuid4().hex[:8]}").token)


@pytest.fixture
def run(environ, capfdbinary, monkeypatch):
    """Runs the command in this process: ``run("list")`` gives the exit code, stdout and stderr, as text."""
    for name, value in environ.items():
        if name.startswith("HPCJOBS_"):
            monkeypatch.setenv(name, value)

    def go(*argv, stdin="", raw=False):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfdbinary.readouterr()
        code = cli.main(argv)
        out, err = capfdbinary.readouterr()
        return code, out if raw else out.decode(), err.decode()

    return go


@pytest.fixture
def start(environ):
    """Starts the command as a process of its own; it is killed in the end if it still runs."""
    started = []

    def go(*argv, **options):
        process = subprocess.Popen([*COMMAND, *argv], env=environ, start_new_session=True, **options)
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def state_of(run, job_id):
    return json.loads(run("show", job_id, "--json")[1])["state"]


def until_running(run, job_id):
    until(lambda: state_of(run, job_id) == "RUNNING", timeout=TIMEOUT, what="the start of the job")


def test_the_id_alone_is_printed_and_the_job_can_be_seen(run):
    """submit, show, list and logs agree with each other."""
    code, out, err = run("submit", "-n", "greeting", "--tag", "t1", "--wait", "--", "echo", "hello", "wörld")
    assert (code, err) == (0, "")
    job_id = out.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", job_id)
    code, out, _ = run("show", job_id)
    assert code == 0
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert (shown["id"], shown["name"], shown["state"]) == (job_id, "greeting", "FINISHED")
    assert shown["command"] == "echo hello 'wörld'"
    code, out, _ = run("list", "--tag", "t1")
    assert [line.split()[:2] for line in out.splitlines()] == [["ID", "STATE"], [job_id, "FINISHED"]]
    assert run("logs", job_id) == (0, "hello wörld\n", "")


def test_a_job_that_fails_makes_waiting_exit_with_1_and_say_why(run):
    code, out, err = run("submit", "--wait", "--", "sh", "-c", "exit 3")
    assert code == 1
    assert f"job {out.strip()} FAILED" in err
    assert "3" in err
    code, out, _ = run("submit", "--wait", "--json", "--", "sh", "-c", "exit 3")
    assert code == 1
    assert (json.loads(out)["state"], json.loads(out)["exit_code"]) == ("FAILED", 3)


def test_the_log_is_passed_on_byte_by_byte(run):
    """Escapes, NULs and what is no UTF-8 are the job's own business."""
    data = bytes(range(256)) * 3
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)"
    code, out, err = run("submit", "--follow", "--", sys.executable, "-c", script, raw=True)
    assert (code, out) == (0, data)
    job_id = err.split()[-1]
    assert run("logs", job_id, raw=True) == (0, data, "")
    assert run("logs", "-f", job_id, raw=True) == (0, data, "")
    told = [json.loads(line) for line in run("logs", "--json", job_id)[1].splitlines()]
    assert "".join(piece["text"] for piece in told) == data.decode("utf-8", "replace")


def test_following_prints_at_once_and_tail_goes_on_without_a_gap(run, start, tmp_path):
    go = tmp_path / "go"
    script = f"seq 3; until [ -e '{go}' ]; do sleep 0.05; done; seq 4 5"
    job_id = run("submit", "--", script)[1].strip()
    until(lambda: run("logs", job_id)[1] == "1\n2\n3\n", timeout=TIMEOUT, what="the first lines")
    process = start("logs", "-f", "--tail", "2", job_id, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"2\n"
    assert process.stdout.readline() == b"3\n"
    assert process.poll() is None
    go.touch()
    assert process.communicate(timeout=TIMEOUT)[0] == b"4\n5\n"
    assert process.returncode == 0
    assert run("logs", job_id, "--tail", "1")[1] == "5\n"


def test_a_separate_stderr_has_a_log_of_its_own(run):
    code, out, _ = run("submit", "--stderr", "separate", "--wait", "--", "sh", "-c", "echo out; echo err >&2")
    assert code == 0
    assert run("logs", out.strip())[1] == "out\n"
    assert run("logs", out.strip(), "--stream", "stderr")[1] == "err\n"


def test_files_go_up_under_new_names_and_come_back(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("data")
    code, out, _ = run("submit", "-i", "mine.txt", "-i", "in/yours.txt=mine.txt", "--wait", "--", "cp -r in out; ls")
    assert code == 0
    code, printed, _ = run("download", out.strip(), "results", "--pattern", "out/*")
    assert (code, printed) == (0, "results/out/yours.txt\n")
    assert (tmp_path / "results" / "out" / "yours.txt").read_text() == "data"
    assert run("download", out.strip(), "--pattern", "*.nothing")[0] == 1


def test_watch_prints_changes_of_state_and_ends_with_the_last_job(run):
    good = run("submit", "-n", "good", "--", "sleep", "0.3")[1].strip()
    bad = run("submit", "-n", "bad", "--", "false")[1].strip()
    code, out, _ = run("watch", good, bad)
    assert code == 1
    last = {line.split()[1]: line.split()[2] for line in out.splitlines()}
    assert last == {good: "FINISHED", bad: "FAILED"}
    code, out, _ = run("watch", "-", "--json", stdin=f"{good}\n{bad}\n")
    assert code == 1
    assert {job["id"]: job["state"] for job in map(json.loads, out.splitlines())} == last
    assert run("watch", good)[0] == 0
    assert run("watch")[0] == 0


def test_watch_names_an_unknown_id_and_watches_the_others(run):
    good = run("submit", "--", "true")[1].strip()
    code, out, err = run("watch", good, "nonsense")
    assert code == 5
    assert "nonsense" in err
    assert good in out


def test_a_wait_that_is_out_of_time_leaves_the_job_alone(run):
    for wait in (["--wait"], ["--follow"]):
        code, out, err = run("submit", "--timeout", "1s", *wait, "--", "sleep", "60")
        assert code == 124
        job_id = re.search(r"[0-9a-f-]{36}", out + err)[0]
        assert "goes on" in err
        assert state_of(run, job_id) in {"QUEUED", "RUNNING"}
        assert run("watch", job_id, "--timeout", "0")[0] == 124
        assert run("cancel", job_id, "--confirm", "30")[0] == 0


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_ctrl_c_ends_the_waiting_and_not_the_job(run, start, how):
    process = start(
        "submit", how, "--", "sh", "-c", "echo begun; sleep 60", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first = (process.stdout if how == "--wait" else process.stderr).readline().decode()
    job_id = re.search(r"[0-9a-f-]{36}", first)[0]
    until_running(run, job_id)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert f"hpcjobs cancel {job_id}" in err.decode()
    assert "Traceback" not in err.decode()
    assert state_of(run, job_id) == "RUNNING"
    assert run("cancel", job_id, "--confirm", "30")[0] == 0


def test_cancel_says_what_came_of_each_job_and_the_reason_stays(run):
    running = run("submit", "--", "sleep", "60")[1].strip()
    until_running(run, running)
    code, out, err = run("cancel", running, "--reason", "wrong damping", "--confirm", "30", "--strict")
    assert (code, err) == (0, "")
    assert out == f"job {running} is cancelled (CANCELLED): wrong damping\n"
    code, out, _ = run("cancel", running, "nonsense", "--reason", "again")
    assert code == 5
    assert out.splitlines() == [f"job {running} had already ended (CANCELLED)", "job nonsense is not known"]
    assert run("cancel", running, "--strict")[0] == 1
    assert "wrong damping" in run("show", running)[1]


def test_ids_of_a_list_can_be_piped_into_cancel(run):
    """Two cores are busy, so the third and the fourth job are queued."""
    for _ in range(4):
        assert run("submit", "--cores", "2", "--tag", "batch", "--", "sleep", "60")[0] == 0
    until(
        lambda: len(run("list", "--ids-only", "--state", "running")[1].split()) == 1,
        timeout=TIMEOUT,
        what="the start of the first job",
    )
    queued = run("list", "--ids-only", "--state", "QUEUED", "--tag", "batch")[1]
    assert len(queued.split()) == 3
    code, out, _ = run("cancel", "-", "--json", stdin=queued)
    assert code == 0
    assert [item["outcome"] for item in json.loads(out)] == ["CANCELLED"] * 3
    code, out, _ = run("list", "--ids-only", "--state", "active")
    assert len(out.split()) == 1
    assert run("cancel", *out.split(), "--no-abort")[1].strip().endswith("was left alone (RUNNING)")
    assert run("cancel", *out.split(), "--confirm", "30")[0] == 0


def test_a_key_makes_one_job_however_often_it_is_used(run):
    first = run("submit", "--key", "mine", "--", "true")
    assert run("submit", "--key", "mine", "--", "true") == first
    assert run("submit", "--key", "mine", "--", "false")[0] == 6


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["show", "nonsense"], 5),
        (["logs", "00000000-0000-4000-8000-000000000000"], 5),
        (["logs", "-f", "nonsense"], 5),
        (["download", "nonsense"], 5),
        (["token", "revoke", "00000000-0000-4000-8000-000000000000"], 5),
        (["submit", "--walltime", "0", "--", "true"], 6),
        (["submit", "--tag", "a\nb", "--", "true"], 6),
        (["cancel", "x", "--reason", "x" * 1025], 6),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_cannot_be_done_has_the_code_that_is_promised(run, argv, code):
    found, out, err = run(*argv)
    assert (found, out) == (code, "")
    assert err.startswith("hpcjobs: ")
    assert err.count("\n") == 1


def test_a_token_may_do_what_its_scope_says_and_nothing_after_it_is_revoked(run, monkeypatch):
    code, out, _ = run("token", "create", "--scope", "read", "--name", "reader", "--expires", "1h", "--json")
    assert code == 0
    token = json.loads(out)
    own = os.environ["HPCJOBS_TOKEN"]
    monkeypatch.setenv("HPCJOBS_TOKEN", token["token"])
    assert run("list")[0] == 0
    code, _, err = run("submit", "--", "true")
    assert code == 4
    assert "scope" in err
    monkeypatch.setenv("HPCJOBS_TOKEN", own)
    assert "reader" in run("token", "list")[1]
    assert run("token", "revoke", token["id"])[0] == 0
    monkeypatch.setenv("HPCJOBS_TOKEN", token["token"])
    assert run("list")[0] == 4


def test_login_makes_a_profile_that_works(run, shared_service, tmp_path, monkeypatch):
    token = os.environ["HPCJOBS_TOKEN"]
    monkeypatch.setenv("HPCJOBS_CONFIG", str(tmp_path / "config.toml"))
    for name in ("HPCJOBS_URL", "HPCJOBS_TOKEN", "HPCJOBS_DATA"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HPCJOBS_DATA", str(tmp_path / "none"))
    assert run("list")[0] == 3
    assert run("login", shared_service.url, "--profile", "here", "--token", "-", stdin="wrong")[0] == 4
    assert run("login", shared_service.url, "--profile", "here", "--token", "-", stdin=token)[0] == 0
    assert run("list", "--profile", "here")[0] == run("list")[0] == 0
    assert json.loads(run("profiles", "--json")[1])["active"]["profile"] == "here"


def test_a_reader_that_goes_away_ends_the_command_quietly(run, start):
    code, out, _ = run("submit", "--wait", "--", "seq", "300000")
    assert code == 0
    process = start("logs", out.strip(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    assert process.wait(TIMEOUT) == 141
    assert process.stderr.read() == b""


def test_job_ids_are_completed_from_the_service(run, monkeypatch):
    job_id = run("submit", "-n", "mine", "--", "true")[1].strip()
    for name, value in {"_HPCJOBS_COMPLETE": "complete_bash", "COMP_WORDS": "hpcjobs show ", "COMP_CWORD": "2"}.items():
        monkeypatch.setenv(name, value)
    assert job_id in run()[1].split()


@pytest.mark.parametrize("name", ["serve", "worker", "demo"])
def test_the_commands_of_the_server_are_found(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Usage: hpcjobs {name}" in out


# The terminal becomes the one that controls the process, so that Ctrl-C typed there is a signal.
IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from hpcjobs.cli import main
sys.exit(main())
"""


class Terminal:
    """A terminal of 80 columns in which a command runs."""

    def __init__(self, argv, environ, columns=80, rows=24):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environ = {name: value for name, value in environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *argv],
            env={**environ, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def read(self, wanted=None):
        """Read until ``wanted`` is seen, or to the end."""
        end = time.monotonic() + TIMEOUT
        while wanted is None or wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} was not seen in:\n{self.text}"
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # Linux says so when the other end is closed
                    data = b""
                if not data:
                    assert wanted is None, f"{wanted!r} was not seen in:\n{self.text}"
                    break
                self.seen += data
        return self.text

    @property
    def text(self):
        """What was written, without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen.decode("utf-8", "replace")).replace("\r", "\n")

    def type(self, data):
        os.write(self.master, data)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(environ):
    opened = []

    def go(*argv, **options):
        opened.append(Terminal(argv, environ, **options))
        return opened[-1]

    yield go
    for each in opened:
        each.close()


def test_on_a_terminal_watch_is_a_table_of_80_columns_with_whole_ids(run, terminal):
    name = "a name that is far too long for a terminal of eighty columns"
    ids = [run("submit", "-n", name, "--", "sleep", "1")[1].strip() for _ in range(2)]
    screen = terminal("watch", *ids)
    text = screen.read()
    assert screen.process.wait(TIMEOUT) == 0
    assert b"\x1b[" in screen.seen
    assert all(job_id in text for job_id in ids)
    assert "2 of 2 ended" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert not set(text) & set("│┃━─╭╰")


def test_on_a_terminal_ctrl_c_leaves_the_table_and_says_that_the_job_goes_on(run, terminal):
    job_id = run("submit", "--", "sleep", "60")[1].strip()
    screen = terminal("watch", job_id)
    screen.read("RUNNING")
    screen.type(b"\x03")
    text = screen.read()
    assert screen.process.wait(TIMEOUT) == 130
    assert f"hpcjobs cancel {job_id}" in text
    assert b"\x1b[?25h" in screen.seen  # the cursor is back
    assert state_of(run, job_id) == "RUNNING"
    assert run("cancel", job_id, "--confirm", "30")[0] == 0


def test_on_a_terminal_login_asks_for_the_token_and_does_not_show_it(terminal, environ, shared_service, tmp_path):
    environ["HPCJOBS_CONFIG"] = str(tmp_path / "config.toml")
    screen = terminal("login", shared_service.url)
    screen.read("not shown")
    # What is typed before the echo is off is thrown away.
    until(lambda: not termios.tcgetattr(screen.master)[3] & termios.ECHO, timeout=TIMEOUT, what="the end of the echo")
    screen.type(environ["HPCJOBS_TOKEN"].encode() + b"\n")
    text = screen.read()
    assert screen.process.wait(TIMEOUT) == 0
    assert environ["HPCJOBS_TOKEN"] not in text
    assert environ["HPCJOBS_TOKEN"] in (tmp_path / "config.toml").read_text()
