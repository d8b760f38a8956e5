"""Typed results for report tests, without any image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.results import (
    CodedTerm,
    Laterality,
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
MORPHOLOGY = CodedTerm("49755003", "SCT", "Morphologically Altered Structure")
ADC = CodedTerm("113041", "DCM", "Apparent Diffusion Coefficient")
MICRO = CodedTerm("um2/s", "UCUM", "um2/s")
MODEL = ModelReference("infarct-adc-baseline", "1.0.0", "Infarct ADC baseline", "test", "ab" * 32)

Lesions = Sequence[tuple[float, str, float | None]]


def found(lesions: Lesions, *, limit: float | None = 0.05, threshold: float | None = 0.05) -> StudyResult:
    """A FOUND result with ``(volume_ml, side, mean ADC)`` for each lesion, largest first."""
    regions = tuple(
        Region(
            number=number,
            label=f"Infarct core {number}",
            category=MORPHOLOGY,
            finding=INFARCT,
            site=BRAIN,
            laterality=Laterality(side),
            volume_ml=volume,
            quantities=() if adc is None else (Quantity(ADC, adc, MICRO),),
            key_slice=0,
        )
        for number, (volume, side, adc) in enumerate(lesions, 1)
    )
    return StudyResult(
        outcome=Outcome.FOUND,
        title="Acute infarct core on diffusion MR",
        finding=INFARCT,
        site=BRAIN,
        model=MODEL,
        segmentation=Segmentation("dwi", np.zeros((2, 2, 2), np.uint8), regions),
        total_ml=sum(volume for volume, _, _ in lesions),
        detection_limit_ml=limit,
        evidence={} if threshold is None else {"reporting_threshold_ml": threshold},
        limitations=("baseline_not_validated",),
    )


def nothing_found(limit: float | None = 0.12, threshold: float | None = 0.05) -> StudyResult:
    """A NOTHING_FOUND result."""
    return StudyResult(
        outcome=Outcome.NOTHING_FOUND,
        title="Acute infarct core on diffusion MR",
        finding=INFARCT,
        site=BRAIN,
        model=MODEL,
        total_ml=0.0,
        detection_limit_ml=limit,
        evidence={} if threshold is None else {"reporting_threshold_ml": threshold},
        limitations=("baseline_not_validated", "subacute_missed"),
    )


def not_assessed(code: str = "SUI-002", message: str = "Signal-to-noise is 3.1, needed are 8.") -> StudyResult:
    """A NOT_ASSESSED result."""
    return StudyResult(
        outcome=Outcome.NOT_ASSESSED,
        title="Acute infarct core on diffusion MR",
        finding=INFARCT,
        site=BRAIN,
        model=MODEL,
        refusal=RefusalReason(code, message, "Check coil and protocol; the study is to be read without AI."),
    )
