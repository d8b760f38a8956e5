"""``ainode db``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app

app = new_app("Upgrade, back up and restore the database.")


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Create the database or bring it to this version's schema."""
    from node.archive.engine import upgrade as bring_up_to_date

    typer.echo(f"the database has revision {bring_up_to_date(ctx.obj.settings())}")


@app.command()
def downgrade(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="REV", help="Revision that the earlier version needs.")],
) -> None:
    """Take the schema back for an earlier version, with the node stopped. What only later versions recorded is lost."""
    from node.archive.engine import downgrade as take_back
    from node.folder_lock import nobody_else

    settings = ctx.obj.settings()
    with nobody_else(settings.data_dir):
        taken_back = take_back(settings, to)
    typer.echo(f"the database has revision {to}; taken back: {', '.join(taken_back) or 'nothing'}")


@app.command()
def backup(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New folder for the copy.")],
    files: Annotated[
        bool, typer.Option("--files", help="Received files and results too (hard links where possible).")
    ] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Keys, passcodes and the node's secret too.")] = False,
) -> None:
    """Copy database, identity and configuration into a folder, while the node runs, with lists of the spool and outbox."""
    from node.archive.backup import back_up

    made = back_up(ctx.obj.settings(), folder, files=files, secrets=secrets)
    typer.echo(f"copied to {folder}: {made.dialect} at revision {made.revision}, configuration, identity")
    for name, tree in made.trees.items():
        typer.echo(
            f"  {name}: {tree['files']} files, {tree['bytes']} bytes {'copied' if files else 'listed, NOT copied'}"
        )
    if not secrets:
        typer.echo("  keys, passcodes and the node's secret are NOT in it (--secrets)")


@app.command()
def restore(ctx: typer.Context, folder: Annotated[Path, typer.Argument(help="Folder made by backup.")]) -> None:
    """Put a copy back, with the node stopped. What was there is kept beside it."""
    from datetime import datetime

    from node.archive.backup import put_back

    restored = put_back(ctx.obj.settings(), folder)
    made_at = datetime.fromtimestamp(restored.backup.created_at)
    typer.echo(f"restored from {folder}, made {made_at:%Y-%m-%d %H:%M:%S}; what was there is kept (.before-restore)")
    for name, count in restored.missing.items():
        if count:
            typer.echo(f"  {name}: {count} files that belonged to it are not here any more")
    typer.echo("next, in this order:")
    typer.echo("  ainode db upgrade     the schema of this version")
    typer.echo("  ainode db rescan      finds what was received since the copy was made")
    typer.echo("  start the node        it runs on that, and sends the same objects with the same UIDs")
    typer.echo(f"  ainode reconcile --since {made_at:%Y-%m-%dT%H:%M} --fetch     what the archive has and is not here")


@app.command()
def rescan(ctx: typer.Context) -> None:
    """Rebuild the index from the files in the spool; safe while the node runs."""
    from node.archive.rescan import rescan as rebuild
    from node.archive.spool import Spool
    from node.commands.table import opened
    from node.own_equipment import OwnEquipment

    settings = ctx.obj.settings()
    with opened(settings) as store:
        spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)
        report = rebuild(store, spool, outbox=settings.data_dir / "outbox", own=OwnEquipment.of(settings))
    typer.echo(f"{report.seen} files, {report.indexed} were not indexed and now are")
    for path in report.damaged:
        typer.echo(f"damaged: {path}")
    for path in report.unsynced:
        typer.echo(f"not on the disk, which refused it: {path}")
    for path in report.missing:
        typer.echo(f"missing: {path}")
