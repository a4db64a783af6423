"""How a service is found by its address, and what one says that cannot do a thing."""

from __future__ import annotations

import importlib.metadata

import httpx
import pytest

from hpcjobs.errors import ConfigError, JobNotFound, Unsupported
from hpcjobs.models import JobFilter, JobInfo, TokenOrder
from hpcjobs.services import find_service
from hpcjobs.services.base import Service
from hpcjobs.services.tokens import CalledAuth


class Plain(Service):
    """The least that a service can be."""

    name = "plain"

    def __init__(self, base_url="", *, token=None):
        self.base_url, self.token = base_url, token

    def submit(self, spec, key):
        raise NotImplementedError

    def get(self, job_id):
        if job_id == "gone":
            raise JobNotFound("gone")
        return JobInfo(id=job_id, state="RUNNING")
        yield

    def cancel(self, ids, *, reason, abort, delete):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("HTTPS://hpc.example.org/jobs/", "https://hpc.example.org/jobs"),
        (" http://[::1]:80/ ", "http://[::1]:80"),
        ("http://h/#x", "http://h"),
    ],
)
def test_http_is_the_reference_server(url, base):
    service = find_service(url)
    assert (service.name, service.base_url, service.auth) == ("reference server", base, None)


def test_a_token_in_the_address_is_understood():
    service = find_service("http://127.0.0.1:8765/?token=s3cret")
    assert service.base_url == "http://127.0.0.1:8765"
    assert isinstance(service.auth, CalledAuth)
    request = next(service.auth.sync_auth_flow(httpx.Request("GET", "http://x")))
    assert request.headers["authorization"] == "Bearer s3cret"


def test_a_token_that_is_given_goes_before_one_in_the_address():
    service = find_service("http://127.0.0.1/?token=old", token=lambda: "new")
    request = next(service.auth.sync_auth_flow(httpx.Request("GET", "http://x")))
    assert request.headers["authorization"] == "Bearer new"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8765", "http://localhost:8765"),
        ("hpc.example.org", "http://hpc.example.org"),
        ("", "http://"),
        ("ftp://x", "http://"),
        ("http://", "no host"),
        ("http://x:99999", "not an address"),
        ("http://[::1", "not an address"),
    ],
)
def test_an_address_that_makes_no_sense_says_what_does(url, words):
    with pytest.raises(ConfigError, match=words.replace("/", "/")):
        find_service(url)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        find_service("http://me:s3cret@host/")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["plain://region/queue", "plain+https://host", "PLAIN+http://host:1"])
def test_other_schemes_are_found_among_the_installed_services(monkeypatch, url):
    point = importlib.metadata.EntryPoint("plain", f"{__name__}:Plain", "hpcjobs.services")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: Plain)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [point])
    service = find_service(url, token="t")
    assert isinstance(service, Plain)
    assert (service.base_url, service.token) == (url, "t")
    with pytest.raises(ConfigError, match="plain://"):
        find_service("other://x")


def test_what_a_service_can_be_told_is_told_and_nothing_else(monkeypatch):
    """A key that is misspelt is found at once, and not by a request that is refused."""

    class Told(Plain):
        def __init__(self, url, *, token=None, account=None):
            super().__init__(url, token=token)
            self.account = account

    point = importlib.metadata.EntryPoint("told", f"{__name__}:Told", "hpcjobs.services")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: Told)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [point])
    service = find_service("told://x", options={"account": "abc"})
    assert isinstance(service, Told)
    assert service.account == "abc"
    with pytest.raises(ConfigError, match=r"'acount'.*account, token"):
        find_service("told://x", options={"acount": "abc"})
    with pytest.raises(
        ConfigError, match=r"'token_fil'.*has token, and in a profile also service, token_command, token_file, url$"
    ):
        find_service("http://h", options={"token_fil": "x"})


def test_the_installed_entry_point_is_the_reference_service():
    [point] = importlib.metadata.entry_points(group="hpcjobs.services", name="reference")
    assert point.load()("http://h", token=None).base_url == "http://h"


@pytest.mark.parametrize(
    "action",
    [
        lambda s: s.find("k"),
        lambda s: s.page(JobFilter(), limit=1, cursor=None),
        lambda s: s.log("1", "stdout", offset=0),
        lambda s: s.log_tail("1", "stdout", size=1),
        lambda s: s.files("1"),
        lambda s: s.file("1", "a", offset=0, length=1),
        lambda s: s.has_input("a"),
        lambda s: s.send_input("a", None),
        lambda s: s.info(),
        lambda s: s.create_token(TokenOrder()),
        lambda s: s.list_tokens(),
        lambda s: s.revoke_token("a"),
        lambda s: s.events_request(None),
    ],
)
def test_what_a_service_cannot_do_says_what_to_do_instead(action):
    with pytest.raises(Unsupported, match=r"plain cannot .+; .+"):
        action(Plain())


def test_many_jobs_are_looked_at_one_by_one_where_there_is_no_better_way(script):
    answer = script.play(Plain().get_many(["a", "gone", "b"]))
    assert ([info.id for info in answer.items], answer.missing) == (["a", "b"], ["gone"])


@pytest.mark.parametrize("token", ["", "  ", "a b", "a\nb", "tökén"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(token):
    with pytest.raises(ConfigError) as caught:
        find_service("http://h", token=token)
    assert not token.strip() or token not in str(caught.value)


def test_options_may_stand_in_the_address() -> None:
    """As keyword arguments do, which win; one that the service does not have is named."""
    address = "slurm+http://head:6820?folder=/scratch/me&api=42&min_poll=5"
    service = find_service(address, token="e30.e30.c2ln", options={"folder": "/data"})
    assert (service.base_url, service.capabilities.min_poll) == ("http://head:6820", 5.0)
    assert service.defaults.folder == "/data"
    with pytest.raises(ConfigError, match="foldre"):
        find_service("slurm+http://head:6820?foldre=/x", token="e30.e30.c2ln")
