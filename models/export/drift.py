"""How far a text model with other weights is from the one it was made of: measured on fixed pictures, word by word.

The float graphs were proved equal to torch. Both are fed the words the float model chooses, and at each place their logits and
their likeliest words are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.adapters.reading import ReadingAdapter
from models.generation.pictures import picture_of_grey
from models.model import Model
from models.session import CPU, Session

_LONGEST = 48
_SIDE = 256


@dataclass(frozen=True, slots=True)
class Drift:
    """How far other weights are from float ones.

    Attributes
    ----------
    places : int
        Words compared.
    changed : float
        Share of places at which the likeliest word is another one, after the same words.
    largest, mean : float
        Difference of a logit.
    spread : float
        Standard deviation of the float logits, which the differences are to be held against.
    """

    places: int
    changed: float
    largest: float
    mean: float
    spread: float


class Swapped:
    """A model with some graphs in place of its own."""

    def __init__(self, model: Model, graphs: Mapping[str, Path]) -> None:
        self._model = model
        self._sessions = {name: Session(path, providers=(CPU,)) for name, path in graphs.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def session(self, name: str) -> Session:
        return self._sessions.get(name) or self._model.session(name)


def measured_drift(ours: ReadingAdapter, other: ReadingAdapter) -> Drift:
    """Drift of ``other`` from ``ours`` on fixed pictures, in every language, after the words ``ours`` chooses."""
    pairs = [
        pair
        for grey in pictures()
        for language in ours.options.languages
        for pair in _told(ours, other, grey, language)
    ]
    first, second = (np.stack(each).astype(np.float64) for each in zip(*pairs, strict=True))
    away = np.abs(first - second)
    return Drift(
        places=len(pairs),
        changed=float((first.argmax(-1) != second.argmax(-1)).mean()),
        largest=float(away.max()),
        mean=float(away.mean()),
        spread=float(first.std()),
    )


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """Grey levels (256, 256) that differ from each other: noise, rings, a ramp, either half bright."""
    rng = np.random.default_rng(0)
    steps = np.linspace(-3, 3, _SIDE)
    noise = rng.integers(0, 60, (_SIDE, _SIDE))
    left = np.broadcast_to(steps < 0, (_SIDE, _SIDE))
    yield rng.integers(0, 256, (_SIDE, _SIDE)).astype(np.uint8)
    yield ((np.add.outer(steps**2, steps**2) % 2) * 127).astype(np.uint8)
    yield np.add.outer(np.arange(_SIDE) // 2, np.arange(_SIDE) // 2).astype(np.uint8)
    yield (left * 190 + noise).astype(np.uint8)
    yield (~left * 190 + noise).astype(np.uint8)


def _told(
    ours: ReadingAdapter, other: ReadingAdapter, grey: npt.NDArray[np.uint8], language: str
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    picture, decoding = picture_of_grey(grey, ours.options.image), ours.options.decoding
    targets = ours.options.targets
    words = {"target": targets[0].phrase, "definition": targets[0].definition} if targets else {}
    question = ours.question(language, **words)
    first, second = ours.reader(picture, question, language), other.reader(picture, question, language)
    logits = first.start()[0], second.start()[0]
    for _ in range(min(_LONGEST, decoding.maximum_tokens)):
        yield logits
        token = int(logits[0].argmax())
        if token in decoding.stop_tokens:
            return
        logits = first.step([token])[0], second.step([token])[0]
