"""The API's process: ``python -m hpcjobs_server.api_process``.

It takes its settings from the environment, listens before it does anything else, and writes ``server.json`` into the
data folder once it answers. Without a database it runs as well, and says so to whoever asks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from types import FrameType

import setproctitle
import uvicorn

from hpcjobs._version import __version__
from hpcjobs_server.app import create_app
from hpcjobs_server.apps import AppError
from hpcjobs_server.context import Context
from hpcjobs_server.processes import read_json, write_json
from hpcjobs_server.settings import Settings
from hpcjobs_server.tasks import TaskError

_DRAIN = 2
"""Seconds for requests that are under way when the process is told to end."""
_KEEP_ALIVE = 75
"""Seconds; longer than clients keep an idle connection, so that it is not closed under a request."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound

logger = logging.getLogger("hpcjobs_server.api_process")


class OneLine(logging.Formatter):
    """A record on one line, whatever is in it."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; what had several is joined by " | "."""
        return " | ".join(line.rstrip() for line in super().format(record).splitlines() if line.strip())


def bind(host: str, port: int) -> socket.socket:
    """Listen.

    Args:
        host: A name or an address.
        port: 0 for a free one.

    Raises:
        OSError: The address cannot be used; the message names it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address at which this host reaches a listener.

    Example:
        >>> with socket.create_server(("127.0.0.1", 0)) as listener:
        ...     url_of(listener).rpartition(":")[0]
        'http://127.0.0.1'
    """
    host, port = listener.getsockname()[:2]
    host = _ANY_ADDRESS.get(str(host), str(host))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves one app on one listener, and tells where.

    Args:
        settings: What an operator can set.
        listener: Where it answers.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._listener = listener
        self._file = settings.data / "server.json"
        self.url = url_of(listener)
        app = create_app(settings)
        self._context: Context = app.state.context
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop" if sys.platform != "win32" else "asyncio",
                http="httptools",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_DRAIN,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then say so."""
        await super().startup(sockets)
        if self.started:
            write_json(self._file, {"url": self.url, "pid": os.getpid(), "version": __version__})
            logger.info("answers at %s", self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that nobody answers any more, end the streams, then the rest."""
        if (read_json(self._file) or {}).get("pid") == os.getpid():
            self._file.unlink(missing_ok=True)
        self._context.feed.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in good order; unlike uvicorn's own, the process does not die of the signal afterwards."""
        del sig, frame
        self.should_exit = True


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    setproctitle.setproctitle("hpcjobs api")
    settings = Settings()
    if not settings.database_url:
        sys.exit("there is no database: set HPCJOBS_SERVER_DATABASE_URL, or start the service with 'hpcjobs serve'")
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        listener = bind(settings.host, settings.port)
    except OSError as error:
        sys.exit(error.strerror)
    with contextlib.closing(listener):
        try:
            server = Server(settings, listener)
        except TaskError as error:
            sys.exit(f"the tasks cannot be offered: {error}")
        except AppError as error:
            sys.exit(f"the apps cannot be offered: {error}")
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
