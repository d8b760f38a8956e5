"""From logits on a network's grid to labels on the image's own, one class at a time.

All classes at full size at once would be gigabytes for a body CT; only the best one so far is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.dense.options import DenseOptions
from models.errors import InferenceFailed

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Back = Callable[[Array], Array]
"""One class on the network's grid to the same on the image's own."""


def combined(answers: Sequence[Array], options: DenseOptions) -> Array:
    """One answer (classes, z, y, x) of an ensemble; see ``combine`` of :class:`DenseOptions`."""
    if options.combine == "mean_logits":
        return _mean(answers)
    if options.combine == "mean_probability":
        return _mean([_probabilities(each, options.activation) for each in answers])
    votes = [np.argmax(each, axis=0)[np.newaxis] == np.arange(len(each))[:, None, None, None] for each in answers]
    return _mean([each.astype(np.float32) for each in votes])


def _mean(answers: Sequence[Array]) -> Array:
    total = answers[0].copy()
    for each in answers[1:]:
        if each.shape != total.shape:
            raise InferenceFailed(f"the members of the ensemble give {total.shape} and {each.shape}")
        total += each
    return total / np.float32(len(answers))


def _probabilities(logits: Array, activation: str) -> Array:
    if activation == "sigmoid":
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    risen = np.exp(logits - logits.max(axis=0))
    return risen / risen.sum(axis=0)


def labels_at(
    answer: Array, shape: tuple[int, ...], options: DenseOptions, *, back: Back, cuts: Sequence[float]
) -> list[Labels]:
    """Labels (z, y, x) at ``shape``, for each cut; each class is resampled once.

    Parameters
    ----------
    cuts : sequence of float
        Probabilities from which on a voxel is a label's. With softmax that is the best label's against background, those two
        alone: at 0.5 the largest logit wins.

    Raises
    ------
    InferenceFailed
        The card paints with an output that there is not.
    """
    made = [np.zeros(shape, np.uint8) for _ in cuts]
    if options.activation == "softmax":
        background = back(answer[0])
        bests = [_raised(background, cut, options) for cut in cuts]
        for number in range(1, len(answer)):
            plane = back(answer[number])
            for labels, best in zip(made, bests, strict=True):
                better = plane > best
                labels[better] = number
                best[better] = plane[better]
        return made
    # A mean of logits is cut where its sigmoid would be.
    limits = [float(np.log(cut / (1 - cut))) if options.combine == "mean_logits" else cut for cut in cuts]
    for paint in options.paint:
        if paint.output >= len(answer):
            raise InferenceFailed(f"the network has {len(answer)} outputs; the card reads number {paint.output}")
        plane = back(answer[paint.output])
        for labels, limit in zip(made, limits, strict=True):
            labels[plane > limit] = paint.label
    return made


def _raised(background: Array, cut: float, options: DenseOptions) -> Array:
    """What a label has to exceed, so that its share of it and the background exceeds ``cut``."""
    if cut == 0.5:
        return background.copy()  # at its own size it is the answer itself, which other cuts still need
    odds = cut / (1 - cut)
    if options.combine == "mean_logits":
        return background + np.float32(np.log(odds))
    return background * np.float32(odds)
