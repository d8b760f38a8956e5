"""What OpenCV makes of a radiograph on its way into ChatCAD's classifier, for the test of our own.

``python tests/generators/opencv_references.py OUT.npz`` in an environment that has OpenCV.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

SIZE = 128


def radiograph(seed: int, rows: int, columns: int) -> np.ndarray:
    """Eight-bit grey levels (rows, columns), the whole range among them."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.sin(np.arange(rows) / 23), np.cos(np.arange(columns) / 17)) * 40 + 90
    made = np.clip(smooth + rng.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8)
    made[0, :2] = 0, 255
    return made


def network_image(grey: np.ndarray) -> np.ndarray:
    """cxr/utils.py of zhaozh10/ChatCAD by its configuration: equalised, blurred, longest side, grey beside it, normal."""
    smooth = cv2.GaussianBlur(cv2.equalizeHist(grey), (3, 3), 0)
    rows, columns = grey.shape
    size = (SIZE, round(SIZE / (columns / rows))) if rows < columns else (round(SIZE / (rows / columns)), SIZE)
    small = cv2.resize(smooth, dsize=size, interpolation=cv2.INTER_LINEAR)
    padded = np.full((SIZE, SIZE), 128, np.uint8)
    padded[: small.shape[0], : small.shape[1]] = small
    return (padded.astype(np.float32) - 128.0) / 64.0


if __name__ == "__main__":
    content = {}
    for name, shape in (("wide", (96, 150)), ("high", (171, 98)), ("small", (60, 71))):
        grey = radiograph(len(name), *shape)
        content |= {name: grey, f"{name} equalised": cv2.equalizeHist(grey), f"{name} made": network_image(grey)}
        content[f"{name} smoothed"] = cv2.GaussianBlur(grey, (3, 3), 0)
    np.savez_compressed(Path(sys.argv[1]), **content)
