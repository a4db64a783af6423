"""Shows figures: a table for the terminal, a table for the documentation, JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.figures import Figure

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: made by `make bench` -->", "<!-- end of figures -->"


def number(figure: Figure) -> str:
    """The figure with its unit."""
    if figure.unit == "x":
        return f"{figure.value:.2f}" if figure.value >= 0.1 else f"{figure.value:.3f}"
    return f"{figure.value:.1f} {figure.unit}"


def verdict(figure: Figure) -> str:
    """Whether the goal is met, in a word."""
    return {None: "", True: "met", False: "missed"}[figure.met]


def machine() -> str:
    """One line about where the figures come from."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} cores", f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("httpx", "pydantic", "fastapi", "procrastinate", "psycopg")]
    return ", ".join(parts)


def business() -> str:
    """How much else the machine had to do."""
    return "load average at the end " + ", ".join(f"{load:.1f}" for load in os.getloadavg())


def for_terminal(figures: Sequence[Figure]) -> str:
    """A table in plain text."""
    lines = []
    for figure in figures:
        goal = f"goal {figure.goal}: {verdict(figure)}" if figure.goal else ""
        lines += [f"{figure.measure:11s} {number(figure):>9s}  {goal:20s} {figure.what}", f"{'':44s}{figure.detail}"]
    return "\n".join([*lines, f"{machine()}; {business()}"])


def for_document(figures: Sequence[Figure], *, now: dt.datetime) -> str:
    """A table in Markdown."""
    lines = [
        f"{now:%Y-%m-%d}: {machine()}; {business()}.",
        "",
        "| measure | what | figure | goal | | behind it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {figure.measure} | {figure.what} | {number(figure)} | {figure.goal or ''} | {verdict(figure)} "
        f"| {figure.detail} |"
        for figure in figures
    ]
    return "\n".join(lines)


def write_document(figures: Sequence[Figure], path: Path = DOCUMENT) -> bool:
    """Put the figures into the documentation; False where it has no place for them."""
    text = path.read_text()
    table = for_document(figures, now=dt.datetime.now(dt.timezone.utc))
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        return False
    path.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", text))
    return True


def for_programs(figures: Sequence[Figure]) -> str:
    """JSON."""
    told = [
        {**dataclasses.asdict(figure), "goal": str(figure.goal) if figure.goal else None, "met": figure.met}
        for figure in figures
    ]
    return json.dumps(
        {
            "machine": machine(),
            "load": os.getloadavg(),
            "at": dt.datetime.now(dt.timezone.utc).isoformat(),
            "figures": told,
        },
        indent=2,
    )
