"""How the infarct network learns: windows cut from prepared heads, loss, steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.export.descent import Descent
from models.export.infarct_pool import Prepared
from models.export.infarct_unet import InfarctUNet

PATCH = (12, 40, 40)
BATCH = 4
DESCENT = Descent(rate=3e-3, decay=1e-3, clip=12.0, every=50)
AIMED_SHARE, TEMPTING_SHARE = 0.5, 0.25
"""Of the windows, those cut around an infarct, and those around tissue that resembles one."""
SPOTS = 400
"""Voxels kept of each head to cut windows around."""
WITHOUT_RULES_SHARE = 0.15
"""Of the windows, those in which the rules have found nothing: what they miss is to be learnt too."""
SEED_SCORE, GROW_SCORE, PRIOR = 5, 6, 9
"""Channels of the card's ``network_image``."""
TEMPTING = 1 / 3
"""Scaled score from which the rules would grow a finding."""
SETTLED_SHARE = 0.65
"""Of the steps, those after which batch norm uses its running statistics, as it does in the node."""
Array = npt.NDArray[np.float32]
Spots = npt.NDArray[np.int16]


class Windows:
    """Augmented training windows, the same ones for the same seed."""

    def __init__(self, heads: Sequence[Prepared], seed: int) -> None:
        self._heads = heads
        self._rng = np.random.default_rng(seed)
        self._infarct = [self._some(each.truth > 0) for each in heads]
        self._tempting = [self._some((each.image[GROW_SCORE] > TEMPTING) & (each.truth == 0)) for each in heads]

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (BATCH, channels, *PATCH) and weights of infarct (BATCH, 1, *PATCH)."""
        drawn = [self._one(int(n)) for n in self._rng.integers(0, len(self._heads), BATCH)]
        return torch.stack([image for image, _ in drawn]), torch.stack([truth for _, truth in drawn])

    def _some(self, where: npt.NDArray[np.bool_]) -> Spots:
        spots = np.argwhere(where).astype(np.int16)
        return spots if len(spots) <= SPOTS else spots[self._rng.choice(len(spots), SPOTS, replace=False)]

    def _one(self, number: int) -> tuple[Tensor, Tensor]:
        head = self._heads[number]
        here, margins = self._place(head.truth.shape, self._aim(number))
        image = np.pad(head.image[(slice(None), *here)].astype(np.float32), [(0, 0), *margins])
        truth = np.pad(head.truth[here], margins)
        flips = tuple(axis for axis, share in ((-1, 0.5), (-2, 0.1), (-3, 0.3)) if self._rng.random() < share)
        image, truth = np.flip(image, flips).copy(), np.flip(truth, flips)
        self._disturb(image)
        return torch.from_numpy(image), torch.from_numpy(truth.astype(np.float32))[None]

    def _aim(self, number: int) -> Spots | None:
        draw = self._rng.random()
        if draw < AIMED_SHARE and len(self._infarct[number]):
            return self._infarct[number]
        if draw < AIMED_SHARE + TEMPTING_SHARE and len(self._tempting[number]):
            return self._tempting[number]
        return None

    def _place(self, size: tuple[int, ...], spots: Spots | None) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
        rng = self._rng
        if spots is None:
            middle = np.array([int(rng.integers(0, n)) for n in size])
        else:
            middle = spots[int(rng.integers(len(spots)))] + [int(rng.integers(-n // 4, n // 4 + 1)) for n in PATCH]
        low = [int(np.clip(m - n // 2, 0, max(have - n, 0))) for m, n, have in zip(middle, PATCH, size, strict=True)]
        here = tuple(slice(a, a + n) for a, n in zip(low, PATCH, strict=True))
        return here, [(0, max(n - have, 0)) for n, have in zip(PATCH, size, strict=True)]

    def _disturb(self, image: Array) -> None:
        """Grey values of both images moved, maps of the rules sometimes emptied; in place, inside the brain."""
        rng = self._rng
        brain = image[0] != 0
        signal, diffusion = rng.normal(0, 0.06), rng.normal(0, 0.05)
        noise = rng.uniform(0, 0.08)
        for channel, shift, sigma in ((0, signal, noise), (1, diffusion, noise), (2, signal, 0.0), (3, diffusion, 0.0)):
            moved = np.float32(shift) + (rng.normal(0, sigma, brain.shape).astype(np.float32) if sigma else 0)
            image[channel] += brain * moved
        if rng.random() < WITHOUT_RULES_SHARE:
            image[[SEED_SCORE, GROW_SCORE]] = -brain.astype(np.float32)
            image[PRIOR] = 0


def loss_of(logits: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy, and soft Dice over the whole batch; ``weights`` is 0 where there is no infarct."""
    truth = (weights > 0).float()
    likely = logits.sigmoid()
    overlap = (2 * (likely * truth).sum() + 1) / (likely.sum() + truth.sum() + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=weights.clamp(min=1))
    return 4 * entropy + 1 - overlap


def train(heads: Sequence[Prepared], seed: int, steps: int) -> tuple[InfarctUNet, list[dict[str, float]]]:
    """The network after ``steps``, and its log: one row every 50 steps. Products are taken in bfloat16, weights are float32."""
    torch.manual_seed(seed)
    network = InfarctUNet()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch knows it, its types do not
    windows, settled = Windows(heads, seed), int(SETTLED_SHARE * steps) + 1

    def loss_at(step: int) -> Tensor:
        if step == settled:
            network.eval()
        image, weights = windows.next()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.to(memory_format=torch.channels_last_3d))
        return loss_of(logits.float(), weights)

    log = DESCENT.run(network, steps, loss_at)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval(), log
