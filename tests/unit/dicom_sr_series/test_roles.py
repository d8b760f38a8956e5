"""Roles are filled by content: scalings, vendors, missing maps, lying attributes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from dicom_sr import adc
from dicom_sr.errors import MapContradicted, RoleMissing
from dicom_sr.phantom_study import AdcScaling, Vendor
from dicom_sr.roles import fill_roles
from dicom_sr.series import Kind
from models.card import CardInput
from models.phantom import LesionSpec, Phantom, make_phantom

from .conftest import INPUTS, SLICES, Build, Load, of

FITTING = [s for s in AdcScaling if s is not AdcScaling.NONSENSE]


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("scaling", FITTING)
def test_every_scaling_gives_the_same_adc(
    build: Build, load: Load, phantom: Phantom, scaling: AdcScaling, enhanced: bool
) -> None:
    volume = fill_roles(load(build(adc_scaling=scaling, enhanced=enhanced)), INPUTS)["adc"].volume
    assert volume.unit == "um2/s"
    np.testing.assert_allclose(volume.array_zyx, phantom.adc.array_zyx, atol=0.51)


@pytest.mark.parametrize("vendor", list(Vendor))
def test_b_values_of_every_vendor(build: Build, load: Load, vendor: Vendor) -> None:
    study = load(build(vendor=vendor, content="directions", include_adc=False))
    found = [(v.kind, v.b_value) for v in study.volumes]
    assert found == [(Kind.B0, 0.0)] + [(Kind.DWI_DIRECTION, 1000.0)] * 3
    assert len({v.direction for v in study.volumes[1:]}) == 3


@pytest.mark.parametrize("enhanced", [False, True])
def test_trace_and_adc_are_computed_where_absent(build: Build, load: Load, phantom: Phantom, enhanced: bool) -> None:
    roles = fill_roles(load(build(content="directions", include_adc=False, enhanced=enhanced)), INPUTS)
    dwi, adc = roles["dwi"].volume, roles["adc"].volume
    assert (dwi.facts["derived"], adc.facts["derived"]) == ("trace", "adc")
    assert "3 diffusion directions" in dwi.facts["derivation"]
    np.testing.assert_allclose(dwi.array_zyx, np.round(phantom.dwi.array_zyx), rtol=0.002, atol=1)
    inside = (phantom.adc.array_zyx > 0) & (phantom.dwi.array_zyx > 60)
    assert np.abs(adc.array_zyx - phantom.adc.array_zyx)[inside].max() < 20
    assert np.isfinite(adc.array_zyx).all() and adc.array_zyx.min() == 0


def test_zeros_in_the_background_give_zero_not_nan(build: Build, load: Load) -> None:
    datasets = build(include_adc=False)
    for dataset in [*of(datasets, 2), *of(datasets, 3)]:
        values = np.frombuffer(dataset.PixelData, "<u2").copy()
        values[: values.size // 4] = 0
        dataset.PixelData = values.tobytes()
    volume = fill_roles(load(datasets), INPUTS)["adc"].volume
    assert np.isfinite(volume.array_zyx).all()
    assert (volume.array_zyx[:, : 72 // 4] == 0).all()


def test_a_refused_adc_map_is_not_replaced_by_a_computed_one(build: Build, load: Load) -> None:
    from dicom_sr.errors import UnknownUnits

    with pytest.raises(UnknownUnits):
        fill_roles(load(build(adc_scaling="nonsense", include_b0=True)), INPUTS)


def test_an_adc_map_that_no_attribute_names(build: Build, load: Load, phantom: Phantom) -> None:
    """As some GE software writes it: DERIVED, with the b-value of its source, and nothing that says ADC."""
    datasets = build(vendor="ge", include_b0=False)
    for dataset, source in zip(of(datasets, 4), of(datasets, 3), strict=True):
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        dataset.SeriesDescription = "DWI b1000"
        dataset.Manufacturer = source.Manufacturer
        block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x39, "IS", ["1000001000", "8", "0", "0"])
    for dataset in of(datasets, 3):
        dataset.SeriesDescription = "ADC map"
    roles = fill_roles(load(datasets), INPUTS)
    assert (roles["dwi"].series_number, roles["adc"].series_number) == (3, 4)
    assert roles["adc"].volume.facts["adc_evidence"].startswith("content")
    np.testing.assert_allclose(roles["adc"].volume.array_zyx, phantom.adc.array_zyx, atol=0.51)


def test_the_b_value_nearest_1000_is_taken(build: Build, load: Load) -> None:
    datasets = build()
    strong = copy.deepcopy(of(datasets, 3))
    for dataset in strong:
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.5"
        dataset.DiffusionBValue, dataset.SeriesInstanceUID, dataset.SeriesNumber = 2000.0, "2.25.815", 9
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") // 2).tobytes()
    assert fill_roles(load([*datasets, *strong]), INPUTS)["dwi"].b_value == 1000.0


def test_several_b_values_in_one_series(build: Build, load: Load) -> None:
    datasets = build()
    merged = of(datasets, 2)
    for dataset in merged:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = of(datasets, 3)[0].SeriesInstanceUID, 3
    study = load(datasets)
    assert [(v.kind, v.b_value) for v in study.volumes] == [
        (Kind.B0, 0.0),
        (Kind.DWI_TRACE, 1000.0),
        (Kind.ADC, None),
    ]


def test_repeats_are_split_by_temporal_position(build: Build, load: Load) -> None:
    datasets = of(build(), 3)
    again = copy.deepcopy(datasets)
    for position, part in enumerate((datasets, again), start=1):
        for dataset in part:
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{position}"
            dataset.TemporalPositionIdentifier = position
    study = load([*datasets, *again])
    assert [v.volume.array_zyx.shape[0] for v in study.volumes] == [SLICES, SLICES]


def test_optional_inputs_may_stay_empty(build: Build, load: Load) -> None:
    study = load(build(include_b0=False, include_adc=False))
    optional = CardInput(role="adc", kind="adc", modality="MR", required=False, same_grid_as="dwi")
    assert set(fill_roles(study, [INPUTS[0], optional])) == {"dwi"}
    with pytest.raises(RoleMissing):
        fill_roles(study, INPUTS)


def test_an_image_role(build: Build, load: Load) -> None:
    study = load(of(build(), 2))
    wanted = CardInput(role="image", kind="image", modality="MR")
    assert fill_roles(study, [wanted])["image"].series_number == 2


def test_source_datasets_come_in_slice_order(build: Build, load: Load) -> None:
    study = load(build())
    chosen = fill_roles(study, INPUTS)["dwi"]
    sources = study.source_datasets(chosen)
    heights = [float(d.ImagePositionPatient[2]) for d in sources]
    assert heights == sorted(heights) == [pytest.approx(f.position_mm[2]) for f in chosen.frames]
    assert all("PixelData" not in header for header in study.headers)
    enhanced = load_enhanced(build, load)
    assert len(enhanced.source_datasets(fill_roles(enhanced, INPUTS)["dwi"])) == 1


def load_enhanced(build: Build, load: Load):
    return load(build(enhanced=True))


def damaged(datasets: list, series: int, change: Callable[[np.ndarray], np.ndarray]) -> list:
    """The data sets with the pixels of one series changed; arrays are (slices, rows, columns) by position."""
    part = sorted(of(datasets, series), key=lambda d: float(d.ImagePositionPatient[2]))
    values = np.stack([np.frombuffer(d.PixelData, "<u2").reshape(d.Rows, d.Columns) for d in part])
    for dataset, plane in zip(part, change(values), strict=True):
        dataset.PixelData = plane.astype("<u2").tobytes()
    return datasets


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:, :, ::-1],
        lambda v: v[::-1],
        lambda v: np.round(v * 1.35),
        lambda v: np.where(np.arange(len(v))[:, None, None] % 2, v, np.round(v * 0.5)),
    ],
    ids=["mirrored", "slices reversed", "scale", "scale of every other slice"],
)
def test_a_map_that_its_own_images_contradict(build: Build, load: Load, change: Callable) -> None:
    with pytest.raises(MapContradicted):
        fill_roles(load(damaged(build(), 4, change)), INPUTS)


def test_images_without_diffusion_weighting_are_found_out(build: Build, load: Load, phantom: Phantom) -> None:
    weak = np.round(phantom.b0.array_zyx)
    with pytest.raises(MapContradicted, match="bright as tissue"):
        fill_roles(load(damaged(build(include_b0=False), 3, lambda _: weak)), INPUTS)


def test_a_map_of_another_day_on_the_same_grid() -> None:
    """Anatomy agrees, the infarct does not: the map is not of these images."""
    today = make_phantom(7, lesions=[LesionSpec(8.0, "left")])
    before = make_phantom(7, lesions=[])
    images = today.b0.array_zyx, today.dwi.array_zyx
    computed = adc.compute_adc(*images, b_low=0.0, b_high=1000.0)
    adc.refuse_contradiction(today.adc.array_zyx, today.dwi.array_zyx, computed)
    smoothed = ndimage.gaussian_filter(today.adc.array_zyx, (0, 0.7, 0.7))
    adc.refuse_contradiction(smoothed, today.dwi.array_zyx, computed)
    with pytest.raises(MapContradicted, match="one place"):
        adc.refuse_contradiction(before.adc.array_zyx, today.dwi.array_zyx, computed)
