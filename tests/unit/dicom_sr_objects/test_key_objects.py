"""Key object selections, and status objects that say in code what they say in words."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr import codes
from dicom_sr.check import check
from dicom_sr.composite import Place
from dicom_sr.key_images import SELECTED
from dicom_sr.key_objects import KeyObject, render_key_objects
from dicom_sr.rendering import RenderedObject
from dicom_sr.source_header import normalise
from dicom_sr.status_report import render_superseded
from models.results import Mark, MarkShape
from tests.generators.results import MODEL, marked, not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context
from tests.unit.dicom_sr_objects.test_check_faults import child


def conclusions(report: Dataset) -> list[str]:
    return [
        str(c.ConceptCodeSequence[0].CodeValue)
        for c in child(report, "59776-5").ContentSequence
        if c.ValueType == "CODE"
    ]


def read(rendered: RenderedObject) -> Dataset:
    return dcmread(BytesIO(rendered.encoded))


def test_images_are_named_as_images_and_documents_as_composites(case: Case) -> None:
    header = normalise(case.study, case.source)
    sr = KeyObject("1.2.840.10008.5.1.4.1.1.88.34", "2.25.1", "2.25.2", header.study_uid)
    seg = KeyObject("1.2.840.10008.5.1.4.1.1.66.4", "2.25.3", "2.25.4", header.study_uid)
    image = KeyObject.of(case.source.header)
    made = render_key_objects(
        [sr, seg, image],
        header,
        context(),
        title=codes.REJECTED_FOR_QUALITY_REASONS,
        modifiers=[codes.OTHER_FAILURE],
        note="Replaced.",
        place=Place("rejection", 5, 1, "AI: rejected"),
        models=[MODEL],
        role="key_objects-rejection",
    )
    written = read(RenderedObject("key_objects-rejection", made))
    references = [c for c in written.ContentSequence if "ReferencedSOPSequence" in c]
    assert [c.ValueType for c in references] == ["COMPOSITE", "IMAGE", "IMAGE"]
    assert not any("ConceptNameCodeSequence" in c for c in references)
    assert written.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert written.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "111220"
    (evidence,) = written.CurrentRequestedProcedureEvidenceSequence
    assert [s.SeriesInstanceUID for s in evidence.ReferencedSeriesSequence] == ["2.25.2", "2.25.4", image.series_uid]


def test_nothing_cannot_be_selected(case: Case) -> None:
    header = normalise(case.study, case.source)
    with pytest.raises(ValueError, match="at least one"):
        render_key_objects(
            [], header, context(), title=codes.OF_INTEREST, note="", place=Place("k", 4, 1, "k"), models=[]
        )


def test_frames_of_one_image_are_one_reference_and_many_are_not_all_selected(enhanced: Case) -> None:
    depth = enhanced.source.volume.array_zyx.shape[0]
    points = [Mark("image", MarkShape.POINT, k % depth, ((3.0, 3.0),), f"{k}") for k in range(depth)]
    result = replace(marked(enhanced.source.volume.array_zyx.shape), marks=tuple(points))
    (rendered,) = enhanced.rendered(result, objects=("key_objects",))
    check([rendered], enhanced.study, result, enhanced.source)
    (reference,) = (c for c in read(rendered).ContentSequence if "ReferencedSOPSequence" in c)
    assert len(reference.ReferencedSOPSequence[0].ReferencedFrameNumber) == min(depth, SELECTED)


def test_a_negative_run_and_one_that_did_not_happen_differ_in_code(case: Case) -> None:
    negative, refused = nothing_found(), not_assessed()
    (said, _) = case.rendered(negative, objects=("status",))
    check([said], case.study, negative, case.source)
    assert conclusions(read(said)) == ["111241"]
    assert read(said).SeriesDescription == "AI: nothing found"
    (not_run, _) = case.rendered(refused)
    assert conclusions(read(not_run)) == ["111245"]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_superseded_result_says_what_changed(language: str, case: Case) -> None:
    header = normalise(case.study, case.source)
    made = render_superseded(
        case.result, language, header, context(), position=0, change="12 → 14 mL", replaced=["seg: 2.25.7"]
    )
    rendered = RenderedObject("status-superseded", made)
    check([rendered], case.study, case.result, case.source)
    written = read(rendered)
    assert conclusions(written) == ["121360"]
    text = child(child(written, "59776-5"), "121071").TextValue
    assert text.startswith("AI STATUS - NOT A REPORT")
    assert "12 → 14 mL" in text
    assert "seg: 2.25.7" in text


def test_a_title_of_the_destinations_own_stands_below_the_warning(case: Case) -> None:
    first, *_ = case.rendered(objects=("text",), text_title="Erstbefund KI")
    written = read(first)
    lines = child(child(written, "59776-5"), "121071").TextValue.splitlines()
    assert written.SeriesDescription == lines[1] == "Erstbefund KI"
    assert lines[0].startswith("AI DRAFT - NOT REVIEWED")
