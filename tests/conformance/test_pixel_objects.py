"""The same judges on what bears pixels and contours: every form of a segmentation, parametric maps, RT structure sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.series import load_study
from dicom_sr.write import WrittenFile, write_objects
from tests.conformance.judging import (
    KNOWN,
    complaints,
    earned_by_sources,
    less_label_maps,
    less_study_references,
    run,
    verdict,
)
from tests.generators.results import found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, blocks, context, phantom_case, trace_of
from tests.unit.dicom_sr_objects.pixel_cases import FORMS, holed, with_pixels

pytestmark = pytest.mark.peer

# The text makes dcentvfy compare Study and Series the way round in which the judge knows its complaint.
SETS: dict[str, dict[str, object]] = {
    **{form: {"objects": ("seg", "text"), **profile} for form, profile in FORMS.items()},
    "per lesion": {"objects": ("seg", "measurements", "text"), "per_lesion": True},
    "maps and contours": {"objects": ("parametric_map", "rtstruct", "text")},
}
FEW = ("binary", "labelmap rle", "maps and contours")
STUDIES: dict[str, dict[str, object]] = {
    "axial": {"plane": "axial"},
    "enhanced oblique": {"plane": "oblique", "enhanced": True, "shuffled": True},
    "coronal flipped": {"plane": "coronal", "flipped": True},
}


def write_sets(case: Case, folder: Path, names: Sequence[str] = tuple(SETS)) -> list[WrittenFile]:
    written = []
    for name in names:
        objects = render(case.result, case.study, context(key=name, **SETS[name]), case.source)
        check(objects, case.study, case.result, case.source)
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        written += write_objects(objects, place)
    return written


def test_information_object_definitions(tmp_path: Path) -> None:
    case = holed(phantom_case(tmp_path / "study", **STUDIES["enhanced oblique"]))
    for file in write_sets(case, tmp_path / "out"):
        assert run(require("dcmftest"), file.path)[0] == 0
        code, text = run(require("dciodvfy"), "-filename", file.path)
        assert code == 0, text
        assert complaints(text, "Error|Warning", KNOWN) == []


@pytest.mark.slow
@pytest.mark.parametrize(("study", "sets"), [("axial", SETS), ("enhanced oblique", SETS), ("coronal flipped", FEW)])
def test_judge_finds_nothing_in_any_plane(study: str, sets: Sequence[str], tmp_path: Path) -> None:
    case = holed(phantom_case(tmp_path / "study", **STUDIES[study]))
    write_sets(case, tmp_path / "out", tuple(sets))
    assert less_study_references(verdict(tmp_path / "study", tmp_path / "out", java=False), case.study.study_uid) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sets"), [("mr_stroke_isles22_case0001", SETS), ("mr_brain_enhanced_siemens_xa30", FEW)]
)
def test_judge_finds_nothing_in_real_studies(name: str, sets: Sequence[str], shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / name
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM")
    loaded = load_study(files)
    source = trace_of(loaded)
    case = Case(files, loaded, source, found(blocks(source.volume.array_zyx.shape), source.volume.voxel_ml))
    case = replace(case, result=with_pixels(case))
    write_sets(case, tmp_path, tuple(sets))
    failures = less_study_references(verdict(folder, tmp_path, java=False), case.study.study_uid)
    assert [failure for failure in failures if not earned_by_sources(failure, files)] == []


@pytest.mark.slow
def test_judge_finds_nothing_in_a_chest(shared_data: Path, tmp_path: Path) -> None:
    """133 slices in JPEG Lossless; what the publisher emptied is filled in."""
    case = chest(shared_data / "ct_chest_covid_P002", tmp_path / "study")
    write_sets(case, tmp_path / "out", ("binary", "labelmap rle"))
    contours = render(case.result, case.study, context(objects=("rtstruct", "text")), case.source)
    check(contours, case.study, case.result, case.source)
    (tmp_path / "out" / "contours").mkdir()
    write_objects(contours, tmp_path / "out" / "contours")
    assert less_study_references(verdict(tmp_path / "study", tmp_path / "out", java=False), case.study.study_uid) == []


def test_reports_on_label_maps_are_clean_but_for_a_class_that_programs_do_not_know(tmp_path: Path) -> None:
    """dicom3tools 20260927 and DCMTK 3.6.7: what they say is let pass only where nothing else is wrong with the report."""
    case = phantom_case(tmp_path / "study")
    wanted = context(objects=("seg", "measurements"), segmentation="labelmap")
    objects = render(case.result, case.study, wanted, case.source)
    check(objects, case.study, case.result, case.source, profile=wanted.profile)
    (report,) = [file for file in write_objects(objects, tmp_path) if file.role == "measurements"]
    told = _told(report.path)
    assert len(told) == 2, "both programs know the class now: the tolerance can go"
    assert less_label_maps(told, tmp_path) == []
    damaged = dcmread(report.path)
    del damaged.CompletionFlag
    damaged.save_as(tmp_path / "flag.dcm")
    assert [line.split(" ")[1] for line in less_label_maps(_told(tmp_path / "flag.dcm"), tmp_path)] == ["dciodvfy"]
    damaged = dcmread(report.path)
    del damaged.ContentSequence[-1].ContentSequence[0].ContentSequence[-1].RelationshipType
    damaged.save_as(tmp_path / "tree.dcm")
    assert {line.split(" ")[1] for line in less_label_maps(_told(tmp_path / "tree.dcm"), tmp_path)} == {
        "dciodvfy",
        "dsrdump",
    }


def _told(path: Path) -> list[str]:
    """Complaints of both programs in the judge's form."""
    _, of_tools = run(require("dciodvfy"), "-filename", path)
    _, of_dcmtk = run(require("dsrdump"), "+Pn", path)
    bad = complaints(of_tools, "Error|Warning", KNOWN)
    errors = [line for line in of_dcmtk.splitlines() if re.match("[EF]:", line) or "invalid" in line.lower()]
    lines = [("dciodvfy", bad), ("dsrdump", errors)]
    return [f"FAIL {tool} {path} {'; '.join(each)}" for tool, each in lines if each]


def chest(folder: Path, out: Path) -> Case:
    out.mkdir()
    names = {kind: generate_uid(entropy_srcs=[kind]) for kind in ("study", "series", "space")}
    for path in sorted(folder.glob("*.dcm")):
        image = dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
        image.StudyInstanceUID, image.SeriesInstanceUID = names["study"], names["series"]
        image.FrameOfReferenceUID = names["space"]
        image.PatientName, image.PatientBirthDate, image.ReferringPhysicianName = "Chest^Test", "19600101", ""
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200401", "101500", "1", "A1"
        image.save_as(out / path.name)
    files = sorted(out.iterdir())
    loaded = load_study(files)
    (source,) = loaded.volumes
    mask = blocks(source.volume.array_zyx.shape)
    z, y, x = (n // 2 for n in mask.shape)
    mask[z : z + 6, y - 60 : y + 60, x - 60 : x + 60] = 4
    mask[z : z + 6, y - 20 : y + 20, x - 20 : x + 20] = 0
    case = Case(files, loaded, source, found(mask, source.volume.voxel_ml))
    result = with_pixels(case)
    assert len(np.unique(mask)) == 5
    return replace(case, result=replace(result, heat_maps=()))
