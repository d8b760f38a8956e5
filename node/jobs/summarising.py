"""The short form of a typed result that stays in the job's row: what lists, the console and rules of notification read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dicom_sr.moment import latest
from models.results import Quantity, StudyResult
from models.volume_range import range_ml

if TYPE_CHECKING:
    from node.jobs.assessment import Assessment


def summarise(result: StudyResult, assessment: Assessment) -> dict[str, Any]:
    """What the job row keeps of the typed result: JSON-serialisable, volumes in mL."""
    regions = result.segmentation.regions if result.segmentation else ()
    return {
        "title": result.title,
        "finding": asdict(result.finding),
        "site": asdict(result.site),
        "total_ml": result.total_ml,
        "total_range_ml": _bounds(result.totals),
        "detection_limit_ml": result.detection_limit_ml,
        "regions": [
            {
                "label": each.label,
                "volume_ml": each.volume_ml,
                "range_ml": _bounds(each.quantities),
                "laterality": each.laterality.value,
            }
            for each in regions
        ],
        "findings": [
            {
                "concept": asdict(each.concept),
                "probability": each.probability,
                "present": each.present,
                "side": each.laterality.value,
            }
            for each in result.findings
        ],
        "texts": {each.language: each.impression for each in result.drafts},
        "objections": {each.language: list(each.objections) for each in result.drafts if each.objections},
        "model": result.model.model_id,
        "model_version": result.model.version,
        "model_digest": result.model.digest,
        "provider": result.model.provider,
        "report_model": assessment.report_model.model_id if assessment.report_model else None,
        "refusal": {"code": result.refusal.code, "message": result.refusal.message} if result.refusal else None,
        "limitations": list(result.limitations),
        "acquired": latest(assessment.study.headers).date_time,
        **_history(result),
    }


def _history(result: StudyResult) -> dict[str, Any]:
    """What the result says of earlier ones; nothing where there is none."""
    said: dict[str, Any] = {}
    if (comparison := result.comparison) is not None:
        said["comparison"] = {
            "prior_study_uid": comparison.prior_study_uid,
            "prior_segmentation_uid": comparison.prior_segmentation_uid,
            "prior_ml": comparison.prior_ml,
            "current_ml": comparison.current_ml,
            "change": comparison.change.value,
            "lesions": [{"label": each.label, "change": each.change.value} for each in comparison.lesions],
        }
    if result.not_compared is not None:
        said["not_compared"] = result.not_compared.value
    if result.replaces is not None:
        said["replaces"] = {"run": result.replaces.run, "moment": result.replaces.moment}
    return said


def _bounds(quantities: Sequence[Quantity]) -> list[float] | None:
    """Smallest and largest volume that other decision thresholds would have given; None where none were tried."""
    found = range_ml(quantities)
    return None if found is None else list(found)
