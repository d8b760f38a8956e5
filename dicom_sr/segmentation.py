"""Segmentation objects (PS3.3 A.51): a label mask on the grid of its source, as bits, fractions or a label map.

The pixel part is written here rather than by highdicom because a wrong overlay is the worst thing this node can do:
see :mod:`dicom_sr.functional_groups` for the planes and :mod:`dicom_sr.label_frames` for the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from dicom_sr import codes, label_frames
from dicom_sr.composite import Place, compose
from dicom_sr.errors import ObjectInvalid, SourceUnusable
from dicom_sr.explicit_vr import add_raw
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from dicom_sr.functional_groups import Frame, add_dimensions, add_frames, shared_groups
from dicom_sr.label_frames import Extent
from dicom_sr.multiframe import add_content, add_derived_image, add_source
from dicom_sr.profile import Profile
from dicom_sr.rendering import RenderedObject
from dicom_sr.run_length import encapsulated
from dicom_sr.scene import Scene
from dicom_sr.segments import background, describe, tracking
from dicom_sr.uids import result_uid
from models.results import LabelMask, Region, Segmentation

__all__ = ["ROLE", "render_segmentations", "tracking"]

ROLE = "seg"
Form = Literal["binary", "fractional", "labelmap"]

_LARGEST_FRACTIONAL = 1 << 28  # bytes: more of them, two or three times in memory, could end the process
_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True)
class _Part:
    """The regions of one object and their Segment Numbers there."""

    role: str
    instance: int
    regions: tuple[Region, ...]
    numbers: dict[int, int]


def render_segmentations(scene: Scene) -> list[RenderedObject]:
    """Segmentations of a FOUND result: one of all regions, or one of each where the profile says so.

    Raises
    ------
    SourceUnusable
        A source with a place in the patient has no Frame of Reference, or there are other frames than slices.
    ObjectInvalid
        A probability is not between 0 and 1.
    ValueError
        The result has no segmentation.
    """
    segmentation = scene.result.segmentation
    if segmentation is None:
        raise ValueError("a segmentation object needs a segmentation")
    if len(scene.source.frames) != segmentation.mask_zyx.shape[0]:
        raise SourceUnusable("the source has another number of frames than slices", frames=len(scene.source.frames))
    _require_probabilities(segmentation)
    found = label_frames.extents(*segmentation.layers)
    return [_render(part, segmentation, found, scene) for part in _parts(segmentation, scene.context.profile)]


def _require_probabilities(segmentation: Segmentation) -> None:
    probability = segmentation.probability_zyx
    if probability is None:
        return
    if probability.shape != segmentation.mask_zyx.shape:
        raise ObjectInvalid("mask and probabilities have different shapes")
    if not (probability.min() >= 0 and probability.max() <= 1):  # false for NaN as well
        raise ObjectInvalid("a probability is not between 0 and 1")


def _parts(segmentation: Segmentation, profile: Profile) -> list[_Part]:
    return _single(segmentation) if profile.per_lesion else _combined(segmentation)


def _combined(segmentation: Segmentation) -> list[_Part]:
    regions = tuple(sorted(segmentation.regions, key=lambda region: region.number))
    return [_Part(ROLE, 1, regions, {region.number: region.number for region in regions})]


def _single(segmentation: Segmentation) -> list[_Part]:
    regions = sorted(segmentation.regions, key=lambda region: region.number)
    return [_Part(f"{ROLE}-{r.number}", n, (r,), {r.number: 1}) for n, r in enumerate(regions, start=1)]


def _form(segmentation: Segmentation, frames: int, profile: Profile) -> Form:
    """What the profile wants, or bits where the result has no probabilities or too many frames for a byte a pixel.

    Bits as well where regions lie over each other: a label map has one label a pixel, and nobody knows their probabilities.
    """
    if segmentation.overlying:
        return "binary"
    if profile.segmentation != "fractional":
        return profile.segmentation
    fits = frames * segmentation.mask_zyx[0].size <= _LARGEST_FRACTIONAL
    return "fractional" if segmentation.probability_zyx is not None and fits else "binary"


def _render(part: _Part, segmentation: Segmentation, found: Sequence[Extent], scene: Scene) -> RenderedObject:
    extents = [extent for extent in found if extent.label in part.numbers]
    form = _form(segmentation, len(extents), scene.context.profile)
    model, result = scene.result.model, scene.result
    made = compose(
        sop_class_uid=UID(LABEL_MAP_SEGMENTATION) if form == "labelmap" else SegmentationStorage,
        modality="SEG",
        role=part.role,
        place=Place(ROLE, 0, part.instance, f"AI: segmentation, {model.model_id} {model.version}"),
        header=scene.header,
        context=scene.context,
        models=(model,),
    )
    made.ImageType = ["DERIVED", "PRIMARY"]
    add_derived_image(made, segmentation.mask_zyx.shape[1:], scene.source.header)
    add_content(made, "AI_SEGMENTATION", f"AI, not reviewed: {result.title}")
    add_source(made, scene.header, scene.source)
    segments = [describe(region, part.numbers[region.number], model, scene.context) for region in part.regions]
    made.SegmentSequence = [background(model), *segments] if form == "labelmap" else segments
    made.SegmentsOverlap = "YES" if segmentation.overlying and len(part.regions) > 1 else "NO"
    made.SegmentationType = form.upper()
    frames = _frames(form, extents, part)
    placed = scene.source.has_place
    add_dimensions(made, result_uid(scene.context.key, "dimensions"), by_segment=form != "labelmap", by_position=placed)
    made.SharedFunctionalGroupsSequence = [shared_groups(scene.source.volume.affine_lps) if placed else Dataset()]
    add_frames(made, frames, scene.source.frames, codes.SEGMENTATION_DERIVATION, placed=placed)
    syntax = _add_pixels(made, form, segmentation, extents, part, scene.context.profile)
    return RenderedObject(part.role, made, syntax)


def _frames(form: Form, extents: Sequence[Extent], part: _Part) -> list[Frame]:
    """One for each segment on each slice; in a label map one for each slice."""
    if form == "labelmap":
        return [Frame(k) for k in sorted({extent.slice_index for extent in extents})]
    return [Frame(extent.slice_index, part.numbers[extent.label]) for extent in extents]


def _add_pixels(
    made: Dataset, form: Form, segmentation: Segmentation, extents: Sequence[Extent], part: _Part, profile: Profile
) -> str:
    """Image Pixel and Segmentation Image modules (PS3.3 C.7.6.3, C.8.20.2); the transfer syntax they are in."""
    wide = form == "labelmap" and max(part.numbers.values()) >= 1 << 8
    bits = 1 if form == "binary" else 16 if wide else 8
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = 0
    if form == "binary":
        add_raw(made, _PIXEL_DATA, "OB", label_frames.binary(segmentation.layers, extents))
        return ExplicitVRLittleEndian
    if form == "fractional":
        made.SegmentationFractionalType = "PROBABILITY"
        made.MaximumFractionalValue = label_frames.MAXIMUM_FRACTION
    else:
        made.PixelPaddingValue = 0
    planes = _planes(form, segmentation, extents, part, bits)
    if profile.segmentation_syntax == "rle":
        add_raw(made, _PIXEL_DATA, "OB", encapsulated(planes, made), encapsulated=True)
        return RLELossless
    content = b"".join(plane.tobytes() for plane in planes)
    add_raw(made, _PIXEL_DATA, "OW" if wide else "OB", content + b"\x00" * (len(content) % 2))
    return ExplicitVRLittleEndian


def _planes(
    form: Form, segmentation: Segmentation, extents: Sequence[Extent], part: _Part, bits: int
) -> Iterator[LabelMask]:
    """Frames of whole bytes, in the order of :func:`_frames`."""
    if form == "fractional":
        assert segmentation.probability_zyx is not None
        return label_frames.fractional(segmentation.mask_zyx, segmentation.probability_zyx, extents)
    slices = sorted({extent.slice_index for extent in extents})
    return label_frames.labelled(segmentation.mask_zyx, slices, part.numbers, bits)
