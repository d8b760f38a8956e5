"""Every reason for refusing a series, each by a study that is wrong in that one way."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLosslessSV1

from dicom_sr.errors import (
    DuplicatePosition,
    GantryTilt,
    GeometryMissing,
    GridMismatch,
    Localiser,
    MissingSlice,
    MixedOrientation,
    MixedPatients,
    NoPixelData,
    RoleAmbiguous,
    RoleMissing,
    SeriesRejected,
    SeveralStudies,
    SingleSlice,
    Undecodable,
    UnevenSpacing,
    UnknownUnits,
    UnsupportedImage,
)
from dicom_sr.roles import fill_roles
from dicom_sr.series import LoadedStudy

from .conftest import INPUTS, SLICES, SPACING_MM, Build, Load, of, save


def refusal(study: LoadedStudy) -> SeriesRejected:
    """What the roles say; the rejected series must say the same, and nothing else may be rejected."""
    with pytest.raises(SeriesRejected) as caught:
        fill_roles(study, INPUTS)
    assert {r.error.code for r in study.rejected} == {caught.value.code}
    return caught.value


def moved(dataset: Dataset, shift: Sequence[float]) -> None:
    dataset.ImagePositionPatient = [
        round(float(a) + b, 6) for a, b in zip(dataset.ImagePositionPatient, shift, strict=True)
    ]


def renamed(dataset: Dataset, suffix: str) -> Dataset:
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{suffix}"
    return other


def test_the_undamaged_study_fills_its_roles(build: Build, load: Load) -> None:
    study = load(build())
    roles = fill_roles(study, INPUTS)
    assert study.rejected == ()
    assert (roles["dwi"].series_number, roles["adc"].series_number) == (3, 4)


def test_gantry_tilt_names_its_angle(build: Build, load: Load) -> None:
    datasets = build()
    for index, dataset in enumerate(of(datasets, 3)):
        moved(dataset, (0, index * SPACING_MM * np.tan(np.radians(12)), 0))
    error = refusal(load(datasets))
    assert isinstance(error, GantryTilt)
    assert error.detail["tilt_degrees"] == pytest.approx(12, abs=0.01)


def test_a_missing_slice_is_named_by_position_and_neighbours(build: Build, load: Load) -> None:
    datasets = build()
    lost = of(datasets, 3)[5]
    neighbours = [of(datasets, 3)[4].SOPInstanceUID, of(datasets, 3)[6].SOPInstanceUID]
    datasets.remove(lost)
    error = refusal(load(datasets))
    assert isinstance(error, MissingSlice)
    assert error.detail["missing_positions_mm"] == [pytest.approx(float(lost.ImagePositionPatient[2]), abs=0.01)]
    assert error.detail["neighbours"] == [neighbours]


def test_a_slice_missing_at_the_end_of_one_direction(build: Build, load: Load) -> None:
    datasets = build(content="directions", include_adc=False)
    datasets.remove(of(datasets, 3)[-1])
    assert isinstance(refusal(load(datasets)), MissingSlice)


def test_two_images_at_one_position(build: Build, load: Load) -> None:
    datasets = build()
    twin = renamed(of(datasets, 3)[4], "99")
    error = refusal(load([*datasets, twin]))
    assert isinstance(error, DuplicatePosition)
    assert error.detail["positions_mm"] == [pytest.approx(float(twin.ImagePositionPatient[2]), abs=0.01)]
    assert twin.SOPInstanceUID in error.detail["sop_instance_uids"]


def test_one_uid_with_two_contents(build: Build, load: Load) -> None:
    datasets = build()
    twin = copy.deepcopy(of(datasets, 3)[4])
    twin.WindowWidth = "77"
    assert isinstance(refusal_of_series(load([*datasets, twin])), DuplicatePosition)


def refusal_of_series(study: LoadedStudy) -> SeriesRejected:
    assert len(study.rejected) == 1
    return study.rejected[0].error


def test_an_identical_copy_changes_nothing(build: Build, load: Load) -> None:
    datasets = build()
    study = load([*datasets, copy.deepcopy(datasets[3])])
    assert study.rejected == ()
    assert len(study.headers) == len(datasets)


@pytest.mark.parametrize("shift_mm", [0.7, 3.5])
def test_uneven_spacing(build: Build, load: Load, shift_mm: float) -> None:
    datasets = build()
    moved(of(datasets, 3)[6], (0, 0, shift_mm))
    error = refusal(load(datasets))
    assert isinstance(error, UnevenSpacing)
    assert error.detail["largest_mm"] == pytest.approx(SPACING_MM + shift_mm, abs=0.01)


def test_spacing_that_grows(build: Build, load: Load) -> None:
    datasets = build()
    for index, dataset in enumerate(of(datasets, 3)):
        moved(dataset, (0, 0, 0.02 * index**2))
    assert isinstance(refusal(load(datasets)), UnevenSpacing)


def test_rounded_positions_are_accepted(build: Build, load: Load) -> None:
    datasets = build()
    for index, dataset in enumerate(datasets):
        moved(dataset, (0, 0, 0.03 * (-1) ** index))
    assert load(datasets).rejected == ()


def test_mixed_orientation(build: Build, load: Load) -> None:
    datasets = build()
    of(datasets, 3)[3].ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(0.2)), float(np.sin(0.2))]
    error = refusal(load(datasets))
    assert isinstance(error, MixedOrientation)
    assert error.detail["sop_instance_uids"] == [of(datasets, 3)[3].SOPInstanceUID]


def test_a_slice_beside_the_stack(build: Build, load: Load) -> None:
    datasets = build()
    moved(of(datasets, 3)[3], (4.0, 0, 0))
    error = refusal(load(datasets))
    assert isinstance(error, GeometryMissing)
    assert error.detail["sop_instance_uids"] == [of(datasets, 3)[3].SOPInstanceUID]


def test_a_localiser_by_image_type(build: Build, load: Load) -> None:
    datasets = build()
    for dataset in of(datasets, 3):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert isinstance(refusal(load(datasets)), Localiser)


def test_a_three_plane_scout_by_content(build: Build, load: Load) -> None:
    datasets = build()
    planes = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
    for index, dataset in enumerate(of(datasets, 3)):
        dataset.ImageOrientationPatient = planes[index % 3]
    assert isinstance(refusal(load(datasets)), Localiser)


def test_too_few_slices(build: Build, load: Load) -> None:
    datasets = build()
    kept = of(datasets, 3)[:2]
    assert isinstance(refusal(load([*kept, *of(datasets, 2), *of(datasets, 4)])), SingleSlice)


def test_adc_of_unknown_unit(build: Build, load: Load) -> None:
    error = refusal(load(build(adc_scaling="nonsense")))
    assert isinstance(error, UnknownUnits)
    assert error.detail["medians_tried"]


def test_no_pixel_data(build: Build, load: Load) -> None:
    datasets = build()
    del of(datasets, 3)[2].PixelData
    error = refusal(load(datasets))
    assert isinstance(error, NoPixelData)
    assert error.detail["sop_instance_uid"] == of(datasets, 3)[2].SOPInstanceUID


def test_truncated_pixel_data(build: Build, load: Load) -> None:
    datasets = build()
    damaged = of(datasets, 3)[2]
    damaged.PixelData = damaged.PixelData[:-100]
    error = refusal(load(datasets))
    assert isinstance(error, Undecodable)
    assert error.detail["sop_instance_uid"] == damaged.SOPInstanceUID


def test_garbage_in_a_compressed_frame(build: Build, load: Load, tmp_path) -> None:
    from pydicom.encaps import encapsulate

    datasets = build()
    damaged = of(datasets, 3)[2]
    damaged.PixelData = encapsulate([b"\xff\xd8 this is no JPEG"])
    damaged["PixelData"].VR = "OB"
    others = [d for d in datasets if d is not damaged]
    save(damaged, tmp_path / "damaged.dcm", JPEGLosslessSV1)
    assert isinstance(refusal(load(others)), Undecodable)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_geometry_absent(build: Build, load: Load, keyword: str) -> None:
    datasets = build()
    delattr(of(datasets, 3)[7], keyword)
    error = refusal(load(datasets))
    assert isinstance(error, GeometryMissing)
    assert error.detail["sop_instance_uids"] == [of(datasets, 3)[7].SOPInstanceUID]


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0.3, 1, 0], [2, 0, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0]])
def test_an_orientation_that_is_none(build: Build, load: Load, orientation: list[float]) -> None:
    datasets = build()
    for dataset in of(datasets, 3):
        dataset.ImageOrientationPatient = orientation
    assert isinstance(refusal(load(datasets)), GeometryMissing)


def test_colour_is_not_supported(build: Build, load: Load) -> None:
    datasets = build()
    for dataset in of(datasets, 3):
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.PixelData = dataset.PixelData * 3
    assert isinstance(refusal(load(datasets)), UnsupportedImage)


@pytest.mark.parametrize("token", ["EADC", "FA"])
def test_other_diffusion_maps_are_not_taken_for_adc(build: Build, load: Load, token: str) -> None:
    datasets = build(include_b0=False)
    for dataset in of(datasets, 4):
        dataset.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", token]
    study = load(datasets)
    assert isinstance(refusal_of_series(study), UnsupportedImage)
    with pytest.raises(RoleMissing):
        fill_roles(study, INPUTS)


def test_an_exponential_map_that_calls_itself_adc(build: Build, load: Load) -> None:
    datasets = build(include_b0=False)
    for dataset in of(datasets, 4):
        adc = np.frombuffer(dataset.PixelData, "<u2").astype(float)
        dataset.PixelData = np.round(1000 * np.exp(-adc / 1000) * (adc > 0)).astype("<u2").tobytes()
    assert isinstance(refusal(load(datasets)), UnsupportedImage)


def test_a_mosaic_is_not_supported(build: Build, load: Load) -> None:
    datasets = build()
    for dataset in of(datasets, 3):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    assert isinstance(refusal(load(datasets)), UnsupportedImage)


def test_role_missing_says_which_b_values_there_are(build: Build, load: Load) -> None:
    datasets = build()
    for dataset in of(datasets, 3):
        dataset.DiffusionBValue = 400.0
    with pytest.raises(RoleMissing, match="b = 400") as caught:
        fill_roles(load(datasets), INPUTS)
    assert caught.value.detail["b_values"] == [400.0]


def test_two_different_series_for_one_role(build: Build, load: Load) -> None:
    datasets = build()
    others = [renamed(d, "2") for d in of(datasets, 3)]
    for other in others:
        other.SeriesInstanceUID, other.SeriesNumber = "2.25.4711", 33
        other.PixelData = (np.frombuffer(other.PixelData, "<u2") + np.uint16(3)).tobytes()
    with pytest.raises(RoleAmbiguous) as caught:
        fill_roles(load([*datasets, *others]), INPUTS)
    assert [c["series_number"] for c in caught.value.detail["candidates"]] == [3, 33]


def test_a_series_stored_twice_is_no_ambiguity(build: Build, load: Load) -> None:
    datasets = build()
    others = [renamed(d, "2") for d in of(datasets, 3)]
    for other in others:
        other.SeriesInstanceUID, other.SeriesNumber = "2.25.4711", 33
    assert fill_roles(load([*datasets, *others]), INPUTS)["dwi"].series_number == 3


@pytest.mark.parametrize("way", ["shifted", "other frame of reference"])
def test_adc_elsewhere(build: Build, load: Load, way: str) -> None:
    datasets = build(include_b0=False)
    for dataset in of(datasets, 4):
        if way == "shifted":
            moved(dataset, (0.5, 0, 0))
        else:
            dataset.FrameOfReferenceUID = "2.25.99"
    with pytest.raises(GridMismatch):
        fill_roles(load(datasets), INPUTS)


def test_two_studies(build: Build, load: Load) -> None:
    with pytest.raises(SeveralStudies):
        load([*build(), *build(seed=8)])


def test_two_patients(build: Build, load: Load) -> None:
    datasets = build()
    for dataset in of(datasets, 4):
        dataset.PatientID = "PH-000002"
    with pytest.raises(MixedPatients) as caught:
        load(datasets)
    assert caught.value.detail["attributes"] == ["Patient ID"]
    assert sorted(caught.value.detail["instances"]) == [SLICES, 2 * SLICES]
    assert "PH-0" not in f"{caught.value} {caught.value.detail}"


def test_an_unreadable_file_hurts_only_itself(build: Build, load: Load, tmp_path) -> None:
    datasets = build()
    (tmp_path / "notes.txt").write_text("no DICOM")
    study = load(datasets)
    assert study.rejected == ()
    assert fill_roles(study, INPUTS)["dwi"].series_number == 3


def test_a_file_cut_in_its_header_is_reported(build: Build, load: Load, tmp_path) -> None:
    datasets = build()
    save(of(datasets, 3)[-1], tmp_path / "whole.dcm")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "whole.dcm").read_bytes()[:420])
    (tmp_path / "whole.dcm").unlink()
    study = load(datasets)
    assert [type(r.error) for r in study.rejected] == [Undecodable]


@pytest.mark.parametrize("damage", ["SeriesNumber", "Rows", "RescaleSlope"])
def test_an_attribute_that_is_no_number(build: Build, load: Load, damage: str, tmp_path) -> None:
    """Each is refused with a reason; none may surface as a bare exception."""
    datasets = build(adc_scaling="1e-3")
    target = of(datasets, 4)[0]
    wrong = {"SeriesNumber": (b"4 ", b"xy"), "RescaleSlope": (b"0.001 ", b"one/k "), "Rows": None}[damage]
    others = [d for d in datasets if d is not target]
    if wrong is None:
        del target.Rows
    save(target, tmp_path / "damaged.dcm")
    if wrong is not None:
        data = (tmp_path / "damaged.dcm").read_bytes()
        head = {"SeriesNumber": b"\x20\x00\x11\x00IS", "RescaleSlope": b"\x28\x00\x53\x10DS"}[damage]
        at = data.index(head)
        (tmp_path / "damaged.dcm").write_bytes(data[:at] + data[at:].replace(wrong[0], wrong[1], 1))
    study = load(others)
    assert {r.error.code for r in study.rejected} <= {"SER-010", "SER-014"}
    if damage == "SeriesNumber":
        assert fill_roles(study, INPUTS)["adc"].series_number is None
    else:
        with pytest.raises(SeriesRejected):
            fill_roles(study, INPUTS)
