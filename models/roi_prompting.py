"""Promptable models of volumes: a cube around a click in, the thing in it out.

The cube lies in patient axes at the network's spacing, with the click in its middle; what the network says is read back on
the series' own grid, voxel by voxel. Clicks come from the boxes that point at a target: the middle of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.errors import CardInvalid, InferenceFailed, PromptMissing
from models.patient_grid import PatientAxes
from models.prompted_result import prompted_result
from models.prompts import BoxPrompt
from models.results import StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

DECODER_INPUTS = ("image_embeddings", "points", "labels", "mask")
_MOST_TARGETS = 254
Cube = npt.NDArray[np.float32]


class RoiOptions(BaseModel):
    """The card's ``options`` of such a model.

    Attributes
    ----------
    size : int
        Voxels along each side of the cube.
    spacing_mm : float
        Of the cube's voxels, the same along all axes.
    threshold : float
        Probability from which a voxel belongs to the target.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: Literal["clicks"]
    size: int = Field(ge=16, le=512)
    spacing_mm: float = Field(gt=0.05, le=20)
    threshold: float = Field(default=0.5, gt=0, lt=1)


class RoiPrompting:
    """Runs one such model.

    Raises
    ------
    CardInvalid
        ``options`` do not describe one, or the decoder takes something else.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(RoiOptions)
        missing = {"encoder", "decoder"} - set(card.graphs)
        if missing or card.graphs["decoder"].inputs != DECODER_INPUTS:
            raise CardInvalid(f"{card.id}: graphs: an encoder, and a decoder that takes {', '.join(DECODER_INPUTS)}")
        if len(card.labels) != 1:
            raise CardInvalid(f"{card.id}: labels: a promptable model has one, for whatever a click points at")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Without a prompt there is nothing to do. Raises PromptMissing, always."""
        raise PromptMissing(f"{self._model.card.id} segments what it is pointed at, and nothing points anywhere")

    def segment(
        self, inputs: Mapping[str, Volume], prompts: Sequence[BoxPrompt], parameters: Mapping[str, str]
    ) -> StudyResult:
        """Result with one region for each target.

        Raises
        ------
        PromptMissing
            No boxes.
        InferenceFailed
            The volume is missing or not finite, a box lies outside of it, or there are too many targets.
        """
        role = self._model.card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{self._model.card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        volume = inputs[role]
        best = np.zeros(volume.array_zyx.shape, np.float32)
        owner = np.zeros(volume.array_zyx.shape, np.uint8)
        for target, probability in self._by_target(volume, prompts):
            better = probability > best
            best[better], owner[better] = probability[better], target
        labels = np.where(best > self.options.threshold, owner, 0)
        return prompted_result(self._model, volume, labels, best, self.options.threshold, parameters)

    def planes(
        self, volume: Volume, prompts: Sequence[BoxPrompt]
    ) -> Iterator[tuple[BoxPrompt, npt.NDArray[np.float32]]]:
        """Each box with the probabilities of its target on its slice (rows, columns). Raises as :meth:`segment`."""
        for target, probability in self._by_target(volume, prompts):
            for prompt in prompts:
                if prompt.target == target:
                    yield prompt, probability[prompt.slice_index]

    def _by_target(self, volume: Volume, prompts: Sequence[BoxPrompt]) -> Iterator[tuple[int, Cube]]:
        self._require_sound(volume, prompts)
        boxes: dict[int, list[BoxPrompt]] = defaultdict(list)
        for prompt in prompts:
            boxes[prompt.target].append(prompt)
        axes = PatientAxes.of(volume)
        array = axes.read(volume.array_zyx)
        for target in sorted(boxes):
            yield target, axes.back(self.probabilities(array, axes, axes.place(middle_of(boxes[target]))))

    def _require_sound(self, volume: Volume, prompts: Sequence[BoxPrompt]) -> None:
        name, (slices, rows, columns) = self._model.card.id, volume.array_zyx.shape
        if not prompts:
            raise PromptMissing(f"{name}: nothing points anywhere")
        if not np.isfinite(volume.array_zyx).all():
            raise InferenceFailed(f"{name}: the image holds NaN or infinity")
        if max(prompt.target for prompt in prompts) > _MOST_TARGETS:
            raise InferenceFailed(f"{name}: more than {_MOST_TARGETS} targets")
        for prompt in prompts:
            outside = prompt.left > columns - 1 or prompt.top > rows - 1 or prompt.bottom < 0 or prompt.right < 0
            if prompt.slice_index >= slices or outside:
                raise InferenceFailed(f"{name}: a box on slice {prompt.slice_index + 1} lies outside the image")

    def probabilities(self, array: Cube, axes: PatientAxes, click: tuple[float, float, float]) -> Cube:
        """Of each voxel of an array in patient axes, how likely it belongs to what lies at ``click``; 0 beyond the cube."""
        size, spacing = self.options.size, self.options.spacing_mm
        steps = [spacing / each for each in axes.spacing_mm]
        starts = [round(place / step) - size // 2 for place, step in zip(click, steps, strict=True)]
        cube = standardised(cube_of(array, starts, steps, size))
        likely = self._decoded(cube)
        indices = [
            np.round(np.arange(length) / step).astype(int) - start
            for length, step, start in zip(array.shape, steps, starts, strict=True)
        ]
        inside = [(each >= 0) & (each < size) for each in indices]
        made = np.zeros(array.shape, np.float32)
        made[np.ix_(*inside)] = likely[np.ix_(*(each[ok] for each, ok in zip(indices, inside, strict=True)))]
        return made

    def _decoded(self, cube: Cube) -> Cube:
        """Probabilities (size, size, size) of the cube, the click in its middle."""
        name, size = self._model.card.id, self.options.size
        encoder, decoder = self._model.session("encoder"), self._model.session("decoder")
        embedding = encoder.run({encoder.inputs[0]: cube[np.newaxis, np.newaxis]})[encoder.outputs[0]]
        low = 4 * embedding.shape[-1]
        feeds = {
            "image_embeddings": embedding,
            "points": np.full((1, 1, 3), size // 2, np.float32),
            "labels": np.ones((1, 1), np.float32),
            "mask": np.zeros((1, 1, low, low, low), np.float32),
        }
        logits = decoder.run(feeds)[decoder.outputs[0]]
        if logits.ndim != 5 or logits.shape[:2] != (1, 1):
            raise InferenceFailed(f"{name}: masks of shape {logits.shape} for one click")
        return sigmoid(trilinear(logits[0, 0], size))


def middle_of(boxes: Sequence[BoxPrompt]) -> tuple[float, float, float]:
    """Slice, row and column in the middle of what the boxes of a target enclose, on the slice of the middle box."""
    ordered = sorted(boxes, key=lambda box: box.slice_index)
    middle = ordered[len(ordered) // 2]
    return float(middle.slice_index), (middle.top + middle.bottom) / 2, (middle.left + middle.right) / 2


def cube_of(array: Cube, starts: Sequence[int], steps: Sequence[float], size: int) -> Cube:
    """A cube of the array, linear between voxels, 0 beyond it; voxel ``i`` lies at ``(start + i) · step``."""
    part = array
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True)):
        places = (start + np.arange(size)) * step
        last = part.shape[axis] - 1
        below = np.clip(np.floor(places).astype(int), 0, last)
        above = np.minimum(below + 1, last)
        shape = [1, 1, 1]
        shape[axis] = size
        share = np.clip(places - below, 0.0, 1.0).astype(np.float32).reshape(shape)
        there = ((places > -0.5) & (places < last + 0.5)).astype(np.float32).reshape(shape)
        part = (np.take(part, below, axis) * (1 - share) + np.take(part, above, axis) * share) * there
    return part.astype(np.float32)


def standardised(cube: Cube) -> Cube:
    """Mean and deviation of what lies above zero taken off, as torchio's ZNormalization with such a mask."""
    used = cube[cube > 0]
    if used.size < 2 or float(used.std(ddof=1)) < 1e-6:
        return np.zeros_like(cube)
    return ((cube - used.mean()) / used.std(ddof=1)).astype(np.float32)


def trilinear(low: Cube, size: int) -> Cube:
    """``torch.nn.functional.interpolate(mode="trilinear", align_corners=False)`` to a cube."""
    factor = size / low.shape[0]
    return ndimage.zoom(low.astype(np.float64), factor, order=1, mode="nearest", grid_mode=True).astype(np.float32)


def sigmoid(logits: Cube) -> Cube:
    """Probabilities of logits."""
    return (1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))).astype(np.float32)
