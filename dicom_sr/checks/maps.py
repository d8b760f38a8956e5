"""Parametric maps, value by value, and what they say the values mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset

from dicom_sr.checks.planes import slices_of
from dicom_sr.checks.subject import Subject, concept
from models.results import HeatMap

_PROBABILITY, _ONE = "122157", "1"


def check_maps(subject: Subject) -> Iterator[str]:
    """Every map has the result's values on the source's planes, unscaled, with their quantity and unit."""
    for role, dataset in subject.of_kind("parametric_map"):
        expected = _expected(role, subject)
        if expected is None or subject.source is None:
            yield f"{role}: the result has no such map"
            continue
        slices, problems = slices_of(role, dataset, subject)
        yield from problems
        if not problems:
            yield from _value_problems(role, dataset, slices, expected)
            yield from _meaning_problems(role, dataset, expected)


def _expected(role: str, subject: Subject) -> HeatMap | None:
    """The map a role stands for: probabilities of the segmentation come first, where there are any."""
    result, number = subject.result, int(role.rpartition("-")[2])
    segmentation = result.segmentation
    if segmentation is not None and segmentation.probability_zyx is not None:
        if number == 1:
            first = result.finding
            return HeatMap(segmentation.role, segmentation.probability_zyx, first, first, "")
        number -= 1
    return result.heat_maps[number - 1] if 1 <= number <= len(result.heat_maps) else None


def _value_problems(role: str, dataset: Dataset, slices: list[int], expected: HeatMap) -> Iterator[str]:
    shape = expected.values_zyx.shape
    stored = np.frombuffer(dataset.get("FloatPixelData", b""), "<f4")
    if (dataset.get("Rows"), dataset.get("Columns"), dataset.get("BitsAllocated")) != (*shape[1:], 32):
        yield f"{role}: not the map's rows and columns in single precision"
    elif slices != list(range(shape[0])) or stored.size != expected.values_zyx.size:
        yield f"{role}: not one frame for each slice, in their order"
    elif not np.array_equal(stored.reshape(shape), expected.values_zyx.astype("<f4")):
        yield f"{role}: values differ from the result's"


def _meaning_problems(role: str, dataset: Dataset, expected: HeatMap) -> Iterator[str]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    transformation = shared.PixelValueTransformationSequence[0]
    linear = [mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept]
    linear += [transformation.RescaleSlope, transformation.RescaleIntercept]
    if [float(v) for v in linear] != [1.0, 0.0, 1.0, 0.0]:
        yield f"{role}: values are scaled"
    first, last = (mapping[f"DoubleFloatRealWorldValue{end}ValueMapped"].value for end in ("First", "Last"))
    values = expected.values_zyx
    if first > values.min() or last < values.max():
        yield f"{role}: values lie outside of the range that is mapped"
    is_probability = not expected.label
    quantity = concept(mapping.QuantityDefinitionSequence[0], "ConceptCodeSequence")
    unit = concept(mapping, "MeasurementUnitsCodeSequence")
    wanted = (_PROBABILITY, _ONE) if is_probability else (expected.quantity.value, expected.unit.value)
    if (quantity, unit) != wanted:
        yield f"{role}: quantity or unit is not the result's"
