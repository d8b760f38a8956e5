"""A physically modelled head on diffusion MR, with known truth.

Signals follow ``S(b) = S0 · exp(−b · ADC)`` for each compartment (grey and white matter, CSF, scalp), are mixed by
partial volume, multiplied by a coil profile and given Rician noise. The ADC map is then computed from the *noisy*
signals, as a scanner does. This proves code, never clinical accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.phantom_anatomy import (
    BRAIN_SEMI_AXES_MM,
    Anatomy,
    Field,
    build_anatomy,
    ellipsoid_depth_mm,
    soft_step,
    wave_field,
)
from models.volume import Volume

# T2 weighting at an echo time of about 80 ms, relative to CSF; 3 T relaxation times.
S0_GREY, S0_WHITE, S0_CSF, S0_SCALP = 0.36, 0.27, 0.95, 0.05
ADC_GREY, ADC_WHITE, ADC_CSF, ADC_SCALP = 830.0, 720.0, 3000.0, 500.0
SIGNAL_SCALE = 2500.0
"""Scanner units of a signal of 1.0."""


class Plane(StrEnum):
    """How the slices lie in the patient."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    OBLIQUE = "oblique"


class Distractor(StrEnum):
    """What is bright on DWI without being an infarct; the label in :attr:`Phantom.distractor_zyx` is its
    position here + 1."""

    T2_SHINE_THROUGH = "t2_shine_through"
    SUSCEPTIBILITY_RIM = "susceptibility_rim"
    SYMMETRIC_PAIR = "symmetric_pair"


@dataclass(frozen=True, slots=True)
class LesionSpec:
    """One infarct to draw.

    Attributes
    ----------
    volume_ml : float
        Wanted volume; reached within a voxel unless the brain has no room.
    side : str
        ``"left"`` or ``"right"`` of the patient.
    adc_um2_s : float
        ADC inside, 10⁻⁶ mm²/s.
    s0_factor : float
        T2-weighted signal relative to the tissue it replaces.
    centre_mm : tuple of float, optional
        LPS relative to the brain's centre; random in that hemisphere when None.
    """

    volume_ml: float
    side: str = "left"
    adc_um2_s: float = 520.0
    s0_factor: float = 1.3
    centre_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Phantom:
    """Images and truth on one grid.

    Attributes
    ----------
    b0, dwi, adc : Volume
        Signal at b = 0 and at the b-value (unit ``"1"``), and ADC in ``um2/s`` (0 in the masked background).
    truth_zyx : numpy.ndarray
        uint8; 0 is no lesion, ``n`` the n-th of :attr:`lesions`.
    distractor_zyx : numpy.ndarray
        uint8; see :class:`Distractor`.
    brain_zyx : numpy.ndarray
        bool; the brain's envelope.
    lesions : tuple of LesionSpec
        As drawn, centres filled in.
    seed : int
        What the phantom was made from.
    """

    b0: Volume
    dwi: Volume
    adc: Volume
    truth_zyx: npt.NDArray[np.uint8]
    distractor_zyx: npt.NDArray[np.uint8]
    brain_zyx: npt.NDArray[np.bool_]
    lesions: tuple[LesionSpec, ...]
    seed: int


def plane_directions(plane: str, *, flipped: bool = False) -> npt.NDArray[np.float64]:
    """3×3 matrix whose columns are the patient directions of column index, row index and slice index.

    ``flipped`` reverses both in-plane directions; the slice direction stays row × column (PS3.3 C.7.6.2.1.1).
    """
    in_plane = {
        Plane.AXIAL: ((1, 0, 0), (0, 1, 0)),
        Plane.SAGITTAL: ((0, 1, 0), (0, 0, -1)),
        Plane.CORONAL: ((1, 0, 0), (0, 0, -1)),
        Plane.OBLIQUE: ((1, 0, 0), (0, 1, 0)),
    }[Plane(plane)]
    row, column = (np.array(v, dtype=float) * (-1 if flipped else 1) for v in in_plane)
    directions = np.stack([row, column, np.cross(row, column)], axis=1)
    if plane == Plane.OBLIQUE:
        a, c = np.deg2rad(17.0), np.deg2rad(8.0)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        directions = about_z @ about_x @ directions
    return directions + 0.0


def make_phantom(
    seed: int,
    *,
    shape_zyx: tuple[int, int, int] = (28, 128, 128),
    spacing_mm_zyx: tuple[float, float, float] = (5.0, 1.8, 1.8),
    b_value: float = 1000.0,
    lesions: Sequence[LesionSpec] | None = None,
    t2_shine_through: bool = True,
    noise: float = 0.05,
    orientation: str = "axial",
    flipped: bool = False,
    bias: float = 0.2,
    skull_stripped: bool = False,
    head_scale: float | None = None,
    centre_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    adc_scale: float = 1.0,
) -> Phantom:
    """Make one head. The same arguments give the same arrays.

    Parameters
    ----------
    seed : int
        Source of everything random.
    shape_zyx, spacing_mm_zyx
        Grid; the slice spacing is from centre to centre, gaps included.
    b_value : float
        s/mm² of the diffusion-weighted volume.
    lesions : sequence of LesionSpec, optional
        Empty for a healthy head; None for 1 to 3 random infarcts of 1 to 60 mL.
    t2_shine_through : bool
        Draw a lesion that is bright on DWI by T2 alone (ADC about 1000). The susceptibility rim over the skull base
        and the symmetric pair of bright tracts are always there.
    noise : float
        Standard deviation of the noise in each channel, relative to the mean DWI signal of white matter.
    orientation, flipped
        See :func:`plane_directions`.
    bias : float
        Relative amplitude of the coil profile.
    skull_stripped : bool
        Set everything outside the brain to exactly 0, as research data often are.
    head_scale : float, optional
        Size relative to an adult; None makes the head fit the field of view (never larger than an adult's).
    centre_shift_mm : tuple of float
        Moves the head in the field of view (LPS), e.g. to cut it off.
    adc_scale : float
        Factor on the ADC map, a scanner whose scale is off.
    """
    rng = np.random.default_rng([seed, 20617])
    affine = _affine(shape_zyx, spacing_mm_zyx, plane_directions(orientation, flipped=flipped))
    if head_scale is None:
        head_scale = _fitting_scale(shape_zyx, affine)
    position = _positions(shape_zyx, affine, head_scale, centre_shift_mm)
    anatomy = build_anatomy(rng, position, border_mm=0.6 * min(spacing_mm_zyx) / head_scale)
    s0, adc, distractor = _healthy_maps(rng, anatomy, t2_shine_through)
    specs = _random_lesions(rng, anatomy, affine) if lesions is None else tuple(lesions)
    truth, drawn = _draw_lesions(rng, anatomy, specs, affine, s0, adc, blocked=distractor > 0)
    distractor[truth > 0] = 0
    signals = _signals(rng, anatomy, s0, adc, b_value, noise, bias, skull_stripped)
    return _assemble(seed, affine, b_value, signals, truth, distractor, anatomy.brain_zyx, drawn, noise, adc_scale)


def _affine(
    shape_zyx: tuple[int, int, int], spacing_mm_zyx: tuple[float, float, float], directions: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing_mm_zyx[::-1])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape_zyx[::-1]) - 1) / 2)
    return affine


def _fitting_scale(shape_zyx: tuple[int, int, int], affine: npt.NDArray[np.float64]) -> float:
    half_extent = np.abs(affine[:3, :3]) @ (np.array(shape_zyx[::-1]) / 2)
    return float(min(1.0, (half_extent / (np.array(BRAIN_SEMI_AXES_MM) * 1.06)).min()))


def _positions(
    shape_zyx: tuple[int, int, int],
    affine: npt.NDArray[np.float64],
    scale: float,
    shift_mm: tuple[float, float, float],
) -> Field:
    k, j, i = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape_zyx), indexing="ij", sparse=True)
    rows = [(affine[r, 0] * i + affine[r, 1] * j + affine[r, 2] * k + affine[r, 3] - shift_mm[r]) for r in range(3)]
    return (np.stack([np.broadcast_to(row, shape_zyx) for row in rows]) / scale).astype(np.float32)


def _healthy_maps(
    rng: np.random.Generator, anatomy: Anatomy, t2_shine_through: bool
) -> tuple[Field, Field, npt.NDArray[np.uint8]]:
    """Tissue S0 and ADC (CSF is mixed in later), with the distractors drawn in."""
    tissue = np.maximum(anatomy.grey_zyx + anatomy.white_zyx, 1e-6)
    grey = anatomy.grey_zyx / tissue
    texture = wave_field(rng, anatomy.position_mm, 14.0)
    s0 = (S0_WHITE + (S0_GREY - S0_WHITE) * grey) * (1 + 0.03 * texture)
    adc = ADC_WHITE + (ADC_GREY - ADC_WHITE) * grey + 25 * wave_field(rng, anatomy.position_mm, 25.0) - 15 * texture
    labels = np.zeros(s0.shape, dtype=np.uint8)
    pair = np.zeros_like(s0)
    for side in (-1.0, 1.0):
        pair = np.maximum(pair, soft_step(ellipsoid_depth_mm(anatomy.position_mm, (37 * side, -4, 6), (3, 14, 10)), 2))
    s0, adc = s0 * (1 + 0.22 * pair), adc + pair * (690 - adc)
    labels[(pair > 0.5) & anatomy.brain_zyx] = 3
    # Sphenoid sinus: field distortion piles signal up in a thin layer of the frontal base; b0 and DWI alike.
    base = ellipsoid_depth_mm(anatomy.position_mm, (0, -42, -62), (26, 20, 22))
    rim = soft_step(3.5 - np.abs(base), 2.0) * anatomy.brain_zyx
    s0 = s0 * (1 + 0.9 * rim)
    labels[rim > 0.5] = 2
    if t2_shine_through:
        side = float(rng.choice([-1.0, 1.0]))
        centre = (side * rng.uniform(26, 32), rng.uniform(-32, 36), rng.uniform(22, 30))
        spot = ellipsoid_depth_mm(anatomy.position_mm, centre, tuple(rng.uniform(6, 11, size=3)))
        shine = soft_step(spot, 2.0) * anatomy.brain_zyx
        s0, adc = s0 * (1 + 1.5 * shine), adc + shine * (rng.uniform(980, 1080) - adc)
        labels[shine > 0.5] = 1
    return s0.astype(np.float32), adc.astype(np.float32), labels


def _random_lesions(
    rng: np.random.Generator, anatomy: Anatomy, affine: npt.NDArray[np.float64]
) -> tuple[LesionSpec, ...]:
    brain_ml = float(np.count_nonzero(anatomy.brain_zyx)) * abs(np.linalg.det(affine[:3, :3])) / 1000
    largest = min(60.0, 0.06 * brain_ml)
    smallest = min(1.0, largest / 4)
    return tuple(
        LesionSpec(
            volume_ml=float(np.exp(rng.uniform(np.log(smallest), np.log(largest)))),
            side=str(rng.choice(["left", "right"])),
            adc_um2_s=float(rng.uniform(450, 600)),
            s0_factor=float(rng.uniform(1.1, 1.5)),
        )
        for _ in range(int(rng.integers(1, 4)))
    )


def _draw_lesions(
    rng: np.random.Generator,
    anatomy: Anatomy,
    specs: Sequence[LesionSpec],
    affine: npt.NDArray[np.float64],
    s0: Field,
    adc: Field,
    blocked: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.uint8], tuple[LesionSpec, ...]]:
    """Write the lesions into ``s0`` and ``adc`` in place; give back their labels and the specs with centres."""
    truth = np.zeros(s0.shape, dtype=np.uint8)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    x = anatomy.position_mm[0]
    room = (anatomy.grey_zyx + anatomy.white_zyx > 0.6) & (anatomy.depth_mm_zyx > 3.5) & ~blocked & (np.abs(x) > 3)
    drawn = []
    for number, spec in enumerate(specs, start=1):
        hemisphere = room & ((x > 0) if spec.side == "left" else (x < 0))
        taken = ndimage.binary_dilation(truth > 0, iterations=2)
        mask, centre = _lesion_shape(rng, anatomy, hemisphere & ~taken, spec, voxel_ml)
        truth[mask] = number
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.45)
        adc += soft * (np.float32(spec.adc_um2_s) * (1 + 0.04 * wave_field(rng, anatomy.position_mm, 12.0, 6)) - adc)
        s0 *= 1 + soft * np.float32(spec.s0_factor - 1)
        drawn.append(LesionSpec(spec.volume_ml, spec.side, spec.adc_um2_s, spec.s0_factor, centre))
    return truth, tuple(drawn)


def _lesion_shape(
    rng: np.random.Generator,
    anatomy: Anatomy,
    room: npt.NDArray[np.bool_],
    spec: LesionSpec,
    voxel_ml: float,
) -> tuple[npt.NDArray[np.bool_], tuple[float, float, float]]:
    """An irregular connected blob of the wanted volume around a centre inside ``room``."""
    mask = np.zeros(room.shape, dtype=bool)
    candidates = np.flatnonzero(room)
    centre = spec.centre_mm or (0.0, 0.0, 0.0)
    if candidates.size == 0:
        return mask, centre
    if spec.centre_mm is None:
        chosen = candidates[int(rng.integers(candidates.size))]
        centre = tuple(float(anatomy.position_mm[a].flat[chosen]) for a in range(3))  # type: ignore[assignment]
    stretch = rng.uniform(0.75, 1.35, size=3)
    distance = np.zeros(room.shape, dtype=np.float32)
    for axis in range(3):
        distance += ((anatomy.position_mm[axis] - np.float32(centre[axis])) / np.float32(stretch[axis])) ** 2
    radius = (3 * spec.volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    score = np.sqrt(distance) + np.float32(0.18 * radius) * wave_field(rng, anatomy.position_mm, 2.2 * radius + 6, 10)
    score[~room] = np.inf
    count = min(max(1, round(spec.volume_ml / voxel_ml)), candidates.size)
    mask.flat[np.argpartition(score.ravel(), count - 1)[:count]] = True
    labels, found = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if found > 1:
        mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return mask, centre


def _signals(
    rng: np.random.Generator,
    anatomy: Anatomy,
    s0: Field,
    adc: Field,
    b_value: float,
    noise: float,
    bias: float,
    skull_stripped: bool,
) -> tuple[Field, Field]:
    """Noisy signals at b = 0 and at ``b_value``, scanner units."""
    tissue = anatomy.grey_zyx + anatomy.white_zyx
    coil = 1 + np.float32(bias) * wave_field(rng, anatomy.position_mm, 260.0, 6) / 2
    sigma = noise * S0_WHITE * float(np.exp(-b_value * ADC_WHITE * 1e-6))
    outside = ~anatomy.brain_zyx
    result = []
    for b in (0.0, b_value):
        clean = tissue * s0 * np.exp(-np.float32(b * 1e-6) * adc)
        clean = clean + anatomy.csf_zyx * np.float32(S0_CSF * np.exp(-b * ADC_CSF * 1e-6))
        clean = (clean + anatomy.scalp_zyx * np.float32(S0_SCALP * np.exp(-b * ADC_SCALP * 1e-6))) * coil
        real = clean + rng.normal(0, sigma, size=clean.shape)
        noisy = np.hypot(real, rng.normal(0, sigma, size=clean.shape)) * SIGNAL_SCALE
        if skull_stripped:
            noisy[outside] = 0
        result.append(noisy.astype(np.float32))
    return result[0], result[1]


def _assemble(
    seed: int,
    affine: npt.NDArray[np.float64],
    b_value: float,
    signals: tuple[Field, Field],
    truth: npt.NDArray[np.uint8],
    distractor: npt.NDArray[np.uint8],
    brain: npt.NDArray[np.bool_],
    lesions: tuple[LesionSpec, ...],
    noise: float,
    adc_scale: float,
) -> Phantom:
    b0, dwi = signals
    floor = 3 * noise * S0_WHITE * float(np.exp(-b_value * ADC_WHITE * 1e-6)) * SIGNAL_SCALE
    seen = (b0 > floor) & (b0 > 0) & (dwi > 0)
    ratio = np.where(seen, np.maximum(dwi, 1e-3) / np.maximum(b0, 1e-3), 1.0)
    adc = np.where(seen, np.clip(-np.log(ratio) / b_value * 1e6 * adc_scale, 0, 4095), 0).astype(np.float32)
    facts = {"modality": "MR", "body_part": "HEAD", "field_strength_t": 3.0}
    return Phantom(
        b0=Volume(b0, affine.copy(), "1", {**facts, "b_value": 0.0}),
        dwi=Volume(dwi, affine.copy(), "1", {**facts, "b_value": float(b_value)}),
        adc=Volume(adc, affine.copy(), "um2/s", dict(facts)),
        truth_zyx=truth,
        distractor_zyx=distractor,
        brain_zyx=brain,
        lesions=lesions,
        seed=seed,
    )
