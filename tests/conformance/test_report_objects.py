"""Programs of others judge reports, key object selections and presentation states made from real images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_sr.check import check
from dicom_sr.combined_status import Account, render_combined
from dicom_sr.document import render
from dicom_sr.source_header import normalise
from dicom_sr.write import WrittenFile, write_objects
from models.results import StudyResult
from tests.conformance.judging import KNOWN, UNCERTAINTY, complaints, run, verdict
from tests.conformance.real_studies import IMAGES, patient_of, real_case
from tests.generators.results import not_assessed, nothing_found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import REPORTS, Case, context, phantom_case

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def cases(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Every study with regions where it is a volume, and marks and findings."""
    return {
        name: real_case(shared_data, name, patient_of(shared_data, person), tmp_path_factory.mktemp("source") / "study")
        for name, person in IMAGES.items()
    }


def write(case: Case, result: StudyResult, folder: Path, **changes: object) -> list[WrittenFile]:
    wanted = context(**{"objects": REPORTS, **changes})
    source = None if result.refusal else case.source
    rendered = render(result, case.study, wanted, source)
    check(rendered, case.study, result, source, profile=wanted.profile)
    folder.mkdir(parents=True, exist_ok=True)
    return write_objects(rendered, folder)


def write_combined(case: Case, folder: Path) -> list[WrittenFile]:
    accounts = [
        Account(replace(case.result, segmentation=None, drafts=())),
        Account(nothing_found()),
        Account(not_assessed()),
    ]
    wanted = context(key="combined", objects=("seg", "summary", "status"))
    rendered = render_combined(accounts, ["en", "ja"], normalise(case.study, None), wanted)
    check(rendered, case.study, accounts[0].result, None, profile=wanted.profile, accounts=accounts)
    folder.mkdir(parents=True)
    return write_objects(rendered, folder)


def complete(case: Case) -> StudyResult:
    return case.complete if case.result.segmentation is not None else case.result


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_judge_finds_nothing_in_any_study_or_language(cases: dict[str, Case], tmp_path: Path) -> None:
    for name, case in cases.items():
        write(case, complete(case), tmp_path / name.replace("/", "-"), key=name)
    head = cases["ct_head_tiny_93"]
    write(head, nothing_found(), tmp_path / "nothing", key="nothing", measurements="comprehensive")
    write(head, nothing_found(), tmp_path / "negative", key="negative", objects=("status",))
    write(head, not_assessed(), tmp_path / "status", key="status")
    write_combined(head, tmp_path / "combined")
    write(head, head.complete, tmp_path / "enhanced", key="enhanced", measurements="enhanced", per_lesion=True)
    sources = ",".join(str(case.files[0].parent) for case in cases.values())
    failures = verdict(Path(sources), tmp_path)
    assert [failure for failure in failures if not UNCERTAINTY.search(failure)] == []


def test_a_combined_status_passes_the_programs_of_others(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["ct_head_tiny_93"]
    for file in write_combined(case, tmp_path / "combined"):
        code, text = run(require("dciodvfy"), "-filename", file.path)
        assert code == 0 and complaints(text, "Error|Warning", KNOWN) == [], text
        if file.role.startswith("status"):
            code, text = run(require("dsrdump"), "+Pl", file.path)
            assert code == 0 and complaints(text, "[EF]:", ()) == [], text
            assert "Not all algorithms succeeded; with findings" in text


def test_numbers_are_the_same_to_dcmqi(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["ct_head_tiny_93"]
    assert case.result.segmentation is not None
    written = {file.role: file for file in write(case, case.complete, tmp_path)}
    out = tmp_path / "measurements.json"
    command = [require("tid1500reader"), "--inputDICOM", written["measurements"].path, "--outputMetadata", out]
    code, text = run(*command)
    assert code == 0, text
    read = json.loads(out.read_text())["Measurements"]
    stated = {
        (group["ReferencedSegment"], item["quantity"]["CodeValue"]): float(item["value"])
        for group in read
        for item in group["measurementItems"]
    }
    expected = {
        (region.number, quantity.name.value): quantity.value
        for region in case.result.segmentation.regions
        for quantity in region.quantities
    }
    assert stated == pytest.approx(expected, rel=1e-6)


def test_every_report_is_read_by_dcmtk(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["cxr_dicom/RG1_J2KI.dcm"]
    for character_set in ("utf-8", "iso-2022-jp"):
        for file in write(case, case.result, tmp_path / character_set, key=character_set, character_set=character_set):
            if file.sop_class_uid != GrayscaleSoftcopyPresentationStateStorage:
                code, text = run(require("dsrdump"), "+Pl", file.path)
                assert code == 0, text
                assert complaints(text, "[EF]:", ()) == []


@pytest.mark.parametrize("options", [{}, {"plane": "oblique", "enhanced": True, "shuffled": True}])
def test_presentation_states_pass_the_checker_of_dcmtk(options: dict, tmp_path: Path) -> None:
    """With a name in ASCII: its value checker takes the bytes of other characters for delimiters."""
    case = phantom_case(tmp_path / "study", **options)
    (file,) = write(case, case.complete, tmp_path / "out", objects=("presentation",))
    code, text = run(require("dcmpschk"), file.path)
    assert code == 0, text
    assert "Test passed" in text
    assert complaints(text, "[EF]:", ()) == []


def test_flat_text_is_read_by_dcmtk_and_breaks_no_rule_of_its_class(cases: dict[str, Case], tmp_path: Path) -> None:
    """PixelMed warns of items outside of TID 2000, which is extensible; so it is not asked."""
    case = cases["ct_head_tiny_93"]
    for file in write(case, case.result, tmp_path, text_dialect="flat", text_title="AI first read"):
        if not file.role.startswith("text"):
            continue
        code, text = run(require("dciodvfy"), "-filename", file.path)
        assert code == 0, text
        code, text = run(require("dsrdump"), "+Pl", file.path)
        assert code == 0, text
        assert "AI first read" in text
        assert text.count("<contains TEXT") == 2
        assert "CONTAINER" not in text.split("\n", 12)[-1].replace("<CONTAINER", "", 1)
