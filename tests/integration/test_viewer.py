"""What the overlay viewer draws where: segmentations by place and reference, never by order; and reports as text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import update

from node.archive import tables
from node.web.dicomweb.holdings import Holding
from node.web.viewer.overlays import Placed, place, read_overlay
from node.web.viewer.report_tree import report_of
from node.web.viewer.stacks import Stack, stacks_of
from tests.network import instance, running_node, uid
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.web_scene import freeze, receive, running_web

HOSTILE = '"><script>window.injected=1</script><img src=x onerror="window.injected=2">'


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return phantom_case(tmp_path_factory.mktemp("case"), shuffled=True)


def holding(path: Path) -> Holding:
    header = dcmread(path, stop_before_pixels=True)
    return Holding(
        str(header.SOPInstanceUID),
        str(header.SOPClassUID),
        str(header.StudyInstanceUID),
        str(header.SeriesInstanceUID),
        str(header.file_meta.TransferSyntaxUID),
        path,
        path.stat().st_size,
        str(header.Modality),
    )


def written(case: Case, folder: Path, change: Callable[[Dataset], None] = lambda _: None, **profile: Any) -> Path:
    """The case's segmentation, changed."""
    rendered = next(each for each in case.rendered(objects=("seg",), **profile) if each.role == "seg")
    path = folder / "seg.dcm"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rendered.encoded)
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def stack_of(case: Case) -> Stack:
    """The trace-weighted images."""
    return next(
        each
        for each in stacks_of(map(holding, case.files))
        if each.slices[0].holding.sop_instance_uid in {frame.sop_instance_uid for frame in case.source.frames}
    )


def drawn(case: Case, path: Path, stack: Stack | None = None) -> Placed:
    overlay = read_overlay(holding(path))
    assert overlay is not None
    return place(overlay, stack or stack_of(case))


def mask_of(case: Case) -> np.ndarray:
    assert case.result.segmentation is not None
    return case.result.segmentation.mask_zyx


def areas(placed: Placed) -> dict[int, dict[int, int]]:
    """Slice → segment → pixels."""
    made: dict[int, dict[int, int]] = {}
    for index, frames in placed.frames.items():
        for frame in frames:
            for number, area in frame.areas.items():
                if area:
                    made.setdefault(index, {})[number] = area
    return made


def expected(case: Case) -> dict[int, dict[int, int]]:
    mask = mask_of(case)
    found = {
        index: {int(n): int((mask[index] == n).sum()) for n in np.unique(mask[index]) if n}
        for index in range(len(mask))
    }
    return {index: each for index, each in found.items() if each}


def test_slices_are_ordered_by_place(case: Case) -> None:
    stack = stack_of(case)
    assert [each.holding.sop_instance_uid for each in stack.slices] == [f.sop_instance_uid for f in case.source.frames]
    offsets = [each.offset_mm for each in stack.slices]
    assert offsets == sorted(offsets)
    assert stack.slices[0].facts["sides"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


@pytest.mark.parametrize("form", ["binary", "labelmap", "fractional"])
def test_every_form_lies_where_the_mask_lies(case: Case, tmp_path: Path, form: str) -> None:
    assert areas(drawn(case, written(case, tmp_path, segmentation=form))) == expected(case)


def test_frames_in_any_order_lie_where_they_lie(case: Case, tmp_path: Path) -> None:
    def shuffle(dataset: Dataset) -> None:
        order = list(range(int(dataset.NumberOfFrames)))
        random.Random(4).shuffle(order)
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        size = dataset.Rows * dataset.Columns
        frames = bits[: size * len(order)].reshape(len(order), size)[order]
        packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        groups = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = [groups[at] for at in order]

    assert areas(drawn(case, written(case, tmp_path, shuffle))) == expected(case)


def _other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def _swapped_references(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence
    first, last = groups[0], groups[-1]
    first.DerivationImageSequence, last.DerivationImageSequence = (
        last.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def _moved_within_the_plane(dataset: Dataset) -> None:
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        groups.PlanePositionSequence[0].ImagePositionPatient = [float(x) + 3.0, y, z]


def _turned(dataset: Dataset) -> None:
    (shared,) = dataset.SharedFunctionalGroupsSequence
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0.7071068, 0.7071068]


def _coarser(dataset: Dataset) -> None:
    (shared,) = dataset.SharedFunctionalGroupsSequence
    shared.PixelMeasuresSequence[0].PixelSpacing = [9.0, 9.0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_other_frame_of_reference, "frame of reference"),
        (_swapped_references, "contradicts itself"),
        (_moved_within_the_plane, "contradicts itself"),
        (_turned, "plane or pixel grid"),
        (_coarser, "plane or pixel grid"),
    ],
)
def test_nothing_is_drawn_where_it_may_be_wrong(
    case: Case, tmp_path: Path, change: Callable[[Dataset], None], why: str
) -> None:
    placed = drawn(case, written(case, tmp_path, change))
    assert placed.frames == {} and why in placed.refusal


def test_frames_without_a_slice_are_counted(case: Case, tmp_path: Path) -> None:
    stack = stack_of(case)
    lost = max(expected(case))
    shorter = Stack(
        stack.key,
        stack.series_uid,
        1,
        "",
        "MR",
        stack.frame_of_reference,
        stack.slices[:lost] + stack.slices[lost + 1 :],
    )
    placed = drawn(case, written(case, tmp_path), shorter)
    assert placed.unplaced == len(expected(case)[lost]) and not placed.refusal
    assert sum(map(len, areas(placed).values())) == sum(map(len, expected(case).values())) - placed.unplaced


def test_other_series_of_the_same_grid_show_it_by_place(case: Case, tmp_path: Path) -> None:
    """The ADC map was not named as a source, and lies in the same planes."""
    path = written(case, tmp_path)
    others = [each for each in stacks_of(map(holding, case.files)) if each.key != stack_of(case).key]
    assert others
    for stack in others:
        placed = drawn(case, path, stack)
        assert areas(placed) == expected(case) and placed.named == 0


@pytest.mark.parametrize(("plane", "enhanced"), [("oblique", False), ("sagittal", False), ("axial", True)])
def test_planes_and_forms_of_images(tmp_path: Path, plane: str, enhanced: bool) -> None:
    case = phantom_case(tmp_path / "images", plane=plane, enhanced=enhanced)
    stack = stack_of(case)
    assert len(stack.slices) == len(case.source.frames)
    assert areas(drawn(case, written(case, tmp_path))) == expected(case)
    sides = stack.slices[0].facts["sides"]
    assert {"axial": "R", "sagittal": "A", "oblique": "R"}[plane] in sides["left"]


def test_images_without_geometry_are_shown_without_letters(case: Case, tmp_path: Path) -> None:
    files = []
    for file in case.files[:3]:
        dataset = dcmread(file)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            del dataset[keyword]
        files.append(tmp_path / file.name)
        dataset.save_as(files[-1])
    (stack, *_) = stacks_of(map(holding, files))
    described = stack.slices[0].facts
    assert described["sides"] is None and described["offset"] is None and described["spacing"] == [1.0, 1.0]


class _Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _hostile(dataset: Dataset) -> None:
    """Every text a peer may write says something to a browser."""
    for element in dataset.iterall():
        if element.VR in ("LO", "LT", "ST", "UT", "UC", "SH", "PN") and element.keyword not in ("PatientID",):
            limit = {"SH": 16, "LO": 64, "PN": 64}.get(element.VR, 1000)
            element.value = HOSTILE[:limit] if element.VM <= 1 else [HOSTILE[:limit]] * element.VM


@pytest.fixture
def hostile(case: Case, tmp_path: Path) -> Iterator[str]:
    """Page of a study whose every text is hostile, and whose report came from elsewhere."""
    with running_node(tmp_path / "node") as node:
        files = []
        objects = [each.encoded for each in case.rendered(objects=("seg", "measurements", "text"))]
        for at, content in enumerate([file.read_bytes() for file in case.files[:16]] + objects):
            path = tmp_path / f"{at}.dcm"
            path.write_bytes(content)
            dataset = dcmread(path)
            _hostile(dataset)
            dataset.ManufacturerModelName = "theirs"
            dataset.pop("ContributingEquipmentSequence", None)
            dataset.save_as(path)
            files.append(path)
        receive(node, files)
        with running_web(node.settings, node.store) as url:
            yield f"{url}/study/{case.study.study_uid}"


def test_hostile_text_is_text(hostile: str) -> None:
    answer = httpx.get(f"{hostile}/view", timeout=60)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    page = _Page(answer.text)
    scripts = [attributes.get("src") for tag, attributes in page.elements if tag == "script"]
    assert scripts == ["/static/htmx.min.js", "/static/console.js", "/static/viewer/main.js"]
    assert not [
        tag for tag, attributes in page.elements if tag == "img" or any(each.startswith("on") for each in attributes)
    ]
    assert not any("style" in attributes for _, attributes in page.elements)
    assert "<script>window.injected" in page.text, "it is shown as it is written"
    scene = httpx.get(f"{hostile}/view/scene", timeout=60)
    assert scene.headers["content-type"] == "application/json"
    assert HOSTILE[:10] in json.dumps(scene.json(), ensure_ascii=False).replace('\\"', '"')


def test_reports_are_shown_with_their_numbers_and_flags(case: Case, tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        receive(node, case.files)
        objects = freeze(node, case.rendered(), case.study.study_uid)
        with running_web(node.settings, node.store) as url:
            page = _Page(httpx.get(f"{url}/study/{case.study.study_uid}/view", timeout=60).text)
            words = " ".join(page.text.split())
            assert "AI result, not reviewed" in words and "UNVERIFIED" in words and "PRELIMINARY" in words
            assert case.result.segmentation is not None
            for region in case.result.segmentation.regions:
                assert f"Volume {region.volume_ml:.6g} mL"[:14] in words
            assert "急性" in words or "拡散" in words, "the Japanese draft stands beside the English one"
            images = [a["data-sop"] for tag, a in page.elements if tag == "button" and "data-sop" in a]
            assert set(images) <= {frame.sop_instance_uid for frame in case.source.frames} and images
            one = dcmread(objects["measurements"], stop_before_pixels=True)
            report = httpx.get(f"{url}/study/{case.study.study_uid}/report/{one.SOPInstanceUID}")
            assert report.status_code == 200 and "Measurement Group" in report.text
            for bad, status in (("1.2.3", 404), ("x", 400)):
                assert httpx.get(f"{url}/study/{case.study.study_uid}/report/{bad}").status_code == status
            assert httpx.get(f"{url}/study/1.2.3/view").status_code == 404
            assert httpx.get(f"{url}/study/<b>/view").status_code == 400


def test_damage_costs_itself_alone(case: Case, tmp_path: Path) -> None:
    """Values that are none, frames beyond counting, files that are gone: the rest of the study is shown."""

    def bytes_in_place(path: Path, old: bytes, new: bytes) -> None:
        content = path.read_bytes()
        assert content.count(old) == 1 and len(old) == len(new)
        path.write_bytes(content.replace(old, new))

    with running_node(tmp_path / "node") as node:
        receive(node, case.files)
        objects = freeze(node, case.rendered(), case.study.study_uid)
        gone, odd, *_ = node.files()
        gone.unlink()
        spacing = b"\x28\x00\x30\x00DS"
        at = odd.read_bytes().index(spacing) + 8
        bytes_in_place(odd, odd.read_bytes()[at - 8 : at + 3], odd.read_bytes()[at - 8 : at] + b"nan")
        objects["text-en"].write_bytes(b"x")
        with running_web(node.settings, node.store) as url:
            page = f"{url}/study/{case.study.study_uid}/view"
            scene = httpx.get(f"{page}/scene", timeout=60)
            assert scene.status_code == 200
            shown = sum(len(stack["slices"]) for stack in scene.json()["stacks"])
            assert len(scene.json()["lost"]) == 2 and shown == len(case.files) - 2
            assert len(scene.json()["overlays"]) == 1
            assert httpx.get(page, timeout=60).status_code == 200


def test_report_of_any_depth_and_length_ends() -> None:
    root = Dataset()
    root.SOPInstanceUID = "1.2.3"
    item = root
    for _ in range(100):
        child = Dataset()
        child.ValueType, child.RelationshipType = "CONTAINER", "CONTAINS"
        item.ContentSequence = [child]
        item = child
    report = report_of(root)
    assert report is not None and "not shown" in repr(report.lines)
    text = Dataset()
    text.ValueType, text.TextValue = "TEXT", "x"
    root.ContentSequence = [text] * 6000
    report = report_of(root)
    assert report is not None and len(report.lines) == 5000
    assert report.lines[-1].value.startswith("…")
    assert report_of(Dataset()) is None


def _images(folder: Path, study: str, **changes: Any) -> list[Path]:
    facts = {"PatientID": "P1", "PatientName": "A^B", "PatientBirthDate": "19500101", **changes}
    return [instance(folder, number, study=study, **facts) for number in range(2)]


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({}, True),
        ({"PatientName": "Somebody^Else"}, False),
        ({"PatientBirthDate": "19900101"}, False),
        ({"PatientID": "ANOTHER"}, False),
        ({"StudyDate": "20270101"}, False),
        ({"Modality": "CR"}, False),
    ],
)
def test_earlier_study_is_the_same_patients_beyond_doubt(tmp_path: Path, changes: dict[str, str], beside: bool) -> None:
    with running_node(tmp_path / "node") as node:
        receive(node, _images(tmp_path, "now", StudyDate="20260101"))
        receive(node, _images(tmp_path, "then", **{"StudyDate": "20250701", **changes}))
        with running_web(node.settings, node.store) as url:
            scene = f"{url}/study/{uid('now')}/view/scene"
            found = httpx.get(scene, timeout=60).json()["prior"]
            assert (found is not None) == beside
            if found is not None:
                assert (found["study"], found["date"]) == (uid("then"), "20250701")
                held = update(tables.studies).where(tables.studies.c.study_uid == uid("then"))
                with node.store.write() as connection:
                    connection.execute(held.values(held_reason="two patients"))
                assert httpx.get(scene, timeout=60).json()["prior"] is None
