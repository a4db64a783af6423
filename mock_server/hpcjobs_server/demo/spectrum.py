"""The elastic response spectrum of a recorded earthquake: the program that a researcher would bring along.

For every natural period the program finds how far a damped oscillator of that period is driven by the recorded ground
acceleration. It steps through the record with the recursion of Nigam and Jennings (1969), which is exact where the
acceleration is linear between the samples.

Example:
    ::

        python spectrum.py record.csv --damping 0.05 --out spectrum.csv

Nothing here depends on hpcjobs: where it is missing, progress is simply not reported.
"""

# ruff: noqa: T201 -- what the program prints is its log

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

try:
    from hpcjobs import runtime
except ImportError:  # runs as well without it
    runtime = None  # type: ignore[assignment]

Floats: TypeAlias = NDArray[np.float64]

GRAVITY = 980.665
"""Standard gravity in cm/s²."""

POINTS_PER_PERIOD = 40
"""The response is followed at this many points of each period or more: a peak between them is at most 0.3 % higher."""


def read_record(path: Path) -> tuple[float, Floats]:
    """Read a record of two columns, time in s and ground acceleration in cm/s², below a line of names.

    Args:
        path: A CSV file; lines that start with ``#`` are comments.

    Returns:
        The time between two samples in s, and the accelerations in cm/s².

    Raises:
        ValueError: If there are fewer than two samples, a value is not finite, or the samples are not evenly spaced.
        OSError: If the file cannot be read.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [line for line in lines if line.strip() and not line.startswith("#")]
    table = np.loadtxt(rows[1:], delimiter=",", ndmin=2, dtype=np.float64) if len(rows) > 2 else np.empty((0, 2))
    if table.shape[0] < 2 or table.shape[1] != 2:
        raise ValueError(f"{path}: needs a line of names and at least two rows of time_s,acceleration_cm_s2")
    if not np.isfinite(table).all():
        raise ValueError(f"{path}: every value must be a finite number")
    steps = np.diff(table[:, 0])
    step = float(steps.mean())
    if step <= 0 or np.abs(steps - step).max() > 0.01 * step:
        raise ValueError(f"{path}: the samples must be evenly spaced in time")
    return step, table[:, 1]


def response(acceleration: Floats, step: float, periods: Floats, damping: float) -> Floats:
    """Follow oscillators at rest through a ground motion, by the exact recursion of Nigam and Jennings.

    Args:
        acceleration: Of the ground, linear between samples.
        step: Time between two samples in s.
        periods: The oscillators' natural periods in s.
        damping: Their damping as a fraction of critical, from 0 to below 1.

    Returns:
        Displacements relative to the ground, one row per sample and one column per period, in the unit of
        ``acceleration`` times s².

    Example:
        >>> ground = np.ones(201)  # a sudden, lasting acceleration doubles the static displacement
        >>> sd = response(ground, 0.01, np.array([1.0]), 0.0).min()
        >>> round(float(sd) * (2 * math.pi) ** 2, 6)
        -2.0
    """
    omega = 2 * math.pi / periods
    root = math.sqrt(1 - damping**2)
    decay = np.exp(-damping * omega * step)
    sine, cosine = decay * np.sin(omega * root * step), decay * np.cos(omega * root * step)
    ratio, x, stiffness = damping / root, omega * step, omega**2

    # Displacement and velocity after a step, from those before it (uu, uv, vu, vv) ...
    uu, uv = ratio * sine + cosine, sine / (omega * root)
    vu, vv = -omega / root * sine, cosine - ratio * sine
    # ... and from the force -acceleration at the step's start and end.
    lag, turn = 2 * damping / x, (1 - 2 * damping**2) / (x * root)
    u_start = (lag + (turn - ratio) * sine - (1 + lag) * cosine) / stiffness
    u_end = (1 - lag - turn * sine + lag * cosine) / stiffness
    v_start = (-1 / step + (omega / root + ratio / step) * sine + cosine / step) / stiffness
    v_end = (1 - ratio * sine - cosine) / (stiffness * step)

    start, end = -acceleration[:-1, None], -acceleration[1:, None]
    driven_u, driven_v = u_start * start + u_end * end, v_start * start + v_end * end
    out = np.zeros((len(acceleration), len(periods)))
    u, v = np.zeros(len(periods)), np.zeros(len(periods))
    for i in range(len(acceleration) - 1):
        u, v = uu * u + uv * v + driven_u[i], vu * u + vv * v + driven_v[i]
        out[i + 1] = u
    return out


def parts_of_step(step: float, periods: Floats) -> int:
    """Into how many parts a step must be cut for the shortest of the periods."""
    return max(1, math.ceil(step * POINTS_PER_PERIOD / float(periods.min())))


def spectral_displacement(acceleration: Floats, step: float, periods: Floats, damping: float) -> Floats:
    """The largest displacement of each oscillator, followed finely enough for the shortest of the periods.

    Arguments and unit as for :func:`response`.
    """
    parts = parts_of_step(step, periods)
    samples = np.arange((len(acceleration) - 1) * parts + 1) / parts
    finer = np.interp(samples, np.arange(len(acceleration)), acceleration)
    return np.asarray(np.abs(response(finer, step / parts, periods, damping)).max(axis=0), dtype=np.float64)


def fraction(text: str) -> float:
    """Read the damping from the command line."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a fraction of critical damping: give 0 or more, less than 1")
    return value


def positive(text: str) -> int:
    """Read a count from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count; give 1 or more")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the program; see ``--help``."""
    parser = argparse.ArgumentParser(description="The elastic response spectrum of a recorded ground motion.")
    parser.add_argument("record", type=Path, help="CSV file: time_s,acceleration_cm_s2")
    parser.add_argument("--damping", type=fraction, default=0.05, help="fraction of critical damping (default: 0.05)")
    parser.add_argument("--periods", type=positive, default=200, help="natural periods, 0.02 s to 5 s (default: 200)")
    parser.add_argument("--block", type=positive, default=20, help="periods per line of the log (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("spectrum.csv"), help="where the spectrum goes")
    given = parser.parse_args(arguments)

    try:
        step, acceleration = read_record(given.record)
    except (OSError, ValueError) as error:
        print(f"spectrum.py: {error}", file=sys.stderr)
        return 1
    periods = np.geomspace(0.02, 5.0, given.periods)
    peak = np.abs(acceleration).max() / GRAVITY
    print(f"{len(acceleration)} samples, {step:g} s apart, peak {peak:.4f} g; damping {given.damping:.1%}", flush=True)

    began = time.monotonic()
    found: list[Floats] = []
    blocks = [periods[first : first + given.block] for first in range(0, len(periods), given.block)]
    work = [parts_of_step(step, block) for block in blocks]  # short periods take longer
    for number, block in enumerate(blocks, 1):
        displacement = spectral_displacement(acceleration, step, block, given.damping)
        found.append(displacement)
        done, highest = sum(map(len, found)), ((2 * math.pi / block) ** 2 * displacement).max() / GRAVITY
        span = f"{block[0]:.3f} s to {block[-1]:.3f} s"
        print(f"{done:4d} of {len(periods)} periods, {span}: at most {highest:.4f} g", flush=True)
        if runtime is not None:
            runtime.progress(sum(work[:number]), sum(work), f"{done} of {len(periods)} periods")

    displacement = np.concatenate(found)
    omega = 2 * math.pi / periods
    table = np.column_stack([periods, displacement, omega * displacement, omega**2 * displacement / GRAVITY])
    names = "period_s,displacement_cm,pseudo_velocity_cm_s,pseudo_acceleration_g"
    np.savetxt(given.out, table, fmt="%.6g", delimiter=",", header=f"damping {given.damping:g}\n{names}", comments="# ")
    top = int(table[:, 3].argmax())
    took = time.monotonic() - began
    print(f"peak {table[top, 3]:.4f} g at {periods[top]:.3f} s; {given.out} written after {took:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
