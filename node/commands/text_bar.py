"""A bar on terminals for a text that is being made; nothing where nobody sees it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from node.jobs.progress_pipe import TextPace

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.progress import TextProgress


class TextBar:
    """See :class:`models.progress.TextProgress`: one bar a text, on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._before = 0
        self._pace = TextPace()

    def made(self, model: str, tokens: int, limit: int) -> None:
        """See :meth:`models.progress.TextProgress.made`."""
        pace = self._pace.at(tokens)
        if self._task is None or tokens <= self._before:
            self._task = self._progress.add_task(model, total=limit, rate="")
        self._before = tokens
        rate = "" if pace is None else f"{pace:.1f}/s"
        self._progress.update(self._task, completed=tokens, rate=rate)


@contextmanager
def text_bar() -> Iterator[TextProgress | None]:
    """Show how far texts are while the block runs; None, and nothing shown, where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tokens {task.fields[rate]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield TextBar(progress)
