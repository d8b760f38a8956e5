"""Typed results for studies of the tests, without running a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.composer import compose
from models.results import (
    CodedTerm,
    Draft,
    Finding,
    Laterality,
    Mark,
    MarkShape,
    ModelReference,
    Outcome,
    Quantity,
    RefusalReason,
    Region,
    Segmentation,
    StudyResult,
)

INFARCT = CodedTerm("55641003", "SCT", "Infarct")
BRAIN = CodedTerm("12738006", "SCT", "Brain")
ABNORMAL = CodedTerm("49755003", "SCT", "Morphologically Abnormal Structure")
VOLUME = CodedTerm("118565006", "SCT", "Volume")
MILLILITRE = CodedTerm("mL", "UCUM", "mL")
VOXEL_SUM = CodedTerm("126030", "DCM", "Sum of segmented voxel method for volume")
ADC = CodedTerm("113041", "DCM", "Apparent Diffusion Coefficient")
ADC_UNIT = CodedTerm("um2/s", "UCUM", "um2/s")
MEAN = CodedTerm("373098007", "SCT", "Mean")
MODEL = ModelReference(
    model_id="infarct-adc-baseline",
    version="1.0.0",
    name="Infarct core baseline",
    manufacturer="ainode project",
    digest="ab" * 32,
    parameters={"adc_threshold_um2_s": "620", "minimum_volume_ml": "0.2"},
)
TITLE = "Acute infarct core on diffusion MR"
LANGUAGES = ("en", "ja")


def found(mask_zyx: npt.NDArray[np.uint8], voxel_ml: float, languages: tuple[str, ...] = LANGUAGES) -> StudyResult:
    """A FOUND result whose regions are the labels of the mask, renumbered by size."""
    sizes = {int(n): int((mask_zyx == n).sum()) for n in np.unique(mask_zyx) if n}
    order = sorted(sizes, key=lambda n: (-sizes[n], n))
    mask = np.zeros_like(mask_zyx)
    for number, label in enumerate(order, start=1):
        mask[mask_zyx == label] = number
    regions = tuple(_region(mask, number, voxel_ml) for number in range(1, len(order) + 1))
    result = StudyResult(
        outcome=Outcome.FOUND,
        title=TITLE,
        finding=INFARCT,
        site=BRAIN,
        model=MODEL,
        segmentation=Segmentation("dwi", mask, regions),
        total_ml=sum(region.volume_ml for region in regions),
        detection_limit_ml=0.12,
        limitations=("baseline_not_validated",),
    )
    return with_drafts(result, languages)


def _region(mask: npt.NDArray[np.uint8], number: int, voxel_ml: float) -> Region:
    inside = mask == number
    volume = float(inside.sum() * voxel_ml)
    side = (Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL, Laterality.UNKNOWN)[(number - 1) % 4]
    quantities = (Quantity(VOLUME, volume, MILLILITRE, VOXEL_SUM), Quantity(ADC, 512.25, ADC_UNIT, MEAN))
    key_slice = int(inside.sum(axis=(1, 2)).argmax())
    return Region(number, f"Infarct core {number}", ABNORMAL, INFARCT, BRAIN, side, volume, quantities, key_slice)


def nothing_found(languages: tuple[str, ...] = LANGUAGES) -> StudyResult:
    """A NOTHING_FOUND result."""
    result = StudyResult(
        outcome=Outcome.NOTHING_FOUND,
        title=TITLE,
        finding=INFARCT,
        site=BRAIN,
        model=MODEL,
        total_ml=0.0,
        detection_limit_ml=0.12345,
    )
    return with_drafts(result, languages)


def not_assessed(code: str = "SUI-002", languages: tuple[str, ...] = LANGUAGES) -> StudyResult:
    """A NOT_ASSESSED result with its reason."""
    reason = RefusalReason(code, "signal-to-noise ratio 4.1, at least 8 needed", "Check coil and protocol.")
    result = StudyResult(
        outcome=Outcome.NOT_ASSESSED, title=TITLE, finding=INFARCT, site=BRAIN, model=MODEL, refusal=reason
    )
    return with_drafts(result, languages)


def with_drafts(result: StudyResult, languages: tuple[str, ...]) -> StudyResult:
    """The result with composed text."""
    return replace(result, drafts=tuple(compose(result, language) for language in languages))


NODULE = CodedTerm("27925004", "SCT", "Nodule")
PNEUMOTHORAX = CodedTerm("36118008", "SCT", "Pneumothorax")
EFFUSION = CodedTerm("60046008", "SCT", "Pleural effusion")
CHEST = CodedTerm("51185008", "SCT", "Thoracic structure")
LUNG = CodedTerm("39607008", "SCT", "Lung")
LENGTH = CodedTerm("103339001", "SCT", "Long Axis")
MILLIMETRE = CodedTerm("mm", "UCUM", "mm")


def marked(shape_zyx: tuple[int, int, int], role: str = "image", languages: tuple[str, ...] = LANGUAGES) -> StudyResult:
    """A FOUND result of a detector: a box, a polygon and a point, and two conditions with their probabilities."""
    depth, rows, columns = shape_zyx
    nodule = Finding(NODULE, 0.83, 0.5, True, LUNG, Laterality.RIGHT)
    length = Quantity(LENGTH, 14.25, MILLIMETRE, interval=(13.0, 16.5), interval_meaning="ensemble")
    middle, last = depth // 2, depth - 1
    y, x = rows / 4, columns / 3
    triangle = ((y, x), (2 * y, 2 * x), (3 * y, x))
    marks = (
        Mark(role, MarkShape.BOX, middle, ((y, x), (2 * y, 2 * x)), "Nodule 1", nodule, (length,)),
        Mark(role, MarkShape.POLYGON, last, triangle, "Nodule 2", nodule),
        Mark(role, MarkShape.POINT, 0, ((y + 0.25, x + 0.5),), ""),
    )
    findings = (
        Finding(PNEUMOTHORAX, 0.12, 0.35, False, CHEST),
        Finding(EFFUSION, 0.9, None, True, CHEST, Laterality.LEFT),
    )
    drafts = {
        "en": Draft("en", "Three places were marked.", "Nodules are possible."),
        "ja": Draft("ja", "3か所を検出しました。", "結節の可能性があります。"),
    }
    return StudyResult(
        outcome=Outcome.FOUND,
        title="Findings on chest images",
        finding=NODULE,
        site=LUNG,
        model=MODEL,
        marks=marks,
        findings=findings,
        drafts=tuple(drafts[language] for language in languages),
    )


def with_intervals(result: StudyResult) -> StudyResult:
    """The result with an interval around every volume."""
    assert result.segmentation is not None
    regions = [
        replace(
            region,
            quantities=tuple(
                replace(q, interval=(q.value * 0.9, q.value * 1.25), interval_meaning="threshold sweep")
                if q.name == VOLUME
                else q
                for q in region.quantities
            ),
        )
        for region in result.segmentation.regions
    ]
    return replace(result, segmentation=replace(result.segmentation, regions=tuple(regions)))
