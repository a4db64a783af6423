"""``python -m tests.browser.pictures``: take the pictures of cards and tables for the documentation anew.

All that is seen is real: JupyterLab, a service, jobs. With ``--all FOLDER`` every state is taken, light and dark, to be
looked at; without it those that the documentation shows, into ``docs/_static``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.benchmarks.bench import Bench
from tests.browser.conftest import FLAGS, NAMES
from tests.browser.jupyter import THEMES, Notebook, running_jupyter

STATIC = Path(__file__).parents[2] / "docs" / "_static"

SHOWN = {"running-light": "card", "asking-dark": "card-asking", "failed-light": "card-failed", "table-light": "table"}
"""Those that the documentation shows, and what they are called there."""

STEPS = "for i in $(seq 500); do echo step $i of 500; sleep 0.1; done"
CELLS = (
    "from hpcjobs import Client; client = Client()\nimport hpcjobs.notebook.table as t; t.PAGE = 8  # small pictures",
    f"spectrum = client.submit({STEPS!r}, name='spectrum', tags=['damping 5%']); spectrum",
    "client.submit('python3 -m fit record.csv', name='fit', start_in='2h')",
    "fine = client.submit('for f in a b c; do seq 999 > $f.csv; done; echo 3 files written', name='records'); fine",
    "bad = client.submit('echo reading record.csv; echo \"ValueError: no damping given\"; exit 3', name='psa'); bad",
    "client.submit(\"trap 'sleep 9; exit 1' TERM; echo saving takes a while; sleep 99 & wait\", name='model')",
    """body = 'for i in $(seq 20); do echo $((i * 5))%; sleep 0.2; done; [ {index} != 3 ]'
sweep = client.submit_array(body, array=60, name='sweep'); sweep""",
)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures", description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="take every state, into this folder")
    asked = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)))
    with (
        Bench() as bench,
        bench.service(cores=6, workers=1) as service,
        tempfile.TemporaryDirectory() as root,
        running_jupyter(Path(root)) as jupyter,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        environ = {name: text for name, text in service.environ().items() if name.startswith("HPCJOBS_")}
        jupyter.write("jobs.ipynb", CELLS, kernel=jupyter.kernel("pictures", environ))
        notebook = Notebook(jupyter, browser, "jobs.ipynb", "lab", viewport={"width": 1150, "height": 1000})
        take = Camera(notebook, asked.all)
        _cards(notebook, take)
        _table(notebook, take)
        notebook.close()
        browser.close()


class Camera:
    """Takes pictures of outputs, light and dark."""

    def __init__(self, notebook: Notebook, folder: Path | None) -> None:
        self._notebook = notebook
        self._folder = folder

    def __call__(self, name: str, index: int) -> None:
        """Take the view in one cell's output."""
        for theme in THEMES:
            called = f"{name}-{theme}"
            if self._folder is None and called not in SHOWN:
                continue
            path = STATIC / f"{SHOWN[called]}.png" if self._folder is None else self._folder / f"{called}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._notebook.theme(theme)
            self._notebook.page.mouse.move(0, 0)
            self._notebook.output(index).locator(".widget-vbox").first.screenshot(path=path, animations="disabled")
            sys.stdout.write(f"{path} {path.stat().st_size:,} bytes\n")


def _cards(notebook: Notebook, take: Camera) -> None:
    for index in range(6):
        notebook.run(index, wait=True)
    notebook.wait_text("step 40 of 500", index=1)
    take("running", 1)
    take("pending", 2)
    notebook.wait_text("ValueError", index=4)
    notebook.wait_text("exit code 3", index=4)
    take("failed", 4)
    notebook.click("Files of records", index=3)
    notebook.output(3).get_by_role("link", name="c.csv").wait_for()
    take("finished", 3)
    notebook.click("Cancel spectrum", index=1)
    notebook.output(1).get_by_label("Reason").fill("the damping is wrong")
    take("asking", 1)
    notebook.click("Yes, cancel spectrum", index=1)
    notebook.wait_text("CANCELLED", index=1)
    notebook.wait_text("the damping is wrong", index=1)
    take("cancelled", 1)
    notebook.click("Cancel model", index=5)
    notebook.click("Yes, cancel model", index=5)
    notebook.wait_text("cancelling", index=5)
    take("cancelling", 5)


def _table(notebook: Notebook, take: Camera) -> None:
    notebook.run(6, wait=True)
    notebook.wait_text("1 FAILED", index=6)
    take("table", 6)
    notebook.output(6).get_by_label("Filter").fill("sweep[5")
    notebook.click("Select all 11", index=6)
    notebook.click("Cancel selected (11)", index=6)
    take("table-asking", 6)


if __name__ == "__main__":
    main()
