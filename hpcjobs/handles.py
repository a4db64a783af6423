"""Handles: a job bound to a client.

``Job`` and ``AsyncJob`` have the same methods and hold no logic. What they show is what was last known; ``refresh()``
asks.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, NoReturn, cast, overload

from typing_extensions import TypeVar

from hpcjobs import lines, markup, operations, results, waiting
from hpcjobs.errors import InvalidSpec
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo
from hpcjobs.sessions import AsyncSession, OnInterrupt, S, Session
from hpcjobs.wording import clean

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from hpcjobs.acting import Changes
    from hpcjobs.actions import DeleteResult, RetryResult, UpdateResult
    from hpcjobs.cancelling import Learn
    from hpcjobs.models import CancelResult, OutputFile, Progress
    from hpcjobs.readers import AsyncFile
    from hpcjobs.records import History

Stream = Literal["stdout", "stderr"]
"""The streams of a job; ``"stdout"`` holds both in order, unless the job asked for a separate stderr."""


R_co = TypeVar("R_co", covariant=True, default=JobInfo)
"""What a job's ``result()`` is: the final info of a command, the value of a function."""

R = TypeVar("R")


class _Handle(Generic[S]):
    """What is known of a job; nothing here asks the service."""

    def __init__(self, session: S, info: JobInfo) -> None:
        self._session: S = session
        self._info = info

    @property
    def id(self) -> str:
        """The job's id at its service."""
        return self._info.id

    @property
    def info(self) -> JobInfo:
        """Everything that was last known of the job."""
        return self._info

    @property
    def state(self) -> JobState:
        """The state that was last known."""
        return self._info.state

    @property
    def native_state(self) -> str:
        """The service's own word for the state, verbatim."""
        return self._info.native_state

    @property
    def done(self) -> bool:
        """Whether the job is known to have ended, well or badly."""
        return self._info.terminal

    @property
    def reason(self) -> str | None:
        """Why the job is where it is, in words."""
        return self._info.reason

    @property
    def exit_code(self) -> int | None:
        """The exit code, where the job has one."""
        return self._info.exit_code

    @property
    def progress(self) -> Progress | None:
        """How far the job is, as it said itself."""
        return self._info.progress

    @property
    def name(self) -> str | None:
        """The job's name."""
        return self._info.name

    @property
    def tags(self) -> list[str]:
        """The job's tags."""
        return list(self._info.tags)

    def _learn(self, info: JobInfo) -> JobInfo:
        """Keep what was learnt, unless something newer is known, and return what is known."""
        self._info = waiting.merged(self._info, info)
        return self._info

    def __repr__(self) -> str:
        info = self._info
        name = f" {info.name!r}" if info.name else ""
        if info.terminal:
            why = "" if info.state is JobState.FINISHED else lines.why(info)
            rest = f": {why}" if why else ""
        else:
            rest = f" {info.progress}" if info.progress is not None else ""
        return f"<{type(self).__name__} {info.id}{name} {info.label}{clean(rest)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows for a handle that is the last line of a cell."""
        return markup.as_html([self._info])

    def __str__(self) -> str:
        info = self._info
        return f"{info.name} ({info.id}) {info.label}" if info.name else f"{info.id} {info.label}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Handle):
            return NotImplemented
        return type(self) is type(other) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str, str]:
        service = self._session.service
        return service.name, service.base_url, self._info.id

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle cannot be pickled: it has connections; send job.id, and say client.job(id) there")


class Job(_Handle[Session], Generic[R_co]):
    """A job bound to a client; ``Job[R]`` has the result ``R``.

    Its attributes are what was last known, and cost nothing; ``refresh()`` asks the service. Two handles are equal
    where they mean the same job of the same service.

    Example:
        >>> from hpcjobs import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     job = client.submit("python fit.py", inputs=["fit.py"], walltime="10m")
        ...     job.result()
        ...     print(job.logs())
    """

    def refresh(self) -> Job[R_co]:
        """Ask the service how the job is.

        Returns:
            This handle.

        Raises:
            JobNotFound: The service does not know the job.
            TransportError: No answer came.
        """
        self._learn(self._session.run(operations.get(self._session.service, self.id)))
        return self

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> JobInfo:
        """Wait until the job has ended, well or badly; nothing is asked of one that is known to have ended.

        Ctrl-C stops the waiting, not the job, and says how to cancel it and how to come back. A service that is away is
        asked again until it is back.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the job is shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the job when the waiting is interrupted.

        Returns:
            The final info.

        Raises:
            WaitTimeout: The job had not ended in time; it goes on.
            JobVanished: The service no longer knows the job.
            AuthenticationError: The token is no longer good.
        """
        infos = self._session.wait(
            {self.id: self._info}, timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=self._learn
        )
        return infos[0]

    def result(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> R_co:
        """Wait until the job has ended well, and return what it came to.

        The result of a function is unpickled, which runs code: ask only for those of jobs that you trust.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the job is shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the job when the waiting is interrupted.

        Returns:
            What the function or the task returned; for a command the final info.

        Raises:
            JobFailed: The job failed: has the reason and the last lines of its log.
            JobCancelled: The job was cancelled.
            Exception: What the function raised, with a ``RemoteError`` as its cause that has the traceback.
            EnvironmentMismatch: The job's Python or packages cannot run the function.
            ResultTooLarge: The result needs more memory than is free here.
            ResultError: The result is gone, or cannot be loaded here.
            WaitTimeout: The job had not ended in time; it goes on.
            JobVanished: The service no longer knows the job.
        """
        info = self.wait(timeout, progress=progress, on_interrupt=on_interrupt)
        outcome = self._session.run(results.result(self._session.service, info))
        return cast("R_co", outcome.get())

    def cancel(
        self,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> CancelResult:
        """Ask that the job not run, or stop; looks first, and asks nothing of a job that has ended.

        Args:
            reason: Why, for everyone who sees the job; at most 1,024 characters.
            abort: Whether a job that has started is asked to stop.
            delete: Remove the record of a job that never ran.
            confirm: Seconds to wait until the job has ended; None not to wait.
            strict: Raise where nothing was cancelled.

        Returns:
            What happened; it has no truth value, ask its ``outcome``, ``accepted`` or ``confirmed``.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: The job had not stopped within ``confirm`` seconds; the request stands.
            NotCancelled: Nothing was cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        return self._session.run(
            operations.cancel(
                self._session.service,
                self.id,
                reason=reason,
                abort=abort,
                delete=delete,
                confirm=confirm,
                strict=strict,
                learn=self._learn,
            )
        )

    def retry(self) -> RetryResult:
        """Run the job again, at once; also one that is scheduled. Attempts that were used up are raised by one.

        A job that waits for other jobs goes on waiting for those that have not ended.

        Returns:
            What happened; ``new_id`` names the job that runs instead, where the service submits it anew.

        Raises:
            Conflict: The job runs.
            JobNotFound: The service does not know the job.
            Unsupported: The service runs no job again.
        """
        return self._session.run(operations.retry(self._session.service, self.id, learn=self._learn))

    def update(self, changes: Changes | None = None, /, **fields: Any) -> UpdateResult:
        """Change the job: what it would do only while it has not started, its labels always.

        Args:
            changes: What is to be different, by name: ``name``, ``tags``, ``meta``, ``max_attempts`` at any time;
                ``command``, ``task``, ``args``, ``priority``, ``queue``, ``start_at``, ``start_in`` before it starts.
                Or a function that is given the job's info and returns that, or None: it is called again where someone
                else changed the job in between, so that nothing is lost.
            **fields: The same by keyword: ``job.update(priority=5)``.

        Returns:
            What happened; ``info`` is the job as it is now.

        Raises:
            InvalidSpec: The changes make no job; nothing was changed.
            Conflict: The job has started, and the changes would mislead.
            JobNotFound: The service does not know the job.
            Unsupported: The service changes no jobs.

        Example:
            >>> def checked(info):
            ...     return {"tags": [*info.tags, "checked"]}
            >>> job.update(checked)  # doctest: +SKIP
        """
        wanted = changes_of(changes, fields)
        return self._session.run(operations.update(self._session.service, self.id, wanted, learn=self._learn))

    def delete(self) -> DeleteResult:
        """Remove the job's record and files; never those of a job that runs.

        Returns:
            What happened.

        Raises:
            Conflict: The job runs; cancel it first.
            JobNotFound: The service does not know the job.
            Unsupported: The service deletes no jobs.
        """
        return self._session.run(operations.delete(self._session.service, self.id))

    def history(self) -> History:
        """What was written down about the job: every change of its state with time, actor, attempt and reason.

        Returns:
            The changes, and the attempts that have ended, with the resources that they used.

        Raises:
            JobNotFound: The service does not know the job.
            Unsupported: The service keeps no history.
        """
        return self._session.run(self._session.service.history(self.id))

    @overload
    def logs(self, stream: Stream = "stdout", *, follow: Literal[False] = False, tail: int | None = None) -> str: ...

    @overload
    def logs(self, stream: Stream = "stdout", *, follow: Literal[True], tail: None = None) -> Iterator[str]: ...

    def logs(self, stream: Stream = "stdout", *, follow: bool = False, tail: int | None = None) -> str | Iterator[str]:
        """The job's log.

        Args:
            stream: ``"stdout"`` has both in order, unless the job asked for a separate stderr; or ``"stderr"``.
            follow: Hand out the log from its start, and what is added until the job has ended, in pieces as they come:
                print them with ``end=""``. A connection that breaks loses and doubles nothing.
            tail: Only so many lines from the end; not with ``follow``.

        Returns:
            The text as it is now, or with ``follow`` an iterator of pieces of text.

        Raises:
            InvalidSpec: There is no such stream, or ``tail`` makes no sense.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no logs.
        """
        if follow:
            return self._session.iterate(waiting.follow_text(self._session.service, self.id, stream=stream, tail=tail))
        return self._session.run(operations.read_log(self._session.service, self.id, stream=stream, tail=tail))

    def files(self) -> list[OutputFile]:
        """The files in the job's folder, also while it runs.

        Raises:
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        return self._session.run(self._session.service.files(self.id))

    def download(
        self, target: str | os.PathLike[str] = ".", *patterns: str, progress: bool | None = None
    ) -> list[Path]:
        """Fetch the job's files into a folder; one that was broken off goes on where it was.

        Args:
            target: The folder; it is made where it does not exist.
            *patterns: Only files that match one of these, such as ``"*.csv"``.
            progress: Whether files that take a while are shown as they come. None: in a notebook and on a terminal.

        Returns:
            The paths of the files.

        Raises:
            OutputError: A file cannot be stored here, its name would leave the folder, or it does not arrive intact.
            OutputNotFound: A pattern matches no file.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        fetch = functools.partial(operations.download, self._session.service, self.id, target, patterns=patterns)
        return self._session.transfer(fetch, progress)

    @overload
    def open(
        self,
        path: str,
        mode: Literal["r", "rt"] = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[str]: ...

    @overload
    def open(
        self,
        path: str,
        mode: Literal["rb"],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[bytes]: ...

    def open(
        self,
        path: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open one of the job's files for reading, also while it runs; only what is read is fetched, nothing is stored.

        Args:
            path: The file's name in the job's folder.
            mode: ``"r"`` for text or ``"rb"`` for bytes.
            encoding: Of the text; None for UTF-8.
            errors: What is done with bytes that are no such text, as in the built-in ``open()``.
            newline: How ends of lines are read, as in the built-in ``open()``.

        Returns:
            A file that can be read, iterated over and sought in. It is read in the version that it had when it was
            opened; where the job writes to it meanwhile, reading on raises ``OutputError``.

        Raises:
            OutputNotFound: The job has no such file; names those that there are. It is a ``FileNotFoundError`` too.
            InvalidSpec: The mode is none for reading.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        return self._session.open(self.id, path, mode=mode, encoding=encoding, errors=errors, newline=newline)

    def watch(self) -> Iterator[JobInfo]:
        """Hand out what is known of the job now, and again at every change until it has ended.

        Changes in quick succession may be handed out as one.

        Returns:
            An iterator of infos; the last one is final.

        Raises:
            JobVanished: The service no longer knows the job.
            AuthenticationError: The token is no longer good.
        """
        return self._session.watch({self.id: self._info}, learn=self._learn)


class AsyncJob(_Handle[AsyncSession], Generic[R_co]):
    """A job bound to a client; ``AsyncJob[R]`` has the result ``R``.

    Its attributes are what was last known, and cost nothing; ``refresh()`` asks the service. Two handles are equal
    where they mean the same job of the same service.

    Example:
        >>> from hpcjobs import AsyncClient
        >>> async with AsyncClient() as client:  # doctest: +SKIP
        ...     job = await client.submit("python fit.py", inputs=["fit.py"], walltime="10m")
        ...     await job.result()
        ...     print(await job.logs())
    """

    def __await__(self) -> Generator[Any, None, JobInfo]:
        """``await job`` is ``await job.wait()``."""
        return self.wait().__await__()

    async def refresh(self) -> AsyncJob[R_co]:
        """Ask the service how the job is.

        Returns:
            This handle.

        Raises:
            JobNotFound: The service does not know the job.
            TransportError: No answer came.
        """
        self._learn(await self._session.run(operations.get(self._session.service, self.id)))
        return self

    async def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> JobInfo:
        """Wait until the job has ended, well or badly; nothing is asked of one that is known to have ended.

        Ctrl-C stops the waiting, not the job, and says how to cancel it and how to come back. A service that is away is
        asked again until it is back.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the job is shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the job when the waiting is interrupted.

        Returns:
            The final info.

        Raises:
            WaitTimeout: The job had not ended in time; it goes on.
            JobVanished: The service no longer knows the job.
            AuthenticationError: The token is no longer good.
        """
        infos = await self._session.wait(
            {self.id: self._info}, timeout=timeout, progress=progress, on_interrupt=on_interrupt, learn=self._learn
        )
        return infos[0]

    async def result(
        self,
        timeout: float | None = None,
        *,
        progress: bool | None = None,
        on_interrupt: OnInterrupt = "detach",
    ) -> R_co:
        """Wait until the job has ended well, and return what it came to.

        The result of a function is unpickled, which runs code: ask only for those of jobs that you trust.

        Args:
            timeout: Seconds; None for as long as it takes.
            progress: Whether the job is shown meanwhile. None: in a notebook and on a terminal.
            on_interrupt: ``"cancel"`` cancels the job when the waiting is interrupted.

        Returns:
            What the function or the task returned; for a command the final info.

        Raises:
            JobFailed: The job failed: has the reason and the last lines of its log.
            JobCancelled: The job was cancelled.
            Exception: What the function raised, with a ``RemoteError`` as its cause that has the traceback.
            EnvironmentMismatch: The job's Python or packages cannot run the function.
            ResultTooLarge: The result needs more memory than is free here.
            ResultError: The result is gone, or cannot be loaded here.
            WaitTimeout: The job had not ended in time; it goes on.
            JobVanished: The service no longer knows the job.
        """
        info = await self.wait(timeout, progress=progress, on_interrupt=on_interrupt)
        outcome = await self._session.run(results.result(self._session.service, info))
        return cast("R_co", outcome.get())

    async def cancel(
        self,
        *,
        reason: str | None = None,
        abort: bool = True,
        delete: bool = False,
        confirm: float | None = None,
        strict: bool = False,
    ) -> CancelResult:
        """Ask that the job not run, or stop; looks first, and asks nothing of a job that has ended.

        Args:
            reason: Why, for everyone who sees the job; at most 1,024 characters.
            abort: Whether a job that has started is asked to stop.
            delete: Remove the record of a job that never ran.
            confirm: Seconds to wait until the job has ended; None not to wait.
            strict: Raise where nothing was cancelled.

        Returns:
            What happened; it has no truth value, ask its ``outcome``, ``accepted`` or ``confirmed``.

        Raises:
            InvalidSpec: The reason is too long; nothing was sent.
            CancelTimeout: The job had not stopped within ``confirm`` seconds; the request stands.
            NotCancelled: Nothing was cancelled, and ``strict`` was given.
            Unsupported: The service cannot do what was asked.
        """
        return await self._session.run(
            operations.cancel(
                self._session.service,
                self.id,
                reason=reason,
                abort=abort,
                delete=delete,
                confirm=confirm,
                strict=strict,
                learn=self._learn,
            )
        )

    async def retry(self) -> RetryResult:
        """Run the job again, at once; also one that is scheduled. Attempts that were used up are raised by one.

        A job that waits for other jobs goes on waiting for those that have not ended.

        Returns:
            What happened; ``new_id`` names the job that runs instead, where the service submits it anew.

        Raises:
            Conflict: The job runs.
            JobNotFound: The service does not know the job.
            Unsupported: The service runs no job again.
        """
        return await self._session.run(operations.retry(self._session.service, self.id, learn=self._learn))

    async def update(self, changes: Changes | None = None, /, **fields: Any) -> UpdateResult:
        """Change the job: what it would do only while it has not started, its labels always.

        Args:
            changes: What is to be different, by name: ``name``, ``tags``, ``meta``, ``max_attempts`` at any time;
                ``command``, ``task``, ``args``, ``priority``, ``queue``, ``start_at``, ``start_in`` before it starts.
                Or a function that is given the job's info and returns that, or None: it is called again where someone
                else changed the job in between, so that nothing is lost.
            **fields: The same by keyword: ``job.update(priority=5)``.

        Returns:
            What happened; ``info`` is the job as it is now.

        Raises:
            InvalidSpec: The changes make no job; nothing was changed.
            Conflict: The job has started, and the changes would mislead.
            JobNotFound: The service does not know the job.
            Unsupported: The service changes no jobs.

        Example:
            >>> def checked(info):
            ...     return {"tags": [*info.tags, "checked"]}
            >>> await job.update(checked)  # doctest: +SKIP
        """
        wanted = changes_of(changes, fields)
        return await self._session.run(operations.update(self._session.service, self.id, wanted, learn=self._learn))

    async def delete(self) -> DeleteResult:
        """Remove the job's record and files; never those of a job that runs.

        Returns:
            What happened.

        Raises:
            Conflict: The job runs; cancel it first.
            JobNotFound: The service does not know the job.
            Unsupported: The service deletes no jobs.
        """
        return await self._session.run(operations.delete(self._session.service, self.id))

    async def history(self) -> History:
        """What was written down about the job: every change of its state with time, actor, attempt and reason.

        Returns:
            The changes, and the attempts that have ended, with the resources that they used.

        Raises:
            JobNotFound: The service does not know the job.
            Unsupported: The service keeps no history.
        """
        return await self._session.run(self._session.service.history(self.id))

    @overload
    def logs(
        self, stream: Stream = "stdout", *, follow: Literal[False] = False, tail: int | None = None
    ) -> Coroutine[Any, Any, str]: ...

    @overload
    def logs(self, stream: Stream = "stdout", *, follow: Literal[True], tail: None = None) -> AsyncIterator[str]: ...

    def logs(
        self, stream: Stream = "stdout", *, follow: bool = False, tail: int | None = None
    ) -> Coroutine[Any, Any, str] | AsyncIterator[str]:
        """The job's log.

        Args:
            stream: ``"stdout"`` has both in order, unless the job asked for a separate stderr; or ``"stderr"``.
            follow: Hand out the log from its start, and what is added until the job has ended, in pieces as they come:
                print them with ``end=""``. A connection that breaks loses and doubles nothing.
            tail: Only so many lines from the end; not with ``follow``.

        Returns:
            The text as it is now, or with ``follow`` an iterator of pieces of text.

        Raises:
            InvalidSpec: There is no such stream, or ``tail`` makes no sense.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no logs.
        """
        if follow:
            return self._session.iterate(waiting.follow_text(self._session.service, self.id, stream=stream, tail=tail))
        return self._session.run(operations.read_log(self._session.service, self.id, stream=stream, tail=tail))

    async def files(self) -> list[OutputFile]:
        """The files in the job's folder, also while it runs.

        Raises:
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        return await self._session.run(self._session.service.files(self.id))

    async def download(
        self, target: str | os.PathLike[str] = ".", *patterns: str, progress: bool | None = None
    ) -> list[Path]:
        """Fetch the job's files into a folder; one that was broken off goes on where it was.

        Args:
            target: The folder; it is made where it does not exist.
            *patterns: Only files that match one of these, such as ``"*.csv"``.
            progress: Whether files that take a while are shown as they come. None: in a notebook and on a terminal.

        Returns:
            The paths of the files.

        Raises:
            OutputError: A file cannot be stored here, its name would leave the folder, or it does not arrive intact.
            OutputNotFound: A pattern matches no file.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        fetch = functools.partial(operations.download, self._session.service, self.id, target, patterns=patterns)
        return await self._session.transfer(fetch, progress)

    @overload
    async def open(
        self,
        path: str,
        mode: Literal["r", "rt"] = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncFile[str]: ...

    @overload
    async def open(
        self,
        path: str,
        mode: Literal["rb"],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncFile[bytes]: ...

    async def open(
        self,
        path: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncFile[Any]:
        """Open one of the job's files for reading, also while it runs; only what is read is fetched, nothing is stored.

        Args:
            path: The file's name in the job's folder.
            mode: ``"r"`` for text or ``"rb"`` for bytes.
            encoding: Of the text; None for UTF-8.
            errors: What is done with bytes that are no such text, as in the built-in ``open()``.
            newline: How ends of lines are read, as in the built-in ``open()``.

        Returns:
            A file that can be read, iterated over and sought in. It is read in the version that it had when it was
            opened; where the job writes to it meanwhile, reading on raises ``OutputError``.

        Raises:
            OutputNotFound: The job has no such file; names those that there are. It is a ``FileNotFoundError`` too.
            InvalidSpec: The mode is none for reading.
            JobNotFound: The service does not know the job.
            Unsupported: The service has no files.
        """
        return await self._session.open(self.id, path, mode=mode, encoding=encoding, errors=errors, newline=newline)

    def watch(self) -> AsyncIterator[JobInfo]:
        """Hand out what is known of the job now, and again at every change until it has ended.

        Changes in quick succession may be handed out as one.

        Returns:
            An iterator of infos; the last one is final.

        Raises:
            JobVanished: The service no longer knows the job.
            AuthenticationError: The token is no longer good.
        """
        return self._session.watch({self.id: self._info}, learn=self._learn)


@overload
def as_completed(jobs: Iterable[Job[R]], timeout: float | None = None) -> Iterator[Job[R]]: ...


@overload
def as_completed(jobs: Iterable[AsyncJob[R]], timeout: float | None = None) -> AsyncIterator[AsyncJob[R]]: ...


def as_completed(jobs: Iterable[Any], timeout: float | None = None) -> Any:
    """Hand out jobs as they end, well or badly, in the style of :func:`concurrent.futures.as_completed`.

    Those that have ended come first, and each job comes once. All of them are watched together, as in
    ``client.wait(jobs)``; thousands cost no more requests than one.

    Args:
        jobs: Handles of one service.
        timeout: Seconds from the first step; None for as long as it takes.

    Returns:
        An iterator of the handles; for those of an ``AsyncClient`` one for ``async for``.

    Raises:
        InvalidSpec: Something is not a handle, or the jobs are at several services.
        WaitTimeout: Some of the jobs had not ended in time; they go on.
        JobVanished: The service no longer knows one of the jobs.

    Example:
        >>> from hpcjobs import Client, as_completed
        >>> with Client() as client:  # doctest: +SKIP
        ...     for job in as_completed([client.submit(pow, 2, n) for n in range(5)]):
        ...         print(job.result())
    """
    return as_they_end(jobs, timeout)


def as_they_end(jobs: Iterable[Any], timeout: float | None, *, progress: bool | None = False) -> Any:
    """What :func:`as_completed` returns, which may show all of the jobs meanwhile."""
    handles = list(jobs)
    for handle in handles:
        if not isinstance(handle, (Job, AsyncJob)):
            raise InvalidSpec([("jobs", f"has {handle!r}; give handles, such as client.submit(...) returns")])
    if len({(type(handle), *handle._identity()[:2]) for handle in handles}) > 1:  # noqa: SLF001 - of one piece
        raise InvalidSpec([("jobs", "are not all of one client; ask for those of each client by themselves")])
    if not handles:
        return _Nothing()
    first: dict[str, Any] = {}
    for handle in handles:
        first.setdefault(handle.id, handle)
    session = handles[0]._session  # noqa: SLF001
    known = {job_id: waiting.seen(handle.info) for job_id, handle in first.items()}
    infos = session.as_completed(known, timeout=timeout, learn=_teach(handles), progress=progress)
    return (first[info.id] for info in infos) if isinstance(session, Session) else _async_handles(infos, first)


class _Nothing(Iterator[Any], AsyncIterator[Any]):
    """No job ends: for ``for`` and for ``async for``, because without a handle nobody knows which."""

    def __next__(self) -> NoReturn:
        raise StopIteration

    async def __anext__(self) -> NoReturn:
        raise StopAsyncIteration


async def _async_handles(infos: Any, handles: dict[str, Any]) -> AsyncIterator[Any]:
    try:
        async for info in infos:
            yield handles[info.id]
    finally:
        await infos.aclose()


def _teach(handles: Iterable[Job[Any] | AsyncJob[Any]]) -> Learn:
    """Hands each info to the handles of its job."""
    by_id: dict[str, list[Job[Any] | AsyncJob[Any]]] = {}
    for handle in handles:
        by_id.setdefault(handle.id, []).append(handle)

    def learn(info: JobInfo) -> None:
        for handle in by_id.get(info.id, ()):
            handle._learn(info)  # noqa: SLF001 - of one piece

    return learn


def changes_of(changes: Changes | None, fields: Mapping[str, Any]) -> Changes:
    """What is to be different, as it was given: as one thing, or by keyword."""
    if changes is not None and fields:
        raise InvalidSpec([(name, "give changes as one dict or function, or by keyword, not both") for name in fields])
    return fields if changes is None else changes
