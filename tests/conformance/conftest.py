"""The real tapipy as a subprocess: ``tapipy.getJob(jobUuid=...)`` is what tapipy makes of it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import places
from tests.conformance.places import Place
from tests.running import Service, clean_environ

PYTHON = Path(sys.prefix) / "tapipy" / "bin" / "python"
DRIVER = Path(__file__).parent / "tapipy_driver.py"
TIMEOUT = 60.0


class TapipyError(Exception):
    """What tapipy raised.

    Attributes:
        kind: The name of its class.
        status: The HTTP status, where there was an answer.
    """

    def __init__(self, kind: str, message: str, status: int | None) -> None:
        self.kind, self.status = kind, status
        super().__init__(message)


class Tapipy:
    """A process that runs tapipy."""

    def __init__(self, **new: Any) -> None:
        if not PYTHON.exists():
            pytest.fail(f"there is no {PYTHON}; `make setup` makes it")
        self._process = subprocess.Popen(
            [str(PYTHON), str(DRIVER)],
            env=clean_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.ask({"new": new})
        except BaseException:
            self.close()
            raise

    def ask(self, command: dict[str, Any]) -> Any:
        """Send one command and return what came of it."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        ready = select.select([process.stdout], [], [], TIMEOUT)[0]
        line = process.stdout.readline() if ready else ""
        if not line:
            process.kill()
            assert process.stderr is not None
            raise AssertionError(f"tapipy said nothing\n{process.stderr.read()}")
        answer = json.loads(line)
        if "error" in answer:
            raise TapipyError(answer["error"], answer["message"], answer["status"])
        return answer["result"]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda **arguments: self.ask({"call": name, "with": arguments})

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=TIMEOUT)


@pytest.fixture
def owner() -> str:
    """The name that the owner of ``token`` logs in with."""
    import uuid

    return f"owner-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def token(shared_service: Service, owner: str) -> str:
    """A token of an owner of this test alone; for tapipy it is the password."""
    return shared_service.make_token(owner).token or ""


@pytest.fixture
def tapipy(shared_service: Service, owner: str, token: str) -> Iterator[Tapipy]:
    """tapipy, logged in by password; it finds out about the tenant by itself."""
    made = Tapipy(base_url=shared_service.url, username=owner, password=token)
    yield made
    made.close()


# The contract of all services


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the contract is tried."""
    parser.addoption("--place", help="a place for the contract: package.module:Class or path/to/file.py:Class")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on the places that there are, or on the one that was asked for."""
    if "place" not in metafunc.fixturenames:
        return
    address = metafunc.config.getoption("--place", default=None)
    chosen = [places.found(address)] if address else [*places.PLACES, places.found(str(places.EXAMPLE))]
    metafunc.parametrize("place", chosen, ids=lambda place: place.name, indirect=True, scope="session")


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each of the real services, behind a proxy."""
    made: Place = request.param.opened(request.getfixturevalue)
    yield made
    made.close()


@pytest.fixture(scope="session")
def slow(place: Place) -> Iterator[Callable[[], str]]:
    """Hands out jobs that run longer than they may; they were submitted when the place was opened."""
    with place.client("sync") as client:
        ids = [client.submit(**place.too_long()).id for _ in range(2)]
        yield ids.pop


@pytest.fixture
def too_long(slow: Callable[[], str]) -> str:
    """The id of a job that runs longer than it may."""
    return slow()
