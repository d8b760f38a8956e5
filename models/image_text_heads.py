"""From an image's vector and the phrases' to a probability for each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.errors import CardInvalid, InferenceFailed
from models.image_text_options import ImageTextOptions
from models.phrases import PhraseClass
from models.results import CodedTerm, Finding

Vector = npt.NDArray[np.float32]
Phrases = Mapping[str, npt.NDArray[np.float32]]
WEIGHT, BIAS = "linear/weight", "linear/bias"
"""Names of the linear layer among the phrase vectors: (classes, phrases) and (classes)."""
CONCEPTS = "linear/concepts"
"""(phrases, joint): unit vectors of the concept bank."""


def check_phrases(model: str, phrases: Phrases, options: ImageTextOptions) -> None:
    """Refuse vectors that are not there or not of length one.

    Raises
    ------
    CardInvalid
    """
    if options.head == "linear":
        _check_linear(model, phrases, len(options.classes))
        return
    for entry in options.classes:
        for side in ("positive", "negative") if entry.negative else ("positive",):
            vector = phrases.get(f"{entry.name}/{side}")
            if vector is None or not _sound(vector, options.phrases):
                raise CardInvalid(f"{model}: no unit vector for the {side} phrases of {entry.name}")


def _sound(vector: npt.NDArray[np.float32], how: str) -> bool:
    """A mean of unit vectors is shorter than one and not nothing; everything else has length one."""
    lengths = np.linalg.norm(np.atleast_2d(vector), axis=-1)
    if vector.ndim != (2 if how == "max" else 1):
        return False
    if how == "mean":
        return bool(1e-3 < float(lengths[0]) < 1 + 1e-3)
    return bool(np.allclose(lengths, 1.0, atol=1e-3))


def _check_linear(model: str, phrases: Phrases, classes: int) -> None:
    try:
        weight, bias, concepts = phrases[WEIGHT], phrases[BIAS], phrases[CONCEPTS]
    except KeyError as error:
        raise CardInvalid(f"{model}: files.phrases holds no {error}") from error
    if weight.shape != (classes, len(concepts)) or bias.shape != (classes,):
        raise CardInvalid(f"{model}: the linear layer does not join {len(concepts)} phrases to {classes} classes")


def findings(
    model: str, embedding: Vector, phrases: Phrases, options: ImageTextOptions, site: CodedTerm
) -> tuple[Finding, ...]:
    """A finding for each class that is not background, in the card's order.

    Parameters
    ----------
    embedding : numpy.ndarray
        (joint,), of length one.

    Raises
    ------
    InferenceFailed
        Image and phrases have vectors of different lengths.
    """
    classes = options.classes
    if options.head == "positive_against_negative":
        margins = [
            _cosine(model, phrases, f"{each.name}/positive", embedding)
            - _cosine(model, phrases, f"{each.name}/negative", embedding)
            for each in classes
        ]
        likely = [_sigmoid(options.scale * margin) for margin in margins]
        present = [_above(each, p, margin > 0) for each, p, margin in zip(classes, likely, margins, strict=True)]
        return _as_findings(classes, likely, present, site, 0.5)
    logits = _logits(model, embedding, phrases, options)
    if options.head in ("softmax", "linear"):
        spread = np.exp(logits - logits.max())
        likely = [float(each) for each in spread / spread.sum()]
        best = int(np.argmax(logits))
        present = [_above(each, p, n == best) for n, (each, p) in enumerate(zip(classes, likely, strict=True))]
        return _as_findings(classes, likely, present, site, None)
    if options.head == "sigmoid":
        likely = [_sigmoid(float(each)) for each in logits]
    else:
        # A cosine is no probability: it is shown between 0 and 1, and its operating point likewise.
        likely = [float((each + 1.0) / 2.0) for each in logits]
    present = [_above(each, p, False) for each, p in zip(classes, likely, strict=True)]
    return _as_findings(classes, likely, present, site, None)


def _logits(model: str, embedding: Vector, phrases: Phrases, options: ImageTextOptions) -> npt.NDArray[np.float64]:
    if options.head == "linear":
        concepts = _products(model, phrases[CONCEPTS], embedding)
        return phrases[WEIGHT].astype(np.float64) @ concepts + phrases[BIAS]
    cosines = np.array([_cosine(model, phrases, f"{each.name}/positive", embedding) for each in options.classes])
    return cosines if options.head == "cosine" else options.scale * cosines + options.bias


def _cosine(model: str, phrases: Phrases, name: str, embedding: Vector) -> float:
    """Product with the class's vector, or with the nearest of its vectors."""
    return float(_products(model, np.atleast_2d(phrases[name]), embedding).max())


def _products(model: str, matrix: npt.NDArray[np.float32], embedding: Vector) -> npt.NDArray[np.float64]:
    if matrix.shape[-1] != embedding.shape[0]:
        raise InferenceFailed(f"{model}: phrases and images are embedded in different spaces")
    return matrix.astype(np.float64) @ embedding.astype(np.float64)


def _above(entry: PhraseClass, probability: float, otherwise: bool) -> bool:
    return otherwise if entry.operating_point is None else probability >= entry.operating_point


def _as_findings(
    classes: Sequence[PhraseClass],
    likely: Sequence[float],
    present: Sequence[bool],
    site: CodedTerm,
    point: float | None,
) -> tuple[Finding, ...]:
    return tuple(
        Finding(each.concept, p, each.operating_point if each.operating_point is not None else point, there, site)
        for each, p, there in zip(classes, likely, present, strict=True)
        if not each.background
    )


def _sigmoid(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0))))
