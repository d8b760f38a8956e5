"""The overlay viewer in Chromium: the pixels of its canvas held against the mask, its keys, and a page of hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from scipy import ndimage

from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.series import load_study
from models.phantom import LesionSpec, make_phantom
from tests.browser.viewers import run_script
from tests.generators.results import found
from tests.network import Node, running_node
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, trace_of
from tests.web_scene import freeze, receive, running_web

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
HOSTILE = '<img src=x onerror="window.injected=1"><script>window.injected=2</script>'


def study(folder: Path, seed: int, *lesions: LesionSpec, date: str = "", hostile: bool = False) -> Case:
    """Voxels of three different sizes, so that nothing fits by chance."""
    phantom = make_phantom(
        seed, shape_zyx=(24, 96, 110), spacing_mm_zyx=(6.0, 2.2, 2.0), lesions=lesions, orientation="axial"
    )
    written = write_phantom_study(phantom, folder, seed=seed, shuffled=True)
    for file in written.files:
        dataset = dcmread(file)
        dataset.StudyDate = date or dataset.StudyDate
        if hostile:
            dataset.SeriesDescription = dataset.StudyDescription = HOSTILE[:64]
            dataset.AccessionNumber = "<b onclick=x>"
        dataset.save_as(file)
    loaded = load_study(written.files)
    source = trace_of(loaded)
    return Case(written.files, loaded, source, found(written.truth_zyx, source.volume.voxel_ml), written)


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return study(tmp_path_factory.mktemp("study"), 5, LesionSpec(30.0, "left"), LesionSpec(12.0, "right"))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return study(tmp_path_factory.mktemp("earlier"), 6, LesionSpec(8.0, "left"), date="20250601")


@pytest.fixture(scope="module")
def node(current: Case, earlier: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        for at, case in enumerate((current, earlier)):
            receive(node, case.files)
            freeze(node, case.rendered(key=str(at) * 64), case.study.study_uid, job=f"job{at}")
        yield node


@pytest.fixture(scope="module", params=list(SIZES))
def seen(request: pytest.FixtureRequest, node: Node, current: Case, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_web(node.settings, node.store) as url:
        return look(f"{url}/study/{current.study.study_uid}/view", tmp_path_factory.mktemp("seen"), request.param)


def look(url: str, folder: Path, size: str) -> Any:
    """What the script saw of a page."""
    width, height = SIZES[size]
    task = {"chromium": require("chromium"), "url": url, "folder": str(folder), "width": width, "height": height}
    return run_script("overlay.mjs", folder, {**task, "segments": [{"index": 0}, {"index": 1}]})


def mask_of(case: Case) -> np.ndarray:
    assert case.result.segmentation is not None
    return case.result.segmentation.mask_zyx


@dataclass(frozen=True)
class Look:
    """A canvas: its pixels, and below each the row and column of the image."""

    picture: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    slice_index: int

    @classmethod
    def of(cls, shown: Any) -> Look:
        picture = np.asarray(Image.open(shown["file"]).convert("RGB")).astype(int)
        y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
        rows = np.floor((y + 0.5 - float(shown["top"])) / float(shown["scaleY"])).astype(int)
        columns = np.floor((x + 0.5 - float(shown["left"])) / float(shown["scaleX"])).astype(int)
        return cls(picture, rows, columns, int(shown["slice"]))

    def expected(self, mask_yx: np.ndarray) -> np.ndarray:
        """Pixels of the canvas that lie in a mask of the image."""
        inside = (self.rows >= 0) & (self.rows < mask_yx.shape[0])
        inside &= (self.columns >= 0) & (self.columns < mask_yx.shape[1])
        result = np.zeros(inside.shape, bool)
        result[inside] = mask_yx[self.rows[inside], self.columns[inside]]
        return result

    @property
    def coloured(self) -> np.ndarray:
        """Pixels that are not grey."""
        return np.ptp(self.picture, axis=2) > 25


def test_segments_are_drawn_where_the_lesions_are(seen: Any, current: Case) -> None:
    """Every pixel of the canvas: coloured inside of the mask, grey outside."""
    for number, shown in enumerate(seen["slices"], start=1):
        look = Look.of(shown)
        assert current.result.segmentation is not None
        assert look.slice_index == current.result.segmentation.regions[number - 1].key_slice
        assert shown["sop"] == current.source.frames[look.slice_index].sop_instance_uid
        expected = look.expected(mask_of(current)[look.slice_index] > 0)
        assert expected.sum() > 300
        assert look.coloured[expected].mean() > 0.995, number
        # Contours are two pixels wide about the edge of the voxels: nothing is coloured beyond them.
        assert not (look.coloured & ~ndimage.binary_dilation(expected, iterations=3)).any()
        red, green, blue = look.picture[ndimage.binary_erosion(expected, iterations=4)].mean(axis=0)
        assert red > green > blue - 1


def test_contour_alone_runs_along_the_edge(seen: Any, current: Case) -> None:
    look = Look.of(seen["unfilled"]["contour"])
    region = look.expected(mask_of(current)[look.slice_index] == 1)
    border = ndimage.binary_dilation(region, iterations=2) & ~ndimage.binary_erosion(region, iterations=2)
    # Corners of the line reach over the diagonal.
    square = np.ones((3, 3), bool)
    reach = ndimage.binary_dilation(region, square, iterations=2) & ~ndimage.binary_erosion(
        region, square, iterations=2
    )
    assert look.coloured[~reach].sum() == 0
    assert ndimage.binary_dilation(look.coloured, iterations=2)[border].mean() > 0.95
    assert not Look.of(seen["unfilled"]["bare"]).coloured.any()
    assert not Look.of(seen["unfilled"]["without"]).coloured.any()


def test_grey_levels_are_the_images(seen: Any, current: Case) -> None:
    """Of the slice without overlay: brighter values are brighter, in their place."""
    look = Look.of(seen["unfilled"]["bare"])
    values = current.source.volume.array_zyx[look.slice_index]
    inside = look.expected(np.ones(values.shape, bool))
    shown = look.picture[..., 0][inside]
    truth = values[look.rows[inside], look.columns[inside]]
    assert np.corrcoef(shown, truth)[0, 1] > 0.97


def test_page_says_what_it_is(seen: Any, current: Case) -> None:
    assert "AI result, not reviewed" in seen["banner"]
    assert all(each["unreviewed"] == "AI result, not reviewed" for each in [seen["first"], *seen["slices"]])
    assert seen["sides"] == ["R", "L", "A", "P"]
    assert current.result.segmentation is not None
    assert [label.split(" (")[0] for label in seen["labels"]] == [r.label for r in current.result.segmentation.regions]
    assert "not reviewed" in seen["legends"][0] and "queued" in seen["legends"][0]
    assert any("Volume" in text for text in seen["reports"])
    assert seen["overflow"] == 0, "nothing is wider than the screen"
    assert seen["complaints"] == []
    assert seen["refused"] and not any(seen["refused"].values()), "every series lies in one frame of reference"


def test_keys_drag_and_wheel(seen: Any, current: Case) -> None:
    keys = seen["keys"]
    last = len(current.source.frames) - 1
    assert (keys["home"], keys["down"], keys["end"], keys["up"], keys["wheel"]) == (0, 1, last, last - 1, 1)
    assert current.result.segmentation is not None
    assert keys["next"] == min(region.key_slice for region in current.result.segmentation.regions)
    assert len({keys["window"], keys["nextWindow"], keys["dragged"]}) == 3


def test_earlier_study_stands_beside_and_follows(seen: Any, earlier: Case, current: Case) -> None:
    prior = seen["prior"]
    assert (prior["current"]["slice"], prior["after"]["slice"]) == ("0", "0")
    assert prior["after"]["sop"] == earlier.source.frames[0].sop_instance_uid
    assert prior["current"]["sop"] == current.source.frames[0].sop_instance_uid
    look = Look.of(prior["before"])
    expected = look.expected(mask_of(earlier)[look.slice_index] > 0)
    assert (look.coloured & ~ndimage.binary_dilation(expected, iterations=3)).sum() == 0


def test_hostile_texts_and_another_frame_of_reference(tmp_path: Path) -> None:
    """Names from files do nothing; a segmentation from elsewhere is named and not drawn."""
    case = study(tmp_path / "study", 8, LesionSpec(30.0, "left"), LesionSpec(12.0, "right"), hostile=True)
    with running_node(tmp_path / "node") as node:
        receive(node, case.files)
        objects = freeze(node, case.rendered(), case.study.study_uid)
        seg = dcmread(objects["seg"])
        seg.FrameOfReferenceUID = "1.2.3"
        seg.SeriesDescription = HOSTILE[:64]
        for item in seg.SegmentSequence:
            item.SegmentLabel = HOSTILE[:64]
        seg.save_as(objects["seg"])
        with running_web(node.settings, node.store) as url:
            task = {"chromium": require("chromium"), "url": f"{url}/study/{case.study.study_uid}/view"}
            folder = tmp_path / "seen"
            folder.mkdir()
            seen = run_script(
                "overlay.mjs", folder, {**task, "folder": str(folder), "width": 1280, "height": 800, "segments": []}
            )
    assert seen["injected"] is None and seen["complaints"] == []
    assert all("frame of reference" in words for words in seen["refused"].values())
    assert seen["labels"][0].startswith(HOSTILE[:40]) and HOSTILE[:40] in seen["legends"][0]
    assert not Look.of(seen["first"]).coloured.any()
