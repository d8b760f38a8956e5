"""Family ``image_text``: an image against phrases.

Phrases were turned into vectors when the model was imported; here only the image graph runs. A graph with ``prior`` and
``has_prior`` looks at an earlier image of the same patient where the role ``prior`` is filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models import phrase_map
from models.errors import CardInvalid, InferenceFailed
from models.image_text_heads import CONCEPTS, check_phrases, findings
from models.image_text_options import ImageTextOptions
from models.projection_input import ProjectionInput, network_image
from models.results import Finding, HeatMap, Outcome, StudyResult
from models.slice_input import chosen_slice, slice_image, volume_image
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

PHRASES = "phrases"
"""Name of the vectors among the card's ``files``: ``CLASS/positive`` and ``CLASS/negative``."""
PRIOR = "prior"
PATCHES = "patches"
_KINDS = {"image": ("projection", "photograph"), "slice": ("image",), "volume": ("image",)}

Vector = npt.NDArray[np.float32]


def build(model: Model) -> ImageTextAdapter:
    """Adapter of ``model``; raises :class:`CardInvalid` where its card does not describe one of the family."""
    return ImageTextAdapter(model)


class ImageTextAdapter:
    """Runs one model of the family. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(ImageTextOptions)
        wanted = next(kinds for name, kinds in _KINDS.items() if getattr(self.options, name) is not None)
        if "main" not in card.graphs or not card.inputs or any(each.kind not in wanted for each in card.inputs):
            raise CardInvalid(
                f"{card.id}: a model of family image_text has a graph named main and takes what its options say "
                f"({' or '.join(wanted)})"
            )
        if self.options.heat_map is not None and PATCHES not in card.graphs["main"].outputs:
            raise CardInvalid(f"{card.id}: a heat map needs a graph that gives {PATCHES}")
        if any(each.role == PRIOR and each.required for each in card.inputs):
            raise CardInvalid(f"{card.id}: there is not always an earlier image: the input {PRIOR} is not required")

    @cached_property
    def _phrases(self) -> dict[str, Vector]:
        name = self._model.card.id
        try:
            with np.load(self._model.path(PHRASES), allow_pickle=False) as stored:
                found = {name: stored[name].astype(np.float32) for name in stored.files}
        except (OSError, ValueError) as error:
            raise CardInvalid(f"{name}: files.phrases holds no vectors: {error}") from error
        check_phrases(name, found, self.options)
        return found

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one image; see :meth:`models.model.Model.run`."""
        card = self._model.card
        role = card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        current = inputs[role]
        phrases = self._phrases
        embedding, patches = self._embedded(current, inputs.get(PRIOR))
        found = findings(card.id, embedding, phrases, self.options, card.site)
        return StudyResult(
            outcome=Outcome.FOUND if any(each.present for each in found) else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            findings=found,
            heat_maps=self._maps(role, current, found, patches),
            limitations=card.limitations,
            evidence={
                "earlier_image": PRIOR in inputs,
                "probabilities": {each.concept.meaning: round(each.probability, 4) for each in found},
                **({"slice": chosen_slice(current, self.options.slice) + 1} if self.options.slice else {}),
            },
            embedding=embedding,
        )

    def _network_image(self, volume: Volume) -> npt.NDArray[np.float32]:
        options = self.options
        if options.volume is not None:
            return volume_image(volume, options.volume)
        if options.slice is not None:
            return slice_image(volume, options.slice)
        assert options.image is not None
        return network_image(volume, options.image)

    def _embedded(self, current: Volume, prior: Volume | None) -> tuple[Vector, Vector | None]:
        """Unit vector of the image, seen beside the earlier one where there is one, and the patches' vectors."""
        session, name = self._model.session("main"), self._model.card.id
        image = self._network_image(current)
        feeds = {session.inputs[0]: image}
        if "has_prior" in session.inputs:
            feeds[PRIOR] = image if prior is None else self._network_image(prior)
            feeds["has_prior"] = np.array([0.0 if prior is None else 1.0], np.float32)
        wanted = [session.outputs[0], *([PATCHES] if self.options.heat_map is not None else [])]
        made = session.run(feeds, wanted)
        vector = made[session.outputs[0]]
        if vector.ndim != 2 or vector.shape[0] != 1:
            raise InferenceFailed(f"{name}: an embedding of shape {vector.shape}")
        length = float(np.linalg.norm(vector[0]))
        if length < 1e-9:
            raise InferenceFailed(f"{name}: an embedding without direction")
        patches = made.get(PATCHES)
        if patches is not None and (patches.ndim != 4 or patches.shape[:2] != vector.shape):
            raise InferenceFailed(f"{name}: patches of shape {patches.shape}")
        return (vector[0] / length).astype(np.float32), None if patches is None else patches[0]

    def _maps(
        self, role: str, current: Volume, found: tuple[Finding, ...], patches: Vector | None
    ) -> tuple[HeatMap, ...]:
        """A map for each condition that is present."""
        options = self.options
        if options.heat_map is None or patches is None:
            return ()
        slices, rows, columns = current.array_zyx.shape
        index = chosen_slice(current, options.slice) if options.slice is not None else 0
        recipe = options.slice.picture if options.slice is not None else options.image
        assert isinstance(recipe, ProjectionInput)
        made = []
        shown = [each for each in options.classes if not each.background]
        for entry, finding in zip(shown, found, strict=True):
            if not finding.present:
                continue
            grid = phrase_map.patch_cosines(patches, self._direction(entry.name), options.heat_map.sigma)
            plane = phrase_map.on_the_image(grid, (rows, columns), recipe)
            made.append(phrase_map.heat_map(role, plane, slices, index, entry.concept))
        return tuple(made)

    def _direction(self, name: str) -> Vector:
        """What a class's phrases say in one vector."""
        if self.options.head == "linear":
            number = [each.name for each in self.options.classes].index(name)
            return self._phrases["linear/weight"][number] @ self._phrases[CONCEPTS]
        return np.atleast_2d(self._phrases[f"{name}/positive"]).mean(0)
