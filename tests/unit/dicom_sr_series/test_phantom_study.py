"""The phantom study lies where the phantom lies, in every plane and order, and is valid DICOM."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_sr.phantom_study import JAPANESE_PATIENT, AdcScaling, Content, Vendor, write_phantom_study
from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.phantom import Phantom, make_phantom
from tests.peers import require

from .conftest import INPUTS, SLICES

FEW = [AdcScaling.MM2_PER_S]
PLANES = ("axial", "sagittal", "coronal", "oblique")


@pytest.fixture(scope="module")
def small() -> Phantom:
    """Few voxels: it is written 32 times."""
    return make_phantom(2, shape_zyx=(12, 40, 36), spacing_mm_zyx=(10.0, 5.0, 5.2))


@pytest.mark.parametrize(
    ("plane", "flipped", "shuffled", "enhanced"), list(itertools.product(PLANES, *[(False, True)] * 3))
)
def test_every_voxel_keeps_its_place(
    small: Phantom, tmp_path: Path, plane: str, flipped: bool, shuffled: bool, enhanced: bool
) -> None:
    written = write_phantom_study(
        small, tmp_path, seed=5, plane=plane, flipped=flipped, shuffled=shuffled, enhanced=enhanced, include_b0=False
    )
    chosen = fill_roles(load_study(written.files), INPUTS)["dwi"]
    loaded = chosen.volume
    np.testing.assert_allclose(loaded.affine_lps, written.affine, atol=1e-6)
    assert loaded.array_zyx.shape == written.truth_zyx.shape
    if plane != "oblique":
        # Every voxel's centre, taken back through the phantom's own affine, must hold the phantom's own value.
        k, j, i = np.indices(loaded.array_zyx.shape).reshape(3, -1)
        here = loaded.affine_lps @ np.stack([i, j, k, np.ones_like(i)])
        x, y, z = np.rint(np.linalg.inv(small.dwi.affine_lps) @ here)[:3].astype(int)
        for own, there in ((loaded.array_zyx, small.dwi.array_zyx), (written.truth_zyx, small.truth_zyx)):
            assert np.abs(own.ravel() - there[z, y, x]).max() <= 0.51
    for number, frame in enumerate(chosen.frames):
        np.testing.assert_allclose(loaded.affine_lps[:3] @ [0, 0, number, 1], frame.position_mm, atol=1e-6)


def test_the_same_call_writes_the_same_bytes(phantom: Phantom, tmp_path: Path) -> None:
    first = write_phantom_study(phantom, tmp_path / "a", seed=5, shuffled=True)
    second = write_phantom_study(phantom, tmp_path / "b", seed=5, shuffled=True)
    assert [a.read_bytes() for a in first.files] == [b.read_bytes() for b in second.files]
    other = write_phantom_study(phantom, tmp_path / "c", seed=6)
    assert other.study_uid != first.study_uid


def test_file_order_does_not_matter(phantom: Phantom, tmp_path: Path) -> None:
    written = write_phantom_study(phantom, tmp_path, seed=5, shuffled=True)
    forward, backward = load_study(written.files), load_study(written.files[::-1])
    assert forward.digests == backward.digests
    for a, b in zip(forward.volumes, backward.volumes, strict=True):
        assert a.frames == b.frames
        np.testing.assert_array_equal(a.volume.array_zyx, b.volume.array_zyx)


@pytest.mark.peer
@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("scalings", [FEW, pytest.param(list(AdcScaling), marks=pytest.mark.slow)])
def test_other_toolkits_find_no_error(
    phantom: Phantom, tmp_path: Path, enhanced: bool, scalings: list[AdcScaling]
) -> None:
    checker, consistency = require("dciodvfy"), require("dcentvfy")
    for number, scaling in enumerate(scalings):
        for content, vendor in ((Content.TRACE, Vendor.STANDARD), (Content.DIRECTIONS, list(Vendor)[number % 4])):
            written = write_phantom_study(
                phantom,
                tmp_path / f"{number}{content}",
                seed=5,
                enhanced=enhanced,
                adc_scaling=scaling,
                content=content,
                vendor=vendor,
                patient=JAPANESE_PATIENT,
            )
            for path in {written.files[0], written.files[-1]}:
                done = subprocess.run([checker, path], capture_output=True, text=True, check=False)
                assert "Error" not in done.stderr, done.stderr
            done = subprocess.run([consistency, *written.files], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_a_japanese_name_survives(phantom: Phantom, tmp_path: Path) -> None:
    written = write_phantom_study(phantom, tmp_path, seed=5, enhanced=True, patient=JAPANESE_PATIENT)
    header = dcmread(written.files[0], stop_before_pixels=True)
    assert header.PatientName.ideographic == "山田^太郎"
    assert list(header.SpecificCharacterSet) == ["", "ISO 2022 IR 87"]
    assert load_study(written.files).headers[0].PatientName.phonetic == "やまだ^たろう"


def test_headers_only(phantom: Phantom, tmp_path: Path) -> None:
    written = write_phantom_study(phantom, tmp_path, seed=5)
    study = load_study(written.files, pixels=False)
    assert (len(study.headers), study.volumes, study.rejected) == (3 * SLICES, (), ())
