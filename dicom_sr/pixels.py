"""Stored pixel data to numbers: decoding with a fixed order of codecs, and the mapping to real values."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_sr.errors import NoPixelData, Undecodable, UnsupportedImage

PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00010, 0x7FE00008, 0x7FE00009
EXTENDED_OFFSETS = (0x7FE00001, 0x7FE00002)
PIXEL_TAGS = (PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, *EXTENDED_OFFSETS)

READ_ERRORS = (
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OverflowError,
    struct.error,
    MemoryError,
)
"""What pydicom and its codecs raise on damaged input."""

# The fastest codec that decodes a syntax bit-exactly comes first; all of one node use the same one. What a first
# choice refuses (unusual bit depths) is tried with the next.
_PLUGINS: dict[str, tuple[str, ...]] = {
    RLELossless: ("pylibjpeg", "pydicom"),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    JPEG2000Lossless: ("pylibjpeg", "gdcm"),
    JPEG2000: ("pylibjpeg", "gdcm"),
}
_OTHER_COMPRESSED = ("gdcm",)
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


@dataclass(frozen=True, slots=True)
class PixelMapping:
    """How stored values become real ones.

    Attributes
    ----------
    slope, intercept : float
        Rescale (modality LUT, or Pixel Value Transformation of an Enhanced image); 1 and 0 where absent.
    real_world : tuple or None
        Slope, intercept and UCUM unit of a linear Real World Value Mapping (PS3.3 C.7.6.16.2.11).
    philips_scale_slope : float or None
        Philips' private SS (2005,100E): the value that compares across images is stored / SS + RI / (RS · SS).
    """

    slope: float = 1.0
    intercept: float = 0.0
    real_world: tuple[float, float, str] | None = None
    philips_scale_slope: float | None = None


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Pixel Data taken out of a data set: its bytes, its VR and the Extended Offset Table (offsets, lengths) if any."""

    value: bytes
    vr: str
    extended_offsets: tuple[bytes, bytes] | None = None


def take_pixels(dataset: Dataset) -> PixelElement | None:
    """Remove the pixel data from ``dataset`` and hand them back; None where it has none (or only float ones)."""
    found = {}
    for tag in PIXEL_TAGS:
        if tag in dataset:
            found[tag] = dataset.get_item(tag)
            del dataset[tag]
    element = found.get(PIXEL_DATA)
    if element is None:
        return None
    offsets = tuple(bytes(found[tag].value or b"") for tag in EXTENDED_OFFSETS if tag in found)
    return PixelElement(
        value=bytes(element.value or b""),
        vr=str(element.VR or "OW"),
        extended_offsets=(offsets[0], offsets[1]) if len(offsets) == 2 and all(offsets) else None,
    )


def decode(dataset: Dataset, pixels: PixelElement | None, syntax: str) -> npt.NDArray:
    """Decode all frames of one object.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Its header (Image Pixel module).
    pixels : PixelElement or None
        Pixel Data as read, encapsulated or native.
    syntax : str
        Transfer Syntax UID.

    Returns
    -------
    numpy.ndarray
        Stored values, shape (frames, rows, columns).

    Raises
    ------
    NoPixelData, UnsupportedImage, Undecodable
    """
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise UnsupportedImage("several samples per pixel", sop_instance_uid=str(dataset.get("SOPInstanceUID", "")))
    array = _decoded(dataset, pixels, syntax, raw=True)
    return array if array.ndim == 3 else array[None]


def decode_colour(dataset: Dataset, pixels: PixelElement | None, syntax: str) -> npt.NDArray:
    """Decode one photograph: red, green, blue, shape (3, rows, columns). Parameters and errors as :func:`decode`."""
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in _COLOURS:
        raise UnsupportedImage(f"colours as {photometric}", sop_instance_uid=str(dataset.get("SOPInstanceUID", "")))
    array = _decoded(dataset, pixels, syntax, raw=False)
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _decoded(dataset: Dataset, pixels: PixelElement | None, syntax: str, *, raw: bool) -> npt.NDArray:
    """The first plugin's array; ``raw`` leaves colours as they are stored."""
    uid = str(dataset.get("SOPInstanceUID", ""))
    if pixels is None or not pixels.value:
        raise NoPixelData(sop_instance_uid=uid)
    failures = []
    for plugin in _plugins(syntax, uid):
        try:
            array, _ = get_decoder(UID(syntax)).as_array(
                pixels.value, raw=raw, decoding_plugin=plugin, **_options(dataset, pixels)
            )
        except READ_ERRORS as failure:
            failures.append(f"{plugin or 'native'}: {type(failure).__name__}")
            continue
        return array
    raise Undecodable(
        f"Pixel Data in transfer syntax {syntax} cannot be decoded ({', '.join(failures)})",
        transfer_syntax_uid=syntax,
        sop_instance_uid=uid,
        bytes=len(pixels.value),
    )


def _plugins(syntax: str, uid: str) -> tuple[str, ...]:
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as failure:
        raise Undecodable(
            f"there is no decoder for transfer syntax {syntax or '(none)'}",
            transfer_syntax_uid=syntax,
            sop_instance_uid=uid,
        ) from failure
    if decoder.is_native:
        return ("",)
    wanted = _PLUGINS.get(UID(syntax), _OTHER_COMPRESSED)
    return tuple(name for name in wanted if name in decoder.available_plugins)


def _options(dataset: Dataset, pixels: PixelElement) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "samples_per_pixel": int(dataset.get("SamplesPerPixel", 1) or 1),
        "bits_allocated": int(dataset.BitsAllocated),
        "bits_stored": int(dataset.BitsStored),
        "pixel_representation": int(dataset.PixelRepresentation),
        "photometric_interpretation": str(dataset.PhotometricInterpretation),
        "pixel_keyword": "PixelData",
        "pixel_vr": pixels.vr if pixels.vr in ("OB", "OW") else "OW",
    }
    if options["samples_per_pixel"] > 1:
        options["planar_configuration"] = int(dataset.get("PlanarConfiguration", 0) or 0)
    if pixels.extended_offsets is not None:
        options["extended_offsets"] = pixels.extended_offsets
    return options
