"""Structured reports as nested lines a person can read (PS3.3 C.17.3). Values stay text: whoever shows them escapes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from dicom_sr.pixels import READ_ERRORS

_DEEPEST = 32
_MOST_ITEMS = 5000
_CUT = "… the rest of this report is not shown"


@dataclass(frozen=True, slots=True)
class Line:
    """One content item.

    Attributes
    ----------
    name : str
        Meaning of its concept name; empty where it has none.
    value : str
    images : tuple of tuple
        (SOP Instance UID, frame from 1) of images it refers to; items of one name that follow each other are one line.
    children : tuple of Line
    """

    name: str
    value: str = ""
    kind: str = ""
    images: tuple[tuple[str, int], ...] = ()
    children: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A structured report.

    Attributes
    ----------
    flags : tuple of str
        Completion, verification and preliminary flag.
    verified : bool
        Somebody has signed it.
    """

    sop_instance_uid: str
    title: str
    description: str
    language: str
    flags: tuple[str, ...]
    verified: bool
    lines: tuple[Line, ...]


def report_of(dataset: Dataset) -> Report | None:
    """A structured report from its data set; None where it is none that can be read."""
    if "ContentSequence" not in dataset:
        return None
    budget = _Budget(_MOST_ITEMS)
    try:
        lines = _together(_lines(dataset, budget, 0))
        return Report(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            title=_meaning(dataset, "ConceptNameCodeSequence") or "Report",
            description=str(dataset.get("SeriesDescription") or ""),
            language=next((line.value for line in lines if line.kind == "CODE" and "Language" in line.name), ""),
            flags=tuple(
                str(dataset.get(keyword))
                for keyword in ("CompletionFlag", "VerificationFlag", "PreliminaryFlag")
                if dataset.get(keyword)
            ),
            verified=dataset.get("VerificationFlag") == "VERIFIED",
            lines=lines,
        )
    except READ_ERRORS:
        return None


class _Budget:
    """How many more items are read of a report, which may be anybody's."""

    def __init__(self, items: int) -> None:
        self.left = items


def _lines(parent: Dataset, budget: _Budget, depth: int) -> Iterator[Line]:
    for item in parent.get("ContentSequence") or ():
        budget.left -= 1
        if budget.left == 0 or depth == _DEEPEST:
            yield Line("", _CUT)
        if budget.left <= 0 or depth >= _DEEPEST:
            return
        yield _line(item, budget, depth)


def _line(item: Dataset, budget: _Budget, depth: int) -> Line:
    kind = str(item.get("ValueType") or "")
    return Line(
        name=_meaning(item, "ConceptNameCodeSequence"),
        value=_value(item, kind),
        kind=kind,
        images=(_image(item),) if kind == "IMAGE" and not _segment(item) else (),
        children=_together(_lines(item, budget, depth + 1)),
    )


def _together(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Images of one name that follow each other as one line."""
    made: list[Line] = []
    for line in lines:
        last = made[-1] if made else None
        if (
            last is not None
            and line.images
            and last.images
            and (last.name, last.children) == (line.name, line.children)
        ):
            made[-1] = replace(last, images=last.images + line.images)
        else:
            made.append(line)
    return tuple(made)


def _value(item: Dataset, kind: str) -> str:
    if kind == "NUM":
        return _measured(item)
    if kind in ("IMAGE", "COMPOSITE"):
        uid, frame = _image(item)
        return _segment(item) or (f"{uid}, frame {frame}" if frame > 1 else uid)
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind in ("SCOORD", "SCOORD3D"):
        points = item.get("GraphicData") or []
        return f"{str(item.get('GraphicType') or '').lower()}, {len(points) // (2 if kind == 'SCOORD' else 3)} points"
    keyword = {"TEXT": "TextValue", "UIDREF": "UID", "DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}.get(kind)
    if kind == "PNAME":
        return str(PersonName(str(item.get("PersonName") or ""))).replace("^", " ").strip()
    if "ReferencedContentItemIdentifier" in item:
        return "see another item of this report"
    return str(item.get(keyword) or "") if keyword else ""


def _measured(item: Dataset) -> str:
    values = item.get("MeasuredValueSequence")
    if not values:
        return _meaning(item, "NumericValueQualifierCodeSequence") or "no value"
    number = str(values[0].get("NumericValue") if values[0].get("NumericValue") is not None else "")
    unit = _code(values[0], "MeasurementUnitsCodeSequence")
    return number if unit in ("1", "") else f"{number} {unit}"


def _image(item: Dataset) -> tuple[str, int]:
    references = item.get("ReferencedSOPSequence")
    if not references:
        return "", 1
    frames = references[0].get("ReferencedFrameNumber")
    first = frames if frames is None or isinstance(frames, int | str) else frames[0]
    return str(references[0].get("ReferencedSOPInstanceUID") or ""), int(first or 1)


def _segment(item: Dataset) -> str:
    """Segments of a segmentation that an item refers to; empty where it refers to an image."""
    references = item.get("ReferencedSOPSequence")
    numbers = references[0].get("ReferencedSegmentNumber") if references else None
    if numbers is None:
        return ""
    several = [numbers] if isinstance(numbers, int | str) else list(numbers)
    return f"segment {', '.join(str(each) for each in several)}"


def _meaning(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword)
    return str(codes[0].get("CodeMeaning") or codes[0].get("CodeValue") or "") if codes else ""


def _code(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword)
    return str(codes[0].get("CodeValue") or "") if codes else ""
