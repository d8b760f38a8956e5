"""How a source image is to be shown: its own rescaling, window and polarity, said again for a presentation state.

A presentation state replaces the whole grayscale pipeline of the image (PS3.3 C.11, PS3.4 N.2), so what the image says has
to be repeated; with anything left out the picture would change when the overlay is switched on.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

_UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError)
_WHOLE = (1, 1)


@dataclass(frozen=True, slots=True)
class Display:
    """What a presentation state says about the pixels of one image or frame.

    Attributes
    ----------
    modality : Dataset
        Modality LUT module (PS3.3 C.11.1); empty where the stored values are shown as they are.
    window : Dataset
        Item of Softcopy VOI LUT Sequence (PS3.3 C.11.8) without references; empty where the image has none.
    is_inverse : bool
        Photometric Interpretation is MONOCHROME1: the presentation state overrides it (PS3.3 C.11.6.1).
    area : Dataset
        Item of Displayed Area Selection Sequence (PS3.3 C.10.4) over the whole image, without references.
    """

    modality: Dataset
    window: Dataset
    is_inverse: bool
    area: Dataset

    @property
    def pipeline(self) -> str:
        """Equal for images that one presentation state can show: everything it states once for all of them."""
        return f"{self.modality}|{self.is_inverse}"


def display_of(header: Dataset, frame_number: int | None) -> Display:
    """Read the display attributes of an image, or of one frame of an Enhanced one.

    Parameters
    ----------
    header : Dataset
        Header of a monochrome image.
    """
    return Display(
        modality=_modality(header, frame_number),
        window=_window(header, frame_number),
        is_inverse=str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1",
        area=_area(header, frame_number),
    )


def _macro(header: Dataset, frame_number: int | None, keyword: str) -> Dataset:
    """Item of a functional group, per frame before shared; the header itself for a classic image."""
    if frame_number is None or "PerFrameFunctionalGroupsSequence" not in header:
        return header
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for groups in (header.PerFrameFunctionalGroupsSequence[frame_number - 1], shared[0]):
        if groups.get(keyword):
            item: Dataset = groups[keyword].value[0]
            return item
    return Dataset()


def _modality(header: Dataset, frame_number: int | None) -> Dataset:
    module, values = Dataset(), _macro(header, frame_number, "PixelValueTransformationSequence")
    if values.get("ModalityLUTSequence"):
        module.ModalityLUTSequence = deepcopy(values.ModalityLUTSequence)
        return module
    slope, intercept = (_number(values, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None or not float(slope):
        return module
    module.RescaleIntercept, module.RescaleSlope = intercept, slope
    unit = "HU" if header.get("Modality") == "CT" else "US"  # unspecified
    module.RescaleType = str(values.get("RescaleType", "") or "").strip() or unit
    return module


def _window(header: Dataset, frame_number: int | None) -> Dataset:
    window, values = Dataset(), _macro(header, frame_number, "FrameVOILUTSequence")
    centre, width = (_number(values, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(values.get("VOILUTFunction", "") or "LINEAR")
    least = 1.0 if function == "LINEAR" else 0.0
    if centre is not None and width is not None and (float(width) >= 1.0 if least else float(width) > 0.0):
        window.WindowCenter, window.WindowWidth = centre, width
        if function != "LINEAR":
            window.VOILUTFunction = function
    elif values.get("VOILUTSequence"):
        window.VOILUTSequence = deepcopy(values.VOILUTSequence[:1])
    return window


def _area(header: Dataset, frame_number: int | None) -> Dataset:
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = list(_WHOLE)
    area.DisplayedAreaBottomRightHandCorner = [int(header.Columns), int(header.Rows)]
    area.PresentationSizeMode = "SCALE TO FIT"
    spacing = _pair(_macro(header, frame_number, "PixelMeasuresSequence").get("PixelSpacing"))
    aspect = _pair(header.get("PixelAspectRatio"))
    if spacing is not None:
        area.PresentationPixelSpacing = spacing
    elif aspect is not None and all(float(n) == int(float(n)) for n in aspect):
        area.PresentationPixelAspectRatio = [int(float(n)) for n in aspect]
    else:
        area.PresentationPixelAspectRatio = list(_WHOLE)
    return area


def _number(values: Dataset, keyword: str) -> str | None:
    """First value of a decimal string as it is written, None where there is none that is a number."""
    try:
        value = values.get(keyword)
        if isinstance(value, MultiValue):
            value = value[0] if value else None
        if value is None or value == "":
            return None
        text = str(getattr(value, "original_string", value)).strip()
        float(text)
        validate_value("DS", text, config.RAISE)
    except _UNREADABLE:
        return None
    return text


def _pair(value: object) -> list[str] | None:
    """Two positive numbers as they are written."""
    if not isinstance(value, MultiValue) or len(value) != 2:
        return None
    texts = [str(getattr(each, "original_string", each)).strip() for each in value]
    try:
        return texts if all(float(text) > 0.0 for text in texts) else None
    except _UNREADABLE:
        return None
