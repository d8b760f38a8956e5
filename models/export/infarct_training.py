"""What the infarct network learns from, and how: prepared heads, windows cut from them, loss, steps.

Heads are prepared by the very functions of :mod:`models.dense` that prepare a study in the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.dense.channels import box_of, nonzero_mask, normalised
from models.dense.options import BrainOnly, Channel
from models.dense.orientation import turning
from models.dense.resampling import coarse_axis, new_shape, resized
from models.dense.stripping import brain_only
from models.export.descent import Descent
from models.export.infarct_implants import (
    Head,
    as_other_scanner,
    draw_volume_ml,
    implanted,
    phantom_head,
    with_decoys,
    with_iron,
)
from models.export.infarct_unet import InfarctUNet

ORIENTATION = "LPS"
SPACING_MM = (4.0, 2.0, 2.0)
CHANNELS = (
    Channel(role="dwi", normalise="tissue_ratio", low=0.0, high=6.0, mean=1.0, spread=0.5),
    Channel(role="adc", normalise="tissue_ratio", low=0.0, high=3.0, mean=1.0, spread=0.4),
)
BRAIN = BrainOnly(dwi="dwi", adc="adc", level=("dwi",))
PATCH = (12, 64, 64)
BATCH = 4
DESCENT = Descent(rate=3e-3, decay=1e-4, clip=12.0, every=50)
HEALTHY_SHARE = 0.15
"""Of the heads trained on, those without an infarct."""
AIMED_SHARE = 0.6
"""Of the windows, those cut around an infarct."""
SETTLED_SHARE = 0.65
"""Of the steps, those after which batch norm uses its running statistics, as it does in the node."""
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Image (2, z, y, x) on the network's grid, and the infarct there."""

    image: npt.NDArray[np.float16]
    truth: npt.NDArray[np.bool_]


def prepared(head: Head) -> Prepared:
    """``head`` as the network sees it.

    Raises
    ------
    BrainNotFound
        The node would refuse it.
    """
    turned = turning(head.dwi.affine_lps, ORIENTATION)
    stack = np.stack([head.dwi.array_zyx, head.adc.array_zyx])
    stripped, brain = brain_only(stack, [each.role for each in CHANNELS], BRAIN, head.dwi.spacing_mm_zyx)
    image = np.stack([turned.apply(each) for each in stripped])
    truth = turned.apply(head.truth_zyx & brain)
    mask = nonzero_mask(image)
    box = box_of(mask)
    image = normalised(image[(slice(None), *box)], CHANNELS, mask[box])
    spacing = turned.spacing(head.dwi.spacing_mm_zyx)
    shape, apart = new_shape(image.shape[1:], spacing, SPACING_MM), coarse_axis(spacing, SPACING_MM)
    image = np.stack([resized(each, shape, order=1, apart=apart) for each in image])
    there = resized(truth[box].astype(np.float32), shape, order=1, apart=apart) > 0.5
    return Prepared(image.astype(np.float16), there)


def training_heads(scans: Sequence[Head], rng: np.random.Generator, *, each: int, phantoms: int) -> list[Head]:
    """``each`` variants of every healthy scan, and ``phantoms`` phantoms."""
    heads = []
    for scan in scans:
        for number in range(each):
            head = scan
            if number >= HEALTHY_SHARE * each:
                head = implanted(head, rng, draw_volume_ml(rng))
            heads.append(as_other_scanner(with_iron(with_decoys(head, rng), rng), rng))
    seeds = rng.integers(100_000, 2**31, phantoms)
    return heads + [phantom_head(int(seed), healthy=n < HEALTHY_SHARE * phantoms) for n, seed in enumerate(seeds)]


class Windows:
    """Augmented training windows, the same ones for the same seed."""

    def __init__(self, heads: Sequence[Prepared], seed: int) -> None:
        self._heads = heads
        self._spots = [np.argwhere(each.truth) for each in heads]
        self._rng = np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (BATCH, 2, *PATCH) and infarcts (BATCH, 1, *PATCH)."""
        drawn = [self._one(int(n)) for n in self._rng.integers(0, len(self._heads), BATCH)]
        return torch.stack([image for image, _ in drawn]), torch.stack([truth for _, truth in drawn])

    def _one(self, number: int) -> tuple[Tensor, Tensor]:
        rng, head, spots = self._rng, self._heads[number], self._spots[number]
        size = head.truth.shape
        if len(spots) and rng.random() < AIMED_SHARE:
            middle = spots[int(rng.integers(len(spots)))] + [int(rng.integers(-n // 4, n // 4 + 1)) for n in PATCH]
        else:
            middle = np.array([int(rng.integers(0, n)) for n in size])
        low = [int(np.clip(m - n // 2, 0, max(have - n, 0))) for m, n, have in zip(middle, PATCH, size, strict=True)]
        here = tuple(slice(a, a + n) for a, n in zip(low, PATCH, strict=True))
        lacking = [max(n - have, 0) for n, have in zip(PATCH, size, strict=True)]
        margins = [(n // 2, n - n // 2) for n in lacking]
        image = np.pad(head.image[(slice(None), *here)].astype(np.float32), [(0, 0), *margins])
        truth = np.pad(head.truth[here], margins)
        flips = tuple(axis for axis, share in ((-1, 0.5), (-2, 0.1), (-3, 0.3)) if rng.random() < share)
        image, truth = np.flip(image, flips), np.flip(truth, flips)
        gain = np.array([rng.uniform(0.7, 1.4), rng.uniform(0.9, 1.1)], np.float32)
        shift = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)], np.float32)
        image = image * gain[:, None, None, None] + shift[:, None, None, None]
        return torch.from_numpy(image.copy()), torch.from_numpy(truth.copy())[None].float()


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and soft Dice over the whole batch."""
    likely = logits.sigmoid()
    overlap = (2 * (likely * truth).sum() + 1) / (likely.sum() + truth.sum() + 1)
    return 2 * F.binary_cross_entropy_with_logits(logits, truth) + 1 - overlap


def train(heads: Sequence[Prepared], seed: int, steps: int) -> tuple[InfarctUNet, list[dict[str, float]]]:
    """The network after ``steps``, and its log: one row every 50 steps. Products are taken in bfloat16, weights are float32."""
    torch.manual_seed(seed)
    network = InfarctUNet()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch knows it, its types do not
    windows, settled = Windows(heads, seed), int(SETTLED_SHARE * steps) + 1

    def loss_at(step: int) -> Tensor:
        if step == settled:
            network.eval()
        image, truth = windows.next()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.to(memory_format=torch.channels_last_3d))
        return loss_of(logits.float(), truth)

    log = DESCENT.run(network, steps, loss_at)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval(), log
