"""Looks at jobs of Slurm: at one, at many, at those that it has forgotten."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hpcjobs.arrays import ArrayInfo
from hpcjobs.errors import JobNotFound, NotFound
from hpcjobs.models import JobFilter, JobInfo, JobPage, JobQueryAnswer, OutputFile
from hpcjobs.protocol import Op, Request, call
from hpcjobs.services import slurm_arrays, slurm_comment
from hpcjobs.services.answers import json_of
from hpcjobs.services.base import LogChunk
from hpcjobs.services.slurm_answers import NO_SUCH_JOB, complaints
from hpcjobs.services.slurm_memory import Listing, cursor_of
from hpcjobs.services.slurm_records import (
    JOB_ID,
    array_of,
    info_of,
    info_of_accounting,
    num,
    output_of,
    tasks_of,
)
from hpcjobs.services.slurm_rest import SlurmRest

Record = Mapping[str, Any]

LOOK = 50
"""Most jobs that are looked at one by one; a look takes two or three milliseconds."""

CHUNK = 200
"""Most jobs in one request."""

FRESH = 1.0
"""Seconds for which the list of jobs is not asked for again, unless this client has changed anything."""

FRESH_PAGES = 30.0
"""Seconds for which further pages are of the same list."""

STALE = 60.0
"""Seconds after which a job is looked at again although its state is the same: its reason may be another one."""


class SlurmLooking(SlurmRest):
    """Looks at jobs; remembers what it saw, because Slurm does not for long."""

    def get(self, job_id: str) -> Op[JobInfo]:
        """Look at a job; an array is one, too, whose state is that of all its tasks.

        Raises:
            JobNotFound: There is no such job, or it ended longer ago than the cluster remembers.
        """
        records = yield from self.records(parts_of(job_id)[0])
        info = self._picked(job_id, records)
        return info if info is not None else (yield from self._forgotten(job_id))

    def get_many(self, ids: Sequence[str]) -> Op[JobQueryAnswer]:
        """Look at many jobs: one by one at some tens, at more by their states, or by a list if anything changed."""
        wanted = list(dict.fromkeys(ids))
        numbers: dict[str, list[str]] = {}
        for job_id in wanted:
            if match := JOB_ID.fullmatch(job_id):
                numbers.setdefault(match[1], []).append(job_id)
        found: dict[str, JobInfo] = {}
        if len(numbers) > LOOK:
            found = yield from self._unchanged([number for number, named in numbers.items() if named == [number]])
        missing = [job_id for job_id in wanted if not JOB_ID.fullmatch(job_id)]
        for number, named in numbers.items():
            if all(job_id in found for job_id in named):
                continue
            records = yield from self.records(number)
            for job_id in named:
                info = self._picked(job_id, records)
                try:
                    found[job_id] = info if info is not None else (yield from self._forgotten(job_id))
                except JobNotFound:
                    missing.append(job_id)
        return JobQueryAnswer(items=[found[job_id] for job_id in wanted if job_id in found], missing=missing)

    def _unchanged(self, numbers: Sequence[str]) -> Op[dict[str, JobInfo]]:
        """Those jobs of which nothing more is to be learnt by a look at each."""
        api = yield from self.served()
        if not api.state_of_many:
            listed = {info.id: info for info in (yield from self._mine())}
            return {number: listed[number] for number in numbers if number in listed}
        found: dict[str, JobInfo] = {}
        for start in range(0, len(numbers), CHUNK):
            params = [("job_id", number) for number in numbers[start : start + CHUNK]]
            for job in (yield from self.ask("GET", "jobs/state", params=params)).get("jobs") or ():
                known = self._memory.known(str(job.get("job_id")))
                same = known is not None and known.info.native_state == "+".join(map(str, job.get("state") or ()))
                if known is not None and same and (known.info.terminal or self._memory.age(known) < STALE):
                    found[known.info.id] = known.info
        return found

    def records(self, number: str) -> Op[list[Record]]:
        """The records of a number: several for an array, none where the controller does not know it."""
        try:
            body = yield from self.ask("GET", f"job/{number}")
        except JobNotFound:
            return []
        return list(body.get("jobs") or ())

    def _picked(self, job_id: str, records: Sequence[Record]) -> JobInfo | None:
        """What the records of a number say of a job; None where they do not tell of it."""
        number, index = parts_of(job_id)
        array = [record for record in records if array_of(record)[0] == number]
        if not array:
            record = next((one for one in records if str(num(one.get("job_id"))) == number), None)
            if record is None or index is not None:
                return None
            return self._memory.learn(info_of(record, job_id=job_id), record)
        tasks = {task.id: task for record in array for task in self._tasks(record)}
        if index is not None:
            return tasks.get(job_id) or slurm_arrays.not_split_off(array, index)
        seen = {task.id: task for task in self._memory.of_array(number) if task.terminal}
        whole = slurm_arrays.together(number, {**seen, **tasks}, array)
        if whole.terminal:
            self._memory.ended(whole)
        return whole

    def _tasks(self, record: Record) -> list[JobInfo]:
        """The jobs that a record stands for: of an array, all that were not split off yet."""
        infos = tasks_of(record)
        if array_of(record)[0] is not None and array_of(record)[1] is None:  # they are many, and alike
            return infos
        return [info for one in infos if (info := self._memory.learn(one, record)) is not None]

    def _forgotten(self, job_id: str) -> Op[JobInfo]:
        """A job that the controller does not know: as it ended, where we or the accounting saw it.

        Raises:
            JobNotFound: Nobody knows.
        """
        if (final := self._memory.final(job_id)) is not None:
            return final
        if (stored := (yield from self._accounted(job_id))) is not None:
            return stored
        raise JobNotFound(
            f"Slurm does not know job {job_id}: there is none, or it ended longer ago than the controller remembers "
            "(MinJobAge, five minutes unless its operators say otherwise) and there is no accounting to ask",
            status=404,
            code="job_not_found",
        )

    def _accounted(self, job_id: str) -> Op[JobInfo | None]:
        """A job as slurmdbd has it, where there is one."""
        api = yield from self.served()
        if self._accounting is False:
            return None
        number = parts_of(job_id)[0]
        request = Request("GET", f"/slurmdb/{api}/job/{number}")
        response = yield from call(request)
        body = json_of(response)
        if body is None:
            if response.status == 404:  # slurmrestd was started without it
                self._accounting = False
                return None
            raise self.error_of(request, response)
        # numbers come again there, after the controller's memory was lost: the last one is meant
        told = [info for job in body.get("jobs") or () if (info := info_of_accounting(job)).id == job_id]
        if told:
            info = max(told, key=_place)
            if info.terminal:
                self._memory.ended(info)
            return info
        if response.status >= 500 and all(number != NO_SUCH_JOB for number, _ in complaints(body)):
            raise self.error_of(request, response)
        return None

    # Listing

    def page(self, filter: JobFilter, *, limit: int, cursor: str | None) -> Op[JobPage]:  # noqa: A002 - its name
        """One page of the user's jobs that ``filter`` means, newest first: of those that the controller remembers."""
        if filter.array is not None:
            records = yield from self.records(parts_of(filter.array)[0])
            jobs: Sequence[JobInfo] = [task for record in records for task in self._tasks(record)]
        else:
            jobs = yield from (self._mine() if cursor is None else self._mine(FRESH_PAGES, own=False))
        meant = filter.model_copy(update={"array": None})  # its tasks were asked for
        found = sorted((info for info in jobs if meant.matches(info)), key=_place, reverse=True)
        if cursor is not None:
            found = [info for info in found if _place(info) < _read(cursor)]
        last = _written(_place(found[limit - 1])) if len(found) > limit else None
        return JobPage(items=found[:limit], next=last)

    def _mine(self, fresh: float = FRESH, *, own: bool = True) -> Op[Sequence[JobInfo]]:
        """The user's jobs. Slurm knows no pages and no users: one list is kept, and asked for only if it changed.

        Args:
            fresh: Seconds for which it is not asked for again.
            own: Whether it must have all that this client has done before, however short a time ago it came.
        """
        api = yield from self.served()
        before, sent = self._listing, time.monotonic()
        if before is not None and sent - before.taken < fresh and not (own and before.asked <= self._changed):
            return before.jobs
        params: list[tuple[str, str]] = []
        if before is not None and before.cursor is not None:
            params = [("update_time", api.update_time(before.cursor))]
        body = yield from self.ask("GET", "jobs", params=params)
        now = time.monotonic()
        if before is not None and params and not body.get("jobs") and (not body or body.get("warnings")):
            self._listing = dataclasses.replace(before, asked=sent, taken=now)
            return before.jobs
        mine = [record for record in body.get("jobs") or () if record.get("user_name") == self.user]
        jobs = [info.model_copy(update={"spec": None}) for record in mine for info in self._tasks(record)]
        keys = {slurm_comment.read(one.get("comment")).key: array_of(one)[0] or str(num(one["job_id"])) for one in mine}
        self._listing = Listing(jobs, sent, now, *cursor_of(body, before, sent, now), keys=keys)
        return jobs

    # Keys

    def find(self, key: str) -> Op[JobInfo | None]:
        """The job whose comment has a submission key, where the controller remembers it, or this client does."""
        if (known := self._memory.by_key(key)) is not None:
            try:
                return (yield from self.get(known))
            except JobNotFound:
                return None
        yield from self._mine(0.0)
        number = self._listing.keys.get(key) if self._listing is not None else None
        if number is None:
            return None
        try:
            return (yield from self.get(number))
        except JobNotFound:
            return None

    # Arrays

    def array(self, array_id: str) -> Op[ArrayInfo]:
        """Look at an array.

        Raises:
            NotFound: There is no such array, or the controller has forgotten it.
        """
        number, records, tasks = yield from self._array(array_id)
        return slurm_arrays.array_of_jobs(number, tasks, records)

    def _array(self, array_id: str) -> Op[tuple[str, list[Record], list[JobInfo]]]:
        """The number of an array, its records, and its tasks: also those that were forgotten, if they were seen."""
        number = parts_of(array_id)[0]
        records = [one for one in (yield from self.records(number)) if array_of(one)[0] == number]
        if not records:
            raise NotFound(f"Slurm does not know an array {array_id!r}, or no longer", status=404)
        tasks = {task.id: task for task in self._memory.of_array(number) if task.terminal}
        tasks.update((task.id, task) for record in records for task in self._tasks(record))
        return number, records, sorted(tasks.values(), key=lambda task: task.array_index or 0)

    def members_of(self, ids: Sequence[str]) -> Op[dict[str, list[str]]]:  # noqa: ARG002
        """None: an array is looked at and cancelled as one job."""
        return {}
        yield  # an operation that asks nothing

    # What Slurm's REST service does not hand out

    def log(
        self,
        job_id: str,
        stream: str,
        *,
        offset: int,  # noqa: ARG002
        wait: float = 0.0,  # noqa: ARG002
        length: int | None = None,  # noqa: ARG002
    ) -> Op[LogChunk]:
        """Not to be had; says where the log is.

        Raises:
            Unsupported: Always.
        """
        return self._elsewhere(job_id, stream)

    def log_tail(self, job_id: str, stream: str, *, size: int) -> Op[LogChunk]:  # noqa: ARG002
        """Not to be had; says where the log is.

        Raises:
            Unsupported: Always.
        """
        return self._elsewhere(job_id, stream)

    def _elsewhere(self, job_id: str, stream: str) -> Op[LogChunk]:
        info = yield from self.get(job_id)
        path = output_of(info.spec or {}, stream) if info.spec else ""
        if stream == "stderr" and not path:
            raise self._cannot("show logs", "read that of stdout, which has both, on the cluster's file system")
        raise self._cannot("show logs", f"read {path or 'the file in its folder'} on the cluster's file system")

    def files(self, job_id: str) -> Op[list[OutputFile]]:
        """Not to be had; says where they are.

        Raises:
            Unsupported: Always.
        """
        info = yield from self.get(job_id)
        folder = (info.spec or {}).get("current_working_directory") or "its folder"
        raise self._cannot("list a job's files", f"look at {folder} on the cluster's file system")


def parts_of(job_id: str) -> tuple[str, int | None]:
    """The number in an id, and the index of a task.

    Raises:
        JobNotFound: That is no id of Slurm.

    Example:
        >>> parts_of("12"), parts_of("12_3")
        (('12', None), ('12', 3))
    """
    match = JOB_ID.fullmatch(job_id)
    if match is None:
        raise JobNotFound(
            f"there is no job {job_id!r}: an id of Slurm is a number, and for a task of an array 12_3",
            status=404,
            code="job_not_found",
        )
    return match[1], None if match[2] is None else int(match[2])


def _place(info: JobInfo) -> tuple[int, int, int]:
    """Where a job stands in the list; the newest is last."""
    number, index = parts_of(info.id)
    created = int(info.created_at.timestamp()) if info.created_at else 0
    return created, int(number), -1 if index is None else index


def _written(place: tuple[int, int, int]) -> str:
    return "-".join(str(part + 1) for part in place)


def _read(cursor: str) -> tuple[int, ...]:
    return tuple(int(part) - 1 for part in cursor.split("-"))
