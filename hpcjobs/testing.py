"""A service of your own for your tests: pytest fixtures, and a context manager for everything else.

In a ``conftest.py``::

    pytest_plugins = ["hpcjobs.testing"]

and in a test::

    def test_my_pipeline(hpcjobs_client):
        job = hpcjobs_client.submit("python fit.py", inputs=["fit.py"])
        assert job.wait(timeout=60).state == "FINISHED"

The service is real: jobs are processes, and the database is an embedded Postgres in a temporary folder. It starts with
the first test that needs it, serves all of them, and is gone when the last has ended, whatever its jobs are doing. It
needs ``pip install "hpcjobs[server]"``.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcjobs import profiles
from hpcjobs.errors import ConfigError, NoService

if TYPE_CHECKING:
    from hpcjobs.client import Client
    from hpcjobs.profiles import Token

__all__ = ["LocalService", "local_service"]

STOP_SECONDS = 90.0
"""How long a service may take to end; jobs that do not listen are killed after half a minute."""


@dataclasses.dataclass(frozen=True)
class LocalService:
    """A service that runs on this machine, in a folder of its own.

    Attributes:
        url: Its address.
        token: What opens it, as its operator (scope admin) or as another user.
        owner: Whose token that is.
        data: Its data folder, with the logs of its processes in ``log``.
    """

    url: str
    token: str = dataclasses.field(repr=False)
    owner: str
    data: Path

    @property
    def tapis(self) -> dict[str, str]:
        """The arguments with which tapipy logs in to it: ``t = Tapis(**service.tapis)``, then ``t.get_tokens()``."""
        return {"base_url": self.url, "tenant_id": "dev", "username": self.owner, "password": self.token}

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables by which a client finds it, also the command and a script in another process."""
        return {"HPCJOBS_URL": self.url, "HPCJOBS_TOKEN": self.token}

    def user(self, owner: str | None = None, *, scope: str = "write") -> LocalService:
        """The same service for another owner, a student say; only the operator can make one.

        Args:
            owner: Their name; None for a new one.
            scope: ``"read"``, ``"write"`` or ``"admin"``.
        """
        with self.client() as client:
            made = client.create_token(owner=owner or f"user-{uuid.uuid4().hex[:8]}", scope=scope)
        assert made.token is not None
        return dataclasses.replace(self, token=made.token, owner=made.owner)

    def fail(self, kind: str, **how: Any) -> None:
        """Have its Tapis API fail on purpose; start it with ``faults=True``.

        Args:
            kind: What goes wrong, in the place of all that was said before: ``"cancel_lost"``, ``"cancel_late"``,
                ``"blocked"``, ``"unknown_500"``, ``"plain_401"``, ``"html_502"``, ``"html_502_after"`` (the answer is
                lost), ``"slow"``.
            **how: ``times=`` (1; None for ever), ``seconds=`` (1.0), ``method="POST"``, ``path="/v3/jobs/*"``.

        Raises:
            ConfigError: The service makes no such fault: says why.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False) as http:
            answer = http.put("/v1/faults", json={"items": [{"kind": kind, **how}]})
        if not answer.is_success:
            raise ConfigError(f"{kind!r} cannot be had: {answer.json().get('detail', answer.text)}")

    def client(self, **options: Any) -> Client:
        """A client of it; close it, or use it in a ``with`` block.

        Args:
            **options: What :class:`hpcjobs.Client` takes.
        """
        from hpcjobs.client import Client

        return Client(**{"url": self.url, "token": self.token, **options})


@contextmanager
def local_service(**options: Any) -> Iterator[LocalService]:
    """A service of your own, in a temporary folder, that ends with the block, and all of its jobs with it.

    Args:
        **options: The options of ``hpcjobs serve``, with underscores: ``workers=2``, ``cores=4``, ``no_listen=True``,
            ``tasks=["my.tasks"]``. ``data=`` is a folder that is kept.

    Raises:
        NoService: ``hpcjobs-server`` is not installed, or the service does not start: says why.
        ConfigError: An option cannot be given here.

    Example:
        >>> from hpcjobs.testing import local_service
        >>> with local_service(workers=2) as service, service.client() as client:  # doctest: +SKIP
        ...     client.submit("echo hello").wait()
    """
    given = dict(options)
    kept = given.pop("data", None)
    arguments = _arguments(given)
    # A short name: the path of a socket has at most 107 bytes.
    folder = Path(kept).absolute() if kept is not None else Path(tempfile.mkdtemp(prefix="hpcjobs-"))
    # The developer's own settings, a database say, are not for tests.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("HPCJOBS_")}
    try:
        if kept is not None and profiles.local_service(folder) is not None:
            raise ConfigError(f"a service runs on {folder} already, and would be ended here; give another folder")
        try:
            target = profiles.start_local(folder, arguments=arguments, environ=environ)
            yield _described(target.url, target.token, folder)
        finally:
            _stop(folder, environ)
    finally:
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def _described(url: str, token: Token, data: Path) -> LocalService:
    from hpcjobs.client import Client

    secret = token() if callable(token) else token or ""
    with Client(url=url, token=secret) as client:
        owner = client.info().owner
    return LocalService(url=url, token=secret, owner=owner, data=data)


_OURS = frozenset({"port", "detach", "stop", "now", "status", "json", "token_file"})
"""What is settled here."""


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as arguments of the command.

    Example:
        >>> _arguments({"workers": 2, "no_listen": True, "tasks": ["a", "b"], "keep": None})
        ['--workers', '2', '--no-listen', '--tasks', 'a', '--tasks', 'b']
    """
    if wrong := sorted(_OURS & options.keys()):
        raise ConfigError(
            f"{', '.join(wrong)} cannot be given: the service starts on a free port, and ends with the block"
        )
    found: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not None and value is not False:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                found += [flag, str(one)]
    return found


def _stop(folder: Path, environ: Mapping[str, str]) -> None:
    import importlib.util
    import subprocess
    import sys

    if importlib.util.find_spec("hpcjobs_server") is None:
        return  # nothing was started

    command = [sys.executable, "-m", "hpcjobs_server", "serve", "--stop", "--now", "--data", str(folder)]
    with tempfile.TemporaryFile() as output:
        try:
            ended = subprocess.run(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=STOP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoService(f"the service in {folder} did not end within {STOP_SECONDS:g} s") from None
        output.seek(0)
        if ended.returncode:
            said = output.read()[-2000:].decode("utf-8", "replace").strip()
            raise NoService(f"the service in {folder} could not be ended; it said:\n{said}")


try:
    import pytest
except ImportError:  # a script or a classroom has no need of it
    pass
else:
    __all__ += ["hpcjobs_client", "hpcjobs_service", "hpcjobs_service_options"]

    @pytest.fixture(scope="session")
    def hpcjobs_service_options() -> dict[str, Any]:
        """The options of the service, as for :func:`local_service`: define a fixture of this name to change them."""
        return {}

    @pytest.fixture(scope="session")
    def hpcjobs_service(hpcjobs_service_options: dict[str, Any]) -> Iterator[LocalService]:
        """A service for all tests of the session."""
        with local_service(**hpcjobs_service_options) as service:
            yield service

    @pytest.fixture
    def hpcjobs_client(hpcjobs_service: LocalService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
        """A client of an owner who has no jobs yet; what has not ended when the test ends is cancelled.

        While the test runs, ``Client()`` without arguments and the command ``hpcjobs`` are of the same owner.
        """
        user = hpcjobs_service.user()
        for name in [name for name in os.environ if name.startswith("HPCJOBS_")]:
            monkeypatch.delenv(name)
        for name, text in user.environ.items():
            monkeypatch.setenv(name, text)
        with user.client() as client:
            yield client
            client.cancel_many(state="active", reason="the test has ended")
