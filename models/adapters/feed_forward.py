"""Family ``feed_forward``: volumes in, one pass through the main graph, regions out.

Nothing here knows what is looked for. A card names the steps before and after its main graph, with their parameters; a
new model of this family is a card and a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models import network_steps, postprocessing, preprocessing
from models.anomaly import AnomalyMapper
from models.boxes import BoxFinder
from models.classifier import Classifier
from models.dense.segmenter import DenseSegmenter
from models.embedding import Embedder
from models.errors import CardInvalid, InferenceFailed, NotAssessed
from models.measurement import measured_regions, volume_quantity
from models.model import Model
from models.projection_masks import ProjectionSegmenter
from models.results import Outcome, Segmentation, StudyResult, total_volume_ml
from models.steps import bind_steps
from models.suitability import LIMITATIONS, check_limits, shortcomings
from models.sweep import SweptVolumes, matched, with_ranges
from models.volume import Volume
from models.workspace import SEEDS, Workspace

Decoder = Classifier | DenseSegmenter | Embedder | AnomalyMapper | BoxFinder | ProjectionSegmenter
_DECODERS: Mapping[str, Callable[[Model], Decoder]] = {
    "findings": Classifier,
    "dense": DenseSegmenter,
    "embedding": Embedder,
    "map": AnomalyMapper,
    "boxes": BoxFinder,
    "masks": ProjectionSegmenter,
}
_AFTER = {**postprocessing.STEPS, **network_steps.STEPS}
_BEFORE = {**preprocessing.STEPS, **_AFTER}
"""A network may stand on what rules have found: their steps may come before the main graph too."""


def build(model: Model) -> FeedForward | Decoder:
    """Adapter for ``model``: what its ``options.output`` names (findings, a label for every voxel, a vector, a map,
    boxes, masks that may overlap), else the steps of its card.

    Raises
    ------
    CardInvalid
        Its steps, limits or options do not exist.
    """
    output = str(model.card.options.get("output", ""))
    if model.card.sweep is not None and output not in ("", "dense"):
        raise CardInvalid(f"{model.card.id}: sweep: what is moved are thresholds of volumes, and {output} has none")
    return _DECODERS[output](model) if output in _DECODERS else FeedForward(model)


class FeedForward:
    """Runs one model of the family. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        card = model.card
        self._model = model
        self._before = bind_steps(card.id, card.preprocessing, _BEFORE)
        self._after = bind_steps(card.id, card.postprocessing, _AFTER)
        check_limits(card.id, card.suitability)
        if card.sweep is not None and (unknown := set(card.sweep.thresholds) - set(card.thresholds)):
            raise CardInvalid(f"{card.id}: sweep: no such threshold: {', '.join(sorted(unknown))}")

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Result of one study; see :meth:`models.model.Model.run`."""
        workspace = self.prepared(inputs, parameters)
        workspace.run_graph("main")
        for step in self._after:
            step(workspace)
        faults = shortcomings(workspace, self._model.card.suitability)
        result = self._result(workspace, parameters, faults)
        if (sweep := self._model.card.sweep) is None or not workspace.has_range:
            return result
        return with_ranges(result, sweep, lambda settings: [self._swept(workspace, each) for each in settings])

    def prepared(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> Workspace:
        """What the main graph is given: the steps before it, done. Raises as :meth:`run`."""
        workspace = self._workspace(inputs, parameters)
        for step in self._before:
            step(workspace)
        return workspace

    def _swept(self, workspace: Workspace, setting: Mapping[str, float]) -> SweptVolumes:
        """Volumes at other thresholds: the steps after the main graph again, as far as to the labels."""
        labels = workspace.array("labels")
        again = workspace.before_candidates(setting)
        for step in self._after:
            step(again)
            if "labels" in again.arrays:
                break
        return matched(labels, again.array("labels"), workspace.grid.voxel_ml)

    def _workspace(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> Workspace:
        values = self._model.thresholds(parameters)
        roles = self._model.card.inputs
        for role in roles:
            if role.required and role.role not in inputs:
                raise InferenceFailed(f"{self._model.card.id}: the input {role.role} is missing")
        grid = inputs[roles[0].role]
        arrays: dict[str, npt.NDArray[Any]] = {}
        beside: dict[str, Volume] = {}
        for role in roles:
            if role.role not in inputs:
                continue
            volume = inputs[role.role]
            if role.kind == "image" and not role.required and role.same_grid_as is None:
                beside[role.role] = volume
                continue
            if role.same_grid_as and not volume.same_grid(inputs[role.same_grid_as]):
                raise InferenceFailed(f"{self._model.card.id}: {role.role} is not on the grid of {role.same_grid_as}")
            # A hole filled with zeros would read as "nothing found" there.
            if not np.isfinite(volume.array_zyx).all():
                raise InferenceFailed(f"{self._model.card.id}: the input {role.role} holds NaN or infinity")
            arrays[role.role] = volume.array_zyx.astype(np.float32)
            if "b_value" in volume.facts and role.kind == "dwi":
                values["b_value"] = float(volume.facts["b_value"])
        workspace = Workspace(grid=grid, arrays=arrays, values=values, run_graph=lambda name: None, beside=beside)
        workspace.run_graph = lambda name: self._run_graph(workspace, name)
        return workspace

    def _run_graph(self, workspace: Workspace, name: str) -> None:
        session = self._model.session(name)
        feeds = {
            key: workspace.arrays[key].astype(np.float32, copy=False)
            if key in workspace.arrays
            else np.array([workspace.value(key)], dtype=np.float32)
            for key in session.inputs
        }
        workspace.arrays.update(session.run(feeds))

    def _result(self, workspace: Workspace, parameters: Mapping[str, str], faults: list[NotAssessed]) -> StudyResult:
        card = self._model.card
        regions = measured_regions(workspace, card.labels)
        if not regions and faults:
            raise faults[0]
        total = total_volume_ml(regions)
        role = card.inputs[0].role
        limitations = [*card.limitations, *workspace.limitations, *(LIMITATIONS[type(fault)] for fault in faults)]
        return StudyResult(
            outcome=Outcome.FOUND if regions else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            segmentation=Segmentation(role, workspace.array("labels"), regions, seeds_zyx=workspace.arrays.get(SEEDS))
            if regions
            else None,
            total_ml=total,
            detection_limit_ml=workspace.values.get("detection_limit_ml"),
            totals=(volume_quantity(total), *workspace.totals),
            limitations=tuple(dict.fromkeys(limitations)),
            evidence=self._evidence(workspace),
        )

    def _evidence(self, workspace: Workspace) -> dict[str, Any]:
        names = [*self._model.card.thresholds]
        return {
            **workspace.evidence,
            "thresholds": {name: round(workspace.values[name], 4) for name in sorted(names)},
            "rejected": dict(sorted(workspace.rejected.items())),
            **{name: workspace.values[name] for name in self._model.card.adjustable},
        }
