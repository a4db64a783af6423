"""What a job calls from inside itself, in real processes with real signals."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpcjobs.runtime as runtime_module
from hpcjobs import runtime
from hpcjobs.bars import last_progress, last_report

ROOT = Path(runtime_module.__file__).parent.parent
TIMEOUT = 30


class Script:
    """A script that runs as a job does, with the pieces that tests look at."""

    def __init__(
        self, folder: Path, code: str, *, file: bool = True, job: bool = True, options: tuple[str, ...] = ()
    ) -> None:
        self.progress_file = folder / "progress"
        path = folder / "script.py"
        path.write_text(textwrap.dedent(code))
        environ = {name: text for name, text in os.environ.items() if not name.startswith("HPCJOBS_")}
        environ["PYTHONPATH"] = str(ROOT)
        if job:
            environ.update(HPCJOBS_JOB_ID="4f9c", HPCJOBS_ATTEMPT="2")
        if file:
            environ["HPCJOBS_PROGRESS_FILE"] = str(self.progress_file)
        self.process = subprocess.Popen(
            [sys.executable, *options, str(path)],
            env=environ,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def await_line(self, expected: str) -> None:
        """Wait until the script has printed ``expected``."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], TIMEOUT)[0], "the script said nothing"
        assert self.process.stdout.readline() == expected + "\n"

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: exit code, rest of stdout, stderr."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err

    def lines(self) -> list[dict[str, Any]]:
        """What the progress file has."""
        return [json.loads(line) for line in self.progress_file.read_text().splitlines()]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(code: str, **options: Any) -> Script:
            made = Script(tmp_path, code, **options)
            stack.callback(kill, made.process)
            return made

        yield start


def kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is a job; the path of its progress file."""
    file = tmp_path / "progress"
    monkeypatch.setenv("HPCJOBS_JOB_ID", "4f9c")
    monkeypatch.setenv("HPCJOBS_PROGRESS_FILE", str(file))
    return file


# Cost and independence


def test_it_is_one_file_of_the_standard_library_that_python_3_8_can_read() -> None:
    tree = ast.parse(Path(runtime_module.__file__).read_text(), feature_version=(3, 8))
    at_run_time = [
        node for node in ast.walk(tree) if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in at_run_time:
        if id(node) in typing_only:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_it_imports_where_nothing_of_the_clients_is_installed(script: Any) -> None:
    code = """
        import sys
        for name in ("httpx", "httpx_sse", "pydantic", "pydantic_core", "tenacity", "anyio", "typing_extensions"):
            sys.modules[name] = None
        from hpcjobs import runtime
        runtime.progress(1, 2)
        runtime.should_abort()
        print(runtime.job_id(), runtime.attempt())
    """
    assert script(code, options=("-S",)).end() == (0, "4f9c 2\n", "")


def test_importing_brings_in_nothing_that_is_slow() -> None:
    """Every job pays for it."""
    code = "import sys; before = set(sys.modules); import hpcjobs.runtime; print(*set(sys.modules) - before)"
    out = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    slow = {"asyncio", "typing", "re", "inspect", "logging", "subprocess", "tempfile", "dataclasses", "socket", "email"}
    assert not {name.partition(".")[0] for name in out.stdout.split()} & slow


def test_importing_changes_nothing_in_the_process(script: Any) -> None:
    code = """
        import signal, sys
        before = sys.excepthook, signal.getsignal(signal.SIGTERM)
        import hpcjobs.runtime
        print(before == (sys.excepthook, signal.getsignal(signal.SIGTERM)))
    """
    assert script(code).end() == (0, "True\n", "")


# Progress: where it goes


def test_progress_is_one_json_line_in_the_file_that_the_environment_names(job: Path) -> None:
    reporter = runtime._Reporter()
    reporter.report((20, 100, "relaxing\nslowly", time.time()))
    (line,) = [json.loads(text) for text in job.read_text().splitlines()]
    assert {**line, "at": None} == {"done": 20, "total": 100, "message": "relaxing slowly", "at": None}
    assert abs(line["at"] - time.time()) < 60
    progress = last_report(job.read_bytes()).progress
    assert progress is not None
    assert str(progress) == "20% relaxing slowly"


def test_without_a_file_progress_is_a_marked_line_in_order_with_what_is_printed(script: Any) -> None:
    code = """
        from hpcjobs import runtime
        print("before")
        runtime.progress(1, 4)
        print("after")
    """
    status, out, err = script(code, file=False).end()
    before, line, after = out.splitlines()
    assert (status, before, after, err) == (0, "before", "after", "")
    assert line.startswith(runtime.MARK)
    progress = last_progress(out, whole=True)
    assert progress is not None
    assert (progress.done, progress.total) == (1, 4)


def test_what_captures_prints_does_not_capture_progress(script: Any) -> None:
    code = """
        import contextlib, io
        from hpcjobs import runtime
        with contextlib.redirect_stdout(io.StringIO()) as captured:
            runtime.progress(1, 4)
        assert captured.getvalue() == ""
    """
    status, out, _ = script(code, file=False).end()
    assert (status, out[: len(runtime.MARK)]) == (0, runtime.MARK)


def test_outside_of_a_job_nothing_is_printed_or_written(script: Any, tmp_path: Path) -> None:
    code = """
        from hpcjobs import runtime
        for n in range(1000):
            runtime.progress(n, 1000, "message")
        assert not runtime.should_abort()
        assert runtime.job_id() is None and runtime.attempt() is None
    """
    assert script(code, file=False, job=False).end() == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


# Progress: what is taken


@pytest.mark.parametrize("value", ["1", b"1", None, True, [1], object(), 1j])
def test_what_is_not_a_number_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=f"done must be a number, not {type(value).__name__}"):
        runtime.progress(value, 10)
    if value is not None:
        with pytest.raises(TypeError, match="total must be a number"):
            runtime.progress(1, value)


@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("inf"), 10**400])
def test_what_is_no_amount_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="done must be a finite number, 0 or more"):
        runtime.progress(value)
    with pytest.raises(ValueError, match="total must be a finite number, 0 or more"):
        runtime.progress(1, value)


def test_a_message_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="message must be a text, not int"):
        runtime.progress(1, 2, 3)  # type: ignore[arg-type]


def test_scalars_of_other_libraries_are_numbers(job: Path) -> None:
    class Index:
        def __index__(self) -> int:
            return 3

    class Float:
        def __float__(self) -> float:
            return 4.5

    assert runtime._number("done", Index()) == 3
    assert runtime._number("done", Float()) == 4.5


def test_a_message_of_any_length_and_any_characters_makes_one_short_line(job: Path) -> None:
    reporter = runtime._Reporter()
    for message in ["x" * 100_000, "\ud800 broken \x00 \x1b[1m", "\U0001f600" * 9000, "a\r\nb\u2028c", 'say "a\\b"']:
        reporter.budget = 4
        reporter.report((1, 2, message, 0.0))
    lines = job.read_bytes().split(b"\n")
    assert len(lines) == 6
    assert all(len(line) < 4096 for line in lines)
    messages = [json.loads(line)["message"] for line in lines[:-1]]
    assert messages == ["x" * 500, "? broken \x00 \x1b[1m", "\U0001f600" * 500, "a b c", 'say "a\\b"']


# Progress: how often


def test_at_most_ten_lines_are_written_in_any_second_and_the_completing_one_at_once(job: Path) -> None:
    now = 0.0
    reporter = runtime._Reporter(clock=lambda: now)
    written: list[float] = []
    size = 0
    for step in range(3001):
        now = step / 1000
        reporter.report((step, 3000, None, 0.0))
        if (grown := job.stat().st_size) != size:
            size = grown
            written.append(now)
    assert all(sum(1 for other in written if at <= other < at + 1) <= 10 for at in written)
    assert len(written) >= 15
    assert json.loads(job.read_text().splitlines()[-1])["done"] == 3000


def test_the_last_value_of_a_fast_loop_is_written_at_the_end(script: Any) -> None:
    code = """
        from hpcjobs import runtime
        for n in range(20_000):
            runtime.progress(n, 1_000_000)
    """
    made = script(code)
    assert made.end() == (0, "", "")
    lines = made.lines()
    assert lines[-1]["done"] == 19_999
    assert len(lines) < 50


def test_the_last_value_is_written_when_the_script_fails(script: Any) -> None:
    made = script("""
        from hpcjobs import runtime
        for n in range(2000):
            runtime.progress(n)
        raise KeyError("x")
    """)
    assert made.end()[0] == 1
    assert made.lines()[-1]["done"] == 1999


def test_a_call_that_is_not_written_costs_microseconds(job: Path) -> None:
    reporter = runtime._Reporter()
    start = time.process_time()
    for n in range(20_000):
        reporter.report((n, 20_000_000, None, 0.0))
    assert time.process_time() - start < 1


def test_many_threads_write_whole_lines(job: Path) -> None:
    reporter = runtime._Reporter()

    def work(number: int) -> None:
        for n in range(500):
            reporter.budget = 4.0
            reporter.report((n, 500, f"thread {number} " + "x" * 100, 0.0))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    lines = [json.loads(line) for line in job.read_text().splitlines()]
    assert len(lines) > 1000
    assert all(line["total"] == 500 for line in lines)


# Progress: the file


def test_the_file_does_not_grow_without_bound_and_keeps_the_last_line(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "MAX_FILE", 10_000)
    reporter = runtime._Reporter()
    for n in range(1000):
        reporter.budget = 4.0
        reporter.report((n, 1000, None, 0.0))
        assert job.stat().st_size <= 10_000
        report = last_report(job.read_bytes())
        assert report.progress is not None
        assert report.progress.done == n


def test_processes_that_share_a_full_file_never_leave_it_without_the_newest_line(script: Any) -> None:
    made = script("""
        import multiprocessing, sys
        from hpcjobs import runtime
        runtime.MAX_FILE = 5000

        def work(number):
            for n in range(400):
                runtime._reporter.budget = 4.0
                runtime.progress(n, 400, "child %d" % number)

        if __name__ == "__main__":
            children = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(4)]
            for child in children: child.start()
            for child in children: child.join()
            runtime.progress(1, 1, "parent")
    """)
    assert made.end() == (0, "", "")
    assert made.progress_file.stat().st_size <= 10_000
    assert made.lines()[-1]["message"] == "parent"
    assert all(line["done"] >= 0 for line in made.lines())


def test_a_full_disk_raises_nothing_and_the_next_line_starts_anew(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stands for the disk: writing beyond it is cut short and then fails."""
    reporter = runtime._Reporter()
    reporter.report((1, 4, None, 0.0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.stat().st_size + 10, hard))
        reporter.report((2, 4, None, 0.0))
        reporter.report((3, 4, None, 0.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    before = last_report(job.read_bytes()).progress
    assert before is not None
    assert before.done == 1
    reporter.flush()
    after = last_report(job.read_bytes()).progress
    assert after is not None
    assert after.done == 3


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/"])
def test_a_file_that_cannot_be_written_raises_nothing(path: str, script: Any) -> None:
    made = script(f"""
        import os
        os.environ["HPCJOBS_PROGRESS_FILE"] = {path!r}
        from hpcjobs import runtime
        for n in range(100):
            runtime.progress(n, 100)
    """)
    assert made.end() == (0, "", "")


def test_a_closed_stdout_raises_nothing(script: Any) -> None:
    code = """
        import sys
        from hpcjobs import runtime
        sys.stdout.close()
        first = open("data", "wb")  # gets the number that stdout had
        runtime.progress(1, 100)
        raise SystemExit(first.tell())
    """
    made = script(code, file=False)
    assert made.end() == (0, "", "")


def test_a_reader_that_went_away_raises_nothing(script: Any) -> None:
    made = script(
        """
        import sys
        from hpcjobs import runtime
        print("ready", flush=True)
        sys.stdin.readline()
        runtime.progress(1, 100)
        print("still here", file=sys.stderr)
        """,
        file=False,
    )
    made.await_line("ready")
    process = made.process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.communicate("go\n", timeout=TIMEOUT) == (None, "still here\n")
    assert process.returncode == 0


def test_a_signal_handler_may_report_while_the_main_thread_does(script: Any) -> None:
    made = script("""
        import os, signal
        from hpcjobs import runtime
        signal.signal(signal.SIGALRM, lambda *_: runtime.progress(5, 100_000_000, "handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for n in range(100_000):
            runtime.progress(n, 100_000_000)
        signal.setitimer(signal.ITIMER_REAL, 0)
        runtime.progress(7, 7)
    """)
    assert made.end() == (0, "", "")
    assert made.lines()[-1]["done"] == 7


# Progress: children


def test_a_forked_child_does_not_write_what_waited_in_its_parent(script: Any) -> None:
    made = script("""
        import os, sys
        from hpcjobs import runtime
        for n in range(1000):
            runtime.progress(n, 1_000_000)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
    """)
    assert made.end() == (0, "", "")
    assert [line["done"] for line in made.lines()].count(999) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_writes_its_own_last_value(script: Any, method: str) -> None:
    made = script(f"""
        import multiprocessing
        from hpcjobs import runtime

        def work():
            for n in range(1000):
                runtime.progress(n, 1_000_000, "child")

        if __name__ == "__main__":
            child = multiprocessing.get_context("{method}").Process(target=work)
            child.start()
            child.join()
    """)
    assert made.end() == (0, "", "")
    assert [line["done"] for line in made.lines()].count(999) == 1
    assert made.lines()[-1]["done"] == 999


def test_a_child_that_is_forked_while_a_thread_reports_is_not_stuck(script: Any) -> None:
    made = script("""
        import os, threading, warnings
        from hpcjobs import runtime
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = False

        def work():
            while not stop:
                runtime.progress(1, 1_000_000_000)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(50):
            child = os.fork()
            if child == 0:
                runtime.progress(2, 4)
                os._exit(0)
            os.waitpid(child, 0)
        stop = True
        thread.join()
    """)
    assert made.end() == (0, "", "")


# Abort


def test_a_script_that_never_asks_is_ended_by_sigterm_at_once(script: Any) -> None:
    made = script("""
        import time
        from hpcjobs import runtime
        runtime.progress(1, 2)
        print("ready", flush=True)
        time.sleep(60)
    """)
    made.await_line("ready")
    made.process.terminate()
    assert made.end() == (-signal.SIGTERM, "", "")


def test_a_script_that_asks_is_told_of_sigterm_and_goes_on(script: Any) -> None:
    made = script("""
        import time
        from hpcjobs import runtime
        assert runtime.should_abort() is False
        print("ready", flush=True)
        while not runtime.should_abort():
            time.sleep(0.01)
        assert runtime.should_abort() is True
        print("saved")
    """)
    made.await_line("ready")
    made.process.terminate()
    assert made.end() == (0, "saved\n", "")


def test_a_handler_that_was_set_before_is_still_called(script: Any) -> None:
    made = script("""
        import signal, time
        from hpcjobs import runtime
        signal.signal(signal.SIGTERM, lambda number, frame: print("mine", number))
        runtime.should_abort()
        print("ready", flush=True)
        while not runtime.should_abort():
            time.sleep(0.01)
        print(runtime.should_abort())
    """)
    made.await_line("ready")
    made.process.terminate()
    assert made.end() == (0, "mine 15\nTrue\n", "")


def test_threads_read_the_flag_once_the_main_thread_has_asked(script: Any) -> None:
    made = script("""
        import threading, time
        from hpcjobs import runtime
        runtime.should_abort()

        def work():
            while not runtime.should_abort():
                time.sleep(0.01)

        thread = threading.Thread(target=work)
        thread.start()
        print("ready", flush=True)
        while thread.is_alive():
            thread.join(0.01)
    """)
    made.await_line("ready")
    made.process.terminate()
    assert made.end() == (0, "", "")


def test_a_thread_that_asks_first_is_warned_once_and_sigterm_still_ends_the_process(script: Any) -> None:
    made = script("""
        import threading, time
        from hpcjobs import runtime
        answers = []
        thread = threading.Thread(target=lambda: answers.extend([runtime.should_abort(), runtime.should_abort()]))
        thread.start()
        thread.join()
        print(answers, flush=True)
        time.sleep(60)
    """)
    made.await_line("[False, False]")
    made.process.terminate()
    status, _, err = made.end()
    assert status == -signal.SIGTERM
    assert err.count("call it once in the main thread before") == 1
    assert "script.py" in err


def test_a_forked_child_is_ended_by_sigterm_unless_it_asks_itself(script: Any) -> None:
    made = script("""
        import os, signal, time
        from hpcjobs import runtime
        runtime.should_abort()
        for asks in (False, True):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                if asks:
                    runtime.should_abort()
                os.write(writer, b"x")
                while not (asks and runtime.should_abort()):
                    time.sleep(0.01)
                os._exit(3)
            os.read(reader, 1)
            os.kill(child, signal.SIGTERM)
            status = os.waitpid(child, 0)[1]
            print(status if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
    """)
    assert made.end() == (0, "15\n3\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_whose_workers_ask_ends_and_without_delay(script: Any, method: str) -> None:
    """A pool ends its workers with SIGTERM and waits: a worker that only sets a flag would keep it waiting for ever."""
    made = script(f"""
        import multiprocessing, time
        from hpcjobs import runtime

        def work(n):
            runtime.should_abort()
            return n

        if __name__ == "__main__":
            runtime.should_abort()
            context = multiprocessing.get_context("{method}")
            for _ in range(3):
                with context.Pool(3) as pool:
                    assert pool.map(work, range(10)) == list(range(10))
            child = context.Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            print(child.exitcode)
    """)
    assert made.end() == (0, "-15\n", "")


def test_an_abort_reaches_the_work_in_a_pool_and_its_results_come_back(script: Any) -> None:
    made = script("""
        import multiprocessing, time
        from hpcjobs import runtime

        def work(n):
            while not runtime.should_abort():
                time.sleep(0.01)
            return n

        if __name__ == "__main__":
            runtime.should_abort()
            with multiprocessing.get_context("fork").Pool(3) as pool:
                answer = pool.map_async(work, range(3))
                time.sleep(0.5)
                print("ready", flush=True)
                print(answer.get(20))
    """)
    made.await_line("ready")
    os.killpg(made.process.pid, signal.SIGTERM)
    assert made.end() == (0, "[0, 1, 2]\n", "")


def test_an_executor_that_loses_a_worker_ends_though_its_workers_ask(script: Any) -> None:
    made = script("""
        import concurrent.futures, multiprocessing, os, signal
        from hpcjobs import runtime

        def work(n):
            runtime.should_abort()
            if n == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return n

        if __name__ == "__main__":
            with concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
                try:
                    list(pool.map(work, range(20)))
                except concurrent.futures.process.BrokenProcessPool:
                    print("broken")
    """)
    assert made.end() == (0, "broken\n", "")


# JobAborted


def test_an_uncaught_job_aborted_ends_the_script_with_its_reason(script: Any) -> None:
    made = script("""
        from hpcjobs import runtime
        for n in range(1000):
            runtime.progress(n, 10_000)
        print("said before")
        raise runtime.JobAborted("the residual grows")
    """)
    assert made.end() == (1, "said before\n", "JobAborted: the residual grows\n")
    assert made.lines()[-2]["done"] == 999
    assert made.lines()[-1]["aborted"] == "the residual grows"
    report = last_report(made.progress_file.read_bytes())
    assert report.aborted == "the residual grows"
    assert report.progress is not None
    assert report.progress.done == 999


def test_without_a_file_the_reason_is_a_marked_line(script: Any) -> None:
    code = "from hpcjobs import runtime\nraise runtime.JobAborted('why')"
    status, out, err = script(code, file=False).end()
    assert (status, err) == (1, "JobAborted: why\n")
    assert json.loads(out.removeprefix(runtime.MARK))["aborted"] == "why"


def test_outside_of_a_job_the_reason_is_on_stderr_only(script: Any) -> None:
    code = "from hpcjobs import runtime\nraise runtime.JobAborted"
    assert script(code, file=False, job=False).end() == (1, "", "JobAborted: the job stopped itself\n")


def test_a_job_aborted_that_is_caught_is_not_announced(script: Any) -> None:
    made = script("""
        from hpcjobs import runtime
        try:
            raise runtime.JobAborted("why")
        except runtime.JobAborted as error:
            print(error)
    """)
    assert made.end() == (0, "why\n", "")
    assert not made.progress_file.exists()


def test_a_hook_of_another_library_is_kept_for_other_errors_and_does_not_stand_before(script: Any) -> None:
    code = """
        import sys
        from hpcjobs import runtime
        runtime.JobAborted("made early")
        sys.excepthook = lambda kind, error, trace: print("theirs", kind.__name__, file=sys.stderr)
        runtime.JobAborted("made late")
        raise {error}
    """
    assert script(code.format(error="runtime.JobAborted('why')")).end() == (1, "", "JobAborted: why\n")
    assert script(code.format(error="KeyError('x')")).end() == (1, "", "theirs KeyError\n")


def test_subclasses_count_and_survive_pickling(script: Any) -> None:
    made = script("""
        import pickle
        from hpcjobs import runtime
        class Diverged(runtime.JobAborted):
            def __init__(self, step):
                self.args = (step,)
            def __str__(self):
                return "diverged at step %d" % self.args
        raise pickle.loads(pickle.dumps(Diverged(7)))
    """)
    assert made.end() == (1, "", "JobAborted: diverged at step 7\n")
    assert made.lines()[-1]["aborted"] == "diverged at step 7"


def test_a_child_of_multiprocessing_hands_job_aborted_to_its_parent(script: Any) -> None:
    made = script("""
        import multiprocessing
        from hpcjobs import runtime

        def work(n):
            raise runtime.JobAborted("child %d" % n)

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.map(work, [7])
    """)
    assert made.end() == (1, "", "JobAborted: child 7\n")
    assert [line["aborted"] for line in made.lines()] == ["child 7"]


def test_a_reason_of_any_length_makes_one_line(script: Any) -> None:
    made = script("""
        from hpcjobs import runtime
        raise runtime.JobAborted("a\\n" * 10_000)
    """)
    assert made.end()[0] == 1
    (line,) = made.lines()
    assert len(line["aborted"]) == 1024


def test_a_coroutine_that_raises_job_aborted_ends_the_script_with_it(script: Any) -> None:
    made = script("""
        import asyncio
        from hpcjobs import runtime
        async def main():
            await asyncio.sleep(0)
            raise runtime.JobAborted("why")
        asyncio.run(main())
    """)
    assert made.end() == (1, "", "JobAborted: why\n")
