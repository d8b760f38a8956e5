"""One image to a vector: a model of family ``feed_forward`` whose card says ``output = "embedding"``.

A vector is no finding. Such a model is there to train heads on (`ainode models train-head`); it refuses to be run on a study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import CardInvalid, InferenceFailed
from models.projection_input import ProjectionInput, network_image
from models.results import StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model


class EmbeddingOptions(BaseModel):
    """The card's ``options``.

    Attributes
    ----------
    preprocessing : str
        Which of ``images`` is used unless somebody names another one.
    images : dict
        Ways to make the network's image, by name: some projects contradict themselves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Literal["embedding"]
    preprocessing: str
    images: dict[str, ProjectionInput] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> EmbeddingOptions:
        if self.preprocessing not in self.images:
            raise ValueError(f"preprocessing: {self.preprocessing} is none of {', '.join(sorted(self.images))}")
        return self


class Embedder:
    """Runs one such model.

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(EmbeddingOptions)

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Nothing can be said of a study by a vector.

        Raises
        ------
        CardInvalid
            Always.
        """
        raise CardInvalid(
            f"{self._model.card.id} gives a vector, no finding; train a head with `ainode models train-head`"
        )

    def embedding(self, volume: Volume, preprocessing: str | None = None) -> npt.NDArray[np.float32]:
        """Vector (width,) of one image.

        Raises
        ------
        CardInvalid
            The card has no such preprocessing.
        InferenceFailed
            More than one slice, or an answer that is no vector.
        """
        name = preprocessing or self.options.preprocessing
        if name not in self.options.images:
            raise CardInvalid(
                f"{self._model.card.id}: no preprocessing {name}; {', '.join(sorted(self.options.images))}"
            )
        session = self._model.session("main")
        made = session.run({session.inputs[0]: network_image(volume, self.options.images[name])})[session.outputs[0]]
        if made.ndim != 2 or made.shape[0] != 1:
            raise InferenceFailed(f"{self._model.card.id}: an embedding of shape {made.shape}")
        return made[0].astype(np.float32)
