"""Which volume plays which part in a model: chosen by content, refused with the reason that explains best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dicom_sr import adc
from dicom_sr.errors import GridMismatch, RoleAmbiguous, RoleMissing, SeriesRejected
from dicom_sr.loaded import Kind, LoadedStudy, RejectedSeries, SeriesVolume
from models.volume import Volume

if TYPE_CHECKING:
    from models.card import CardInput

PREFERRED_B_VALUE = 1000.0
"""s/mm². Acute infarct contrast is published at this b-value."""
MINIMUM_DIRECTIONS = 3
"""Fewer directions leave the trace image dependent on fibre orientation."""
_DIFFUSION = (Kind.DWI_TRACE, Kind.DWI_DIRECTION)
_ORDER = ("dwi", "adc", "image", "projection", "photograph")
_FLAT = {"projection": Kind.PROJECTION, "photograph": Kind.PHOTOGRAPH}


def fill_roles(study: LoadedStudy, inputs: Sequence[CardInput]) -> dict[str, SeriesVolume]:
    """Choose a volume for every input of a model.

    Parameters
    ----------
    study : LoadedStudy
    inputs : sequence of CardInput
        Kinds ``"dwi"`` (trace-weighted, b nearest 1000 s/mm² within the card's limits; computed as geometric mean where
        there are only directions), ``"adc"`` (``um2/s``; computed where there is no map but b = 0), ``"image"``, and
        ``"projection"`` (a radiograph, one of the card's views where it names any) and ``"photograph"`` (one image in
        colour). Inputs from earlier studies are left out; see :func:`fill_earlier_roles`.

    Returns
    -------
    dict
        Role → volume. Optional roles that nothing fills are left out.

    Raises
    ------
    SeriesRejected
        The rejection of the series that was needed, RoleMissing, RoleAmbiguous, GridMismatch or UnknownUnits.
    """
    chosen: dict[str, SeriesVolume] = {}
    inputs = [each for each in inputs if not each.earlier]
    for wanted in sorted(inputs, key=lambda i: _ORDER.index(i.kind)):
        try:
            chosen[wanted.role] = _choose(study, wanted, inputs, chosen)
        except SeriesRejected:
            if wanted.required:
                raise
    for wanted in inputs:
        if wanted.same_grid_as and wanted.role in chosen and wanted.same_grid_as in chosen:
            _require_same_place(chosen[wanted.role], chosen[wanted.same_grid_as], wanted)
    return chosen


def fill_earlier_roles(earlier: LoadedStudy, inputs: Sequence[CardInput]) -> dict[str, SeriesVolume]:
    """Choose from an earlier study for the inputs that are taken from one; what nothing fills is left out."""
    chosen: dict[str, SeriesVolume] = {}
    for wanted in inputs:
        if wanted.earlier:
            try:
                chosen[wanted.role] = _choose_flat(earlier, wanted)
            except SeriesRejected:
                continue
    return chosen


def _choose(
    study: LoadedStudy, wanted: CardInput, inputs: Sequence[CardInput], chosen: dict[str, SeriesVolume]
) -> SeriesVolume:
    if wanted.kind == "dwi":
        with_adc = any(i.kind == "adc" and i.same_grid_as in (None, wanted.role) for i in inputs)
        return _choose_dwi(study, wanted, with_adc=with_adc)
    if wanted.kind == "adc":
        partner = wanted.same_grid_as or next((i.role for i in inputs if i.kind == "dwi"), "")
        return _choose_adc(study, wanted, chosen.get(partner))
    if wanted.kind in _FLAT:
        return _choose_flat(study, wanted)
    return _choose_image(study, wanted)


def _choose_dwi(study: LoadedStudy, wanted: CardInput, *, with_adc: bool) -> SeriesVolume:
    traces = [v for v in study.volumes if v.kind is Kind.DWI_TRACE and _fits(v, wanted)]
    candidates = traces or _derived_traces(study, wanted)
    if not candidates:
        raise _explain(study, wanted, _DIFFUSION, "diffusion-weighted")
    nearest = min(abs((v.b_value or 0.0) - PREFERRED_B_VALUE) for v in candidates)
    best = [v for v in candidates if abs((v.b_value or 0.0) - PREFERRED_B_VALUE) == nearest]
    if len(best) > 1 and with_adc:
        paired = [v for v in best if any(a.kind is Kind.ADC and a.same_place(v) for a in study.volumes)]
        best = paired or best
    return _only(best, wanted)


def _choose_adc(study: LoadedStudy, wanted: CardInput, dwi: SeriesVolume | None) -> SeriesVolume:
    maps = [v for v in study.volumes if v.kind is Kind.ADC and _modality(v) == wanted.modality]
    if dwi is None:
        if not maps:
            raise _explain(study, wanted, (Kind.ADC,), "ADC")
        return _only(maps, wanted)
    fitting = [v for v in maps if v.same_place(dwi)]
    if fitting:
        return _agreeing(study, _only(fitting, wanted), dwi)
    # A map that was refused is not replaced behind the reader's back by one that the PACS does not show.
    if not maps and (refused := [r for r in study.rejected if r.kind is Kind.ADC]):
        raise refused[0].error
    computed = _computed_adc(study, dwi)
    if computed is not None:
        return computed
    if maps:
        raise GridMismatch(
            f"no ADC map lies on the grid of the diffusion series {_label(dwi)}",
            diffusion=_candidate(dwi),
            maps=[_candidate(v) for v in maps],
        )
    raise _explain(study, wanted, (Kind.ADC, Kind.B0), "ADC")


def _choose_image(study: LoadedStudy, wanted: CardInput) -> SeriesVolume:
    images = [v for v in study.volumes if _modality(v) == wanted.modality and v.kind not in _FLAT.values()]
    described = [v for v in images if _is_described(v, wanted.series_description)]
    if not described:
        words = f"{wanted.modality} (described as {wanted.series_description})" if images else wanted.modality
        raise _explain(study, wanted, (Kind.OTHER,), words)
    return _only(described, wanted)


def _is_described(item: SeriesVolume, pattern: str) -> bool:
    text = str(item.header.get("SeriesDescription", "") or "")
    return not pattern or re.search(pattern, text, re.IGNORECASE) is not None


def _choose_flat(study: LoadedStudy, wanted: CardInput) -> SeriesVolume:
    """The one radiograph or photograph in a view the card names; one that states none will do only where none does."""
    kind = _FLAT[wanted.kind]
    images = [v for v in study.volumes if v.kind is kind and _modality(v) in wanted.modality.split("|")]
    stated = [v for v in images if not wanted.views or v.volume.facts["view"] in wanted.views]
    unstated = [v for v in images if not v.volume.facts["view"]]
    if not stated and not unstated:
        words = f"{' or '.join(wanted.views)} {wanted.modality}" if wanted.views and images else wanted.modality
        raise _explain(study, wanted, (Kind.OTHER, kind), words)
    return _only(stated or unstated, wanted)


def _only(candidates: Sequence[SeriesVolume], wanted: CardInput) -> SeriesVolume:
    """The one candidate; exact copies of one volume count as one (a PACS may hold a map twice)."""
    distinct = list(candidates[:1])
    for candidate in candidates[1:]:
        if not any(_same_values(candidate, kept) for kept in distinct):
            distinct.append(candidate)
    if len(distinct) > 1:
        raise RoleAmbiguous(
            f"{len(distinct)} series can be '{wanted.role}': " + "; ".join(_label(v) for v in distinct),
            role=wanted.role,
            candidates=[_candidate(v) for v in distinct],
        )
    return distinct[0]


def _same_values(a: SeriesVolume, b: SeriesVolume) -> bool:
    return a.same_place(b) and bool(np.array_equal(a.volume.array_zyx, b.volume.array_zyx))


def _fits(item: SeriesVolume, wanted: CardInput) -> bool:
    if _modality(item) != wanted.modality:
        return False
    if item.b_value is None:
        return wanted.minimum_b_value is None and wanted.maximum_b_value is None
    low = wanted.minimum_b_value if wanted.minimum_b_value is not None else 0.0
    high = wanted.maximum_b_value if wanted.maximum_b_value is not None else float("inf")
    return low <= item.b_value <= high


def _derived_traces(study: LoadedStudy, wanted: CardInput) -> list[SeriesVolume]:
    """Geometric mean of the directions of each series and b-value that has enough of them."""
    groups: dict[tuple[str, float], list[SeriesVolume]] = {}
    for item in study.volumes:
        if item.kind is Kind.DWI_DIRECTION and _fits(item, wanted):
            groups.setdefault((item.series_uid, item.b_value or 0.0), []).append(item)
    traces = []
    for (series_uid, b_value), parts in sorted(groups.items()):
        if len(parts) < MINIMUM_DIRECTIONS or not all(part.same_place(parts[0]) for part in parts):
            continue
        # A direction that was lost leaves the mean biased: the whole trace is refused with that direction's reason.
        for lost in study.rejected:
            if lost.series_uid == series_uid and lost.kind is Kind.DWI_DIRECTION and lost.b_value == b_value:
                raise lost.error
        traces.append(_trace(parts))
    return traces


def _trace(parts: Sequence[SeriesVolume]) -> SeriesVolume:
    first = parts[0]
    facts = dict(first.volume.facts) | {
        "derived": "trace",
        "derivation": f"geometric mean of {len(parts)} diffusion directions",
    }
    array = adc.geometric_mean([part.volume.array_zyx for part in parts])
    volume = Volume(array, first.volume.affine_lps, "1", facts)
    return replace(first, volume=volume, kind=Kind.DWI_TRACE, direction=None)


def _agreeing(study: LoadedStudy, chosen: SeriesVolume, dwi: SeriesVolume) -> SeriesVolume:
    """The map that was chosen, unless the images it should come from contradict it (MapContradicted)."""
    low, computed = _lowest(study, dwi), None
    if low is not None and dwi.b_value is not None:
        images = low.volume.array_zyx, dwi.volume.array_zyx
        computed = adc.compute_adc(*images, b_low=low.b_value or 0.0, b_high=dwi.b_value)
    adc.refuse_contradiction(chosen.volume.array_zyx, dwi.volume.array_zyx, computed)
    return chosen


def _lowest(study: LoadedStudy, dwi: SeriesVolume) -> SeriesVolume | None:
    """The b = 0 volume in the place of ``dwi``, None where there is none."""
    if dwi.b_value is None:
        return None
    lows = [v for v in study.volumes if v.kind is Kind.B0 and v.same_place(dwi) and (v.b_value or 0.0) < dwi.b_value]
    # The same series before others, because scanners rescale from series to series; then the lowest b-value.
    return min(
        lows, key=lambda v: (v.series_uid != dwi.series_uid, v.b_value or 0.0, v.series_number or 0), default=None
    )


def _computed_adc(study: LoadedStudy, dwi: SeriesVolume) -> SeriesVolume | None:
    """ADC from b = 0 and the diffusion volume, None without a b = 0 volume in the same place.

    Raises
    ------
    UnknownUnits
        The result is not physical, so one of the two is not what its header says.
    """
    b_value, low = dwi.b_value, _lowest(study, dwi)
    if b_value is None or low is None:
        return None
    b_low = low.b_value or 0.0
    array = adc.compute_adc(low.volume.array_zyx, dwi.volume.array_zyx, b_low=b_low, b_high=b_value)
    unit = adc.find_unit({"computed": array}, units={"computed": "um2/s"}, signal=dwi.volume.array_zyx)
    if unit.factor != 1.0:
        raise adc.UnknownUnits("the ADC computed from b = 0 and the diffusion series is not physical")
    facts = {k: v for k, v in dwi.volume.facts.items() if k != "b_value"} | {
        "derived": "adc",
        "derivation": f"-ln(S({b_value:g}) / S({b_low:g})) / {b_value - b_low:g} s/mm2",
        "adc_evidence": "computed",
        "adc_tissue_median_um2_s": round(unit.tissue_median_um2_s, 1),
        "adc_csf_um2_s": round(unit.csf_um2_s, 1),
    }
    volume = Volume(array, dwi.volume.affine_lps, "um2/s", facts)
    return replace(dwi, volume=volume, kind=Kind.ADC, b_value=None)


def _require_same_place(item: SeriesVolume, other: SeriesVolume, wanted: CardInput) -> None:
    if not item.same_place(other):
        raise GridMismatch(
            f"series {_label(item)} and {_label(other)} do not lie on one grid in one frame of reference",
            role=wanted.role,
            candidates=[_candidate(item), _candidate(other)],
        )


@dataclass(frozen=True, slots=True)
class _Shortage:
    """What is known when a role stays empty."""

    study: LoadedStudy
    wanted: CardInput
    kinds: tuple[Kind, ...]
    words: str

    def error(self) -> SeriesRejected:
        rejected = [r for r in self.study.rejected if r.kind in self.kinds and self._within(r)]
        if rejected:
            return rejected[0].error
        if self.wanted.kind == "dwi" and (outside := self._outside_limits()):
            return outside
        images = [r for r in self.study.rejected if r.modality]
        if not self.study.volumes and len({r.error.code for r in images}) == 1:
            return images[0].error
        return RoleMissing(
            f"no {self.words} series for '{self.wanted.role}' among {len(self.study.volumes)} volume(s)",
            role=self.wanted.role,
            volumes=[_candidate(v) for v in self.study.volumes[:20]],
            rejected=[{"series_uid": r.series_uid, "code": r.error.code} for r in self.study.rejected[:20]],
        )

    def _within(self, rejected: RejectedSeries) -> bool:
        low, high = self.wanted.minimum_b_value, self.wanted.maximum_b_value
        if rejected.kind not in _DIFFUSION or rejected.b_value is None:
            return True
        return (low or 0.0) <= rejected.b_value <= (high if high is not None else float("inf"))

    def _outside_limits(self) -> SeriesRejected | None:
        found = [v for v in self.study.volumes if v.kind in self.kinds]
        if not found:
            return None
        b_values = sorted({v.b_value for v in found if v.b_value is not None})
        limits = f"{self.wanted.minimum_b_value or 0:g} to {self.wanted.maximum_b_value or float('inf'):g} s/mm2"
        directions = sum(v.kind is Kind.DWI_DIRECTION for v in found)
        known = ", ".join(f"{b:g}" for b in b_values) or "unknown"
        return RoleMissing(
            f"diffusion series with b = {known} ({directions} single direction(s)); '{self.wanted.role}' needs a trace "
            f"image, or {MINIMUM_DIRECTIONS} directions, at {limits}",
            role=self.wanted.role,
            b_values=b_values,
            volumes=[_candidate(v) for v in found[:20]],
        )


def _explain(study: LoadedStudy, wanted: CardInput, kinds: tuple[Kind, ...], words: str) -> SeriesRejected:
    return _Shortage(study, wanted, kinds, words).error()


def _modality(item: SeriesVolume) -> str:
    return str(item.header.get("Modality", ""))


def _label(item: SeriesVolume) -> str:
    """Series number, b-value and UID: never a description, which may name the patient."""
    number = "?" if item.series_number is None else str(item.series_number)
    b_value = "" if item.b_value is None else f", b = {item.b_value:g}"
    return f"{number}{b_value} ({item.series_uid})"


def _candidate(item: SeriesVolume) -> dict[str, Any]:
    return {
        "series_number": item.series_number,
        "series_uid": item.series_uid,
        "kind": item.kind.value,
        "b_value": item.b_value,
        "shape_zyx": list(item.volume.array_zyx.shape),
        "spacing_mm_zyx": [round(v, 3) for v in item.volume.spacing_mm_zyx],
    }
