"""Programs that behave: what they wrote becomes a result in the card's own words, on the voxels of the images."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from models.errors import CardInvalid
from models.program_errors import NotIsolated, OutputUnusable, RuntimeMissing
from models.registry import Registry
from models.results import Outcome
from node.cli import main
from tests.unit.node_external.conftest import AFFINE, PYTHON, painted, run, write_card

pytestmark = pytest.mark.slow

MEAN = {
    "key": "brightness.mean",
    "name": {"value": "373098007", "scheme": "SCT", "meaning": "Mean"},
    "unit": {"value": "1", "scheme": "UCUM", "meaning": "no units"},
    "minimum": 0.0,
    "maximum": 2000.0,
}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_mercure_module_runs_unchanged(tmp_path: Path, series: list[Path], kind: str) -> None:
    settings = {"threshold": 250, "type": kind}
    folder = write_card(tmp_path / "module", "threshold_module.py", settings=settings, measurements=[MEAN])
    result = run(folder, series)
    assert result.outcome is Outcome.FOUND and result.segmentation is not None
    # Slices of the array follow row × column direction, here the order they were written in.
    assert np.array_equal(result.segmentation.mask_zyx > 0, painted() > 250)
    (region,) = result.segmentation.regions
    assert (region.label, region.finding.scheme) == ("Grey", "99TEST")  # the card's words, not the program's
    assert region.volume_ml == pytest.approx((painted() > 250).sum() * 1.2 * 1.2 * 2 / 1000)
    assert result.totals[-1].value == pytest.approx(painted()[painted() > 250].mean())
    assert result.model.provider == "external" and len(result.model.parameters["executable"]) == 64
    assert result.evidence["program"]["isolation"] == "namespaces"


def test_a_package_writes_nifti_and_two_labels(tmp_path: Path, series: list[Path]) -> None:
    folder = write_card(tmp_path / "package", "threshold_package.py", layout="map", mask="nifti")
    result = run(folder, series)
    assert result.segmentation is not None
    by_name = {each.label: result.segmentation.mask_zyx == each.number for each in result.segmentation.regions}
    assert np.array_equal(by_name["Grey"], painted() == 400) and np.array_equal(by_name["White"], painted() == 800)


def test_no_mask_is_no_negative_unless_the_card_says_so(tmp_path: Path, series: list[Path]) -> None:
    with pytest.raises(OutputUnusable, match="no mask"):
        run(write_card(tmp_path / "strict", "misbehave.py", "report", "1"), series)
    lenient = write_card(tmp_path / "lenient", "misbehave.py", "report", "1", no_mask="nothing_found")
    assert run(lenient, series).outcome is Outcome.NOTHING_FOUND


def test_measurements_stay_within_the_cards_bounds(tmp_path: Path, series: list[Path]) -> None:
    for value in ("-1", "2001", "nan", "inf"):
        words = ("misbehave.py", "report", value)
        folder = write_card(tmp_path / f"says{value}", *words, mask="none", measurements=[MEAN])
        with pytest.raises(OutputUnusable, match=r"not within|no number"):
            run(folder, series)
    good = run(write_card(tmp_path / "good", "misbehave.py", "report", "7", mask="none", measurements=[MEAN]), series)
    assert [each.value for each in good.totals] == [7.0] and good.total_ml is None


def test_what_is_run_is_pinned(tmp_path: Path) -> None:
    folder = write_card(tmp_path / "loose", "misbehave.py", "{model}/other.py")
    with pytest.raises(CardInvalid, match="not pinned"):
        Registry([folder.parent]).get("loose").run({}, {})
    with pytest.raises(CardInvalid, match="options"):
        bad = write_card(tmp_path / "shell", "misbehave.py", python="sh")
        Registry([bad.parent]).get("shell").run({}, {})


def test_an_image_is_pinned_and_never_fetched(tmp_path: Path, series: list[Path]) -> None:
    """Whether there is no runtime, one that does not run, or one without this image."""
    loose = write_card(tmp_path / "loose", "misbehave.py", image="example/module:latest")
    with pytest.raises(CardInvalid, match=r"options\.image"):
        run(loose, series)
    folder = write_card(tmp_path / "image", "misbehave.py", image=f"example/module@sha256:{'0' * 64}")
    with pytest.raises(RuntimeMissing):
        run(folder, series)


def test_nobody_there_to_run_it(tmp_path: Path, series: list[Path]) -> None:
    from dicom_sr.series import load_study

    folder = write_card(tmp_path / "module", "threshold_module.py")
    with pytest.raises(NotIsolated):
        Registry([folder.parent]).get("module").run({"image": load_study(series).volumes[0].volume}, {})


@pytest.mark.slow
def test_through_the_node_the_objects_are_its_own(tmp_path: Path, series: list[Path]) -> None:
    write_card(tmp_path / "site" / "module", "threshold_module.py", settings={"threshold": 250})
    folders = ", ".join(f'"{each}"' for each in PYTHON)
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        f'[external]\nfolders = [{folders}]\n[profile.default]\nobjects = ["seg", "measurements"]\nmaximum_series = 4\n'
    )
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        words = ["process", str(series[0].parent), "--out", str(out), "--model", "module", "--profile", "default"]
        assert main(["--config", str(config), *words]) == 0
    assert (outs[0] / "seg.dcm").read_bytes() == (outs[1] / "seg.dcm").read_bytes()
    assert {path.name for path in outs[0].iterdir()} == {"seg.dcm", "measurements.dcm"}
    seg = hd.seg.segread(outs[0] / "seg.dcm")
    assert seg.PatientName == "Secret^Name" and seg.StudyInstanceUID == dcmread(series[0]).StudyInstanceUID
    assert seg.SegmentSequence[0].SegmentLabel == "Grey" and seg.Manufacturer != "Foreign"
    volume = seg.get_volume(segment_numbers=[1], combine_segments=True, relabel=True)
    points = np.c_[volume.map_indices_to_reference(np.argwhere(volume.array > 0)), np.ones((volume.array > 0).sum())]
    x, y, z = (np.linalg.inv(AFFINE) @ points.T)[:3].round().astype(int)
    assert len(x) == (painted() > 250).sum() and (painted()[z, y, x] > 250).all()
