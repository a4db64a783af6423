"""Bars for files that travel: drawn on stderr, on a terminal only, and only where it takes long enough to see them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from hpcjobs.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from hpcjobs.bodies import OnBytes

PATIENCE = 0.5
"""Seconds that a transfer may take before anything is drawn."""


@contextlib.contextmanager
def bars(*, wanted: bool = True) -> Iterator[OnBytes | None]:
    """What is told how much of each file is there, and draws it; None where nobody would see it."""
    console = output.console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns: list[Any] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    ]
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    tasks: dict[str, TaskID] = {}
    begun = time.monotonic()

    def on_bytes(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(output.clean(name), total=total)
        progress.update(tasks[name], completed=done, total=total, visible=done < total)
        if not progress.live.is_started and time.monotonic() - begun > PATIENCE:
            progress.start()

    try:
        yield on_bytes
    finally:
        progress.stop()
