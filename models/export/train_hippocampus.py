"""A small 3-D U-Net trained on the Decathlon's hippocampus task, left as nnU-Net v2 leaves its own.

``python -m models.export.train_hippocampus IMAGES_AND_LABELS RESULTS [--minutes N]`` trains on three quarters of the cases
and writes ``RESULTS/nnUNetTrainer__nnUNetPlans__3d_fullres`` with the training log and the Dice coefficient on the
quarter it never saw, measured through :mod:`models.dense` on the exported graph. So the import path that others' weights
take is the one proved here. The weights inherit the data's licence (CC BY-SA 4.0) and are not part of this product.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional as F

from models.dense.channels import normalised
from models.dense.options import Channel
from models.export.imported import CARDS_FOLDER
from models.export.nnunet import CARD, convert
from models.export.nnunet_network import NnUNet
from models.export.nnunet_plans import read_plans
from models.model import Model
from models.volume import Volume

CONFIGURATION = "3d_fullres"
TRAINER = f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
SEED = 20
HELD_BACK = 4
"""One case in so many is never trained on."""
BATCH = 2
PATCH = (40, 56, 40)
FEATURES = (12, 24, 48, 96)
RATE = 3e-3
LABELS = {"background": 0, "Anterior": 1, "Posterior": 2}
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """Image (z, y, x), its label, and the affine in DICOM's coordinates."""

    name: str
    image: Array
    label: npt.NDArray[np.int64]
    affine_lps: npt.NDArray[np.float64]


def read_cases(folder: Path) -> list[Case]:
    """Cases of ``folder/images`` and ``folder/labels``, by name."""
    return [_read(path, folder / "labels" / path.name) for path in sorted((folder / "images").glob("*.nii.gz"))]


def _read(image_path: Path, label_path: Path) -> Case:
    image, label = sitk.ReadImage(str(image_path)), sitk.ReadImage(str(label_path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    voxels = sitk.GetArrayFromImage(label)
    name = image_path.name.removesuffix(".nii.gz")
    return Case(name, sitk.GetArrayFromImage(image).astype(np.float32), voxels.astype(np.int64), affine)


def split(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """Training and held-back cases, by the seed."""
    order = np.random.default_rng(SEED).permutation(len(cases))
    held = set(order[: len(cases) // HELD_BACK].tolist())
    return [each for n, each in enumerate(cases) if n not in held], [cases[n] for n in sorted(held)]


def write_plans(folder: Path) -> None:
    """``plans.json``, ``dataset.json`` and ``card.toml`` of the network trained here."""
    stages = len(FEATURES)
    network = {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "nonlin": "torch.nn.LeakyReLU",
    }
    configuration = {
        "patch_size": list(PATCH),
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
        },
    }
    plans = {"transpose_forward": [0, 1, 2], "configurations": {CONFIGURATION: configuration}}
    dataset = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nii.gz"}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shutil.copy(CARDS_FOLDER / "nnunet" / "hippocampus.toml", folder / CARD)


class Batches:
    """Augmented training windows, the same ones for the same seed."""

    def __init__(self, cases: list[Case]) -> None:
        channel = Channel(role="image", normalise="zscore")
        self._images = [
            normalised(case.image[np.newaxis], [channel], np.ones(case.image.shape, bool))[0] for case in cases
        ]
        self._labels = [case.label for case in cases]
        self._rng = np.random.default_rng(SEED)

    def next(self) -> tuple[Tensor, Tensor]:
        """Images (BATCH, 1, *PATCH) and labels (BATCH, *PATCH)."""
        drawn = [self._one(int(n)) for n in self._rng.integers(0, len(self._images), BATCH)]
        return torch.stack([image for image, _ in drawn]), torch.stack([label for _, label in drawn])

    def _one(self, number: int) -> tuple[Tensor, Tensor]:
        rng = self._rng
        image, label = self._images[number], self._labels[number]
        corners = [int(rng.integers(0, max(have - want, 0) + 1)) for have, want in zip(image.shape, PATCH, strict=True)]
        here = tuple(slice(low, low + want) for low, want in zip(corners, PATCH, strict=True))
        lacking = [(0, max(want - have, 0)) for have, want in zip(image.shape, PATCH, strict=True)]
        lacking = [(total // 2, total - total // 2) for _, total in lacking]
        x = torch.from_numpy(np.pad(image[here], lacking))[None, None]
        y = torch.from_numpy(np.pad(label[here], lacking))[None, None].float()
        grid = F.affine_grid(torch.from_numpy(self._turn())[None], list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
        y = F.grid_sample(y, grid, mode="nearest", padding_mode="border", align_corners=False)[0, 0]
        x = x * float(rng.uniform(0.8, 1.2)) + float(rng.uniform(-0.2, 0.2))
        x = x + float(rng.uniform(0, 0.15)) * torch.from_numpy(rng.normal(size=tuple(x.shape)).astype(np.float32))
        return x, y.long()

    def _turn(self) -> npt.NDArray[np.float32]:
        """(3, 4): rotation up to about 10 degrees, scaling, shift, and left and right exchanged half of the time."""
        rng = self._rng
        matrix = np.eye(3)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            angle = rng.uniform(-0.18, 0.18)
            turn = np.eye(3)
            turn[[a, b], [a, b]], turn[a, b], turn[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        matrix *= rng.uniform(0.88, 1.12)
        if rng.random() < 0.5:
            matrix[0] *= -1
        return np.c_[matrix, rng.uniform(-0.06, 0.06, 3)].astype(np.float32)


def loss_of(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of the foreground classes."""
    likely = logits.softmax(1)
    truth = F.one_hot(label, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    overlap = 2 * (likely * truth).sum(axes) / (likely.sum(axes) + truth.sum(axes) + 1e-5)
    return F.cross_entropy(logits, label) + 1 - overlap[1:].mean()


def train(cases: list[Case], folder: Path, minutes: float) -> list[dict[str, float]]:
    """Train for ``minutes`` and write ``fold_0/checkpoint_final.pth``; the log, one row every 50 steps."""
    torch.manual_seed(SEED)
    network = NnUNet(read_plans(folder, CONFIGURATION).shape)
    network.decoder.deep_supervision = True
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    batches, log = Batches(cases), []
    begun, step, recent = time.monotonic(), 0, []
    while (spent := (time.monotonic() - begun) / (60 * minutes)) < 1:
        # By the clock, so that the rate has come down when the time is over.
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - spent) ** 0.9
        image, label = batches.next()
        outputs = network(image)
        loss = torch.zeros(())
        for depth, logits in enumerate(outputs):
            smaller = label[:, :: 2**depth, :: 2**depth, :: 2**depth]
            loss = loss + 0.5**depth * loss_of(logits, smaller)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        recent.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            log.append({"step": step, "minutes": round(spent * minutes, 2), "loss": round(float(np.mean(recent)), 4)})
            recent.clear()
    network.decoder.deep_supervision = False
    (folder / "fold_0").mkdir(exist_ok=True)
    content = {"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "current_epoch": step}
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    return log


def evaluate(model: Model, cases: list[Case]) -> list[dict[str, Any]]:
    """Dice of both labels and of the whole for each case, by the model as it runs in the node."""
    rows = []
    for case in cases:
        volume = Volume(case.image, case.affine_lps)
        found = _labels_of(model, volume)
        row: dict[str, Any] = {"case": case.name}
        for name, value in list(LABELS.items())[1:]:
            row[name] = round(_dice(found == value, case.label == value), 4)
        rows.append({**row, "whole": round(_dice(found > 0, case.label > 0), 4)})
    return rows


def _labels_of(model: Model, volume: Volume) -> npt.NDArray[np.integer]:
    result = model.run({"image": volume}, {})
    labels = np.zeros(volume.array_zyx.shape, np.int64)
    if result.segmentation is not None:
        for region in result.segmentation.regions:
            labels[result.segmentation.mask_zyx == region.number] = LABELS[region.label]
    return labels


def _dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def main() -> None:
    """Train, convert, evaluate; print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with images/ and labels/ (NIfTI)")
    parser.add_argument("results", type=Path, help="new folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    training, held = split(read_cases(given.data))
    folder = given.results / TRAINER
    write_plans(folder)
    log = train(training, folder, given.minutes)
    target = given.results / "model"
    target.mkdir()
    convert(folder, target).save_report(target)
    rows = evaluate(Model(target, threads=given.threads), held)
    summary = {
        "seed": SEED,
        "trained_on": len(training),
        "held_back": len(held),
        "minutes": given.minutes,
        "threads": given.threads,
        "steps": log[-1]["step"] if log else 0,
        "median_dice": {
            key: round(float(np.median([row[key] for row in rows])), 4) for key in rows[0] if key != "case"
        },
        "lowest_dice_whole": min(row["whole"] for row in rows),
    }
    content = {**summary, "log": log, "cases": rows}
    (given.results / "training.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
