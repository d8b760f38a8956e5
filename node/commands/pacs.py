"""``ainode pacs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app
from node.errors import UsageError

app = new_app()


@app.command()
def pacs(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port on loopback.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="D", help="Where files are kept.")],
    ae_title: Annotated[str, typer.Option("--ae-title", help="Its AE title.")] = "TESTPACS",
    answer_node: Annotated[
        bool,
        typer.Option("--answer-node", help="Send commitment answers to the node of --config, on a new association."),
    ] = False,
) -> None:
    """Run a small test PACS on loopback: store, query, storage commitment. Not for patients."""
    from node import log
    from node.dicom.association import Peer
    from node.dicom.pacs import run_pacs
    from node.process import die_with_parent, stop_event

    die_with_parent()
    settings = ctx.obj.settings()
    log.set_up("pacs", settings.log.level)
    node = None
    if answer_node:
        receive, own = settings.receive, settings.node.ae_title
        if not receive.plain:
            raise UsageError("--answer-node: the node of --config listens with TLS only, the test PACS speaks none")
        node = Peer(ae_title=own, host=receive.host, port=receive.port, calling_ae_title=ae_title)
    run_pacs(folder, port, stop_event=stop_event(), ae_title=ae_title, node=node)
