"""``ainode send``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def send(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="Name of a destination, or AE_TITLE@HOST:PORT.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders.")],
) -> None:
    """Send DICOM files as they are. Exit code 1 unless all were stored."""
    from node.commands.peers import peer_of
    from node.dicom.storage_scu import FileReport, Sent, send_paths
    from node.errors import PeerRejectedObject

    def report(entry: FileReport) -> None:
        if entry.outcome is not Sent.STORED:
            typer.echo(f"{entry.path}: {entry.outcome.value} {entry.detail}".rstrip(), err=True)

    peer = peer_of(ctx.obj.settings(), destination)
    summary = send_paths(peer, paths, on_progress=report)
    stored = summary.count(Sent.STORED) + summary.count(Sent.WARNING)
    typer.echo(f"{stored} of {len(summary.reports)} files stored by {peer}")
    if not summary.complete:
        raise PeerRejectedObject(f"{len(summary.reports) - stored} files were not stored")
