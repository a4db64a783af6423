"""The job page: every job in a browser, rendered here, live by the stream of changes, with forms that need no script.

All addresses within it are relative, so that it works behind a proxy that puts it below a folder of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcjobs_server.api.pages import acting, assets, job, joblist, login, queues
from hpcjobs_server.api.pages.refusals import refusal
from hpcjobs_server.api.pages.session import LoginNeeded, to_login

if TYPE_CHECKING:
    from fastapi import FastAPI

_PARTS = (joblist, job, acting, queues, login, assets)

__all__ = ["install", "refusal"]


def install(app: FastAPI) -> None:
    """Add the pages to ``app``."""
    for part in _PARTS:
        app.router.routes.extend(part.router.routes)
    app.add_exception_handler(LoginNeeded, to_login)
