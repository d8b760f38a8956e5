"""A run whose images carry an identity that was corrected by HL7: every object of the result carries the one that holds."""

from __future__ import annotations

import json
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.identity import OFFLINE
from dicom_sr.phantom_study import JAPANESE_PATIENT, write_phantom_study
from models.phantom import make_phantom
from models.registry import Registry
from node.jobs.execution import execute
from node.jobs.specification import JobSpec, ResultBundle
from node.settings import ProfileSection

HOLDS = {
    "PatientID": "REAL-4711",
    "PatientName": "Suzuki^Hanako=鈴木^花子",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
}
SAID = ["identity_corrected", "after_signing"]


def _run(folder: Path, files: list[Path], corrected: dict[str, str]) -> ResultBundle:
    folder.mkdir()
    spec = JobSpec(
        job_id=1,
        study_uid=str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID),
        rule="r",
        model_id="infarct-adc-baseline",
        files=files,
        profiles={"default": ProfileSection(languages=["en", "ja"], text_documents="shown_as_draft", maximum_series=4)},
        languages=["en"],
        identity=OFFLINE,
        output_dir=folder,
        deadline_seconds=120.0,
        corrected=corrected,
        limitations=SAID if corrected else [],
    )
    return execute(spec, Registry())


def _identity(header: Dataset) -> tuple[str, ...]:
    return tuple(str(header[keyword].value) for keyword in HOLDS)


def test_every_object_carries_what_holds(tmp_path: Path) -> None:
    volume = make_phantom(5, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    write_phantom_study(volume, tmp_path / "study", seed=5, patient=JAPANESE_PATIENT)
    files = sorted(path for path in (tmp_path / "study").rglob("*") if path.is_file())
    plain, corrected = _run(tmp_path / "plain", files, {}), _run(tmp_path / "corrected", files, HOLDS)
    assert corrected.outcome == plain.outcome == "found"
    results = [dcmread(each.path) for each in corrected.objects]
    assert {_identity(result) for result in results} == {tuple(HOLDS.values())}
    assert {_identity(dcmread(each.path))[0] for each in plain.objects} == {JAPANESE_PATIENT.patient_id}
    # Other content has other UIDs.
    assert not {each.sop_instance_uid for each in plain.objects} & {each.sop_instance_uid for each in corrected.objects}
    # Wherever a series of this set goes, its description says that the report had been signed.
    assert {str(result.SeriesDescription)[:5] for result in results} == {"LATE,"}
    assert not [each for each in plain.objects if str(dcmread(each.path).SeriesDescription).startswith("LATE")]
    told = json.dumps([result.to_json_dict() for result in results], ensure_ascii=False)
    assert JAPANESE_PATIENT.patient_id not in told and "山田" not in told
    for sentence in ("LATE: the report of this study had been signed", "遅延", "an earlier identity of this patient"):
        assert sentence in told
