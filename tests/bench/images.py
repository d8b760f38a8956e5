"""Images to send: one real header of each kind, as many instances as wanted, every UID new."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file

_SOURCES = {"ct": ("CT_small.dcm", 512), "mr": ("MR_small.dcm", 128)}
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class ImageMaker:
    """Writes sets of instances. UIDs have one length, so an instance is the template with other digits."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._templates = {kind: _template(*source) for kind, source in _SOURCES.items()}

    def write(self, kind: str, count: int, folder: Path, *, parts: int = 1) -> list[Path]:
        """Write ``count`` instances of a new study, split over ``parts`` folders; return these."""
        study, series = (_uid(next(self._numbers)) for _ in range(2))
        template = self._templates[kind].replace(_marker(0), study).replace(_marker(1), series)
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


def _template(name: str, edge: int) -> bytes:
    """The whole Part 10 file (Explicit VR Little Endian), pixels tiled to edge × edge and made noisy."""
    path = get_testdata_file(name)
    dataset = dcmread(str(path))
    pixels = dataset.pixel_array.astype(np.int16)
    times = edge // pixels.shape[0]
    noise = np.random.default_rng(1).integers(0, 8, (edge, edge), dtype=np.int16)
    dataset.Rows = dataset.Columns = edge
    dataset.PixelData = (np.tile(pixels, (times, times)) + noise).tobytes()
    if "DataSetTrailingPadding" in dataset:
        del dataset.DataSetTrailingPadding
    for level, keyword in enumerate(_LEVELS):
        setattr(dataset, keyword, _marker(level).decode())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
