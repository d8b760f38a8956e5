"""``ainode verify-peer``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def verify_peer(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="Name of a destination, or AE_TITLE@HOST:PORT.")],
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """Find out what a destination accepts, and how fast it answers. Stores nothing there.

    Exit code 1 when it refuses a kind of result, or commitment where the configuration asks for it.
    """
    from node.commands.peers import peer_of
    from node.dicom.commitment import COMMITMENT_SOP_CLASS
    from node.dicom.verify_peer import RESULT_CLASSES
    from node.dicom.verify_peer import verify_peer as ask
    from node.errors import NoPresentationContext

    settings = ctx.obj.settings()
    peer = peer_of(settings, destination)
    configured = settings.destination.get(destination)
    needed = {*RESULT_CLASSES, *([COMMITMENT_SOP_CLASS] if configured and configured.commitment else [])}
    report = ask(peer)
    contexts = [
        {"name": each.name, "sop_class_uid": each.abstract_syntax, "transfer_syntax_uid": each.transfer_syntax}
        for each in report.contexts
    ]
    if as_json:
        facts = {
            "association_seconds": report.association_seconds,
            "echo_seconds": report.echo_seconds,
            "echo_status": report.echo_status,
            "contexts": contexts,
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{peer}: association in {report.association_seconds * 1000:.0f} ms")
        if report.echo_seconds is not None:
            typer.echo(f"C-ECHO: status 0x{report.echo_status:04X} in {report.echo_seconds * 1000:.0f} ms")
        for each in contexts:
            typer.echo(f"  {'accepted' if each['transfer_syntax_uid'] else 'REFUSED ':<8}  {each['name']}")
    refused = [each.name for each in report.contexts if each.transfer_syntax is None and each.abstract_syntax in needed]
    if refused:
        raise NoPresentationContext(f"{peer} does not accept: {', '.join(refused)}")
