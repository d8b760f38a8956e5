"""Projection radiographs: one image, no place in the patient, brighter made to mean denser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_sr import pixels
from dicom_sr.assembly import load_each
from dicom_sr.errors import Undecodable, UnsupportedImage
from dicom_sr.frames import SourceFrame
from dicom_sr.instances import Instance
from dicom_sr.loaded import Kind, RejectedSeries, SeriesVolume
from models.volume import Volume

MODALITIES = ("CR", "DX")
FOR_PROCESSING = "FOR PROCESSING"
_SMALLEST_SPACING_MM = 0.01
_UNKNOWN_SPACING = (1.0, 1.0)


def is_radiograph(header: Dataset) -> bool:
    """Whether an object is a projection of CR or DX; Secondary Capture that says so counts (film scanners, research)."""
    return str(header.get("Modality", "")) in MODALITIES and "ImageOrientationPatient" not in header


def load_radiographs(instances: Sequence[Instance]) -> tuple[list[SeriesVolume], list[RejectedSeries]]:
    """One volume of one slice for each image of a series, and what was refused."""
    return load_each(instances, _load)


def _load(instance: Instance) -> SeriesVolume:
    header = instance.header
    _require_for_presentation(header, instance.uid)
    bits = int(header.BitsStored)
    maximum = (1 << bits) - 1
    stored = pixels.decode(header, instance.pixels, instance.transfer_syntax_uid)
    if stored.shape[0] != 1 or stored.shape[1:] != (int(header.Rows), int(header.Columns)):
        raise Undecodable("the pixels have another size than the header states", sop_instance_uid=instance.uid)
    values = np.minimum(stored.astype(np.float32), maximum)
    if str(header.PhotometricInterpretation) == "MONOCHROME1":
        values = maximum - values
    spacing = _spacing_mm(header)
    rows, columns = spacing or _UNKNOWN_SPACING
    facts = {
        "modality": str(header.Modality),
        "maximum_value": maximum,
        "spacing_known": spacing is not None,
        "view": str(header.get("ViewPosition", "") or "").strip().upper(),
        "body_part": str(header.get("BodyPartExamined", "") or "").strip(),
    }
    return SeriesVolume(
        volume=Volume(values, np.diag([columns, rows, 1.0, 1.0]), "1", facts),
        series_uid=instance.series_uid,
        frames=(SourceFrame(str(header.SOPClassUID), instance.uid, None, (0.0, 0.0, 0.0)),),
        header=header,
        kind=Kind.PROJECTION,
    )


def _require_for_presentation(header: Dataset, uid: str) -> None:
    if str(header.get("PresentationIntentType", "")).strip().upper() == FOR_PROCESSING:
        raise UnsupportedImage("a radiograph for processing, which nobody reads", sop_instance_uid=uid)
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise UnsupportedImage("a radiograph of several frames", sop_instance_uid=uid)
    if not str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        raise UnsupportedImage("a radiograph in colour", sop_instance_uid=uid)
    if int(header.get("PixelRepresentation") or 0) or header.get("ModalityLUTSequence"):
        raise UnsupportedImage("signed pixels, or a non-linear modality LUT", sop_instance_uid=uid)


def _spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """Row and column spacing at the detector or in the patient; None where neither is plausible."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = header.get(keyword)
        if value is not None and len(value) == 2 and min(map(float, value)) >= _SMALLEST_SPACING_MM:
            return float(value[0]), float(value[1])
    return None
