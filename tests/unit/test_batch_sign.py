"""Who asks AWS Batch, where, and how a request is signed."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcjobs.errors import AuthenticationError, ConfigError
from hpcjobs.protocol import Request
from hpcjobs.services import batch_sign, find_service
from hpcjobs.services.batch import BatchService
from hpcjobs.services.batch_sign import Account, AwsAuth
from hpcjobs.wire import Wire


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of an AWS configuration, and nothing of the developer's own."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def flow(auth: AwsAuth, request: httpx.Request, *answers: httpx.Response) -> list[httpx.Request]:
    """The requests that a flow sends, each answered in turn."""
    sent = []
    generator = auth.sync_auth_flow(request)
    try:
        one = next(generator)
        for answer in answers:
            sent.append(httpx.Request(one.method, one.url, headers=one.headers, content=one.content))
            one = generator.send(answer)
        sent.append(one)
    except StopIteration:
        pass
    return sent


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("session", [None, "a/session+token=="])
@pytest.mark.parametrize("service", ["batch", "logs"])
def test_the_signature_is_that_of_botocore(monkeypatch: pytest.MonkeyPatch, service: str, session: str | None) -> None:
    """For the same request in the same second: what botocore's own client sends, and what we send."""
    import botocore.session

    if session is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", session)
    now = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now)
    seen: list[Any] = []

    def keep(request: Any, **_: Any) -> Any:
        seen.append(request)
        raise KeyboardInterrupt  # nothing is sent

    client = botocore.session.get_session().create_client(service, region_name="eu-west-1")
    client.meta.events.register("before-send.*.*", keep)
    asks = {
        "batch": lambda: client.cancel_job(jobId="1", reason="zu groß: größer als ±10 %"),
        "logs": lambda: client.get_log_events(logGroupName="/aws/batch/job", logStreamName="a/ü", startFromHead=True),
    }
    with pytest.raises(KeyboardInterrupt):
        asks[service]()
    [theirs] = seen
    own = {"Content-Type", "X-Amz-Target"}
    kept = {name: value for name, value in theirs.headers.items() if name in own}
    kept = {name: value.decode() if isinstance(value, bytes) else value for name, value in kept.items()}
    mine = httpx.Request("POST", theirs.url, content=theirs.body, headers=kept)
    [signed] = flow(AwsAuth(Account(), "eu-west-1"), mine)
    expected = theirs.headers["Authorization"]
    assert signed.headers["authorization"] == (expected.decode() if isinstance(expected, bytes) else expected)
    assert signed.headers.get("x-amz-security-token") == session
    assert f"/eu-west-1/{service}/aws4_request" in signed.headers["authorization"]


@pytest.mark.usefixtures("keys")
def test_a_request_is_signed_anew_each_time() -> None:
    auth = AwsAuth(Account(), "eu-west-1")
    request = httpx.Request("POST", "https://batch.test/v1/listjobs", json={"a": 1})
    [first] = flow(auth, request)
    stale = dict(first.headers)
    [again] = flow(auth, first)
    assert len(again.headers.get_list("authorization")) == 1
    assert set(again.headers) == set(stale)


def test_credentials_that_ended_are_read_again_once(monkeypatch: pytest.MonkeyPatch, aws: Path) -> None:
    """Somebody has logged in meanwhile: the request is signed once more; with the same ones it is not sent again."""
    credentials = aws / "credentials"
    credentials.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = s\n")
    auth = AwsAuth(Account(), "eu-west-1")
    ended = httpx.Response(403, headers={"x-amzn-errortype": "ExpiredTokenException"}, json={})

    def request() -> httpx.Request:
        return httpx.Request("POST", "https://batch.test/v1/listjobs", json={})

    assert len(flow(auth, request(), ended)) == 1
    credentials.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = s\n")
    sent = flow(auth, request(), ended, httpx.Response(200))
    assert [one.headers["authorization"].split("Credential=")[1].split("/")[0] for one in sent] == ["OLD", "NEW"]
    denied = httpx.Response(403, headers={"x-amzn-errortype": "AccessDeniedException"}, json={})
    assert len(flow(auth, request(), denied)) == 1


def test_async_code_does_not_wait_for_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are got in another thread: the loop goes on meanwhile."""
    asked, may = threading.Event(), threading.Event()

    class Slow(Account):
        def credentials(self) -> Any:
            asked.set()
            assert may.wait(30), "the loop stood still"
            assert threading.current_thread() is not threading.main_thread()
            from botocore.credentials import ReadOnlyCredentials

            return ReadOnlyCredentials("a", "b", None)

    auth = AwsAuth(Slow(), "eu-west-1")

    async def main() -> None:
        requests = auth.async_auth_flow(httpx.Request("POST", "https://batch.test/", content=b"{}"))
        first = asyncio.ensure_future(anext(requests))
        await asyncio.to_thread(asked.wait, 30)
        may.set()  # the loop sets it
        assert "authorization" in (await first).headers
        await requests.aclose()

    asyncio.run(main())


def test_without_credentials_it_says_what_to_do() -> None:
    request = httpx.Request("POST", "https://batch.test/", content=b"{}")
    with pytest.raises(AuthenticationError, match=r"no AWS credentials are configured: run `aws configure`"):
        flow(AwsAuth(Account(), "eu-west-1"), request)


def test_a_profile_is_used_and_a_missing_one_is_told(aws: Path) -> None:
    (aws / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    service = BatchService("batch://default/fast", profile="lab")
    assert service.region == "eu-north-1"
    with pytest.raises(AuthenticationError, match="for the profile 'lab'"):
        flow(service.auth, httpx.Request("POST", service.base_url, content=b"{}"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"nobody.*aws configure list"):
        BatchService("batch://eu-west-1/fast", profile="nobody")


def test_without_botocore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ConfigError, match=r"pip install 'hpcjobs\[aws\]'"):
        BatchService("batch://eu-west-1/fast")


def test_the_module_needs_no_botocore_until_it_is_used() -> None:
    import subprocess

    code = "import sys, hpcjobs.services.batch; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert batch_sign.TARGET == "x-amz-target"


# Where


@pytest.mark.parametrize(
    ("region", "batch", "logs"),
    [
        ("eu-west-1", "https://batch.eu-west-1.amazonaws.com", "https://logs.eu-west-1.amazonaws.com"),
        ("cn-north-1", "https://batch.cn-north-1.amazonaws.com.cn", "https://logs.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_address_is_that_of_the_region(region: str, batch: str, logs: str) -> None:
    service = find_service(f"batch://{region}/fast")
    assert (service.base_url, service.other_urls) == (batch, (logs,))


def test_addresses_of_the_environment_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are botocore's: that of logs is CLOUDWATCH_LOGS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
    service = BatchService("batch://eu-west-1/fast")
    assert (service.base_url, service.other_urls) == ("http://127.0.0.1:1", ("http://127.0.0.1:1",))
    monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", "http://127.0.0.1:2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:3")
    service = BatchService("batch://eu-west-1/fast")
    assert (service.base_url, service.other_urls) == ("http://127.0.0.1:2", ("http://127.0.0.1:3",))
    service = find_service(
        "batch://eu-west-1/fast?endpoint=http://127.0.0.1:4", options={"logs_endpoint": "http://127.0.0.1:5"}
    )
    assert isinstance(service, BatchService)
    assert (service.base_url, service.other_urls) == ("http://127.0.0.1:4", ("http://127.0.0.1:5",))


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_may_be_that_of_the_configuration(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(ConfigError, match="no region of AWS is known"):
        BatchService("batch://default/fast")
    monkeypatch.setenv(name, "eu-south-1")
    for address in ("batch://default/fast", "batch:///fast", "batch://default"):
        assert BatchService(address).region == "eu-south-1"
    assert BatchService("batch://eu-west-1/fast").region == "eu-west-1"


def test_what_makes_no_sense_is_told() -> None:
    for address, words in (
        ("batch://eu west/fast", "no region of AWS"),
        ("batch://eu-west-1/fast?job_definitions=x", "job_definition"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_service(address)
    with pytest.raises(ConfigError, match="takes no token"):
        BatchService("batch://eu-west-1/fast", token="secret")
    with pytest.raises(ConfigError, match="job_definition"):
        find_service("batch://eu-west-1/fast", options={"jobdefinition": "x"})


def test_a_request_may_go_to_another_address_of_the_service() -> None:
    """And what protects a service on this machine holds only where all of its addresses are here."""
    here, there = "http://127.0.0.1:2", "https://logs.test"
    service = BatchService("batch://eu-west-1/fast", endpoint=here, logs_endpoint=there)
    wire = Wire(service, 30)
    with httpx.Client() as client:
        assert str(wire.build(client, Request("POST", "/v1/listjobs")).url) == f"{here}/v1/listjobs"
        assert str(wire.build(client, Request("POST", "/", base=there)).url) == f"{there}/"
    assert wire.client_settings()["trust_env"]
    assert wire.client_settings()["verify"].verify_mode.name == "CERT_REQUIRED"
    error = wire.translate(httpx.ConnectError("no"), Request("POST", "/", base=there))
    assert there in str(error)
