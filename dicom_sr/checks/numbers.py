"""Numbers of a measurement group as its content items state them, and as the result gives them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from pydicom.dataset import Dataset

from dicom_sr.checks.subject import concept, walk
from models.results import Quantity

_UPPER, _LOWER = "371886008", "371885007"
_HOW = ("370129005", "121401")  # Measurement Method, Derivation
_RANGE = re.compile(r"interval=(\S+) to (\S+) ")
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Stated:
    """A value, how far the truth may lie above and below it (TID 310), and the range given in words; NaN where not stated."""

    value: float
    above: float = math.nan
    below: float = math.nan
    low: float = math.nan
    high: float = math.nan


Numbers = dict[tuple[str, str, str], Stated]
"""By concept, unit, and method or derivation."""


def stated_numbers(group: Dataset) -> Numbers:
    """What the group's NUM items say."""
    stated: Numbers = {}
    for number in group.get("ContentSequence", []):
        if number.get("ValueType") == "NUM":
            above, below = (_value(child(number, name)) for name in (_UPPER, _LOWER))
            units = {_unit(entry) for entry in number.get("ContentSequence", []) if concept(entry) in (_UPPER, _LOWER)}
            if units - {_unit(number)}:
                above = below = math.inf
            how = next((c for name in _HOW if (c := concept(child(number, name), "ConceptCodeSequence"))), "")
            stated[concept(number), _unit(number), how] = Stated(_value(number), above, below, *_in_words(number))
    return stated


def given_numbers(quantities: Sequence[Quantity]) -> Numbers:
    """What the result holds."""
    given: Numbers = {}
    for quantity in quantities:
        how = quantity.method.value if quantity.method is not None else ""
        low, high = quantity.interval or (math.nan, math.nan)
        around = (high - quantity.value, quantity.value - low) if quantity.is_uncertainty else (math.nan, math.nan)
        given[quantity.name.value, quantity.unit.value, how] = Stated(quantity.value, *around, low, high)
    return given


def same(ours: Numbers, theirs: Numbers) -> bool:
    """Whether both hold the same numbers, but for the digits that a content item does not carry."""
    return set(ours) == set(theirs) and all(_agree(ours[key], theirs[key]) for key in ours)


def child(item: Dataset, name: str) -> Dataset:
    """The first content item below ``item`` of this concept; an empty one where there is none."""
    return next((entry for entry in item.get("ContentSequence", []) if concept(entry) == name), Dataset())


def _agree(ours: Stated, theirs: Stated) -> bool:
    scale = max(abs(theirs.value), 1e-9)
    return all(
        (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * scale)
        for a, b in zip(astuple(ours), astuple(theirs), strict=True)
    )


def _in_words(number: Dataset) -> tuple[float, float]:
    """The range among the parameters of the number's algorithm (TID 4019)."""
    for entry in walk(number):
        if found := _RANGE.match(str(entry.get("TextValue", ""))):
            return float(found.group(1)), float(found.group(2))
    return math.nan, math.nan


def _value(number: Dataset) -> float:
    measured = number.get("MeasuredValueSequence")
    return float(measured[0].NumericValue) if measured else math.nan


def _unit(number: Dataset) -> str:
    measured = number.get("MeasuredValueSequence")
    return concept(measured[0], "MeasurementUnitsCodeSequence") if measured else ""
