"""Turns what is asked of us into what AWS Batch is asked: a job, an array, the same job once more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcjobs.errors import InvalidSpec, Unsupported
from hpcjobs.hosts import local_user
from hpcjobs.models import JobSpec, StderrMode, When
from hpcjobs.services.batch_arrays import array_command, command_of_one
from hpcjobs.services.batch_records import is_array, member_of
from hpcjobs.services.batch_tags import OWNER_TAG, SUM_TAG, job_name, name_of, sum_of_request, tags_for

SERVICE = "AWS Batch"

MAX_PAYLOAD = 30 * 1024
"""Bytes: the largest request for a job."""

SHORTEST = 60
"""Seconds: the shortest time limit of a job."""

MOST_ATTEMPTS, MOST_RULES, MOST_DEPENDENCIES = 10, 5, 20
LEAST_ARRAY, MOST_ARRAY = 2, 10_000


@dataclass(frozen=True)
class Defaults:
    """What is used where a job does not say it."""

    queue: str | None = None
    job_definition: str | None = None
    share_identifier: str | None = None


def request_of(spec: JobSpec, key: str, defaults: Defaults, *, size: int | None = None, over: Any = None) -> Any:
    """What AWS Batch is asked for.

    The fields of ``options`` are Batch's own; they travel as they are, and win over what the spec says beside them.

    Args:
        spec: What is asked.
        key: The submission key.
        defaults: What is used where the spec does not say it.
        size: How many jobs, for an array.
        over: The item of each.

    Raises:
        Unsupported: Something is asked for that has no place in Batch.
        InvalidSpec: Something is more or less than Batch takes.

    Example:
        >>> spec = JobSpec(command="true", resources={"cores": 4, "memory": "2GiB", "walltime": "1h"})
        >>> body = request_of(spec, "k", Defaults("fast", "fit:3"))
        >>> body["jobQueue"], body["containerOverrides"]["command"], body["timeout"]
        ('fast', ['/bin/sh', '-c', 'true'], {'attemptDurationSeconds': 3600})
    """
    _refuse(spec)
    given = dict(spec.options)
    problems: list[tuple[str, str]] = []
    said: dict[str, Any] = {
        "jobName": job_name(key, spec.name or spec.app or _program(spec.command)),
        "jobQueue": spec.queue if spec.queue != "default" else defaults.queue,
        "jobDefinition": _definition(spec) or defaults.job_definition,
    }
    if "jobName" in given:
        problems.append(("options.jobName", "is made of the submission key, by which the job is found; give name="))
    if spec.args:
        said["parameters"] = {name: _text(value) for name, value in spec.args.items()}
    overrides = _overrides(spec, given.pop("gpus", None), problems, size=size, over=over)
    said |= _limits(spec, problems)
    if spec.after:
        said["dependsOn"] = _dependencies(spec, problems)
    share = given.get("shareIdentifier", defaults.share_identifier)
    if share is not None:
        said["shareIdentifier"] = share
    if "priority" in spec.model_fields_set:
        if share is None:
            advice = 'give options={"shareIdentifier": ...} for a queue with a scheduling policy, or no priority'
            problems.append(("priority", f"AWS Batch orders only jobs with a share identifier; {advice}"))
        elif not 0 <= spec.priority <= 9999:
            problems.append(("priority", f"is {spec.priority}; AWS Batch takes 0 to 9999"))
        said["schedulingPriorityOverride"] = spec.priority
    if size is not None:
        if not LEAST_ARRAY <= size <= MOST_ARRAY:
            problems.append(("over", f"an array has {LEAST_ARRAY} to {MOST_ARRAY:,} jobs on AWS Batch, not {size}"))
        said["arrayProperties"] = {"size": size}
    tags, wrong = tags_for(spec.name, spec.tags, spec.meta, _user())
    problems += wrong
    body = {**said, **{name: value for name, value in given.items() if name not in {"containerOverrides", "tags"}}}
    overrides = _merged(overrides, given.get("containerOverrides") or {})
    if overrides:
        body["containerOverrides"] = overrides
    body["tags"] = tags | dict(given.get("tags") or {})
    body["parameters"] = said.get("parameters", {}) | dict(given.get("parameters") or {})
    if not body["parameters"]:
        del body["parameters"]
    if not body["jobQueue"]:
        problems.append(("queue", "name the job queue: batch://REGION/QUEUE, or queue="))
    if not body["jobDefinition"]:
        advice = "give job_definition= to the client, app= and app_version=, or options={'jobDefinition': ...}"
        problems.append(("job_definition", f"AWS Batch runs a command in the container of a job definition; {advice}"))
    if problems:
        raise InvalidSpec(problems)
    return _checked(_signed(body))


def request_again(job: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What AWS Batch is asked for, to run once more what a job was: by its record.

    A job of an array becomes one of its own, which finds the same index. What it waited for has ended.

    Raises:
        Unsupported: Nothing is known of its command, or it is one on several computers.
    """
    if job.get("nodeProperties"):
        raise Unsupported(SERVICE, "run a job on several computers again", "submit it again with its options")
    container = job.get("container") or {}
    command = list(container.get("command") or [])
    _, index = member_of(job["jobId"])
    body: dict[str, Any] = {
        "jobName": job_name(key, name_of(job)),
        "jobQueue": job["jobQueue"],
        "jobDefinition": job["jobDefinition"],
        **{name: job[name] for name in ("parameters", "retryStrategy", "timeout", "shareIdentifier") if job.get(name)},
    }
    if job.get("schedulingPriority") and job.get("shareIdentifier"):
        body["schedulingPriorityOverride"] = job["schedulingPriority"]
    if index is not None:
        if not command:
            raise Unsupported(SERVICE, "run one job of this array again", "submit a job that does the same")
        command = command_of_one(command, index)
    if is_array(job):
        body["arrayProperties"] = {"size": job["arrayProperties"]["size"]}
    environment = [one for one in container.get("environment") or [] if not one["name"].startswith("AWS_BATCH")]
    overrides = {
        "command": command,
        "environment": environment,
        "resourceRequirements": container.get("resourceRequirements"),
    }
    if kept := {name: value for name, value in overrides.items() if value}:
        body["containerOverrides"] = kept
    body["tags"] = {name: text for name, text in (job.get("tags") or {}).items() if not name.startswith("aws:")}
    if (owner := _user()) is not None:
        body["tags"][OWNER_TAG] = owner
    return _checked(_signed(body))


def _refuse(spec: JobSpec) -> None:
    """Say what has no place in Batch, and what to do instead."""
    for name, (action, instead) in _NO_PLACE.items():
        if spec.asks_for(name):
            raise Unsupported(SERVICE, action, instead)
    if spec.stderr is StderrMode.SEPARATE:
        raise Unsupported(SERVICE, "keep stderr in a log of its own", "have the command write it to a file")
    for item in spec.after:
        if item.when is not When.OK:
            action = f"start a job after one that ended otherwise than well ({item.when})"
            raise Unsupported(SERVICE, action, "wait for the other job, then submit")


_NO_PLACE = {
    "task": ("run tasks by name", "give a command, or app= for a job definition"),
    "inputs": ("take input files", "put them where the job can reach them: in the image, or in S3"),
    "function": ("run Python functions", "submit a command that runs a script"),
    "start_at": ("start a job at a time (start_at)", "use EventBridge Scheduler, or submit later"),
    "start_in": ("start a job later (start_in)", "use EventBridge Scheduler, or submit later"),
    "expires_in": ("end a job that does not start (expires_in)", "set a job state time limit on the job queue"),
    "backoff": ("pause between attempts (backoff)", "have the command wait before it fails"),
    "grace": ("change the time that a job has to stop (grace)", "leave it out: it is 30 s on AWS Batch"),
}


def _program(command: str | list[str] | None) -> str:
    """A name for a job that has none."""
    words = command.split() if isinstance(command, str) else command or ["job"]
    return words[0].rpartition("/")[2] or "job"


def _definition(spec: JobSpec) -> str | None:
    if spec.app is None:
        return None
    return f"{spec.app}:{spec.app_version}" if spec.app_version is not None else spec.app


def _overrides(
    spec: JobSpec, gpus: Any, problems: list[tuple[str, str]], *, size: int | None, over: Sequence[Any] | None
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if spec.command is not None:
        if size is not None:
            made["command"] = array_command(spec.command, size, over)
        elif isinstance(spec.command, str):
            made["command"] = ["/bin/sh", "-c", spec.command]
        else:
            made["command"] = list(spec.command)
        if "" in made["command"]:
            problems.append(("command", "AWS Batch takes no empty argument; write a shell command, as a string"))
    elif over is not None:
        advice = f"read the index in AWS_BATCH_JOB_ARRAY_INDEX, and give the number of jobs: array={len(over)}"
        problems.append(("over", f"the jobs of an array of an app have the same arguments on AWS Batch; {advice}"))
    if spec.env:
        made["environment"] = [{"name": name, "value": value} for name, value in spec.env.items()]
        problems += [
            (f"env.{name}", "names that begin with AWS_BATCH are set by AWS Batch")
            for name in spec.env
            if name.startswith("AWS_BATCH")
        ]
    needs: list[tuple[str, Any]] = []
    if "cores" in spec.resources.model_fields_set:
        needs.append(("VCPU", spec.resources.cores))
    if spec.resources.memory is not None:
        needs.append(("MEMORY", math.ceil(spec.resources.memory / 2**20)))
    if gpus is not None:
        if not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 1:
            problems.append(("options.gpus", f"is {gpus!r}; give a number of GPUs, one or more"))
        needs.append(("GPU", gpus))
    if needs:
        made["resourceRequirements"] = [{"type": kind, "value": str(value)} for kind, value in needs]
    return made


def _limits(spec: JobSpec, problems: list[tuple[str, str]]) -> dict[str, Any]:
    """The time limit, and how often and after what the job runs again."""
    made: dict[str, Any] = {}
    if spec.resources.walltime is not None:
        seconds = math.ceil(spec.resources.walltime.total_seconds())
        if seconds < SHORTEST:
            problems.append(("walltime", f"is {seconds} s; AWS Batch knows no limit below {SHORTEST} s"))
        made["timeout"] = {"attemptDurationSeconds": seconds}
    if "max_attempts" in spec.model_fields_set or spec.retry_on is not None:
        if spec.max_attempts > MOST_ATTEMPTS:
            problems.append(("max_attempts", f"is {spec.max_attempts}; AWS Batch runs a job {MOST_ATTEMPTS} times"))
        strategy: dict[str, Any] = {"attempts": spec.max_attempts}
        made["retryStrategy"] = strategy
        if spec.retry_on is None:
            return made
        if len(spec.retry_on) > MOST_RULES - 1:
            allowed = f"{MOST_RULES - 1} exit codes at most"
            problems.append(("retry_on", f"names {len(spec.retry_on)}; AWS Batch tells {allowed} apart"))
        rules = [{"action": "RETRY", "onExitCode": str(code)} for code in spec.retry_on]
        strategy["evaluateOnExit"] = [*rules, {"action": "EXIT", "onExitCode": "*"}]
    return made


def _dependencies(spec: JobSpec, problems: list[tuple[str, str]]) -> list[dict[str, str]]:
    if len(spec.after) > MOST_DEPENDENCIES:
        advice = "put a job between them that waits for some"
        problems.append(("after", f"names {len(spec.after)} jobs; AWS Batch takes {MOST_DEPENDENCIES}; {advice}"))
    problems += [
        ("after", f"{item.job!r} is a job of the same call, which has no id yet on AWS Batch; submit it before")
        for item in spec.after
        if item.job.startswith("#")
    ]
    return [{"jobId": item.job} for item in spec.after]


def _merged(ours: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of the container: those of ``options`` win; of lists, item by item."""
    made = {**ours, **theirs}
    for field, name in (("environment", "name"), ("resourceRequirements", "type")):
        if field in ours and field in theirs:
            taken = {item.get(name) for item in theirs[field]}
            made[field] = [*(item for item in ours[field] if item[name] not in taken), *theirs[field]]
    return made


def _signed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "tags": {**body["tags"], SUM_TAG: sum_of_request(body)}}


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """A request that is not too large."""
    size = len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_PAYLOAD:
        sizes = {
            "env": len(json.dumps((body.get("containerOverrides") or {}).get("environment") or [])),
            "command": len(json.dumps((body.get("containerOverrides") or {}).get("command") or [])),
            "meta": len(json.dumps(body["tags"])),
        }
        most = max(sizes, key=lambda name: sizes[name])
        advice = "put what is long into a file, in S3 or in the image, and have the job read it"
        if "arrayProperties" in body and most == "command":
            advice = "submit several smaller arrays, or have each job read its item from a file by its index"
        words = f"the request has {size:,} bytes and AWS Batch takes {MAX_PAYLOAD:,}"
        raise InvalidSpec([(most, f"{words}, of which {sizes[most]:,} are for this; {advice}")])
    return body


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _user() -> str | None:
    return re.sub(r"[^\w.@-]", "_", local_user()) or None
