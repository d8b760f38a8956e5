"""Values in the JSON model: read from their bytes or by way of pydicom, they are the same."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files

from node.web.dicomweb import attributes
from node.web.dicomweb.matching import condition
from node.web.dicomweb.media_types import accepted


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """pydicom warns of every oddity."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_fast_and_slow_agree_on_every_test_file(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    for file in map(Path, get_testdata_files("*.dcm")):
        fast = _converted(file)
        with monkeypatch.context() as patch:
            patch.setattr(attributes, "plain_element", lambda *_: None)
            slow = _converted(file)
        assert fast == slow, file.name
        compared += fast is not None
    assert compared > 50


def _converted(file: Path) -> str | None:
    try:
        dataset = dcmread(file, stop_before_pixels=True)
    except Exception:
        return None
    return json.dumps(attributes.to_json(dataset, lambda path: f"at/{path}"), allow_nan=False)


def test_what_json_has_no_form_for_is_null() -> None:
    dataset = Dataset()
    dataset.add_new(0x00189087, "FD", [1.0, float("nan"), float("inf")])
    dataset.add_new(0x00189089, "FD", float("nan"))
    dataset.add_new(0x00080005, "CS", None)
    made = attributes.to_json(dataset)
    assert made["00189087"]["Value"] == [1.0, None, None]
    assert "Value" not in made["00189089"] and "Value" not in made["00080005"]
    assert b"NaN" not in attributes.encoded(made)


def test_long_values_are_bulk_data_at_any_depth() -> None:
    inner, outer = Dataset(), Dataset()
    inner.add_new(0x00420011, "OB", bytes(5000))
    inner.add_new(0x00420010, "ST", "title")
    outer.add_new(0x0040A730, "SQ", [Dataset(), inner])
    outer.add_new(0x00091010, "UN", bytes(8))
    made = attributes.to_json(outer, lambda path: f"/x/{path}")
    items = made["0040A730"]["Value"]
    assert items[1]["00420011"] == {"vr": "OB", "BulkDataURI": "/x/0040A730/1/00420011"}
    assert "InlineBinary" in made["00091010"]
    assert "BulkDataURI" not in attributes.to_json(outer)["0040A730"]["Value"][1]["00420011"]


@pytest.mark.parametrize(
    ("vr", "asked", "value", "fits"),
    [
        ("TM", "1015", "101530", True),
        ("TM", "1015-1016", "101659.5", True),
        ("TM", "101500-", "101459.999999", False),
        ("TM", "-10", "105959.999999", True),
        ("DA", "20260101-20260131", "20260131", True),
        ("LO", "a?c*", "abcd", True),
        ("LO", "a[b]c", "abc", False),
        ("UI", "1.2,1.3", "1.3", True),
        ("UI", "1.*", "1.3", False),
        ("IS", "7", 7, True),
    ],
)
def test_matching(vr: str, asked: str, value: Any, fits: bool) -> None:
    if asked == "1.*":
        with pytest.raises(Exception, match="UID"):
            condition(("00000000",), vr, asked, "key")
        return
    key = condition(("00000000",), vr, asked, "key")
    assert key is not None and key.matches({"00000000": {"vr": vr, "Value": [value]}}) is fits


def test_accept_headers() -> None:
    found = accepted('text/html;q=0.2, multipart/related; type="application/dicom"; transfer-syntax=*, */*;q=0')
    assert [each.name for each in found] == ["multipart/related", "text/html"]
    assert (found[0].inner, found[0].transfer_syntax) == ("application/dicom", "*")
    assert accepted(None)[0].takes("image/png")
    assert accepted("image/*")[0].takes("image/png") and not accepted("image/*")[0].takes("application/dicom")
