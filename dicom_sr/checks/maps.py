"""Parametric maps, value by value, and what they say the values mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.checks.planes import slices_of
from dicom_sr.checks.subject import Subject, concept

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


@dataclass(frozen=True, slots=True)
class _Expected:
    """Values of a map, and the code values of their quantity and unit."""

    values: npt.NDArray[np.float32]
    quantity: str
    unit: str


def _expected(role: str, subject: Subject) -> _Expected | None:
    """The map a role stands for: probabilities of the segmentation come first, where there are any."""
    result, number = subject.result, int(role.rpartition("-")[2])
    maps = [_Expected(m.values_zyx, m.quantity.value, m.unit.value) for m in result.heat_maps]
    segmentation = result.segmentation
    if segmentation is not None and segmentation.probability_zyx is not None:
        maps.insert(0, _Expected(segmentation.probability_zyx, _PROBABILITY, _ONE))
    return maps[number - 1] if 1 <= number <= len(maps) else None


def _value_problems(role: str, dataset: Dataset, slices: list[int], expected: _Expected) -> Iterator[str]:
    shape = expected.values.shape
    stored = np.frombuffer(dataset.get("FloatPixelData", b""), "<f4")
    if (dataset.get("Rows"), dataset.get("Columns"), dataset.get("BitsAllocated")) != (*shape[1:], 32):
        yield f"{role}: not the map's rows and columns in single precision"
    elif slices != list(range(shape[0])) or stored.size != expected.values.size:
        yield f"{role}: not one frame for each slice, in their order"
    elif not np.array_equal(stored.reshape(shape), expected.values.astype("<f4")):
        yield f"{role}: values differ from the result's"


def _meaning_problems(role: str, dataset: Dataset, expected: _Expected) -> Iterator[str]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    transformation = shared.PixelValueTransformationSequence[0]
    linear = [mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept]
    linear += [transformation.RescaleSlope, transformation.RescaleIntercept]
    if [float(v) for v in linear] != [1.0, 0.0, 1.0, 0.0]:
        yield f"{role}: values are scaled"
    first, last = (mapping[f"DoubleFloatRealWorldValue{end}ValueMapped"].value for end in ("First", "Last"))
    if first > expected.values.min() or last < expected.values.max():
        yield f"{role}: values lie outside of the range that is mapped"
    quantity = concept(mapping.QuantityDefinitionSequence[0], "ConceptCodeSequence")
    unit = concept(mapping, "MeasurementUnitsCodeSequence")
    if (quantity, unit) != (expected.quantity, expected.unit):
        yield f"{role}: quantity or unit is not the result's"
