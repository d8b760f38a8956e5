"""What a model was made for, as numbers of its card, held against each study before the model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from models.errors import OutsideLimits
from models.volume import Volume

Bounds = tuple[float, float]


class Limits(BaseModel):
    """A card's ``limits``; lower and upper bound, both allowed. Nothing stated is nothing checked.

    Attributes
    ----------
    age_years, field_strength_t : (float, float) or None
        Of the patient and the scanner.
    slice_spacing_mm, pixel_spacing_mm : (float, float) or None
        Distance between slices, and between pixels (both directions).
    coverage_mm : (float, float) or None
        Extent of the stack along its slice axis, first to last slice, one slice's share included.
    contrast : dict
        Input → ``"with"`` or ``"without"`` contrast agent. An input that is not there is not asked about.
    unknown : str
        What a value that the headers do not state means: ``"accept"`` (the result's evidence names it) or ``"refuse"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    age_years: Bounds | None = None
    field_strength_t: Bounds | None = None
    slice_spacing_mm: Bounds | None = None
    pixel_spacing_mm: Bounds | None = None
    coverage_mm: Bounds | None = None
    contrast: dict[str, Literal["with", "without"]] = {}
    unknown: Literal["accept", "refuse"] = "accept"

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        for name in _MEASURED:
            if (bounds := getattr(self, name)) is not None and not bounds[0] <= bounds[1]:
                raise ValueError(f"{name}: the lower bound comes first")
        return self


def _fact(name: str) -> Callable[[Volume], tuple[float, ...]]:
    return lambda volume: (float(volume.facts[name]),) if name in volume.facts else ()


_MEASURED: Mapping[str, tuple[str, str, Callable[[Volume], tuple[float, ...]]]] = {
    "age_years": ("the patient's age", "years", _fact("patient_age_years")),
    "field_strength_t": ("the field strength", "T", _fact("field_strength_t")),
    "slice_spacing_mm": ("the distance between slices", "mm", lambda volume: volume.spacing_mm_zyx[:1]),
    "pixel_spacing_mm": ("the distance between pixels", "mm", lambda volume: volume.spacing_mm_zyx[1:]),
    "coverage_mm": (
        "the extent of the slices",
        "mm",
        lambda volume: (volume.spacing_mm_zyx[0] * volume.array_zyx.shape[0],),
    ),
}
_CONTRAST = "whether a contrast agent was given"
_ROUNDING = 1e-3
"""Headers and affines round: what is that near to a bound, relative, is within."""


def require_within(limits: Limits, inputs: Mapping[str, Volume]) -> tuple[str, ...]:
    """Refuse a study that lies outside; names of limits that could not be checked.

    Raises
    ------
    OutsideLimits
        The message names limit, value and bounds.
    """
    unknown = []
    for name, (words, unit, measure) in _MEASURED.items():
        bounds = getattr(limits, name)
        if bounds is None:
            continue
        values = {role: measure(volume) for role, volume in inputs.items()}
        if not all(values.values()):
            unknown.append(name)
        for role, found in values.items():
            for value in found:
                slack = _ROUNDING * np.abs(value)
                if not bounds[0] - slack <= value <= bounds[1] + slack:
                    raise OutsideLimits(
                        f"{words} ({value:.4g} {unit}, {role}) is outside of what the model was made for: "
                        f"{bounds[0]:g} to {bounds[1]:g} {unit}",
                        limit=name,
                        value=round(value, 3),
                        bounds=list(bounds),
                    )
    unknown += _contrast_unknown(limits, inputs)
    if unknown and limits.unknown == "refuse":
        stated = " and ".join(_MEASURED[name][0] if name in _MEASURED else _CONTRAST for name in unknown)
        raise OutsideLimits(f"{stated} is not stated in the images, and the model needs to know", limit=unknown[0])
    return tuple(unknown)


def _contrast_unknown(limits: Limits, inputs: Mapping[str, Volume]) -> list[str]:
    """``["contrast"]`` where an input does not state it; raises where one states the other thing."""
    unknown = False
    for role, wanted in limits.contrast.items():
        if role not in inputs:
            continue
        found = inputs[role].facts.get("contrast")
        if found is None:
            unknown = True
        elif found != wanted:
            raise OutsideLimits(
                f"the series ({role}) was made {found} contrast agent, and the model was made for series {wanted} it",
                limit="contrast",
                value=str(found),
                bounds=[wanted],
            )
    return ["contrast"] if unknown else []
