"""The two drivers: the only module that sends anything.

A driver runs an operation: it sends what the operation yields and hands the answer back. ``Driver`` does it with
``httpx.Client`` and may be used from many threads at once, ``AsyncDriver`` with ``httpx.AsyncClient`` and may be used
from several event loops. Everything else is written once, in operations.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import httpx

from hpcjobs.errors import ClientClosed, HpcjobsError, UnexpectedAnswer
from hpcjobs.protocol import Effect, Emit, Op, Request, Response, Run, Sleep, T
from hpcjobs.retrying import DEFAULT, RetryPolicy, retried
from hpcjobs.wire import ERRORS, Wire

if TYPE_CHECKING:
    import asyncio

    from httpx_sse import ServerSentEvent

    from hpcjobs.services.base import Service


class Driver:
    """Runs operations over HTTP, one thread each; many threads may share it.

    Args:
        service: Where the requests go; it also signs them.
        timeout: Seconds to wait for each read or write.
        retry: How often and how long requests are tried.
        transport: Sends in place of the network, for tests.
    """

    def __init__(
        self,
        service: Service,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy = DEFAULT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._wire = Wire(service, timeout)
        self._retry = retry
        self._client = httpx.Client(
            transport=transport or self._wire.by_socket(httpx.HTTPTransport), **self._wire.client_settings()
        )

    @property
    def service(self) -> Service:
        """Where the requests go."""
        return self._wire.service

    def run(self, op: Op[T]) -> T:
        """Run ``op`` to its end and return its result.

        Raises:
            TransportError: No answer came, however often it was tried.
            HpcjobsError: Whatever the operation raises.
        """
        op = retried(op, self._retry)
        try:
            effect = next(op)
            while True:
                try:
                    answer = self._do(effect)
                except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt too: the operation decides
                    effect = op.throw(error)
                else:
                    effect = op.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            op.close()

    def iterate(self, op: Op[Any]) -> Iterator[Any]:
        """Run ``op`` and hand out its items as they come.

        Raises:
            TransportError: No answer came, however often it was tried.
            HpcjobsError: Whatever the operation raises.
        """
        op = retried(op, self._retry)
        try:
            effect = next(op)
            while True:
                try:
                    if isinstance(effect, Emit):
                        yield effect.item
                        answer = None
                    else:
                        answer = self._do(effect)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt too: the operation decides
                    effect = op.throw(error)
                else:
                    effect = op.send(answer)
        except StopIteration:
            return
        finally:
            op.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _do(self, effect: Effect) -> Any:
        if type(effect) is Request:
            return self._send(effect)
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return None
        if isinstance(effect, Run):
            return effect.function()
        raise _no_effect(effect)

    def _send(self, request: Request) -> Response:
        try:
            response = self._client.send(self._wire.build(self._client, request))
        except ERRORS as error:
            raise self._wire.translate(error, request) from error
        except RuntimeError:
            if self._client.is_closed:
                raise ClientClosed from None
            raise
        return Response(response.status_code, response.headers, response.content)


class AsyncDriver:
    """Runs operations over HTTP in the running event loop; each loop gets connections of its own.

    Args:
        service: Where the requests go; it also signs them.
        timeout: Seconds to wait for each read or write.
        retry: How often and how long requests are tried.
        transport: Sends in place of the network, for tests.
    """

    def __init__(
        self,
        service: Service,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy = DEFAULT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = Wire(service, timeout)
        self._retry = retry
        self._transport = transport
        # A connection belongs to the loop that opened it, and a notebook's widgets may run in a loop of their own.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def service(self) -> Service:
        """Where the requests go."""
        return self._wire.service

    async def run(self, op: Op[T]) -> T:
        """Run ``op`` to its end and return its result.

        Raises:
            TransportError: No answer came, however often it was tried.
            HpcjobsError: Whatever the operation raises.
        """
        op = retried(op, self._retry)
        try:
            effect = next(op)
            while True:
                try:
                    answer = await self._do(effect)
                except BaseException as error:  # noqa: BLE001 - CancelledError too: the operation decides
                    effect = op.throw(error)
                else:
                    effect = op.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            op.close()

    async def iterate(self, op: Op[Any]) -> AsyncIterator[Any]:
        """Run ``op`` and hand out its items as they come.

        Raises:
            TransportError: No answer came, however often it was tried.
            HpcjobsError: Whatever the operation raises.
        """
        op = retried(op, self._retry)
        try:
            effect = next(op)
            while True:
                try:
                    if isinstance(effect, Emit):
                        yield effect.item
                        answer = None
                    else:
                        answer = await self._do(effect)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001 - CancelledError too: the operation decides
                    effect = op.throw(error)
                else:
                    effect = op.send(answer)
        except StopIteration:
            return
        finally:
            op.close()

    async def events(self, request: Request) -> AsyncIterator[ServerSentEvent]:
        """Open one stream of server-sent events and hand them out until the service ends it; nothing is tried again.

        Raises:
            TransportError: The stream could not be opened, or it broke.
            ServiceError: The service refused it.
            ClientClosed: The driver was closed.
        """
        from httpx_sse import EventSource, SSEError

        wire = self._wire
        try:
            client = self._client()
            built = wire.build(client, request)
            built.headers["Accept"] = "text/event-stream"
            response = await client.send(built, stream=True)
            try:
                if response.status_code != 200:
                    raise self.service.error_of(
                        request, Response(response.status_code, response.headers, await response.aread())
                    )
                async for event in EventSource(response).aiter_sse():
                    if event.data:
                        yield event
            finally:
                await response.aclose()
        except ERRORS as error:
            if isinstance(error, SSEError):
                raise _no_stream(wire, request, error) from error
            raise wire.translate(error, request) from error

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of loops that have ended are dropped."""
        import asyncio  # not at the top: what is sync does without it

        self._is_closed = True
        with self._lock:
            client = self._clients.pop(asyncio.get_running_loop(), None)
            self._clients.clear()
        if client is not None:
            await client.aclose()

    async def _do(self, effect: Effect) -> Any:
        if type(effect) is Request:
            return await self._send(effect)
        import asyncio  # not at the top: what is sync does without it

        if isinstance(effect, Sleep):
            await asyncio.sleep(effect.seconds)
            return None
        if isinstance(effect, Run):
            return await asyncio.to_thread(effect.function)
        raise _no_effect(effect)

    async def _send(self, request: Request) -> Response:
        client = self._client()
        try:
            response = await client.send(self._wire.build(client, request))
        except ERRORS as error:
            raise self._wire.translate(error, request) from error
        return Response(response.status_code, response.headers, response.content)

    def _client(self) -> httpx.AsyncClient:
        import asyncio  # not at the top: what is sync does without it

        if self._is_closed:
            raise ClientClosed
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            with self._lock:
                transport = self._transport or self._wire.by_socket(httpx.AsyncHTTPTransport)
                client = httpx.AsyncClient(transport=transport, **self._wire.client_settings())
                self._clients[loop] = client
        return client


def _no_effect(effect: Effect) -> TypeError:
    if isinstance(effect, Emit):
        return TypeError("this operation hands out items; iterate over it")
    return TypeError(f"an operation yielded {effect!r}, which is no effect")


def _no_stream(wire: Wire, request: Request, error: Exception) -> HpcjobsError:
    return UnexpectedAnswer(f"GET {wire.base_url}{request.path} was answered with no stream of events: {error}")
