"""Header reading: identity in any character set, routing facts, and bytes that are no data set."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from node.archive.headers import read_header
from node.errors import ObjectRejected
from tests.store_instances import dataset, file_bytes


def _routing(made: Dataset) -> dict[str, Any]:
    return read_header(file_bytes(made)).routing


def test_identity_and_routing() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "MRHEAD", "99LOCAL", "MR head"
    header = read_header(
        file_bytes(
            dataset(
                StudyDescription="MR 頭部",
                BodyPartExamined="HEAD",
                ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"],
                ProcedureCodeSequence=Sequence([code]),
                DiffusionBValue=1000.0,
                MagneticFieldStrength="3.0",
                NumberOfFrames=22,
                IssuerOfPatientID="HOSP",
                PatientBirthDate="19500101",
                StudyDate="20260102",
                InstanceNumber="7",
            )
        )
    )
    assert (header.study_uid, header.series_uid, header.sop_instance_uid) == ("1.2.3", "1.2.3.4", "1.2.3.4.5")
    assert (header.patient_id, header.patient_name, header.accession_number) == ("P1", "Yamada^Tarou=山田^太郎", "A1")
    assert (header.issuer_of_patient_id, header.patient_birth_date, header.modality) == ("HOSP", "19500101", "MR")
    assert header.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert header.routing == {
        "modality": "MR",
        "body_part": "HEAD",
        "study_description": "MR 頭部",
        "series_description": "",
        "protocol_name": "",
        "image_type": ["ORIGINAL", "PRIMARY", "DIFFUSION"],
        "manufacturer": "",
        "model_name": "",
        "station_name": "",
        "procedure_codes": ["MRHEAD"],
        "b_value": 1000.0,
        "number_of_frames": 22,
        "rows": 4,
        "columns": 4,
        "field_strength": 3.0,
        "diffusion": True,
        "plane": "",
        "tags": {},
        "listed": {"StudyDate": "20260102", "InstanceNumber": "7", "BitsAllocated": "16"},
    }


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value", "expected"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x100C, "IS", "1000", 1000.0),
        (0x0043, "GEMS_PARM_01", 0x1039, "IS", [1000001000, 8, 0, 0], 1000.0),
        (0x0043, "GEMS_PARM_01", 0x1039, "UN", b"1000000800\\8\\0\\0", 800.0),
        (0x2001, "Philips Imaging DD 001", 0x1003, "FL", 1200.0, 1200.0),
        (0x2001, "Philips Imaging DD 001", 0x1003, "FL", 0.0, None),  # in every Philips image, says nothing
        (0x0019, "SOMEBODY ELSE", 0x100C, "IS", "1000", None),
    ],
)
def test_private_b_values(group: int, creator: str, element: int, vr: str, value: Any, expected: float | None) -> None:
    made = dataset()
    made.add_new((group, 0x0010), "LO", creator)
    made.add_new((group, element), vr, value)
    routing = _routing(made)
    assert (routing["b_value"], routing["diffusion"]) == (expected, expected is not None)


@pytest.mark.parametrize(
    ("name", "expected"), [("*ep_b1000t", 1000.0), ("ep_b0", None), ("*re_b800#3", 800.0), ("*tse2d1_9", None)]
)
def test_b_value_in_the_sequence_name(name: str, expected: float | None) -> None:
    assert _routing(dataset(SequenceName=name))["b_value"] == expected


def test_a_b_value_of_zero_in_the_standard_attribute_is_diffusion() -> None:
    routing = _routing(dataset(DiffusionBValue=0.0))
    assert (routing["b_value"], routing["diffusion"]) == (0.0, True)


@pytest.mark.filterwarnings("ignore")
def test_values_that_break_their_representation_are_no_obstacle() -> None:
    raw = file_bytes(dataset(MagneticFieldStrength="1.5", NumberOfFrames="12")).getvalue()
    raw = raw.replace(b"\x18\x00\x87\x00DS\x04\x001.5 ", b"\x18\x00\x87\x00DS\x04\x00abc ")
    raw = raw.replace(b"\x28\x00\x08\x00IS\x02\x0012", b"\x28\x00\x08\x00IS\x02\x00x!")
    header = read_header(BytesIO(raw))
    assert header.routing["field_strength"] is None
    assert header.routing["number_of_frames"] == 1
    assert header.patient_id == "P1"
    assert header.unreadable


def test_text_that_no_database_takes_is_cleaned() -> None:
    raw = file_bytes(dataset(StudyDescription="AB\x07CD", PatientID="P1\x00X")).getvalue()
    header = read_header(BytesIO(raw))
    assert header.routing["study_description"] == "ABCD"
    assert header.patient_id == "P1X"


@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, bytes(200)])
def test_what_is_no_file_is_rejected(content: bytes) -> None:
    with pytest.raises(ObjectRejected):
        read_header(BytesIO(content))


@pytest.mark.filterwarnings("ignore")
def test_a_data_set_cut_anywhere_never_surprises() -> None:
    whole = file_bytes(dataset(StudyDescription="x")).getvalue()
    for end in range(len(whole)):
        try:
            read_header(BytesIO(whole[:end]))
        except ObjectRejected:
            continue


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_surprise() -> None:
    whole = bytearray(file_bytes(dataset(StudyDescription="x", DiffusionBValue=1000.0)).getvalue())
    for position in range(132, len(whole) - 32):
        for value in (0x00, 0xFF):
            flipped = bytes(whole[:position]) + bytes([value]) + bytes(whole[position + 1 :])
            try:
                read_header(BytesIO(flipped))
            except ObjectRejected:
                continue


def test_real_files(shared_data: Path) -> None:
    stroke = shared_data / "mr_stroke_isles22_case0001"
    headers = [read_header(path) for path in sorted(stroke.rglob("*.dcm"))]
    assert len({header.study_uid for header in headers}) == 1
    assert {header.routing["b_value"] for header in headers if header.routing["diffusion"]} >= {1000.0}
    names = {path.name: read_header(path).patient_name for path in (shared_data / "charsets").glob("chrH3*.dcm")}
    assert names["chrH31.dcm"] == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert names["chrH32.dcm"] == "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
