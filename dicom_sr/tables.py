"""Figures of a result as rows of text, for pictures and PDF reports."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_sr.pictures.words import Words
from models.report_facts import ADC_CODE, format_adc, format_ml, mean_adc_um2_s
from models.results import Change, CodedTerm, Comparison, Finding, Quantity, Region, StudyResult

Table = list[list[str]]
"""Rows of cells, the heading first."""

_VOLUME = "118565006"
_ADC_UNIT = "10^-6 mm²/s"


def tables(result: StudyResult, words: Words) -> list[Table]:
    """Regions, conditions with their probabilities, and the comparison with the earlier study: those the result has."""
    found = []
    if result.segmentation is not None and result.segmentation.regions:
        found.append(_regions(result, result.segmentation.regions, words))
    findings = [*result.findings, *(mark.finding for mark in result.marks if mark.finding is not None)]
    if findings:
        found.append(_findings(findings, words))
    return found


def _regions(result: StudyResult, regions: Sequence[Region], words: Words) -> Table:
    """One row for each region, largest first, then the total."""
    names = {q.name.value: q for region in regions for q in region.quantities if q.name.value != _VOLUME}
    changes = _changes(result.comparison)
    heading = [words.number, words.finding, words.side, f"{words.terms[_VOLUME]} [mL]"]
    heading += [_heading(q, words) for q in names.values()]
    rows = [heading + ([words.change] if changes else [])]
    for region in regions:
        row = [str(region.number), _term(region.finding, words), words.sides[region.laterality]]
        row.append("" if region.volume_ml is None else format_ml(region.volume_ml))
        row += [_value(region, code) for code in names]
        if changes:
            tracked = region.tracking.uid if region.tracking else ""
            row.append(words.changes[changes[tracked]] if tracked in changes else "")
        rows.append(row)
    if result.total_ml is not None and len(regions) > 1:
        rows.append([words.total, "", "", format_ml(result.total_ml), *[""] * (len(rows[0]) - 4)])
    return rows


def _changes(comparison: Comparison | None) -> dict[str, Change]:
    return {} if comparison is None else {lesion.tracking.uid: lesion.change for lesion in comparison.lesions}


def _term(term: CodedTerm, words: Words) -> str:
    return words.terms.get(term.value, term.meaning)


def _heading(quantity: Quantity, words: Words) -> str:
    unit = _ADC_UNIT if quantity.name.value == ADC_CODE else quantity.unit.value
    name = words.terms.get(quantity.name.value, quantity.name.meaning)
    return name if unit == "1" else f"{name} [{unit}]"


def _value(region: Region, code: str) -> str:
    quantity = next((q for q in region.quantities if q.name.value == code), None)
    if quantity is None:
        return ""
    adc = mean_adc_um2_s([quantity]) if code == ADC_CODE else None
    return f"{quantity.value:.4g}" if adc is None else format_adc(adc)


def _findings(findings: Sequence[Finding], words: Words) -> Table:
    rows = [[words.finding, words.side, words.probability, words.operating_point, words.decision]]
    for finding in findings:
        least = "" if finding.operating_point is None else f"{finding.operating_point:.2f}"
        said = words.present if finding.present else words.absent
        side = words.sides[finding.laterality]
        rows.append([_term(finding.concept, words), side, f"{finding.probability:.2f}", least, said])
    return rows
