"""Images to a map of how abnormal each place is: a model of family ``feed_forward`` whose card says ``output = "map"``.

The image's score is the highest value of its maps. A volume is seen slice by slice, on the grey levels of the whole volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.errors import CardInvalid, InferenceFailed
from models.intensity import Intensity, as_grey_levels
from models.projection_input import ProjectionInput, network_image
from models.resizing import bilinear
from models.results import CodedTerm, Finding, HeatMap, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

_PROBABILITY = CodedTerm("122157", "DCM", "Probability")
_NO_UNITS = CodedTerm("1", "UCUM", "no units")
Array = npt.NDArray[np.float32]


class MapOptions(BaseModel):
    """The card's ``options``.

    Attributes
    ----------
    intensity : Intensity or None
        From a volume's values to grey levels; required for an input of kind ``image``, useless for a projection.
    image : ProjectionInput
        From one slice, or a projection, to the network's image; ``crop = "none"``, so that every pixel has a place.
    concept : CodedTerm
        What the score is the probability of.
    operating_point : float
    smallest_share : float
        Slices with a smaller share of pixels above zero are not looked at: there is hardly anything on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Literal["map"]
    intensity: Intensity | None = None
    image: ProjectionInput
    concept: CodedTerm
    operating_point: float = Field(gt=0, lt=1)
    smallest_share: float = Field(default=0.05, ge=0, lt=1)


class AnomalyMapper:
    """Runs one such model.

    Raises
    ------
    CardInvalid
        The card's ``options`` do not describe one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(MapOptions)
        if len(card.inputs) != 1 or card.inputs[0].kind not in ("image", "projection"):
            raise CardInvalid(f"{card.id}: inputs: a model that gives a map takes one image or projection")
        if (card.inputs[0].kind == "image") != (self.options.intensity is not None):
            raise CardInvalid(f"{card.id}: options.intensity: for an image, and only then")
        if self.options.image.crop != "none":
            raise CardInvalid(
                f"{card.id}: options.image.crop: must be none, so that every pixel has a place in the map"
            )

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        card, role = self._model.card, self._model.card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        values, scores = self.maps(inputs[role])
        slice_index = int(np.argmax(scores))
        score = float(scores[slice_index])
        point = self.options.operating_point
        finding = Finding(self.options.concept, score, point, score >= point, card.site)
        shown = inputs[role].array_zyx.shape[0] > 1
        return StudyResult(
            outcome=Outcome.FOUND if finding.present else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            findings=(finding,),
            # A projection has no place in the patient, and a map needs one.
            heat_maps=(HeatMap(role, values, _PROBABILITY, _NO_UNITS, self.options.concept.meaning),) if shown else (),
            limitations=card.limitations,
            evidence={"score": round(score, 4), "slice": slice_index + 1, "slices_seen": int((scores >= 0).sum())},
        )

    def maps(self, volume: Volume) -> tuple[Array, Array]:
        """Map (z, y, x) in [0, 1] on the volume's grid, and the score of each slice; −1 where one was not looked at.

        Raises
        ------
        InferenceFailed
            Nothing to look at, or an answer that is no map.
        """
        if not np.isfinite(volume.array_zyx).all():
            raise InferenceFailed(f"{self._model.card.id}: the image holds NaN or infinity")
        planes, facts = volume.array_zyx, volume.facts
        if self.options.intensity is not None:
            planes = as_grey_levels(volume.array_zyx, self.options.intensity).astype(np.float32)
            facts = {"maximum_value": 255.0}
        values = np.zeros(volume.array_zyx.shape, np.float32)
        scores = np.full(len(planes), -1, np.float32)
        for z, plane in enumerate(planes):
            if self.options.intensity is not None and np.mean(plane > 0) < self.options.smallest_share:
                continue
            made = self._map(Volume(plane[np.newaxis], np.eye(4), facts=dict(facts)))
            values[z], scores[z] = bilinear(made, (plane.shape[0], plane.shape[1])), made.max()
        if (scores < 0).all():
            raise InferenceFailed(f"{self._model.card.id}: there is hardly anything on any slice")
        return values, scores

    def _map(self, image: Volume) -> Array:
        session = self._model.session("main")
        made = session.run({session.inputs[0]: network_image(image, self.options.image)})[session.outputs[0]]
        if made.ndim != 3 or made.shape[0] != 1:
            raise InferenceFailed(f"{self._model.card.id}: a map of shape {made.shape}")
        if made.min() < -1e-6 or made.max() > 1 + 1e-6:
            raise InferenceFailed(f"{self._model.card.id}: a map that leaves 0 to 1")
        return np.clip(made[0], 0, 1).astype(np.float32)
