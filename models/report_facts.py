"""The figures a report may state, rounded once, so that every text and every check of a text uses the same ones.

Rounding, half up on the decimal representation: below 1 mL two decimals, below 100 mL one, from 100 mL none;
ADC to whole 10⁻⁶ mm²/s. A figure that rounds into the next band is written as that band writes it
(0.996 mL is ``1.0``); a volume that would round to zero is ``<0.01``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from models.ratio_terms import FLAIR_RATIO
from models.results import SUBACUTE, Finding, Laterality, Outcome, Quantity, StudyResult
from models.volume_range import EVIDENCE, range_ml

SMALLEST_WRITTEN_ML = 0.01
ADC_CODE = "113041"
"""Apparent Diffusion Coefficient, DCM (PS3.16 CID 7273)."""
REPORTING_THRESHOLD_KEY = "reporting_threshold_ml"
"""Key of the stated reporting threshold in ``StudyResult.evidence`` or the model's parameters."""

_ADC_SCALE = {"um2/s": 1.0, "mm2/s": 1e6, "10*-6.mm2/s": 1.0, "10*-3.mm2/s": 1e3}


def format_ml(volume_ml: float) -> str:
    """Return ``volume_ml`` (mL, not negative) as the text writes it, without unit."""
    if 0.0 < volume_ml < SMALLEST_WRITTEN_ML / 2:
        return f"<{SMALLEST_WRITTEN_ML:.2f}"
    if volume_ml == 0.0:
        return "0"
    for decimals, below in ((2, 1), (1, 100)):
        text = _rounded(volume_ml, decimals)
        if Decimal(text) < below:
            return text
    return _rounded(volume_ml, 0)


def format_range(range_ml: tuple[float, float], between: str) -> str:
    """Return a range of volumes (mL) as the text writes it, without unit; empty where both bounds round to nothing."""
    low, high = ("0" if (text := format_ml(each)).startswith("<") else text for each in range_ml)
    return "" if high == "0" else f"{low}{between}{high}"


def format_adc(adc_um2_s: float) -> str:
    """Return an ADC in 10⁻⁶ mm²/s as the text writes it, without unit."""
    return _rounded(adc_um2_s, 0)


def sentence(message: str) -> str:
    """``message`` with a full stop, so that what follows in a report does not run into it."""
    text = message.strip()
    return text if text.endswith((".", "!", "?", "。", "…")) else f"{text}."


def _rounded(value: float, decimals: int) -> str:
    step = Decimal(1).scaleb(-decimals)
    return str(Decimal(repr(float(value))).quantize(step, rounding=ROUND_HALF_UP))


def mean_adc_um2_s(quantities: Iterable[Quantity]) -> float | None:
    """Return the ADC among ``quantities`` in 10⁻⁶ mm²/s, or None when there is none in a known unit."""
    for quantity in quantities:
        named = quantity.name.value == ADC_CODE or "apparent diffusion coefficient" in quantity.name.meaning.lower()
        if named and quantity.unit.value in _ADC_SCALE:
            return quantity.value * _ADC_SCALE[quantity.unit.value]
    return None


@dataclass(frozen=True, slots=True)
class Lesion:
    """One region as a report speaks of it. ``adc_um2_s`` is None when it was not measured, ``range_ml`` (of the volume, over a
    threshold sweep) when there is none. ``dwi_only``: found in the subacute mode, bright on DWI without a low ADC."""

    number: int
    side: Laterality
    volume_ml: float
    adc_um2_s: float | None
    range_ml: tuple[float, float] | None = None
    dwi_only: bool = False


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What a report of one result may say.

    Attributes
    ----------
    outcome : Outcome
        FOUND, NOTHING_FOUND or NOT_ASSESSED.
    lesions : tuple of Lesion
        Largest first; empty unless FOUND.
    total_ml : float
        Sum over lesions, mL; 0.0 unless FOUND.
    side : Laterality
        Side of all lesions together: BILATERAL when they lie on both sides.
    detection_limit_ml, reporting_threshold_ml : float or None
        mL, None when the run does not state it.
    findings : tuple of Finding
        In the result's order; none where nothing was assessed.
    total_range_ml : (float, float) or None
        Of the total over a threshold sweep, mL.
    swept : tuple of (str, float, float)
        Thresholds of that sweep: name, strict, lax.
    flair_ratio : float or None
        FLAIR signal of all lesions over that of the mirrored tissue; None where it was not measured.
    outlined : int
        Regions without a volume: shadows on a projection.
    subacute : bool
        Whether it was looked for what is bright on DWI alone, too.
    """

    outcome: Outcome
    lesions: tuple[Lesion, ...]
    total_ml: float
    side: Laterality
    detection_limit_ml: float | None
    reporting_threshold_ml: float | None
    findings: tuple[Finding, ...] = ()
    total_range_ml: tuple[float, float] | None = None
    swept: tuple[tuple[str, float, float], ...] = ()
    flair_ratio: float | None = None
    outlined: int = 0
    subacute: bool = False

    @classmethod
    def of(cls, result: StudyResult) -> ReportFacts:
        """Return the facts of ``result``."""
        regions = result.segmentation.regions if result.segmentation else ()
        found = result.outcome is Outcome.FOUND
        subacute = SUBACUTE in result.limitations
        lesions = tuple(
            Lesion(
                r.number,
                r.laterality,
                r.volume_ml,
                mean_adc_um2_s(r.quantities),
                range_ml(r.quantities),
                dwi_only=subacute and r.finding != result.finding,
            )
            for r in regions
            if found and r.volume_ml is not None
        )
        total_range = range_ml(result.totals) if found else None
        total = result.total_ml if result.total_ml is not None else sum(lesion.volume_ml for lesion in lesions)
        return cls(
            outcome=result.outcome,
            lesions=tuple(sorted(lesions, key=lambda lesion: (-lesion.volume_ml, lesion.number))),
            total_ml=total if found else 0.0,
            side=overall_side(lesion.side for lesion in lesions),
            detection_limit_ml=result.detection_limit_ml,
            reporting_threshold_ml=_reporting_threshold_ml(result),
            findings=() if result.outcome is Outcome.NOT_ASSESSED else result.findings,
            total_range_ml=total_range,
            swept=_swept(result) if total_range is not None else (),
            flair_ratio=next((q.value for q in result.totals if q.remark == FLAIR_RATIO), None) if found else None,
            outlined=sum(r.volume_ml is None for r in regions) if found else 0,
            subacute=subacute,
        )

    def part(self, *, dwi_only: bool) -> ReportFacts:
        """The facts about the lesions with a low ADC, or about the others. Without others the first are all."""
        lesions = tuple(lesion for lesion in self.lesions if lesion.dwi_only is dwi_only)
        if len(lesions) == len(self.lesions):
            return self
        total = sum(lesion.volume_ml for lesion in lesions)
        side = overall_side(lesion.side for lesion in lesions)
        return replace(self, lesions=lesions, total_ml=total, side=side, total_range_ml=None, swept=())

    @property
    def count(self) -> int:
        """Number of lesions."""
        return len(self.lesions)

    @property
    def sides(self) -> tuple[Laterality, ...]:
        """Every side to be named: :attr:`side` first, then MIDLINE and UNKNOWN when only some lesions are so."""
        own = {lesion.side for lesion in self.lesions}
        also = (s for s in (Laterality.MIDLINE, Laterality.UNKNOWN) if s in own and s is not self.side)
        return (self.side, *also)

    def on_side(self, side: Laterality) -> tuple[Lesion, ...]:
        """Lesions that lie on ``side`` (LEFT or RIGHT) only."""
        return tuple(lesion for lesion in self.lesions if lesion.side is side)

    def has_side(self, side: Laterality) -> bool:
        """Whether any lesion reaches ``side`` (LEFT or RIGHT)."""
        return any(lesion.side in (side, Laterality.BILATERAL) for lesion in self.lesions)


def overall_side(sides: Iterable[Laterality]) -> Laterality:
    """Return the side all of ``sides`` make together: both make BILATERAL, none known makes UNKNOWN."""
    seen = set(sides)
    if Laterality.BILATERAL in seen or {Laterality.LEFT, Laterality.RIGHT} <= seen:
        return Laterality.BILATERAL
    for side in (Laterality.LEFT, Laterality.RIGHT, Laterality.MIDLINE):
        if side in seen:
            return side
    return Laterality.UNKNOWN


def _reporting_threshold_ml(result: StudyResult) -> float | None:
    value = result.evidence.get(REPORTING_THRESHOLD_KEY, result.model.parameters.get(REPORTING_THRESHOLD_KEY))
    return None if value is None else float(value)


def _swept(result: StudyResult) -> tuple[tuple[str, float, float], ...]:
    thresholds = result.evidence.get(EVIDENCE, {})
    return tuple((name, float(strict), float(lax)) for name, (strict, lax) in thresholds.items())
