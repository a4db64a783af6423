"""Clients: ``Client`` and ``AsyncClient`` have the same methods and hold no logic."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Union, overload

from hpcjobs import live, operations, profiles, submitting, waiting
from hpcjobs.errors import InvalidSpec
from hpcjobs.handles import AsyncJob, Job, _teach
from hpcjobs.models import JobFilter, JobInfo, JobSpec, TokenOrder
from hpcjobs.services import find_service
from hpcjobs.sessions import AsyncSession, OnInterrupt, S, Session
from hpcjobs.submitting import given

if TYPE_CHECKING:
    import datetime as dt

    from typing_extensions import Never, Self, Unpack

    from hpcjobs.functions import Python
    from hpcjobs.inputs import Inputs
    from hpcjobs.lifecycle import JobState
    from hpcjobs.models import CancelResult, Scope, ServiceInfo, StderrMode, TaskInfo, TokenInfo
    from hpcjobs.retrying import RetryPolicy
    from hpcjobs.services.base import Service

H = TypeVar("H", Job[Any], AsyncJob[Any])
R = TypeVar("R")

Command = Union[str, "Sequence[str | os.PathLike[str]]", JobSpec]
"""A shell command, a program with its arguments, or everything that is asked."""

Length = Union[str, float, "dt.timedelta"]
"""A length of time: ``"90s"``, ``"10m"``, ``"1h30m"``, ``"2d"``, ``"D-HH:MM:SS"``, or seconds."""


class Options(TypedDict, total=False):
    """The options of a job, as ``submit`` takes them."""

    inputs: Inputs
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
    requeue: bool | None
    stderr: StderrMode | str | None
    meta: Mapping[str, Any] | None
    key: str | None


class _Client(Generic[S]):
    """What both clients share; nothing here asks the service."""

    def __init__(self, session: S, profile: str | None) -> None:
        self._session: S = session
        self._profile = profile

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
        return f"<{type(self).__name__} {self.service.name} at {self.service.base_url}{profile}{closed}>"


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

    Raises:
        ConfigError: The profile, the address or the token cannot be used.
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
    ) -> None:
        target = profiles.resolve(profile, url=url, token=token, start=start, say=live.say)
        service = find_service(target.url, token=target.token, options=target.options)
        super().__init__(Session(service, timeout=timeout, retry=retry), target.profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def submit(self, command: Command, **options: Unpack[Options]) -> Job: ...

    @overload
    def submit(self, command: Callable[..., Coroutine[Any, Any, R]], *arguments: Any, **keywords: Any) -> Job[R]: ...

    @overload
    def submit(self, command: Callable[..., R], *arguments: Any, **keywords: Any) -> Job[R]: ...

    @overload
    def submit(self, *, task: str, args: Mapping[str, Any] | None = None, **options: Unpack[Options]) -> Job[Any]: ...

    def submit(
        self,
        command: Command | Callable[..., Any] | None = None,
        *arguments: Any,
        task: str | None = None,
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
        requeue: bool | None = None,
        stderr: StderrMode | str | None = None,
        meta: Mapping[str, Any] | None = None,
        key: str | None = None,
        **keywords: Any,
    ) -> Job[Any]:
        """Submit a job: exactly one, whatever the network does. Does not wait for it.

        Args:
            command: A string is a shell command, a list is a program with its arguments; or a ``JobSpec``, which the
                other arguments override; or a function, which is called in the job.
            *arguments: The function's arguments by position.
            task: Instead of a command, the name of a function that the service offers: ``client.tasks()``.
            args: The arguments of the task, by name.
            python: The Python that runs a function: a path, or a list such as ``["srun", "python3"]``. This one, where
                the job finds it at the same path, unless said otherwise; else the ``python3`` on the job's path.
            inputs: Files for the job's folder: paths, or ``{name in the folder: path}``.
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
            requeue: Whether the job runs again, once, if its worker was lost; True unless said otherwise.
            stderr: ``"merged"`` into the log, in order, or ``"separate"``, for ``job.logs("stderr")``.
            meta: Anything JSON that travels with the job.
            key: A submission key of your own; the same key never makes a second job.
            **keywords: With a function its arguments by name; where one is named like an option here, bind it with
                ``functools.partial``. Without one nothing: any other name is an error that lists those that there are.

        Returns:
            A handle to the job.

        Raises:
            InvalidSpec: The job cannot be asked for; says what is wrong and what is allowed. Nothing was sent.
            InputError: An input is missing, not a file, too large, badly named, or changed while it was sent.
            Conflict: The key was used for another job.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            NoService: Nothing answers.
        """
        order = submitting.submit(
            self.service,
            command,
            arguments,
            keywords,
            inputs=inputs,
            key=key,
            python=python,
            task=task,
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
            requeue=requeue,
            stderr=stderr,
            meta=meta,
        )
        info = self._session.run(order)
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
        created_after: dt.datetime | str | None = None,
        created_before: dt.datetime | str | None = None,
        limit: int | None = None,
        **unknown: Never,
    ) -> Iterator[Job[Any]]:
        """The jobs, newest first, fetched page by page as they are asked for.

        Args:
            state: One or more states.
            tag: One or more tags; a job has all of them.
            name: The whole name; ``*`` stands for anything.
            queue: The queue.
            created_after: Only jobs from then on.
            created_before: Only jobs until then.
            limit: At most so many.
            **unknown: Nothing; any other name is an error that lists those that there are.

        Returns:
            An iterator of handles.

        Raises:
            InvalidSpec: A condition makes no sense.
        """
        wanted = _wanted(
            unknown,
            state=state,
            tag=tag,
            name=name,
            queue=queue,
            created_after=created_after,
            created_before=created_before,
        )
        infos = self._session.iterate(operations.list_jobs(self.service, wanted, limit=limit))
        return (Job(self._session, info) for info in infos)

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
        jobs: Iterable[Job[Any] | str],
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
    ) -> list[CancelResult]:
        """Cancel many jobs in as few requests as the service allows.

        Args:
            jobs: Handles or ids.
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.

        Returns:
            What happened to each, in the order of the jobs; one that is not known has the outcome NOT_FOUND.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            Unsupported: The service cannot do what was asked.
        """
        handles = _handles(jobs, self._session, Job)
        ids = [handle.id for handle in handles]
        order = operations.cancel_many(
            self.service, ids, reason=reason, abort=abort, delete=delete, learn=_teach(handles)
        )
        return self._session.run(order)

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

    Raises:
        ConfigError: The profile, the address or the token cannot be used.
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
    ) -> None:
        target = profiles.resolve(profile, url=url, token=token, start=start, say=live.say)
        service = find_service(target.url, token=target.token, options=target.options)
        super().__init__(AsyncSession(service, timeout=timeout, retry=retry), target.profile)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def submit(self, command: Command, **options: Unpack[Options]) -> AsyncJob: ...

    @overload
    async def submit(
        self, command: Callable[..., Coroutine[Any, Any, R]], *arguments: Any, **keywords: Any
    ) -> AsyncJob[R]: ...

    @overload
    async def submit(self, command: Callable[..., R], *arguments: Any, **keywords: Any) -> AsyncJob[R]: ...

    @overload
    async def submit(
        self, *, task: str, args: Mapping[str, Any] | None = None, **options: Unpack[Options]
    ) -> AsyncJob[Any]: ...

    async def submit(
        self,
        command: Command | Callable[..., Any] | None = None,
        *arguments: Any,
        task: str | None = None,
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
        requeue: bool | None = None,
        stderr: StderrMode | str | None = None,
        meta: Mapping[str, Any] | None = None,
        key: str | None = None,
        **keywords: Any,
    ) -> AsyncJob[Any]:
        """Submit a job: exactly one, whatever the network does. Does not wait for it.

        Args:
            command: A string is a shell command, a list is a program with its arguments; or a ``JobSpec``, which the
                other arguments override; or a function, which is called in the job.
            *arguments: The function's arguments by position.
            task: Instead of a command, the name of a function that the service offers: ``client.tasks()``.
            args: The arguments of the task, by name.
            python: The Python that runs a function: a path, or a list such as ``["srun", "python3"]``. This one, where
                the job finds it at the same path, unless said otherwise; else the ``python3`` on the job's path.
            inputs: Files for the job's folder: paths, or ``{name in the folder: path}``.
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
            requeue: Whether the job runs again, once, if its worker was lost; True unless said otherwise.
            stderr: ``"merged"`` into the log, in order, or ``"separate"``, for ``job.logs("stderr")``.
            meta: Anything JSON that travels with the job.
            key: A submission key of your own; the same key never makes a second job.
            **keywords: With a function its arguments by name; where one is named like an option here, bind it with
                ``functools.partial``. Without one nothing: any other name is an error that lists those that there are.

        Returns:
            A handle to the job.

        Raises:
            InvalidSpec: The job cannot be asked for; says what is wrong and what is allowed. Nothing was sent.
            InputError: An input is missing, not a file, too large, badly named, or changed while it was sent.
            Conflict: The key was used for another job.
            SubmissionUnknown: The answer was lost; submit again with the key that the error carries.
            NoService: Nothing answers.
        """
        order = submitting.submit(
            self.service,
            command,
            arguments,
            keywords,
            inputs=inputs,
            key=key,
            python=python,
            task=task,
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
            requeue=requeue,
            stderr=stderr,
            meta=meta,
        )
        info = await self._session.run(order)
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
        created_after: dt.datetime | str | None = None,
        created_before: dt.datetime | str | None = None,
        limit: int | None = None,
        **unknown: Never,
    ) -> AsyncIterator[AsyncJob[Any]]:
        """The jobs, newest first, fetched page by page as they are asked for.

        Args:
            state: One or more states.
            tag: One or more tags; a job has all of them.
            name: The whole name; ``*`` stands for anything.
            queue: The queue.
            created_after: Only jobs from then on.
            created_before: Only jobs until then.
            limit: At most so many.
            **unknown: Nothing; any other name is an error that lists those that there are.

        Returns:
            An iterator of handles.

        Raises:
            InvalidSpec: A condition makes no sense.
        """
        wanted = _wanted(
            unknown,
            state=state,
            tag=tag,
            name=name,
            queue=queue,
            created_after=created_after,
            created_before=created_before,
        )
        infos = self._session.iterate(operations.list_jobs(self.service, wanted, limit=limit))
        return (AsyncJob(self._session, info) async for info in infos)

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
        jobs: Iterable[AsyncJob[Any] | str],
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
    ) -> list[CancelResult]:
        """Cancel many jobs in as few requests as the service allows.

        Args:
            jobs: Handles or ids.
            reason: Why, for everyone who sees the jobs; at most 1,024 characters.
            abort: Whether jobs that have started are asked to stop.
            delete: Remove the records of jobs that never ran.

        Returns:
            What happened to each, in the order of the jobs; one that is not known has the outcome NOT_FOUND.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            Unsupported: The service cannot do what was asked.
        """
        handles = _handles(jobs, self._session, AsyncJob)
        ids = [handle.id for handle in handles]
        order = operations.cancel_many(
            self.service, ids, reason=reason, abort=abort, delete=delete, learn=_teach(handles)
        )
        return await self._session.run(order)

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
) -> Client:
    """Make a client of the service at an address, or of a profile.

    Args:
        target: An address (``https://host``, ``tapis+https://tenant``, ...) or a profile's name; None for the usual.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.

    Raises:
        ConfigError: The profile, the address or the token cannot be used.
        NoService: There is no service, and none can be started.
    """
    return Client(target, token=token, timeout=timeout, retry=retry, start=start)


async def connect_async(
    target: str | None = None,
    *,
    token: profiles.Token = None,
    timeout: float = 30.0,
    retry: RetryPolicy | None = None,
    start: bool = True,
) -> AsyncClient:
    """Make a client of the service at an address, or of a profile.

    Args:
        target: An address (``https://host``, ``tapis+https://tenant``, ...) or a profile's name; None for the usual.
        token: The token, or a function that returns one.
        timeout: Seconds to wait for each answer.
        retry: How often and how long requests are tried; None for the usual.
        start: Whether a local service may be started.

    Raises:
        ConfigError: The profile, the address or the token cannot be used.
        NoService: There is no service, and none can be started.
    """
    import asyncio

    make = functools.partial(AsyncClient, target, token=token, timeout=timeout, retry=retry, start=start)
    return await asyncio.to_thread(make)


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
    many = [jobs] if isinstance(jobs, (str, kind)) else jobs
    return [_handle(job, session, kind) for job in many]


def _seen(handles: Sequence[Job[Any] | AsyncJob[Any]]) -> dict[str, JobInfo | None]:
    """What is known of each job, or None where nothing is but its id."""
    return {handle.id: waiting.seen(handle.info) for handle in handles}


def _in_order(handles: Sequence[Job[Any] | AsyncJob[Any]], infos: Sequence[JobInfo]) -> list[JobInfo]:
    by_id = {info.id: info for info in infos}
    return [by_id[handle.id] for handle in handles]
