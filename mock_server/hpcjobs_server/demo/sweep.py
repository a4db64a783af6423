"""The sweep that the demo runs: one response spectrum per damping, and what came of it."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcjobs_server.demo.claims import claim

if TYPE_CHECKING:
    from hpcjobs import Client, Job

HERE = Path(__file__).parent
PROGRAM, RECORD = HERE / "spectrum.py", HERE / "record.csv"
TITLE = "Mineral, Virginia, 2011, magnitude 5.8, recorded 121 km away (USGS)"
DAMPINGS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10, 0.20)
"""As fractions of critical: from a welded steel frame at small amplitudes to a building with dampers."""

OUTPUT = "spectrum.csv"


def label(damping: float) -> str:
    """How a damping is written for people.

    Example:
        >>> label(0.005), label(0.2)
        ('0.5 %', '20 %')
    """
    return f"{100 * damping:g} %"


def name(damping: float) -> str:
    """The name of a damping's job, and of the folder of its results."""
    return f"spectrum-{damping:.3f}"


def submit(client: Client, damping: float, *, tag: str) -> Job:
    """Submit the job for one damping.

    Args:
        client: Where to.
        damping: As a fraction of critical.
        tag: By which all jobs of this run are found again.
    """
    return client.submit(
        [sys.executable, PROGRAM.name, RECORD.name, "--damping", f"{damping:g}", "--out", OUTPUT],
        inputs=[PROGRAM, RECORD],
        cores=1,
        walltime="5m",
        name=name(damping),
        tags=[tag],
        meta={"damping": damping},
    )


@dataclass(frozen=True)
class Spectrum:
    """One downloaded result.

    Attributes:
        damping: As a fraction of critical.
        periods: Natural periods in s.
        accelerations: Pseudo-accelerations in g, one per period.
    """

    damping: float
    periods: tuple[float, ...]
    accelerations: tuple[float, ...]

    @property
    def peak(self) -> tuple[float, float]:
        """The highest pseudo-acceleration in g and its period in s."""
        return max(zip(self.accelerations, self.periods, strict=True))


def read_spectrum(path: Path, damping: float) -> Spectrum:
    """Read what the program has written.

    Args:
        path: The file.
        damping: The damping that was asked for.

    Raises:
        DemoError: It is not a spectrum.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    claim(len(rows) >= 100 and all(len(row) == 4 for row in rows), f"{path} is not a spectrum of 100 periods or more")
    return Spectrum(damping, tuple(float(row[0]) for row in rows), tuple(float(row[3]) for row in rows))
