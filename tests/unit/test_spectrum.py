"""The demo's program finds what closed forms and an independent integration find, and says what is wrong with its input."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcjobs_server.demo import spectrum

HERE = Path(spectrum.__file__).parent
PROGRAM, RECORD = HERE / "spectrum.py", HERE / "record.csv"


def run(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a job would."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("damping", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("period", [0.05, 0.7, 8.0])
def test_a_sudden_lasting_acceleration_has_the_closed_form(damping: float, period: float) -> None:
    """Every sample of the response to a step is the closed form's."""
    step, omega = 0.01, 2 * math.pi / period
    time = np.arange(1001) * step
    damped = omega * math.sqrt(1 - damping**2)
    decay = np.exp(-damping * omega * time)
    swing = np.cos(damped * time) + damping / math.sqrt(1 - damping**2) * np.sin(damped * time)
    expected = -(1 - decay * swing) / omega**2
    found = spectrum.response(np.ones_like(time), step, np.array([period]), damping)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 / omega**2)


@pytest.mark.parametrize("damping", [0.0, 0.02, 0.3])
def test_a_ramp_has_the_closed_form(damping: float) -> None:
    """The step's end counts as exactly as its start: the response to a growing acceleration."""
    step, omega = 0.02, 2 * math.pi
    time = np.arange(501) * step
    damped = omega * math.sqrt(1 - damping**2)
    decay = np.exp(-damping * omega * time)
    lag = 2 * damping / omega
    swing = decay * (lag * np.cos(damped * time) + (2 * damping**2 - 1) / damped * np.sin(damped * time))
    expected = -(time - lag + swing) / omega**2
    found = spectrum.response(time, step, np.array([1.0]), damping)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("damping", [0.02, 0.05, 0.2])
def test_resonance_with_a_sine_ends_at_one_over_twice_the_damping(damping: float) -> None:
    """The steady amplitude at resonance is the static one over twice the damping."""
    step, period = 0.005, 0.5
    omega, time = 2 * math.pi / period, np.arange(12_000) * step
    found = spectrum.spectral_displacement(np.sin(omega * time), step, np.array([period]), damping)[0]
    assert found == pytest.approx(1 / (2 * damping * omega**2), rel=2e-3)


@pytest.mark.parametrize("length", [0.1, 0.3, 1.0, 2.0])
def test_a_half_sine_pulse_has_the_classic_shock_spectrum(length: float) -> None:
    """The undamped maximum for a half sine of ``length`` periods is the textbook's."""
    period, step = 1.0, 0.001
    time = np.arange(6001) * step
    pulse = np.where(time <= length, np.sin(math.pi * time / length), 0.0)
    ratio = period / (2 * length)  # of the pulse's own frequency to the oscillator's
    during = np.linspace(0, length, 200_001)
    forced = np.abs(
        (np.sin(math.pi * during / length) - ratio * np.sin(2 * math.pi * during / period)) / (1 - ratio**2)
    ).max()
    after = abs(2 * ratio * math.cos(math.pi * length / period) / (ratio**2 - 1))
    found = spectrum.spectral_displacement(pulse, step, np.array([period]), 0.0)[0] * (2 * math.pi / period) ** 2
    assert found == pytest.approx(max(forced, after), rel=3e-3)


def test_the_record_gives_what_another_method_gives() -> None:
    """Runge and Kutta's method, with steps a fifth as long, agrees on the real record."""
    step, ground = spectrum.read_record(RECORD)
    ground, period, damping, parts = ground[3000:5000], 0.2, 0.05, 5
    omega, h = 2 * math.pi / period, step / parts

    def slope(u: float, v: float, a: float) -> tuple[float, float]:
        return v, -a - 2 * damping * omega * v - omega**2 * u

    u = v = 0.0
    expected = [0.0]
    for a, b in itertools.pairwise(ground):
        for part in range(parts):
            start, mid, end = (a + (b - a) * (part + x) / parts for x in (0.0, 0.5, 1.0))
            k1 = slope(u, v, start)
            k2 = slope(u + h / 2 * k1[0], v + h / 2 * k1[1], mid)
            k3 = slope(u + h / 2 * k2[0], v + h / 2 * k2[1], mid)
            k4 = slope(u + h * k3[0], v + h * k3[1], end)
            u += h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
            v += h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        expected.append(u)
    found = spectrum.response(ground, step, np.array([period]), damping)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_stiff_oscillator_follows_the_ground_and_a_soft_one_stays_behind() -> None:
    """At short periods the spectrum is the peak ground acceleration, at long ones it vanishes."""
    step, ground = spectrum.read_record(RECORD)
    ground = ground[3000:5000]
    periods = np.array([0.004, 50.0])
    found = (2 * math.pi / periods) ** 2 * [
        spectrum.spectral_displacement(ground, step, periods[i : i + 1], 0.05)[0] for i in range(2)
    ]
    assert found[0] == pytest.approx(np.abs(ground).max(), rel=0.05)
    assert found[1] < 0.01 * np.abs(ground).max()


@given(
    scale=st.floats(-5, 5).filter(lambda value: abs(value) > 0.01),
    damping=st.floats(0, 0.9),
    period=st.floats(0.02, 10),
    ground=st.lists(st.floats(-100, 100), min_size=2, max_size=40),
)
def test_the_spectrum_scales_with_the_ground_motion(
    scale: float, damping: float, period: float, ground: list[float]
) -> None:
    """An oscillator is linear: a ground motion that is scaled or turned round scales its spectrum."""
    motion, periods = np.array(ground), np.array([period])
    one = spectrum.spectral_displacement(motion, 0.01, periods, damping)
    other = spectrum.spectral_displacement(scale * motion, 0.01, periods, damping)
    np.testing.assert_allclose(other, abs(scale) * one, rtol=1e-9, atol=1e-9)


def test_the_record_is_the_one_that_its_note_describes() -> None:
    """Thousands of evenly spaced rows, the peak that the agency gives, and a note with source and licence, all small."""
    step, ground = spectrum.read_record(RECORD)
    assert (len(ground), step) == (12_000, pytest.approx(0.005))
    assert np.abs(ground).max() == pytest.approx(39.104, rel=1e-3)
    assert RECORD.stat().st_size < 200_000
    note = (HERE / "SOURCE.md").read_text(encoding="utf-8")
    assert all(
        word in note
        for word in ("U.S. Geological Survey", "Public domain", "17 U.S.C. § 105", "39.10 cm/s²", "12,000 samples")
    )


def test_the_program_writes_a_spectrum_a_log_and_its_progress(tmp_path: Path) -> None:
    """One line of log per block, progress that ends at its total, and a table that reads back."""
    progress = tmp_path / "progress"
    done = run(
        RECORD, "--periods", 20, "--block", 5, "--out", "out.csv", cwd=tmp_path, HPCJOBS_PROGRESS_FILE=str(progress)
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if "of 20 periods" in line] == lines[1:5]
    assert lines[-1].startswith("peak ")
    table = np.loadtxt(tmp_path / "out.csv", delimiter=",")
    assert table.shape == (20, 4)
    assert (table[0, 0], table[-1, 0]) == pytest.approx((0.02, 5.0))
    np.testing.assert_allclose(table[:, 3], table[:, 1] * (2 * math.pi / table[:, 0]) ** 2 / 980.665, rtol=1e-4)
    said = json.loads(progress.read_text(encoding="utf-8").splitlines()[-1])
    assert said["done"] == said["total"]


def test_the_program_runs_where_hpcjobs_is_not_installed(tmp_path: Path) -> None:
    """Without the package it does the same and says nothing of it."""
    hidden = "import sys, runpy; sys.modules['hpcjobs'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", hidden, str(PROGRAM), str(RECORD), "--periods", "4", "--out", "out.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").is_file()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at least two rows"),
        ("time_s,acceleration_cm_s2\n0,1\n", "at least two rows"),
        ("time_s,acceleration_cm_s2\n0,1\n0.1,nan\n", "finite"),
        ("time_s,acceleration_cm_s2\n0,1\n0.1,2\n0.5,2\n", "evenly spaced"),
        ("time_s,acceleration_cm_s2\n0,1\n0.1,2,3\n", "spectrum.py:"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_with_the_cause(tmp_path: Path, text: str, problem: str) -> None:
    """A bad file ends the program with one line that says why, and with exit code 1."""
    bad = tmp_path / "bad.csv"
    bad.write_text(text, encoding="utf-8")
    done = run(bad, cwd=tmp_path)
    assert done.returncode == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--damping", "1"), ("--damping", "-0.1"), ("--periods", "0"), ("--block", "x")]
)
def test_an_option_out_of_range_is_refused(tmp_path: Path, option: str, value: str) -> None:
    """A wrong option is the caller's mistake: exit code 2, and the option is named."""
    done = run(RECORD, option, value, cwd=tmp_path)
    assert done.returncode == 2
    assert option in done.stderr
