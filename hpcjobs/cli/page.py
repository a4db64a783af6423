"""``hpcjobs page``."""

from __future__ import annotations

from typing import Annotated

import typer

from hpcjobs.cli.settings import PLAIN, Command, Settings

EXAMPLES = """\
Examples:
  hpcjobs page
  hpcjobs page --no-open
  hpcjobs page --profile cluster
"""

app = typer.Typer(**PLAIN)


@app.command("page", cls=Command, epilog=EXAMPLES)
def page(
    ctx: typer.Context,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, and open no browser.")] = False,
) -> None:
    """Open the page of all jobs in a browser.

    Prints an address that lets one browser in, within ten minutes, to do what your token may do. A browser is opened
    only where this runs in a terminal.
    """
    from hpcjobs.cli import output

    settings = Settings.of(ctx)
    with settings.connect() as client:
        address = client.run(client.service.job_page())
    if settings.json:
        output.json_document({"url": address})
        return
    print(address)
    if not no_open and output.console().is_terminal:
        import webbrowser

        webbrowser.open(address)
