"""The two drivers: the same operation does the same in both colours, over httpx."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import socket
import ssl
import threading

import httpx
import pytest
import respx

from hpcjobs import errors
from hpcjobs.protocol import Request, call, emit, run, sleep
from hpcjobs.retrying import RetryPolicy
from hpcjobs.services.reference import ReferenceService
from hpcjobs.transport import AsyncDriver, Driver

pytestmark = pytest.mark.anyio
URL = "http://hpc.test"
QUICK = RetryPolicy(tries=3, base=0.0)


class Sync:
    """The sync driver behind the async one's face, so that each test is written once."""

    def __init__(self, *args, **settings):
        self.driver = Driver(*args, **settings)

    async def run(self, op):
        return self.driver.run(op)

    async def iterate(self, op):
        for item in self.driver.iterate(op):
            yield item

    async def aclose(self):
        self.driver.close()


@pytest.fixture(params=[Sync, AsyncDriver], ids=["sync", "async"])
async def make(request):
    """Makes a driver of either colour; all are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        def go(url=URL, *, token=None, **settings):
            driver = request.param(ReferenceService(url, token=token), **{"retry": QUICK, **settings})
            stack.push_async_callback(driver.aclose)
            return driver

        yield go


@pytest.fixture
def mocked():
    with respx.mock(assert_all_called=False) as router:
        yield router


async def test_a_request_goes_out_whole_and_its_answer_comes_back_whole(make, mocked):
    route = mocked.post(f"{URL}/v1/x").respond(201, json={"a": 1}, headers={"ETag": '"3"'})
    request = Request("POST", "/v1/x", params=[("tag", "a"), ("tag", "b c")], headers={"X-One": "1"}, json={"b": "ü"})
    answer = await make(token="s").run(call(request))
    assert (answer.status, answer.headers.get("etag"), answer.content) == (201, '"3"', b'{"a":1}')
    sent = route.calls.last.request
    assert str(sent.url) == f"{URL}/v1/x?tag=a&tag=b+c"
    assert sent.headers["x-one"] == "1"
    assert sent.headers["authorization"] == "Bearer s"
    assert sent.headers["user-agent"].startswith("hpcjobs/")
    assert sent.content == '{"b":"ü"}'.encode()


async def test_a_path_in_the_services_address_is_kept(make, mocked):
    mocked.get("http://hpc.test/deep/down/v1/x").respond(204)
    assert (await make("http://hpc.test/deep/down/").run(call(Request("GET", "/v1/x")))).status == 204


async def test_every_request_has_a_timeout(make, mocked):
    route = mocked.get(f"{URL}/x").respond(204)
    driver = make(timeout=7.0)
    await driver.run(call(Request("GET", "/x")))
    assert route.calls.last.request.extensions["timeout"] == {"connect": 7.0, "read": 7.0, "write": 7.0, "pool": 7.0}
    await driver.run(call(Request("GET", "/x", timeout=50.0)))
    assert route.calls.last.request.extensions["timeout"]["read"] == 50.0
    assert route.calls.last.request.extensions["timeout"]["connect"] == 10.0


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_a_timeout_that_makes_no_sense_is_refused(make, timeout):
    with pytest.raises(errors.ConfigError, match="timeout"):
        make(timeout=timeout)


async def test_a_redirect_is_not_followed(make, mocked):
    mocked.get(f"{URL}/v1/info").respond(302, headers={"Location": "http://elsewhere.test/"})
    driver = make(token="secret")
    with pytest.raises(errors.UnexpectedAnswer, match=r"elsewhere\.test"):
        await driver.run(ReferenceService(URL).info())


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (httpx.ConnectError("refused"), errors.NoService, "nothing answers at http://hpc.test (refused)"),
        (httpx.ConnectTimeout(""), errors.NoService, "ConnectTimeout"),
        (httpx.ProxyError("403"), errors.NoService, "proxy"),
        (httpx.PoolTimeout("full"), errors.NoService, "busy"),
        (httpx.ReadTimeout("slow"), errors.TimedOut, "GET http://hpc.test/x"),
        (httpx.WriteTimeout("slow"), errors.TimedOut, "slow"),
        (httpx.ReadError("reset"), errors.ConnectionLost, "reset"),
        (httpx.WriteError("pipe"), errors.ConnectionLost, "pipe"),
        (httpx.RemoteProtocolError("eof"), errors.ConnectionLost, "eof"),
        (httpx.DecodingError("gzip"), errors.UnexpectedAnswer, "gzip"),
        (httpx.LocalProtocolError("header"), errors.ConfigError, "header"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_httpx_errors_become_typed_ones_with_their_cause(make, mocked, raised, kind, words):
    mocked.get(f"{URL}/x").mock(side_effect=raised)
    with pytest.raises(kind) as caught:
        await make(retry=RetryPolicy(tries=1)).run(call(Request("GET", "/x")))
    assert words in str(caught.value)
    assert isinstance(caught.value.__cause__, type(raised))


async def test_a_certificate_that_is_not_trusted_is_no_reason_to_try_again(make):
    asked = []

    def refuse(request):
        asked.append(request)
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")  # noqa: TRY301
        except ssl.SSLCertVerificationError as cause:
            raise httpx.ConnectError(str(cause), request=request) from cause

    with pytest.raises(errors.ConfigError, match="SSL_CERT_FILE"):
        await make(transport=httpx.MockTransport(refuse)).run(call(Request("GET", "/x")))
    assert len(asked) == 1


async def test_a_port_where_nothing_listens_says_what_to_do(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(errors.NoService) as caught:
            await make(f"http://127.0.0.1:{port}").run(call(Request("GET", "/x")))
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "hpcjobs serve" in str(caught.value)
    assert caught.value.tries == 3
    assert not caught.value.may_have_acted


async def test_failures_are_tried_again(make, mocked):
    route = mocked.get(f"{URL}/x").mock(side_effect=[httpx.ReadError("a"), httpx.Response(503), httpx.Response(200)])
    answer = await make().run(call(Request("GET", "/x")))
    assert (answer.status, answer.tries, route.call_count) == (200, 3, 3)


async def test_pauses_and_local_work_are_done(make):
    def op():
        yield from sleep(0.001)
        return (yield from run(threading.get_ident))

    assert isinstance(await make().run(op()), int)


async def test_local_work_that_fails_raises_in_the_operation(make):
    def op():
        try:
            yield from run(lambda: 1 // 0)
        except ZeroDivisionError:
            return "caught"

    assert await make().run(op()) == "caught"


async def test_items_are_handed_out_in_turn_with_requests(make, mocked):
    mocked.get(f"{URL}/x").respond(200, content=b"body")

    def op():
        yield from emit(1)
        response = yield from call(Request("GET", "/x"))
        yield from emit(response.content)
        yield from sleep(0)
        yield from emit(3)

    assert [item async for item in make().iterate(op())] == [1, b"body", 3]


async def test_leaving_an_iteration_early_closes_the_operation(make):
    seen = []

    def op():
        try:
            while True:
                yield from emit(1)
        finally:
            seen.append("closed")

    iterator = make().iterate(op())
    async for _ in iterator:
        break
    await iterator.aclose()
    assert seen == ["closed"]


async def test_an_error_in_an_iteration_is_raised_at_its_place(make, mocked):
    mocked.get(f"{URL}/x").mock(side_effect=httpx.ReadError("cut"))

    def op():
        yield from emit(1)
        yield from call(Request("GET", "/x"))

    items = []
    with pytest.raises(errors.ConnectionLost):  # noqa: PT012
        async for item in make().iterate(op()):
            items.append(item)  # noqa: PERF401 - what came before the error counts
    assert items == [1]


async def test_items_have_nowhere_to_go_in_run(make):
    with pytest.raises(TypeError, match="iterate"):
        await make().run(emit(1))


async def test_what_is_no_effect_is_refused(make):
    def op():
        yield "nonsense"

    with pytest.raises(TypeError, match="nonsense"):
        await make().run(op())


async def test_an_operation_that_returns_at_once_needs_no_request(make):
    def op():
        return 5
        yield

    assert await make().run(op()) == 5
    assert [item async for item in make().iterate(op())] == []


async def test_an_operation_is_closed_when_it_raises(make, mocked):
    mocked.get(f"{URL}/v1/jobs/x").respond(404)
    op = ReferenceService(URL).get("x")
    with pytest.raises(errors.ServiceError):
        await make().run(op)
    assert op.gi_frame is None


def test_an_interrupt_in_a_sync_request_reaches_the_operation(mocked):
    def interrupt(request):
        raise KeyboardInterrupt

    mocked.get(f"{URL}/x").mock(side_effect=interrupt)
    cancel = mocked.delete(f"{URL}/x").respond(204)

    def op():
        try:
            yield from call(Request("GET", "/x"))
        except KeyboardInterrupt:
            yield from call(Request("DELETE", "/x"))
            raise

    driver = Driver(ReferenceService(URL), retry=QUICK)
    with pytest.raises(KeyboardInterrupt):
        driver.run(op())
    driver.close()
    assert cancel.call_count == 1


async def test_a_cancelled_task_reaches_the_operation(mocked):
    cancel = mocked.delete(f"{URL}/x").respond(204)
    started = asyncio.Event()

    def op():
        try:
            yield from run(lambda: loop.call_soon_threadsafe(started.set))
            yield from sleep(60)
        except asyncio.CancelledError:
            yield from call(Request("DELETE", "/x"))
            raise

    loop = asyncio.get_running_loop()
    driver = AsyncDriver(ReferenceService(URL), retry=QUICK)
    task = asyncio.create_task(driver.run(op()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await driver.aclose()
    assert cancel.call_count == 1


class Bytes:
    """A body that counts how often it was opened."""

    def __init__(self, *blocks):
        self.blocks, self.opened = blocks, 0
        self.size = sum(map(len, blocks))

    def __iter__(self):
        self.opened += 1
        yield from self.blocks

    async def __aiter__(self):
        self.opened += 1
        for block in self.blocks:
            yield block


async def test_a_body_is_sent_whole_with_its_length_and_again_on_a_retry(make, mocked):
    route = mocked.put(f"{URL}/x").mock(side_effect=[httpx.Response(503), httpx.ReadError("cut"), httpx.Response(201)])
    body = Bytes(b"abc", b"def")
    answer = await make().run(call(Request("PUT", "/x", body=body)))
    assert (answer.status, body.opened) == (201, 3)
    for sent in route.calls:
        assert sent.request.content == b"abcdef"
        assert sent.request.headers["content-length"] == "6"
        assert "transfer-encoding" not in sent.request.headers


async def test_an_empty_body_is_sent_as_such(make, mocked):
    route = mocked.put(f"{URL}/x").respond(201)
    await make().run(call(Request("PUT", "/x", body=Bytes())))
    assert route.calls.last.request.headers["content-length"] == "0"


async def test_an_error_of_the_body_itself_is_raised_as_it_is(make, mocked):
    class Broken(Bytes):
        def __iter__(self):
            raise errors.InputError("a", "changed while it was sent")

        def __aiter__(self):
            raise errors.InputError("a", "changed while it was sent")

    route = mocked.put(f"{URL}/x").respond(201)
    with pytest.raises(errors.InputError, match="changed"):
        await make().run(call(Request("PUT", "/x", body=Broken(b"abc"))))
    assert route.call_count <= 1


# -- tokens ----------------------------------------------------------------------------------------------------------


def only(token):
    """A server that takes one token."""

    def answer(request):
        return httpx.Response(200 if request.headers["authorization"] == f"Bearer {token}" else 401)

    return answer


async def test_a_token_is_fetched_once_and_kept(make, mocked):
    mocked.get(f"{URL}/x").mock(side_effect=only("t1"))
    fetched = []
    driver = make(token=lambda: fetched.append(1) or "t1")
    for _ in range(3):
        assert (await driver.run(call(Request("GET", "/x")))).status == 200
    assert len(fetched) == 1


async def test_a_stale_token_is_fetched_anew_once(make, mocked):
    route = mocked.get(f"{URL}/x").mock(side_effect=only("t2"))
    tokens = iter(["t1", "t2"])
    assert (await make(token=lambda: next(tokens)).run(call(Request("GET", "/x")))).status == 200
    assert route.call_count == 2


async def test_a_fresh_token_that_is_refused_too_is_not_fetched_for_ever(make, mocked):
    route = mocked.get(f"{URL}/x").respond(401)
    tokens = iter(f"t{number}" for number in range(10))
    assert (await make(token=lambda: next(tokens)).run(call(Request("GET", "/x")))).status == 401
    assert route.call_count == 2


@pytest.mark.parametrize("token", ["t", lambda: "t"], ids=["given", "the same again"])
async def test_a_token_that_cannot_be_renewed_is_not_sent_again(make, mocked, token):
    route = mocked.get(f"{URL}/x").respond(401)
    assert (await make(token=token).run(call(Request("GET", "/x")))).status == 401
    assert route.call_count == 1


async def test_a_body_is_sent_again_with_the_fresh_token(make, mocked):
    route = mocked.put(f"{URL}/x").mock(side_effect=only("t2"))
    tokens = iter(["t1", "t2"])
    answer = await make(token=lambda: next(tokens)).run(call(Request("PUT", "/x", body=Bytes(b"abc"))))
    assert answer.status == 200
    assert [sent.request.content for sent in route.calls] == [b"abc", b"abc"]


async def test_many_requests_with_a_stale_token_fetch_one_token(mocked):
    together = asyncio.Event()
    waiting = 0

    async def answer(request):
        nonlocal waiting
        if request.headers["authorization"] == "Bearer t2":
            return httpx.Response(200)
        waiting += 1
        if waiting == 5:
            together.set()
        await asyncio.wait_for(together.wait(), 10)  # nobody holds a lock while a request is under way
        return httpx.Response(401)

    mocked.get(f"{URL}/x").mock(side_effect=answer)
    fetched = []

    def fetch():
        fetched.append(1)
        return f"t{len(fetched)}"

    driver = AsyncDriver(ReferenceService(URL, token=fetch), retry=QUICK)
    answers = await asyncio.gather(*(driver.run(call(Request("GET", "/x"))) for _ in range(5)))
    await driver.aclose()
    assert [answer.status for answer in answers] == [200] * 5
    assert len(fetched) == 2


def test_many_threads_with_a_stale_token_fetch_one_token(mocked):
    together = threading.Barrier(5, timeout=10)

    def answer(request):
        if request.headers["authorization"] == "Bearer t2":
            return httpx.Response(200)
        together.wait()
        return httpx.Response(401)

    fetched = []

    def fetch():
        fetched.append(1)
        return f"t{len(fetched)}"

    driver = Driver(
        ReferenceService(URL, token=fetch), retry=QUICK, transport=httpx.MockTransport(answer)
    )  # respx would hold its own lock
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(driver.run(call(Request("GET", "/x"))).status))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    driver.close()
    assert statuses == [200] * 5
    assert len(fetched) == 2


# -- proxies, loops, closing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_no_proxy_is_asked_for_this_machine(make, monkeypatch, mocked, host):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked = []
    monkeypatch.setattr(
        httpx.AsyncHTTPTransport,
        "__init__",
        functools.partialmethod(_note_proxy, asked, httpx.AsyncHTTPTransport.__init__),
    )
    monkeypatch.setattr(
        httpx.HTTPTransport, "__init__", functools.partialmethod(_note_proxy, asked, httpx.HTTPTransport.__init__)
    )
    mocked.get(f"http://{host}/x").respond(204)
    await make(f"http://{host}").run(call(Request("GET", "/x")))
    assert asked == [None]
    asked.clear()
    mocked.get(f"{URL}/x").respond(204)
    await make().run(call(Request("GET", "/x")))
    assert any(asked)


def _note_proxy(transport, asked, original, *args, **settings):
    asked.append(settings.get("proxy"))
    original(transport, *args, **settings)


def test_an_async_driver_works_in_one_loop_after_another(mocked):
    mocked.get(f"{URL}/x").respond(204)
    driver = AsyncDriver(ReferenceService(URL))
    for _ in range(2):
        assert asyncio.run(driver.run(call(Request("GET", "/x")))).status == 204
    asyncio.run(driver.aclose())


async def test_a_closed_driver_says_so(make, mocked):
    mocked.get(f"{URL}/x").respond(204)
    driver = make()
    await driver.run(call(Request("GET", "/x")))
    await driver.aclose()
    with pytest.raises(errors.ClientClosed):
        await driver.run(call(Request("GET", "/x")))


async def test_a_closed_driver_opens_no_stream():
    driver = AsyncDriver(ReferenceService(URL))
    await driver.aclose()
    with pytest.raises(errors.ClientClosed):
        async for _ in driver.events(Request("GET", "/x")):
            pass


async def test_requests_that_are_held_keep_no_other_from_being_sent(make):
    """Every follower of a log has a request under way nearly all the time; there may be hundreds of them."""
    held, inside = asyncio.Event(), 0

    async def serve(reader, writer):
        nonlocal inside
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        if path == b"/held":
            inside += 1
            await held.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
    driver = make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=10.0, retry=RetryPolicy(tries=1))

    async def ask(path):
        op = call(Request("GET", path))
        if isinstance(driver, Sync):  # a thread for each, as many callers have
            return await loop.run_in_executor(threads, driver.driver.run, op)
        return await driver.run(op)

    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(130) as threads:
        followers = [asyncio.ensure_future(ask("/held")) for _ in range(120)]
        try:
            answer = await asyncio.wait_for(ask("/other"), 8)
        finally:
            held.set()
            await asyncio.gather(*followers, return_exceptions=True)
            server.close()
    assert answer.status == 204
    assert inside == 120


# -- events ----------------------------------------------------------------------------------------------------------

STREAM = b': hello\n\nid: 1\nevent: hello\ndata: {}\n\n: still here\n\nid: 2\nevent: job\ndata: {"a":\ndata: 1}\n\n'


@pytest.fixture
async def streams():
    """Makes async drivers, which alone have streams of events; all are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        def go(*, token=None):
            driver = AsyncDriver(ReferenceService(URL, token=token), retry=QUICK)
            stack.push_async_callback(driver.aclose)
            return driver

        yield go


async def test_events_are_handed_out_as_they_come_and_comments_are_not(streams, mocked):
    route = mocked.get(f"{URL}/v1/events").respond(200, headers={"content-type": "text/event-stream"}, content=STREAM)
    request = ReferenceService(URL).events_request("0")
    events = [(event.id, event.event, event.data) async for event in streams(token="t").events(request)]
    assert events == [("1", "hello", "{}"), ("2", "job", '{"a":\n1}')]
    sent = route.calls.last.request
    assert (sent.headers["accept"], sent.headers["last-event-id"]) == ("text/event-stream", "0")
    assert sent.headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={"detail": "no", "code": "bad_token"}), errors.AuthenticationError),
        (httpx.Response(200, html="<h1>hi"), errors.UnexpectedAnswer),
        (httpx.Response(404, html="<h1>hi"), errors.UnexpectedAnswer),
        (httpx.ConnectError("refused"), errors.NoService),
        (httpx.ReadTimeout("silence"), errors.TimedOut),
    ],
    ids=["401", "html", "404", "refused", "silence"],
)
async def test_a_stream_that_cannot_be_opened_is_a_typed_error(streams, mocked, answer, kind):
    route = mocked.get(f"{URL}/v1/events").mock(side_effect=[answer])
    with pytest.raises(kind):
        async for _ in streams().events(ReferenceService(URL).events_request(None)):
            pass
    assert route.call_count == 1
