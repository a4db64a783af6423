"""Progress bars in logs: what is read, what is not taken for one, and how long it takes."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress as RichProgress
from tqdm import tqdm

from hpcjobs import runtime
from hpcjobs.bars import last_progress, last_report
from hpcjobs.models import Progress

BARS = [
    ("desc:  45%|████▌     | 45/100 [00:01<00:01, 33.2it/s, loss=0.1]", 45, 100, "desc, 33.2it/s"),
    (" 45%|████▌     | 45/100 [00:01<00:01, 33.20it/s]", 45, 100, "33.20it/s"),
    ("  0%|          | 0/100 [00:00<?, ?it/s]", 0, 100, None),
    ("100%|##########| 100/100 [1:02:03<00:00,  1.50s/it]", 100, 100, "1.50s/it"),
    ("dl:  27%|██▋| 12.3M/45.6M [00:01<00:03, 5.0MB/s]", 12.3e6, 45.6e6, "dl, 5.0MB/s"),
    ("dl:  27%|██▋| 12.3MB/45.6MB [00:01<00:03, 5.0MB/s]", 12.3e6, 45.6e6, "dl, 5.0MB/s"),
    ("dl:  27%|██▋| 1.23k/4.56k [00:01<00:03, 5.00kit/s]", 1230, 4560, "dl, 5.00kit/s"),
    ("Epoch 3/10:  50%|█████     | 6/12 [00:01<00:01,  5.9 batch/s]", 6, 12, "Epoch 3/10, 5.9 batch/s"),
    ("narrow:  45% 45/100 [00:01<00:01, 33.2it/s]", 45, 100, "narrow, 33.2it/s"),
    ("45it [00:01, 33.20it/s]", 45, None, "33.20it/s"),
    ("reading: 45 files [00:01, 33.20 files/s]", 45, None, "reading, 33.20 files/s"),
    ("1.20kit [00:01, 33.20it/s, loss=2]", 1200, None, "33.20it/s"),
    ("Working... ━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  27% 0:00:12", 27, 100, "Working..."),
    ("Working...                                             0% -:--:--", 0, 100, "Working..."),
    ("   ━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 12.3/45.6 MB 5.0 MB/s eta 0:00:07", 12.3e6, 45.6e6, "5.0 MB/s"),
    ("     |████████▎           | 27% 12.3 MB 5.0 MB/s eta 0:00:07", 27, 100, None),
    ("12/100 [===>..........................] - ETA: 5s - loss: 0.3", 12, 100, None),
    (" 12/100 [==>...........................] - 3s 2ms/step", 12, 100, None),
    ("12/100 ━━━━──────────────── 5s 2ms/step - loss: 0.3", 12, 100, None),
    ("100/100 - 1s - loss: 0.3 - 10ms/step", 100, 100, None),
    ("12/Unknown - 3s 2ms/step", 12, None, None),
    ("Epoch 3/10", 3, 10, "Epoch 3/10"),
    ("Epoch [3/10], Step [20/100], loss 0.5", 20, 100, "Step 20/100"),
    ("step 20 of 100", 20, 100, "step 20 of 100"),
    ("INFO iteration: 20/100", 20, 100, "iteration: 20/100"),
    ("2026-11-12 10:00:00 processed 20 out of 100 files", 20, 100, "processed 20 out of 100"),
    ("[20/100] Building CXX object a.o", 20, 100, "Building CXX object a.o"),
    ("[ 20%] Building CXX object a.o", 20, 100, "Building CXX object a.o"),
    ("37%", 37, 100, None),
    ("  37.5 %  ", 37.5, 100, None),
    ("[####      ] 37%", 37, 100, None),
    ("Reading [####      ] 37%", 37, 100, "Reading"),
    ("data.nc  37%[======>            ] 12,345,678  5.0MB/s", 37, 100, "data.nc"),
    ("############                     37.0%", 37, 100, None),
    ("Progress: 37%", 37, 100, None),
    ("37% done", 37, 100, None),
    ("custom:  37%|███▋      |", 37, 100, "custom"),
]


@pytest.mark.parametrize(("text", "done", "total", "message"), BARS, ids=[bar[0] for bar in BARS])
def test_the_bars_of_well_known_programs_are_read(
    text: str, done: float, total: float | None, message: str | None
) -> None:
    found = last_progress(text + "\n", whole=True)
    assert found is not None
    assert (found.done, found.total) == (pytest.approx(done), pytest.approx(total) if total else total)
    assert found.message == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "finished on 12/11/2026",
        "step 12/11/2026",
        "epoch 12/11/2026 10:00",
        "[12/11/2026] start",
        "12/11 10:00:01 start",
        "3/4 of the users said so",
        "finished 3/4 of the work",
        "processed 3 of the files",
        "about 37% of the samples were lost",
        "the error fell by 5% - 10% (or so)",
        "growth of 12% ...)",
        "12% [...] of them",
        "/data/runs/3/10 [ok]",
        "reading runs/step 3/10.nc",
        "see src/epoch3/10",
        "http://host/step/3/10",
        "10/3 [===>...]",
        "step 20 of 10",
        "step 0 of 0",
        "Progress: 137%",
        "CPU 37% idle",
        "ratio 45/100",
        "at 10:45/11:45 [it]",
        "version 1.2/3.4 [00:01]",
        "steps 1-3 of 10",
        "50%off",
        "::hpcjobs:: {broken",
        '::hpcjobs:: {"done": "x"}',
        '::hpcjobs:: {"done": NaN}',
        '::hpcjobs:: {"done": -1}',
        '::hpcjobs:: {"done": true}',
        '::hpcjobs:: {"done": 1, "total": "two"}',
        '::hpcjobs:: {"aborted": "why", "at": 1}',
        "::hpcjobs:: [1]",
        "::hpcjobs:: " + '{"a":' * 1500,
    ],
)
def test_dates_paths_and_prose_are_not_progress(text: str) -> None:
    assert last_progress(text + "\n", whole=True) is None


def test_the_last_one_wins_over_lines_and_carriage_returns() -> None:
    text = "Epoch 1/3\n  1%|  | 1/100 [00:01<00:01, 1it/s]\r  2%|  | 2/100 [00:01<00:01, 1it/s]\rnothing here\n\n"
    assert last_progress(text, whole=True) == Progress(done=2, total=100, message="1it/s")


def test_backspaces_and_cursor_movements_part_lines_and_colours_do_not() -> None:
    assert str(last_progress("\x08" * 40 + "12/100 [==>.....] - ETA: 5s" + "\x08" * 40)) == "12%"
    keras = "\x1b[1m 12/100\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m━━━━━━━━━\x1b[0m \x1b[1m5s\x1b[0m 2ms/step\x1b[2K\x1b[1A"
    assert str(last_progress(keras, whole=True)) == "12%"


def test_the_marked_line_of_runtime_is_read_wherever_it_stands_on_its_line() -> None:
    line = runtime.MARK + '{"done": 3, "total": 4, "message": "é 50%", "at": 1767225600.5}'
    found = last_progress("some text without an end" + line + "\nand more\n")
    assert found is not None
    assert (found.done, found.total, found.message) == (3, 4, "é 50%")
    assert found.at is not None
    assert found.at.isoformat() == "2026-01-01T00:00:00.500000+00:00"


def test_an_impossible_time_in_a_marked_line_is_left_out() -> None:
    assert last_progress(runtime.MARK + '{"done": 3, "at": 1e300}\n') == Progress(done=3)


@pytest.mark.parametrize("text", ["Epoch 3/1", "step 20 of 10", "Step [1/2"])
def test_a_number_that_the_end_may_have_cut_is_not_believed(text: str) -> None:
    assert last_progress("Epoch 2/10\n" + text) == Progress(done=2, total=10, message="Epoch 2/10")


def test_a_number_or_a_word_that_the_start_may_have_cut_is_not_believed() -> None:
    assert last_progress("5/100 [====>......] - ETA: 5s\n") is None
    assert last_progress("7%\n") is None
    assert last_progress("rain:  45%|████  | 45/100 [00:01<00:01, 33.2it/s]\n") == Progress(
        done=45, total=100, message="33.2it/s"
    )


LOG = (
    "start on 12/11/2026\nEpoch 1/3\n"
    + "".join(
        f"train: {n:3d}%|{'█' * (n // 10):10s}| {n * 12}/1200 [00:01<00:01, 33.2it/s]\r" for n in range(0, 101, 5)
    )
    + "\nEpoch 2/3\n"
    + "".join(f"{n:3d}/120 [{'=' * (n // 10)}>{'.' * (12 - n // 10)}] - ETA: 5s\n" for n in range(0, 121, 10))
    + "saved /runs/3/10\n"
)


def told_so_far(text: str) -> set[tuple[float, float | None]]:
    """Every progress that is told at the end of some line of ``text``."""
    ends = [end for end, char in enumerate(text, 1) if char in "\r\n"]
    found = (last_progress(text[:end], whole=True) for end in ends)
    return {(progress.done, progress.total) for progress in found if progress}


TOLD = told_so_far(LOG)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LOG.encode())), st.integers(0, len(LOG.encode())))
def test_a_log_that_is_cut_anywhere_tells_nothing_that_the_whole_does_not(start: int, end: int) -> None:
    found = last_progress(LOG.encode()[start:end].decode("utf-8", "replace"))
    assert found is None or (found.done, found.total) in TOLD


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789/[]%|<>:., =#█━-abesptit\n\r\x1b\x08\ufffd"))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = last_progress(text)
    assert found is None or found.done >= 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000), st.data(), st.sampled_from(["it", "B", " files", "step"]), st.booleans())
def test_what_tqdm_really_prints_is_read(total: int, data: st.DataObject, unit: str, scaled: bool) -> None:
    done = data.draw(st.integers(0, total))
    out = io.StringIO()
    with tqdm(
        total=total, file=out, desc="fit", unit=unit, unit_scale=scaled, ascii=data.draw(st.booleans()), ncols=90
    ) as bar:
        bar.update(done)
        bar.refresh()
        text = out.getvalue()
    found = last_progress(text, whole=True)
    assert found is not None
    assert found.done == pytest.approx(done, rel=0.01)
    assert found.total == pytest.approx(total, rel=0.01)
    assert found.message is not None
    assert found.message.startswith("fit")


def test_what_tqdm_prints_without_a_total_is_read() -> None:
    out = io.StringIO()
    with tqdm(file=out, desc="scan") as bar:
        bar.update(45)
        bar.refresh()
    found = last_progress(out.getvalue(), whole=True)
    assert found is not None
    assert (found.done, found.total) == (45, None)


@pytest.mark.parametrize("colours", ["truecolor", None])
def test_what_rich_really_prints_is_read(colours: str | None) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=colours, width=80, legacy_windows=False)  # type: ignore[arg-type]
    with RichProgress(console=console, auto_refresh=False) as bar:
        task = bar.add_task("Reading", total=200)
        bar.update(task, completed=50, refresh=True)
        text = out.getvalue()
    assert last_progress(text, whole=True) == Progress(done=25, total=100, message="Reading")


@pytest.mark.parametrize(
    "junk",
    [
        "1" * 1_000_000,
        "1/" * 500_000,
        "12/34 [" * 140_000,
        "1 [00:01, 1" * 90_000,
        "1/2 [00:01<00:01, 1" + "a" * 20 + "/" * 20 + "\n" + "1/2 [00:01<00:01, 1/" * 50_000,
        "\x1b[" * 500_000,
        "\x1b[1;" * 250_000,
        "[" + "=" * 1_000_000,
        "[=====" * 170_000,
        "50%[=====" * 110_000,
        "━" * 1_000_000,
        "━━━ " * 250_000,
        "epoch " * 170_000,
        "step 1 of " * 100_000,
        "step 1 of 1/\n" * 80_000,
        "\r" * 1_000_000,
        "1\r" * 500_000,
        "%\n" * 500_000,
        " " * 1_000_000 + "%",
        "::hpcjobs:: {" * 80_000,
        '::hpcjobs:: {"a":\n' * 60_000,
        "::hpcjobs:: " + "{" * 1_000_000,
    ],
    ids=lambda junk: repr(junk[:20]),
)
def test_a_megabyte_of_junk_takes_no_time(junk: str) -> None:
    start = time.process_time()
    last_progress(junk, whole=True)
    assert time.process_time() - start < 2


def test_the_last_report_of_a_progress_file_is_its_last_complete_line() -> None:
    two = b'{"done": 1, "total": 4}\n{"done": 2, "total": 4, "message": "b", "at": 1}\n'
    report = last_report(two + b'{"done": 3, "tot')
    assert report.aborted is None
    assert report.progress is not None
    assert (report.progress.done, report.progress.message) == (2, "b")


def test_a_job_that_stopped_itself_is_known_only_where_that_is_the_last_line() -> None:
    lines = '{"done": 1}\n{"aborted": "why", "at": 1}\n'
    assert last_report(lines) == (Progress(done=1), "why", None)
    assert last_report(lines + '{"done": 2}\n') == (Progress(done=2), None, None)
    assert last_report("") == (None, None, None)


def test_an_error_that_ended_the_work_is_known_only_where_that_is_the_last_line() -> None:
    lines = '{"done": 1}\n{"failed": "ValueError: no", "at": 1}\n'
    assert last_report(lines) == (Progress(done=1), None, "ValueError: no")
    assert last_report(lines + '{"done": 2}\n').failed is None


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_no_bytes_break_the_reader_of_reports(data: bytes) -> None:
    last_report(data)
