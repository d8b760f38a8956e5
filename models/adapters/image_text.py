"""Family ``image_text``: a radiograph against phrases, each condition as the pair of what says it and what denies it.

Phrases were turned into vectors when the model was imported; here only the image graph runs. A graph with ``prior`` and
``has_prior`` looks at an earlier image of the same patient where the role ``prior`` is filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import CardInvalid, InferenceFailed
from models.projection_input import ProjectionInput, network_image
from models.results import CodedTerm, Finding, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.registry import Model

PHRASES = "phrases"
"""Name of the vectors among the card's ``files``: ``CLASS/positive`` and ``CLASS/negative``, of length one."""
PRIOR = "prior"
_OPERATING_POINT = 0.5

Vector = npt.NDArray[np.float32]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PhraseClass(_Table):
    """One condition, and the phrases its vectors were made of."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    concept: CodedTerm
    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)


class ImageTextOptions(_Table):
    """The card's ``options``. ``scale`` spreads the difference of the two cosines over 0 to 1; it decides nothing."""

    head: Literal["positive_against_negative"]
    scale: float = Field(gt=0, le=1000)
    image: ProjectionInput
    classes: tuple[PhraseClass, ...] = Field(min_length=1)


def build(model: Model) -> ImageTextAdapter:
    """Adapter of ``model``; raises :class:`CardInvalid` where its card does not describe one of the family."""
    return ImageTextAdapter(model)


class ImageTextAdapter:
    """Runs one model of the family. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        try:
            self.options = ImageTextOptions.model_validate(card.options)
        except ValidationError as error:
            faults = [f"options.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise CardInvalid(f"{card.id}: {'; '.join(faults)}", keys=faults) from error
        if "main" not in card.graphs or not card.inputs or any(each.kind != "projection" for each in card.inputs):
            raise CardInvalid(f"{card.id}: a model of family image_text has a graph named main and takes projections")

    @cached_property
    def _phrases(self) -> dict[str, Vector]:
        try:
            with np.load(self._model.path(PHRASES), allow_pickle=False) as stored:
                found = {name: stored[name].astype(np.float32) for name in stored.files}
        except (OSError, ValueError) as error:
            raise CardInvalid(f"{self._model.card.id}: files.phrases holds no vectors: {error}") from error
        for entry in self.options.classes:
            for side in ("positive", "negative"):
                vector = found.get(f"{entry.name}/{side}")
                if vector is None or vector.ndim != 1 or not np.isclose(np.linalg.norm(vector), 1.0, atol=1e-3):
                    raise CardInvalid(f"{self._model.card.id}: no unit vector for the {side} phrases of {entry.name}")
        return found

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one image; see :meth:`models.registry.Model.run`."""
        card = self._model.card
        role = card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        embedding = self._embedding(inputs[role], inputs.get(PRIOR))
        findings = tuple(self._finding(entry, embedding) for entry in self.options.classes)
        return StudyResult(
            outcome=Outcome.FOUND if any(each.present for each in findings) else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            findings=findings,
            limitations=card.limitations,
            evidence={
                "earlier_image": PRIOR in inputs,
                "probabilities": {each.concept.meaning: round(each.probability, 4) for each in findings},
            },
        )

    def _embedding(self, current: Volume, prior: Volume | None) -> Vector:
        """Unit vector of the image, seen beside the earlier one where there is one."""
        session, recipe = self._model.session("main"), self.options.image
        image = network_image(current, recipe)
        feeds = {session.inputs[0]: image}
        if "has_prior" in session.inputs:
            feeds[PRIOR] = image if prior is None else network_image(prior, recipe)
            feeds["has_prior"] = np.array([0.0 if prior is None else 1.0], np.float32)
        vector = session.run(feeds, session.outputs[:1])[session.outputs[0]]
        if vector.ndim != 2 or vector.shape[0] != 1:
            raise InferenceFailed(f"{self._model.card.id}: an embedding of shape {vector.shape}")
        length = float(np.linalg.norm(vector[0]))
        if length < 1e-9:
            raise InferenceFailed(f"{self._model.card.id}: an embedding without direction")
        return vector[0] / length

    def _finding(self, entry: PhraseClass, embedding: Vector) -> Finding:
        positive, negative = (self._phrases[f"{entry.name}/{side}"] for side in ("positive", "negative"))
        if positive.shape != embedding.shape:
            raise InferenceFailed(f"{self._model.card.id}: phrases and images are embedded in different spaces")
        margin = float(embedding @ positive) - float(embedding @ negative)
        probability = float(1.0 / (1.0 + np.exp(-self.options.scale * margin)))
        return Finding(entry.concept, probability, _OPERATING_POINT, margin > 0, self._model.card.site)
