"""Nothing of an earlier identity stays in a header that was given another one."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_sr.correction import correct


def _header() -> Dataset:
    header, other = Dataset(), Dataset()
    header.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    header.PatientID, header.IssuerOfPatientID, header.PatientName = "OLD", "OLD-ISSUER", "Old^Name=旧^名"
    header.PatientBirthDate, header.PatientAge, header.OtherPatientNames = "19000101", "099Y", "Old^Other"
    other.PatientID = "OLD-2"
    header.OtherPatientIDsSequence = Sequence([other])
    header.StudyDescription = "頭部"
    return header


def test_another_number_takes_everything_along() -> None:
    header = _header()
    correct(header, {"PatientID": "NEW", "PatientName": "New^Name=新^名", "PatientBirthDate": "19500102"})
    assert (header.PatientID, str(header.PatientName)) == ("NEW", "New^Name=新^名")
    told = header.to_json()
    assert "OLD" not in told and "Old" not in told and "099Y" not in told and "IssuerOfPatientID" not in header
    assert header.StudyDescription == "頭部"


def test_another_name_leaves_the_number() -> None:
    header = _header()
    correct(header, {"PatientName": "New^Name"})
    assert (header.PatientID, header.IssuerOfPatientID, header.PatientAge) == ("OLD", "OLD-ISSUER", "099Y")
