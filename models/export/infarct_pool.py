"""Heads to train the infarct network on, prepared by the card's own steps and kept in files: one head, one file.

What is in a file follows from the seed, the scan's name and the head's number alone, so that trainings with one scan left
out share the files of the other, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.adapters.feed_forward import FeedForward, build
from models.errors import NotAssessed
from models.export.infarct_implants import (
    Head,
    as_other_scanner,
    draw_volume_ml,
    implanted,
    phantom_head,
    with_decoys,
    with_iron,
)
from models.export.infarct_variety import bent
from models.model import Model
from models.morphology import CUBE
from models.network_steps import IMAGE, NetworkGrid
from models.workspace import Workspace

HEALTHY_SHARE = 0.2
"""Of the heads, those without an infarct."""
BENT_SHARE, AS_SCANNED_SHARE = 0.7, 0.3
"""Of a scan's heads, those bent, and those to which nothing but the infarct is added."""
HEAVIEST, HEAVY_BELOW_ML = 4.0, 0.3
"""How much a voxel of a small infarct counts in the loss; the weight falls as the infarct's diameter grows."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Image (channels, z, y, x) on the network's grid, and the infarct there: 0, or how much the voxel counts."""

    image: npt.NDArray[np.float16]
    truth: npt.NDArray[np.uint8]


def prepared(model: Model, head: Head) -> Prepared:
    """``head`` as the network of ``model`` sees it in the node.

    Raises
    ------
    BrainNotFound
        The node would refuse it.
    """
    workspace = cast(FeedForward, build(model)).prepared({"dwi": head.dwi, "adc": head.adc}, {})
    image = workspace.arrays[IMAGE][0]
    truth = _grid_of(model, workspace).there(weighted(head).astype(np.float32) * workspace.mask("brain"))
    return Prepared(image.astype(np.float16), np.round(truth).astype(np.uint8))


def _grid_of(model: Model, workspace: Workspace) -> NetworkGrid:
    (step,) = (each for each in model.card.preprocessing if each.step == "network_image")
    finest, multiple = step.parameters["finest_mm"], step.parameters["multiple"]
    return NetworkGrid.of(workspace, cast(Sequence[float], finest), cast(Sequence[int], multiple))


def weighted(head: Head) -> npt.NDArray[np.uint8]:
    """Weights (z, y, x) of the voxels of the infarct, by the volume of their part; 0 elsewhere."""
    parts, count = ndimage.label(head.truth_zyx, structure=CUBE)
    volumes = np.bincount(parts.ravel(), minlength=count + 1) * head.dwi.voxel_ml
    weights = np.clip(np.round(HEAVIEST * np.cbrt(HEAVY_BELOW_ML / np.maximum(volumes, 1e-6))), 1, HEAVIEST)
    weights[0] = 0
    return weights[parts].astype(np.uint8)


def drawn_head(scan: Head, seed: int, number: int) -> Head:
    """Variant ``number`` of a healthy scan."""
    rng = np.random.default_rng([seed, zlib.crc32(scan.scanner.encode()), number])
    head = bent(scan, rng) if rng.random() < BENT_SHARE else scan
    if rng.random() >= HEALTHY_SHARE:
        head = implanted(head, rng, draw_volume_ml(rng))
    if rng.random() < AS_SCANNED_SHARE:
        return head
    return as_other_scanner(with_iron(with_decoys(head, rng), rng), rng)


def drawn_phantom(seed: int, number: int) -> Head:
    """Phantom ``number``; its own seed lies from 100000 on, those tested on lie below."""
    rng = np.random.default_rng([seed, number])
    return phantom_head(int(rng.integers(100_000, 2**31)), healthy=bool(rng.random() < HEALTHY_SHARE))


class Pool:
    """Prepared heads in ``folder``."""

    def __init__(self, folder: Path, model: Model, seed: int) -> None:
        self._folder, self._model, self._seed = folder, model, seed

    def of_scan(self, scan: Head, count: int) -> Iterator[Prepared]:
        """The first ``count`` variants of a healthy scan; what the node would refuse is left out."""
        for number in range(count):
            yield from self._one(f"{scan.scanner}-{number:04d}", partial(drawn_head, scan, self._seed, number))

    def of_phantoms(self, count: int) -> Iterator[Prepared]:
        """The first ``count`` phantoms."""
        for number in range(count):
            yield from self._one(f"phantom-{number:04d}", partial(drawn_phantom, self._seed, number))

    def _one(self, name: str, draw: Callable[[], Head]) -> Iterator[Prepared]:
        image, truth = (self._folder / f"{name}.{part}.npy" for part in ("image", "truth"))
        if not truth.exists():
            try:
                head = prepared(self._model, draw())
            except NotAssessed:
                head = Prepared(np.zeros((0, 0, 0, 0), np.float16), np.zeros((0, 0, 0), np.uint8))
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(image, head.image)
            np.save(truth, head.truth)
        found = Prepared(np.load(image, mmap_mode="r"), np.load(truth))
        if found.truth.size:
            yield found
