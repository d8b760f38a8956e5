"""Which objects a result becomes, and what they say."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.checks.subject import walk
from dicom_sr.document import render
from dicom_sr.errors import ObjectInvalid
from dicom_sr.requested import RequestedCode, RequestedProcedure
from models.phantom import LesionSpec, make_phantom
from models.remedies import remedies
from models.results import Draft, ModelReference, Outcome, Quantity, StudyResult
from tests.generators.results import ADC, ADC_UNIT, MODEL, found, not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, blocks, context, trace_of


def objects_of(case: Case, result: StudyResult, **changes: object) -> dict[str, Dataset]:
    source = None if result.outcome is Outcome.NOT_ASSESSED else case.source
    objects = render(result, case.study, context(**changes), source)
    check(objects, case.study, result, source)
    return {o.role: dcmread(BytesIO(o.encoded)) for o in objects}


def texts(report: Dataset) -> list[str]:
    """Text of findings and impression."""
    sections = [c for c in report.ContentSequence if c.ValueType == "CONTAINER"]
    return [str(entry.TextValue) for section in sections for entry in section.ContentSequence if "TextValue" in entry]


@pytest.mark.parametrize(
    ("result", "wanted", "roles"),
    [
        ("found", ("seg", "measurements", "text", "status"), ["seg", "measurements", "text-en", "text-ja"]),
        ("found", ("text",), ["text-en", "text-ja"]),
        ("found", ("measurements",), ["seg", "measurements"]),
        ("found", ("status",), ["text-en", "text-ja"]),
        ("nothing", ("seg", "measurements", "text"), ["measurements", "text-en", "text-ja"]),
        ("nothing", ("seg",), ["status", "status-ja"]),
        ("nothing", ("seg", "status"), ["status", "status-ja"]),
        ("nothing", ("text", "status"), ["text-en", "text-ja"]),
        ("found", ("key_objects", "status"), ["key_objects"]),
        ("refused", ("seg", "measurements", "text"), ["status", "status-ja"]),
        ("refused", ("seg",), ["status", "status-ja"]),
    ],
)
def test_roles_by_outcome_and_profile(result: str, wanted: tuple[str, ...], roles: list[str], case: Case) -> None:
    made = {"found": case.result, "nothing": nothing_found(), "refused": not_assessed()}[result]
    assert list(objects_of(case, made, objects=wanted)) == roles


def test_a_status_object_exists_without_any_draft(case: Case) -> None:
    objects = objects_of(case, replace(not_assessed("SER-002"), drafts=()))
    assert list(objects) == ["status"]
    assert objects["status"].SeriesDescription == "AI: did not run"
    assert "SER-002" in texts(objects["status"])[0]


@pytest.mark.parametrize(
    ("code", "description"),
    [("SUI-001", "AI: not assessed"), ("SER-001", "AI: did not run"), ("MOD-005", "AI: did not run")],
)
def test_status_names_reason_words_and_remedy_in_each_language(code: str, description: str, case: Case) -> None:
    result = not_assessed(code)
    assert result.refusal is not None
    objects = objects_of(case, result)
    assert [o.InstanceNumber for o in objects.values()] == [1, 2]
    remedy = {"status": result.refusal.remedy, "status-ja": remedies("ja")[code]}
    for role, dataset in objects.items():
        findings, impression = texts(dataset)
        assert dataset.SeriesDescription == description
        assert findings.startswith("AI STATUS - NOT A REPORT")
        assert impression.startswith("AI STATUS - NOT A REPORT")
        for words in (code, result.refusal.message, remedy[role]):
            assert words in findings
    # Whoever reads Japanese is told what to do in Japanese, and only there.
    assert result.refusal.remedy not in texts(objects["status-ja"])[0]
    assert "評価" in texts(objects["status-ja"])[1]


def test_drafts_say_what_they_are_before_anything_else(case: Case) -> None:
    objects = objects_of(case, case.result)
    for draft in case.result.drafts:
        findings, impression = texts(objects[f"text-{draft.language}"])
        for text, words in ((findings, draft.findings), (impression, draft.impression)):
            assert text.startswith("AI DRAFT - NOT REVIEWED BY A PHYSICIAN")
            assert all(line in text for line in words.splitlines())
        assert all(note in findings for note in draft.notes)
        assert MODEL.digest[:12] in findings
        assert findings.count(MODEL.digest[:12]) == 1


def test_line_ends_and_control_characters_are_made_fit_for_dicom(case: Case) -> None:
    written = Draft("ja", "所見\u3000あり。\n二行目\x07。\n\n", "印象\r\n二行目。")
    findings, impression = texts(objects_of(case, replace(case.result, drafts=(written,)))["text-ja"])
    assert "所見\u3000あり。\r\n二行目。\r\n" in findings
    assert impression.endswith("印象\r\n二行目。")


def test_a_generator_is_named_where_it_wrote(case: Case) -> None:
    author = ModelReference("stroke-impression-demo", "0.1", "Impression demo", "ainode project", "ef" * 32)
    written = Draft("en", "Findings.", "Impression.", author=author)
    objects = objects_of(case, replace(case.result, drafts=(written,)))
    assert author.digest[:12] in texts(objects["text-en"])[0]
    named = {
        role: [i.get("DeviceSerialNumber") for i in o.ContributingEquipmentSequence] for role, o in objects.items()
    }
    assert author.digest in named["text-en"]
    assert author.digest not in named["seg"]


def test_segments_measurements_and_text_speak_of_the_same_regions(case: Case) -> None:
    objects = objects_of(case, case.result)
    segmentation, report = objects["seg"], objects["measurements"]
    assert case.result.segmentation is not None
    tracked = [str(segment.TrackingUID) for segment in segmentation.SegmentSequence]
    assert len(tracked) == len(set(tracked)) == len(case.result.segmentation.regions)
    content = str(report)
    assert all(uid in content for uid in tracked)
    side = segmentation.SegmentSequence[0].AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")


def test_slices_without_voxels_have_no_frame(case: Case) -> None:
    segmentation = objects_of(case, case.result)["seg"]
    assert case.result.segmentation is not None
    mask = case.result.segmentation.mask_zyx
    occupied = sum(int((mask == r.number).any(axis=(1, 2)).sum()) for r in case.result.segmentation.regions)
    assert segmentation.NumberOfFrames == occupied < len(mask) * len(case.result.segmentation.regions)
    assert len(segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(mask)


def test_enhanced_sources_are_named_by_frame(enhanced: Case) -> None:
    objects = objects_of(enhanced, enhanced.result)
    by_position = {tuple(np.round(f.position_mm, 3)): f.frame_number for f in enhanced.source.frames}
    for group in objects["seg"].PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = tuple(np.round([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient], 3))
        assert reference.ReferencedFrameNumber == by_position[position]
    assert len(objects["seg"].ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_spacing_comes_from_geometry(case: Case) -> None:
    measures = objects_of(case, case.result)["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    z, y, x = case.source.volume.spacing_mm_zyx
    assert [float(v) for v in measures.PixelSpacing] == pytest.approx([y, x], abs=1e-9)
    assert float(measures.SpacingBetweenSlices) == float(measures.SliceThickness) == pytest.approx(z, abs=1e-9)


def test_absence_states_its_detection_limit_and_every_image_looked_at(case: Case) -> None:
    report = objects_of(case, nothing_found())["measurements"]
    assert "detection_limit_ml=0.12345" in [entry.get("TextValue") for entry in walk(report)]
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert [len(entry.ReferencedSOPSequence) for entry in series] == [len(case.source.frames)]


def test_a_number_that_is_none_is_refused(case: Case) -> None:
    assert case.result.segmentation is not None
    first, *rest = case.result.segmentation.regions
    broken = replace(first, quantities=(*first.quantities, Quantity(ADC, float("nan"), ADC_UNIT)))
    segmentation = replace(case.result.segmentation, regions=(broken, *rest))
    with pytest.raises(ObjectInvalid):
        case.rendered(replace(case.result, segmentation=segmentation))


def test_region_sizes_that_do_not_fill_whole_bytes(tmp_path: Path) -> None:
    from dicom_sr.phantom_study import write_phantom_study
    from dicom_sr.series import load_study

    phantom = make_phantom(1, shape_zyx=(7, 37, 43), spacing_mm_zyx=(18.0, 5.0, 5.0), lesions=(LesionSpec(20.0),))
    study = load_study(write_phantom_study(phantom, tmp_path, seed=1).files)
    source = trace_of(study)
    result = found(blocks((7, 37, 43)), source.volume.voxel_ml)
    check(render(result, study, context(), source), study, result, source)


def test_an_order_that_agrees_stands_in_the_request(case: Case) -> None:
    procedure = RequestedProcedure(
        accession_number="OTHER",
        requested_procedure_id="RP1",
        requested_procedure_description="頭部MRI",
        codes=(RequestedCode("7000000100000000", "JJ1017-16M", "MR head"), RequestedCode("half", "", "")),
        reason="右片麻痺",
        placer_order_number="PL1",
        filler_order_number="FI1",
    )
    objects = objects_of(case, replace(case.result, limitations=("order_mismatch",)), procedures=(procedure,))
    (request,) = objects["measurements"].ReferencedRequestSequence
    # The images' own accession number is never replaced.
    assert request.AccessionNumber == case.study.headers[0].AccessionNumber
    assert (request.RequestedProcedureID, request.RequestedProcedureDescription) == ("RP1", "頭部MRI")
    assert [code.CodeValue for code in request.RequestedProcedureCodeSequence] == ["7000000100000000"]
    assert (request.PlacerOrderNumberImagingServiceRequest, request.FillerOrderNumberImagingServiceRequest) == (
        "PL1",
        "FI1",
    )
    (attributes,) = objects["seg"].RequestAttributesSequence
    assert attributes.RequestedProcedureID == "RP1"
    assert "PlacerOrderNumberImagingServiceRequest" not in attributes
