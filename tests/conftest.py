"""Fixtures: a real Postgres, fresh databases, real servers, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from tests import leftovers, moto_batch, slurm_cluster
from tests.running import Service, until

if TYPE_CHECKING:
    from hpcjobs import Client
    from hpcjobs_server.settings import Settings

collect_ignore = ["benchmarks", "conformance/tapipy_driver.py", "moto_batch_server.py"]

# A deadline per example measures the machine, not the property.
hypothesis_settings.register_profile("dev", deadline=None)
hypothesis_settings.register_profile(
    "ci", deadline=None, max_examples=200, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("HPCJOBS_NO_SKIPS") else "dev")

TEMPLATE = "hpcjobs_template"
SERVICES = pytest.StashKey[list[Service]]()


# No skips where HPCJOBS_NO_SKIPS=1 says so: a test that does not run proves nothing.


def _no_skips() -> bool:
    return os.environ.get("HPCJOBS_NO_SKIPS", "") not in {"", "0"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips and expected failures into failures where they are forbidden; show a failed test's server logs."""
    report = yield
    if _no_skips() and (report.skipped or hasattr(report, "wasxfail")):
        why = getattr(report, "wasxfail", None) or report.longrepr
        report.__dict__.pop("wasxfail", None)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped or expected to fail, and HPCJOBS_NO_SKIPS forbids it: {why}"
    if report.failed:
        for service in item.stash.get(SERVICES, []):
            report.sections.append((f"logs of {service.url}", service.logs()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that is skipped as a whole."""
    report = yield
    if _no_skips() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and HPCJOBS_NO_SKIPS forbids it: {report.longrepr}"
    return report


# Every test starts from the same surroundings and leaves no process behind.

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background deaf to Ctrl-C, and every child would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the server and notebooks do."""
    return "asyncio"


@pytest.fixture(scope="session")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for an empty home."""
    return tmp_path_factory.mktemp("nowhere")


@pytest.fixture(scope="session")
def long_lived() -> set[str]:
    """The folders of what lives longer than one test; its processes are checked when the session ends."""
    return set()


@pytest.fixture(autouse=True)
def surroundings(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, profile or running service of the developer's own is seen by a test."""
    for name in [name for name in os.environ if name.startswith("HPCJOBS_") and name != "HPCJOBS_NO_SKIPS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HPCJOBS_CONFIG", str(nowhere / "config.toml"))
    monkeypatch.setenv("HPCJOBS_DATA", str(nowhere / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nowhere / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(nowhere / "share"))


@pytest.fixture(autouse=True)
def no_process_left(tmp_path_factory: pytest.TempPathFactory, long_lived: set[str]) -> Iterator[None]:
    """Fail a test that leaves a process behind, and remove the process."""
    before = leftovers.running()
    yield
    roots = [str(tmp_path_factory.getbasetemp())]

    def look() -> list[Any]:
        return leftovers.find(before, roots=roots, long_lived=long_lived)

    # What has just been told to go may take a moment.
    with contextlib.suppress(TimeoutError):
        until(lambda: not look(), timeout=5, what="the end of the test's processes")
    if left := look():
        told = "\n".join(leftovers.describe(process) for process in left)
        leftovers.remove(left)
        pytest.fail(f"the test left processes behind:\n{told}")


# Postgres


@contextlib.contextmanager
def _postgres(folder: Path | None = None) -> Iterator[Any]:
    """An embedded Postgres of its own, in a folder with a short name (a socket's path has at most 107 bytes)."""
    from hpcjobs_server.embedded import EmbeddedPostgres

    made = Path(tempfile.mkdtemp(prefix="hj-"))
    before = leftovers.running()
    postgres = EmbeddedPostgres(made)
    try:
        yield postgres
        postgres.stop()
        with contextlib.suppress(TimeoutError):
            until(lambda: not leftovers.find(before, roots=[str(made)]), timeout=5)
    finally:
        mine = [
            process for process in leftovers.find(before, roots=[str(made)]) if str(made) in " ".join(process.cmdline())
        ]
        leftovers.remove(mine)
        shutil.rmtree(made, ignore_errors=True)
    assert not mine, "Postgres was still running after stop()"


@pytest.fixture(scope="session")
def postgres_url(long_lived: set[str]) -> Iterator[str]:
    """The address of one embedded Postgres for the whole session, with a migrated template database in it."""
    from hpcjobs_server.migrate import migrate

    with _postgres() as postgres:
        long_lived.add(str(postgres.data))
        url = postgres.start()
        with psycopg.connect(url, autocommit=True) as connection:
            # nothing here outlives the session, and a database per test is made in a tenth of the time
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate(_database_url(url, TEMPLATE))
        yield url


def _database_url(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def _fresh_database(url: str, *, migrated: bool = True) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    template = TEMPLATE if migrated else "template1"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield _database_url(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    with _fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """The address of a fresh database with nothing in it."""
    with _fresh_database(postgres_url, migrated=False) as url:
        yield url


# Servers


def _make_settings(data: Path, database_url: str, **changes: Any) -> Settings:
    from hpcjobs_server.settings import Settings

    quick: dict[str, Any] = {"lease": 3.0, "beat": 0.2, "poll": 0.5, "cores": 2, "port": 0}
    return Settings(**{**quick, "data": data, "database_url": database_url, **changes})


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """Makes settings with a short lease: ``settings(workers=2)``. The database is the test's own unless one is given."""

    def make(**changes: Any) -> Settings:
        url = changes.pop("database_url", None) or request.getfixturevalue("database")
        return _make_settings(changes.pop("data", tmp_path / "data"), url, **changes)

    return make


@pytest.fixture
def service_factory(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Service]]:
    """Starts servers for this test: ``service_factory(workers=2, cores=4, lease=1.0)``.

    Each has a fresh database and data folder, unless ``database_url`` or ``data`` says otherwise. With
    ``own_postgres=True`` it also has a Postgres of its own, which can be stopped and started again. With
    ``started=False`` nothing is started yet.
    """
    with contextlib.ExitStack() as stack:
        made = request.node.stash.setdefault(SERVICES, [])

        def make(*, own_postgres: bool = False, started: bool = True, **changes: Any) -> Service:
            postgres = None
            if own_postgres:
                from hpcjobs_server.migrate import migrate

                postgres = stack.enter_context(_postgres())
                url = postgres.start()
                migrate(url)
            else:
                url = changes.pop("database_url", None) or stack.enter_context(
                    _fresh_database(request.getfixturevalue("postgres_url"))
                )
            data = changes.pop("data", tmp_path / (f"data-{len(made) + 1}"))
            service = Service(_make_settings(data, url, **changes), postgres)
            made.append(service)
            stack.callback(service.end)
            return service.start() if started else service

        yield make


@pytest.fixture
def service(service_factory: Callable[..., Service]) -> Service:
    """A running server of this test's own: the API and one worker with two cores."""
    return service_factory()


@pytest.fixture(scope="session")
def shared_service(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, long_lived: set[str]
) -> Iterator[Service]:
    """A running server for all tests that kill nothing and look only at jobs of their own."""
    data = tmp_path_factory.mktemp("shared") / "data"
    long_lived.add(str(data))
    before = leftovers.running()
    with _fresh_database(postgres_url) as url:
        service = Service(_make_settings(data, url, lease=30.0))
        try:
            yield service.start()
        finally:
            service.end()
    with contextlib.suppress(TimeoutError):
        until(lambda: not leftovers.find(before, roots=[str(data)]), timeout=5)
    left = leftovers.find(before, roots=[str(data)])
    told = "\n".join(leftovers.describe(process) for process in left)
    leftovers.remove(left)
    assert not left, f"the shared server left processes behind:\n{told}"


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of ``service``."""
    with service.client() as client:
        yield client


@pytest.fixture
def token(shared_service: Service) -> str:
    """A token for ``shared_service`` of an owner of this test alone, who has no jobs yet."""
    return shared_service.make_token(f"owner-{uuid.uuid4().hex[:8]}").token or ""


@pytest.fixture
def shared_client(shared_service: Service, token: str) -> Iterator[Client]:
    """A client of ``shared_service`` with an owner of its own, who has no jobs yet.

    What is still there when the test ends, as after one that failed, is cancelled: the next tests need the cores.
    """
    with shared_service.client(token) as client:
        yield client
        client.cancel_many(state="active", reason="the test has ended")


# Slurm


@pytest.fixture(scope="session")
def start_slurm(long_lived: set[str]) -> Callable[..., contextlib.AbstractContextManager[slurm_cluster.SlurmCluster]]:
    """Makes real Slurms of one node, each set as a test file wants it (``min_job_age=5``), to be used by ``with``."""
    if why := slurm_cluster.missing():
        pytest.skip(f"no Slurm here: {why}")

    def start(**options: Any) -> contextlib.AbstractContextManager[slurm_cluster.SlurmCluster]:
        folder = Path(tempfile.mkdtemp(prefix="hj-slurm-"))
        long_lived.add(str(folder))
        return slurm_cluster.running(folder, **options)

    return start


@pytest.fixture(scope="session")
def slurm(start_slurm: Callable[..., Any]) -> Iterator[slurm_cluster.SlurmCluster]:
    """A real Slurm for the whole session; what a test submits, it names or ends itself."""
    with start_slurm() as cluster:
        yield cluster


# AWS Batch


@pytest.fixture(scope="session")
def moto_batch_server(long_lived: set[str]) -> Iterator[moto_batch.MotoBatch]:
    """A server of AWS Batch for the whole session, whose jobs really run; a test ends its own."""
    folder = Path(tempfile.mkdtemp(prefix="hj-batch-"))
    long_lived.add(str(folder))
    with moto_batch.running(folder) as server:
        yield server


@pytest.fixture
def batch(moto_batch_server: moto_batch.MotoBatch, monkeypatch: pytest.MonkeyPatch) -> moto_batch.MotoBatch:
    """The server of AWS Batch, and an environment in which it can be asked."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, text in moto_batch_server.environ.items():
        monkeypatch.setenv(name, text)
    return moto_batch_server
