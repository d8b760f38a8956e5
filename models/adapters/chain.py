"""Family ``chain``: a model made of installed models.

Recipe ``graph`` runs steps that the card declares (:mod:`models.chains`). In recipe ``refine`` what a first model finds is
boxed, slice by slice, and a promptable model draws it again. The second may redraw an edge, never invent: its mask is kept
near what was found, and where the two disagree about the thing itself, what was found stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.chains.graph_chain import GraphChain
from models.measurement import MEAN, volume_quantity
from models.morphology import CUBE
from models.prompts import BoxPrompt, parts_of
from models.results import (
    CodedTerm,
    ModelReference,
    Outcome,
    Quantity,
    Region,
    Segmentation,
    StudyResult,
    total_volume_ml,
)
from models.signal_ratio import LIMITATIONS as OF_SIGNAL_RATIO
from models.volume import Volume
from models.volume_range import EVIDENCE as SWEPT

if TYPE_CHECKING:
    from models.model import Model

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Plane = npt.NDArray[np.bool_]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mean(_Table):
    """A mean to be measured again inside the new outlines: over the positive voxels of the volume ``role``."""

    role: str
    name: CodedTerm
    unit: CodedTerm


class Refine(_Table):
    """The card's ``options``.

    Attributes
    ----------
    finder, refiner : str
        Ids of the model that finds and of the promptable one.
    smallest_voxels : int
        Parts with fewer voxels on a slice stay as found: the refiner was not trained on anything so small.
    reach_voxels : int
        How far on its slice a new outline may go beyond what was found.
    smallest_share, largest_share : float
        Area of the new outline over the area found, outside of which what was found stands.
    lowest_agreement : float
        Dice of the two, below which what was found stands.
    """

    recipe: Literal["refine"]
    finder: str
    refiner: str
    smallest_voxels: int = Field(default=25, ge=1)
    reach_voxels: int = Field(default=2, ge=0, le=20)
    smallest_share: float = Field(default=0.4, gt=0, le=1)
    largest_share: float = Field(default=3.0, ge=1)
    lowest_agreement: float = Field(default=0.3, ge=0, le=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    means: tuple[Mean, ...] = ()


def build(model: Model) -> RefineChain | GraphChain:
    """Adapter of ``model``; raises :class:`CardInvalid` where its ``options`` are none."""
    return GraphChain(model) if model.card.options.get("recipe") == "graph" else RefineChain(model)


class RefineChain:
    """Runs one model of the family. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.options = model.card.options_of(Refine)

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the models it is made of."""
        return self.options.finder, self.options.refiner

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`.

        Raises
        ------
        ModelNotFound
            Finder or refiner is not installed.
        """
        # Asked for at each run: another version of either may have taken over since the last one.
        refiner = self._model.member(self.options.refiner)
        found = self._model.member(self.options.finder).run(inputs, parameters)
        model = self._reference(found.model, parameters)
        if found.outcome is not Outcome.FOUND or found.segmentation is None:
            return replace(found, title=self._model.card.title, model=model)
        volume = inputs[found.segmentation.role]
        drawn, counts = self._redrawn(refiner, found.segmentation.mask_zyx, volume)
        segmentation = self._measured(found.segmentation, drawn, inputs)
        total = total_volume_ml(segmentation.regions)
        # What the finder's thresholds do, and what it measured beside, says nothing of outlines that were drawn anew.
        limitations = [each for each in found.limitations if each not in OF_SIGNAL_RATIO]
        evidence = {name: each for name, each in found.evidence.items() if name != SWEPT}
        return replace(
            found,
            title=self._model.card.title,
            model=model,
            segmentation=segmentation,
            total_ml=total,
            totals=(volume_quantity(total),),
            limitations=tuple(dict.fromkeys((*self._model.card.limitations, *limitations))),
            evidence={**evidence, "found_ml": round(found.total_ml or 0.0, 3), "refined": counts},
        )

    def _reference(self, found: ModelReference, parameters: Mapping[str, str]) -> ModelReference:
        """The chain and its members, with what the finder was set to and ran on."""
        own = self._model.reference(parameters)
        return replace(own, provider=found.provider, parameters={**found.parameters, **own.parameters})

    def _redrawn(self, refiner: Model, found: Labels, volume: Volume) -> tuple[Labels, dict[str, int]]:
        """The mask with every part drawn again that could be, and how many were, were too small, or were refused."""
        counts = {"redrawn": 0, "too_small": 0, "disagreed": 0}
        drawn = np.zeros_like(found)
        large: list[tuple[BoxPrompt, Plane]] = []
        for box, part in parts_of(found):
            if np.count_nonzero(part) < self.options.smallest_voxels:
                counts["too_small"] += 1
                drawn[box.slice_index][part] = box.target
            else:
                large.append((box, part))
        if not large:
            return drawn, counts
        planes = refiner.planes(volume, [box for box, _ in large])
        for (box, part), (_, plane) in zip(large, planes, strict=True):
            outline = self._guarded(part, plane > self.options.threshold)
            counts["disagreed" if outline is part else "redrawn"] += 1
            # What another lesion has already stays with it.
            drawn[box.slice_index][outline & (drawn[box.slice_index] == 0)] = box.target
        return drawn, counts

    def _guarded(self, before: Plane, after: Plane) -> Plane:
        """``after`` near ``before``, holes filled; ``before`` itself where the two do not speak of the same thing."""
        reach = self.options.reach_voxels
        near = ndimage.binary_dilation(before, structure=CUBE[1], iterations=reach) if reach else before
        kept = ndimage.binary_fill_holes(after & near)
        area, known = int(np.count_nonzero(kept)), int(np.count_nonzero(before))
        if (
            not self.options.smallest_share * known
            <= int(np.count_nonzero(after))
            <= self.options.largest_share * known
        ):
            return before
        agreement = 2 * int(np.count_nonzero(kept & before)) / (area + known)
        return kept if agreement >= self.options.lowest_agreement else before

    def _measured(self, found: Segmentation, drawn: Labels, inputs: Mapping[str, Volume]) -> Segmentation:
        """Regions numbered anew, largest first, with their figures measured inside the new outlines."""
        voxel_ml = inputs[found.role].voxel_ml
        sizes = {region.number: int(np.count_nonzero(drawn == region.number)) for region in found.regions}
        regions: list[Region] = []
        mask = np.zeros_like(drawn)
        for region in sorted(found.regions, key=lambda each: (-sizes[each.number], each.number)):
            where = drawn == region.number
            if not sizes[region.number]:
                continue
            number = len(regions) + 1
            mask[where] = number
            volume_ml = sizes[region.number] * voxel_ml
            regions.append(
                replace(
                    region,
                    number=number,
                    label=f"{region.label.rsplit(' ', 1)[0]} {number}",
                    volume_ml=volume_ml,
                    quantities=(volume_quantity(volume_ml), *self._means(where, inputs)),
                    key_slice=int(np.argmax(np.count_nonzero(where, axis=(1, 2)))),
                )
            )
        return Segmentation(found.role, mask, tuple(regions))

    def _means(self, where: npt.NDArray[Any], inputs: Mapping[str, Volume]) -> list[Quantity]:
        quantities = []
        for mean in self.options.means:
            values = inputs[mean.role].array_zyx[where] if mean.role in inputs else np.empty(0)
            values = values[values > 0]
            if values.size:
                quantities.append(Quantity(mean.name, round(float(values.mean(dtype=np.float64)), 1), mean.unit, MEAN))
        return quantities
