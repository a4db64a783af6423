"""Turns what is asked of us into what Slurm is asked: a script, and the job around it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.arrays import ArrayOrder, one_of
from hpcjobs.errors import InvalidSpec
from hpcjobs.models import JobSpec, StderrMode, When
from hpcjobs.services import slurm_comment
from hpcjobs.services.slurm_comment import Note
from hpcjobs.services.slurm_records import JOB_ID, indexes
from hpcjobs.services.slurm_versions import Api
from hpcjobs.services.sums import sum_of

PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a job finds its programs unless it says otherwise: Slurm's REST service sets nothing by itself."""

LONGEST_SCRIPT = 4 << 20
"""Bytes: longer scripts are refused."""

_WHEN = {When.OK: "afterok", When.ANY: "afterany", When.FAILED: "afternotok"}

_NO_PLACE = {
    "task": "submit a command",
    "app": "submit a command",
    "inputs": "put them where the job can reach them",
    "max_attempts": "leave it out; Slurm itself runs a job again whose node failed (requeue=)",
    "backoff": "leave it out",
    "retry_on": "leave it out",
    "expires_in": 'leave it out, or give options={"deadline": ...}, by which a job must have ended',
    "grace": "leave it out; the cluster's KillWait says how long a job may take to stop",
}
"""Fields of a spec that Slurm's REST service cannot do, and what to do instead."""

_NO_FOLDER = (
    "Slurm starts a job in a folder that is there on its nodes, which cannot be guessed from here; give "
    'folder="/..." to the client or in the profile, or options={"current_working_directory": "/..."}'
)


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What holds for every job that does not say otherwise.

    Attributes:
        user: Who submits.
        folder: Where jobs start; empty where nobody has said it.
        account: What is charged.
        partition: Where they run.
        qos: The quality of service.
    """

    user: str = ""
    folder: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""


def request_of(spec: JobSpec, key: str, api: Api, defaults: Defaults) -> dict[str, Any]:
    """What Slurm is asked for, for one job.

    The fields of ``options`` are Slurm's own: they travel as they are, and win.

    Raises:
        InvalidSpec: What is asked for has no place in Slurm, or would not run.

    Example:
        >>> spec = JobSpec(command=["fit", "a b"], resources={"cores": 4, "walltime": "90s"})
        >>> asked = request_of(spec, "k", Api(42), Defaults(folder="/data"))
        >>> asked["script"].splitlines()[-1], asked["job"]["cpus_per_task"], asked["job"]["time_limit"]["number"]
        ("exec fit 'a b'", 4, 2)
    """
    return _request(spec, _script_of(spec), key, api, defaults)


def array_request_of(order: ArrayOrder, key: str, api: Api, defaults: Defaults) -> dict[str, Any]:
    """What Slurm is asked for, for an array: one script that knows what each task does.

    Raises:
        InvalidSpec: What is asked for has no place in Slurm, or would not run.
    """
    if "array" in order.spec.options:
        raise InvalidSpec([("options", "array says the same as the items; leave it out")])
    items = order.over if order.over is not None else [None] * (order.size or 0)
    commands = [_lines_of(one_of(order.spec, item, index)) for index, item in enumerate(items)]
    if len(set(commands)) == 1:
        text = commands[0]
    else:
        cases = "".join(f"{index})\n{command}\n;;\n" for index, command in enumerate(commands))
        text = f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}esac'
    return _request(order.spec, _framed(text), key, api, defaults, array=f"0-{len(items) - 1}", total=order)


def _request(
    spec: JobSpec,
    script: str,
    key: str,
    api: Api,
    defaults: Defaults,
    *,
    array: str | None = None,
    total: ArrayOrder | None = None,
) -> dict[str, Any]:
    options = api.native(spec.options)
    script = options.pop("script", script)
    problems = _problems(spec, options, api) + _script_problems(script)
    job = _asked(spec, api, defaults, of_array=array is not None or "array" in options)
    if array is not None:
        job["array"] = array
    if not isinstance(given := spec.options.get("environment", {}), Mapping):
        problems.append(("options", "environment is written as env= here: a dict of names and texts"))
    else:
        options.pop("environment", None)
        job["environment"] = api.environment({**_environment(spec, defaults, job), **given})
    comment = options.pop("comment", "")
    job.update(options)
    note = Note(
        text=str(comment),
        key=key,
        sum=sum_of_asked(spec if total is None else total),
        tags=list(spec.tags),
        meta=dict(spec.meta),
        size=sum(1 for _ in indexes(str(job["array"]))) if "array" in job else 0,
    )
    job["comment"] = note.written()
    if more := slurm_comment.too_long(job["comment"]):
        problems.append(("meta", f"tags, meta and the key travel in Slurm's comment, and are {more} bytes too long"))
    folder = str(job.get("current_working_directory") or "")
    if not folder:
        problems.append(("folder", _NO_FOLDER))
    elif not folder.startswith("/"):
        problems.append(("folder", f"{folder!r} must be absolute: it is a folder on the cluster's nodes"))
    if problems:
        raise InvalidSpec(problems)
    return {"script": script, "job": job}


def _asked(spec: JobSpec, api: Api, defaults: Defaults, *, of_array: bool) -> dict[str, Any]:
    """What the spec says, and what holds for every job, in Slurm's words."""
    resources = spec.resources
    job: dict[str, Any] = {
        "name": spec.name,
        "partition": spec.queue if spec.queue != "default" else defaults.partition,
        "account": defaults.account,
        "qos": defaults.qos,
        "current_working_directory": defaults.folder,
    }
    job = {name: value for name, value in job.items() if value}
    if "cores" in resources.model_fields_set:
        job["tasks"], job["cpus_per_task"] = 1, resources.cores
    if resources.memory is not None:
        job["memory_per_node"] = api.amount(max(1, math.ceil(resources.memory / (1 << 20))))
    if resources.walltime is not None:
        job["time_limit"] = api.amount(max(1, math.ceil(resources.walltime.total_seconds() / 60)))
    if spec.priority:
        job["nice"] = -spec.priority
    if "requeue" in spec.model_fields_set:
        job["requeue"] = spec.requeue
    if spec.stderr is StderrMode.SEPARATE:
        job["standard_error"] = "slurm-%A_%a.err" if of_array else "slurm-%j.err"
    if (begin := begin_of(spec.start_at, spec.start_in)) is not None:
        job["begin_time"] = begin
    if spec.after:
        job["dependency"] = ",".join(f"{_WHEN[one.when]}:{one.job}" for one in spec.after)
        job |= api.drop_when_a_dependency_fails()
    return job


def begin_of(at: dt.datetime | None, after: dt.timedelta | None) -> str | None:
    """A start time in words that every version reads; None for none.

    Args:
        at: The moment.
        after: In place of it a length of time, by the cluster's clock.
    """
    if after is not None:
        return f"now+{math.ceil(after.total_seconds())}seconds"
    if at is None:
        return None
    return f"uts{math.ceil(at.timestamp())}" if at > dt.datetime.now(dt.timezone.utc) else "now"


def _environment(spec: JobSpec, defaults: Defaults, job: Mapping[str, Any]) -> dict[str, str]:
    """All variables of a job: it gets no others but Slurm's own, and of those not the one that sbatch itself sets."""
    told = {"PATH": PATH}
    if defaults.user:
        told |= {"USER": defaults.user, "LOGNAME": defaults.user}
    if "cpus_per_task" in job:
        told["SLURM_CPUS_PER_TASK"] = str(job["cpus_per_task"])
    return {**told, **spec.env}


def _script_of(spec: JobSpec) -> str:
    command = spec.command
    if isinstance(command, str) and command.startswith("#!"):
        return command
    return _framed(_lines_of(spec))


def _lines_of(spec: JobSpec) -> str:
    command = spec.command
    if command is None:
        return ""
    return command if isinstance(command, str) else f"exec {shlex.join(command)}"


def _framed(text: str) -> str:
    # Slurm sets no HOME for a job that comes by REST; bash finds the user's
    return f'#!/bin/bash\n[ -n "$HOME" ] || HOME=~; export HOME\n{text}\n'


def _problems(spec: JobSpec, options: Mapping[str, Any], api: Api) -> list[tuple[str, str]]:
    problems = [
        (name, f"Slurm's REST service has no place for it; {instead}")
        for name, instead in _NO_PLACE.items()
        if spec.asks_for(name)
    ]
    problems += [
        ("after", f"{one.job!r} is no job of Slurm; give a job or its id, which is a number: submit the one first")
        for one in spec.after
        if not JOB_ID.fullmatch(one.job)
    ]
    if spec.name is not None and not spec.name.isprintable():
        problems.append(("name", "has characters that cannot be shown; write text"))
    known = api.fields
    for name in sorted(options.keys() - known):
        [meant] = difflib.get_close_matches(name, sorted(known), n=1) or [""]
        hint = f"; did you mean {meant}?" if meant else ""
        problems.append(("options", f"slurmrestd {api} knows no {name!r} of a job, and would ignore it{hint}"))
    return problems


def _script_problems(script: Any) -> list[tuple[str, str]]:
    """What Slurm would take, and what would fail or be ignored all the same."""
    if not isinstance(script, str) or not script.strip():
        return [("command", "is empty")]
    problems = []
    if not script.startswith("#!"):
        problems.append(("options", "the script must start with #!, as in #!/bin/bash"))
    if "\r" in script:
        problems.append(("command", r"has the line ends of Windows (\r\n), with which no job starts; write \n"))
    if "\x00" in script:
        problems.append(("command", "has a NUL in it"))
    if len(script.encode(errors="surrogatepass")) > LONGEST_SCRIPT:
        problems.append(
            ("command", f"makes a script of more than {LONGEST_SCRIPT >> 20} MiB; put it into a file there")
        )
    if lines := re.findall(r"^#SBATCH\s+(\S.*)$", script, re.MULTILINE):
        told = ", ".join(line.strip() for line in lines[:3])
        problems.append(
            (
                "command",
                f"its lines #SBATCH ({told}) are read by sbatch only: say the same by cores=, options= and so on",
            )
        )
    return problems


def sum_of_asked(asked: JobSpec | ArrayOrder) -> str:
    """The sum of what is asked."""
    return sum_of(asked.model_dump(mode="json", exclude_unset=True))


SIGNALS: Sequence[str] = (
    "HUP", "INT", "QUIT", "ABRT", "KILL", "ALRM", "TERM", "USR1", "USR2", "URG", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
)  # fmt: skip
"""The names that Slurm knows. Newer versions cancel the job where they are sent another one."""


def signal_name(name: str) -> str:
    """A signal's name as Slurm has it.

    Raises:
        InvalidSpec: Slurm knows no such signal.

    Example:
        >>> signal_name("sigusr1")
        'USR1'
    """
    word = str(getattr(name, "name", name)).upper().removeprefix("SIG")
    if word not in SIGNALS:
        raise InvalidSpec([("signal", f"{name!r} is none that Slurm sends; give one of {', '.join(SIGNALS)}")])
    return word
