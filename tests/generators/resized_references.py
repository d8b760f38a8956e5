"""Reference arrays of the original libraries, for the test of the resizers.

``python tests/generators/resized_references.py OUT.npz`` in an environment that has scikit-image, Pillow, OpenCV and torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.transform import resize
from torch.nn.functional import interpolate

SIZES = ((16, 24), (45, 31))
"""Smaller on both axes and larger on both, neither by a whole factor."""


def references() -> dict[str, np.ndarray]:
    """``image`` and, for each resizer and size, what its library makes of it."""
    rng = np.random.default_rng(7)
    smooth = np.add.outer(np.sin(np.arange(37) / 5), np.cos(np.arange(29) / 3)) * 60 + 120
    image = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.float32)
    made = {"image": image}
    tensor = torch.from_numpy(image)[None, None]
    for rows, columns in SIZES:
        size = f"{rows}x{columns}"
        made[f"skimage_cubic {size}"] = resize(
            image.astype(np.float64), (rows, columns), order=3, preserve_range=True, anti_aliasing=True
        )
        made[f"skimage_linear {size}"] = resize(image, (rows, columns), mode="constant", preserve_range=True)
        made[f"bilinear {size}"] = interpolate(tensor, (rows, columns), mode="bilinear")[0, 0].numpy()
        made[f"bilinear_antialias {size}"] = interpolate(tensor, (rows, columns), mode="bilinear", antialias=True)[
            0, 0
        ].numpy()
        made[f"nearest {size}"] = interpolate(tensor, (rows, columns), mode="nearest")[0, 0].numpy()
        for name, how in (
            ("bicubic_antialias", Image.Resampling.BICUBIC),
            ("nearest_centre", Image.Resampling.NEAREST),
        ):
            made[f"{name} {size}"] = np.asarray(Image.fromarray(image, mode="F").resize((columns, rows), how))
    rows, columns = SIZES[0]
    made[f"area {rows}x{columns}"] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return {name: value.astype(np.float32) for name, value in made.items()}


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **references())
