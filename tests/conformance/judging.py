"""How others' programs are asked about objects, and which of their complaints say nothing about ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_sr.checks.subject import walk
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from tests.conftest import SHARED
from tests.peers import require

# Device UID is in General Equipment and SOP Common (PS3.3 C.7.5.1, C.12-1); dciodvfy does not know it there.
KNOWN = (r"\(0x0018,0x1002\) UI Device UID", r"this is a Standard Extended SOP Class")
ENTITY_KNOWN = (r"Element=<AccessionNumber> IE <Series> versus <Study>",)

UNCERTAINTY = re.compile(r"Error: Template (1419|300) .*/\[Row \d+\] NUM \*/\[Row (9|10|13|14)\] NUM \*: ")
"""PixelMed takes every NUM below a NUM for the source measurements of TID 300 (rows 9, 10; 13, 14 of TID 1419) and wants
INFERRED FROM; a measurement uncertainty is row 5 of TID 310, HAS PROPERTIES."""


LABEL_MAPS = {
    "dciodvfy": (
        r"Error - Shall not be present for Referenced SOP Class that is not segmentation - attribute <ReferencedSegmentNumber>$",
    ),
    "dsrdump": (
        r"W: Invalid or unknown image SOP class referenced from IMAGE content item$",
        r"W: Reading invalid/incomplete content item IMAGE ",
        r"E: Reading content item (IMAGE|CONTAINER) ",
        r"F: dsrdump: error \(Invalid Value\) parsing file: ",
    ),
}
"""What dicom3tools 20260927 and DCMTK 3.6.7 say of a report that measures a segment of a label map.

Both SOP classes are of the Segmentation IOD (PS3.3 A.51), so Referenced Segment Number is required of both (PS3.3 table 10-3);
dciodvfy asks for the one class, and DCMTK 3.6.7 is older than the other.
"""


def run(*command: object) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


def complaints(text: str, pattern: str, allowed: Sequence[str]) -> list[str]:
    lines = [line for line in text.splitlines() if re.match(pattern, line)]
    return [line for line in lines if not any(re.search(known, line) for known in allowed)]


def judge() -> Path:
    path = SHARED / "conformance" / "conform.py"
    if not path.is_file():
        pytest.skip("the shared judge is not here")
    require("java")
    return path


def verdict(sources: Path | str, results: Path, *, java: bool = True) -> list[str]:
    """Failures the judge reports; without ``java`` PixelMed is left out, which takes longer than all others."""
    code, text = run(sys.executable, judge(), *([] if java else ["--no-java"]), "--src", sources, results)
    failures = [line for line in text.splitlines() if line.startswith("FAIL")]
    assert failures or code == 0, text
    return failures


def less_study_references(failures: Sequence[str], study_uid: str) -> list[str]:
    """``failures`` without the complaint about a reference that is not to an instance.

    RT structure sets refer to their study by Study Instance UID (PS3.3 C.8.8.5); the judge and dcentvfy look for an
    instance of that UID.
    """
    study = re.escape(str(study_uid))
    missing = re.compile(rf"Error - Missing SOPInstanceUID that was referenced - {study}(; |$)")
    left = [missing.sub("", line) for line in failures if not re.search(rf"rtstruct.* dangling {study}$", line)]
    return [line for line in left if line.strip() != "FAIL dcentvfy study"]


def less_label_maps(failures: Sequence[str], folder: Path) -> list[str]:
    """``failures`` without those that programs give for the class of a label map alone.

    Only what :data:`LABEL_MAPS` lists is let pass, and only where the same program has nothing at all against the same report
    once its segments are said to be of the class that the program knows.
    """
    return [failure for failure in failures if not _is_about_label_map(failure, folder)]


def _is_about_label_map(failure: str, folder: Path) -> bool:
    _, tool, file, told = failure.split(" ", 3)
    known = LABEL_MAPS.get(tool)
    if known is None or not all(any(re.match(each, part) for each in known) for part in told.split("; ")):
        return False
    disguised = folder / "disguised.dcm"
    report = dcmread(file)
    if not _disguise(report):
        return False
    report.save_as(disguised)
    if tool == "dciodvfy":
        code, text = run(require(tool), "-filename", disguised)
        return code == 0 and complaints(text, "Error|Warning", KNOWN) == []
    code, text = run(require(tool), "+Pn", disguised)
    return code == 0 and complaints(text, "[EF]:", ()) == []


def _disguise(report: Dataset) -> int:
    """Have references to label maps say they are to segmentations; how many there were."""
    references = [item for item in walk(report) if item.get("ReferencedSOPClassUID") == LABEL_MAP_SEGMENTATION]
    for item in references:
        item.ReferencedSOPClassUID = SegmentationStorage
    return len(references)


def earned_by_sources(failure: str, files: Sequence[Path]) -> bool:
    """Whether the judge's complaint is about something taken over unaltered, or about the sources among themselves."""
    if failure.startswith("FAIL dciodvfy"):
        _, alone = run(require("dciodvfy"), "-filename", files[0])
        told = failure.split(" ", 3)[-1].split("; ")
        return all(line in alone for line in told)
    if failure.startswith("FAIL dcentvfy"):
        _, alone = run(require("dcentvfy"), *files)
        lines = re.findall(r"Error - [^;]*?(?=;|$)", failure)
        return all(line[:80] in alone for line in lines)
    return False
