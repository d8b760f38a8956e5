"""Apparent diffusion coefficient: finding its unit by physics, and computing it or the trace where they are absent.

An ADC map's numbers come in 10⁻⁶, 10⁻³ or 1 mm²/s and worse, with or without a rescale that says so. Brain tissue has
a median of 600 to 1100 · 10⁻⁶ mm²/s and CSF is near 3000, so at most one power of a thousand fits. Where none fits the
map is refused; nothing is ever guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_sr.errors import MapContradicted, UnknownUnits, UnsupportedImage

Array = npt.NDArray[np.float32]

TISSUE_MEDIAN_UM2_S = (600.0, 1100.0)
TISSUE_UM2_S = (200.0, 1500.0)
"""Voxels between these are tissue; above lies CSF, below noise."""
MINIMUM_TISSUE_FRACTION = 0.4
CSF_LEAST_UM2_S = 1500.0
"""The brightest 0.5 % must reach this. CSF is near 3000, but at b ≥ 2000 its signal drowns in noise and ADC maps end
near 2000; an exponential ADC never exceeds 1000."""
FLUID_UM2_S = 2000.0
FLUID_SIGNAL = 0.6
"""Signal of fluid relative to tissue on a diffusion-weighted image; b = 500 leaves about 0.5, b = 1000 about 0.3."""
FACTORS = (1.0, 1e3, 1e6, 1e-3)
"""Encoded unit in 10⁻⁶ mm²/s: itself, 10⁻³ mm²/s, mm²/s, 10⁻⁹ mm²/s."""
EXPONENTIAL_SCALES = (1.0, 100.0, 1000.0, 4095.0)
_UNIT_FACTORS = {
    "um2/s": 1.0,
    "10-6.mm2/s": 1.0,
    "10*-6.mm2/s": 1.0,
    "1e-6.mm2/s": 1.0,
    "mm2/s": 1e6,
    "10-3.mm2/s": 1e3,
}
_UNIT_FACTORS |= {"10*-3.mm2/s": 1e3, "um2/ms": 1e3, "10-9.mm2/s": 1e-3, "cm2/s": 1e8, "m2/s": 1e12}
_AGREEMENT = 0.02
MINIMUM_CORRELATION = 0.75
"""Of a map with the ADC computed from the images it comes from. Scanners' own maps reach 0.99, a mirrored one 0.6."""
LARGEST_DISAGREEMENT_VOXELS = 30
"""Connected voxels in which a map and the computed ADC may tell infarct from normal differently."""
SCALE_AGREEMENT = (0.8, 1.25)
"""Ratio of a map's tissue to the computed one; filters and further b-values move it by a few per cent."""
_SIGNAL_FRACTION = 0.15


@dataclass(frozen=True, slots=True)
class AdcUnit:
    """A unit that was found.

    Attributes
    ----------
    source : str
        Which mapping of stored values it applies to: ``"real_world"``, ``"rescale"`` or ``"philips"``.
    factor : float
        Multiply those values by this for 10⁻⁶ mm²/s.
    tissue_median_um2_s, csf_um2_s : float
        What was seen.
    """

    source: str
    factor: float
    tissue_median_um2_s: float
    csf_um2_s: float


def head_mask(signal: Array) -> npt.NDArray[np.bool_]:
    """Voxels with signal: above 15 % of the 99th percentile of what is not exactly zero."""
    positive = signal[signal > 0]
    if positive.size == 0:
        return np.zeros(signal.shape, dtype=bool)
    return signal > _SIGNAL_FRACTION * float(np.percentile(positive, 99))


def find_unit(candidates: Mapping[str, Array], *, units: Mapping[str, str], signal: Array | None) -> AdcUnit:
    """Find the unit of an ADC map.

    Parameters
    ----------
    candidates : mapping
        Values of the map under each mapping of stored values it carries, most trustworthy first.
    units : mapping
        Unit stated for a candidate, where one is: used first, and checked like the others.
    signal : numpy.ndarray or None
        A diffusion image on the same grid, to look at the head only (background noise gives random ADC).

    Raises
    ------
    UnknownUnits
        None fits, or several fit and disagree.
    """
    tried: dict[str, float] = {}
    for source, unit in units.items():
        factor = _UNIT_FACTORS.get(unit.replace(" ", ""))
        if factor is not None and (found := _assess(source, candidates[source], factor, signal, tried)):
            return found
    fitting: list[AdcUnit] = []
    for source, values in candidates.items():
        fitting += [found for factor in FACTORS if (found := _assess(source, values, factor, signal, tried))]
    if not fitting:
        raise UnknownUnits(
            "no scaling gives a tissue median of 600 to 1100 and CSF near 3000 (10^-6 mm2/s)",
            medians_tried={key: round(value, 6) for key, value in tried.items()},
        )
    medians = [found.tissue_median_um2_s for found in fitting]
    if max(medians) > min(medians) * (1 + _AGREEMENT):
        raise UnknownUnits(
            "several scalings are physically possible and disagree",
            medians_um2_s={f"{f.source} x {f.factor:g}": round(f.tissue_median_um2_s, 1) for f in fitting},
        )
    return fitting[0]


def _assess(source: str, values: Array, factor: float, signal: Array | None, tried: dict[str, float]) -> AdcUnit | None:
    defined = np.isfinite(values) & (values > 0)
    inside = defined & head_mask(signal) if signal is not None else defined
    if np.count_nonzero(inside) < 100:
        return None
    scaled = values[inside] * np.float32(factor)
    tried[f"{source} x {factor:g}"] = float(np.median(scaled))
    tissue = scaled[(scaled >= TISSUE_UM2_S[0]) & (scaled <= TISSUE_UM2_S[1])]
    if tissue.size < MINIMUM_TISSUE_FRACTION * scaled.size:
        return None
    # Fluid in the mask raises the plain median, leaving it out lowers it; brains with little and with much pass by one.
    medians = (float(np.median(tissue)), float(np.median(scaled)))
    # Diffusion-weighted signal is dark in CSF, so the head mask leaves it out: look for it everywhere.
    csf = float(np.percentile(values[defined], 99.5)) * factor
    low, high = TISSUE_MEDIAN_UM2_S
    if not any(low <= median <= high for median in medians) or csf < CSF_LEAST_UM2_S:
        return None
    return AdcUnit(source, factor, medians[0], csf)


def refuse_exponential(values: Array, *, b_value: float, signal: Array) -> None:
    """Refuse a map whose logarithm, not itself, is a physical ADC: exp(−b·ADC), full scale 1, 100, 1000 or 4095.

    Raises
    ------
    UnsupportedImage
    """
    positive = np.where(values > 0, values, np.nan)
    largest = float(np.nanpercentile(positive, 99.9)) if np.any(values > 0) else 0.0
    for scale in (scale for scale in EXPONENTIAL_SCALES if largest <= scale):
        logarithm = -np.log(positive / np.float32(scale)) * np.float32(1e6 / b_value)
        if _assess("logarithm", logarithm, 1.0, signal, {}):
            raise UnsupportedImage(f"an exponential ADC map: -ln(value / {scale:g}) / b is a physical ADC")


def is_dark_in_fluid(values_um2_s: Array, signal: Array) -> bool:
    """Whether diffusion-weighted signal is dark where the map, taken as ADC, shows fluid.

    True of every ADC map; false of a diffusion-weighted image that by chance has numbers like one.
    """
    tissue = (values_um2_s >= TISSUE_UM2_S[0]) & (values_um2_s <= TISSUE_UM2_S[1]) & head_mask(signal)
    fluid = values_um2_s > FLUID_UM2_S
    if np.count_nonzero(fluid) < 20 or not tissue.any():
        return False
    return float(np.median(signal[fluid])) < FLUID_SIGNAL * float(np.median(signal[tissue]))


def refuse_contradiction(values_um2_s: Array, signal: Array, computed_um2_s: Array | None) -> None:
    """Refuse a map that is not of these diffusion-weighted images: mirrored, reordered, of other images, wrongly scaled.

    Parameters
    ----------
    values_um2_s : numpy.ndarray
        The map.
    signal : numpy.ndarray
        The diffusion-weighted images on its grid.
    computed_um2_s : numpy.ndarray or None
        ADC computed from them and b = 0; without it only fluid can be looked at.

    Raises
    ------
    MapContradicted
    """
    head = head_mask(signal) & (values_um2_s > 0)
    tissue = head & (values_um2_s >= TISSUE_UM2_S[0]) & (values_um2_s <= TISSUE_UM2_S[1])
    fluid = values_um2_s > FLUID_UM2_S
    if np.count_nonzero(fluid) >= 20 and tissue.any():
        ratio = float(np.median(signal[fluid])) / float(np.median(signal[tissue]))
        if ratio > 1.0:
            raise MapContradicted(
                f"what the map shows as fluid is {ratio:.1f} times as bright as tissue on the diffusion-weighted images",
                fluid_to_tissue=round(ratio, 3),
            )
    if computed_um2_s is None:
        return
    one, other = (np.clip(v[head], 0, 3000).astype(np.float64) for v in (values_um2_s, computed_um2_s))
    if one.size < 100 or min(one.std(), other.std()) == 0:
        return
    correlation = float(np.corrcoef(one, other)[0, 1])
    if correlation < MINIMUM_CORRELATION:
        raise MapContradicted(
            f"map and ADC computed from the images agree badly (correlation {correlation:.2f})",
            correlation=round(correlation, 3),
        )
    _refuse_other_scale(values_um2_s[tissue], computed_um2_s[tissue])
    _refuse_other_lesion(values_um2_s, computed_um2_s, tissue)


def _refuse_other_scale(map_um2_s: Array, computed_um2_s: Array) -> None:
    # Scanners may rescale from series to series: then the computed ADC is not physical, and judges nothing.
    median = float(np.median(computed_um2_s))
    if not TISSUE_MEDIAN_UM2_S[0] <= median <= TISSUE_MEDIAN_UM2_S[1]:
        return
    ratio = float(np.median(map_um2_s)) / median
    if not SCALE_AGREEMENT[0] <= ratio <= SCALE_AGREEMENT[1]:
        raise MapContradicted(
            f"the map's tissue is {ratio:.2f} times the ADC computed from the images", ratio=round(ratio, 3)
        )


def _refuse_other_lesion(map_um2_s: Array, computed_um2_s: Array, tissue: npt.NDArray[np.bool_]) -> None:
    """Refuse a map of an earlier or later acquisition on the same grid: it lacks what the images show, or shows more."""
    # Half of what reading a series imports, and only a map of the vendor's beside its images needs it.
    from scipy import ndimage

    one, other = (_averaged(v, tissue) / np.median(v[tissue]) for v in (map_um2_s, computed_um2_s))
    apart = tissue & (np.minimum(one, other) < 0.82) & (np.maximum(one, other) > 0.92) & (np.abs(one - other) > 0.15)
    connected, _ = ndimage.label(ndimage.binary_opening(apart, np.ones((1, 2, 2))))
    largest = int(np.bincount(connected.ravel())[1:].max(initial=0))
    if largest > LARGEST_DISAGREEMENT_VOXELS:
        raise MapContradicted(
            f"the map and the ADC computed from the images differ in one place over {largest} voxels", voxels=largest
        )


def _averaged(values: Array, where: npt.NDArray[np.bool_]) -> Array:
    """Mean over 3 × 3 pixels of a slice, those of ``where`` only."""
    from scipy import ndimage

    weight = ndimage.uniform_filter(where.astype(np.float32), (1, 3, 3))
    total = ndimage.uniform_filter(np.where(where, values, 0).astype(np.float32), (1, 3, 3))
    return np.asarray(total / np.maximum(weight, 1e-3), dtype=np.float32)


def soft_floor(signal: Array) -> Array:
    """Signal that never reaches zero: √(S² + f²), f half the smallest step the data can show.

    Leaves real signal alone (below 0.1 % from 12 steps on) and turns "both zero" into an ADC of zero, not of NaN.
    """
    positive = signal[signal > 0]
    step = float(positive.min()) if positive.size else 1.0
    return np.sqrt(signal.astype(np.float32) ** 2 + np.float32(0.5 * step) ** 2)


def geometric_mean(signals: Sequence[Array]) -> Array:
    """Trace-weighted image of directions with one b-value: exp(mean(ln S)), so that its ADC is the mean ADC."""
    total = np.zeros(signals[0].shape, dtype=np.float32)
    for signal in signals:
        total += np.log(soft_floor(signal))
    mean = np.exp(total / np.float32(len(signals)))
    mean[np.all([signal == 0 for signal in signals], axis=0)] = 0
    return mean.astype(np.float32)


def compute_adc(low: Array, high: Array, *, b_low: float, b_high: float) -> Array:
    """−ln(S_high / S_low) / (b_high − b_low) in 10⁻⁶ mm²/s; negative values, which only noise makes, become 0."""
    if b_high <= b_low:
        raise ValueError("the diffusion-weighted image needs the larger b-value")
    ratio = np.log(soft_floor(low)) - np.log(soft_floor(high))
    adc = ratio * np.float32(1e6 / (b_high - b_low))
    adc[(low <= 0) | (adc < 0)] = 0
    return adc.astype(np.float32)
