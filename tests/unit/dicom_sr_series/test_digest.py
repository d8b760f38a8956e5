"""The digest follows the content, not the encoding."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from dicom_sr.digest import dataset_digest
from tests.peers import require

from .conftest import Build, save


@pytest.fixture
def dataset(build: Build) -> Dataset:
    """An Enhanced image with nested sequences, a private sequence and a name with two character sets."""
    dataset = build(enhanced=True)[0]
    block = dataset.private_block(0x0099, "AINODE TEST", create=True)
    item = Dataset()
    item.CodeMeaning = "private"
    block.add_new(0x01, "SQ", [item, Dataset()])
    block.add_new(0x02, "SQ", [])
    block.add_new(0x03, "OB", b"\xfe\xff\x00\xe0 not a sequence ")
    dataset.PatientName = "Yamada^Tarou=山田^太郎"
    return dataset


def encoded(dataset: Dataset, syntax: str, *, undefined: bool = False) -> bytes:
    if undefined:
        for element in dataset.iterall():
            if element.VR == "SQ":
                element.is_undefined_length = True
                for item in element.value:
                    item.is_undefined_length_sequence_item = True
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian)
    return buffer.getvalue()


@pytest.fixture
def plain(dataset: Dataset, tmp_path: Path) -> bytes:
    save(dataset, tmp_path / "plain.dcm")
    return (tmp_path / "plain.dcm").read_bytes()


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_same_content_same_digest(plain: bytes, syntax: str, undefined: bool) -> None:
    other = encoded(dcmread(io.BytesIO(plain)), syntax, undefined=undefined)
    assert other != plain or (syntax == ExplicitVRLittleEndian and not undefined)
    assert dataset_digest(other) == dataset_digest(plain)


def test_a_private_sequence_that_became_unknown(plain: bytes) -> None:
    """A peer without our private dictionary reads implicit VR and writes UN."""
    implicit = dcmread(io.BytesIO(encoded(dcmread(io.BytesIO(plain)), ImplicitVRLittleEndian)))
    block = implicit.private_block(0x0099, "AINODE TEST")
    item = encoded_item()
    block.dataset.add_new(block.get_tag(0x01), "UN", item)
    assert dataset_digest(encoded(implicit, ExplicitVRLittleEndian)) == dataset_digest(plain)


def encoded_item() -> bytes:
    text = b"\x08\x00\x04\x01\x08\x00\x00\x00private "
    return b"\xfe\xff\x00\xe0" + len(text).to_bytes(4, "little") + text + b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def test_big_endian(build: Build, tmp_path: Path) -> None:
    save(build()[0], tmp_path / "a.dcm")
    plain = (tmp_path / "a.dcm").read_bytes()
    tool = require("dcmconv")
    subprocess.run([tool, "+tb", tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True)
    assert dataset_digest((tmp_path / "b.dcm").read_bytes()) == dataset_digest(plain)


@pytest.mark.peer
@pytest.mark.parametrize("options", [["+ti"], ["+te", "-e"], ["+te", "+e", "+g"], ["+ti", "+g", "-e"]])
def test_after_another_toolkit(plain: bytes, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a.dcm").write_bytes(plain)
    subprocess.run([require("dcmconv"), *options, tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True)
    assert dataset_digest((tmp_path / "b.dcm").read_bytes()) == dataset_digest(plain)


def test_file_meta_and_padding_do_not_count(plain: bytes) -> None:
    dataset = dcmread(io.BytesIO(plain))
    dataset.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 40)
    assert dataset_digest(encoded(dataset, ExplicitVRLittleEndian)) == dataset_digest(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: setattr(d, "PatientID", "PH-000002"),
        lambda d: setattr(d, "PixelData", bytes(d.PixelData[:-1]) + b"\x07"),
        lambda d: d.PerFrameFunctionalGroupsSequence.pop(),
        lambda d: setattr(d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "SliceThickness", "7"),
        lambda d: setattr(d, "Rows", 73),
        lambda d: delattr(d, "ProtocolName"),
    ],
    ids=["identity", "one pixel", "one item", "nested value", "number", "absence"],
)
def test_other_content_other_digest(plain: bytes, change) -> None:
    dataset = dcmread(io.BytesIO(plain))
    change(dataset)
    assert dataset_digest(encoded(dataset, ExplicitVRLittleEndian)) != dataset_digest(plain)


def test_offset_table_of_compressed_frames_does_not_count(build: Build, tmp_path: Path) -> None:
    digests = []
    for number, table in enumerate((False, True)):
        dataset = build()[0]
        dataset.PixelData = encapsulate([b"one frame "], has_bot=table)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        save(dataset, tmp_path / f"{number}.dcm", JPEGLSLossless)
        digests.append(dataset_digest((tmp_path / f"{number}.dcm").read_bytes()))
    assert digests[0] == digests[1]


def test_what_cannot_be_walked_still_has_a_digest(plain: bytes) -> None:
    cut = plain[: len(plain) // 2]
    assert dataset_digest(cut) == dataset_digest(bytes(cut)) != dataset_digest(plain)
    assert len(dataset_digest(b"")) == 64
    assert len(dataset_digest(b"\x08\x00\x05")) == 64
