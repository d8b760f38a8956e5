"""Classic and Enhanced images to one internal record per frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    ParametricMapStorage,
    PositronEmissionTomographyImageStorage,
    RTDoseStorage,
    SegmentationStorage,
)

from dicom_sr.diffusion import Diffusion, MapType, diffusion_of, private_value
from dicom_sr.errors import NoPixelData, UnsupportedImage
from dicom_sr.geometry import Placement
from dicom_sr.pixels import PixelElement, PixelMapping

CLASSIC = frozenset((CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage))
ENHANCED = frozenset(
    (
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
    )
)
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
_NEVER_VOLUMES = frozenset((SegmentationStorage, LABEL_MAP_SEGMENTATION, ParametricMapStorage, RTDoseStorage))
_NOT_DIFFUSION = Diffusion(None, None, None, MapType.SIGNAL, False)


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One source image of a slice.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
    frame_number : int or None
        1-based frame of a multi-frame object, None for a single-frame one.
    position_mm : tuple of float
        Image Position (Patient).
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    position_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame says about itself.

    Attributes
    ----------
    instance : int
        Index of its object in the series.
    index : int
        0-based frame of that object.
    placement : Placement
        Geometry as stated, unchecked.
    diffusion : Diffusion
    mapping : PixelMapping
    image_type : tuple of str
    separators : tuple
        What tells repeated images at one position apart: echo, temporal position, acquisition, image component.
    sop_class_uid, sop_instance_uid, frame_number
        As in :class:`SourceFrame`.
    """

    instance: int
    index: int
    placement: Placement
    diffusion: Diffusion
    mapping: PixelMapping
    image_type: tuple[str, ...]
    separators: tuple[tuple[str, str], ...]
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None

    @property
    def source(self) -> SourceFrame:
        """Reference to this frame; its position must be known."""
        x, y, z = self.placement.position_mm or (math.nan,) * 3
        return SourceFrame(self.sop_class_uid, self.sop_instance_uid, self.frame_number, (x, y, z))


def require_image(dataset: Dataset, pixels: PixelElement | None) -> None:
    """Refuse what can never become a scalar volume.

    Raises
    ------
    NoPixelData, UnsupportedImage
    """
    uid = str(dataset.get("SOPInstanceUID", ""))
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in _NEVER_VOLUMES:
        raise UnsupportedImage("segmentations, maps and doses are not source images", sop_class_uid=sop_class)
    if pixels is None:
        raise NoPixelData(f"an object of SOP class {sop_class} without Pixel Data", sop_instance_uid=uid)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > len(pixels.value):
        raise UnsupportedImage(
            f"{frames} frames in {len(pixels.value)} bytes of Pixel Data", number_of_frames=frames, sop_instance_uid=uid
        )
    samples = int(dataset.get("SamplesPerPixel") or 1)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if samples != 1 or not photometric.startswith("MONOCHROME"):
        raise UnsupportedImage(
            f"{samples} sample(s) per pixel, {photometric or 'no photometric interpretation'}",
            samples_per_pixel=samples,
            photometric_interpretation=photometric,
            sop_instance_uid=uid,
        )
    if "MOSAIC" in dataset.get("ImageType", ()):
        raise UnsupportedImage("a mosaic: all slices tiled in one image", sop_instance_uid=uid)
    if dataset.get("ModalityLUTSequence"):
        raise UnsupportedImage("a non-linear modality LUT", sop_instance_uid=uid)


def frames_of(dataset: Dataset, instance: int, *, limit: int | None = None) -> list[Frame]:
    """Every frame of one object, classic (PS3.3 C.7.6.2) or with functional groups (C.7.6.16).

    Parameters
    ----------
    limit : int or None
        Most frames to look at, for an object that :func:`require_image` has not let through.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    count = count if limit is None else min(count, limit)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    maker = str(dataset.get("Manufacturer", "") or "").strip().lower()
    if not per_frame:
        return [_classic(dataset, instance, index if count > 1 else None, maker) for index in range(count)]
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [
        _enhanced(dataset, instance, index, (groups, shared[0]), maker)
        for index, groups in enumerate(per_frame[:limit])
    ]


def _classic(dataset: Dataset, instance: int, index: int | None, maker: str) -> Frame:
    image_type = _strings(dataset.get("ImageType"))
    mr = str(dataset.get("Modality", "")) == "MR"
    separators = (
        ("echo", f"{dataset.get('EchoNumbers', '')}/{dataset.get('EchoTime', '')}"),
        ("temporal position", f"{dataset.get('TemporalPositionIdentifier', '')}"),
        ("image type", "\\".join(image_type)),
        ("component", str(private_value(dataset, 0x0043, "GEMS_PARM_01", 0x2F) or "") if mr else ""),
        ("acquisition", str(dataset.get("AcquisitionNumber", "") or "")),
    )
    return Frame(
        instance=instance,
        index=index or 0,
        placement=_placement(dataset, dataset, dataset, dataset, image_type, index),
        diffusion=diffusion_of(dataset, (), image_type, maker) if mr else _NOT_DIFFUSION,
        mapping=_mapping(dataset, (dataset,)),
        image_type=image_type,
        separators=separators,
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        frame_number=None if index is None else index + 1,
    )


def _enhanced(dataset: Dataset, instance: int, index: int, groups: tuple[Dataset, Dataset], maker: str) -> Frame:
    frame_type = _group(groups, "MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
    image_type = _strings(frame_type.get("FrameType")) or _strings(dataset.get("ImageType"))
    content = _group(groups, "FrameContentSequence")
    echo = _group(groups, "MREchoSequence")
    separators = (
        ("echo", str(echo.get("EffectiveEchoTime", ""))),
        ("temporal position", str(content.get("TemporalPositionIndex", ""))),
        ("image type", "\\".join(image_type)),
        ("component", str(frame_type.get("ComplexImageComponent", ""))),
        ("acquisition", str(content.get("FrameAcquisitionNumber", ""))),
        ("stack", str(content.get("StackID", ""))),
    )
    mr = str(dataset.get("Modality", "")) == "MR"
    return Frame(
        instance=instance,
        index=index,
        placement=_placement(
            dataset,
            _group(groups, "PlanePositionSequence"),
            _group(groups, "PlaneOrientationSequence"),
            _group(groups, "PixelMeasuresSequence"),
            image_type,
            index,
        ),
        diffusion=diffusion_of(dataset, groups, image_type, maker) if mr else _NOT_DIFFUSION,
        mapping=_mapping(_group(groups, "PixelValueTransformationSequence"), groups),
        image_type=image_type,
        separators=separators,
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        frame_number=index + 1,
    )


def _group(groups: Sequence[Dataset], *keywords: str) -> Dataset:
    """First item of a functional group, per frame before shared; an empty data set where there is none."""
    for source in groups:
        for keyword in keywords:
            if items := source.get(keyword):
                return items[0]
    return Dataset()


def _placement(
    dataset: Dataset,
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
    image_type: tuple[str, ...],
    index: int | None,
) -> Placement:
    name = str(dataset.get("SOPInstanceUID", ""))
    return Placement(
        position_mm=_numbers(position.get("ImagePositionPatient")),
        orientation=_numbers(orientation.get("ImageOrientationPatient")),
        spacing_mm=_numbers(measures.get("PixelSpacing")),
        size=(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)),
        localiser="LOCALIZER" in image_type,
        name=name if index is None else f"{name}#{index + 1}",
    )


def _mapping(rescale: Dataset, sources: Sequence[Dataset]) -> PixelMapping:
    return PixelMapping(
        slope=_number(rescale.get("RescaleSlope"), 1.0) or 1.0,
        intercept=_number(rescale.get("RescaleIntercept"), 0.0),
        real_world=next(_real_world(sources), None),
        philips_scale_slope=_philips_scale_slope(sources),
    )


def _real_world(sources: Sequence[Dataset]) -> Iterator[tuple[float, float, str]]:
    """Linear mappings that state a unit; look-up tables are left alone."""
    for source in sources:
        for item in source.get("RealWorldValueMappingSequence") or ():
            slope, units = item.get("RealWorldValueSlope"), item.get("MeasurementUnitsCodeSequence")
            if slope is not None and units and math.isfinite(float(slope)) and float(slope) != 0:
                yield (
                    float(slope),
                    float(item.get("RealWorldValueIntercept") or 0.0),
                    str(units[0].get("CodeValue", "")),
                )


def _philips_scale_slope(sources: Sequence[Dataset]) -> float | None:
    for source in sources:
        items = [source]
        if 0x2005140F in source and not isinstance(source[0x2005140F].value, bytes | str | type(None)):
            items += list(source[0x2005140F].value)
        for item in items:
            value = private_value(item, 0x2005, "Philips MR Imaging DD 001", 0x0E)
            number = _number(value, 0.0) if not isinstance(value, bytes) else 0.0
            if math.isfinite(number) and number > 0:
                return number
    return None


def _strings(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (str(value),) if isinstance(value, str) else tuple(str(v) for v in value)


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return None
    return tuple(float(v) for v in value)


def _number(value: Any, default: float) -> float:
    if value is None or value == "":
        return default
    number = float(value[0]) if hasattr(value, "__iter__") and not isinstance(value, str) else float(value)
    return number if math.isfinite(number) else default
