"""Programs that others wrote open our pictures and PDF reports: dicom3tools, DCMTK, poppler, and the full judge."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.phantom_study import JAPANESE_PATIENT
from dicom_sr.write import WrittenFile, write_objects
from models.results import Outcome, StudyResult
from tests.conformance.judging import ENTITY_KNOWN, KNOWN, complaints, run, verdict
from tests.generators.results import not_assessed, nothing_found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, context, phantom_case

pytestmark = pytest.mark.peer

KINDS = ("secondary_capture", "summary", "pdf")


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "classic":
        return phantom_case(folder, patient=replace(JAPANESE_PATIENT, character_set=("ISO_IR 192",)))
    return phantom_case(folder, plane="oblique", enhanced=True, shuffled=True)


def write(case: Case, result: StudyResult, folder: Path, **changes: object) -> list[WrittenFile]:
    source = None if result.outcome is Outcome.NOT_ASSESSED else case.source
    objects = render(result, case.study, context(**{"objects": KINDS, **changes}), source)
    check(objects, case.study, result, source)
    folder.mkdir()
    # A status report goes beside a status picture; reports are judged elsewhere.
    return write_objects([o for o in objects if not o.role.startswith("status")], folder)


@pytest.fixture(scope="module")
def written(study: Case, tmp_path_factory: pytest.TempPathFactory) -> list[WrittenFile]:
    folder = tmp_path_factory.mktemp("written")
    return [
        *write(study, study.result, folder / "found"),
        *write(study, nothing_found(), folder / "nothing", key="nothing"),
        *write(study, not_assessed(), folder / "status", key="status"),
        *write(study, study.result, folder / "single", key="single", secondary_capture="single_frame"),
    ]


def test_part_10_and_information_object_definitions(study: Case, written: list[WrittenFile]) -> None:
    for file in written:
        assert run(require("dcmftest"), file.path)[0] == 0
        code, text = run(require("dciodvfy"), "-filename", file.path)
        assert code == 0, text
        assert complaints(text, "Error|Warning", KNOWN) == []
    code, text = run(require("dcentvfy"), *study.files, *(file.path for file in written))
    assert complaints(text, "Error|Warning", ENTITY_KNOWN) == []
    assert code == 0, text


def test_pictures_are_decoded_by_dcmtk(written: list[WrittenFile], tmp_path: Path) -> None:
    pictures = [file for file in written if not file.role.startswith("pdf")]
    assert len(pictures) > 6
    for file in pictures:
        target = tmp_path / f"{file.sop_instance_uid}.ppm"
        code, text = run(require("dcmj2pnm"), "+op", file.path, target)
        assert code == 0, text
        assert target.read_bytes().startswith(b"P6")
        assert complaints(text, "[EF]:", ()) == []


def test_reports_open_in_poppler_with_every_font_inside(written: list[WrittenFile], tmp_path: Path) -> None:
    for file in written:
        if not file.role.startswith("pdf"):
            continue
        target = tmp_path / f"{file.role}.pdf"
        assert run(require("dcm2pdf"), file.path, target)[0] == 0
        code, text = run(require("pdftotext"), "-raw", target, "-")
        assert code == 0, text
        assert "Syntax" not in text
        pages = text.split("\f")[:-1]
        assert len(pages) >= 1
        assert all("AI DRAFT - NOT REVIEWED BY A PHYSICIAN" in page for page in pages)
        assert ("梗塞" in text) == (file.role == "pdf-ja")
        fonts = run(require("pdffonts"), target)[1].splitlines()[2:]
        assert fonts
        assert all(re.search(r" yes yes yes ", line) for line in fonts), fonts
        assert run(require("pdftoppm"), "-r", "30", "-png", target, tmp_path / file.role)[0] == 0


@pytest.mark.slow
def test_full_judge_finds_nothing(study: Case, written: list[WrittenFile], tmp_path: Path) -> None:
    assert verdict(study.files[0].parent, written[0].path.parent.parent) == []
