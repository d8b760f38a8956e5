"""Named resizers: each gives, in numpy and scipy, what the library a model was trained with gives.

Libraries differ in anti-aliasing, edge handling and pixel grid, and a model notices. A card names the resizer; tests
hold each against arrays made with the original library. All take (rows, columns) or (channels, rows, columns).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Image = npt.NDArray[np.float32]
Resizer = Callable[[npt.NDArray[np.floating] | npt.NDArray[np.integer], tuple[int, int]], Image]


def skimage_cubic(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``skimage.transform.resize(image, size, order=3, preserve_range=True, anti_aliasing=True)``.

    Gaussian of (factor - 1) / 2 pixels where it shrinks, cubic spline on the pixel grid, mirrored edges, clipped to the
    range of the input (scikit-image 0.22 to 0.25, ``skimage/transform/_warps.py``).
    """
    return _skimage(image, size, order=3, mode="mirror")


def skimage_linear(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``skimage.transform.resize(image, size, mode="constant", preserve_range=True)`` on floating-point images.

    Linear, zero beyond the edges, with the same Gaussian where it shrinks.
    """
    return _skimage(image, size, order=1, mode="grid-constant")


def _skimage(image: npt.NDArray, size: tuple[int, int], *, order: int, mode: str) -> Image:
    image = np.asarray(image, dtype=np.float64)
    factors = np.array(image.shape[-2:]) / np.array(size)
    lead = [1.0] * (image.ndim - 2)
    sigma = [*(0.0 for _ in lead), *np.maximum(0.0, (factors - 1) / 2)]
    filtered = ndimage.gaussian_filter(image, sigma, mode=mode) if any(sigma) else image
    out = ndimage.zoom(filtered, [*lead, *(1 / factors)], order=order, mode=mode, grid_mode=True)
    return np.clip(out, image.min(), image.max()).astype(np.float32)


def bilinear(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``: two neighbours, no anti-aliasing."""
    out = np.asarray(image, dtype=np.float32)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        out = _linear(out, axis, length)
    return out


def bilinear_antialias(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``interpolate(mode="bilinear", align_corners=False, antialias=True)``: a triangle as wide as the shrinking."""
    return _separable(image, size, _triangle, 1.0)


def bicubic_antialias(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize(size, BICUBIC)`` on float images, and torch's with ``antialias=True``: cubic with a = -0.5."""
    return _separable(image, size, _cubic, 2.0)


def area(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``cv2.resize(interpolation=INTER_AREA)`` where it shrinks: the mean over each pixel's footprint."""
    return _separable(image, size, _box, 0.5)


def nearest(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``interpolate(mode="nearest")``: the pixel at floor(index × factor)."""
    out = np.asarray(image, dtype=np.float32)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        old = out.shape[axis]
        # The factor in single precision, as torch has it: some products fall just below a whole number.
        chosen = (np.arange(length, dtype=np.float32) * np.float32(old / length)).astype(int)
        out = np.take(out, np.minimum(chosen, old - 1), axis=axis)
    return out


def nearest_centre(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize(size, NEAREST)``: the pixel under the centre of the new one."""
    out = np.asarray(image, dtype=np.float32)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        old = out.shape[axis]
        # Steps are added up, as Pillow does: some sums fall just below a whole number.
        step = old / length
        chosen = np.add.accumulate([step / 2, *[step] * (length - 1)]).astype(int)
        out = np.take(out, np.minimum(chosen, old - 1), axis=axis)
    return out


RESIZERS: Mapping[str, Resizer] = {
    "area": area,
    "bicubic_antialias": bicubic_antialias,
    "bilinear": bilinear,
    "bilinear_antialias": bilinear_antialias,
    "nearest": nearest,
    "nearest_centre": nearest_centre,
    "skimage_cubic": skimage_cubic,
    "skimage_linear": skimage_linear,
}
"""By the name a card uses."""


def filter_weights(old: int, new: int, kernel: str) -> npt.NDArray[np.float64]:
    """(new, old) weights of Pillow's filter ``"cubic"``, ``"triangle"`` or ``"lanczos"`` from ``old`` to ``new`` pixels."""
    function, support = {"cubic": (_cubic, 2.0), "triangle": (_triangle, 1.0), "lanczos": (_lanczos, 3.0)}[kernel]
    return _weights(old, new, function, support)


def _linear(image: Image, axis: int, length: int) -> Image:
    old = image.shape[axis]
    centres = np.maximum((np.arange(length) + 0.5) * (old / length) - 0.5, 0.0)
    below = np.minimum(centres.astype(int), old - 1)
    above = np.minimum(below + 1, old - 1)
    weight = (centres - below).astype(np.float32)
    shape = [1] * image.ndim
    shape[axis] = length
    weight = weight.reshape(shape)
    return np.take(image, below, axis=axis) * (1 - weight) + np.take(image, above, axis=axis) * weight


def _separable(
    image: npt.NDArray, size: tuple[int, int], kernel: Callable[[npt.NDArray], npt.NDArray], support: float
) -> Image:
    out = np.asarray(image, dtype=np.float64)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        weights = _weights(out.shape[axis], length, kernel, support)
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    return out.astype(np.float32)


def _weights(
    old: int, new: int, kernel: Callable[[npt.NDArray], npt.NDArray], support: float
) -> npt.NDArray[np.float64]:
    """(new, old) weights of a filter that widens with the shrinking, normalised at the edges."""
    factor = old / new
    width = max(factor, 1.0)
    centres = (np.arange(new) + 0.5) * factor
    if kernel is _box:
        return _overlaps(old, new)
    distance = (np.arange(old)[None, :] + 0.5 - centres[:, None]) / width
    weights = np.where(np.abs(distance) < support, kernel(distance), 0.0)
    return weights / weights.sum(1, keepdims=True)


def _overlaps(old: int, new: int) -> npt.NDArray[np.float64]:
    """Share of each old pixel in each new one."""
    edges = np.arange(new + 1) * (old / new)
    left, right = edges[:-1, None], edges[1:, None]
    cells = np.arange(old)[None, :]
    covered = np.clip(np.minimum(right, cells + 1) - np.maximum(left, cells), 0.0, None)
    return covered / covered.sum(1, keepdims=True)


def _triangle(x: npt.NDArray) -> npt.NDArray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: npt.NDArray, a: float = -0.5) -> npt.NDArray:
    x = np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _lanczos(x: npt.NDArray) -> npt.NDArray:
    return np.sinc(x) * np.sinc(x / 3)


def _box(x: npt.NDArray) -> npt.NDArray:
    return np.ones_like(x)
