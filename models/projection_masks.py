"""A radiograph to a mask for each structure: a model of family ``feed_forward`` whose card says ``output = "masks"``.

Structures in front of each other cast shadows on the same pixels, so each has a mask of its own; masks that do not touch
share a layer of the result. Nothing is measured: a radiograph does not say how much larger a shadow is than what casts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.errors import CardInvalid, InferenceFailed
from models.projection_input import ProjectionInput, network_image
from models.resizing import nearest
from models.results import LabelMask, Outcome, Region, Segmentation, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.card import Label
    from models.model import Model

Masks = npt.NDArray[np.bool_]


class MasksOptions(BaseModel):
    """The card's ``options``.

    Attributes
    ----------
    image : ProjectionInput
        From the radiograph to the network's image; ``crop = "none"``, so that every pixel has a place.
    threshold : float
        Sigmoid of a logit above which a pixel is a structure's. Logit n is that of the card's label n + 1.
    smallest_share : float
        Structures on a smaller share of the pixels are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Literal["masks"]
    image: ProjectionInput
    threshold: float = Field(default=0.5, gt=0, lt=1)
    smallest_share: float = Field(default=0.0, ge=0, lt=1)


class ProjectionSegmenter:
    """Runs one such model.

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(MasksOptions)
        if len(card.inputs) != 1 or card.inputs[0].kind != "projection":
            raise CardInvalid(f"{card.id}: inputs: a model that gives masks takes one projection")
        if self.options.image.crop != "none":
            raise CardInvalid(f"{card.id}: options.image.crop: must be none, so that every pixel has a place")
        if not card.labels:
            raise CardInvalid(f"{card.id}: labels: one for each mask the network gives")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        card, role = self._model.card, self._model.card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        layers = [nearest(each, _plane(inputs[role])).astype(np.uint8) for each in layered(self.masks(inputs[role]))]
        regions, numbered = self._regions(layers)
        return StudyResult(
            outcome=Outcome.FOUND if regions else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            segmentation=Segmentation(role, numbered[0], regions, overlying=numbered[1:]) if regions else None,
            limitations=card.limitations,
            evidence={"labels": [region.label for region in regions], "layers": len(numbered)},
        )

    def masks(self, volume: Volume) -> Masks:
        """Mask (labels, size, size) of each of the card's labels on the network's grid.

        Raises
        ------
        InferenceFailed
            It is no radiograph, or the network gives other masks than the card names.
        """
        if not np.isfinite(volume.array_zyx).all():
            raise InferenceFailed(f"{self._model.card.id}: the image holds NaN or infinity")
        session, size = self._model.session("main"), self.options.image.size
        image = network_image(volume, self.options.image)
        logits = session.run({session.inputs[0]: image})[session.outputs[0]]
        wanted = (1, len(self._model.card.labels), size, size)
        if logits.shape != wanted:
            raise InferenceFailed(f"{self._model.card.id}: masks of shape {logits.shape}; the card names {wanted}")
        if not np.isfinite(logits).all():
            raise InferenceFailed(f"{self._model.card.id}: the masks hold NaN or infinity")
        limit = np.log(self.options.threshold / (1 - self.options.threshold))
        return np.asarray(logits[0] > limit)

    def _regions(self, layers: list[npt.NDArray[np.uint8]]) -> tuple[tuple[Region, ...], tuple[LabelMask, ...]]:
        """One region for each label that is there, largest first, and the layers in their numbers; empty ones are left."""
        labels = self._model.card.labels
        counts = sum((np.bincount(each.ravel(), minlength=len(labels) + 1) for each in layers), np.zeros(1, np.int64))
        least = self.options.smallest_share * (layers[0].size if layers else 0)
        present = [each for each in labels if layers and counts[each.value] > 0 and counts[each.value] >= least]
        present.sort(key=lambda each: (-int(counts[each.value]), each.value))
        lookup = np.zeros(len(labels) + 1, np.uint8)
        for number, label in enumerate(present, start=1):
            lookup[label.value] = number
        numbered = [lookup[each][np.newaxis] for each in layers]
        regions = tuple(_region(number, label) for number, label in enumerate(present, start=1))
        return regions, tuple(each for each in numbered if each.any())


def layered(masks: Masks) -> list[npt.NDArray[np.uint8]]:
    """Label planes (rows, columns) that together hold every mask, as few as come of taking the largest masks first.

    Parameters
    ----------
    masks : numpy.ndarray
        bool (labels, rows, columns), at most 255; mask n becomes the label n + 1.
    """
    sizes = masks.sum(axis=(1, 2))
    layers: list[npt.NDArray[np.uint8]] = []
    for n in sorted(np.flatnonzero(sizes).tolist(), key=lambda n: (-int(sizes[n]), n)):
        free = next((each for each in layers if not each[masks[n]].any()), None)
        if free is None:
            free = np.zeros(masks.shape[1:], np.uint8)
            layers.append(free)
        free[masks[n]] = n + 1
    return layers


def _plane(volume: Volume) -> tuple[int, int]:
    rows, columns = volume.array_zyx.shape[1:]
    return rows, columns


def _region(number: int, label: Label) -> Region:
    return Region(
        number=number,
        label=label.name,
        category=label.category,
        finding=label.finding,
        site=label.site,
        laterality=label.side,
        volume_ml=None,
        quantities=(),
        key_slice=0,
    )
