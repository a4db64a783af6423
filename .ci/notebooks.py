"""Makes the notebooks anew: runs them on a service of their own, and keeps what they show.

::

    python .ci/notebooks.py            # all of them
    python .ci/notebooks.py notebooks/03-cancelling.ipynb

What a notebook shows stays as HTML and text, which GitHub and every other reader can show; widgets have no life without
their kernel and are taken out. Paths and process ids of this machine are nobody's business and are written as words.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.font_manager
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
WIDGETS = "application/vnd.jupyter.widget"
"""How the media types begin that need a kernel."""

CELL_SECONDS = 120

END = """
import time
from hpcjobs.notebook import boards
end = time.monotonic() + 10
while any(getattr(board, "_unknown", "") for board in boards.shown) and time.monotonic() < end:
    time.sleep(0.05)
boards.close_all()
"""
"""What a kernel does when it ends: it leaves HTML. Here, because after the last cell nobody listens any more."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def paths() -> list[Path]:
    """The notebooks, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def run(path: Path, folder: Path, environ: Mapping[str, str]) -> Any:
    """Run a notebook as a person would, from an empty kernel.

    Args:
        path: The notebook; it is not written.
        folder: Where it works.
        environ: What its kernel sees; the service is found by it.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell has failed.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells.append(nbformat.v4.new_code_cell(END))
    runner = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    matplotlib.font_manager.get_font_names()  # the first time takes a while, and says so where nobody wants to read it
    runner.execute(env={**environ, "IPYTHONDIR": str(folder / ".ipython")})
    notebook.cells.pop()
    return notebook


def tidy(notebook: Any, names: Mapping[str, str]) -> Any:
    """Take out of a notebook what only its machine and its moment know.

    Args:
        notebook: It is changed.
        names: What is written in place of paths.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _joined([_plain(output, names) for output in cell.outputs if not _empty(output)])
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """What was printed in pieces is one piece.

    nbclient offers the same, but cannot find the displays any more that are replaced later.
    """
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _empty(output: Any) -> bool:
    return "data" in output and not any(text for kind, text in output.data.items() if not kind.startswith(WIDGETS))


def _plain(output: Any, names: Mapping[str, str]) -> Any:
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    if "text" in output:
        output.text = _hidden(output.text, names)
    if "data" in output:
        output.data = nbformat.from_dict(
            {
                kind: _hidden(text, names) if kind.startswith("text/") else text
                for kind, text in output.data.items()
                if not kind.startswith(WIDGETS)
            }
        )
    return output


def _hidden(text: str, names: Mapping[str, str]) -> str:
    for path, word in sorted(names.items(), key=lambda item: -len(item[0])):
        text = text.replace(path, word)
    for name, word in ((socket.gethostname(), "node1"), (getpass.getuser(), "ada")):
        text = re.sub(rf"\b{re.escape(name)}\b", word, text)
    text = re.sub(r"[^\s\"';]*/jobs/[0-9a-f-]{36}/\d+/work/", "", text)  # a file of a job is called as the job calls it
    return re.sub(r"[^\s\"';]*/ipykernel_\d+/\d+\.py", "cell.py", text)


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description="Run the notebooks and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="which (default: all)")
    wanted = parser.parse_args().notebooks or paths()

    # A short name, because a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hj-") as temporary:
        place = Path(temporary)
        environ = {name: text for name, text in os.environ.items() if not name.startswith("HPCJOBS_")}
        environ |= {"HPCJOBS_DATA": str(place / "data"), "HPCJOBS_CONFIG": str(place / "config.toml")}
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])
        names = {str(place / "data"): "~/.local/share/hpcjobs", sys.prefix: ".venv", str(ROOT): "hpcjobs"}
        serve = [sys.executable, "-m", "hpcjobs_server", "serve", "--data", str(place / "data")]
        subprocess.run(
            [*serve, "--port", "0", "--cores", "2", "--detach"], env=environ, check=True, capture_output=True
        )
        try:
            for path in wanted:
                work = place / path.stem
                work.mkdir()
                notebook = tidy(run(path, work, environ), {**names, str(work): "~/notebooks"})
                path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
                print(f"{path}: {path.stat().st_size:,} bytes")  # noqa: T201
        finally:
            subprocess.run([*serve, "--stop"], env=environ, check=True, capture_output=True)


if __name__ == "__main__":
    main()
