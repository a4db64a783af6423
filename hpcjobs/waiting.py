"""Waiting, written once: generators that say how long to listen, are sent the news, and know when it is over.

They are to a listener (:mod:`hpcjobs.watching`) what operations are to a driver: a ``Sleep`` asks for the news of at
most so many seconds, an ``Emit`` hands an item to the caller. :mod:`hpcjobs.sessions` runs them in both colours.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hpcjobs import operations
from hpcjobs.cancelling import Learn
from hpcjobs.errors import HpcjobsError, InvalidSpec, JobCancelled, JobFailed, JobNotFound, JobVanished, WaitTimeout
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobInfo, StderrMode
from hpcjobs.protocol import Emit, Op, Sleep

if TYPE_CHECKING:
    from hpcjobs.live import Display
    from hpcjobs.services.base import Service
    from hpcjobs.watching import News

T = TypeVar("T")

Waiting = Generator["Sleep | Emit", Any, T]
"""A wait that returns a ``T``; what it is sent after a ``Sleep`` is :class:`~hpcjobs.watching.News`."""

HandOut = Literal["nothing", "ends", "changes"]
"""What a wait hands out meanwhile."""

UNSEEN = "not known yet"
"""Stands for the state of a job of which nothing is known but its id."""

FIRST_LOOK = 2.0
"""Seconds that a wait stays beyond its end for an answer, where it has had none at all."""

GLANCE = 0.02
"""Seconds between two questions whether that answer has come."""

LOG_LINES = 20
"""How many lines of its log an unsuccessful job shows."""


def until_ended(
    jobs: Mapping[str, JobInfo | None],
    *,
    timeout: float | None,
    display: Callable[[Sequence[JobInfo]], Display],
    learn: Learn,
    hand_out: HandOut = "nothing",
    clock: Callable[[], float] = time.monotonic,
) -> Waiting[list[JobInfo]]:
    """Wait until all jobs have ended.

    Args:
        jobs: The ids, each with what is known of the job, or None.
        timeout: Seconds; None for no end.
        display: Makes what shows the jobs meanwhile.
        learn: Told each info as it comes.
        hand_out: What the caller is handed as it comes: nothing, each job's final info, or what is known of each job
            and then every change.
        clock: Seconds that only grow.

    Returns:
        The final infos, in the order of the ids, however the jobs ended.

    Raises:
        WaitTimeout: A job had not ended in time.
        JobVanished: The service no longer knows a job.
        JobNotFound: The service does not know an id of which nothing was known here either.
    """
    if timeout is not None and not timeout >= 0:
        raise InvalidSpec(
            [("timeout", f"{timeout} s cannot be waited; give seconds, zero or more, or None for no end")]
        )
    infos = {job_id: known(job_id, info) for job_id, info in jobs.items()}
    going = dict.fromkeys(job_id for job_id, info in infos.items() if not info.terminal)
    end = math.inf if timeout is None else clock() + timeout
    shown = display(list(infos.values()))
    looked = False  # a wait that is shorter than a look still takes one
    try:
        shown.show(list(infos.values()))
        for info in list(infos.values()):
            if (hand_out == "ends" and info.terminal) or (hand_out == "changes" and seen(info) is not None):
                yield Emit(info)
        while going:
            left = end - clock()
            if left <= (0 if looked else -FIRST_LOOK):
                first = infos[next(iter(going))]
                raise WaitTimeout(first, timeout or 0.0, len(going) - 1)
            news: News = yield Sleep(min(left, shown.tick) if left > 0 else GLANCE)
            looked = looked or news.looked
            for text in news.notices:
                shown.notice(text)
            items: list[JobInfo] = []
            for info in news.changed.values():
                now = infos[info.id] = merged(infos.get(info.id), info)
                learn(now)
                ended = now.terminal and now.id in going
                if ended:
                    del going[now.id]
                elif hand_out == "nothing" and not now.terminal:  # one that had ended may run again
                    going[now.id] = None
                if hand_out == "changes" or (hand_out == "ends" and ended):
                    items.append(now)
            if items:  # who is handed one may take long, and sees it shown meanwhile
                shown.show(list(infos.values()))
                for item in items:
                    yield Emit(item)
            _check(news, jobs, going)
            shown.show(list(infos.values()))
    finally:
        shown.close(list(infos.values()))
    return list(infos.values())


def _check(news: News, jobs: Mapping[str, JobInfo | None], going: Mapping[str, None]) -> None:
    if news.error is not None:
        raise news.error
    for job_id, seen in news.vanished.items():
        if job_id not in going:
            continue
        last = seen or jobs[job_id]
        if last is None:
            raise JobNotFound(f"there is no job {job_id!r}, or it is another's", status=404, code="job_not_found")
        raise JobVanished(job_id, last)


def known(job_id: str, info: JobInfo | None) -> JobInfo:
    """What is known of a job; of one that was never seen, that it has this id."""
    return info or JobInfo(id=job_id, state=JobState.UNKNOWN, native_state=UNSEEN)


def seen(info: JobInfo) -> JobInfo | None:
    """The info, or None where it says no more than an id."""
    return None if info.state is JobState.UNKNOWN and info.native_state == UNSEEN else info


def merged(older: JobInfo | None, info: JobInfo) -> JobInfo:
    """The newer info, with the spec of the older one where it has none: only some answers carry it.

    An answer may be overtaken by another one; where both have versions, the order in which they came does not matter.
    """
    if older is not None and older.version is not None and info.version is not None and info.version < older.version:
        return older
    if info.spec is None and older is not None and older.spec is not None:
        return info.model_copy(update={"spec": older.spec})
    return info


def outcome(service: Service, info: JobInfo) -> Op[JobInfo]:
    """The final info of a job that ended well; of any other, its error with the end of its log.

    Raises:
        JobFailed: The job failed.
        JobCancelled: The job was cancelled.
    """
    if info.state is JobState.FINISHED:
        return info
    tail = ""
    if info.spec is None:  # a list does not tell what was asked
        with contextlib.suppress(HpcjobsError):
            info = merged((yield from service.get(info.id)), info)
    separate = (info.spec or {}).get("stderr") == StderrMode.SEPARATE.value
    for stream in ("stderr", "stdout") if separate else ("stdout",):
        try:
            tail = yield from operations.read_log(service, info.id, stream=stream, tail=LOG_LINES)
        except HpcjobsError:  # the failure is what was asked for: it is told with or without the log
            break
        if tail.strip():
            break
    raise (JobCancelled if info.state is JobState.CANCELLED else JobFailed)(info, tail)


def follow_text(service: Service, job_id: str, *, stream: str, tail: int | None = None) -> Op[None]:
    """Hand out a log as it grows, as text; bytes that are not UTF-8 are replaced.

    Yields:
        ``Emit`` of ``str``.

    Raises:
        InvalidSpec: ``tail`` was given: a log is followed from its start.
    """
    if tail is not None:
        raise InvalidSpec([("tail", "a log is followed from its start; leave out tail, or follow")])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    op = operations.follow_log(service, job_id, stream=stream)
    try:
        effect = next(op)
        while True:
            if isinstance(effect, Emit):
                text = decoder.decode(effect.item)
                if text:
                    yield Emit(text)
                effect = op.send(None)
                continue
            try:
                answer = yield effect
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the operation decides
                effect = op.throw(error)
            else:
                effect = op.send(answer)
    except StopIteration:
        rest = decoder.decode(b"", final=True)
        if rest:
            yield Emit(rest)
    finally:
        op.close()


def detached(infos: Sequence[JobInfo]) -> str:
    """What is said when the waiting was interrupted: that the jobs go on, how to stop them and how to come back."""
    going = [info for info in infos if not info.terminal]
    if len(infos) == 1:
        job_id = infos[0].id
        return (
            f"hpcjobs: no longer waiting; job {job_id} goes on.\n"
            f"  cancel it:  job.cancel()  or  hpcjobs cancel {job_id}\n"
            f'  come back:  client.job("{job_id}")  or  hpcjobs watch {job_id}\n'
        )
    return (
        f"hpcjobs: no longer waiting; {len(going)} of {len(infos)} jobs go on.\n"
        "  cancel them:  client.cancel_many(jobs)\n"
        "  come back:    client.wait(jobs)\n"
    )
