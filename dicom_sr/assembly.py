"""One series to volumes: split into stacks, gate, decode, map to real values, and settle what computed maps are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr import adc, pixels
from dicom_sr.contrast import contrast_of
from dicom_sr.diffusion import B0_MAXIMUM, Diffusion, MapType
from dicom_sr.errors import MissingSlice, SeriesRejected, Undecodable, UnsupportedImage
from dicom_sr.frames import Frame, frames_of, require_image
from dicom_sr.geometry import DUPLICATE_TOLERANCE_MM, Stack, offset_mm, stack
from dicom_sr.instances import Instance
from dicom_sr.loaded import Kind, RejectedSeries, SeriesVolume
from models.volume import Volume

Array = npt.NDArray[np.float32]
_POSITION_MATCH_MM = 0.1


@dataclass(frozen=True, slots=True)
class PendingVolume:
    """A volume whose values may still need a unit: ``values`` maps each mapping the images carry to an array."""

    item: SeriesVolume
    map_type: MapType
    derived: bool
    values: dict[str, Array]
    units: dict[str, str]


def load_series(instances: Sequence[Instance]) -> tuple[list[PendingVolume], list[RejectedSeries]]:
    """Volumes of the instances of one series, and what was refused."""
    header = instances[0].header
    try:
        for instance in instances:
            require_image(instance.header, instance.pixels)
        frames = [f for number, i in enumerate(instances) for f in frames_of(i.header, number)]
    except SeriesRejected as error:
        return [], [reject_series(instances, error)]
    except pixels.READ_ERRORS as failure:
        return [], [reject_series(instances, _unreadable(failure))]
    frames = _with_implied_b0(frames, str(header.get("Manufacturer", "")))
    groups = list(_split(frames))
    decoder = _Decoder(instances)
    found: list[PendingVolume] = []
    lost: list[RejectedSeries] = []
    for group in groups:
        try:
            _refuse_map(group)
            _refuse_incomplete(group, groups)
            found.append(_build(group, stack([f.placement for f in group]), instances, decoder))
        except SeriesRejected as error:
            lost.append(_rejection(instances, error, group))
        except pixels.READ_ERRORS as failure:
            lost.append(_rejection(instances, _unreadable(failure), group))
    return found, lost


def load_each(
    instances: Sequence[Instance], load: Callable[[Instance], SeriesVolume]
) -> tuple[list[SeriesVolume], list[RejectedSeries]]:
    """One volume of one slice for each image of a series, and what was refused: images without a place in the patient."""
    found: list[SeriesVolume] = []
    lost: list[RejectedSeries] = []
    for instance in instances:
        try:
            found.append(load(instance))
        except SeriesRejected as error:
            lost.append(reject_series([instance], error))
        except pixels.READ_ERRORS as failure:
            words = f"an attribute of the image cannot be read ({type(failure).__name__})"
            lost.append(reject_series([instance], Undecodable(words, sop_instance_uid=instance.uid)))
    return found, lost


def reject_series(instances: Sequence[Instance], error: SeriesRejected) -> RejectedSeries:
    """Record that a whole series is refused, with what its first readable object would have been."""
    for instance in instances:
        try:
            return _rejection(instances, error, frames_of(instance.header, 0, limit=1))
        except pixels.READ_ERRORS:
            continue
    return _rejection(instances, error, None)


def _unreadable(failure: BaseException) -> Undecodable:
    return Undecodable(f"an attribute of the series cannot be read ({type(failure).__name__})")


def settle_maps(pending: Sequence[PendingVolume]) -> tuple[list[SeriesVolume], list[RejectedSeries]]:
    """Give every ADC map its unit, and find the maps that no attribute names, by comparing volumes of one grid."""
    signals = [p for p in pending if p.map_type is MapType.SIGNAL and p.item.b_value is not None]
    volumes: list[SeriesVolume] = []
    lost: list[RejectedSeries] = []
    for part in pending:
        weighted = [s for s in signals if s is not part and (s.item.b_value or 0) > B0_MAXIMUM]
        measured = sorted(
            (s for s in weighted if s.item.same_place(part.item)), key=lambda s: (s.derived, -(s.item.b_value or 0))
        )
        try:
            volumes.append(_settled(part, measured[0].item if measured else None))
        except SeriesRejected as error:
            item = part.item
            number, modality = item.series_number, str(item.header.get("Modality", ""))
            lost.append(RejectedSeries(item.series_uid, error, Kind.ADC, item.b_value, number, modality))
    return volumes, lost


def _settled(part: PendingVolume, measured: SeriesVolume | None) -> SeriesVolume:
    if part.map_type is MapType.ADC:
        return _as_adc(part, measured, "coded attributes")
    # Some GE software marks ADC maps as derived diffusion images with a b-value and no more.
    if not part.derived or measured is None or part.item.kind is not Kind.DWI_TRACE:
        return part.item
    try:
        found = _as_adc(part, measured, "content: physical values, diffusion-weighted signal dark in fluid")
    except SeriesRejected:
        return part.item
    return found if adc.is_dark_in_fluid(found.volume.array_zyx, measured.volume.array_zyx) else part.item


def _as_adc(part: PendingVolume, measured: SeriesVolume | None, evidence: str) -> SeriesVolume:
    signal = measured.volume.array_zyx if measured else None
    try:
        unit = adc.find_unit(part.values, units=part.units, signal=signal)
    except SeriesRejected:
        if measured is not None and measured.b_value:
            values = next(iter(part.values.values()))
            adc.refuse_exponential(values, b_value=measured.b_value, signal=measured.volume.array_zyx)
        raise
    facts = {k: v for k, v in part.item.volume.facts.items() if k != "b_value"} | {
        "adc_evidence": evidence,
        "adc_unit_source": unit.source,
        "adc_unit_factor": unit.factor,
        "adc_tissue_median_um2_s": round(unit.tissue_median_um2_s, 1),
        "adc_csf_um2_s": round(unit.csf_um2_s, 1),
    }
    array = part.values[unit.source] * np.float32(unit.factor)
    volume = Volume(array, part.item.volume.affine_lps, "um2/s", facts)
    return replace(part.item, volume=volume, kind=Kind.ADC, b_value=None, direction=None)


def _with_implied_b0(frames: list[Frame], maker: str) -> list[Frame]:
    """Toshiba and Canon leave the b-value out of b = 0 images of a series that states it elsewhere."""
    stated = [f for f in frames if f.diffusion.b_value]
    if not stated or not re.search("toshiba|canon", maker, re.IGNORECASE):
        return frames
    return [
        replace(f, diffusion=replace(f.diffusion, b_value=0.0, marked=True))
        if f.diffusion.b_value is None and f.diffusion.map_type is MapType.SIGNAL
        else f
        for f in frames
    ]


def _split(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Groups of frames that belong to one volume, in a fixed order."""
    groups: dict[tuple[str, str, str], list[Frame]] = {}
    for frame in frames:
        facts = frame.diffusion
        direction = facts.direction if (facts.b_value or 0) > B0_MAXIMUM and not facts.isotropic else None
        key = (facts.map_type.value, f"{facts.b_value or 0:09.2f}/{facts.b_value is None}", str(direction))
        groups.setdefault(key, []).append(frame)
    for key in sorted(groups):
        yield from _split_repeats(groups[key])


def _split_repeats(group: list[Frame]) -> Iterator[list[Frame]]:
    """Split images that repeat at the same positions, by the first attribute that gives complete stacks."""
    if _repeats(group):
        for index in range(len(group[0].separators)):
            parts: dict[str, list[Frame]] = {}
            for frame in group:
                value = frame.separators[index][1] if index < len(frame.separators) else ""
                parts.setdefault(value, []).append(frame)
            if len(parts) > 1 and len({len(part) for part in parts.values()}) == 1:
                for value in sorted(parts):
                    yield from _split_repeats(parts[value])
                return
    yield group


def _repeats(group: Sequence[Frame]) -> bool:
    places = [(f.placement.orientation, offset_mm(f.placement)) for f in group]
    if any(offset is None for _, offset in places):
        return False
    by_plane: dict[tuple[float, ...] | None, list[float]] = {}
    for orientation, offset in places:
        by_plane.setdefault(orientation, []).append(offset or 0.0)
    return any(
        len(offsets) > 1 and float(np.diff(np.sort(offsets)).min()) <= DUPLICATE_TOLERANCE_MM
        for offsets in by_plane.values()
    )


def _refuse_map(group: Sequence[Frame]) -> None:
    map_type = group[0].diffusion.map_type
    if map_type is MapType.EXPONENTIAL:
        raise UnsupportedImage("an exponential ADC map", image_type=list(group[0].image_type))
    if map_type is MapType.ANISOTROPY:
        raise UnsupportedImage("a diffusion anisotropy or tensor map", image_type=list(group[0].image_type))


def _refuse_incomplete(group: Sequence[Frame], groups: Sequence[Sequence[Frame]]) -> None:
    """Refuse a diffusion volume that lacks slices which another volume of its series has.

    The only sign of a slice missing at an end of the stack.
    """
    if not group[0].diffusion.marked:
        return
    have = np.array([offset_mm(f.placement) for f in group], dtype=float)
    for other in groups:
        if len(other) <= len(group) or other[0].placement.orientation != group[0].placement.orientation:
            continue
        want = np.unique(np.array([offset_mm(f.placement) for f in other], dtype=float))
        if np.isnan(have).any() or np.isnan(want).any():
            continue
        absent = [float(v) for v in want if np.abs(have - v).min() > _POSITION_MATCH_MM]
        if absent and len(absent) < len(want) / 2:
            b_value, other_b = group[0].diffusion.b_value, other[0].diffusion.b_value
            raise MissingSlice(
                f"the volume at b = {b_value} lacks {len(absent)} slice(s) that the one at b = {other_b} has, at "
                + ", ".join(f"{v:.2f}" for v in absent[:12])
                + " mm",
                missing_positions_mm=[round(v, 3) for v in absent],
                images=len(group),
            )


class _Decoder:
    """Decodes each object of a series once."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = instances
        self._decoded: dict[int, npt.NDArray] = {}

    def frame(self, frame: Frame) -> npt.NDArray:
        """Stored values of a frame, shape (rows, columns)."""
        if frame.instance not in self._decoded:
            instance = self._instances[frame.instance]
            self._decoded[frame.instance] = pixels.decode(
                instance.header, instance.pixels, instance.transfer_syntax_uid
            )
        array = self._decoded[frame.instance]
        if frame.index >= array.shape[0]:
            raise Undecodable(
                f"frame {frame.index + 1} of {array.shape[0]} is absent", sop_instance_uid=frame.sop_instance_uid
            )
        if frame.frame_number is None:
            del self._decoded[frame.instance]  # nobody asks again
        return array[frame.index]


def _build(group: Sequence[Frame], geometry: Stack, instances: Sequence[Instance], decoder: _Decoder) -> PendingVolume:
    ordered = [group[i] for i in geometry.order]
    first = ordered[0]
    stored = np.empty((len(ordered), *first.placement.size), dtype=np.float32)
    for index, frame in enumerate(ordered):
        stored[index] = decoder.frame(frame)
    header = instances[first.instance].header
    values, units = _values(stored, ordered)
    kind = _kind(first.diffusion)
    modality = str(header.get("Modality", ""))
    # Philips display values do not compare between images of different scale; the floating values do.
    source = "philips" if modality == "MR" and "philips" in values else "rescale"
    unit = "[hnsf'U]" if modality == "CT" else "1"
    facts = _facts(header, first.diffusion)
    item = SeriesVolume(
        volume=Volume(values[source], geometry.affine_lps, unit, facts),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        frames=tuple(frame.source for frame in ordered),
        header=header,
        kind=kind,
        b_value=first.diffusion.b_value if kind in (Kind.B0, Kind.DWI_TRACE, Kind.DWI_DIRECTION) else None,
        direction=first.diffusion.direction if kind is Kind.DWI_DIRECTION else None,
    )
    derived = first.image_type[:1] == ("DERIVED",)
    return PendingVolume(item, first.diffusion.map_type, derived, values, units)


def _values(stored: Array, frames: Sequence[Frame]) -> tuple[dict[str, Array], dict[str, str]]:
    """Values under every mapping that all frames carry, most trustworthy first, and the units stated."""
    values: dict[str, Array] = {}
    units: dict[str, str] = {}
    mappings = [frame.mapping for frame in frames]
    real = [m.real_world for m in mappings]
    if all(r is not None for r in real) and len({r[2] for r in real if r}) == 1:
        values["real_world"] = _linear(stored, [(r[0], r[1]) for r in real if r])
        units["real_world"] = next(r[2] for r in real if r)
    scales = [m.philips_scale_slope for m in mappings]
    if all(s is not None for s in scales):
        linear = [(1 / s, m.intercept / (m.slope * s)) for m, s in zip(mappings, scales, strict=True) if s]
        values["philips"] = _linear(stored, linear)
    values["rescale"] = _linear(stored, [(m.slope, m.intercept) for m in mappings])
    return values, units


def _linear(stored: Array, linear: Sequence[tuple[float, float]]) -> Array:
    if all(pair == (1.0, 0.0) for pair in linear):
        return stored
    slope, intercept = (np.array(column, dtype=np.float32)[:, None, None] for column in zip(*linear, strict=True))
    return stored * slope + intercept


def _kind(facts: Diffusion) -> Kind:
    if facts.map_type is MapType.ADC:
        return Kind.ADC
    if facts.map_type is not MapType.SIGNAL or not facts.marked:
        return Kind.OTHER
    if facts.b_value is None:
        return Kind.DWI_TRACE if facts.isotropic else Kind.OTHER
    if facts.b_value <= B0_MAXIMUM:
        return Kind.B0
    return Kind.DWI_DIRECTION if facts.isotropic is False else Kind.DWI_TRACE


def _facts(header: Dataset, diffusion: Diffusion) -> dict[str, object]:
    facts: dict[str, object] = {"modality": str(header.get("Modality", ""))}
    if diffusion.b_value is not None:
        facts["b_value"] = diffusion.b_value
    for key, keyword in (("manufacturer", "Manufacturer"), ("body_part", "BodyPartExamined")):
        if value := str(header.get(keyword, "") or "").strip():
            facts[key] = value
    strength = header.get("MagneticFieldStrength")
    if strength:
        facts["field_strength_t"] = float(strength)
    if contrast := contrast_of(header):
        facts["contrast"] = contrast
    age = re.fullmatch(r"(\d{3})([DWMY])", str(header.get("PatientAge", "") or ""))
    if age:
        years = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[age.group(2)]
        facts["patient_age_years"] = round(int(age.group(1)) * years, 2)
    return facts


def _rejection(instances: Sequence[Instance], error: SeriesRejected, group: Sequence[Frame] | None) -> RejectedSeries:
    header = instances[0].header
    number = str(header.get("SeriesNumber", "") or "").strip()
    facts = group[0].diffusion if group else None
    error.detail.setdefault("series_uid", instances[0].series_uid)
    return RejectedSeries(
        series_uid=instances[0].series_uid,
        error=error,
        kind=_kind(facts) if facts else Kind.OTHER,
        b_value=facts.b_value if facts else None,
        series_number=int(number) if number.lstrip("-").isdigit() else None,
        modality=str(header.get("Modality", "")),
    )
