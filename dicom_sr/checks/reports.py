"""Reports are drafts, follow their template, and say what the result says."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage

from dicom_sr.checks.subject import Subject, concept, walk
from models.results import Outcome

_FLAGS = (("VerificationFlag", "UNVERIFIED"), ("PreliminaryFlag", "PRELIMINARY"), ("CompletionFlag", "COMPLETE"))
_ROOTS = {"1500": ("126000", Comprehensive3DSRStorage), "2000": ("18748-4", BasicTextSRStorage)}
_BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"
_STATUS_BANNER = "AI STATUS - NOT A REPORT"
_GROUP, _TRACKING_ID, _TRACKING_UID = "125007", "112039", "112040"
_LANGUAGE, _OBSERVER_UID, _ALGORITHM, _SEGMENT, _SEGMENT_SOURCE = "121049", "121012", "111001", "121191", "121233"
_VOLUME, _PRESENCE, _ABSENT = "118565006", "121052", "272519000"
_RELATIVE_TOLERANCE = 1e-5


def check_reports(subject: Subject) -> Iterator[str]:
    """Flags, root template, language, observer, request; then the parts of each kind."""
    for role, report in subject.reports:
        yield from (f"{role}: {keyword} is not {value}" for keyword, value in _FLAGS if report.get(keyword) != value)
        for keyword in ("VerifyingObserverSequence", "VerificationDateTime"):
            if keyword in report:
                yield f"{role}: {keyword} claims a physician's review"
        if not report.get("ReferencedRequestSequence"):
            yield f"{role}: no Referenced Request Sequence"
        template = _template(report)
        title, sop_class = _ROOTS.get(template, ("", ""))
        if concept(report) != title or report.get("SOPClassUID") != sop_class:
            yield f"{role}: title, SOP class and template {template or '(none)'} do not belong together"
        names = {concept(entry) for entry in report.get("ContentSequence", [])}
        for needed, what in ((_LANGUAGE, "language"), (_OBSERVER_UID, "device observer UID")):
            if needed not in names:
                yield f"{role}: content names no {what}"
        if template == "1500":
            yield from _measurement_problems(role, report, subject)
        else:
            yield from _text_problems(role, report, subject)


def _template(entry: Dataset) -> str:
    sequence = entry.get("ContentTemplateSequence")
    return str(sequence[0].get("TemplateIdentifier", "")) if sequence else ""


def _groups(report: Dataset) -> list[Dataset]:
    return [entry for entry in walk(report) if entry.get("ValueType") == "CONTAINER" and concept(entry) == _GROUP]


def _measurement_problems(role: str, report: Dataset, subject: Subject) -> Iterator[str]:
    groups = _groups(report)
    found = subject.result.outcome is Outcome.FOUND
    if {_template(group) for group in groups} != ({"1411"} if found else {"1501"}):
        yield f"{role}: measurement groups have the wrong template, or kinds are mixed"
    for group in groups:
        children = {concept(entry): entry for entry in group.get("ContentSequence", [])}
        if not {_TRACKING_ID, _TRACKING_UID} <= set(children):
            yield f"{role}: a measurement group has no tracking identifiers"
        numbers = [entry for entry in group.get("ContentSequence", []) if entry.get("ValueType") == "NUM"]
        for number in numbers:
            if not any(concept(entry) == _ALGORITHM for entry in walk(number)):
                yield f"{role}: a number does not name its algorithm (TID 4019)"
        if not any(concept(entry) == _ALGORITHM for entry in walk(group)):
            yield f"{role}: a measurement group names no algorithm (TID 4019)"
    yield from _region_problems(role, groups, subject) if found else _absence_problems(role, groups)


def _absence_problems(role: str, groups: list[Dataset]) -> Iterator[str]:
    stated = [
        concept(entry, "ConceptCodeSequence")
        for group in groups
        for entry in group.get("ContentSequence", [])
        if concept(entry) == _PRESENCE
    ]
    if stated != [_ABSENT]:
        yield f"{role}: does not state exactly once that the finding is absent"


def _region_problems(role: str, groups: list[Dataset], subject: Subject) -> Iterator[str]:
    mask = subject.result.segmentation
    segments = _segments(subject)
    if not segments or mask is None:
        yield f"{role}: measures regions without a segmentation"
        return
    volumes: dict[int, float] = {}
    for group in groups:
        children = {concept(entry): entry for entry in group.get("ContentSequence", [])}
        if not {_SEGMENT, _SEGMENT_SOURCE} <= set(children):
            yield f"{role}: a TID 1411 group does not refer to its segment and source images"
            continue
        reference = children[_SEGMENT].ReferencedSOPSequence[0]
        place = (str(reference.get("ReferencedSOPInstanceUID")), int(reference.get("ReferencedSegmentNumber", 0)))
        number, tracking_uid = segments.get(place, (0, None))
        volumes[number] = _value(children.get(_VOLUME))
        if _TRACKING_UID in children and children[_TRACKING_UID].get("UID") != tracking_uid:
            yield f"{role}: tracking UID of segment {number} differs from the segmentation's"
    expected = {region.number: region.volume_ml for region in mask.regions}
    if set(volumes) != set(expected) or len(groups) != len(expected):
        yield f"{role}: not exactly one group for each region"
    for number in set(volumes) & set(expected):
        if not math.isclose(volumes[number], expected[number], rel_tol=_RELATIVE_TOLERANCE, abs_tol=1e-9):
            yield f"{role}: volume of region {number} differs from the result"


def _segments(subject: Subject) -> dict[tuple[str, int], tuple[int, str]]:
    """Instance and Segment Number → region number and Tracking UID, over all segmentations of the set."""
    return {
        (str(dataset.get("SOPInstanceUID")), int(segment.get("SegmentNumber", -1))): (
            subject.segment_regions(role).get(int(segment.get("SegmentNumber", -1)), 0),
            str(segment.get("TrackingUID")),
        )
        for role, dataset in subject.of_kind("seg")
        for segment in dataset.get("SegmentSequence", [])
    }


def _value(number: Dataset | None) -> float:
    measured = number.get("MeasuredValueSequence") if number is not None else None
    return float(measured[0].NumericValue) if measured else math.nan


def _letters(text: str) -> str:
    """Without white space and control characters, which line endings and viewers change."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())


def _text_problems(role: str, report: Dataset, subject: Subject) -> Iterator[str]:
    texts = [str(entry.get("TextValue", "")) for entry in walk(report) if concept(entry) in ("121071", "121073")]
    is_status = subject.result.outcome is Outcome.NOT_ASSESSED
    banner = _STATUS_BANNER if is_status else _BANNER
    if len(texts) != 2 or not all(text.startswith(banner) for text in texts):
        yield f"{role}: a text does not begin with the warning"
    everything = "\n".join(texts)
    model = subject.result.model
    if model.digest[:12] not in everything or model.version not in everything:
        yield f"{role}: the text does not name the model"
    language = next((c for c in report.get("ContentSequence", []) if concept(c) == _LANGUAGE), Dataset())
    spoken = concept(language, "ConceptCodeSequence")
    draft = next((d for d in subject.result.drafts if d.language == spoken), None)
    if draft is not None:
        if _letters(draft.findings) not in _letters(everything) or _letters(draft.impression) not in _letters(
            texts[-1]
        ):
            yield f"{role}: the text is not the draft's in language {spoken}"
    elif not is_status:
        yield f"{role}: no draft is in language {spoken}"
    refusal = subject.result.refusal
    if is_status and refusal is not None and refusal.code not in everything:
        yield f"{role}: the reason code is not in the text"
