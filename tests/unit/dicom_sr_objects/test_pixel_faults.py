"""The check must notice what can go wrong in pixels, maps and contours: each fault is put into a good set."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import SegmentationStorage

from dicom_sr.check import check
from dicom_sr.errors import ObjectInvalid, OverlayMismatch
from tests.unit.dicom_sr_objects.cases import Case
from tests.unit.dicom_sr_objects.pixel_cases import holed

Objects = dict[str, Dataset]
Fault = Callable[[Objects], None]
FRACTIONS = {"objects": ("seg",), "segmentation": "fractional"}
LABELS = {"objects": ("seg",), "segmentation": "labelmap"}
RUNS = {**LABELS, "segmentation_syntax": "rle"}
LESIONS = {"objects": ("seg", "measurements"), "per_lesion": True}
MAPS = {"objects": ("parametric_map",)}
CONTOURS = {"objects": ("rtstruct",)}


@dataclass(frozen=True)
class Injected:
    """A fault and the profile of the set it goes into."""

    put: Fault
    profile: dict[str, object]
    error: type[ObjectInvalid] | type[OverlayMismatch] = OverlayMismatch


FAULTS: dict[str, Injected] = {}


def fault(profile: dict[str, object], error: type[ObjectInvalid] | type[OverlayMismatch] = OverlayMismatch):
    def keep(function: Fault) -> Fault:
        FAULTS[function.__name__] = Injected(function, profile, error)
        return function

    return keep


def pixels(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, np.uint8).copy()


@fault(FRACTIONS)
def fraction_off_by_one(objects: Objects) -> None:
    stored = pixels(objects["seg"])
    stored[np.flatnonzero(stored)[5]] -= 1
    objects["seg"].PixelData = stored.tobytes()


@fault(FRACTIONS)
def fraction_lost(objects: Objects) -> None:
    stored = pixels(objects["seg"])
    stored[np.flatnonzero(stored)[5]] = 0
    objects["seg"].PixelData = stored.tobytes()


@fault(FRACTIONS)
def fraction_outside_of_the_region(objects: Objects) -> None:
    stored = pixels(objects["seg"])
    stored[np.flatnonzero(stored == 0)[0]] = 100
    objects["seg"].PixelData = stored.tobytes()


@fault(FRACTIONS)
def fractions_of_a_hundred(objects: Objects) -> None:
    objects["seg"].MaximumFractionalValue = 100


@fault(FRACTIONS)
def fractions_are_occupancies(objects: Objects) -> None:
    objects["seg"].SegmentationFractionalType = "OCCUPANCY"


@fault(FRACTIONS)
def fractions_said_to_be_bits(objects: Objects) -> None:
    objects["seg"].SegmentationType = "BINARY"


@fault(FRACTIONS)
def dimension_index_of_another_segment(objects: Objects) -> None:
    content = objects["seg"].PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0]
    content.DimensionIndexValues = [2, content.DimensionIndexValues[1]]


@fault(LABELS)
def labels_exchanged(objects: Objects) -> None:
    stored = pixels(objects["seg"])
    objects["seg"].PixelData = np.array([0, 2, 1, 3, 4], np.uint8)[stored].tobytes()


@fault(LABELS)
def label_of_no_segment(objects: Objects) -> None:
    stored = pixels(objects["seg"])
    stored[np.flatnonzero(stored)[0]] = 9
    objects["seg"].PixelData = stored.tobytes()


@fault(LABELS)
def label_map_moved_by_a_column(objects: Objects) -> None:
    objects["seg"].PixelData = np.roll(pixels(objects["seg"]), 1).tobytes()


@fault(LABELS)
def names_of_segments_exchanged(objects: Objects) -> None:
    first, second = objects["seg"].SegmentSequence[1:3]
    first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel


@fault(LABELS)
def no_background(objects: Objects) -> None:
    objects["seg"].SegmentSequence = list(objects["seg"].SegmentSequence)[1:]


@fault(LABELS)
def padding_is_a_region(objects: Objects) -> None:
    objects["seg"].PixelPaddingValue = 1


@fault(LABELS)
def label_map_of_the_old_class(objects: Objects) -> None:
    objects["seg"].SOPClassUID = SegmentationStorage


@fault(LABELS)
def dimension_index_of_another_slice(objects: Objects) -> None:
    for group in objects["seg"].PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].DimensionIndexValues = [1]


@fault(LABELS)
def stored_bits_fewer_than_allocated(objects: Objects) -> None:
    objects["seg"].BitsStored, objects["seg"].HighBit = 7, 6


def fragments(dataset: Dataset) -> list[bytes]:
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)))


@fault(RUNS)
def fragment_missing(objects: Objects) -> None:
    objects["seg"].PixelData = encapsulate(fragments(objects["seg"])[:-1])


@fault(RUNS)
def fragments_exchanged(objects: Objects) -> None:
    first, *others, last = fragments(objects["seg"])
    objects["seg"].PixelData = encapsulate([last, *others, first])


@fault(RUNS)
def run_of_another_label(objects: Objects) -> None:
    first, *others = fragments(objects["seg"])
    place = first.index(b"\x01", 64)
    objects["seg"].PixelData = encapsulate([first[:place] + b"\x02" + first[place + 1 :], *others])


@fault(LESIONS)
def lesions_under_each_others_names(objects: Objects) -> None:
    first, second = objects["seg-1"], objects["seg-2"]
    first.SegmentSequence, second.SegmentSequence = second.SegmentSequence, first.SegmentSequence


@fault(LESIONS)
def pixels_of_another_lesion(objects: Objects) -> None:
    first, second = objects["seg-1"], objects["seg-2"]
    for keyword in ("PerFrameFunctionalGroupsSequence", "PixelData", "NumberOfFrames"):
        second[keyword] = deepcopy(first[keyword])


@fault(LESIONS, ObjectInvalid)
def measurement_of_another_lesion(objects: Objects) -> None:
    segment = [entry for entry in items_of(objects["measurements-1"]) if "ReferencedSegmentNumber" in entry]
    segment[0].ReferencedSOPInstanceUID = objects["seg-2"].SOPInstanceUID


def items_of(dataset: Dataset) -> list[Dataset]:
    found = [dataset]
    for element in dataset:
        if element.VR == "SQ":
            for entry in element.value:
                found += items_of(entry)
    return found


def shared(dataset: Dataset) -> Dataset:
    return dataset.SharedFunctionalGroupsSequence[0]


@fault(MAPS)
def one_value_changed(objects: Objects) -> None:
    stored = np.frombuffer(objects["parametric_map-2"].FloatPixelData, np.float32).copy()
    stored[1234] = np.nextafter(stored[1234], np.float32(9))
    objects["parametric_map-2"].FloatPixelData = stored.tobytes()


@fault(MAPS)
def map_upside_down(objects: Objects) -> None:
    made = objects["parametric_map-1"]
    stored = np.frombuffer(made.FloatPixelData, np.float32).reshape(int(made.NumberOfFrames), -1)
    made.FloatPixelData = stored[::-1].tobytes()


@fault(MAPS)
def frames_in_another_order(objects: Objects) -> None:
    groups = objects["parametric_map-1"].PerFrameFunctionalGroupsSequence
    objects["parametric_map-1"].PerFrameFunctionalGroupsSequence = list(groups)[::-1]


@fault(MAPS)
def map_truncated(objects: Objects) -> None:
    objects["parametric_map-1"].FloatPixelData = objects["parametric_map-1"].FloatPixelData[:-4]


@fault(MAPS)
def map_of_another_quantity(objects: Objects) -> None:
    first, second = (shared(objects[f"parametric_map-{n}"]).RealWorldValueMappingSequence[0] for n in (1, 2))
    first.QuantityDefinitionSequence = deepcopy(second.QuantityDefinitionSequence)


@fault(MAPS)
def map_in_percent(objects: Objects) -> None:
    mapping = shared(objects["parametric_map-1"]).RealWorldValueMappingSequence[0]
    mapping.RealWorldValueSlope = 100.0


@fault(MAPS)
def map_in_another_unit(objects: Objects) -> None:
    mapping = shared(objects["parametric_map-1"]).RealWorldValueMappingSequence[0]
    mapping.MeasurementUnitsCodeSequence[0].CodeValue = "%"


@fault(MAPS)
def range_cut(objects: Objects) -> None:
    mapping = shared(objects["parametric_map-2"]).RealWorldValueMappingSequence[0]
    mapping.DoubleFloatRealWorldValueLastValueMapped = 0.0


@fault(MAPS)
def map_mirrored(objects: Objects) -> None:
    orientation = shared(objects["parametric_map-1"]).PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-float(v) for v in orientation.ImageOrientationPatient]


def contours(objects: Objects, region: int = 0) -> list[Dataset]:
    return list(objects["rtstruct"].ROIContourSequence[region].ContourSequence)


def move(contour: Dataset, by: tuple[float, float, float]) -> None:
    points = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3) + by
    contour.ContourData = [f"{v:.4f}" for v in points.ravel()]


@fault(CONTOURS)
def contour_moved_within_its_plane(objects: Objects) -> None:
    move(contours(objects)[0], (0.0, 5.0, 0.0))


@fault(CONTOURS)
def contour_beside_its_plane(objects: Objects) -> None:
    move(contours(objects)[0], (0.0, 0.0, 0.5))


@fault(CONTOURS)
def contour_on_another_image(objects: Objects) -> None:
    first, *_, last = contours(objects)
    first.ContourImageSequence[0].ReferencedSOPInstanceUID = last.ContourImageSequence[0].ReferencedSOPInstanceUID


@fault(CONTOURS)
def contour_missing(objects: Objects) -> None:
    entry = objects["rtstruct"].ROIContourSequence[0]
    entry.ContourSequence = list(entry.ContourSequence)[1:]


@fault(CONTOURS)
def hole_filled(objects: Objects) -> None:
    for contour in (c for n in range(4) for c in contours(objects, n)):
        points = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
        _, first = np.unique(points, axis=0, return_index=True)
        if len(first) < len(points):  # only a keyhole visits a place twice
            low, high = points.min(axis=0), points.max(axis=0)
            corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
            contour.ContourData = [f"{v:.4f}" for x, y in corners for v in (x, y, points[0, 2])]
            contour.NumberOfContourPoints = 4
            return
    raise AssertionError("no contour with a hole")


@fault(CONTOURS)
def contours_of_another_region(objects: Objects) -> None:
    first, second = objects["rtstruct"].ROIContourSequence[:2]
    first.ContourSequence, second.ContourSequence = second.ContourSequence, first.ContourSequence


@fault(CONTOURS)
def regions_under_each_others_names(objects: Objects) -> None:
    first, second = objects["rtstruct"].StructureSetROISequence[:2]
    first.ROIName, second.ROIName = second.ROIName, first.ROIName


@fault(CONTOURS)
def region_in_another_space(objects: Objects) -> None:
    objects["rtstruct"].StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "2.25.5"


@fault(CONTOURS)
def structure_set_approved(objects: Objects) -> None:
    objects["rtstruct"].ApprovalStatus = "APPROVED"


@fault(CONTOURS)
def contour_of_fewer_points_than_it_says(objects: Objects) -> None:
    contours(objects)[0].NumberOfContourPoints += 1


@fault(CONTOURS)
def contour_left_open(objects: Objects) -> None:
    contours(objects)[0].ContourGeometricType = "OPEN_PLANAR"


@fault(CONTOURS)
def observation_of_another_finding(objects: Objects) -> None:
    code = objects["rtstruct"].RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    code.CodeValue, code.CodeMeaning = "50960005", "Hemorrhage"


@fault(CONTOURS)
def region_drawn_by_hand(objects: Objects) -> None:
    objects["rtstruct"].StructureSetROISequence[0].ROIGenerationAlgorithm = "MANUAL"


@fault(CONTOURS, ObjectInvalid)
def structure_set_of_another_study(objects: Objects) -> None:
    space = objects["rtstruct"].ReferencedFrameOfReferenceSequence[0]
    space.RTReferencedStudySequence[0].ReferencedSOPInstanceUID = "2.25.7"


@fault(CONTOURS, ObjectInvalid)
def structure_set_dated_by_the_clock(objects: Objects) -> None:
    objects["rtstruct"].StructureSetDate = "20310101"


@pytest.fixture(scope="module")
def subject(case: Case) -> Case:
    return holed(case)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(name: str, subject: Case) -> None:
    injected = FAULTS[name]
    rendered = subject.rendered(**injected.profile)
    injected.put({each.role: each.dataset for each in rendered})
    with pytest.raises(injected.error):
        check(rendered, subject.study, subject.result, subject.source)


def test_without_a_fault_nothing_is_caught(subject: Case) -> None:
    for profile in (FRACTIONS, LABELS, RUNS, LESIONS, MAPS, CONTOURS):
        rendered = subject.rendered(**profile)
        for each in rendered:
            items_of(each.dataset)  # as if somebody had looked: the bytes are then written from data sets
        check(rendered, subject.study, subject.result, subject.source)


def test_a_lesion_left_out_is_caught(subject: Case) -> None:
    rendered = subject.rendered(objects=("seg",), per_lesion=True)
    with pytest.raises(OverlayMismatch):
        check(rendered[:-1], subject.study, subject.result, subject.source)


def test_a_file_said_to_be_native_with_fragments_in_it_is_caught(subject: Case) -> None:
    (rendered,) = subject.rendered(**RUNS)
    native = subject.rendered(**LABELS)[0].transfer_syntax
    with pytest.raises((OverlayMismatch, ObjectInvalid)):
        check([replace(rendered, transfer_syntax=native)], subject.study, subject.result, subject.source)


def test_map_of_another_run_is_caught(subject: Case) -> None:
    (heat_map,) = subject.result.heat_maps
    other = replace(subject.result, heat_maps=(replace(heat_map, values_zyx=heat_map.values_zyx + 1),))
    with pytest.raises(OverlayMismatch):
        check(subject.rendered(**MAPS), subject.study, other, subject.source)
