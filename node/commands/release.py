"""``ainode release``."""

from __future__ import annotations

import time
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
    from node import doorbell, planning
    from node.archive import index
    from node.errors import NotStored, StudyHeld
    from node.status import run_folder

    settings = ctx.obj.settings()
    with opened(settings) as store, store.write() as connection:
        found = index.study(connection, study)
        if found is None:
            raise NotStored("there is no such study")
        now = time.time()
        left_out = planning.leave_out_stragglers(connection, now, found)
        if still := planning.mixed_patients(connection, study):
            raise StudyHeld(f"the study stays held: {still}")
        released = index.release_study(connection, now, study, left_out=left_out)
    doorbell.ring(run_folder(settings.data_dir), doorbell.SCHEDULER)
    words = f"; {left_out} image(s) that no correction has reached are left out" if left_out else ""
    typer.echo(f"the study is released{words}" if released else "the study was not held")
