"""The demo tells its whole story, checks it, and leaves nothing behind, however it ends."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hpcjobs import Client
from hpcjobs.models import ServiceInfo
from hpcjobs_server.demo import place, run, sweep
from hpcjobs_server.demo.claims import DemoError
from hpcjobs_server.demo.hints import short
from hpcjobs_server.demo.service import DemoService
from hpcjobs_server.demo.story import with_a_worker
from tests.running import until

PNG = b"\x89PNG\r\n\x1a\n"


@contextmanager
def started(data: Path, results: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demo without a terminal, whose story goes to ``results/../story``."""
    with (results.parent / "story").open("wb") as story:
        demo = subprocess.Popen(
            [sys.executable, "-m", "hpcjobs_server", "demo", "--data", str(data), "--results", str(results)],
            stdin=subprocess.DEVNULL,
            stdout=story,
            stderr=subprocess.STDOUT,
            cwd=results.parent,
            env={**os.environ, "MPLCONFIGDIR": str(results.parent / "matplotlib")},
            start_new_session=True,
        )
    try:
        yield demo
    finally:
        demo.kill()
        demo.wait(10)
        place.end_all(data)


def story(folder: Path) -> str:
    """What the demo has told so far."""
    return (folder / "story").read_text(encoding="utf-8")


def until_it_says(demo: subprocess.Popen[bytes], folder: Path, text: str) -> None:
    """Wait until the demo has come to ``text``."""
    until(lambda: text in story(folder) or demo.poll() is not None, timeout=90, what=f"the demo to say {text!r}")
    assert text in story(folder), story(folder)


@pytest.mark.timeout(400)  # half a minute on an idle machine with two cores
def test_the_demo_runs_to_its_end_also_after_one_that_was_killed(tmp_path: Path) -> None:
    """A run that is killed leaves a service behind; the next one clears it away, and all it says is so."""
    data, results = tmp_path / "data", tmp_path / "results"
    with started(data, results) as demo:
        until_it_says(demo, tmp_path, "RUNNING")
        demo.kill()
        demo.wait(10)
        assert place.processes_of(data), "the service should have outlived a demo that was killed"

        with started(data, results) as again:
            code = again.wait(250)
        told = story(tmp_path)

        assert code == 0, told
        assert place.processes_of(data) == []
        assert not data.exists()

    assert "2 before, 2 after" in told
    assert told.count("CANCEL_REQUESTED") == 1
    assert told.count("ALREADY_TERMINAL") == 2
    assert "no process left" in told
    reasons = re.findall(r"ended CANCELLED with the reason: (.+)", told)
    assert len(reasons) == 2
    assert all(told.count(reason) == 3 for reason in reasons), "a reason is in the call, the job and the summary"
    assert len(re.findall(r"^ +[\d.]+ % +0\.\d{3} g +\d\.\d{3} s .* FINISHED", told, re.MULTILINE)) == 6

    assert (results / "spectra.png").read_bytes().startswith(PNG)
    spectra = sorted(results.glob(f"spectrum-*/{sweep.OUTPUT}"))
    assert len(spectra) == 6
    for path in spectra:
        damping = float(path.parent.name.removeprefix("spectrum-"))
        assert len(sweep.read_spectrum(path, damping).periods) == 200

    # The three commands at the end are no decoration.
    submit, watch, stop = re.findall(r"^  \$ (.+)$", told, re.MULTILINE)[-3:]
    shell = f"set -e; trap '{stop} --now' EXIT; id=$({submit}); {watch.replace('ID', '$id')}"
    env = {**os.environ, "HPCJOBS_DATA": str(tmp_path / "own")}
    done = subprocess.run(
        ["sh", "-c", shell], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FINISHED" in done.stdout
    assert "has ended" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C ends it with exit code 130 while jobs run and wait, with no process and no data folder left."""
    data, results = tmp_path / "data", tmp_path / "results"
    with started(data, results) as demo:
        until_it_says(demo, tmp_path, "RUNNING")
        demo.send_signal(number)
        assert demo.wait(60) == 130, story(tmp_path)
        assert "No process left." in story(tmp_path)
        assert place.processes_of(data) == []
        assert not data.exists()


def test_a_worker_is_waited_for_but_not_for_ever() -> None:
    """On a busy machine the API answers before the worker has begun."""
    answers = [ServiceInfo.model_construct(workers=n, max_cores=2 * n) for n in (0, 0, 1)]
    client = cast(Client, SimpleNamespace(info=lambda: answers.pop(0) if len(answers) > 1 else answers[0]))
    assert with_a_worker(client).workers == 1
    answers[:] = [ServiceInfo.model_construct(workers=0, max_cores=0)]
    with pytest.raises(DemoError, match=r"no worker after 0\.05 s"):
        with_a_worker(client, within=0.05)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo empties folders of its own only."""
    (tmp_path / "thesis.tex").write_text("do not lose me", encoding="utf-8")
    assert run.main(data=tmp_path, results=tmp_path / "results") == 1
    assert "not the demo's" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_demos_at_once_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one says that the first one runs."""
    with (tmp_path / place.MARK).open("w", encoding="utf-8") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        assert run.main(data=tmp_path, results=tmp_path / "results") == 1
    assert "another demo runs" in capsys.readouterr().out


def test_a_claim_that_does_not_hold_ends_the_demo_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be shown to be so is not said: exit code 1, the reason, and nothing left."""

    def cannot(self: DemoService) -> None:
        (self.folder / "log").mkdir()
        raise run.DemoError("the service said [no]")

    monkeypatch.setattr(DemoService, "start", cannot)
    assert run.main(data=tmp_path / "data", results=tmp_path / "results") == 1
    said = capsys.readouterr().out
    assert "The demo failed: the service said [no]" in said
    assert short(tmp_path / "data" / "log") in said
    assert run.main(data=tmp_path / "data", results=tmp_path / "results") == 1, "the folder can be used again"
