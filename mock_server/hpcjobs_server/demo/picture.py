"""The picture of the results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from hpcjobs_server.demo.sweep import RECORD, TITLE, Spectrum, label

STANDARD_GRAVITY = 980.665
"""In cm/s²."""


def draw(spectra: Sequence[Spectrum], target: Path) -> None:
    """Draw the record and its spectra, without a screen.

    Args:
        spectra: In the order of their damping.
        target: The PNG file to write.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with RECORD.open(encoding="utf-8", newline="") as lines:
        table = list(csv.reader(line for line in lines if not line.startswith("#")))[1:]
    times, ground_g = [float(row[0]) for row in table], [float(row[1]) / STANDARD_GRAVITY for row in table]

    figure = Figure(figsize=(8, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    ground, spectrum = figure.subplots(2, 1, height_ratios=(1, 2.6))
    figure.suptitle(TITLE, fontsize=11)

    ground.plot(times, ground_g, color="0.25", linewidth=0.5)
    ground.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    ground.set(xlabel="time (s)", ylabel="ground\nacceleration (g)", xlim=(0, times[-1]))

    colours = colormaps["viridis"]
    for place, one in enumerate(spectra):
        colour = colours(0.9 * place / max(1, len(spectra) - 1))
        spectrum.semilogx(one.periods, one.accelerations, color=colour, linewidth=1.3, label=label(one.damping))
        height, period = one.peak
        spectrum.plot([period], [height], "o", color=colour, markersize=4)
    spectrum.set(xlabel="natural period (s)", ylabel="pseudo-acceleration (g)", xlim=(0.02, 5), ylim=(0, None))
    spectrum.set_xticks(ticks := (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5), [f"{tick:g}" for tick in ticks])
    spectrum.grid(which="both", color="0.92")
    spectrum.legend(title="damping", frameon=False)

    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
