"""The header scanner says what pydicom says, or nothing."""

from __future__ import annotations

import logging
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.archive.header_scan import scan_header
from node.archive.headers import read_header
from node.archive.part10 import file_meta_bytes, read_file_meta
from node.errors import NodeError
from tests.store_instances import dataset

HEAD_BYTES = 256 * 1024


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """pydicom warns of every oddity."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def encoded(made: Dataset, *, implicit: bool) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    write_dataset(stream, made)
    return stream.getvalue()


def whole_file(data: bytes, syntax: str) -> BytesIO:
    return BytesIO(file_meta_bytes(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid=syntax) + data)


def code(value: str, **more: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99X", "meaning"
    for keyword, attribute in more.items():
        setattr(item, keyword, attribute)
    return item


def private(group: int, creator: str, element: int, vr: str, value: Any) -> dict[int, tuple[int, str, Any]]:
    return {0: (group << 16 | 0x10, "LO", creator), 1: (group << 16 | 0x1000 | element, vr, value)}


PLAIN: dict[str, dict[str, Any]] = {
    "plain": {},
    "latin-1": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen", "StudyDescription": "Schädel"},
    "utf-8": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SeriesDescription": "拡散"},
    "ascii under Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou"},
    "empty name groups": {"PatientName": "Doe^Jane=="},
    "two names": {"PatientName": ["A^B", "C^D="]},
    "nothing": {"PatientName": "", "PatientID": "  ", "ImageType": "", "MagneticFieldStrength": None},
    "several values": {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], "SeriesDescription": ["a ", " b"]},
    "numbers": {"MagneticFieldStrength": "2.89", "NumberOfFrames": "12", "DiffusionBValue": 1000.0},
    "odd numbers": {"MagneticFieldStrength": "+1.5e0", "NumberOfFrames": "-1", "DiffusionBValue": float("nan")},
    "geometry": {"ImageOrientationPatient": ["1", "0", "0.0", "0", "1.000e0", "-0"], "SliceThickness": "5.00"},
    "too few cosines": {"ImageOrientationPatient": ["1", "0", "0"], "SeriesNumber": "7", "EchoTime": ["2.5", "5"]},
    "oblique": {"ImageOrientationPatient": ["1", "0", "0", "0", "0.7071", "0.7071"], "KVP": " 120 "},
    "scan": {
        "ScanningSequence": ["SE", "EP"],
        "ScanOptions": "",
        "ConvolutionKernel": ["B30f", "3"],
        "PatientAge": "061Y",
    },
    "agent": {"ContrastBolusAgent": "Iohexol 350 ", "ImageLaterality": "R", "PatientSex": "F", "InstitutionName": "H "},
    "sequence name": {"SequenceName": "*ep_b1000t"},
    "contrast": {"AcquisitionContrast": "DIFFUSION"},
    "codes": {"ProcedureCodeSequence": [code("A"), code("B\\C")], "RequestedProcedureCodeSequence": [code("D")]},
    "no codes": {"ProcedureCodeSequence": [], "RequestedProcedureCodeSequence": [Dataset()]},
    "nested": {"ProcedureCodeSequence": [code("A", ProcedureCodeSequence=[code("B", ReferencedImageSequence=[])])]},
    "controls": {"StationName": "a\tb\nc", "PatientID": " P 1 "},
}
PRIVATE = {
    "Siemens": private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "1000"),
    "GE": private(0x0043, "GEMS_PARM_01", 0x39, "IS", ["1000000800", "8", "0", "0"]),
    "Philips": private(0x2001, "Philips Imaging DD 001", 0x03, "FL", 800.5),
    "United Imaging": private(0x0065, "Image Private Header", 0x09, "FD", 50.0),
    "somebody else": private(0x0019, "ACME", 0x0C, "IS", "1000"),
    "no number": private(0x0019, "SIEMENS MR HEADER", 0x0C, "OB", b"1000"),
}


def made(name: str) -> Dataset:
    if name in PLAIN:
        return dataset(**PLAIN[name])
    result = dataset()
    for tag, vr, value in PRIVATE[name].values():
        result.add_new(tag, vr, value)
    return result


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", [*PLAIN, *PRIVATE])
def test_it_says_what_pydicom_says(name: str, implicit: bool, undefined: bool) -> None:
    source = made(name)
    for element in source.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value if isinstance(element.value, Sequence) else []:
                item.is_undefined_length_sequence_item = undefined
    data = encoded(source, implicit=implicit)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    found = scan_header(data, syntax, whole=True)
    if found is None:
        assert name == "no number" or (implicit and name in PRIVATE), f"{name} is not odd"
        return
    assert found == read_header(whole_file(data, syntax))


ODD = {
    "another language": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"},
    "escapes": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
    "an unknown character set": {"SpecificCharacterSet": "ISO_IR 999"},
    "no number": {"NumberOfFrames": "1"},
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_left_to_pydicom(name: str) -> None:
    data = encoded(dataset(**ODD[name]), implicit=False)
    if name == "no number":
        data = data.replace(b"IS\x02\x001 ", b"IS\x02\x00x ")
    assert scan_header(data, ExplicitVRLittleEndian, whole=True) is None


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.113619.5.2", ""])
def test_other_syntaxes_are_left_to_pydicom(syntax: str) -> None:
    assert scan_header(encoded(dataset(), implicit=False), syntax, whole=True) is None


def test_a_syntax_that_is_not_true_is_left_to_pydicom() -> None:
    assert scan_header(encoded(dataset(), implicit=False), ImplicitVRLittleEndian, whole=True) is None
    assert scan_header(encoded(dataset(), implicit=True), ExplicitVRLittleEndian, whole=True) is None


def test_a_header_longer_than_what_is_in_memory() -> None:
    source = dataset()
    source.add_new(0x00290010, "LO", "ACME")
    source.add_new(0x00291010, "OB", bytes(5000))
    data = encoded(source, implicit=False)
    assert scan_header(data[:3000], ExplicitVRLittleEndian, whole=False) is None
    # What is behind every element that matters need not be there.
    late = dataset()
    late.add_new(0x30030010, "LO", "ACME")
    late.add_new(0x30031010, "OB", bytes(5000))
    data = encoded(late, implicit=False)
    assert scan_header(data[:3000], ExplicitVRLittleEndian, whole=False) == read_header(
        whole_file(data, ExplicitVRLittleEndian)
    )


def test_real_files(shared_data: Path) -> None:
    outcome: Counter[str] = Counter()
    for path in sorted(shared_data.rglob("*")):
        if not path.is_file():
            continue
        with path.open("rb") as stream:
            try:
                meta = read_file_meta(stream)
            except NodeError:
                continue
            data = stream.read(HEAD_BYTES + 1)
        found = scan_header(data[:HEAD_BYTES], meta.transfer_syntax_uid, whole=len(data) <= HEAD_BYTES)
        outcome["odd" if found is None else "scanned"] += 1
        if found is not None:
            assert found == read_header(path), path
    assert outcome["scanned"] > 20 * outcome["odd"], outcome


def test_damaged_headers_never_say_something_else() -> None:
    """Random damage: the scanner is silent, or says the same, unless pydicom refuses the whole."""
    dice = random.Random(5)
    outcome: Counter[str] = Counter()
    sources = [(encoded(made(name), implicit=implicit), implicit) for name in PLAIN for implicit in (False, True)]
    for _ in range(6000):
        data, implicit = dice.choice(sources)
        damaged = bytearray(data)
        at = dice.randrange(len(damaged))
        match dice.randrange(5):
            case 0 | 1:
                damaged[at] = dice.randrange(256)
            case 2:
                del damaged[at : at + dice.randint(1, 9)]
            case 3:
                damaged[at:at] = dice.choice([b"\\\\", b"==", b"\xff\xff\xff\xff", b"\0\0", b"SQ", b"\x1b$B"])
            case 4:
                del damaged[at:]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        found = scan_header(bytes(damaged), syntax, whole=True)
        if found is None:
            outcome["silent"] += 1
            continue
        outcome["said"] += 1
        try:
            expected = read_header(whole_file(bytes(damaged), syntax))
        except NodeError:
            outcome["refused"] += 1
            continue
        assert found == expected
    assert outcome["said"] > 500
    assert outcome["refused"] < 10
