"""Family ``promptable``: an image and boxes in, the thing inside each box out.

The image graph runs once for each slice that has a box, the decoder once for all boxes of the slice. What differs between
two models of the family stands in the card's ``options``: grey levels, size and how it is reached, scale, margin, how a
thing is followed from slice to slice.

The decoder takes ``image_embeddings`` and ``boxes`` (n, 1, 4; x0, y0, x1, y1 in pixels of the network's image). The public
ONNX exports of Segment Anything that take points only are refused: a model trained on boxes gives worse masks for points,
and says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.errors import CardInvalid, InferenceFailed, PromptMissing
from models.intensity import as_grey_levels
from models.network_image import ImageOptions
from models.prompted_result import prompted_result
from models.prompts import BoxPrompt, box_of
from models.resizing import bilinear
from models.results import StudyResult
from models.roi_prompting import RoiPrompting
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

_BOXES = "boxes"
_CORNER_INPUTS = ("image_embeddings", "point_coords", "point_labels")
_CORNER_EXTRAS = frozenset({"mask_input", "has_mask_input", "orig_im_size"})
_CORNERS = (2.0, 3.0)
"""Labels of a box's first and second corner among points (segment_anything/modeling/prompt_encoder.py)."""
_POINT_INPUTS = frozenset({"input_points", "point_coords"})
Embedding = dict[str, npt.NDArray[np.float32]]
_MOST_TARGETS = 254


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FollowOptions(_Table):
    """How a thing is followed: margin of the next slice's box in voxels, and by what factor its area may grow or shrink."""

    margin_voxels: float = Field(default=5.0, ge=0, le=100)
    largest_change: float = Field(default=4.0, gt=1)


class PromptableOptions(_Table):
    """The card's ``options``.

    ``decoder``: ``boxes`` takes all boxes of a slice as such; ``corner_points`` takes one box at a time as two points with
    the labels 2 and 3, as exports by Meta's script and samexporter do. ``margin_voxels``, ``margin_share``: by how much a
    box is made larger on every side, in voxels and as a share of the network's image; the larger of both counts.
    ``enlarged``: whether the mask's probabilities or its logits are brought to the slice's size before the threshold.
    """

    decoder: Literal["boxes", "corner_points"] = "boxes"
    image: ImageOptions
    margin_voxels: float = Field(default=0.0, ge=0, le=100)
    margin_share: float = Field(default=0.0, ge=0, le=0.1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    enlarged: Literal["probabilities", "logits"] = "probabilities"
    follow: FollowOptions = FollowOptions()

    def margins(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Margin above and below, and at the sides, of a box on a slice of ``shape`` (rows, columns), in voxels."""
        high, wide = self.image.fitted(shape)
        rows, columns = shape
        pixels = self.margin_share * self.image.size
        return max(self.margin_voxels, pixels * rows / high), max(self.margin_voxels, pixels * columns / wide)


def build(model: Model) -> PromptableAdapter | RoiPrompting:
    """Adapter of ``model``: slice by slice with boxes, or a cube with clicks where the card's ``options`` say so.

    Raises
    ------
    CardInvalid
        ``options`` do not describe a promptable model, or the decoder does not take boxes.
    """
    return RoiPrompting(model) if model.card.options.get("prompts") == "clicks" else PromptableAdapter(model)


class PromptableAdapter:
    """Runs one model of the family. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(PromptableOptions)
        missing = {"encoder", "decoder"} - set(card.graphs)
        if missing:
            raise CardInvalid(f"{card.id}: graphs: a promptable model needs {' and '.join(sorted(missing))}")
        inputs = card.graphs["decoder"].inputs
        corners = self.options.decoder == "corner_points"
        if corners and set(_CORNER_INPUTS) <= set(inputs) and set(inputs) <= {*_CORNER_INPUTS, *_CORNER_EXTRAS}:
            pass
        elif _POINT_INPUTS & set(inputs):
            raise CardInvalid(
                f"{card.id}: graphs.decoder takes points only; this model was trained on boxes. Export its decoder with "
                "`ainode models import`"
            )
        elif corners or inputs != (*card.graphs["encoder"].outputs, _BOXES):
            raise CardInvalid(
                f"{card.id}: graphs.decoder must take what the encoder gives and {_BOXES}, or options.decoder name what it takes"
            )
        if len(card.labels) != 1:
            raise CardInvalid(f"{card.id}: labels: a promptable model has one, for whatever a box points at")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Without a prompt there is nothing to do; see :meth:`segment`.

        Raises
        ------
        PromptMissing
            Always.
        """
        raise PromptMissing(f"{self._model.card.id} segments what it is pointed at, and nothing points anywhere")

    def segment(
        self, inputs: Mapping[str, Volume], prompts: Sequence[BoxPrompt], parameters: Mapping[str, str]
    ) -> StudyResult:
        """Result with one region for each target.

        Parameters
        ----------
        inputs : mapping
            The volume under the role of the card's first input.
        prompts : sequence of BoxPrompt
            Boxes on that volume's grid.

        Raises
        ------
        PromptMissing
            No boxes.
        InferenceFailed
            A box lies outside the volume, the volume is missing, or there are too many targets.
        """
        card = self._model.card
        role = card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        volume = inputs[role]
        self._model.thresholds(parameters)
        probability, owner = self.probabilities(volume, prompts)
        labels = np.where(probability > self.options.threshold, owner, 0)
        return prompted_result(self._model, volume, labels, probability, self.options.threshold, parameters)

    def probabilities(
        self, volume: Volume, prompts: Sequence[BoxPrompt]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """How likely each voxel belongs to some target, and to which: float32 in [0, 1] and uint8, shape of the volume.

        Raises
        ------
        PromptMissing, InferenceFailed
            See :meth:`segment`.
        """
        self._require_sound(volume, prompts)
        run = _Run(self, volume)
        for slice_index, boxes in sorted(_by_slice(prompts).items()):
            run.decode(slice_index, boxes)
        for prompt in prompts:
            if prompt.follow:
                run.follow(prompt)
        return run.probability, run.owner

    def planes(
        self, volume: Volume, prompts: Sequence[BoxPrompt]
    ) -> Iterator[tuple[BoxPrompt, npt.NDArray[np.float32]]]:
        """Each box with its probabilities (rows, columns), slice by slice; boxes are not followed.

        Raises
        ------
        PromptMissing, InferenceFailed
            See :meth:`segment`.
        """
        self._require_sound(volume, prompts)
        run = _Run(self, volume)
        for slice_index, boxes in sorted(_by_slice(prompts).items()):
            yield from zip(boxes, run.planes(slice_index, boxes), strict=True)

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

    def embedding(self, grey_yx: npt.NDArray[np.uint8]) -> Embedding:
        """What the image graph makes of one slice, by output."""
        session = self._model.session("encoder")
        return session.run({session.inputs[0]: self.options.image.image_of(grey_yx)})

    def masks(
        self, embedding: Embedding, boxes: Sequence[BoxPrompt], shape: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        """Probabilities (n, rows, columns) on the slice's own grid, one plane for each box."""
        rows, columns = shape
        high, wide = self.options.image.fitted(shape)
        scale = np.array([wide / columns, high / rows] * 2, np.float32)
        if self.options.image.fit == "pad":
            scale[:] = self.options.image.size / max(shape)  # the sides of the image are rounded, boxes are not
        corners = np.array([[b.left, b.top, b.right, b.bottom] for b in boxes], np.float32) * scale
        logits = self._logits(embedding, corners)
        if logits.ndim != 4 or logits.shape[:2] != (len(boxes), 1):
            raise InferenceFailed(f"{self._model.card.id}: masks of shape {logits.shape} for {len(boxes)} boxes")
        # The padding is cut off before the mask is brought to the slice's size; thresholds come after it.
        side = logits.shape[-1] / self.options.image.size
        used = logits[:, 0, : max(round(high * side), 1), : max(round(wide * side), 1)]
        if self.options.enlarged == "logits":
            return _likely(bilinear(used, shape)).astype(np.float32)
        return bilinear(_likely(used), shape)

    def _logits(self, embedding: Embedding, corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mask logits (n, 1, h, w) of boxes (n, 4) in pixels of the network's image."""
        session = self._model.session("decoder")
        if self.options.decoder == "boxes":
            return session.run({**embedding, _BOXES: corners[:, np.newaxis]})[session.outputs[0]]
        masks = "masks" if "masks" in session.outputs else session.outputs[0]
        found = []
        for corner in corners:
            feeds = _corner_feeds(next(iter(embedding.values())), corner, self.options.image.size)
            made = session.run({name: feeds[name] for name in session.inputs}, [masks])[masks]
            # Of several masks the first is the single one that box-trained models were trained with.
            found.append(made[:, :1] if made.ndim == 4 else made)
        return np.concatenate(found)


def _likely(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    made: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return made


def _corner_feeds(
    embedding: npt.NDArray[np.float32], corner: npt.NDArray[np.float32], size: int
) -> dict[str, npt.NDArray[np.float32]]:
    """What a decoder of corner points may ask for: one box, no earlier mask, the network's image as the original."""
    low = 4 * embedding.shape[-1]
    return {
        "image_embeddings": embedding,
        "point_coords": corner.reshape(1, 2, 2),
        "point_labels": np.array([_CORNERS], np.float32),
        "mask_input": np.zeros((1, 1, low, low), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([size, size], np.float32),
    }


def _by_slice(prompts: Sequence[BoxPrompt]) -> dict[int, list[BoxPrompt]]:
    by_slice: dict[int, list[BoxPrompt]] = defaultdict(list)
    for prompt in prompts:
        by_slice[prompt.slice_index].append(prompt)
    return by_slice


class _Run:
    """Masks of one volume, as they come."""

    def __init__(self, adapter: PromptableAdapter, volume: Volume) -> None:
        self._adapter = adapter
        self._grey = as_grey_levels(volume.array_zyx, adapter.options.image.intensity)
        self._embedded: dict[int, Embedding] = {}
        self.probability = np.zeros(self._grey.shape, np.float32)
        self.owner = np.zeros(self._grey.shape, np.uint8)

    def planes(self, slice_index: int, boxes: Sequence[BoxPrompt]) -> npt.NDArray[np.float32]:
        """Probabilities (n, rows, columns) of the boxes of one slice, in one call of the decoder."""
        rows, columns = self._grey.shape[1:]
        if slice_index not in self._embedded:
            self._embedded[slice_index] = self._adapter.embedding(self._grey[slice_index])
        margins = self._adapter.options.margins((rows, columns))
        grown = [box.grown(margins, rows, columns) for box in boxes]
        return self._adapter.masks(self._embedded[slice_index], grown, (rows, columns))

    def decode(self, slice_index: int, boxes: Sequence[BoxPrompt]) -> None:
        """Take in the boxes of a slice; each voxel goes to the target that is surest of it."""
        for box, plane in zip(boxes, self.planes(slice_index, boxes), strict=True):
            better = plane > self.probability[slice_index]
            self.probability[slice_index][better] = plane[better]
            self.owner[slice_index][better] = box.target

    def follow(self, prompt: BoxPrompt) -> None:
        """Go outwards both ways from the box's slice; the next box is the last mask's, with a margin."""
        for step in (1, -1):
            slice_index = prompt.slice_index
            while (box := self._next_box(prompt.target, slice_index)) is not None:
                area = self._area(prompt.target, slice_index)
                slice_index += step
                if not 0 <= slice_index < self._grey.shape[0]:
                    break
                before = self.probability[slice_index].copy(), self.owner[slice_index].copy()
                self.decode(slice_index, [replace(box, slice_index=slice_index)])
                found = self._area(prompt.target, slice_index)
                change = self._adapter.options.follow.largest_change
                if not area / change <= found <= area * change:
                    # Lost, or leaked into the surroundings: this slice keeps what it had.
                    self.probability[slice_index], self.owner[slice_index] = before
                    break

    def _mask(self, target: int, slice_index: int) -> npt.NDArray[np.bool_]:
        sure = self.probability[slice_index] > self._adapter.options.threshold
        return sure & (self.owner[slice_index] == target)

    def _area(self, target: int, slice_index: int) -> int:
        return int(np.count_nonzero(self._mask(target, slice_index)))

    def _next_box(self, target: int, slice_index: int) -> BoxPrompt | None:
        box = box_of(self._mask(target, slice_index), target, slice_index)
        rows, columns = self._grey.shape[1:]
        return None if box is None else box.grown(self._adapter.options.follow.margin_voxels, rows, columns)
