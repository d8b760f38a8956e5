"""A picture of what came back: source slices with the outline of each segment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
SourceKey = tuple[str, int]
"""SOP Instance UID and frame number (1 for a single-frame image)."""

_TILE = 320
_COLUMNS = 4
_OUTLINE = (255, 64, 48)


def draw_montage(sources: Sequence[Path], segmentation: Path | None, target: Path, caption: str) -> None:
    """Write a PNG with up to eight slices: those with most of the finding, or evenly spaced ones without a finding.

    Parameters
    ----------
    sources : sequence of Path
        The series that the segmentation lies on.
    segmentation : Path or None
        BINARY SEG object.
    target : Path
        PNG file to write.
    caption : str
        One line above the picture.
    """
    images = _slices(sources)
    masks = _masks(dcmread(segmentation)) if segmentation else {}
    keys = sorted(masks, key=lambda key: -int(masks[key].sum()))[:8] if masks else _spread(list(images), 8)
    order = list(images)
    keys = sorted((key for key in keys if key in images), key=order.index)
    rows = -(-len(keys) // _COLUMNS)
    sheet = Image.new("RGB", (_TILE * _COLUMNS, 28 + _TILE * max(rows, 1)), (16, 18, 22))
    pen = ImageDraw.Draw(sheet)
    pen.text((8, 8), caption, fill=(230, 230, 230))
    for number, key in enumerate(keys):
        corner = (_TILE * (number % _COLUMNS), 28 + _TILE * (number // _COLUMNS))
        sheet.paste(_tile(images[key], masks.get(key)), corner)
        pen.text((corner[0] + 6, corner[1] + 4), f"slice {order.index(key) + 1} of {len(order)}", fill=(200, 200, 200))
    sheet.save(target)


def _slices(paths: Sequence[Path]) -> dict[SourceKey, npt.NDArray[np.float32]]:
    """Every slice by its key, from foot to head."""
    found: list[tuple[float, SourceKey, npt.NDArray[np.float32]]] = []
    for path in paths:
        dataset = dcmread(path)
        pixels = np.atleast_3d(dataset.pixel_array.astype(np.float32))
        frames = (
            pixels
            if "NumberOfFrames" in dataset and pixels.ndim == 3 and dataset.NumberOfFrames > 1
            else [dataset.pixel_array.astype(np.float32)]
        )
        for index, frame in enumerate(frames):
            found.append((_height(dataset, index), (str(dataset.SOPInstanceUID), index + 1), frame))
    return {key: frame for _, key, frame in sorted(found, key=lambda row: (row[0], row[1]))}


def _height(dataset: Dataset, frame: int) -> float:
    """Position along the slice normal in mm."""
    if "ImagePositionPatient" in dataset:
        position, orientation = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    else:
        groups = dataset.PerFrameFunctionalGroupsSequence[frame]
        shared = dataset.SharedFunctionalGroupsSequence[0]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        plane = groups if "PlaneOrientationSequence" in groups else shared
        orientation = plane.PlaneOrientationSequence[0].ImageOrientationPatient
    row, column = np.array(orientation[:3], dtype=float), np.array(orientation[3:], dtype=float)
    return float(np.cross(row, column) @ np.array(position, dtype=float))


def _masks(segmentation: Dataset) -> Mapping[SourceKey, Mask]:
    """Union of all segments for each source slice."""
    frames = segmentation.pixel_array.astype(bool)
    frames = frames[None] if frames.ndim == 2 else frames
    masks: dict[SourceKey, Mask] = defaultdict(lambda: np.zeros(frames.shape[1:], dtype=bool))
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        for source in groups.DerivationImageSequence[0].SourceImageSequence:
            key = (str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1)))
            masks[key] = masks[key] | frame
    return dict(masks)


def _tile(pixels: npt.NDArray[np.float32], mask: Mask | None) -> Image.Image:
    low, high = np.percentile(pixels, (1, 99.7))
    gray = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255
    size = _fit(pixels.shape)
    picture = Image.fromarray(gray.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if mask is not None and mask.any():
        large = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
        outline = large & ~ndimage.binary_erosion(large)
        canvas = np.asarray(picture).copy()
        canvas[outline] = _OUTLINE
        picture = Image.fromarray(canvas)
    tile = Image.new("RGB", (_TILE, _TILE))
    tile.paste(picture, ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return tile


def _fit(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = _TILE / max(shape)
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _spread(keys: list[SourceKey], count: int) -> list[SourceKey]:
    if len(keys) <= count:
        return keys
    return [keys[round(index * (len(keys) - 1) / (count - 1))] for index in range(count)]
