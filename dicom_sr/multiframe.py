"""Modules of multi-frame images derived from one series: whose space they share, and which images they are from."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_sr.errors import SourceUnusable
from dicom_sr.provenance import shortened
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import instance_reference

if TYPE_CHECKING:
    from dicom_sr.series import SeriesVolume


def add_source(made: Dataset, header: SourceHeader, source: SeriesVolume) -> None:
    """Frame of Reference and Common Instance Reference modules, and what the series inherits from the order.

    What is derived from a projection has no Frame of Reference.

    Raises
    ------
    SourceUnusable
        The source has a place in the patient, and no Frame of Reference.
    """
    if source.has_place:
        add_frame_of_reference(made, source)
    else:
        made.PatientOrientation = source.header.get("PatientOrientation", "") or ""  # Type 2C (PS3.3 C.7.6.1)
    if header.body_part:
        made.BodyPartExamined = header.body_part
    requests = [_request_attributes(entry) for entry in header.requests]
    if any(len(entry) for entry in requests):
        made.RequestAttributesSequence = [entry for entry in requests if len(entry)]
    instances = {f.sop_instance_uid: f.sop_class_uid for f in source.frames}
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = [instance_reference(c, uid) for uid, c in instances.items()]
    made.ReferencedSeriesSequence = [series]


def add_frame_of_reference(made: Dataset, source: SeriesVolume) -> None:
    """Frame of Reference module (PS3.3 C.7.4.1): the space of the source.

    Raises
    ------
    SourceUnusable
        The source has none: nothing can be said to lie on its images.
    """
    if not source.frame_of_reference_uid:
        raise SourceUnusable("the source series has no Frame of Reference UID", attribute="FrameOfReferenceUID")
    made.FrameOfReferenceUID = source.frame_of_reference_uid
    made.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "") or ""


def add_derived_image(made: Dataset, shape_yx: tuple[int, ...], source_header: Dataset) -> None:
    """General Image and the beginning of Image Pixel (PS3.3 C.7.6.1, C.7.6.3): one grey value for each pixel."""
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = (int(n) for n in shape_yx)
    lossy = str(source_header.get("LossyImageCompression", "") or "")
    ratio, method = (source_header.get(f"LossyImageCompression{x}") for x in ("Ratio", "Method"))
    made.LossyImageCompression = "00"
    if lossy == "01" and ratio and method:
        made.LossyImageCompression = lossy
        made.LossyImageCompressionRatio = ratio
        made.LossyImageCompressionMethod = method


def add_content(made: Dataset, label: str, description: str) -> None:
    """Content Identification Macro (PS3.3 Table 10-12); no person made it."""
    made.ContentLabel = label
    made.ContentDescription = shortened(description)
    made.ContentCreatorName = ""  # Type 3 today, Type 2 in the editions DCMTK and dcmqi follow


def _request_attributes(request: Dataset) -> Dataset:
    """Item of Request Attributes Sequence (PS3.3 10.6), only where the images name a request."""
    if not request.get("RequestedProcedureID") and not request.get("ScheduledProcedureStepID"):
        return Dataset()
    attributes = Dataset()
    attributes.update(deepcopy(request))
    # The order's numbers are of the macro in reports only (PS3.3 tables 10-9 and C.17-2).
    for keyword in ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):
        if keyword in attributes:
            delattr(attributes, keyword)
    return attributes
