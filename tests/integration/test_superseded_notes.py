"""What a destination is told when a later result takes the place of one it has: what is different, in its own characters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.checks.subject import walk
from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.settings import Settings
from node.why import tell
from tests.conftest import ROOT
from tests.dispatch_bench import DESTINATION, Bench, rule

pytest_plugins = ["tests.store_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PROFILES = {
    # As a site has them that has not said what becomes of text documents: no text of the result tells.
    "words": {"objects": ["seg", "measurements", "status"], "languages": ["en", "ja"]},
    "archive": {
        "objects": ["seg", "measurements"],
        "languages": ["ja"],
        "superseded": "rejection",
        "character_set": "iso-2022-jp",
    },
    "research": {"objects": ["seg", "measurements"], "anonymous": True},
}
PATIENT = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture
def bench(store_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    destinations = {
        name: {**DESTINATION, "ae_title": name.upper(), "profile": name, "commitment": False} for name in PROFILES
    }
    made = Bench(store_settings, [rule("real", tuple(PROFILES))], destination=destinations, profile=PROFILES)
    yield made
    made.close()


def texts(dataset: Dataset) -> str:
    return "\n".join(str(entry.TextValue) for entry in walk(dataset) if "TextValue" in entry)


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_what_is_different_is_told_where_no_text_of_the_result_goes(bench: Bench, tmp_path: Path) -> None:
    head = make_phantom(
        11, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6), lesions=(LesionSpec(30.0, "left"),)
    )
    study = write_phantom_study(head, tmp_path, seed=11)
    late = []
    for file in study.files:
        image = dcmread(file)
        image.SpecificCharacterSet, image.PatientName = "ISO_IR 192", PATIENT
        image.PatientID = ""
        image.save_as(file)
        late += [file] if image.SeriesInstanceUID == study.b0_series_uid else []
    bench.receive(tuple(file for file in study.files if file not in late))
    bench.run()
    bench.stored()
    before = {row.sop_instance_uid for row in bench.deliveries("words")}
    bench.receive(tuple(late))
    bench.run()
    _first, second = bench.jobs("run")
    notes = bench.jobs("retract")
    assert [note.state for note in notes] == ["done"] * len(notes) == ["done", "done"]

    volume = f"{second.result['total_ml']:.1f} mL"
    said = {
        row.role: bench.dataset(row) for row in bench.deliveries("words") if row.job_id in {note.id for note in notes}
    }
    assert set(said) == {"status-superseded", "status-superseded-ja"}
    assert f"still {volume}; {len(late)} images added (" in texts(said["status-superseded"])
    assert f"変わらず{volume}、画像{len(late)}枚追加（" in texts(said["status-superseded-ja"])
    for row in bench.deliveries("words"):
        if row.sop_instance_uid not in before and row.role in ("seg", "measurements"):
            described = bench.dataset(row).SeriesDescription
            assert f"still {volume}, replaces " in described and len(described) <= 64

    (rejected,) = [row for row in bench.deliveries("archive") if row.role.startswith("key_objects")]
    note = bench.dataset(rejected)
    # The patient is named in the destination's own characters, and so is what is different.
    assert "ISO 2022 IR 87" in note.SpecificCharacterSet and str(note.PatientName) == PATIENT
    assert f"画像{len(late)}枚追加" in texts(note)

    # Where anonymous copies go nobody may be named, and no note can be without a name.
    sent = [(row.role, bench.dataset(row)) for row in bench.deliveries("research")]
    assert {role for role, _ in sent} == {"seg", "measurements"} and len(sent) == 4
    assert all(str(dataset.PatientName) != PATIENT for _, dataset in sent)

    # An archive will ask whose these are: that the images have no Patient ID is on record, and nothing is made up.
    assert all("PatientID" in dataset and not dataset.PatientID for dataset in (*said.values(), note))
    with bench.store.read() as connection:
        assert "empty, as in the images: PatientID (absent)" in tell(connection, second.study_uid)
