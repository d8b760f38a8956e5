"""MediCLIP's adapters trained on a few normal images of a site.

``python -m models.export.train_anomaly CLIP_FOLDER NORMAL_IMAGES OUT [--epochs N]``: the first folder holds ``clip.safetensors``
(or ``clip.pt``) and ``tokenizer.json``, the second 16 or so normal images as PNG. Writes ``OUT`` with the checkpoint as
MediCLIP's own training leaves it, for `ainode models import mediclip OUT`, and the log. CLIP itself is not changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Picture
from torch import Tensor

from models.errors import TooFewImages
from models.export.anomaly_synthesis import synthesised
from models.export.clip_network import clip_shape_of
from models.export.mediclip import CLIP_NAMES, TOKENIZER, TRAINED, layers_of, read_clip, read_tokenizer
from models.export.mediclip_network import Adapters, Prompts, anomaly_map, text_vectors

MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)
EPOCHS = 200
BATCH = 8
RATE = 1e-3
LOG = "training.json"
_LEAST = 2
_SMOOTH = 1e-5


def read_normals(folder: Path, size: int) -> list[npt.NDArray[np.float32]]:
    """Grey images (size, size) in 0 … 1, stretched as in service.

    Raises
    ------
    TooFewImages
        Fewer than two.
    """
    made = []
    for path in sorted(folder.glob("*.png")):
        with Picture.open(path) as picture:
            grey = picture.convert("L").resize((size, size), Picture.Resampling.BILINEAR)
            made.append((np.asarray(grey, np.float32) / 255).astype(np.float32))
    if len(made) < _LEAST:
        raise TooFewImages(f"{folder.name} holds {len(made)} PNG images; MediCLIP was published with 16")
    return made


def train(source: Path, images: list[npt.NDArray[np.float32]], out: Path, *, epochs: int, seed: int) -> list[float]:
    """Train, write ``checkpoints.pkl`` into ``out`` and give the mean loss of each epoch.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe
        Of CLIP's files.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    clip, _ = read_clip(source)
    clip.requires_grad_(False)
    tokenizer, layers = read_tokenizer(source), layers_of(clip)
    size = clip_shape_of(clip.state_dict()).size
    adapters = Adapters(clip.visual.conv1.weight.shape[0], clip.visual.proj.shape[1], len(layers))
    prompts = Prompts(clip.token_embedding.weight.shape[1])
    learnt = [*adapters.parameters(), *prompts.parameters()]
    optimiser = torch.optim.Adam(learnt, RATE, betas=(0.5, 0.999))
    log = []
    for _ in range(epochs):
        losses = []
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            batch, truth = _batch([images[n] for n in order[start : start + BATCH]], images, rng)
            with torch.no_grad():
                tokens = clip.visual(batch, layers)
            likely = anomaly_map(adapters(tokens), text_vectors(clip, prompts, tokenizer), size)
            loss = focal_loss(likely, truth) + dice_loss(likely[:, 1], truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        log.append(round(float(np.mean(losses)), 5))
    state = {"adapter_state_dict": adapters.state_dict(), "prompt_state_dict": prompts.state_dict()}
    torch.save(state, out / TRAINED)
    return log


def network_input(images: npt.NDArray[np.float32]) -> Tensor:
    """(n, rows, columns) in 0 … 1 to (n, 3, rows, columns) on CLIP's scale."""
    grey = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1)
    return (grey - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]


def focal_loss(likely: Tensor, truth: Tensor, power: float = 2.0) -> Tensor:
    """Focal loss of probabilities (n, 2, rows, columns), labels smoothed by 1e-5 (Lin et al. 2017; utils/losses.py)."""
    target = torch.stack([1 - truth, truth], 1).clamp(_SMOOTH, 1 - _SMOOTH)
    right = (target * likely).sum(1) + _SMOOTH
    return (-((1 - right).clamp(min=0) ** power) * right.log()).mean()


def dice_loss(likely: Tensor, truth: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each image, one voxel added to both."""
    likely, truth = likely.flatten(1), truth.flatten(1)
    return (1 - (2 * (likely * truth).sum(1) + 1) / (likely.sum(1) + truth.sum(1) + 1)).mean()


def _batch(
    chosen: list[npt.NDArray[np.float32]], images: list[npt.NDArray[np.float32]], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    made = [synthesised(each, images[int(rng.integers(len(images)))], rng) for each in chosen]
    truth = torch.from_numpy(np.stack([mask for _, mask in made]).astype(np.float32))
    return network_input(np.stack([image for image, _ in made])), truth


def main() -> None:
    """Train and write the folder that the converter takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("clip", type=Path, help="folder with clip.safetensors or clip.pt, and tokenizer.json")
    parser.add_argument("normals", type=Path, help="folder with normal images (PNG)")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=100)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    for name in (*CLIP_NAMES, TOKENIZER):
        if (given.clip / name).is_file():
            shutil.copy(given.clip / name, given.out / name)
    clip, _ = read_clip(given.clip)
    images = read_normals(given.normals, clip_shape_of(clip.state_dict()).size)
    log = train(given.clip, images, given.out, epochs=given.epochs, seed=given.seed)
    content = {"images": len(images), "epochs": given.epochs, "seed": given.seed, "loss": log}
    (given.out / LOG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"loss {log[0]:.3f} at first, {log[-1]:.3f} at last; `ainode models import mediclip {given.out}` comes next")


if __name__ == "__main__":
    main()
