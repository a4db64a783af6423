"""What must be done whole is, and the interrupt that came meanwhile is heard after it, once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from hpcjobs import interrupts


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Ctrl-C raises, and does so afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    left = signal.signal(signal.SIGINT, before)
    assert left is signal.default_int_handler


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_blocks_in_each_other_are_interrupted_after_the_outer_one() -> None:
    done = []

    def outer() -> None:
        with interrupts.put_off():
            with interrupts.put_off():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["inner", "outer"]


def test_a_block_that_fails_is_interrupted_and_says_what_failed() -> None:
    def fail() -> None:
        with interrupts.put_off():
            interrupt()
            raise ValueError("failed")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_a_program_that_has_its_own_way_with_interrupts_keeps_it(
    handler: signal.Handlers | Callable[..., None],
) -> None:
    signal.signal(signal.SIGINT, handler)
    with interrupts.put_off():
        interrupt()
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler


async def test_a_loop_that_listens_for_interrupts_hears_each_once() -> None:
    heard = []
    once = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        heard.append(1)
        once.set()

    loop.add_signal_handler(signal.SIGINT, hear)
    try:
        with interrupts.put_off():
            interrupt()
        await asyncio.wait_for(once.wait(), 5)
        await asyncio.sleep(0)  # a second one would be in the same turn, or in this one
        assert heard == [1]
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_in_another_thread_nothing_is_done() -> None:
    """It could not be: Python lets the main thread alone set what a signal does."""
    seen = []

    def look() -> None:
        with interrupts.put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
