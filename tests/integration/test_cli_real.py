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
    assert process.returncode == -signal.SIGINT, err.decode()
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
    assert screen.process.wait(TIMEOUT) == -signal.SIGINT
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


# ----------------------------------------------------------------------------------------------------------------------
# Many jobs


def submitted(run, *argv):
    """Submit with these options, and give the id back."""
    code, out, err = run("submit", *argv)
    assert (code, err) == (0, "")
    return out.strip()


def shown(run, *argv):
    """What ``show`` tells, by name."""
    code, out, err = run("show", *argv)
    assert (code, err) == (0, "")
    return dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())


def states_of(run, *conditions):
    """How many jobs are in which state."""
    found = {}
    for job in json.loads(run("list", "--json", *conditions)[1]):
        found[job["state"]] = found.get(job["state"], 0) + 1
    return found


def test_cancel_by_a_tag_asks_nobody_where_there_is_no_terminal(run):
    """Without --yes nothing is sent and nothing hangs; with it, all that are meant are cancelled with the reason."""
    ids = {submitted(run, "--tag", "sweep-3", "--start-in", "1h", "--", "true") for _ in range(2)}
    submitted(run, "--tag", "other", "--start-in", "1h", "--", "true")
    code, out, err = run("cancel", "--tag", "sweep-3", "--reason", "wrong mesh")
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert states_of(run) == {"PENDING": 3}
    code, out, _ = run("cancel", "--tag", "sweep-3", "--reason", "wrong mesh", "--yes")
    assert code == 0
    assert set(out.splitlines()) == {f"job {job_id} is cancelled (CANCELLED): wrong mesh" for job_id in ids}
    assert states_of(run, "--tag", "sweep-3") == {"CANCELLED": 2}
    assert states_of(run, "--tag", "other") == {"PENDING": 1}
    assert run("cancel", "--tag", "sweep-3", "--yes") == (0, "", "")
    assert run("cancel", "--tag", "sweep-3", "--yes", "--json") == (0, "[]\n", "")


def test_more_than_a_handful_of_ids_is_asked_about_too(run):
    ids = run("submit", "--array", "6", "--start-in", "1h", "--", "true") and run("list", "--ids-only")[1]
    assert len(ids.split()) == 6
    code, _, err = run("delete", "-", stdin=ids)
    assert (code, "these are 6 ids" in err) == (2, True)
    code, out, _ = run("delete", "-", "-y", "--json", stdin=ids)
    assert code == 0
    assert [(one["job_id"], one["outcome"]) for one in json.loads(out)] == [
        (job_id, "DELETED") for job_id in ids.split()
    ]


def test_of_many_jobs_the_counts_are_told_and_those_that_failed(run):
    array = submitted(run, "--array", "30", "--start-in", "1h", "--", "true")
    unknown = str(uuid.uuid4())
    ids = run("list", "--ids-only", "--array", array)[1].split()
    code, out, _ = run("update", *ids, unknown, "--priority", "3", "-y")
    assert code == 5
    assert out.splitlines() == ["30 UPDATED", "1 NOT_FOUND", f"job {unknown} is not known"]
    code, out, _ = run("cancel", "--array", array, "-y", "--json")
    assert (code, len(json.loads(out))) == (0, 30)


def test_on_a_terminal_it_is_asked_first_and_no_means_no(run, terminal):
    """The question says how many jobs are meant and names the first; only y goes on, and only with those jobs."""
    submitted(run, "--tag", "sweep", "--name", "sweep", "--start-in", "1h", "--array", "7", "--", "true")
    for answer in (b"n\n", b"\n", b"\x04", b"what\n"):
        screen = terminal("cancel", "--tag", "sweep")
        shown = screen.read("[y/N]")
        assert "Cancel these 7 jobs?" in shown
        assert "sweep[6]" in shown
        assert "and 2 more" in shown
        screen.type(answer)
        assert "nothing was cancelled" in screen.read()
        assert screen.process.wait(TIMEOUT) == 1
    assert states_of(run) == {"PENDING": 7}
    screen = terminal("cancel", "--tag", "sweep", "--reason", "no more")
    screen.read("[y/N]")
    late = submitted(run, "--tag", "sweep", "--start-in", "1h", "--", "true")
    screen.type(b"y\n")
    screen.read()
    assert screen.process.wait(TIMEOUT) == 0
    assert states_of(run) == {"PENDING": 1, "CANCELLED": 7}
    assert state_of(run, late) == "PENDING"


def test_on_a_terminal_ctrl_c_at_the_question_does_nothing(run, terminal):
    submitted(run, "--tag", "sweep", "--start-in", "1h", "--", "true")
    screen = terminal("delete", "--tag", "sweep")
    assert "Delete it with all files?" in screen.read("[y/N]")
    screen.type(b"\x03")
    assert "Traceback" not in screen.read()
    assert screen.process.wait(TIMEOUT) == -signal.SIGINT
    assert states_of(run) == {"PENDING": 1}


def test_retry_runs_again_what_does_not_run(run):
    failed = run("submit", "--wait", "--", "sh", "-c", "test $HPCJOBS_ATTEMPT = 2")[1].strip()
    assert run("retry", failed) == (0, f"job {failed} is QUEUED again\n", "")
    assert run("watch", failed)[0] == 0
    running = submitted(run, "--", "sleep", "60")
    until_running(run, running)
    code, out, _ = run("retry", running, failed, "nonsense")
    assert code == 5
    assert out.splitlines()[0] == f"job {running} is RUNNING and was left alone"
    assert out.splitlines()[2] == "job nonsense is not known"
    assert run("retry", running)[0] == 1
    assert run("delete", running)[0] == 1
    assert run("cancel", running, "--confirm", "30")[0] == 0


def test_of_an_array_only_the_failed_run_again(run):
    """By its id as by --array; the command that told of the failures says how."""
    code, out, err = run(
        "submit", "--array", "3", "--wait", "--", "sh", "-c", "test $HPCJOBS_ATTEMPT = 2 -o {index} = 0"
    )
    array = out.strip()
    assert code == 1
    assert f"2 of 3 jobs did not end well; run them again: hpcjobs retry {array}" in err
    code, out, _ = run("retry", array, "--json")
    assert code == 0
    assert [one["outcome"] for one in json.loads(out)] == ["RETRIED"] * 2
    assert run("watch", array)[0] == 0
    attempts = {job["array_index"]: job["attempt"] for job in json.loads(run("list", "--array", array, "--json")[1])}
    assert attempts == {0: 1, 1: 2, 2: 2}
    assert run("retry", array) == (0, "", "")


def test_update_changes_what_can_be_changed_and_says_what_cannot(run):
    job = submitted(run, "--tag", "a", "--meta", "run=7", "--start-in", "1h", "--", "false")
    said = (
        "--priority 5 --queue night --name new --add-tag b --remove-tag a --meta note=x --max-attempts 2 --command true"
    )
    assert run("update", job, *said.split()) == (0, f"job {job} is changed\n", "")
    info = json.loads(run("show", job, "--json")[1])
    told = [info[name] for name in ("priority", "queue", "name", "tags", "meta", "max_attempts")]
    assert told == [5, "night", "new", ["b"], {"run": 7, "note": "x"}, 2]
    assert info["spec"]["command"] == "true"
    assert run("update", job, "--add-tag", "b") == (0, f"job {job} was like that already\n", "")
    assert run("update", job, "--start-now")[0] == 0
    assert run("watch", job)[0] == 0
    code, out, _ = run("update", job, "--command", "false", "--tag", "c")
    assert code == 1
    assert out == f"job {job} was left as it is: the job is FINISHED: command can no longer be changed\n"
    assert json.loads(run("show", job, "--json")[1])["tags"] == ["b"]
    assert run("update", job, "--tag", "c", "--tag", "d")[0] == 0
    assert json.loads(run("show", job, "--json")[1])["tags"] == ["c", "d"]


def test_update_by_conditions_and_of_a_whole_array(run):
    array = submitted(run, "--array", "3", "--tag", "mesh", "--start-in", "1h", "--", "true")
    code, out, _ = run("update", array, "--add-tag", "kept")
    assert (code, out) == (0, f"array {array}: 3 UPDATED\n")
    code, out, _ = run("update", "--where-tag", "kept", "--add-tag", "twice", "--priority", "2", "-y")
    assert (code, out.count("is changed")) == (0, 3)
    jobs = json.loads(run("list", "--json", "--tag", "twice")[1])
    assert [(job["tags"], job["priority"]) for job in jobs] == [(["mesh", "kept", "twice"], 2)] * 3
    code, out, _ = run("update", array, "nonsense", "--meta", "x=1", "--json")
    assert (code, [one["outcome"] for one in json.loads(out)]) == (5, ["UPDATED", "NOT_FOUND"])


def test_tags_that_are_added_at_the_same_time_are_all_kept(run, start):
    job = submitted(run, "--start-in", "1h", "--", "true")
    together = [start("update", job, "--add-tag", f"t{n}", stdout=subprocess.DEVNULL) for n in range(4)]
    assert [process.wait(TIMEOUT) for process in together] == [0] * 4
    assert set(json.loads(run("show", job, "--json")[1])["tags"]) == {"t0", "t1", "t2", "t3"}


def test_a_job_that_is_to_run_after_others(run):
    """--after takes ids of jobs and arrays, and how they must have ended; show says so."""
    failing = submitted(run, "--", "false")
    array = submitted(run, "--array", "2", "--", "true")
    code, out, _ = run("submit", "--after", f"{failing}:failed", "--after", array, "--wait", "--", "true")
    assert code == 0
    assert shown(run, out.strip())["after"] == f"{failing}:failed, {array}"
    code, _, err = run("submit", "--after", failing, "--wait", "--", "true")
    assert (code, failing in err) == (1, True)
    assert run("submit", "--after", str(uuid.uuid4()), "--", "true")[0] == 6


def test_times_and_attempts_become_the_job(run):
    said = "--start-at 2100-01-01T12:00Z --expires-in 1h --backoff 5s --retry-on 75 --retry-on 76 -- true"
    job = submitted(run, *said.split())
    told = shown(run, job)
    assert (told["start at"], told["backoff"]) == ("2100-01-01T12:00:00Z", "5.0 s")
    assert told["retry on"] == "exit code 75, exit code 76"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["expires at"])
    assert run("update", job, "--start-at", "2101-01-01T00:00Z")[0] == 0
    assert shown(run, job)["start at"] == "2101-01-01T00:00:00Z"


def test_an_array_over_a_table(run, tmp_path):
    """Each row is a job; the array's id is all that is printed, and stands for its jobs everywhere."""
    (tmp_path / "d.csv").write_text("damping,run\n0.02,007\n0.05,a b\n")
    array = submitted(run, "--name", "sweep", "--over", str(tmp_path / "d.csv"), "--wait", "--", "echo {run} {damping}")
    assert run("logs", array, "--index", "1") == (0, "a b 0.05\n", "")
    told = shown(run, array)
    assert (told["name"], told["array of"], told["FINISHED"], told["progress"]) == ("sweep", "2 jobs", "2", "100%")
    assert told["command"] == "echo {run} {damping}"
    told = shown(run, array, "--index", "1")
    assert (told["array"], json.loads(told["item"])) == (f"{array}, index 1", {"damping": "0.05", "run": "a b"})
    assert told["command"] == "echo 'a b' 0.05"
    code, out, _ = run("submit", "--over", "-", "--wait", "--json", "--", "echo", "{item}", stdin='1\n"b"\n')
    told = json.loads(out)
    assert (code, told["size"], told["counts"], len(told["jobs"])) == (0, 2, {"FINISHED": 2}, 2)
    assert run("logs", told["jobs"][1])[1] == "b\n"
    code, out, _ = run("watch", array, told["id"], "--json")
    assert (code, len(out.splitlines())) == (0, 4)
    for argv in (["logs", array], ["show", array, "--history"], ["show", array, "--files"]):
        code, _, err = run(*argv)
        assert (code, "--index N" in err) == (2, True)
    assert run("logs", array, "--index", "2")[0] == 2
    assert run("logs", told["jobs"][0], "--index", "0")[0] == 2
    assert run("logs", str(uuid.uuid4()), "--index", "0")[0] == 5


def test_an_array_is_cancelled_and_deleted_as_one(run):
    array = submitted(run, "--array", "3", "--", "sleep", "60")
    until(lambda: states_of(run).get("RUNNING") == 2, timeout=TIMEOUT, what="the start of two jobs")
    code, out, _ = run("cancel", array, "--reason", "enough", "--confirm", "30")
    assert (code, out) == (0, f"array {array}: 3 CANCELLED\n")
    assert run("delete", array) == (0, f"array {array}: 3 DELETED\n", "")
    assert run("show", array)[0] == 5


def test_the_history_of_a_job_is_two_tables(run):
    job = run("submit", "--wait", "--max-attempts", "2", "--", "sh", "-c", "test $HPCJOBS_ATTEMPT = 2")[1].strip()
    changes, attempts, times = run("show", job, "--history")[1].split("\n\n")
    assert [line.split()[1] for line in changes.splitlines()] == [
        "STATE", "QUEUED", "RUNNING", "QUEUED", "RUNNING", "FINISHED",
    ]  # fmt: skip
    assert "exit code 1" in changes
    assert [line.split()[:3] for line in attempts.splitlines()] == [
        ["ATTEMPT", "STATE", "EXIT"], ["1", "FAILED", "1"], ["2", "FINISHED", "0"],
    ]  # fmt: skip
    assert [line.split()[0] for line in times.splitlines()] == ["waited", "ran"]
    told = json.loads(run("show", job, "--history", "--json")[1])
    assert all(attempt["peak_memory"] > 0 for attempt in told["attempts"])


def test_queues_are_paused_limited_and_opened_again(run, shared_service, monkeypatch):
    queue = f"q-{uuid.uuid4().hex[:8]}"
    assert run("queues", "pause", queue)[0] == 4
    monkeypatch.setenv("HPCJOBS_TOKEN", shared_service.make_token("operator", scope="admin").token)
    code, out, _ = run("queues", "pause", queue, "--reason", "maintenance")
    assert (code, out) == (
        0,
        f"queue {queue} is paused: maintenance (runs any number of jobs at once, each for any time)\n",
    )
    job = submitted(run, "--queue", queue, "--", "true")
    [header, row] = [line.split() for line in run("queues")[1].splitlines() if line.split()[0] in {"QUEUE", queue}]
    assert (row[1], row[header.index("QUEUED")], row[-1]) == ("paused", "1", "maintenance")
    code, out, _ = run("queues", "set", queue, "--max-running", "2", "--max-walltime", "12h", "--json")
    told = json.loads(out)
    assert (told["max_running"], told["max_walltime"], told["paused"]) == (2, 43200, True)
    assert run("queues", "set", queue, "--max-running", "none")[1].endswith(
        "(runs any number of jobs at once, each for at most 12:00:00)\n"
    )
    assert run("queues", "resume", queue)[0] == 0
    assert run("watch", job)[0] == 0
    [now] = [one for one in json.loads(run("queues", "--json")[1]) if one["name"] == queue]
    assert (now["paused"], now["reason"], now["max_running"]) == (False, None, None)
    for argv in (["set", queue], ["set", queue, "--max-running", "few"]):
        assert run("queues", *argv)[0] == 2
    assert run("queues", "set", queue, "--max-running", "0")[0] == 6


def test_old_jobs_are_forgotten_where_serve_is_told_so(run, monkeypatch):
    """--keep takes what is a length of time everywhere, and reaches the processes that remove the jobs."""
    from hpcjobs_server.settings import Settings

    served = []

    class Supervisor:
        def __init__(self, settings):
            served.append(settings)

        def run(self):
            return 0

    monkeypatch.setattr("hpcjobs_server.supervisor.Supervisor", Supervisor)
    monkeypatch.setattr("setproctitle.setproctitle", lambda _: None)
    assert run("serve", "--keep", "90d")[0] == 0
    assert served[0].keep == 90 * 86400
    for name, value in served[0].environ().items():
        monkeypatch.setenv(name, value)
    assert Settings().keep == 90 * 86400
    for wrong, said in (("soon", "'soon' is not a length of time"), ("0", "greater than 0")):
        code, out, err = run("serve", "--keep", wrong)
        assert (code, out) == (2, "")
        assert "--keep: " in err
        assert said in err


def test_an_array_that_has_not_ended_in_time_is_told_as_it_is(run):
    """The request stands, and the exit code says that the time was over."""
    array = submitted(
        run, "--array", "1", "--grace", "2s", "--", "trap '' TERM; echo begun; while :; do sleep 0.1; done"
    )
    until(lambda: run("logs", array, "--index", "0")[1] == "begun\n", timeout=TIMEOUT, what="the start of the job")
    code, out, _ = run("cancel", array, "--confirm", "0.5")
    assert (code, out) == (124, f"array {array}: 1 CANCEL_REQUESTED; it had not ended 0.5 s later\n")
    assert run("watch", array)[0] == 1
    assert states_of(run) == {"CANCELLED": 1}
