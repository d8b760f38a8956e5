"""Series to volumes on real scanner data: every folder of the shared data that holds series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_sr.errors import (
    GantryTilt,
    MissingSlice,
    MixedOrientation,
    NoPixelData,
    RoleMissing,
    SeriesRejected,
    SingleSlice,
    Undecodable,
    UnknownUnits,
    UnsupportedImage,
)
from dicom_sr.instances import find_studies
from dicom_sr.pixels import decode, take_pixels
from dicom_sr.roles import fill_roles
from dicom_sr.series import Kind, LoadedStudy, load_study
from models.card import CardInput

INPUTS = (
    CardInput(role="dwi", kind="dwi", modality="MR", minimum_b_value=800.0, maximum_b_value=3000.0),
    CardInput(role="adc", kind="adc", modality="MR", same_grid_as="dwi"),
)


def only_error(study: LoadedStudy) -> SeriesRejected:
    assert study.volumes == ()
    assert len(study.rejected) == 1
    return study.rejected[0].error


def test_isles_stroke(shared_data: Path) -> None:
    study = load_study([shared_data / "mr_stroke_isles22_case0001"])
    assert study.rejected == ()
    assert len(study.headers) == len(study.digests) == 146
    roles = fill_roles(study, INPUTS)
    dwi, adc = roles["dwi"], roles["adc"]
    assert (dwi.series_number, dwi.b_value, adc.series_number) == (3, 1000.0, 4)
    assert dwi.volume.array_zyx.shape == (73, 112, 112)
    np.testing.assert_allclose(dwi.volume.spacing_mm_zyx, (2, 2, 2), atol=1e-4)
    assert adc.volume.unit == "um2/s"
    assert adc.volume.facts["adc_unit_factor"] == 1.0
    # The slices are oblique: the affine must reproduce every slice's own position.
    for number, frame in enumerate(dwi.frames):
        np.testing.assert_allclose(dwi.volume.affine_lps[:3] @ [0, 0, number, 1], frame.position_mm, atol=2e-3)


def test_siemens_enhanced_healthy(shared_data: Path) -> None:
    study = load_study([shared_data / "mr_brain_enhanced_siemens_xa30"])
    assert [(v.series_number, v.kind, v.b_value) for v in study.volumes] == [
        (5, Kind.OTHER, None),
        (11, Kind.ADC, None),
        (12, Kind.DWI_TRACE, 2500.0),
        (16, Kind.B0, 0.0),
    ]
    assert {r.series_number: type(r.error) for r in study.rejected} == {13: UnsupportedImage, 14: UnsupportedImage}
    roles = fill_roles(study, INPUTS)
    assert (roles["dwi"].series_number, roles["adc"].series_number) == (12, 11)
    assert len(study.source_datasets(roles["dwi"])) == 1
    assert [f.frame_number for f in roles["dwi"].frames] == list(range(1, 40))
    # Sagittal T1: slices run from the patient's right to left, normal = row x column = -x, so the order is reversed.
    sagittal = study.volumes[0]
    np.testing.assert_allclose(sagittal.volume.affine_lps[:3, 2], (-2, 0, 0), atol=1e-6)
    assert sagittal.frames[0].frame_number == 96


def test_adc_computed_from_siemens_signals_agrees_with_the_scanner(shared_data: Path) -> None:
    from dicom_sr.adc import compute_adc, head_mask

    volumes = {v.kind: v.volume.array_zyx for v in load_study([shared_data / "mr_brain_enhanced_siemens_xa30"]).volumes}
    computed = compute_adc(volumes[Kind.B0], volumes[Kind.DWI_TRACE], b_low=0, b_high=2500)
    inside = head_mask(volumes[Kind.DWI_TRACE]) & (volumes[Kind.ADC] > 0)
    assert np.median(np.abs(computed - volumes[Kind.ADC])[inside]) < 20


def test_canon_many_directions(shared_data: Path) -> None:
    study = load_study([shared_data / "mr_dti_canon_520_instances"])
    assert study.rejected == ()
    kinds = [v.kind for v in study.volumes]
    assert (kinds.count(Kind.B0), kinds.count(Kind.DWI_DIRECTION), len(kinds)) == (1, 12, 13)
    roles = fill_roles(study, INPUTS)
    assert roles["dwi"].volume.facts["derivation"] == "geometric mean of 12 diffusion directions"
    adc = roles["adc"].volume
    assert adc.facts["derived"] == "adc"
    assert 700 < adc.facts["adc_tissue_median_um2_s"] < 900
    assert np.isfinite(adc.array_zyx).all()
    assert len(study.source_datasets(roles["dwi"])) == 40


def test_philips_enhanced_four_dimensional(shared_data: Path) -> None:
    """32 frames in one object. Its publisher replaced the pixels, so the ADC cannot be physical and must be refused."""
    study = load_study([shared_data / "mr_philips_enhanced_dti"])
    assert [(v.kind, v.b_value, v.volume.array_zyx.shape[0]) for v in study.volumes] == [
        (Kind.B0, 0.0, 8),
        *[(Kind.DWI_DIRECTION, 1300.0, 8)] * 3,
    ]
    b0 = study.volumes[0]
    assert [f.frame_number for f in b0.frames] == [1, 5, 9, 13, 17, 21, 25, 29]
    np.testing.assert_allclose(b0.volume.spacing_mm_zyx, (2.7, 2.734375, 2.734375), atol=1e-4)
    with pytest.raises(UnknownUnits):
        fill_roles(study, INPUTS)


def test_gantry_tilt(shared_data: Path) -> None:
    study = load_study([shared_data / "ct_gantry_tilt_4"])
    error = only_error(study)
    assert isinstance(error, GantryTilt)
    assert error.detail["tilt_degrees"] == pytest.approx(14, abs=0.1)
    with pytest.raises(GantryTilt):
        fill_roles(study, INPUTS)


def test_missing_slice(shared_data: Path) -> None:
    error = only_error(load_study([shared_data / "ct_missing_slice_4"]))
    assert isinstance(error, MissingSlice)
    assert error.detail["missing_positions_mm"] == [pytest.approx(33.1075, abs=0.01)]
    assert len(error.detail["neighbours"]) == 1


def test_hitachi(shared_data: Path) -> None:
    volume = load_study([shared_data / "mr_hitachi_iso2022"]).volumes[0].volume
    assert volume.spacing_mm_zyx[0] == pytest.approx(4.0, abs=1e-3)


def test_four_series_on_one_grid(shared_data: Path) -> None:
    study = load_study([shared_data / "mr_brain_glioma_PGBM006"])
    assert study.rejected == ()
    assert [v.volume.array_zyx.shape for v in study.volumes] == [(22, 320, 280)] * 4
    assert all(v.volume.spacing_mm_zyx[0] == pytest.approx(6.5, abs=1e-3) for v in study.volumes)
    with pytest.raises(RoleMissing):
        fill_roles(study, INPUTS)


def test_ct_head_tiny(shared_data: Path) -> None:
    volume = load_study([shared_data / "ct_head_tiny_93"]).volumes[0].volume
    assert (volume.array_zyx.shape, volume.unit) == ((93, 64, 64), "[hnsf'U]")
    assert volume.spacing_mm_zyx[0] == pytest.approx(1.5)


def test_objects_without_uid_are_refused_once(shared_data: Path) -> None:
    files = sorted((shared_data / "ct_chest_covid_P002").glob("*.dcm"))[:4]
    rejected = load_study([*files, shared_data / "ct_missing_slice_4"], pixels=False).rejected
    assert [type(r.error) for r in rejected] == [Undecodable]
    assert rejected[0].error.detail["images"] == 4


@pytest.mark.slow
def test_jpeg_lossless_chest(shared_data: Path, tmp_path: Path) -> None:
    """133 slices in shuffled file order; the publisher emptied the UIDs, so they are given new ones."""
    for path in sorted((shared_data / "ct_chest_covid_P002").glob("*.dcm")):
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
        dataset.save_as(tmp_path / path.name)
    study = load_study([tmp_path])
    volume = study.volumes[0].volume
    assert (len(study.volumes), volume.array_zyx.shape, volume.unit) == (1, (133, 512, 512), "[hnsf'U]")
    np.testing.assert_allclose(volume.spacing_mm_zyx[0], 2.0, atol=1e-3)
    assert -1100 < np.median(volume.array_zyx) < 100


def test_nine_transfer_syntaxes_one_image(shared_data: Path) -> None:
    images = []
    for path in sorted((shared_data / "transfer_syntaxes_same_image").iterdir()):
        dataset = dcmread(path)
        pixels = take_pixels(dataset)
        images.append(decode(dataset, pixels, dataset.file_meta.TransferSyntaxUID))
    assert len(images) == 9
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


def test_a_mosaic_is_refused(shared_data: Path) -> None:
    study = load_study([shared_data / "transfer_syntaxes_same_image"])
    assert study.volumes == ()
    assert {type(r.error) for r in study.rejected} == {UnsupportedImage}


@pytest.mark.parametrize("folder", ["transfer_syntaxes_small", "broken_small", "charsets", "seg_sr_examples"])
def test_odd_files_are_refused_with_a_reason(shared_data: Path, folder: str) -> None:
    """No file of these may make a volume of its own or raise anything but a refusal."""
    for path in sorted((shared_data / folder).rglob("*.dcm")):
        try:
            study = load_study([path])
        except SeriesRejected as error:
            assert error.code
            continue
        assert [v for v in study.volumes if v.kind is not Kind.PROJECTION] == []
        assert study.rejected or study.volumes, path.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transfer_syntaxes_small/examples_rgb_color.dcm", UnsupportedImage),
        ("transfer_syntaxes_small/MR_small.dcm", SingleSlice),
        ("seg_sr_examples/highdicom/sr_document.dcm", NoPixelData),
        ("seg_sr_examples/highdicom/seg_image_ct_binary.dcm", UnsupportedImage),
    ],
)
def test_reasons_of_single_files(shared_data: Path, name: str, expected: type[SeriesRejected]) -> None:
    assert isinstance(only_error(load_study([shared_data / name])), expected)


def test_mixed_orientation_in_one_series(shared_data: Path) -> None:
    """Two axial and two sagittal images that share a Series Instance UID."""
    studies = find_studies((shared_data / "broken_small").glob("*IM-0001-0*.dcm"))
    errors = [only_error(load_study(files)) for files in sorted(studies.values(), key=len)]
    assert [type(error) for error in errors] == [SingleSlice, MixedOrientation]
    assert len(errors[1].detail["orientations"]) == 2
