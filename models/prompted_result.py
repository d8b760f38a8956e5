"""From labels and probabilities of a promptable model to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.candidates import Candidate
from models.measurement import measured_regions, volume_quantity
from models.results import Outcome, Segmentation, StudyResult, total_volume_ml
from models.volume import Volume
from models.workspace import Workspace

if TYPE_CHECKING:
    from models.model import Model


def prompted_result(
    model: Model,
    volume: Volume,
    labels: npt.NDArray[np.integer],
    probability: npt.NDArray[np.float32],
    threshold: float,
    parameters: Mapping[str, str],
) -> StudyResult:
    """Result with one region for each target, the largest first.

    Parameters
    ----------
    labels : numpy.ndarray
        (slices, rows, columns): number of the target a voxel belongs to, 0 for none.
    probability : numpy.ndarray
        float32 in [0, 1], the same shape.
    """
    card = model.card
    workspace = Workspace(grid=volume, arrays={}, values={}, run_graph=lambda name: None)
    sizes = {int(n): int(np.count_nonzero(labels == n)) for n in np.unique(labels[labels > 0])}
    order = sorted(sizes, key=lambda n: (-sizes[n], n))
    renumbered = np.zeros(labels.shape, np.uint8)
    for number, target in enumerate(order, start=1):
        where = labels == target
        renumbered[where] = number
        whole = tuple(slice(0, n) for n in labels.shape)
        workspace.candidates.append(Candidate((whole[0], whole[1], whole[2]), where, sizes[target]))
    workspace.arrays["labels"] = renumbered
    regions = measured_regions(workspace, card.labels)
    total = total_volume_ml(regions)
    return StudyResult(
        outcome=Outcome.FOUND if regions else Outcome.NOTHING_FOUND,
        title=card.title,
        finding=card.finding,
        site=card.site,
        model=model.reference(parameters),
        segmentation=Segmentation(card.inputs[0].role, renumbered, regions, probability) if regions else None,
        total_ml=total,
        totals=(volume_quantity(total),),
        limitations=card.limitations,
        evidence={"targets": len(order), "threshold": threshold},
    )
