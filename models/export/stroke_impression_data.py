"""Studies the stroke-impression demonstration learns from and is measured on: phantoms and their typed results."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.phantom import LesionSpec, Phantom, make_phantom
from models.projections import orthogonal_projections
from models.report_facts import ADC_CODE, Lesion, ReportFacts, overall_side
from models.results import (
    CodedTerm,
    Laterality,
    ModelReference,
    Outcome,
    Quantity,
    Region,
    Segmentation,
    StudyResult,
    total_volume_ml,
)

CHANNELS = ("dwi", "low_adc", "mask")
VIEW_PIXELS = 32

_INFARCT = CodedTerm("55641003", "SCT", "Infarct")
_BRAIN = CodedTerm("12738006", "SCT", "Brain")
_MORPHOLOGY = CodedTerm("49755003", "SCT", "Morphologically Abnormal Structure")
_ADC = CodedTerm(ADC_CODE, "DCM", "Apparent Diffusion Coefficient")
_MICRO = CodedTerm("um2/s", "UCUM", "um2/s")
_MODEL = ModelReference("phantom-truth", "1", "Phantom truth", "ainode project", "0" * 64)


def random_phantom(rng: random.Random, *, shape_zyx: tuple[int, int, int]) -> Phantom:
    """Return a phantom with 0 to 4 infarcts of 0.3 to 90 mL on one or both sides, in any plane."""
    count = rng.choice([0, 1, 1, 1, 2, 2, 3, 4])
    sides = rng.choice([["left"], ["right"], ["left", "right"]])
    lesions = [
        LesionSpec(10 ** rng.uniform(-0.5, 1.95), rng.choice(sides), rng.uniform(380, 600), rng.uniform(1.1, 1.5))
        for _ in range(count)
    ]
    plane = rng.choice(["axial", "axial", "axial", "coronal", "sagittal", "oblique"])
    if plane in ("sagittal", "coronal"):
        shape_zyx = (shape_zyx[0] * 3 // 2, *shape_zyx[1:])
    along = 150.0 if plane in ("axial", "oblique") else 200.0
    spacing_mm_zyx = (along / shape_zyx[0], 230.0 / shape_zyx[1], 230.0 / shape_zyx[2])
    return make_phantom(
        rng.randrange(2**31),
        shape_zyx=shape_zyx,
        spacing_mm_zyx=spacing_mm_zyx,
        lesions=lesions,
        orientation=plane,
        flipped=rng.random() < 0.3,
        t2_shine_through=rng.random() < 0.7,
        noise=rng.uniform(0.02, 0.08),
    )


def truth_result(phantom: Phantom, detection_limit_ml: float = 0.1) -> StudyResult:
    """Return what a perfect segmentation of ``phantom`` would report. The largest region has number 1."""
    sizes = np.bincount(phantom.truth_zyx.ravel(), minlength=2)[1:]
    order = [int(n) + 1 for n in np.argsort(-sizes, kind="stable") if sizes[n] > 0]
    mask = np.zeros_like(phantom.truth_zyx)
    regions = []
    for number, label in enumerate(order, 1):
        inside = phantom.truth_zyx == label
        mask[inside] = number
        regions.append(
            Region(
                number=number,
                label=f"Infarct core {number}",
                category=_MORPHOLOGY,
                finding=_INFARCT,
                site=_BRAIN,
                laterality=Laterality(phantom.lesions[label - 1].side),
                volume_ml=float(inside.sum()) * phantom.dwi.voxel_ml,
                quantities=(Quantity(_ADC, float(phantom.adc.array_zyx[inside].mean()), _MICRO),),
                key_slice=int(inside.sum(axis=(1, 2)).argmax()),
            )
        )
    return StudyResult(
        outcome=Outcome.FOUND if regions else Outcome.NOTHING_FOUND,
        title="Acute infarct core on diffusion MR",
        finding=_INFARCT,
        site=_BRAIN,
        model=_MODEL,
        segmentation=Segmentation("dwi", mask, tuple(regions)) if regions else None,
        total_ml=total_volume_ml(regions),
        detection_limit_ml=detection_limit_ml,
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """One phantom as the network sees it, and the facts that belong to it."""

    views: npt.NDArray[np.float32]
    facts: ReportFacts


def pictures(count: int, *, seed: int, shape_zyx: tuple[int, int, int] = (20, 64, 64)) -> Iterator[Picture]:
    """Yield ``count`` phantoms. The mask is the truth, at times one voxel fatter or thinner: no model is perfect."""
    rng = random.Random(seed)
    for _ in range(count):
        phantom = random_phantom(rng, shape_zyx=shape_zyx)
        result = truth_result(phantom)
        mask = _imperfect(phantom.truth_zyx > 0, rng.choice([-1, 0, 0, 1])).astype(np.uint8)
        views = orthogonal_projections(
            {"dwi": phantom.dwi, "adc": phantom.adc}, mask, channels=CHANNELS, size=VIEW_PIXELS
        )
        yield Picture(views, ReportFacts.of(result))


def _imperfect(mask_zyx: npt.NDArray[np.bool_], step: int) -> npt.NDArray[np.bool_]:
    if step > 0:
        return ndimage.binary_dilation(mask_zyx)
    eroded = ndimage.binary_erosion(mask_zyx)
    return eroded if step < 0 and eroded.any() else mask_zyx


def with_other_figures(facts: ReportFacts, rng: random.Random) -> ReportFacts:
    """Return ``facts`` with another number of lesions and other volumes, sides kept: figures are to be copied from the
    facts, never guessed from the image."""
    limit = rng.choice([None, 10 ** rng.uniform(-2.5, 0.7)])
    if facts.outcome is not Outcome.FOUND:
        return replace(facts, detection_limit_ml=limit)
    count = rng.choice([1, 1, 2, 3, rng.randint(1, 9), rng.randint(1, 99)])
    volumes = sorted((10 ** rng.uniform(-2.5, 2.5) for _ in range(count)), reverse=True)
    if rng.random() < 0.5:
        volumes = [10 ** rng.uniform(-1, 1.5), *volumes[1:]]
        volumes.sort(reverse=True)
    lesions = tuple(Lesion(k, facts.side, v, None) for k, v in enumerate(volumes, 1))
    return replace(facts, lesions=lesions, total_ml=sum(volumes), detection_limit_ml=limit)


def without_side(facts: ReportFacts) -> ReportFacts:
    """Return ``facts`` whose side was not determined, as text and prompt then say."""
    lesions = tuple(replace(lesion, side=Laterality.UNKNOWN) for lesion in facts.lesions)
    return replace(facts, lesions=lesions, side=overall_side(x.side for x in lesions))


def with_other_volumes(result: StudyResult, rng: random.Random) -> StudyResult:
    """Return ``result`` with volumes drawn afresh, from 0.003 to 300 mL, sides and number kept."""
    if result.segmentation is None:
        return result
    volumes = sorted((10 ** rng.uniform(-2.5, 2.5) for _ in result.segmentation.regions), reverse=True)
    regions = tuple(replace(r, volume_ml=v) for r, v in zip(result.segmentation.regions, volumes, strict=True))
    segmentation = replace(result.segmentation, regions=regions)
    return replace(result, segmentation=segmentation, total_ml=sum(volumes))
