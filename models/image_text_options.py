"""What the card of an image–text model says in its ``options``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.phrases import PhraseClass
from models.projection_input import ProjectionInput
from models.slice_input import SliceInput, VolumeInput


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeatMapOptions(_Table):
    """Where the phrase is: cosine of each patch with it, smoothed on the patches' grid.

    Attributes
    ----------
    sigma : float
        In patches.
    """

    sigma: float = Field(default=1.5, ge=0, le=10)


class ImageTextOptions(_Table):
    """The card's ``options``.

    Attributes
    ----------
    head : str
        ``positive_against_negative``: each class on its own, softmax over what says and what denies it; ``softmax``: the
        classes against each other; ``sigmoid``: each class on its own, with the learnt bias; ``cosine``: the cosines
        themselves, as a ranking; ``linear``: a linear layer over the cosines with phrases of a concept bank.
    scale, bias : float
        Learnt in training: a logit is scale · cosine + bias.
    phrases : str
        How several phrases of a class count: ``normalised_mean`` and ``mean`` are in the vectors already, ``max`` takes
        the nearest.
    image, slice, volume
        What the image graph takes; exactly one. ``image``: a radiograph or a photograph.
    heat_map : HeatMapOptions or None
        Whether each present condition gets a map. The graph then gives ``patches``.
    """

    head: Literal["positive_against_negative", "softmax", "sigmoid", "cosine", "linear"]
    scale: float = Field(gt=0, le=1000)
    bias: float = 0.0
    phrases: Literal["normalised_mean", "mean", "max"] = "normalised_mean"
    image: ProjectionInput | None = None
    slice: SliceInput | None = None
    volume: VolumeInput | None = None
    heat_map: HeatMapOptions | None = None
    classes: tuple[PhraseClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> ImageTextOptions:
        if sum(each is not None for each in (self.image, self.slice, self.volume)) != 1:
            raise ValueError("one of image, slice and volume says what the graph takes")
        names = [each.name for each in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("classes: two have one name")
        if self.head == "positive_against_negative":
            if lacking := [each.name for each in self.classes if not each.negative]:
                raise ValueError(f"classes: nothing denies {', '.join(lacking)}")
        elif self.head == "softmax" and not any(each.background for each in self.classes):
            raise ValueError("classes: a softmax needs a background class, or it always finds something")
        if self.head in ("cosine", "sigmoid") and (
            lacking := [each.name for each in self.classes if each.operating_point is None]
        ):
            raise ValueError(f"classes: no operating_point says when {', '.join(lacking)} is present")
        if self.volume is not None and self.heat_map is not None:
            raise ValueError("heat_map: not for volumes")
        return self
