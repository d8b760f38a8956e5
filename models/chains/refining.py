"""Recipe ``refine``: a model finds, and, where its outlines are not to stand, a promptable one draws it again.

Several models may stand ready to find; the first that may serve takes the place (:mod:`models.chains.finders`). Boxes that a
person has drawn go to the promptable model at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.chains.finders import Finder, Taken, sound, standing, taken
from models.chains.redrawing import RedrawingOptions, redrawn
from models.errors import CardInvalid, NodeError
from models.lineage import PASSED_OVER
from models.measurement import MEAN, volume_quantity
from models.prompts import BoxPrompt
from models.results import (
    CodedTerm,
    LabelMask,
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

FELL_BACK = "finder_fell_back"
"""Limitation: a model that was to find did not, and another did."""
_OF_OUTLINES = frozenset({SWEPT, "relative_dwi", "flair"})
"""Evidence that speaks of the finder's own outlines and numbers."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mean(_Table):
    """A mean to be measured inside the outlines: over the positive voxels of the volume ``role``."""

    role: str
    name: CodedTerm
    unit: CodedTerm


class Refine(RedrawingOptions):
    """The card's ``options``.

    Attributes
    ----------
    finders : tuple of Finder
        Models that may find, in order of preference. ``finder = "ID"`` names a single one.
    refiner : str
        Id of the promptable model.
    means : tuple of Mean
        Measured again inside new outlines, and inside those that stand where the finder has not measured them.
    """

    recipe: Literal["refine"]
    finders: tuple[Finder, ...] = Field(min_length=1)
    refiner: str
    means: tuple[Mean, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_finder(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "finder" in given and "finders" not in given:
            rest = {key: value for key, value in given.items() if key != "finder"}
            return {**rest, "finders": [{"model": given["finder"]}]}
        return given

    @model_validator(mode="after")
    def _each_once(self) -> Refine:
        names = [each.model for each in self.finders]
        if len(set(names)) != len(names) or self.refiner in names:
            raise ValueError("finders: each once, and the refiner is none of them")
        return self


class RefineChain:
    """A chain of recipe ``refine``.

    Raises
    ------
    CardInvalid
        The card's ``options`` declare none.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.options = model.card.options_of(Refine)
        if model.card.id in self.members:
            raise CardInvalid(f"{model.card.id}: options: it is made of itself")

    @property
    def finders(self) -> tuple[Finder, ...]:
        """Models that may find, in order of preference."""
        return self.options.finders

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of all models the card names."""
        return (*(each.model for each in self.options.finders), self.options.refiner)

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the models it is made of as things stand: where nobody may find, of those the card names last."""
        try:
            finder = standing(self._model, self.options.finders).finder
        except NodeError:
            finder = self.options.finders[-1]
        return (finder.model, self.options.refiner) if finder.outlines == "redrawn" else (finder.model,)

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`.

        Raises
        ------
        ModelNotFound
            The refiner is needed and not installed.
        NodeError
            None of the finders may serve; see :func:`models.chains.finders.taken`.
        """
        # Asked for at each run: another version of either may have taken over since the last one.
        who = taken(self._model, self.options.finders, inputs, parameters)
        refiner = sound(self._model, self.options.refiner) if who.finder.outlines == "redrawn" else None
        found = who.model.run(inputs if refiner is None else _needed(who.model, inputs), parameters)
        result = self._named(found, who, refiner, parameters)
        if found.outcome is not Outcome.FOUND or found.segmentation is None:
            return result
        if refiner is None:
            regions = tuple(self._with_means(each, found.segmentation, inputs) for each in found.segmentation.regions)
            return replace(result, segmentation=replace(found.segmentation, regions=regions))
        return self._redrawn(result, found.segmentation, refiner, inputs)

    def segment(
        self, inputs: Mapping[str, Volume], prompts: Sequence[BoxPrompt], parameters: Mapping[str, str]
    ) -> StudyResult:
        """What the refiner draws where a person points; nothing is looked for. See :meth:`models.model.Model.segment`."""
        refiner = sound(self._model, self.options.refiner)
        role = self._model.card.inputs[0].role
        drawn = refiner.segment({refiner.card.inputs[0].role: inputs[role]}, prompts, parameters)
        own = self._model.reference(parameters, members=[refiner])
        result = replace(drawn, model=replace(own, provider=drawn.model.provider))
        if drawn.segmentation is None:
            return result
        placed = replace(drawn.segmentation, role=role)
        regions = tuple(self._with_means(each, placed, inputs) for each in placed.regions)
        return replace(result, segmentation=replace(placed, regions=regions))

    def _named(
        self, found: StudyResult, who: Taken, refiner: Model | None, parameters: Mapping[str, str]
    ) -> StudyResult:
        """The finder's result as the chain's: who found, who was passed over, what limits all of it."""
        fell_back = (FELL_BACK,) if who.fell_back else ()
        limitations = (*self._model.card.limitations, *fell_back, *found.limitations)
        told = {name: str(error) for name, error in who.passed_over.items()}
        return replace(
            found,
            title=self._model.card.title,
            model=self._reference(found.model, who, refiner, parameters),
            limitations=tuple(dict.fromkeys(limitations)),
            evidence={**found.evidence, "finder": {"taken": who.finder.model, "passed_over": told}},
        )

    def _reference(
        self, found: ModelReference, who: Taken, refiner: Model | None, parameters: Mapping[str, str]
    ) -> ModelReference:
        """The chain and the members that made the result, with what the finder was set to and ran on."""
        own = self._model.reference(parameters, members=[who.model] if refiner is None else [who.model, refiner])
        told = {"finder": who.finder.model} if len(self.options.finders) > 1 else {}
        if who.passed_over:
            told[PASSED_OVER] = who.codes
        return replace(own, provider=found.provider, parameters={**found.parameters, **own.parameters, **told})

    def _redrawn(
        self, result: StudyResult, found: Segmentation, refiner: Model, inputs: Mapping[str, Volume]
    ) -> StudyResult:
        seeds = found.mask_zyx > 0 if found.seeds_zyx is None else found.seeds_zyx
        mask, counts = redrawn(refiner, found.mask_zyx, seeds, inputs[found.role], self.options)
        segmentation = self._measured(found, mask, inputs)
        total = total_volume_ml(segmentation.regions)
        # What the finder's thresholds do, and what it measured beside, says nothing of outlines that were drawn anew.
        evidence = {name: each for name, each in result.evidence.items() if name not in _OF_OUTLINES}
        return replace(
            result,
            segmentation=segmentation,
            total_ml=total,
            totals=(volume_quantity(total),),
            limitations=tuple(each for each in result.limitations if each not in OF_SIGNAL_RATIO),
            evidence={**evidence, "found_ml": round(result.total_ml or 0.0, 3), "refined": counts},
        )

    def _measured(self, found: Segmentation, drawn: LabelMask, inputs: Mapping[str, Volume]) -> Segmentation:
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

    def _with_means(self, region: Region, of: Segmentation, inputs: Mapping[str, Volume]) -> Region:
        """The region with the means that it lacks."""
        known = {each.name for each in region.quantities}
        more = [each for each in self._means(of.where(region.number), inputs) if each.name not in known]
        return replace(region, quantities=(*region.quantities, *more))

    def _means(self, where: npt.NDArray[Any], inputs: Mapping[str, Volume]) -> list[Quantity]:
        quantities = []
        for mean in self.options.means:
            values = inputs[mean.role].array_zyx[where] if mean.role in inputs else np.empty(0)
            values = values[values > 0]
            if values.size:
                quantities.append(Quantity(mean.name, round(float(values.mean(dtype=np.float64)), 1), mean.unit, MEAN))
        return quantities


def _needed(finder: Model, inputs: Mapping[str, Volume]) -> Mapping[str, Volume]:
    """The inputs without those a finder measures on beside: of outlines that are drawn anew that says nothing."""
    beside = {each.role for each in finder.card.inputs if not each.required}
    return {role: volume for role, volume in inputs.items() if role not in beside}
