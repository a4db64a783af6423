"""``python -m hpcjobs_server serve|worker|demo``: the server's commands without the client's command line."""

from __future__ import annotations

import typer

from hpcjobs_server.commands import demo, serve, worker

app = typer.Typer(
    name="hpcjobs_server",
    help="The reference server of hpcjobs.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (serve, worker, demo):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m hpcjobs_server")


if __name__ == "__main__":
    main()
