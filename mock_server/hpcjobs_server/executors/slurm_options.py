"""What is asked of sbatch for a job: its resources, its own options, and those of the operator."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.models import JobSpec

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 1000

_ELSEWHERE = {
    "time": "walltime=",
    "job-name": "name=",
    "array": "submit_array()",
    "export": "env=",
    "export-file": "env=",
    "requeue": "max_attempts=",
    "wrap": "command=",
}
"""What a job says in another place."""

_OURS = frozenset(
    {
        "chdir", "clusters", "comment", "error", "get-user-env", "gid", "help", "ignore-pbs", "input", "no-requeue",
        "open-mode", "output", "parsable", "quiet", "signal", "test-only", "uid", "usage", "verbose", "version", "wait",
    }
)  # fmt: skip
"""What the service needs itself, or what would keep sbatch from answering."""

_LAYOUT = ("ntasks", "ntasks-per-node", "cpus-per-task")


def read_option(text: str) -> tuple[str, str | bool]:
    """An option as an operator writes it.

    Example:
        >>> read_option("partition=short"), read_option("exclusive")
        (('partition', 'short'), ('exclusive', True))
    """
    name, given, value = text.partition("=")
    return name.strip(), value.strip() if given else True


def check(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with options for sbatch: ``(name, what is wrong and what is allowed)``.

    Example:
        >>> check({"partition": "short", "gres": "gpu:2", "exclusive": True})
        []
        >>> check({"time": 60})
        [('time', 'has a place of its own; give walltime=')]
    """
    problems: list[tuple[str, str]] = []
    for name, value in options.items():
        if why := _refused(name) or _unfit(value):
            problems.append((name, why))
    return problems


def _refused(name: str) -> str | None:
    if len(name) > 64 or not _NAME.fullmatch(name):
        return 'is not the long name of an option of sbatch, such as "partition" or "mem-per-cpu"'
    long = name.replace("_", "-")
    # sbatch takes the beginning of a name for the name
    if whole := next((known for known in _ELSEWHERE if known.startswith(long)), None):
        return f"has a place of its own; give {_ELSEWHERE[whole]}"
    if any(known.startswith(long) for known in _OURS):
        return "is set by the service, or would keep it from watching the job; leave it out"
    return None


def _unfit(value: Any) -> str | None:
    if isinstance(value, (bool, int)):
        return None
    if not isinstance(value, str):
        return "must be a text, a whole number, or true for an option without a value"
    if not value.strip() or len(value) > _LONGEST or _CONTROL.search(value):
        return f"must be one line of 1 to {_LONGEST} characters"
    return None


def arguments(spec: JobSpec, defaults: Sequence[str] = ()) -> list[str]:
    """The arguments of sbatch for what a job asks.

    Args:
        spec: The job; the options of an app are in other words, and not for sbatch.
        defaults: The operator's options.

    Example:
        >>> arguments(JobSpec(command="x", resources={"cores": 4, "memory": "2GiB", "walltime": "90s"}), ["qos=low"])
        ['--qos=low', '--ntasks=1', '--cpus-per-task=4', '--mem=2048M', '--time=2']
    """
    options = {name.replace("_", "-"): value for name, value in map(read_option, defaults)}
    if spec.app is None:
        options.update({name.replace("_", "-"): value for name, value in spec.options.items()})
    given = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items() if value is not False
    ]
    return given + _resources(spec, options)


def _resources(spec: JobSpec, options: Mapping[str, Any]) -> list[str]:
    asked = spec.resources
    out: list[str] = []
    if not any(name in options for name in _LAYOUT):
        # the cores of one process; on several nodes a process each, as MPI programs are started
        spread = str(options.get("nodes", 1)) != "1"
        out += [f"--ntasks={asked.cores}"] if spread else ["--ntasks=1", f"--cpus-per-task={asked.cores}"]
    if asked.memory is not None and not any(name.startswith("mem") for name in options):
        nodes = str(options.get("nodes", 1))
        each = asked.memory / int(nodes) if nodes.isdigit() and int(nodes) else asked.memory
        out.append(f"--mem={math.ceil(each / 2**20)}M")
    if asked.walltime is not None:
        out.append(f"--time={max(1, math.ceil(asked.walltime.total_seconds() / 60))}")
    return out
