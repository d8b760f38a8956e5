"""What is drawn on images, read back as boxes: by our own objects, by highdicom's, and what cannot be used."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from dicom_sr.errors import MarksUnusable
from dicom_sr.marks import boxes, read_marks, referenced_series
from models.prompts import BoxPrompt, boxes_of
from tests.unit.dicom_sr_objects.cases import Case, phantom_case

VARIANTS = [{"plane": "axial"}, {"plane": "oblique", "flipped": True, "shuffled": True}]


@pytest.fixture(params=VARIANTS, ids=str)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return phantom_case(tmp_path / "study", **request.param)


def _reread(made: Dataset) -> Dataset:
    """As it comes over the network."""
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def _rendered(case: Case, kind: str, **changes: object) -> Dataset:
    (made,) = [each for each in case.rendered(objects=(kind,), **changes) if each.role.startswith(kind[:3])]
    return dcmread(BytesIO(made.encoded))


def _by_plane(found: tuple[BoxPrompt, ...]) -> dict[tuple[int, int], np.ndarray]:
    """Target and slice → the box around all of its boxes there."""
    together: dict[tuple[int, int], np.ndarray] = {}
    for box in found:
        edges = np.array([-box.top, -box.left, box.bottom, box.right])
        key = (box.target, box.slice_index)
        together[key] = np.maximum(together.get(key, edges), edges)
    return together


def _agree(found: tuple[BoxPrompt, ...], case: Case, tolerance: float) -> None:
    assert case.result.segmentation is not None
    expected, read = _by_plane(boxes_of(case.result.segmentation.mask_zyx)), _by_plane(found)
    assert read.keys() == expected.keys()
    for key, edges in expected.items():
        assert np.abs(read[key] - edges).max() <= tolerance, key


@pytest.mark.parametrize("form", [{}, {"segmentation": "labelmap"}, {"segmentation": "fractional"}], ids=str)
def test_segments(case: Case, form: dict[str, object]) -> None:
    seg = _rendered(case, "seg", **form)
    _agree(boxes(read_marks(seg), case.source, follow=True), case, 1e-3)
    named = referenced_series(seg)
    assert set(named) == {case.source.series_uid}
    assert named[case.source.series_uid] <= {frame.sop_instance_uid for frame in case.source.frames}


def test_structures(case: Case) -> None:
    made = next(each for each in case.rendered(objects=("rtstruct",)))
    read = dcmread(BytesIO(made.encoded))
    _agree(boxes(read_marks(read), case.source, follow=False), case, 1.0)
    assert set(referenced_series(read)) == {case.source.series_uid}


def _graphics(case: Case, kind: str, data: list[list[float]], units: str = "PIXEL", frame: int = 3) -> Dataset:
    """A presentation state of highdicom's with one graphic on one slice."""
    header = case.study.source_datasets(case.source)[frame]
    annotation = hd.pr.GraphicAnnotation(
        referenced_images=[header],
        graphic_layer=(layer := hd.pr.GraphicLayer("DRAWN", order=1)),
        graphic_objects=[hd.pr.GraphicObject(kind, np.array(data), units, is_filled=False)],
    )
    image = dcmread(
        next(f for f in case.files if dcmread(f, stop_before_pixels=True).SOPInstanceUID == header.SOPInstanceUID)
    )
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        content_label="DRAWN",
        graphic_layers=[layer],
        graphic_annotations=[annotation],
        voi_lut_transformations=[hd.pr.SoftcopyVOILUTTransformation(window_center=1, window_width=2)],
    )
    return _reread(made)


@pytest.mark.parametrize(
    ("kind", "data", "box"),
    [
        ("POLYLINE", [[10.5, 5.5], [20.5, 5.5], [20.5, 15.5], [10.5, 5.5]], (5, 10, 15, 20)),
        ("CIRCLE", [[12.5, 9.5], [15.5, 9.5]], (6, 9, 12, 15)),
        ("ELLIPSE", [[5.5, 9.5], [15.5, 9.5], [10.5, 6.5], [10.5, 12.5]], (6, 5, 12, 15)),
    ],
)
def test_graphics_of_a_viewer(case: Case, kind: str, data: list[list[float]], box: tuple[float, ...]) -> None:
    state = _graphics(case, kind, data)
    (found,) = boxes(read_marks(state), case.source, follow=True)
    assert (found.top, found.left, found.bottom, found.right) == pytest.approx(box)
    assert (found.slice_index, found.follow) == (3, True)
    header = case.study.source_datasets(case.source)[3]
    assert referenced_series(state) == {case.source.series_uid: {header.SOPInstanceUID}}


def test_regions_of_a_report(case: Case) -> None:
    header = case.study.source_datasets(case.source)[5]
    region = hd.sr.ImageRegion(
        "POLYLINE",
        np.array([[10.5, 5.5], [20.5, 5.5], [20.5, 15.5], [10.5, 5.5]]),
        hd.sr.SourceImageForRegion.from_source_image(header),
    )
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "drawn"), referenced_region=region
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_person_context=hd.sr.ObserverContext(
                codes.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes(name="Reader^Test")
            )
        ),
        procedure_reported=hd.sr.CodedConcept("113091000", "SCT", "Magnetic resonance imaging"),
        imaging_measurements=[group],
    )
    made = hd.sr.ComprehensiveSR(
        evidence=[header],
        content=report[0],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
    )
    (found,) = boxes(read_marks(_reread(made)), case.source, follow=False)
    assert (found.slice_index, found.top, found.left, found.bottom, found.right) == (5, 5, 10, 15, 20)
    assert referenced_series(made) == {case.source.series_uid: {header.SOPInstanceUID}}


def test_what_cannot_be_used(case: Case) -> None:
    point = _graphics(case, "POINT", [[10.5, 5.5]])
    with pytest.raises(MarksUnusable, match="encloses nothing"):
        read_marks(point)
    display = _graphics(case, "POLYLINE", [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.1]], units="DISPLAY")
    with pytest.raises(MarksUnusable, match="encloses nothing"):
        read_marks(display)
    elsewhere = _graphics(case, "CIRCLE", [[12.5, 9.5], [15.5, 9.5]])
    elsewhere.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    with pytest.raises(MarksUnusable, match="none of 1"):
        boxes(read_marks(elsewhere), case.source, follow=True)
    seg = _rendered(case, "seg")
    seg.FrameOfReferenceUID = "1.2.3.4"
    with pytest.raises(MarksUnusable, match="lies on the images"):
        boxes(read_marks(seg), case.source, follow=True)
    broken = _graphics(case, "CIRCLE", [[12.5, 9.5], [15.5, 9.5]])
    broken.GraphicAnnotationSequence = Sequence([Dataset()])
    broken.GraphicAnnotationSequence[0].GraphicObjectSequence = Sequence([Dataset()])
    with pytest.raises(MarksUnusable, match="cannot be read"):
        read_marks(broken)
