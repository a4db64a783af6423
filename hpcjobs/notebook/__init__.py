"""Jobs in a notebook: live cards and tables, a wait that keeps their buttons alive, and magics.

Nothing here is imported before a client is made in a Jupyter kernel; :func:`install` then hooks in what there is.
"""

from __future__ import annotations

import atexit
import importlib.util
import sys
from collections.abc import Callable
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
    from hpcjobs import watching
    from hpcjobs.notebook import pump

    watching.pump_hooks.append(pump.Pumping)
    with_widgets = importlib.util.find_spec("ipywidgets") is not None
    if with_widgets:
        _hook_in_widgets()
    formatter = _formatter()
    if formatter is not None:
        for kind, show in _shows(with_widgets=with_widgets).items():
            formatter.for_type(kind, show)


def _hook_in_widgets() -> None:
    from hpcjobs import live
    from hpcjobs.notebook import boards, waits

    live.displays.append(waits.display_of)
    atexit.register(boards.close_all)


def _shows(*, with_widgets: bool) -> dict[type, Callable[[Any], None]]:
    """What shows each kind of handle."""
    from hpcjobs.handles import AsyncJob, Job
    from hpcjobs.job_arrays import AsyncJobArray, JobArray
    from hpcjobs.job_lists import AsyncJobList, JobList

    if with_widgets:
        job, array, jobs = _show_job, _show_array, _show_list
    else:
        job, array, jobs = _say_job, _say_array, _say_list
    return {Job: job, AsyncJob: job, JobArray: array, AsyncJobArray: array, JobList: jobs, AsyncJobList: jobs}


def _formatter() -> Any:
    """What IPython asks first when something is to be displayed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(getattr(shell, "display_formatter", None), "ipython_display_formatter", None)


# A view and its handle are of one piece: it works with the handle's session.


def _show_job(job: Any) -> None:
    from hpcjobs.notebook.card import show_card

    show_card(job._session, job.info)  # noqa: SLF001


def _show_array(array: Any) -> None:
    from hpcjobs.notebook.table import show_table

    title = f"array {array.name or array.id}"
    show_table(array._session, [job.info for job in array], title=title)  # noqa: SLF001


def _show_list(jobs: Any) -> None:
    from hpcjobs.notebook.table import show_table

    show_table(jobs._session, title=jobs.title, load=jobs.asked)  # noqa: SLF001


def _say_job(job: Any) -> None:
    from hpcjobs.notebook.plain import show_plain

    show_plain(job._session, [job.info])  # noqa: SLF001


def _say_array(array: Any) -> None:
    from hpcjobs.notebook.plain import show_plain

    show_plain(array._session, [job.info for job in array])  # noqa: SLF001


def _say_list(jobs: Any) -> None:
    from hpcjobs.notebook.plain import show_plain

    show_plain(jobs._session, load=jobs.asked)  # noqa: SLF001
