"""``ainode release``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app
from node.commands.table import opened

app = new_app()


@app.command()
def release(ctx: typer.Context, study: Annotated[str, typer.Argument(help="Study Instance UID.")]) -> None:
    """Release a held study. Refused while its images still belong to two patients: a run may never mix them.

    Images that a correction has not reached are left out: the study runs on those that were corrected.
    """
    from node import actions
    from node.commands.operator import operator

    settings = ctx.obj.settings()
    with opened(settings) as store:
        released, left_out = actions.release(settings, store, study, by=operator())
    words = f"; {left_out} image(s) that no correction has reached are left out" if left_out else ""
    typer.echo(f"the study is released{words}" if released else "the study was not held")
