"""The demo's own data folder: nobody else's is ever touched, and what a killed run left there is cleared away."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from hpcjobs_server.demo.claims import DemoError
from hpcjobs_server.processes import Child
from hpcjobs_server.settings import default_data

MARK = "this-folder-belongs-to-hpcjobs-demo"


def default_place() -> Path:
    """Beside the folder of the local service, which the demo leaves alone."""
    usual = default_data()
    return usual.with_name(f"{usual.name}-demo")


@contextlib.contextmanager
def own_place(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for one run of the demo: empty at the start, and removed at the end unless something failed.

    Args:
        folder: A folder that does not exist, is empty, or was made by an earlier run.

    Raises:
        DemoError: It holds something else, another demo is using it, or it cannot be written.
    """
    folder = folder.expanduser().absolute()
    try:
        if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
            raise DemoError(
                f"{folder} has files in it that are not the demo's: choose another folder with --data, or leave it out"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = (folder / MARK).open("w", encoding="utf-8")
    except OSError as error:
        raise DemoError(f"{folder} cannot be the demo's data folder: {error}. Choose one with --data") from error
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo runs in {folder}: wait for it, or choose a folder with --data") from None
        end_all(folder)
        _clear(folder)
        try:
            yield folder
        except Exception:
            raise  # the logs may be wanted
        except BaseException:
            _remove(folder)
            raise
        _remove(folder)


def _remove(folder: Path) -> None:
    _clear(folder)
    (folder / MARK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process of the service in ``folder``: recorded there, told to work there, or started by one that is.

    Args:
        folder: The service's data folder.
    """
    found: dict[int, psutil.Process] = {}
    recorded = [child.pid for record in (folder / "run").glob("*.json") if (child := Child.find(record)) is not None]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.pid in recorded or _works_in(process, folder):
                found.update({kin.pid: kin for kin in (process, *process.children(recursive=True))})
    me = psutil.Process()
    for kin in (me, *me.parents()):
        found.pop(kin.pid, None)
    return still_running(list(found.values()))


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether the environment of ``process`` sends it there: the server's parts and the jobs have that."""
    inside = f"{folder}/"
    return any(
        value.startswith(inside) or (value == str(folder) and name == "HPCJOBS_SERVER_DATA")
        for name, value in process.environ().items()
        if name.startswith("HPCJOBS_")
    )


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of ``processes`` that have not ended; one whose number is another's by now has ended."""
    left = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


def end_all(folder: Path, *, patience: float = 5.0) -> list[psutil.Process]:
    """End every process of a service whose data are not needed any more.

    Args:
        folder: The service's data folder.
        patience: Seconds between asking and killing.

    Returns:
        What is still there all the same.
    """
    processes = processes_of(folder)
    supervisor = Child.find(folder / "run" / "serve.json")
    if supervisor is not None:
        supervisor.send(signal.SIGKILL)  # first, because it would start the others again; it takes nothing along
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=patience)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=patience)
    return processes_of(folder)
