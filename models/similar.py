"""Port: an index of images of this site that a model finds alike. What holds it is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Similar:
    """Another study of the site.

    Attributes
    ----------
    study_key : str
        Hex; tells nothing about the study to who has not the site's secret.
    cosine : float
        In [-1, 1], 1 for the same direction.
    """

    study_key: str
    cosine: float


class SimilarIndex(Protocol):
    """Vectors of studies, by the model that made them: vectors of two models cannot be compared."""

    def add(self, study_key: str, model_digest: str, vector: Vector) -> None:
        """Keep the vector of a study, in the place of an older one of the same model."""
        ...

    def nearest(self, study_key: str, model_digest: str, *, limit: int, minimum_cosine: float) -> list[Similar]:
        """The studies most alike to one that is in the index, best first, without itself."""
        ...

    def forget(self, study_key: str) -> int:
        """Remove every vector of a study; how many there were."""
        ...


def ranked(vector: Vector, others: Sequence[tuple[str, Vector]], *, limit: int, minimum_cosine: float) -> list[Similar]:
    """Others by their cosine with ``vector``, best first; of equal ones the smaller key first."""
    found = []
    for key, other in others:
        if other.shape != vector.shape:
            continue
        lengths = float(np.linalg.norm(vector)) * float(np.linalg.norm(other))
        cosine = float(vector @ other) / lengths if lengths > 1e-12 else 0.0
        if cosine >= minimum_cosine:
            found.append(Similar(key, min(max(cosine, -1.0), 1.0)))
    return sorted(found, key=lambda each: (-each.cosine, each.study_key))[:limit]
