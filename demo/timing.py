"""Where the time from the last image to commitment went, read from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds. ``quiet`` is the wait that the configuration asks for, ``model`` the time inside models."""

    total: float
    quiet: float
    model: float

    @property
    def ours(self) -> float:
        """What the node itself took."""
        return self.total - self.quiet - self.model


def latency_of(story: Sequence[dict[str, Any]]) -> Latency:
    """Compute the latency of the first run from a study's ledger rows."""
    received = [row["until"] for row in story if row["kind"] == "instance.received"]
    decided = next(row["at"] for row in story if row["kind"] == "arrival.decided")
    committed = [row["at"] for row in story if row["kind"] == "commitment.answered"]
    finished = next(row for row in story if row["kind"] == "job.finished")
    timings = finished["detail"].get("timings", {})
    return Latency(
        total=max(committed) - max(received),
        quiet=decided - max(received),
        model=timings.get("model", 0.0) + timings.get("report", 0.0),
    )


def print_latency(console: Console, latency: Latency) -> None:
    """Print the table."""
    table = Table(title="From the last image acknowledged to everything committed", title_justify="left")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    table.add_row("total", f"{latency.total:.2f}")
    table.add_row("  waiting whether more images come (configured)", f"{latency.quiet:.2f}")
    table.add_row("  inside the models", f"{latency.model:.2f}")
    table.add_row("  the node itself", f"{latency.ours:.2f}", style="bold")
    console.print(table)
