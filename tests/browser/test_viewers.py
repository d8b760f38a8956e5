"""Results as a radiologist would see them: in OHIF, out of Orthanc; and as the libraries of web viewers read them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from scipy import ndimage

from dicom_sr.check import check
from dicom_sr.document import RenderedObject, render
from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.profile import OBJECT_KINDS, ObjectKind
from dicom_sr.rendering import kind_of
from dicom_sr.series import load_study
from dicom_sr.write import write_objects
from models.phantom import LesionSpec, make_phantom
from tests.browser.viewers import installed, run_script
from tests.generators.results import found
from tests.network import running_node
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port, require
from tests.unit.dicom_sr_objects.cases import Case, context, trace_of
from tests.web_scene import freeze, receive, running_web

pytestmark = [pytest.mark.peer, pytest.mark.slow]

_BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"
_NOTICE = (255, 190, 60)
_PROMPT = 108
"""Rows of the canvas under OHIF's question whether to open the segmentation."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Large enough that a region covers many pixels of a screen; voxels of three different sizes."""
    phantom = make_phantom(
        5,
        shape_zyx=(24, 96, 110),
        spacing_mm_zyx=(6.0, 2.2, 2.0),
        lesions=(LesionSpec(30.0, "left"), LesionSpec(12.0, "right")),
        orientation="axial",
    )
    written = write_phantom_study(phantom, tmp_path_factory.mktemp("study"), seed=5)
    loaded = load_study(written.files)
    source = trace_of(loaded)
    result = found(written.truth_zyx, source.volume.voxel_ml)
    assert result.segmentation is not None
    likely = ndimage.gaussian_filter((result.segmentation.mask_zyx > 0).astype(np.float32), (0, 1, 1))
    result = replace(result, segmentation=replace(result.segmentation, probability_zyx=likely))
    return Case(written.files, loaded, source, result, written)


@pytest.fixture(scope="module")
def objects(study: Case) -> list[RenderedObject]:
    """Everything a result can become."""
    made = render(
        study.result, study.study, context(objects=OBJECT_KINDS, maximum_series=len(OBJECT_KINDS)), study.source
    )
    check(made, study.study, study.result, study.source)
    return made


@dataclass(frozen=True)
class Place:
    """Where to look for a region: the slice it is largest in, and the middle of one of its voxels there."""

    number: int
    slice_index: int
    world: tuple[float, ...]


def places(case: Case) -> list[Place]:
    assert case.result.segmentation is not None
    found = []
    for region in case.result.segmentation.regions:
        inside = np.argwhere(case.result.segmentation.mask_zyx[region.key_slice] == region.number)
        row, column = inside[len(inside) // 2]
        world = case.source.volume.affine_lps @ np.array([column, row, region.key_slice, 1.0])
        found.append(Place(region.number, region.key_slice, tuple(float(v) for v in world[:3])))
    return found


@pytest.fixture(scope="module", params=["orthanc", "node"])
def seen(
    request: pytest.FixtureRequest,
    study: Case,
    objects: list[RenderedObject],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """What OHIF showed of the study and every object: out of Orthanc, and straight out of this node."""
    folder = tmp_path_factory.mktemp("ohif")
    viewer, chromium = installed(), require("chromium")
    served = _orthanc if request.param == "orthanc" else _node
    with served(folder, study, objects) as port:
        headers = [*study.study.headers, *(o.dataset for o in objects)]
        task = {
            "dist": str(viewer / "package" / "dist"),
            "chromium": chromium,
            "dicomwebPort": port,
            "studyUid": study.study.study_uid,
            "series": len({str(h.SeriesInstanceUID) for h in headers}),
            "folder": str(folder),
            "places": [{"number": p.number, "world": p.world} for p in places(study)],
        }
        return run_script("ohif.mjs", folder, task)


@contextmanager
def _orthanc(folder: Path, study: Case, objects: list[RenderedObject]) -> Iterator[int]:
    with running_orthanc(folder / "orthanc", node_port=free_port(), dicomweb=True) as orthanc:
        (folder / "objects").mkdir()
        for file in [*study.files, *(w.path for w in write_objects(objects, folder / "objects"))]:
            orthanc.store(file)
        yield orthanc.http_port


@contextmanager
def _node(folder: Path, study: Case, objects: list[RenderedObject]) -> Iterator[int]:
    with running_node(folder / "node") as node:
        receive(node, study.files)
        freeze(node, objects, study.study.study_uid)
        with running_web(node.settings, node.store) as url:
            yield int(url.rpartition(":")[2])


def mask_of(case: Case) -> np.ndarray:
    assert case.result.segmentation is not None
    return case.result.segmentation.mask_zyx


def series_of(objects: list[RenderedObject], kind: str) -> str:
    return next(str(o.dataset.SeriesInstanceUID) for o in objects if o.role.startswith(kind))


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


@dataclass(frozen=True)
class Look:
    """One screenshot, and the voxel of the source below each of its pixels."""

    picture: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, shown: Any, place: Place, case: Case) -> Look:
        """From what the viewer says about where three points of the patient are on its canvas."""
        at, right, below = np.array(shown["corners"])
        to_patient = np.linalg.inv(np.stack([right - at, below - at], axis=1) / 10.0)
        picture = np.asarray(Image.open(shown["file"]).convert("RGB")).astype(int)
        y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
        offsets = np.stack([x + 0.5 - at[0], y + 0.5 - at[1]], axis=-1) @ to_patient.T
        world = np.array(place.world) + np.concatenate([offsets, np.zeros((*offsets.shape[:2], 1))], axis=-1)
        inverse = np.linalg.inv(case.source.volume.affine_lps)
        ijk = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        return cls(picture, ijk[..., 1], ijk[..., 0])

    def expected(self, mask_yx: np.ndarray) -> np.ndarray:
        """Pixels that lie in a mask of the slice."""
        rows, columns = mask_yx.shape
        inside = (self.rows >= 0) & (self.rows < rows) & (self.columns >= 0) & (self.columns < columns)
        inside[:_PROMPT] = False
        result = np.zeros(inside.shape, bool)
        result[inside] = mask_yx[self.rows[inside], self.columns[inside]]
        return result

    @property
    def coloured(self) -> np.ndarray:
        """Pixels of the overlay: neither grey, nor of the blue that OHIF itself has."""
        colourful = np.ptp(self.picture, axis=2) > 25
        colourful[:_PROMPT] = False
        return colourful & (self.picture[..., 0] - self.picture[..., 2] > 25)


def looks(seen: Any, modality: str, case: Case) -> list[tuple[Place, Look]]:
    """Screenshots of an overlay, each on the slice it was asked for."""
    found = []
    for place, shown in zip(places(case), seen["overlays"][modality], strict=True):
        off = np.array(shown["focus"]) - case.source.frames[place.slice_index].position_mm
        normal = case.source.volume.affine_lps[:3, 2] / case.source.volume.spacing_mm_zyx[0]
        assert abs(off @ normal) < case.source.volume.spacing_mm_zyx[0] / 2
        found.append((place, Look.of(shown, place, case)))
    assert len(found) == 2
    return found


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_segments_are_seen_where_the_lesions_are(seen: Any, study: Case) -> None:
    """Every pixel of the screen goes back into the patient: coloured inside of the mask, grey outside."""
    for place, look in looks(seen, "SEG", study):
        expected = look.expected(mask_of(study)[place.slice_index] > 0)
        assert expected.sum() > 1000
        assert agreement(look.coloured, expected) > 0.9, place


def test_contours_are_seen_around_the_lesions(seen: Any, study: Case) -> None:
    for place, look in looks(seen, "RTSTRUCT", study):
        region = look.expected(mask_of(study)[place.slice_index] == place.number)
        border = ndimage.binary_dilation(region, iterations=2) & ~ndimage.binary_erosion(region, iterations=2)
        drawn = ndimage.binary_dilation(look.coloured, iterations=2)
        assert drawn[border].mean() > 0.8, place
        # Lines through the inside are the channels to holes; beyond the region there is nothing.
        assert (look.coloured & ~ndimage.binary_dilation(region, iterations=4)).sum() < 0.02 * border.sum(), place


def test_maps_are_seen_over_the_lesions(seen: Any, study: Case) -> None:
    segmentation = study.result.segmentation
    assert segmentation is not None
    assert segmentation.probability_zyx is not None
    chance_zyx = segmentation.probability_zyx
    for place, look in looks(seen, "PMAP", study):
        likely = look.expected(chance_zyx[place.slice_index] > 0.5)
        possible = look.expected(chance_zyx[place.slice_index] > 0.001)
        colourful = (np.ptp(look.picture, axis=2) > 40) & look.expected(np.ones_like(chance_zyx[0], bool))
        assert colourful[likely].mean() > 0.9, place
        beyond = ndimage.binary_dilation(possible, iterations=20)
        assert (colourful & ~beyond).sum() < 0.1 * likely.sum(), place


def test_pictures_are_seen_with_their_warning(seen: Any, objects: list[RenderedObject]) -> None:
    for kind in ("secondary_capture", "summary"):
        dataset = next(o.dataset for o in objects if o.role.startswith(kind))
        shown = seen["pictures"][str(dataset.SeriesInstanceUID)]
        assert shown["dimensions"] == [dataset.Columns, dataset.Rows, int(dataset.get("NumberOfFrames", 1))]
        is_notice = np.abs(pixels(shown["file"]) - np.array(_NOTICE)).max(axis=2) < 12
        assert is_notice.sum() > 3000


def test_reports_arrive_in_the_viewer_unchanged(seen: Any, objects: list[RenderedObject]) -> None:
    ours = {
        hashlib.sha256(dcmread(BytesIO(o.encoded)).EncapsulatedDocument).hexdigest()
        for o in objects
        if o.role.startswith("pdf")
    }
    theirs = {digest for series in seen["documents"].values() for digest in series}
    assert theirs == ours


def test_draft_text_is_seen_with_its_warning(seen: Any, objects: list[RenderedObject]) -> None:
    text = seen["texts"][series_of(objects, "text")]
    assert _BANNER in text
    assert "Restricted diffusion suggestive of acute infarct" in text


NOT_SHOWN: frozenset[ObjectKind] = frozenset({"key_objects", "presentation"})
"""Kinds this release of OHIF has no view for; docs/viewers.md says the same."""


def test_every_other_kind_has_a_view(seen: Any, objects: list[RenderedObject]) -> None:
    viewed = {one["series"] for one in seen["sets"] if not one["isUnsupported"]}
    assert {kind_of(o.role) for o in objects if str(o.dataset.SeriesInstanceUID) not in viewed} <= NOT_SHOWN


@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_cornerstone_adapters_read_the_same_voxels_and_dcmjs_the_same_numbers(
    form: str, study: Case, tmp_path: Path
) -> None:
    objects = study.rendered(objects=("seg", "measurements"), segmentation=form)
    by_uid = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): str(file) for file in study.files}
    written = {file.role: str(file.path) for file in write_objects(objects, tmp_path)}
    task = {
        "sources": [by_uid[frame.sop_instance_uid] for frame in study.source.frames],
        "segmentation": written["seg"],
        "report": written["measurements"],
    }
    read = run_script("adapters.mjs", tmp_path, task)
    segmentation = study.result.segmentation
    assert segmentation is not None
    volume = np.zeros_like(segmentation.mask_zyx)
    for group in read["voxels"]:
        for k, content in enumerate(group):
            volume[k] |= np.frombuffer(base64.b64decode(content), np.uint8).reshape(volume.shape[1:])
    assert np.array_equal(volume, segmentation.mask_zyx)
    tracked = {
        str(segment.TrackingUID): int(segment.SegmentNumber)
        for segment in dcmread(written["seg"]).SegmentSequence
        if segment.SegmentNumber  # 0 is the background of a label map
    }
    numbers = {tracked[uid]: values for uid, values in read["numbers"].items()}
    expected = {
        region.number: [[q.name.value, pytest.approx(q.value, rel=1e-6), q.unit.value] for q in region.quantities]
        for region in segmentation.regions
    }
    assert numbers == expected
