"""``ainode user``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from node.accounts.roles import Role
from node.cli import new_app
from node.commands.operator import operator
from node.commands.table import opened, show

app = new_app("Users of the console, and tokens for programs.")

_NAME = typer.Argument(metavar="NAME", help="User name.")
_ROLE = "viewer, operator or administrator."


@app.callback()
def _group() -> None:
    """Users of the console, and tokens for programs."""


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, _NAME],
    role: Annotated[str, typer.Option("--role", help=_ROLE)] = "viewer",
) -> None:
    """Make a user. The passcode is asked for, or is the first line of standard input."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store:
        chosen, hashed = _role(role), _hashed(name)
        with store.write() as connection:
            users.add(connection, time.time(), name, chosen, hashed, by=operator())
    typer.echo(f"user {users.normalised(name)} is made, {chosen}")


@app.command("list")
def list_users(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False
) -> None:
    """List users."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store, store.read() as connection:
        found = users.listed(connection)
    rows = [
        {
            "user": row.name,
            "role": row.role,
            "sign_on": row.provider,
            "second_factor": row.totp_secret is not None,
            "disabled": row.disabled_at is not None,
            "locked": row.locked_until > time.time(),
            "created_at": row.created_at,
            "signed_in_at": row.signed_in_at,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no users: make one with `ainode user add NAME --role administrator`")


@app.command()
def disable(ctx: typer.Context, name: Annotated[str, _NAME]) -> None:
    """Lock a user out; sessions end and tokens are of no use."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store, store.write() as connection:
        users.set_disabled(connection, time.time(), name, disabled=True, by=operator())
    typer.echo(f"user {name} is disabled")


@app.command()
def enable(ctx: typer.Context, name: Annotated[str, _NAME]) -> None:
    """Let a disabled or locked user in again."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store, store.write() as connection:
        users.set_disabled(connection, time.time(), name, disabled=False, by=operator())
    typer.echo(f"user {name} may sign in")


@app.command()
def role(
    ctx: typer.Context,
    name: Annotated[str, _NAME],
    new: Annotated[str, typer.Argument(metavar="ROLE", help=_ROLE)],
) -> None:
    """Give a user another role."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store, store.write() as connection:
        users.set_role(connection, time.time(), name, _role(new), by=operator())
    typer.echo(f"user {name} is {new}")


@app.command()
def passcode(ctx: typer.Context, name: Annotated[str, _NAME]) -> None:
    """Give a user another passcode, asked for or from standard input; unlocks him and ends his sessions."""
    from node.accounts import users

    with opened(ctx.obj.settings()) as store:
        hashed = _hashed(name)
        with store.write() as connection:
            users.set_passcode(connection, time.time(), name, hashed, by=operator())
    typer.echo(f"user {name} has another passcode")


@app.command()
def totp(
    ctx: typer.Context,
    name: Annotated[str, _NAME],
    off: Annotated[bool, typer.Option("--off", help="Switch it off, as when the telephone is lost.")] = False,
) -> None:
    """Switch the second factor of a user on and print the address for his authenticator app, once."""
    from node.accounts import totp as codes
    from node.accounts import users
    from node.site_secret import site_key

    settings = ctx.obj.settings()
    secret = "" if off else codes.new_secret()
    sealed = codes.seal(secret, site_key(settings.data_dir, codes.PURPOSE)) if secret else None
    with opened(settings) as store, store.write() as connection:
        users.set_totp(connection, time.time(), name, sealed, by=operator())
    if secret:
        typer.echo(codes.address_of(secret, name=users.normalised(name), issuer=settings.node.name))
    else:
        typer.echo(f"user {name} signs in without a code")


@app.command()
def token(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="User the token acts for.")],
    purpose: Annotated[str, typer.Option("--for", help="What it is for.")] = "",
    role: Annotated[str, typer.Option("--role", help=f"At most the user's: {_ROLE}")] = "viewer",
    days: Annotated[float, typer.Option("--days", min=0, help="Good for so many days.")] = 90.0,
    revoke: Annotated[int | None, typer.Option("--revoke", help="End the token of this number instead.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the user's tokens instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: stable JSON.")] = False,
) -> None:
    """Make a token for a program (Authorization: Bearer …); it is printed once and never again."""
    from node.accounts import sessions, users

    with opened(ctx.obj.settings()) as store:
        if list_all:
            with store.read() as connection:
                owner = users.existing(connection, name)
                found = [row for row in users.tokens_of(connection) if row.user_id == owner.id]
            shown = ("id", "name", "role", "created_at", "expires_at", "used_at")
            rows = [{key: row._mapping[key] for key in shown} for row in found]
            show(rows, as_json=as_json, empty="no tokens")
            return
        with store.write() as connection:
            if revoke is not None:
                sessions.revoke_api_token(connection, time.time(), revoke, by=operator())
                made = ""
            else:
                made = sessions.new_api_token(
                    connection, time.time(), name, purpose, _role(role), days=days, by=operator()
                )
    typer.echo(made or f"token {revoke} is of no use any more")


def _role(word: str) -> Role:
    from node.errors import UsageError

    try:
        return Role(word)
    except ValueError:
        raise UsageError(f"'{word}' is no role: {_ROLE}") from None


def _hashed(name: str) -> str:
    from node.accounts.secrets import hash_passcode

    return hash_passcode(_passcode(), name=name.strip())


def _passcode() -> str:
    """From a prompt, or the first line of standard input; never from the command line, which everybody can list."""
    if sys.stdin.isatty():
        given: str = typer.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True)
        return given
    return sys.stdin.readline().rstrip("\r\n")
