"""Radiographs are loaded bright for dense, chosen by view, and refused where nobody would read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_sr.errors import RoleAmbiguous, RoleMissing, UnsupportedImage
from dicom_sr.roles import fill_roles
from dicom_sr.series import Kind, load_study
from models.card import CardInput
from tests.generators.radiographs import write_radiograph

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "cxr_dicom"
VALUES = np.arange(12 * 9, dtype=np.uint16).reshape(12, 9) * 30
CHEST = CardInput(role="image", kind="projection", modality="CR|DX", views=("PA", "AP"))


def test_values_are_bright_for_dense(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "two.dcm", VALUES)
    write_radiograph(tmp_path / "one.dcm", 4095 - VALUES, photometric="MONOCHROME1", instance="other")
    two, one = load_study([tmp_path]).volumes
    for item in (two, one):
        assert item.kind is Kind.PROJECTION
        assert np.array_equal(item.volume.array_zyx[0], VALUES)
        assert item.volume.facts["maximum_value"] == 4095
        assert item.volume.spacing_mm_zyx[1:] == (0.2, 0.2)


def test_impossible_spacing_is_no_spacing(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", VALUES, ImagerPixelSpacing=[0.0002, 0.0002])
    assert load_study([tmp_path]).volumes[0].volume.facts["spacing_known"] is False


def test_the_frontal_view_is_chosen(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "lateral.dcm", VALUES, view="LL", instance="lateral")
    write_radiograph(tmp_path / "frontal.dcm", VALUES // 2, view="AP", modality="CR", instance="frontal")
    chosen = fill_roles(load_study([tmp_path]), [CHEST])["image"]
    assert chosen.volume.facts["view"] == "AP"


def test_a_view_that_is_not_stated_will_do_alone(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", VALUES, view="")
    assert fill_roles(load_study([tmp_path]), [CHEST])["image"].volume.facts["view"] == ""


def test_only_a_lateral_is_refused(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "lateral.dcm", VALUES, view="LL")
    with pytest.raises(RoleMissing, match="PA or AP"):
        fill_roles(load_study([tmp_path]), [CHEST])


def test_two_frontal_images_are_not_chosen_between(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", VALUES, instance="a")
    write_radiograph(tmp_path / "b.dcm", VALUES // 3, instance="b")
    with pytest.raises(RoleAmbiguous):
        fill_roles(load_study([tmp_path]), [CHEST])


@pytest.mark.parametrize(
    "change",
    [
        {"PresentationIntentType": "FOR PROCESSING"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PixelRepresentation": 1},
        {"NumberOfFrames": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_nobody_reads_is_refused_with_the_reason(tmp_path: Path, change: dict[str, object]) -> None:
    write_radiograph(tmp_path / "a.dcm", VALUES, **change)
    study = load_study([tmp_path])
    assert study.volumes == ()
    assert isinstance(study.rejected[0].error, UnsupportedImage)
    with pytest.raises(UnsupportedImage):
        fill_roles(study, [CHEST])


def test_a_volume_is_never_taken_for_an_image_role(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", VALUES)
    with pytest.raises(RoleMissing):
        fill_roles(load_study([tmp_path]), [CardInput(role="image", kind="image", modality="DX")])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_real_radiographs_load() -> None:
    for file in sorted(SHARED.iterdir()):
        study = load_study([file])
        assert [item.kind for item in study.volumes] == [Kind.PROJECTION], file.name
        values = study.volumes[0].volume.array_zyx
        assert values.max() <= study.volumes[0].volume.facts["maximum_value"]
        # Air beside the body is dark whatever the photometric interpretation.
        assert np.percentile(values, 1) < 0.5 * values.max()
