"""Files from end to end on a real service: folders and patterns up, broken connections, outputs read where they are."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import os
import socket
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcjobs import AsyncClient, Client, JobState, OutputError, OutputNotFound, RetryPolicy, TransportError
from tests.running import Service, until

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "place"
    for name in ("data/a.csv", "data/deep/b.csv", "data/.hidden", "params/1.json", "params/2.json", "src/run.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "src" / "tool.sh").write_text("echo tool")
    (folder / "src" / "tool.sh").chmod(0o755)
    monkeypatch.chdir(folder)
    return folder


def seen(client: Client, inputs: Any) -> list[str]:
    job = client.submit("find . -type f | sort", inputs=inputs)
    assert job.wait(60).state is JobState.FINISHED
    return [line.removeprefix("./") for line in job.logs().splitlines()]


def test_folders_and_patterns_arrive_under_their_names(place: Path, shared_client: Client) -> None:
    assert seen(shared_client, ["data/", "params/*.json", "**/*.py"]) == [
        "data/.hidden", "data/a.csv", "data/deep/b.csv", "params/1.json", "params/2.json", "src/run.py"
    ]  # fmt: skip
    assert seen(shared_client, {"in": "data", ".": "params/*.json"}) == [
        "1.json", "2.json", "in/.hidden", "in/a.csv", "in/deep/b.csv"
    ]  # fmt: skip
    job = shared_client.submit("cat data/a.csv && src/tool.sh", inputs=["."])
    assert job.wait(60).state is JobState.FINISHED
    assert job.logs() == "data/a.csvtool\n"
    assert job.download("nothing") == []


async def test_folders_arrive_in_async_code_too(place: Path, shared_service: Service) -> None:
    async with AsyncClient(url=shared_service.url, token=shared_service.token) as client:
        job = await client.submit("cat data/*.csv data/deep/*", inputs=["data"], progress=False)
        assert (await job).state is JobState.FINISHED
        assert await job.logs() == "data/a.csvdata/deep/b.csv"


class Line:
    """A connection to the service that is counted, and cut.

    Attributes:
        up: Bytes from the client so far.
        cut_after: Bytes from the client after which every connection is cut, once; None for never.
        open: Whether connections are taken at all.
        shut_when_cut: Whether none are after the cut.
    """

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = 0
        self.cut_after: int | None = None
        self.open = True
        self.shut_when_cut = False
        self._go(self._accept)

    def _go(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            self._go(self._pump, client, server, True)
            self._go(self._pump, server, client, False)

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if up:
                    self.up += len(data)
                    if self.cut_after is not None and self.up > self.cut_after:
                        self.cut_after = None
                        self.open = self.open and not self.shut_when_cut
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if up:  # what the client still sends must not be waited for
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            source.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for one in self._sockets:
            one.close()


@pytest.fixture
def line(shared_service: Service) -> Iterator[Line]:
    line = Line(shared_service.url)
    yield line
    line.close()


def big(place: Path, size: int = 20 * MIB) -> str:
    data = os.urandom(size)
    (place / "big").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_after_a_break_only_the_rest_of_an_upload_travels(place: Path, line: Line, token: str) -> None:
    """Within one submit; a second submit of the same sends nothing of it."""
    total = big(place)
    line.cut_after = 12 * MIB
    with Client(url=line.url, token=token) as client:
        job = client.submit("sha256sum big", inputs=["big"])
        assert line.cut_after is None
        assert 20 * MIB < line.up < 22 * MIB
        assert job.wait(60).state is JobState.FINISHED
        assert job.logs().split()[0] == total
        before = line.up
        client.submit("true", inputs={"again": "big"}).wait(60)
        assert line.up - before < 100_000


async def test_after_a_break_only_the_rest_travels_in_async_code_too(place: Path, line: Line, token: str) -> None:
    total = big(place)
    line.cut_after = 12 * MIB
    async with AsyncClient(url=line.url, token=token) as client:
        job = await client.submit("sha256sum big", inputs=["big"])
        assert line.cut_after is None
        assert 20 * MIB < line.up < 22 * MIB
        await job
        assert (await job.logs()).split()[0] == total


def test_a_later_process_goes_on_where_an_earlier_one_was_cut_off(place: Path, line: Line, token: str) -> None:
    total = big(place)
    line.cut_after = 12 * MIB
    line.shut_when_cut = True
    with Client(url=line.url, token=token, retry=RetryPolicy(tries=1)) as client:
        with pytest.raises(TransportError):
            client.submit("true", inputs=["big"])
        line.open = True
        assert list(client.jobs()) == []
    before = line.up
    with Client(url=line.url, token=token) as client:
        job = client.submit("sha256sum big", inputs=["big"])
        assert 8 * MIB < line.up - before < 10 * MIB
        assert job.wait(60).state is JobState.FINISHED
        assert job.logs().split()[0] == total


def test_the_service_may_be_restarted_in_the_middle_of_an_upload(place: Path, service: Service) -> None:
    big(place, MIB)
    os.truncate(place / "big", 200 * MIB)  # large enough to be in the middle of it for a while
    total = hashlib.sha256((place / "big").read_bytes()).hexdigest()
    partial = service.data / "blobs" / "tester" / "partial"

    def restart() -> None:
        until(lambda: any(path.stat().st_size > 4 * MIB for path in partial.glob("*")))
        service.kill_api()
        service.start_api()

    restarting = threading.Thread(target=restart)
    restarting.start()
    with service.client() as client:
        job = client.submit("sha256sum big", inputs=["big"])
        restarting.join()
        assert job.wait(60).state is JobState.FINISHED
        assert job.logs().split()[0] == total


def test_many_who_send_the_same_at_once_all_succeed(place: Path, line: Line, token: str) -> None:
    total = big(place)
    logs: list[str] = []

    def submit() -> None:
        with Client(url=line.url, token=token) as client:
            job = client.submit("sha256sum big", inputs=["big"])
            job.wait(60)
            logs.append(job.logs().split()[0])

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs == [total] * 4


def test_many_files_of_one_content_travel_once_and_are_looked_for_at_once(place: Path, line: Line, token: str) -> None:
    (place / "many").mkdir()
    data = os.urandom(MIB)
    for number in range(30):
        (place / "many" / f"{number}").write_bytes(data)
    with Client(url=line.url, token=token) as client:
        job = client.submit("sha256sum many/* | cut -c1-64 | sort -u", inputs=["many"])
        assert line.up < 1.5 * MIB
        assert job.wait(60).state is JobState.FINISHED
        assert job.logs().strip() == hashlib.sha256(data).hexdigest()


# Outputs


SCRIPT = """
for n in $(seq 20000); do echo "$n,$((n * n))"; done > out.csv
mkdir plots; printf 'gr\\374n' > plots/latin.txt; : > empty
echo made
while [ ! -e go ]; do sleep 0.05; done
echo more >> out.csv
"""


@pytest.fixture
def running(shared_client: Client) -> Iterator[Any]:
    """A job that has written its files, and runs on until it is told."""
    job = shared_client.submit(SCRIPT)
    until(lambda: "made" in job.logs())
    yield job
    job.cancel(confirm=60)


def go_on(service: Service, job: Any) -> None:
    (service.settings.job_folder(job.id, 1) / "work" / "go").touch()
    assert job.wait(60).state is JobState.FINISHED


def test_outputs_are_listed_and_fetched_while_the_job_runs(running: Any, tmp_path: Path) -> None:
    assert [file.path for file in running.files()] == ["empty", "out.csv", "plots/latin.txt"]
    assert running.refresh().state is JobState.RUNNING
    paths = running.download(tmp_path / "results")
    assert [path.name for path in paths] == ["empty", "out.csv", "latin.txt"]
    assert paths[1].read_text().splitlines()[-1] == "20000,400000000"
    assert running.refresh().state is JobState.RUNNING


def test_an_output_is_opened_as_a_file_is(running: Any) -> None:
    with running.open("out.csv") as file:
        assert file.readline() == "1,1\n"
        rows = list(csv.reader(file))
        assert (rows[0], rows[-1], len(rows)) == (["2", "4"], ["20000", "400000000"], 19999)
    assert file.closed
    with running.open("out.csv", "rb") as file:
        assert (file.seek(-16, os.SEEK_END), file.read()) == (file.tell() - 16, b"20000,400000000\n")
        assert (file.seek(2), file.read(3)) == (2, b"1\n2")
        assert (file.seekable(), file.writable(), file.name) == (True, False, "out.csv")
    assert running.open("plots/latin.txt", encoding="latin-1").read() == "grün"
    assert running.open("empty").read() == ""
    with pytest.raises(UnicodeDecodeError):
        running.open("plots/latin.txt").read()


async def test_an_output_is_opened_in_async_code_without_blocking_it(running: Any, shared_client: Client) -> None:
    url, auth = shared_client.service.base_url, shared_client.service.auth
    async with AsyncClient(url=url, token=auth._token) as client:  # type: ignore[union-attr]
        job = await client.job(running.id)
        async with await job.open("out.csv") as file:
            assert await file.readline() == "1,1\n"
            assert [line async for line in file][-1] == "20000,400000000\n"
        assert file.closed
        binary = await job.open("out.csv", "rb")
        assert await binary.seek(-16, os.SEEK_END) == await binary.tell()
        assert await binary.read() == b"20000,400000000\n"
        parts = await asyncio.gather(binary.seek(0), binary.read(4), binary.readline(), binary.readlines())
        assert parts[1:3] == [b"1,1\n", b"2,4\n"]
        assert len(parts[3]) == 19998
        with pytest.raises(OutputNotFound, match=r"out\.csv"):
            await job.open("none")


def test_a_file_that_is_not_there_names_those_that_are(running: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has empty, out\.csv, plots/latin\.txt"):
        running.open("out.tsv")
    for name in ("../stdout", "/etc/passwd", "", "plots/../../stdout"):
        with pytest.raises(OutputError):
            running.open(name)


def test_what_the_job_writes_while_it_is_read_is_noticed(
    running: Any, shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcjobs.readers.AHEAD", 1000)
    file = running.open("out.csv", "rb")
    assert file.read(10) == b"1,1\n2,4\n3,"
    go_on(shared_service, running)
    with pytest.raises(OutputError, match="changed while it was read"):
        file.read()
    assert running.open("out.csv").read().endswith("\nmore\n")


def test_readers_that_seek_can_use_it(shared_client: Client) -> None:
    """An archive and an array, larger than what is fetched at a time."""
    np = pytest.importorskip("numpy")
    make = """
import zipfile
with zipfile.ZipFile("a.zip", "w") as archive:
    for n in range(3):
        archive.writestr(str(n), bytes([n]) * 3_000_000)
open("t.txt", "w").writelines(f"{n} {n * n}\\n" for n in range(1000))
"""
    job = shared_client.submit(["python", "-c", make])
    assert job.wait(60).state is JobState.FINISHED
    with job.open("a.zip", "rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["0", "1", "2"]
        assert archive.read("1") == bytes([1]) * 3_000_000
    with job.open("t.txt") as text:
        assert np.loadtxt(text)[-1].tolist() == [999.0, 998001.0]


def test_a_download_that_was_cut_off_goes_on_and_is_checked(
    place: Path, line: Line, token: str, tmp_path: Path
) -> None:
    with Client(url=line.url, token=token) as client:
        job = client.submit("head -c 20000000 /dev/urandom > big; sha256sum big")
        assert job.wait(60).state is JobState.FINISHED
        [path] = job.download(tmp_path / "results", "big", progress=False)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == job.logs().split()[0]


def test_a_file_that_was_spoilt_on_the_way_is_noticed(
    shared_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its sum, which the service tells: with bytes changed after they came, the file never gets its name."""
    from hpcjobs import downloads

    job = shared_client.submit("seq 1000 > out")
    job.wait(60)
    add = downloads._Part.add
    monkeypatch.setattr(
        downloads._Part, "add", lambda part, chunk: add(part, type(chunk)(b"X" + chunk.data[1:], *_rest(chunk)))
    )
    with pytest.raises(OutputError, match="SHA-256"):
        job.download(tmp_path / "results")
    assert not (tmp_path / "results" / "out").exists()
    monkeypatch.undo()
    assert job.download(tmp_path / "results")[0].read_text().startswith("1\n2\n")


def _rest(chunk: Any) -> tuple[Any, ...]:
    return chunk.offset, chunk.total, chunk.etag, chunk.sha256


def test_the_sum_of_an_output_is_told_to_who_asks(shared_client: Client, shared_service: Service) -> None:
    import base64

    import httpx

    job = shared_client.submit("seq 1000 > out; : > empty")
    job.wait(60)
    data = "".join(f"{n}\n" for n in range(1, 1001)).encode()
    with httpx.Client(base_url=shared_service.url, auth=shared_client.service.auth, trust_env=False) as http:
        path = f"/v1/jobs/{job.id}/files/"
        for name, content in (("out", data), ("empty", b"")):
            wanted = f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
            for headers in ({}, {"Range": "bytes=5-9"}):
                answer = http.get(path + name, headers={**headers, "Want-Repr-Digest": "sha-256=10"})
                assert answer.headers["repr-digest"] == wanted
            head = http.head(path + name, headers={"Want-Repr-Digest": "sha-512=3, sha-256=1"})
            assert head.headers["repr-digest"] == wanted
            for want in ({}, {"Want-Repr-Digest": "sha-512=3"}, {"Want-Repr-Digest": "sha-256=0"}):
                assert "repr-digest" not in http.get(path + name, headers=want).headers


def test_what_takes_a_while_is_shown(
    place: Path, line: Line, token: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With ``progress=True`` in lines, where there is no terminal; without it nothing is, in a test."""
    monkeypatch.setattr("hpcjobs.transfers.PATIENCE", 0.0)
    monkeypatch.setattr("hpcjobs.transfers._Lines.tick", 0.0)
    big(place, 9 * MIB)
    with Client(url=line.url, token=token) as client:
        job = client.submit("head -c 9000000 /dev/zero > out", inputs=["big"], progress=True)
        err = capfd.readouterr().err.splitlines()
        assert any(text.startswith("sending big · ") for text in err)
        assert err[-1].startswith("sent big · 9 MiB in ")
        job.wait(60)
        job.download("results", "out", progress=True)
        err = capfd.readouterr().err.splitlines()
        assert any(text.startswith("fetching out · 8 MiB of 8.6 MiB") for text in err)
        assert err[-1].startswith("fetched out · 8.6 MiB in ")
        job.download("again", "out")
        client.submit("true", inputs=["big"], progress=False)
        assert capfd.readouterr().err == ""


NOTEBOOKS = {
    "sync": (
        "from hpcjobs import Client, transfers\ntransfers.PATIENCE = 0\nclient = Client()",
        "job = client.submit('head -c 9000000 /dev/zero > out', inputs=['big'])",
        "job.wait(progress=False)\npaths = job.download('results', 'out')",
        "quiet = job.download('again', progress=False)",
    ),
    "async": (
        "from hpcjobs import AsyncClient, transfers\ntransfers.PATIENCE = 0\nclient = AsyncClient()",
        "job = await client.submit('head -c 9000000 /dev/zero > out', inputs=['big'])",
        "await job.wait(progress=False)\npaths = await job.download('results', 'out')",
        "quiet = await job.download('again', progress=False)",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("colour", NOTEBOOKS)
def test_a_notebook_keeps_one_output_per_transfer(
    place: Path, shared_service: Service, token: str, monkeypatch: pytest.MonkeyPatch, colour: str
) -> None:
    """As HTML and as text, with what was done at the end; nothing goes to stderr."""
    import nbformat
    from nbclient import NotebookClient

    big(place, 9 * MIB)
    for name, text in shared_service.environ(token).items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # the kernel must not take itself for a test
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in NOTEBOOKS[colour]])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(place)}}).execute()
    begun, sent, fetched, quiet = (cell.outputs for cell in notebook.cells)
    assert (begun, quiet) == ([], [])
    for (output,), words in ((sent, "sent big · 9 MiB in "), (fetched, "fetched out · 8.6 MiB in ")):
        assert output.data["text/plain"].startswith(words)
        assert words in output.data["text/html"]
