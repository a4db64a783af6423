"""How a token of Tapis is got, and got again before it ends; in both colours, without a network."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from hpcjobs.errors import AuthenticationError, ConfigError, HpcjobsError, PermissionDenied, ServiceUnavailable
from hpcjobs.protocol import Op
from hpcjobs.retrying import RetryPolicy
from hpcjobs.services import tapis_login
from hpcjobs.services.tapis import TapisService
from hpcjobs.services.tokens import expiry
from hpcjobs.transport import AsyncDriver, Driver

HOURS = 3600.0
URL = "tapis+https://tenant.test"
JOB = "6f9e8f0b-6a0b-4b3a-8d53-cb3d2a8f9b8a-007"
ONCE = RetryPolicy(tries=1)


def jwt(end: float | None, number: int = 0) -> str:
    """A token that says when it ends."""
    claims = json.dumps({"sub": "me@tenant", "n": number, **({} if end is None else {"exp": int(end)})})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.c2ln"


class Tenant:
    """A tenant that gives tokens of some hours and takes them until they end."""

    def __init__(self, *, hours: float = 4.0) -> None:
        self.now = 1_000_000.0
        self.hours = hours
        self.good: set[str] = set()
        self.logins: list[dict[str, Any]] = []
        self.asked: list[str | None] = []
        self.refused = 0
        self.refresh: str | None = None
        self.pending = 0
        self.broken: tuple[int, str] | None = None

    def clock(self) -> float:
        return self.now

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/oauth2/device/code":
            code = {"device_code": "dev", "user_code": "ABC-DEF", "verification_uri": "https://tenant.test/device"}
            return httpx.Response(200, json={"result": {**code, "expires_in": "600"}})
        if request.url.path == "/v3/oauth2/tokens":
            return self._token(request)
        self.asked.append(request.headers.get("X-Tapis-Token"))
        end = expiry(self.asked[-1] or "")
        if self.asked[-1] not in self.good or (end is not None and end <= self.now):
            self.refused += 1
            return httpx.Response(401, text="TAPIS_SECURITY_JWT_EXPIRED the token has ended")
        return httpx.Response(200, json={"result": {"uuid": JOB, "status": "RUNNING"}})

    def _token(self, request: httpx.Request) -> httpx.Response:
        if self.broken is not None:
            return httpx.Response(self.broken[0], text=self.broken[1])
        body = json.loads(request.content)
        self.logins.append({**body, "basic": request.headers.get("Authorization")})
        right = {
            "password": body.get("password") == "secret",
            "refresh_token": self.refresh is not None and body.get("refresh_token") == self.refresh,
            "device_code": body.get("device_code") == "dev",
        }
        if not right[body["grant_type"]]:
            return httpx.Response(401, json={"status": "error", "message": "Invalid credentials", "result": None})
        if body["grant_type"] == "device_code" and self.pending:
            self.pending -= 1
            return httpx.Response(400, json={"status": "error", "message": "not verified yet", "result": None})
        token = jwt(self.now + self.hours * HOURS, len(self.logins))
        self.good.add(token)
        result: dict[str, Any] = {"access_token": {"access_token": token}}
        if request.headers.get("Authorization"):
            self.refresh = f"refresh-{len(self.logins)}"
            result["refresh_token"] = {"refresh_token": self.refresh}
        return httpx.Response(201, json={"result": result, "status": "success"})


@pytest.fixture
def tenant() -> Tenant:
    return Tenant()


Look = Callable[[TapisService], Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def look(request: pytest.FixtureRequest, tenant: Tenant) -> Look:
    """Looks at a job once, by either driver."""

    async def run(op: Op[Any], service: TapisService) -> Any:
        if request.param == "sync":
            driver = Driver(service, retry=ONCE, transport=httpx.MockTransport(tenant))
            try:
                return driver.run(op)
            finally:
                driver.close()
        other = AsyncDriver(service, retry=ONCE, transport=httpx.MockTransport(tenant))
        try:
            return await other.run(op)
        finally:
            await other.aclose()

    return lambda service: run(service.get(JOB), service)


def made(tenant: Tenant, **options: Any) -> TapisService:
    service = TapisService(URL, **options)
    service.auth._clock = tenant.clock  # type: ignore[union-attr]
    return service


pytestmark = pytest.mark.anyio


async def test_a_password_is_sent_once_and_the_token_is_kept(tenant: Tenant, look: Look) -> None:
    service = made(tenant, username="me", password="secret")
    for _ in range(3):
        await look(service)
    assert len(tenant.logins) == 1
    assert tenant.logins[0] == {"grant_type": "password", "username": "me", "password": "secret", "basic": None}
    assert len(tenant.asked) == 3


async def test_a_token_of_four_hours_does_not_end_a_watch_of_two_days(tenant: Tenant, look: Look) -> None:
    """It is renewed before it ends, so that nothing is ever refused."""
    service = made(tenant, username="me", password="secret")
    for _ in range(48 * 4):
        await look(service)
        tenant.now += 900
    assert tenant.refused == 0
    assert 12 <= len(tenant.logins) <= 14


async def test_a_token_that_is_refused_is_renewed_once_and_the_request_sent_again(tenant: Tenant, look: Look) -> None:
    service = made(tenant, username="me", password="secret")
    await look(service)
    tenant.good.clear()  # revoked
    await look(service)
    assert (tenant.refused, len(tenant.logins)) == (1, 2)


async def test_a_function_is_called_again_when_the_token_ends(tenant: Tenant, look: Look) -> None:
    tokens = [jwt(tenant.now + HOURS, number) for number in range(3)]
    tenant.good.update(tokens)
    told = iter(tokens)
    service = made(tenant, token=lambda: next(told))
    await look(service)
    tenant.now += HOURS - 10
    await look(service)
    assert tenant.asked == tokens[:2]
    assert tenant.refused == 0


async def test_anothers_job_is_no_reason_to_log_in_again(tenant: Tenant, look: Look) -> None:
    def foreign(request: httpx.Request) -> httpx.Response:
        if "oauth2" in request.url.path:
            return Tenant.__call__(tenant, request)
        return httpx.Response(401, json={"status": "error", "message": "JOBS_MISMATCHED_OWNER x", "result": None})

    service = made(tenant, username="me", password="secret")
    driver = Driver(service, retry=ONCE, transport=httpx.MockTransport(foreign))
    with pytest.raises(PermissionDenied):
        driver.run(service.get(JOB))
    driver.close()
    assert len(tenant.logins) == 1


async def test_a_client_refreshes_and_falls_back_to_the_password(tenant: Tenant, look: Look) -> None:
    service = made(tenant, username="me", password="secret", client_id="cli", client_key="key")
    basic = "Basic " + base64.b64encode(b"cli:key").decode()
    for _ in range(2):
        await look(service)
        tenant.now += 5 * HOURS
    tenant.refresh = None  # it was used up elsewhere
    await look(service)
    assert [login["grant_type"] for login in tenant.logins] == [
        "password",
        "refresh_token",
        "refresh_token",
        "password",
    ]
    assert {login["basic"] for login in tenant.logins} == {basic}


async def test_a_refresh_token_alone_that_is_used_up_says_to_log_in_again(tenant: Tenant, look: Look) -> None:
    with pytest.raises(AuthenticationError, match="log in again"):
        await look(made(tenant, refresh_token="old", client_id="cli", client_key="key"))


async def test_a_code_is_shown_and_waited_for(
    tenant: Tenant, look: Look, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tapis_login, "DEVICE_PAUSE", 0.0)
    tenant.pending = 3
    await look(made(tenant, login="device", client_id="cli"))
    assert "open https://tenant.test/device and type the code ABC-DEF" in capsys.readouterr().err
    assert [login["grant_type"] for login in tenant.logins] == ["device_code"] * 4
    assert tenant.refused == 0


async def test_a_code_that_nobody_types_is_not_waited_for_for_ever(
    tenant: Tenant, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tapis_login, "DEVICE_PAUSE", 0.0)
    monkeypatch.setattr(Tenant, "clock", lambda self: setattr(self, "now", self.now + 100) or self.now)
    tenant.pending = 1000
    with pytest.raises(AuthenticationError, match="not verified yet"):
        await look(made(tenant, login="device", client_id="cli"))
    assert len(tenant.logins) < 10


async def test_a_token_that_ends_soon_and_cannot_be_renewed_is_told_of_once(tenant: Tenant, look: Look) -> None:
    token = jwt(tenant.now + 600)
    tenant.good.add(token)
    service = made(tenant, token=token)
    with pytest.warns(UserWarning, match="ends at .* cannot be renewed; give a function"):
        await look(service)
    await look(service)  # a second warning would be an error here
    tenant.now += 601
    with pytest.raises(AuthenticationError, match="JWT_EXPIRED"):
        await look(service)


async def test_a_wrong_password_is_told_without_it(tenant: Tenant, look: Look) -> None:
    with pytest.raises(AuthenticationError, match="does not take the password of me") as caught:
        await look(made(tenant, username="me", password="hunter2"))
    assert "hunter2" not in str(caught.value)
    assert not tenant.asked


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((503, "<html>"), ServiceUnavailable),
        ((404, "<html>"), AuthenticationError),
        ((200, "<html>"), AuthenticationError),
        ((201, '{"result": {}}'), AuthenticationError),
        ((201, '{"result": {"access_token": "text"}}'), AuthenticationError),
        ((201, '{"result": {"access_token": {"access_token": "a b"}}}'), ConfigError),
    ],
)
async def test_a_login_that_fails_is_a_typed_error_and_the_next_request_tries_again(
    tenant: Tenant, look: Look, answer: tuple[int, str], kind: type[HpcjobsError]
) -> None:
    tenant.broken = answer
    service = made(tenant, username="me", password=lambda: "secret")
    for _ in range(2):  # nothing stays locked
        with pytest.raises(kind):
            await look(service)
    tenant.broken = None
    await look(service)


async def test_many_at_once_log_in_once(tenant: Tenant) -> None:
    service = made(tenant, username="me", password="secret")
    driver = AsyncDriver(service, retry=ONCE, transport=httpx.MockTransport(tenant))
    await asyncio.gather(*(driver.run(service.get(JOB)) for _ in range(20)))
    await driver.aclose()
    assert len(tenant.logins) == 1


def test_many_threads_log_in_once(tenant: Tenant) -> None:
    service = made(tenant, username="me", password="secret")
    driver = Driver(service, retry=ONCE, transport=httpx.MockTransport(tenant))
    threads = [threading.Thread(target=driver.run, args=(service.get(JOB),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    driver.close()
    assert (len(tenant.logins), len(tenant.asked)) == (1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "wants a token"),
        ({"username": "me"}, "go together"),
        ({"password": "x"}, "go together"),
        ({"login": "device"}, "client_id"),
        ({"login": "browser"}, 'login="device"'),
        ({"refresh_token": "x"}, "client_id"),
        ({"token": "a b"}, "no token has"),
    ],
)
def test_what_is_no_way_to_log_in_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TapisService(URL, **options)


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "a.e30.c", "a.bnVsbA.c", "a.!!.c", "a.W10.c"])
def test_a_token_that_does_not_say_when_it_ends_is_used_until_it_is_refused(token: str) -> None:
    assert expiry(token) is None
