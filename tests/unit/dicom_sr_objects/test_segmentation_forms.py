"""Every form of a segmentation, as highdicom reads it: the same voxels at the same places in the patient."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from dicom_sr.check import check
from dicom_sr.checks.subject import walk
from dicom_sr.errors import ObjectInvalid
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from dicom_sr.label_frames import binary, extents
from dicom_sr.rendering import RenderedObject
from models.results import StudyResult
from tests.generators.results import found
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.unit.dicom_sr_objects.pixel_cases import FORMS, holed, in_order, places, values_in_order, with_pixels

_TO_XYZ = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def segmentations(case: Case, result: StudyResult, **profile: object) -> list[RenderedObject]:
    objects = case.rendered(result, objects=("seg",), **profile)
    check(objects, case.study, result, case.source)
    return objects


def read(rendered: RenderedObject) -> hd.seg.Segmentation:
    return hd.seg.segread(BytesIO(rendered.encoded))


def volume_of(rendered: RenderedObject) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
    """Labels and their affine for (column, row, slice, 1), as highdicom has them."""
    volume = read(rendered).get_volume(
        combine_segments=True,
        skip_overlap_checks=True,
        allow_missing_positions=True,
        rescale_fractional=False,
    )
    return volume.array, volume.affine @ _TO_XYZ


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("fractional")])
@pytest.mark.parametrize("kind", ["case", "enhanced"])
def test_highdicom_reads_the_same_labels_at_the_same_places(
    form: str, kind: str, request: pytest.FixtureRequest
) -> None:
    case = holed(request.getfixturevalue(kind))
    assert case.result.segmentation is not None
    (rendered,) = segmentations(case, case.result, **FORMS[form])
    labels, affine = volume_of(rendered)
    for region in case.result.segmentation.regions:
        theirs = places(labels == region.number, affine)
        ours = places(case.result.segmentation.mask_zyx == region.number, case.source.volume.affine_lps)
        np.testing.assert_allclose(theirs, ours, atol=0.011)


@pytest.mark.parametrize("form", ["fractional", "fractional rle"])
def test_highdicom_reads_the_same_fractions_at_the_same_places(form: str, enhanced: Case) -> None:
    case = holed(enhanced)
    wanted = case.result.segmentation
    assert wanted is not None
    assert wanted.probability_zyx is not None
    (rendered,) = segmentations(case, case.result, **FORMS[form])
    seg = read(rendered)
    assert seg.segmentation_fractional_type.value == "PROBABILITY"
    for region in wanted.regions:
        numbers = [region.number]
        volume = seg.get_volume(segment_numbers=numbers, allow_missing_positions=True, rescale_fractional=True)
        values, affine = volume.array[..., 0], volume.affine @ _TO_XYZ
        inside = wanted.mask_zyx == region.number
        np.testing.assert_allclose(
            places(values > 0, affine), places(inside, case.source.volume.affine_lps), atol=0.011
        )
        probability = np.where(inside, wanted.probability_zyx, 0)
        np.testing.assert_allclose(
            values_in_order(values, affine),
            values_in_order(probability, case.source.volume.affine_lps),
            atol=0.5 / 255 + 1e-6,
        )


@pytest.mark.parametrize("form", FORMS)
def test_classes_and_syntaxes(form: str, case: Case) -> None:
    (rendered,) = segmentations(case, with_pixels(case), **FORMS[form])
    made = dcmread(BytesIO(rendered.encoded))
    assert made.SOPClassUID == (LABEL_MAP_SEGMENTATION if "labelmap" in form else SegmentationStorage)
    assert made.file_meta.TransferSyntaxUID == (RLELossless if "rle" in form else ExplicitVRLittleEndian)
    assert made.SegmentationType == form.partition(" ")[0].upper()
    assert [s.SegmentNumber for s in made.SegmentSequence] == ([0, 1, 2] if "labelmap" in form else [1, 2])


@pytest.mark.parametrize(
    ("probability", "profile"),
    [
        (False, {"segmentation": "fractional", "segmentation_syntax": "rle"}),
        (True, {"segmentation": "binary", "segmentation_syntax": "rle"}),
    ],
    ids=["no probabilities", "bits are never run-length encoded"],
)
def test_what_cannot_be_falls_back_to_native_bits(probability: bool, profile: dict[str, object], case: Case) -> None:
    (rendered,) = segmentations(case, with_pixels(case) if probability else case.result, **profile)
    made = dcmread(BytesIO(rendered.encoded))
    assert (made.SegmentationType, made.file_meta.TransferSyntaxUID) == ("BINARY", ExplicitVRLittleEndian)


def test_a_fraction_in_a_region_is_never_zero(case: Case) -> None:
    result = with_pixels(case)
    assert result.segmentation is not None
    unsure = np.zeros_like(result.segmentation.probability_zyx)
    result = replace(result, segmentation=replace(result.segmentation, probability_zyx=unsure))
    (rendered,) = segmentations(case, result, segmentation="fractional")
    assert np.unique(np.frombuffer(rendered.dataset.PixelData, np.uint8)).tolist() == [0, 1]


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan])
def test_what_is_no_probability_is_refused(wrong: float, case: Case) -> None:
    result = with_pixels(case)
    assert result.segmentation is not None
    assert result.segmentation.probability_zyx is not None
    probability = result.segmentation.probability_zyx.copy()
    probability[0, 0, 0] = wrong
    with pytest.raises(ObjectInvalid):
        segmentations(case, replace(result, segmentation=replace(result.segmentation, probability_zyx=probability)))


@pytest.mark.parametrize("form", FORMS)
def test_one_object_for_each_lesion(form: str, case: Case) -> None:
    result = with_pixels(case)
    assert result.segmentation is not None
    objects = case.rendered(result, per_lesion=True, objects=("seg", "measurements"), **FORMS[form])
    check(objects, case.study, result, case.source)
    assert [rendered.role for rendered in objects] == ["seg-1", "seg-2", "measurements-1", "measurements-2"]
    made = [rendered.dataset for rendered in objects[:2]]
    assert len({str(dataset.SeriesInstanceUID) for dataset in made}) == 1
    assert [dataset.InstanceNumber for dataset in made] == [1, 2]
    assert len({str(dataset.SOPInstanceUID) for dataset in made}) == 2
    for dataset, region in zip(made, result.segmentation.regions, strict=True):
        (segment,) = [s for s in dataset.SegmentSequence if s.SegmentNumber]
        assert (segment.SegmentNumber, segment.SegmentLabel) == (1, region.label)
    for dataset, report in zip(made, objects[2:], strict=True):
        (reference,) = [entry for entry in walk(report.dataset) if "ReferencedSegmentNumber" in entry]
        assert reference.ReferencedSOPInstanceUID == dataset.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == 1


def test_more_than_255_regions_take_sixteen_bits(case: Case) -> None:
    shape = case.source.volume.array_zyx.shape
    mask = np.zeros(shape, np.uint16)
    mask.reshape(-1)[3 : 3 + 7 * 260 : 7] = np.arange(1, 261)
    result = found(mask, case.source.volume.voxel_ml, ())
    assert result.segmentation is not None
    for syntax in ("explicit", "rle"):
        (rendered,) = segmentations(case, result, segmentation="labelmap", segmentation_syntax=syntax)
        assert rendered.dataset.BitsAllocated == 16
    theirs = values_in_order(*volume_of(rendered))
    assert theirs.tolist() == values_in_order(result.segmentation.mask_zyx, case.source.volume.affine_lps).tolist()


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 8, 8), (9, 3, 3)])
def test_bits_follow_each_other_without_gaps(shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(2).integers(0, 4, shape).astype(np.uint8)
    frames = extents(mask)
    expected = np.concatenate([(mask[f.slice_index] == f.label).ravel() for f in frames])
    content = np.frombuffer(binary([mask], frames), np.uint8)
    assert len(content) % 2 == 0
    assert np.array_equal(np.unpackbits(content, count=len(expected), bitorder="little"), expected)
    assert {(f.label, f.slice_index) for f in frames} == {
        (n, k) for n in range(1, 4) for k in range(shape[0]) if (mask[k] == n).any()
    }


def test_enhanced_frames_are_named_in_every_form(enhanced: Case) -> None:
    result = with_pixels(enhanced)
    by_place = {tuple(np.round(f.position_mm, 3)): f.frame_number for f in enhanced.source.frames}
    for profile in FORMS.values():
        (rendered,) = segmentations(enhanced, result, **profile)
        for group in dcmread(BytesIO(rendered.encoded)).PerFrameFunctionalGroupsSequence:
            reference = group.DerivationImageSequence[0].SourceImageSequence[0]
            place = np.round([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient], 3)
            assert reference.ReferencedFrameNumber == by_place[tuple(place)]


def test_places_are_sorted_the_same_whatever_their_order(tmp_path: Path) -> None:
    """The comparison above would be blind if it were not: a mask moved by a voxel is another set of places."""
    case = phantom_case(tmp_path)
    assert case.result.segmentation is not None
    mask, affine = case.result.segmentation.mask_zyx == 1, case.source.volume.affine_lps
    turned = places(
        mask[::-1], affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, len(mask) - 1], [0, 0, 0, 1]])
    )
    np.testing.assert_allclose(turned, places(mask, affine), atol=0.011)
    moved = places(np.roll(mask, 1, axis=2), affine)
    assert not np.allclose(in_order(moved), places(mask, affine), atol=0.011)
