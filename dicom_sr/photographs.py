"""Photographs in colour: one image of fundus, skin or body, without a place in the patient."""

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

MODALITIES = ("OP", "XC", "DMS", "GM", "ES")
"""Ophthalmic, external-camera, dermoscopic, microscopic and endoscopic photographs (PS3.3 C.7.3.1.1.1)."""
_LUMINANCE = np.array([0.299, 0.587, 0.114])[:, None, None]
"""ITU-R BT.601, as YBR_FULL has it (PS3.3 C.7.6.3.1.2)."""


def is_photograph(header: Dataset) -> bool:
    """Whether an object is one still photograph in colour."""
    colour = int(header.get("SamplesPerPixel", 1) or 1) == 3
    return str(header.get("Modality", "")) in MODALITIES and colour and "ImageOrientationPatient" not in header


def load_photographs(instances: Sequence[Instance]) -> tuple[list[SeriesVolume], list[RejectedSeries]]:
    """One volume of one slice for each photograph of a series, and what was refused."""
    return load_each(instances, _load)


def _load(instance: Instance) -> SeriesVolume:
    header = instance.header
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise UnsupportedImage("a photograph of several frames", sop_instance_uid=instance.uid)
    if int(header.BitsStored) != 8 or int(header.get("PixelRepresentation") or 0):
        raise UnsupportedImage("a photograph of other than 8 bits", sop_instance_uid=instance.uid)
    colour = pixels.decode_colour(header, instance.pixels, instance.transfer_syntax_uid)
    if colour.shape != (3, int(header.Rows), int(header.Columns)):
        raise Undecodable("the pixels have another size than the header states", sop_instance_uid=instance.uid)
    luminance = (colour * _LUMINANCE).sum(0, keepdims=True).astype(np.float32)
    facts = {
        "modality": str(header.Modality),
        "maximum_value": 255,
        "spacing_known": False,
        "view": "",
        "body_part": str(header.get("BodyPartExamined", "") or "").strip(),
        "laterality": str(header.get("ImageLaterality", "") or header.get("Laterality", "") or "").strip(),
    }
    return SeriesVolume(
        volume=Volume(luminance, np.eye(4), "1", facts, colour),
        series_uid=instance.series_uid,
        frames=(SourceFrame(str(header.SOPClassUID), instance.uid, None, (0.0, 0.0, 0.0)),),
        header=header,
        kind=Kind.PHOTOGRAPH,
    )
