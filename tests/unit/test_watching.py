"""The watching thread: one for everyone, by stream or by looks, and gone when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcjobs import watching
from hpcjobs.errors import (
    AuthenticationError,
    ClientClosed,
    HpcjobsError,
    NoService,
    PermissionDenied,
    RateLimited,
    ServiceUnavailable,
    UnexpectedAnswer,
    Unsupported,
)
from hpcjobs.lifecycle import JobState
from hpcjobs.models import Capabilities, JobInfo, JobQueryAnswer, Progress
from hpcjobs.services.base import SLOWEST
from hpcjobs.watching import News, Watcher


def info(job_id: str, state: JobState = JobState.QUEUED, version: int | None = 1, **more: Any) -> JobInfo:
    return JobInfo(id=job_id, state=state, native_state=state.value, version=version, **more)


@dataclasses.dataclass
class Event:
    id: str
    event: str
    data: str


class World:
    """A service that is made of dictionaries, and a driver that asks it."""

    base_url = where = "http://service.test"
    name = "made of dictionaries"

    def __init__(self, *, events: bool = False, min_poll: float = 0.01, vanish_grace: float = 0.0) -> None:
        self.capabilities = Capabilities(events=events, min_poll=min_poll, vanish_grace=vanish_grace, bulk_get=1000)
        self.jobs: dict[str, JobInfo] = {}
        self.looks: list[tuple[float, list[str]]] = []
        self.looked = threading.Condition()
        self.away: Exception | None = None
        self.stream_error: Exception | None = None
        self.cursors: list[str | None] = []
        self.streams: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Event | None]]] = []
        self.drivers_open = 0
        self.hold: threading.Event | None = None
        self.slow_end: Callable[[], object] | None = None

    # the service

    def pace(self, quiet: float, states: Any) -> float:
        del states
        return min(SLOWEST, quiet / 10)

    def get_many(self, ids: Any) -> Any:
        return list(ids)

    def events_request(self, cursor: str | None) -> Any:
        return cursor

    # the driver

    def open(self) -> Any:
        self.drivers_open += 1
        return self

    async def run(self, ids: list[str]) -> JobQueryAnswer:
        if self.hold is not None:
            await asyncio.to_thread(self.hold.wait, 5)
        with self.looked:
            self.looks.append((time.monotonic(), ids))
            self.looked.notify_all()
        if self.away is not None:
            raise self.away
        found = [self.jobs[job_id] for job_id in ids if job_id in self.jobs]
        return JobQueryAnswer(items=found, missing=[job_id for job_id in ids if job_id not in self.jobs])

    def busy(self, seconds: float) -> None:
        """Turn every look away, and say when the next one is welcome."""
        self.away = RateLimited("too many requests", status=429)
        self.away.retry_after = seconds

    async def events(self, cursor: str | None) -> AsyncIterator[Event]:
        self.cursors.append(cursor)
        if self.stream_error is not None:
            raise self.stream_error
        stream = (asyncio.get_running_loop(), asyncio.Queue[Event | None]())
        self.streams.append(stream)
        try:
            yield Event("10", "hello", "{}")
            while (event := await stream[1].get()) is not None:
                yield event
            raise NoService("the stream broke")
        finally:
            self.streams.remove(stream)
            if self.slow_end is not None:
                self.slow_end()
                await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        self.drivers_open -= 1

    # the test

    def push(self, event: Event | None) -> None:
        for loop, queue in self.streams:
            loop.call_soon_threadsafe(queue.put_nowait, event)

    def change(self, new: JobInfo, cursor: str = "11") -> None:
        self.jobs[new.id] = new
        self.push(Event(cursor, "job", new.model_dump_json()))

    def wait_for_looks(self, number: int, seconds: float = 5.0) -> None:
        with self.looked:
            assert self.looked.wait_for(lambda: len(self.looks) >= number, seconds), f"{len(self.looks)} looks"


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[World, Watcher]]]:
    """Makes a world and a watcher; checks that neither a thread nor a driver is left."""
    made: list[tuple[World, Watcher]] = []

    def build(*, idle: float = 5.0, **settings: Any) -> tuple[World, Watcher]:
        world = World(**settings)
        watcher = Watcher(world, world.open, idle=idle)  # type: ignore[arg-type]
        made.append((world, watcher))
        return world, watcher

    yield build
    for world, watcher in made:
        watcher.close()
        until(lambda watcher=watcher: not watcher.running)  # type: ignore[misc]
        assert world.drivers_open == 0


def hear(listener: watching.Listener, what: Callable[[News], object], seconds: float = 5.0) -> News:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        news = listener.listen(end - time.monotonic())
        if what(news):
            return news
    raise AssertionError("it was not told")


def test_no_thread_before_someone_listens_and_none_a_while_after(make: Any) -> None:
    """The thread is there only while it is needed, and starts again when it is."""
    world, watcher = make(idle=0.05)
    assert not watcher.running
    world.jobs["a"] = info("a")
    for _ in range(2):
        with watcher.listener({"a": None}) as listener:
            assert watcher.running
            assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.QUEUED
        until(lambda: not watcher.running)
        until(lambda: world.drivers_open == 0)


def test_a_change_is_found_by_looking(make: Any) -> None:
    """Without a stream, a job is looked at until somebody has heard of the change."""
    world, watcher = make()
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        world.wait_for_looks(2)
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.FINISHED


def test_thousands_of_waiters_share_each_look(make: Any) -> None:
    """Five thousand listeners cost no more requests than one."""
    world, watcher = make(min_poll=0.2)
    ids = [f"job-{number}" for number in range(5000)]
    world.jobs = {job_id: info(job_id) for job_id in ids}
    with contextlib.ExitStack() as stack:
        world.hold = threading.Event()
        first = stack.enter_context(watcher.listener({"job-0": None}))
        for job_id in ids[1:]:
            stack.enter_context(watcher.listener({job_id: None}))
        world.hold.set()
        world.wait_for_looks(4)
        assert max(len(asked) for _, asked in world.looks) == 5000
        assert len(world.looks) <= 6
        assert hear(first, lambda news: news.changed)


def test_looks_are_never_faster_than_the_service_allows(make: Any) -> None:
    """``min_poll`` is kept, and what is added by chance only makes it slower."""
    world, watcher = make(min_poll=0.1)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": None}):
        world.wait_for_looks(5)
    times = [moment for moment, _ in world.looks]
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(times))


def test_the_pace_slows_down_while_nothing_changes(make: Any) -> None:
    """The pause between looks is a tenth of the quiet time, and it starts anew at a change."""
    now = [0.0]
    world = World(min_poll=0.5)
    watcher = Watcher(world, world.open, clock=lambda: now[0], draw=lambda: 0.0)  # type: ignore[arg-type]
    watcher._streaming, watcher._changed_at = False, 0.0
    assert watcher._pace() == 0.5
    now[0] = 60.0
    assert watcher._pace() == 6.0
    now[0] = 100_000.0
    assert watcher._pace() == SLOWEST
    watcher._changed_at = now[0]
    assert watcher._pace() == 0.5
    watcher._streaming = True
    assert watcher._pace() == watching.SAFETY


def test_the_stream_tells_at_once(make: Any) -> None:
    """With a stream a change is heard without another look."""
    world, watcher = make(events=True, min_poll=0.01)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming)
        time.sleep(0.1)
        looks = len(world.looks)
        world.change(info("a", JobState.RUNNING, 2))
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.RUNNING
        world.change(info("a", JobState.FINISHED, 3))
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.FINISHED
        assert len(world.looks) == looks <= 2
    assert world.cursors == [None]


def test_a_stream_that_breaks_is_resumed_after_the_last_event(make: Any) -> None:
    """The next stream begins after the last event, and what was missed in between is looked at."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming)
        world.change(info("a", JobState.RUNNING, 2), cursor="12")
        hear(listener, lambda news: news.changed)
        world.push(None)
        until(lambda: not watcher._streaming)
        world.jobs["a"] = info("a", JobState.FINISHED, 3)
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.FINISHED
        until(lambda: len(world.cursors) >= 2)
        assert world.cursors[:2] == [None, "12"]


@pytest.mark.parametrize(
    "error",
    [
        Unsupported("x", "stream", "poll"),
        NoService("gone"),
        UnexpectedAnswer("a page", status=200),
        ValueError("a bug"),
    ],
)
def test_without_its_stream_the_service_is_looked_at(make: Any, error: Exception) -> None:
    """Whatever is wrong with the stream, changes are still found."""
    world, watcher = make(events=True)
    world.stream_error = error
    world.jobs["a"] = info("a")
    with watcher.listener({"a": None}) as listener:
        hear(listener, lambda news: news.changed)
        world.jobs["a"] = info("a", JobState.FAILED, 2)
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.FAILED


def test_an_event_that_makes_no_sense_leads_to_a_look(make: Any) -> None:
    """A broken event is no reason to end a wait, nor to miss a change."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming)
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        world.push(Event("13", "job", "<html>"))
        assert hear(listener, lambda news: news.changed).changed["a"].state is JobState.FINISHED


def test_what_was_overtaken_is_not_told(make: Any) -> None:
    """An older version, or older progress of the same version, is dropped."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a", JobState.RUNNING, 5)
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming)
        world.push(Event("12", "job", info("a", JobState.QUEUED, 4).model_dump_json()))
        world.push(Event("13", "job", info("a", JobState.RUNNING, 5).model_dump_json()))
        new = info("a", JobState.RUNNING, 5, progress=Progress(done=2, at="2026-01-01T00:00:02Z"))
        old = info("a", JobState.RUNNING, 5, progress=Progress(done=1, at="2026-01-01T00:00:01Z"))
        world.change(new)
        news = hear(listener, lambda news: news.changed)
        assert news.changed == {"a": new}
        world.push(Event("14", "job", old.model_dump_json()))
        assert listener.listen(0.1).empty


def test_a_service_that_is_away_is_asked_again_and_the_waiter_is_told_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missed looks fail nothing; one sentence says that the connection is lost, one that it is back."""
    world, watcher = make()
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        world.wait_for_looks(1)
        world.away = ServiceUnavailable("the service is being repaired", status=503)
        news = hear(listener, lambda news: news.notices)
        assert "lost the connection to http://service.test at " in news.notices[0]
        assert "trying again" in news.notices[0]
        world.wait_for_looks(len(world.looks) + 2)
        with watcher.listener({"a": world.jobs["a"]}) as late:
            assert hear(late, lambda news: news.notices).notices == news.notices
        world.away = None
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        told: list[str] = []
        while True:
            news = listener.listen(5)
            assert not news.empty
            assert news.error is None
            told += news.notices
            if news.changed:
                break
        assert [text for text in told if "connected again" in text] == told


@pytest.mark.parametrize("error", [AuthenticationError("no", status=401), PermissionDenied("no", status=403)])
def test_an_error_that_does_not_pass_ends_every_wait(make: Any, error: HpcjobsError) -> None:
    """A token that is no longer good is told to everyone, each with an error of its own."""
    world, watcher = make()
    world.away = error
    with watcher.listener({"a": None}) as one, watcher.listener({"b": None}) as two:
        errors = [hear(listener, lambda news: news.error).error for listener in (one, two)]
    assert all(type(found) is type(error) and str(found) == "no" for found in errors)
    assert errors[0] is not errors[1]
    assert errors[0].status == error.status  # type: ignore[union-attr]


def test_a_job_that_is_not_known_for_long_enough_has_vanished(make: Any) -> None:
    """Not before the grace is over, and never if it comes back in time."""
    world, watcher = make(vanish_grace=0.3)
    world.jobs["kept"] = last = info("kept", JobState.RUNNING)
    begun = time.monotonic()
    with watcher.listener({"kept": last}) as listener:
        del world.jobs["kept"]
        news = hear(listener, lambda news: news.vanished)
        assert news.vanished == {"kept": last}
        assert time.monotonic() - begun >= 0.3


def test_a_job_that_comes_back_has_not_vanished(make: Any) -> None:
    """A service that was asked too early may not know a job yet."""
    world, watcher = make(vanish_grace=0.5)
    with watcher.listener({"a": None}) as listener:
        world.wait_for_looks(1)
        world.jobs["a"] = info("a")
        assert hear(listener, lambda news: news.changed or news.vanished).changed
        assert not listener.listen(0.6).vanished


def test_a_closed_watcher_ends_its_waits_and_takes_no_new_ones(make: Any) -> None:
    """Whoever waits is told that the client was closed, also from a thread that blocks."""
    _, watcher = make()
    found: list[News] = []
    with watcher.listener({"a": info("a")}) as listener:
        thread = threading.Thread(target=lambda: found.append(hear(listener, lambda news: news.error)))
        thread.start()
        watcher.close()
        thread.join(5)
    assert isinstance(found[0].error, ClientClosed)
    assert not watcher.running
    with pytest.raises(ClientClosed), watcher.listener({"a": None}):
        pass
    watcher.close()


def test_closing_does_not_wait_for_an_answer(make: Any) -> None:
    """A service that holds its answer does not hold the program's end."""
    world, watcher = make(events=True)
    with watcher.listener({"a": info("a")}):
        until(lambda: watcher._streaming)
        begun = time.monotonic()
        watcher.close()
        assert time.monotonic() - begun < 1.5
    assert not world.streams


def test_connections_are_closed_however_often_the_thread_is_told_to_end(make: Any) -> None:
    """Being told to end once more while it closes its connections does not leave them open."""
    world, watcher = make(events=True)
    with watcher.listener({"a": info("a")}):
        until(lambda: watcher._streaming)
        task = watcher._task

        def again() -> None:
            watcher.abandon()
            task.cancel()

        world.slow_end = again
        watcher.abandon()
        until(lambda: not watcher.running)
    assert not world.streams
    assert world.drivers_open == 0


def test_a_watcher_that_nobody_needs_any_more_is_collected(make: Any) -> None:
    """``abandon`` ends the thread without waiting for it."""
    world, watcher = make()
    with watcher.listener({"a": info("a")}):
        world.wait_for_looks(1)
        watcher.abandon()
        until(lambda: not watcher.running)


def test_a_fault_in_the_thread_reaches_those_who_wait() -> None:
    """Nobody waits for ever on a thread that is gone."""

    def no_driver() -> Any:
        raise OSError("no certificates")

    watcher = Watcher(World(), no_driver)  # type: ignore[arg-type]
    for _ in range(2):
        with watcher.listener({"a": None}) as listener:
            assert isinstance(hear(listener, lambda news: news.error).error, OSError)
        until(lambda: not watcher.running)


def test_news_of_a_slow_listener_is_bounded(make: Any) -> None:
    """What was not read is one piece of news per job, the last one."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming)
        for version in range(2, 500):
            world.change(info("a", JobState.RUNNING, version))
        until(lambda: watcher._watched["a"].info == info("a", JobState.RUNNING, 499))
        news = listener.listen(1)
        assert len(news.changed) == 1
        assert news.changed["a"].version == 499
        assert listener.listen(0).empty


def test_hooks_are_pumped_while_a_thread_waits(make: Any) -> None:
    """A hook is entered once per wait, called instead of sleeping, and left at the end."""
    world, watcher = make()
    world.jobs["a"] = info("a")
    calls: list[float] = []
    steps: list[str] = []

    @contextlib.contextmanager
    def hook() -> Iterator[Callable[[float], None] | None]:
        steps.append("in")
        try:
            yield lambda seconds: (calls.append(seconds), time.sleep(seconds))[0]
        finally:
            steps.append("out")

    @contextlib.contextmanager
    def idle_hook() -> Iterator[None]:
        yield None

    watching.pump_hooks[:] = [hook, idle_hook]
    try:
        with watcher.listener({"a": world.jobs["a"]}) as listener:
            listener.listen(0.2)
    finally:
        watching.pump_hooks.clear()
    assert steps == ["in", "out"]
    assert len(calls) >= 3
    assert max(calls) <= watching.PUMP


def test_an_interrupt_at_any_moment_ends_the_wait_and_its_hooks() -> None:
    """At each line in turn of what begins the wait, listens and ends it: nobody listens then, and no hook is open.

    In a process of its own, because a tracer that raises can leave Python itself with an exception that is over.
    """
    program = [sys.executable, "-m", "tests.unit.interrupted_waits"]
    tried = subprocess.run(program, cwd=Path(__file__).parents[2], check=True, stdout=subprocess.PIPE, timeout=60)
    assert int(tried.stdout) > 100


async def test_a_coroutine_hears_what_a_thread_hears(make: Any) -> None:
    """Sync and async listeners share the one thread."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")
    async with watcher.async_listener({"a": world.jobs["a"]}) as listener:
        assert (await listener.listen(0.01)).empty
        await asyncio.to_thread(until, lambda: watcher._streaming)
        world.change(info("a", JobState.FINISHED, 2))
        news = await asyncio.wait_for(listener.listen(float("inf")), 5)
        assert news.changed["a"].state is JobState.FINISHED


def test_a_loop_that_was_closed_is_forgotten(make: Any) -> None:
    """A listener whose loop is gone is let go when there is news for it."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")

    async def listen() -> watching.AsyncListener:
        return await watcher.async_listener({"a": world.jobs["a"]}).__aenter__()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(listen())
    loop.close()
    until(lambda: watcher._streaming)
    world.change(info("a", JobState.FINISHED, 2))
    until(lambda: not watcher._listeners)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_anew(make: Any) -> None:
    """A child has no thread of its parent's, and starts its own when it waits."""
    world, watcher = make()
    world.jobs["a"] = info("a")
    with watcher.listener({"a": None}) as outer:
        hear(outer, lambda news: news.changed)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert not watcher.running
                with watcher.listener({"a": None}) as listener:
                    hear(listener, lambda news: news.changed)
                watcher.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        assert hear(outer, lambda news: news.changed)


def test_a_thread_that_cannot_be_started_is_told_and_tried_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that is short of threads for a moment leaves nobody waiting for a thread that is not there."""
    world, watcher = make()
    world.jobs["a"] = info("a", JobState.FINISHED)
    with monkeypatch.context() as patch:
        patch.setattr(
            threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start new thread"))
        )
        with pytest.raises(RuntimeError, match="new thread"), watcher.listener({"a": None}):
            pass
    assert not watcher.running
    assert not watcher._watched
    with watcher.listener({"a": None}) as listener:
        assert hear(listener, lambda news: news.changed).changed["a"].terminal


def test_a_loop_that_cannot_be_opened_is_told_and_tried_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many files open the wait ends with that error, and the next one works."""
    world, watcher = make()
    world.jobs["a"] = info("a", JobState.FINISHED)

    def no_loop() -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", no_loop)
        with watcher.listener({"a": None}) as listener:
            assert isinstance(hear(listener, lambda news: news.error).error, OSError)
        until(lambda: not watcher.running)
    with watcher.listener({"a": None}) as listener:
        assert hear(listener, lambda news: news.changed).changed["a"].terminal


def test_a_stream_with_a_gap_leads_to_a_look(make: Any) -> None:
    """``reset`` says that changes may have been left out: what was missed is found at once."""
    world, watcher = make(events=True)
    world.jobs["a"] = info("a")
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        until(lambda: watcher._streaming and not watcher._fresh)
        world.wait_for_looks(1)
        time.sleep(0.1)
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        world.push(Event("20", "reset", "{}"))
        assert hear(listener, lambda news: news.changed).changed["a"].terminal


def test_whoever_comes_anew_does_not_keep_the_others_waiting(make: Any) -> None:
    """While others come and go all the time, a job is looked at as often as without them."""
    world, watcher = make(min_poll=0.1)
    world.jobs = {"a": info("a"), "b": info("b")}
    with watcher.listener({"a": world.jobs["a"]}) as listener:
        world.wait_for_looks(1)
        world.jobs["a"] = info("a", JobState.FINISHED, 2)
        end = time.monotonic() + 1.5
        news = News()
        while time.monotonic() < end and not news.changed:
            number = len(world.jobs)
            world.jobs[f"b{number}"] = info(f"b{number}")
            with watcher.listener({f"b{number}": None}):
                world.wait_for_looks(len(world.looks) + 1)
            news = listener.listen(0)
        assert news.changed["a"].terminal


def test_a_job_is_not_looked_at_more_often_because_it_is_waited_for_again_and_again(make: Any) -> None:
    """``min_poll`` is kept for each job; the first look at a job is at once."""
    world, watcher = make(min_poll=0.3)
    world.jobs = {"a": info("a"), "b": info("b")}
    with watcher.listener({"b": world.jobs["b"]}):
        world.wait_for_looks(1)
        begun = time.monotonic()
        while time.monotonic() < begun + 0.7:
            with watcher.listener({"a": None}) as listener:
                listener.listen(0.02)
    times = [moment for moment, ids in world.looks if "a" in ids]
    assert times[0] - begun < 0.15
    assert all(later - earlier >= 0.29 for earlier, later in itertools.pairwise(times))


def test_an_id_of_which_the_answer_says_nothing_is_missing(make: Any) -> None:
    """A wait for it would have no end."""
    world, watcher = make()
    world.jobs["A"] = info("a")  # found, and told under another name
    with watcher.listener({"A": None}) as listener:
        assert hear(listener, lambda news: news.vanished).vanished == {"A": None}


def test_an_end_without_progress_is_news_where_there_are_no_versions(make: Any) -> None:
    """Progress says which of two looks is older only while the state is the same."""
    world, watcher = make()
    running = info("a", JobState.RUNNING, None, progress=Progress(done=1, at="2026-01-01T00:00:01Z"))
    world.jobs["a"] = running
    with watcher.listener({"a": running}) as listener:
        world.wait_for_looks(1)
        world.jobs["a"] = info("a", JobState.FINISHED, None)
        assert hear(listener, lambda news: news.changed).changed["a"].terminal


def test_a_service_that_says_when_to_come_back_is_left_alone_until_then(make: Any) -> None:
    """``Retry-After`` is kept by the looks, and no pause is longer than a minute."""
    world, watcher = make()
    world.jobs["a"] = info("a")
    world.busy(0.8)
    with watcher.listener({"a": None}):
        world.wait_for_looks(2)
    first, second = (moment for moment, _ in world.looks[:2])
    assert second - first >= 0.8
    assert world.away is not None
    world.away.retry_after = 7200.0
    assert watcher._backoff(world.away, 0, watching.SLOWEST) == watching.LONGEST
