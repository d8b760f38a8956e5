"""What came back from the PACS, under readable names."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, SegmentationStorage

from demo.scene import study_files
from dicom_sr.reading import report_text


@dataclass(frozen=True, slots=True)
class ReturnedObject:
    """One result object, copied to ``path``. ``source_series`` is the series a segmentation lies on."""

    path: Path
    title: str
    text: str
    is_segmentation: bool
    source_series: str | None


def read_objects(pacs: Path, out: Path) -> list[ReturnedObject]:
    """Copy every object the test PACS holds to ``out`` as ``seg.dcm``, ``measurements.dcm`` … and read it."""
    seen: Counter[str] = Counter()
    found = []
    for source in study_files(pacs):
        dataset = dcmread(source)
        name = _name(dataset)
        seen[name] += 1
        target = out / (f"{name}.dcm" if seen[name] == 1 else f"{name}-{seen[name]}.dcm")
        shutil.copyfile(source, target)
        is_segmentation = dataset.SOPClassUID == SegmentationStorage
        found.append(
            ReturnedObject(
                target,
                f"{dataset.SOPClassUID.name}: {dataset.get('SeriesDescription', '')}",
                "" if is_segmentation else report_text(dataset),
                is_segmentation,
                str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID) if is_segmentation else None,
            )
        )
    return sorted(found, key=lambda each: each.path.name)


def readable_report(objects: list[ReturnedObject]) -> str:
    """The drafts first, then the measurements."""
    texts = sorted(
        (each for each in objects if each.text),
        key=lambda each: (not each.path.name.startswith(("text", "status")), each.path.name),
    )
    return "\n".join(each.text for each in texts)


def _name(dataset: Dataset) -> str:
    """The role of an object, as `ainode process` names its files."""
    if dataset.SOPClassUID == SegmentationStorage:
        return "seg"
    if dataset.SOPClassUID != BasicTextSRStorage:
        return "measurements"
    kind = "text" if "draft" in str(dataset.get("SeriesDescription", "")) else "status"
    return f"{kind}-{_language(dataset)}"


def _language(report: Dataset) -> str:
    codes = (item.ConceptCodeSequence[0].CodeValue for item in report.ContentSequence if item.ValueType == "CODE")
    return next((str(code) for code in codes if code in ("en", "en-US", "ja", "ja-JP")), "en")[:2]
