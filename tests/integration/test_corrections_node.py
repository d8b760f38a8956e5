"""Corrections with the whole node: every process a real one, the real model, a PACS at the other end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_sr.phantom_study import PhantomStudy
from node.archive import index, ledger, tables
from node.delivery import outbox
from node.jobs import queue
from tests.integration.test_node_serve import Scene, phantom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROLES = ["measurements", "seg", "text-en"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("corrections"))
    yield made
    made.store.close()
    made.node.stop()
    made.pacs.stop()


def _corrected(study: PhantomStudy, folder: Path, **attributes: str) -> list[Path]:
    folder.mkdir(parents=True)
    files = []
    for file in study.files:
        dataset = dcmread(file)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        files.append(folder / file.name)
        dataset.save_as(files[-1])
    return files


def _results(scene: Scene, study_uid: str, patient_id: str) -> list[Any]:
    return [each for each in scene.held_by_pacs(study_uid) if each.PatientID == patient_id]


def _wait_for_results(scene: Scene, study_uid: str, patient_id: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if len(_results(scene, study_uid, patient_id)) == len(ROLES):
            return
        time.sleep(0.1)
    raise AssertionError(scene.node.log()[-3000:])


def _sent_before_correction(scene: Scene, study_uid: str) -> list[str]:
    """Roles of the stored objects whose sending had begun when the first corrected image was taken."""
    with scene.store.read() as connection:
        told = connection.execute(select(tables.ledger).where(tables.ledger.c.study_uid == study_uid)).all()
        found = outbox.list_deliveries(connection, study_uid=study_uid)
    corrected = min(row.at for row in told if row.kind == ledger.Kind.INSTANCE_CORRECTED)
    begun = {row.detail["delivery"] for row in told if row.kind == ledger.Kind.DELIVERY_SENDING and row.at < corrected}
    return sorted(each.role for each in found if each.id in begun and each.state != "withdrawn")


@pytest.mark.parametrize("timing", ["before", "during", "after"])
def test_temporary_id_becomes_the_real_one(scene: Scene, tmp_path: Path, timing: str) -> None:
    study = phantom(tmp_path / "study", {"before": 41, "during": 42, "after": 43}[timing])
    old = str(dcmread(study.files[0]).PatientID)
    real = f"REAL-{timing}"
    corrected = _corrected(study, tmp_path / "corrected", PatientID=real)
    scene.send(*study.files)
    if timing == "during":
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with scene.store.read() as connection:
                if [job for job in queue.list_jobs(connection, study_uid=study.study_uid) if job.state == "running"]:
                    break
            time.sleep(0.01)
    if timing == "after":
        _wait_for_results(scene, study.study_uid, old)
    scene.send(*corrected)
    _wait_for_results(scene, study.study_uid, real)
    time.sleep(1.0)
    # A busy machine may be late with the correction; what was on its way until then is an open case, and nothing else is.
    under_old = _sent_before_correction(scene, study.study_uid)
    assert len(_results(scene, study.study_uid, old)) == len(under_old)
    assert timing != "after" or under_old == ROLES
    assert len(_results(scene, study.study_uid, real)) == 3
    assert scene.pacs.conflicts == []
    with scene.store.read() as connection:
        assert {row.patient_id for row in index.instances_of_study(connection, study.study_uid)} == {real}
        jobs = queue.list_jobs(connection, study_uid=study.study_uid)
    assert [job.state for job in jobs if job.superseded_at is None] == ["done"]
    open_cases = [each for each in scene.node.json("corrections") if each["study_uid"] == study.study_uid]
    assert sorted(each["role"] for each in open_cases) == under_old
    if timing == "after":
        time.sleep(2.5)
        assert f"OLD IDENTITY {study.study_uid}: 3 object(s)" in scene.node.cli("status").stdout
        assert "OLD IDENTITY" in scene.node.log()
        assert scene.node.cli("corrections", "--settle", study.study_uid).returncode == 0
        assert study.study_uid not in {each["study_uid"] for each in scene.node.json("corrections")}
    told = scene.node.log() + scene.node.cli("why", study.study_uid).stdout
    assert "CORRECTION" in told and real not in told and old not in told
