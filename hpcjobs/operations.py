"""Service-independent operations: submit once, look, list, and the rest by name.

Each one works on every service and is run by either driver. Cancelling, logs, inputs and downloads have modules of
their own; their operations can be had from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from hpcjobs.acting import delete, delete_many, retry, retry_many, update, update_many
from hpcjobs.cancelling import cancel, cancel_many
from hpcjobs.errors import (
    Conflict,
    InvalidSpec,
    ServiceError,
    SubmissionUnknown,
    TransportError,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.logs import follow_log, read_log
from hpcjobs.models import JobFilter, JobInfo, JobSpec, problems_of
from hpcjobs.protocol import Op, T, each, emit, run
from hpcjobs.services.repeating import until_found

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from hpcjobs.arrays import ArrayInfo, ArrayOrder
    from hpcjobs.bodies import OnBytes
    from hpcjobs.inputs import Inputs
    from hpcjobs.models import InputFile
    from hpcjobs.services.base import Service

__all__ = [
    "cancel",
    "cancel_many",
    "delete",
    "delete_many",
    "download",
    "follow_log",
    "get",
    "list_jobs",
    "look_at_array",
    "read_log",
    "retry",
    "retry_many",
    "submit_array",
    "submit_many",
    "submit_once",
    "update",
    "update_many",
]

MAX_KEY = 200
"""The longest submission key, in characters."""


def submit_once(
    service: Service,
    fields: Mapping[str, Any] | JobSpec,
    *,
    inputs: Inputs = None,
    key: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Op[JobInfo]:
    """Submit a job: exactly one, whatever the network does.

    The submission key is made before the first try and stays the same. Where an answer is lost, the same is sent again
    if the service knows keys, else the job is looked up by its key and adopted. Nothing is ever guessed.

    Args:
        service: Where the job goes.
        fields: What is asked: a ``JobSpec``, or its fields (those of ``Resources`` may stand beside the others).
        inputs: For the job's folder: files, folders and patterns, or ``{name: path}``. They are checked before anything
            is sent, and only what the service lacks travels.
        key: The submission key; the same key never makes a second job. None for a new one.
        on_bytes: Told how far it is while inputs travel.

    Returns:
        The job, as the service has it.

    Raises:
        InvalidSpec: The job cannot be asked for.
        InputError: An input is missing, not a file, too large, badly named, or changed while it was sent.
        Conflict: The key was used for another job.
        NoService: Nothing answers, and nothing of the job was sent.
        SubmissionUnknown: The job may have been accepted; submit again with the key that it carries.
    """
    spec = fields if isinstance(fields, JobSpec) else JobSpec.parse(fields)
    _check_spec(spec)
    given, key = key is not None, _new_key() if key is None else _checked_key(key)
    if inputs:
        spec = yield from _with_inputs(service, spec, inputs, on_bytes)
    return (yield from _submit_one(service, spec, key, look=given))


def _submit_one(service: Service, spec: JobSpec, key: str, *, look: bool) -> Op[JobInfo]:
    """Submit a job; with ``look`` the key may have been used, and a service that keeps none is asked for it first."""
    if look and not service.capabilities.idempotent_submit:
        known = yield from service.find_submitted(spec, key)
        if known is not None:
            if not service.asked_for(known, spec, key):
                raise Conflict(f"the key {key!r} was used for another job, {known.id}; use another one", status=409)
            return known
    try:
        return (yield from service.submit(spec, key))
    except (TransportError, ServiceError) as error:
        if not error.may_have_acted:
            raise
        return (yield from _adopt(service, spec, key, error))
    except GeneratorExit:
        raise
    except BaseException as error:
        add_note = getattr(error, "add_note", None)  # since Python 3.11
        if not isinstance(error, Exception) and add_note is not None:
            add_note(f"interrupted: the job may have been accepted all the same; submit with key={key!r} to get it")
        raise


def submit_many(
    service: Service,
    specs: Sequence[JobSpec],
    *,
    inputs: Inputs = None,
    key: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Op[list[JobInfo]]:
    """Submit many jobs at once: each exactly once, whatever the network does.

    Args:
        service: Where the jobs go.
        specs: What is asked.
        inputs: Files that all of them get.
        key: The submission key of all of them together; None for a new one.
        on_bytes: Told how far it is while inputs travel.

    Returns:
        The jobs, in the order of the specs.

    Raises:
        InvalidSpec: One cannot be asked for.
        SubmissionUnknown: The jobs may have been accepted; submit again with the key that it carries.
    """
    for spec in specs:
        _check_spec(spec)
    if not specs:
        return []
    given, key = key is not None, _new_key() if key is None else _checked_key(key, longest=MAX_KEY - 20)
    if inputs:
        sent = (yield from _with_inputs(service, JobSpec(command="true"), inputs, on_bytes)).inputs
        specs = [_more_inputs(spec, sent) for spec in specs]
    if not service.capabilities.idempotent_submit:
        return (
            yield from each(
                _surely(_submit_one(service, spec, f"{key}/{number}", look=given), key)
                for number, spec in enumerate(specs)
            )
        )
    return (yield from _surely(service.submit_many(specs, key), key))


def submit_array(
    service: Service,
    order: ArrayOrder,
    *,
    inputs: Inputs = None,
    key: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
    """Submit an array: exactly one, whatever the network does.

    Args:
        service: Where it goes.
        order: What is asked, and how often.
        inputs: Files for the folder of each job.
        key: The submission key; None for a new one.
        on_bytes: Told how far it is while inputs travel.

    Returns:
        The array, and its jobs in order.

    Raises:
        InvalidSpec: It cannot be asked for.
        SubmissionUnknown: It may have been accepted; submit again with the key that it carries.
        Unsupported: The service has no arrays.
    """
    _check_spec(order)
    if not service.capabilities.arrays:
        raise Unsupported(service.name, "submit arrays", "submit the jobs one by one, or by submit_many()")
    key = _new_key() if key is None else _checked_key(key)
    if inputs:
        order = order.model_copy(update={"spec": (yield from _with_inputs(service, order.spec, inputs, on_bytes))})
    info, jobs = yield from _surely(service.submit_array(order, key), key)
    if len(jobs) < info.size:  # the key is that of an array of which jobs were deleted: which these are, must be asked
        return (yield from look_at_array(service, info.id))
    return info, jobs


def look_at_array(service: Service, array_id: str) -> Op[tuple[ArrayInfo, list[JobInfo]]]:
    """An array and its jobs, in order.

    Raises:
        NotFound: There is no such array, or it is another's.
        Unsupported: The service has no arrays.
    """
    info = yield from service.array(array_id)
    jobs: list[JobInfo] = []
    cursor: str | None = None
    while True:
        page = yield from service.page(JobFilter(array=info.id), limit=1000, cursor=cursor)
        jobs += page.items
        if page.next is None or page.next == cursor:
            break
        cursor = page.next
    return info, sorted(jobs, key=lambda job: job.array_index or 0)


def _surely(request: Op[T], key: str) -> Op[T]:
    """A request that makes jobs; where its answer is lost for good, the error carries the key."""
    try:
        return (yield from request)
    except (TransportError, ServiceError) as error:
        if not error.may_have_acted:
            raise
        raise SubmissionUnknown(key, str(error)) from error
    except SubmissionUnknown as error:  # the key of one of many is no key for all of them
        raise SubmissionUnknown(key, str(error.__cause__)) from error.__cause__


def _adopt(service: Service, spec: JobSpec, key: str, error: TransportError | ServiceError) -> Op[JobInfo]:
    """The answer was lost for good: the job that bears the key is ours, and if there is none, nobody knows."""
    if not service.capabilities.idempotent_submit:
        found = yield from until_found(  # it may be accepted at this very moment
            lambda: service.find_submitted(spec, key),
            within=service.capabilities.find_within,
            passing=(TransportError, ServiceError, Unsupported),
            pause=max(1.0, service.capabilities.min_poll),
        )
        if found is not None:
            return found
    raise SubmissionUnknown(key, str(error)) from error


def _with_inputs(service: Service, spec: JobSpec, inputs: Inputs, on_bytes: OnBytes | None) -> Op[JobSpec]:
    if not service.capabilities.inputs:
        raise Unsupported(service.name, "take input files", "put them where the job can reach them")
    from hpcjobs.inputs import find_inputs, send_inputs

    files = yield from run(lambda: find_inputs(inputs))
    sent = yield from send_inputs(service, files, on_bytes)
    return _more_inputs(spec, sent)


def _more_inputs(spec: JobSpec, sent: Sequence[InputFile]) -> JobSpec:
    try:
        return JobSpec.model_validate({**spec.explicit, "inputs": [*spec.inputs, *sent]})
    except ValidationError as error:
        raise InvalidSpec(problems_of(error, JobSpec.model_fields)) from None


def _new_key() -> str:
    import uuid

    return str(uuid.uuid4())


def _checked_key(key: str, *, longest: int = MAX_KEY) -> str:
    if not 0 < len(key) <= longest or not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidSpec([("key", f"{key!r} cannot be used; give 1 to {longest} printable ASCII characters")])
    return key


def _check_spec(spec: BaseModel) -> None:
    try:
        spec.model_dump_json()
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidSpec([("meta", f"cannot be sent: {error}; use what JSON has")]) from None


def get(service: Service, job_id: str) -> Op[JobInfo]:
    """Look at a job.

    Raises:
        JobNotFound: There is no such job, or it is another's.
    """
    return service.get(job_id)


def list_jobs(
    service: Service,
    filter: JobFilter | None = None,  # noqa: A002 - its name everywhere
    *,
    limit: int | None = None,
    page_size: int = 100,
) -> Op[None]:
    """Hand out the jobs that ``filter`` means, newest first, page by page as they are asked for.

    Args:
        service: Where the jobs are.
        filter: Which jobs; None for all.
        limit: At most so many; None for all.
        page_size: Jobs per request.

    Yields:
        ``Emit`` of ``JobInfo``.

    Raises:
        InvalidSpec: ``limit`` or ``page_size`` makes no sense.
        UnexpectedAnswer: The service hands out the same page again.
    """
    if limit is not None and limit < 0:
        raise InvalidSpec([("limit", f"{limit} jobs cannot be listed; give a number, zero or more, or None for all")])
    if not 1 <= page_size <= 1000:
        raise InvalidSpec([("page_size", f"is {page_size}; a page has 1 to 1000 jobs")])
    filter = filter or JobFilter()  # noqa: A001
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        page = yield from service.page(filter, limit=page_size if left is None else min(page_size, left), cursor=cursor)
        for info in page.items if left is None else page.items[:left]:
            yield from emit(info)
        if left is not None:
            left -= len(page.items)
        if page.next is None:
            return
        if page.next == cursor:
            raise UnexpectedAnswer(f"{service.name} hands out the same page of jobs again and again")
        cursor = page.next


def download(
    service: Service,
    job_id: str,
    target: str | os.PathLike[str],
    *,
    patterns: Sequence[str] = (),
    on_bytes: OnBytes | None = None,
) -> Op[list[Path]]:
    """Fetch the files of a job into a folder: see :func:`hpcjobs.downloads.download`."""
    from hpcjobs.downloads import download as fetch

    return fetch(service, job_id, target, patterns=patterns, on_bytes=on_bytes)
