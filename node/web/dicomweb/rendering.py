"""WADO-RS rendered images and thumbnails (PS3.18 10.4.1.3, 10.4.1.4): one frame, windowed, as JPEG or PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from fastapi.responses import Response
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from dicom_sr.frames import frames_of
from dicom_sr.pixels import READ_ERRORS
from node.web.dicomweb.failures import BAD_REQUEST, GONE, NOT_ACCEPTABLE, refuse
from node.web.dicomweb.frames import frame_numbers, required_pixels
from node.web.dicomweb.media_types import JPEG, PNG, MediaType, best
from node.web.dicomweb.pixel_source import PixelElement, readable

_DARKEST, _BRIGHTEST = 1.0, 99.7
"""Percentiles that become black and white where neither request nor image names a window."""
_LARGEST_SIDE = 8192
_MOST_BITS = 8 * (64 << 20)
_THUMBNAIL_PIXELS = 128
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Voi:
    """A window: centre, width and function (PS3.3 C.11.2.1)."""

    centre: float
    width: float
    function: str = "LINEAR"

    def level(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """0 (black) to 1 (white)."""
        if self.function == "SIGMOID":
            return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - self.centre) / self.width, -60.0, 60.0)))
        if self.function == "LINEAR_EXACT" or self.width <= 1:
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Wish:
    """How an image is to look: query parameters of PS3.18 8.3.5."""

    voi: Voi | None = None
    size: tuple[int, int] | None = None
    quality: int = _QUALITY

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Wish:
        """From a query.

        Raises
        ------
        HTTPException
            400: a value without its form.
        """
        quality = parameters.get("quality", str(_QUALITY))
        if not (quality.isascii() and quality.isdigit() and 1 <= int(quality[:4]) <= 100):
            refuse(BAD_REQUEST, "quality is a whole number from 1 to 100")
        return cls(_voi(parameters.get("window", "")), _size(parameters.get("viewport", "")), int(quality))


def rendered(path: Path, numbers: str | None, wish: Wish, wanted: Sequence[MediaType]) -> Response:
    """One frame as an image; where none is named, the first.

    Raises
    ------
    HTTPException
        400, 404: as for frames. 406: neither JPEG nor PNG is wanted. 410: it cannot be decoded.
    """
    kind = best(wanted, [JPEG, PNG])
    if kind is None:
        refuse(NOT_ACCEPTABLE, f"rendered images are {JPEG} or {PNG}")
    source = required_pixels(path)
    chosen = frame_numbers(numbers, source.frames) if numbers is not None else [1]
    if len(chosen) > 1:
        refuse(NOT_ACCEPTABLE, "one frame is rendered at a time")
    return _response(image_of(source, chosen[0], wish), kind, wish.quality)


def thumbnail(path: Path, numbers: str | None, wish: Wish, wanted: Sequence[MediaType]) -> Response:
    """A small image; of several frames the one in the middle where none is named.

    Raises
    ------
    HTTPException
        As for :func:`rendered`.
    """
    kind = best(wanted, [JPEG, PNG])
    if kind is None:
        refuse(NOT_ACCEPTABLE, f"thumbnails are {JPEG} or {PNG}")
    source = required_pixels(path)
    chosen = frame_numbers(numbers, source.frames)[0] if numbers is not None else source.frames // 2 + 1
    small = Wish(wish.voi, wish.size or (_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS), wish.quality)
    return _response(image_of(source, chosen, small), kind, wish.quality)


def image_of(source: PixelElement, number: int, wish: Wish) -> Image.Image:
    """A frame as an image of 8 bits, pixels as far apart as they are in the patient only where ``size`` is named.

    Raises
    ------
    HTTPException
        410: it cannot be decoded. 406: too large to be rendered.
    """
    if source.bits_of_frame > _MOST_BITS:
        refuse(NOT_ACCEPTABLE, "the frame is too large to be rendered")
    with readable():
        pixels = pixel_array(source.path, index=number - 1)
    if pixels.ndim == 3:
        image = Image.fromarray(_eight_bits(pixels, source.header))
    else:
        image = Image.fromarray(_grey(pixels, source.header, number, wish.voi))
    if wish.size is not None:
        image.thumbnail(wish.size)
    return image


def stated_window(header: Dataset, number: int) -> Voi | None:
    """The window an image names for a frame; None where it names none that can be used."""
    groups = header
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for items in (per_frame[number - 1 : number], shared[:1]):
        if items and items[0].get("FrameVOILUTSequence"):
            groups = items[0].FrameVOILUTSequence[0]
            break
    centre, width = _first(groups.get("WindowCenter")), _first(groups.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    function = str(groups.get("VOILUTFunction") or "LINEAR")
    return Voi(centre, width, function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR")


def percentile_window(values: npt.NDArray[np.float64]) -> Voi:
    """A window from the values themselves."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (_DARKEST, _BRIGHTEST)) if finite.size else (0.0, 1.0)
    if high <= low:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Voi(float(low + high) / 2, max(float(high - low), 1e-6), "LINEAR_EXACT")


def _grey(pixels: npt.NDArray, header: Dataset, number: int, wish: Voi | None) -> npt.NDArray[np.uint8]:
    slope, intercept = mapping_of(header, number)
    values = pixels.astype(np.float64) * slope + intercept
    voi = wish or stated_window(header, number) or percentile_window(values)
    level = np.nan_to_num(voi.level(values))
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        level = 1.0 - level
    return np.rint(level * 255.0).astype(np.uint8)


def mapping_of(header: Dataset, number: int) -> tuple[float, float]:
    """Rescale slope and intercept of a frame.

    Raises
    ------
    HTTPException
        410: the header cannot be read.
    """
    try:
        frame = frames_of(header, 0, limit=number)[number - 1]
    except READ_ERRORS:
        refuse(GONE, "the stored header cannot be read")
    return frame.mapping.slope, frame.mapping.intercept


def _eight_bits(pixels: npt.NDArray, header: Dataset) -> npt.NDArray[np.uint8]:
    stored = int(header.get("BitsStored") or 8)
    return pixels.astype(np.uint8) if stored <= 8 else (pixels >> (stored - 8)).astype(np.uint8)


def _response(image: Image.Image, kind: str, quality: int) -> Response:
    made = io.BytesIO()
    if kind == PNG:
        image.save(made, "PNG")
    else:
        image.save(made, "JPEG", quality=quality)
    return Response(made.getvalue(), media_type=kind)


def _voi(text: str) -> Voi | None:
    if not text:
        return None
    pieces = text.split(",")
    function = pieces[2].strip().upper().replace("-", "_") if len(pieces) == 3 else "LINEAR"
    try:
        centre, width = (float(piece) for piece in pieces[:2])
    except ValueError:
        refuse(BAD_REQUEST, "window is centre,width or centre,width,function")
    if len(pieces) > 3 or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        refuse(BAD_REQUEST, "window's function is linear, linear-exact or sigmoid")
    if not math.isfinite(centre + width) or width <= 0:
        refuse(BAD_REQUEST, "window's width is larger than 0")
    return Voi(centre, width, function)


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    pieces = text.split(",")
    if len(pieces) != 2 or any(not (piece.isascii() and piece.isdigit()) for piece in pieces):
        refuse(BAD_REQUEST, "viewport is width,height in pixels")
    width, height = (int(piece[:9]) for piece in pieces)
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        refuse(BAD_REQUEST, f"viewport's sides have 1 to {_LARGEST_SIDE} pixels")
    return width, height


def _first(value: object) -> float | None:
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        number = float(str(several[0]))
    except (ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None
