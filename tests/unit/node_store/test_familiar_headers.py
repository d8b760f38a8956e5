"""Who remembers the headers before says of the next what the scanner says, however they differ."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.archive import familiar_headers
from node.archive.element_scan import ElementScan
from node.archive.familiar_headers import FamiliarHeaders
from node.archive.header_scan import scan_header
from node.archive.headers import InstanceHeader
from tests.store_instances import dataset

SYNTAXES = {False: str(ExplicitVRLittleEndian), True: str(ImplicitVRLittleEndian)}
FIRST_BYTES = 16 * 1024


def encoded(made: Dataset, *, implicit: bool = False) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    write_dataset(stream, made)
    return stream.getvalue() + bytes(64)


def image(number: int, *, series: int = 1, undefined: bool = False, **values: Any) -> Dataset:
    """One of a series: what a scanner changes from image to image differs."""
    plain = {
        "SOPInstanceUID": f"1.2.{series}.{10 ** (number % 5)}{number}",
        "SeriesInstanceUID": f"1.2.{series}",
        "SeriesNumber": str(series),
        "InstanceNumber": str(number),
        "ImagePositionPatient": ["-100", "-100.5", f"{number * 2.5:g}"],
        "ContentTime": f"1200{number % 60:02d}.{number:03d}",
    }
    made = dataset(**{**plain, **values})
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.3", f"1.2.99.{number}"
    made.ReferencedImageSequence = [reference]
    made["ReferencedImageSequence"].is_undefined_length = undefined
    made.ReferencedImageSequence[0].is_undefined_length_sequence_item = undefined
    made.PixelData = bytes(64)
    made["PixelData"].VR = "OW"
    return made


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts what is read in full."""
    counted = [0]

    class Counting(ElementScan):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            counted[0] += 1
            super().__init__(*arguments, **named)

    monkeypatch.setattr("node.archive.header_scan.ElementScan", Counting)
    yield counted


def agreed(familiar: FamiliarHeaders, data: bytes, *, implicit: bool = False, whole: bool = False) -> InstanceHeader:
    expected = scan_header(data, SYNTAXES[implicit], whole=whole)
    found = familiar.scan(data, SYNTAXES[implicit], whole=whole)
    assert found == expected
    assert found is not None
    if found.routing_text:
        assert found.routing_text == json.dumps(expected.routing if expected else None)
    return found


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_series_is_read_in_full_only_at_its_beginning(implicit: bool, undefined: bool, scans: list[int]) -> None:
    familiar = FamiliarHeaders()
    for number in range(1, 40):
        agreed(familiar, encoded(image(number, undefined=undefined), implicit=implicit), implicit=implicit)
    # Each was read in full by the scanner that it is held against; and twice more until what varies was known.
    assert scans[0] == 39 + 2


def test_values_that_matter_are_not_taken_from_another_image(scans: list[int]) -> None:
    familiar = FamiliarHeaders()
    for number in range(60):
        values = {"DiffusionBValue": float(number % 3 * 500), "EchoTime": str(10 + number % 2)}
        found = agreed(familiar, encoded(image(number, **values)))
        assert found.routing["b_value"] == number % 3 * 500
        assert found.routing["tags"]["EchoTime"] == [str(10 + number % 2)]
    assert scans[0] < 60 + 12


def test_series_that_come_in_turns(scans: list[int]) -> None:
    familiar = FamiliarHeaders()
    for number in range(60):
        found = agreed(familiar, encoded(image(number, series=1 + number % 2)))
        assert found.series_uid == f"1.2.{1 + number % 2}"
    assert scans[0] < 60 + 8


def test_a_new_series_is_no_reason_to_take_everything_for_varying(scans: list[int]) -> None:
    familiar = FamiliarHeaders()
    for series in range(1, 5):
        for number in range(20):
            agreed(familiar, encoded(image(number, series=series, SeriesDescription=f"series {series}")))
    assert scans[0] < 80 + 8
    assert familiar._layout is not None
    assert 0x0008103E not in familiar._varying


@pytest.mark.parametrize(
    "values",
    [
        {"InstanceNumber": ""},
        {"InstanceNumber": "-7"},
        {"InstanceNumber": "+7"},
        {"InstanceNumber": " 7 "},
        {"InstanceNumber": "007"},
        {"InstanceNumber": ["7", "8"]},
        {"PatientName": 'Doe^"InstanceNumber": "1"', "StudyID": '"InstanceNumber": "1"'},
        {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"},
        {"ProcedureCodeSequence": []},
    ],
)
def test_odd_values_among_plain_ones(values: dict[str, Any]) -> None:
    familiar = FamiliarHeaders()
    for number in range(12):
        agreed(familiar, encoded(image(number, **(values if number % 3 == 2 else {}))))


def test_learning_is_given_up_where_nothing_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    familiar = FamiliarHeaders()
    made = 0
    layout = familiar_headers._Layout

    def counting(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return layout(*arguments)

    monkeypatch.setattr(familiar_headers, "_Layout", counting)
    for number in range(60):
        unlike = image(number)
        unlike.add_new(0x00090010 + number, "LO", "ACME")
        agreed(familiar, encoded(unlike))
    assert made == 16


def test_pixels_beyond_what_is_in_memory() -> None:
    familiar = FamiliarHeaders()
    for number in range(4):
        data = encoded(image(number))
        for length in range(len(data) - 160, len(data)):
            for whole in (False, True):
                syntax = SYNTAXES[False]
                assert familiar.scan(data[:length], syntax, whole=whole) == scan_header(
                    data[:length], syntax, whole=whole
                )


def test_damage_never_makes_it_say_something_else() -> None:
    dice = random.Random(7)
    said = 0
    for implicit in (False, True):
        sources = [encoded(image(number, undefined=bool(number % 2)), implicit=implicit) for number in range(6)]
        for _ in range(1500):
            familiar = FamiliarHeaders()
            for source in sources[:3]:
                familiar.scan(source, SYNTAXES[implicit], whole=False)
            damaged = bytearray(dice.choice(sources))
            for _ in range(dice.randint(1, 2)):
                at = dice.randrange(len(damaged) - 80)
                match dice.randrange(4):
                    case 0 | 1:
                        damaged[at] = dice.randrange(256)
                    case 2:
                        del damaged[at : at + dice.randint(1, 9)]
                    case _:
                        damaged[at:at] = dice.choice([b"\\", b"\xff\xff\xff\xff", b"\0\0", b"SQ", b"9"])
            head = bytes(damaged)
            expected = scan_header(head, SYNTAXES[implicit], whole=False)
            assert familiar.scan(head, SYNTAXES[implicit], whole=False) == expected
            said += expected is not None
    assert said > 500
