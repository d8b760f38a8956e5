"""Programs that others wrote read and judge our objects: dicom3tools, DCMTK, dcmqi, and PixelMed through the full judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.phantom_study import JAPANESE_PATIENT
from dicom_sr.write import WrittenFile, write_objects
from models.results import Outcome, StudyResult
from tests.conformance.judging import ENTITY_KNOWN, KNOWN, complaints, earned_by_sources, run, verdict
from tests.generators.results import found, not_assessed, nothing_found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, blocks, context, phantom_case, trace_of

pytestmark = pytest.mark.peer

UNICODE_UNCHECKED = "The VR checker does not support this Specific Character Set: ISO_IR 192"

RESULTS = ("found", "nothing_found", "not_assessed")
STUDIES = ("classic", "enhanced")


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "classic":
        # Unicode already, because dcentvfy compares the bytes of names whatever their character set.
        patient = replace(JAPANESE_PATIENT, character_set=("ISO_IR 192",))
        return phantom_case(folder, plane="axial", patient=patient)
    return phantom_case(folder, plane="oblique", enhanced=True, shuffled=True)


def result_of(case: Case, kind: str) -> StudyResult:
    return {"found": case.result, "nothing_found": nothing_found(), "not_assessed": not_assessed()}[kind]


def write(case: Case, result: StudyResult, folder: Path) -> list[WrittenFile]:
    source = None if result.outcome is Outcome.NOT_ASSESSED else case.source
    objects = render(result, case.study, context(), source)
    check(objects, case.study, result, source)
    folder.mkdir(parents=True, exist_ok=True)
    return write_objects(objects, folder)


@pytest.fixture(scope="module", params=RESULTS)
def written(request: pytest.FixtureRequest, study: Case, tmp_path_factory: pytest.TempPathFactory) -> list[WrittenFile]:
    return write(study, result_of(study, request.param), tmp_path_factory.mktemp(request.param))


def test_part_10_and_information_object_definitions(written: list[WrittenFile]) -> None:
    for file in written:
        assert run(require("dcmftest"), file.path)[0] == 0
        code, text = run(require("dciodvfy"), "-filename", file.path)
        assert code == 0, text
        assert complaints(text, "Error|Warning", KNOWN) == []


def test_entities_agree_and_references_resolve(study: Case, written: list[WrittenFile]) -> None:
    code, text = run(require("dcentvfy"), *study.files, *(file.path for file in written))
    assert complaints(text, "Error|Warning", ENTITY_KNOWN) == []
    assert code == 0, text


def test_reports_are_readable_with_dcmtk(written: list[WrittenFile]) -> None:
    for file in written:
        if file.role == "seg":
            continue
        code, text = run(require("dsrdump"), "+Pl", file.path)
        assert code == 0, text
        assert complaints(text, "[EF]:", ()) == []
        if file.role.startswith("text"):
            assert "AI DRAFT - NOT REVIEWED BY A PHYSICIAN" in text
        if file.role.startswith("status"):
            assert "SUI-002" in text


def test_measurements_and_segmentations_are_readable_with_dcmqi(written: list[WrittenFile], tmp_path: Path) -> None:
    for file in written:
        if file.role == "measurements":
            out = tmp_path / "measurements.json"
            code, text = run(require("tid1500reader"), "--inputDICOM", file.path, "--outputMetadata", out)
        elif file.role == "seg":
            out = tmp_path / "1.nrrd"
            tool = require("segimage2itkimage")
            code, text = run(tool, "--inputDICOM", file.path, "--outputDirectory", tmp_path, "-t", "nrrd")
        else:
            continue
        assert code == 0, text
        assert complaints(text, "[WEF]:", (UNICODE_UNCHECKED,)) == []
        assert out.exists()


@pytest.mark.slow
def test_full_judge_finds_nothing_in_a_phantom_study(study: Case, tmp_path: Path) -> None:
    # One judgement over three sets: PixelMed compiles its templates for every call, which takes longer than the check.
    for kind in RESULTS:
        result = result_of(study, kind)
        source = None if result.outcome is Outcome.NOT_ASSESSED else study.source
        objects = render(result, study.study, context(key=kind), source)
        (tmp_path / kind).mkdir()
        write_objects(objects, tmp_path / kind)
    assert verdict(study.files[0].parent, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mr_stroke_isles22_case0001", "mr_brain_enhanced_siemens_xa30"])
def test_full_judge_on_real_studies(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Complaints that the sources earn on their own do not count against results."""
    from dicom_sr.series import load_study

    folder = shared_data / name
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM")
    loaded = load_study(files)
    source = trace_of(loaded)
    result = found(blocks(source.volume.array_zyx.shape), source.volume.voxel_ml)
    case = Case(files, loaded, source, result)
    write(case, result, tmp_path / "out")
    failures = verdict(folder, tmp_path / "out")
    assert [failure for failure in failures if not earned_by_sources(failure, files)] == []
