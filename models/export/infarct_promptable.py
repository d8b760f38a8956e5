"""A small box network of MedSAM's layout, trained here: ``python -m models.export.infarct_promptable SCANS OUT``.

MedSAM's own weights cannot come with this product, so the promptable rows of :mod:`models.export.infarct_table` need
something that has learnt what a box means. This network learns it from the same implants and phantoms as the volumetric
one, slice by slice, with boxes shaken as a finder's are. It goes by the id ``medsam``, so that the chain finds it, and its
card says what it is. It is for that table only: it is not MedSAM, and says nothing about MedSAM.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.card import Card
from models.export.descent import Descent
from models.export.imported import complete_card
from models.export.infarct_implants import (
    Head,
    as_other_scanner,
    draw_volume_ml,
    implanted,
    phantom_head,
    read_head,
    with_decoys,
    with_iron,
)
from models.export.medsam import SYSTEM, export
from models.export.sam_network import BoxDecoder, Sam, SamShape
from models.intensity import Percentile, as_grey_levels
from models.network_image import ImageOptions
from models.prompts import parts_of
from models.resizing import bilinear

SHAPE = SamShape(
    image_size=192,
    patch=8,
    width=96,
    depth=4,
    heads=4,
    window=8,
    global_blocks=(1, 3),
    prompt_width=64,
    decoder_mlp=256,
)
IMAGE = ImageOptions(
    size=SHAPE.image_size,
    resize="skimage_cubic",
    fit="stretch",
    intensity=Percentile(kind="percentile"),
    scale="unit_range",
)
HEALTHY_SHARE = 0.15
"""Of the heads trained on, those without an infarct."""
SEED, VARIANTS, PHANTOMS, STEPS = 11, 40, 80, 1200
BATCH = 8
DESCENT = Descent(rate=1e-3, decay=1e-2, clip=1.0, every=100)
MOST_PARTS = 3
"""Boxes asked on one slice in a step."""
SMALLEST_VOXELS = 4
MARGIN_VOXELS, SHAKE_VOXELS = 2.0, 1.5
_SIDE = 4 * SHAPE.grid
_NAMES = {
    "size = 1024": f"size = {SHAPE.image_size}",
    'name = "MedSAM (ViT-B)"': 'name = "Small box network of MedSAM\'s layout, trained on implants; not MedSAM"',
    'manufacturer = "Wang lab, University of Toronto"': 'manufacturer = "The ainode authors"',
    'repository = "bowang-lab/MedSAM"': 'repository = "python -m models.export.infarct_promptable"',
    'checkpoint = "medsam_vit_b.pth, or wanglab/medsam-vit-base"': 'checkpoint = "trained from scratch; no others\' weights"',
}


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


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a head.

    Attributes
    ----------
    image : numpy.ndarray
        The network's, (size, size) in [0, 1].
    boxes, masks : numpy.ndarray
        Of each part of an infarct: (n, 4) as x0, y0, x1, y1 in pixels of that image, and (n, side, side) on the logits' grid.
    """

    image: npt.NDArray[np.float16]
    boxes: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]


def slices_of(head: Head) -> list[Slice]:
    """The slices of ``head`` that hold parts of an infarct."""
    grey = as_grey_levels(head.dwi.array_zyx, IMAGE.intensity)
    shape = grey.shape[1:]
    scale = IMAGE.size / np.array([shape[1], shape[0], shape[1], shape[0]], np.float32)
    found: dict[int, list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]] = {}
    for box, part in parts_of(head.truth_zyx.astype(np.uint8)):
        if np.count_nonzero(part) >= SMALLEST_VOXELS:
            grown = box.grown(MARGIN_VOXELS, *shape)
            corners = (np.array([grown.left, grown.top, grown.right, grown.bottom]) * scale).astype(np.float32)
            mask = bilinear(part[np.newaxis].astype(np.float32), (_SIDE, _SIDE))[0] > 0.5
            found.setdefault(box.slice_index, []).append((corners, mask))
    return [
        Slice(
            IMAGE.image_of(grey[index])[0, 0].astype(np.float16),
            np.stack([corners for corners, _ in parts]),
            np.stack([mask for _, mask in parts]),
        )
        for index, parts in found.items()
    ]


class Batches:
    """Augmented slices, the same ones for the same seed."""

    def __init__(self, slices: Sequence[Slice], seed: int) -> None:
        self._slices, self._rng = slices, np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Images (BATCH, 3, size, size); for each its boxes (n, 1, 4) and masks (n, 1, side, side)."""
        drawn = [self._one(self._slices[int(n)]) for n in self._rng.integers(0, len(self._slices), BATCH)]
        images, boxes, masks = zip(*drawn, strict=True)
        return torch.stack(images), list(boxes), list(masks)

    def _one(self, drawn: Slice) -> tuple[Tensor, Tensor, Tensor]:
        rng = self._rng
        chosen = rng.permutation(len(drawn.boxes))[:MOST_PARTS]
        image, boxes, masks = drawn.image.astype(np.float32), drawn.boxes[chosen].copy(), drawn.masks[chosen]
        boxes += rng.uniform(-SHAKE_VOXELS, SHAKE_VOXELS, boxes.shape).astype(np.float32) * (IMAGE.size / 128)
        for axis, share in ((-1, 0.5), (-2, 0.5)):
            if rng.random() < share:
                image, masks = np.flip(image, axis), np.flip(masks, axis)
                low = 0 if axis == -1 else 1
                boxes[:, [low, low + 2]] = IMAGE.size - 1 - boxes[:, [low + 2, low]]
        image = image ** np.float32(rng.uniform(0.7, 1.4))
        image = np.repeat(image[np.newaxis], 3, axis=0)
        truth = torch.from_numpy(masks.astype(np.float32).copy())[:, None]
        return torch.from_numpy(image.copy()), torch.from_numpy(np.clip(boxes, 0, IMAGE.size - 1))[:, None], truth


def started(seed: int) -> Sam:
    """The network with the random start that training needs: positions as Segment Anything draws them."""
    torch.manual_seed(seed)
    sam = Sam(SHAPE)
    torch.nn.init.normal_(sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix)
    torch.nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    return sam


def train(slices: Sequence[Slice], seed: int, steps: int) -> tuple[Sam, list[dict[str, float]]]:
    """The network after ``steps``, and its log: one row every 100 steps."""
    sam = started(seed)
    decoder, batches = BoxDecoder(sam), Batches(slices, seed)
    log = DESCENT.run(sam, steps, lambda step: _loss(sam, decoder, *batches.next()))
    return sam.eval(), log


def _loss(sam: Sam, decoder: BoxDecoder, images: Tensor, boxes: list[Tensor], masks: list[Tensor]) -> Tensor:
    """Cross-entropy and soft Dice of each mask, and how well its overlap was foretold."""
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = sam.image_encoder(images)
    parts = [decoder(each[None].float(), corners) for each, corners in zip(embeddings, boxes, strict=True)]
    logits, foretold = torch.cat([each for each, _ in parts]), torch.cat([each for _, each in parts])
    truth = torch.cat(masks)
    likely = logits.sigmoid()
    both = (likely * truth).sum((1, 2, 3))
    overlap = (2 * both + 1) / (likely.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1)
    with torch.no_grad():
        sure = (logits > 0).float()
        shared = (sure * truth).sum((1, 2, 3))
        iou = shared / ((sure + truth) > 0).float().sum((1, 2, 3)).clamp(min=1)
    return (
        10 * F.binary_cross_entropy_with_logits(logits, truth)
        + (1 - overlap).mean()
        + 0.1 * F.mse_loss(foretold[:, 0], iou)
    )


def write_model(sam: Sam, folder: Path) -> Card:
    """Write graphs, known answers and card of ``sam`` into ``folder``."""
    lean = Sam(SHAPE, lean=True)
    lean.load_state_dict(sam.state_dict())
    return complete_card(SYSTEM, folder, export(lean.eval(), folder), replacements=_NAMES)


def main() -> None:
    """Train, export, and write the log."""
    given = _arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(given.threads)
    begun = time.monotonic()
    scans = [read_head(path) for path in sorted(given.scans.glob("*.npz")) if path.stem not in given.without]
    heads = training_heads(scans, np.random.default_rng(given.seed), each=given.variants, phantoms=given.phantoms)
    slices = [each for head in heads for each in slices_of(head)]
    preparing = time.monotonic() - begun
    print(f"{len(slices)} slices of {len(heads)} heads in {preparing:.0f} s", flush=True)
    sam, log = train(slices, given.seed, given.steps)
    folder = given.out / SYSTEM
    folder.mkdir(parents=True, exist_ok=True)
    write_model(sam, folder)
    summary = {
        "seed": given.seed,
        "scans": [each.scanner for each in scans],
        "implanted_variants_each": given.variants,
        "phantoms": given.phantoms,
        "slices": len(slices),
        "parameters": sum(each.numel() for each in sam.parameters()),
        "batch": BATCH,
        "steps": given.steps,
        "threads": given.threads,
        "torch": torch.__version__,
        "seconds": {"preparing": round(preparing), "all": round(time.monotonic() - begun)},
    }
    (folder / "training.json").write_text(json.dumps({**summary, "log": log}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scans", type=Path, help="folder of healthy scans, NAME.npz")
    parser.add_argument("out", type=Path, help="folder to write the model folder medsam into")
    parser.add_argument("--without", action="append", default=[], help="scan to leave out")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--variants", type=int, default=VARIANTS, help="implanted variants of each scan")
    parser.add_argument("--phantoms", type=int, default=PHANTOMS)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
