"""Radiographs to boxes: a model of family ``feed_forward`` whose card says ``output = "boxes"``.

The graph gives one row for each thing looked for: centre, width and height in shares of the network's square image. A
network that always gives a box, also for what is not there, has no scores; its boxes say where, never whether.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.errors import CardInvalid, InferenceFailed
from models.resizing import RESIZERS
from models.results import CodedTerm, Finding, Mark, MarkShape, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

Array = npt.NDArray[np.float32]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SquareInput(_Table):
    """From a radiograph to the network's square image.

    The longer side becomes ``size``; the rest is filled with zero after normalising, on both sides (``centre``) or at right
    and bottom (``end``). Values 0 … 1 of the possible range less ``mean``, divided by ``spread``, one for each channel.
    """

    size: int = Field(ge=16, le=4096)
    resize: str
    pad: Literal["centre", "end"] = "centre"
    mean: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (1.0,)

    @field_validator("resize")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RESIZERS:
            raise ValueError(f"no resizer named {name}; there are {', '.join(sorted(RESIZERS))}")
        return name

    @model_validator(mode="after")
    def _fits(self) -> SquareInput:
        if len(self.mean) != len(self.spread) or min(self.spread) <= 0:
            raise ValueError("mean and spread: one for each channel, spread above zero")
        return self


class Target(_Table):
    """One row of the graph's boxes. ``operating_point`` None: the network gives no score, and the box says only where."""

    output: int = Field(ge=0)
    concept: CodedTerm
    operating_point: float | None = Field(default=None, gt=0, lt=1)


class BoxOptions(_Table):
    """The card's ``options``."""

    output: Literal["boxes"]
    image: SquareInput
    targets: tuple[Target, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where the radiograph lies in the square: scale, and rows and columns before it."""

    scale: float
    top: int
    left: int


class BoxFinder:
    """Runs one such model. Graph inputs: the image, and, where there is a second, what is padding (1) and what not (0).

    Outputs: boxes (1, n, 4), and, where there is a second, logits of the scores (1, n).

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(BoxOptions)
        if len(card.inputs) != 1 or card.inputs[0].kind != "projection":
            raise CardInvalid(f"{card.id}: inputs: a model that gives boxes takes one projection")
        scored = len(card.graphs["main"].outputs) > 1
        if any((target.operating_point is not None) != scored for target in self.options.targets):
            raise CardInvalid(f"{card.id}: options.targets: operating points where the graph has scores, and only then")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one image; see :meth:`models.model.Model.run`."""
        card, role = self._model.card, self._model.card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        marks = self.marks(role, inputs[role])
        return StudyResult(
            outcome=Outcome.FOUND if marks else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            findings=tuple(mark.finding for mark in marks if mark.finding is not None),
            marks=marks,
            limitations=card.limitations,
            evidence={"boxes": [mark.label for mark in marks]},
        )

    def marks(self, role: str, volume: Volume) -> tuple[Mark, ...]:
        """Boxes on the radiograph, those below their operating point left out.

        Raises
        ------
        InferenceFailed
            The image is no radiograph, or the answer no boxes.
        """
        if volume.array_zyx.shape[0] != 1 or "maximum_value" not in volume.facts:
            raise InferenceFailed("a projection is one image whose range of values is known")
        image, padding, placed = self._square(volume)
        session = self._model.session("main")
        feeds = dict(zip(session.inputs, (image, padding), strict=False))
        made = session.run(feeds)
        boxes = made[session.outputs[0]]
        needed = 1 + max(target.output for target in self.options.targets)
        if boxes.ndim != 3 or boxes.shape[0] != 1 or boxes.shape[2] != 4 or boxes.shape[1] < needed:
            raise InferenceFailed(f"{self._model.card.id}: boxes of shape {boxes.shape}; the card reads {needed}")
        scores = made[session.outputs[1]] if len(session.outputs) > 1 else None
        return tuple(
            mark
            for target in self.options.targets
            if (mark := self._mark(target, boxes[0], scores, placed, volume, role)) is not None
        )

    def _mark(
        self, target: Target, boxes: Array, scores: Array | None, placed: _Placed, volume: Volume, role: str
    ) -> Mark | None:
        finding = None
        if scores is not None and target.operating_point is not None:
            score = float(1 / (1 + np.exp(-float(scores[0, target.output]))))
            if score < target.operating_point:
                return None
            finding = Finding(target.concept, score, target.operating_point, True, self._model.card.site)
        rows, columns = volume.array_zyx.shape[1:]
        x, y, wide, high = (float(each) for each in boxes[target.output] * self.options.image.size)
        corners = []
        for across, down in ((x - wide / 2, y - high / 2), (x + wide / 2, y + high / 2)):
            # From edges of pixels to centres, and never beyond the image.
            row = float(np.clip((down - placed.top) / placed.scale - 0.5, 0, rows - 1))
            column = float(np.clip((across - placed.left) / placed.scale - 0.5, 0, columns - 1))
            corners.append((row, column))
        if corners[0][0] >= corners[1][0] or corners[0][1] >= corners[1][1]:
            return None
        return Mark(role, MarkShape.BOX, 0, tuple(corners), target.concept.meaning, finding)

    def _square(self, volume: Volume) -> tuple[Array, Array, _Placed]:
        """Image (1, channels, size, size), padding (1, size, size), and where the radiograph lies."""
        recipe, size = self.options.image, self.options.image.size
        grey = (volume.array_zyx[0] / float(volume.facts["maximum_value"])).astype(np.float32)
        scale = size / max(grey.shape)
        rows, columns = (max(1, round(length * scale)) for length in grey.shape)
        small = RESIZERS[recipe.resize](grey, (rows, columns))
        top, left = ((size - rows) // 2, (size - columns) // 2) if recipe.pad == "centre" else (0, 0)
        mean, spread = (np.array(each, np.float32)[:, None, None] for each in (recipe.mean, recipe.spread))
        image = np.zeros((1, len(recipe.mean), size, size), np.float32)
        image[0, :, top : top + rows, left : left + columns] = (small[np.newaxis] - mean) / spread
        padding = np.ones((1, size, size), np.float32)
        padding[0, top : top + rows, left : left + columns] = 0
        return image, padding, _Placed(scale, top, left)
