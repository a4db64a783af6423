"""What a worker does with the attempts that it has claimed: counts cores, runs, watches and ends them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import Iterable
from uuid import UUID

import psycopg

from hpcjobs.lifecycle import JobState
from hpcjobs.models import Progress
from hpcjobs_server.executors.base import CannotRun, Cause, Ended, Execution, Executor, Move
from hpcjobs_server.store import Claim, Finish, Held, Moved, Work

logger = logging.getLogger(__name__)

_LOOK = 0.25
"""Seconds between looks at the jobs' progress."""
_HOLD = 1.0
"""Seconds for which a ticket is held for cores before another worker is offered it."""


class Cores:
    """The cores of one worker, given out in the order in which they were asked for: wide jobs are not starved."""

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self._waiting: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    async def acquire(self, count: int) -> None:
        """Wait for ``count`` cores and take them."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, future))
        self._give()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(count)
            else:
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiting.remove((count, future))
                self._give()
            raise

    def take(self, count: int) -> None:
        """Take cores whether they are free or not, for what holds them already."""
        self.free -= count

    def release(self, count: int) -> None:
        """Give cores back."""
        self.free += count
        self._give()

    def _give(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            count, future = self._waiting.popleft()
            if not future.done():
                self.free -= count
                future.set_result(None)


class Attempt:
    """One attempt that this worker runs."""

    def __init__(self, claim: Claim, execution: Execution) -> None:
        self.claim, self.execution = claim, execution
        self.cause: Cause | None = None
        self.reason: str | None = None
        self.gently = False
        self.ended = False

    def abort(self, cause: Cause, reason: str | None = None, *, gently: bool = False) -> None:
        """Ask it to stop; the first cause is the one that counts, but for an attempt that is nobody's any more.

        Args:
            cause: Why.
            reason: The same in words.
            gently: Whether it is left alone if it has started.
        """
        if self.cause is None or cause is Cause.SUPERSEDED:
            self.cause, self.reason = cause, reason
        self.gently = gently
        if cause is Cause.SUPERSEDED:
            self.execution.leave()
        else:
            self.execution.abort(gently=gently)

    def spare(self) -> None:
        """It was to stop only if it had not started, and it has."""
        self.cause = self.reason = None
        self.gently = False


class Runner:
    """Runs attempts and reports how they go.

    Args:
        store: The database.
        executor: How jobs are run.
        worker: This worker's id.
    """

    def __init__(self, store: Work, executor: Executor, worker: UUID) -> None:
        self._store, self._executor, self._worker = store, executor, worker
        self.cores = Cores(executor.slots)
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self._claiming: set[str] = set()
        self._orphans: set[tuple[str, int]] = set()
        self._unknown: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishes: asyncio.Queue[Finish] = asyncio.Queue()
        self._fresh_progress: dict[tuple[str, int], Progress] = {}
        self._fresh_moves: dict[tuple[str, int], Move] = {}
        self._stopping: str | None = None
        self._leaving = False
        self.closing = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    # -------------------------------------------------------------------------------------------- tickets

    async def take(self, job_id: str, attempt: int, cores: int, queue: str) -> None:
        """Act on a ticket: wait for cores, claim, start. Returns when the job runs and the next ticket may come."""
        slots = self._executor.weight(cores)
        if slots > self.cores.total:
            # not for this worker; another one may be large enough, now or later
            await self._store.hand_back(job_id, attempt, delay=5.0)
            return
        if not await self._room(slots, cores, queue):
            await self._store.hand_back(job_id, attempt, delay=0.0)
            return
        started = False
        try:
            if self.closing.is_set():
                await self._store.hand_back(job_id, attempt, delay=0.0)
            else:
                started = await self._claim(job_id, attempt, slots, queue)
        finally:
            if not started:
                self.cores.release(slots)
        if started:
            # the next ticket is fetched only when there is room for it: what waits in the queue keeps its priority
            await self.cores.acquire(1)
            self.cores.release(1)

    async def _room(self, slots: int, cores: int, queue: str) -> bool:
        """Take cores as soon as they are free; False where another worker has them free, or this one takes no more."""
        waiting = asyncio.ensure_future(self.cores.acquire(slots))  # one place in the line, however long it lasts
        try:
            while not (await asyncio.wait({waiting}, timeout=_HOLD))[0]:
                if self.closing.is_set() or await self._store.room_elsewhere(self._worker, cores, queue):
                    break
        except BaseException:
            if await self._withdrawn(waiting):
                raise
            self.cores.release(slots)
            raise
        return not await self._withdrawn(waiting)

    @staticmethod
    async def _withdrawn(waiting: asyncio.Future[None]) -> bool:
        """End the waiting for cores; False where they had been taken in this very moment."""
        waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    async def _claim(self, job_id: str, attempt: int, slots: int, queue: str) -> bool:
        self._claiming.add(job_id)
        try:
            claim = await self._store.claim(job_id, attempt, self._worker, queue=queue, cluster=self._executor.cluster)
            if claim is None:
                return False
            self._begin(claim, slots)
        finally:
            self._claiming.discard(job_id)
        return True

    def _begin(self, claim: Claim, slots: int) -> None:
        running = Attempt(claim, self._executor.execution(claim))
        self.attempts[claim.job_id, claim.attempt] = running
        self.idle.clear()
        if self._stopping is not None:  # the order came while the claim was under way
            running.abort(Cause.STOP, self._stopping)
        elif self._leaving:
            running.execution.leave()
        task = asyncio.create_task(self._run(running, slots), name=f"job {claim.job_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def adopt(self, claims: Iterable[Claim]) -> None:
        """Go on with attempts that a cluster has, from where another worker left them."""
        for claim in claims:
            if (claim.job_id, claim.attempt) not in self.attempts:
                slots = self._executor.weight(claim.spec.resources.cores)
                self.cores.take(slots)
                self._begin(claim, slots)

    @property
    def unknown(self) -> set[str]:
        """Jobs that the database said twice are this worker's, and that nobody here knows."""
        return {job_id for job_id, _ in self._unknown}

    # ----------------------------------------------------------------------------------------------- runs

    async def _run(self, running: Attempt, slots: int) -> None:
        claim = running.claim
        try:
            ended = await self._execute(running)
        except Exception as error:  # a fault of ours must not leave the job running for ever
            logger.exception("job %s could not be run", claim.job_id)
            ended = Ended(problem=f"the service could not run the job: {type(error).__name__}")
        finally:
            self.cores.release(slots)
        self._note_move(running)
        for _, progress in _look([running]):
            self._fresh_progress[claim.job_id, claim.attempt] = progress
        if ended.left and running.cause is not Cause.SUPERSEDED:
            await self._tell_move()
        running.ended = True
        if running.cause is Cause.SUPERSEDED or ended.left:
            self._forget(claim.job_id, claim.attempt)
            return
        if ended.lost and running.cause is None:
            # the worker stood still for so long that the job ended itself; it runs again if it is still ours
            await self._release(claim.job_id, claim.attempt)
            return
        state, reason = outcome(ended, running.cause, running.reason)
        self._finishes.put_nowait(
            Finish(
                claim.job_id,
                claim.attempt,
                state,
                reason,
                ended.exit_code,
                ended.cpu_seconds,
                ended.peak_memory,
                own_error=ended.error is not None,
                host=ended.host,
            )
        )

    async def _execute(self, running: Attempt) -> Ended:
        claim, execution = running.claim, running.execution
        try:
            await execution.prepare()
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error)
            return Ended(problem=f"the service could not prepare the job: {text}")
        except CannotRun as error:
            return Ended(problem=str(error))
        if running.cause is not None and not claim.adopted:  # else the cluster may have it
            return Ended(aborted=True)
        await execution.start()
        if claim.spec.inputs and self._executor.cluster is None:
            with contextlib.suppress(psycopg.Error):  # only a nicer word for the state
                await self._store.started(claim.job_id, claim.attempt, self._worker)
        return await execution.wait()

    async def _release(self, job_id: str, attempt: int) -> None:
        while True:
            try:
                await self._store.release(job_id, attempt, self._worker)
                break
            except psycopg.Error:
                await asyncio.sleep(1.0)
        self._forget(job_id, attempt)

    def _forget(self, job_id: str, attempt: int) -> None:
        self.attempts.pop((job_id, attempt), None)
        if not self.attempts:
            self.idle.set()

    # -------------------------------------------------------------------------------------------- reports

    async def send_finishes(self) -> None:
        """Store how attempts ended, many at once; kept and tried again until the database has them."""
        while True:
            ends = [await self._finishes.get()]
            while len(ends) < 500 and not self._finishes.empty():
                ends.append(self._finishes.get_nowait())
            with contextlib.suppress(psycopg.OperationalError):
                await self.send_progress()
                await self.send_moves()
            pause = 0.1
            while True:
                try:
                    kept = await self._store.finish(self._worker, ends)
                    break
                except psycopg.OperationalError as error:
                    logger.warning("the end of %d jobs cannot be stored yet: %s", len(ends), error)
                except Exception:  # whatever is wrong with the words, the ends count
                    logger.exception("the end of %d jobs cannot be stored with its reasons", len(ends))
                    ends = [dataclasses.replace(end, reason="its reason could not be stored") for end in ends]
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            for end in ends:
                if end.job_id not in kept:
                    logger.warning("job %s attempt %d had been taken away; its end is dropped", end.job_id, end.attempt)
                self._forget(end.job_id, end.attempt)

    async def watch_progress(self) -> None:
        """Look at how far the jobs are, and store what is new."""
        while True:
            await asyncio.sleep(_LOOK)
            running = [item for item in self.attempts.values() if not item.ended]
            if running:
                for item, progress in await asyncio.to_thread(_look, running):
                    self._fresh_progress[item.claim.job_id, item.claim.attempt] = progress
                for item in running:
                    self._note_move(item)
            with contextlib.suppress(psycopg.OperationalError):  # the database is away; what is fresh is kept
                await self.send_progress()
                await self.send_moves()

    async def send_progress(self) -> None:
        """Store the progress that is new."""
        fresh, self._fresh_progress = self._fresh_progress, {}
        if not fresh:
            return
        try:
            await self._store.report_progress([(*key, progress) for key, progress in fresh.items()])
        except psycopg.OperationalError:
            self._fresh_progress = {**fresh, **self._fresh_progress}
            raise
        except Exception:  # progress is worth nobody's job
            logger.exception("the progress of %d jobs cannot be stored; it is dropped", len(fresh))

    def _note_move(self, running: Attempt) -> None:
        if (move := running.execution.moved()) is not None:
            key = running.claim.job_id, running.claim.attempt
            spared = move.spared or (key in self._fresh_moves and self._fresh_moves[key].spared)
            self._fresh_moves[key] = dataclasses.replace(move, spared=spared)
            if move.spared:
                running.spare()

    async def send_moves(self) -> None:
        """Store where attempts are that a cluster has, as far as that is new."""
        fresh, self._fresh_moves = self._fresh_moves, {}
        if not fresh:
            return
        try:
            moves = [
                Moved(*key, move.state, move.reason, move.cluster_job, move.started_at) for key, move in fresh.items()
            ]
            await self._store.moved(self._worker, moves)
            for key, move in fresh.items():
                if move.spared:
                    await self._store.spared(*key, self._worker)
        except psycopg.OperationalError:
            self._fresh_moves = {**fresh, **self._fresh_moves}
            raise
        except Exception:  # the next move will do, and the end counts
            logger.exception("where %d jobs are cannot be stored; it is dropped", len(fresh))

    async def _tell_move(self) -> None:
        """The last word on an attempt that is left to another worker; without it that one asks the cluster."""
        with contextlib.suppress(psycopg.Error, asyncio.TimeoutError):
            await asyncio.wait_for(self.send_moves(), 5.0)

    # --------------------------------------------------------------------------------------------- orders

    def expected(self) -> set[tuple[str, int]]:
        """The attempts that must still be ours: taken before a heartbeat, compared by :meth:`follow` after it."""
        return {key for key, item in self.attempts.items() if not item.ended}

    async def follow(self, expected: set[tuple[str, int]], held: Iterable[Held]) -> None:
        """Act on a heartbeat's answer: abort what is to stop, drop what was taken away, give back what is not known."""
        present = {(item.job_id, item.attempt): item for item in held}
        for key in expected:
            if (running := self.attempts.get(key)) is None or running.ended:
                continue
            if key not in present:
                logger.warning("job %s attempt %d was taken away; it is ended here", *key)
                running.abort(Cause.SUPERSEDED)
        self.obey(present.values())
        # a claim whose answer was lost: the database says that it is ours, and nobody here runs it
        unknown = {key for key in present if key not in self.attempts and key[0] not in self._claiming}
        self._unknown = unknown & self._orphans
        if self._executor.cluster is None:
            for key in self._unknown:
                await self._store.release(*key, self._worker)
        self._orphans = unknown

    def obey(self, held: Iterable[Held]) -> None:
        """Abort those that were asked to stop."""
        for item in held:
            running = self.attempts.get((item.job_id, item.attempt))
            if not item.cancel_requested or running is None or running.ended:
                continue
            if running.cause is None or (running.gently and item.abort):
                why = item.cancel_reason or f"cancelled by {item.actor}"
                running.abort(Cause.CANCEL, why, gently=not item.abort)

    def ping(self) -> None:
        """Tell all jobs' shims that the worker is alive."""
        for item in self.attempts.values():
            if not item.ended:
                item.execution.ping()

    def leave_all(self) -> None:
        """Leave what a cluster has to the next worker."""
        self._leaving = True
        for item in self.attempts.values():
            if not item.ended:
                item.execution.leave()

    def abort_all(self, reason: str) -> None:
        """Ask all jobs to stop, because the service is being stopped."""
        self._stopping = reason
        for item in self.attempts.values():
            if not item.ended:
                item.abort(Cause.STOP, reason)

    def kill_all(self) -> None:
        """End all jobs at once, without the grace time."""
        for item in self.attempts.values():
            if not item.ended:
                item.execution.kill()

    @property
    def all_ended(self) -> bool:
        """Whether nothing runs any more, though some ends may still have to be stored."""
        return all(item.ended for item in self.attempts.values())


def _look(running: list[Attempt]) -> list[tuple[Attempt, Progress]]:
    found = []
    for item in running:
        try:
            if (progress := item.execution.progress()) is not None:
                found.append((item, progress))
        except Exception:  # a job can write whatever it likes; that must not reach the others
            logger.exception("the progress of job %s cannot be read", item.claim.job_id)
    return found


def outcome(ended: Ended, cause: Cause | None, reason: str | None) -> tuple[JobState, str | None]:
    """What the end of its processes means for a job.

    A job that exits with 0 has completed, also one that was asked to stop. One that ended by ``JobAborted`` is
    cancelled, whether it was asked or not, and one that said which error ended its work has failed with that.
    """
    state, why = _outcome(ended, cause, reason)
    if state is JobState.FAILED and ended.note:
        why = f"{why}; {ended.note}"
    return state, why


def _outcome(ended: Ended, cause: Cause | None, reason: str | None) -> tuple[JobState, str | None]:
    if ended.exit_code == 0 and not ended.problem:
        return JobState.FINISHED, None
    if ended.said is not None:
        return JobState.CANCELLED, ended.said
    if ended.timed_out:
        return JobState.FAILED, "its walltime was over"
    if ended.error is not None:
        return JobState.FAILED, ended.error
    if ended.aborted or (ended.lost and cause is not None):
        return JobState.CANCELLED, reason if cause else "it was stopped by a signal from outside the service"
    if ended.problem:
        return JobState.FAILED, ended.problem
    if ended.signal is not None:
        return JobState.FAILED, f"killed by {_signal_name(ended.signal)}"
    return JobState.FAILED, f"exit code {ended.exit_code}{_EXIT_CODES.get(ended.exit_code or 0, '')}"


_EXIT_CODES = {126: ": a command could not be executed", 127: ": command not found"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
