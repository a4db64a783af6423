"""The page of one job, ``/jobs/ID``."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hpcjobs import wording
from hpcjobs.again import as_python, as_shell
from hpcjobs.again.asked import read as read_spec
from hpcjobs.arrays import own_spec
from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import Action
from hpcjobs.models import JobInfo, JobSpec, StderrMode
from hpcjobs_server.api.pages.filelist import Lists
from hpcjobs_server.api.pages.joblist import rows_of
from hpcjobs_server.api.pages.logtail import Tail, read_tail
from hpcjobs_server.api.pages.rendering import relative, render, scheme
from hpcjobs_server.api.pages.session import Viewer, viewer_of
from hpcjobs_server.context import Context, context_of
from hpcjobs_server.outcomes import WORDS, Outcome, Result
from hpcjobs_server.problems import job_not_found

if TYPE_CHECKING:
    from hpcjobs_server.store import Place

CHANGES = 200
"""Changes of the state, and attempts, that are listed: the newest."""

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_FOLDERS = ("x-forwarded-prefix", "x-forwarded-context")
"""Headers by which a proxy says in which folder of its own the service is; jupyter-server-proxy sends both."""
_FILES = Lists()
_ACTIONS = (Action.CANCEL, Action.RETRY, Action.DELETE)

router = APIRouter(include_in_schema=False)


@dataclasses.dataclass(frozen=True)
class Log:
    """One of a job's logs."""

    stream: str
    tail: Tail


@router.get("/jobs/{job_id}")
async def show_job(request: Request, job_id: str) -> Response:
    """Everything about a job; of an array, its jobs."""
    viewer = await viewer_of(request)
    context, sees = context_of(request), viewer.caller.sees
    store = context.store
    seen = await store.now()
    info = await store.get(sees, job_id)
    if info is None:
        if await store.arrays_among(sees, [job_id]):
            return RedirectResponse(relative(request, f"?array={quote(job_id, safe='')}"), status_code=303)
        raise job_not_found()
    place = await store.place(sees, job_id)
    history = await store.history(sees, job_id)
    around = await store.neighbours(sees, job_id)
    if place is None or history is None or around is None:  # it was deleted at this moment
        raise job_not_found()
    spec = _spec(info)
    [row] = rows_of([info])
    if history.queue_time is not None:
        row = dataclasses.replace(row, waited=history.queue_time)  # of all attempts
    if info.terminal and history.attempts:
        row = dataclasses.replace(row, ran=history.attempts[-1].run_time)  # what waited to run again did not run on
    # the page's script asks for what changes; the log, which it follows by itself, is not taken from this answer
    whole = "hx-request" not in request.headers
    return render(
        request,
        "job.html",
        viewer=viewer,
        info=info,
        seen=seen,
        row=row,
        spec=spec,
        resources=None if spec is None else spec.resources,
        actions=_actions(viewer, info),
        history=history,
        changes=history.changes[-CHANGES:],
        attempts=history.attempts[-CHANGES:],
        around=around,
        logs=await _logs(context, place, spec) if whole else [],
        files=await _FILES.of(context, place),
        again=_again(request, info) if whole else [],
        came=_outcome(request, context, viewer, info.id),
        words=WORDS,
        as_json=as_json,
        lines=lines,
    )


def _actions(viewer: Viewer, info: JobInfo) -> list[Action]:
    """What may be asked of the job now."""
    if not viewer.may_act:
        return []
    asked = info.cancel_requested and not info.terminal
    return [action for action in _ACTIONS if info.state.allows(action) and not (asked and action is Action.CANCEL)]


def _outcome(request: Request, context: Context, viewer: Viewer, job_id: str) -> tuple[Outcome, Result] | None:
    """What came of what was asked of this job a moment ago, where the address names it."""
    outcome = context.outcomes.find(request.query_params.get("outcome", ""), viewer.caller.owner)
    results = [] if outcome is None else [result for result in outcome.results if result.job_id == job_id]
    return (outcome, results[0]) if outcome is not None and results else None


def _spec(info: JobInfo) -> JobSpec | None:
    """What was asked, with an array's command filled in; None where it cannot be read as this version has it."""
    try:
        return read_spec(own_spec(info))
    except InvalidSpec:
        return None


def _again(request: Request, info: JobInfo) -> list[tuple[str, str]]:
    """The code that submits it again, by language."""
    address, spec, index = address_of(request), own_spec(info), info.array_index
    try:
        return [
            ("Python", as_python(spec, url=address, array_index=index)),
            ("Shell", as_shell(spec, url=address, array_index=index)),
        ]
    except InvalidSpec:
        return []


def address_of(request: Request) -> str | None:
    """The service's address as the browser has it; None where the request does not say it, or not in good words.

    Behind a proxy that puts the service into a folder a browser is let in, with a cookie of the proxy's, and a program
    with a token of the service often is not: then the code finds the service as it does elsewhere.
    """
    if any(request.headers.get(name, "").strip("/") for name in _FOLDERS):
        return None
    host = request.headers.get("host", "")
    return f"{scheme(request)}://{host}" if _HOST.fullmatch(host) else None


async def _logs(context: Context, place: Place, spec: JobSpec | None) -> list[Log]:
    streams = ["stdout"]
    if spec is not None and spec.stderr is StderrMode.SEPARATE:
        streams.append("stderr")
    folder, logs = context.folder(place), list[Log]()
    for stream in streams:
        tail = await anyio.to_thread.run_sync(read_tail, context.settings.data, (*folder, stream)) if folder else Tail()
        logs.append(Log(stream, tail))
    return logs


def as_json(value: Any, *, indent: int | None = 2) -> str:
    r"""A value in JSON, with everything written out that would be obeyed instead of shown.

    Example:
        >>> print(as_json({"a\u202e": [1]}, indent=None))
        {"a\u202e": [1]}
    """
    return lines(json.dumps(value, ensure_ascii=False, indent=indent))


def lines(text: str) -> str:
    r"""Text of several lines, with everything written out that would be obeyed instead of shown.

    What it says is what a program is given: a character that turns the direction of writing must not let a command
    look like another one.

    Example:
        >>> print(lines("echo a\u202eb\r\nsleep 1"))
        echo a\u202eb\r
        sleep 1
    """
    return "\n".join("\t".join(map(wording.clean, line.split("\t"))) for line in text.split("\n"))
