"""``ainode db``."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app
from node.errors import StoreError, UsageError
from node.settings import Settings

app = new_app("Upgrade, back up and restore the database.")
_IDENTITY = "identity.json"
_DATABASE = "node.db"


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Create the database or bring it to this version's schema."""
    from node.archive.engine import upgrade as bring_up_to_date

    typer.echo(f"the database has revision {bring_up_to_date(ctx.obj.settings())}")


@app.command()
def backup(ctx: typer.Context, folder: Annotated[Path, typer.Argument(help="New folder for the copy.")]) -> None:
    """Copy database and identity into a folder, while the node runs. Received files and results are not copied."""
    settings = _embedded(ctx.obj.settings())
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise UsageError(f"{folder} exists; name a new folder") from error
    source = settings.data_dir / _DATABASE
    if not source.exists():
        raise UsageError(f"there is no database in {settings.data_dir}")
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(folder / _DATABASE)) as copy:
        live.backup(copy)
    if (settings.data_dir / _IDENTITY).exists():
        shutil.copy2(settings.data_dir / _IDENTITY, folder / _IDENTITY)
    typer.echo(f"copied to {folder}")


@app.command()
def restore(ctx: typer.Context, folder: Annotated[Path, typer.Argument(help="Folder made by backup.")]) -> None:
    """Put a copy back, with the node stopped. What was there is kept beside it."""
    from node.supervisor import only_supervisor

    settings = _embedded(ctx.obj.settings())
    copy = folder / _DATABASE
    if not copy.is_file():
        raise UsageError(f"{folder} holds no copy made by `ainode db backup`")
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as database:
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise StoreError(f"the copy is damaged: {verdict}")
    target = settings.data_dir / _DATABASE
    with only_supervisor(settings.data_dir):
        for suffix in ("", "-wal", "-shm"):
            old = target.with_name(target.name + suffix)
            if old.exists():
                old.replace(old.with_name(f"{old.name}.before-restore"))
        part = target.with_name(f"{_DATABASE}.part")
        shutil.copy2(copy, part)
        part.replace(target)
        if (folder / _IDENTITY).exists():
            shutil.copy2(folder / _IDENTITY, settings.data_dir / _IDENTITY)
    typer.echo(f"restored from {folder}; what was there is kept as {target.name}.before-restore")
    typer.echo(
        "next: `ainode db upgrade` and `ainode db rescan`, which finds what was received since the copy was made"
    )


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
    for path in report.missing:
        typer.echo(f"missing: {path}")


def _embedded(settings: Settings) -> Settings:
    if settings.store.url and not settings.store.url.startswith("sqlite"):
        raise UsageError("this database is copied with its own tools: pg_dump and pg_restore")
    return settings
