"""How far a volume depends on where the lines were drawn: the decision thresholds moved, everything else as it was.

A card names which thresholds are moved and how far. Only what follows the last graph is done again, once with all of them
strict and once with all of them lax; the volumes of then are the range of the volume. It says what the choice of thresholds
does, and nothing about how likely the true volume lies inside: it is no confidence interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.results import Quantity, Region, StudyResult
from models.volume_range import EVIDENCE, MEANING, VOLUME_CODE

Labels = npt.NDArray[np.uint8]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Swept(_Strict):
    """How far one threshold is moved: where it lets least through, and where most."""

    strict: float
    lax: float

    def holds(self, point: float) -> bool:
        """Whether the threshold itself lies between both."""
        return min(self.strict, self.lax) < point < max(self.strict, self.lax)


class Sweep(_Strict):
    """A card's ``sweep``.

    Attributes
    ----------
    thresholds : dict
        By name: of the card's ``thresholds``, or ``threshold`` for the probability cut of a network that labels every voxel.
    reason, source : str
        Why these, why so far, and who says so; stand in the card for its reader.
    """

    thresholds: dict[str, Swept] = Field(min_length=1)
    reason: str = Field(min_length=1)
    source: str = Field(min_length=1)

    @property
    def settings(self) -> tuple[dict[str, float], dict[str, float]]:
        """All strict, and all lax."""
        return (
            {name: each.strict for name, each in self.thresholds.items()},
            {name: each.lax for name, each in self.thresholds.items()},
        )

    @property
    def meaning(self) -> str:
        """What the interval is, in words: ``"volume over decision thresholds threshold 0.7 to 0.3; no confidence interval"``."""
        moved = ", ".join(f"{name} {each.strict:g} to {each.lax:g}" for name, each in self.thresholds.items())
        return f"{MEANING} {moved}; no confidence interval"


@dataclass(frozen=True, slots=True)
class SweptVolumes:
    """Volumes in mL of one setting: of all regions, and of each region it can be said of without doubt, by number."""

    total_ml: float
    of_regions_ml: Mapping[int, float]


def matched(labels: Labels, swept: Labels, voxel_ml: float) -> SweptVolumes:
    """What became of each region, by overlap.

    A region that fell apart has the volume of its parts, one that is gone has none. Where two have grown together neither
    has a volume of its own.

    Parameters
    ----------
    labels, swept : numpy.ndarray
        Numbers of regions (z, y, x) of the result, and of the setting; 0 for none.
    """
    sizes = np.bincount(swept.ravel())
    both = (labels > 0) & (swept > 0)
    pairs = np.unique(np.stack([labels[both], swept[both]]), axis=1).T.tolist()
    owners: dict[int, set[int]] = {}
    for region, part in pairs:
        owners.setdefault(part, set()).add(region)
    shared = {region for region, part in pairs if len(owners[part]) > 1}
    volumes = {int(number): 0.0 for number in np.unique(labels[labels > 0]) if int(number) not in shared}
    for region, part in pairs:
        if region in volumes:
            volumes[region] += float(sizes[part]) * voxel_ml
    return SweptVolumes(float(sizes[1:].sum()) * voxel_ml, volumes)


def with_ranges(
    result: StudyResult, sweep: Sweep, run: Callable[[Sequence[Mapping[str, float]]], Sequence[SweptVolumes]]
) -> StudyResult:
    """The result with the range of its volumes over the sweep; itself where nothing was found.

    Parameters
    ----------
    run : callable
        Volumes at each of several settings: thresholds that differ from the card's. Never runs a graph.
    """
    mask = result.segmentation
    if mask is None or result.total_ml is None:
        return result
    runs = run(sweep.settings)
    regions = [_ranged_region(region, runs, sweep.meaning) for region in mask.regions]
    whole = [each.total_ml for each in runs]
    return replace(
        result,
        segmentation=replace(mask, regions=tuple(regions)),
        totals=tuple(_ranged(each, whole, sweep.meaning) for each in result.totals),
        evidence={
            **result.evidence,
            EVIDENCE: {name: [each.strict, each.lax] for name, each in sweep.thresholds.items()},
        },
    )


def _ranged_region(region: Region, runs: Sequence[SweptVolumes], meaning: str) -> Region:
    if any(region.number not in each.of_regions_ml for each in runs):
        return region
    volumes = [each.of_regions_ml[region.number] for each in runs]
    return replace(region, quantities=tuple(_ranged(each, volumes, meaning) for each in region.quantities))


def _ranged(quantity: Quantity, others: Sequence[float], meaning: str) -> Quantity:
    if quantity.name.value != VOLUME_CODE:
        return quantity
    volumes = (quantity.value, *others)
    return replace(quantity, interval=(min(volumes), max(volumes)), interval_meaning=meaning, is_uncertainty=False)
