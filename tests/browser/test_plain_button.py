"""What the other tests of this folder stand on: a page, a kernel of its own, and a button that reaches it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import OpenNotebook
from tests.browser.jupyter import FRONT_ENDS, FrontEnd
from tests.running import Service

CELLS = (
    """import os
import ipywidgets
clicks = []
button = ipywidgets.Button(description="Press me")
button.on_click(clicks.append)
button""",
    "print(len(clicks), 'clicks of', os.environ['HPCJOBS_URL'])",
    "import time; print('begun'); time.sleep(600)",
)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_button_reaches_the_kernel_also_from_a_page_that_was_loaded_anew(
    open_notebook: OpenNotebook, shared_service: Service, front_end: FrontEnd
) -> None:
    """The kernel has the service of the test in its environment; a stop and a restart do what they say."""
    notebook = open_notebook(CELLS, front_end=front_end)
    notebook.run(0, wait=True)
    notebook.click("Press me")
    notebook.run(1, wait=True)
    notebook.wait_text(f"1 clicks of {shared_service.url}", index=1)
    notebook.theme("dark")
    notebook.reload()
    notebook.click("Press me")
    notebook.run(1, wait=True)
    notebook.wait_text("2 clicks of", index=1)
    assert "2 clicks of" in str(notebook.save().cells[1].outputs)
    notebook.run(2)
    notebook.wait_text("begun", index=2)  # an idle kernel takes no notice of an interrupt
    notebook.interrupt()
    notebook.wait_text("KeyboardInterrupt", index=2)
    notebook.restart_and_run_all()
    notebook.wait_text("0 clicks of", index=1)
    notebook.wait_text("begun", index=2)
    assert notebook.count(2) is None
    notebook.interrupt()
    notebook.wait_ended(2)
