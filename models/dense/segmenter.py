"""Volumes to a label for every voxel: a model of family ``feed_forward`` whose card says ``output = "dense"``.

Turned, cropped, normalised, resampled, seen window by window, and all of that undone: the labels lie on the voxels of the
first input. What differs between two models stands in the card; nnU-Net v2 and MONAI networks run by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.dense.channels import Box, box_of, nonzero_mask, normalised
from models.dense.labelling import Back, Labels, combined, labels_at
from models.dense.options import DenseOptions
from models.dense.orientation import Turning, turning
from models.dense.regions import label_volumes, labelled_regions
from models.dense.resampling import coarse_axis, new_shape, point_shape, resized, sampled
from models.dense.sliding_window import slide
from models.dense.stacking import stacked
from models.dense.stripping import brain_only
from models.errors import CardInvalid, InferenceFailed
from models.measurement import volume_quantity
from models.morphology import CUBE
from models.results import Outcome, Segmentation, StudyResult, total_volume_ml
from models.sweep import Sweep, SweptVolumes, with_ranges
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

Array = npt.NDArray[np.float32]
CUT = "threshold"
"""What a card's ``sweep`` calls the probability cut."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """The network's answer, and the way from its grid to the voxels of the first input."""

    answer: Array
    back: Back
    turned: Turning
    within: npt.NDArray[np.bool_] | None
    shape: tuple[int, ...]
    box: Box


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
        if (brain := self.options.brain) and (unknown := {brain.dwi, brain.adc, *brain.level} - set(self._roles)):
            raise CardInvalid(f"{card.id}: options.brain: no channel of {', '.join(sorted(unknown))}")
        if unknown := set(self.options.members) - set(card.graphs):
            raise CardInvalid(f"{card.id}: options.members: no graph named {', '.join(sorted(unknown))}")
        named = {*(paint.label for paint in self.options.paint), *self.options.largest_part}
        if not card.labels or any(value > len(card.labels) for value in named):
            raise CardInvalid(f"{card.id}: labels: one for each value the network gives")
        self._cut = self.options.threshold if self.options.activation == "sigmoid" else 0.5
        if card.sweep is not None:
            self._require_cuts(card.sweep)

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        self._model.thresholds(parameters)
        role = self._roles[0]
        answered = self._answered(inputs)
        (labels,) = self._labelled(answered, [self._cut])
        regions, numbered = labelled_regions(labels, inputs[role], self._model.card.labels, self.options.smallest_ml)
        total = total_volume_ml(regions)
        card = self._model.card
        result = StudyResult(
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
        if card.sweep is None:
            return result
        present = self._volumes(labels, inputs[role])
        return with_ranges(
            result,
            card.sweep,
            lambda settings: [
                self._swept(present, each, inputs[role])
                for each in self._labelled(answered, [setting[CUT] for setting in settings])
            ],
        )

    def _require_cuts(self, sweep: Sweep) -> None:
        model_id, cut = self._model.card.id, sweep.thresholds.get(CUT)
        if cut is None or len(sweep.thresholds) > 1:
            raise CardInvalid(f"{model_id}: sweep: a network that labels every voxel has one threshold, named {CUT}")
        if self.options.combine == "vote":
            raise CardInvalid(f"{model_id}: sweep: a vote has no probability that could be cut elsewhere")
        if not 1 > cut.strict > self._cut > cut.lax > 0:
            raise CardInvalid(
                f"{model_id}: sweep.thresholds.{CUT}: strict above and lax below {self._cut:g}, both between 0 and 1"
            )

    def _volumes(self, labels: Labels, grid: Volume) -> list[tuple[int, float]]:
        """Values of the labels that are there with their volumes, in the order of the regions."""
        found = label_volumes(labels, grid, self._model.card.labels, self.options.smallest_ml)
        return [(label.value, volume_ml) for label, volume_ml in found]

    def _swept(self, present: list[tuple[int, float]], labels: Labels, grid: Volume) -> SweptVolumes:
        volumes = dict(self._volumes(labels, grid))
        regions = {number: volumes.get(value, 0.0) for number, (value, _) in enumerate(present, start=1)}
        return SweptVolumes(sum(volumes.values()), regions)

    def labels(self, inputs: Mapping[str, Volume]) -> Labels:
        """The card's label of each voxel (z, y, x) of the first input, 0 for none.

        Raises
        ------
        InferenceFailed
            An input is missing or unfit, or the network gives what the card does not name.
        """
        (labels,) = self._labelled(self._answered(inputs), [self._cut])
        return labels

    def _answered(self, inputs: Mapping[str, Volume]) -> _Answered:
        """What the network says of the inputs, and how to bring it back to the voxels of the first."""
        options, grid = self.options, inputs.get(self._roles[0])
        stack = stacked(inputs, self._roles, options.co_register)
        assert grid is not None  # stacked() refuses a missing input
        within = None
        if options.brain is not None:
            stack, within = brain_only(stack, self._roles, options.brain, grid.spacing_mm_zyx)
        turned = turning(grid.affine_lps, options.orientation, options.order)
        image = np.stack([turned.apply(each) for each in stack])
        mask = nonzero_mask(image)
        box = box_of(mask) if options.crop_to_nonzero else box_of(np.ones_like(mask))
        cropped = image[(slice(None), *box)]
        if options.normalise_on == "own_grid":
            cropped = normalised(cropped, options.channels, mask[box])
        answer, back = self._asked(cropped, turned.spacing(grid.spacing_mm_zyx))
        return _Answered(answer, back, turned, within, mask.shape, box)

    def _labelled(self, answered: _Answered, cuts: Sequence[float]) -> list[Labels]:
        """Labels on the voxels of the first input, for each probability to cut at."""
        size = tuple(side.stop - side.start for side in answered.box)
        made = []
        for inside in labels_at(answered.answer, size, self.options, back=answered.back, cuts=cuts):
            labels = np.zeros(answered.shape, np.uint8)
            labels[answered.box] = inside
            labels = answered.turned.undo(labels)
            if answered.within is not None:
                labels = np.where(answered.within, labels, 0)
            made.append(np.ascontiguousarray(self._kept(labels)))
        return made

    def _asked(self, image: Array, spacing: tuple[float, ...]) -> tuple[Array, Back]:
        """What the members say of an image (channels, z, y, x), and how a class of it comes back to its grid."""
        there, back = self._ways(image.shape[1:], spacing)
        resampled = np.stack([there(each) for each in image])
        if self.options.normalise_on == "network_grid":
            resampled = normalised(resampled, self.options.channels, nonzero_mask(resampled))
        answer = combined([self._answer(resampled, name) for name in self.options.members], self.options)
        known = len(self._model.card.labels)
        if self.options.activation == "softmax" and len(answer) != known + 1:
            raise InferenceFailed(
                f"{self._model.card.id}: {len(answer)} classes with background; the card names {known}"
            )
        return answer, back

    def _ways(self, size: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[Back, Back]:
        """To the network's grid, and back to ``size``."""
        options, wanted = self.options, self.options.spacing_mm or spacing
        if len(wanted) == 2:
            wanted = (spacing[0], *wanted)
        if options.grid == "first_voxel":
            steps = [new / old for old, new in zip(spacing, wanted, strict=True)]
            there = partial(sampled, shape=point_shape(size, spacing, wanted), steps=steps)
            return there, partial(sampled, shape=size, steps=[1 / each for each in steps])
        shape, apart, back = new_shape(size, spacing, wanted), None, None
        if options.coarse_axis == "apart":
            apart, back = coarse_axis(spacing, wanted), coarse_axis(wanted, spacing)
        if options.stretch:
            shape, apart, back = (size[0], *options.stretch), 0, 0
        there = partial(resized, shape=shape, order=options.image_spline, apart=apart)
        return there, partial(resized, shape=size, order=1, apart=back)

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
