"""A brain of which a part is missing inside the images is never called clean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import InsufficientCoverage, OrganCutOff
from models.model import Model
from models.phantom import Phantom, make_phantom

MISSING: dict[str, tuple[slice, slice, slice]] = {
    "upper slices": (slice(20, None), slice(None), slice(None)),
    "lower slices": (slice(0, 10), slice(None), slice(None)),
    "left half": (slice(None), slice(None), slice(64, None)),
    "right half": (slice(None), slice(None), slice(0, 64)),
    "front half": (slice(None), slice(0, 64), slice(None)),
}


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_phantom(7, lesions=[])


def blackened(values: npt.NDArray[np.float32], part: tuple[slice, slice, slice]) -> npt.NDArray[np.float32]:
    copy = values.copy()
    copy[part] = 0
    return copy


@pytest.mark.parametrize("roles", [("dwi", "adc"), ("dwi",), ("adc",)])
@pytest.mark.parametrize("part", list(MISSING))
def test_black_parts_are_not_cover(part: str, roles: tuple[str, ...], healthy: Phantom, baseline: Model) -> None:
    inputs = {"dwi": healthy.dwi, "adc": healthy.adc}
    for role in roles:
        inputs[role] = replace(inputs[role], array_zyx=blackened(inputs[role].array_zyx, MISSING[part]))
    with pytest.raises((OrganCutOff, InsufficientCoverage)):
        baseline.run(inputs, {})
