"""An object in another transfer syntax says the same, and is the same object."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom_sr.identity import OFFLINE
from dicom_sr.marked_object import PATIENT_NAME, marked_object
from node.archive.part10 import file_meta_bytes, read_file_meta
from node.dicom.transcoding import alternatives, transcoded
from node.errors import TranscodingFailed
from tests.network import instance

EXPLICIT, IMPLICIT, RLE = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian), str(RLELossless)


def decoded(content: bytes, syntax: str) -> Dataset:
    return read_dataset(BytesIO(content), syntax == IMPLICIT, True)


def marked(folder: Path) -> Path:
    path = folder / "marked.dcm"
    path.write_bytes(marked_object(OFFLINE).content)
    return path


def compressed(folder: Path) -> tuple[Path, np.ndarray]:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) // 7
    facts = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    plain = instance(folder, pixels=pixels.tobytes(), PhotometricInterpretation="MONOCHROME2", **facts)
    dataset = dcmread(plain)
    dataset.compress(RLELossless, generate_instance_uid=False)
    path = folder / "rle.dcm"
    dataset.save_as(path)
    return path, pixels


def test_explicit_and_implicit(tmp_path: Path) -> None:
    path = marked(tmp_path)
    content = transcoded(path, IMPLICIT)
    there = decoded(content, IMPLICIT)
    assert there == dcmread(path)
    assert there.PatientName == PATIENT_NAME
    # And back: to the byte what it was.
    implicit = tmp_path / "implicit.dcm"
    names = {"sop_class_uid": there.SOPClassUID, "sop_instance_uid": there.SOPInstanceUID}
    implicit.write_bytes(file_meta_bytes(**names, transfer_syntax_uid=IMPLICIT) + content)
    assert transcoded(implicit, EXPLICIT) == path.read_bytes()[read_file_meta(path).dataset_offset :]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_run_length_encoded_frames_become_native(tmp_path: Path, syntax: str) -> None:
    path, pixels = compressed(tmp_path)
    there, source = decoded(transcoded(path, syntax), syntax), dcmread(path)
    assert np.array_equal(np.frombuffer(there.PixelData, np.uint16).reshape(16, 16), pixels)
    assert there.SOPInstanceUID == source.SOPInstanceUID
    del there.PixelData, source.PixelData
    assert there == source


def test_what_is_lossy_or_unknown_is_left_alone() -> None:
    assert alternatives(str(JPEG2000Lossless)) == ()
    assert alternatives(RLE) == (EXPLICIT, IMPLICIT)


def test_frames_that_are_not_all_there_are_not_sent(tmp_path: Path) -> None:
    path, _ = compressed(tmp_path)
    dataset = dcmread(path)
    dataset.Rows = 32
    dataset.save_as(path)
    with pytest.raises(TranscodingFailed):
        transcoded(path, EXPLICIT)
