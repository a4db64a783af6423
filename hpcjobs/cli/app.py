"""The root of the command: which commands there are, and how an error ends.

A command's module is imported when the command is chosen, not before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hpcjobs._version import __version__
from hpcjobs.cli.settings import PLAIN, Json, Profile, Settings, Url, help_without_command

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMMAND_GROUP = "hpcjobs.commands"
"""The entry point group through which another distribution adds commands."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One command as the list of commands shows it.

    Attributes:
        section: The heading that it stands under.
        summary: What it does, in one line.
        target: ``module:name`` of its ``typer.Typer``; "" for a command that is found by its entry point.
    """

    section: str
    summary: str
    target: str = ""


COMMANDS: Mapping[str, Entry] = {
    "submit": Entry("Jobs", "Submit a job, or an array of many.", "hpcjobs.cli.submit:app"),
    "list": Entry("Jobs", "List jobs, newest first.", "hpcjobs.cli.listing:app"),
    "show": Entry("Jobs", "Show everything that is known of a job or an array.", "hpcjobs.cli.show:app"),
    "logs": Entry("Jobs", "Print what a job wrote.", "hpcjobs.cli.logs:app"),
    "watch": Entry("Jobs", "Watch jobs until they have ended.", "hpcjobs.cli.watch:app"),
    "cancel": Entry("Jobs", "Cancel jobs, and say of each what came of it.", "hpcjobs.cli.cancel:app"),
    "retry": Entry("Jobs", "Run jobs again, at once; also such as are scheduled.", "hpcjobs.cli.retry:app"),
    "update": Entry("Jobs", "Change jobs; of those that have started only their labels.", "hpcjobs.cli.update:app"),
    "delete": Entry("Jobs", "Delete jobs, with their files; never one that runs.", "hpcjobs.cli.delete:app"),
    "download": Entry("Jobs", "Download the files of a job.", "hpcjobs.cli.download:app"),
    "queues": Entry("Services", "List the queues, pause and resume them, set their limits.", "hpcjobs.cli.queues:app"),
    "page": Entry("Services", "Open the page of all jobs in a browser.", "hpcjobs.cli.page:app"),
    "login": Entry("Services", "Check a token with a service and keep both in a profile.", "hpcjobs.cli.login:app"),
    "profiles": Entry("Services", "List the profiles, and say which is used and why.", "hpcjobs.cli.profiles:app"),
    "token": Entry("Services", "Create, list and revoke tokens.", "hpcjobs.cli.token:app"),
    "serve": Entry("Reference server", "Run the server on this machine."),
    "worker": Entry("Reference server", "Run one more worker of a server."),
    "demo": Entry("Reference server", "Run real jobs on real data, from start to end."),
}
"""The commands in the order in which they are shown."""


class CommandMissing(Exception):
    """A command whose distribution is not installed, or does not work."""


class Deferred(TyperCommand):
    """Stands for a command until it is chosen; only then is its module imported."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.summary, rich_markup_mode=None)
        self.entry = entry

    def load(self, name: str) -> Any:
        """The command itself."""
        if self.entry.target:
            module, _, attribute = self.entry.target.partition(":")
            found = getattr(importlib.import_module(module), attribute)
        else:
            found = _load(name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(**PLAIN)
            found.command(name)(function)
        command = typer.main.get_command(found)
        command.name = name
        return command


def _points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


def _load(name: str) -> Any:
    point = _points().get(name)
    if point is None:
        raise CommandMissing(
            f"{name!r} is a command of the reference server, which is not installed; run: pip install 'hpcjobs[server]'"
        )
    try:
        return point.load()
    except ImportError as error:
        if os.environ.get("HPCJOBS_DEBUG"):
            raise
        raise CommandMissing(
            f"{name!r} cannot be loaded from {point.value}: {error}; run: pip install 'hpcjobs[server]'"
        ) from error


class Root(TyperGroup):
    """The root: lists its commands without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """A stand-in for the command, which is enough to list it; see :meth:`resolve_command`."""
        entry = COMMANDS.get(cmd_name)
        if entry is None and cmd_name and not cmd_name.startswith("-") and cmd_name in _points():
            entry = Entry("More", "")
        return None if entry is None else Deferred(cmd_name, entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was chosen, imported now."""
        # A name that is not known is compared with these, to say which one may have been meant.
        self.commands = {name: Deferred(name, entry) for name, entry in COMMANDS.items()}
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load(args[0]) if isinstance(command, Deferred) else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the commands under their headings, and those of other distributions last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in COMMANDS.items():
            sections.setdefault(entry.section, []).append((name, entry.summary))
        for name, point in sorted(_points().items()):
            if name not in COMMANDS:
                sections.setdefault("More", []).append((name, f"from {point.value.partition(':')[0]}"))
        wide = max(len(name) for rows in sections.values() for name, _ in rows)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(wide), summary) for name, summary in rows])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what typer would end in its own way is taken first."""
        from hpcjobs.cli.exits import ExitCode

        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(ExitCode.PIPE_CLOSED) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write what the exit codes mean."""
        from hpcjobs.cli.exits import EPILOG

        formatter.write(f"\n{EPILOG}")


def _version(value: bool) -> None:
    if value:
        print(f"hpcjobs {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


@app.callback()
def root(
    ctx: typer.Context,
    profile: Profile = None,
    url: Url = None,
    json: Json = False,
    version: Annotated[  # noqa: ARG001 - the callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Submit, watch and cancel jobs, wherever they run."""
    Settings.of(ctx).merge(profile, url, json)
    help_without_command(ctx)


def _warn(message: Warning | str, *_args: Any, **_more: Any) -> None:
    """Say a warning as everything else is said: in one line, without a place in the source."""
    from hpcjobs.cli.output import error_line

    error_line(f"warning: {message}")


def run(argv: Sequence[str]) -> int:
    """Run the command with the words ``argv`` and return its exit code; nothing is raised."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    settings = Settings()
    show_warning, warnings.showwarning = warnings.showwarning, _warn
    try:
        code = _run(argv, settings)
        sys.stdout.flush()
    except BrokenPipeError:
        from hpcjobs.cli.exits import ExitCode

        code = ExitCode.PIPE_CLOSED
    finally:
        warnings.showwarning = show_warning
    if code == 141:  # what is still in the buffer has no reader: the interpreter must not complain of it when it ends
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(code)


def _run(argv: Sequence[str], settings: Settings) -> int:
    try:
        result = typer.main.get_command(app).main(
            args=list(argv), prog_name="hpcjobs", standalone_mode=False, obj=settings
        )
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except typer.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - this is the place where every error becomes one line and a number
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            before_dashes = list(argv)[: list(argv).index("--")] if "--" in argv else argv
            return _misused(error, as_json=settings.json or "--json" in before_dashes)
        return report(error, as_json=settings.json)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _interrupted() -> int:
    print(file=sys.stderr)
    return 130


def _misused(error: Any, *, as_json: bool) -> int:
    """Say that the command line cannot be used, and which help to read."""
    from hpcjobs.cli.output import error_line

    message = str(error.format_message()).removeprefix("Invalid value: ").rstrip(".")
    context = getattr(error, "ctx", None)
    error_line(f"{message} (see: {context.command_path if context else 'hpcjobs'} --help)")
    if as_json:
        problem = {"type": "about:blank", "title": "UsageError", "detail": message, "exit_code": int(error.exit_code)}
        print(json.dumps(problem), file=sys.stderr)
    return int(error.exit_code)


def report(error: BaseException, *, as_json: bool) -> int:
    """Say on stderr what went wrong, in one line and for ``--json`` as a problem document; return the exit code."""
    from hpcjobs.cli.exits import code_of, problem_of
    from hpcjobs.cli.output import error_line
    from hpcjobs.errors import HpcjobsError

    if os.environ.get("HPCJOBS_DEBUG", "") not in {"", "0"}:
        traceback.print_exception(error)
    expected = isinstance(error, (HpcjobsError, CommandMissing, OSError))
    if expected:
        error_line(str(error) or type(error).__name__)
    else:
        error_line(f"unexpected {type(error).__name__}: {error} (HPCJOBS_DEBUG=1 shows where)")
    if as_json:
        print(json.dumps(problem_of(error)), file=sys.stderr)
    return code_of(error)
