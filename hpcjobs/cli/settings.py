"""What every command can be told: which profile, which service, and whether to answer in JSON."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hpcjobs.cli.completion import complete_profile

if TYPE_CHECKING:
    from hpcjobs.client import Client

PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None}
"""How every ``typer.Typer`` of this package is made: help in plain text, which is quick and the same in a pipe."""

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", help="Use this profile of the configuration.", autocompletion=complete_profile
    ),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="Use the service at this address.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


@dataclasses.dataclass
class Settings:
    """What was said on the command line about the command as a whole."""

    profile: str | None = None
    url: str | None = None
    json: bool = False

    @classmethod
    def of(cls, ctx: typer.Context) -> Settings:
        """The settings of the command that runs."""
        found = ctx.find_object(cls)
        return found if found is not None else cls()

    @property
    def progress(self) -> bool | None:
        """Whether files that travel are shown: to people only, and never where the answer is for programs."""
        return False if self.json else None

    def merge(self, profile: str | None, url: str | None, json: bool) -> None:
        """Take over what was said once more, behind the command's name."""
        self.profile = profile if profile is not None else self.profile
        self.url = url if url is not None else self.url
        self.json = self.json or json

    def connect(self, *, start: bool = False, timeout: float | None = None) -> Client:
        """A client for the chosen service.

        Args:
            start: Whether to start a local service where there is none.
            timeout: Seconds; None for the client's own.
        """
        from hpcjobs.client import Client

        more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return Client(self.profile, url=self.url, start=start, **more)


def help_without_command(ctx: typer.Context) -> None:
    """End with the help, on stderr, where a group of commands was called without one of them.

    Raises:
        typer.Exit: There was none.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def _common(profile: Profile = None, url: Url = None, json: Json = False) -> None: ...


class Examples:
    """Writes the examples at the end of a help as they stand."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write them."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}")


class Group(Examples, TyperGroup):
    """A command that has commands."""


class Command(Examples, TyperCommand):
    """A command that also takes the common options, so that they may stand before or behind its name."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **more: Any) -> None:
        common = typer.Typer(**PLAIN)
        common.command()(_common)
        self._own = list(params or [])
        self._shared = list(typer.main.get_command(common).params)
        super().__init__(*args, params=[*self._own, *self._shared], **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the common options go into the settings, not to the function."""
        said = {param.name: ctx.params.pop(param.name) for param in self._shared}
        Settings.of(ctx).merge(**said)
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line: the metavar of an argument is how it is to be written, brackets and dots included."""
        return [
            self.options_metavar or "",
            *(str(param.metavar) for param in self.get_params(ctx) if _positional(param)),
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help: what belongs to this command first."""
        shared = {id(param) for param in self._shared}
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Common options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if _positional(param):
                groups["Arguments"].append((str(param.metavar), record[1].removesuffix("[required]").rstrip()))
            else:
                common = id(param) in shared or param.name == "help"
                groups["Common options" if common else "Options"].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _positional(param: Any) -> bool:
    return bool(param.param_type_name == "argument")
