"""The check before sending must notice what can go wrong with pictures and PDF reports: each fault has to be caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.document import RenderedObject
from dicom_sr.errors import ObjectInvalid
from tests.unit.dicom_sr_objects.cases import Case

Objects = dict[str, Dataset]
Fault = Callable[[Objects, Case], None]
FAULTS: dict[str, Fault] = {}
KINDS = ("secondary_capture", "summary", "pdf")


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def pixels(dataset: Dataset) -> np.ndarray:
    """A copy of the frames, shape (frames, rows, columns, 3)."""
    shape = (int(dataset.get("NumberOfFrames", 1)), dataset.Rows, dataset.Columns, 3)
    return np.frombuffer(dataset.PixelData, np.uint8, int(np.prod(shape))).reshape(shape).copy()


def repaint(dataset: Dataset, frames: np.ndarray) -> None:
    content = np.ascontiguousarray(frames).tobytes()
    dataset.PixelData = content + b"\x00" * (len(content) % 2)


def head(frames: np.ndarray) -> int:
    """Rows of the warning."""
    return int((frames[0, :, 0] != frames[0, 0, 0]).any(axis=1).argmax())


@fault
def warning_painted_over(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    frames[-1, : head(frames)] = 0
    repaint(objects["secondary_capture"], frames)


@fault
def warning_of_the_summary_erased(objects: Objects, case: Case) -> None:
    frames = pixels(objects["summary"])
    frames[0, :20, 40:300] = frames[0, 0, 0]
    repaint(objects["summary"], frames)


@fault
def picture_mirrored(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    top = head(frames)
    frames[0, top : top + 512] = frames[0, top : top + 512, ::-1]
    repaint(objects["secondary_capture"], frames)


@fault
def picture_upside_down(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    top = head(frames)
    frames[1, top : top + 512] = frames[1, top : top + 512][::-1]
    repaint(objects["secondary_capture"], frames)


@fault
def picture_moved(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    top = head(frames)
    frames[:, top : top + 512] = np.roll(frames[:, top : top + 512], 25, axis=2)
    repaint(objects["secondary_capture"], frames)


@fault
def outlines_lost(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    top = head(frames)
    square = frames[:, top : top + 512]
    square[:] = square.min(axis=3, keepdims=True)
    repaint(objects["secondary_capture"], frames)


@fault
def summary_mirrored(objects: Objects, case: Case) -> None:
    frames = pixels(objects["summary"])
    frames[0, -330:] = frames[0, -330:, ::-1]
    repaint(objects["summary"], frames)


@fault
def frames_in_another_order(objects: Objects, case: Case) -> None:
    frames = pixels(objects["secondary_capture"])
    repaint(objects["secondary_capture"], frames[::-1])


@fault
def sources_in_another_order(objects: Objects, case: Case) -> None:
    sources = objects["secondary_capture"].SourceImageSequence
    objects["secondary_capture"].SourceImageSequence = list(sources)[1:] + list(sources)[:1]


@fault
def source_missing(objects: Objects, case: Case) -> None:
    objects["secondary_capture"].SourceImageSequence = list(objects["secondary_capture"].SourceImageSequence)[1:]


@fault
def pixels_truncated(objects: Objects, case: Case) -> None:
    objects["summary"].PixelData = objects["summary"].PixelData[:-6]


@fault
def rows_and_columns_exchanged(objects: Objects, case: Case) -> None:
    dataset = objects["summary"]
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


@fault
def colour_model_wrong(objects: Objects, case: Case) -> None:
    objects["secondary_capture"].PhotometricInterpretation = "YBR_FULL"


@fault
def colours_by_plane(objects: Objects, case: Case) -> None:
    objects["secondary_capture"].PlanarConfiguration = 1


@fault
def claimed_to_be_free_of_identity(objects: Objects, case: Case) -> None:
    objects["secondary_capture"].BurnedInAnnotation = "NO"


@fault
def called_original(objects: Objects, case: Case) -> None:
    objects["summary"].ImageType = ["ORIGINAL", "PRIMARY"]


@fault
def frames_not_numbered(objects: Objects, case: Case) -> None:
    objects["secondary_capture"].PageNumberVector = [1] * int(objects["secondary_capture"].NumberOfFrames)


@fault
def capture_class_of_a_summary(objects: Objects, case: Case) -> None:
    objects["summary"].SOPClassUID = objects["secondary_capture"].SOPClassUID


@fault
def dangling_source(objects: Objects, case: Case) -> None:
    objects["pdf-en"].SourceInstanceSequence[0].ReferencedSOPInstanceUID = "2.25.9"


@fault
def sources_of_the_report_incomplete(objects: Objects, case: Case) -> None:
    objects["pdf-en"].SourceInstanceSequence = list(objects["pdf-en"].SourceInstanceSequence)[1:]


@fault
def report_verified(objects: Objects, case: Case) -> None:
    objects["pdf-en"].VerificationFlag = "VERIFIED"


@fault
def report_of_another_type(objects: Objects, case: Case) -> None:
    objects["pdf-ja"].MIMETypeOfEncapsulatedDocument = "text/plain"


@fault
def report_without_title(objects: Objects, case: Case) -> None:
    objects["pdf-en"].DocumentTitle = ""


@fault
def report_truncated(objects: Objects, case: Case) -> None:
    objects["pdf-en"].EncapsulatedDocument = objects["pdf-en"].EncapsulatedDocument[:20_000]


@fault
def report_is_no_pdf(objects: Objects, case: Case) -> None:
    objects["pdf-en"].EncapsulatedDocument = b"<html>" + objects["pdf-en"].EncapsulatedDocument[6:]


@fault
def reports_exchanged(objects: Objects, case: Case) -> None:
    english, japanese = objects["pdf-en"], objects["pdf-ja"]
    for keyword in ("EncapsulatedDocument", "EncapsulatedDocumentLength"):
        ours, theirs = english[keyword].value, japanese[keyword].value
        setattr(english, keyword, theirs)
        setattr(japanese, keyword, ours)


class Touched(dict[str, Dataset]):
    """Copies of those objects that a fault reaches for; only they are checked."""

    def __init__(self, good: Sequence[RenderedObject]) -> None:
        self._good = {rendered.role: rendered.dataset for rendered in good}

    def __missing__(self, role: str) -> Dataset:
        self[role] = deepcopy(self._good[role])
        return self[role]


@pytest.fixture(scope="module")
def good(case: Case) -> list[RenderedObject]:
    rendered = case.rendered(objects=KINDS)
    check(rendered, case.study, case.result, case.source)
    return rendered


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, good: list[RenderedObject], case: Case) -> None:
    touched = Touched(good)
    FAULTS[name](touched, case)
    broken = [RenderedObject(role, dataset) for role, dataset in touched.items()]
    with pytest.raises(ObjectInvalid) as caught:
        check(broken, case.study, case.result, case.source)
    assert str(case.source.header.PatientName) not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_of_another_mask_are_caught(kind: str, case: Case) -> None:
    assert case.result.segmentation is not None
    moved = np.roll(case.result.segmentation.mask_zyx, 3, axis=2)
    other = replace(case.result, segmentation=replace(case.result.segmentation, mask_zyx=moved))
    rendered = case.rendered(other, objects=(kind,))
    with pytest.raises(ObjectInvalid) as caught:
        check(rendered, case.study, case.result, case.source)
    assert "does not outline region 1" in str(caught.value.detail["problems"])
