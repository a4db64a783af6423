"""Which service is meant: arguments, environment, config file, local service."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import shlex
import stat
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcjobs import AsyncClient, Client, profiles
from hpcjobs.errors import ConfigError, NoService
from hpcjobs.profiles import find_profile, list_profiles, remove_profile, resolve, save_profile, split_token


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the config file."""
    path = tmp_path / "config" / "config.toml"
    monkeypatch.setenv("HPCJOBS_CONFIG", str(path))
    monkeypatch.setenv("HPCJOBS_DATA", str(tmp_path / "data"))

    def write(text: str) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(0o600)
        return path

    return write


class Healthy(http.server.BaseHTTPRequestHandler):
    """Answers ``/healthz`` as a service does."""

    body = b'{"status":"ok"}'

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Makes it look as if a local service ran."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("HPCJOBS_DATA", str(data))
    monkeypatch.setenv("HPCJOBS_CONFIG", str(tmp_path / "no.toml"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def announce(*, pid: int | None = None, body: bytes = b'{"status":"ok"}') -> str:
        url = f"http://127.0.0.1:{server.server_port}"
        server.RequestHandlerClass = type("Handler", (Healthy,), {"body": body})
        (data / "server.json").write_text(json.dumps({"url": url, "pid": pid or os.getpid(), "version": "1"}))
        (data / "token").write_text("local-token\n")
        (data / "token").chmod(0o600)
        return url

    yield announce
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_address_as_the_server_prints_it() -> None:
    """The token is taken out of the address, and goes nowhere else."""
    assert split_token("http://127.0.0.1:8765/?token=abc#x") == ("http://127.0.0.1:8765", "abc")
    assert split_token("https://host/below/?a=1&token=t") == ("https://host/below?a=1", "t")
    assert split_token(" http://host/ ") == ("http://host", None)
    target = resolve(url="http://host:1/?token=secret")
    assert (target.url, target.token) == ("http://host:1", "secret")
    assert "secret" not in repr(target)


@pytest.mark.parametrize("address", ["", "host:80", "http://", "http://host:99999", "http://ho st", "http://host:0"])
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ConfigError, match=r"write it like http://127\.0\.0\.1:8765"):
        split_token(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:s3cret@/",
        "http://me:s3cret@host:0/?token=s3cret",
        "http://me:s3?cret@h x",
        "http://h x?token=a@s3cret",
    ],
)
def test_a_wrong_address_shows_nothing_secret(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(url=address, profile="a")
    assert "cret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        split_token(address.replace("me:s3cret@/", "me:s3cret@ /"))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:1", True),
        ("http://jobs.localhost", True),
        ("http://192.168.0.1", False),
        ("http://localhost.example.org", False),
    ],
)
def test_a_dead_process_is_known_for_every_name_of_this_machine_only(url: str, here: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert profiles._lives(url, process.pid) is not here


def test_a_wrong_address_does_not_show_its_token() -> None:
    """What may be secret is not in the message."""
    with pytest.raises(ConfigError) as caught:
        split_token("host?token=secret")
    assert "secret" not in str(caught.value)


def test_an_argument_decides_before_the_environment(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argument, environment, default profile: in this order."""
    config(
        """
        default = "usual"
        [profiles.usual]
        url = "http://usual"
        token = "usual-token"
        [profiles.other]
        url = "http://other"
        """
    )
    assert resolve().url == "http://usual"
    assert resolve().token == "usual-token"
    assert resolve().profile == "usual"
    monkeypatch.setenv("HPCJOBS_PROFILE", "other")
    assert resolve().url == "http://other"
    monkeypatch.setenv("HPCJOBS_URL", "http://environment")
    assert resolve().url == "http://environment"
    assert resolve("usual").url == "http://usual"
    assert resolve("http://argument").url == "http://argument"
    assert resolve(url="http://argument").url == "http://argument"
    assert resolve(url="http://argument", token="t").token == "t"
    assert resolve("usual", token="t").token == "t"


def test_a_profile_and_an_address_are_one_too_many(config: Callable[[str], Path]) -> None:
    """Neither is silently ignored."""
    with pytest.raises(ConfigError, match="give one"):
        resolve("usual", url="http://host")
    with pytest.raises(ConfigError, match="two addresses"):
        resolve("http://one", url="http://two")


def test_the_environments_token_goes_only_where_it_was_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HPCJOBS_TOKEN`` belongs to ``HPCJOBS_URL``, and to any address where there is none."""
    monkeypatch.setenv("HPCJOBS_TOKEN", "t")
    assert resolve(url="http://anywhere").token == "t"
    monkeypatch.setenv("HPCJOBS_URL", "http://mine/")
    assert resolve().token == "t"
    assert resolve(url="http://mine").token == "t"
    assert resolve(url="http://elsewhere").token is None


def test_an_unknown_profile_names_those_that_there_are(config: Callable[[str], Path]) -> None:
    """And the file, and whether there is one."""
    with pytest.raises(ConfigError, match=r"no profile 'x' in .*config.toml \(there is no such file\); it has none"):
        resolve("x")
    config('[profiles.a]\nurl = "http://a"\n[profiles.b]\nurl = "http://b"\n')
    with pytest.raises(ConfigError, match=r"no profile 'x' in .*config.toml; it has a, b"):
        resolve("x")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a = \n", "line 1"),
        ("[profiles.a]\n", "has no url"),
        ("[profiles.a]\nurl = 3\n", "url must be text"),
        ("profiles = 1\n", "must be tables"),
        ("[profiles]\na = 1\n", "must be a table"),
        ("default = 1\n", "must be the name of a profile"),
        ('[profiles.a]\nurl = "http://a"\ntoken = "x"\ntoken_file = "y"\n', "token and token_file; keep one"),
        ('[profiles.a]\nurl = "http://a"\ntoken_command = []\n', "token_command must be a list"),
        ('[profiles.a]\nurl = "nowhere"\n', "not the address"),
    ],
)
def test_a_config_file_that_cannot_be_used_says_why(config: Callable[[str], Path], text: str, match: str) -> None:
    """With the file, and the line or the profile."""
    config(text)
    with pytest.raises(ConfigError, match=match):
        resolve(None if "default" in text else "a", start=False)


def test_a_config_file_that_is_not_text(config: Callable[[str], Path]) -> None:
    """Bytes that are not UTF-8 are a config error too."""
    config("").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve(start=False)


def test_the_service_word_becomes_part_of_the_address(config: Callable[[str], Path]) -> None:
    """``service = "slurm"`` is the same as ``slurm+http://``, and other keys are kept for the service."""
    config(
        """
        [profiles.a]
        service = "slurm"
        url = "http://head:6820"
        account = "abc"
        [profiles.b]
        service = "reference"
        url = "https://b"
        [profiles.c]
        service = "slurm"
        url = "slurm+http://c"
        """
    )
    assert resolve("a").url == "slurm+http://head:6820"
    assert resolve("a").options == {"account": "abc"}
    assert resolve("b").url == "https://b"
    assert resolve("c").url == "slurm+http://c"


def test_a_token_file_is_read_again_when_a_token_is_needed(config: Callable[[str], Path], tmp_path: Path) -> None:
    """A token that was renewed is found, without a new client."""
    path = config('[profiles.a]\nurl = "http://a"\ntoken_file = "a.token"\n').parent / "a.token"
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve("a")
    path.write_text("")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is empty"):
        resolve("a")
    path.write_text("first\n")
    token = resolve("a").token
    assert callable(token)
    assert token() == "first"
    path.write_text("second\n")
    assert token() == "second"


def test_a_secret_that_others_can_read_is_warned_about(config: Callable[[str], Path]) -> None:
    """With the command that mends it."""
    path = config(
        '[profiles.a]\nurl = "http://a"\ntoken_file = "a.token"\n[profiles.b]\nurl = "http://b"\ntoken = "t"\n'
    )
    file = path.parent / "a.token"
    file.write_text("t")
    file.chmod(0o640)
    with pytest.warns(UserWarning, match=r"others can read the token in .*a\.token; say: chmod 600 "):
        resolve("a")
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="config.toml"):
        resolve("b")


def test_a_token_command_is_run_as_it_is(config: Callable[[str], Path], tmp_path: Path) -> None:
    """A list never sees a shell; a string is a shell command. It is run when the token is needed."""
    mark = tmp_path / "mark"
    program = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('x'); print('$HOME;')", str(mark)]
    config(
        f"""
        [profiles.list]
        url = "http://a"
        token_command = {json.dumps(program)}
        [profiles.text]
        url = "http://a"
        token_command = "echo a$((1+1))b"
        """
    )
    token = resolve("list").token
    assert not mark.exists()
    assert callable(token)
    assert token() == "$HOME;"
    assert mark.read_text() == "x"
    token = resolve("text").token
    assert callable(token)
    assert token() == "a2b"


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ('"echo no >&2; exit 3"', "ended with 3: no"),
        ('"true"', "printed nothing"),
        ('["/does/not/exist"]', "cannot be run"),
        ('"sleep 5"', "did not end within 0.2 s"),
    ],
)
def test_a_token_command_that_fails_says_how(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, command: str, match: str
) -> None:
    """With what it said, and never for longer than the timeout."""
    monkeypatch.setattr(profiles, "TOKEN_COMMAND_SECONDS", 0.2)
    config(f'[profiles.a]\nurl = "http://a"\ntoken_command = {command}\n')
    token = resolve("a").token
    assert callable(token)
    with pytest.raises(ConfigError, match=match):
        token()


def test_saving_keeps_what_was_there(config: Callable[[str], Path]) -> None:
    """Comments, order, and other keys stay; the file is readable by its owner only."""
    path = config(
        """\
        # mine
        [profiles.a]  # the first
        url = "http://a"  # here
        account = "abc"
        token_file = "x"
        """
    )
    path.chmod(0o644)
    assert save_profile("a", url="http://b/?token=t") == path
    text = path.read_text()
    assert "# mine" in text
    assert "# the first" in text
    assert "# here" in text
    assert 'account = "abc"' in text
    assert "token_file" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_profile("a").token == "t"
    save_profile("b", url="http://b", token_command=["print", "token"], default=True)
    assert path.read_text().startswith('default = "b"\n')
    assert [(profile.name, profile.default) for profile in list_profiles()] == [("a", False), ("b", True)]
    assert find_profile("b").token_command == ["print", "token"]
    save_profile("a", url="http://a2", default=True)
    assert [(profile.name, profile.default) for profile in list_profiles()] == [("a", True), ("b", False)]
    save_profile("a", url="http://a2", default=False)
    assert not any(profile.default for profile in list_profiles())
    remove_profile("b")
    assert [profile.name for profile in list_profiles()] == ["a"]
    with pytest.raises(ConfigError, match="no profile 'b'"):
        remove_profile("b")


def test_the_first_profile_becomes_the_default(config: Callable[[str], Path], tmp_path: Path) -> None:
    """A folder that is missing is made, private; the second profile does not take over."""
    path = save_profile("one", url="http://one", token="t")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    save_profile("two", url="http://two")
    assert resolve().url == "http://one"
    remove_profile("one")
    assert not any(profile.default for profile in list_profiles())


def test_saving_through_a_link_keeps_the_link(config: Callable[[str], Path], tmp_path: Path) -> None:
    """Config files are often links into a folder of their own."""
    path = config("")
    target = tmp_path / "dotfiles.toml"
    path.rename(target)
    path.symlink_to(target)
    save_profile("a", url="http://a")
    assert path.is_symlink()
    assert "http://a" in target.read_text()


def test_a_profile_that_could_not_be_read_back_is_not_written(config: Callable[[str], Path]) -> None:
    """Nothing is written over a broken file, and no broken profile is written."""
    path = config("a = \n")
    with pytest.raises(ConfigError, match="line 1"):
        save_profile("a", url="http://a")
    assert path.read_text() == "a = \n"
    path.unlink()
    with pytest.raises(ConfigError, match="keep one"):
        save_profile("a", url="http://a", token="t", token_file="f")
    with pytest.raises(ConfigError, match="not the address"):
        save_profile("a", url="a")
    assert not path.exists()


def test_the_local_service_is_found_with_its_token(local: Callable[..., str]) -> None:
    """By what its data folder says, without any setting; also when its address is given."""
    url = local()
    assert (resolve().url, resolve().token) == (url, "local-token")
    assert resolve(url=url).token == "local-token"
    assert resolve(token="mine").token == "mine"


def test_a_dead_local_service_is_not_believed(local: Callable[..., str], tmp_path: Path) -> None:
    """Nobody at the port, another program at the port, and a process that is gone: our token is sent to none of them."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    local(pid=gone.pid)
    assert profiles.local_service() is None
    local(body=b"<html>")
    assert profiles.local_service() is None
    local(body=b'["ok"]')
    assert profiles.local_service() is None
    file = tmp_path / "data" / "server.json"
    for text in (
        "",
        "{}",
        "[]",
        '{"url": "http://127.0.0.1:9", "pid": 1e99}',
        '{"url": "http://127.0.0.1:1", "pid": 1}',
    ):
        file.write_text(text)
        assert profiles.local_service() is None
    with pytest.raises(NoService, match="no service is configured"):
        resolve(start=False)


def test_without_a_server_to_start_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has all three ways out."""
    monkeypatch.setattr(profiles.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NoService, match=r"HPCJOBS_URL.*hpcjobs login.*pip install 'hpcjobs\[server\]'"):
        resolve()


def test_a_local_service_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server said is in the error."""
    monkeypatch.setenv("HPCJOBS_DATA", str(tmp_path / "file" / "data"))
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(NoService, match=r"could not be started with: .* serve .*\nit said:\n.*data"):
        resolve(say=said.append)
    assert len(said) == 1


def test_a_token_command_that_takes_too_long_leaves_nothing_behind(
    config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the shell has started ends with it; the file is locked for as long as one of them lives."""
    monkeypatch.setattr(profiles, "TOKEN_COMMAND_SECONDS", 1.0)
    lock = tmp_path / "lock"
    child = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, 2); open(sys.argv[1] + 'ed', 'w'); time.sleep(30)"
    command = f"{sys.executable} -c {shlex.quote(child)} {lock} & wait"
    config(f'[profiles.a]\nurl = "http://a"\ntoken_command = {json.dumps(command)}\n')
    token = resolve("a").token
    assert callable(token)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="did not end within"):
        token()
    assert time.monotonic() - begun < 10
    assert (tmp_path / "locked").exists()
    with lock.open("w") as file:
        deadline = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline, "a child of the token_command lives on"
                time.sleep(0.02)


def test_only_the_standard_library_is_imported() -> None:
    """Settling on a service by address costs neither httpx nor pydantic."""
    code = """
import sys
from hpcjobs import profiles
profiles.resolve(url="http://host")
heavy = {"httpx", "pydantic", "tenacity", "tomlkit", "rich", "asyncio"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_warnings_are_for_secrets_only(config: Callable[[str], Path]) -> None:
    """A config file without a secret may be readable by everyone."""
    config('[profiles.a]\nurl = "http://a"\n').chmod(0o644)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve("a")


def test_a_misspelt_key_of_a_profile_is_named(config: Callable[[str], Path]) -> None:
    """Else there would be no token, and the service would say that it is missing."""
    config('[profiles.a]\nurl = "http://127.0.0.1:1"\ntoken_fil = "x"\n')
    with pytest.raises(ConfigError, match="'token_fil'"):
        Client("a")
    with pytest.raises(ConfigError, match="'token_fil'"):
        AsyncClient("a")
