"""What is measured becomes rows: medians, ratios of pairs, and whether a target is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Target:
    """An upper limit on the figure or on the ratio to the peer."""

    of: Literal["figure", "ratio"]
    at_most: float

    def text(self, unit: str) -> str:
        """As the table shows it."""
        return f"ratio ≤ {self.at_most:g}" if self.of == "ratio" else f"≤ {self.at_most:g} {unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results.

    Attributes
    ----------
    name : str
        Begins with ``receive.``, ``send.``, ``seg.``, ``volume.``, ``latency.``, ``web.`` or ``model.``.
    figure : float
        Median of ours, in ``unit``.
    ratio : float or None
        Median of ours divided by the peer's, repeat by repeat; below 1 is better than the peer.
    target : str
        Empty where none is stated.
    met : bool or None
        None without a target.
    mode : str
        ``receive.mode`` of the node, where it matters.
    """

    name: str
    figure: float
    unit: str
    peer: str
    ratio: float | None
    target: str
    met: bool | None
    how: str
    filesystem: str
    mode: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def row(
    name: str,
    ours: Sequence[float],
    unit: str,
    *,
    how: str,
    peer: str = "",
    peers: Sequence[float] = (),
    target: Target | None = None,
    filesystem: str = "",
    mode: str = "",
) -> Row:
    """A row from samples; ``peers`` are the peer's, in the order of ``ours``."""
    figure = statistics.median(ours)
    ratio = statistics.median(o / p for o, p in zip(ours, peers, strict=True)) if peers else None
    met = None
    if target is not None:
        judged = figure if target.of == "figure" else ratio
        met = judged is not None and judged <= target.at_most
    return Row(
        name=name,
        figure=rounded(figure),
        unit=unit,
        peer=peer,
        ratio=None if ratio is None else rounded(ratio),
        target=target.text(unit) if target else "",
        met=met,
        how=f"{how}; the peer's figure {rounded(statistics.median(peers)):g} {unit}" if peers else how,
        filesystem=filesystem,
        mode=mode,
    )


def percentile_95(values: Iterable[float]) -> float:
    """The value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def rounded(value: float) -> float:
    """Three significant digits: more would not be there again."""
    return float(f"{value:.3g}")
