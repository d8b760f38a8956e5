"""How far an import is: a bar on terminals, a line for each step elsewhere; both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from models.export.steps import Count, Step

if TYPE_CHECKING:
    from models.export.steps import Hears


@contextmanager
def step_bar(total: int) -> Iterator[Hears]:
    """Show each step that is told while the block runs; ``total`` as :func:`models.export.steps.planned`."""
    if not sys.stderr.isatty():
        yield _lines(Count(total))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    count = Count(total)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=total)

        def hears(step: Step) -> None:
            count.add(step)
            # The present one is not done yet.
            progress.update(task, description=step.words, completed=count.begun - 1, total=count.total)

        yield hears
        progress.update(task, description="done", completed=count.begun, total=count.begun)


def _lines(count: Count) -> Hears:
    def hears(step: Step) -> None:
        count.add(step)
        typer.echo(f"{count.begun}/{count.total} {step.words}", err=True)

    return hears
