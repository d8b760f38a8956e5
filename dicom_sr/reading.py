"""A structured report as plain text that a person can read."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

_INDENT = "  "


def report_text(report: Dataset) -> str:
    """Return the content tree of a structured report as indented lines.

    Parameters
    ----------
    report : pydicom.dataset.Dataset
        Any SR document (PS3.3 C.17.3): a root container with Content Sequence.

    Returns
    -------
    str
        Title, flags, then one line for each content item: concept, value and unit. References to images are
        counted, not listed; text keeps its line breaks.
    """
    title = _meaning(report, "ConceptNameCodeSequence") or "Structured report"
    flags = ", ".join(
        str(report.get(name, "")).lower()
        for name in ("CompletionFlag", "PreliminaryFlag", "VerificationFlag")
        if name in report
    )
    lines = [title, f"({flags})", ""]
    lines += _items(report, 0)
    return "\n".join(lines) + "\n"


def _items(container: Dataset, depth: int) -> Iterator[str]:
    images = 0
    for item in container.get("ContentSequence", []):
        if item.get("ValueType") in ("IMAGE", "COMPOSITE"):
            images += 1
            continue
        yield from _item(item, depth)
    if images:
        yield f"{_INDENT * depth}[{images} image{'s' if images > 1 else ''} referenced]"


def _item(item: Dataset, depth: int) -> Iterator[str]:
    name = _meaning(item, "ConceptNameCodeSequence")
    if item.get("ValueType") == "CONTAINER":
        yield f"{_INDENT * depth}{name}"
    else:
        first, *others = _value(item).splitlines() or [""]
        yield f"{_INDENT * depth}{name}: {first}"
        yield from (f"{_INDENT * (depth + 1)}{line}" for line in others)
    yield from _items(item, depth + 1)


def _value(item: Dataset) -> str:
    match item.get("ValueType"):
        case "NUM":
            if not item.get("MeasuredValueSequence"):
                return "not measured"
            measured = item.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
            return f"{measured.NumericValue}{'' if unit == '1' else f' {unit}'}"
        case "CODE":
            return _meaning(item, "ConceptCodeSequence")
        case "TEXT":
            return str(item.get("TextValue", ""))
        case "UIDREF":
            return str(item.get("UID", ""))
        case "PNAME":
            return str(item.get("PersonName", ""))
        case "DATE" | "TIME" | "DATETIME" as kind:
            return str(item.get({"DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}[kind], ""))
        case other:
            return f"[{other}]"


def _meaning(item: Dataset, keyword: str) -> str:
    sequence = item.get(keyword)
    return str(sequence[0].CodeMeaning) if sequence else ""
