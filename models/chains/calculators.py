"""Calculators of radiology with units: pure functions of measured numbers, by published formulas.

Every input has a UCUM unit; another unit of the same kind is converted, anything else is refused. Results carry unit and
source. Nothing here interprets a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.errors import ParameterInvalid

_UNITS: dict[str, tuple[str, float]] = {
    "mm": ("length", 1.0),
    "cm": ("length", 10.0),
    "m": ("length", 1000.0),
    "mL": ("volume", 1.0),
    "ml": ("volume", 1.0),
    "cm3": ("volume", 1.0),
    "L": ("volume", 1000.0),
    "mm3": ("volume", 1e-3),
    "[hnsf'U]": ("attenuation", 1.0),
    "HU": ("attenuation", 1.0),
    "cm/s": ("velocity", 1.0),
    "m/s": ("velocity", 100.0),
    "mm2": ("area", 1.0),
    "cm2": ("area", 100.0),
    "d": ("time", 1.0),
    "wk": ("time", 7.0),
    "kg": ("mass", 1.0),
    "g": ("mass", 1e-3),
    "ng/mL": ("concentration", 1.0),
    "mGy.cm": ("dose length product", 1.0),
    "mSv/(mGy.cm)": ("dose conversion", 1.0),
    "1": ("number", 1.0),
}
"""UCUM unit → kind of quantity, and how many base units it is."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its UCUM unit."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Calculator:
    """A formula.

    Attributes
    ----------
    inputs : mapping of str to str
        Name → unit the formula takes it in.
    unit : str
        UCUM unit of the result.
    source : str
        Where it was published.
    """

    title: str
    inputs: Mapping[str, str]
    unit: str
    source: str
    formula: Callable[..., float]

    def __call__(self, **given: Amount) -> Amount:
        """The result.

        Raises
        ------
        ParameterInvalid
            An input is missing, unknown, of another kind of unit, not finite, or negative where only sizes are taken.
        """
        if set(given) != set(self.inputs):
            raise ParameterInvalid(f"{self.title} takes {', '.join(self.inputs)}")
        values = {name: _converted(name, amount, self.inputs[name]) for name, amount in given.items()}
        try:
            result = self.formula(**values)
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            raise ParameterInvalid(f"{self.title} has no result for these numbers") from error
        if not math.isfinite(result):
            raise ParameterInvalid(f"{self.title} has no result for these numbers")
        return Amount(result, self.unit)


def _converted(name: str, amount: Amount, unit: str) -> float:
    kind, factor = _UNITS[unit]
    found = _UNITS.get(amount.unit)
    if found is None or found[0] != kind:
        raise ParameterInvalid(f"{name} is a {kind} in {unit}; {amount.unit or 'no unit'} is none")
    if not math.isfinite(amount.value) or (amount.value < 0 and kind != "attenuation"):
        raise ParameterInvalid(f"{name} must be a finite number that is not negative")
    return amount.value * found[1] / factor


def _washout(unenhanced: float, enhanced: float, delayed: float) -> float:
    return 100 * (enhanced - delayed) / (enhanced - unenhanced)


CALCULATORS: dict[str, Calculator] = {
    "abc_half": Calculator(
        "Haematoma volume ABC/2",
        {"a": "cm", "b": "cm", "c": "cm"},
        "mL",
        "Kothari et al., Stroke 1996;27:1304",
        lambda a, b, c: a * b * c / 2,
    ),
    "ellipsoid": Calculator(
        "Ellipsoid volume",
        {"length": "cm", "width": "cm", "height": "cm"},
        "mL",
        "Volume of an ellipsoid, pi/6 times its diameters; Terris and Stamey, J Urol 1991;145:984",
        lambda length, width, height: math.pi / 6 * length * width * height,
    ),
    "psa_density": Calculator(
        "PSA density",
        {"psa": "ng/mL", "volume": "mL"},
        "ng/mL/mL",
        "Benson et al., J Urol 1992;147:815",
        lambda psa, volume: psa / volume,
    ),
    "nascet": Calculator(
        "Stenosis by NASCET",
        {"narrowest": "mm", "distal": "mm"},
        "%",
        "NASCET Collaborators, N Engl J Med 1991;325:445",
        lambda narrowest, distal: 100 * (1 - narrowest / distal),
    ),
    "evans_index": Calculator(
        "Evans index",
        {"frontal_horns": "mm", "inner_skull": "mm"},
        "1",
        "Evans, Arch Neurol Psychiatry 1942;47:931",
        lambda frontal_horns, inner_skull: frontal_horns / inner_skull,
    ),
    "cardiothoracic_ratio": Calculator(
        "Cardiothoracic ratio",
        {"heart": "mm", "thorax": "mm"},
        "1",
        "Danzer, Am J Med Sci 1919;157:513",
        lambda heart, thorax: heart / thorax,
    ),
    "doubling_time": Calculator(
        "Volume doubling time",
        {"before": "mL", "now": "mL", "interval": "d"},
        "d",
        "Schwartz, Cancer 1961;14:1272",
        lambda before, now, interval: interval * math.log(2) / math.log(now / before),
    ),
    "adrenal_washout": Calculator(
        "Absolute adrenal washout",
        {"unenhanced": "HU", "enhanced": "HU", "delayed": "HU"},
        "%",
        "Korobkin et al., AJR 1998;170:747",
        _washout,
    ),
    "relative_washout": Calculator(
        "Relative adrenal washout",
        {"enhanced": "HU", "delayed": "HU"},
        "%",
        "Korobkin et al., AJR 1998;170:747",
        lambda enhanced, delayed: 100 * (enhanced - delayed) / enhanced,
    ),
    "resistive_index": Calculator(
        "Resistive index",
        {"systolic": "cm/s", "diastolic": "cm/s"},
        "1",
        "Pourcelot, INSERM 1974;34:213",
        lambda systolic, diastolic: (systolic - diastolic) / systolic,
    ),
    "effective_dose": Calculator(
        "Effective dose of a CT",
        {"dose_length_product": "mGy.cm", "conversion": "mSv/(mGy.cm)"},
        "mSv",
        "AAPM Report 96 (2008)",
        lambda dose_length_product, conversion: dose_length_product * conversion,
    ),
    "body_surface_area": Calculator(
        "Body surface area",
        {"height": "cm", "weight": "kg"},
        "m2",
        "Mosteller, N Engl J Med 1987;317:1098",
        lambda height, weight: math.sqrt(height * weight / 3600),
    ),
}


def parse(argument: str) -> dict[str, Amount]:
    """``a=4.2 cm, b=3 cm`` as amounts.

    Raises
    ------
    ParameterInvalid
        It is anything else.
    """
    given: dict[str, Amount] = {}
    for part in argument.split(","):
        name, equals, amount = part.partition("=")
        number, _, unit = amount.strip().partition(" ")
        try:
            given[name.strip()] = Amount(float(number), unit.strip() or "1")
        except ValueError as error:
            raise ParameterInvalid("a calculator takes name=number unit, separated by commas") from error
        if not equals:
            raise ParameterInvalid("a calculator takes name=number unit, separated by commas")
    return given


def stated(name: str, argument: str) -> str:
    """Result of a calculator with unit and source, as one sentence. Raises :class:`ParameterInvalid`."""
    calculator = CALCULATORS[name]
    result = calculator(**parse(argument))
    return f"{calculator.title}: {result.value:.4g} {result.unit} ({calculator.source})."
