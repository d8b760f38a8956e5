"""Structures that lie over each other on a radiograph: each mask comes out of the DICOM SEG pixel for pixel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.errors import OverlayMismatch
from dicom_sr.roles import fill_roles
from dicom_sr.series import LoadedStudy, SeriesVolume, load_study
from models.composer import compose
from models.errors import CardInvalid, InferenceFailed
from models.model import Model
from models.projection_masks import layered
from models.resizing import nearest
from models.results import NotCompared, Outcome, StudyResult
from models.stored_result import Grid, StoredResult, dump, load
from models.volume import Volume
from node.cli import main
from node.jobs.comparing import compared
from node.jobs.specification import Prior
from node.jobs.stored_files import write_stored
from tests.conformance.judging import complaints, run
from tests.generators.radiographs import write_radiograph
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import context
from tests.unit.models_masks.known_masks import SIZE, steps, write_model

LIMITS = (0.2, 0.5, 0.9, 2.0, -0.1)
"""All boxes; the brighter ones, which lie in front; the brightest one; what is nowhere; and what is beside the boxes."""
THERE = 4
Scene = tuple[LoadedStudy, SeriesVolume, StudyResult]


def expected(values: npt.NDArray[np.uint16], limit: float) -> npt.NDArray[np.bool_]:
    """The network's answer, by the same steps of the original: nearest to the network's size and back."""
    share = (values - values.min()) / np.float64(np.ptp(values))
    seen = nearest(share, (SIZE, SIZE))
    return nearest(seen > limit if limit > 0 else seen < -limit, values.shape) > 0  # type: ignore[arg-type]


def ran(folder: Path, values: npt.NDArray[np.uint16], limits: tuple[float, ...] = LIMITS, **changes: object) -> Scene:
    write_model(folder / "model", limits)
    write_radiograph(folder / "study" / "a.dcm", values, **changes)  # type: ignore[arg-type]
    study = load_study([folder / "study" / "a.dcm"])
    model = Model(folder / "model")
    source = fill_roles(study, model.card.inputs)["image"]
    return study, source, model.run({"image": source.volume}, {})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return ran(tmp_path, steps())


@pytest.mark.parametrize("shape", [(150, 101), (64, 64), (96, 130)], ids=str)
@pytest.mark.parametrize("modality", ["DX", "CR"])
def test_every_mask_comes_back_from_the_segmentation(tmp_path: Path, shape: tuple[int, int], modality: str) -> None:
    values = steps(*shape)
    study, source, result = ran(tmp_path, values, modality=modality)
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    check([rendered], study, result, source)
    made = dcmread(BytesIO(rendered.encoded))
    assert (made.SegmentationType, made.SegmentsOverlap, made.BitsAllocated) == ("BINARY", "YES", 1)
    assert "FrameOfReferenceUID" not in made
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    uid = source.frames[0].sop_instance_uid
    pixels = seg.get_pixels_by_source_instance([uid], combine_segments=False)[0]
    assert pixels.shape == (*shape, THERE)
    overlaps = 0
    for number, label in enumerate(each.SegmentLabel for each in seg.SegmentSequence):
        truth = expected(values, LIMITS[int(label.rpartition(" ")[2]) - 1])
        assert truth.any() and np.array_equal(pixels[..., number] > 0, truth)
        overlaps += int(truth.sum())
    assert overlaps > (pixels > 0).any(axis=-1).sum()  # they do lie over each other


@pytest.mark.parametrize("orientation", [None, ["L", "F"]], ids=str)
def test_others_find_no_fault(tmp_path: Path, orientation: list[str] | None) -> None:
    more = {} if orientation is None else {"PatientOrientation": orientation}
    study, source, result = ran(tmp_path, steps(), **more)
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    (tmp_path / "seg.dcm").write_bytes(rendered.encoded)
    _, said = run(require("dciodvfy"), tmp_path / "seg.dcm")
    assert said.startswith("Segmentation")
    assert complaints(said, "Error", ()) == []
    made = dcmread(tmp_path / "seg.dcm")
    assert list(made.PatientOrientation or []) == (orientation or [])


def test_an_inverted_radiograph_gives_the_same_masks(tmp_path: Path) -> None:
    _, _, plain = ran(tmp_path / "plain", steps())
    _, _, other = ran(tmp_path / "other", 4095 - steps(), photometric="MONOCHROME1")
    assert plain.segmentation is not None and other.segmentation is not None
    for one, two in zip(plain.segmentation.layers, other.segmentation.layers, strict=True):
        assert np.array_equal(one, two)


def test_no_volume_is_claimed_of_a_shadow(scene: Scene) -> None:
    study, source, result = scene
    assert result.total_ml is None and result.segmentation is not None
    assert [each.volume_ml for each in result.segmentation.regions] == [None] * THERE
    sides = {each.label: each.laterality.value for each in result.segmentation.regions}
    assert sides == {
        "Structure 1": "right",
        "Structure 2": "bilateral",
        "Structure 3": "unknown",
        "Structure 5": "right",
    }
    drafts = tuple(compose(result, language) for language in ("en", "ja"))
    assert "4 structures outlined" in drafts[0].findings and "mL" not in drafts[0].findings + drafts[1].findings
    assert "4個の構造" in drafts[1].impression
    kinds = ("seg", "measurements", "presentation", "key_objects", "rtstruct", "secondary_capture")
    objects = render(result, study, context(objects=kinds), source)
    check(objects, study, result, source)
    assert {each.role for each in objects} == {"seg", "presentation", "key_objects"}
    (only,) = render(result, study, context(objects=("measurements",)), source)
    assert only.role == "seg"


@pytest.mark.parametrize("form", ["labelmap", "fractional"])
def test_overlaps_are_written_as_bits_whatever_form_is_wanted(scene: Scene, form: str) -> None:
    study, source, result = scene
    (rendered,) = render(result, study, context(objects=("seg",), segmentation=form), source)
    check([rendered], study, result, source)
    assert rendered.dataset.SegmentationType == "BINARY"


def test_one_object_each(scene: Scene) -> None:
    study, source, result = scene
    objects = render(result, study, context(objects=("seg",), per_lesion=True), source)
    check(objects, study, result, source)
    assert [each.dataset.SegmentsOverlap for each in objects] == ["NO"] * THERE


def without_a_pixel(result: StudyResult) -> StudyResult:
    """The result, with one pixel less in its last layer."""
    assert result.segmentation is not None
    *others, last = result.segmentation.overlying
    less = last.copy()
    less[tuple(np.argwhere(less)[0])] = 0
    return replace(result, segmentation=replace(result.segmentation, overlying=(*others, less)))


@pytest.mark.parametrize("fault", ["pixel", "overlap", "place", "image"])
def test_a_wrong_overlay_is_caught(scene: Scene, fault: str) -> None:
    study, source, result = scene
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    made = rendered.dataset
    if fault == "pixel":
        result = without_a_pixel(result)
    elif fault == "overlap":
        made.SegmentsOverlap = "NO"
    elif fault == "place":
        made.FrameOfReferenceUID = "2.25.1"
    else:
        (header,) = study.headers
        header.Rows = 1
    with pytest.raises(OverlayMismatch):
        check([rendered], study, result, source)


def test_layers_survive_being_stored(scene: Scene) -> None:
    result = scene[2]
    again = load(dump(StoredResult(result, "image"))).result
    assert again.segmentation is not None and result.segmentation is not None
    assert len(again.segmentation.layers) == 3
    for region in result.segmentation.regions:
        assert np.array_equal(again.segmentation.where(region.number), result.segmentation.where(region.number))
    assert not result.segmentation.where(9).any()


def test_shadows_are_not_compared_with_earlier_ones(scene: Scene, tmp_path: Path) -> None:
    study, source, result = scene
    stored = write_stored(
        StoredResult(result, "image", grid=Grid(source.volume.affine_lps, (1, 150, 101), "")), tmp_path
    )
    prior = Prior(study_uid=study.study_uid, stored=stored)
    told, objects = compared(prior, result, source, [])
    assert (told.comparison, told.not_compared, objects) == (None, NotCompared.NOT_COMPARABLE, None)
    assert told.segmentation is result.segmentation


def test_masks_that_do_not_touch_share_a_layer() -> None:
    masks = np.random.default_rng(1).random((40, 20, 30)) < 0.1
    masks[7] = False
    layers = layered(masks)
    assert len(layers) < 39
    for n, mask in enumerate(masks):
        found = [layer == n + 1 for layer in layers if (layer == n + 1).any()]
        assert len(found) == mask.any() and all(np.array_equal(each, mask) for each in found)
    assert layered(np.zeros((3, 4, 4), bool)) == []


def test_nothing_there_is_said(tmp_path: Path) -> None:
    study, source, result = ran(tmp_path, np.full((40, 50), 7, np.uint16), limits=(0.5,))
    assert (result.outcome, result.segmentation) == (Outcome.NOTHING_FOUND, None)
    objects = render(result, study, context(objects=("seg", "measurements", "status")), source)
    check(objects, study, result, source)
    assert objects


def test_the_masks_reach_a_file(tmp_path: Path) -> None:
    write_model(tmp_path / "site" / "known-masks", LIMITS)
    write_radiograph(tmp_path / "in" / "a.dcm", steps())
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["seg", "presentation", "measurements", "text", "status"]\n'
    )
    words = ["process", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", "known-masks"]
    assert main(["--config", str(config), *words, "--profile", "default"]) == 0
    made = dcmread(next((tmp_path / "out").glob("seg*.dcm")))
    assert made.NumberOfFrames == THERE
    assert not list((tmp_path / "out").glob("measurements*.dcm"))


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    image = {"size": SIZE, "crop": "centre_square", "resize": "nearest"}
    with pytest.raises(CardInvalid, match="crop"):
        Model(write_model(tmp_path / "a", LIMITS, option={"image": image})).run({}, {})
    model = Model(write_model(tmp_path / "c", LIMITS))
    two = Volume(np.zeros((2, 8, 8), np.float32), np.eye(4), facts={"maximum_value": 1})
    with pytest.raises(InferenceFailed, match="one image"):
        model.run({"image": two}, {})
    hollow = Volume(np.full((1, 8, 8), np.nan, np.float32), np.eye(4), facts={"maximum_value": 1})
    with pytest.raises(InferenceFailed, match="NaN"):
        model.run({"image": hollow}, {})
    with pytest.raises(InferenceFailed, match="missing"):
        model.run({}, {})
