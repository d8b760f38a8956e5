"""The same object in another transfer syntax, for peers that refuse the one it is stored in.

Only what changes no value: explicit and implicit VR, and run-length encoded frames as native ones (PS3.5 annex A). UIDs
stay, because the object is the same (PS3.3 C.7.6.1.1.5 asks for new ones after lossy compression only). The stored file
stays what it is; what was made here is never kept.
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from node.errors import TranscodingFailed

_EXPLICIT, _IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
_ALTERNATIVES: dict[str, tuple[str, ...]] = {
    _EXPLICIT: (_IMPLICIT,),
    _IMPLICIT: (_EXPLICIT,),
    str(RLELossless): (_EXPLICIT, _IMPLICIT),
    str(DeflatedExplicitVRLittleEndian): (_EXPLICIT, _IMPLICIT),
}
_FAILURES = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    struct.error,
)


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Transfer syntaxes an object stored in this one can be sent in as well, best first."""
    return _ALTERNATIVES.get(transfer_syntax_uid, ())


def transcoded(path: Path, transfer_syntax_uid: str) -> bytes:
    """The data set of a Part 10 file, encoded anew.

    Parameters
    ----------
    transfer_syntax_uid : str
        One of :func:`alternatives`.

    Raises
    ------
    TranscodingFailed
        It cannot be decoded, or would not say the same in the other syntax.
    """
    try:
        dataset = dcmread(path)
        source: Dataset = dcmread(path)
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
            source = _with_pixels_of(source, dataset)
        content = _encoded(dataset, implicit=transfer_syntax_uid == _IMPLICIT)
        again = _decoded(content, transfer_syntax_uid)
        same = again == source
    except _FAILURES as error:
        raise TranscodingFailed(
            f"{path.name}: cannot be sent in {transfer_syntax_uid}: {type(error).__name__}"
        ) from error
    if not same:
        raise TranscodingFailed(f"{path.name}: would not say the same in {transfer_syntax_uid}")
    return content


def _with_pixels_of(source: Dataset, native: Dataset) -> Dataset:
    """``source`` with the pixels of its native form, after a look at whether those are all there."""
    bits = int(source.BitsAllocated) * int(source.get("SamplesPerPixel", 1))
    expected = int(source.Rows) * int(source.Columns) * int(source.get("NumberOfFrames", 1) or 1) * bits // 8
    if len(native.PixelData) not in (expected, expected + expected % 2):
        raise ValueError("frames are missing")
    source["PixelData"] = native["PixelData"]
    return source


def _encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    plain = Dataset()
    # Without the encoding it was read in, so that every element is written anew.
    plain.update({element.tag: element for element in dataset})
    write_dataset(stream, plain)
    return stream.getvalue()


def _decoded(content: bytes, transfer_syntax_uid: str) -> Dataset:
    return read_dataset(BytesIO(content), transfer_syntax_uid == _IMPLICIT, True)
