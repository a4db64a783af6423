"""How the server runs a job: one module per way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcjobs_server.executors.base import Executor
    from hpcjobs_server.settings import Settings


def make_executor(settings: Settings) -> Executor:
    """The executor that the settings name; the others are not even imported.

    Args:
        settings: The server's settings.

    Raises:
        AppError: The apps that they name cannot be offered.
    """
    if settings.executor == "slurm":
        from hpcjobs_server.executors.slurm import SlurmExecutor

        return SlurmExecutor(settings)
    from hpcjobs_server.executors.local import LocalExecutor

    return LocalExecutor(settings)
