"""When images of one study belong to two patients."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_sr.errors import MixedPatients
from dicom_sr.patient import require_one_patient


def header(patient_id: str = "1", name: str = "A^B", birth: str = "", issuer: str = "") -> Dataset:
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = patient_id, name, birth
    dataset.IssuerOfPatientID = issuer
    return dataset


@pytest.mark.parametrize(
    "other",
    [
        header("2"),
        header("2", "A^B", "19580321"),
        header("1", "A^B", "19580322"),
        header("1", "C^D"),
        header("", "C^D"),
        header("1", "A^B", "19580321", issuer="Y"),
    ],
    ids=["id", "id alone", "birth date", "name", "no id, other name", "issuer"],
)
def test_two_patients(other: Dataset) -> None:
    with pytest.raises(MixedPatients):
        require_one_patient([header(birth="19580321" if other.PatientBirthDate else "", issuer="X"), other])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (header("1 ", "a^b"), header("1", "A^B^^^")),
        (header(name="Yamada^Tarou"), header(name="YAMADA^TAROU=山田^太郎=やまだ^たろう")),
        (header(name="Yamada^Tarou"), header(name="=山田^太郎")),
        (header(name="Smith^A", birth="19580321"), header(name="Jones^A", birth="19580321")),
        (header(issuer="X"), header(issuer="")),
        (header(birth="19580321"), header(birth="")),
        (header(birth="19580321"), header(birth="00000000")),
        (header(""), header("1")),
    ],
    ids=["spelling", "kanji added", "other script", "married", "issuer added", "birth date added", "zeros", "no id"],
)
def test_one_patient(a: Dataset, b: Dataset) -> None:
    require_one_patient([a, b])
