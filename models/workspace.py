"""What the steps of one run share: named arrays on one grid, named numbers, and the facts to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.candidates import Candidate
from models.card import Scalar
from models.errors import GraphMismatch
from models.results import CodedTerm, Quantity
from models.symmetry import Midplane
from models.volume import Volume

SEEDS = "seeds"
"""Array (bool): voxels that met the strict conditions, whatever became of the candidates they are in."""
Array = npt.NDArray[Any]
Spacing = tuple[float, float, float]
Parameter = Scalar | list[Scalar]


@dataclass(frozen=True, slots=True)
class MeanOf:
    """A measurement: mean of ``array`` over the voxels of a region where it is positive."""

    array: str
    name: CodedTerm
    unit: CodedTerm


@dataclass(slots=True)
class Workspace:
    """State of one run; every array has the shape and grid of :attr:`grid`, smoothing kernels apart.

    Attributes
    ----------
    grid : Volume
        The input on whose voxels the result lies.
    arrays : dict
        Named arrays (z, y, x); the inputs are there by their role.
    values : dict
        Named numbers: the card's thresholds, ``b_value``, and what steps measure.
    candidates : list of Candidate
        Findings under consideration.
    rejected : dict
        How many candidates each rule has dropped.
    rejected_ml : float
        Volume of all of them.
    means : list of MeanOf
        Arrays whose mean inside each region is reported.
    evidence : dict
        JSON-serialisable facts for the report.
    beside : mapping
        Optional inputs on grids of their own, by role.
    midplane : Midplane or None
        The brain's, once a step has found it.
    quantities : dict
        Further measurements of regions, by number; ``totals`` those of all regions together.
    limitations : list of str
        Keys of fixed sentences the steps add.
    has_range : bool
        Whether the card's sweep says something about the volumes; a step that takes by what is not swept says no.
    run_graph : callable
        Runs one of the card's graphs on this workspace, by name.
    """

    grid: Volume
    arrays: dict[str, Array]
    values: dict[str, float]
    run_graph: Callable[[str], None]
    candidates: list[Candidate] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_ml: float = 0.0
    means: list[MeanOf] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Volume] = field(default_factory=dict)
    midplane: Midplane | None = None
    quantities: dict[int, list[Quantity]] = field(default_factory=dict)
    totals: list[Quantity] = field(default_factory=list)
    limitations: list[str] = field(default_factory=list)
    has_range: bool = True

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel spacing along z, y, x."""
        return self.grid.spacing_mm_zyx

    def before_candidates(self, values: Mapping[str, float]) -> Workspace:
        """As it was after the main graph, with other numbers: no candidates, no labels; what runs there changes nothing here."""
        return Workspace(
            grid=self.grid,
            arrays={name: array for name, array in self.arrays.items() if name != "labels"},
            values={**self.values, **values},
            run_graph=_not_again,
        )

    def array(self, name: str) -> Array:
        """Array ``name``; :class:`GraphMismatch` when no step made it."""
        if name not in self.arrays:
            raise GraphMismatch(f"no step has made the array {name}")
        return self.arrays[name]

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Array ``name`` as booleans."""
        return self.array(name) > 0

    def value(self, name: str) -> float:
        """Number ``name``; :class:`GraphMismatch` when neither the card nor a step gives it."""
        if name not in self.values:
            raise GraphMismatch(f"neither the card nor a step gives the number {name}")
        return self.values[name]

    def keep(self, rule: str, verdicts: list[bool]) -> None:
        """Keep the candidates whose verdict is true; count the others under ``rule``."""
        dropped = verdicts.count(False)
        self.rejected[rule] = self.rejected.get(rule, 0) + dropped
        sizes = [each.voxels for each, good in zip(self.candidates, verdicts, strict=True) if not good]
        self.rejected_ml += sum(sizes) * self.grid.voxel_ml
        self.candidates = [each for each, good in zip(self.candidates, verdicts, strict=True) if good]


def _not_again(name: str) -> None:
    raise GraphMismatch(f"the graph {name} runs once; only steps after it are repeated")
