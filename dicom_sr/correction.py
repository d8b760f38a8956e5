"""Gives headers the identity that holds, where the images still carry an earlier one (IHE Patient Information Reconciliation)."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

# Beside number, name, birth date and sex these may tell of the earlier identity, too (PS3.3 C.7.1.1, C.7.2.2).
_TELLING = (
    *("OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientBirthTime", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "PatientComments"),
    *("ResponsiblePerson", "ResponsiblePersonRole", "PatientAddress", "PatientTelephoneNumbers"),
)


def correct(header: Dataset, corrected: Mapping[str, str]) -> None:
    """Change a header in place.

    Parameters
    ----------
    corrected : mapping
        Attributes of the patient by keyword, Unicode. With another Patient ID the issuer of the earlier one goes, too;
        with another birth date the Patient's Age that was reckoned from it.
    """
    # The character set changes: everything is decoded while the old one still stands.
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    gone = list(_TELLING)
    if "PatientID" in corrected:
        gone.append("IssuerOfPatientID")
    if "PatientBirthDate" in corrected:
        gone.append("PatientAge")
    for keyword in gone:
        if keyword in header:
            delattr(header, keyword)
    for keyword, value in corrected.items():
        setattr(header, keyword, value)
