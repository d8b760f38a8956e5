"""C-FIND matching of the test PACS (PS3.4 C.2.2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from node.dicom.matching import matches, response_to


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


HEADER = dataset(
    PatientID="P1",
    PatientName="Yamada^Tarou",
    StudyInstanceUID="1.2.3",
    SOPInstanceUID="1.2.3.4",
    StudyDate="20240115",
    Modality="MR",
    StudyDescription="Brain [stroke]",
)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("StudyInstanceUID", "1.2.3", True),
        ("StudyInstanceUID", ["9.9", "1.2.3"], True),
        ("StudyInstanceUID", "1.2.*", False),
        ("PatientName", "yamada^tarou", True),
        ("PatientName", "YAM*", True),
        ("PatientID", "P?", True),
        ("PatientID", "p1", False),
        ("StudyDescription", "Brain [s*", True),
        ("StudyDate", "20240101-20240131", True),
        ("StudyDate", "-20231231", False),
        ("StudyDate", "20240115-", True),
        ("Modality", "", True),
        ("AccessionNumber", "A1", False),
    ],
)
def test_matching(key: str, value: Any, expected: bool) -> None:
    assert matches(dataset(QueryRetrieveLevel="STUDY", **{key: value}), HEADER) is expected


def test_response_has_what_was_asked_for_and_no_more() -> None:
    query = dataset(QueryRetrieveLevel="STUDY", PatientID="", AccessionNumber="", ProcedureCodeSequence=[])
    response = response_to(query, HEADER, "PACS")
    assert response.PatientID == "P1"
    assert response["AccessionNumber"].is_empty
    assert response["ProcedureCodeSequence"].VR == "SQ"
    assert response.RetrieveAETitle == "PACS"
    assert "PatientName" not in response
