"""``hpcjobs token``."""

from __future__ import annotations

from typing import Annotated

import typer

from hpcjobs.cli.completion import complete_scope
from hpcjobs.cli.settings import PLAIN, Command, Group, Settings, help_without_command

EXAMPLES = """\
Examples:
  hpcjobs token create --name notebook --scope read --expires 12h
  hpcjobs token list
  hpcjobs token revoke ID
"""

CREATE_EXAMPLES = """\
Examples:
  hpcjobs token create --name notebook --scope read --expires 12h
  hpcjobs token create --owner ada > ada.token
"""

LIST_EXAMPLES = """\
Examples:
  hpcjobs token list
  hpcjobs token list --json | jq -r '.[] | select(.name == "ci") | .id'
"""

REVOKE_EXAMPLES = """\
Examples:
  hpcjobs token revoke ID
"""

app = typer.Typer(**PLAIN, cls=Group, epilog=EXAMPLES, invoke_without_command=True)


@app.callback()
def token(ctx: typer.Context) -> None:
    """Create, list and revoke tokens."""
    help_without_command(ctx)


@app.command("create", cls=Command, epilog=CREATE_EXAMPLES)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="What it is for.")] = "token",
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            metavar="read|write|admin",
            help="See jobs, also submit and cancel them, or all of it for everybody.",
            autocompletion=complete_scope,
        ),
    ] = "write",
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="How long it works: 12h, 30d. Without it: for ever.")
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="OWNER", help="Whose it is; for another's you need the scope admin."),
    ] = None,
) -> None:
    """Create a token and print it, once: it is not kept and cannot be shown again."""
    from hpcjobs.cli import output
    from hpcjobs.models import Scope

    settings = Settings.of(ctx)
    scopes = [known.value for known in Scope]
    if scope not in scopes:
        raise typer.BadParameter(f"{scope!r} is not a scope; the scopes are {', '.join(scopes)}")
    with settings.connect() as client:
        token = client.create_token(name, scope=scope, owner=owner, expires_in=expires)
    if settings.json:
        output.json_document(token)
        return
    print(token.token)
    until = f"until {output.iso(token.expires_at)}" if token.expires_at else "for ever, or until it is revoked"
    output.note(f"{token.scope.value} token {token.id} of {token.owner}; it works {until}, and is not shown again")


@app.command("list", cls=Command, epilog=LIST_EXAMPLES)
def list_tokens(ctx: typer.Context) -> None:
    """List the tokens; not the secrets, which nobody has."""
    from hpcjobs.cli import output

    settings = Settings.of(ctx)
    with settings.connect() as client:
        tokens = client.tokens()
    if settings.json:
        output.json_document([token.model_dump(mode="json", exclude={"token"}) for token in tokens])
        return
    relative = output.console().is_terminal
    output.print_table(
        ["ID", "OWNER", "SCOPE", "CREATED", "EXPIRES", "NAME"],
        [
            [
                token.id,
                token.owner,
                token.scope.value,
                output.age(token.created_at) if relative else output.iso(token.created_at),
                output.until(token.expires_at) if relative else output.iso(token.expires_at),
                token.name,
            ]
            for token in tokens
        ],
    )


@app.command("revoke", cls=Command, epilog=REVOKE_EXAMPLES)
def revoke(
    ctx: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `hpcjobs token list` tells it.")],
) -> None:
    """Revoke a token: it stops working at once."""
    from hpcjobs.cli import output

    settings = Settings.of(ctx)
    with settings.connect() as client:
        client.revoke_token(token_id)
    if settings.json:
        output.json_document({"id": token_id, "revoked": True})
    else:
        print(output.clean(f"token {token_id} is revoked"))
