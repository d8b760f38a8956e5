"""A picture of what came back: source slices with the outline of each segment, as the returned objects say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.pictures.montage import draw_montage as draw_slices
from dicom_sr.pictures.orientation import position
from dicom_sr.pictures.painter import Painter, key_slices
from dicom_sr.pictures.summary import notice
from dicom_sr.pictures.window import window_of
from dicom_sr.series import SeriesVolume, load_study

_TILE, _COLUMNS, _SLICES, _LETTERS = 320, 4, 8, 18


def draw_montage(sources: Sequence[Path], segmentation: Path | None, target: Path, caption: str) -> None:
    """Write a PNG with up to eight slices: those with most of the finding, or evenly spaced ones without a finding.

    Parameters
    ----------
    sources : sequence of Path
        The series that the segmentation lies on.
    segmentation : Path or None
        BINARY SEG object.
    target : Path
        PNG file to write.
    caption : str
        One line above the picture.
    """
    study = load_study(sources)
    seg = dcmread(segmentation) if segmentation else None
    source = next((v for v in study.volumes if seg is not None and _lies_on(seg, v)), study.volumes[0])
    mask = None if seg is None else _mask(seg, source)
    painter = Painter(source.volume, window_of(source, study.source_datasets(source)), mask)
    slices, shape = key_slices(painter, (), _SLICES), source.volume.array_zyx.shape
    names = [
        f"slice {k + 1} of {shape[0]}, {position(source.volume.affine_lps, (shape[1], shape[2]), k)}" for k in slices
    ]
    picture = draw_slices(painter, slices, names, columns=_COLUMNS, tile=_TILE)
    head = notice(caption, picture.width, _LETTERS)
    sheet = Image.new("RGB", (picture.width, head.height + picture.height))
    sheet.paste(head, (0, 0))
    sheet.paste(picture, (0, head.height))
    sheet.save(target)


def _sources(seg: Dataset) -> list[tuple[str, int | None]]:
    """SOP Instance UID and frame number of the image below each frame."""
    items = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
    return [(str(item.ReferencedSOPInstanceUID), item.get("ReferencedFrameNumber")) for item in items]


def _lies_on(seg: Dataset, volume: SeriesVolume) -> bool:
    return set(_sources(seg)) <= {(frame.sop_instance_uid, frame.frame_number) for frame in volume.frames}


def _mask(seg: Dataset, source: SeriesVolume) -> npt.NDArray[np.uint8]:
    """Segment numbers on the grid of the source."""
    slices = {(frame.sop_instance_uid, frame.frame_number): k for k, frame in enumerate(source.frames)}
    mask = np.zeros(source.volume.array_zyx.shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns) > 0
    for frame, key, groups in zip(frames, _sources(seg), seg.PerFrameFunctionalGroupsSequence, strict=True):
        mask[slices[key]][frame] = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return mask
