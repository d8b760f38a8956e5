"""Programs of others judge reports, key object selections and presentation states made from real images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_sr.check import check
from dicom_sr.combined_status import Account, render_combined
from dicom_sr.document import render
from dicom_sr.series import Kind, load_study
from dicom_sr.source_header import normalise
from dicom_sr.write import WrittenFile, write_objects
from models.results import StudyResult
from tests.conformance.test_objects import KNOWN, complaints, run, verdict
from tests.generators.results import found, not_assessed, nothing_found
from tests.generators.sources import repaired_copy
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import REPORTS, Case, blocks, context, phantom_case, projection_case

pytestmark = pytest.mark.peer

IMAGES = {
    "mr_stroke_isles22_case0001": "chrJapMulti.dcm",
    "mr_brain_glioma_PGBM006": "chrFrenMulti.dcm",
    "ct_chest_covid_P002": "chrKoreanMulti.dcm",
    "mr_brain_enhanced_siemens_xa30": "chrX2.dcm",
    "ct_head_tiny_93": "chrRuss.dcm",
    "cxr_dicom/RG1_J2KI.dcm": "chrH32.dcm",
    "cxr_dicom/test1.dcm": "chrX1.dcm",
}
"""Real images, and whose name the patient gets."""

SLICES = 10
UNCERTAINTY = re.compile(r"Error: Template (1419|300) .*/\[Row \d+\] NUM \*/\[Row (9|10|13|14)\] NUM \*: ")
"""PixelMed takes every NUM below a NUM for the source measurements of TID 300 (rows 9, 10; 13, 14 of TID 1419) and wants
INFERRED FROM; a measurement uncertainty is row 5 of TID 310, HAS PROPERTIES."""


@pytest.fixture(scope="module")
def cases(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Every study with regions where it is a volume, and marks and findings."""
    made = {}
    for name, person in IMAGES.items():
        folder = tmp_path_factory.mktemp("source") / "study"
        patient = str(dcmread(shared_data / "charsets" / person, stop_before_pixels=True).PatientName)
        if "^" not in patient:
            patient += "^A"  # a name of one component is a retired form
        files = repaired_copy(list(dicom_files(shared_data / name)), folder, patient)
        made[name] = projection_case(files[0]) if name.startswith("cxr") else volume_case(files)
    return made


def dicom_files(path: Path) -> Iterator[Path]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    yield from [file for file in files if file.is_file() and file.read_bytes()[128:132] == b"DICM"]


def volume_case(files: list[Path]) -> Case:
    study = load_study(trimmed(files))
    source = max(study.volumes, key=lambda v: (v.kind is Kind.DWI_TRACE, v.volume.array_zyx.shape[0]))
    mask = blocks(source.volume.array_zyx.shape)
    return Case(files, study, source, found(mask, source.volume.voxel_ml))


def trimmed(files: list[Path]) -> list[Path]:
    """The lowest slices of every series of classic images; the judges need a second for each image a report names."""
    series: dict[str, list[tuple[float, Path]]] = {}
    kept = []
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        if "ImagePositionPatient" in header:
            height = float(header.ImagePositionPatient[2])
            series.setdefault(str(header.SeriesInstanceUID), []).append((height, file))
        else:
            kept.append(file)
    for slices in series.values():
        ordered = [file for _, file in sorted(slices)]
        kept += ordered[:SLICES]
        for file in ordered[SLICES:]:
            file.unlink()
    return kept


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
