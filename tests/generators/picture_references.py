"""Network images made with the libraries the image-text models were trained with, for the test of our own.

``python tests/generators/picture_references.py OUT.npz`` in an environment that has Pillow and torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, pad

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE = 56


def radiograph(seed: int, rows: int, columns: int) -> np.ndarray:
    """Eight-bit grey levels (rows, columns): smooth, with noise."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.sin(np.arange(rows) / 9), np.cos(np.arange(columns) / 7)) * 60 + 120
    return np.clip(smooth + rng.normal(0, 15, smooth.shape), 0, 255).astype(np.uint8)


def medclip(grey: np.ndarray) -> np.ndarray:
    """medclip/dataset.py of RyanWangZf/MedCLIP: pasted into a square, bicubic, one mean and deviation."""
    picture = Image.fromarray(grey)
    across, down = picture.size
    side = max(SIZE, across, down)
    square = Image.new("L", (side, side), 0)
    square.paste(picture, (int((side - across) / 2), int((side - down) / 2)))
    values = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / np.float32(255.0)
    return np.repeat(((values - 0.5862785803043838) / 0.27950088968644304)[None], 3, 0)


def clip(colours: np.ndarray) -> np.ndarray:
    """src/open_clip/transform.py of mlfoundations/open_clip: short side, middle square, CLIP's mean and deviation."""
    picture = Image.fromarray(colours)
    across, down = picture.size
    short, long = min(across, down), max(across, down)
    sizes = (SIZE, int(SIZE * long / short)) if across <= down else (int(SIZE * long / short), SIZE)
    resized = np.asarray(picture.resize(sizes, Image.Resampling.BICUBIC), np.float32)
    top, left = round((resized.shape[0] - SIZE) / 2.0), round((resized.shape[1] - SIZE) / 2.0)
    middle = resized[top : top + SIZE, left : left + SIZE].transpose(2, 0, 1) / np.float32(255.0)
    mean, deviation = (np.array(each, np.float32)[:, None, None] for each in (CLIP_MEAN, CLIP_DEVIATION))
    return (middle - mean) / deviation


def flair(colours: np.ndarray) -> np.ndarray:
    """flair/modeling/model.py of jusiro/FLAIR: longest side, antialiased, zeros at right and bottom."""
    image = torch.from_numpy(colours.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    scale = max(image.shape[-2:]) / SIZE
    size = (int(image.shape[-2] / scale), int(image.shape[-1] / scale))
    small = interpolate(image, size, mode="bilinear", antialias=True)
    return pad(small, (0, SIZE - size[1], 0, SIZE - size[0]))[0].numpy()


def medsiglip(grey: np.ndarray) -> np.ndarray:
    """Black around it to a square; TensorFlow's bilinear resize, which is torch's without anti-aliasing; 0.5 and 0.5."""
    rows, columns = grey.shape
    side = max(rows, columns)
    down, across = side - rows, side - columns
    square = np.pad(grey, ((down // 2, down - down // 2), (across // 2, across - across // 2))).astype(np.float32) / 255
    small = interpolate(torch.from_numpy(square)[None, None], (SIZE, SIZE), mode="bilinear")[0].numpy()
    return np.repeat((small - 0.5) / 0.5, 3, 0)


def references() -> dict[str, np.ndarray]:
    """Inputs ``grey`` and ``colour`` (rows, columns, 3), and what each model's code makes of them."""
    grey = radiograph(1, 130, 97)
    colour = np.stack([radiograph(seed, 83, 141) for seed in (2, 3, 4)], -1)
    return {
        "grey": grey,
        "colour": colour,
        "medclip grey": medclip(grey),
        "clip grey": clip(np.repeat(grey[..., None], 3, -1)),
        "clip colour": clip(colour),
        "flair colour": flair(colour),
        "medsiglip grey": medsiglip(grey),
    }


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **references())
