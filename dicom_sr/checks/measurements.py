"""Measurement reports have one kind of group each, and their numbers, places and verdicts are the result's."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_sr.checks.comparison import change_numbers, comparison_problems, is_prior
from dicom_sr.checks.numbers import Numbers, Stated, child, given_numbers, same, stated_numbers
from dicom_sr.checks.places import place_problems, points_of
from dicom_sr.checks.subject import Subject, concept, walk
from dicom_sr.rendering import kind_of
from models.results import Finding, Outcome, Region

MEASUREMENT_CLASSES = frozenset({Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage})

_GROUP, _TRACKING_ID, _TRACKING_UID, _ALGORITHM = "125007", "112039", "112040", "111001"
_SEGMENT, _SEGMENT_SOURCE, _IMAGE_REGION, _SOURCE = "121191", "121233", "111030", "121112"
_FINDING, _PRESENCE, _PRESENT, _ABSENT = "121071", "121052", "52101004", "272519000"
_PROBABILITY, _VOLUME = "122157", "118565006"
_SUM_OF_VOXELS = "126030"
_MARKS, _FINDINGS = "measurements-marks", "measurements-findings"


def check_measurements(subject: Subject) -> Iterator[str]:
    """TID 1500: one SOP class, one kind of group in each report, every number with its author; then each kind."""
    reports = [(role, dataset) for role, dataset in subject.objects if kind_of(role) == "measurements"]
    if not reports:
        return
    if len({str(report.get("SOPClassUID")) for _, report in reports}) > 1:
        yield "measurements: the reports have different SOP classes"
    regions: list[tuple[str, Dataset]] = []
    for role, report in reports:
        groups = [entry for entry in walk(report) if entry.get("ValueType") == "CONTAINER" and concept(entry) == _GROUP]
        is_enhanced = report.get("SOPClassUID") == EnhancedSRStorage
        if {_template(group) for group in groups} != {_expected_template(role, subject, is_enhanced)}:
            yield f"{role}: measurement groups have the wrong template, or kinds are mixed"
        if is_enhanced and any(entry.get("ValueType") in ("SCOORD", "SCOORD3D") for entry in walk(report)):
            yield f"{role}: an Enhanced SR is written without coordinates"
        for group in groups:
            yield from _group_problems(role, group)
        if role == _MARKS:
            yield from _mark_problems(role, groups, subject)
        elif role == _FINDINGS:
            yield from _finding_problems(role, groups, subject)
        elif subject.result.outcome is Outcome.FOUND:
            regions += [(role, group) for group in groups]
        else:
            yield from _absence_problems(role, groups)
    yield from _region_problems(regions, subject)
    yield from comparison_problems(regions, subject)
    for role, given in ((_MARKS, subject.result.marks), (_FINDINGS, subject.result.findings)):
        if given and role not in dict(reports):
            yield f"{role}: the result has them and the set has not"


def _template(entry: Dataset) -> str:
    sequence = entry.get("ContentTemplateSequence")
    return str(sequence[0].get("TemplateIdentifier", "")) if sequence else ""


def _expected_template(role: str, subject: Subject, is_enhanced: bool) -> str:
    if role == _MARKS:
        return "1501" if is_enhanced else "1410"
    if role == _FINDINGS or subject.result.outcome is not Outcome.FOUND:
        return "1501"
    return "1411"


def _group_problems(role: str, group: Dataset) -> Iterator[str]:
    content = group.get("ContentSequence", [])
    if not {_TRACKING_ID, _TRACKING_UID} <= {concept(entry) for entry in content}:
        yield f"{role}: a measurement group has no tracking identifiers"
    for number in (entry for entry in content if entry.get("ValueType") == "NUM"):
        if not any(concept(entry) == _ALGORITHM for entry in walk(number)):
            yield f"{role}: a number does not name its algorithm (TID 4019)"
    if not any(concept(entry) == _ALGORITHM for entry in walk(group)):
        yield f"{role}: a measurement group names no algorithm (TID 4019)"


def _verdict(group: Dataset) -> list[str]:
    return [
        concept(entry, "ConceptCodeSequence")
        for entry in group.get("ContentSequence", [])
        if concept(entry) == _PRESENCE
    ]


def _absence_problems(role: str, groups: list[Dataset]) -> Iterator[str]:
    if [verdict for group in groups for verdict in _verdict(group)] != [_ABSENT]:
        yield f"{role}: does not state exactly once that the finding is absent"


def _finding_numbers(finding: Finding | None) -> Numbers:
    return {} if finding is None else {(_PROBABILITY, "1", ""): Stated(finding.probability)}


# Regions


def _region_problems(groups: list[tuple[str, Dataset]], subject: Subject) -> Iterator[str]:
    mask = subject.result.segmentation
    if mask is None or subject.result.outcome is not Outcome.FOUND:
        return
    if subject.source is not None and not subject.source.has_place:
        if groups:
            yield "measurements: regions on a projection are measured, where nothing tells their size"
        return
    segments = _segments(subject)
    measured: list[int] = []
    for role, group in groups:
        if not child(group, _SEGMENT) or not child(group, _SEGMENT_SOURCE):
            yield f"{role}: a TID 1411 group does not refer to its segment and source images"
            continue
        reference = child(group, _SEGMENT).ReferencedSOPSequence[0]
        if is_prior(group, subject):
            continue
        named = (str(reference.ReferencedSOPInstanceUID), int(reference.get("ReferencedSegmentNumber", 0)))
        region, tracking_uid = segments.get(named, (None, ""))
        if region is None:
            yield f"{role}: a group refers to a segment that is no region of the result"
            continue
        measured.append(region.number)
        if child(group, _TRACKING_UID).get("UID") != tracking_uid:
            yield f"{role}: tracking UID of region {region.number} differs from the segmentation's"
        if not same(stated_numbers(group), _region_numbers(region) | change_numbers(region, subject.result)):
            yield f"{role}: numbers of region {region.number} differ from the result"
    if sorted(measured) != sorted(region.number for region in mask.regions):
        yield "measurements: not exactly one group for each region"


def _region_numbers(region: Region) -> Numbers:
    given = given_numbers(region.quantities)
    if region.volume_ml is not None and not any(name == _VOLUME for name, _, _ in given):
        given[_VOLUME, "mL", _SUM_OF_VOXELS] = Stated(region.volume_ml)
    return given


def _segments(subject: Subject) -> dict[tuple[str, int], tuple[Region, str]]:
    """Region and Tracking UID by object and Segment Number; by label where each region has an object of its own."""
    mask = subject.result.segmentation
    regions = mask.regions if mask is not None else ()
    objects = [dataset for role, dataset in subject.objects if kind_of(role) == "seg"]
    found: dict[tuple[str, int], tuple[Region, str]] = {}
    for dataset in objects:
        for segment in dataset.get("SegmentSequence", []):
            number = int(segment.get("SegmentNumber", 0))
            label = str(segment.get("SegmentLabel", ""))
            match = [r for r in regions if (r.number == number if len(objects) == 1 else _label(r) == label)]
            if len(match) == 1:
                found[str(dataset.SOPInstanceUID), number] = (match[0], str(segment.get("TrackingUID", "")))
    return found


def _label(region: Region) -> str:
    """As a Segment Label (LO) can hold it."""
    return " ".join(region.label.replace("\\", "/").split())[:64].strip()


# Marks


def _mark_problems(role: str, groups: list[Dataset], subject: Subject) -> Iterator[str]:
    marks, source = subject.result.marks, subject.source
    if len(groups) != len(marks) or source is None:
        yield f"{role}: not exactly one group for each mark"
        return
    if len({str(child(group, _TRACKING_UID).get("UID")) for group in groups}) != len(groups):
        yield f"{role}: two marks have one tracking UID"
    _, rows, columns = source.volume.array_zyx.shape
    for n, (group, mark) in enumerate(zip(groups, marks, strict=True), start=1):
        frame = source.frames[mark.slice_index]
        if _image(group) != (frame.sop_instance_uid, frame.frame_number):
            yield f"{role}: mark {n} is not on its image"
        if _template(group) == "1410":
            region = child(group, _IMAGE_REGION)
            graphic = str(region.get("GraphicType")), points_of(region.get("GraphicData", []))
            yield from (f"{role}: mark {n} {words}" for words in place_problems(*graphic, mark, rows, columns))
        if not same(stated_numbers(group), given_numbers(mark.quantities) | _finding_numbers(mark.finding)):
            yield f"{role}: numbers of mark {n} differ from the result"
        yield from _verdict_problems(f"{role}: mark {n}", group, mark.finding)


def _image(group: Dataset) -> tuple[str, int | None]:
    """The one image a group refers to, by itself or through its region."""
    holder = child(group, _IMAGE_REGION) or group
    for entry in holder.get("ContentSequence", []):
        if entry.get("ValueType") == "IMAGE":
            reference = entry.ReferencedSOPSequence[0]
            number = reference.get("ReferencedFrameNumber")
            return str(reference.ReferencedSOPInstanceUID), None if number is None else int(number)
    return "", None


# Findings


def _finding_problems(role: str, groups: list[Dataset], subject: Subject) -> Iterator[str]:
    findings = subject.result.findings
    if len(groups) != len(findings):
        yield f"{role}: not exactly one group for each finding"
        return
    for n, (group, finding) in enumerate(zip(groups, findings, strict=True), start=1):
        if not same(stated_numbers(group), _finding_numbers(finding)):
            yield f"{role}: the probability of finding {n} differs from the result"
        if not child(group, _SOURCE):
            yield f"{role}: finding {n} names no image it was looked for in"
        yield from _verdict_problems(f"{role}: finding {n}", group, finding)


def _verdict_problems(what: str, group: Dataset, finding: Finding | None) -> Iterator[str]:
    if finding is None:
        return
    if concept(child(group, _FINDING), "ConceptCodeSequence") != finding.concept.value:
        yield f"{what} is another finding than the result's"
    if _verdict(group) != [_PRESENT if finding.present else _ABSENT]:
        yield f"{what} is called present or absent against the result"
    point = finding.operating_point
    if point is not None and not any(
        str(entry.get("TextValue", "")) == f"operating_point={point:.6g}" for entry in walk(group)
    ):
        yield f"{what} does not state its operating point"
