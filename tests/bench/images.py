"""Images to send: one real header of each kind, as many instances as wanted, every UID new."""

from __future__ import annotations

import io
import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file

# Header, rows, columns, and what makes a radiograph of 14 MB of it.
_RADIOGRAPH = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"}
_SOURCES: dict[str, tuple[str, int, int, dict[str, str]]] = {
    "ct": ("CT_small.dcm", 512, 512, {}),
    "mr": ("MR_small.dcm", 128, 128, {}),
    "cr": ("CT_small.dcm", 2816, 2560, _RADIOGRAPH),
}
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class ImageMaker:
    """Writes sets of instances. UIDs have one length, so an instance is the template with other digits."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def write(self, kind: str, count: int, folder: Path, *, parts: int = 1) -> list[Path]:
        """Write ``count`` instances of a new study, split over ``parts`` folders; return these."""
        study, series = (_uid(next(self._numbers)) for _ in range(2))
        template = _template(kind).replace(_marker(0), study).replace(_marker(1), series)
        folders = [folder / f"{kind}{part}" for part in range(parts)]
        for each in folders:
            each.mkdir(parents=True)
        for number in range(count):
            path = folders[number * parts // count] / f"{number:05d}.dcm"
            path.write_bytes(template.replace(_marker(2), _uid(next(self._numbers))))
        return folders


def _uid(number: int) -> bytes:
    return b"2.25.%d" % (10**37 + number)


def _marker(level: int) -> bytes:
    return _uid(9 * 10**36 + level)


@lru_cache(maxsize=len(_SOURCES))
def _template(kind: str) -> bytes:
    """The whole Part 10 file (Explicit VR Little Endian), pixels tiled to the size wanted and made noisy."""
    name, rows, columns, attributes = _SOURCES[kind]
    dataset = dcmread(str(get_testdata_file(name)))
    pixels = dataset.pixel_array.astype(np.int16)
    times = (rows // pixels.shape[0], columns // pixels.shape[1])
    noise = np.random.default_rng(1).integers(0, 8, (rows, columns), dtype=np.int16)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PixelData = (np.tile(pixels, times) + noise).tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    if "DataSetTrailingPadding" in dataset:
        del dataset.DataSetTrailingPadding
    for level, keyword in enumerate(_LEVELS):
        setattr(dataset, keyword, _marker(level).decode())
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
