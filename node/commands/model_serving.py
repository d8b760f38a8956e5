"""``ainode models approve``, ``rollback`` and ``revoke``: which files of a model serve, and who answers for it."""

from __future__ import annotations

from typing import Annotated

import typer

from node.installed_models import registry_of

By = Annotated[str, typer.Option("--by", help="Name of the person who answers for it; stands in the ledger.")]


def approve(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id; ID@VERSION where there are several.")],
    by: By,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="The licence was read and is accepted.")
    ] = False,
) -> None:
    """Let a model serve, these very files of it, once card and licence were read; another version makes way for it."""
    from node import actions
    from node.commands.operator import operator
    from node.commands.table import opened
    from node.errors import UsageError

    settings = ctx.obj.settings()
    found = registry_of(settings).get(model)  # where there are several versions, one is to be named
    card = found.card
    if not found.serves_unasked and (not accept_licence or not by.strip()):
        raise UsageError(
            f"licence of {model}: {card.licence}; intended use: {card.intended_use} Name a person with --by and accept with "
            "--accept-licence"
        )
    with opened(settings) as store:
        version, digest = actions.approve(settings, store, model, by.strip(), found.digest, by=operator())
    typer.echo(f"{card.id} {version} may serve, digest {digest}")


def rollback(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id.")],
    by: By,
) -> None:
    """Let the version serve again that was approved before; jobs that run end on the one they began with."""
    from node import actions
    from node.commands.operator import operator
    from node.commands.table import opened
    from node.errors import UsageError

    if not by.strip():
        raise UsageError("name a person with --by")
    settings = ctx.obj.settings()
    with opened(settings) as store:
        version, digest = actions.rollback(settings, store, model, by.strip(), by=operator())
    typer.echo(f"{model} {version} may serve, digest {digest}")


def revoke(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id.")],
    by: By,
) -> None:
    """Take a model's approval back: its jobs end with a status object that says so."""
    from node import actions
    from node.commands.operator import operator
    from node.commands.table import opened

    settings = ctx.obj.settings()
    with opened(settings) as store:
        revoked = actions.revoke(settings, store, model, by.strip(), by=operator())
    typer.echo(f"{model} may serve no more" if revoked else f"{model} was not approved")
