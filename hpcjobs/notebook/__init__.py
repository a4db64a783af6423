"""Jobs in a notebook: live cards and tables, a wait that keeps their buttons alive, and magics.

Nothing here is imported before a client is made in a Jupyter kernel; :func:`install` then hooks in what there is.
"""

from __future__ import annotations

import atexit
import importlib.util
import sys
from typing import Any

_installed = False


def install() -> None:
    """Hook in the displays and the pump; the second time nothing happens.

    Without ipywidgets jobs are shown as live text, without buttons.
    """
    global _installed  # noqa: PLW0603 - hooks are the process's, like the kernel
    if _installed:
        return
    _installed = True
    if importlib.util.find_spec("ipywidgets") is None:
        return
    from hpcjobs import live
    from hpcjobs.handles import AsyncJob, Job
    from hpcjobs.notebook import card, waits

    live.displays.append(waits.display_of)
    formatter = _formatter()
    if formatter is not None:
        for kind in (Job, AsyncJob):
            formatter.for_type(kind, _show_job)
    atexit.register(card.close_all)


def _formatter() -> Any:
    """What IPython asks first when something is to be displayed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(getattr(shell, "display_formatter", None), "ipython_display_formatter", None)


def _show_job(job: Any) -> None:
    from hpcjobs.notebook.card import show_card

    show_card(job._session, job.info)  # noqa: SLF001 - a card and its handle are of one piece
