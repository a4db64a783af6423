"""Jobs in a notebook: live cards and tables, a wait that keeps their buttons alive, and magics.

Nothing here is imported before a client is made in a Jupyter kernel; :func:`install` then hooks in what there is.
"""

from __future__ import annotations

import importlib.util

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
