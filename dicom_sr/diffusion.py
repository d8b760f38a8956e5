"""What an image says about diffusion: b-value, gradient direction, and which kind of map it is.

Standard attributes first (PS3.3 C.8.13.5.9), then the vendors' private ones. Series and protocol descriptions are
never read: they are free text and lie.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from dicom_sr.pixels import READ_ERRORS

B0_MAXIMUM = 50.0
"""s/mm². Some protocols use b = 50 in place of b = 0 to suppress vessels; it serves as S0 with its own b."""


class MapType(StrEnum):
    """What coded attributes say an image shows."""

    SIGNAL = "signal"
    """Not marked as a computed map: a measured or trace-weighted signal."""
    ADC = "adc"
    EXPONENTIAL = "exponential"
    """exp(−b·ADC), also called eADC or attenuated image."""
    ANISOTROPY = "anisotropy"
    """FA, RA, tensor components, kurtosis and other diffusion maps nobody here can use."""


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Diffusion facts of one frame.

    Attributes
    ----------
    b_value : float or None
        s/mm².
    direction : tuple of float or None
        Unit gradient direction, rounded to 0.01, as the vendor states it (patient or image axes).
    isotropic : bool or None
        True for a trace-weighted image, False for one direction, None when nothing says so.
    map_type : MapType
    marked : bool
        Some coded attribute says this is a diffusion image.
    """

    b_value: float | None
    direction: tuple[float, float, float] | None
    isotropic: bool | None
    map_type: MapType
    marked: bool


_ADC_TOKENS = frozenset(("ADC", "ADC_MAP", "DIFFUSION_ADC", "APPARENT_DIFFUSION"))
_EXPONENTIAL_TOKENS = frozenset(("EADC", "EXPADC", "EXP_ADC", "EXPONENTIAL", "DIFFUSION_ATTNTD", "ATTENUATED"))
_ANISOTROPY_TOKENS = frozenset(
    ("FA", "RA", "FRACTIONAL_ANISOTROPY", "DIFFUSION_ANISO", "TENSOR", "COLFA", "COLOR_FA", "KURTOSIS", "MK", "TTPCOL")
)
_TRACE_TOKENS = frozenset(("TRACEW", "TRACE", "ISOTROPIC", "ISO", "COMBINED"))
_B0_TOKENS = frozenset(("TENSOR_B0",))
_ADC_CODES = frozenset(("113041", "113290"))
_EXPONENTIAL_CODES = frozenset(("113045",))
_ANISOTROPY_CODES = frozenset(("113044", "110808", "110809", "113209", "113294"))

_CANON_COMMENT = re.compile(r"b=\s*([\d.]+)\s*\(\s*([-\d.]+)\s*,\s*([-\d.]+)\s*,\s*([-\d.]+)\s*\)")
_SIEMENS_SEQUENCE = re.compile(r"b(\d+)(t|#\d+)?\s*$", re.IGNORECASE)


def diffusion_of(dataset: Dataset, groups: Iterable[Dataset], image_type: tuple[str, ...], maker: str) -> Diffusion:
    """Diffusion facts of a frame.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The object's top level.
    groups : iterable of pydicom.Dataset
        Per-frame, then shared functional groups of an Enhanced image; nothing for a classic one.
    image_type : tuple of str
        Image Type, or the frame's Frame Type.
    maker : str
        Manufacturer, lower case.
    """
    groups = tuple(groups)
    b_value, direction, directionality = _standard(dataset, groups)
    for source in (dataset, *groups, *_nested_philips(groups)):
        if b_value is not None:
            break
        b_value, private_direction, directionality = _private(source, maker)
        direction = direction or private_direction
    if b_value is None or direction is None:
        comment_b, comment_direction = _canon_comment(dataset)
        b_value = comment_b if b_value is None else b_value
        direction = direction or comment_direction
    if (
        b_value is None
        and "siemens" in maker
        and (found := _SIEMENS_SEQUENCE.search(str(dataset.get("SequenceName", ""))))
    ):
        b_value = float(found.group(1))
        directionality = {"": None, "t": "ISOTROPIC"}.get((found.group(2) or "").lower(), "DIRECTIONAL")
    tokens = {token.strip().upper() for token in image_type}
    if b_value is None and tokens & _B0_TOKENS:
        b_value = 0.0
    map_type = _map_type(tokens, (dataset, *groups))
    contrast = [str(source.get("AcquisitionContrast", "")) for source in _frame_types(dataset, groups)]
    return Diffusion(
        b_value=b_value if b_value is not None and math.isfinite(b_value) and b_value >= 0 else None,
        direction=_rounded(direction) if directionality != "ISOTROPIC" else None,
        isotropic=_isotropic(directionality, tokens, direction),
        map_type=map_type,
        marked=b_value is not None
        or map_type is not MapType.SIGNAL
        or bool(tokens & (_TRACE_TOKENS - {"COMBINED", "ISO"} | {"DIFFUSION"}))
        or "DIFFUSION" in contrast,
    )


def _frame_types(dataset: Dataset, groups: Iterable[Dataset]) -> list[Dataset]:
    return [dataset] + [item for group in groups for item in group.get("MRImageFrameTypeSequence") or ()]


def _isotropic(
    directionality: str | None, tokens: set[str], direction: tuple[float, float, float] | None
) -> bool | None:
    if directionality == "ISOTROPIC" or tokens & _TRACE_TOKENS:
        return True
    if direction is not None or directionality in ("DIRECTIONAL", "BMATRIX"):
        return False
    return None


def _map_type(tokens: set[str], sources: Iterable[Dataset]) -> MapType:
    codes: set[str] = set()
    for source in sources:
        for derivation in (source, *(source.get("DerivationImageSequence") or ())):
            codes.update(str(item.get("CodeValue", "")) for item in derivation.get("DerivationCodeSequence") or ())
        for mapping in source.get("RealWorldValueMappingSequence") or ():
            for item in mapping.get("QuantityDefinitionSequence") or ():
                codes.update(str(code.get("CodeValue", "")) for code in item.get("ConceptCodeSequence") or ())
    if tokens & _EXPONENTIAL_TOKENS or codes & _EXPONENTIAL_CODES:
        return MapType.EXPONENTIAL
    if tokens & _ANISOTROPY_TOKENS or codes & _ANISOTROPY_CODES:
        return MapType.ANISOTROPY
    if tokens & _ADC_TOKENS or codes & _ADC_CODES:
        return MapType.ADC
    return MapType.SIGNAL


def _standard(
    dataset: Dataset, groups: tuple[Dataset, ...]
) -> tuple[float | None, tuple[float, float, float] | None, str | None]:
    places = [item for group in groups for item in group.get("MRDiffusionSequence") or ()]
    places += [*(dataset.get("MRDiffusionSequence") or ()), dataset]
    for place in places:
        b_value = _number(place.get("DiffusionBValue"))
        directionality = str(place.get("DiffusionDirectionality") or "") or None
        if b_value is None and directionality is None:
            continue
        vector = place.get("DiffusionGradientOrientation")
        for item in place.get("DiffusionGradientDirectionSequence") or ():
            vector = item.get("DiffusionGradientOrientation")
        return b_value, _vector(vector), directionality
    return None, None, None


def _private(source: Dataset, maker: str) -> tuple[float | None, tuple[float, float, float] | None, str | None]:
    """b-value, direction, directionality from the vendors' private groups.

    Siemens (0019,xx0C/0D/0E), GE (0043,xx39) with 10⁹ added by some versions and (0019,xxBB–BD),
    Philips (2001,xx03/04) and (2005,xxB0–B2).
    """
    if (value := _private_value(source, 0x0019, "SIEMENS MR HEADER", 0x0C, "siemens" in maker)) is not None:
        directionality = _private_value(source, 0x0019, "SIEMENS MR HEADER", 0x0D, True)
        vector = _vector(_private_value(source, 0x0019, "SIEMENS MR HEADER", 0x0E, True), "d")
        return _number(value), vector, _text(directionality)
    if (value := _private_value(source, 0x0043, "GEMS_PARM_01", 0x39, maker.startswith("ge"))) is not None:
        b_value = _number(value)
        parts = [_private_value(source, 0x0019, "GEMS_ACQU_01", element, True) for element in (0xBB, 0xBC, 0xBD)]
        vector = _vector([_number(part) for part in parts])
        return (None if b_value is None else b_value % 1e9), vector, None
    if (value := _private_value(source, 0x2001, "Philips Imaging DD 001", 0x03, "philips" in maker)) is not None:
        letter = _text(_private_value(source, 0x2001, "Philips Imaging DD 001", 0x04, True))
        creator = "Philips MR Imaging DD 001"
        parts = [_private_value(source, 0x2005, creator, element, True) for element in (0xB0, 0xB1, 0xB2)]
        vector = _vector([_number(part, "f") for part in parts])
        return _number(value, "f"), vector, "ISOTROPIC" if letter == "I" else None
    return None, None, None


def _nested_philips(groups: Iterable[Dataset]) -> list[Dataset]:
    """Items of Philips' private per-frame sequence (2005,140F), where that vendor repeats classic attributes."""
    items: list[Dataset] = []
    for group in groups:
        value = group[0x2005140F].value if 0x2005140F in group else None
        if value is not None and not isinstance(value, bytes | str):
            items += list(value)
    return items


def private_value(source: Dataset, group: int, creator: str, element: int) -> object | None:
    """Value of a private element found by its creator (PS3.5 7.8.1), None where absent."""
    return _private_value(source, group, creator, element, False)


def _private_value(source: Dataset, group: int, creator: str, element: int, trust_address: bool) -> object | None:
    """``trust_address`` also takes block 10, for files whose private creators an anonymiser removed."""
    for block in range(0x10, 0x20):
        tag = group << 16 | block
        if tag in source and _text(source[tag].value) == creator.upper():
            address = group << 16 | block << 8 | element
            return source[address].value if address in source else None
    address = group << 16 | 0x1000 | element
    if trust_address and (group << 16 | 0x10) not in source and address in source:
        return source[address].value
    return None


def _canon_comment(dataset: Dataset) -> tuple[float | None, tuple[float, float, float] | None]:
    """Canon writes ``b=1500(0.895,0.000,0.445)`` into Image Comments and nowhere else."""
    found = _CANON_COMMENT.search(str(dataset.get("ImageComments", "") or ""))
    if not found:
        return None, None
    numbers = [_number(part) for part in found.groups()]
    return numbers[0], _vector(numbers[1:])


def _text(value: object | None) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return None if value is None else str(value).strip("\0 ").upper()


def _number(value: object | None, binary: str = "") -> float | None:
    """First number of a value; bytes (VR lost on the way, UN) are a little endian ``binary`` number, else text."""
    if isinstance(value, bytes) and binary:
        return float(struct.unpack(f"<{binary}", value)[0]) if len(value) == struct.calcsize(binary) else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip("\0 ").split("\\")[0]
    if value is not None and not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None  # type: ignore[index]
    try:
        return None if value is None or value == "" else float(value)  # type: ignore[arg-type]
    except READ_ERRORS:
        return None


def _vector(value: object | None, binary: str = "") -> tuple[float, float, float] | None:
    if isinstance(value, bytes):
        size = struct.calcsize(f"<3{binary or 'd'}")
        value = struct.unpack(f"<3{binary or 'd'}", value) if len(value) == size else None
    if value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
        return None
    numbers = [_number(part) for part in value]
    if len(numbers) != 3 or any(n is None or not math.isfinite(n) for n in numbers):
        return None
    x, y, z = (float(n or 0.0) for n in numbers)
    return (x, y, z) if x or y or z else None


def _rounded(direction: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    if direction is None:
        return None
    x, y, z = (round(v, 2) + 0.0 for v in direction)
    return x, y, z
