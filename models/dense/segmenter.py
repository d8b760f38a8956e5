"""Volumes to a label for every voxel: a model of family ``feed_forward`` whose card says ``output = "dense"``.

Turned, cropped, normalised, resampled, seen window by window, and all of that undone: the labels lie on the voxels of the
first input. What differs between two models stands in the card; nnU-Net v2 and MONAI networks run by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.dense.channels import box_of, nonzero_mask, normalised
from models.dense.labelling import Labels, combined, labels_at
from models.dense.options import DenseOptions
from models.dense.orientation import turning
from models.dense.regions import labelled_regions
from models.dense.resampling import coarse_axis, new_shape, resized
from models.dense.sliding_window import slide
from models.dense.stacking import stacked
from models.errors import CardInvalid, InferenceFailed
from models.measurement import volume_quantity
from models.morphology import CUBE
from models.results import Outcome, Segmentation, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

Array = npt.NDArray[np.float32]


class DenseSegmenter:
    """Runs one such model.

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one, or do not fit its inputs, graphs and labels.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(DenseOptions)
        self._roles = tuple(channel.role for channel in self.options.channels)
        if unknown := set(self._roles) - {each.role for each in card.inputs}:
            raise CardInvalid(f"{card.id}: options.channels: no input named {', '.join(sorted(unknown))}")
        if unknown := set(self.options.members) - set(card.graphs):
            raise CardInvalid(f"{card.id}: options.members: no graph named {', '.join(sorted(unknown))}")
        named = {*(paint.label for paint in self.options.paint), *self.options.largest_part}
        if not card.labels or any(value > len(card.labels) for value in named):
            raise CardInvalid(f"{card.id}: labels: one for each value the network gives")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        self._model.thresholds(parameters)
        role = self._roles[0]
        labels = self.labels(inputs)
        regions, numbered = labelled_regions(labels, inputs[role], self._model.card.labels, self.options.smallest_ml)
        total = float(sum(region.volume_ml for region in regions))
        card = self._model.card
        return StudyResult(
            outcome=Outcome.FOUND if regions else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            segmentation=Segmentation(role, numbered, regions) if regions else None,
            total_ml=total,
            totals=(volume_quantity(total),),
            limitations=card.limitations,
            evidence={"members": len(self.options.members), "labels": [region.label for region in regions]},
        )

    def labels(self, inputs: Mapping[str, Volume]) -> Labels:
        """The card's label of each voxel (z, y, x) of the first input, 0 for none.

        Raises
        ------
        InferenceFailed
            An input is missing or unfit, or the network gives what the card does not name.
        """
        options, grid = self.options, inputs.get(self._roles[0])
        stack = stacked(inputs, self._roles, options.co_register)
        assert grid is not None  # stacked() refuses a missing input
        turned = turning(grid.affine_lps, options.orientation, options.order)
        image = np.stack([turned.apply(each) for each in stack])
        mask = nonzero_mask(image)
        box = box_of(mask) if options.crop_to_nonzero else box_of(np.ones_like(mask))
        cropped = normalised(image[(slice(None), *box)], options.channels, mask[box])
        labels = np.zeros(mask.shape, np.uint8)
        labels[box] = self._labelled(cropped, turned.spacing(grid.spacing_mm_zyx))
        return np.ascontiguousarray(self._kept(turned.undo(labels)))

    def _labelled(self, image: Array, spacing: tuple[float, ...]) -> Labels:
        """Labels of a normalised image (channels, z, y, x)."""
        wanted = self.options.spacing_mm or spacing
        if len(wanted) == 2:
            wanted = (spacing[0], *wanted)
        shape, apart = new_shape(image.shape[1:], spacing, wanted), coarse_axis(spacing, wanted)
        back = coarse_axis(wanted, spacing)
        if self.options.stretch:
            shape, apart, back = (image.shape[1], *self.options.stretch), 0, 0
        resampled = np.stack([resized(each, shape, order=self.options.image_spline, apart=apart) for each in image])
        answer = combined([self._answer(resampled, name) for name in self.options.members], self.options)
        known = len(self._model.card.labels)
        if self.options.activation == "softmax" and len(answer) != known + 1:
            raise InferenceFailed(
                f"{self._model.card.id}: {len(answer)} classes with background; the card names {known}"
            )
        return labels_at(answer, image.shape[1:], self.options, apart=back)

    def _answer(self, image: Array, name: str) -> Array:
        session = self._model.session(name)
        given, made = session.inputs[0], session.outputs[0]
        return slide(image, lambda window: session.run({given: window})[made], self.options.window)

    def _kept(self, labels: Labels) -> Labels:
        for value in self.options.largest_part:
            parts, count = ndimage.label(labels == value, structure=CUBE)
            if count > 1:
                largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
                labels = np.where((parts > 0) & (parts != largest), 0, labels)
        return labels.astype(np.uint8)
