"""Clients: ``Client`` and ``AsyncClient`` have the same methods and hold no logic."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Union, overload

from pydantic import ValidationError

from hpcjobs import live, operations, profiles, submitting, waiting
from hpcjobs.arrays import ArrayOrder
from hpcjobs.errors import InvalidSpec
from hpcjobs.handles import AsyncJob, Job, _teach
from hpcjobs.job_arrays import AsyncJobArray, JobArray
from hpcjobs.job_lists import AsyncJobList, JobList
from hpcjobs.models import JobFilter, JobInfo, JobSpec, TokenOrder, problems_of
from hpcjobs.records import QueueOrder
from hpcjobs.services import find_service
from hpcjobs.sessions import AsyncSession, OnInterrupt, S, Session
from hpcjobs.submitting import given
from hpcjobs.wording import Listed

if TYPE_CHECKING:
    import datetime as dt

    from typing_extensions import Never, Self, Unpack

    from hpcjobs.acting import Changes
    from hpcjobs.actions import DeleteResult, RetryResult, UpdateResult
    from hpcjobs.cancelling import Learn
    from hpcjobs.functions import Python
    from hpcjobs.inputs import Inputs
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import CancelResult, Scope, ServiceInfo, StderrMode, TaskInfo, TokenInfo
    from hpcjobs.protocol import Op
    from hpcjobs.records import QueueInfo
    from hpcjobs.retrying import RetryPolicy
    from hpcjobs.services.base import Service

H = TypeVar("H", Job[Any], AsyncJob[Any])
R = TypeVar("R")

Command = Union[str, "Sequence[str | os.PathLike[str]]", JobSpec]
"""A shell command, a program with its arguments, or everything that is asked."""

Length = Union[str, float, "dt.timedelta"]
"""A length of time: ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"``, ``"D-HH:MM:SS"``, or seconds."""


class Conditions(TypedDict, total=False):
    """Which jobs are meant; all that is given must hold."""

    state: JobState | str | Iterable[JobState | str] | None
    tag: str | Iterable[str] | None
    name: str | None
    queue: str | None
    array: str | None
    created_after: dt.datetime | str | None
    created_before: dt.datetime | str | None


class JobOptions(TypedDict, total=False):
    """What can be asked of a job beside its command: see :meth:`Client.submit`."""

    name: str | None
    tags: Sequence[str] | None
    cores: int | None
    memory: int | str | None
    walltime: Length | None
    env: Mapping[str, str] | None
    queue: str | None
    priority: int | None
    grace: Length | None
    max_attempts: int | None
    backoff: Length | None
    retry_on: Sequence[int] | None
    after: Iterable[Any] | None
    start_at: dt.datetime | str | None
    start_in: Length | None
    expires_in: Length | None
    requeue: bool | None
    stderr: StderrMode | str | None
    meta: Mapping[str, Any] | None
    options: Mapping[str, Any] | None


class _Client(Generic[S]):
    """What both clients share; nothing here asks the service."""

    def __init__(self, session: S, profile: str | None) -> None:
        self._session: S = session
        self._profile = profile
        live.load_displays()

    @property
    def service(self) -> Service:
        """The service, and what it can do: ``client.service.capabilities``."""
        return self._session.service

    @property
    def profile(self) -> str | None:
        """The profile's name, where the client was made from one."""
        return self._profile

    def __repr__(self) -> str:
        profile = f" profile {self._profile!r}" if self._profile else ""
        closed = " (closed)" if self._session.closed else ""
        return f"<{type(self).__name__} {self.service.name} at {self.service.where}{profile}{closed}>"


class Client(_Client[Session]):
    """A client of one service.

    Which service: the arguments, else the environment (``HPCJOBS_URL``, ``HPCJOBS_PROFILE``), else the config file's
    default profile, else the local service, which is started where there is none.

    It may be used from several threads. Close it, or use it in a ``with`` block, where many clients come and go.

    Args:
        profile: A profile of the config file, or an address.
        url: The service's address; ``?token=`` in it is understood.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.
        **options: What else the service wants to know: ``username=`` and ``password=`` for Tapis, say; beside what is
            in the profile.

    Raises:
        ConfigError: The profile, the address, the token or an option cannot be used.
        NoService: There is no service, and none can be started.

    Example:
        >>> from hpcjobs import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     job = client.submit("echo hello", name="greeting", walltime="1m")
        ...     job.wait()
        ...     print(job.logs())
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        url: str | None = None,
        token: profiles.Token = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        start: bool = True,
        **options: Any,
    ) -> None:
        target = profiles.resolve(profile, url=url, token=token, start=start, say=live.say)
        service = find_service(target.url, token=target.token, options={**target.options, **options})
        super().__init__(Session(service, timeout=timeout, retry=retry), target.profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def submit(
        self,
        command: Command,
        *,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> Job: ...

    @overload
    def submit(self, command: Callable[..., Coroutine[Any, Any, R]], *arguments: Any, **keywords: Any) -> Job[R]: ...

    @overload
    def submit(self, command: Callable[..., R], *arguments: Any, **keywords: Any) -> Job[R]: ...

    @overload
    def submit(
        self,
        *,
        task: str,
        args: Mapping[str, Any] | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> Job[Any]: ...

    @overload
    def submit(
        self,
        *,
        app: str,
        app_version: str | None = None,
        args: Mapping[str, Any] | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> Job[Any]: ...

    def submit(
        self,
        command: Command | Callable[..., Any] | None = None,
        *arguments: Any,
        task: str | None = None,
        app: str | None = None,
        app_version: str | None = None,
        args: Mapping[str, Any] | None = None,
        python: Python = None,
        inputs: Inputs = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        cores: int | None = None,
        memory: int | str | None = None,
        walltime: Length | None = None,
        env: Mapping[str, str] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        grace: Length | None = None,
        max_attempts: int | None = None,
        backoff: Length | None = None,
        retry_on: Sequence[int] | None = None,
        after: Iterable[Any] | None = None,
        start_at: dt.datetime | str | None = None,
        start_in: Length | None = None,
        expires_in: Length | None = None,
        requeue: bool | None = None,
        stderr: StderrMode | str | None = None,
        meta: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        key: str | None = None,
        progress: bool | None = None,
        **keywords: Any,
    ) -> Job[Any]:
        """Submit a job: exactly one, whatever the network does. Does not wait for it.

        Args:
            command: A string is a shell command, a list is a program with its arguments; or a ``JobSpec``, which the
                other arguments override; or a function, which is called in the job.
            *arguments: The function's arguments by position.
            task: Instead of a command, the name of a function that the service offers: ``client.tasks()``.
            app: Instead of a command, an application that the service's operators have set up.
            app_version: Its version, where the service has several.
            args: The arguments of the task or the app, by name.
            python: The Python that runs a function: a path, or a list such as ``["srun", "python3"]``. This one, where
                the job finds it at the same path, unless said otherwise; else the ``python3`` on the job's path.
            inputs: For the job's folder: files, folders, and patterns such as ``"params/*.json"`` or ``"**/*.py"``; or
                ``{name in the folder: path}``. Only what the service lacks is sent.
            name: A name for people.
            tags: Words to find the job by.
            cores: Processor cores; 1 unless said otherwise.
            memory: Bytes, or ``"500MB"``, ``"4GiB"``.
            walltime: The longest time that the job may run: ``"90s"``, ``"10m"``, ``"1h30m"``, or seconds.
            env: Environment variables for the job.
            queue: The queue; ``"default"`` unless said otherwise.
            priority: Higher goes first; 0 unless said otherwise.
            grace: How long the job may take to end when it is asked to stop; 30 seconds unless said otherwise.
            max_attempts: How often the job may run in all, if it fails by itself.
            backoff: The pause before the second attempt, doubled before each further one.
            retry_on: The exit codes that are worth another attempt; any failure unless said otherwise.
            after: The jobs (handles, arrays or ids) that must have ended well before this one runs; ``(job, "any")``
                for one that may end in any way, ``(job, "failed")`` for one that must not end well.
            start_at: Not before.
            start_in: Not before so much time has gone by.
            expires_in: A job that has not started after so much time is FAILED.
            requeue: Whether the job runs again, once, if its worker was lost; True unless said otherwise.
            stderr: ``"merged"`` into the log, in order, or ``"separate"``, for ``job.logs("stderr")``.
            meta: Anything JSON that travels with the job.
            options: What only this kind of service understands, in its own words.
            key: A submission key of your own; the same key never makes a second job.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **keywords: With a function its arguments by name; where one is named like an option here, bind it with
                ``functools.partial``. Without one nothing: any other name is an error that lists those that there are.

        Returns:
            A handle to the job.

        Raises:
            InvalidSpec: The job cannot be asked for; says what is wrong and what is allowed. Nothing was sent.
            InputError: An input is missing, not a file, too large, badly named, or changed while it was sent; or a
                pattern means nothing.
            Conflict: The key was used for another job.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            NoService: Nothing answers.
        """
        order = functools.partial(
            submitting.submit,
            self.service,
            command,
            arguments,
            keywords,
            inputs=inputs,
            key=key,
            progress=progress,
            python=python,
            task=task,
            app=app,
            app_version=app_version,
            args=args,
            name=name,
            tags=tags,
            cores=cores,
            memory=memory,
            walltime=walltime,
            env=env,
            queue=queue,
            priority=priority,
            grace=grace,
            max_attempts=max_attempts,
            backoff=backoff,
            retry_on=retry_on,
            after=None if after is None else list(after),
            start_at=start_at,
            start_in=start_in,
            expires_in=expires_in,
            requeue=requeue,
            stderr=stderr,
            meta=meta,
            options=options,
        )
        info = self._session.transfer(order, progress)
        return Job(self._session, info)

    def job(self, job_id: str) -> Job[Any]:
        """A handle to a job by its id, from this or any other process; asks the service once.

        Args:
            job_id: The job's id.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """
        return Job(self._session, self._session.run(operations.get(self.service, job_id)))

    def jobs(
        self,
        *,
        state: JobState | str | Iterable[JobState | str] | None = None,
        tag: str | Iterable[str] | None = None,
        name: str | None = None,
        queue: str | None = None,
        array: str | None = None,
        created_after: dt.datetime | str | None = None,
        created_before: dt.datetime | str | None = None,
        limit: int | None = None,
        **unknown: Never,
    ) -> JobList:
        """The jobs, newest first, fetched page by page as they are asked for.

        Args:
            state: One or more states; ``"active"`` stands for those of jobs that have not ended, ``"ended"`` for the
                others.
            tag: One or more tags; a job has all of them.
            name: The whole name; ``*`` stands for anything.
            queue: The queue.
            array: The id of an array: its jobs.
            created_after: Only jobs from then on.
            created_before: Only jobs before then.
            limit: At most so many.
            **unknown: Nothing; any other name is an error that lists those that there are.

        Returns:
            An iterator of handles, which a notebook shows as a table.

        Raises:
            InvalidSpec: A condition makes no sense.
        """
        wanted = _wanted(
            unknown,
            state=state,
            tag=tag,
            name=name,
            queue=queue,
            array=array,
            created_after=created_after,
            created_before=created_before,
        )
        return JobList(self._session, wanted, limit)

    def cancel(
        self,
        job: Job[Any] | str,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> CancelResult:
        """Ask that a job not run, or stop; looks first, and asks nothing of a job that has ended.

        Args:
            job: A handle or an id.
            reason: Why, for everyone who sees the job; at most 1,024 characters.
            abort: Whether a job that has started is asked to stop.
            delete: Remove the record of a job that never ran.
            confirm: Seconds to wait until the job has ended; None not to wait.
            strict: Raise where nothing was cancelled.

        Returns:
            What happened; it has no truth value, ask its ``outcome``, ``accepted`` or ``confirmed``.

        Raises:
            JobNotFound: There is no such job, or it is another's.
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: The job had not stopped within ``confirm`` seconds; the request stands.
            NotCancelled: Nothing was cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        handle = _handle(job, self._session, Job)
        return handle.cancel(reason=reason, abort=abort, delete=delete, confirm=confirm, strict=strict)

    def cancel_many(
        self,
        jobs: Iterable[Job[Any] | str] | None = None,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
        **where: Unpack[Conditions],
    ) -> list[CancelResult]:
        """Cancel many jobs in as few requests as the service allows.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.
            confirm: Seconds to wait until all have ended; None not to wait.
            strict: Raise where one of them was not cancelled.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that have not ended are
                meant.

        Returns:
            What happened to each, in the order of the jobs; one that is not known has the outcome NOT_FOUND.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both, or the reason is too long; nothing was sent.
            CancelTimeout: One had not stopped within ``confirm`` seconds; the requests stand.
            NotCancelled: One was not cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, Job)
        order = operations.cancel_many(
            self.service,
            chosen,
            reason=reason,
            abort=abort,
            delete=delete,
            confirm=confirm,
            strict=strict,
            learn=_teach_given(jobs),
        )
        return self._session.run(order)

    def submit_many(
        self,
        specs: Iterable[Command | Mapping[str, Any]],
        *,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
    ) -> list[Job[Any]]:
        """Submit many jobs in one call: each exactly once, whatever the network does, and all or none of 10,000.

        Args:
            specs: One per job: a command, a ``JobSpec``, or the fields of one as a dict. In ``after`` a number stands
                for another job of this call.
            inputs: For the folder of each job: files, folders and patterns, or ``{name in the folder: path}``.
            key: A submission key of your own; the same key never makes the jobs twice.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.

        Returns:
            Handles to the jobs, in the order of the specs.

        Raises:
            InvalidSpec: A job cannot be asked for; says which and why. Nothing was sent.
            InvalidRequest: A job is to wait for one that is not there, or the jobs wait for each other in a ring.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
        """
        asked = _many_asked(specs)
        submit = functools.partial(operations.submit_many, self.service, asked, inputs=inputs, key=key)
        infos = self._session.transfer(submit, progress)
        return Listed(Job(self._session, info) for info in infos)

    def submit_array(
        self,
        command: Command | None = None,
        *,
        task: str | None = None,
        args: Mapping[str, Any] | None = None,
        over: Iterable[Any] | None = None,
        array: int | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> JobArray:
        """Submit an array in one call: many jobs of one spec.

        In the command ``{name}`` stands for ``name`` of an item that is a dict, ``{item}`` for any other item, and
        ``{index}`` for the index, from 0. Each job finds its index in ``HPCJOBS_ARRAY_INDEX`` and its item, as JSON,
        in ``HPCJOBS_ITEM``.

        Args:
            command: As for :meth:`submit`.
            task: Instead of a command, the name of a function that the service offers; the fields of an item that is a
                dict are arguments of it.
            args: The arguments of the task that are the same for all jobs.
            over: One job per item; anything JSON.
            array: How many jobs, in place of ``over``.
            inputs: For the folder of each job: files, folders and patterns, or ``{name in the folder: path}``.
            key: A submission key of your own; the same key never makes a second array.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **options: As for :meth:`submit`.

        Returns:
            A handle to all of them.

        Raises:
            InvalidSpec: The array cannot be asked for; says what is wrong. Nothing was sent.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            Unsupported: The service has no arrays.

        Example:
            >>> dampings = [{"d": 0.02}, {"d": 0.05}]
            >>> sweep = client.submit_array("fit.py --damping {d}", over=dampings)  # doctest: +SKIP
        """
        order = _array_asked(command, over, array, {**options, **given(task=task, args=args)})
        submit = functools.partial(operations.submit_array, self.service, order, inputs=inputs, key=key)
        info, jobs = self._session.transfer(submit, progress)
        return JobArray(self._session, info, [Job(self._session, job) for job in jobs])

    @overload
    def map(
        self,
        function: Callable[..., Coroutine[Any, Any, R]],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> JobArray[R]: ...

    @overload
    def map(
        self,
        function: Callable[..., R],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> JobArray[R]: ...

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> JobArray[Any]:
        """Call a function once per item, each call a job of its own; one array, submitted in one call.

        Args:
            function: The function; bind what is the same for all with ``functools.partial``.
            *iterables: The items; where there are several, the function takes one of each, as with ``map()``.
            python: The Python that runs the function, as for :meth:`submit`.
            inputs: Files for the folder of each job.
            key: A submission key of your own; the same key never makes a second array.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **options: As for :meth:`submit`.

        Returns:
            A handle to all of the jobs; ``results()`` hands out what the calls came to, in order.

        Raises:
            InvalidSpec: The function cannot be called so, something cannot be pickled, or there are no items.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            Unsupported: The service has no arrays.

        Example:
            >>> from hpcjobs import Client
            >>> squares = client.map(lambda n: n * n, range(5), walltime="1m")  # doctest: +SKIP
            >>> [result for result in squares.results()]  # doctest: +SKIP
            [0, 1, 4, 9, 16]
        """
        order = functools.partial(
            submitting.submit_map,
            self.service,
            function,
            iterables,
            python=python,
            inputs=inputs,
            key=key,
            options=options,
        )
        info, jobs = self._session.transfer(order, progress)
        return JobArray(self._session, info, [Job(self._session, job) for job in jobs])

    def array(self, array_id: str) -> JobArray[Any]:
        """A handle to an array by its id, from this or any other process.

        Args:
            array_id: The array's id; a job of it has it as ``job.info.array_id``.

        Raises:
            NotFound: There is no such array, or it is another's.
            Unsupported: The service has no arrays.
        """
        info, jobs = self._session.run(operations.look_at_array(self.service, array_id))
        return JobArray(self._session, info, [Job(self._session, job) for job in jobs])

    def retry(self, job: Job[Any] | str) -> RetryResult:
        """Run a job again, at once; see :meth:`Job.retry`.

        Args:
            job: A handle or an id.

        Raises:
            Conflict: The job runs.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service runs no job again.
        """
        return _handle(job, self._session, Job).retry()

    def retry_many(
        self, jobs: Iterable[Job[Any] | str] | None = None, **where: Unpack[Conditions]
    ) -> list[RetryResult]:
        """Run many jobs again, in as few requests as the service allows; those that run are left alone.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that are FAILED or
                CANCELLED are meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both.
            Unsupported: The service runs no job again.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, Job)
        return self._session.run(operations.retry_many(self.service, chosen, learn=_teach_given(jobs)))

    def update(self, job: Job[Any] | str, changes: Changes | None = None, /, **fields: Any) -> UpdateResult:
        """Change a job; see :meth:`Job.update`.

        Args:
            job: A handle or an id.
            changes: What is to be different, by name, or a function that is given the job's info and returns that.
            **fields: The same by keyword.

        Raises:
            InvalidSpec: The changes make no job; nothing was changed.
            Conflict: The job has started, and the changes would mislead.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service changes no jobs.
        """
        return _handle(job, self._session, Job).update(changes, **fields)

    def update_many(
        self, jobs: Iterable[Job[Any] | str] | None = None, changes: Changes | None = None, **where: Unpack[Conditions]
    ) -> list[UpdateResult]:
        """Change many jobs, in as few requests as the service allows; one that refuses spoils nothing.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            changes: What is to be different, by name, or a function that is called with each job's info.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that have not started
                are meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both, or the changes make no sense.
            Unsupported: The service changes no jobs.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, Job)
        order = operations.update_many(self.service, chosen, changes, learn=_teach_given(jobs))
        return self._session.run(order)

    def delete(self, job: Job[Any] | str) -> DeleteResult:
        """Remove a job's record and files; never those of a job that runs.

        Args:
            job: A handle or an id.

        Raises:
            Conflict: The job runs; cancel it first.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service deletes no jobs.
        """
        return _handle(job, self._session, Job).delete()

    def delete_many(
        self, jobs: Iterable[Job[Any] | str] | None = None, **where: Unpack[Conditions]
    ) -> list[DeleteResult]:
        """Remove the records and files of many jobs, in as few requests as the service allows; never of one that runs.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, all jobs that do not run are
                meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both.
            Unsupported: The service deletes no jobs.
        """
        chosen = _chosen(jobs, where, self._session, Job)
        return self._session.run(operations.delete_many(self.service, chosen))

    def watch(self, jobs: Iterable[Job[Any] | str]) -> Iterator[JobInfo]:
        """Hand out what is known of each job now, and again at every change, until all have ended.

        Changes in quick succession may be handed out as one. Thousands of jobs cost no more requests than one.

        Args:
            jobs: Handles or ids.

        Returns:
            An iterator of infos; of each job the last one is final.

        Raises:
            JobVanished: The service no longer knows one of the jobs.
            JobNotFound: The service does not know one of the ids.
            AuthenticationError: The token is no longer good.
        """
        handles = _handles(jobs, self._session, Job)
        return self._session.watch(_seen(handles), learn=_teach(handles))

    def wait(
        self,
        jobs: Iterable[Job[Any] | str],
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> list[JobInfo]:
        """Wait until all of these jobs have ended, well or badly; thousands cost no more requests than one.

        Args:
            jobs: Handles or ids.
            timeout: Seconds; None for as long as it takes.
            progress: Whether the jobs are shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the jobs that still go on when the waiting is interrupted.

        Returns:
            The final infos, in the order of the jobs.

        Raises:
            WaitTimeout: A job had not ended in time; it goes on.
            JobVanished: The service no longer knows one of the jobs.
            JobNotFound: The service does not know one of the ids.
            AuthenticationError: The token is no longer good.
        """
        handles = _handles(jobs, self._session, Job)
        infos = self._session.wait(
            _seen(handles), timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=_teach(handles)
        )
        return _in_order(handles, infos)

    def run(self, op: Op[R]) -> R:
        """Run an operation of the service: what only this kind of service can do has no method of its own here.

        Args:
            op: The operation, just made: ``client.service.signal("17", "USR1")`` on Slurm, say.

        Returns:
            What the operation returns.

        Raises:
            HpcjobsError: Whatever the operation raises.

        Example:
            >>> from hpcjobs import Client
            >>> with Client("slurm+http://head:6820", folder="/scratch/me") as client:  # doctest: +SKIP
            ...     client.run(client.service.hold("17"))
        """
        return self._session.run(op)

    def info(self) -> ServiceInfo:
        """What the service says of itself and of who asks.

        Raises:
            Unsupported: The service does not tell.
        """
        return self._session.run(self.service.info())

    def tasks(self) -> list[TaskInfo]:
        """The functions that the service offers by name, for ``submit(task=..., args=...)``.

        Raises:
            Unsupported: The service has no named tasks.
        """
        return self._session.run(self.service.tasks())

    def queues(self) -> list[QueueInfo]:
        """The queues that are set or have jobs, and how many jobs of everybody's each has.

        Raises:
            Unsupported: The service does not list queues.
        """
        return self._session.run(self.service.queues())

    def set_queue(
        self,
        name: str,
        *,
        paused: bool | None = None,
        reason: str | None = None,
        max_running: int | Literal["same"] | None = "same",
        max_walltime: Length | None = "same",
    ) -> QueueInfo:
        """Set a queue; what is not given stays as it is. Needs the scope admin.

        Args:
            name: The queue.
            paused: Whether its jobs are held back; those that run go on.
            reason: Why it is paused.
            max_running: The most of its jobs that run at once; None for no limit.
            max_walltime: The longest that its jobs may run, ``"12h"`` or seconds; None for no limit.

        Returns:
            The queue as it is now.

        Raises:
            InvalidSpec: An argument makes no sense.
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        order = _queue_order(paused=paused, reason=reason, max_running=max_running, max_walltime=max_walltime)
        return self._session.run(self.service.set_queue(name, order))

    def pause_queue(self, name: str, *, reason: str | None = None) -> QueueInfo:
        """Hold back the jobs of a queue; those that run go on. Needs the scope admin.

        Args:
            name: The queue.
            reason: Why, for everyone who sees the queue.

        Raises:
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        order = _queue_order(paused=True, reason=reason)
        return self._session.run(self.service.set_queue(name, order))

    def resume_queue(self, name: str) -> QueueInfo:
        """Let the jobs of a queue run again. Needs the scope admin.

        Args:
            name: The queue.

        Raises:
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        return self._session.run(self.service.set_queue(name, _queue_order(paused=False)))

    def create_token(
        self,
        name: str = "token",
        *,
        scope: Scope | str = "write",
        owner: str | None = None,
        expires_in: Length | None = None,
    ) -> TokenInfo:
        """Make a token; its secret, ``.token``, is told this once.

        Args:
            name: What it is for.
            scope: ``"read"``, ``"write"`` or ``"admin"``.
            owner: Whose; another than oneself needs the scope admin.
            expires_in: For how long it is good; None for ever.

        Raises:
            InvalidSpec: An argument makes no sense.
            PermissionDenied: The own token may not do this.
            Unsupported: The service makes no tokens.
        """
        order = TokenOrder.parse(given(name=name, scope=scope, owner=owner, expires_in=expires_in))
        return self._session.run(self.service.create_token(order))

    def tokens(self) -> list[TokenInfo]:
        """The tokens of who asks, without their secrets.

        Raises:
            Unsupported: The service does not list tokens.
        """
        return self._session.run(self.service.list_tokens())

    def revoke_token(self, token_id: str) -> None:
        """End a token.

        Args:
            token_id: The token's id, not its secret.

        Raises:
            NotFound: There is no such token.
            Unsupported: The service revokes no tokens.
        """
        self._session.run(self.service.revoke_token(token_id))

    def close(self) -> None:
        """Close all connections, and end every wait; may be called twice. The jobs go on."""
        self._session.close()


class AsyncClient(_Client[AsyncSession]):
    """A client of one service.

    Which service: the arguments, else the environment (``HPCJOBS_URL``, ``HPCJOBS_PROFILE``), else the config file's
    default profile, else the local service, which is started where there is none.

    Making one may take a moment where a local service has to be started; ``await connect_async()`` does it without
    blocking the event loop. It may be used from several event loops. Close it, or use it in an ``async with`` block.

    Args:
        profile: A profile of the config file, or an address.
        url: The service's address; ``?token=`` in it is understood.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.
        **options: What else the service wants to know: ``username=`` and ``password=`` for Tapis, say; beside what is
            in the profile.

    Raises:
        ConfigError: The profile, the address, the token or an option cannot be used.
        NoService: There is no service, and none can be started.

    Example:
        >>> from hpcjobs import AsyncClient
        >>> async with AsyncClient() as client:  # doctest: +SKIP
        ...     job = await client.submit("echo hello", name="greeting", walltime="1m")
        ...     await job
        ...     print(await job.logs())
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        url: str | None = None,
        token: profiles.Token = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        start: bool = True,
        **options: Any,
    ) -> None:
        target = profiles.resolve(profile, url=url, token=token, start=start, say=live.say)
        service = find_service(target.url, token=target.token, options={**target.options, **options})
        super().__init__(AsyncSession(service, timeout=timeout, retry=retry), target.profile)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def submit(
        self,
        command: Command,
        *,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob: ...

    @overload
    async def submit(
        self, command: Callable[..., Coroutine[Any, Any, R]], *arguments: Any, **keywords: Any
    ) -> AsyncJob[R]: ...

    @overload
    async def submit(self, command: Callable[..., R], *arguments: Any, **keywords: Any) -> AsyncJob[R]: ...

    @overload
    async def submit(
        self,
        *,
        task: str,
        args: Mapping[str, Any] | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob[Any]: ...

    @overload
    async def submit(
        self,
        *,
        app: str,
        app_version: str | None = None,
        args: Mapping[str, Any] | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob[Any]: ...

    async def submit(
        self,
        command: Command | Callable[..., Any] | None = None,
        *arguments: Any,
        task: str | None = None,
        app: str | None = None,
        app_version: str | None = None,
        args: Mapping[str, Any] | None = None,
        python: Python = None,
        inputs: Inputs = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        cores: int | None = None,
        memory: int | str | None = None,
        walltime: Length | None = None,
        env: Mapping[str, str] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        grace: Length | None = None,
        max_attempts: int | None = None,
        backoff: Length | None = None,
        retry_on: Sequence[int] | None = None,
        after: Iterable[Any] | None = None,
        start_at: dt.datetime | str | None = None,
        start_in: Length | None = None,
        expires_in: Length | None = None,
        requeue: bool | None = None,
        stderr: StderrMode | str | None = None,
        meta: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        key: str | None = None,
        progress: bool | None = None,
        **keywords: Any,
    ) -> AsyncJob[Any]:
        """Submit a job: exactly one, whatever the network does. Does not wait for it.

        Args:
            command: A string is a shell command, a list is a program with its arguments; or a ``JobSpec``, which the
                other arguments override; or a function, which is called in the job.
            *arguments: The function's arguments by position.
            task: Instead of a command, the name of a function that the service offers: ``client.tasks()``.
            app: Instead of a command, an application that the service's operators have set up.
            app_version: Its version, where the service has several.
            args: The arguments of the task or the app, by name.
            python: The Python that runs a function: a path, or a list such as ``["srun", "python3"]``. This one, where
                the job finds it at the same path, unless said otherwise; else the ``python3`` on the job's path.
            inputs: For the job's folder: files, folders, and patterns such as ``"params/*.json"`` or ``"**/*.py"``; or
                ``{name in the folder: path}``. Only what the service lacks is sent.
            name: A name for people.
            tags: Words to find the job by.
            cores: Processor cores; 1 unless said otherwise.
            memory: Bytes, or ``"500MB"``, ``"4GiB"``.
            walltime: The longest time that the job may run: ``"90s"``, ``"10m"``, ``"1h30m"``, or seconds.
            env: Environment variables for the job.
            queue: The queue; ``"default"`` unless said otherwise.
            priority: Higher goes first; 0 unless said otherwise.
            grace: How long the job may take to end when it is asked to stop; 30 seconds unless said otherwise.
            max_attempts: How often the job may run in all, if it fails by itself.
            backoff: The pause before the second attempt, doubled before each further one.
            retry_on: The exit codes that are worth another attempt; any failure unless said otherwise.
            after: The jobs (handles, arrays or ids) that must have ended well before this one runs; ``(job, "any")``
                for one that may end in any way, ``(job, "failed")`` for one that must not end well.
            start_at: Not before.
            start_in: Not before so much time has gone by.
            expires_in: A job that has not started after so much time is FAILED.
            requeue: Whether the job runs again, once, if its worker was lost; True unless said otherwise.
            stderr: ``"merged"`` into the log, in order, or ``"separate"``, for ``job.logs("stderr")``.
            meta: Anything JSON that travels with the job.
            options: What only this kind of service understands, in its own words.
            key: A submission key of your own; the same key never makes a second job.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **keywords: With a function its arguments by name; where one is named like an option here, bind it with
                ``functools.partial``. Without one nothing: any other name is an error that lists those that there are.

        Returns:
            A handle to the job.

        Raises:
            InvalidSpec: The job cannot be asked for; says what is wrong and what is allowed. Nothing was sent.
            InputError: An input is missing, not a file, too large, badly named, or changed while it was sent; or a
                pattern means nothing.
            Conflict: The key was used for another job.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            NoService: Nothing answers.
        """
        order = functools.partial(
            submitting.submit,
            self.service,
            command,
            arguments,
            keywords,
            inputs=inputs,
            key=key,
            progress=progress,
            python=python,
            task=task,
            app=app,
            app_version=app_version,
            args=args,
            name=name,
            tags=tags,
            cores=cores,
            memory=memory,
            walltime=walltime,
            env=env,
            queue=queue,
            priority=priority,
            grace=grace,
            max_attempts=max_attempts,
            backoff=backoff,
            retry_on=retry_on,
            after=None if after is None else list(after),
            start_at=start_at,
            start_in=start_in,
            expires_in=expires_in,
            requeue=requeue,
            stderr=stderr,
            meta=meta,
            options=options,
        )
        info = await self._session.transfer(order, progress)
        return AsyncJob(self._session, info)

    async def job(self, job_id: str) -> AsyncJob[Any]:
        """A handle to a job by its id, from this or any other process; asks the service once.

        Args:
            job_id: The job's id.

        Raises:
            JobNotFound: There is no such job, or it is another's.
        """
        return AsyncJob(self._session, await self._session.run(operations.get(self.service, job_id)))

    def jobs(
        self,
        *,
        state: JobState | str | Iterable[JobState | str] | None = None,
        tag: str | Iterable[str] | None = None,
        name: str | None = None,
        queue: str | None = None,
        array: str | None = None,
        created_after: dt.datetime | str | None = None,
        created_before: dt.datetime | str | None = None,
        limit: int | None = None,
        **unknown: Never,
    ) -> AsyncJobList:
        """The jobs, newest first, fetched page by page as they are asked for.

        Args:
            state: One or more states; ``"active"`` stands for those of jobs that have not ended, ``"ended"`` for the
                others.
            tag: One or more tags; a job has all of them.
            name: The whole name; ``*`` stands for anything.
            queue: The queue.
            array: The id of an array: its jobs.
            created_after: Only jobs from then on.
            created_before: Only jobs before then.
            limit: At most so many.
            **unknown: Nothing; any other name is an error that lists those that there are.

        Returns:
            An iterator of handles, which a notebook shows as a table.

        Raises:
            InvalidSpec: A condition makes no sense.
        """
        wanted = _wanted(
            unknown,
            state=state,
            tag=tag,
            name=name,
            queue=queue,
            array=array,
            created_after=created_after,
            created_before=created_before,
        )
        return AsyncJobList(self._session, wanted, limit)

    async def cancel(
        self,
        job: AsyncJob[Any] | str,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> CancelResult:
        """Ask that a job not run, or stop; looks first, and asks nothing of a job that has ended.

        Args:
            job: A handle or an id.
            reason: Why, for everyone who sees the job; at most 1,024 characters.
            abort: Whether a job that has started is asked to stop.
            delete: Remove the record of a job that never ran.
            confirm: Seconds to wait until the job has ended; None not to wait.
            strict: Raise where nothing was cancelled.

        Returns:
            What happened; it has no truth value, ask its ``outcome``, ``accepted`` or ``confirmed``.

        Raises:
            JobNotFound: There is no such job, or it is another's.
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: The job had not stopped within ``confirm`` seconds; the request stands.
            NotCancelled: Nothing was cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        handle = _handle(job, self._session, AsyncJob)
        return await handle.cancel(reason=reason, abort=abort, delete=delete, confirm=confirm, strict=strict)

    async def cancel_many(
        self,
        jobs: Iterable[AsyncJob[Any] | str] | None = None,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
        **where: Unpack[Conditions],
    ) -> list[CancelResult]:
        """Cancel many jobs in as few requests as the service allows.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.
            confirm: Seconds to wait until all have ended; None not to wait.
            strict: Raise where one of them was not cancelled.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that have not ended are
                meant.

        Returns:
            What happened to each, in the order of the jobs; one that is not known has the outcome NOT_FOUND.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both, or the reason is too long; nothing was sent.
            CancelTimeout: One had not stopped within ``confirm`` seconds; the requests stand.
            NotCancelled: One was not cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, AsyncJob)
        order = operations.cancel_many(
            self.service,
            chosen,
            reason=reason,
            abort=abort,
            delete=delete,
            confirm=confirm,
            strict=strict,
            learn=_teach_given(jobs),
        )
        return await self._session.run(order)

    async def submit_many(
        self,
        specs: Iterable[Command | Mapping[str, Any]],
        *,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
    ) -> list[AsyncJob[Any]]:
        """Submit many jobs in one call: each exactly once, whatever the network does, and all or none of 10,000.

        Args:
            specs: One per job: a command, a ``JobSpec``, or the fields of one as a dict. In ``after`` a number stands
                for another job of this call.
            inputs: For the folder of each job: files, folders and patterns, or ``{name in the folder: path}``.
            key: A submission key of your own; the same key never makes the jobs twice.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.

        Returns:
            Handles to the jobs, in the order of the specs.

        Raises:
            InvalidSpec: A job cannot be asked for; says which and why. Nothing was sent.
            InvalidRequest: A job is to wait for one that is not there, or the jobs wait for each other in a ring.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
        """
        asked = _many_asked(specs)
        submit = functools.partial(operations.submit_many, self.service, asked, inputs=inputs, key=key)
        infos = await self._session.transfer(submit, progress)
        return Listed(AsyncJob(self._session, info) for info in infos)

    async def submit_array(
        self,
        command: Command | None = None,
        *,
        task: str | None = None,
        args: Mapping[str, Any] | None = None,
        over: Iterable[Any] | None = None,
        array: int | None = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobArray:
        """Submit an array in one call: many jobs of one spec.

        In the command ``{name}`` stands for ``name`` of an item that is a dict, ``{item}`` for any other item, and
        ``{index}`` for the index, from 0. Each job finds its index in ``HPCJOBS_ARRAY_INDEX`` and its item, as JSON,
        in ``HPCJOBS_ITEM``.

        Args:
            command: As for :meth:`submit`.
            task: Instead of a command, the name of a function that the service offers; the fields of an item that is a
                dict are arguments of it.
            args: The arguments of the task that are the same for all jobs.
            over: One job per item; anything JSON.
            array: How many jobs, in place of ``over``.
            inputs: For the folder of each job: files, folders and patterns, or ``{name in the folder: path}``.
            key: A submission key of your own; the same key never makes a second array.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **options: As for :meth:`submit`.

        Returns:
            A handle to all of them.

        Raises:
            InvalidSpec: The array cannot be asked for; says what is wrong. Nothing was sent.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            Unsupported: The service has no arrays.

        Example:
            >>> dampings = [{"d": 0.02}, {"d": 0.05}]
            >>> sweep = await client.submit_array("fit.py --damping {d}", over=dampings)  # doctest: +SKIP
        """
        order = _array_asked(command, over, array, {**options, **given(task=task, args=args)})
        submit = functools.partial(operations.submit_array, self.service, order, inputs=inputs, key=key)
        info, jobs = await self._session.transfer(submit, progress)
        return AsyncJobArray(self._session, info, [AsyncJob(self._session, job) for job in jobs])

    @overload
    async def map(
        self,
        function: Callable[..., Coroutine[Any, Any, R]],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobArray[R]: ...

    @overload
    async def map(
        self,
        function: Callable[..., R],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobArray[R]: ...

    async def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        python: Python = None,
        inputs: Inputs = None,
        key: str | None = None,
        progress: bool | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJobArray[Any]:
        """Call a function once per item, each call a job of its own; one array, submitted in one call.

        Args:
            function: The function; bind what is the same for all with ``functools.partial``.
            *iterables: The items; where there are several, the function takes one of each, as with ``map()``.
            python: The Python that runs the function, as for :meth:`submit`.
            inputs: Files for the folder of each job.
            key: A submission key of your own; the same key never makes a second array.
            progress: Whether inputs that take a while are shown as they travel. None: in a notebook and on a terminal.
            **options: As for :meth:`submit`.

        Returns:
            A handle to all of the jobs; ``results()`` hands out what the calls came to, in order.

        Raises:
            InvalidSpec: The function cannot be called so, something cannot be pickled, or there are no items.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            Unsupported: The service has no arrays.

        Example:
            >>> from hpcjobs import AsyncClient
            >>> squares = await client.map(lambda n: n * n, range(5), walltime="1m")  # doctest: +SKIP
            >>> [result async for result in squares.results()]  # doctest: +SKIP
            [0, 1, 4, 9, 16]
        """
        order = functools.partial(
            submitting.submit_map,
            self.service,
            function,
            iterables,
            python=python,
            inputs=inputs,
            key=key,
            options=options,
        )
        info, jobs = await self._session.transfer(order, progress)
        return AsyncJobArray(self._session, info, [AsyncJob(self._session, job) for job in jobs])

    async def array(self, array_id: str) -> AsyncJobArray[Any]:
        """A handle to an array by its id, from this or any other process.

        Args:
            array_id: The array's id; a job of it has it as ``job.info.array_id``.

        Raises:
            NotFound: There is no such array, or it is another's.
            Unsupported: The service has no arrays.
        """
        info, jobs = await self._session.run(operations.look_at_array(self.service, array_id))
        return AsyncJobArray(self._session, info, [AsyncJob(self._session, job) for job in jobs])

    async def retry(self, job: AsyncJob[Any] | str) -> RetryResult:
        """Run a job again, at once; see :meth:`Job.retry`.

        Args:
            job: A handle or an id.

        Raises:
            Conflict: The job runs.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service runs no job again.
        """
        return await _handle(job, self._session, AsyncJob).retry()

    async def retry_many(
        self, jobs: Iterable[AsyncJob[Any] | str] | None = None, **where: Unpack[Conditions]
    ) -> list[RetryResult]:
        """Run many jobs again, in as few requests as the service allows; those that run are left alone.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that are FAILED or
                CANCELLED are meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both.
            Unsupported: The service runs no job again.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, AsyncJob)
        return await self._session.run(operations.retry_many(self.service, chosen, learn=_teach_given(jobs)))

    async def update(self, job: AsyncJob[Any] | str, changes: Changes | None = None, /, **fields: Any) -> UpdateResult:
        """Change a job; see :meth:`Job.update`.

        Args:
            job: A handle or an id.
            changes: What is to be different, by name, or a function that is given the job's info and returns that.
            **fields: The same by keyword.

        Raises:
            InvalidSpec: The changes make no job; nothing was changed.
            Conflict: The job has started, and the changes would mislead.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service changes no jobs.
        """
        return await _handle(job, self._session, AsyncJob).update(changes, **fields)

    async def update_many(
        self,
        jobs: Iterable[AsyncJob[Any] | str] | None = None,
        changes: Changes | None = None,
        **where: Unpack[Conditions],
    ) -> list[UpdateResult]:
        """Change many jobs, in as few requests as the service allows; one that refuses spoils nothing.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            changes: What is to be different, by name, or a function that is called with each job's info.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, jobs that have not started
                are meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both, or the changes make no sense.
            Unsupported: The service changes no jobs.
        """
        jobs = _listed(jobs)
        chosen = _chosen(jobs, where, self._session, AsyncJob)
        order = operations.update_many(self.service, chosen, changes, learn=_teach_given(jobs))
        return await self._session.run(order)

    async def delete(self, job: AsyncJob[Any] | str) -> DeleteResult:
        """Remove a job's record and files; never those of a job that runs.

        Args:
            job: A handle or an id.

        Raises:
            Conflict: The job runs; cancel it first.
            JobNotFound: There is no such job, or it is another's.
            Unsupported: The service deletes no jobs.
        """
        return await _handle(job, self._session, AsyncJob).delete()

    async def delete_many(
        self, jobs: Iterable[AsyncJob[Any] | str] | None = None, **where: Unpack[Conditions]
    ) -> list[DeleteResult]:
        """Remove the records and files of many jobs, in as few requests as the service allows; never of one that runs.

        Args:
            jobs: Handles or ids, of jobs or of arrays.
            **where: Or conditions, as for :meth:`jobs`: all must hold. Without ``state``, all jobs that do not run are
                meant.

        Returns:
            What happened to each.

        Raises:
            InvalidSpec: Neither jobs nor a condition was given, or both.
            Unsupported: The service deletes no jobs.
        """
        chosen = _chosen(jobs, where, self._session, AsyncJob)
        return await self._session.run(operations.delete_many(self.service, chosen))

    def watch(self, jobs: Iterable[AsyncJob[Any] | str]) -> AsyncIterator[JobInfo]:
        """Hand out what is known of each job now, and again at every change, until all have ended.

        Changes in quick succession may be handed out as one. Thousands of jobs cost no more requests than one.

        Args:
            jobs: Handles or ids.

        Returns:
            An iterator of infos; of each job the last one is final.

        Raises:
            JobVanished: The service no longer knows one of the jobs.
            JobNotFound: The service does not know one of the ids.
            AuthenticationError: The token is no longer good.
        """
        handles = _handles(jobs, self._session, AsyncJob)
        return self._session.watch(_seen(handles), learn=_teach(handles))

    async def wait(
        self,
        jobs: Iterable[AsyncJob[Any] | str],
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> list[JobInfo]:
        """Wait until all of these jobs have ended, well or badly; thousands cost no more requests than one.

        Args:
            jobs: Handles or ids.
            timeout: Seconds; None for as long as it takes.
            progress: Whether the jobs are shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the jobs that still go on when the waiting is interrupted.

        Returns:
            The final infos, in the order of the jobs.

        Raises:
            WaitTimeout: A job had not ended in time; it goes on.
            JobVanished: The service no longer knows one of the jobs.
            JobNotFound: The service does not know one of the ids.
            AuthenticationError: The token is no longer good.
        """
        handles = _handles(jobs, self._session, AsyncJob)
        infos = await self._session.wait(
            _seen(handles), timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=_teach(handles)
        )
        return _in_order(handles, infos)

    async def run(self, op: Op[R]) -> R:
        """Run an operation of the service: what only this kind of service can do has no method of its own here.

        Args:
            op: The operation, just made: ``client.service.signal("17", "USR1")`` on Slurm, say.

        Returns:
            What the operation returns.

        Raises:
            HpcjobsError: Whatever the operation raises.

        Example:
            >>> from hpcjobs import AsyncClient
            >>> async with AsyncClient("slurm+http://head:6820", folder="/scratch/me") as client:  # doctest: +SKIP
            ...     await client.run(client.service.hold("17"))
        """
        return await self._session.run(op)

    async def info(self) -> ServiceInfo:
        """What the service says of itself and of who asks.

        Raises:
            Unsupported: The service does not tell.
        """
        return await self._session.run(self.service.info())

    async def tasks(self) -> list[TaskInfo]:
        """The functions that the service offers by name, for ``submit(task=..., args=...)``.

        Raises:
            Unsupported: The service has no named tasks.
        """
        return await self._session.run(self.service.tasks())

    async def queues(self) -> list[QueueInfo]:
        """The queues that are set or have jobs, and how many jobs of everybody's each has.

        Raises:
            Unsupported: The service does not list queues.
        """
        return await self._session.run(self.service.queues())

    async def set_queue(
        self,
        name: str,
        *,
        paused: bool | None = None,
        reason: str | None = None,
        max_running: int | Literal["same"] | None = "same",
        max_walltime: Length | None = "same",
    ) -> QueueInfo:
        """Set a queue; what is not given stays as it is. Needs the scope admin.

        Args:
            name: The queue.
            paused: Whether its jobs are held back; those that run go on.
            reason: Why it is paused.
            max_running: The most of its jobs that run at once; None for no limit.
            max_walltime: The longest that its jobs may run, ``"12h"`` or seconds; None for no limit.

        Returns:
            The queue as it is now.

        Raises:
            InvalidSpec: An argument makes no sense.
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        order = _queue_order(paused=paused, reason=reason, max_running=max_running, max_walltime=max_walltime)
        return await self._session.run(self.service.set_queue(name, order))

    async def pause_queue(self, name: str, *, reason: str | None = None) -> QueueInfo:
        """Hold back the jobs of a queue; those that run go on. Needs the scope admin.

        Args:
            name: The queue.
            reason: Why, for everyone who sees the queue.

        Raises:
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        order = _queue_order(paused=True, reason=reason)
        return await self._session.run(self.service.set_queue(name, order))

    async def resume_queue(self, name: str) -> QueueInfo:
        """Let the jobs of a queue run again. Needs the scope admin.

        Args:
            name: The queue.

        Raises:
            PermissionDenied: The own token may not do this.
            Unsupported: The service's queues cannot be set.
        """
        return await self._session.run(self.service.set_queue(name, _queue_order(paused=False)))

    async def create_token(
        self,
        name: str = "token",
        *,
        scope: Scope | str = "write",
        owner: str | None = None,
        expires_in: Length | None = None,
    ) -> TokenInfo:
        """Make a token; its secret, ``.token``, is told this once.

        Args:
            name: What it is for.
            scope: ``"read"``, ``"write"`` or ``"admin"``.
            owner: Whose; another than oneself needs the scope admin.
            expires_in: For how long it is good; None for ever.

        Raises:
            InvalidSpec: An argument makes no sense.
            PermissionDenied: The own token may not do this.
            Unsupported: The service makes no tokens.
        """
        order = TokenOrder.parse(given(name=name, scope=scope, owner=owner, expires_in=expires_in))
        return await self._session.run(self.service.create_token(order))

    async def tokens(self) -> list[TokenInfo]:
        """The tokens of who asks, without their secrets.

        Raises:
            Unsupported: The service does not list tokens.
        """
        return await self._session.run(self.service.list_tokens())

    async def revoke_token(self, token_id: str) -> None:
        """End a token.

        Args:
            token_id: The token's id, not its secret.

        Raises:
            NotFound: There is no such token.
            Unsupported: The service revokes no tokens.
        """
        await self._session.run(self.service.revoke_token(token_id))

    async def close(self) -> None:
        """Close all connections, and end every wait; may be called twice. The jobs go on."""
        await self._session.close()


def connect(
    target: str | None = None,
    *,
    token: profiles.Token = None,
    timeout: float = 30.0,
    retry: RetryPolicy | None = None,
    start: bool = True,
    **options: Any,
) -> Client:
    """Make a client of the service at an address, or of a profile.

    Args:
        target: An address (``https://host``, ``tapis+https://tenant``, ...) or a profile's name; None for the usual.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.
        **options: What else the service wants to know: ``username=`` and ``password=`` for Tapis, say; beside what is
            in the profile.

    Raises:
        ConfigError: The profile, the address, the token or an option cannot be used.
        NoService: There is no service, and none can be started.
    """
    return Client(target, token=token, timeout=timeout, retry=retry, start=start, **options)


async def connect_async(
    target: str | None = None,
    *,
    token: profiles.Token = None,
    timeout: float = 30.0,
    retry: RetryPolicy | None = None,
    start: bool = True,
    **options: Any,
) -> AsyncClient:
    """Make a client of the service at an address, or of a profile.

    Args:
        target: An address (``https://host``, ``tapis+https://tenant``, ...) or a profile's name; None for the usual.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.
        **options: What else the service wants to know: ``username=`` and ``password=`` for Tapis, say; beside what is
            in the profile.

    Raises:
        ConfigError: The profile, the address, the token or an option cannot be used.
        NoService: There is no service, and none can be started.
    """
    import asyncio

    make = functools.partial(AsyncClient, target, token=token, timeout=timeout, retry=retry, start=start, **options)
    return await asyncio.to_thread(make)


def _many_asked(specs: Iterable[Any]) -> list[JobSpec]:
    asked: list[JobSpec] = []
    for number, spec in enumerate(specs):
        try:
            asked.append(JobSpec.parse(spec) if isinstance(spec, Mapping) else submitting.asked(spec, {}))
        except InvalidSpec as error:
            raise InvalidSpec([(f"specs.{number}.{field}", why) for field, why in error.problems]) from None
    return asked


def _array_asked(command: Any, over: Iterable[Any] | None, size: int | None, options: Mapping[str, Any]) -> ArrayOrder:
    spec = submitting.asked(command, {}, **options)
    items = None if over is None else list(over)
    if items is None and size is None:
        raise InvalidSpec([("over", "is missing: give one item per job, or array= with the number of jobs")])
    if items == []:
        raise InvalidSpec([("over", "is empty: give one item per job")])
    try:
        return ArrayOrder.parse({"spec": spec, **given(over=items, size=size)})
    except InvalidSpec as error:  # in the words of this call
        raise InvalidSpec(
            [("array" if name == "size" else name, problem) for name, problem in error.problems]
        ) from None


def _queue_order(**fields: Any) -> QueueOrder:
    told = {name: value for name, value in fields.items() if value != "same" and (value is not None or "max" in name)}
    try:
        return QueueOrder.model_validate(told)
    except ValidationError as error:
        raise InvalidSpec(problems_of(error, QueueOrder.model_fields)) from None


def _listed(jobs: Iterable[Any] | str | None) -> list[Any] | None:
    """The jobs as a list, because they are gone through more than once; a single job or array is one, too."""
    if jobs is None:
        return None
    return [jobs] if isinstance(jobs, (str, Job, AsyncJob, JobArray, AsyncJobArray)) else list(jobs)


def _chosen(
    jobs: Iterable[H | str] | None, where: Mapping[str, Any], session: Any, kind: type[H]
) -> list[str] | JobFilter:
    """The ids of the jobs that are meant, or the filter that means them.

    Raises:
        InvalidSpec: Neither was given, or both.
    """
    where = given(**where)
    if jobs is not None and where:
        raise InvalidSpec([(name, "give jobs or conditions, not both") for name in where])
    if jobs is not None:
        return [
            session.service.spelled(job) if isinstance(job, str) else _id_of(job, session, kind)
            for job in _listed(jobs) or []
        ]
    wanted = JobFilter.parse(where)
    if wanted.empty:
        conditions = ", ".join(Conditions.__annotations__)
        raise InvalidSpec([("jobs", f"name jobs, or give a condition: {conditions}")])
    return wanted


def _id_of(job: Any, session: Any, kind: type[H]) -> str:
    return job.id if isinstance(job, (JobArray, AsyncJobArray)) else _handle(job, session, kind).id


def _teach_given(jobs: Sequence[Any] | None) -> Learn | None:
    """Hands each info to the handles among the jobs; None where there are only ids, so that nothing is asked for it."""
    handles = [job for job in jobs or () if isinstance(job, (Job, AsyncJob))]
    return _teach(handles) if handles else None


def _wanted(unknown: Mapping[str, Any], **conditions: Any) -> JobFilter:
    return JobFilter.parse({**given(**conditions), **unknown})


def _handle(job: H | str, session: Any, kind: type[H]) -> H:
    """A handle of this client, from one or from an id; asks nothing."""
    if isinstance(job, str):
        return kind(session, waiting.known(session.service.spelled(job), None))
    if not isinstance(job, kind):
        raise InvalidSpec([("job", f"is {job!r}; give a {kind.__name__} or an id")])
    theirs = job._session.service  # noqa: SLF001 - client and handle are of one piece
    if theirs.base_url != session.service.base_url:
        raise InvalidSpec([("job", f"{job.id} is at {theirs.base_url}, and this client at {session.service.base_url}")])
    return job


def _handles(jobs: Iterable[H | str], session: Any, kind: type[H]) -> list[H]:
    flat: list[Any] = []
    for job in _listed(jobs) or []:
        flat.extend(job if isinstance(job, (JobArray, AsyncJobArray)) else [job])
    return [_handle(job, session, kind) for job in flat]


def _seen(handles: Sequence[Job[Any] | AsyncJob[Any]]) -> dict[str, JobInfo | None]:
    """What is known of each job, or None where nothing is but its id."""
    return {handle.id: waiting.seen(handle.info) for handle in handles}


def _in_order(handles: Sequence[Job[Any] | AsyncJob[Any]], infos: Sequence[JobInfo]) -> list[JobInfo]:
    by_id = {info.id: info for info in infos}
    return [by_id[handle.id] for handle in handles]
