"""Messages to facts: character sets, separators, orders, patients, reports; acknowledgements as the standard has them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from node.errors import Hl7Error, Hl7Rejected, Hl7Unusable
from node.hl7.acknowledgement import Code, acknowledgement
from node.hl7.framing import BlockReader, framed
from node.hl7.message import read
from node.hl7.moments import seconds
from node.hl7.orders import ordered
from node.hl7.patients import changes, person_name
from node.hl7.reports import signed_reports
from node.patients import PatientIdentity, corrections
from tests.hl7_messages import merge, message, order, patient, report

FIELDS = ["IPC-1", "OBR-18", "OBR-3"]
JAPANESE = "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "ISO IR6~ISO IR87", "~ISO IR87"])
def test_japanese_names_become_component_groups(charset: str) -> None:
    # Of these kanji some bytes are separators in ISO 2022: 山 is 0x3B 0x33, 表 0x49 0x3D, 構 0x39 0x3D, | is 0x7C.
    data = message("ADT^A08", patient("P1", JAPANESE), "ZZZ|構表築", charset=charset)
    parsed = read(data)
    assert person_name(parsed.first("PID"), 5) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert parsed.first("ZZZ").get(1) == "構表築"


def test_two_byte_characters_hide_no_separator() -> None:
    # Every character whose second byte is one of the separators, in ISO IR87.
    hidden = [bytes([0x1B, 0x24, 0x42, row, cell, 0x1B, 0x28, 0x42]) for row in (0x30, 0x38) for cell in b"|^~&\\"]
    characters = "".join(each.decode("iso2022_jp") for each in hidden)
    parsed = read(message("ADT^A08", patient("P1", f"{characters}^X"), charset="~ISO IR87"))
    assert parsed.first("PID").get(5) == characters


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"PID|1\r", "100"),
        (b"", "100"),
        (message("ADT^A08", charset="EBCDIC"), "103"),
        (message("ADT^A08").replace(b"RIS", "病院".encode()), "102"),
        (message("ADT^A08", version="9.9"), "203"),
        (message("ADT^A08", control_id=""), "101"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_condition(data: bytes, condition: str) -> None:
    with pytest.raises(Hl7Rejected) as caught:
        read(data)
    assert caught.value.condition == condition


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_break_the_reader(noise: bytes, header: bool) -> None:
    try:
        read((b"MSH|^~\\&|A|B|C|D|2026||ADT^A40|1|P|2.5\r" if header else b"MSH") + noise)
    except Hl7Error:
        pass


@given(st.lists(st.binary(max_size=40).filter(lambda each: b"\x0b" not in each and b"\x1c" not in each)), st.data())
def test_blocks_come_out_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"\r\n".join(framed(each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader = BlockReader(1000)
    found = [block for a, b in pairwise([0, *cuts, len(stream)]) for block in reader.feed(stream[a:b])]
    assert found == messages


def test_an_endless_message_is_cut_off() -> None:
    reader = BlockReader(100)
    with pytest.raises(Hl7Rejected):
        reader.feed(b"\x0b" + b"x" * 200)


def test_order_of_a_scheduled_step() -> None:
    (news,) = ordered(read(order("ACC1", patient("P1"))), FIELDS)
    found = news.order
    assert (found.accession_number, found.study_uid) == ("ACC1", "1.2.826.0.1.3680043.8.498.77")
    assert (found.modality, found.station_ae_title, found.priority) == ("MR", "MR1AE", "STAT")
    assert (found.requested_procedure_id, found.step_id, found.placer_order_number) == ("RP1", "SPS1", "PLACER1")
    assert [(code.value, code.scheme) for code in found.codes] == [("7000000100000000", "JJ1017-16M"), ("DWI", "L")]
    assert found.starts_at == seconds("20260211110000") and found.reason == "stroke?"
    assert (found.patient_id, found.patient_birth_date, found.patient_sex) == ("P1", "19500102", "M")
    assert not news.cancelled
    assert ordered(read(order("ACC1", patient("P1"), control="CA")), FIELDS)[0].cancelled


def test_orders_of_an_older_ris() -> None:
    """ORM of v2.3 with several orders; the accession number where IHE SWF put it, or in the filler number."""
    obr = "OBR|{n}|P{n}|F{n}|MR^Head^L|S|||||||||||||{acc}|RP|SP||||MR|||^^^20260211110000^^S"
    data = message(
        "ORM^O01",
        patient("P1"),
        *("ORC|NW|P1|F1", obr.format(n=1, acc="ACC1"), "ZDS|1.2.3^RIS^Application^DICOM"),
        *("ORC|SC|P2|F2", obr.format(n=2, acc="")),
        version="2.3",
    )
    first, second = (each.order for each in ordered(read(data), FIELDS))
    assert (first.accession_number, first.study_uid, first.modality, first.priority) == ("ACC1", "1.2.3", "MR", "STAT")
    assert (second.accession_number, second.requested_procedure_id) == ("F2", "RP")
    with pytest.raises(Hl7Unusable, match="OBR-18"):
        ordered(read(message("ORM^O01", "ORC|NW")), ["OBR-18"])


def test_merges_and_updates() -> None:
    (change,) = changes(read(merge("OLD", patient("NEW", issuer="H"))))
    assert (change.kind, change.patient_id, change.content["PatientID"]) == ("merge", "OLD", "NEW")
    assert change.content["PatientName"] == "Yamada^Taro" and change.content["IssuerOfPatientID"] == "H"
    (update,) = changes(read(message("ADT^A08", patient("P1"))))
    assert (update.kind, update.patient_id) == ("update", "P1")
    assert changes(read(message("ADT^A01", patient("P1")))) == []
    for broken in (message("ADT^A40", patient("P1")), message("ADT^A08", "PID|1")):
        with pytest.raises(Hl7Unusable):
            changes(read(broken))


@pytest.mark.parametrize(
    ("image", "holds", "instead"),
    [
        (("P1", "Yamada^Taro"), {"PatientID": "P1", "PatientName": "YAMADA^TARO=山田^太郎"}, {}),
        (("P1", "Yamada^Taro"), {"PatientID": "P1", "PatientName": "=山田^太郎"}, {}),
        (("P1", ""), {"PatientID": "P1", "PatientName": "Yamada^Taro"}, {}),
        (("P1", "Yamda^Taro"), {"PatientID": "P1", "PatientName": "Yamada^Taro"}, {"PatientName": "Yamada^Taro"}),
        (
            ("OLD", "X^Y"),
            {"PatientID": "P1", "PatientName": "Yamada^Taro"},
            {"PatientID": "P1", "PatientName": "Yamada^Taro"},
        ),
    ],
)
def test_what_stands_instead(image: tuple[str, str], holds: dict[str, str], instead: dict[str, str]) -> None:
    assert corrections(PatientIdentity(image[0], name=image[1]), holds) == instead


def test_only_signed_reports_count() -> None:
    now = seconds("20260301") or 0.0
    (found,) = signed_reports(read(report("ACC1", signed="20260211120000+0900")), FIELDS, now)
    assert (found.accession_number, found.signed_at) == ("ACC1", datetime(2026, 2, 11, 3, tzinfo=UTC).timestamp())
    assert signed_reports(read(report("ACC1", status="P")), FIELDS, now) == []


@pytest.mark.parametrize("version", ["2.3", "2.5.1"])
@pytest.mark.parametrize("code", list(Code))
def test_acknowledgements_are_messages(version: str, code: Code) -> None:
    asked = read(message("ADT^A40", patient("P1"), control_id="id|1".replace("|", "\\F\\"), version=version))
    answer = acknowledgement(asked, code, condition="101", words="MRG-1 & more")
    assert answer is not None
    parsed = parse_message(answer.decode(), validation_level=VALIDATION_LEVEL.TOLERANT)
    assert parsed.msa.msa_1.value == code and parsed.msa.msa_2.value == "id\\F\\1"
    assert (parsed.msh.msh_3.value, parsed.msh.msh_5.value) == ("AINODE", "RIS")
    assert b"P1" not in answer and b"Yamada" not in answer


@pytest.mark.parametrize(
    ("wanted", "code", "answer"),
    [
        ("AL", "AA", "CA"),
        ("AL", "AE", "CE"),
        ("NE", "AE", None),
        ("ER", "AA", None),
        ("ER", "AR", "CR"),
        ("SU", "AE", None),
    ],
)
def test_enhanced_mode(wanted: str, code: str, answer: str | None) -> None:
    data = message("ADT^A08", patient("P1")).replace(b"|2.5.1||||||", f"|2.5.1|||{wanted}|||".encode())
    given_answer = acknowledgement(read(data), Code(code))
    assert (given_answer is None) == (answer is None)
    if answer:
        assert f"MSA|{answer}|1".encode() in (given_answer or b"")
