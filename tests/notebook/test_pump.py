"""While a cell waits for a job, the messages of widgets are handled at once; with every supported kernel."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernels import INSTALLED, VERSIONS, Kernel, install_versions, running_kernel
from tests.running import Service

SETUP = """
import asyncio, contextlib, importlib.metadata, logging, os, threading, time
import ipywidgets
from hpcjobs import AsyncClient, Client, interrupts, watching
from hpcjobs.notebook import pump

client, aclient = Client(), AsyncClient()
order = []
told = []

@contextlib.contextmanager
def tell():
    print("waiting", flush=True)
    yield None

watching.pump_hooks.append(tell)

def button(callback):
    made = ipywidgets.Button()
    made.on_click(lambda _: callback())
    print(made.comm.comm_id)
    return made

def stream():
    kernel = get_ipython().kernel
    if getattr(kernel, "_supports_kernel_subshells", False):
        return kernel.shell_channel_thread.manager.get_shell_channel_to_subshell_pair(None).to_stream
    return kernel.shell_stream

def take(job):
    told.append(job)
    return job

def cancel():
    order.append("click")
    print("clicked")
    client.cancel(told[-1].id, reason="clicked")

callback = stream()._recv_callback
print(importlib.metadata.version("ipykernel"))
"""

WAIT = (
    "info = take(client.submit('sleep 600')).wait(progress=False); order.append('wait'); print(info.state, info.reason)"
)
AWAIT = (
    "info = await take(await aclient.submit('sleep 600')).wait(progress=False); order.append('wait');"
    " print(info.state, info.reason)"
)
BOTH = pytest.mark.parametrize("cell", [WAIT, AWAIT], ids=["wait", "await"])

AS_BEFORE = "assert pump._pump is None and pump._usable and stream()._recv_callback is callback"


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """Where each version of ipykernel is."""
    return install_versions(tmp_path_factory.mktemp("ipykernel"))


@pytest.fixture(scope="session", params=VERSIONS)
def one_kernel(
    request: pytest.FixtureRequest,
    versions: dict[str, Path | None],
    shared_service: Service,
    tmp_path_factory: pytest.TempPathFactory,
    long_lived: set[str],
) -> Iterator[Kernel]:
    """A running kernel of each version."""
    folder = tmp_path_factory.mktemp("kernel")
    long_lived.add(str(folder))
    version: str = request.param
    with running_kernel(folder, versions[version], shared_service.environ()) as kernel:
        used = kernel.run(SETUP).strip()
        assert version == INSTALLED or used.startswith(version.rstrip("*"))
        yield kernel


@pytest.fixture
def kernel(one_kernel: Kernel) -> Iterator[Kernel]:
    """The kernel without a past; after the test it hears its messages as before."""
    one_kernel.said.clear()
    one_kernel.run("order.clear(); told.clear()")
    yield one_kernel
    one_kernel.run(AS_BEFORE)


@BOTH
def test_a_click_is_heard_while_a_cell_waits_and_the_cells_keep_their_order(kernel: Kernel, cell: str) -> None:
    """The callback ends the job that the cell waits for; what each printed belongs to it; the page sees a busy kernel."""
    stop = kernel.run("stop = button(cancel)").strip()
    first = kernel.begin(
        cell + "\nthread = threading.Thread(target=print, args=['thread']); thread.start(); thread.join()"
    )
    second, third = kernel.begin("order.append('second')"), kernel.begin("order.append('third'); print(order)")
    kernel.wait_printed("waiting")
    click = kernel.click(stop)
    for one in (first, second, third):
        kernel.end_of(one)
    assert kernel.printed(third) == "['click', 'wait', 'second', 'third']\n"
    assert kernel.printed(click) == "clicked\n"
    assert kernel.printed(first).split("\n") == ["waiting", "CANCELLED clicked", "thread", ""]
    states = [
        message.content["execution_state"]
        for message in kernel.said
        if message.parent == click and message.kind == "status"
    ]
    assert states == ["busy", "idle"]


@BOTH
def test_a_new_page_is_answered_while_a_cell_waits(kernel: Kernel, cell: str) -> None:
    """It asks for the kernel and for the widgets that there are, and is answered before the cell has ended."""
    stop = kernel.run("stop = button(cancel)").strip()
    first = kernel.begin(cell)
    kernel.wait_printed("waiting")
    asked = kernel.send("kernel_info_request", {}), kernel.send("comm_info_request", {"target_name": "jupyter.widget"})
    info, comms = (
        kernel.wait(lambda message, one=one: message.parent == one and "reply" in message.kind) for one in asked
    )
    assert info.content["implementation"] == "ipython"
    assert stop in comms.content["comms"]
    kernel.click(stop)
    kernel.end_of(first)
    assert kernel.said.index(comms) < kernel.place(
        lambda message: message.kind == "execute_reply" and message.parent == first
    )


def test_a_page_sees_that_a_kernel_whose_cell_waits_is_busy(kernel: Kernel) -> None:
    """Also after it has handled a message and has said so."""
    stop = kernel.run("stop = button(cancel)").strip()
    first = kernel.begin(WAIT)
    kernel.wait_printed("waiting")
    asked = kernel.send("kernel_info_request", {})
    ready = kernel.place(lambda message: message.parent == asked and message.content.get("execution_state") == "idle")
    kernel.click(stop)
    kernel.end_of(first)
    after = next(message for message in kernel.said[ready + 1 :] if message.kind == "status")
    assert (after.parent, after.content["execution_state"]) == (first, "busy")


UNHEARD = """
import select, zmq

def lose():
    socket = kernel.shell_stream.socket
    while not socket.EVENTS & zmq.POLLIN:  # to look takes the waking, too
        assert select.select([socket.FD], [], [], 20)[0]
    print("lost", flush=True)
    del kernel.shell_stream.flush

kernel = get_ipython().kernel
if thread := getattr(kernel, "shell_channel_thread", None):
    thread.io_loop.add_callback(lose)
    kernel.shell_stream.flush = lambda *_: None  # a look that was asked for before it was lost does not count
"""


@BOTH
def test_a_message_is_heard_whose_waking_was_lost(kernel: Kernel, cell: str) -> None:
    """A socket wakes its reader once, and before ipykernel 7.4 a reply that is sent at that moment takes the waking.

    Without the pump this message, and all that come after it, would wait for ever.
    """
    stop = kernel.run("stop = button(cancel)").strip()
    first = kernel.begin(UNHEARD + cell)
    kernel.wait_printed("waiting")
    kernel.click(stop)
    kernel.end_of(first)
    assert kernel.printed(first).endswith("CANCELLED clicked\n")


RUNNING = """
job = take(client.submit("sleep 600"))
while str(job.refresh().state) != "RUNNING":
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    "cell",
    ["job.wait(progress=False)", "await (await aclient.job(job.id)).wait(progress=False)"],
    ids=["wait", "await"],
)
def test_an_interrupt_ends_the_wait_and_leaves_the_kernel_as_it_was(kernel: Kernel, cell: str) -> None:
    """Also where nothing else happens; the cells after it are not run, the job goes on, and its button works."""
    stop = kernel.run("stop = button(cancel)").strip()
    kernel.run(RUNNING)
    first, second = kernel.begin(cell), kernel.begin("order.append('second')")
    kernel.wait_printed("waiting")
    kernel.interrupt()
    reply = kernel.end_of(first, "error")
    assert reply.content["ename"] in {"KeyboardInterrupt", "CancelledError"}
    kernel.end_of(second, "aborted")
    kernel.recover()
    kernel.run(AS_BEFORE)
    kernel.click(stop)
    assert kernel.run("print(client.job(told[0].id).wait(progress=False).state)").endswith("CANCELLED\n")
    assert kernel.run("print(order)") == "['click']\n"


def test_no_cell_is_lost_that_comes_at_the_moment_of_an_interrupt(kernel: Kernel) -> None:
    """It is answered, whether it was taken from the socket before the interrupt, during it or after it."""
    stop = kernel.run("stop = button(cancel)").strip()
    kernel.run(RUNNING)
    chance = random.Random(7)
    for _ in range(60):
        kernel.said.clear()
        first = kernel.begin("job.wait(progress=False)")
        kernel.wait_printed("waiting")
        second = kernel.begin("pass")
        time.sleep(chance.uniform(0, 0.002))  # where in the taking the interrupt falls is what is tried
        kernel.interrupt()
        kernel.end_of(first, "error")
        kernel.end_of(second, "aborted")
        kernel.recover()
    kernel.click(stop)
    assert kernel.run("print(job.wait(progress=False).state)").endswith("CANCELLED\n")


INTERRUPTED = f"""
import signal, sys

first = pump.Pumping.__exit__.__code__.co_firstlineno

def interrupted(number):
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        file, line = frame.f_code.co_filename, frame.f_lineno
        # before the first statement of __exit__ nothing of it can be done yet
        leaves = file == pump.__file__ and frame.f_code.co_name == "__exit__" and line <= first + 2
        if file in files and event in ("line", "call") and not leaves:
            seen += 1
            if seen == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    came = False
    sys.settrace(trace)
    try:
        with pump.Pumping() as step:
            step(0)
    except KeyboardInterrupt:
        came = True
    finally:
        sys.settrace(None)
    {AS_BEFORE}, number
    return came

files = {{pump.__file__, interrupts.__file__, contextlib.__file__}}
number = 1
while interrupted(number):
    number += 1
print(number)
"""
"""Interrupts a wait at each of its lines in turn."""


def test_an_interrupt_at_any_moment_leaves_the_kernel_as_it_was(kernel: Kernel) -> None:
    assert int(kernel.run(INTERRUPTED)) > 30


@BOTH
def test_a_callback_that_raises_does_not_end_the_wait(kernel: Kernel, cell: str) -> None:
    """Neither does a message for a widget that is gone: the next click is heard."""
    stop = kernel.run("stop = button(cancel)").strip()
    broken = kernel.run("broken = button(lambda: 1 / 0)").strip()
    first = kernel.begin(cell)
    kernel.wait_printed("waiting")
    clicks = kernel.click(broken), kernel.click("gone"), kernel.click(stop)
    kernel.end_of(first)
    assert kernel.printed(first).endswith("CANCELLED clicked\n")
    for click in clicks:
        kernel.wait(
            lambda message, click=click: message.parent == click and message.content.get("execution_state") == "idle"
        )


NESTED = """
def nest():
    inner = take(client.submit("sleep 600")).wait(progress=False)
    order.append(inner.reason)
    told.pop()
    cancel()
nested = button(nest)
"""


@BOTH
def test_a_callback_may_wait_itself(kernel: Kernel, cell: str) -> None:
    """While it does, the next click is heard, and ends the inner wait; then the callback ends the outer one."""
    stop = kernel.run("stop = button(cancel)").strip()
    nested = kernel.run(NESTED).strip()
    first = kernel.begin(cell)
    kernel.wait_printed("waiting")
    kernel.click(nested)
    kernel.wait_printed("waiting", times=2)
    kernel.click(stop)
    kernel.end_of(first)
    assert kernel.run("print(order)") == "['click', 'clicked', 'click', 'wait']\n"


TOGETHER = """
async def each(job):
    print((await job.wait(progress=False)).state, "ended")
await asyncio.gather(*[each(take(await aclient.submit("sleep 600"))) for _ in range(2)])
"""


def test_several_waits_at_a_time_are_alive_to_the_last(kernel: Kernel) -> None:
    """Two jobs are awaited together: one click ends the first wait, another one the second."""
    stop = kernel.run("stop = button(lambda: client.cancel(told.pop().id))").strip()
    first = kernel.begin(TOGETHER)
    kernel.wait_printed("waiting", times=2)
    for number in (1, 2):
        kernel.click(stop)
        kernel.wait_printed("ended", times=number)
    kernel.end_of(first)


ELSEWHERE = """
def plain():
    with pump.Pumping() as step:
        return step is None and stream()._recv_callback is callback
thread = threading.Thread(target=lambda: told.append(plain()))
thread.start()
thread.join()
assert told == [True]
child = os.fork()
if not child:
    os._exit(0 if plain() else 1)
assert os.waitpid(child, 0)[1] == 0
assert not plain()
"""


def test_elsewhere_than_in_the_main_thread_of_the_kernel_nothing_is_done(kernel: Kernel) -> None:
    """Another thread and a child process wait plainly, and the messages stay where they are."""
    kernel.run(ELSEWHERE)


LOGGED = """
class Kept(logging.Handler):
    def emit(self, record):
        if record.exc_info:
            order.append((record.levelname, record.exc_info[0].__name__))
kept = Kept()
logging.getLogger("hpcjobs").addHandler(kept)
logging.getLogger("hpcjobs").setLevel(logging.DEBUG)
logging.getLogger("hpcjobs").propagate = False
"""

TWO_WAITS = "for _ in range(2): print(client.submit('sleep 0.3').wait(progress=False).state)"

MISSING = """
class Other:
    def __getattr__(self, name):
        if name == "_parent_ident":
            raise AttributeError(name)
        return getattr(kernel, name)
kernel = get_ipython().kernel
get_ipython().kernel = Other()
"""
NOT_MISSING = "get_ipython().kernel = kernel"

FAILING = """
class Closed:
    socket = property(lambda self: 1 / 0)
    def __getattr__(self, name):
        return getattr(stream(), name)
init = pump.Pump.__init__
def closed(self, kernel):
    init(self, kernel)
    self._stream = Closed()
pump.Pump.__init__ = closed
"""
NOT_FAILING = "pump.Pump.__init__ = init"


@pytest.mark.parametrize(
    ("breaking", "mending", "error"),
    [(MISSING, NOT_MISSING, "AttributeError"), (FAILING, NOT_FAILING, "ZeroDivisionError")],
    ids=["a part is missing", "a step fails"],
)
def test_with_a_kernel_that_is_not_as_expected_a_wait_is_a_plain_one(
    kernel: Kernel, breaking: str, mending: str, error: str
) -> None:
    """It is logged once, for those who look for it, and the kernel goes on as before."""
    kernel.run(LOGGED)
    kernel.run(breaking)
    printed = kernel.run(TWO_WAITS)
    kernel.run(f"{mending}\nlogging.getLogger('hpcjobs').removeHandler(kept)")
    kernel.run("assert not pump._usable; pump._usable = True")
    assert printed == "waiting\nFINISHED\n" * 2
    assert kernel.run("print(order)") == f"[('DEBUG', '{error}')]\n"
