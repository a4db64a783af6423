"""Which service is meant, and with which token: arguments, environment, config file, local service.

The first of these that says something decides:

1. the arguments (``Client(url=...)``, ``Client("my-profile")``),
2. the environment (``HPCJOBS_URL``, ``HPCJOBS_TOKEN``, ``HPCJOBS_PROFILE``),
3. the default profile of the config file (``default = "NAME"``),
4. the local service that runs on this machine,
5. a local service that is started now, where ``hpcjobs-server`` is installed.

The config file is ``~/.config/hpcjobs/config.toml`` (``HPCJOBS_CONFIG`` names another one)::

    default = "campus"

    [profiles.campus]
    url = "https://jobs.example.edu"
    token_file = "~/.config/hpcjobs/campus.token"

    [profiles.cluster]
    service = "slurm"
    url = "http://head:6820"
    token_command = ["scontrol", "token"]

All other keys of a profile are for its service, which says which ones it knows.

This module imports nothing but the standard library until a file has to be read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import stat
import sys
import time
import urllib.parse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from hpcjobs.errors import ConfigError, NoService
from hpcjobs.hosts import is_loopback

Token = Union[str, Callable[[], str], None]
"""A token, a function that fetches one (called again when it has expired), or none."""

TOKEN_COMMAND_SECONDS = 30.0
"""How long a ``token_command`` may take."""

START_SECONDS = 60.0
"""How long a local service may take to start."""

_TOKEN_KEYS = ("token", "token_file", "token_command")


@dataclasses.dataclass(frozen=True)
class Target:
    """A service that was settled on.

    Attributes:
        url: The service's address; its scheme names the service (``http``, ``https``: the reference server).
        token: What opens it.
        origin: Where the address was found, in words, for messages.
        profile: The profile's name, where one was used.
        options: The profile's other keys, for the service.
    """

    url: str
    token: Token = dataclasses.field(default=None, repr=False)
    origin: str = "argument"
    profile: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Profile:
    """One ``[profiles.NAME]`` of the config file, as it is written there.

    Attributes:
        name: Its name.
        url: The service's address.
        service: The service's name, where the address does not say it.
        token: The token itself, where it is in the file.
        token_file: A file that has the token.
        token_command: A program that prints the token: a list is run as it is, a string by the shell.
        default: Whether this profile is used where nothing else is said.
        options: All other keys.
    """

    name: str
    url: str
    service: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    token_file: str | None = None
    token_command: str | Sequence[str] | None = None
    default: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def address(self) -> str:
        """The URL with the service's name in its scheme: ``slurm+http://head:6820``."""
        scheme = self.url.split("://", 1)[0]
        if self.service in {None, "reference"} or self.service in scheme.split("+"):
            return self.url
        return f"{self.service}+{self.url}"


# ---------------------------------------------------------------------------------------------------------------------
# Where things are


def config_path() -> Path:
    """The config file: ``HPCJOBS_CONFIG``, else ``hpcjobs/config.toml`` below ``XDG_CONFIG_HOME`` or ``~/.config``."""
    if chosen := os.environ.get("HPCJOBS_CONFIG"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "hpcjobs" / "config.toml"


def data_folder() -> Path:
    """The local service's data: ``HPCJOBS_DATA``, else ``hpcjobs`` below ``XDG_DATA_HOME`` or ``~/.local/share``."""
    if chosen := os.environ.get("HPCJOBS_DATA"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "hpcjobs"


# ---------------------------------------------------------------------------------------------------------------------
# Settling on a service


def resolve(
    profile: str | None = None,
    *,
    url: str | None = None,
    token: Token = None,
    start: bool = True,
    say: Callable[[str], None] | None = None,
) -> Target:
    """Settle which service is meant.

    Args:
        profile: A profile's name, or an address (anything with ``://``).
        url: The service's address; ``?token=`` in it is taken out and used.
        token: The token, or a function that returns one.
        start: Whether a local service may be started where there is none.
        say: Told in one sentence when a local service is being started.

    Raises:
        ConfigError: If both a profile and an address are given, or what was found cannot be used.
        NoService: If there is no service, and none can be started.
    """
    if profile is not None and "://" in profile:
        if url is not None:
            raise ConfigError(f"two addresses are given, {_shown(profile)!r} and {_shown(url)!r}; give one")
        profile, url = None, profile
    if profile is not None and url is not None:
        raise ConfigError(f"both the profile {profile!r} and the address {_shown(url)!r} are given; give one of them")
    if url is not None:
        return _at(url, token, origin="argument")
    if profile is not None:
        return _with_token(_of_profile(profile), token)
    if address := os.environ.get("HPCJOBS_URL"):
        return _at(address, token, origin="HPCJOBS_URL")
    named = os.environ.get("HPCJOBS_PROFILE") or _default_profile()
    if named:
        return _with_token(_of_profile(named), token)
    data = data_folder()
    found = local_service(data) or (start_local(data, say=say) if start else None)
    if found is None:
        raise NoService(_nothing_found(data))
    return _with_token(found, token)


def _with_token(target: Target, token: Token) -> Target:
    return target if token is None else dataclasses.replace(target, token=token)


def _at(address: str, token: Token, *, origin: str) -> Target:
    """A target by address, with the argument's token, the address's own, the environment's or the local service's."""
    url, inside = split_token(address)
    chosen = token or inside
    if chosen is None and (known := os.environ.get("HPCJOBS_TOKEN")):
        # A token goes only where it was meant for: not to another address than the one that stands beside it.
        beside = os.environ.get("HPCJOBS_URL")
        if not beside or split_token(beside)[0] == url:
            chosen = known
    if chosen is None:
        told = _read_server_file(data_folder())
        if told is not None and told[0].rstrip("/") == url:
            chosen = _file_token(data_folder() / "token")
    return Target(url, chosen, origin=origin)


def split_token(address: str) -> tuple[str, str | None]:
    """Take ``?token=`` out of an address.

    Returns:
        The address without token, fragment and trailing slash, and the token or None.

    Raises:
        ConfigError: If it is no address.

    Example:
        >>> split_token("http://127.0.0.1:8765/?token=abc")
        ('http://127.0.0.1:8765', 'abc')
    """
    text = address.strip()
    parts = urllib.parse.urlsplit(text)
    try:
        by_socket = parts.scheme.endswith("unix") and parts.path.startswith("/")  # a file has no host
        bad = not parts.scheme or not (parts.netloc or by_socket) or (parts.port is not None and parts.port == 0)
    except ValueError:  # urlsplit looks at the port only when asked
        bad = True
    if bad or any(character.isspace() or ord(character) < 32 for character in text):
        raise ConfigError(
            f"{_shown(address)!r} is not the address of a service; write it like http://127.0.0.1:8765 or https://host"
        )
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    token = next((value for name, value in query if name == "token" and value), None)
    rest = urllib.parse.urlencode([item for item in query if item[0] != "token"])
    # not urlunsplit: it leaves out the slashes where there is no host
    plain = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return f"{plain}?{rest}" if rest else plain, token


def _shown(address: str) -> str:
    """An address for a message: without anything that may be secret."""
    scheme, mark, rest = address.partition("://")
    place, _, query = rest.partition("?")
    if "@" in query:  # perhaps a password with a question mark in it: then nothing is sure
        return f"{scheme}://..."
    return scheme.split("?", 1)[0] + mark + place.rpartition("@")[2]


# ---------------------------------------------------------------------------------------------------------------------
# The config file


def load_config(path: Path | None = None) -> dict[str, Any]:
    """Read the config file; an empty dict where there is none.

    Raises:
        ConfigError: If it cannot be read, or is not TOML: says the line.
    """
    where = path or config_path()
    try:
        text = where.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        config: dict[str, Any] = toml.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error
    return config


def list_profiles(path: Path | None = None) -> list[Profile]:
    """Every profile of the config file, in the file's order.

    Args:
        path: Another config file.

    Raises:
        ConfigError: If the file, or one of its profiles, cannot be used.
    """
    where = path or config_path()
    config = load_config(where)
    table = config.get("profiles", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: 'profiles' must be tables, [profiles.NAME]")
    return [_profile(name, keys, config.get("default") == name, where) for name, keys in table.items()]


def find_profile(name: str, path: Path | None = None) -> Profile:
    """The profile of this name.

    Raises:
        ConfigError: If there is none; names those that there are, and the file.
    """
    where = path or config_path()
    known = list_profiles(where)
    for profile in known:
        if profile.name == name:
            return profile
    names = f"it has {', '.join(profile.name for profile in known)}" if known else "it has none"
    exists = "" if where.exists() else " (there is no such file)"
    raise ConfigError(f"there is no profile {name!r} in {where}{exists}; {names}")


def _default_profile() -> str | None:
    name = load_config().get("default")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{config_path()}: 'default' must be the name of a profile")
    return name or None


def _profile(name: str, keys: Any, default: bool, where: Path) -> Profile:
    place = f"{where}: profile {name!r}"
    if not isinstance(keys, dict):
        raise ConfigError(f"{place} must be a table, [profiles.{name}]")
    for key in ("url", "service", "token", "token_file"):
        if key in keys and not (isinstance(keys[key], str) and keys[key]):
            raise ConfigError(f"{place}: {key} must be text")
    if "url" not in keys:
        raise ConfigError(f'{place} has no url; write url = "https://..."')
    ways = [key for key in _TOKEN_KEYS if key in keys]
    if len(ways) > 1:
        raise ConfigError(f"{place} has {' and '.join(ways)}; keep one of them")
    command = keys.get("token_command")
    if command is not None and not (
        (isinstance(command, str) and command.strip())
        or (isinstance(command, list) and command and all(isinstance(part, str) for part in command))
    ):
        raise ConfigError(f"{place}: token_command must be a list of a program and its arguments, or a shell command")
    known = {"url", "service", *_TOKEN_KEYS}
    return Profile(
        name=name,
        url=keys["url"],
        service=keys.get("service"),
        token=keys.get("token"),
        token_file=keys.get("token_file"),
        token_command=command,
        default=default,
        options={key: value for key, value in keys.items() if key not in known},
    )


def _of_profile(name: str) -> Target:
    where = config_path()
    profile = find_profile(name, where)
    url, inside = split_token(profile.address)
    token: Token = profile.token or inside
    if profile.token is not None:
        _warn_if_readable(where)
    elif profile.token_file is not None:
        path = Path(profile.token_file).expanduser()
        token = functools.partial(_file_token, where.parent / path)
        token()  # a file that is missing, or open to others, is told now and not at the first request
    elif profile.token_command is not None:
        token = functools.partial(_command_token, profile.token_command, name)
    return Target(url, token, origin=str(where), profile=name, options=profile.options)


def _file_token(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"the token file {path} is empty")
    _warn_if_readable(path)
    return text


def _warn_if_readable(path: Path) -> None:
    import shlex

    with contextlib.suppress(OSError):
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            warnings.warn(f"others can read the token in {path}; say: chmod 600 {shlex.quote(str(path))}", stacklevel=2)


def _command_token(command: str | Sequence[str], profile: str) -> str:
    import shlex
    import subprocess

    shown = command if isinstance(command, str) else shlex.join(command)
    try:
        code, out, err = _run_for_a_while(command, TOKEN_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"profile {profile!r}: the token_command {shown!r} did not end within {TOKEN_COMMAND_SECONDS:g} s"
        ) from None
    except OSError as error:
        raise ConfigError(f"profile {profile!r}: the token_command {shown!r} cannot be run: {error}") from error
    if code != 0:
        said = err.decode("utf-8", "replace").strip()[-500:]
        raise ConfigError(
            f"profile {profile!r}: the token_command {shown!r} ended with {code}" + (f": {said}" if said else "")
        )
    token = out.decode("utf-8", "replace").strip()
    if not token:
        raise ConfigError(f"profile {profile!r}: the token_command {shown!r} printed nothing")
    return token


def _run_for_a_while(command: str | Sequence[str], seconds: float) -> tuple[int, bytes, bytes]:
    """Run a program in a session of its own, so that all that it has started can be ended with it.

    Returns:
        How it ended, and what it wrote to stdout and to stderr.
    """
    import signal
    import subprocess

    with subprocess.Popen(
        command,
        shell=isinstance(command, str),  # a string is the user's own shell command, from their own file
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:  # Ctrl-C too: it does not reach the other session
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            raise
    return process.returncode, out, err


def save_profile(
    name: str,
    *,
    url: str,
    service: str | None = None,
    token: str | None = None,
    token_file: str | Path | None = None,
    token_command: str | Sequence[str] | None = None,
    default: bool | None = None,
    path: Path | None = None,
) -> Path:
    """Write a profile into the config file, and keep everything else in it: comments, order, other profiles.

    Args:
        name: The profile's name; one that exists is changed, its other keys stay.
        url: The service's address; ``?token=`` in it is taken out and used.
        service: The service's name, where the address does not say it.
        token: The token itself; the file is then a secret, and it is readable by its owner only in any case.
        token_file: A file that has the token.
        token_command: A program that prints the token.
        default: True makes it the default profile, False makes it not so; None: the first profile becomes the default.
        path: Another config file.

    Returns:
        The file.

    Raises:
        ConfigError: If the profile or the file cannot be used, or ``tomlkit`` is not installed.
    """
    where = path or config_path()
    address, inside = split_token(url)
    keys: dict[str, Any] = {
        "service": service,
        "url": address,
        "token": token or inside,
        "token_file": str(token_file) if token_file is not None else None,
        "token_command": token_command
        if token_command is None or isinstance(token_command, str)
        else list(token_command),
    }
    _profile(name, {key: value for key, value in keys.items() if value is not None}, False, where)
    document = _document(where)
    import tomlkit

    table = document.setdefault("profiles", tomlkit.table(is_super_table=True))
    first = not table
    entry = table.setdefault(name, tomlkit.table())
    if any(keys[key] is not None for key in _TOKEN_KEYS):
        for key in _TOKEN_KEYS:
            entry.pop(key, None)
    for key, value in keys.items():
        if value is not None:
            entry[key] = value
    if default is False and document.get("default") == name:
        document.pop("default")
    _write_private(where, _dumped(document, name if default or (default is None and first) else None))
    return where


def remove_profile(name: str, path: Path | None = None) -> Path:
    """Take a profile out of the config file, and keep everything else in it.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such profile, or ``tomlkit`` is not installed.
    """
    where = path or config_path()
    find_profile(name, where)
    document = _document(where)
    document["profiles"].pop(name)
    if document.get("default") == name:
        document.pop("default")
    _write_private(where, _dumped(document, None))
    return where


def _document(where: Path) -> Any:
    """The config file as a document that keeps its comments."""
    try:
        import tomlkit
    except ImportError as error:
        raise ConfigError(f"writing {where} needs tomlkit: pip install 'hpcjobs[cli]'") from error
    load_config(where)  # says plainly what is wrong with a file that is broken
    return tomlkit.parse(where.read_text(encoding="utf-8")) if where.exists() else tomlkit.document()


def _dumped(document: Any, default: str | None) -> str:
    """The document as text, with ``default`` as its default profile where one is given."""
    import tomlkit

    if default is None:
        return tomlkit.dumps(document)
    if "default" in document:
        document["default"] = default
        return tomlkit.dumps(document)
    # A key below the first table would belong to that table: a new one goes to the very top.
    return tomlkit.dumps({"default": default}) + "\n" + tomlkit.dumps(document)


def _write_private(where: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only; a link stays a link."""
    import tempfile

    target = Path(os.path.realpath(where))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise ConfigError(f"{where} cannot be written: {error}") from error


# ---------------------------------------------------------------------------------------------------------------------
# The local service


def local_service(data: Path | None = None) -> Target | None:
    """The service that runs on this machine, or None.

    What the data folder says counts only where it is true: the process that it names lives and is ours, and answers.
    Otherwise the port may be another program's by now, which must not be sent our token.

    Args:
        data: The service's data folder.
    """
    folder = data or data_folder()
    told = _read_server_file(folder)
    if told is None:
        return None
    url, pid = told
    if not _lives(url, pid) or not _answers(url):
        return None
    try:
        token = _file_token(folder / "token")
    except ConfigError:
        return None  # it is starting: the token is written a moment later
    return Target(url, token, origin=str(folder))


def _read_server_file(folder: Path) -> tuple[str, int] | None:
    """The address and the process id from ``server.json``, or None where there is no such file, or half of one."""
    try:
        told = json.loads((folder / "server.json").read_text(encoding="utf-8"))
        return str(told["url"]), int(told["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lives(url: str, pid: int) -> bool:
    """Whether a process of ours has this id; true for a service on another host, where it cannot be known."""
    if not is_loopback(urllib.parse.urlsplit(url).hostname or "") or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True


def _answers(url: str, *, seconds: float = 2.0) -> bool:
    """Whether ``/healthz`` says that all is well. Goes straight to the address: a proxy knows nothing of loopback."""
    import http.client

    parts = urllib.parse.urlsplit(url)
    https = parts.scheme == "https"
    connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path.rstrip("/") + "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read(1000)).get("status") == "ok"
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start_local(
    data: Path | None = None,
    *,
    say: Callable[[str], None] | None = None,
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Target:
    """Start a service on this machine, or find the one that someone else started in the meantime.

    It goes on when this process ends; ``hpcjobs serve`` on the same folder takes it over.

    Args:
        data: The service's data folder.
        say: Told in one sentence that this takes a moment.
        arguments: More arguments of ``hpcjobs serve``.
        environ: The environment that it runs in; None for ours.

    Raises:
        NoService: If ``hpcjobs-server`` is not installed, or the service does not answer within a minute: says why.
    """
    import shlex
    import subprocess
    import tempfile

    folder = data or data_folder()
    if importlib.util.find_spec("hpcjobs_server") is None:
        raise NoService(_nothing_found(folder))
    if say is not None:
        say(f"hpcjobs: starting a local service (data in {folder})")
    # It returns when the service answers, and two that are started at once end with one service.
    command = [sys.executable, "-m", "hpcjobs_server", "serve", "--port", "0", "--detach", "--data", str(folder)]
    command += arguments
    with tempfile.TemporaryFile() as output:  # a pipe would stay open for as long as the service lives
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        if process.returncode == 0 and (found := local_service(folder)) is not None:
            return found
        if process.returncode is None:
            process.terminate()
            process.wait()
        output.seek(0)
        said = output.read()[-2000:].decode("utf-8", "replace").strip()
    why = f"it said:\n{said}" if said else f"see the log files in {folder / 'log'}"
    raise NoService(f"a local service could not be started with: {shlex.join(command)}\n{why}")


def _nothing_found(folder: Path) -> str:
    config = config_path()
    return (
        f"no service is configured (HPCJOBS_URL, {config}) and none runs in {folder}. "
        "Set HPCJOBS_URL, or write a profile with `hpcjobs login`, "
        + (
            "or start one with `hpcjobs serve`"
            if importlib.util.find_spec("hpcjobs_server") is not None
            else "or run one here: pip install 'hpcjobs[server]'"
        )
    )
