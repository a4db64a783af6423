"""Keeps the buttons of a notebook alive while a cell waits.

A Jupyter kernel handles one message after the other, so that a click waits for the end of the cell that runs; what
exceptions there are differ between its versions and between front-ends. While somebody waits in the kernel's main
thread, the messages of widgets, and the question of a new page whether the kernel is there, are handled at once.
Everything else reaches the kernel in its order: no cell overtakes another.

It stands on parts of ipykernel (6.29 and later, 7.1 and later) that are not promised to stay. Where one is missing, or
fails, a wait is a plain one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hpcjobs import interrupts

logger = logging.getLogger("hpcjobs")

AT_ONCE = frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"})
"""The messages that do not wait for the end of the cell."""

HEARD = 0.25
"""Seconds after which an interrupt is heard by a cell that awaits, and a message whose waking was lost, at most."""

_Request = tuple[Callable[..., Any], Any, Any]
"""A message that is handled at once: who handles it, whom it is from, and the message."""

_pump: Pump | None = None
"""The one that is in place; it is touched in the main thread alone."""

_usable = True
_process = os.getpid()


class Pumping:
    """A hook for waits (:data:`hpcjobs.watching.pump_hooks`): a context as long as the wait.

    Entering it gives what a blocking wait calls over and over in place of sleeping, with the seconds that it may take;
    an awaiting one has nothing to call, because the kernel's loop goes on. It is None where there is nothing to be kept
    alive: outside ipykernel, off the main thread, in a child process, or where the kernel is not as expected.

    An interrupt that comes where the context is entered or left leaves nothing in place.
    """

    def __init__(self) -> None:
        self._pump: Pump | None = None

    def __enter__(self) -> Callable[[float], None] | None:
        """Put the pump in place, unless it is."""
        try:
            with interrupts.put_off():
                self._pump = _enter()
            return None if self._pump is None else self._pump.step  # noqa: TRY300 - an interrupt may come here too
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *_: object) -> None:
        """Take it away, unless others use it."""
        try:
            with interrupts.put_off():
                self._leave()
        finally:
            self._leave()  # an interrupt came before it was put off

    def _leave(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            _leave(pump)


def _enter() -> Pump | None:
    global _pump  # noqa: PLW0603 - a kernel has one main thread, and that has one stream of messages
    if not _usable or os.getpid() != _process or threading.current_thread() is not threading.main_thread():
        return None
    if _pump is None:
        ipython = sys.modules.get("IPython")
        kernel = getattr(ipython.get_ipython() if ipython is not None else None, "kernel", None)
        if kernel is None:
            return None
        try:
            _pump = Pump(kernel)
        except Exception as error:  # noqa: BLE001 - whatever the kernel lacks, a wait without a pump is still a wait
            _give_up(error)
            return None
    _pump.users += 1
    return _pump


def _leave(pump: Pump) -> None:
    global _pump  # noqa: PLW0603 - see above
    pump.users -= 1
    if pump.users == 0:
        _pump = None
    try:
        pump.rest(for_good=pump.users == 0)
    except Exception as error:  # noqa: BLE001 - the kernel is going down
        _give_up(error)


def _give_up(why: Exception) -> None:
    """Leave all waits plain from now on."""
    global _usable  # noqa: PLW0603 - see above
    if _usable:
        logger.debug("widgets do not work while a cell waits: this kernel is not as expected", exc_info=why)
    _usable = False


class Pump:
    """Stands before what a kernel's main thread does with its messages, until the last user has left.

    Args:
        kernel: The kernel that this process is.

    Attributes:
        users: How many waits use it.

    Raises:
        Exception: The kernel is not as expected; nothing was changed.
    """

    def __init__(self, kernel: Any) -> None:
        import zmq

        self._in, self._out = zmq.POLLIN, zmq.POLLOUT
        self.users = 0
        self._kernel = kernel
        if getattr(kernel, "_supports_kernel_subshells", False):
            # The socket belongs to a thread of its own, which talks to this one by a pair of inner sockets.
            manager = kernel.shell_channel_thread.manager
            self._stream = manager.get_shell_channel_to_subshell_pair(None).to_stream
            self._replies = manager.get_subshell_to_shell_channel_socket(None)
            self._elsewhere = kernel.shell_channel_thread.io_loop
        else:
            self._elsewhere = None
            self._stream = self._replies = kernel.shell_stream
        self._original = self._stream._recv_callback  # noqa: SLF001 - pyzmq has no other way to ask
        if not callable(self._original) or self._stream._recv_copy:  # noqa: SLF001
            raise TypeError("the kernel does not listen, or not in frames")
        for name in ("session", "set_parent", "shell_handlers", "_publish_status"):
            getattr(kernel, name)
        self._parent()
        self._depth = 0
        self._looked = -math.inf
        self._going: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stream.on_recv(self._receive, copy=False)
        with contextlib.suppress(RuntimeError):  # no loop: nobody awaits
            self._turn(asyncio.get_running_loop())

    def rest(self, *, for_good: bool) -> None:
        """End a wait: give the messages back to the kernel once it was the last one.

        In either case the stream looks for what came meanwhile: it had been woken for it, but a step took the waking.
        """
        if for_good and self._timer is not None:
            self._timer.cancel()
        now = self._stream._recv_callback  # noqa: SLF001
        if now == self._receive and for_good:
            now = self._original
        self._stream.on_recv(now, copy=False)

    def step(self, seconds: float) -> None:
        """Handle the messages that come within ``seconds``; return after the first ones."""
        if not _usable:
            time.sleep(seconds)
            return
        end = time.monotonic() + seconds
        self._depth += 1
        try:
            self._look()
            # The stream's own flush is not used: one that is called in a callback of another can spin for ever.
            socket = self._stream.socket
            wait = math.ceil(seconds * 1000)
            while socket.poll(wait):
                request = self._take(socket)
                if request is not None:
                    self._answer(*request)
                if time.monotonic() >= end:
                    break
                wait = 0
        except Exception as error:  # noqa: BLE001 - the kernel is going down, or another than it seemed
            _give_up(error)
        finally:
            self._depth -= 1

    def _take(self, socket: Any) -> _Request | None:
        """Take the message that has come: one to be handled at once, or None after it was passed on to the kernel.

        An interrupt comes before or after, never between: a cell that is taken and not passed on would be lost.
        """
        with interrupts.put_off():
            frames = socket.recv_multipart(copy=False)
            request = self._read(frames)
            if request is None:
                passed = self._original(frames)
                if passed is not None:
                    future = asyncio.ensure_future(passed)
                    self._going.add(future)
                    future.add_done_callback(self._going.discard)
        return request

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep the loop turning: an interrupt does not wake it, and is heard at its next turn."""
        self._timer = loop.call_later(HEARD, self._turn, loop)
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the kernel is going down
            _give_up(error)

    def _look(self) -> None:
        """Now and then have the socket looked at by the thread that it belongs to.

        A socket wakes that thread once for what has come. Before 7.4, ipykernel sends replies without regard to that,
        and one that is sent at the moment in which a message comes takes the waking away (ipython/ipykernel#1529):
        neither that message nor any later one would be read.
        """
        now = time.monotonic()
        if self._elsewhere is not None and now >= self._looked + HEARD:
            self._looked = now
            self._elsewhere.add_callback(self._kernel.shell_stream.flush, self._in)

    def _receive(self, frames: list[Any]) -> Awaitable[Any] | None:
        """Take one message, as the stream hands it over."""
        request = self._read(frames)
        if request is None:
            passed: Awaitable[Any] | None = self._original(frames)
            return passed
        self._answer(*request)
        return None

    def _answer(self, *request: Any) -> None:
        """Handle one message now, whoever runs."""
        try:
            # In a context of its own, so that the cell's stays as it is.
            contextvars.copy_context().run(self._handle, *request)
            if self._depth:
                # A page takes a kernel that has handled a message for an idle one, but the cell still runs.
                self._kernel._publish_status("busy", "shell")  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - of this module or the kernel; callbacks' do not come so far
            _give_up(error)

    def _read(self, frames: list[Any]) -> _Request | None:
        """Look at a message; None where it has to wait like any other."""
        session = self._kernel.session
        try:
            idents, parts = session.feed_identities(frames, copy=False)
            # Without the content this is only a look, and the session accepts the message once more.
            kind = session.deserialize(parts, content=False, copy=False)["header"]["msg_type"]
            if kind not in AT_ONCE:
                return None
            return self._kernel.shell_handlers[kind], idents, session.deserialize(parts, content=True, copy=False)
        except Exception:  # noqa: BLE001 - what cannot be read is the kernel's business
            return None

    def _handle(self, handler: Callable[..., Any], idents: Any, message: Any) -> None:
        """Do with one message what the kernel would do with it."""
        kernel = self._kernel
        _flush()
        before = self._parent()
        kernel.set_parent(idents, message)
        try:
            kernel._publish_status("busy", "shell", parent=message)  # noqa: SLF001
            result = handler(self._replies, idents, message)
            if inspect.iscoroutine(result):
                with contextlib.suppress(StopIteration):
                    result.send(None)  # it awaits nothing: one step is all of it
                result.close()
        except Exception:  # as the kernel does: a message that fails fails alone
            kernel.log.exception("a message was not handled while a cell waits")
        finally:
            _flush()
            kernel._publish_status("idle", "shell", parent=message)  # noqa: SLF001
            kernel.set_parent(*before)
            if self._replies is self._stream:
                self._stream.flush(self._out)  # else it sends in the loop, which stands still

    def _parent(self) -> tuple[Any, Any]:
        """From whom the last message is, and the message: what the output of a thread belongs to."""
        kernel = self._kernel
        return contextvars.Context().run(lambda: (kernel._parent_ident["shell"], kernel.get_parent("shell")))  # noqa: SLF001


def _flush() -> None:
    """Send what was printed, while it is known to what it belongs."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
