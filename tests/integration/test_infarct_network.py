"""The shipped infarct network, from a DICOM study to a segmentation in the patient."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, Phantom, make_phantom
from models.registry import Registry
from node.archive import approvals
from node.archive.engine import open_store, upgrade
from node.cli import main
from node.settings import load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[profile.default]\nobjects = ["seg", "measurements", "text"]\n'
        'languages = ["en"]\ntext_documents = "shown_as_draft"\n'
    )
    return path


def processed(
    config: Path, tmp_path: Path, lesions: list[LesionSpec], *, flipped: bool = False
) -> tuple[Phantom, Path]:
    phantom = make_phantom(77, shape_zyx=(24, 80, 80), spacing_mm_zyx=(6.0, 2.4, 2.4), lesions=lesions, flipped=flipped)
    write_phantom_study(phantom, tmp_path / "in", seed=4, flipped=flipped, shuffled=True)
    out = tmp_path / "out"
    words = ["process", str(tmp_path / "in"), "--out", str(out), "--model", "infarct-network", "--profile", "default"]
    assert main(["--config", str(config), *words]) == 0
    return phantom, out


@pytest.mark.parametrize("flipped", [False, True])
def test_an_infarct_of_ten_millilitres_lies_where_it_is_in_the_patient(
    config: Path, tmp_path: Path, flipped: bool
) -> None:
    phantom, out = processed(config, tmp_path, [LesionSpec(10.0, "left")], flipped=flipped)
    seg = hd.seg.segread(out / "seg.dcm")
    read = seg.get_volume(segment_numbers=[1], combine_segments=True, relabel=False)
    points = read.map_indices_to_reference(np.argwhere(read.array > 0))
    back = np.linalg.inv(phantom.dwi.affine_lps) @ np.c_[points, np.ones(len(points))].T
    columns, rows, slices = back[:3].round().astype(int)
    mask = np.zeros(phantom.truth_zyx.shape, bool)
    mask[slices, rows, columns] = True
    truth = phantom.truth_zyx > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7
    assert points[:, 0].mean() > 0  # +x is the patient's left


def test_a_healthy_head_gives_no_segmentation(config: Path, tmp_path: Path) -> None:
    _, out = processed(config, tmp_path, [])
    assert not (out / "seg.dcm").exists()
    assert (out / "text-en.dcm").exists()


def test_it_serves_only_once_a_person_approved_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(config)
    upgrade(settings)
    words = ["--config", str(config), "models", "approve", "infarct-network", "--by", "Dr Test"]
    assert main(words) == 2
    assert "Apache-2.0" in capsys.readouterr().err
    assert main([*words, "--accept-licence"]) == 0
    store = open_store(settings)
    with store.read() as connection:
        approved = approvals.current(connection)
    store.close()
    Registry().get("infarct-network").require_approved(approved)
