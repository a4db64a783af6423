"""Python functions as jobs of a real service: values, errors, cancels, from this process and from another."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cloudpickle
import pytest

from hpcjobs import (
    AsyncClient,
    Client,
    EnvironmentMismatch,
    InputError,
    InvalidSpec,
    Job,
    JobCancelled,
    JobInfo,
    JobState,
    RemoteError,
    ResultError,
    ResultTooLarge,
    WaitTimeout,
    as_completed,
    live,
    results,
    runtime,
)
from tests.running import Service


@pytest.fixture(autouse=True, scope="module")
def by_value() -> Iterator[None]:
    """The functions of this module travel whole, as those of a script do."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Halt(Exception):
    pass


def scaled(x: float, *, by: float = 1.0, name: str = "x") -> str:
    return f"{name} is {by * x:g}"


def after(barrier: str, value: int) -> int:
    while not Path(barrier).exists():
        time.sleep(0.01)
    return value


def until_asked(how: str) -> str:
    runtime.should_abort()
    runtime.progress(1, 2, "ready")
    while not runtime.should_abort():
        time.sleep(0.01)
    if how == "raises":
        raise Halt("of its own")
    if how == "aborts":
        raise runtime.JobAborted("as asked")
    return "what there is"


async def coroutine_until_asked(how: str) -> str:
    runtime.progress(1, 2, "ready")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if how == "returns":
            return "what there is"
        if how == "raises":
            raise Halt("of its own") from None
        raise
    return "too late"


def sleep_for_ever() -> None:
    runtime.progress(1, 2, "ready")
    time.sleep(600)


def test_a_function_returns_its_value_and_takes_options_like_a_command(shared_client: Client) -> None:
    job = shared_client.submit(scaled, 2, by=3, cores=1, walltime="1m", tags=["t"])
    assert job.name == "scaled"
    assert job.result(60) == "x is 6"
    assert job.state is JobState.FINISHED
    assert job.tags == ["t"]
    assert job.result() == "x is 6"  # as often as one likes


def test_a_name_that_could_mean_two_things_is_refused_and_can_be_bound(shared_client: Client) -> None:
    with pytest.raises(InvalidSpec, match=r"bind the function's with functools.partial\(scaled, name=...\)"):
        shared_client.submit(scaled, 2, name="mine")
    with pytest.raises(InvalidSpec, match=r"wall_time: is neither a parameter of scaled nor .* did you mean walltime"):
        shared_client.submit(scaled, 2, wall_time="1m")
    with pytest.raises(InvalidSpec, match="args: goes with a task"):
        shared_client.submit(scaled, args={"x": 2})
    job = shared_client.submit(functools.partial(scaled, name="y"), 2, name="mine")
    assert (job.name, job.result(60)) == ("mine", "y is 2")


def test_a_function_knows_what_a_command_knows(shared_client: Client, tmp_path: Path) -> None:
    """Inputs, environment, outputs, log, progress."""
    (tmp_path / "points.csv").write_text("1\n2\n")

    def work() -> float:
        import os

        runtime.progress(1, 1, "done")
        print("reading")  # noqa: T201
        Path("out.txt").write_text(os.environ["MODE"])
        return sum(map(float, Path("points.csv").read_text().split()))

    job = shared_client.submit(work, inputs=[tmp_path / "points.csv"], env={"MODE": "fast"})
    assert job.result(60) == 3
    assert job.logs() == "reading\n"
    assert job.refresh().progress is not None
    job.download(tmp_path / "got", "out.txt")
    assert (tmp_path / "got" / "out.txt").read_text() == "fast"


def test_an_error_is_raised_as_itself_and_is_the_reason(shared_client: Client) -> None:
    def fail(mass: float) -> None:
        if mass < 0:
            raise Halt(f"a mass of {mass}")

    job = shared_client.submit(fail, -1)
    with pytest.raises(Halt, match="a mass of -1") as caught:
        job.result(60)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert 'raise Halt(f"a mass of {mass}")' in caught.value.__cause__.traceback
    assert caught.value.__cause__.traceback in job.logs()
    assert (job.state, job.exit_code) == (JobState.FAILED, 1)
    assert str(job.reason).endswith("Halt: a mass of -1")


@pytest.mark.parametrize("function", [until_asked, coroutine_until_asked])
@pytest.mark.parametrize("how", ["returns", "raises", "aborts"])
def test_a_function_that_was_asked_to_stop_decides_how_it_ends(
    shared_client: Client, function: Callable[[str], str], how: str
) -> None:
    """Returns: FINISHED with its value. An error of its own: FAILED with that. JobAborted, CancelledError: CANCELLED."""
    job = shared_client.submit(function, how)
    _until_ready(job)
    job.cancel(reason="enough", confirm=30)
    if how == "returns":
        assert (job.result(), job.state) == ("what there is", JobState.FINISHED)
    elif how == "raises":
        with pytest.raises(Halt, match="of its own"):
            job.result()
        assert job.state is JobState.FAILED
        assert str(job.reason).endswith("Halt: of its own")
    else:
        with pytest.raises(JobCancelled):
            job.result()
        assert job.state is JobState.CANCELLED
        assert job.reason == ("as asked" if function is until_asked else "enough")


def test_a_function_that_does_not_ask_is_ended_by_the_signal(shared_client: Client) -> None:
    job = shared_client.submit(sleep_for_ever)
    _until_ready(job)
    job.cancel(reason="enough", confirm=30)
    with pytest.raises(JobCancelled, match="enough"):
        job.result()


def _until_ready(job: Job[object]) -> None:
    for info in job.watch():
        if info.progress is not None:
            return
        assert not info.terminal, job.logs()


def test_what_does_not_fit_is_told_as_such(shared_client: Client, tmp_path: Path) -> None:
    """A job that runs another Python, or lacks a module, says so in its reason, its log and the error."""
    (tmp_path / "other_module.py").write_text("def one():\n    return 1\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from hpcjobs import Client; import other_module\n"
        "print(Client().submit(other_module.one, inputs=sys.argv[1:] or None).id)"
    )

    def submit(*inputs: str) -> Job[object]:
        env = {"HPCJOBS_URL": shared_client.service.base_url, "HPCJOBS_TOKEN": _token(shared_client)}
        done = subprocess.run(
            [sys.executable, script, *inputs],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return shared_client.job(done.stdout.strip())

    job = submit()
    with pytest.raises(EnvironmentMismatch, match="there is no module 'other_module'"):
        job.result(60)
    assert "other_module.py" in str(job.reason)
    assert submit("other_module.py").result(60) == 1  # and from another process than the one that submitted


def _token(client: Client) -> str:
    token = client.create_token("for a script").token
    assert token is not None
    return token


def test_a_result_that_is_larger_than_the_memory_is_refused_before_it_is_fetched(
    shared_client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error says how to get it; a small one is never refused."""
    monkeypatch.setattr(results, "available_memory", lambda: 5_000_000)
    job = shared_client.submit(bytes, 3_000_000)
    with pytest.raises(ResultTooLarge, match=r"job\.download") as caught:
        job.result(60)
    assert caught.value.size > 3_000_000
    (path,) = job.download(tmp_path, ".hpcjobs/result")
    from hpcjobs import functions

    assert functions.load(path) == bytes(3_000_000)
    monkeypatch.setattr(results, "available_memory", lambda: 0)
    assert shared_client.submit(bytes, 10).result(60) == bytes(10)
    monkeypatch.undo()
    assert job.result() == bytes(3_000_000)


def test_arguments_that_are_larger_than_the_service_takes_are_refused(
    service_factory: Callable[..., Service],
) -> None:
    with service_factory(max_input_bytes=100_000).client() as client, pytest.raises(InputError, match=r"100,?000"):
        client.submit(len, bytes(200_000))


def test_a_result_that_the_function_has_prevented_is_an_error_that_says_so(shared_client: Client) -> None:
    job = shared_client.submit(sys.exit, 0)
    with pytest.raises(ResultError, match="is not there"):
        job.result(60)
    assert job.state is JobState.FINISHED


def test_the_same_key_submits_the_same_call_once(shared_client: Client) -> None:
    first, second = (shared_client.submit(scaled, 2, key="scaled-2") for _ in range(2))
    assert first == second


def test_jobs_are_handed_out_as_they_end(shared_client: Client, tmp_path: Path) -> None:
    """Those that have ended before come first, each comes once, the handle is the one that was given."""
    barriers = [tmp_path / str(number) for number in range(2)]
    jobs = [shared_client.submit(after, str(barrier), number) for number, barrier in enumerate(barriers)]
    barriers[1].touch()
    jobs[1].wait(60)
    order = as_completed([*jobs, jobs[0], shared_client.job(jobs[1].id)], timeout=60)
    assert next(order) is jobs[1]
    barriers[0].touch()
    assert next(order) is jobs[0]
    assert jobs[0].state is JobState.FINISHED  # it was taught
    assert list(order) == []
    assert list(as_completed([])) == []


def test_jobs_that_do_not_end_in_time_end_the_iteration(shared_client: Client, tmp_path: Path) -> None:
    job = shared_client.submit(after, str(tmp_path / "never"), 1)
    with pytest.raises(WaitTimeout):
        next(as_completed([job], timeout=0.1))
    assert not job.done
    job.cancel(confirm=30)
    with pytest.raises(InvalidSpec, match="give handles"):
        as_completed([job.id])  # type: ignore[list-item]


def test_functions_and_completion_in_async_code(shared_service: Service, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
            barriers = [tmp_path / str(number) for number in range(3)]
            jobs = [await client.submit(after, str(barrier), number) for number, barrier in enumerate(barriers)]
            barriers[1].touch()
            found = []
            async for job in as_completed(jobs, timeout=60):
                found.append(await job.result())
                for barrier in barriers:
                    barrier.touch()
            assert found[0] == 1
            assert sorted(found) == [0, 1, 2]
            with pytest.raises(Halt):
                await (await client.submit(_halt)).result(60)

    asyncio.run(main())


def _halt() -> None:
    raise Halt


def item_of(n: int, offset: int = 0) -> int:
    import os

    assert os.environ["HPCJOBS_ARRAY_INDEX"].isdigit()
    if n < 0:
        raise Halt(f"n is {n}")
    return offset + n * n


def test_a_function_is_mapped_over_items_as_one_array(shared_client: Client) -> None:
    """One call, one array; results in the order of the items, from this and any other process."""
    array = shared_client.map(item_of, range(5), walltime="1m", name="squares")
    assert len(array) == 5
    assert list(array.results(60)) == [0, 1, 4, 9, 16]
    assert array.counts == {JobState.FINISHED: 5}
    assert [job.name for job in array][:2] == ["squares[0]", "squares[1]"]
    again = shared_client.array(array.id)
    assert list(again.results()) == [0, 1, 4, 9, 16]
    assert array[3].result() == shared_client.job(array[3].id).result() == 9
    assert list(shared_client.map(item_of, [1, 2], [10, 20]).results(60)) == [11, 24]
    assert list(shared_client.map(functools.partial(item_of, offset=1), iter([1])).results(60)) == [2]


def test_an_error_is_raised_in_its_place_and_the_rest_can_be_had(shared_client: Client) -> None:
    results = shared_client.map(item_of, [1, -2, 3]).results(60)
    assert next(results) == 1
    with pytest.raises(Halt, match="n is -2"):
        next(results)
    assert list(results) == [9]


class Recorder:
    """A display that remembers what it was shown."""

    tick = 0.5

    def __init__(self) -> None:
        self.shown: list[Sequence[JobInfo]] = []
        self.closed = False

    def show(self, jobs: Sequence[JobInfo]) -> None:
        self.shown.append(jobs)

    def notice(self, text: str) -> None: ...

    def close(self, jobs: Sequence[JobInfo]) -> None:
        self.shown.append(jobs)
        self.closed = True


def test_a_notebook_has_one_display_for_all_results_and_none_is_left_open(
    shared_client: Client, shared_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not a line per job; and where a result is an error, what is shown is how the jobs are at that time."""
    displays: list[Recorder] = []

    def factory(*_: object) -> Recorder:
        displays.append(Recorder())
        return displays[-1]

    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(live, "displays", [factory])
    assert list(shared_client.map(item_of, range(4)).results(60)) == [0, 1, 4, 9]
    [one] = displays
    assert one.closed
    assert all(len(jobs) == 4 for jobs in one.shown)
    displays.clear()

    barrier = tmp_path / "barrier"
    results = shared_client.map(after, [5, str(barrier)], [0, 1]).results(60)  # 5 is no path
    with pytest.raises(TypeError):
        next(results)
    assert displays[-1].closed
    assert displays[-1].shown[-1][0].terminal
    barrier.touch()
    assert next(results) == 1

    async def main() -> None:
        barrier.unlink()
        async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
            results = (await client.map(after, [5, str(barrier)], [0, 1])).results(60)
            with pytest.raises(TypeError):
                await anext(results)
            assert displays[-1].closed
            barrier.touch()
            assert await anext(results) == 1

    asyncio.run(main())


def test_results_that_do_not_come_in_time_end_in_an_error(shared_client: Client, tmp_path: Path) -> None:
    """At their place; those that came can be had before and after it."""
    barriers = [tmp_path / str(number) for number in range(2)]
    barriers[1].touch()
    array = shared_client.map(after, map(str, barriers), [0, 1])
    array[1].wait(60)
    results = array.results(0.2)
    with pytest.raises(WaitTimeout):
        next(results)
    assert next(results) == 1
    assert next(results, None) is None
    barriers[0].touch()
    assert list(array.results(60)) == [0, 1]


def test_a_map_that_cannot_be_is_refused_before_anything_is_sent(shared_client: Client) -> None:
    with pytest.raises(InvalidSpec, match="items: there are none"):
        shared_client.map(item_of, [])
    with pytest.raises(InvalidSpec, match="items: give what"):
        shared_client.map(item_of)
    with pytest.raises(InvalidSpec, match="item 0: scaled: cannot be called"):
        shared_client.map(scaled, [1], [2])
    with pytest.raises(InvalidSpec, match="walltme"):
        shared_client.map(item_of, [1], walltme=3)  # type: ignore[call-overload]
    for submit in (
        lambda: shared_client.submit_array(item_of, array=2),  # type: ignore[arg-type]
        lambda: shared_client.submit_many([item_of]),  # type: ignore[list-item]
    ):
        with pytest.raises(InvalidSpec, match=r"is a function; those are submitted by submit\(\)"):
            submit()
    assert list(shared_client.jobs()) == []


def test_a_map_in_async_code(shared_service: Service) -> None:
    async def main() -> None:
        async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
            array = await client.map(item_of, [1, -1, 2])
            results = array.results(60)
            assert await anext(results) == 1
            with pytest.raises(Halt):
                await anext(results)
            assert [result async for result in results] == [4]

    asyncio.run(main())


def test_a_job_whose_function_was_replaced_by_a_command_has_the_commands_result(
    service_factory: Callable[..., Service],
) -> None:
    with service_factory(workers=0).client() as client:
        job = client.submit(scaled, 1)
        job.update(command="true")
        assert job.refresh().info.spec is not None
        assert job.info.spec["function"] is None  # type: ignore[index]
