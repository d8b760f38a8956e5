"""Secondary Captures: pictures for systems that show nothing else (PS3.3 A.8.1, A.8.5).

They are the last resort of an overlay: nobody can switch the outlines off, and no viewer knows where they lie. So each
picture says what it is, whose it is and which slice it shows, in its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.illustration import Illustration
from dicom_sr.pictures.captured import FrameLayout
from dicom_sr.pictures.montage import draw_montage
from dicom_sr.pictures.orientation import sides
from dicom_sr.pictures.summary import draw_sheet
from dicom_sr.pictures.words import words
from dicom_sr.provenance import shortened
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import instance_reference
from dicom_sr.subject_line import identifies, subject_line
from dicom_sr.tables import tables
from models.remedies import remedy_in
from models.report_facts import format_ml
from models.results import Draft, ModelReference, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import SourceFrame

ROLE = "secondary_capture"
SUMMARY = "summary"

MAXIMUM_FRAMES = 32
"""More slices than this are better looked at as a segmentation; the largest are kept."""
SURVEY_FRAMES = 8
"""Slices shown where nothing was found: evidence of what was looked at, not a second copy of the study."""
_LONG = 200
_SUMMARY_TILES, _SUMMARY_COLUMNS, _TILE, _SUMMARY_WIDTH = 8, 4, 300, 1216
_PAGE_NUMBER_VECTOR = 0x00182001


def render_captures(shown: Illustration, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    """Annotated slices of an assessed result.

    Returns
    -------
    list of RenderedObject
        One multi-frame object, or, where the profile asks for single frames, one object for each slice.
    """
    slices = shown.slices(MAXIMUM_FRAMES if shown.slices_with_findings() else SURVEY_FRAMES)
    frames = _annotated(shown, slices, header)
    if context.profile.secondary_capture == "multi_frame" and len(frames) > 1:
        return [RenderedObject(ROLE, _multi_frame(frames, slices, shown, header, context))]
    return [
        RenderedObject(
            f"{ROLE}-{n}", _single(f"{ROLE}-{n}", frame, [slices[n - 1]], shown, header, context, instance=n)
        )
        for n, frame in enumerate(frames, start=1)
    ]


def render_summary(shown: Illustration, header: SourceHeader, context: RenderContext) -> Dataset:
    """The result on one picture: key slices, figures, detection limit, limits of use."""
    slices = shown.slices(_SUMMARY_TILES)
    montage = draw_montage(
        shown.painter, slices, [shown.name_of(k) for k in slices], columns=_SUMMARY_COLUMNS, tile=_TILE
    )
    sheet = draw_sheet(
        warning=shown.words.notice,
        title=shown.result.title,
        subject=subject_line(header.attributes, shown.words),
        headline=shown.headline(),
        montage=montage,
        tables=tables(shown.result, shown.words),
        limits=shown.limits(),
        width=_SUMMARY_WIDTH,
    )
    return _single(SUMMARY, sheet, slices, shown, header, context, instance=1)


def render_status_picture(
    result: StudyResult, draft: Draft | None, header: SourceHeader, context: RenderContext
) -> Dataset:
    """That nothing was assessed, why, and what to do: for systems that show no reports."""
    language = draft.language if draft else "en"
    said, reason = words(language), result.refusal
    lines = (
        []
        if reason is None
        else [f"{said.reason} ({reason.code}): {reason.message}", f"{said.remedy}: {remedy_in(reason, language)}"]
    )
    model = result.model
    lines += [f"{said.model}: {model.name}, {model.version}, SHA-256 {model.digest[:12]}, {model.manufacturer}"]
    headline = draft.impression if draft else said.not_assessed
    made = render_notice([model], language, result.title, headline, lines, header, context)
    made.SeriesDescription = "AI: not assessed"
    return made


def render_notice(
    models: Sequence[ModelReference],
    language: str,
    title: str,
    headline: str,
    lines: Sequence[str],
    header: SourceHeader,
    context: RenderContext,
) -> Dataset:
    """A status as a picture of words alone. The title becomes its Series Description."""
    said = words(language)
    sheet = draw_sheet(
        warning=said.status_notice,
        title=title,
        subject=subject_line(header.attributes, said),
        headline=headline,
        montage=None,
        tables=(),
        limits=lines,
        width=_SUMMARY_WIDTH,
    )
    made = _composed(str(SecondaryCaptureImageStorage), SUMMARY, 1, tuple(models), header, context)
    made.SeriesDescription = shortened(title)
    made.ImageComments = shortened(f"{said.status_notice}. {title}", _LONG)
    made.LossyImageCompression = "00"
    _add_pixels(made, [sheet])
    return made


def _annotated(shown: Illustration, slices: Sequence[int], header: SourceHeader) -> list[Image.Image]:
    whose, feet = subject_line(header.attributes, shown.words), []
    with_findings = shown.slices_with_findings()
    for k in slices:
        foot = [shown.name_of(k), whose, *_legend(shown, k)]
        if with_findings > len(slices):
            foot.append(shown.words.shown.format(shown=len(slices), total=with_findings))
        feet.append(foot)
    layout = FrameLayout.fitting(shown.words.notice, feet)
    return [layout.frame(shown.painter, k, foot) for k, foot in zip(slices, feet, strict=True)]


def _legend(shown: Illustration, slice_index: int) -> list[str]:
    """What the outlines of a slice are, or the result where there are none."""
    regions = shown.result.segmentation.regions if shown.result.segmentation else ()
    present = set(shown.painter.numbers(slice_index))
    said = shown.words
    entries = [
        f"{region.number}: {said.terms.get(region.finding.value, region.finding.meaning)}, "
        f"{said.sides[region.laterality]}" + ("" if region.volume_ml is None else f", {format_ml(region.volume_ml)} mL")
        for region in regions
        if region.number in present
    ]
    return ["; ".join(entries)] if entries else [shown.headline()]


def _single(
    role: str,
    picture: Image.Image,
    slices: Sequence[int],
    shown: Illustration,
    header: SourceHeader,
    context: RenderContext,
    *,
    instance: int,
) -> Dataset:
    """Secondary Capture Image (PS3.3 A.8.1)."""
    made = _drawn(str(SecondaryCaptureImageStorage), role, instance, shown, header, context)
    if role != SUMMARY:
        across = sides(shown.source.volume.affine_lps)
        made.PatientOrientation = [across.right, across.bottom]
    _add_pixels(made, [picture])
    _add_sources(made, shown.frames(slices))
    return made


def _multi_frame(
    frames: Sequence[Image.Image],
    slices: Sequence[int],
    shown: Illustration,
    header: SourceHeader,
    context: RenderContext,
) -> Dataset:
    """Multi-frame True Color Secondary Capture Image (PS3.3 A.8.5): frame n shows source image n."""
    sop_class = str(MultiFrameTrueColorSecondaryCaptureImageStorage)
    made = _drawn(sop_class, ROLE, 1, shown, header, context)
    made.PatientOrientation = [
        sides(shown.source.volume.affine_lps).right,
        sides(shown.source.volume.affine_lps).bottom,
    ]
    _add_pixels(made, frames)
    made.NumberOfFrames = len(frames)
    made.FrameIncrementPointer = _PAGE_NUMBER_VECTOR
    made.PageNumberVector = list(range(1, len(frames) + 1))
    _add_sources(made, shown.frames(slices))
    return made


def _drawn(
    sop_class: str, role: str, instance: int, shown: Illustration, header: SourceHeader, context: RenderContext
) -> Dataset:
    """Everything but the pixels of a picture drawn from images."""
    model, source = shown.result.model, shown.source.header
    models = tuple(model for model, _ in shown.origins())
    made = _composed(sop_class, role, instance, models, header, context)
    made.ImageComments = shortened(f"{shown.words.notice}. {shown.result.title}", _LONG)
    made.DerivationDescription = shortened(f"{model.name} {model.version}: outlines drawn in", _LONG)
    made.LossyImageCompression = "01" if _is_lossy(source) else "00"
    if _is_lossy(source):
        made.LossyImageCompressionRatio = source.LossyImageCompressionRatio
        made.LossyImageCompressionMethod = source.LossyImageCompressionMethod
    return made


def _composed(
    sop_class: str,
    role: str,
    instance: int,
    models: tuple[ModelReference, ...],
    header: SourceHeader,
    context: RenderContext,
) -> Dataset:
    """General Series and Image, SC Equipment and Image modules (PS3.3 C.8.6)."""
    is_summary = role == SUMMARY
    description = "AI: summary, not reviewed" if is_summary else "AI: pictures, not reviewed"
    made = compose(
        sop_class_uid=sop_class,
        modality="OT",
        role=role,
        place=Place(SUMMARY if is_summary else ROLE, 21 if is_summary else 20, instance, description),
        header=header,
        context=context,
        models=models,
    )
    made.ConversionType = "WSD"
    made.SecondaryCaptureDeviceManufacturer = made.Manufacturer
    made.SecondaryCaptureDeviceManufacturerModelName = made.ManufacturerModelName
    made.SecondaryCaptureDeviceSoftwareVersions = made.SoftwareVersions
    if header.body_part:
        made.BodyPartExamined = header.body_part
    else:
        made.Laterality = ""  # Type 2C: the body part may be a paired one
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.PatientOrientation = ""
    made.BurnedInAnnotation = "YES" if identifies(header.attributes) else "NO"
    return made


def _is_lossy(source: Dataset) -> bool:
    stated = str(source.get("LossyImageCompression", "") or "") == "01"
    return stated and bool(source.get("LossyImageCompressionRatio")) and bool(source.get("LossyImageCompressionMethod"))


def _add_pixels(made: Dataset, pictures: Sequence[Image.Image]) -> None:
    """Image Pixel module (PS3.3 C.7.6.3): RGB, colour by pixel, eight bits each."""
    content = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]).tobytes()
    made.SamplesPerPixel = 3
    made.PhotometricInterpretation = "RGB"
    made.PlanarConfiguration = 0
    made.Rows, made.Columns = pictures[0].height, pictures[0].width
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = content + b"\x00" * (len(content) % 2)
    made["PixelData"].VR = "OB"


def _add_sources(made: Dataset, frames: Sequence[SourceFrame]) -> None:
    """Source Image Sequence (PS3.3 C.7.6.1): the images shown, in the order in which they are shown."""
    items = []
    for frame in frames:
        reference = instance_reference(frame.sop_class_uid, frame.sop_instance_uid)
        if frame.frame_number is not None:
            reference.ReferencedFrameNumber = frame.frame_number
        reference.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_FOR_PROCESSING)]
        items.append(reference)
    made.SourceImageSequence = items
