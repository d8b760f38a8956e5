"""``ainode models export``, and ``ainode models import PACKAGE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_model(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id.")],
    out: Annotated[Path, typer.Option("--out", help="New file NAME.tar, or a new folder.")],
) -> None:
    """Write an installed model as one verifiable package that another node can install."""
    from models.card import file_digest
    from models.package import write_package
    from node.errors import UsageError
    from node.installed_models import chosen, registry_of

    if out.exists():
        raise UsageError(f"{out} exists; name a new file or folder")
    settings = ctx.obj.settings()
    found = chosen(registry_of(settings), settings).get(model)
    manifest = write_package(found, out)
    size = sum(each.size for each in manifest.files.values())
    typer.echo(f"{model} {manifest.version}: {len(manifest.files)} files, {size / 2**20:.1f} MiB, in {out}")
    typer.echo(f"model digest {manifest.digest}")
    if out.is_file():
        typer.echo(f"file digest {file_digest(out)}")
    for name in manifest.needs:
        typer.echo(f"It names {name}, which is a package of its own: `ainode models export {name} --out …`")
    typer.echo(f"Elsewhere: `ainode models import {out.name} --out MODELS_FOLDER/{manifest.model}-{manifest.version}`")


def import_package(package: Path, out: Path) -> None:
    """Install a package into the new folder ``out`` and say what is to be done next.

    Raises
    ------
    UsageError
        It is no package, or the folder exists.
    ModelError
        As :func:`models.package.install_package`.
    """
    from models.package import install_package, is_package
    from node.errors import UsageError

    if not is_package(package):
        raise UsageError(
            f"{package} is no package (a .tar file or folder of `ainode models export`); for a checkpoint name its system first"
        )
    if out.exists():
        raise UsageError(f"{out} exists; name a new folder, so that no installed model is replaced")
    manifest = install_package(package, out)
    typer.echo(f"{manifest.model} {manifest.version}: {len(manifest.files)} files as pinned; in {out}")
    typer.echo(f"model digest {manifest.digest}; compare it with what the sender says")
    for name in manifest.needs:
        typer.echo(
            f"It names {name}, a package of its own; `ainode models info {manifest.model}` shows what it is made of."
        )
    typer.echo(
        f"Its parent stands in [models] folders of node.toml? Then `ainode models verify {manifest.model}`; a named person must "
        "approve it before it serves."
    )
