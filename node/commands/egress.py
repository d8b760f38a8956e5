"""``ainode egress``."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import new_app

if TYPE_CHECKING:
    from node.egress import Peer

app = new_app()


@app.command()
def egress(
    ctx: typer.Context,
    nftables: Annotated[bool, typer.Option("--nftables", help="Write an nftables ruleset instead.")] = False,
    user: Annotated[str, typer.Option("--user", help="System user the node runs as; yours where left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
) -> None:
    """List every peer this node calls: where, why, encrypted or not, patient data or not. It calls nobody else."""
    from node.commands.table import show
    from node.egress import egress as peers_of
    from node.egress import ruleset

    peers = peers_of(ctx.obj.settings())
    if nftables:
        typer.echo(ruleset(peers, user=user or getpass.getuser(), resolved=_resolved(peers)), nl=False)
        return
    rows = [
        {
            "name": each.name,
            "host": each.host,
            "port": each.port,
            "protocol": each.protocol,
            "why": each.why,
            "encrypted": each.encrypted,
            "patient_data": each.patient_data,
        }
        for each in peers
    ]
    show(rows, as_json=as_json, empty="this node calls nobody")


def _resolved(peers: list[Peer]) -> dict[str, list[str]]:
    """Host name → addresses, now.

    Raises
    ------
    UsageError
        A name cannot be resolved: a ruleset without it would cut the peer off.
    """
    from node.egress import is_numeric
    from node.errors import UsageError

    found: dict[str, list[str]] = {}
    for peer in peers:
        if peer.is_loopback or is_numeric(peer.host) or peer.host in found:
            continue
        try:
            answers = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UsageError(f"{peer.name}: {peer.host} cannot be resolved ({error.strerror})") from error
        found[peer.host] = sorted({str(answer[4][0]) for answer in answers})
    return found
