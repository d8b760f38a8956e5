"""Heads with infarcts of known extent: implanted in healthy scans, or drawn in phantoms.

An implant lowers the ADC and changes the T2-weighted signal of real tissue; the diffusion-weighted signal follows:
``DWI' = DWI · f · exp(b · (ADC − ADC'))``, since ``DWI = S0 · exp(−b · ADC)``. Scanner differences are drawn on top:
b-value, coil profile, noise, blur, ADC scale, stripped background. The same seed gives the same arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.phantom import LesionSpec, make_phantom
from models.volume import Volume

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
SMALLEST_ML, LARGEST_ML = 0.1, 200.0
PHANTOM_GRIDS = (
    ((24, 96, 96), (6.0, 2.0, 2.0)),
    ((30, 72, 72), (5.0, 2.6, 2.6)),
    ((44, 72, 72), (3.0, 3.0, 3.0)),
    ((26, 112, 112), (5.5, 1.8, 1.8)),
)
"""Slices, rows, columns, and spacing in mm, of the phantoms trained on."""


@dataclass(frozen=True, slots=True)
class Head:
    """Diffusion images of one head, and its infarct.

    Attributes
    ----------
    scanner : str
        What is left out together in the evaluation.
    dwi, adc : Volume
        On one grid; ADC in ``um2/s``.
    brain_zyx, truth_zyx : numpy.ndarray
        bool; the envelope of the brain, and the infarct.
    """

    scanner: str
    dwi: Volume
    adc: Volume
    brain_zyx: Mask
    truth_zyx: Mask

    @property
    def infarct_ml(self) -> float:
        """Volume of the infarct."""
        return float(np.count_nonzero(self.truth_zyx)) * self.dwi.voxel_ml


def read_head(path: Path) -> Head:
    """A healthy scan from a ``.npz`` with ``dwi``, ``adc`` (z, y, x), ``affine_lps`` and ``b_value``; named by its file."""
    with np.load(path, allow_pickle=False) as stored:
        facts = {"modality": "MR", "body_part": "HEAD", "b_value": float(stored["b_value"])}
        dwi = Volume(stored["dwi"].astype(np.float32), stored["affine_lps"].astype(np.float64), "1", facts)
        adc = Volume(stored["adc"].astype(np.float32), dwi.affine_lps, "um2/s", {"modality": "MR", "body_part": "HEAD"})
    brain = brain_of(dwi, adc)
    return Head(path.stem, dwi, adc, brain, np.zeros_like(brain))


def brain_of(dwi: Volume, adc: Volume) -> Mask:
    """Rough envelope of the brain: where tissue shines on DWI, opened to cut off eyes and scalp."""
    smooth = ndimage.gaussian_filter(dwi.array_zyx, 1)
    tissue = (smooth > 0.35 * np.percentile(smooth, 97)) & (adc.array_zyx > 200)
    steps = max(1, round(5 / dwi.spacing_mm_zyx[2]))
    parts, count = ndimage.label(ndimage.binary_opening(tissue, iterations=steps))
    if count == 0:
        return np.zeros_like(tissue)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    closed = ndimage.binary_closing(np.pad(largest, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])


def draw_volume_ml(rng: np.random.Generator) -> float:
    """A volume between the smallest and the largest, its logarithm uniform."""
    return float(np.exp(rng.uniform(np.log(SMALLEST_ML), np.log(LARGEST_ML))))


def implanted(head: Head, rng: np.random.Generator, volume_ml: float) -> Head:
    """``head`` with infarcts of ``volume_ml`` together, in one piece or, up to 20 mL, sometimes in a shower of emboli."""
    adc, dwi = head.adc.array_zyx, head.dwi.array_zyx
    room = ndimage.binary_erosion(head.brain_zyx) & (adc > 400) & (adc < 1300)
    side = rng.random() < 0.5
    pieces = int(rng.integers(2, 7)) if volume_ml < 20 and rng.random() < 0.35 else 1
    shares = rng.dirichlet(np.full(pieces, 3.0)) * volume_ml
    truth = np.zeros_like(room)
    weight, lowered, factor = np.zeros_like(adc), adc.copy(), np.ones_like(adc)
    drop, shine = rng.uniform(0.45, 0.8), rng.uniform(1.0, 1.7)
    for share in shares:
        piece = _piece(head, rng, room & ~truth, side, float(share))
        truth |= piece
    weight = ndimage.gaussian_filter(truth.astype(np.float32), rng.uniform(0.3, 0.7))
    texture = 1 + 0.06 * _smooth_noise(rng, adc.shape, 1.5)
    lowered = adc + weight * (np.minimum(adc, 900) * np.float32(drop) * texture - adc)
    factor = 1 + weight * np.float32(shine - 1)
    return _with_signal(head, dwi, lowered, factor, truth | head.truth_zyx)


def with_decoys(head: Head, rng: np.random.Generator) -> Head:
    """What is bright on DWI without being an infarct: T2 shine-through, and signal piled up in a thin layer."""
    room = head.brain_zyx & ~ndimage.binary_dilation(head.truth_zyx, iterations=2)
    adc, factor = head.adc.array_zyx.copy(), np.ones_like(head.adc.array_zyx)
    for _ in range(int(rng.integers(0, 3))):
        spot = _piece(head, rng, room, rng.random() < 0.5, float(np.exp(rng.uniform(np.log(0.3), np.log(15)))))
        soft = ndimage.gaussian_filter(spot.astype(np.float32), 0.6)
        adc = adc + soft * np.maximum(0, np.float32(rng.uniform(900, 1300)) - adc)
        factor *= 1 + soft * np.float32(rng.uniform(0.4, 2.0))
    if rng.random() < 0.5:
        shell = head.brain_zyx & ~ndimage.binary_erosion(head.brain_zyx, iterations=1)
        patch = ndimage.gaussian_filter((shell & room & (_smooth_noise(rng, adc.shape, 5) > 1)).astype(np.float32), 0.5)
        factor *= 1 + patch * np.float32(rng.uniform(0.5, 1.5))
    return _with_signal(head, head.dwi.array_zyx, adc, factor, head.truth_zyx)


def with_iron(head: Head, rng: np.random.Generator) -> Head:
    """What holds iron: low on ADC as an infarct is, for its signal sinks into the noise, but dark on DWI."""
    room = head.brain_zyx & ~ndimage.binary_dilation(head.truth_zyx, iterations=2)
    adc, dwi = head.adc.array_zyx, head.dwi.array_zyx
    for _ in range(int(rng.integers(0, 5))):
        spot = _piece(head, rng, room, rng.random() < 0.5, float(np.exp(rng.uniform(np.log(0.1), np.log(4)))))
        soft = ndimage.gaussian_filter(spot.astype(np.float32), 0.6)
        adc = adc * (1 - soft * np.float32(rng.uniform(0.1, 0.6)))
        dwi = dwi * (1 - soft * np.float32(rng.uniform(0.25, 0.7)))
    return replace(head, dwi=replace(head.dwi, array_zyx=dwi), adc=replace(head.adc, array_zyx=adc))


def as_other_scanner(head: Head, rng: np.random.Generator) -> Head:
    """The same head as another scanner might show it: b-value, coil, blur, noise, ADC scale, background."""
    b = head.dwi.facts["b_value"]
    other = float(rng.choice([800.0, 1000.0, 1000.0, 1000.0, 1500.0, 2500.0]))
    adc, dwi = head.adc.array_zyx.copy(), head.dwi.array_zyx
    dwi = dwi * np.where(head.brain_zyx, np.exp((b - other) * 1e-6 * np.clip(adc, 0, 3000)), 1).astype(np.float32)
    coil = _smooth_noise(rng, dwi.shape, min(dwi.shape) / 2)
    dwi = dwi * np.exp(np.float32(rng.uniform(0, 0.4)) * coil)
    if rng.random() < 0.4:
        width = rng.uniform(0.3, 0.7)
        dwi, adc = ndimage.gaussian_filter(dwi, width), ndimage.gaussian_filter(adc, width)
    typical = float(np.median(dwi[head.brain_zyx])) if head.brain_zyx.any() else 1.0
    sigma = typical * rng.uniform(0, 0.09)
    dwi = np.hypot(dwi + rng.normal(0, sigma, dwi.shape), rng.normal(0, sigma, dwi.shape)).astype(np.float32)
    noisy = adc + rng.normal(0, rng.uniform(0, 60), adc.shape)
    adc = np.where(adc > 0, np.clip(noisy * rng.uniform(0.9, 1.1), 1, 4095), 0).astype(np.float32)
    if rng.random() < 0.35:
        kept = ndimage.binary_dilation(head.brain_zyx, iterations=1)
        dwi, adc = np.where(kept, dwi, 0).astype(np.float32), np.where(kept, adc, 0).astype(np.float32)
    facts = {**head.dwi.facts, "b_value": other}
    return replace(head, dwi=replace(head.dwi, array_zyx=dwi, facts=facts), adc=replace(head.adc, array_zyx=adc))


def phantom_head(seed: int, *, healthy: bool = False) -> Head:
    """A phantom (:func:`models.phantom.make_phantom`) with one to four infarcts of 0.1 to 200 mL together, or none."""
    rng = np.random.default_rng([seed, 7])
    shape, spacing = PHANTOM_GRIDS[int(rng.integers(len(PHANTOM_GRIDS)))]
    count = 0 if healthy else int(rng.integers(1, 5))
    shares = rng.dirichlet(np.full(max(count, 1), 2.0)) * draw_volume_ml(rng)
    specs = [
        LesionSpec(
            float(max(share, 0.06)), str(rng.choice(["left", "right"])), rng.uniform(380, 620), rng.uniform(1, 1.7)
        )
        for share in shares[:count]
    ]
    made = make_phantom(
        seed,
        shape_zyx=shape,
        spacing_mm_zyx=spacing,
        b_value=float(rng.choice([800.0, 1000.0, 1000.0, 1500.0])),
        lesions=specs,
        t2_shine_through=bool(rng.random() < 0.7),
        noise=float(rng.uniform(0.03, 0.1)),
        flipped=bool(rng.random() < 0.3),
        bias=float(rng.uniform(0.05, 0.4)),
        skull_stripped=bool(rng.random() < 0.4),
        head_scale=float(rng.uniform(0.88, 1.0)),
        adc_scale=float(rng.uniform(0.92, 1.08)),
    )
    return Head("phantom", made.dwi, made.adc, made.brain_zyx, made.truth_zyx > 0)


def _with_signal(head: Head, dwi: Array, adc: Array, factor: Array, truth: Mask) -> Head:
    """``head`` with another ADC and T2-weighted signal, and the DWI that follows."""
    change = np.exp(head.dwi.facts["b_value"] * 1e-6 * (head.adc.array_zyx - adc)) * factor
    signal = (dwi * change).astype(np.float32)
    return replace(
        head,
        dwi=replace(head.dwi, array_zyx=signal),
        adc=replace(head.adc, array_zyx=adc.astype(np.float32)),
        truth_zyx=truth,
    )


def _piece(head: Head, rng: np.random.Generator, room: Mask, left: bool, volume_ml: float) -> Mask:
    """An irregular blob of ``volume_ml`` within ``room``, on one side of the brain's middle."""
    made = np.zeros_like(room)
    centre_of_brain = np.argwhere(head.brain_zyx).mean(axis=0) if head.brain_zyx.any() else np.zeros(3)
    axis = int(np.argmax(np.abs(head.dwi.affine_lps[0, :3])))
    position = np.arange(room.shape[2 - axis]) - centre_of_brain[2 - axis]
    to_left = (position * head.dwi.affine_lps[0, axis] > 0) == left
    shape = [1, 1, 1]
    shape[2 - axis] = -1
    room = room & to_left.reshape(shape)
    candidates = np.flatnonzero(room)
    if candidates.size == 0:
        return made
    centre = np.unravel_index(candidates[int(rng.integers(candidates.size))], room.shape)
    stretch = rng.uniform(0.6, 1.6, 3)
    distance = np.zeros(room.shape, np.float32)
    for n, spacing in enumerate(head.dwi.spacing_mm_zyx):
        lengths = (np.arange(room.shape[n]) - centre[n]) * spacing / stretch[n]
        distance = distance + (lengths.astype(np.float32) ** 2).reshape([-1 if a == n else 1 for a in range(3)])
    radius = (3000 * volume_ml / (4 * np.pi)) ** (1 / 3)
    rough = _smooth_noise(rng, room.shape, max(1.0, radius / 2 / head.dwi.spacing_mm_zyx[2]))
    score = np.sqrt(distance) + np.float32(rng.uniform(0.1, 0.4) * radius) * rough
    score[~room] = np.inf
    count = min(max(1, round(volume_ml / head.dwi.voxel_ml)), candidates.size)
    made.flat[np.argpartition(score.ravel(), count - 1)[:count]] = True
    return made


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> Array:
    """Smooth noise of mean 0 and standard deviation 1; ``width`` in voxels."""
    coarse = [max(3, int(np.ceil(n / max(width, 1)))) for n in shape]
    small = rng.normal(size=coarse).astype(np.float32)
    noise = ndimage.zoom(
        small, [n / c for n, c in zip(shape, coarse, strict=True)], order=1, grid_mode=True, mode="nearest"
    )
    return ((noise - noise.mean()) / max(float(noise.std()), 1e-6)).astype(np.float32)
