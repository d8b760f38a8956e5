"""What may be exported at all: nothing that may show who it is in its pixels, or tell it in free text."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from dicom_sr.errors import MayShowIdentity, NotAnonymisable

_MEASUREMENT_REPORT = ("126000", "DCM")
# Pixels of these come from a detector and a reconstruction; nobody types into them.
_RECONSTRUCTED = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image Storage",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET Image Storage",
}
# Pixels of these are a model's.
_COMPUTED = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map Storage",
}
_REPORTS = {
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
}
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_OVERLAY_BITS_ALLOCATED = 0x0100
# PS3.3 C.8.6.1 and the words of vendors for pictures of a screen.
_SCREEN_WORDS = ("SCREEN", "CAPTURE", "SNAPSHOT", "REPORT", "PHOTO", "DOSE")


def check_admissible(dataset: Dataset) -> None:
    """Refuse what cannot be made anonymous with certainty.

    Raises
    ------
    MayShowIdentity
        Identity may be burned into the pixels: the object says so, is of a kind whose pixels are often annotated (secondary
        capture, ultrasound, photographs, radiographs …), in colour, or a picture of a screen.
    NotAnonymisable
        Free text or a document, which nothing cleans with certainty.
    """
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in _COMPUTED:
        return
    if sop_class in _REPORTS:
        if _title(dataset) != _MEASUREMENT_REPORT:
            raise NotAnonymisable("a report that is no Imaging Measurement Report (TID 1500) is free text")
        return
    if sop_class not in _RECONSTRUCTED:
        if "PixelData" in dataset:
            raise MayShowIdentity(
                "identity may be burned into the pixels of this kind of image", sop_class_uid=sop_class
            )
        raise NotAnonymisable("this kind of object may hold free text", sop_class_uid=sop_class)
    _check_pixels(dataset)


def _check_pixels(dataset: Dataset) -> None:
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        raise MayShowIdentity("Burned In Annotation (0028,0301) is YES")
    if str(dataset.get("PhotometricInterpretation", "")) not in _GREY:
        raise MayShowIdentity("the image is in colour, as pictures of a screen are")
    if "ConversionType" in dataset:
        raise MayShowIdentity("the image was converted from something else (Conversion Type (0008,0064))")
    overlays = [tag for tag in dataset.keys() if tag.group & 0xFF00 == 0x6000]  # noqa: SIM118 - tags, not elements
    if any(tag.element == _OVERLAY_BITS_ALLOCATED and dataset[tag].value != 1 for tag in overlays):
        raise MayShowIdentity("an overlay lies in unused bits of the pixels (retired in PS3.3-2004)")
    if _uses_spare_bits(dataset):
        raise MayShowIdentity("something lies in unused bits of the pixels, as overlays did before PS3.3-2004")
    words = [str(word).upper() for word in (dataset.get("ImageType") or [])]
    if hits := [word for word in words if any(each in word for each in _SCREEN_WORDS)]:
        raise MayShowIdentity(f"Image Type (0008,0008) has {hits[0]}")


def _uses_spare_bits(dataset: Dataset) -> bool:
    """Whether bits above the highest stored one hold anything but the sign; compressed pixels have no such bits."""
    stored = int(dataset.get("BitsStored", 0))
    if "PixelData" not in dataset or int(dataset.get("BitsAllocated", 0)) != 16 or not 0 < stored < 16:
        return False
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    values = np.frombuffer(dataset.PixelData, dtype=f"{order}u2")
    above = values >> stored
    if int(dataset.get("PixelRepresentation", 0)) == 0:
        return bool(above.any())
    negative = (values >> (stored - 1)) & 1
    filled = np.uint16((1 << (16 - stored)) - 1)
    return bool((above != negative * filled).any() and above.any())


def _title(dataset: Dataset) -> tuple[str, str]:
    concept = dataset.get("ConceptNameCodeSequence") or []
    return (
        (str(concept[0].get("CodeValue", "")), str(concept[0].get("CodingSchemeDesignator", "")))
        if concept
        else ("", "")
    )
